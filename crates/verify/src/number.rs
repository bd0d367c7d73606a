//! Exact rational numbers: machine words while they fit, big integers beyond.
use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

use num_bigint::{BigInt, Sign};
use num_integer::Integer;
use num_traits::{One, Signed, ToPrimitive, Zero};

use crate::fuel::Stop;
use crate::gcd::{gcd, gcd_u128, remove_factor};

/// Largest numerator or denominator that is computed, in bits. Larger powers stay symbolic.
pub(crate) const MAX_BITS: u64 = 1 << 14;

/// A rational number in lowest terms, denominator positive.
#[derive(Clone, Debug)]
pub(crate) enum Rational {
    /// Numerator and denominator in machine words; always used when both fit.
    Small(i64, i64),
    /// Otherwise.
    Big(Box<(BigInt, BigInt)>),
}

use Rational::{Big, Small};

impl Rational {
    pub(crate) const ZERO: Self = Small(0, 1);
    pub(crate) const ONE: Self = Small(1, 1);
    pub(crate) const MINUS_ONE: Self = Small(-1, 1);
    pub(crate) const HALF: Self = Small(1, 2);

    pub(crate) const fn integer(n: i64) -> Self {
        Small(n, 1)
    }

    /// `n / d` for a non-zero `d`; `None` for zero.
    pub(crate) fn ratio(n: i64, d: i64) -> Option<Self> {
        (d != 0).then(|| Self::from_i128(i128::from(n), i128::from(d)))
    }

    /// `n / d`, `d` not zero.
    fn from_i128(n: i128, d: i128) -> Self {
        let (mut n, mut d) = if d < 0 { (-n, -d) } else { (n, d) };
        if d != 1 {
            let g = gcd_u128(n.unsigned_abs(), d.unsigned_abs());
            if g > 1 {
                // g divides d, so it fits an i128 whenever d does.
                n /= g as i128;
                d /= g as i128;
            }
        }
        match (i64::try_from(n), i64::try_from(d)) {
            (Ok(n), Ok(d)) => Small(n, d),
            _ => Big(Box::new((BigInt::from(n), BigInt::from(d)))),
        }
    }

    /// `n / d` in lowest terms; `None` for a zero denominator.
    pub(crate) fn from_big(n: BigInt, d: BigInt) -> Option<Self> {
        if d.is_zero() {
            return None;
        }
        if d.is_one() {
            return Some(Self::from_coprime(n, d));
        }
        let g = gcd(&n, &d);
        let (mut n, mut d) = if g.is_one() { (n, d) } else { (n / &g, d / &g) };
        if d.is_negative() {
            (n, d) = (-n, -d);
        }
        Some(Self::from_coprime(n, d))
    }

    /// `n / d` of coprime integers, `d` positive.
    fn from_coprime(n: BigInt, d: BigInt) -> Self {
        match (n.to_i64(), d.to_i64()) {
            (Some(n), Some(d)) => Small(n, d),
            _ => Big(Box::new((n, d))),
        }
    }

    /// What an operation on this number costs, in steps. For a fraction the greatest common divisor dominates.
    pub(crate) fn cost(&self) -> usize {
        match self {
            Small(_, 1) => 1,
            Small(..) => 2,
            Big(b) => {
                let limbs = (self.bits() / 64) as usize;
                if b.1.is_one() {
                    1 + limbs * limbs / 16
                } else {
                    10 + limbs * limbs / 4
                }
            }
        }
    }

    /// The value of a finite double, exactly.
    pub(crate) fn from_f64(value: f64) -> Option<Self> {
        if !value.is_finite() {
            return None;
        }
        let bits = value.to_bits();
        let exponent = ((bits >> 52) & 0x7ff) as i64;
        let fraction = bits & ((1 << 52) - 1);
        let (mantissa, exponent) = if exponent == 0 {
            (fraction, -1074)
        } else {
            (fraction | 1 << 52, exponent - 1075)
        };
        let mantissa = BigInt::from_biguint(
            if value < 0.0 { Sign::Minus } else { Sign::Plus },
            mantissa.into(),
        );
        if exponent >= 0 {
            Self::from_big(mantissa << exponent, BigInt::one())
        } else {
            Self::from_big(mantissa, BigInt::one() << -exponent)
        }
    }

    pub(crate) fn numerator(&self) -> BigInt {
        match self {
            Small(n, _) => BigInt::from(*n),
            Big(b) => b.0.clone(),
        }
    }

    pub(crate) fn denominator(&self) -> BigInt {
        match self {
            Small(_, d) => BigInt::from(*d),
            Big(b) => b.1.clone(),
        }
    }

    #[inline]
    pub(crate) fn is_zero(&self) -> bool {
        matches!(self, Small(0, _))
    }

    #[inline]
    pub(crate) fn is_one(&self) -> bool {
        matches!(self, Small(1, 1))
    }

