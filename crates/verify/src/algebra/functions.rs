//! Exponentials, logarithms and the functions made of them.
use super::exponent::Exponent;
use super::generators::{Generators, Kernel, MINUS_ONE, PI};
use super::polynomial::{Monomial, Polynomial};
use super::quotient::Quotient;
use crate::fuel::{Fuel, Stop};
use crate::number::Rational;
use crate::tree::Function;

impl Generators {
    /// `e^u`, as a product over the terms of `u`: `e^{x/2 + \ln 2}` is `2 E^{1/2}` with `E = e^x`.
    pub(super) fn exponential(&mut self, u: &Quotient, fuel: &Fuel) -> Result<Quotient, Stop> {
        let Some(polynomial) = u.as_polynomial().cloned() else {
            return self.exponential_of_quotient(u, fuel);
        };
        let mut product = Quotient::constant(Rational::ONE);
        for term in polynomial.terms() {
            let factor = match term.monomial.factors() {
                // i pi c: a root of unity.
                [(MINUS_ONE, half), (PI, one)]
                    if one.is_one() && half.to_rational() == Rational::HALF =>
                {
                    Quotient::polynomial(self.root_of_unity(&term.coefficient, fuel)?)
                }
                // c ln g: the power g^c.
                [(generator, one)]
                    if one.is_one() && matches!(self.kernel(*generator), Kernel::Logarithm(_)) =>
                {
                    let Kernel::Logarithm(of) = *self.kernel(*generator) else {
                        return Err(Stop::Unsupported);
                    };
                    let base = Quotient::polynomial(Polynomial::generator(of));
                    self.power(&base, &term.coefficient, false, fuel)?
                }
                _ => {
                    let exponent = Exponent::from_rational(&term.coefficient)?;
                    let generator =
                        self.intern(Kernel::Exponential(term.monomial.clone()), fuel)?;
                    Quotient::polynomial(Polynomial::term(
                        Monomial::power(generator, exponent),
                        Rational::ONE,
                    ))
                }
            };
            product = self.multiply_quotients(&product, &factor, fuel)?;
        }
        Ok(product)
    }

    /// `e^{N/D}`: the leading coefficient becomes the exponent of a generator.
    fn exponential_of_quotient(&mut self, u: &Quotient, fuel: &Fuel) -> Result<Quotient, Stop> {
        let Some(leading) = u
            .numerator
            .terms()
            .last()
            .map(|term| term.coefficient.clone())
        else {
            return Ok(Quotient::constant(Rational::ONE));
        };
        let primitive = Quotient {
            numerator: u.numerator.scaled(&leading.inverse()?)?,
            denominator: u.denominator.clone(),
        };
        let generator = self.intern(Kernel::Call(Function::Exp, vec![primitive]), fuel)?;
        let exponent = Exponent::from_rational(&leading)?;
        Ok(Quotient::polynomial(Polynomial::term(
            Monomial::power(generator, exponent),
            Rational::ONE,
        )))
    }

    /// The natural logarithm, principal value for constants.
    pub(super) fn logarithm(&mut self, u: &Quotient, fuel: &Fuel) -> Result<Quotient, Stop> {
        let numerator = self.logarithm_of_polynomial(&u.numerator, fuel)?;
        if u.denominator.is_one() {
            return Ok(Quotient::polynomial(numerator));
        }
        self.assumed_positive = true;
        let denominator = self.logarithm_of_polynomial(&u.denominator, fuel)?;
        Ok(Quotient::polynomial(numerator.sub(&denominator, fuel)?))
    }

