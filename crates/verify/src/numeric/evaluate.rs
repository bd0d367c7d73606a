//! The value of a tree at a point.
use seele_random::Key;
use smallvec::SmallVec;

use super::{Complex, Real};
use crate::fuel::{Fuel, Stop};
use crate::number::Rational;
use crate::tree::{Binder, Constant, Function, Node, NodeId, Symbol, Tree};

/// Points at which expressions with symbols are evaluated: two positive, two of mixed sign, two whole.
pub(crate) const POINTS: usize = 6;
/// Points from here on have whole coordinates, at which factorials and floors are defined.
const FIRST_WHOLE_POINT: usize = 4;
/// Whole powers up to this are multiplied out.
const MAX_WHOLE_POWER: i64 = 1 << 16;
const MAX_BOUND_TERMS: i64 = 64;

/// Evaluates nodes of one tree with one kind of interval arithmetic.
pub(crate) struct Evaluator<'a, R: Real> {
    pub(crate) tree: &'a Tree,
    pub(crate) fuel: &'a Fuel,
    pub(crate) precision: &'a R::Precision,
    pub(crate) point: usize,
    /// Symbols with a subscript take positive values only.
    pub(crate) subscripted_positive: bool,
    bound: SmallVec<[(Symbol, Rational); 2]>,
}

impl<'a, R: Real> Evaluator<'a, R> {
    pub(crate) fn new(
        tree: &'a Tree,
        fuel: &'a Fuel,
        precision: &'a R::Precision,
        point: usize,
        subscripted_positive: bool,
    ) -> Self {
        Self {
            tree,
            fuel,
            precision,
            point,
            subscripted_positive,
            bound: SmallVec::new(),
        }
    }

    fn rational(&self, value: &Rational) -> Complex<R> {
        Complex::from_rational(value, self.precision)
    }

    /// The value at the point.
    ///
    /// # Errors
    /// [`Stop::Unsupported`] where the value is undefined, unknown or out of range.
    pub(crate) fn value(&mut self, id: NodeId) -> Result<Complex<R>, Stop> {
        self.fuel.spend(R::cost(self.precision))?;
        let p = self.precision;
        match self.tree.node(id) {
            Node::Number { index, .. } | Node::Based { index, .. } => {
                Ok(self.rational(self.tree.rational(index)))
            }
            Node::Symbol(symbol) => Ok(self.symbol(symbol)),
            Node::Constant(constant) => match constant {
                Constant::Pi => Ok(Complex::real(R::pi(p))),
                Constant::E => self.rational(&Rational::ONE).exp(p),
                Constant::I => Ok(Complex::i(p)),
                _ => Err(Stop::Unsupported),
            },
            Node::Add(kids) => {
                let tree = self.tree;
                let mut kids = tree.kids(kids).iter();
                let mut sum = self.value(*kids.next().ok_or(Stop::Unsupported)?)?;
                for kid in kids {
                    sum = sum.add(&self.value(*kid)?, p);
                }
                Ok(sum)
            }
            Node::Mul(kids) => {
                let tree = self.tree;
                let mut kids = tree.kids(kids).iter();
                let mut product = self.value(*kids.next().ok_or(Stop::Unsupported)?)?;
                for kid in kids {
                    product = product.mul(&self.value(*kid)?, p);
                }
                Ok(product)
            }
            Node::Neg(a) => Ok(self.value(a)?.neg()),
            Node::Div(a, b) => {
                let a = self.value(a)?;
                a.div(&self.value(b)?, p)
            }
            Node::Pow(a, b) => self.power(a, b),
            Node::Root(a, n) => self.root(a, n),
            Node::Call(function, kids) => self.call(function, self.tree.kids(kids)),
            Node::Bound(binder @ (Binder::Sum | Binder::Product), variable, kids) => {
                let [from, to, body] = self.tree.kids(kids) else {
                    return Err(Stop::Unsupported);
                };
                self.repeated(binder, variable, *from, *to, *body)
            }
            Node::Percent(a) => {
                let hundred = self.rational(&Rational::integer(100));
                self.value(a)?.div(&hundred, p)
            }
            Node::Degree(a) => {
                let turn = self.rational(&Rational::ratio(1, 180).ok_or(Stop::Unsupported)?);
                Ok(self
                    .value(a)?
                    .mul(&Complex::real(R::pi(p)), p)
                    .mul(&turn, p))
            }
            Node::Quantity(a, _) => self.value(a),
            Node::Ratio(kids) => {
                let [a, b] = self.tree.kids(kids) else {
                    return Err(Stop::Unsupported);
                };
                let (a, b) = (self.value(*a)?, self.value(*b)?);
                a.div(&b, p)
            }
            Node::Word(index) => {
                let mut product = self.rational(&Rational::ONE);
                for letter in self.tree.text(index).bytes() {
                    let factor = match letter {
                        b'i' => Complex::i(p),
                        b'e' => self.rational(&Rational::ONE).exp(p)?,
                        _ => self.symbol(Symbol(u32::from(letter))),
                    };
                    product = product.mul(&factor, p);
                }
                Ok(product)
            }
            _ => Err(Stop::Unsupported),
        }
    }

