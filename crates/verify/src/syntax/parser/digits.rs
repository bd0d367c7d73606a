//! Numbers, their bases, and numbers in words.

use super::{Parsed, Parser, Unreadable, literal};
use crate::number::Rational;
use crate::syntax::names::number_word;
use crate::syntax::token::Kind;
use crate::tree::{Bracket, Node, NodeId};

impl Parser<'_, '_> {
    /// `204_5`, `204_{\text{five}}`: a number in a base.
    pub(super) fn base_subscript(&mut self, node: NodeId) -> Parsed {
        let Node::Number {
            index,
            decimal: false,
        } = self.tree.node(node)
        else {
            return Err(Unreadable);
        };
        let digits = self.tree.rational(index).clone();
        if !digits.is_integer() || digits.is_negative() {
            return Err(Unreadable);
        }
        let base = self.base_script()?;
        let text = digits.numerator().to_string();
        self.based(&text, base)
    }

    /// Is the text here "base", perhaps with its number: `\text{ (base 5)}`, `\text{ base } 5`?
    pub(super) fn names_a_base(&self) -> bool {
        let follows_number = self.at > 0 && self.tokens[self.at - 1].kind == Kind::Number;
        let text = self.slice(0).trim_matches([' ', '~', '(', ')']);
        follows_number
            && text.strip_prefix("base").is_some_and(|rest| {
                rest.starts_with(' ')
                    || (rest.is_empty()
                        && matches!(
                            self.peek_at(1),
                            Some(Kind::Number | Kind::Text | Kind::Word)
                        ))
            })
    }

    /// The base after `_` or behind the word "base", 2 to 36.
    pub(in crate::syntax) fn base_script(&mut self) -> Result<u32, Unreadable> {
        let mut close = None;
        if !self.eat(Kind::Underscore) {
            // A bracket may be split between a text macro and what follows it.
            let opens = self.slice(0).contains('(') && !self.slice(0).contains(')');
            close = opens.then_some(Kind::Close(Bracket::Round));
            let text = self.slice(0).trim_matches([' ', '~', '(', ')']);
            if text == "base" {
                self.at += 1;
            }
        }
        let grouped = self.eat(Kind::GroupOpen);
        if grouped && self.eat(Kind::GroupOpen) {
            close = Some(Kind::GroupClose);
        } else if grouped && self.eat(Kind::Open(Bracket::Round)) {
            close = Some(Kind::Close(Bracket::Round));
        }
        let base = match self.peek() {
            Some(Kind::Number) => self.slice(0).parse().ok(),
            Some(Kind::Word | Kind::Text) => {
                let word = self.slice(0).trim_matches([' ', '~', '(', ')']);
                let word = word.strip_prefix("base").unwrap_or(word).trim();
                number_word(word).or_else(|| word.parse().ok())
            }
            _ => None,
        };
        self.at += 1;
        if let Some(close) = close {
            self.expect(close)?;
        }
        if grouped {
            self.expect(Kind::GroupClose)?;
        }
        base.filter(|base| (2..=36).contains(base))
            .ok_or(Unreadable)
    }

    /// The node of a digit string in a base.
    pub(in crate::syntax) fn based(&mut self, digits: &str, base: u32) -> Parsed {
        if digits.len() > 200 || !digits.chars().all(|c| c.is_digit(base)) {
            return Err(Unreadable);
        }
        let value = num_bigint::BigInt::parse_bytes(digits.as_bytes(), base).ok_or(Unreadable)?;
        let value = Rational::from_big(value, 1.into()).ok_or(Unreadable)?;
        let index = self.tree.add_number(value);
        Ok(self.tree.push(Node::Based { index, base }))
    }

    // ---- numbers -------------------------------------------------------------------------------------

    /// The literal at this token, without looking further.
    pub(in crate::syntax) fn plain_number(&mut self) -> Parsed {
        let literal = literal::read(self.slice(0)).ok_or(Unreadable)?;
        self.at += 1;
        let mantissa = self.tree.number(literal.mantissa, literal.decimal);
        if literal.exponent == 0 {
            return Ok(mantissa);
        }
        let (ten, exponent) = (self.tree.integer(10), self.tree.integer(literal.exponent));
        let power = self.tree.push(Node::Pow(ten, exponent));
        Ok(self.tree.mul(&[mantissa, power]))
    }

    /// A literal, and the fraction of a mixed number behind it: `1\frac45`, `1 4/5`.
    pub(in crate::syntax) fn number(&mut self) -> Parsed {
        let whole = self.plain_number()?;
        let Node::Number { decimal: false, .. } = self.tree.node(whole) else {
            return Ok(whole);
        };
        let fraction = match (self.peek(), self.peek_at(1), self.peek_at(2)) {
            (Some(Kind::Frac), _, _) if !self.is_unit_fraction() => self.atom()?,
            (Some(Kind::Number), Some(Kind::Divide), Some(Kind::Number)) => {
                let numerator = self.plain_number()?;
                self.at += 1;
                let denominator = self.plain_number()?;
                self.tree.push(Node::Div(numerator, denominator))
            }
            _ => return Ok(whole),
        };
        let is_integer = |id: NodeId| matches!(self.tree.node(id), Node::Number { index, decimal: false } if self.tree.rational(index).is_integer());
        Ok(match self.tree.node(fraction) {
            Node::Div(numerator, denominator)
                if is_integer(numerator) && is_integer(denominator) =>
            {
                self.tree.add(&[whole, fraction])
            }
            _ => self.tree.mul(&[whole, fraction]),
        })
    }

    // ---- brackets ------------------------------------------------------------------------------------
}
