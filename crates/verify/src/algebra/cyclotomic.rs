//! Zero test in the presence of roots of unity.
use num_integer::Integer;

use super::exponent::Exponent;
use super::generators::MINUS_ONE;
use super::polynomial::{Monomial, Polynomial};
use crate::fuel::{Fuel, Stop};
use crate::number::Rational;

/// Largest order of a root of unity that is reduced.
const MAX_ORDER: i64 = 720;

/// True when a polynomial in a root of unity and other generators vanishes.
///
/// Powers of `(-1)^{1/N}` are not independent: their relations are the multiples of the cyclotomic
/// polynomial of order `2N`. The others are taken to be independent, so `false` proves nothing.
pub(super) fn vanishes(polynomial: &Polynomial, fuel: &Fuel) -> Result<bool, Stop> {
    if polynomial.is_zero() {
        return Ok(true);
    }
    let mut order = 1i64;
    for term in polynomial.terms() {
        if let Some(exponent) = term.monomial.exponent_of(MINUS_ONE) {
            order = order.lcm(&exponent.denominator());
            if order > MAX_ORDER {
                return Ok(false);
            }
        }
    }
    // With i alone, (-1)^{1/2}, distinct terms are independent already.
    if order <= 2 {
        return Ok(false);
    }
    let cyclotomic = cyclotomic(2 * order, fuel)?;
    let mut groups: Vec<(Monomial, Vec<Rational>)> = Vec::new();
    for term in polynomial.terms() {
        let exponent = term
            .monomial
            .exponent_of(MINUS_ONE)
            .unwrap_or(Exponent::integer(0));
        let power = exponent.numerator() * (order / exponent.denominator());
        let rest = term.monomial.without(MINUS_ONE);
        let index = match groups.iter().position(|(monomial, _)| *monomial == rest) {
            Some(index) => index,
            None => {
                groups.push((rest, vec![Rational::ZERO; order as usize]));
                groups.len() - 1
            }
        };
        let Some(slot) = usize::try_from(power)
            .ok()
            .and_then(|power| groups[index].1.get_mut(power))
        else {
            return Ok(false);
        };
        *slot = slot.add(&term.coefficient)?;
        fuel.spend(groups.len())?;
    }
    for (_, mut remainder) in groups {
        let degree = cyclotomic.len() - 1;
        for top in (degree..remainder.len()).rev() {
            let factor = remainder[top].clone();
            if factor.is_zero() {
                continue;
            }
            fuel.spend(degree)?;
            for (offset, coefficient) in cyclotomic.iter().enumerate() {
                if *coefficient != 0 {
                    let at = top - degree + offset;
                    remainder[at] =
                        remainder[at].sub(&factor.mul(&Rational::integer(*coefficient))?)?;
                }
            }
        }
        if remainder.iter().any(|coefficient| !coefficient.is_zero()) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Coefficients of the cyclotomic polynomial of order `n`, constant term first:
/// the product of `(x^d - 1)^{mu(n/d)}` over the divisors `d` of `n`.
fn cyclotomic(n: i64, fuel: &Fuel) -> Result<Vec<i64>, Stop> {
    let size = n as usize + 1;
    let mut series = vec![0i64; size];
    series[0] = 1;
    // Truncated power series: every factor is 1 - x^d up to sign, so division is exact.
    for d in 1..=n {
        if n % d != 0 {
            continue;
        }
        let mobius = mobius(n / d);
        fuel.spend(size / 8)?;
        let step = d as usize;
        match mobius {
            1 => {
                for at in (step..size).rev() {
                    series[at] -= series[at - step];
                }
            }
            -1 => {
                for at in step..size {
                    series[at] += series[at - step];
                }
            }
            _ => {}
        }
    }
    while series.last() == Some(&0) {
        series.pop();
    }
    // The leading coefficient is 1 up to the sign of the dropped minus signs.
    if series.last() == Some(&-1) {
        series
            .iter_mut()
            .for_each(|coefficient| *coefficient = -*coefficient);
    }
    Ok(series)
}

fn mobius(mut n: i64) -> i64 {
    let (mut sign, mut p) = (1, 2);
    while p * p <= n {
        if n % p == 0 {
            n /= p;
            if n % p == 0 {
                return 0;
            }
            sign = -sign;
        }
        p += 1;
    }
    if n > 1 { -sign } else { sign }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cyclotomic_polynomials_are_right() {
        let fuel = Fuel::new(100_000);
        assert_eq!(cyclotomic(1, &fuel).unwrap(), [-1, 1]);
        assert_eq!(cyclotomic(10, &fuel).unwrap(), [1, -1, 1, -1, 1]);
        assert_eq!(cyclotomic(12, &fuel).unwrap(), [1, 0, -1, 0, 1]);
        assert_eq!(cyclotomic(105, &fuel).unwrap()[7], -2);
    }
}
