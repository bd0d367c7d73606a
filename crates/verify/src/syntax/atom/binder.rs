//! Sums, products, integrals and limits.

use super::Unreadable;
use crate::syntax::parser::{Parsed, Parser};
use crate::syntax::token::Kind;
use crate::tree::{Binder, Node, NodeId, Relation, Symbol};

impl Parser<'_, '_> {
    pub(in crate::syntax) fn binder_parts(&mut self, binder: Binder) -> Parsed {
        let (mut lower, mut upper) = (None, None);
        for _ in 0..2 {
            if self.eat(Kind::Underscore) {
                lower = Some(match (binder, self.peek()) {
                    (Binder::Sum | Binder::Product | Binder::Limit, Some(Kind::GroupOpen)) => {
                        self.at += 1;
                        let bound = self.binding()?;
                        self.expect(Kind::GroupClose)?;
                        bound
                    }
                    (Binder::Integral, Some(Kind::Number)) => (None, self.plain_number()?),
                    (Binder::Integral, _) => {
                        let negative = self.eat(Kind::Minus);
                        let bound = self.argument()?;
                        (None, if negative { self.negated(bound) } else { bound })
                    }
                    _ => return Err(Unreadable),
                });
            } else if self.eat(Kind::Caret) {
                upper = Some(match self.peek() {
                    Some(Kind::Number) => self.plain_number()?,
                    _ => self.argument()?,
                });
            }
        }
        match binder {
            Binder::Integral => self.integral(lower.map(|(_, bound)| bound), upper),
            _ => {
                let (Some(variable), from) = lower.ok_or(Unreadable)? else {
                    return Err(Unreadable);
                };
                let to = match (binder, upper) {
                    (Binder::Limit, None) => from,
                    (Binder::Sum | Binder::Product, Some(to)) => to,
                    _ => return Err(Unreadable),
                };
                self.bound.push(variable);
                let body = self.product();
                self.bound.pop();
                let kids = self.tree.add_kids(&[from, to, body?]);
                Ok(self.tree.push(Node::Bound(binder, variable, kids)))
            }
        }
    }

    /// `k=1` or `x \to 0`: the variable and the bound. The variable may be `i`.
    fn binding(&mut self) -> Result<(Option<Symbol>, NodeId), Unreadable> {
        let variable = match self.peek() {
            Some(Kind::Letter) => {
                Symbol(u32::from(self.slice(0).bytes().next().ok_or(Unreadable)?))
            }
            Some(Kind::Name(name)) => self.tree.symbol(name),
            _ => return Err(Unreadable),
        };
        self.at += 1;
        if !matches!(
            self.peek(),
            Some(Kind::Relation(Relation::Equal | Relation::To))
        ) {
            return Err(Unreadable);
        }
        self.at += 1;
        Ok((Some(variable), self.sum()?))
    }

    fn integral(&mut self, from: Option<NodeId>, to: Option<NodeId>) -> Parsed {
        self.integrals += 1;
        let body = if self.is_differential(0) {
            Ok(self.tree.integer(1))
        } else {
            self.sum()
        };
        self.integrals -= 1;
        let body = body?;
        if !self.is_differential(0) {
            return Err(Unreadable);
        }
        let letter = if self.peek() == Some(Kind::Word) {
            self.slice(0).as_bytes().get(1).copied()
        } else {
            self.at += 1;
            self.slice(0).bytes().next()
        };
        let variable = match self.peek() {
            Some(Kind::Name(name)) => self.tree.symbol(name),
            _ => Symbol(u32::from(letter.ok_or(Unreadable)?)),
        };
        self.at += 1;
        let (from, to) = match (from, to) {
            (Some(from), Some(to)) => (from, to),
            (None, None) => {
                let own = self.tree.push(Node::Symbol(variable));
                (own, own)
            }
            _ => return Err(Unreadable),
        };
        let kids = self.tree.add_kids(&[from, to, body]);
        Ok(self
            .tree
            .push(Node::Bound(Binder::Integral, variable, kids)))
    }
}
