//! Functions with their exponents and arguments, fractions and roots.

use super::Unreadable;
use crate::syntax::parser::{Nodes, Parsed, Parser};
use crate::syntax::token::Kind;
use crate::tree::{Bracket, Function, Node, NodeId};

impl Parser<'_, '_> {
    pub(in crate::syntax) fn function(&mut self, function: Function) -> Parsed {
        self.at += 1;
        self.nested(|parser| {
            let exponent = parser.function_exponent()?;
            let function = match (inverse(function), exponent) {
                (Some(inverse), Some(exponent)) if parser.is_minus_one(exponent) => {
                    let arguments = parser.function_arguments()?;
                    return Ok(parser.tree.call(inverse, &arguments));
                }
                _ => function,
            };
            let arguments = parser.function_arguments()?;
            let many = matches!(
                function,
                Function::Min | Function::Max | Function::Gcd | Function::Lcm | Function::Binomial
            );
            if arguments.len() != 1 && !many {
                return Err(Unreadable);
            }
            let call = parser.tree.call(function, &arguments);
            Ok(match exponent {
                Some(exponent) => parser.tree.push(Node::Pow(call, exponent)),
                None => call,
            })
        })
    }

    fn is_minus_one(&self, node: NodeId) -> bool {
        matches!(self.tree.node(node), Node::Number { index, .. } if *self.tree.rational(index) == crate::number::Rational::MINUS_ONE)
    }

    /// `\sin^2`: an exponent between the name and the argument.
    fn function_exponent(&mut self) -> Result<Option<NodeId>, Unreadable> {
        if !self.eat(Kind::Caret) {
            return Ok(None);
        }
        let negative = self.eat(Kind::Minus);
        let exponent = match self.peek() {
            Some(Kind::Number) => self.plain_number()?,
            _ => self.argument()?,
        };
        Ok(Some(if negative {
            self.negated(exponent)
        } else {
            exponent
        }))
    }

    /// What a function is applied to: brackets, a group, or the factors that follow up to the next
    /// function, sign or slash (`\sin 2\pi x`).
    fn function_arguments(&mut self) -> Result<Nodes, Unreadable> {
        match self.peek() {
            Some(Kind::Open(Bracket::Round)) => self.arguments(),
            Some(Kind::Open(Bracket::Square)) => self
                .sequence(Bracket::Square)
                .map(|inner| self.members(inner)),
            Some(Kind::GroupOpen) => self.group().map(|inner| self.members(inner)),
            _ => {
                let negative = self.eat(Kind::Minus);
                let mut factors = Nodes::from_slice(&[self.power()?]);
                while self.starts_factor()
                    && !matches!(
                        self.peek(),
                        Some(
                            Kind::Function(_)
                                | Kind::Log
                                | Kind::LogTen
                                | Kind::Binder(_)
                                | Kind::Text
                                | Kind::Dots
                        )
                    )
                {
                    factors.push(self.power()?);
                }
                let argument = if let [one] = factors.as_slice() {
                    *one
                } else {
                    self.tree.mul(&factors)
                };
                Ok(Nodes::from_slice(&[if negative {
                    self.negated(argument)
                } else {
                    argument
                }]))
            }
        }
    }

    /// `\log`, `\log_b`, `\lg`, with an exponent perhaps.
    pub(in crate::syntax) fn logarithm(&mut self, base_ten: bool) -> Parsed {
        self.at += 1;
        self.nested(|parser| {
            let (mut base, mut exponent) = (None, None);
            for _ in 0..2 {
                if parser.eat(Kind::Underscore) {
                    base = Some(match parser.peek() {
                        Some(Kind::Number) => parser.plain_number()?,
                        _ => parser.argument()?,
                    });
                } else if parser.peek() == Some(Kind::Caret) {
                    exponent = parser.function_exponent()?;
                }
            }
            let arguments = parser.function_arguments()?;
            let argument = match arguments.as_slice() {
                [argument] => argument,
                // `log(x, 2)` of programming languages.
                [argument, second] if base.is_none() => {
                    base = Some(*second);
                    argument
                }
                _ => return Err(Unreadable),
            };
            let mut value = parser.tree.call(Function::Ln, &[*argument]);
            if base_ten && base.is_none() {
                base = Some(parser.tree.integer(10));
            }
            if let Some(base) = base {
                let divisor = parser.tree.call(Function::Ln, &[base]);
                value = parser.tree.push(Node::Div(value, divisor));
            }
            Ok(match exponent {
                Some(exponent) => parser.tree.push(Node::Pow(value, exponent)),
                None => value,
            })
        })
    }

    // ---- fractions and roots -------------------------------------------------------------------------

    pub(super) fn fraction(&mut self, kind: Kind) -> Parsed {
        self.at += 1;
        if kind == Kind::Binomial && self.peek() == Some(Kind::Open(Bracket::Round)) {
            let arguments = self.arguments()?;
            let [_, _] = arguments.as_slice() else {
                return Err(Unreadable);
            };
            return Ok(self.tree.call(Function::Binomial, &arguments));
        }
        let (upper, lower) = (self.argument()?, self.argument()?);
        Ok(match kind {
            Kind::Frac => self.tree.push(Node::Div(upper, lower)),
            _ => self.tree.call(Function::Binomial, &[upper, lower]),
        })
    }

    pub(in crate::syntax) fn root(&mut self) -> Parsed {
        let is_cube_root = self.slice(0) == "cbrt";
        self.at += 1;
        let order = if is_cube_root {
            self.tree.integer(3)
        } else if self.peek() == Some(Kind::Open(Bracket::Square)) {
            self.at += 1;
            let order = self.bracketed(Self::sum)?;
            self.expect(Kind::Close(Bracket::Square))?;
            order
        } else {
            self.tree.integer(2)
        };
        let radicand = match self.peek() {
            Some(Kind::Open(Bracket::Round)) => self.sequence(Bracket::Round)?,
            Some(Kind::Number) => self.plain_number()?,
            _ => self.argument()?,
        };
        Ok(self.tree.push(Node::Root(radicand, order)))
    }

    // ---- big operators -------------------------------------------------------------------------------
}

/// What `f^{-1}` means for a function.
fn inverse(function: Function) -> Option<Function> {
    Some(match function {
        Function::Sin => Function::Arcsin,
        Function::Cos => Function::Arccos,
        Function::Tan => Function::Arctan,
        Function::Cot => Function::Arccot,
        Function::Sec => Function::Arcsec,
        Function::Csc => Function::Arccsc,
        Function::Sinh => Function::Arsinh,
        Function::Cosh => Function::Arcosh,
        Function::Tanh => Function::Artanh,
        _ => return None,
    })
}
