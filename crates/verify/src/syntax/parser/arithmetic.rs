//! Sums, products, powers and postfix signs.

use super::{Nodes, Parsed, Parser, Unreadable};
use crate::syntax::token::Kind;
use crate::syntax::units::Unit;
use crate::tree::{Bracket, Function, Node, NodeId};

impl Parser<'_, '_> {
    pub(in crate::syntax) fn sum(&mut self) -> Parsed {
        let mut terms = Nodes::new();
        loop {
            let (negative, plus_minus) = self.signs();
            if !plus_minus && terms.is_empty() {
                let first = self.product()?;
                terms.push(if negative { self.negated(first) } else { first });
            } else {
                let minus = self.last_sign_is_mp();
                let term = self.product()?;
                if plus_minus {
                    let left = match terms.as_slice() {
                        [] => self.tree.integer(0),
                        [one] => *one,
                        many => {
                            let many = Nodes::from_slice(many);
                            self.tree.add(&many)
                        }
                    };
                    let node = if minus {
                        Node::MinusPlus(left, term)
                    } else {
                        Node::PlusMinus(left, term)
                    };
                    terms = Nodes::from_slice(&[self.tree.push(node)]);
                } else {
                    terms.push(if negative { self.negated(term) } else { term });
                }
            }
            if !matches!(
                self.peek(),
                Some(Kind::Plus | Kind::Minus | Kind::PlusMinus | Kind::MinusPlus)
            ) {
                break;
            }
        }
        Ok(match terms.as_slice() {
            [one] => *one,
            _ => self.tree.add(&terms),
        })
    }

    /// Eats a run of signs: whether it is negative altogether, and whether it holds a `\pm` or `\mp`.
    fn signs(&mut self) -> (bool, bool) {
        let (mut negative, mut plus_minus) = (false, false);
        loop {
            match self.peek() {
                Some(Kind::Plus) => {}
                Some(Kind::Minus) => negative = !negative,
                Some(Kind::PlusMinus | Kind::MinusPlus) if !plus_minus => plus_minus = true,
                _ => return (negative, plus_minus),
            }
            self.at += 1;
        }
    }

    /// After [`Self::signs`]: was the sign just eaten a `\mp`?
    fn last_sign_is_mp(&self) -> bool {
        self.tokens[..self.at]
            .iter()
            .rev()
            .take_while(|t| {
                matches!(
                    t.kind,
                    Kind::Plus | Kind::Minus | Kind::PlusMinus | Kind::MinusPlus
                )
            })
            .any(|t| t.kind == Kind::MinusPlus)
    }

    pub(in crate::syntax) fn negated(&mut self, node: NodeId) -> NodeId {
        match self.tree.node(node) {
            Node::Number { index, decimal } => {
                let value = self.tree.rational(index).neg();
                self.tree.number(value, decimal)
            }
            _ => self.tree.push(Node::Neg(node)),
        }
    }

    pub(in crate::syntax) fn product(&mut self) -> Parsed {
        let mut factors = Nodes::from_slice(&[self.signed_factor()?]);
        loop {
            match self.peek() {
                Some(Kind::Times) => {
                    self.at += 1;
                    factors.push(self.signed_factor()?);
                }
                Some(Kind::Divide) => {
                    self.at += 1;
                    let dividend = self.joined(&factors);
                    let divisor = self.signed_factor()?;
                    factors = Nodes::from_slice(&[self.tree.push(Node::Div(dividend, divisor))]);
                }
                Some(Kind::Mod) => {
                    self.at += 1;
                    let value = self.joined(&factors);
                    let modulus = self.signed_factor()?;
                    factors =
                        Nodes::from_slice(&[self.tree.call(Function::Mod, &[value, modulus])]);
                }
                Some(Kind::Percent) => {
                    self.at += 1;
                    let value = self.joined(&factors);
                    factors = Nodes::from_slice(&[self.tree.push(Node::Percent(value))]);
                }
                Some(Kind::Letter) if self.is_unit_quotient() => {
                    let value = self.joined(&factors);
                    if let Some(quantity) = self.unit_behind(value)? {
                        factors = Nodes::from_slice(&[quantity]);
                    } else {
                        factors.push(self.power()?);
                    }
                }
                Some(
                    Kind::Text
                    | Kind::Word
                    | Kind::Dollar
                    | Kind::Frac
                    | Kind::Function(Function::Min),
                ) => {
                    let value = self.joined(&factors);
                    if let Some(quantity) = self.unit_behind(value)? {
                        factors = Nodes::from_slice(&[quantity]);
                    } else if self.starts_factor() {
                        factors.push(self.power()?);
                    } else {
                        break;
                    }
                }
                _ if self.starts_factor() => factors.push(self.power()?),
                _ => break,
            }
        }
        Ok(self.joined(&factors))
    }

