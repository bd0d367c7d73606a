//! Intervals around binary numbers of chosen length.
use std::cell::OnceCell;

use num_bigint::{BigInt, Sign};
use num_traits::{Signed, ToPrimitive, Zero};

use super::Real;
use crate::fuel::Stop;
use crate::number::Rational;

/// `mantissa * 2^exponent`, off by at most `2^error`.
#[derive(Clone, Debug)]
pub(crate) struct Big {
    mantissa: BigInt,
    exponent: i64,
    /// `None`: exact.
    error: Option<i64>,
}

/// The length of mantissas in bits, with the constants at that length.
#[derive(Debug)]
pub(crate) struct Precision {
    bits: i64,
    pi: OnceCell<BigInt>,
    ln2: OnceCell<BigInt>,
}

/// Numbers beyond `2^MAX_MAGNITUDE` are not computed.
const MAX_MAGNITUDE: i64 = 1 << 20;
/// Exponents beyond this are not followed: the number becomes unknown, or nothing but its bound.
const MAX_EXPONENT: i64 = 1 << 40;
/// The error of a number of which nothing is known. Far from the ends of its type, so that sums stay inside.
const UNKNOWN: i64 = i64::MAX / 8;
/// Extra bits of fixed-point work.
const GUARD: i64 = 32;

impl Precision {
    pub(crate) fn new(bits: u32) -> Self {
        Self {
            bits: i64::from(bits),
            pi: OnceCell::new(),
            ln2: OnceCell::new(),
        }
    }

    fn working(&self) -> i64 {
        self.bits + GUARD
    }

    /// `pi * 2^(bits + 2 GUARD)` by Machin's formula.
    fn pi_fixed(&self) -> &BigInt {
        self.pi.get_or_init(|| {
            let bits = self.working() + GUARD;
            let one = BigInt::from(1) << bits;
            (atan_inverse(5, &one) * 16) - (atan_inverse(239, &one) * 4)
        })
    }

    /// `ln 2 * 2^(bits + 2 GUARD)`: `ln 2 = 18 artanh(1/26) - 2 artanh(1/4801) + 8 artanh(1/8749)`.
    fn ln2_fixed(&self) -> &BigInt {
        self.ln2.get_or_init(|| {
            let one = BigInt::from(1) << (self.working() + GUARD);
            artanh_inverse(26, &one) * 18 - artanh_inverse(4801, &one) * 2
                + artanh_inverse(8749, &one) * 8
        })
    }
}

/// `atan(1/n)` in fixed point.
fn atan_inverse(n: i64, one: &BigInt) -> BigInt {
    inverse_series(n, one, -1)
}

fn artanh_inverse(n: i64, one: &BigInt) -> BigInt {
    inverse_series(n, one, 1)
}

fn inverse_series(n: i64, one: &BigInt, sign: i64) -> BigInt {
    let square = n * n;
    let mut power = one / n;
    let mut sum = power.clone();
    let mut k = 1;
    let mut factor = 1;
    while !power.is_zero() {
        power /= square;
        k += 2;
        factor *= sign;
        sum += (&power / k) * factor;
    }
    sum
}

impl Big {
    pub(crate) fn zero() -> Self {
        Self {
            mantissa: BigInt::zero(),
            exponent: 0,
            error: None,
        }
    }

    /// The exponent of the leading bit plus one: `|x| < 2^magnitude` for the centre.
    fn magnitude(&self) -> i64 {
        if self.mantissa.is_zero() {
            i64::MIN / 4
        } else {
            self.mantissa.bits() as i64 + self.exponent
        }
    }

    /// An upper bound for `log2 |x|` over the interval.
    fn upper(&self) -> i64 {
        self.magnitude().max(self.error.unwrap_or(i64::MIN / 4)) + 1
    }

    fn rounded(mut self, precision: &Precision) -> Self {
        let excess = self.mantissa.bits() as i64 - precision.working();
        if excess > 0 {
            self.mantissa >>= excess;
            self.exponent += excess;
            self.error = Some(larger(self.error, Some(self.exponent)).unwrap_or(self.exponent) + 1);
        }
        self.bounded()
    }

    /// The same number, or a weaker statement about it, with exponents that cannot overflow.
    fn bounded(mut self) -> Self {
        if self.mantissa.is_zero() {
            self.exponent = 0;
        } else if self.magnitude() > MAX_EXPONENT {
            return Self::unknown();
        } else if self.magnitude() < -MAX_EXPONENT {
            self.mantissa = BigInt::zero();
            self.exponent = 0;
            self.error = larger(self.error, Some(-MAX_EXPONENT));
        }
        match self.error {
            Some(error) if error > MAX_EXPONENT => Self::unknown(),
            error => Self {
                error: error.map(|error| error.max(-MAX_EXPONENT)),
                ..self
            },
        }
    }