    /// The coordinate of a symbol: different symbols get different, unremarkable values.
    fn symbol(&self, symbol: Symbol) -> Complex<R> {
        if let Some((_, value)) = self.bound.iter().rev().find(|(bound, _)| *bound == symbol) {
            return self.rational(value);
        }
        let mixed = Key::new(self.tree.name_hash(symbol))
            .with(self.point as u64)
            .bits();
        let value = if self.point >= FIRST_WHOLE_POINT {
            Rational::integer(3 + (mixed % 23) as i64)
        } else {
            // Between 1/2 and 5/2, with a denominator that is prime.
            let numerator = 500 + (mixed % 2000) as i64;
            // Quantities with a subscript, `r_0`, are mostly lengths, masses and the like.
            let negative = self.point >= 2
                && (mixed >> 20) & 1 == 1
                && !(self.subscripted_positive && self.tree.is_subscripted(symbol));
            Rational::ratio(if negative { -numerator } else { numerator }, 1009)
                .unwrap_or(Rational::ONE)
        };
        self.rational(&value)
    }

    /// An exponent or order that is a plain rational number.
    fn constant(&self, id: NodeId) -> Option<Rational> {
        if let Node::Symbol(symbol) = self.tree.node(id)
            && let Some((_, value)) = self.bound.iter().rev().find(|(bound, _)| *bound == symbol)
        {
            return Some(value.clone());
        }
        crate::algebra::rational_value(self.tree, id, self.fuel)
    }

    fn power(&mut self, base: NodeId, exponent: NodeId) -> Result<Complex<R>, Stop> {
        let p = self.precision;
        if let Some(constant) = self.constant(exponent)
            && let Some(power) = constant.to_i64()
            && power.abs() <= MAX_WHOLE_POWER
        {
            let base = self.value(base)?;
            if power == 0 && base.re.sign() == Some(0) {
                return Err(Stop::Unsupported);
            }
            self.fuel
                .spend(R::cost(p) * (64 - power.unsigned_abs().leading_zeros()) as usize)?;
            let value = base.powi(power.unsigned_abs() as u32, p);
            return if power < 0 {
                value.inverse(p)
            } else {
                Ok(value)
            };
        }
        if matches!(self.tree.node(base), Node::Constant(Constant::E)) {
            let exponent = self.value(exponent)?;
            self.fuel.spend(R::cost(p) * 16)?;
            return exponent.exp(p);
        }
        let base_node = base;
        let (base, exponent) = (self.value(base)?, self.value(exponent)?);
        // A whole exponent that came out of the point.
        if exponent.im.is_none()
            && let (Some(floor), Some(_)) = (exponent.re.floor(), exponent.re.sign())
            && exponent.re.sub(&R::from_rational(&floor, p), p).sign() == Some(0)
            && let Some(power) = floor.to_i64()
            && power.abs() <= MAX_WHOLE_POWER
        {
            self.fuel.spend(R::cost(p) * 20)?;
            let value = base.powi(power.unsigned_abs() as u32, p);
            return if power < 0 {
                value.inverse(p)
            } else {
                Ok(value)
            };
        }
        self.fuel.spend(R::cost(p) * 40)?;
        if base.im.is_none() && base.re.sign() == Some(0) {
            return if exponent.im.is_none() && exponent.re.sign() == Some(1) {
                Ok(base)
            } else {
                Err(Stop::Unsupported)
            };
        }
        // A fractional power of a negative variable means the real root to some and the principal value
        // to others: such a point says nothing.
        if exponent.im.is_none()
            && base.im.is_none()
            && base.re.sign() == Some(-1)
            && self.varies(base_node)
        {
            return Err(Stop::Unsupported);
        }
        base.pow(&exponent, p)
    }