    fn joined(&mut self, factors: &[NodeId]) -> NodeId {
        match factors {
            [one] => *one,
            many => self.tree.mul(many),
        }
    }

    /// True when the next token begins a factor that is multiplied without a sign.
    pub(in crate::syntax) fn starts_factor(&self) -> bool {
        let Some(kind) = self.peek() else {
            return false;
        };
        match kind {
            // Two literals in a row are no product: "2 3" is unreadable.
            Kind::Number | Kind::BaseDigits => {
                self.at > 0
                    && !matches!(
                        self.tokens[self.at - 1].kind,
                        Kind::Number | Kind::BaseDigits
                    )
            }
            Kind::Letter => !self.is_plain_union(),
            Kind::Word => {
                let differential = self.integrals > 0 && self.is_differential(0);
                let membership = self.slice(0) == "in"
                    && matches!(self.peek_at(1), Some(Kind::Open(_) | Kind::OpenSet));
                !differential && !membership
            }
            Kind::Name(_)
            | Kind::Macro
            | Kind::Function(_)
            | Kind::Log
            | Kind::LogTen
            | Kind::Constant(_)
            | Kind::Binder(_)
            | Kind::OpenBar
            | Kind::OpenFloor
            | Kind::OpenCeil
            | Kind::GroupOpen
            | Kind::Begin
            | Kind::Frac
            | Kind::Binomial
            | Kind::Root
            | Kind::Accent(_)
            | Kind::Text
            | Kind::Dots
            | Kind::Open(Bracket::Round | Bracket::Angle) => {
                !(kind == Kind::Open(Bracket::Round) && self.peek_at(1) == Some(Kind::Mod))
            }
            // `[a, b[` closes with an opening bracket at the end of its interval.
            Kind::Open(Bracket::Square) => !matches!(
                self.peek_at(1),
                None | Some(Kind::Union | Kind::Intersection | Kind::Comma)
            ),
            Kind::Bar => self.bars == 0 && !self.in_set,
            _ => false,
        }
    }

    /// `dx`: a two-letter word that begins with d, or a lone d with a letter behind it.
    pub(in crate::syntax) fn is_differential(&self, ahead: usize) -> bool {
        match self.peek_at(ahead) {
            Some(Kind::Word) => self.slice(ahead).len() == 2 && self.slice(ahead).starts_with('d'),
            Some(Kind::Letter | Kind::Text) => {
                self.slice(ahead) == "d"
                    && matches!(self.peek_at(ahead + 1), Some(Kind::Letter | Kind::Name(_)))
            }
            _ => false,
        }
    }

    pub(in crate::syntax) fn signed_factor(&mut self) -> Parsed {
        let (negative, plus_minus) = self.signs();
        let minus = plus_minus && self.last_sign_is_mp();
        let mut factor = self.power()?;
        if plus_minus {
            let zero = self.tree.integer(0);
            factor = self.tree.push(if minus {
                Node::MinusPlus(zero, factor)
            } else {
                Node::PlusMinus(zero, factor)
            });
        }
        Ok(if negative {
            self.negated(factor)
        } else {
            factor
        })
    }

    // ---- powers and postfix signs --------------------------------------------------------------------

