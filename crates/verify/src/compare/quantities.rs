//! Values with units, percent and degree signs.
use super::{Judge, Outcome};
use crate::fuel::Stop;
use crate::syntax::units::Unit;
use crate::tree::{Constant, Node, NodeId, Symbol};
use crate::verdict::Reason;

/// A value without its sign or unit.
struct Quantity {
    value: NodeId,
    unit: Option<Unit>,
    percent: bool,
}

impl Judge<'_> {
    /// Compares two values with whatever is attached to them.
    ///
    /// A unit on one side only is dropped; two known units must mean the same. `p%` equals `p%`, `p` and
    /// `p/100`. A degree sign against a value with pi is converted.
    pub(super) fn quantities(&mut self, gold: NodeId, answer: NodeId) -> Result<Outcome, Stop> {
        let (g, a) = (self.quantity(gold), self.quantity(answer));
        let one_way = |x: &Quantity, y: &Quantity| {
            x.unit.as_ref().is_some_and(Unit::is_degree)
                && y.unit.as_ref().is_some_and(Unit::is_radian)
        };
        if one_way(&g, &a) {
            let radians = self.tree.push(Node::Degree(g.value));
            return self.values(radians, a.value);
        }
        if one_way(&a, &g) {
            let radians = self.tree.push(Node::Degree(a.value));
            return self.values(g.value, radians);
        }
        if let (Some(x), Some(y)) = (&g.unit, &a.unit)
            && x.contradicts(y)
        {
            return Ok(Outcome::Unequal(Reason::DifferentUnit));
        }
        let known_unit =
            |quantity: &Quantity| quantity.unit.as_ref().is_some_and(|unit| unit.recognised);
        if (g.percent && known_unit(&a)) || (a.percent && known_unit(&g)) {
            return Ok(Outcome::Unequal(Reason::DifferentUnit));
        }
        let outcome = self.values(g.value, a.value)?;
        if outcome.is_equal() {
            return Ok(outcome);
        }
        // The percent sign as a hundredth.
        if g.percent != a.percent {
            let hundredth = |this: &mut Self, value: NodeId| this.tree.push(Node::Percent(value));
            let other = if g.percent {
                let value = hundredth(self, g.value);
                self.values(value, a.value)?
            } else {
                let value = hundredth(self, a.value);
                self.values(g.value, value)?
            };
            if other.is_equal() {
                return Ok(other);
            }
        }
        if let Some(other) = self.angles(&g, &a)?
            && other.is_equal()
        {
            return Ok(other);
        }
        // What one side reads as a unit, the other may read as a product of symbols: "in", "9.8 m/s^2".
        for (quantity, other, bare) in
            [(&g, answer, a.unit.is_none()), (&a, gold, g.unit.is_none())]
        {
            let Some(unit) = quantity.unit.as_ref().filter(|_| bare) else {
                continue;
            };
            for symbols in [unit.letters.clone(), unit.symbols()].into_iter().flatten() {
                let product = self.with_symbols(quantity.value, &symbols);
                let other = self.values(product, other)?;
                if other.is_equal() {
                    return Ok(other);
                }
            }
        }
        Ok(outcome)
    }

    /// A value times powers of one-letter symbols.
    fn with_symbols(&mut self, value: NodeId, symbols: &[(u8, i8)]) -> NodeId {
        let mut factors = super::prepare::Items::from_slice(&[value]);
        for (letter, exponent) in symbols {
            let symbol = self.tree.push(match letter {
                b'i' => Node::Constant(Constant::I),
                b'e' => Node::Constant(Constant::E),
                letter => Node::Symbol(Symbol(u32::from(*letter))),
            });
            let exponent = self.tree.integer(i64::from(*exponent));
            factors.push(self.tree.push(Node::Pow(symbol, exponent)));
        }
        self.tree.mul(&factors)
    }

    /// Degrees against radians: only when one side has the sign and the other has pi.
    fn angles(&mut self, gold: &Quantity, answer: &Quantity) -> Result<Option<Outcome>, Stop> {
        let is_degree = |quantity: &Quantity| quantity.unit.as_ref().is_some_and(Unit::is_degree);
        let (degrees, other) = match (is_degree(gold), is_degree(answer)) {
            (true, false) if answer.unit.is_none() => (gold, answer),
            (false, true) if gold.unit.is_none() => (answer, gold),
            _ => return Ok(None),
        };
        let has_pi = |value: NodeId| {
            self.tree
                .any(value, &|node| node == Node::Constant(Constant::Pi))
        };
        if has_pi(degrees.value) || !has_pi(other.value) {
            return Ok(None);
        }
        let radians = self.tree.push(Node::Degree(degrees.value));
        self.values(other.value, radians).map(Some)
    }

    /// Splits off the sign or unit at the end of a value.
    fn quantity(&mut self, id: NodeId) -> Quantity {
        match self.tree.node(id) {
            Node::Percent(value) => Quantity {
                percent: true,
                ..self.quantity(value)
            },
            Node::Degree(value) => Quantity {
                value,
                unit: Some(Unit::degree()),
                percent: false,
            },
            Node::Quantity(value, unit) => {
                let unit = self.tree.unit(unit).clone();
                let inner = self.quantity(value);
                // `\$3 \text{ per hour}`: two units, of which only the whole would be known.
                let unit = if inner.unit.is_some() {
                    Unit::unknown()
                } else {
                    unit
                };
                Quantity {
                    value: inner.value,
                    unit: Some(unit),
                    percent: inner.percent,
                }
            }
            Node::Neg(value) => {
                let inner = self.quantity(value);
                if inner.unit.is_none() && !inner.percent {
                    return Quantity {
                        value: id,
                        unit: None,
                        percent: false,
                    };
                }
                let value = self.tree.push(Node::Neg(inner.value));
                Quantity { value, ..inner }
            }
            // `3 + 2\sqrt{2} \text{ cm}`: the unit of the last term is the unit of the sum.
            Node::Add(kids) | Node::Mul(kids) => {
                let kids = super::prepare::Items::from_slice(self.tree.kids(kids));
                let (Some(last), true) = (kids.last().copied(), kids.len() > 1) else {
                    return Quantity {
                        value: id,
                        unit: None,
                        percent: false,
                    };
                };
                if !matches!(
                    self.tree.node(last),
                    Node::Quantity(..) | Node::Percent(_) | Node::Degree(_)
                ) {
                    return Quantity {
                        value: id,
                        unit: None,
                        percent: false,
                    };
                }
                let earlier = kids[..kids.len() - 1].iter().any(|kid| {
                    matches!(
                        self.tree.node(*kid),
                        Node::Quantity(..) | Node::Degree(_) | Node::Percent(_)
                    )
                });
                if earlier {
                    return Quantity {
                        value: id,
                        unit: None,
                        percent: false,
                    };
                }
                let inner = self.quantity(last);
                let mut stripped = kids;
                if let Some(last) = stripped.last_mut() {
                    *last = inner.value;
                }
                let value = if matches!(self.tree.node(id), Node::Add(_)) {
                    self.tree.add(&stripped)
                } else {
                    self.tree.mul(&stripped)
                };
                Quantity { value, ..inner }
            }
            _ => Quantity {
                value: id,
                unit: None,
                percent: false,
            },
        }
    }
}
