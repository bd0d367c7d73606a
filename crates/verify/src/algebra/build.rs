//! From the tree to canonical quotients.

mod binder;
mod function;

use smallvec::SmallVec;

use super::functions::multiple_of_pi;
use super::generators::{Generators, Kernel, MINUS_ONE, PI};
use super::polynomial::{Generator, Monomial, Polynomial};
use super::quotient::Quotient;
use crate::fuel::{Fuel, Stop};
use crate::number::Rational;
use crate::tree::{Constant, Node, NodeId, Symbol, Tree};

/// The canonical forms of one comparison; all share their generators.
pub(crate) struct Algebra<'a> {
    tree: &'a Tree,
    fuel: &'a Fuel,
    generators: Generators,
    /// Values of bound variables, innermost last.
    bound: SmallVec<[(Symbol, Quotient); 2]>,
}

impl<'a> Algebra<'a> {
    pub(crate) fn new(tree: &'a Tree, fuel: &'a Fuel) -> Self {
        Self {
            tree,
            fuel,
            generators: Generators::new(),
            bound: SmallVec::new(),
        }
    }

    /// True when some step so far holds only where all symbols are positive.
    pub(crate) fn assumed_positive(&self) -> bool {
        self.generators.assumed_positive
    }

    /// True when the two are equal for certain.
    pub(crate) fn are_equal(&self, a: &Quotient, b: &Quotient) -> Result<bool, Stop> {
        self.generators.are_equal(a, b, self.fuel)
    }

    /// The numerator of the difference over a common denominator.
    pub(crate) fn difference(&self, a: &Quotient, b: &Quotient) -> Result<Polynomial, Stop> {
        self.generators.difference(a, b, self.fuel)
    }

    pub(crate) fn subtract(&self, a: &Quotient, b: &Quotient) -> Result<Quotient, Stop> {
        self.generators.add_quotients(a, &b.neg(), self.fuel)
    }

    /// The numerator of an equation `u = 0`, cleared of negative exponents.
    pub(crate) fn equation(&self, u: &Quotient) -> Result<Polynomial, Stop> {
        let common = super::quotient::common_monomial(&u.numerator, self.fuel)?;
        let mut lift = Monomial::default();
        for (generator, exponent) in common.factors() {
            if exponent.is_negative() {
                lift = lift.times(&Monomial::power(*generator, exponent.neg()?))?;
            }
        }
        self.generators.multiply(
            &u.numerator,
            &Polynomial::term(lift, Rational::ONE),
            self.fuel,
        )
    }

    /// The rational `c` with `a = c b`, if there is one; it is not zero.
    pub(crate) fn proportion(
        &self,
        a: &Polynomial,
        b: &Polynomial,
    ) -> Result<Option<Rational>, Stop> {
        let (Some(x), Some(y)) = (a.terms().last(), b.terms().last()) else {
            return Ok(None);
        };
        if a.terms().len() != b.terms().len() || x.monomial != y.monomial {
            return Ok(None);
        }
        let factor = x.coefficient.div(&y.coefficient)?;
        Ok((b.scaled(&factor)? == *a).then_some(factor))
    }

    /// True when `a` and `b` differ by a factor without symbols, such as `\sqrt 2`.
    pub(crate) fn is_constant_multiple(
        &self,
        a: &Polynomial,
        b: &Polynomial,
    ) -> Result<bool, Stop> {
        let (Some(x), Some(y)) = (a.terms().last(), b.terms().last()) else {
            return Ok(false);
        };
        let _ = y;
        // a / b constant: the terms of b with the same symbols as the leading term of a give the factor.
        let symbols = |monomial: &Monomial| {
            Monomial(
                monomial
                    .factors()
                    .iter()
                    .filter(|(g, _)| !self.is_constant(*g))
                    .copied()
                    .collect(),
            )
        };
        let wanted = symbols(&x.monomial);
        let part = |polynomial: &Polynomial| -> Polynomial {
            Polynomial(
                polynomial
                    .terms()
                    .iter()
                    .filter(|term| symbols(&term.monomial) == wanted)
                    .cloned()
                    .collect(),
            )
        };
        let (upper, lower) = (part(a), part(b));
        if lower.is_zero() {
            return Ok(false);
        }
        let left = self.generators.multiply(a, &lower, self.fuel)?;
        let right = self.generators.multiply(b, &upper, self.fuel)?;
        super::cyclotomic::vanishes(&left.sub(&right, self.fuel)?, self.fuel)
    }

