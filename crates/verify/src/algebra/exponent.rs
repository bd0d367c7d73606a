//! Rational exponents in machine words.
use num_integer::Integer;

use crate::fuel::Stop;
use crate::number::Rational;

/// `n / d` in lowest terms, `d` positive. Ordered by numerator and denominator, not by value: any
/// total order serves to sort monomials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Exponent {
    n: i64,
    d: i64,
}

impl Exponent {
    pub(crate) const ONE: Self = Self { n: 1, d: 1 };

    pub(crate) const fn integer(n: i64) -> Self {
        Self { n, d: 1 }
    }

    fn from_i128(n: i128, d: i128) -> Result<Self, Stop> {
        let g = n.gcd(&d).max(1);
        match (i64::try_from(n / g), i64::try_from(d / g)) {
            (Ok(n), Ok(d)) => Ok(Self { n, d }),
            _ => Err(Stop::Unsupported),
        }
    }

    pub(crate) fn from_rational(value: &Rational) -> Result<Self, Stop> {
        value
            .to_small()
            .map(|(n, d)| Self { n, d })
            .ok_or(Stop::Unsupported)
    }

    pub(crate) fn to_rational(self) -> Rational {
        Rational::ratio(self.n, self.d).unwrap_or(Rational::ZERO)
    }

    pub(crate) const fn is_zero(self) -> bool {
        self.n == 0
    }

    pub(crate) const fn is_one(self) -> bool {
        self.n == 1 && self.d == 1
    }

    pub(crate) const fn is_negative(self) -> bool {
        self.n < 0
    }

    pub(crate) const fn numerator(self) -> i64 {
        self.n
    }

    pub(crate) const fn denominator(self) -> i64 {
        self.d
    }

    pub(crate) fn floor(self) -> i64 {
        self.n.div_euclid(self.d)
    }

    pub(crate) fn add(self, other: Self) -> Result<Self, Stop> {
        if self.d == 1 && other.d == 1 {
            return self
                .n
                .checked_add(other.n)
                .map(Self::integer)
                .ok_or(Stop::Unsupported);
        }
        let n = (i128::from(self.n) * i128::from(other.d))
            .checked_add(i128::from(other.n) * i128::from(self.d));
        Self::from_i128(
            n.ok_or(Stop::Unsupported)?,
            i128::from(self.d) * i128::from(other.d),
        )
    }

    pub(crate) fn sub(self, other: Self) -> Result<Self, Stop> {
        self.add(other.neg()?)
    }

    pub(crate) fn mul(self, other: Self) -> Result<Self, Stop> {
        Self::from_i128(
            i128::from(self.n) * i128::from(other.n),
            i128::from(self.d) * i128::from(other.d),
        )
    }

    pub(crate) fn neg(self) -> Result<Self, Stop> {
        self.n
            .checked_neg()
            .map(|n| Self { n, d: self.d })
            .ok_or(Stop::Unsupported)
    }

    /// Is this one smaller in value?
    pub(crate) fn less_than(self, other: Self) -> bool {
        i128::from(self.n) * i128::from(other.d) < i128::from(other.n) * i128::from(self.d)
    }
}