    pub(in crate::syntax) fn power(&mut self) -> Parsed {
        let mut base = self.postfix()?;
        while self.peek() == Some(Kind::Caret) {
            if self.eat_ordinal() {
                continue;
            }
            if self.eat_degree_script() {
                base = self.degree(base);
                continue;
            }
            self.at += 1;
            let exponent = self.script()?;
            base = self.tree.push(Node::Pow(base, exponent));
            base = self.postfix_signs(base)?;
        }
        Ok(base)
    }

    /// `5^{\text{th}}`: the ending of an ordinal number.
    fn eat_ordinal(&mut self) -> bool {
        let grouped = usize::from(self.peek_at(1) == Some(Kind::GroupOpen));
        let is_ending = matches!(self.peek_at(1 + grouped), Some(Kind::Text | Kind::Word))
            && matches!(
                self.slice(1 + grouped).trim_matches([' ', '~']),
                "th" | "st" | "nd" | "rd"
            )
            && (grouped == 0 || self.peek_at(3) == Some(Kind::GroupClose));
        if is_ending {
            self.at += 2 + 2 * grouped;
        }
        is_ending
    }

    /// `^\circ` or `^{\circ}`.
    fn eat_degree_script(&mut self) -> bool {
        let length = match (self.peek_at(1), self.peek_at(2), self.peek_at(3)) {
            (Some(Kind::Degree), _, _) => 2,
            (Some(Kind::GroupOpen), Some(Kind::Degree), Some(Kind::GroupClose)) => 4,
            _ => return false,
        };
        self.at += length;
        true
    }

    /// The exponent after `^`: a group, or one factor with its own exponents, right to left.
    fn script(&mut self) -> Parsed {
        self.nested(|parser| {
            let (negative, plus_minus) = parser.signs();
            if plus_minus {
                return Err(Unreadable);
            }
            let mut exponent = match parser.peek() {
                Some(Kind::Word) => parser.first_letter_of_word()?,
                Some(Kind::Number) => parser.plain_number()?,
                Some(Kind::Frac) => parser.atom()?,
                Some(Kind::Letter | Kind::Name(_)) => parser.bare_symbol()?,
                _ => parser.atom()?,
            };
            exponent = parser.postfix_factorial(exponent);
            if parser.peek() == Some(Kind::Caret)
                && !matches!(parser.peek_at(1), Some(Kind::Degree))
            {
                parser.at += 1;
                let upper = parser.script()?;
                exponent = parser.tree.push(Node::Pow(exponent, upper));
            }
            Ok(if negative {
                parser.negated(exponent)
            } else {
                exponent
            })
        })
    }

    fn postfix(&mut self) -> Parsed {
        let node = self.atom()?;
        self.postfix_signs(node)
    }

    fn postfix_factorial(&mut self, mut node: NodeId) -> NodeId {
        while self.eat(Kind::Bang) {
            let function = if self.eat(Kind::Bang) {
                Function::DoubleFactorial
            } else {
                Function::Factorial
            };
            node = self.tree.call(function, &[node]);
        }
        node
    }

    fn postfix_signs(&mut self, mut node: NodeId) -> Parsed {
        loop {
            match self.peek() {
                Some(Kind::Bang) => node = self.postfix_factorial(node),
                Some(Kind::Degree) => {
                    self.at += 1;
                    node = self.degree(node);
                }
                Some(Kind::Underscore) => node = self.base_subscript(node)?,
                Some(Kind::Text | Kind::Word) if self.names_a_base() => {
                    node = self.base_subscript(node)?;
                }
                _ => return Ok(node),
            }
        }
    }

    /// An angle, or a temperature when C or F follows.
    pub(in crate::syntax) fn degree(&mut self, node: NodeId) -> NodeId {
        if matches!(self.peek(), Some(Kind::Letter | Kind::Text)) {
            let name = match self.slice(0).trim_matches([' ', '~']) {
                "C" => "celsius",
                "F" => "fahrenheit",
                _ => return self.tree.push(Node::Degree(node)),
            };
            self.at += 1;
            let mut unit = Unit::one();
            unit.multiply(name, 1);
            let unit = self.tree.add_unit(unit);
            return self.tree.push(Node::Quantity(node, unit));
        }
        self.tree.push(Node::Degree(node))
    }
}