    /// `c x + d` with rational c and d: the symbol, c and d.
    pub(crate) fn linear(&self, value: &Quotient) -> Option<(Symbol, Rational, Rational)> {
        let (mut found, mut offset) = (None, Rational::ZERO);
        for term in value.as_polynomial()?.terms() {
            match term.monomial.factors() {
                [] => offset = term.coefficient.clone(),
                [(generator, exponent)] if exponent.is_one() && found.is_none() => {
                    match self.generators.kernel(*generator) {
                        Kernel::Symbol(symbol) => found = Some((*symbol, term.coefficient.clone())),
                        _ => return None,
                    }
                }
                _ => return None,
            }
        }
        found.map(|(symbol, slope)| (symbol, slope, offset))
    }

    fn is_constant(&self, generator: Generator) -> bool {
        generator == MINUS_ONE || self.generators.is_positive_constant(generator)
    }

    // ---- building --------------------------------------------------------------------------------

    /// The canonical form of a scalar expression.
    ///
    /// # Errors
    /// [`Stop::Unsupported`] for nodes that are no scalars, undefined operations and values too large.
    pub(crate) fn build(&mut self, id: NodeId) -> Result<Quotient, Stop> {
        self.fuel.spend(1)?;
        let fuel = self.fuel;
        match self.tree.node(id) {
            Node::Number { index, .. } | Node::Based { index, .. } => {
                Ok(Quotient::constant(self.tree.rational(index).clone()))
            }
            Node::Symbol(symbol) => self.symbol(symbol),
            Node::Constant(constant) => match constant {
                Constant::Pi => Ok(Quotient::polynomial(Polynomial::generator(PI))),
                Constant::E => self
                    .generators
                    .exponential(&Quotient::constant(Rational::ONE), fuel),
                Constant::I => self.generators.imaginary_unit(),
                _ => Err(Stop::Unsupported),
            },
            Node::Add(kids) => {
                let mut sum = Quotient::constant(Rational::ZERO);
                for index in 0..self.tree.kids(kids).len() {
                    let term = self.build(self.tree.kids(kids)[index])?;
                    sum = self.generators.add_quotients(&sum, &term, fuel)?;
                }
                Ok(sum)
            }
            Node::Mul(kids) => {
                let mut product = Quotient::constant(Rational::ONE);
                for index in 0..self.tree.kids(kids).len() {
                    let factor = self.build(self.tree.kids(kids)[index])?;
                    product = self
                        .generators
                        .multiply_quotients(&product, &factor, fuel)?;
                }
                Ok(product)
            }
            Node::Neg(a) => Ok(self.build(a)?.neg()),
            Node::Div(a, b) => {
                let (a, b) = (self.build(a)?, self.build(b)?);
                self.generators.divide(&a, &b, fuel)
            }
            Node::Pow(a, b) => self.power(a, b),
            Node::Root(a, n) => {
                let radicand = self.build(a)?;
                let order = self.build(n)?;
                match order.as_constant() {
                    Some(order) => {
                        let exponent = order.inverse()?;
                        self.generators.power(&radicand, &exponent, true, fuel)
                    }
                    None => {
                        let exponent = self.generators.invert(&order, fuel)?;
                        self.general_power(&radicand, &exponent)
                    }
                }
            }
            Node::Call(function, kids) => {
                let mut arguments = Vec::with_capacity(1);
                for index in 0..self.tree.kids(kids).len() {
                    arguments.push(self.build(self.tree.kids(kids)[index])?);
                }
                self.function(function, arguments)
            }
            Node::Apply(symbol, kids) => {
                let mut arguments = Vec::with_capacity(1);
                for index in 0..self.tree.kids(kids).len() {
                    arguments.push(self.build(self.tree.kids(kids)[index])?);
                }
                self.kernel(Kernel::Apply(symbol, arguments))
            }
            Node::Index(symbol, index) => {
                let index = self.build(index)?;
                self.kernel(Kernel::Index(symbol, index))
            }
            Node::Bound(binder, variable, kids) => {
                let [from, to, body] = self.tree.kids(kids) else {
                    return Err(Stop::Unsupported);
                };
                self.binder(binder, variable, *from, *to, *body)
            }
            Node::Percent(a) => {
                let a = self.build(a)?;
                let hundredth =
                    Quotient::constant(Rational::ratio(1, 100).ok_or(Stop::Unsupported)?);
                self.generators.multiply_quotients(&a, &hundredth, fuel)
            }
            Node::Degree(a) => {
                let a = self.build(a)?;
                self.generators
                    .multiply_quotients(&a, &multiple_of_pi(1, 180), fuel)
            }
            Node::Quantity(a, _) => self.build(a),
            Node::Ratio(kids) => {
                let [a, b] = self.tree.kids(kids) else {
                    return Err(Stop::Unsupported);
                };
                let (a, b) = (self.build(*a)?, self.build(*b)?);
                self.generators.divide(&a, &b, fuel)
            }
            Node::Word(index) => {
                let mut product = Quotient::constant(Rational::ONE);
                let letters: SmallVec<[u8; 8]> = self.tree.text(index).bytes().collect();
                for letter in letters {
                    let factor = match letter {
                        b'i' => self.generators.imaginary_unit()?,
                        b'e' => self
                            .generators
                            .exponential(&Quotient::constant(Rational::ONE), fuel)?,
                        _ => self.symbol(Symbol(u32::from(letter)))?,
                    };
                    product = self
                        .generators
                        .multiply_quotients(&product, &factor, fuel)?;
                }
                Ok(product)
            }
            Node::Text(index) => self.kernel(Kernel::Text(self.tree.text(index).into())),
            Node::PlusMinus(..)
            | Node::MinusPlus(..)
            | Node::Sequence { .. }
            | Node::Set(_)
            | Node::SetOf(..)
            | Node::List(_)
            | Node::Chain { .. }
            | Node::Congruence(..)
            | Node::SetOp(..)
            | Node::Dots => Err(Stop::Unsupported),
            Node::Matrix {
                columns,
                kids,
                determinant,
            } => {
                if !determinant {
                    return Err(Stop::Unsupported);
                }
                let mut entries = Vec::with_capacity(self.tree.kids(kids).len());
                for index in 0..self.tree.kids(kids).len() {
                    entries.push(self.build(self.tree.kids(kids)[index])?);
                }
                self.determinant(&entries, columns as usize)
            }
        }
    }

