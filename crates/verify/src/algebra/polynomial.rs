//! Sums of monomials with rational coefficients.
use smallvec::SmallVec;

use super::exponent::Exponent;
use crate::fuel::{Fuel, Stop};
use crate::number::Rational;

/// Index of a generator in its [`Generators`](super::generators::Generators).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Generator(pub(super) u32);

/// A product of powers of generators, sorted, no zero exponents. The empty product is 1.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Monomial(pub(super) SmallVec<[(Generator, Exponent); 2]>);

impl Monomial {
    pub(super) fn power(generator: Generator, exponent: Exponent) -> Self {
        let mut factors = SmallVec::new();
        if !exponent.is_zero() {
            factors.push((generator, exponent));
        }
        Self(factors)
    }

    pub(super) fn is_one(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn factors(&self) -> &[(Generator, Exponent)] {
        &self.0
    }

    pub(super) fn exponent_of(&self, generator: Generator) -> Option<Exponent> {
        self.0
            .iter()
            .find(|(g, _)| *g == generator)
            .map(|(_, e)| *e)
    }

    /// The product, exponents simply added.
    pub(super) fn times(&self, other: &Self) -> Result<Self, Stop> {
        if other.is_one() {
            return Ok(self.clone());
        }
        if self.is_one() {
            return Ok(other.clone());
        }
        let mut product = SmallVec::with_capacity(self.0.len() + other.0.len());
        let (mut a, mut b) = (self.0.iter().peekable(), other.0.iter().peekable());
        loop {
            match (a.peek(), b.peek()) {
                (Some((g, e)), Some((h, f))) => {
                    if g == h {
                        let sum = e.add(*f)?;
                        if !sum.is_zero() {
                            product.push((*g, sum));
                        }
                        a.next();
                        b.next();
                    } else if g < h {
                        product.extend(a.next().copied());
                    } else {
                        product.extend(b.next().copied());
                    }
                }
                (Some(_), None) => product.extend(a.next().copied()),
                (None, Some(_)) => product.extend(b.next().copied()),
                (None, None) => return Ok(Self(product)),
            }
        }
    }

    /// Every exponent multiplied.
    pub(super) fn raised(&self, exponent: Exponent) -> Result<Self, Stop> {
        let mut factors = SmallVec::with_capacity(self.0.len());
        for (generator, own) in &self.0 {
            let product = own.mul(exponent)?;
            if !product.is_zero() {
                factors.push((*generator, product));
            }
        }
        Ok(Self(factors))
    }

    /// Without one generator.
    pub(super) fn without(&self, generator: Generator) -> Self {
        Self(
            self.0
                .iter()
                .filter(|(g, _)| *g != generator)
                .copied()
                .collect(),
        )
    }
}

/// A monomial with its coefficient, which is not zero.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Term {
    pub(super) monomial: Monomial,
    pub(super) coefficient: Rational,
}

/// A sum of terms, sorted by monomial, each monomial once. The empty sum is 0.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Polynomial(pub(super) SmallVec<[Term; 2]>);

impl Polynomial {
    pub(crate) fn constant(value: Rational) -> Self {
        Self::term(Monomial::default(), value)
    }

    pub(crate) fn one() -> Self {
        Self::constant(Rational::ONE)
    }

    pub(super) fn term(monomial: Monomial, coefficient: Rational) -> Self {
        let mut terms = SmallVec::new();
        if !coefficient.is_zero() {
            terms.push(Term {
                monomial,
                coefficient,
            });
        }
        Self(terms)
    }

    pub(super) fn generator(generator: Generator) -> Self {
        Self::term(Monomial::power(generator, Exponent::ONE), Rational::ONE)
    }

