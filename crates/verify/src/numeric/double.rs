//! Intervals around doubles.
use super::Real;
use crate::fuel::Stop;
use crate::number::Rational;

/// `mid` with an error of at most `radius`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Double {
    pub(crate) mid: f64,
    pub(crate) radius: f64,
}

/// Twice the relative rounding error of an operation: covers the rounding of the radius as well.
const EPSILON: f64 = f64::EPSILON;
/// The library's functions are good to an ulp or two; eight leave room.
const FUNCTION_EPSILON: f64 = 8.0 * f64::EPSILON;
/// Covers results in the range of subnormal numbers.
const TINY: f64 = 1e-300;

impl Double {
    fn new(mid: f64, radius: f64) -> Self {
        Self {
            mid,
            radius: radius * (1.0 + 1e-9) + TINY,
        }
    }

    fn checked(mid: f64, radius: f64) -> Result<Self, Stop> {
        if mid.is_finite() && radius.is_finite() {
            Ok(Self::new(mid, radius))
        } else {
            Err(Stop::Unsupported)
        }
    }

    /// True when two numbers cannot be the same.
    pub(crate) fn excludes(&self, other: &Self) -> bool {
        (self.mid - other.mid).abs()
            > (self.radius + other.radius) * (1.0 + 1e-9)
                + (self.mid.abs() + other.mid.abs()) * EPSILON
    }
}

impl Real for Double {
    type Precision = ();

    fn from_rational(value: &Rational, (): &()) -> Self {
        let mid = value.to_f64();
        Self {
            mid,
            radius: if value.is_exact_f64() {
                0.0
            } else {
                mid.abs() * EPSILON + TINY
            },
        }
    }

    fn pi((): &()) -> Self {
        Self {
            mid: std::f64::consts::PI,
            radius: 4e-16,
        }
    }

    fn add(&self, other: &Self, (): &()) -> Self {
        let mid = self.mid + other.mid;
        if self.radius == 0.0
            && other.radius == 0.0
            && mid.abs() < 4e15
            && mid.fract() == 0.0
            && self.mid.fract() == 0.0
        {
            return Self { mid, radius: 0.0 };
        }
        Self::new(mid, self.radius + other.radius + mid.abs() * EPSILON)
    }

    fn neg(&self) -> Self {
        Self {
            mid: -self.mid,
            radius: self.radius,
        }
    }

    fn mul(&self, other: &Self, (): &()) -> Self {
        let mid = self.mid * other.mid;
        if self.radius == 0.0
            && other.radius == 0.0
            && mid.abs() < 4e15
            && self.mid.fract() == 0.0
            && other.mid.fract() == 0.0
        {
            return Self { mid, radius: 0.0 };
        }
        let radius = self.mid.abs() * other.radius
            + other.mid.abs() * self.radius
            + self.radius * other.radius;
        Self::new(mid, radius + mid.abs() * EPSILON)
    }

    fn div(&self, other: &Self, (): &()) -> Result<Self, Stop> {
        let lower = other.mid.abs() - other.radius;
        if lower.is_nan() || lower <= 0.0 {
            return Err(Stop::Unsupported);
        }
        let mid = self.mid / other.mid;
        Self::checked(
            mid,
            (mid.abs() * other.radius + self.radius) / lower + mid.abs() * EPSILON,
        )
    }

    fn sqrt(&self, (): &()) -> Result<Self, Stop> {
        if self.mid < 0.0 {
            return Err(Stop::Unsupported);
        }
        let root = self.mid.sqrt();
        // |sqrt(x) - sqrt(m)| <= |x - m| / sqrt(m), and <= sqrt|x - m|.
        let spread = if root > 0.0 {
            (self.radius / root).min(self.radius.sqrt())
        } else {
            self.radius.sqrt()
        };
        Self::checked(root, spread + root * EPSILON)
    }

    fn exp(&self, (): &()) -> Result<Self, Stop> {
        let value = self.mid.exp();
        Self::checked(value, value * (self.radius.exp_m1() + FUNCTION_EPSILON))
    }

    fn ln(&self, (): &()) -> Result<Self, Stop> {
        let lower = self.mid - self.radius;
        if lower.is_nan() || lower <= 0.0 {
            return Err(Stop::Unsupported);
        }
        let value = self.mid.ln();
        Self::checked(
            value,
            self.radius / lower + value.abs() * FUNCTION_EPSILON + EPSILON,
        )
    }

    fn sin(&self, (): &()) -> Result<Self, Stop> {
        Self::checked(self.mid.sin(), self.radius.min(2.0) + FUNCTION_EPSILON)
    }

    fn cos(&self, (): &()) -> Result<Self, Stop> {
        Self::checked(self.mid.cos(), self.radius.min(2.0) + FUNCTION_EPSILON)
    }

    fn atan(&self, (): &()) -> Result<Self, Stop> {
        Self::checked(self.mid.atan(), self.radius.min(4.0) + FUNCTION_EPSILON)
    }

    fn sign(&self) -> Option<i8> {
        if self.mid.abs() > self.radius {
            Some(if self.mid > 0.0 { 1 } else { -1 })
        } else if self.mid == 0.0 && self.radius == 0.0 {
            Some(0)
        } else {
            None
        }
    }

    fn floor(&self) -> Option<Rational> {
        let (low, high) = (
            (self.mid - self.radius).floor(),
            (self.mid + self.radius).floor(),
        );
        (low == high && low.abs() < 9e15).then(|| Rational::integer(low as i64))
    }

    fn cost((): &()) -> usize {
        0
    }
}