    fn kernel(&mut self, kernel: Kernel) -> Result<Quotient, Stop> {
        let generator = self.generators.intern(kernel, self.fuel)?;
        Ok(Quotient::polynomial(Polynomial::generator(generator)))
    }

    fn symbol(&mut self, symbol: Symbol) -> Result<Quotient, Stop> {
        if let Some((_, value)) = self.bound.iter().rev().find(|(bound, _)| *bound == symbol) {
            return Ok(value.clone());
        }
        self.kernel(Kernel::Symbol(symbol))
    }

    fn power(&mut self, base: NodeId, exponent: NodeId) -> Result<Quotient, Stop> {
        let exponent = self.build(exponent)?;
        if matches!(self.tree.node(base), Node::Constant(Constant::E)) {
            return self.generators.exponential(&exponent, self.fuel);
        }
        let base = self.build(base)?;
        match exponent.as_constant() {
            Some(constant) => match self.generators.power(&base, &constant, false, self.fuel) {
                Err(Stop::Unsupported) if !base.numerator().is_zero() => {
                    self.general_power(&base, &exponent)
                }
                other => other,
            },
            None => self.general_power(&base, &exponent),
        }
    }

    /// `b^u = e^{u ln b}`.
    fn general_power(&mut self, base: &Quotient, exponent: &Quotient) -> Result<Quotient, Stop> {
        let logarithm = self.generators.logarithm(base, self.fuel)?;
        let product = self
            .generators
            .multiply_quotients(exponent, &logarithm, self.fuel)?;
        self.generators.exponential(&product, self.fuel)
    }
}

/// The exact value of a tree of plain rational arithmetic, without building anything: the common case.
///
/// `None` when the tree holds anything else, or a value is too large.
pub(crate) fn rational_value(tree: &Tree, id: NodeId, fuel: &Fuel) -> Option<Rational> {
    let value = match tree.node(id) {
        Node::Number { index, .. } => return Some(tree.rational(index).clone()),
        Node::Neg(a) => rational_value(tree, a, fuel)?.neg(),
        Node::Div(a, b) => rational_value(tree, a, fuel)?
            .div(&rational_value(tree, b, fuel)?)
            .ok()?,
        Node::Add(kids) => {
            let mut sum = Rational::ZERO;
            for kid in tree.kids(kids) {
                sum = sum.add(&rational_value(tree, *kid, fuel)?).ok()?;
                fuel.spend(sum.cost()).ok()?;
            }
            sum
        }
        Node::Mul(kids) => {
            let mut product = Rational::ONE;
            for kid in tree.kids(kids) {
                product = product.mul(&rational_value(tree, *kid, fuel)?).ok()?;
                fuel.spend(product.cost()).ok()?;
            }
            product
        }
        Node::Pow(a, b) => {
            let exponent = rational_value(tree, b, fuel)?.to_i64()?;
            let base = rational_value(tree, a, fuel)?;
            if exponent == 0 && base.is_zero() {
                return None;
            }
            base.pow(exponent).ok()?
        }
        _ => return None,
    };
    fuel.spend(value.cost()).ok()?;
    Some(value)
}
