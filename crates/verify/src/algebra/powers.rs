//! Powers with rational exponents.
use smallvec::SmallVec;

use super::exponent::Exponent;
use super::generators::{Generators, Kernel, MINUS_ONE};
use super::polynomial::{Monomial, Polynomial, Term};
use super::quotient::{Quotient, common_monomial};
use crate::fuel::{Fuel, Stop};
use crate::gcd::gcd;
use crate::number::{MAX_BITS, Rational};
use num_integer::Integer;
use num_traits::{One, ToPrimitive};

/// Trial division goes this far; what is left counts as one prime.
const MAX_TRIAL_DIVISOR: u64 = 1000;
/// Sums are multiplied out while the power has no more terms than this.
const MAX_POWER_TERMS: u64 = 128;

impl Generators {
    /// `base^exponent`. `real_root` takes the real odd root of a negative number (`\sqrt[3]{-8} = -2`),
    /// otherwise the principal value counts.
    pub(super) fn power(
        &mut self,
        base: &Quotient,
        exponent: &Rational,
        real_root: bool,
        fuel: &Fuel,
    ) -> Result<Quotient, Stop> {
        if exponent.is_integer() {
            return self.integer_power(base, exponent, fuel);
        }
        if base.numerator.is_zero() {
            return if exponent.is_negative() {
                Err(Stop::Unsupported)
            } else {
                Ok(Quotient::constant(Rational::ZERO))
            };
        }
        let exponent = Exponent::from_rational(exponent)?;
        let numerator = self.fractional_power(&base.numerator, exponent, real_root, fuel)?;
        if base.denominator.is_one() {
            return Ok(numerator);
        }
        self.assumed_positive = true;
        let denominator = self.fractional_power(&base.denominator, exponent, real_root, fuel)?;
        let inverse = self.invert(&denominator, fuel)?;
        self.multiply_quotients(&numerator, &inverse, fuel)
    }

    fn integer_power(
        &mut self,
        base: &Quotient,
        exponent: &Rational,
        fuel: &Fuel,
    ) -> Result<Quotient, Stop> {
        let power = exponent.to_i64().ok_or(Stop::Unsupported)?;
        match power {
            0 if base.numerator.is_zero() => return Err(Stop::Unsupported),
            0 => return Ok(Quotient::constant(Rational::ONE)),
            1 => return Ok(base.clone()),
            _ => {}
        }
        let magnitude = power.checked_abs().ok_or(Stop::Unsupported)?;
        let numerator = self.polynomial_power(&base.numerator, magnitude, fuel)?;
        let denominator = self.polynomial_power(&base.denominator, magnitude, fuel)?;
        let (upper, lower) = if power > 0 {
            (numerator, denominator)
        } else {
            (denominator, numerator)
        };
        self.quotient(upper, lower, fuel)
    }

    /// A positive integer power of a polynomial.
    fn polynomial_power(
        &mut self,
        base: &Polynomial,
        power: i64,
        fuel: &Fuel,
    ) -> Result<Polynomial, Stop> {
        if base.is_zero() || base.is_one() || power == 1 {
            return Ok(base.clone());
        }
        if let Some(term) = base.single() {
            return self.term_power(term, power, fuel);
        }
        let power_terms = binomial_estimate(
            base.terms().len() as u64 + power.unsigned_abs() - 1,
            power.unsigned_abs(),
        );
        let bits = base.coefficient_bits().saturating_mul(power.unsigned_abs());
        if power_terms <= MAX_POWER_TERMS && bits <= MAX_BITS / 4 {
            return self.expanded_power(base, power.unsigned_abs(), fuel);
        }
        // Too long to write out: a power of the primitive part.
        let (content, monomial, primitive) = self.primitive_part(base, fuel)?;
        let content = self.term_power(
            &Term {
                monomial,
                coefficient: content,
            },
            power,
            fuel,
        )?;
        let generator = self.intern(Kernel::Base(primitive), fuel)?;
        let symbolic = Polynomial::term(
            Monomial::power(generator, Exponent::integer(power)),
            Rational::ONE,
        );
        self.multiply(&content, &symbolic, fuel)
    }

    /// A power multiplied out. Squares are cheapest for two terms; with more, the factors one by one are.
    fn expanded_power(
        &self,
        base: &Polynomial,
        power: u64,
        fuel: &Fuel,
    ) -> Result<Polynomial, Stop> {
        let mut product = base.clone();
        if base.terms().len() > 2 {
            for _ in 1..power {
                product = self.multiply(&product, base, fuel)?;
            }
            return Ok(product);
        }
        for bit in (0..power.ilog2()).rev() {
            product = self.multiply(&product, &product, fuel)?;
            if power >> bit & 1 == 1 {
                product = self.multiply(&product, base, fuel)?;
            }
        }
        Ok(product)
    }

