//! Sums, products and integrals with bounds.

use super::Algebra;
use crate::algebra::exponent::Exponent;
use crate::algebra::generators::{Kernel, polynomial_mentions};
use crate::algebra::polynomial::{Generator, Polynomial, Term};
use crate::algebra::quotient::Quotient;
use crate::fuel::Stop;
use crate::number::Rational;
use crate::tree::{Binder, Constant, Node, NodeId, Symbol};

/// Sums and products with more terms stay symbolic.
const MAX_BOUND_TERMS: i64 = 64;

impl Algebra<'_> {
    pub(super) fn binder(
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
        let hidden = |term: &Term| {
            term.monomial
                .factors()
                .iter()
                .any(|(g, _)| self.generators.mentions(*g, variable))
        };
        let harmonic = |term: &Term| {
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
