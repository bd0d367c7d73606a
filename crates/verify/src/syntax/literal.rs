//! Number literals to exact rationals.
use num_bigint::BigInt;
use num_traits::One;

use crate::number::Rational;

/// Longest mantissa that is read, in digits.
const MAX_DIGITS: usize = 3000;

/// A literal: `mantissa * 10^exponent`.
#[derive(Debug, PartialEq)]
pub(crate) struct Literal {
    pub(crate) mantissa: Rational,
    /// Kept apart when it is too large to multiply out; else 0.
    pub(crate) exponent: i64,
    /// Written with a point or an exponent.
    pub(crate) decimal: bool,
}

/// Reads what the lexer marked as a number: separators are skipped, a repeating part is summed up.
///
/// `None` when it is longer than anyone computes with.
pub(crate) fn read(text: &str) -> Option<Literal> {
    if let Some(value) = read_short_integer(text.as_bytes()) {
        return Some(Literal {
            mantissa: Rational::integer(value),
            exponent: 0,
            decimal: false,
        });
    }
    let bytes = text.as_bytes();
    let mut digits = String::with_capacity(text.len());
    let mut repeating = String::new();
    let (mut fraction, mut exponent, mut decimal) = (0i64, 0i64, false);
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            digit @ b'0'..=b'9' => {
                digits.push(char::from(digit));
                fraction += i64::from(decimal);
            }
            b'.' => decimal = true,
            b'\\' if bytes.get(at + 1).is_some_and(u8::is_ascii_alphabetic) => {
                repeating.extend(
                    bytes[at..]
                        .iter()
                        .filter(|b| b.is_ascii_digit())
                        .map(|b| char::from(*b)),
                );
                break;
            }
            b'e' | b'E' => {
                exponent = text[at + 1..].parse().ok()?;
                decimal = true;
                break;
            }
            _ => {}
        }
        at += 1;
    }
    if digits.len() + repeating.len() > MAX_DIGITS {
        return None;
    }
    let mut mantissa = big(&digits)?;
    let mut denominator = ten_to(u32::try_from(fraction).ok()?);
    if !repeating.is_empty() {
        // 0.1(6) = (16 - 1) / 90.
        let period = ten_to(repeating.len() as u32) - BigInt::one();
        mantissa = mantissa * &period + big(&repeating)?;
        denominator *= period;
    }
    if exponent.unsigned_abs() <= 1000 {
        let scale = ten_to(exponent.unsigned_abs() as u32);
        if exponent >= 0 {
            mantissa *= scale;
        } else {
            denominator *= scale;
        }
        exponent = 0;
    }
    Some(Literal {
        mantissa: Rational::from_big(mantissa, denominator)?,
        exponent,
        decimal,
    })
}

fn read_short_integer(bytes: &[u8]) -> Option<i64> {
    if bytes.is_empty() || bytes.len() > 18 {
        return None;
    }
    let mut value = 0i64;
    for byte in bytes {
        if !byte.is_ascii_digit() {
            return None;
        }
        value = value * 10 + i64::from(byte - b'0');
    }
    Some(value)
}

fn big(digits: &str) -> Option<BigInt> {
    if digits.is_empty() {
        Some(BigInt::from(0))
    } else {
        digits.parse().ok()
    }
}

fn ten_to(exponent: u32) -> BigInt {
    BigInt::from(10).pow(exponent)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Rational {
        let literal = read(text).unwrap();
        assert_eq!(literal.exponent, 0);
        literal.mantissa
    }

    #[test]
    fn literals_are_exact() {
        assert_eq!(value("1,234.50"), Rational::ratio(2469, 2).unwrap());
        assert_eq!(value(r"1\,000"), Rational::integer(1000));
        assert_eq!(value(r"11,\! 111"), Rational::integer(11111));
        assert_eq!(value(".5"), Rational::HALF);
        assert_eq!(value("5."), Rational::integer(5));
        assert_eq!(value(r"0.\overline{3}"), Rational::ratio(1, 3).unwrap());
        assert_eq!(value(r"0.1\overline{6}"), Rational::ratio(1, 6).unwrap());
        assert_eq!(value("1.2e3"), Rational::integer(1200));
        assert_eq!(value("5E-2"), Rational::ratio(1, 20).unwrap());
    }

    #[test]
    fn extreme_literals_are_kept_apart_or_refused() {
        assert_eq!(read("1e1000000000").unwrap().exponent, 1_000_000_000);
        assert!(read(&"7".repeat(5000)).is_none());
        assert!(read("1e99999999999999999999").is_none());
    }
}
