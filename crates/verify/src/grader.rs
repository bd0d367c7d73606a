//! The two operations put together: extract an answer, compare it with the gold.
use crate::compare::{self, Comparison};
use crate::extract;
use crate::options::{Extraction, Mode, Options};
use crate::verdict::{Grade, Reason, Verdict};

/// Checks a full model response against a gold answer.
///
/// The result is a pure function of the arguments: no state, no randomness, no clock. The cost is a
/// linear scan of `response` plus a comparison bounded by [`Options::fuel`].
///
/// ```
/// use seele_verify::{verify, Options, Verdict};
/// let grade = verify(r"So the area is \boxed{\frac{1}{2}\pi}.", r"\frac{\pi}{2}", &Options::default());
/// assert_eq!(grade.verdict, Verdict::Correct);
/// assert_eq!(grade.extracted.as_deref(), Some(r"\frac{1}{2}\pi"));
/// ```
pub fn verify<'a>(response: &'a str, gold: &str, options: &Options) -> Grade<'a> {
    verify_choice::<&str>(response, gold, &[], options)
}

/// [`verify`] for a multiple-choice problem whose option texts are known.
///
/// `choices` are the option texts without labels, A first. With them a letter beyond the last option
/// is no answer, and a box that repeats one option's text counts as its letter. An empty slice means
/// that the options are unknown (A to J are accepted).
///
/// ```
/// use seele_verify::{verify_choice, Mode, Options};
/// let options = Options::with_mode(Mode::Choice);
/// let grade = verify_choice("The answer is (C).", "C", &["iron", "gold", "tin"], &options);
/// assert!(grade.is_correct());
/// assert!(!verify_choice("The answer is (D).", "C", &["iron", "gold", "tin"], &options).is_correct());
/// ```
pub fn verify_choice<'a, S: AsRef<str>>(
    response: &'a str,
    gold: &str,
    choices: &[S],
    options: &Options,
) -> Grade<'a> {
    let Some(extracted) = extract::extract_choice(
        response,
        options.extraction,
        choices,
        options.require_think_end,
    ) else {
        return Grade {
            verdict: Verdict::NoAnswer,
            extracted: None,
            reason: Reason::NothingExtracted,
        };
    };
    let mode = if options.extraction == Extraction::Choice {
        Mode::Choice
    } else {
        options.mode
    };
    let Comparison {
        verdict, reason, ..
    } = if mode == Mode::Choice {
        compare::compare_choice(gold, &extracted, choices)
    } else {
        compare::compare(gold, &extracted, options)
    };
    Grade {
        verdict,
        extracted: Some(extracted),
        reason,
    }
}

/// True when `prediction` is proven equal to `gold` under `options.mode`.
///
/// ```
/// use seele_verify::{equal, Options};
/// let options = Options::default();
/// assert!(equal(r"\frac{\sqrt{2}}{2}", r"1/\sqrt{2}", &options));
/// assert!(equal("[0,1)", r"0 \le x < 1", &options));
/// assert!(!equal("1/3", "0.333", &options));
/// ```
pub fn equal(gold: &str, prediction: &str, options: &Options) -> bool {
    compare_answers(gold, prediction, options)
        .verdict
        .is_correct()
}

/// [`equal`] with the verdict and its reason.
pub fn compare_answers(gold: &str, prediction: &str, options: &Options) -> Comparison {
    if options.mode == Mode::Choice {
        compare::compare_choice::<&str>(gold, prediction, &[])
    } else {
        compare::compare(gold, prediction, options)
    }
}