    fn term_power(&mut self, term: &Term, power: i64, fuel: &Fuel) -> Result<Polynomial, Stop> {
        let monomial = term.monomial.raised(Exponent::integer(power))?;
        let (coefficient, primes) = match term.coefficient.pow(power) {
            Ok(coefficient) => (coefficient, Monomial::default()),
            // Too many digits: keep the primes with their exponents.
            Err(_) => {
                let sign = if term.coefficient.is_negative() && power % 2 != 0 {
                    Rational::MINUS_ONE
                } else {
                    Rational::ONE
                };
                (
                    sign,
                    self.prime_powers(&term.coefficient.abs(), Exponent::integer(power), fuel)?,
                )
            }
        };
        let reduced = self.reduce(monomial.times(&primes)?, coefficient, fuel)?;
        Ok(Polynomial::term(reduced.monomial, reduced.coefficient))
    }

    /// `c^exponent` of a positive rational as a monomial in primes, not reduced.
    fn prime_powers(
        &mut self,
        value: &Rational,
        exponent: Exponent,
        fuel: &Fuel,
    ) -> Result<Monomial, Stop> {
        let mut monomial = Monomial::default();
        for (prime, multiplicity) in factors(value, fuel)? {
            let generator = self.intern(Kernel::Prime(prime), fuel)?;
            let power = exponent.mul(Exponent::integer(multiplicity))?;
            monomial = monomial.times(&Monomial::power(generator, power))?;
        }
        Ok(monomial)
    }

    fn fractional_power(
        &mut self,
        base: &Polynomial,
        exponent: Exponent,
        real_root: bool,
        fuel: &Fuel,
    ) -> Result<Quotient, Stop> {
        if base.is_one() {
            return Ok(Quotient::constant(Rational::ONE));
        }
        if let Some(term) = base.single() {
            let term = term.clone();
            return self
                .fractional_term_power(&term, exponent, real_root, fuel)
                .map(Quotient::polynomial);
        }
        let (content, monomial, mut primitive) = self.primitive_part(base, fuel)?;
        let mut content = Term {
            monomial,
            coefficient: content,
        };
        // An odd real root passes a sign through, so it can be normalised away.
        if real_root
            && exponent.denominator() % 2 != 0
            && primitive
                .terms()
                .last()
                .is_some_and(|term| term.coefficient.is_negative())
        {
            primitive = primitive.neg();
            content.coefficient = content.coefficient.neg();
        }
        if content
            .monomial
            .factors()
            .iter()
            .any(|(generator, _)| !self.is_positive_constant(*generator))
        {
            self.assumed_positive = true;
        }
        let outer = self.fractional_term_power(&content, exponent, real_root, fuel)?;
        // K^{-1/2} = K^{1/2} / P: exponents of a base lie in [0, 1), whole powers are multiplied out.
        let whole = exponent.floor();
        let generator = self.intern(Kernel::Base(primitive.clone()), fuel)?;
        let fraction = exponent.sub(Exponent::integer(whole))?;
        let root = Polynomial::term(Monomial::power(generator, fraction), Rational::ONE);
        let root = Quotient::polynomial(self.multiply(&outer, &root, fuel)?);
        if whole == 0 {
            return Ok(root);
        }
        let powers = self.integer_power(
            &Quotient::polynomial(primitive),
            &Rational::integer(whole),
            fuel,
        )?;
        self.multiply_quotients(&root, &powers, fuel)
    }

    fn fractional_term_power(
        &mut self,
        term: &Term,
        exponent: Exponent,
        real_root: bool,
        fuel: &Fuel,
    ) -> Result<Polynomial, Stop> {
        let negative = term.coefficient.is_negative();
        let angle = term
            .monomial
            .exponent_of(MINUS_ONE)
            .unwrap_or(Exponent::integer(0));
        let rest = term.monomial.without(MINUS_ONE);
        let symbolic = rest
            .factors()
            .iter()
            .filter(|(generator, _)| !self.is_positive_constant(*generator))
            .count();
        if symbolic > 1
            || rest
                .factors()
                .iter()
                .any(|(generator, own)| !own.is_one() && !self.is_positive_constant(*generator))
            || (symbolic > 0 && (negative || !angle.is_zero()))
        {
            self.assumed_positive = true;
        }
        let mut monomial = rest.raised(exponent)?;
        monomial =
            monomial.times(&self.prime_powers(&term.coefficient.abs(), exponent, fuel)?)?;
        let mut coefficient = Rational::ONE;
        // The angle of the whole, in units of pi, as the principal value in (-1, 1].
        let mut turn = if negative {
            angle.add(Exponent::ONE)?
        } else {
            angle
        };
        if Exponent::ONE.less_than(turn) {
            turn = turn.sub(Exponent::integer(2))?;
        }
        if !turn.is_zero() {
            if real_root && negative && angle.is_zero() && exponent.denominator() % 2 != 0 {
                if exponent.numerator() % 2 != 0 {
                    coefficient = Rational::MINUS_ONE;
                }
            } else {
                let root = self.root_of_unity(&turn.mul(exponent)?.to_rational(), fuel)?;
                let scaled = self.reduce(monomial, coefficient, fuel)?;
                return self.multiply(
                    &root,
                    &Polynomial::term(scaled.monomial, scaled.coefficient),
                    fuel,
                );
            }
        }
        let term = self.reduce(monomial, coefficient, fuel)?;
        Ok(Polynomial::term(term.monomial, term.coefficient))
    }

