//! The commonest case by far, two plain decimal numbers, without parsing.
use super::Comparison;
use crate::options::{Mode, Options};
use crate::verdict::Reason;

/// Compares two plain literals such as `-12` and `3.50`; `None` when either is anything else, or when
/// the mode looks at more than the value.
pub(super) fn compare_literals(gold: &str, answer: &str, options: &Options) -> Option<Comparison> {
    if options.tolerance().is_some() {
        return None;
    }
    let (gold, answer) = (read(gold)?, read(answer)?);
    if options.mode == Mode::Strict && (gold.scale > 0) != (answer.scale > 0) {
        return None;
    }
    let scale = gold.scale.max(answer.scale);
    let lift = |literal: Literal| {
        literal
            .digits
            .checked_mul(10i128.checked_pow(scale - literal.scale)?)
    };
    Some(if lift(gold)? == lift(answer)? {
        Comparison::correct(Reason::SameNumber)
    } else {
        Comparison::wrong(Reason::DifferentNumber)
    })
}

#[derive(Clone, Copy)]
struct Literal {
    digits: i128,
    scale: u32,
}

fn read(text: &str) -> Option<Literal> {
    let (negative, digits) = match text.as_bytes() {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || digits.len() > 18 {
        return None;
    }
    let (mut value, mut scale, mut point) = (0i128, 0, false);
    for byte in digits {
        match byte {
            b'0'..=b'9' => {
                value = value * 10 + i128::from(byte - b'0');
                scale += u32::from(point);
            }
            b'.' if !point => point = true,
            _ => return None,
        }
    }
    if digits == b"." {
        return None;
    }
    Some(Literal {
        digits: if negative { -value } else { value },
        scale,
    })
}