    /// Does the value depend on the point?
    fn varies(&self, id: NodeId) -> bool {
        self.tree
            .any(id, &|node| matches!(node, Node::Symbol(_) | Node::Word(_)))
    }

    fn root(&mut self, radicand: NodeId, order: NodeId) -> Result<Complex<R>, Stop> {
        let p = self.precision;
        let order = self.constant(order);
        let radicand = self.value(radicand)?;
        let order = order
            .and_then(|order| order.to_i64())
            .filter(|order| (2..=1 << 20).contains(order))
            .ok_or(Stop::Unsupported)?;
        self.fuel
            .spend(R::cost(p) * if order == 2 { 2 } else { 40 })?;
        if order == 2 {
            return radicand.sqrt(p);
        }
        if radicand.im.is_none() && radicand.re.sign() == Some(0) {
            return Ok(radicand);
        }
        let exponent = self.rational(&Rational::ratio(1, order).ok_or(Stop::Unsupported)?);
        if order % 2 == 1 && radicand.im.is_none() && radicand.re.sign() == Some(-1) {
            return Ok(radicand.neg().pow(&exponent, p)?.neg());
        }
        radicand.pow(&exponent, p)
    }

    fn call(&mut self, function: Function, arguments: &[NodeId]) -> Result<Complex<R>, Stop> {
        let p = self.precision;
        if matches!(
            function,
            Function::Binomial
                | Function::Min
                | Function::Max
                | Function::Mod
                | Function::Gcd
                | Function::Lcm
        ) {
            return self.call_many(function, arguments);
        }
        let [argument] = arguments else {
            return Err(Stop::Unsupported);
        };
        let x = self.value(*argument)?;
        self.fuel.spend(R::cost(p) * 20)?;
        match function {
            Function::Sin => x.sin(p),
            Function::Cos => x.cos(p),
            Function::Tan => x.sin(p)?.div(&x.cos(p)?, p),
            Function::Cot => x.cos(p)?.div(&x.sin(p)?, p),
            Function::Sec => x.cos(p)?.inverse(p),
            Function::Csc => x.sin(p)?.inverse(p),
            Function::Arcsin => x.asin(p),
            Function::Arccos => Ok(self.quarter_turn()?.add(&x.asin(p)?.neg(), p)),
            Function::Arctan => x.atan(p),
            Function::Arccot => Ok(self.quarter_turn()?.add(&x.atan(p)?.neg(), p)),
            Function::Arcsec => Ok(self.quarter_turn()?.add(&x.inverse(p)?.asin(p)?.neg(), p)),
            Function::Arccsc => x.inverse(p)?.asin(p),
            Function::Sinh => x.sinh(p),
            Function::Cosh => x.cosh(p),
            Function::Tanh => x.sinh(p)?.div(&x.cosh(p)?, p),
            Function::Coth => x.cosh(p)?.div(&x.sinh(p)?, p),
            Function::Sech => x.cosh(p)?.inverse(p),
            Function::Csch => x.sinh(p)?.inverse(p),
            Function::Arsinh | Function::Arcosh => {
                let one = self.rational(&Rational::ONE);
                let one = if function == Function::Arsinh {
                    one
                } else {
                    one.neg()
                };
                let root = x.mul(&x, p).add(&one, p).sqrt(p)?;
                x.add(&root, p).ln(p)
            }
            Function::Artanh => {
                let one = self.rational(&Rational::ONE);
                let half = self.rational(&Rational::HALF);
                let quotient = one.add(&x, p).div(&one.add(&x.neg(), p), p)?;
                Ok(quotient.ln(p)?.mul(&half, p))
            }
            Function::Ln => x.ln(p),
            Function::Exp => x.exp(p),
            Function::Abs => Ok(Complex::real(x.abs(p)?)),
            Function::Floor => Ok(self.rational(&x.as_real()?.floor().ok_or(Stop::Unsupported)?)),
            Function::Ceil => {
                Ok(self.rational(&x.as_real()?.neg().floor().ok_or(Stop::Unsupported)?.neg()))
            }
            Function::Factorial => {
                let n = self.whole(&x)?;
                self.factorial(n)
            }
            Function::Sign => {
                let sign = x.as_real()?.sign().ok_or(Stop::Unsupported)?;
                Ok(self.rational(&Rational::integer(i64::from(sign))))
            }
            Function::Re => Ok(Complex::real(x.re)),
            Function::Im => Ok(Complex::real(
                x.im.unwrap_or_else(|| R::from_rational(&Rational::ZERO, p)),
            )),
            Function::Conjugate => Ok(Complex {
                re: x.re,
                im: x.im.map(|im| im.neg()),
            }),
            _ => Err(Stop::Unsupported),
        }
    }

