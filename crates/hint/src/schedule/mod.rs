//! Hint schedules: which hints the rollouts of a problem start from, and what becomes of the hint tokens.
//!
//! A [`Schedule`] is a pure function of a visit's state; what has to outlast a visit lies in a [`Memory`].
//! [`HintController`] puts the two together for a training loop.

mod controller;
mod escalate;
mod fixed;
mod hint_on_failure;
mod luffy;
mod multi_level;
mod no_hint;
mod plan;
mod prefix_rft;
mod quest_a;
mod seele;
mod seele_bayes;
mod uft;
mod visit;

pub use controller::HintController;
pub use escalate::Escalate;
pub use fixed::FixedRate;
pub use hint_on_failure::HintOnFailure;
pub use luffy::{Luffy, Trace};
pub use multi_level::MultiLevel;
pub use no_hint::NoHint;
pub use plan::{Fork, ForkResult, Grouping, HintUse, Round, RoundPlan};
pub use prefix_rft::PrefixRft;
pub use quest_a::QuestA;
pub use seele::{RecordedRate, Seele, StoredRate};
pub use seele_bayes::{ColdStart, SeeleBayes};
pub use uft::{R3, Uft, UftStage};
pub use visit::{Start, Visit, VisitContext, VisitState};

use crate::HintError;
use crate::memory::Memory;
use std::fmt::Debug;

/// Answers, for a problem, a step, a round and the results so far: how many rollouts, forked where, and what
/// the hint tokens are for.
pub trait Schedule: Debug + Send + Sync {
    /// The next round of a visit; none when it is over. The same state always gives the same plan.
    fn plan(&self, visit: &VisitState) -> Option<RoundPlan>;

    /// Most rounds a visit can have.
    fn max_rounds(&self) -> usize;

    /// Most rollouts a visit can have, off-policy members included.
    fn max_rollouts(&self) -> u32;

    /// What training does with the tokens of this schedule's hints; none for a schedule without hints.
    fn hint_use(&self) -> Option<HintUse>;

    /// The accuracy that every round aims at, in `(0, 1)`; none for a schedule without one.
    fn target_accuracy(&self) -> Option<f64> {
        None
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// [`HintError::Setting`] naming the key.
    fn validate(&self) -> Result<(), HintError>;

    /// What a new visit of `problem` starts from: the problem's record and, for a schedule that keeps one,
    /// its belief over curves.
    fn start(&self, problem: u64, memory: &Memory) -> Start {
        Start {
            record: memory.record(problem).cloned().unwrap_or_default(),
            belief: None,
        }
    }

    /// Writes what has to outlast the visits of one step; `visits` in problem order. Keeps nothing by default.
    fn finish(&self, visits: &[VisitState], memory: &mut Memory) {
        let _ = (visits, memory);
    }
}

/// Half a cosine from `start` to `end`: `end + (start - end) (1 + cos(pi share)) / 2`, `share` clamped to `[0, 1]`.
///
/// The falling probability of [`Uft`] and the falling bound of [`PrefixRft`].
pub fn cosine_decay(start: f64, end: f64, share: f64) -> f64 {
    let share = share.clamp(0.0, 1.0);
    end + 0.5 * (start - end) * (1.0 + (std::f64::consts::PI * share).cos())
}

/// `value` as a setting error of `key` unless `holds`.
pub(crate) fn require(
    holds: bool,
    key: &'static str,
    value: impl ToString,
    expected: &'static str,
) -> Result<(), HintError> {
    if holds {
        Ok(())
    } else {
        Err(HintError::Setting {
            key,
            value: value.to_string(),
            expected,
        })
    }
}

pub(crate) fn require_rollouts(rollouts: u32) -> Result<(), HintError> {
    require(
        (1..=MAX_ROLLOUTS).contains(&rollouts),
        "rollouts",
        rollouts,
        "1 to 65536",
    )
}

pub(crate) fn require_rate(key: &'static str, rate: f64) -> Result<(), HintError> {
    require((0.0..=1.0).contains(&rate), key, rate, "a number in [0, 1]")
}

pub(crate) fn require_rates(rates: &[f64]) -> Result<(), HintError> {
    let holds =
        !rates.is_empty() && rates.len() <= 64 && rates.iter().all(|r| (0.0..=1.0).contains(r));
    require(
        holds,
        "rates",
        format!("{rates:?}"),
        "1 to 64 numbers in [0, 1]",
    )
}

/// Bounds sums of rollouts far below overflow.
const MAX_ROLLOUTS: u32 = 65_536;
