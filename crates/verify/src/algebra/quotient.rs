//! Quotients of polynomials, without computing greatest common divisors: equality is decided by
//! cross-multiplication.
use smallvec::SmallVec;

use super::cyclotomic;
use super::exponent::Exponent;
use super::generators::Generators;
use super::polynomial::{Monomial, Polynomial};
use crate::fuel::{Fuel, Stop};
use crate::number::Rational;

/// `numerator / denominator`. A denominator of one term is always folded into the numerator, whose
/// exponents may be negative; a longer one has no common monomial factor and leading coefficient 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Quotient {
    pub(super) numerator: Polynomial,
    pub(super) denominator: Polynomial,
}

impl Quotient {
    pub(crate) fn polynomial(numerator: Polynomial) -> Self {
        Self {
            numerator,
            denominator: Polynomial::one(),
        }
    }

    pub(crate) fn constant(value: Rational) -> Self {
        Self::polynomial(Polynomial::constant(value))
    }

    pub(crate) fn as_constant(&self) -> Option<Rational> {
        if self.denominator.is_one() {
            self.numerator.as_constant()
        } else {
            None
        }
    }

    /// The numerator when there is no denominator.
    pub(super) fn as_polynomial(&self) -> Option<&Polynomial> {
        self.denominator.is_one().then_some(&self.numerator)
    }

    pub(crate) fn has_unit_denominator(&self) -> bool {
        self.denominator.is_one()
    }

    pub(crate) fn numerator(&self) -> &Polynomial {
        &self.numerator
    }

    pub(crate) fn neg(&self) -> Self {
        Self {
            numerator: self.numerator.neg(),
            denominator: self.denominator.clone(),
        }
    }
}

impl Generators {
    /// Brings a quotient into its normal shape.
    pub(super) fn quotient(
        &self,
        numerator: Polynomial,
        denominator: Polynomial,
        fuel: &Fuel,
    ) -> Result<Quotient, Stop> {
        if denominator.is_one() {
            return Ok(Quotient::polynomial(numerator));
        }
        if cyclotomic::vanishes(&denominator, fuel)? {
            return Err(Stop::Unsupported);
        }
        if numerator.is_zero() {
            return Ok(Quotient::polynomial(numerator));
        }
        let Some(leading) = denominator.terms().last() else {
            return Err(Stop::Unsupported);
        };
        // Divide both by the leading coefficient and the largest common monomial of the denominator.
        let content = if denominator.single().is_some() {
            leading.monomial.clone()
        } else {
            common_monomial(&denominator, fuel)?
        };
        let inverse = content.raised(Exponent::integer(-1))?;
        let scale = leading.coefficient.inverse()?;
        let divided = |polynomial: &Polynomial| -> Result<Polynomial, Stop> {
            fuel.spend(polynomial.terms().len() * (polynomial.term_cost() + scale.cost()))?;
            if inverse.is_one() {
                return polynomial.scaled(&scale);
            }
            let mut terms = SmallVec::with_capacity(polynomial.terms().len());
            for term in polynomial.terms() {
                terms.push(self.reduce(
                    term.monomial.times(&inverse)?,
                    term.coefficient.mul(&scale)?,
                    fuel,
                )?);
            }
            Polynomial::collect(terms, fuel)
        };
        let (numerator, denominator) = (divided(&numerator)?, divided(&denominator)?);
        if denominator.is_one() {
            return Ok(Quotient::polynomial(numerator));
        }
        if denominator.single().is_some() {
            // The monomial's reduction left a coefficient: once more, now with a plain number.
            return self.quotient(numerator, denominator, fuel);
        }
        if let Some(exact) = self.exact_division(&numerator, &denominator, fuel)? {
            return Ok(Quotient::polynomial(exact));
        }
        Ok(Quotient {
            numerator,
            denominator,
        })
    }

    /// `a / b` when it is a polynomial, by division with respect to the leading terms. Tried only on
    /// plain polynomials, where it ends after at most as many steps as `a` has terms plus a few.
    fn exact_division(
        &self,
        a: &Polynomial,
        b: &Polynomial,
        fuel: &Fuel,
    ) -> Result<Option<Polynomial>, Stop> {
        if a.terms().len() > 64 || b.terms().len() > 16 {
            return Ok(None);
        }
        let Some(leading) = b.terms().last() else {
            return Ok(None);
        };
        let inverse = leading.monomial.raised(Exponent::integer(-1))?;
        let (mut rest, mut quotient) = (a.clone(), SmallVec::new());
        for _ in 0..a.terms().len() + 8 {
            let Some(top) = rest.terms().last() else {
                return Polynomial::collect(quotient, fuel).map(Some);
            };
            let term = self.reduce(
                top.monomial.times(&inverse)?,
                top.coefficient.div(&leading.coefficient)?,
                fuel,
            )?;
            let product = self.multiply(
                b,
                &Polynomial::term(term.monomial.clone(), term.coefficient.clone()),
                fuel,
            )?;
            if product
                .terms()
                .last()
                .is_none_or(|last| last.monomial != top.monomial)
            {
                return Ok(None);
            }
            rest = rest.sub(&product, fuel)?;
            quotient.push(term);
        }
        Ok(None)
    }

