//! What a check of one answer says: the verdict, its reason and the answer that was read.
use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The outcome of checking one response against one gold answer.
///
/// Only [`Verdict::Correct`] is a proof of equality. The other four all score as "not correct", but
/// they mean different things to whoever looks after a training run, so they are kept apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The answer was proven equal to the gold.
    Correct,
    /// An answer was found and it is not proven equal to the gold.
    Wrong,
    /// The response holds no answer under the extraction rule.
    NoAnswer,
    /// The gold itself cannot be read, and the answer is not the same text: nothing can be said.
    GoldUnreadable,
    /// The work limit was reached before the two could be proven equal.
    OverBudget,
}

impl Verdict {
    /// True for [`Verdict::Correct`] alone.
    #[inline]
    pub const fn is_correct(self) -> bool {
        matches!(self, Self::Correct)
    }

    /// The kebab-case name used in files: `correct`, `wrong`, `no-answer`, `gold-unreadable`, `over-budget`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Correct => "correct",
            Self::Wrong => "wrong",
            Self::NoAnswer => "no-answer",
            Self::GoldUnreadable => "gold-unreadable",
            Self::OverBudget => "over-budget",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a verdict was given: the rule that decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// Both sides are the same text once layout is dropped.
    SameText,
    /// Both sides are the same number, compared exactly.
    SameNumber,
    /// The numbers differ by no more than the relative tolerance.
    WithinTolerance,
    /// Both sides have the same canonical form (exact rational functions of symbols, roots and constants).
    SameCanonicalForm,
    /// Both sides agree to high precision at several exact points and neither is piecewise.
    SameValueAtPoints,
    /// Structured answers (tuples, sets, intervals, matrices, relations) whose parts are all equal.
    SameParts,
    /// Both sides name the same choice letter.
    SameLetter,
    /// The numbers differ.
    DifferentNumber,
    /// The expressions differ.
    DifferentValue,
    /// The expressions are not proven equal.
    NotProven,
    /// The answers are of different kinds (a tuple and a number, a set and an interval, ...).
    DifferentKind,
    /// Some part of a structured answer differs, is missing or is extra.
    DifferentParts,
    /// Same number, but the units mean different things.
    DifferentUnit,
    /// The words differ.
    DifferentText,
    /// The letters differ.
    DifferentLetter,
    /// Equal in value, but written in another form than strict mode asks for.
    DifferentForm,
    /// Nothing was found that the extraction rule accepts.
    NothingExtracted,
    /// The extracted answer is empty.
    EmptyAnswer,
    /// The answer cannot be read as mathematics and is not the gold's text.
    AnswerUnreadable,
    /// The gold cannot be read.
    GoldNotReadable,
    /// The work limit was reached.
    OutOfFuel,
}

impl Reason {
    /// A short sentence for people, without a final stop.
    pub const fn text(self) -> &'static str {
        match self {
            Self::SameText => "same text after normalisation",
            Self::SameNumber => "same number",
            Self::WithinTolerance => "within the relative tolerance",
            Self::SameCanonicalForm => "same canonical form",
            Self::SameValueAtPoints => "same value to high precision at several points",
            Self::SameParts => "all parts equal",
            Self::SameLetter => "same choice letter",
            Self::DifferentNumber => "different number",
            Self::DifferentValue => "different value",
            Self::NotProven => "not proven equal",
            Self::DifferentKind => "different kind of answer",
            Self::DifferentParts => "a part differs, is missing or is extra",
            Self::DifferentUnit => "different unit",
            Self::DifferentText => "different text",
            Self::DifferentLetter => "different choice letter",
            Self::DifferentForm => "equal in value, but not in the form strict mode asks for",
            Self::NothingExtracted => "no answer found in the response",
            Self::EmptyAnswer => "the answer is empty",
            Self::AnswerUnreadable => "the answer cannot be read",
            Self::GoldNotReadable => "the gold cannot be read",
            Self::OutOfFuel => "work limit reached",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// The result of [`verify`](crate::verify).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grade<'a> {
    /// The verdict.
    pub verdict: Verdict,
    /// The answer text that was compared, as extracted; `None` with [`Verdict::NoAnswer`].
    pub extracted: Option<Cow<'a, str>>,
    /// The rule that decided.
    pub reason: Reason,
}

impl Grade<'_> {
    /// True when the verdict is [`Verdict::Correct`].
    #[inline]
    pub const fn is_correct(&self) -> bool {
        self.verdict.is_correct()
    }
}