    fn call_many(&mut self, function: Function, arguments: &[NodeId]) -> Result<Complex<R>, Stop> {
        let p = self.precision;
        let mut values = SmallVec::<[Complex<R>; 4]>::new();
        for argument in arguments {
            values.push(self.value(*argument)?);
        }
        match (function, values.as_slice()) {
            (Function::Binomial, [n, k]) => {
                let (n, k) = (self.whole(n)?, self.whole(k)?);
                if k > n {
                    return Ok(self.rational(&Rational::ZERO));
                }
                let (upper, left, right) = (
                    self.factorial(n)?,
                    self.factorial(k)?,
                    self.factorial(n - k)?,
                );
                upper.div(&left.mul(&right, p), p)
            }
            (Function::Min | Function::Max, [first, rest @ ..]) => {
                let mut best = first.clone();
                for other in rest {
                    let sign = other
                        .as_real()?
                        .sub(best.as_real()?, p)
                        .sign()
                        .ok_or(Stop::Unsupported)?;
                    if (sign < 0) == (function == Function::Min) {
                        best = other.clone();
                    }
                }
                Ok(best)
            }
            _ => Err(Stop::Unsupported),
        }
    }

    fn quarter_turn(&self) -> Result<Complex<R>, Stop> {
        let p = self.precision;
        Ok(Complex::real(
            R::pi(p).mul(&R::from_rational(&Rational::HALF, p), p),
        ))
    }

    /// A whole number that is small enough for a factorial.
    fn whole(&self, x: &Complex<R>) -> Result<i64, Stop> {
        let re = x.as_real()?;
        let floor = re.floor().ok_or(Stop::Unsupported)?;
        let exact = re
            .sub(&R::from_rational(&floor, self.precision), self.precision)
            .sign()
            == Some(0);
        floor
            .to_i64()
            .filter(|n| exact && (0..=150).contains(n))
            .ok_or(Stop::Unsupported)
    }

    fn factorial(&mut self, n: i64) -> Result<Complex<R>, Stop> {
        let p = self.precision;
        self.fuel.spend(1 + n as usize / 8)?;
        let mut product = self.rational(&Rational::ONE);
        for factor in 2..=n {
            product = product.mul(&self.rational(&Rational::integer(factor)), p);
        }
        Ok(product)
    }

    fn repeated(
        &mut self,
        binder: Binder,
        variable: Symbol,
        from: NodeId,
        to: NodeId,
        body: NodeId,
    ) -> Result<Complex<R>, Stop> {
        let p = self.precision;
        let whole = |this: &mut Self, id: NodeId| -> Result<i64, Stop> {
            let value = this.value(id)?;
            let floor = value.as_real()?.floor().ok_or(Stop::Unsupported)?;
            let exact = value.re.sub(&R::from_rational(&floor, p), p).sign() == Some(0);
            floor.to_i64().filter(|_| exact).ok_or(Stop::Unsupported)
        };
        let (low, high) = (whole(self, from)?, whole(self, to)?);
        if high
            .checked_sub(low)
            .is_none_or(|span| span > MAX_BOUND_TERMS)
        {
            return Err(Stop::Unsupported);
        }
        let mut total = self.rational(&if binder == Binder::Sum {
            Rational::ZERO
        } else {
            Rational::ONE
        });
        for index in low..=high {
            self.bound.push((variable, Rational::integer(index)));
            let term = self.value(body);
            self.bound.pop();
            total = if binder == Binder::Sum {
                total.add(&term?, p)
            } else {
                total.mul(&term?, p)
            };
        }
        Ok(total)
    }
}