    pub(crate) fn is_negative(&self) -> bool {
        match self {
            Small(n, _) => *n < 0,
            Big(b) => b.0.is_negative(),
        }
    }

    pub(crate) fn is_integer(&self) -> bool {
        match self {
            Small(_, d) => *d == 1,
            Big(b) => b.1.is_one(),
        }
    }

    /// The value when it is an integer that fits.
    pub(crate) fn to_i64(&self) -> Option<i64> {
        match self {
            Small(n, 1) => Some(*n),
            _ => None,
        }
    }

    /// Numerator and denominator when both fit.
    pub(crate) fn to_small(&self) -> Option<(i64, i64)> {
        match self {
            Small(n, d) => Some((*n, *d)),
            Big(_) => None,
        }
    }

    /// Bits of the larger of numerator and denominator.
    pub(crate) fn bits(&self) -> u64 {
        match self {
            Small(n, d) => u64::from(64 - n.unsigned_abs().max(d.unsigned_abs()).leading_zeros()),
            Big(b) => b.0.bits().max(b.1.bits()),
        }
    }

    fn limited(self) -> Result<Self, Stop> {
        if self.bits() > MAX_BITS {
            Err(Stop::Unsupported)
        } else {
            Ok(self)
        }
    }

    fn parts(&self) -> (BigInt, BigInt) {
        (self.numerator(), self.denominator())
    }

    pub(crate) fn add(&self, other: &Self) -> Result<Self, Stop> {
        if let (Small(a, b), Small(c, d)) = (self, other) {
            if *b == 1
                && *d == 1
                && let Some(sum) = a.checked_add(*c)
            {
                return Ok(Small(sum, 1));
            }
            let left = i128::from(*a) * i128::from(*d);
            if let Some(sum) = left.checked_add(i128::from(*c) * i128::from(*b)) {
                return Ok(Self::from_i128(sum, i128::from(*b) * i128::from(*d)));
            }
        }
        let ((a, b), (c, d)) = (self.parts(), other.parts());
        if b == d {
            return Self::from_big(a + c, b).ok_or(Stop::Unsupported)?.limited();
        }
        Self::from_big(a * &d + c * &b, b * d)
            .ok_or(Stop::Unsupported)?
            .limited()
    }

    pub(crate) fn sub(&self, other: &Self) -> Result<Self, Stop> {
        self.add(&other.neg())
    }

    pub(crate) fn neg(&self) -> Self {
        match self {
            Small(n, d) => match n.checked_neg() {
                Some(n) => Small(n, *d),
                None => Self::from_i128(-i128::from(*n), i128::from(*d)),
            },
            Big(b) => Self::from_big(-&b.0, b.1.clone()).unwrap_or(Self::ZERO),
        }
    }

    pub(crate) fn mul(&self, other: &Self) -> Result<Self, Stop> {
        if let (Small(a, b), Small(c, d)) = (self, other) {
            return Ok(Self::from_i128(
                i128::from(*a) * i128::from(*c),
                i128::from(*b) * i128::from(*d),
            ));
        }
        let ((a, b), (c, d)) = (self.parts(), other.parts());
        Self::from_big(a * c, b * d)
            .ok_or(Stop::Unsupported)?
            .limited()
    }

    /// The reciprocal; an error for zero.
    pub(crate) fn inverse(&self) -> Result<Self, Stop> {
        match self {
            Small(0, _) => Err(Stop::Unsupported),
            Small(n, d) => Ok(Self::from_i128(i128::from(*d), i128::from(*n))),
            Big(b) => Self::from_big(b.1.clone(), b.0.clone()).ok_or(Stop::Unsupported),
        }
    }

    pub(crate) fn div(&self, other: &Self) -> Result<Self, Stop> {
        self.mul(&other.inverse()?)
    }

    pub(crate) fn abs(&self) -> Self {
        if self.is_negative() {
            self.neg()
        } else {
            self.clone()
        }
    }

    /// An integer power. Fails when the result would not fit [`MAX_BITS`], or for `0` to a negative power.
    pub(crate) fn pow(&self, exponent: i64) -> Result<Self, Stop> {
        if exponent == 0 || self.is_one() {
            return Ok(Self::ONE);
        }
        let base = if exponent < 0 {
            self.inverse()?
        } else {
            self.clone()
        };
        let exponent = exponent.unsigned_abs();
        if let Small(-1..=1, 1) = base {
            return Ok(if exponent % 2 == 1 {
                base
            } else {
                base.mul(&base)?
            });
        }
        if base.bits().saturating_sub(1).saturating_mul(exponent) > MAX_BITS {
            return Err(Stop::Unsupported);
        }
        let exponent = u32::try_from(exponent).map_err(|_| Stop::Unsupported)?;
        if let Small(n, d) = base
            && let (Some(n), Some(d)) = (n.checked_pow(exponent), d.checked_pow(exponent))
        {
            return Ok(Small(n, d));
        }
        let (n, d) = base.parts();
        // Powers of coprime integers stay coprime.
        Self::from_coprime(n.pow(exponent), d.pow(exponent)).limited()
    }

