//! Labels in front of a value: `x =`, `f(x) =`, `(x, y) =`, `\angle ABC =`, `x \in`.
use super::Judge;
use super::prepare::Items;
use crate::tree::{Constant, Function, Node, NodeId, Relation};

/// A label and what it names.
#[derive(Clone, Debug)]
pub(super) struct Labelled {
    pub(super) label: NodeId,
    /// One value, or the members of `x = a = b`.
    pub(super) values: Items,
    /// The values are joined by "approximately" rather than "equal" somewhere.
    pub(super) approximate: bool,
}

impl Judge<'_> {
    /// Splits `label = value`, `value = label` and `label \in set`.
    pub(super) fn labelled(&self, id: NodeId) -> Option<Labelled> {
        let Node::Chain { relations, kids } = self.tree.node(id) else {
            return None;
        };
        let members = self.tree.kids(kids);
        let relations = self.tree.relations(relations, kids);
        let joined =
            |relation: &Relation| matches!(relation, Relation::Equal | Relation::Approximately);
        let (first, last) = (*members.first()?, *members.last()?);
        if relations == [Relation::In] && self.is_label(first) {
            return Some(Labelled {
                label: first,
                values: Items::from_slice(&members[1..]),
                approximate: false,
            });
        }
        if !relations.iter().all(joined) {
            return None;
        }
        let approximate = relations.contains(&Relation::Approximately);
        // `MR = SRMC` equates two names; neither is the value of the other.
        let is_word = |id: NodeId| matches!(self.tree.node(id), Node::Word(_) | Node::Text(_));
        if is_word(first) && is_word(last) {
            return None;
        }
        if self.is_label(first) {
            return Some(Labelled {
                label: first,
                values: Items::from_slice(&members[1..]),
                approximate,
            });
        }
        if members.len() == 2 && self.is_label(last) {
            return Some(Labelled {
                label: last,
                values: Items::from_slice(&members[..1]),
                approximate,
            });
        }
        None
    }

    /// A name for something, with no value of its own.
    pub(super) fn is_label(&self, id: NodeId) -> bool {
        match self.tree.node(id) {
            Node::Symbol(_) | Node::Index(..) | Node::Text(_) | Node::Word(_) => true,
            Node::Constant(constant) => matches!(constant, Constant::E | Constant::I),
            Node::Apply(_, kids) => self
                .tree
                .kids(kids)
                .iter()
                .all(|kid| self.is_name_or_number(*kid)),
            Node::Sequence { kids, .. } | Node::Ratio(kids) => {
                self.tree.kids(kids).iter().all(|kid| self.is_label(*kid))
            }
            Node::Call(Function::Abs | Function::Min | Function::Max, kids) => {
                self.tree.kids(kids).iter().all(|kid| self.is_label(*kid))
            }
            // `\angle ABC`, `\triangle ABC`, `[ABC]`: a name followed by points.
            Node::Mul(kids) => {
                let mut kids = self.tree.kids(kids);
                // `m\angle ABC`: the measure of an angle.
                if kids.len() > 2
                    && matches!(self.tree.node(kids[0]), Node::Symbol(symbol) if symbol.0 == u32::from(b'm'))
                {
                    kids = &kids[1..];
                }
                let named = kids
                    .first()
                    .is_some_and(|first| match self.tree.node(*first) {
                        Node::Symbol(symbol) => {
                            matches!(self.tree.name(symbol).as_str(), "angle" | "triangle")
                        }
                        Node::Text(_) => true,
                        Node::Word(index) => self.tree.text(index).len() >= 4,
                        _ => false,
                    });
                // `P(X = 2)`: a capital in front of a statement.
                if let [function, statement] = kids
                    && matches!(self.tree.node(*function), Node::Symbol(symbol) if char::from_u32(symbol.0).is_some_and(|c| c.is_ascii_uppercase()))
                    && matches!(self.tree.node(*statement), Node::Chain { .. })
                {
                    return true;
                }
                named
                    && kids.iter().all(|kid| {
                        matches!(
                            self.tree.node(*kid),
                            Node::Symbol(_)
                                | Node::Word(_)
                                | Node::Text(_)
                                | Node::Constant(Constant::E | Constant::I)
                        )
                    })
            }
            // `\frac{dy}{dx}`, and a ratio of segments, `\frac{AB}{CD}`.
            Node::Div(a, b) => {
                let words = [a, b].map(|part| match self.tree.node(part) {
                    Node::Word(index) => self.tree.text(index),
                    _ => "",
                });
                let is_differential = |word: &str| word.len() == 2 && word.starts_with('d');
                let is_segment =
                    |word: &str| word.len() == 2 && word.bytes().all(|b| b.is_ascii_uppercase());
                words.iter().all(|word| is_differential(word))
                    || words.iter().all(|word| is_segment(word))
            }
            _ => false,
        }
    }

    fn is_name_or_number(&self, id: NodeId) -> bool {
        matches!(self.tree.node(id), Node::Number { .. }) || self.is_label(id)
    }

    /// A list whose items are all labelled, with more than one label.
    pub(super) fn has_distinct_labels(&self, id: NodeId) -> bool {
        let Node::List(kids) = self.tree.node(id) else {
            return false;
        };
        let mut labels = Items::new();
        for kid in self.tree.kids(kids) {
            match self.labelled(*kid) {
                Some(labelled) => labels.push(labelled.label),
                None => return false,
            }
        }
        labels
            .iter()
            .skip(1)
            .all(|label| !self.tree.same(*label, labels[0]))
            && labels.len() > 1
    }
}