    pub(super) fn terms(&self) -> &[Term] {
        &self.0
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn is_one(&self) -> bool {
        matches!(self.0.as_slice(), [term] if term.monomial.is_one() && term.coefficient.is_one())
    }

    /// The value when it is a rational number.
    pub(crate) fn as_constant(&self) -> Option<Rational> {
        match self.0.as_slice() {
            [] => Some(Rational::ZERO),
            [term] if term.monomial.is_one() => Some(term.coefficient.clone()),
            _ => None,
        }
    }

    pub(super) fn single(&self) -> Option<&Term> {
        match self.0.as_slice() {
            [term] => Some(term),
            _ => None,
        }
    }

    /// Bits of the largest coefficient.
    pub(crate) fn coefficient_bits(&self) -> u64 {
        self.0
            .iter()
            .map(|term| term.coefficient.bits())
            .max()
            .unwrap_or(0)
    }

    /// The cost of one operation on its largest term, in steps.
    pub(super) fn term_cost(&self) -> usize {
        self.0
            .iter()
            .map(|term| term.coefficient.cost() + term.monomial.0.len() / 4)
            .max()
            .unwrap_or(1)
    }

    /// Sorts terms and adds up equal monomials.
    pub(super) fn collect(mut terms: SmallVec<[Term; 2]>, fuel: &Fuel) -> Result<Self, Stop> {
        if terms.len() > 1 {
            terms.sort_unstable_by(|a, b| a.monomial.cmp(&b.monomial));
            let mut kept = 0;
            for at in 1..terms.len() {
                let (left, right) = terms.split_at_mut(at);
                if left[kept].monomial == right[0].monomial {
                    fuel.spend(left[kept].coefficient.cost())?;
                    left[kept].coefficient = left[kept].coefficient.add(&right[0].coefficient)?;
                } else {
                    if !left[kept].coefficient.is_zero() {
                        kept += 1;
                    }
                    terms.swap(kept, at);
                }
            }
            if !terms[kept].coefficient.is_zero() {
                kept += 1;
            }
            terms.truncate(kept);
        }
        Ok(Self(terms))
    }

    pub(crate) fn add(&self, other: &Self, fuel: &Fuel) -> Result<Self, Stop> {
        if self.is_zero() {
            return Ok(other.clone());
        }
        if other.is_zero() {
            return Ok(self.clone());
        }
        fuel.spend(self.0.len() * self.term_cost() + other.0.len() * other.term_cost())?;
        let mut sum = SmallVec::with_capacity(self.0.len() + other.0.len());
        let (mut a, mut b) = (self.0.iter().peekable(), other.0.iter().peekable());
        loop {
            match (a.peek(), b.peek()) {
                (Some(x), Some(y)) => match x.monomial.cmp(&y.monomial) {
                    std::cmp::Ordering::Equal => {
                        let coefficient = x.coefficient.add(&y.coefficient)?;
                        if !coefficient.is_zero() {
                            sum.push(Term {
                                monomial: x.monomial.clone(),
                                coefficient,
                            });
                        }
                        a.next();
                        b.next();
                    }
                    std::cmp::Ordering::Less => sum.extend(a.next().cloned()),
                    std::cmp::Ordering::Greater => sum.extend(b.next().cloned()),
                },
                (Some(_), None) => sum.extend(a.next().cloned()),
                (None, Some(_)) => sum.extend(b.next().cloned()),
                (None, None) => return Ok(Self(sum)),
            }
        }
    }

    pub(crate) fn neg(&self) -> Self {
        Self(
            self.0
                .iter()
                .map(|term| Term {
                    monomial: term.monomial.clone(),
                    coefficient: term.coefficient.neg(),
                })
                .collect(),
        )
    }

    pub(crate) fn sub(&self, other: &Self, fuel: &Fuel) -> Result<Self, Stop> {
        self.add(&other.neg(), fuel)
    }

    pub(super) fn scaled(&self, factor: &Rational) -> Result<Self, Stop> {
        let mut terms = SmallVec::with_capacity(self.0.len());
        for term in &self.0 {
            terms.push(Term {
                monomial: term.monomial.clone(),
                coefficient: term.coefficient.mul(factor)?,
            });
        }
        Ok(Self(terms))
    }
}
