//! The greatest common divisor of long integers, by Lehmer's method.
//!
//! Euclid's quotients depend on the leading digits alone for a while. They are computed in machine
//! words and applied to the long numbers together, about thirty at a time.
use num_bigint::BigInt;
use num_traits::{Signed, ToPrimitive, Zero};

/// Leading bits that stand for a long number.
const LEADING_BITS: u64 = 62;

/// `gcd(|a|, |b|)`; `gcd(0, b) = |b|`.
pub(crate) fn gcd(a: &BigInt, b: &BigInt) -> BigInt {
    let (mut a, mut b) = (a.abs(), b.abs());
    if a < b {
        std::mem::swap(&mut a, &mut b);
    }
    while b.bits() > 64 {
        let shift = a.bits() - LEADING_BITS;
        let leading = |value: &BigInt| (value >> shift).to_i128().unwrap_or(0);
        match common_steps(leading(&a), leading(&b)) {
            Some([p, q, r, s]) => {
                let next = &a * p + &b * q;
                b = &a * r + &b * s;
                a = next;
            }
            None => {
                let rest = &a % &b;
                a = std::mem::replace(&mut b, rest);
            }
        }
    }
    match b.to_u64() {
        Some(0) | None => a,
        Some(small) => {
            let rest = (&a % small).to_u64().unwrap_or(0);
            BigInt::from(gcd_u64(small, rest))
        }
    }
}

/// The matrix `[p, q, r, s]` that takes `(a, b)` to `(p a + q b, r a + s b)` some steps of Euclid's later,
/// as far as the leading bits `x >= y` decide the quotients; `None` when not even the first is certain.
fn common_steps(mut x: i128, mut y: i128) -> Option<[i128; 4]> {
    let [mut p, mut q, mut r, mut s] = [1i128, 0, 0, 1];
    // The true quotient lies between those of the two ends of what the leading bits stand for.
    while y + r != 0 && y + s != 0 {
        let quotient = (x + p) / (y + r);
        if quotient != (x + q) / (y + s) {
            break;
        }
        (p, r) = (r, p - quotient * r);
        (q, s) = (s, q - quotient * s);
        (x, y) = (y, x - quotient * y);
    }
    (q != 0).then_some([p, q, r, s])
}

/// The greatest common divisor of two machine numbers, `b` not zero.
pub(crate) fn gcd_u128(mut a: u128, mut b: u128) -> u128 {
    if b.is_power_of_two() {
        return 1 << b.trailing_zeros().min(a.trailing_zeros());
    }
    loop {
        if let (Ok(a), Ok(b)) = (u64::try_from(a), u64::try_from(b)) {
            return u128::from(gcd_u64(a, b));
        }
        if b == 0 {
            return a;
        }
        (a, b) = (b, a % b);
    }
}

fn gcd_u64(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Divides out every factor `prime` (above 1) of a non-zero integer; returns how many there were.
pub(crate) fn remove_factor(value: &mut BigInt, prime: &BigInt) -> i64 {
    if value.is_zero() {
        return 0;
    }
    // Powers p, p^2, p^4, ... as long as they divide, then the same powers downwards.
    let mut powers = vec![prime.clone()];
    let mut removed = 0i64;
    while let Some(power) = powers.last() {
        let (quotient, rest) = num_integer::Integer::div_rem(&*value, power);
        if !rest.is_zero() {
            break;
        }
        *value = quotient;
        removed += 1 << (powers.len() - 1);
        let square = power * power;
        powers.push(square);
    }
    for (exponent, power) in powers.iter().enumerate().rev() {
        let (quotient, rest) = num_integer::Integer::div_rem(&*value, power);
        if rest.is_zero() {
            *value = quotient;
            removed += 1 << exponent;
        }
    }
    removed
}

#[cfg(test)]
mod tests {
    use super::*;
    use num_integer::Integer;

    /// Numbers of many lengths, from a fixed recurrence.
    fn samples() -> Vec<BigInt> {
        let mut seed = BigInt::from(0x9e37_79b9_7f4a_7c15u64);
        (0..40)
            .map(|index| {
                seed = (&seed * &seed + 12_345) % (BigInt::from(1) << (64 + 47 * index));
                seed.clone()
            })
            .collect()
    }

    #[test]
    fn long_numbers_agree_with_the_binary_method() {
        let samples = samples();
        for (index, a) in samples.iter().enumerate() {
            for b in &samples[..index] {
                assert_eq!(gcd(a, b), a.gcd(b), "{a}, {b}");
                let (left, right) = (a * a * b, -(a * b * b));
                assert_eq!(gcd(&left, &right), left.gcd(&right), "{left}, {right}");
            }
        }
    }

    #[test]
    fn short_numbers_and_zero_have_divisors_too() {
        let number = |n: i64| BigInt::from(n);
        assert_eq!(gcd(&number(0), &number(-6)), number(6));
        assert_eq!(gcd(&number(0), &number(0)), number(0));
        assert_eq!(gcd(&number(i64::MIN), &number(48)), number(16));
        let power = number(2).pow(1000);
        assert_eq!(gcd(&power, &(&power + 1)), number(1));
        assert_eq!(gcd(&power, &number(6)), number(2));
        let golden = (0..2000).fold((number(1), number(1)), |(a, b), _| (b.clone(), a + b));
        assert_eq!(gcd(&golden.0, &golden.1), number(1));
    }

    #[test]
    fn machine_numbers_agree_with_the_binary_method() {
        let numbers: Vec<u128> = samples().iter().filter_map(ToPrimitive::to_u128).collect();
        for &a in &numbers {
            for &b in numbers.iter().chain(&[1, 8, 1 << 100]) {
                for (a, b) in [(a, b), (a / 3 * 12, b / 5 * 20), (0, b)] {
                    if b != 0 {
                        assert_eq!(gcd_u128(a, b), a.gcd(&b), "{a}, {b}");
                    }
                }
            }
        }
    }

    #[test]
    fn factors_are_counted() {
        for exponent in [0u32, 1, 2, 3, 7, 8, 100, 1023] {
            let mut value = BigInt::from(-35) * BigInt::from(3).pow(exponent);
            assert_eq!(
                remove_factor(&mut value, &BigInt::from(3)),
                i64::from(exponent)
            );
            assert_eq!(value, BigInt::from(-35));
        }
    }
}
