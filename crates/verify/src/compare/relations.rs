//! Equations, inequalities, ratios and other relations.
use super::prepare::Items;
use super::{Judge, Outcome};
use crate::algebra::Algebra;
use crate::fuel::Stop;
use crate::tree::{Node, NodeId, Relation};
use crate::verdict::Reason;

impl Judge<'_> {
    /// Two answers of which at least one is a relation.
    pub(super) fn relations(&mut self, gold: NodeId, answer: NodeId) -> Result<Outcome, Stop> {
        if let (Node::Congruence(a, b, m), Node::Congruence(c, d, n)) =
            (self.tree.node(gold), self.tree.node(answer))
        {
            return self.congruences([a, b, m], [c, d, n]);
        }
        let (is_chain, other_is_chain) = (self.is_chain(gold), self.is_chain(answer));
        let (g, a) = (self.labelled(gold), self.labelled(answer));
        match (g, a) {
            (Some(g), Some(a)) if self.tree.same(g.label, a.label) => {
                let (approximate, exact) = (
                    g.approximate || a.approximate,
                    !(g.approximate || a.approximate),
                );
                if exact || approximate {
                    let outcome = self.all_members(&g.values, &a.values)?;
                    if outcome.is_equal() {
                        return Ok(outcome);
                    }
                }
                self.equations(gold, answer)
            }
            (Some(_), Some(_)) => self.equations(gold, answer),
            (Some(g), None) if !other_is_chain => self.all_members(&g.values, &[answer]),
            (None, Some(a)) if !is_chain => self.all_members(&[gold], &a.values),
            _ if is_chain && other_is_chain => self.equations(gold, answer),
            _ => self.value_chain(gold, answer),
        }
    }

    fn is_chain(&self, id: NodeId) -> bool {
        matches!(
            self.tree.node(id),
            Node::Chain { .. } | Node::Congruence(..)
        )
    }

    /// Every member of one side equals every member of the other: `x = a = b` says that a is b.
    fn all_members(&mut self, gold: &[NodeId], answer: &[NodeId]) -> Result<Outcome, Stop> {
        let mut last = Outcome::Unequal(Reason::DifferentParts);
        for g in gold {
            for a in answer {
                last = self.nodes(*g, *a)?;
                if !last.is_equal() {
                    return Ok(last);
                }
            }
        }
        Ok(last)
    }

    /// An unlabelled chain of constants against a value: `\frac12 = 0.5`, all members equal; or
    /// `\sqrt 2 \approx 1.414`, where the exact member counts.
    fn value_chain(&mut self, gold: NodeId, answer: NodeId) -> Result<Outcome, Stop> {
        let (chain, value, swapped) = if self.is_chain(gold) {
            (gold, answer, true)
        } else {
            (answer, gold, false)
        };
        let Node::Chain { relations, kids } = self.tree.node(chain) else {
            return Ok(Outcome::Unequal(Reason::DifferentKind));
        };
        let members = Items::from_slice(self.tree.kids(kids));
        let relations = self.tree.relations(relations, kids).to_vec();
        if members.iter().any(|member| self.has_symbols(*member)) {
            return Ok(Outcome::Unequal(Reason::DifferentKind));
        }
        let mut compare = |member: NodeId| {
            if swapped {
                self.nodes(member, value)
            } else {
                self.nodes(value, member)
            }
        };
        if relations
            .iter()
            .all(|relation| *relation == Relation::Equal)
        {
            let mut last = Outcome::Unequal(Reason::DifferentParts);
            for member in members {
                last = compare(member)?;
                if !last.is_equal() {
                    return Ok(last);
                }
            }
            return Ok(last);
        }
        if relations == [Relation::Approximately] {
            let exact = compare(members[0])?;
            return if exact.is_equal() || !swapped {
                Ok(exact)
            } else {
                compare(members[1])
            };
        }
        Ok(Outcome::Unequal(Reason::DifferentKind))
    }

    /// Two relations: member by member, turned round, or proportional after moving everything to one side.
    fn equations(&mut self, gold: NodeId, answer: NodeId) -> Result<Outcome, Stop> {
        let (
            Node::Chain {
                relations: r,
                kids: x,
            },
            Node::Chain {
                relations: s,
                kids: y,
            },
        ) = (self.tree.node(gold), self.tree.node(answer))
        else {
            return Ok(Outcome::Unequal(Reason::DifferentKind));
        };
        let (r, s) = (
            self.tree.relations(r, x).to_vec(),
            self.tree.relations(s, y).to_vec(),
        );
        let (x, y) = (
            Items::from_slice(self.tree.kids(x)),
            Items::from_slice(self.tree.kids(y)),
        );
        if r == s && x.len() == y.len() && self.pairwise(&x, &y)? {
            return Ok(Outcome::Equal(Reason::SameParts));
        }
        let turned: Vec<Relation> = s.iter().rev().map(|relation| reversed(*relation)).collect();
        let backwards: Items = y.iter().rev().copied().collect();
        if r == turned && x.len() == y.len() && self.pairwise(&x, &backwards)? {
            return Ok(Outcome::Equal(Reason::SameParts));
        }
        if let ([relation], [other], [a, b], [c, d]) =
            (r.as_slice(), s.as_slice(), x.as_slice(), y.as_slice())
        {
            return match self.proportional([*a, *b], [*c, *d], *relation, *other) {
                Ok(true) => Ok(Outcome::Equal(Reason::SameCanonicalForm)),
                Ok(false) => Ok(Outcome::Unequal(Reason::DifferentValue)),
                Err(Stop::Unsupported) => Ok(Outcome::Unequal(Reason::NotProven)),
                Err(stop) => Err(stop),
            };
        }
        Ok(Outcome::Unequal(Reason::DifferentParts))
    }

    fn pairwise(&mut self, gold: &[NodeId], answer: &[NodeId]) -> Result<bool, Stop> {
        for (g, a) in gold.iter().zip(answer) {
            if !self.item(*g, *a)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// `a R b` and `c S d` as `u R 0` and `v S 0`: is `u = k v` with a constant k of fitting sign?
    fn proportional(
        &self,
        [a, b]: [NodeId; 2],
        [c, d]: [NodeId; 2],
        relation: Relation,
        other: Relation,
    ) -> Result<bool, Stop> {
        let symmetric =
            |relation: Relation| matches!(relation, Relation::Equal | Relation::NotEqual);
        let mut algebra = Algebra::new(&self.tree, self.fuel);
        let (a, b, c, d) = (
            algebra.build(a)?,
            algebra.build(b)?,
            algebra.build(c)?,
            algebra.build(d)?,
        );
        let (u, v) = (algebra.subtract(&a, &b)?, algebra.subtract(&c, &d)?);
        if algebra.assumed_positive() {
            return Ok(false);
        }
        if symmetric(relation) {
            let (u, v) = (algebra.equation(&u)?, algebra.equation(&v)?);
            return Ok(relation == other && algebra.is_constant_multiple(&u, &v)?);
        }
        if !matches!(
            relation,
            Relation::Less | Relation::LessEqual | Relation::Greater | Relation::GreaterEqual
        ) {
            return Ok(false);
        }
        // A denominator could change sign; a factor must be a number whose sign is known.
        if !u.has_unit_denominator() || !v.has_unit_denominator() {
            return Ok(false);
        }
        Ok(match algebra.proportion(u.numerator(), v.numerator())? {
            Some(factor) => {
                relation
                    == if factor.is_negative() {
                        reversed(other)
                    } else {
                        other
                    }
            }
            None => false,
        })
    }

    /// `a = b (mod m)`: same modulus, same left side, right sides that differ by a multiple of it.
    fn congruences(
        &mut self,
        [a, b, m]: [NodeId; 3],
        [c, d, n]: [NodeId; 3],
    ) -> Result<Outcome, Stop> {
        if !self.item(m, n)? || !self.item(a, c)? {
            return Ok(Outcome::Unequal(Reason::DifferentParts));
        }
        if self.item(b, d)? {
            return Ok(Outcome::Equal(Reason::SameParts));
        }
        let value = |id| crate::algebra::rational_value(&self.tree, id, self.fuel);
        let (Some(b), Some(d), Some(m)) = (value(b), value(d), value(m)) else {
            return Ok(Outcome::Unequal(Reason::DifferentParts));
        };
        let multiple = b
            .sub(&d)
            .and_then(|difference| difference.div(&m))
            .is_ok_and(|quotient| quotient.is_integer());
        Ok(Outcome::parts(multiple))
    }

    /// A ratio against a ratio, proportional; or against a number, as a quotient.
    pub(super) fn ratios(&mut self, gold: NodeId, answer: NodeId) -> Result<Outcome, Stop> {
        let parts = |this: &Self, id: NodeId| match this.tree.node(id) {
            Node::Ratio(kids) => Some(Items::from_slice(this.tree.kids(kids))),
            _ => None,
        };
        match (parts(self, gold), parts(self, answer)) {
            (Some(g), Some(a)) if g.len() == a.len() => {
                for at in 1..g.len() {
                    // g0 : gk = a0 : ak when g0 ak = gk a0.
                    let left = self.tree.mul(&[g[0], a[at]]);
                    let right = self.tree.mul(&[g[at], a[0]]);
                    if !self.values(left, right)?.is_equal() {
                        return Ok(Outcome::Unequal(Reason::DifferentParts));
                    }
                }
                // 0 : 0 is proportional to everything.
                let zero = self.tree.integer(0);
                for part in g.iter().chain(&a) {
                    if self.values(*part, zero)?.is_equal() {
                        return Ok(Outcome::parts(self.pairwise(&g, &a)?));
                    }
                }
                Ok(Outcome::Equal(Reason::SameParts))
            }
            (Some(_), Some(_)) => Ok(Outcome::Unequal(Reason::DifferentParts)),
            (Some(parts), None) | (None, Some(parts)) if parts.len() != 2 => {
                Ok(Outcome::Unequal(Reason::DifferentKind))
            }
            _ => self.values(gold, answer),
        }
    }

    /// `\{x \mid condition\}` against the like, or against the condition itself.
    pub(super) fn sets_of(&mut self, gold: NodeId, answer: NodeId) -> Result<Outcome, Stop> {
        match (self.tree.node(gold), self.tree.node(answer)) {
            (Node::SetOf(a, x), Node::SetOf(b, y)) => {
                Ok(Outcome::parts(self.item(a, b)? && self.item(x, y)?))
            }
            (Node::SetOf(_, condition), _) => self.nodes(condition, answer),
            (_, Node::SetOf(_, condition)) => self.nodes(gold, condition),
            _ => Ok(Outcome::Unequal(Reason::DifferentKind)),
        }
    }
}

/// The relation read from right to left.
pub(super) const fn reversed(relation: Relation) -> Relation {
    match relation {
        Relation::Less => Relation::Greater,
        Relation::LessEqual => Relation::GreaterEqual,
        Relation::Greater => Relation::Less,
        Relation::GreaterEqual => Relation::LessEqual,
        other => other,
    }
}