    fn logarithm_of_polynomial(
        &mut self,
        polynomial: &Polynomial,
        fuel: &Fuel,
    ) -> Result<Polynomial, Stop> {
        if polynomial.is_zero() {
            return Err(Stop::Unsupported);
        }
        let (content, monomial, primitive) = match polynomial.single() {
            Some(term) => (term.coefficient.clone(), term.monomial.clone(), None),
            None => {
                let (content, monomial, primitive) = self.primitive_part(polynomial, fuel)?;
                (content, monomial, Some(primitive))
            }
        };
        let mut sum = self.logarithm_of_rational(&content.abs(), fuel)?;
        if content.is_negative() {
            sum = sum.add(&self.imaginary_pi(&Rational::ONE)?, fuel)?;
        }
        let symbolic = monomial
            .factors()
            .iter()
            .filter(|(generator, _)| !self.is_positive_constant(*generator));
        let parts = symbolic.clone().count() + usize::from(primitive.is_some());
        if parts > 1
            || symbolic.clone().any(|(_, exponent)| !exponent.is_one())
            || (parts == 1 && content.is_negative())
        {
            self.assumed_positive = true;
        }
        for (generator, exponent) in monomial.factors() {
            let part = match self.kernel(*generator) {
                Kernel::MinusOne => self.imaginary_pi(&exponent.to_rational())?,
                Kernel::Exponential(inner) => {
                    if inner.exponent_of(MINUS_ONE).is_some() {
                        // The logarithm of a phase is many-valued.
                        return Err(Stop::Unsupported);
                    }
                    Polynomial::term(inner.clone(), exponent.to_rational())
                }
                _ => {
                    let logarithm = self.intern(Kernel::Logarithm(*generator), fuel)?;
                    Polynomial::term(
                        Monomial::power(logarithm, Exponent::ONE),
                        exponent.to_rational(),
                    )
                }
            };
            sum = sum.add(&part, fuel)?;
        }
        if let Some(primitive) = primitive {
            let base = self.intern(Kernel::Base(primitive), fuel)?;
            let logarithm = self.intern(Kernel::Logarithm(base), fuel)?;
            sum = sum.add(&Polynomial::generator(logarithm), fuel)?;
        }
        Ok(sum)
    }

    /// `i pi r`.
    fn imaginary_pi(&self, r: &Rational) -> Result<Polynomial, Stop> {
        let half = Exponent::from_rational(&Rational::HALF)?;
        let monomial =
            Monomial::power(MINUS_ONE, half).times(&Monomial::power(PI, Exponent::ONE))?;
        Ok(Polynomial::term(monomial, r.clone()))
    }

    pub(super) fn imaginary_unit(&self) -> Result<Quotient, Stop> {
        let half = Exponent::from_rational(&Rational::HALF)?;
        Ok(Quotient::polynomial(Polynomial::term(
            Monomial::power(MINUS_ONE, half),
            Rational::ONE,
        )))
    }

    /// A call whose argument is canonical.
    pub(super) fn function(
        &mut self,
        function: Function,
        u: &Quotient,
        fuel: &Fuel,
    ) -> Result<Quotient, Stop> {
        match function {
            Function::Exp => self.exponential(u, fuel),
            Function::Ln => self.logarithm(u, fuel),
            Function::Sin => Ok(self.sine_and_cosine(u, fuel)?.0),
            Function::Cos => Ok(self.sine_and_cosine(u, fuel)?.1),
            Function::Tan => {
                let (sine, cosine) = self.sine_and_cosine(u, fuel)?;
                self.divide(&sine, &cosine, fuel)
            }
            Function::Cot => {
                let (sine, cosine) = self.sine_and_cosine(u, fuel)?;
                self.divide(&cosine, &sine, fuel)
            }
            Function::Sec => {
                let cosine = self.sine_and_cosine(u, fuel)?.1;
                self.invert(&cosine, fuel)
            }
            Function::Csc => {
                let sine = self.sine_and_cosine(u, fuel)?.0;
                self.invert(&sine, fuel)
            }
            Function::Sinh
            | Function::Cosh
            | Function::Tanh
            | Function::Coth
            | Function::Sech
            | Function::Csch => self.hyperbolic(function, u, fuel),
            Function::Arcsin => self.arcsine(u, fuel),
            Function::Arccos => {
                let arcsine = self.arcsine(u, fuel)?;
                self.right_angle_minus(&arcsine, fuel)
            }
            Function::Arctan => self.arctangent(u, fuel),
            Function::Arccot => {
                let arctangent = self.arctangent(u, fuel)?;
                self.right_angle_minus(&arctangent, fuel)
            }
            Function::Arcsec => {
                let inverse = self.invert(u, fuel)?;
                self.function(Function::Arccos, &inverse, fuel)
            }
            Function::Arccsc => {
                let inverse = self.invert(u, fuel)?;
                self.function(Function::Arcsin, &inverse, fuel)
            }
            _ => self.call(function, vec![u.clone()], fuel),
        }
    }

    pub(super) fn divide(
        &mut self,
        a: &Quotient,
        b: &Quotient,
        fuel: &Fuel,
    ) -> Result<Quotient, Stop> {
        let inverse = self.invert(b, fuel)?;
        self.multiply_quotients(a, &inverse, fuel)
    }

    /// A function that stays a generator.
    pub(super) fn call(
        &mut self,
        function: Function,
        arguments: Vec<Quotient>,
        fuel: &Fuel,
    ) -> Result<Quotient, Stop> {
        let generator = self.intern(Kernel::Call(function, arguments), fuel)?;
        Ok(Quotient::polynomial(Polynomial::generator(generator)))
    }

