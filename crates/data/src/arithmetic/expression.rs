//! Sums and products of whole numbers, reduced one operation at a time.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An operation between two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operator {
    /// `+`
    #[serde(rename = "+")]
    Add,
    /// `-`
    #[serde(rename = "-")]
    Subtract,
    /// `*`
    #[serde(rename = "*")]
    Multiply,
}

impl Operator {
    /// The character it is written with.
    pub fn symbol(self) -> char {
        match self {
            Self::Add => '+',
            Self::Subtract => '-',
            Self::Multiply => '*',
        }
    }

    fn apply(self, left: i128, right: i128) -> Option<i128> {
        match self {
            Self::Add => left.checked_add(right),
            Self::Subtract => left.checked_sub(right),
            Self::Multiply => left.checked_mul(right),
        }
    }
}

/// `terms[0] operators[0] terms[1] ...`, one operator fewer than terms.
///
/// Terms start out as natural numbers; only the first can become negative, because products are
/// carried out before a difference can put a negative number in front of them. So no brackets are
/// ever needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Expression {
    terms: Vec<i128>,
    operators: Vec<Operator>,
}

impl Expression {
    pub(super) fn new(terms: Vec<u64>, operators: Vec<Operator>) -> Self {
        let terms = terms.into_iter().map(i128::from).collect();
        Self { terms, operators }
    }

    pub(super) fn operations(&self) -> usize {
        self.operators.len()
    }

    /// Carries out the operation that comes first by the rules of arithmetic and returns its result;
    /// `None` without operations or if the result leaves the range of numbers.
    pub(super) fn reduce(&mut self, modulus: Option<u64>) -> Option<i128> {
        let product = self
            .operators
            .iter()
            .position(|&op| op == Operator::Multiply);
        let at = product.unwrap_or(0);
        let (left, right) = (*self.terms.get(at)?, *self.terms.get(at + 1)?);
        let mut result = self.operators.get(at)?.apply(left, right)?;
        if let Some(modulus) = modulus {
            result = result.checked_rem_euclid(i128::from(modulus))?;
        }
        self.operators.remove(at);
        self.terms.remove(at + 1);
        self.terms[at] = result;
        Some(result)
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, term) in self.terms.iter().enumerate() {
            if let Some(operator) = i
                .checked_sub(1)
                .and_then(|before| self.operators.get(before))
            {
                write!(f, "{}", operator.symbol())?;
            }
            write!(f, "{term}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Operator::{Add, Multiply, Subtract};

    #[test]
    fn products_come_first_and_differences_from_the_left() {
        let mut rest = Expression::new(vec![3, 10, 4, 2], vec![Subtract, Add, Multiply]);
        let mut seen = vec![rest.to_string()];
        while rest.reduce(None).is_some() {
            seen.push(rest.to_string());
        }
        assert_eq!(seen, ["3-10+4*2", "3-10+8", "-7+8", "1"]);
    }

    #[test]
    fn results_are_taken_modulo_a_number() {
        let mut rest = Expression::new(vec![3, 10], vec![Subtract]);
        assert_eq!(rest.reduce(Some(100)), Some(93));
    }

    #[test]
    fn a_number_out_of_range_is_none() {
        let mut rest = Expression::new(vec![1 << 60; 3], vec![Multiply; 2]);
        assert!(rest.reduce(None).is_some() && rest.reduce(None).is_none());
    }
}
