//! Generators and the rules that keep monomials in them canonical.
use smallvec::SmallVec;

use super::exponent::Exponent;
use super::polynomial::{Generator, Monomial, Polynomial, Term};
use super::quotient::Quotient;
use crate::fuel::{Fuel, Stop};
use crate::number::{MAX_BITS, Rational};
use crate::tree::{Binder, Function, Symbol};

/// What a generator stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kernel {
    /// -1, whose powers with exponents in [0, 1) are the roots of unity `e^{i pi r}`.
    MinusOne,
    Pi,
    /// A prime, or a larger number without small factors, positive. Exponents in [0, 1).
    Prime(Rational),
    Symbol(Symbol),
    Text(Box<str>),
    /// `e` to the power of a monomial; `e` itself for the monomial 1.
    Exponential(Monomial),
    /// A sum of two or more terms, to be raised to fractional or large powers.
    Base(Polynomial),
    /// The logarithm of a generator.
    Logarithm(Generator),
    /// A function of canonical arguments.
    Call(Function, Vec<Quotient>),
    /// An unknown function.
    Apply(Symbol, Vec<Quotient>),
    /// A symbol with an expression for a subscript.
    Index(Symbol, Quotient),
    /// A sum, product, integral or limit that stays; the variable is [`Kernel::BoundVariable`].
    Bound(Binder, Vec<Quotient>),
    /// The variable of the binder at this depth.
    BoundVariable(u32),
}

/// The generator of -1.
pub(super) const MINUS_ONE: Generator = Generator(0);
/// The generator of pi.
pub(super) const PI: Generator = Generator(1);

/// All generators of one comparison. Equal kernels have one generator.
#[derive(Debug)]
pub(super) struct Generators {
    kernels: Vec<Kernel>,
    /// A rule was used that holds for positive symbols only, such as `\sqrt{xy} = \sqrt{x}\sqrt{y}`.
    pub(super) assumed_positive: bool,
    /// Some generator is a [`Kernel::Base`].
    has_bases: bool,
}

/// Powers of sums are multiplied out up to this exponent when they arise from roots.
const MAX_EXPANDED_POWER: i64 = 4;

impl Generators {
    pub(super) fn new() -> Self {
        let mut kernels = Vec::with_capacity(16);
        kernels.extend([Kernel::MinusOne, Kernel::Pi]);
        Self {
            kernels,
            assumed_positive: false,
            has_bases: false,
        }
    }

    pub(super) fn kernel(&self, generator: Generator) -> &Kernel {
        // Generators are made by `intern` alone.
        &self.kernels[generator.0 as usize]
    }

    pub(super) fn intern(&mut self, kernel: Kernel, fuel: &Fuel) -> Result<Generator, Stop> {
        fuel.spend(1 + self.kernels.len() / 4)?;
        let index = self
            .kernels
            .iter()
            .position(|known| *known == kernel)
            .unwrap_or_else(|| {
                self.has_bases |= matches!(kernel, Kernel::Base(_));
                self.kernels.push(kernel);
                self.kernels.len() - 1
            });
        Ok(Generator(index as u32))
    }

    /// True for generators that are positive real numbers whatever the symbols are.
    pub(super) fn is_positive_constant(&self, generator: Generator) -> bool {
        match self.kernel(generator) {
            Kernel::Pi | Kernel::Prime(_) => true,
            Kernel::Exponential(monomial) => monomial.is_one(),
            Kernel::Logarithm(of) => matches!(self.kernel(*of), Kernel::Prime(_) | Kernel::Pi),
            _ => false,
        }
    }

    /// Brings a product into canonical form: exponents of -1 and of primes into [0, 1).
    ///
    /// A power of a prime too large to multiply out stays in the monomial, and then the coefficient's
    /// factors of that prime go there too, so that `2 * 2^{10^9}` and `2^{10^9 + 1}` are one.
    pub(super) fn reduce(
        &self,
        monomial: Monomial,
        mut coefficient: Rational,
        fuel: &Fuel,
    ) -> Result<Term, Stop> {
        if coefficient.is_zero() {
            return Ok(Term {
                monomial: Monomial::default(),
                coefficient,
            });
        }
        let settled = |(generator, exponent): &(Generator, Exponent)| match self.kernel(*generator)
        {
            Kernel::MinusOne | Kernel::Prime(_) => exponent.floor() == 0,
            _ => true,
        };
        if monomial.factors().iter().all(settled) {
            return Ok(Term {
                monomial,
                coefficient,
            });
        }
        let mut factors = SmallVec::with_capacity(monomial.factors().len());
        for (generator, exponent) in monomial.factors() {
            let (generator, mut exponent) = (*generator, *exponent);
            match self.kernel(generator) {
                Kernel::MinusOne => {
                    let whole = exponent.floor();
                    exponent = exponent.sub(Exponent::integer(whole))?;
                    if whole % 2 != 0 {
                        coefficient = coefficient.neg();
                    }
                }
                Kernel::Prime(prime) => {
                    fuel.spend(coefficient.cost())?;
                    let whole = exponent.floor();
                    if whole.unsigned_abs().saturating_mul(prime.bits()) <= MAX_BITS / 4 {
                        coefficient = coefficient.mul(&prime.pow(whole)?)?;
                        exponent = exponent.sub(Exponent::integer(whole))?;
                    } else {
                        let moved = coefficient.remove_factor(prime);
                        exponent = exponent.add(Exponent::integer(moved))?;
                    }
                }
                _ => {}
            }
            if !exponent.is_zero() {
                factors.push((generator, exponent));
            }
        }
        Ok(Term {
            monomial: Monomial(factors),
            coefficient,
        })
    }