    /// Euler: `sin u = (E - 1/E) / 2i`, `cos u = (E + 1/E) / 2` with `E = e^{iu}`.
    fn sine_and_cosine(&mut self, u: &Quotient, fuel: &Fuel) -> Result<(Quotient, Quotient), Stop> {
        let i = self.imaginary_unit()?;
        let iu = self.multiply_quotients(u, &i, fuel)?;
        let plus = self.exponential(&iu, fuel)?;
        let minus = self.exponential(&iu.neg(), fuel)?;
        let half = Quotient::constant(Rational::HALF);
        let cosine = self.add_quotients(&plus, &minus, fuel)?;
        let cosine = self.multiply_quotients(&cosine, &half, fuel)?;
        let sine = self.add_quotients(&plus, &minus.neg(), fuel)?;
        let sine = self.multiply_quotients(&sine, &half, fuel)?;
        let sine = self.multiply_quotients(&sine, &i.neg(), fuel)?;
        Ok((sine, cosine))
    }

    fn hyperbolic(
        &mut self,
        function: Function,
        u: &Quotient,
        fuel: &Fuel,
    ) -> Result<Quotient, Stop> {
        let plus = self.exponential(u, fuel)?;
        let minus = self.exponential(&u.neg(), fuel)?;
        let sum = self.add_quotients(&plus, &minus, fuel)?;
        let difference = self.add_quotients(&plus, &minus.neg(), fuel)?;
        let two = Quotient::constant(Rational::integer(2));
        match function {
            Function::Sinh => self.divide(&difference, &two, fuel),
            Function::Cosh => self.divide(&sum, &two, fuel),
            Function::Tanh => self.divide(&difference, &sum, fuel),
            Function::Coth => self.divide(&sum, &difference, fuel),
            Function::Sech => self.divide(&two, &sum, fuel),
            _ => self.divide(&two, &difference, fuel),
        }
    }

    fn right_angle_minus(&mut self, u: &Quotient, fuel: &Fuel) -> Result<Quotient, Stop> {
        self.add_quotients(&multiple_of_pi(1, 2), &u.neg(), fuel)
    }

    fn arcsine(&mut self, u: &Quotient, fuel: &Fuel) -> Result<Quotient, Stop> {
        self.inverse_trigonometric(Function::Arcsin, u, fuel)
    }

    fn arctangent(&mut self, u: &Quotient, fuel: &Fuel) -> Result<Quotient, Stop> {
        self.inverse_trigonometric(Function::Arctan, u, fuel)
    }

    /// Arcsine or arctangent: multiples of 15 degrees by value, odd in the argument otherwise.
    fn inverse_trigonometric(
        &mut self,
        function: Function,
        u: &Quotient,
        fuel: &Fuel,
    ) -> Result<Quotient, Stop> {
        if u.numerator.is_zero() {
            return Ok(Quotient::constant(Rational::ZERO));
        }
        let negative = u
            .numerator
            .terms()
            .last()
            .is_some_and(|term| term.coefficient.is_negative());
        let u = if negative { u.neg() } else { u.clone() };
        let mut value = None;
        let constant = u.denominator.is_one()
            && u.numerator.terms().iter().all(|term| {
                term.monomial
                    .factors()
                    .iter()
                    .all(|(g, _)| matches!(self.kernel(*g), Kernel::Prime(_)))
            });
        if constant {
            for twelfths in (-5..=6i64).filter(|k| *k != 0) {
                let angle = multiple_of_pi(twelfths, 12);
                let (sine, cosine) = self.sine_and_cosine(&angle, fuel)?;
                let candidate = match function {
                    Function::Arcsin => sine,
                    _ if twelfths == 6 => continue,
                    _ => self.divide(&sine, &cosine, fuel)?,
                };
                if self.are_equal(&candidate, &u, fuel)? {
                    value = Some(angle);
                    break;
                }
            }
        }
        let value = match value {
            Some(value) => value,
            None => self.call(function, vec![u], fuel)?,
        };
        Ok(if negative { value.neg() } else { value })
    }
}

/// `n pi / d`.
pub(super) fn multiple_of_pi(n: i64, d: i64) -> Quotient {
    let coefficient = Rational::ratio(n, d).unwrap_or(Rational::ZERO);
    Quotient::polynomial(Polynomial::term(
        Monomial::power(PI, Exponent::ONE),
        coefficient,
    ))
}
