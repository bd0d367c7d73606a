//! Units and nouns behind a number.

use super::Unreadable;
use crate::syntax::parser::Parser;
use crate::syntax::token::{Kind, Token};
use crate::syntax::units::{Unit, read_unit, unit_named};
use crate::tree::{Function, Node, NodeId};
use smallvec::SmallVec;

/// Words that never are a unit or a noun counted by the number in front.
const NOT_NOUNS: [&str; 24] = [
    "if",
    "when",
    "where",
    "for",
    "is",
    "are",
    "not",
    "with",
    "than",
    "least",
    "most",
    "only",
    "none",
    "no",
    "but",
    "from",
    "to",
    "then",
    "otherwise",
    "such",
    "that",
    "some",
    "all",
    "any",
];

impl Parser<'_, '_> {
    /// The unit behind a value, if the next tokens are one.
    pub(in crate::syntax) fn unit_behind(
        &mut self,
        value: NodeId,
    ) -> Result<Option<NodeId>, Unreadable> {
        if self.peek() == Some(Kind::Dollar) {
            self.at += 1;
            let unit = self.tree.add_unit(Unit::dollar());
            return Ok(Some(self.tree.push(Node::Quantity(value, unit))));
        }
        let start = self.at;
        let Some(mut unit) = self.unit()? else {
            self.at = start;
            return Ok(None);
        };
        unit.letters = self.letters_between(start);
        if unit.is_percent() {
            return Ok(Some(self.tree.push(Node::Percent(value))));
        }
        let unit = self.tree.add_unit(unit);
        Ok(Some(self.tree.push(Node::Quantity(value, unit))))
    }

    /// A short word with or without an exponent, which could also be a product of symbols: `in`, `cm^2`.
    fn letters_between(&self, start: usize) -> Option<SmallVec<[(u8, i8); 2]>> {
        let slice = |token: &Token| &self.source[token.start as usize..token.end as usize];
        let exponent = match self.tokens.get(start..self.at)? {
            [word] if word.kind == Kind::Word => 1,
            [word, caret, rest @ ..] if word.kind == Kind::Word && caret.kind == Kind::Caret => {
                let number = rest.iter().find(|token| token.kind == Kind::Number)?;
                if rest.iter().any(|token| token.kind == Kind::Minus) {
                    return None;
                }
                slice(number).parse().ok()?
            }
            _ => return None,
        };
        let word = slice(&self.tokens[start]);
        if word.len() > 3 {
            return None;
        }
        let mut letters: SmallVec<[(u8, i8); 2]> = word.bytes().map(|letter| (letter, 1)).collect();
        if let Some(last) = letters.last_mut() {
            last.1 = exponent;
        }
        Some(letters)
    }

    /// `9.8 m/s`: behind a number and a space, a one-letter unit divided by another unit.
    pub(in crate::syntax) fn is_unit_quotient(&self) -> bool {
        self.at > 0
            && self.tokens[self.at - 1].kind == Kind::Number
            && self.tokens[self.at].spaced
            && self.peek_at(1) == Some(Kind::Divide)
            && self.is_unit_token(2)
            && unit_named(self.slice(0), true).is_some()
    }

    /// Reads unit words, exponents and slashes as far as they go.
    pub(in crate::syntax) fn unit(&mut self) -> Result<Option<Unit>, Unreadable> {
        let mut words = String::new();
        loop {
            let slice = self.slice(0).trim_matches([' ', '~', '\n', ',']);
            match self.peek() {
                Some(Kind::Text) => {
                    if slice
                        .split(|c: char| !c.is_alphabetic())
                        .any(|word| NOT_NOUNS.contains(&word))
                    {
                        return Err(Unreadable);
                    }
                    let lone_letter = slice.len() == 1 && unit_named(slice, true).is_none();
                    if lone_letter && words.is_empty() {
                        return Ok(None);
                    }
                }
                Some(Kind::Word) => {
                    if words.is_empty() && !self.is_unit_word(slice) {
                        return Ok(None);
                    }
                }
                Some(Kind::Function(Function::Min))
                    if !matches!(self.peek_at(1), Some(Kind::Open(_) | Kind::GroupOpen)) => {}
                // Units joined by `/` or a product sign.
                Some(Kind::Letter) if words.ends_with('/') => {}
                Some(Kind::Letter) if words.is_empty() && self.is_unit_quotient() => {}
                // `60 \frac{\text{km}}{\text{h}}`.
                Some(Kind::Frac) if words.is_empty() && self.is_unit_fraction() => {
                    words = format!("{}/{}", self.slice(2), self.slice(5));
                    self.at += 7;
                    continue;
                }
                Some(Kind::Divide | Kind::Times) if !words.is_empty() && self.is_unit_token(1) => {
                    words.push(if self.peek() == Some(Kind::Divide) {
                        '/'
                    } else {
                        ' '
                    });
                    self.at += 1;
                    continue;
                }
                Some(Kind::Caret) if !words.is_empty() => {
                    let grouped = usize::from(self.peek_at(1) == Some(Kind::GroupOpen));
                    let negative = usize::from(self.peek_at(1 + grouped) == Some(Kind::Minus));
                    if self.peek_at(1 + grouped + negative) != Some(Kind::Number) {
                        return Err(Unreadable);
                    }
                    words.push_str(if negative == 1 { "^-" } else { "^" });
                    words.push_str(self.slice(1 + grouped + negative));
                    self.at += 2 + grouped + negative;
                    if grouped == 1 {
                        self.expect(Kind::GroupClose)?;
                    }
                    words.push(' ');
                    continue;
                }
                _ => break,
            }
            if matches!(self.peek(), Some(Kind::Word))
                && !words.is_empty()
                && NOT_NOUNS.contains(&slice)
            {
                return Err(Unreadable);
            }
            let slice = slice.to_owned();
            if !words.is_empty() && !words.ends_with(['/', ' ']) {
                words.push(' ');
            }
            words.push_str(&slice);
            self.at += 1;
        }
        if words.is_empty() {
            return Ok(None);
        }
        let mut unit = Unit::one();
        read_unit(&words, &mut unit, 1).ok_or(Unreadable)?;
        Ok(Some(unit))
    }

    pub(in crate::syntax) fn is_unit_fraction(&self) -> bool {
        let pattern = [
            Kind::Frac,
            Kind::GroupOpen,
            Kind::Text,
            Kind::GroupClose,
            Kind::GroupOpen,
            Kind::Text,
            Kind::GroupClose,
        ];
        pattern
            .iter()
            .enumerate()
            .all(|(ahead, kind)| self.peek_at(ahead) == Some(*kind))
    }

    fn is_unit_token(&self, ahead: usize) -> bool {
        match self.peek_at(ahead) {
            Some(Kind::Text) => true,
            Some(Kind::Word) => self.is_unit_word(self.slice(ahead)),
            // Behind a slash, `km/h`.
            Some(Kind::Letter) => unit_named(self.slice(ahead), true).is_some(),
            _ => false,
        }
    }

    /// A known unit, or a plain noun: four letters or more, lower case, pronounceable.
    fn is_unit_word(&self, word: &str) -> bool {
        if unit_named(word, false).is_some()
            || matches!(word, "square" | "cubic" | "sq" | "cu" | "per" | "mph")
        {
            return true;
        }
        word.len() >= 4
            && word.bytes().all(|b| b.is_ascii_lowercase())
            && word
                .bytes()
                .any(|b| matches!(b, b'a' | b'e' | b'i' | b'o' | b'u'))
            && !NOT_NOUNS.contains(&word)
    }

    // ---- functions ---------------------------------------------------------------------------------
}