    /// Any number: it stays so in sums and products, and no function takes it.
    fn unknown() -> Self {
        Self {
            mantissa: BigInt::zero(),
            exponent: 0,
            error: Some(UNKNOWN),
        }
    }

    fn is_unknown(&self) -> bool {
        self.error == Some(UNKNOWN)
    }

    fn is_exact_zero(&self) -> bool {
        self.mantissa.is_zero() && self.error.is_none()
    }

    fn limited(self) -> Result<Self, Stop> {
        if self.magnitude().abs() > MAX_MAGNITUDE && !self.mantissa.is_zero() {
            Err(Stop::Unsupported)
        } else {
            Ok(self)
        }
    }

    /// The centre in fixed point with `bits` fractional bits.
    fn to_fixed(&self, bits: i64) -> BigInt {
        shifted(&self.mantissa, self.exponent + bits)
    }

    /// A fixed-point number that is off by a few units in the last of its working places.
    fn from_fixed(mantissa: BigInt, bits: i64, error: Option<i64>) -> Self {
        Self {
            mantissa,
            exponent: -bits,
            error: larger(error, Some(-bits + 8)),
        }
    }

    /// A lower bound for `log2 |x|` over the interval; fails when it may hold zero.
    fn lower(&self) -> Result<i64, Stop> {
        let magnitude = self.magnitude();
        match self.error {
            _ if self.mantissa.is_zero() => Err(Stop::Unsupported),
            Some(error) if error >= magnitude - 2 => Err(Stop::Unsupported),
            _ => Ok(magnitude - 2),
        }
    }

    /// `log2` of the distance bound: `Some(k)` when `|self - other| < 2^k` is all that is known, and
    /// `None` when the two are different for certain.
    pub(crate) fn agreement(&self, other: &Self, precision: &Precision) -> Option<i64> {
        let difference = self.sub(other, precision);
        match difference.sign() {
            Some(1 | -1) => None,
            _ => Some(difference.upper()),
        }
    }

    /// `log2` of the centre, rounded up.
    pub(crate) fn log2(&self) -> i64 {
        self.magnitude()
    }
}

fn larger(a: Option<i64>, b: Option<i64>) -> Option<i64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.max(b)),
        (a, b) => a.or(b),
    }
}

fn shifted(value: &BigInt, by: i64) -> BigInt {
    if by >= 0 { value << by } else { value >> -by }
}

impl Real for Big {
    type Precision = Precision;

    fn from_rational(value: &Rational, precision: &Precision) -> Self {
        let (numerator, denominator) = (value.numerator(), value.denominator());
        if denominator == BigInt::from(1) {
            return Self {
                mantissa: numerator,
                exponent: 0,
                error: None,
            }
            .rounded(precision);
        }
        let shift = precision.working() + denominator.bits() as i64 - numerator.bits() as i64 + 1;
        let mantissa = shifted(&numerator, shift) / denominator;
        Self {
            mantissa,
            exponent: -shift,
            error: Some(1 - shift),
        }
        .rounded(precision)
    }

    fn pi(precision: &Precision) -> Self {
        let bits = precision.working() + GUARD;
        Self::from_fixed(precision.pi_fixed().clone(), bits, None).rounded(precision)
    }

    fn add(&self, other: &Self, precision: &Precision) -> Self {
        if self.is_exact_zero() || other.is_unknown() {
            return other.clone();
        }
        if other.is_exact_zero() || self.is_unknown() {
            return self.clone();
        }
        let error = larger(self.error, other.error).map(|error| error + 1);
        let (big, small) = if self.magnitude() >= other.magnitude() {
            (self, other)
        } else {
            (other, self)
        };
        // Too small to reach the last place: it only widens the interval.
        if big.magnitude() - small.magnitude() > 2 * precision.working() {
            return Self {
                mantissa: big.mantissa.clone(),
                exponent: big.exponent,
                error: larger(error, Some(small.magnitude() + 1)),
            }
            .bounded();
        }
        let exponent = self.exponent.min(other.exponent);
        let mantissa = (&self.mantissa << (self.exponent - exponent))
            + (&other.mantissa << (other.exponent - exponent));
        Self {
            mantissa,
            exponent,
            error,
        }
        .rounded(precision)
    }

    fn neg(&self) -> Self {
        Self {
            mantissa: -&self.mantissa,
            exponent: self.exponent,
            error: self.error,
        }
    }

