//! Bringing an answer into the shape that is compared: plus-minus written out, lists flattened,
//! bracketed rows made a matrix.
use smallvec::SmallVec;

use super::Judge;
use crate::fuel::Stop;
use crate::tree::{Bracket, Node, NodeId};

pub(super) type Items = SmallVec<[NodeId; 8]>;

impl Judge<'_> {
    /// The prepared answer. Values in it are untouched.
    pub(super) fn prepare(&mut self, id: NodeId) -> Result<NodeId, Stop> {
        self.fuel.spend(1)?;
        match self.tree.node(id) {
            Node::Number { .. } | Node::Symbol(_) => Ok(id),
            Node::List(kids) => {
                let kids = Items::from_slice(self.tree.kids(kids));
                let mut flat = Items::new();
                for kid in kids {
                    let kid = self.prepare(kid)?;
                    match self.tree.node(kid) {
                        // `x=1, y=2 or x=3, y=4` stays in groups, `1, 2 or 3` becomes one list.
                        Node::List(inner) if !self.has_distinct_labels(kid) => {
                            flat.extend_from_slice(self.tree.kids(inner))
                        }
                        _ => flat.push(kid),
                    }
                }
                Ok(self.tree.list(&flat))
            }
            Node::Set(kids) => {
                let kids = Items::from_slice(self.tree.kids(kids));
                let mut flat = Items::new();
                for kid in kids {
                    let kid = self.prepare(kid)?;
                    match self.tree.node(kid) {
                        Node::List(inner) => flat.extend_from_slice(self.tree.kids(inner)),
                        _ => flat.push(kid),
                    }
                }
                let kids = self.tree.add_kids(&flat);
                Ok(self.tree.push(Node::Set(kids)))
            }
            Node::Sequence {
                open: Bracket::Square,
                close: Bracket::Square,
                kids,
            } if self.is_row_list(id) => {
                let rows = Items::from_slice(self.tree.kids(kids));
                let mut entries = Items::new();
                let mut columns = 0;
                for row in rows {
                    if let Node::Sequence { kids, .. } = self.tree.node(row) {
                        columns = self.tree.kids(kids).len() as u32;
                        let row = Items::from_slice(self.tree.kids(kids));
                        entries.extend_from_slice(&row);
                    }
                }
                let kids = self.tree.add_kids(&entries);
                Ok(self.tree.push(Node::Matrix {
                    columns,
                    kids,
                    determinant: false,
                }))
            }
            // `P(1, 2)`: a point with its name.
            Node::Apply(symbol, kids)
                if self.tree.kids(kids).len() > 1
                    && char::from_u32(symbol.0).is_some_and(|c| c.is_ascii_uppercase()) =>
            {
                Ok(self.tree.push(Node::Sequence {
                    open: Bracket::Round,
                    close: Bracket::Round,
                    kids,
                }))
            }
            // `x \in \{\pm 1, 2\}`: the signs belong to the set.
            Node::Chain { relations, kids }
                if self
                    .tree
                    .kids(kids)
                    .iter()
                    .any(|kid| self.is_collection_node(*kid)) =>
            {
                let mut members = Items::from_slice(self.tree.kids(kids));
                for member in &mut members {
                    if self.is_collection_node(*member) {
                        *member = self.prepare(*member)?;
                    }
                }
                let kids = self.tree.add_kids(&members);
                Ok(self.tree.push(Node::Chain { relations, kids }))
            }
            _ if self.tree.any(id, &|node| {
                matches!(node, Node::PlusMinus(..) | Node::MinusPlus(..))
            }) =>
            {
                let upper = self.with_sign(id, true)?;
                let lower = self.with_sign(id, false)?;
                Ok(self.tree.list(&[upper, lower]))
            }
            _ => Ok(id),
        }
    }

    fn is_collection_node(&self, id: NodeId) -> bool {
        matches!(self.tree.node(id), Node::Set(_) | Node::List(_))
    }

    /// `[[1,2],[3,4]]`.
    fn is_row_list(&self, id: NodeId) -> bool {
        let Node::Sequence { kids, .. } = self.tree.node(id) else {
            return false;
        };
        let width = |row: &NodeId| match self.tree.node(*row) {
            Node::Sequence {
                open: Bracket::Square,
                close: Bracket::Square,
                kids,
            } => Some(self.tree.kids(kids).len()),
            _ => None,
        };
        let rows = self.tree.kids(kids);
        let first = rows.first().and_then(width);
        first.is_some() && rows.iter().all(|row| width(row) == first)
    }

    /// A copy with every `\pm` read as plus (or minus) and every `\mp` the other way.
    fn with_sign(&mut self, id: NodeId, plus: bool) -> Result<NodeId, Stop> {
        self.fuel.spend(1)?;
        let node = self.tree.node(id);
        let (a, b, positive) = match node {
            Node::PlusMinus(a, b) => (a, b, plus),
            Node::MinusPlus(a, b) => (a, b, !plus),
            Node::Number { .. }
            | Node::Symbol(_)
            | Node::Constant(_)
            | Node::Text(_)
            | Node::Word(_)
            | Node::Based { .. }
            | Node::Dots => return Ok(id),
            _ => return self.rebuilt(id, plus),
        };
        let (a, b) = (self.with_sign(a, plus)?, self.with_sign(b, plus)?);
        let b = if positive {
            b
        } else {
            self.tree.push(Node::Neg(b))
        };
        if matches!(self.tree.node(a), Node::Number { index, .. } if self.tree.rational(index).is_zero())
        {
            return Ok(b);
        }
        Ok(self.tree.add(&[a, b]))
    }

    fn rebuilt(&mut self, id: NodeId, plus: bool) -> Result<NodeId, Stop> {
        let mut kids = Items::new();
        self.tree.each_kid(id, |kid| kids.push(kid));
        for kid in &mut kids {
            *kid = self.with_sign(*kid, plus)?;
        }
        let run = |this: &mut Self| this.tree.add_kids(&kids);
        let node = match (self.tree.node(id), kids.as_slice()) {
            (Node::Add(_), _) => Node::Add(run(self)),
            (Node::Mul(_), _) => Node::Mul(run(self)),
            (Node::Call(function, _), _) => Node::Call(function, run(self)),
            (Node::Apply(symbol, _), _) => Node::Apply(symbol, run(self)),
            (Node::Bound(binder, variable, _), _) => Node::Bound(binder, variable, run(self)),
            (Node::Sequence { open, close, .. }, _) => Node::Sequence {
                open,
                close,
                kids: run(self),
            },
            (Node::Set(_), _) => Node::Set(run(self)),
            (Node::List(_), _) => Node::List(run(self)),
            (Node::Chain { relations, .. }, _) => Node::Chain {
                relations,
                kids: run(self),
            },
            (
                Node::Matrix {
                    columns,
                    determinant,
                    ..
                },
                _,
            ) => Node::Matrix {
                columns,
                kids: run(self),
                determinant,
            },
            (Node::Ratio(_), _) => Node::Ratio(run(self)),
            (Node::Neg(_), [a]) => Node::Neg(*a),
            (Node::Index(symbol, _), [a]) => Node::Index(symbol, *a),
            (Node::Percent(_), [a]) => Node::Percent(*a),
            (Node::Degree(_), [a]) => Node::Degree(*a),
            (Node::Quantity(_, unit), [a]) => Node::Quantity(*a, unit),
            (Node::Div(..), [a, b]) => Node::Div(*a, *b),
            (Node::Pow(..), [a, b]) => Node::Pow(*a, *b),
            (Node::Root(..), [a, b]) => Node::Root(*a, *b),
            (Node::SetOf(..), [a, b]) => Node::SetOf(*a, *b),
            (Node::SetOp(operation, ..), [a, b]) => Node::SetOp(operation, *a, *b),
            (Node::Congruence(..), [a, b, c]) => Node::Congruence(*a, *b, *c),
            (other, _) => other,
        };
        Ok(self.tree.push(node))
    }
}
