//! Scalar expressions: the order of decisions, cheapest first.
//!
//! 1. plain rational arithmetic, exactly;
//! 2. refutation in double intervals at fixed points;
//! 3. canonical forms, exactly;
//! 4. intervals of several hundred bits, which refute, or agree to so many digits at so many points
//!    that chance is excluded.
use super::{Judge, Outcome};
use crate::algebra::{Algebra, Polynomial, rational_value};
use crate::fuel::Stop;
use crate::number::Rational;
use crate::numeric::{Big, Complex, Double, Evaluator, POINTS, Precision};
use crate::tree::{Function, Node, NodeId};
use crate::verdict::Reason;

/// Agreement to this many bits counts, beyond what the sizes of the numbers involved can explain.
const AGREEMENT_BITS: i64 = 192;
/// Points tried before the canonical form: one positive, one of mixed sign.
const EARLY_POINTS: [usize; 2] = [0, 2];

impl Judge<'_> {
    /// Compares two scalar expressions.
    pub(super) fn values(&mut self, gold: NodeId, answer: NodeId) -> Result<Outcome, Stop> {
        if self.tree.same(gold, answer) {
            return Ok(Outcome::Equal(Reason::SameCanonicalForm));
        }
        let (g, a) = (
            rational_value(&self.tree, gold, self.fuel),
            rational_value(&self.tree, answer, self.fuel),
        );
        if let (Some(g), Some(a)) = (&g, &a) {
            return Ok(if g == a {
                Outcome::Equal(Reason::SameNumber)
            } else if self.within_tolerance(g, a) {
                Outcome::Equal(Reason::WithinTolerance)
            } else {
                Outcome::Unequal(Reason::DifferentNumber)
            });
        }
        if self.fuel.is_empty() {
            return Err(Stop::OutOfFuel);
        }
        let has_symbols = self.has_symbols(gold) || self.has_symbols(answer);
        let has_bars = |id| {
            self.tree
                .any(id, &|node| matches!(node, Node::Call(Function::Abs, _)))
        };
        self.subscripted_positive = has_symbols && !has_bars(gold) && !has_bars(answer);
        if !has_symbols && self.tolerance.is_some() && self.close_enough(gold, answer)? {
            return Ok(Outcome::Equal(Reason::WithinTolerance));
        }
        let early: &[usize] = if has_symbols {
            &EARLY_POINTS
        } else {
            &EARLY_POINTS[..1]
        };
        for point in early {
            if self.refuted_at(*point, gold, answer)? {
                return Ok(Outcome::Unequal(if has_symbols {
                    Reason::DifferentValue
                } else {
                    Reason::DifferentNumber
                }));
            }
        }
        let mut digits = 0;
        match self.canonical(gold, answer) {
            Ok(Canonical::Equal { assumed_positive }) => {
                if assumed_positive {
                    for point in 0..POINTS {
                        if !early.contains(&point) && self.refuted_at(point, gold, answer)? {
                            return Ok(Outcome::Unequal(Reason::DifferentValue));
                        }
                    }
                }
                return Ok(Outcome::Equal(Reason::SameCanonicalForm));
            }
            Ok(Canonical::Different) => return Ok(Outcome::Unequal(Reason::DifferentValue)),
            Ok(Canonical::Open { bits }) => digits = bits,
            Err(Stop::Unsupported) => {}
            Err(Stop::OutOfFuel) => return Err(Stop::OutOfFuel),
        }
        if has_symbols {
            for point in 0..POINTS {
                if !early.contains(&point) && self.refuted_at(point, gold, answer)? {
                    return Ok(Outcome::Unequal(Reason::DifferentValue));
                }
            }
        }
        self.last_judgement(gold, answer, has_symbols, digits)
    }

    /// Does the tree hold a symbol, or a word or name that works like one?
    pub(super) fn has_symbols(&self, id: NodeId) -> bool {
        self.tree.any(id, &|node| {
            matches!(
                node,
                Node::Symbol(_) | Node::Index(..) | Node::Apply(..) | Node::Word(_) | Node::Text(_)
            )
        })
    }

    // ---- tolerance -------------------------------------------------------------------------------

    /// `|a - g| <= t |g|`, or `|a| <= t` for a zero gold, exactly.
    fn within_tolerance(&self, gold: &Rational, answer: &Rational) -> bool {
        let Some(tolerance) = self.tolerance.and_then(Rational::from_f64) else {
            return false;
        };
        let Ok(difference) = answer.sub(gold) else {
            return false;
        };
        let allowed = if gold.is_zero() {
            Ok(tolerance)
        } else {
            gold.abs().mul(&tolerance)
        };
        allowed.is_ok_and(|allowed| difference.abs() <= allowed)
    }

    /// The same for real constants that are not rational: true when certain.
    fn close_enough(&mut self, gold: NodeId, answer: NodeId) -> Result<bool, Stop> {
        let Some(tolerance) = self.tolerance else {
            return Ok(false);
        };
        let (Some(g), Some(a)) = (self.double(0, gold)?, self.double(0, answer)?) else {
            return Ok(false);
        };
        let (Ok(g), Ok(a)) = (g.as_real(), a.as_real()) else {
            return Ok(false);
        };
        let difference = (a.mid - g.mid).abs() + a.radius + g.radius;
        Ok(difference <= tolerance * (g.mid.abs() - g.radius))
    }

    // ---- intervals -------------------------------------------------------------------------------

    pub(super) fn double(&self, point: usize, id: NodeId) -> Result<Option<Complex<Double>>, Stop> {
        match Evaluator::<Double>::new(&self.tree, self.fuel, &(), point, self.subscripted_positive)
            .value(id)
        {
            Ok(value) => Ok(Some(value)),
            Err(Stop::Unsupported) => Ok(None),
            Err(stop) => Err(stop),
        }
    }

    /// True when the two differ at a point for certain.
    fn refuted_at(&self, point: usize, gold: NodeId, answer: NodeId) -> Result<bool, Stop> {
        let Some(g) = self.double(point, gold)? else {
            return Ok(false);
        };
        let Some(a) = self.double(point, answer)? else {
            return Ok(false);
        };
        let zero = Double {
            mid: 0.0,
            radius: 0.0,
        };
        Ok(g.re.excludes(&a.re)
            || g.im
                .as_ref()
                .unwrap_or(&zero)
                .excludes(a.im.as_ref().unwrap_or(&zero)))
    }

    fn canonical(&self, gold: NodeId, answer: NodeId) -> Result<Canonical, Stop> {
        let mut algebra = Algebra::new(&self.tree, self.fuel);
        let g = algebra.build(gold)?;
        let a = algebra.build(answer)?;
        if algebra.are_equal(&g, &a)? {
            return Ok(Canonical::Equal {
                assumed_positive: algebra.assumed_positive(),
            });
        }
        let difference = algebra.difference(&g, &a)?;
        if difference.as_constant().is_some() {
            return Ok(Canonical::Different);
        }
        Ok(Canonical::Open {
            bits: size(&difference),
        })
    }

    /// Long intervals at several points. Expressions with jumps are only ever refuted here.
    fn last_judgement(
        &mut self,
        gold: NodeId,
        answer: NodeId,
        has_symbols: bool,
        digits: u64,
    ) -> Result<Outcome, Stop> {
        let size = digits
            .max(self.literal_bits(gold))
            .max(self.literal_bits(answer));
        if size > 1024 {
            return Ok(Outcome::Unequal(Reason::NotProven));
        }
        let margin = AGREEMENT_BITS + 2 * size as i64;
        let precision = Precision::new((margin + 128) as u32);
        let (mut agreed, needed) = (0, if has_symbols { 3 } else { 1 });
        for point in 0..if has_symbols { POINTS } else { 1 } {
            let evaluate = |id: NodeId| match Evaluator::<Big>::new(
                &self.tree,
                self.fuel,
                &precision,
                point,
                self.subscripted_positive,
            )
            .value(id)
            {
                Ok(value) => Ok(Some(value)),
                Err(Stop::Unsupported) => Ok(None),
                Err(stop) => Err(stop),
            };
            let (Some(g), Some(a)) = (evaluate(gold)?, evaluate(answer)?) else {
                continue;
            };
            match agreement(&g, &a, &precision) {
                None => {
                    return Ok(Outcome::Unequal(if has_symbols {
                        Reason::DifferentValue
                    } else {
                        Reason::DifferentNumber
                    }));
                }
                Some(bits) if bits <= -margin => agreed += 1,
                Some(_) => {}
            }
        }
        let smooth = self.is_smooth(gold) && self.is_smooth(answer);
        Ok(if smooth && agreed >= needed {
            Outcome::Equal(Reason::SameValueAtPoints)
        } else {
            Outcome::Unequal(Reason::NotProven)
        })
    }

    /// No jumps: equality at points of general position carries over to all points.
    fn is_smooth(&self, id: NodeId) -> bool {
        !self.tree.any(id, &|node| {
            matches!(
                node,
                Node::Call(
                    Function::Floor
                        | Function::Ceil
                        | Function::Mod
                        | Function::Sign
                        | Function::Factorial
                        | Function::DoubleFactorial
                        | Function::Binomial
                        | Function::Gcd
                        | Function::Lcm
                        | Function::Min
                        | Function::Max,
                    _
                ) | Node::Bound(..)
            )
        })
    }

    /// Bits of the longest literal, as a measure of how close two different values of this kind can come.
    fn literal_bits(&self, id: NodeId) -> u64 {
        let mut bits = match self.tree.node(id) {
            Node::Number { index, .. } => self.tree.rational(index).bits(),
            // An exponent multiplies the length of its base.
            Node::Pow(a, b) => {
                match rational_value(&self.tree, b, self.fuel).and_then(|b| b.to_i64()) {
                    Some(power) => self.literal_bits(a).saturating_mul(power.unsigned_abs()),
                    None => 0,
                }
            }
            _ => 0,
        };
        self.tree
            .each_kid(id, |kid| bits = bits.max(self.literal_bits(kid)));
        bits
    }
}

/// What canonical forms say.
enum Canonical {
    Equal {
        assumed_positive: bool,
    },
    Different,
    /// The difference did not vanish, which need not mean anything; the size of its numbers.
    Open {
        bits: u64,
    },
}

fn size(difference: &Polynomial) -> u64 {
    difference.coefficient_bits()
}

/// `log2` of the relative distance that cannot be excluded; `None` when the two differ for certain.
fn agreement(g: &Complex<Big>, a: &Complex<Big>, precision: &Precision) -> Option<i64> {
    let zero = Big::zero();
    let (gi, ai) = (
        g.im.as_ref().unwrap_or(&zero),
        a.im.as_ref().unwrap_or(&zero),
    );
    let re = g.re.agreement(&a.re, precision)?;
    let im = gi.agreement(ai, precision)?;
    // Relative to the larger part; values that are themselves indistinguishable from 0 count as 2^-32.
    let scale = g.re.log2().max(gi.log2()).max(-32);
    Some(re.max(im) - scale)
}
