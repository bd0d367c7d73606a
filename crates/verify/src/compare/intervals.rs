//! Sets of real numbers: intervals, unions, inequalities, punctured lines.
use std::cmp::Ordering;

use super::labels::Labelled;
use super::prepare::Items;
use super::relations::reversed;
use super::{Judge, Outcome};
use crate::fuel::Stop;
use crate::tree::{Bracket, Constant, Node, NodeId, Relation, SetOperation};

/// An end of an interval. Infinite ends are never closed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    MinusInfinity,
    At(NodeId),
    PlusInfinity,
}

/// An interval, or a point when both ends are the same and closed.
#[derive(Clone, Copy, Debug)]
struct Piece {
    low: End,
    low_closed: bool,
    high: End,
    high_closed: bool,
}

const LINE: Piece = Piece {
    low: End::MinusInfinity,
    low_closed: false,
    high: End::PlusInfinity,
    high_closed: false,
};

/// A union of pieces, and the expression that is said to lie in it (`x`, `f(x)`), if any.
#[derive(Clone, Debug)]
struct RealSet {
    pieces: Vec<Piece>,
    subject: Option<NodeId>,
}

/// More pieces are not handled.
const MAX_PIECES: usize = 64;

impl Judge<'_> {
    /// True when the answer can only mean a set of reals: a bracket, an infinite end, a union, an
    /// inequality. `(1, 2)` alone may be a point, `x = 2` is an equation.
    pub(super) fn is_interval_like(&self, id: NodeId) -> bool {
        match self.tree.node(id) {
            Node::Sequence { open, close, kids } => {
                let kids = self.tree.kids(kids);
                kids.len() == 2
                    && (open == Bracket::Square
                        || close == Bracket::Square
                        || kids.iter().any(|kid| self.infinite(*kid).is_some()))
            }
            Node::SetOp(..) | Node::Constant(Constant::Reals) => true,
            Node::Chain { relations, kids } => {
                let members = self.tree.kids(kids);
                self.tree
                    .relations(relations, kids)
                    .iter()
                    .any(|relation| match relation {
                        Relation::Less
                        | Relation::LessEqual
                        | Relation::Greater
                        | Relation::GreaterEqual
                        | Relation::NotEqual => true,
                        Relation::In => members
                            .last()
                            .is_some_and(|last| self.is_interval_like(*last)),
                        _ => false,
                    })
            }
            Node::SetOf(_, condition) => self.is_interval_like(condition),
            Node::List(kids) => self.tree.kids(kids).iter().all(|kid| {
                self.is_interval_like(*kid) && matches!(self.tree.node(*kid), Node::Chain { .. })
            }),
            _ => false,
        }
    }

    fn infinite(&self, id: NodeId) -> Option<End> {
        match self.tree.node(id) {
            Node::Constant(Constant::Infinity) => Some(End::PlusInfinity),
            Node::Neg(inner)
                if matches!(self.tree.node(inner), Node::Constant(Constant::Infinity)) =>
            {
                Some(End::MinusInfinity)
            }
            _ => None,
        }
    }

    /// Compares two answers as sets of reals; `None` when one of them cannot be read as such a set.
    pub(super) fn solution_sets(
        &mut self,
        gold: NodeId,
        answer: NodeId,
    ) -> Result<Option<Outcome>, Stop> {
        let (Some(g), Some(a)) = (self.real_set(gold)?, self.real_set(answer)?) else {
            return Ok(None);
        };
        if let (Some(x), Some(y)) = (g.subject, a.subject)
            && !self.tree.same(x, y)
            && !self.values(x, y)?.is_equal()
        {
            // Perhaps the same relation scaled: `2x + 3y < 6` and `4x + 6y < 12`.
            return Ok(None);
        }
        let equal = match (
            self.normalised(g.pieces.clone())?,
            self.normalised(a.pieces.clone())?,
        ) {
            (Some(x), Some(y)) => self.same_pieces(&x, &y)?,
            // Ends that cannot be ordered: the pieces must match as they are written.
            _ => self.same_pieces(&g.pieces, &a.pieces)?,
        };
        Ok(Some(Outcome::parts(equal)))
    }

    // ---- reading ---------------------------------------------------------------------------------

    fn real_set(&mut self, id: NodeId) -> Result<Option<RealSet>, Stop> {
        self.fuel.spend(1)?;
        match self.tree.node(id) {
            Node::Sequence { open, close, kids } => {
                let &[low, high] = self.tree.kids(kids) else {
                    return Ok(None);
                };
                if open == Bracket::Angle || close == Bracket::Angle {
                    return Ok(None);
                }
                let end = |id: NodeId| self.infinite(id).unwrap_or(End::At(id));
                let (low, high) = (end(low), end(high));
                let is_scalar = |end: End| !matches!(end, End::At(id) if self.is_structured(id));
                if !is_scalar(low) || !is_scalar(high) {
                    return Ok(None);
                }
                let piece = Piece {
                    low,
                    low_closed: open == Bracket::Square && low != End::MinusInfinity,
                    high,
                    high_closed: close == Bracket::Square && high != End::PlusInfinity,
                };
                // `(15, -29)` is a point, not an empty interval.
                if self.is_empty(&piece)? {
                    return Ok(None);
                }
                Ok(Some(RealSet {
                    pieces: vec![piece],
                    subject: None,
                }))
            }
            Node::Constant(Constant::Reals) => Ok(Some(RealSet {
                pieces: vec![LINE],
                subject: None,
            })),
            Node::Constant(Constant::EmptySet) => Ok(Some(RealSet {
                pieces: Vec::new(),
                subject: None,
            })),
            Node::Set(kids) => {
                let items = Items::from_slice(self.tree.kids(kids));
                if items.len() > MAX_PIECES || items.iter().any(|item| self.is_structured(*item)) {
                    return Ok(None);
                }
                Ok(Some(RealSet {
                    pieces: items.iter().map(|item| point(*item)).collect(),
                    subject: None,
                }))
            }
            Node::SetOp(operation, a, b) => {
                let (Some(a), Some(b)) = (self.real_set(a)?, self.real_set(b)?) else {
                    return Ok(None);
                };
                let subject = a.subject.or(b.subject);
                let pieces = match operation {
                    SetOperation::Union => Some([a.pieces, b.pieces].concat()),
                    SetOperation::Intersection => self.intersection(&a.pieces, &b.pieces)?,
                    SetOperation::Difference => {
                        let outside = self.complement(b.pieces)?;
                        match outside {
                            Some(outside) => self.intersection(&a.pieces, &outside)?,
                            None => None,
                        }
                    }
                };
                Ok(pieces
                    .filter(|pieces| pieces.len() <= MAX_PIECES)
                    .map(|pieces| RealSet { pieces, subject }))
            }
            Node::SetOf(_, condition) => self.real_set(condition),
            Node::List(kids) => {
                let items = Items::from_slice(self.tree.kids(kids));
                self.joined_conditions(&items)
            }
            Node::Chain { .. } => self.condition(id),
            // A number among sets is a point: `x \ne 2` against `2`.
            _ if !self.is_structured(id) => Ok(Some(RealSet {
                pieces: vec![point(id)],
                subject: None,
            })),
            _ => Ok(None),
        }
    }

    /// Ends in the wrong order, or equal and not both included.
    fn is_empty(&mut self, piece: &Piece) -> Result<bool, Stop> {
        Ok(match self.order(piece.low, piece.high)? {
            Some(Ordering::Greater) => true,
            Some(Ordering::Equal) => !(piece.low_closed && piece.high_closed),
            Some(Ordering::Less) | None => false,
        })
    }

    /// Not a scalar: brackets, lists, relations, matrices, words.
    fn is_structured(&self, id: NodeId) -> bool {
        matches!(
            self.tree.node(id),
            Node::Sequence { .. }
                | Node::Set(_)
                | Node::SetOf(..)
                | Node::List(_)
                | Node::Chain { .. }
                | Node::Congruence(..)
                | Node::SetOp(..)
                | Node::Matrix { .. }
                | Node::Text(_)
                | Node::Dots
                | Node::Ratio(_)
        )
    }

    /// Conditions side by side hold together when they can, as in `x > 2, x \ne 5`; when nothing
    /// satisfies all of them they are alternatives, as in `x < 1, x > 2`.
    fn joined_conditions(&mut self, items: &[NodeId]) -> Result<Option<RealSet>, Stop> {
        let mut sets = Vec::new();
        for item in items {
            match self.real_set(*item)? {
                Some(set) if matches!(self.tree.node(*item), Node::Chain { .. }) => sets.push(set),
                _ => return Ok(None),
            }
        }
        let Some(first) = sets.first() else {
            return Ok(None);
        };
        let subject = first.subject;
        for set in &sets[1..] {
            match (subject, set.subject) {
                (Some(x), Some(y)) if !self.tree.same(x, y) => return Ok(None),
                _ => {}
            }
        }
        let mut both = Some(first.pieces.clone());
        for set in &sets[1..] {
            both = match both {
                Some(pieces) => self.intersection(&pieces, &set.pieces)?,
                None => None,
            };
        }
        let pieces = match both {
            Some(pieces) if !pieces.is_empty() => pieces,
            _ => sets.iter().flat_map(|set| set.pieces.clone()).collect(),
        };
        Ok((pieces.len() <= MAX_PIECES).then_some(RealSet { pieces, subject }))
    }

    /// `a < x \le b`, `x \ne c`, `x \in S`, `x = c`.
    fn condition(&mut self, id: NodeId) -> Result<Option<RealSet>, Stop> {
        let Node::Chain { relations, kids } = self.tree.node(id) else {
            return Ok(None);
        };
        let relations = self.tree.relations(relations, kids).to_vec();
        let members = Items::from_slice(self.tree.kids(kids));
        if let (&[Relation::In], &[label, set]) = (relations.as_slice(), members.as_slice()) {
            if !self.is_label(label) {
                return Ok(None);
            }
            return Ok(self.real_set(set)?.map(|set| RealSet {
                subject: Some(label),
                ..set
            }));
        }
        if let Some(Labelled {
            label,
            values,
            approximate: false,
        }) = self.labelled(id)
            && let &[value] = values.as_slice()
        {
            return Ok(self.real_set(value)?.map(|set| RealSet {
                subject: Some(label),
                ..set
            }));
        }
        match (members.as_slice(), relations.as_slice()) {
            (&[a, b], &[relation]) => {
                // The side that varies is the subject: the lone symbol, else the one with symbols at all.
                let lone = |id: NodeId| {
                    matches!(
                        self.tree.node(id),
                        Node::Symbol(_) | Node::Apply(..) | Node::Index(..)
                    )
                };
                let (subject, bound, relation) = match (self.has_symbols(a), self.has_symbols(b)) {
                    (true, false) => (a, b, relation),
                    (false, true) => (b, a, reversed(relation)),
                    (true, true) if lone(a) && !lone(b) => (a, b, relation),
                    (true, true) if lone(b) && !lone(a) => (b, a, reversed(relation)),
                    _ => return Ok(None),
                };
                let (subject, bounds, flipped) = self.solved(subject, &[bound])?;
                let relation = if flipped {
                    reversed(relation)
                } else {
                    relation
                };
                let end = self.end(bounds[0]);
                let pieces = match relation {
                    Relation::Less | Relation::LessEqual => vec![Piece {
                        high: end,
                        high_closed: relation == Relation::LessEqual,
                        ..LINE
                    }],
                    Relation::Greater | Relation::GreaterEqual => vec![Piece {
                        low: end,
                        low_closed: relation == Relation::GreaterEqual,
                        ..LINE
                    }],
                    Relation::NotEqual => {
                        vec![Piece { high: end, ..LINE }, Piece { low: end, ..LINE }]
                    }
                    _ => return Ok(None),
                };
                Ok(Some(RealSet {
                    pieces,
                    subject: Some(subject),
                }))
            }
            (&[a, middle, b], &[left, right]) => {
                let upward = |relation| matches!(relation, Relation::Less | Relation::LessEqual);
                let downward =
                    |relation| matches!(relation, Relation::Greater | Relation::GreaterEqual);
                let (low, high, left, right) = if upward(left) && upward(right) {
                    (a, b, left, right)
                } else if downward(left) && downward(right) {
                    (b, a, reversed(right), reversed(left))
                } else {
                    return Ok(None);
                };
                if !self.has_symbols(middle) {
                    return Ok(None);
                }
                let (subject, bounds, flipped) = self.solved(middle, &[low, high])?;
                let (low, high) = if flipped {
                    (bounds[1], bounds[0])
                } else {
                    (bounds[0], bounds[1])
                };
                let (left, right) = if flipped {
                    (right, left)
                } else {
                    (left, right)
                };
                let piece = Piece {
                    low: self.end(low),
                    low_closed: left == Relation::LessEqual,
                    high: self.end(high),
                    high_closed: right == Relation::LessEqual,
                };
                Ok(Some(RealSet {
                    pieces: vec![piece],
                    subject: Some(subject),
                }))
            }
            _ => Ok(None),
        }
    }

    fn end(&self, id: NodeId) -> End {
        self.infinite(id).unwrap_or(End::At(id))
    }

    /// Solves `c x + d` for its symbol: the symbol, the transformed bounds, and whether the direction
    /// turned. Anything else stays as it is.
    fn solved(
        &mut self,
        subject: NodeId,
        bounds: &[NodeId],
    ) -> Result<(NodeId, Items, bool), Stop> {
        let unsolved = (subject, Items::from_slice(bounds), false);
        if matches!(self.tree.node(subject), Node::Symbol(_)) {
            return Ok(unsolved);
        }
        let linear = {
            let mut algebra = crate::algebra::Algebra::new(&self.tree, self.fuel);
            match algebra.build(subject) {
                Ok(value) => algebra.linear(&value),
                Err(Stop::Unsupported) => None,
                Err(stop) => return Err(stop),
            }
        };
        let Some((symbol, slope, offset)) = linear else {
            return Ok(unsolved);
        };
        let flipped = slope.is_negative();
        let (slope, minus_offset) = (
            self.tree.number(slope, false),
            self.tree.number(offset.neg(), false),
        );
        let mut moved = Items::new();
        for bound in bounds {
            moved.push(match self.infinite(*bound) {
                Some(end) if flipped => {
                    let infinity = self.tree.push(Node::Constant(Constant::Infinity));
                    if end == End::PlusInfinity {
                        self.tree.push(Node::Neg(infinity))
                    } else {
                        infinity
                    }
                }
                Some(_) => *bound,
                None => {
                    let shifted = self.tree.add(&[*bound, minus_offset]);
                    self.tree.push(Node::Div(shifted, slope))
                }
            });
        }
        let subject = self.tree.push(Node::Symbol(symbol));
        Ok((subject, moved, flipped))
    }

    // ---- order -----------------------------------------------------------------------------------

    /// The order of two ends; `None` when it cannot be decided.
    fn order(&mut self, a: End, b: End) -> Result<Option<Ordering>, Stop> {
        let (x, y) = match (a, b) {
            (End::At(x), End::At(y)) => (x, y),
            (End::MinusInfinity, End::MinusInfinity) | (End::PlusInfinity, End::PlusInfinity) => {
                return Ok(Some(Ordering::Equal));
            }
            (End::MinusInfinity, _) | (_, End::PlusInfinity) => return Ok(Some(Ordering::Less)),
            (End::PlusInfinity, _) | (_, End::MinusInfinity) => return Ok(Some(Ordering::Greater)),
        };
        if self.tree.same(x, y) {
            return Ok(Some(Ordering::Equal));
        }
        if self.has_symbols(x) || self.has_symbols(y) {
            return Ok(if self.item(x, y)? {
                Some(Ordering::Equal)
            } else {
                None
            });
        }
        if let (Some(p), Some(q)) = (self.double(0, x)?, self.double(0, y)?)
            && let (Ok(p), Ok(q)) = (p.as_real(), q.as_real())
            && p.excludes(q)
        {
            return Ok(p.mid.partial_cmp(&q.mid));
        }
        Ok(if self.item(x, y)? {
            Some(Ordering::Equal)
        } else {
            None
        })
    }

    /// Disjoint pieces in order, adjacent ones merged, empty ones dropped; `None` when ends cannot be ordered.
    fn normalised(&mut self, pieces: Vec<Piece>) -> Result<Option<Vec<Piece>>, Stop> {
        let mut sorted: Vec<Piece> = Vec::with_capacity(pieces.len());
        for piece in pieces {
            match self.order(piece.low, piece.high)? {
                None => return Ok(None),
                Some(Ordering::Greater) => continue,
                Some(Ordering::Equal) if !(piece.low_closed && piece.high_closed) => continue,
                Some(_) => {}
            }
            // Insertion: closed ends come first at the same place.
            let mut at = sorted.len();
            while at > 0 {
                match self.order(sorted[at - 1].low, piece.low)? {
                    None => return Ok(None),
                    Some(Ordering::Greater) => at -= 1,
                    Some(Ordering::Equal) if piece.low_closed && !sorted[at - 1].low_closed => {
                        at -= 1
                    }
                    Some(_) => break,
                }
            }
            sorted.insert(at, piece);
        }
        let mut merged: Vec<Piece> = Vec::with_capacity(sorted.len());
        for piece in sorted {
            let Some(last) = merged.last().copied() else {
                merged.push(piece);
                continue;
            };
            let gap = match self.order(last.high, piece.low)? {
                None => return Ok(None),
                Some(Ordering::Less) => true,
                Some(Ordering::Equal) => !last.high_closed && !piece.low_closed,
                Some(Ordering::Greater) => false,
            };
            if gap {
                merged.push(piece);
                continue;
            }
            let (high, high_closed) = match self.order(last.high, piece.high)? {
                None => return Ok(None),
                Some(Ordering::Less) => (piece.high, piece.high_closed),
                Some(Ordering::Equal) => (last.high, last.high_closed || piece.high_closed),
                Some(Ordering::Greater) => (last.high, last.high_closed),
            };
            if let Some(last) = merged.last_mut() {
                (last.high, last.high_closed) = (high, high_closed);
            }
        }
        Ok(Some(merged))
    }

    fn intersection(&mut self, a: &[Piece], b: &[Piece]) -> Result<Option<Vec<Piece>>, Stop> {
        let mut common = Vec::new();
        for x in a {
            for y in b {
                let (Some(low), Some(high)) =
                    (self.order(x.low, y.low)?, self.order(x.high, y.high)?)
                else {
                    return Ok(None);
                };
                let (low, low_closed) = match low {
                    Ordering::Less => (y.low, y.low_closed),
                    Ordering::Equal => (x.low, x.low_closed && y.low_closed),
                    Ordering::Greater => (x.low, x.low_closed),
                };
                let (high, high_closed) = match high {
                    Ordering::Less => (x.high, x.high_closed),
                    Ordering::Equal => (x.high, x.high_closed && y.high_closed),
                    Ordering::Greater => (y.high, y.high_closed),
                };
                common.push(Piece {
                    low,
                    low_closed,
                    high,
                    high_closed,
                });
                if common.len() > MAX_PIECES * 4 {
                    return Ok(None);
                }
            }
        }
        self.normalised(common)
    }

    /// Everything outside.
    fn complement(&mut self, pieces: Vec<Piece>) -> Result<Option<Vec<Piece>>, Stop> {
        let Some(pieces) = self.normalised(pieces)? else {
            return Ok(None);
        };
        let mut outside = Vec::with_capacity(pieces.len() + 1);
        let mut from = (End::MinusInfinity, false);
        for piece in &pieces {
            if piece.low != End::MinusInfinity {
                outside.push(Piece {
                    low: from.0,
                    low_closed: from.1,
                    high: piece.low,
                    high_closed: !piece.low_closed,
                });
            }
            from = (piece.high, !piece.high_closed);
        }
        if from.0 != End::PlusInfinity {
            outside.push(Piece {
                low: from.0,
                low_closed: from.1,
                ..LINE
            });
        }
        Ok(Some(outside))
    }

    fn same_pieces(&mut self, a: &[Piece], b: &[Piece]) -> Result<bool, Stop> {
        if a.len() != b.len() {
            return Ok(false);
        }
        for (x, y) in a.iter().zip(b) {
            if x.low_closed != y.low_closed || x.high_closed != y.high_closed {
                return Ok(false);
            }
            for (p, q) in [(x.low, y.low), (x.high, y.high)] {
                let same = match (p, q) {
                    (End::At(p), End::At(q)) => self.item(p, q)?,
                    (p, q) => p == q,
                };
                if !same {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}

fn point(id: NodeId) -> Piece {
    Piece {
        low: End::At(id),
        low_closed: true,
        high: End::At(id),
        high_closed: true,
    }
}
