//! Rewards that compare the answer with the ground truth: `math`, `numeric`, `choice` and `exact`.
use serde_json::{Map, Value};

use super::failures::{FailureCounters, count};
use super::{Reward, RewardFailures, RewardRequest, Score, ScoredText, UnusableGold};
use crate::compare::{GoldError, check_gold, compare_choice};
use crate::extract::extract_choice;
use crate::grader::{verify, verify_choice};
use crate::options::{Extraction, Mode, Options};
use crate::verdict::{Reason, Verdict};

/// The two values an answer reward gives.
#[derive(Clone, Copy, Debug)]
pub(super) struct AnswerValues {
    pub(super) correct: f64,
    pub(super) wrong: f64,
}

impl AnswerValues {
    /// The score of a verdict.
    pub(super) fn score(self, verdict: Verdict, detail: String) -> Score {
        let value = if verdict.is_correct() {
            self.correct
        } else {
            self.wrong
        };
        Score {
            value: Some(value),
            verdict: Some(verdict),
            detail: Some(detail),
        }
    }
}

/// Counts the verdicts that are failures of reading rather than wrong answers.
pub(super) fn count_verdict(counters: &FailureCounters, verdict: Verdict) {
    match verdict {
        Verdict::NoAnswer => count(&counters.no_answer),
        Verdict::GoldUnreadable => count(&counters.gold_unreadable),
        Verdict::OverBudget => count(&counters.over_budget),
        Verdict::Correct | Verdict::Wrong => {}
    }
}

/// Extract and compare; `choices` come from the column of that name.
#[derive(Debug)]
pub(super) struct AnswerReward {
    pub(super) options: Options,
    pub(super) text: ScoredText,
    pub(super) values: AnswerValues,
    pub(super) counters: FailureCounters,
}

impl AnswerReward {
    fn asks_for_a_letter(&self) -> bool {
        self.options.mode == Mode::Choice || self.options.extraction == Extraction::Choice
    }
}

/// The option texts in the column `choices`; none when it is missing.
fn choices(extra: &Map<String, Value>) -> Vec<&str> {
    extra
        .get("choices")
        .and_then(Value::as_array)
        .map(|choices| choices.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default()
}

impl Reward for AnswerReward {
    fn score(&self, request: &RewardRequest<'_>) -> Score {
        let text = self.text.of(request);
        let grade = if self.asks_for_a_letter() {
            let choices = choices(request.extra);
            verify_choice(text, request.ground_truth, &choices, &self.options)
        } else {
            verify(text, request.ground_truth, &self.options)
        };
        count_verdict(&self.counters, grade.verdict);
        self.values.score(
            grade.verdict,
            detail(grade.reason, grade.extracted.as_deref()),
        )
    }

    fn check_gold(
        &self,
        ground_truth: &str,
        extra: &Map<String, Value>,
    ) -> Result<(), UnusableGold> {
        if ground_truth.trim().is_empty() {
            return Err(GoldError::Empty.into());
        }
        if self.asks_for_a_letter() {
            let comparison = compare_choice(ground_truth, ground_truth, &choices(extra));
            return if comparison.verdict.is_correct() {
                Ok(())
            } else {
                Err(GoldError::Unreadable.into())
            };
        }
        Ok(check_gold(ground_truth, &self.options)?)
    }

    fn failures(&self) -> RewardFailures {
        self.counters.snapshot()
    }
}

/// The extracted text must be the ground truth, character for character, but for white space at its ends.
#[derive(Debug)]
pub(super) struct ExactReward {
    pub(super) extraction: Extraction,
    pub(super) require_think_end: bool,
    pub(super) text: ScoredText,
    pub(super) values: AnswerValues,
    pub(super) counters: FailureCounters,
}

impl Reward for ExactReward {
    fn score(&self, request: &RewardRequest<'_>) -> Score {
        let answer = extract_choice::<&str>(
            self.text.of(request),
            self.extraction,
            &[],
            self.require_think_end,
        );
        let (verdict, reason) = match answer.as_deref() {
            None => (Verdict::NoAnswer, Reason::NothingExtracted),
            Some(answer) if answer.trim() == request.ground_truth.trim() => {
                (Verdict::Correct, Reason::SameText)
            }
            Some(_) => (Verdict::Wrong, Reason::DifferentText),
        };
        count_verdict(&self.counters, verdict);
        self.values
            .score(verdict, detail(reason, answer.as_deref()))
    }

    fn check_gold(&self, ground_truth: &str, _: &Map<String, Value>) -> Result<(), UnusableGold> {
        if ground_truth.trim().is_empty() {
            Err(GoldError::Empty.into())
        } else {
            Ok(())
        }
    }

    fn failures(&self) -> RewardFailures {
        self.counters.snapshot()
    }
}

/// "reason: answer", the answer cut to a readable length.
fn detail(reason: Reason, extracted: Option<&str>) -> String {
    const SHOWN_CHARS: usize = 80;
    match extracted {
        None => reason.text().to_owned(),
        Some(answer) => match answer.char_indices().nth(SHOWN_CHARS) {
            None => format!("{reason}: `{answer}`"),
            Some((cut, _)) => format!("{reason}: `{}...`", &answer[..cut]),
        },
    }
}
