//! Lists, sets and tuples.
use super::prepare::Items;
use super::{Judge, Outcome};
use crate::fuel::Stop;
use crate::tree::{Bracket, Constant, Node, NodeId};
use crate::verdict::Reason;

/// Longer collections are not matched.
const MAX_ITEMS: usize = 256;

/// What a collection holds.
struct Collection {
    items: Items,
    /// In set braces: repeats do not count.
    is_set: bool,
    /// The labels are all there and differ: `x = 1, y = 2`.
    is_assignment: bool,
}

impl Judge<'_> {
    /// The items of a list or set; a single answer is a list of one. A label shared by all items, or
    /// standing on the first only, is dropped.
    fn collection(&self, id: NodeId) -> Collection {
        let (mut items, is_set) = match self.tree.node(id) {
            Node::List(kids) => (Items::from_slice(self.tree.kids(kids)), false),
            Node::Set(kids) => (Items::from_slice(self.tree.kids(kids)), true),
            Node::Constant(Constant::EmptySet) => (Items::new(), true),
            _ => {
                // `x = {1, 2}` and `x \in {1, 2}` name a collection.
                if let Some(labelled) = self.labelled(id)
                    && let [value] = labelled.values.as_slice()
                    && matches!(self.tree.node(*value), Node::List(_) | Node::Set(_))
                {
                    return self.collection(*value);
                }
                (Items::from_slice(&[id]), false)
            }
        };
        let is_assignment = self.has_distinct_labels(id);
        if !is_assignment && items.len() > 1 {
            self.drop_shared_label(&mut items);
        }
        Collection {
            items,
            is_set,
            is_assignment,
        }
    }

    fn drop_shared_label(&self, items: &mut Items) {
        let Some(first) = items.first().and_then(|first| self.labelled(*first)) else {
            return;
        };
        let mut values = Items::new();
        for (index, item) in items.iter().enumerate() {
            match self.labelled(*item) {
                Some(labelled)
                    if labelled.values.len() == 1
                        && self.tree.same(labelled.label, first.label) =>
                {
                    values.push(labelled.values[0])
                }
                None if index > 0 && !matches!(self.tree.node(*item), Node::Chain { .. }) => {
                    values.push(*item)
                }
                _ => return,
            }
        }
        *items = values;
    }

    /// Lists and sets against anything.
    pub(super) fn collections(&mut self, gold: NodeId, answer: NodeId) -> Result<Outcome, Stop> {
        let (g, a) = (self.collection(gold), self.collection(answer));
        if let Some(outcome) = self.assignments(&g, answer)? {
            return Ok(outcome);
        }
        if let Some(outcome) = self.assignments(&a, gold)? {
            return Ok(outcome);
        }
        for (collection, other) in [(&g, answer), (&a, gold)] {
            if matches!(self.tree.node(other), Node::Sequence { .. })
                && (collection.items.len() != 1 || collection.is_set)
            {
                return Ok(Outcome::Unequal(Reason::DifferentKind));
            }
        }
        let dots = |items: &Items| {
            items
                .iter()
                .any(|item| matches!(self.tree.node(*item), Node::Dots))
        };
        if dots(&g.items) || dots(&a.items) || (g.is_assignment != a.is_assignment) {
            return self.in_order(&g.items, &a.items);
        }
        self.in_any_order(g, a)
    }

    /// `x = 1, y = 2` against the tuple `(1, 2)`.
    fn assignments(
        &mut self,
        collection: &Collection,
        other: NodeId,
    ) -> Result<Option<Outcome>, Stop> {
        if !collection.is_assignment {
            return Ok(None);
        }
        let tuple = match self.tree.node(other) {
            Node::Sequence {
                open: Bracket::Round,
                close: Bracket::Round,
                kids,
            } => Items::from_slice(self.tree.kids(kids)),
            _ => return Ok(None),
        };
        let values: Items = collection
            .items
            .iter()
            .filter_map(|item| self.labelled(*item)?.values.last().copied())
            .collect();
        self.in_order(&values, &tuple).map(Some)
    }

    /// Pairwise in the given order.
    fn in_order(&mut self, gold: &[NodeId], answer: &[NodeId]) -> Result<Outcome, Stop> {
        if gold.len() != answer.len() {
            return Ok(Outcome::Unequal(Reason::DifferentParts));
        }
        for (g, a) in gold.iter().zip(answer) {
            let dots = [*g, *a].map(|item| matches!(self.tree.node(item), Node::Dots));
            let equal = if dots[0] || dots[1] {
                dots[0] && dots[1]
            } else {
                self.item(*g, *a)?
            };
            if !equal {
                return Ok(Outcome::Unequal(Reason::DifferentParts));
            }
        }
        Ok(Outcome::Equal(Reason::SameParts))
    }

    /// Two members: compared like answers, but without tolerance.
    pub(super) fn item(&mut self, gold: NodeId, answer: NodeId) -> Result<bool, Stop> {
        let tolerance = self.tolerance.take();
        let outcome = self.nodes(gold, answer);
        self.tolerance = tolerance;
        Ok(outcome?.is_equal())
    }

    fn in_any_order(
        &mut self,
        mut gold: Collection,
        mut answer: Collection,
    ) -> Result<Outcome, Stop> {
        if gold.items.len().max(answer.items.len()) > MAX_ITEMS {
            return Ok(Outcome::Unequal(Reason::NotProven));
        }
        // Solutions in brackets are a set, too; a list of numbers may count a root twice.
        let tuples = |items: &Items| {
            items.len() > 1
                && items
                    .iter()
                    .all(|item| matches!(self.tree.node(*item), Node::Sequence { .. }))
        };
        if gold.is_set || answer.is_set || (tuples(&gold.items) && tuples(&answer.items)) {
            for collection in [&mut gold, &mut answer] {
                let mut kept = Items::new();
                'items: for item in &collection.items {
                    for known in kept.clone() {
                        if self.item(known, *item)? {
                            continue 'items;
                        }
                    }
                    kept.push(*item);
                }
                collection.items = kept;
            }
        }
        if gold.items.len() != answer.items.len() {
            return Ok(Outcome::Unequal(Reason::DifferentParts));
        }
        // Same place first: lists mostly come in the same order.
        let mut left: Vec<Option<NodeId>> = answer.items.iter().copied().map(Some).collect();
        let count = left.len();
        for (index, item) in gold.items.iter().enumerate() {
            let mut found = false;
            for offset in 0..count {
                let at = (index + offset) % count;
                if let Some(candidate) = left[at]
                    && self.item(*item, candidate)?
                {
                    left[at] = None;
                    found = true;
                    break;
                }
            }
            if !found {
                return Ok(Outcome::Unequal(Reason::DifferentParts));
            }
        }
        Ok(Outcome::Equal(Reason::SameParts))
    }

    /// Two bracketed sequences: tuples, points, vectors.
    pub(super) fn sequences(&mut self, gold: NodeId, answer: NodeId) -> Result<Outcome, Stop> {
        let (
            Node::Sequence {
                open: o,
                close: c,
                kids: x,
            },
            Node::Sequence {
                open: p,
                close: d,
                kids: y,
            },
        ) = (self.tree.node(gold), self.tree.node(answer))
        else {
            return Ok(Outcome::Unequal(Reason::DifferentKind));
        };
        let plain = |bracket: Bracket| {
            if bracket == Bracket::Angle {
                Bracket::Round
            } else {
                bracket
            }
        };
        if plain(o) != plain(p) || plain(c) != plain(d) {
            return Ok(Outcome::Unequal(Reason::DifferentKind));
        }
        let (x, y) = (
            Items::from_slice(self.tree.kids(x)),
            Items::from_slice(self.tree.kids(y)),
        );
        self.in_order(&x, &y)
    }
}
