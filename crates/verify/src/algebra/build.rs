//! From the tree to canonical quotients.
use num_bigint::BigInt;
use num_integer::Integer;
use num_traits::One;
use smallvec::SmallVec;

use super::exponent::Exponent;
use super::functions::multiple_of_pi;
use super::generators::{Generators, Kernel, MINUS_ONE, PI, polynomial_mentions};
use super::polynomial::{Generator, Monomial, Polynomial};
use super::quotient::Quotient;
use crate::fuel::{Fuel, Stop};
use crate::number::Rational;
use crate::tree::{Binder, Constant, Function, Node, NodeId, Symbol, Tree};

/// Factorials of larger numbers stay symbolic.
const MAX_FACTORIAL: i64 = 400;
/// Sums and products with more terms stay symbolic.
const MAX_BOUND_TERMS: i64 = 64;
/// `(n + k)!` is written through `n!` up to this `k`.
const MAX_FACTORIAL_SHIFT: i64 = 12;

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

    fn function(
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
    fn floor(&mut self, u: &Quotient) -> Result<Quotient, Stop> {
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
    fn determinant(&mut self, entries: &[Quotient], size: usize) -> Result<Quotient, Stop> {
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

    fn binder(
        &mut self,
        binder: Binder,
        variable: Symbol,
        from: NodeId,
        to: NodeId,
        body: NodeId,
    ) -> Result<Quotient, Stop> {
        let indefinite = binder == Binder::Integral && from == to;
        let infinite =
            |id: NodeId| matches!(self.tree.node(id), Node::Constant(Constant::Infinity));
        let bounds = if indefinite
            || infinite(from)
            || infinite(to)
            || matches!(self.tree.node(from), Node::Neg(_))
        {
            None
        } else {
            Some((self.build(from)?, self.build(to)?))
        };
        if let (Binder::Sum | Binder::Product, Some((low, high))) = (binder, &bounds)
            && let (Some(low), Some(high)) = (
                low.as_constant().and_then(|c| c.to_i64()),
                high.as_constant().and_then(|c| c.to_i64()),
            )
            && high
                .checked_sub(low)
                .is_some_and(|span| span < MAX_BOUND_TERMS)
        {
            return self.written_out(binder, variable, low, high, body);
        }
        let depth = self.bound.len() as u32;
        let bound_variable = self
            .generators
            .intern(Kernel::BoundVariable(depth), self.fuel)?;
        self.bound.push((
            variable,
            Quotient::polynomial(Polynomial::generator(bound_variable)),
        ));
        let inner = self.build(body);
        self.bound.pop();
        let inner = inner?;
        if let (Binder::Integral, Some((low, high))) = (binder, &bounds)
            && let Some(value) = self.polynomial_integral(&inner, bound_variable, low, high)?
        {
            return Ok(value);
        }
        let mut parts = Vec::with_capacity(3);
        match bounds {
            Some((low, high)) => parts.extend([low, high]),
            None if indefinite => parts.push(self.symbol(variable)?),
            None => {
                for bound in [from, to] {
                    let marker = self.infinite_bound(bound)?;
                    parts.push(marker);
                }
            }
        }
        parts.push(inner);
        self.kernel(Kernel::Bound(binder, parts))
    }

    /// A bound that may be infinite, as a kernel of its own.
    fn infinite_bound(&mut self, bound: NodeId) -> Result<Quotient, Stop> {
        match self.tree.node(bound) {
            Node::Constant(Constant::Infinity) => self.kernel(Kernel::Text("infinity".into())),
            Node::Neg(inner)
                if matches!(self.tree.node(inner), Node::Constant(Constant::Infinity)) =>
            {
                self.kernel(Kernel::Text("-infinity".into()))
            }
            _ => self.build(bound),
        }
    }

    /// A short sum or product with whole bounds.
    fn written_out(
        &mut self,
        binder: Binder,
        variable: Symbol,
        low: i64,
        high: i64,
        body: NodeId,
    ) -> Result<Quotient, Stop> {
        let mut total = Quotient::constant(if binder == Binder::Sum {
            Rational::ZERO
        } else {
            Rational::ONE
        });
        for index in low..=high {
            self.bound
                .push((variable, Quotient::constant(Rational::integer(index))));
            let term = self.build(body);
            self.bound.pop();
            let term = term?;
            total = if binder == Binder::Sum {
                self.generators.add_quotients(&total, &term, self.fuel)?
            } else {
                self.generators
                    .multiply_quotients(&total, &term, self.fuel)?
            };
        }
        Ok(total)
    }

    /// The definite integral when the integrand is a sum of powers of the variable.
    fn polynomial_integral(
        &mut self,
        body: &Quotient,
        variable: Generator,
        low: &Quotient,
        high: &Quotient,
    ) -> Result<Option<Quotient>, Stop> {
        if polynomial_mentions(&self.generators, &body.denominator, variable) {
            return Ok(None);
        }
        let hidden = |term: &super::polynomial::Term| {
            term.monomial
                .factors()
                .iter()
                .any(|(g, _)| self.generators.mentions(*g, variable))
        };
        let harmonic = |term: &super::polynomial::Term| {
            term.monomial
                .exponent_of(variable)
                .is_some_and(|e| e == Exponent::integer(-1))
        };
        if body
            .numerator
            .terms()
            .iter()
            .any(|term| hidden(term) || harmonic(term))
        {
            return Ok(None);
        }
        let fuel = self.fuel;
        let mut total = Quotient::constant(Rational::ZERO);
        for term in body.numerator.terms().to_vec() {
            let exponent = term
                .monomial
                .exponent_of(variable)
                .unwrap_or(Exponent::integer(0))
                .add(Exponent::ONE)?
                .to_rational();
            let coefficient = term.coefficient.div(&exponent)?;
            let factor = Quotient::polynomial(Polynomial::term(
                term.monomial.without(variable),
                coefficient,
            ));
            let upper = self.generators.power(high, &exponent, false, fuel)?;
            let lower = self.generators.power(low, &exponent, false, fuel)?;
            let difference = self.generators.add_quotients(&upper, &lower.neg(), fuel)?;
            let part = self
                .generators
                .multiply_quotients(&factor, &difference, fuel)?;
            total = self.generators.add_quotients(&total, &part, fuel)?;
        }
        let denominator = Quotient::polynomial(body.denominator.clone());
        self.generators.divide(&total, &denominator, fuel).map(Some)
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
