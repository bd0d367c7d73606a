//! Functions of canonical quotients.

use super::Algebra;
use crate::algebra::generators::MINUS_ONE;
use crate::algebra::polynomial::{Monomial, Polynomial};
use crate::algebra::quotient::Quotient;
use crate::fuel::Stop;
use crate::number::Rational;
use crate::tree::Function;
use num_bigint::BigInt;
use num_integer::Integer;
use num_traits::One;

/// Factorials of larger numbers stay symbolic.
const MAX_FACTORIAL: i64 = 400;

/// `(n + k)!` is written through `n!` up to this `k`.
const MAX_FACTORIAL_SHIFT: i64 = 12;

impl Algebra<'_> {
    pub(super) fn function(
        &mut self,
        function: Function,
        mut arguments: Vec<Quotient>,
    ) -> Result<Quotient, Stop> {
        let fuel = self.fuel;
        let constants: Option<Vec<Rational>> =
            arguments.iter().map(Quotient::as_constant).collect();
        match (function, arguments.as_slice(), constants.as_deref()) {
            (Function::Factorial, [u], constant) => match constant {
                Some([n]) => self.constant_factorial(n, u),
                _ => self.shifted_factorial(u),
            },
            (Function::DoubleFactorial, _, Some([n])) => {
                let n = n
                    .to_i64()
                    .filter(|n| (0..=MAX_FACTORIAL).contains(n))
                    .ok_or(Stop::Unsupported)?;
                let mut value = Rational::ONE;
                for factor in (1..=n).rev().step_by(2) {
                    fuel.spend(1 + (value.bits() / 64) as usize)?;
                    value = value.mul(&Rational::integer(factor))?;
                }
                Ok(Quotient::constant(value))
            }
            (Function::Binomial, [n, k], constants) => {
                if let Some([n, k]) = constants
                    && let (Some(n), Some(k)) = (n.to_i64(), k.to_i64())
                    && (0..=MAX_FACTORIAL * 4).contains(&n)
                {
                    return self.constant_binomial(n, k);
                }
                if let Some([n, k]) = constants
                    && (n.is_negative() || k.is_negative())
                {
                    return Err(Stop::Unsupported);
                }
                let rest = self.generators.add_quotients(n, &k.neg(), fuel)?;
                let upper = self.function(Function::Factorial, vec![n.clone()])?;
                let left = self.function(Function::Factorial, vec![k.clone()])?;
                let right = self.function(Function::Factorial, vec![rest])?;
                let lower = self.generators.multiply_quotients(&left, &right, fuel)?;
                self.generators.divide(&upper, &lower, fuel)
            }
            (Function::Floor, [u], _) => self.floor(u),
            (Function::Ceil, [u], _) => Ok(self.floor(&u.neg())?.neg()),
            (Function::Abs, _, Some([c])) => Ok(Quotient::constant(c.abs())),
            (Function::Sign, _, Some([c])) => {
                let sign = if c.is_zero() {
                    0
                } else if c.is_negative() {
                    -1
                } else {
                    1
                };
                Ok(Quotient::constant(Rational::integer(sign)))
            }
            (Function::Abs, [u], _) => {
                let negative = u
                    .numerator()
                    .terms()
                    .last()
                    .is_some_and(|term| term.coefficient.is_negative());
                let u = if negative { u.neg() } else { u.clone() };
                if self.is_positive_sum(&u) {
                    return Ok(u);
                }
                self.generators.call(Function::Abs, vec![u], fuel)
            }
            (Function::Min | Function::Max, [_, ..], Some(constants)) => {
                let best = if function == Function::Min {
                    constants.iter().min()
                } else {
                    constants.iter().max()
                };
                best.cloned()
                    .map(Quotient::constant)
                    .ok_or(Stop::Unsupported)
            }
            (Function::Gcd | Function::Lcm, [_, ..], Some(constants)) => {
                let mut value: Option<BigInt> = None;
                for constant in constants {
                    if !constant.is_integer() {
                        return Err(Stop::Unsupported);
                    }
                    let next = constant.numerator();
                    value = Some(match value {
                        None => next,
                        Some(value) if function == Function::Gcd => value.gcd(&next),
                        Some(value) => value.lcm(&next),
                    });
                }
                let value = value
                    .and_then(|value| Rational::from_big(value, BigInt::one()))
                    .ok_or(Stop::Unsupported)?;
                Ok(Quotient::constant(value.abs()))
            }
            (Function::Min | Function::Max | Function::Gcd | Function::Lcm, _, _) => {
                // Symmetric functions: an order of the arguments that both sides share.
                arguments.sort_by_cached_key(|argument| format!("{argument:?}"));
                self.generators.call(function, arguments, fuel)
            }
            (Function::Mod, _, Some([a, m])) => {
                if !a.is_integer() || !m.is_integer() || m.is_zero() {
                    return Err(Stop::Unsupported);
                }
                let value = a.numerator().mod_floor(&m.numerator());
                Rational::from_big(value, BigInt::one())
                    .map(Quotient::constant)
                    .ok_or(Stop::Unsupported)
            }
            (Function::Re | Function::Im | Function::Conjugate, [u], _) => {
                let conjugate = self.conjugate(u)?;
                let half = Quotient::constant(Rational::HALF);
                match function {
                    Function::Conjugate => Ok(conjugate),
                    Function::Re => {
                        let sum = self.generators.add_quotients(u, &conjugate, fuel)?;
                        self.generators.multiply_quotients(&sum, &half, fuel)
                    }
                    _ => {
                        let difference =
                            self.generators.add_quotients(u, &conjugate.neg(), fuel)?;
                        let minus_i = self.generators.imaginary_unit()?.neg();
                        let imaginary =
                            self.generators
                                .multiply_quotients(&difference, &minus_i, fuel)?;
                        self.generators.multiply_quotients(&imaginary, &half, fuel)
                    }
                }
            }
            (_, [u], _) => self.generators.function(function, u, fuel),
            _ => self.generators.call(function, arguments, fuel),
        }
    }

    /// A sum of positive multiples of positive constants.
    fn is_positive_sum(&self, u: &Quotient) -> bool {
        u.denominator.is_one()
            && u.numerator.terms().iter().all(|term| {
                !term.coefficient.is_negative()
                    && term
                        .monomial
                        .factors()
                        .iter()
                        .all(|(g, _)| self.generators.is_positive_constant(*g))
            })
    }

    fn constant_factorial(&mut self, n: &Rational, u: &Quotient) -> Result<Quotient, Stop> {
        if !n.is_integer() || n.is_negative() {
            return Err(Stop::Unsupported);
        }
        match n.to_i64() {
            Some(n) if n <= MAX_FACTORIAL => {
                let mut value = BigInt::one();
                for factor in 2..=n {
                    value *= factor;
                }
                self.fuel
                    .spend(1 + (n as usize * value.bits() as usize) / 128)?;
                Rational::from_big(value, BigInt::one())
                    .map(Quotient::constant)
                    .ok_or(Stop::Unsupported)
            }
            _ => self
                .generators
                .call(Function::Factorial, vec![u.clone()], self.fuel),
        }
    }

    fn constant_binomial(&mut self, n: i64, k: i64) -> Result<Quotient, Stop> {
        if k < 0 || k > n {
            return Ok(Quotient::constant(Rational::ZERO));
        }
        let k = k.min(n - k);
        let mut value = Rational::ONE;
        for j in 0..k {
            self.fuel.spend(1 + (value.bits() / 64) as usize)?;
            let factor = Rational::ratio(n - j, j + 1).ok_or(Stop::Unsupported)?;
            value = value.mul(&factor)?;
        }
        Ok(Quotient::constant(value))
    }

    /// `(u + k)!` for a whole number `k` as `u! (u+1) ... (u+k)`, so that factorials of neighbours relate.
    fn shifted_factorial(&mut self, u: &Quotient) -> Result<Quotient, Stop> {
        let fuel = self.fuel;
        let shift = u
            .as_polynomial()
            .and_then(|polynomial| {
                polynomial
                    .terms()
                    .iter()
                    .find(|term| term.monomial.is_one())
            })
            .and_then(|term| term.coefficient.to_i64())
            .filter(|shift| shift.abs() <= MAX_FACTORIAL_SHIFT)
            .unwrap_or(0);
        let base = self.generators.add_quotients(
            u,
            &Quotient::constant(Rational::integer(-shift)),
            fuel,
        )?;
        let mut value = self
            .generators
            .call(Function::Factorial, vec![base.clone()], fuel)?;
        for step in 1..=shift.abs() {
            let offset = if shift > 0 { step } else { step + shift };
            let factor = self.generators.add_quotients(
                &base,
                &Quotient::constant(Rational::integer(offset)),
                fuel,
            )?;
            value = if shift > 0 {
                self.generators.multiply_quotients(&value, &factor, fuel)?
            } else {
                self.generators.divide(&value, &factor, fuel)?
            };
        }
        Ok(value)
    }

    /// Floor: exact for rationals; otherwise a whole constant term moves out.
    pub(super) fn floor(&mut self, u: &Quotient) -> Result<Quotient, Stop> {
        if let Some(constant) = u.as_constant() {
            return Ok(Quotient::constant(constant.floor()));
        }
        let fuel = self.fuel;
        let whole = u
            .as_polynomial()
            .and_then(|polynomial| {
                polynomial
                    .terms()
                    .iter()
                    .find(|term| term.monomial.is_one())
            })
            .map_or(Rational::ZERO, |term| term.coefficient.floor());
        let rest = self
            .generators
            .add_quotients(u, &Quotient::constant(whole.neg()), fuel)?;
        let floor = self.generators.call(Function::Floor, vec![rest], fuel)?;
        self.generators
            .add_quotients(&floor, &Quotient::constant(whole), fuel)
    }

    /// The complex conjugate of an expression whose generators are real.
    fn conjugate(&mut self, u: &Quotient) -> Result<Quotient, Stop> {
        let fuel = self.fuel;
        let conjugated = |this: &Self, polynomial: &Polynomial| -> Result<Polynomial, Stop> {
            let mut sum = Polynomial::default();
            for term in polynomial.terms() {
                for (generator, _) in term.monomial.factors() {
                    if *generator != MINUS_ONE && !this.generators.is_positive_constant(*generator)
                    {
                        return Err(Stop::Unsupported);
                    }
                }
                let mut monomial = term.monomial.without(MINUS_ONE);
                if let Some(exponent) = term.monomial.exponent_of(MINUS_ONE) {
                    monomial = monomial.times(&Monomial::power(MINUS_ONE, exponent.neg()?))?;
                }
                let term = this
                    .generators
                    .reduce(monomial, term.coefficient.clone(), fuel)?;
                sum = sum.add(&Polynomial::term(term.monomial, term.coefficient), fuel)?;
            }
            Ok(sum)
        };
        let (numerator, denominator) = (
            conjugated(self, &u.numerator)?,
            conjugated(self, &u.denominator)?,
        );
        self.generators.quotient(numerator, denominator, fuel)
    }

    /// Expansion along the first row; matrices up to 5 by 5.
    pub(super) fn determinant(
        &mut self,
        entries: &[Quotient],
        size: usize,
    ) -> Result<Quotient, Stop> {
        if size == 0 || size > 5 || entries.len() != size * size {
            return Err(Stop::Unsupported);
        }
        if size == 1 {
            return Ok(entries[0].clone());
        }
        let mut sum = Quotient::constant(Rational::ZERO);
        for column in 0..size {
            let minor: Vec<Quotient> = entries[size..]
                .iter()
                .enumerate()
                .filter(|(at, _)| at % size != column)
                .map(|(_, entry)| entry.clone())
                .collect();
            let minor = self.determinant(&minor, size - 1)?;
            let mut term =
                self.generators
                    .multiply_quotients(&entries[column], &minor, self.fuel)?;
            if column % 2 == 1 {
                term = term.neg();
            }
            sum = self.generators.add_quotients(&sum, &term, self.fuel)?;
        }
        Ok(sum)
    }

    // ---- bound variables ---------------------------------------------------------------------------
}