    pub(super) fn add_quotients(
        &self,
        a: &Quotient,
        b: &Quotient,
        fuel: &Fuel,
    ) -> Result<Quotient, Stop> {
        if a.denominator == b.denominator {
            let sum = a.numerator.add(&b.numerator, fuel)?;
            return if a.denominator.is_one() {
                Ok(Quotient::polynomial(sum))
            } else {
                self.quotient(sum, a.denominator.clone(), fuel)
            };
        }
        let left = self.multiply(&a.numerator, &b.denominator, fuel)?;
        let right = self.multiply(&b.numerator, &a.denominator, fuel)?;
        let denominator = self.multiply(&a.denominator, &b.denominator, fuel)?;
        self.quotient(left.add(&right, fuel)?, denominator, fuel)
    }

    pub(super) fn multiply_quotients(
        &self,
        a: &Quotient,
        b: &Quotient,
        fuel: &Fuel,
    ) -> Result<Quotient, Stop> {
        let numerator = self.multiply(&a.numerator, &b.numerator, fuel)?;
        if a.denominator.is_one() && b.denominator.is_one() {
            return Ok(Quotient::polynomial(numerator));
        }
        // Cancel what cancels in whole: (p / q) * q.
        if a.numerator == b.denominator {
            return self.quotient(b.numerator.clone(), a.denominator.clone(), fuel);
        }
        if b.numerator == a.denominator {
            return self.quotient(a.numerator.clone(), b.denominator.clone(), fuel);
        }
        let denominator = self.multiply(&a.denominator, &b.denominator, fuel)?;
        self.quotient(numerator, denominator, fuel)
    }

    pub(super) fn invert(&self, a: &Quotient, fuel: &Fuel) -> Result<Quotient, Stop> {
        if cyclotomic::vanishes(&a.numerator, fuel)? {
            return Err(Stop::Unsupported);
        }
        self.quotient(a.denominator.clone(), a.numerator.clone(), fuel)
    }

    /// True when the two are equal for certain.
    pub(super) fn are_equal(&self, a: &Quotient, b: &Quotient, fuel: &Fuel) -> Result<bool, Stop> {
        if a == b {
            return Ok(true);
        }
        cyclotomic::vanishes(&self.difference(a, b, fuel)?, fuel)
    }

    /// The numerator of `a - b` over the product of the denominators.
    pub(super) fn difference(
        &self,
        a: &Quotient,
        b: &Quotient,
        fuel: &Fuel,
    ) -> Result<Polynomial, Stop> {
        let difference = if a.denominator == b.denominator {
            a.numerator.sub(&b.numerator, fuel)?
        } else {
            let left = self.multiply(&a.numerator, &b.denominator, fuel)?;
            let right = self.multiply(&b.numerator, &a.denominator, fuel)?;
            left.sub(&right, fuel)?
        };
        self.cleared(difference, fuel)
    }
}

/// The largest monomial that divides every term, exponents being the smallest ones that occur (0 when
/// a term lacks the generator, unless another has a negative exponent).
pub(super) fn common_monomial(polynomial: &Polynomial, fuel: &Fuel) -> Result<Monomial, Stop> {
    let mut common: SmallVec<[_; 2]> = SmallVec::new();
    let mut seen: SmallVec<[_; 8]> = SmallVec::new();
    for term in polynomial.terms() {
        for (generator, _) in term.monomial.factors() {
            if seen.contains(generator) {
                continue;
            }
            seen.push(*generator);
            fuel.spend(polynomial.terms().len())?;
            let mut least: Option<Exponent> = None;
            for other in polynomial.terms() {
                let exponent = other
                    .monomial
                    .exponent_of(*generator)
                    .unwrap_or(Exponent::integer(0));
                if least.is_none_or(|least| exponent.less_than(least)) {
                    least = Some(exponent);
                }
            }
            if let Some(least) = least.filter(|least| !least.is_zero()) {
                common.push((*generator, least));
            }
        }
    }
    common.sort_unstable();
    Ok(Monomial(common))
}