    /// Takes every factor of a prime out of the number; returns its exponent, negative for a denominator.
    pub(crate) fn remove_factor(&mut self, prime: &Self) -> i64 {
        let Some(prime) = Some(prime).filter(|prime| prime.is_integer() && !self.is_zero()) else {
            return 0;
        };
        let prime = prime.numerator();
        let (mut n, mut d) = self.parts();
        let exponent = remove_factor(&mut n, &prime) - remove_factor(&mut d, &prime);
        if exponent != 0 {
            *self = Self::from_coprime(n, d);
        }
        exponent
    }

    /// The largest integer not above the value.
    pub(crate) fn floor(&self) -> Self {
        match self {
            Small(n, d) => Small(n.div_euclid(*d), 1),
            Big(b) => Self::from_big(b.0.div_floor(&b.1), BigInt::one()).unwrap_or(Self::ZERO),
        }
    }

    /// The nearest double, 0 or an infinity beyond its range.
    pub(crate) fn to_f64(&self) -> f64 {
        match self {
            Small(n, 1) => *n as f64,
            Small(n, d) => *n as f64 / *d as f64,
            Big(b) => big_ratio_to_f64(&b.0, &b.1),
        }
    }

    /// True when the conversion to a double is exact.
    pub(crate) fn is_exact_f64(&self) -> bool {
        matches!(self, Small(n, 1) if n.unsigned_abs() < 1 << 53)
    }
}

/// `n / d` to about 60 bits, scaled first so that neither overflows.
fn big_ratio_to_f64(n: &BigInt, d: &BigInt) -> f64 {
    let shift = n.bits() as i64 - d.bits() as i64;
    let scaled = if shift < 62 {
        (n << (62 - shift)) / d
    } else {
        n / (d << (shift - 62))
    };
    let mantissa = scaled.to_f64().unwrap_or(0.0);
    // Two steps: one alone could leave the range of doubles although the product is inside it.
    let exponent = shift - 62;
    let half = exponent / 2;
    mantissa * 2f64.powi(clamp_i32(half)) * 2f64.powi(clamp_i32(exponent - half))
}

fn clamp_i32(value: i64) -> i32 {
    value.clamp(-5000, 5000) as i32
}

impl PartialEq for Rational {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Small(a, b), Small(c, d)) => a == c && b == d,
            (Big(a), Big(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for Rational {}

impl Hash for Rational {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Small(n, d) => (n, d).hash(state),
            Big(b) => b.hash(state),
        }
    }
}

impl PartialOrd for Rational {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Rational {
    fn cmp(&self, other: &Self) -> Ordering {
        if let (Small(a, b), Small(c, d)) = (self, other) {
            return (i128::from(*a) * i128::from(*d)).cmp(&(i128::from(*c) * i128::from(*b)));
        }
        let ((a, b), (c, d)) = (self.parts(), other.parts());
        (a * d).cmp(&(c * b))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_and_big_agree_at_the_border() {
        let max = Rational::integer(i64::MAX);
        let beyond = max.add(&Rational::ONE).unwrap();
        assert!(matches!(beyond, Big(_)));
        assert_eq!(beyond.sub(&Rational::ONE).unwrap(), max);
        assert_eq!(Rational::integer(i64::MIN).neg(), beyond);
        assert_eq!(beyond.div(&beyond).unwrap(), Rational::ONE);
    }

    #[test]
    fn powers_are_bounded() {
        assert_eq!(
            Rational::integer(2).pow(-3).unwrap(),
            Rational::ratio(1, 8).unwrap()
        );
        assert_eq!(Rational::integer(2).pow(1 << 40), Err(Stop::Unsupported));
        assert_eq!(
            Rational::MINUS_ONE.pow(i64::MAX).unwrap(),
            Rational::MINUS_ONE
        );
        assert_eq!(Rational::ZERO.pow(-1), Err(Stop::Unsupported));
    }

    #[test]
    fn floors_go_down() {
        assert_eq!(
            Rational::ratio(-7, 2).unwrap().floor(),
            Rational::integer(-4)
        );
        assert_eq!(
            Rational::ratio(7, -2).unwrap(),
            Rational::ratio(-7, 2).unwrap()
        );
    }

    #[test]
    fn doubles_convert_both_ways() {
        assert_eq!(
            Rational::from_f64(0.375).unwrap(),
            Rational::ratio(3, 8).unwrap()
        );
        let tiny = Rational::integer(10).pow(-320).unwrap();
        assert!(tiny.to_f64() > 0.0 && tiny.to_f64() < 1e-319);
        let large = Rational::integer(10).pow(300).unwrap();
        assert!((large.to_f64() / 1e300 - 1.0).abs() < 1e-15);
    }
}
