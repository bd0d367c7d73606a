//! Arguments without brackets: `\frac12`, `\sqrt2`, `\sin x`.

use super::{Parsed, Parser, Unreadable};
use crate::syntax::token::Kind;
use crate::tree::{Constant, Node, NodeId, Symbol};

impl Parser<'_, '_> {
    /// A macro's argument: a group, or the next token, whose first digit alone counts for a number.
    pub(in crate::syntax) fn argument(&mut self) -> Parsed {
        match self.peek() {
            Some(Kind::GroupOpen) => self.group(),
            Some(Kind::Number) => self.first_digit(),
            Some(Kind::Word) => self.first_letter_of_word(),
            Some(Kind::Letter | Kind::Name(_)) => self.bare_symbol(),
            Some(_) => self.nested(Self::atom),
            None => Err(Unreadable),
        }
    }

    /// Takes one digit off a number token: `\frac12` is a half.
    fn first_digit(&mut self) -> Parsed {
        let text = self.slice(0);
        let Some(digit @ b'0'..=b'9') = text.bytes().next() else {
            return Err(Unreadable);
        };
        if text.len() == 1 {
            self.at += 1;
        } else {
            self.tokens[self.at].start += 1;
            self.tokens[self.at].spaced = false;
        }
        Ok(self.tree.integer(i64::from(digit - b'0')))
    }

    /// Takes one letter off a word token.
    pub(in crate::syntax) fn first_letter_of_word(&mut self) -> Parsed {
        let Some(letter) = self.slice(0).bytes().next() else {
            return Err(Unreadable);
        };
        let token = &mut self.tokens[self.at];
        token.start += 1;
        token.spaced = false;
        if token.end - token.start == 1 {
            token.kind = Kind::Letter;
        }
        Ok(self.letter(letter))
    }

    /// The node of a letter: a symbol, or one of the constants i and e.
    pub(in crate::syntax) fn letter(&mut self, letter: u8) -> NodeId {
        let symbol = Symbol(u32::from(letter));
        let node = match letter {
            b'i' if !self.bound.contains(&symbol) => Node::Constant(Constant::I),
            b'e' if !self.bound.contains(&symbol) => Node::Constant(Constant::E),
            _ => Node::Symbol(symbol),
        };
        self.tree.push(node)
    }

    /// One letter or named symbol, without subscript.
    pub(super) fn bare_symbol(&mut self) -> Parsed {
        let node = match self.peek() {
            Some(Kind::Letter) => {
                let letter = self.slice(0).bytes().next().ok_or(Unreadable)?;
                self.letter(letter)
            }
            Some(Kind::Name(name)) => {
                let symbol = self.tree.symbol(name);
                self.tree.push(Node::Symbol(symbol))
            }
            _ => return Err(Unreadable),
        };
        self.at += 1;
        Ok(node)
    }

    // ---- matrices --------------------------------------------------------------------------------------
}