    /// Splits a sum into a positive rational content, a common monomial and the primitive rest.
    pub(super) fn primitive_part(
        &self,
        polynomial: &Polynomial,
        fuel: &Fuel,
    ) -> Result<(Rational, Monomial, Polynomial), Stop> {
        fuel.spend(polynomial.terms().len() * polynomial.term_cost())?;
        let mut numerator = num_bigint::BigInt::from(0);
        let mut denominator = num_bigint::BigInt::one();
        for term in polynomial.terms() {
            numerator = gcd(&numerator, &term.coefficient.numerator());
            let other = term.coefficient.denominator();
            let common = gcd(&denominator, &other);
            denominator *= other / common;
            if denominator.bits() > MAX_BITS {
                return Err(Stop::Unsupported);
            }
        }
        let content = Rational::from_big(numerator, denominator)
            .ok_or(Stop::Unsupported)?
            .abs();
        if content.is_zero() {
            return Err(Stop::Unsupported);
        }
        // Constants stay inside: only symbols and the like are common factors worth taking out.
        let mut monomial = common_monomial(polynomial, fuel)?;
        monomial = Monomial(
            monomial
                .factors()
                .iter()
                .filter(|(generator, _)| {
                    !matches!(self.kernel(*generator), Kernel::Prime(_) | Kernel::MinusOne)
                })
                .copied()
                .collect(),
        );
        let inverse = monomial.raised(Exponent::integer(-1))?;
        let scale = content.inverse()?;
        let mut terms = SmallVec::with_capacity(polynomial.terms().len());
        for term in polynomial.terms() {
            terms.push(Term {
                monomial: term.monomial.times(&inverse)?,
                coefficient: term.coefficient.mul(&scale)?,
            });
        }
        Ok((content, monomial, Polynomial::collect(terms, fuel)?))
    }

    /// `e^{i pi r}`: multiples of 15 degrees in square roots, others as powers of -1.
    pub(super) fn root_of_unity(&mut self, r: &Rational, fuel: &Fuel) -> Result<Polynomial, Stop> {
        let twelfths = r.mul(&Rational::integer(12))?;
        if !twelfths.is_integer() {
            let exponent = Exponent::from_rational(r)?;
            let term = self.reduce(Monomial::power(MINUS_ONE, exponent), Rational::ONE, fuel)?;
            return Ok(Polynomial::term(term.monomial, term.coefficient));
        }
        let twelfths = twelfths
            .numerator()
            .mod_floor(&24.into())
            .to_i64()
            .unwrap_or(0);
        let cosine = self.cosine_of_twelfths(twelfths, fuel)?;
        let sine = self.cosine_of_twelfths(twelfths - 6, fuel)?;
        let i = Polynomial::term(
            Monomial::power(MINUS_ONE, Exponent::from_rational(&Rational::HALF)?),
            Rational::ONE,
        );
        let imaginary = self.multiply(&sine, &i, fuel)?;
        cosine.add(&imaginary, fuel)
    }

    /// `cos(k pi / 12)`.
    fn cosine_of_twelfths(&mut self, k: i64, fuel: &Fuel) -> Result<Polynomial, Stop> {
        let k = k.rem_euclid(24);
        let k = if k > 12 { 24 - k } else { k };
        let (k, negative) = if k > 6 { (12 - k, true) } else { (k, false) };
        let root = |this: &mut Self, of: i64, over: i64| -> Result<Polynomial, Stop> {
            let monomial = this.prime_powers(
                &Rational::integer(of),
                Exponent::from_rational(&Rational::HALF)?,
                fuel,
            )?;
            let scale = Rational::ratio(1, over).ok_or(Stop::Unsupported)?;
            let term = this.reduce(monomial, scale, fuel)?;
            Ok(Polynomial::term(term.monomial, term.coefficient))
        };
        let value = match k {
            0 => Polynomial::one(),
            1 => root(self, 6, 4)?.add(&root(self, 2, 4)?, fuel)?,
            2 => root(self, 3, 2)?,
            3 => root(self, 2, 2)?,
            4 => Polynomial::constant(Rational::HALF),
            5 => root(self, 6, 4)?.sub(&root(self, 2, 4)?, fuel)?,
            _ => Polynomial::default(),
        };
        Ok(if negative { value.neg() } else { value })
    }

