//! Numbers with error bounds: doubles for a quick refutation, long mantissas for a last judgement.
mod big;
mod complex;
mod double;
mod evaluate;

pub(crate) use big::{Big, Precision};
pub(crate) use complex::Complex;
pub(crate) use double::Double;
pub(crate) use evaluate::{Evaluator, POINTS};

use crate::fuel::Stop;
use crate::number::Rational;

/// A real number known to lie in an interval. Every operation encloses the exact result.
pub(crate) trait Real: Clone {
    /// What the precision is, and constants that belong to it.
    type Precision;

    fn from_rational(value: &Rational, precision: &Self::Precision) -> Self;
    fn pi(precision: &Self::Precision) -> Self;
    fn add(&self, other: &Self, precision: &Self::Precision) -> Self;
    fn neg(&self) -> Self;
    fn mul(&self, other: &Self, precision: &Self::Precision) -> Self;
    /// Fails when the divisor may be zero.
    fn div(&self, other: &Self, precision: &Self::Precision) -> Result<Self, Stop>;
    /// Of a number that is not negative for certain.
    fn sqrt(&self, precision: &Self::Precision) -> Result<Self, Stop>;
    fn exp(&self, precision: &Self::Precision) -> Result<Self, Stop>;
    /// Of a number that is positive for certain.
    fn ln(&self, precision: &Self::Precision) -> Result<Self, Stop>;
    fn sin(&self, precision: &Self::Precision) -> Result<Self, Stop>;
    fn cos(&self, precision: &Self::Precision) -> Result<Self, Stop>;
    fn atan(&self, precision: &Self::Precision) -> Result<Self, Stop>;
    /// 1 or -1 when the sign is certain, 0 when the number is exactly zero, else `None`.
    fn sign(&self) -> Option<i8>;
    /// The largest integer not above, when it is certain.
    fn floor(&self) -> Option<Rational>;
    /// Cost of one multiplication, in steps.
    fn cost(precision: &Self::Precision) -> usize;

    fn sub(&self, other: &Self, precision: &Self::Precision) -> Self {
        self.add(&other.neg(), precision)
    }
}