    fn mul(&self, other: &Self, precision: &Precision) -> Self {
        if self.is_exact_zero() || other.is_exact_zero() {
            return Self::zero();
        }
        if self.is_unknown() || other.is_unknown() {
            return Self::unknown();
        }
        let error = match (self.error, other.error) {
            (None, None) => None,
            (a, b) => {
                let left = a.map(|a| a + other.upper());
                let right = b.map(|b| b + self.upper());
                larger(left, right).map(|error| error + 1)
            }
        };
        Self {
            mantissa: &self.mantissa * &other.mantissa,
            exponent: self.exponent + other.exponent,
            error,
        }
        .rounded(precision)
    }

    fn div(&self, other: &Self, precision: &Precision) -> Result<Self, Stop> {
        let lower = other.lower()?;
        if self.is_exact_zero() {
            return Ok(Self::zero());
        }
        if self.is_unknown() {
            return Err(Stop::Unsupported);
        }
        let shift =
            (precision.working() + other.mantissa.bits() as i64 - self.mantissa.bits() as i64 + 1)
                .max(0);
        let mantissa = (&self.mantissa << shift) / &other.mantissa;
        let exponent = self.exponent - other.exponent - shift;
        let from_self = self.error.map(|error| error - lower + 1);
        let from_other = other
            .error
            .map(|error| error + self.upper() - 2 * lower + 1);
        let error = larger(larger(from_self, from_other), Some(exponent)).map(|error| error + 1);
        Self {
            mantissa,
            exponent,
            error,
        }
        .rounded(precision)
        .limited()
    }

    fn sqrt(&self, precision: &Precision) -> Result<Self, Stop> {
        if self.is_exact_zero() {
            return Ok(Self::zero());
        }
        let lower = self.lower()?;
        if self.mantissa.is_negative() {
            return Err(Stop::Unsupported);
        }
        let mut shift = (2 * precision.working() - self.mantissa.bits() as i64).max(0);
        if (self.exponent - shift) % 2 != 0 {
            shift += 1;
        }
        let root = (&self.mantissa << shift).sqrt();
        let exponent = (self.exponent - shift) / 2;
        // |sqrt(x) - sqrt(m)| <= |x - m| / sqrt(m).
        let error = larger(
            self.error.map(|error| error - lower / 2 + 2),
            Some(exponent),
        )
        .map(|error| error + 1);
        Ok(Self {
            mantissa: root,
            exponent,
            error,
        }
        .rounded(precision))
    }

    fn exp(&self, precision: &Precision) -> Result<Self, Stop> {
        if self.upper() > 20 {
            return Err(Stop::Unsupported);
        }
        let bits = precision.working() + GUARD;
        let x = self.to_fixed(bits);
        let ln2 = precision.ln2_fixed();
        let k: BigInt = num_integer::Integer::div_floor(&x, ln2);
        let halvings = 12i64;
        let reduced = (&x - &k * ln2) >> halvings;
        let one = BigInt::from(1) << bits;
        let (mut term, mut sum, mut n) = (one.clone(), one, 0u32);
        while !term.is_zero() {
            n += 1;
            term = ((term * &reduced) >> bits) / n;
            sum += &term;
        }
        for _ in 0..halvings {
            sum = (&sum * &sum) >> bits;
        }
        let k = k.to_i64().ok_or(Stop::Unsupported)?;
        // Fixed-point noise of about 2^(halvings + 8) units, then the argument's own error.
        let noise = Some(k - bits + halvings + 12);
        let from_argument = match self.error {
            Some(error) if error > 0 => return Err(Stop::Unsupported),
            error => error.map(|error| error + k + 3),
        };
        Self {
            mantissa: sum,
            exponent: k - bits,
            error: larger(noise, from_argument).map(|error| error + 1),
        }
        .rounded(precision)
        .limited()
    }