    /// The logarithm of a positive rational as a sum over its primes.
    pub(super) fn logarithm_of_rational(
        &mut self,
        value: &Rational,
        fuel: &Fuel,
    ) -> Result<Polynomial, Stop> {
        let mut sum = Polynomial::default();
        for (prime, multiplicity) in factors(value, fuel)? {
            let prime = self.intern(Kernel::Prime(prime), fuel)?;
            let logarithm = self.intern(Kernel::Logarithm(prime), fuel)?;
            let term = Polynomial::term(
                Monomial::power(logarithm, Exponent::ONE),
                Rational::integer(multiplicity),
            );
            sum = sum.add(&term, fuel)?;
        }
        Ok(sum)
    }
}

/// Prime factors of a positive rational with their exponents, negative for the denominator. What trial
/// division leaves over is taken for a prime after perfect powers are split.
fn factors(value: &Rational, fuel: &Fuel) -> Result<SmallVec<[(Rational, i64); 4]>, Stop> {
    let mut found = SmallVec::new();
    for (number, sign) in [(value.numerator(), 1i64), (value.denominator(), -1)] {
        if let Some(small) = number.to_u64() {
            factor_small(small, sign, &mut found, fuel)?;
            continue;
        }
        let mut rest = number;
        for divisor in (2..MAX_TRIAL_DIVISOR).filter(|d| *d == 2 || d % 2 == 1) {
            let mut multiplicity = 0;
            loop {
                fuel.spend(1 + (rest.bits() / 512) as usize)?;
                let (quotient, remainder) = rest.div_rem(&divisor.into());
                if remainder != num_bigint::BigInt::from(0) {
                    break;
                }
                rest = quotient;
                multiplicity += sign;
            }
            if multiplicity != 0 {
                found.push((Rational::integer(divisor as i64), multiplicity));
            }
            if let Some(small) = rest.to_u64() {
                factor_small(small, sign, &mut found, fuel)?;
                rest = num_bigint::BigInt::one();
                break;
            }
        }
        if !rest.is_one() {
            let mut multiplicity = 1;
            for power in [2u32, 3, 5, 7] {
                fuel.spend(16)?;
                let root = rest.nth_root(power);
                if root.pow(power) == rest {
                    rest = root;
                    multiplicity *= i64::from(power);
                }
            }
            found.push((
                Rational::from_big(rest, num_bigint::BigInt::one()).ok_or(Stop::Unsupported)?,
                sign * multiplicity,
            ));
        }
    }
    Ok(found)
}

fn factor_small(
    mut number: u64,
    sign: i64,
    found: &mut SmallVec<[(Rational, i64); 4]>,
    fuel: &Fuel,
) -> Result<(), Stop> {
    let mut divisor = 2u64;
    let mut tried = 0;
    while divisor * divisor <= number && divisor < MAX_TRIAL_DIVISOR * 64 {
        let mut multiplicity = 0;
        while number.is_multiple_of(divisor) {
            number /= divisor;
            multiplicity += sign;
        }
        if multiplicity != 0 {
            found.push((Rational::integer(divisor as i64), multiplicity));
        }
        divisor += if divisor == 2 { 1 } else { 2 };
        tried += 1;
    }
    fuel.spend(1 + tried / 32)?;
    if number > 1 {
        let (mut base, mut multiplicity) = (number, sign);
        let root = num_integer::Roots::sqrt(&number);
        if root * root == number {
            base = root;
            multiplicity *= 2;
        }
        let base =
            Rational::from_big(base.into(), num_bigint::BigInt::one()).ok_or(Stop::Unsupported)?;
        found.push((base, multiplicity));
    }
    Ok(())
}

/// `C(n, k)`, saturating far above any limit it is compared with.
fn binomial_estimate(n: u64, k: u64) -> u64 {
    let k = k.min(n.saturating_sub(k));
    let mut value = 1u64;
    for j in 0..k {
        value = value.saturating_mul(n - j) / (j + 1);
        if value > 1 << 32 {
            return value;
        }
    }
    value
}