    /// The product of two polynomials.
    pub(super) fn multiply(
        &self,
        a: &Polynomial,
        b: &Polynomial,
        fuel: &Fuel,
    ) -> Result<Polynomial, Stop> {
        if a.is_zero() || b.is_zero() {
            return Ok(Polynomial::default());
        }
        if a.is_one() {
            return Ok(b.clone());
        }
        if b.is_one() {
            return Ok(a.clone());
        }
        fuel.spend(a.terms().len() * b.terms().len() * (a.term_cost() + b.term_cost()))?;
        let mut terms = SmallVec::with_capacity(a.terms().len() * b.terms().len());
        for x in a.terms() {
            for y in b.terms() {
                let term = self.reduce(
                    x.monomial.times(&y.monomial)?,
                    x.coefficient.mul(&y.coefficient)?,
                    fuel,
                )?;
                terms.push(term);
            }
        }
        let product = Polynomial::collect(terms, fuel)?;
        if self.has_bases {
            self.expand_bases(product, fuel)
        } else {
            Ok(product)
        }
    }

    /// Multiplies out whole powers of [`Kernel::Base`]: `\sqrt{x+1}\sqrt{x+1}` is `x+1`.
    fn expand_bases(&self, polynomial: Polynomial, fuel: &Fuel) -> Result<Polynomial, Stop> {
        let whole_power = |term: &Term| {
            term.monomial
                .factors()
                .iter()
                .find_map(|(generator, exponent)| match self.kernel(*generator) {
                    Kernel::Base(base) if (1..=MAX_EXPANDED_POWER).contains(&exponent.floor()) => {
                        Some((*generator, *exponent, base))
                    }
                    _ => None,
                })
        };
        if !polynomial
            .terms()
            .iter()
            .any(|term| whole_power(term).is_some())
        {
            return Ok(polynomial);
        }
        let mut sum = Polynomial::default();
        for term in polynomial.terms() {
            let mut expanded = Polynomial::term(term.monomial.clone(), term.coefficient.clone());
            if let Some((generator, exponent, base)) = whole_power(term) {
                let whole = exponent.floor();
                let lowered = term
                    .monomial
                    .times(&Monomial::power(generator, Exponent::integer(-whole)))?;
                expanded = Polynomial::term(lowered, term.coefficient.clone());
                for _ in 0..whole {
                    expanded = self.multiply(&expanded, base, fuel)?;
                }
            }
            sum = sum.add(&expanded, fuel)?;
        }
        Ok(sum)
    }

    /// Multiplies a polynomial by the powers of [`Kernel::Base`] that have negative exponents in it, so
    /// that `\sqrt{P} - P / \sqrt{P}` shows that it is zero. Only good for zero tests.
    pub(super) fn cleared(
        &self,
        mut polynomial: Polynomial,
        fuel: &Fuel,
    ) -> Result<Polynomial, Stop> {
        if !self.has_bases {
            return Ok(polynomial);
        }
        for index in 0..self.kernels.len() as u32 {
            let generator = Generator(index);
            if !matches!(self.kernel(generator), Kernel::Base(_)) {
                continue;
            }
            let mut least = Exponent::integer(0);
            for term in polynomial.terms() {
                if let Some(exponent) = term.monomial.exponent_of(generator)
                    && exponent.less_than(least)
                {
                    least = exponent;
                }
            }
            if least.is_negative() {
                let lift =
                    Polynomial::term(Monomial::power(generator, least.neg()?), Rational::ONE);
                polynomial = self.multiply(&polynomial, &lift, fuel)?;
            }
        }
        Ok(polynomial)
    }

    /// True when the kernel of a generator mentions another generator, at any depth.
    pub(super) fn mentions(&self, generator: Generator, other: Generator) -> bool {
        let in_polynomial = |polynomial: &Polynomial| polynomial_mentions(self, polynomial, other);
        let in_quotient = |quotient: &Quotient| {
            in_polynomial(&quotient.numerator) || in_polynomial(&quotient.denominator)
        };
        match self.kernel(generator) {
            Kernel::Exponential(monomial) => monomial_mentions(self, monomial, other),
            Kernel::Base(polynomial) => in_polynomial(polynomial),
            Kernel::Logarithm(of) => *of == other || self.mentions(*of, other),
            Kernel::Call(_, arguments)
            | Kernel::Apply(_, arguments)
            | Kernel::Bound(_, arguments) => arguments.iter().any(in_quotient),
            Kernel::Index(_, argument) => in_quotient(argument),
            _ => false,
        }
    }
}

pub(super) fn polynomial_mentions(
    generators: &Generators,
    polynomial: &Polynomial,
    other: Generator,
) -> bool {
    polynomial
        .terms()
        .iter()
        .any(|term| monomial_mentions(generators, &term.monomial, other))
}

fn monomial_mentions(generators: &Generators, monomial: &Monomial, other: Generator) -> bool {
    monomial
        .factors()
        .iter()
        .any(|(generator, _)| *generator == other || generators.mentions(*generator, other))
}