    fn ln(&self, precision: &Precision) -> Result<Self, Stop> {
        let lower = self.lower()?;
        if self.mantissa.is_negative() {
            return Err(Stop::Unsupported);
        }
        // x = m 2^k with m in [1/2, 1); ln m by Newton on exp from a double.
        let k = self.magnitude();
        let scaled = Self {
            mantissa: self.mantissa.clone(),
            exponent: self.exponent - k,
            error: None,
        };
        let start = Rational::from_big(scaled.to_fixed(60), BigInt::from(1) << 60)
            .ok_or(Stop::Unsupported)?
            .to_f64()
            .ln();
        let mut y = Self::from_rational(
            &Rational::from_f64(start).ok_or(Stop::Unsupported)?,
            precision,
        );
        let mut good_bits = 48;
        while good_bits < precision.working() {
            // y += 2 (m - e^y) / (m + e^y), which triples the correct bits.
            let exponential = Self {
                error: None,
                ..y.exp(precision)?
            };
            let upper = scaled.sub(&exponential, precision);
            let lower = scaled.add(&exponential, precision);
            let step = Self {
                error: None,
                ..upper.div(&lower, precision)?
            };
            y = Self {
                error: None,
                ..y.add(
                    &Self {
                        exponent: step.exponent + 1,
                        ..step
                    },
                    precision,
                )
            };
            good_bits *= 3;
        }
        let ln2 = Self::from_fixed(
            precision.ln2_fixed().clone(),
            precision.working() + GUARD,
            None,
        );
        let shift = ln2.mul(
            &Self {
                mantissa: BigInt::from(k),
                exponent: 0,
                error: None,
            },
            precision,
        );
        let mut value = y.add(&shift, precision);
        value.error = larger(value.error, Some(-precision.bits + 4));
        value.error =
            larger(value.error, self.error.map(|error| error - lower + 1)).map(|error| error + 1);
        Ok(value)
    }

    fn sin(&self, precision: &Precision) -> Result<Self, Stop> {
        self.sine(precision, 0)
    }

    fn cos(&self, precision: &Precision) -> Result<Self, Stop> {
        self.sine(precision, 1)
    }

    fn atan(&self, precision: &Precision) -> Result<Self, Stop> {
        if self.upper() > 200 || self.error.is_some_and(|error| error > 0) {
            return Err(Stop::Unsupported);
        }
        if self.mantissa.is_zero() {
            return Ok(self.clone());
        }
        // atan x = 2 atan(x / (1 + sqrt(1 + x^2))): halve the angle until the series is short.
        let one = Self {
            mantissa: BigInt::from(1),
            exponent: 0,
            error: None,
        };
        let mut x = Self {
            error: None,
            ..self.clone()
        };
        let halvings = 8 + self.magnitude().clamp(0, 2);
        for _ in 0..halvings {
            let root = one.add(&x.mul(&x, precision), precision).sqrt(precision)?;
            x = x.div(&one.add(&root, precision), precision)?;
        }
        let bits = precision.working() + GUARD;
        let fixed = x.to_fixed(bits);
        let square = (&fixed * &fixed) >> bits;
        let (mut power, mut sum, mut k) = (fixed.clone(), fixed, 1i64);
        while !power.is_zero() {
            power = -((power * &square) >> bits);
            if power == BigInt::from(-1) {
                break;
            }
            k += 2;
            sum += &power / k;
        }
        let own_error =
            larger(x.error, Some(-precision.bits - 4)).map(|error| error + halvings + 4);
        let error = larger(own_error, self.error).map(|error| error + 1);
        Ok(Self {
            mantissa: sum,
            exponent: halvings - bits,
            error,
        }
        .rounded(precision))
    }

    fn sign(&self) -> Option<i8> {
        match (self.mantissa.sign(), self.error) {
            (Sign::NoSign, None) => Some(0),
            (Sign::NoSign, Some(_)) => None,
            (_, Some(error)) if error >= self.magnitude() - 1 => None,
            (Sign::Plus, _) => Some(1),
            (Sign::Minus, _) => Some(-1),
        }
    }

    fn floor(&self) -> Option<Rational> {
        let magnitude = self.magnitude();
        if magnitude > 4096 {
            return None;
        }
        let spread = match self.error {
            None => return Rational::from_big(self.to_fixed(0), BigInt::from(1)),
            Some(error) if error < -8 => error,
            Some(_) => return None,
        };
        // Both ends of the interval, in fixed point fine enough to hold the error.
        let bits = -spread;
        let (centre, radius) = (self.to_fixed(bits), BigInt::from(2));
        let (low, high): (BigInt, BigInt) =
            ((&centre - &radius) >> bits, (&centre + &radius) >> bits);
        if low == high {
            Rational::from_big(low, BigInt::from(1))
        } else {
            None
        }
    }

    fn cost(precision: &Precision) -> usize {
        1 + (precision.bits / 128) as usize
    }
}

