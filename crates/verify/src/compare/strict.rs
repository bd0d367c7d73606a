//! Strict mode: equal answers must also be written in the same form.
use super::Judge;
use super::prepare::Items;
use crate::fuel::Stop;
use crate::tree::{Node, NodeId};

/// How a number is written.
#[derive(PartialEq)]
enum Form {
    Integer,
    Fraction(NodeId, NodeId),
    Other,
}

impl Judge<'_> {
    /// Whether two answers that are equal in value have the same form.
    ///
    /// Fractions must have equal numerators and denominators, a whole number must be written as one,
    /// collections keep their kind and order, intervals stay intervals.
    pub(super) fn same_form(&mut self, gold: NodeId, answer: NodeId) -> Result<bool, Stop> {
        self.fuel.spend(1)?;
        let gold = self.unlabelled(gold);
        let answer = self.unlabelled(answer);
        match (self.tree.node(gold), self.tree.node(answer)) {
            (Node::List(x), Node::List(y)) | (Node::Set(x), Node::Set(y)) => self.same_forms(x, y),
            (
                Node::Sequence {
                    open,
                    close,
                    kids: x,
                },
                Node::Sequence {
                    open: o,
                    close: c,
                    kids: y,
                },
            ) => Ok(open == o && close == c && self.same_forms(x, y)?),
            (Node::Matrix { kids: x, .. }, Node::Matrix { kids: y, .. }) => self.same_forms(x, y),
            (Node::SetOp(f, a, b), Node::SetOp(g, c, d)) => {
                Ok(f == g && self.same_form(a, c)? && self.same_form(b, d)?)
            }
            (
                Node::Chain {
                    relations: r,
                    kids: x,
                },
                Node::Chain {
                    relations: s,
                    kids: y,
                },
            ) => {
                Ok(self.tree.relations(r, x) == self.tree.relations(s, y)
                    && self.same_forms(x, y)?)
            }
            (
                Node::List(_)
                | Node::Set(_)
                | Node::Sequence { .. }
                | Node::SetOp(..)
                | Node::Chain { .. }
                | Node::Ratio(_),
                _,
            )
            | (
                _,
                Node::List(_)
                | Node::Set(_)
                | Node::Sequence { .. }
                | Node::SetOp(..)
                | Node::Chain { .. },
            ) => Ok(self.tree.same(gold, answer)),
            _ => {
                let (g, a) = (self.form(gold), self.form(answer));
                Ok(match (g, a) {
                    (Form::Fraction(n, d), Form::Fraction(m, e)) => {
                        self.values(n, m)?.is_equal() && self.values(d, e)?.is_equal()
                    }
                    (g, a) => (g == Form::Integer) == (a == Form::Integer),
                })
            }
        }
    }

    fn same_forms(
        &mut self,
        gold: crate::tree::Kids,
        answer: crate::tree::Kids,
    ) -> Result<bool, Stop> {
        let (gold, answer) = (
            Items::from_slice(self.tree.kids(gold)),
            Items::from_slice(self.tree.kids(answer)),
        );
        if gold.len() != answer.len() {
            return Ok(false);
        }
        for (g, a) in gold.iter().zip(&answer) {
            if !self.item(*g, *a)? || !self.same_form(*g, *a)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn unlabelled(&self, id: NodeId) -> NodeId {
        match self.labelled(id) {
            Some(labelled) if labelled.values.len() == 1 => labelled.values[0],
            _ => id,
        }
    }

    fn form(&self, id: NodeId) -> Form {
        let whole = |id: NodeId| matches!(self.tree.node(id), Node::Number { index, decimal: false } if self.tree.rational(index).is_integer());
        match self.tree.node(id) {
            Node::Neg(inner)
            | Node::Quantity(inner, _)
            | Node::Percent(inner)
            | Node::Degree(inner) => self.form(inner),
            Node::Number { .. } if whole(id) => Form::Integer,
            Node::Div(a, b) if whole(a) && whole(b) => Form::Fraction(a, b),
            _ => Form::Other,
        }
    }
}
