//! Comparing an answer with the gold.
use crate::extract::letter_of;
use crate::options::Options;
use crate::verdict::{Reason, Verdict};

/// A verdict and the rule that gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// The verdict.
    pub verdict: Verdict,
    /// The rule that decided.
    pub reason: Reason,
}

pub(crate) fn compare(gold: &str, answer: &str, _options: &Options) -> Comparison {
    let strip = |s: &str| -> String {
        s.replace("\\left", "")
            .replace("\\right", "")
            .replace("dfrac", "frac")
            .chars()
            .filter(|c| !c.is_whitespace() && *c != '$')
            .collect()
    };
    if strip(gold) == strip(answer) {
        Comparison {
            verdict: Verdict::Correct,
            reason: Reason::SameText,
        }
    } else {
        Comparison {
            verdict: Verdict::Wrong,
            reason: Reason::NotProven,
        }
    }
}

/// Compares two choice letters.
pub(crate) fn compare_choice<S: AsRef<str>>(gold: &str, answer: &str, choices: &[S]) -> Comparison {
    let Some(gold) = letter_of(gold, choices) else {
        return Comparison {
            verdict: Verdict::GoldUnreadable,
            reason: Reason::GoldNotReadable,
        };
    };
    match letter_of(answer, choices) {
        Some(letter) if letter == gold => Comparison {
            verdict: Verdict::Correct,
            reason: Reason::SameLetter,
        },
        Some(_) => Comparison {
            verdict: Verdict::Wrong,
            reason: Reason::DifferentLetter,
        },
        None => Comparison {
            verdict: Verdict::Wrong,
            reason: Reason::AnswerUnreadable,
        },
    }
}