impl Big {
    /// `sin(x + quarter_turns * pi / 2)`.
    fn sine(&self, precision: &Precision, quarter_turns: i64) -> Result<Self, Stop> {
        if self.upper() > 64 || self.error.is_some_and(|error| error > 0) {
            return Err(Stop::Unsupported);
        }
        // The constants carry GUARD extra bits, so an argument below 2^20 keeps its accuracy.
        let bits = precision.working() + GUARD;
        let half_pi: BigInt = precision.pi_fixed() >> 1;
        let x = self.to_fixed(bits);
        let quadrant: BigInt = num_integer::Integer::div_floor(&x, &half_pi);
        let reduced = &x - &quadrant * &half_pi;
        let turns = num_integer::Integer::mod_floor(&(quadrant + quarter_turns), &BigInt::from(4))
            .to_i64()
            .unwrap_or(0);
        let square = (&reduced * &reduced) >> bits;
        let one = BigInt::from(1) << bits;
        // Even quadrants: sine of the rest; odd ones: its cosine.
        let (mut term, mut n) = if turns % 2 == 0 {
            (reduced, 1i64)
        } else {
            (one, 0)
        };
        let mut sum = term.clone();
        while !term.is_zero() {
            term = -((term * &square) >> bits) / ((n + 1) * (n + 2));
            n += 2;
            sum += &term;
        }
        if turns >= 2 {
            sum = -sum;
        }
        let noise = self.upper().max(0) + 10 - bits;
        let error = larger(self.error.map(|error| error + 1), Some(noise)).map(|error| error + 1);
        Ok(Self {
            mantissa: sum,
            exponent: -bits,
            error,
        }
        .rounded(precision))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(value: &Big, expected: f64) {
        let scaled = Rational::from_big(value.to_fixed(80), BigInt::from(1) << 80)
            .unwrap()
            .to_f64();
        assert!(
            (scaled - expected).abs() < 1e-13 * (1.0 + expected.abs()),
            "{scaled} is not {expected}"
        );
        assert!(
            value.error.is_none_or(|error| error < -180),
            "error 2^{:?}",
            value.error
        );
    }

    #[test]
    fn functions_agree_with_doubles_and_know_their_error() {
        let precision = Precision::new(256);
        close(&Big::pi(&precision), std::f64::consts::PI);
        for x in [0.3f64, 1.0, 2.75, 17.5, 0.001] {
            let big = Big::from_rational(&Rational::from_f64(x).unwrap(), &precision);
            close(&big.exp(&precision).unwrap(), x.exp());
            close(&big.neg().exp(&precision).unwrap(), (-x).exp());
            close(&big.ln(&precision).unwrap(), x.ln());
            close(&big.sin(&precision).unwrap(), x.sin());
            close(&big.cos(&precision).unwrap(), x.cos());
            close(&big.atan(&precision).unwrap(), x.atan());
            close(&big.sqrt(&precision).unwrap(), x.sqrt());
        }
    }

    #[test]
    fn inverse_functions_return_within_their_bounds() {
        let precision = Precision::new(320);
        let x = Big::from_rational(&Rational::ratio(355, 113).unwrap(), &precision);
        let back = x.ln(&precision).unwrap().exp(&precision).unwrap();
        assert!(
            x.agreement(&back, &precision)
                .is_some_and(|bits| bits < -280)
        );
        let root = x.sqrt(&precision).unwrap();
        assert!(
            x.agreement(&root.mul(&root, &precision), &precision)
                .is_some_and(|bits| bits < -280)
        );
        let (sine, cosine) = (x.sin(&precision).unwrap(), x.cos(&precision).unwrap());
        let one = sine
            .mul(&sine, &precision)
            .add(&cosine.mul(&cosine, &precision), &precision);
        assert!(
            one.agreement(&Big::from_rational(&Rational::ONE, &precision), &precision)
                .is_some_and(|bits| bits < -280)
        );
    }

    #[test]
    fn repeated_products_never_leave_the_range_of_exponents() {
        let precision = Precision::new(128);
        let third = Big::from_rational(&Rational::ratio(1, 3).unwrap(), &precision);
        for start in [
            Big::zero(),
            Big::from_rational(&Rational::integer(3), &precision),
            third.clone(),
            third.sub(&third, &precision),
        ] {
            let mut power = start;
            for _ in 0..200 {
                power = power.mul(&power, &precision);
            }
            let sum = power.add(&third, &precision);
            let product = power.mul(&third, &precision);
            assert!(power.is_unknown() == sum.is_unknown());
            assert!(power.is_unknown() == product.is_unknown());
        }
    }

    #[test]
    fn different_numbers_are_told_apart() {
        let precision = Precision::new(256);
        let a = Big::from_rational(&Rational::ratio(1, 3).unwrap(), &precision);
        let b = a.add(
            &Big::from_rational(&Rational::integer(2).pow(-200).unwrap(), &precision),
            &precision,
        );
        assert_eq!(a.agreement(&b, &precision), None);
        assert!(a.agreement(&a, &precision).is_some());
    }
}
