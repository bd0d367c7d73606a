//! Rewards: what a rollout is worth, and why.
//!
//! A [`Reward`] turns one finished rollout into a [`Score`]. The built-in ones check an answer
//! (`math`, `choice`, `exact`, `numeric`), a form (`format`), a puzzle (`countdown`,
//! `knights-and-knaves`), or ask a program of the user's (`command`, `http`); `sum` adds several up.
//! [`RewardConfig`] is the `[reward]` table of a recipe and builds any of them.
//!
//! A score without a value means: leave this rollout out of its group. It never stands for zero.
//! Everything that goes wrong on the way is counted in [`RewardFailures`].
mod answer;
mod command;
mod config;
mod countdown;
mod failures;
mod format;
mod gold;
mod http;
mod knights;
mod length;
mod shaped;
mod sum;
mod wire;

pub use config::{
    CommandConfig, FormatConfig, HttpConfig, OverlongConfig, RewardConfig, RewardConfigError,
    RewardKind, ScoredText, TruncatedPolicy,
};
pub use failures::RewardFailures;
pub use gold::{RewardUnavailable, UnusableGold};
pub use length::overlong_penalty;
pub use wire::{RewardReply, WireRequest};

use crate::verdict::Verdict;

/// One finished rollout, as a reward sees it.
#[derive(Clone, Copy, Debug)]
pub struct RewardRequest<'a> {
    /// Name of the rollout, unique among those in flight; it comes back in messages and replies.
    pub id: &'a str,
    /// The problem statement, without prompt template.
    pub problem: &'a str,
    /// Hint and completion: everything after the prompt.
    pub response: &'a str,
    /// What the policy wrote: `response` without the hint.
    pub completion: &'a str,
    /// The reference answer.
    pub ground_truth: &'a str,
    /// All other columns of the problem's row (`choices`, `numbers`, `target`, `names`, `roles`, ...).
    pub extra: &'a serde_json::Map<String, serde_json::Value>,
    /// Length of the completion in tokens.
    pub response_tokens: usize,
    /// The most tokens the completion could have had.
    pub max_response_tokens: usize,
    /// The completion was cut at the token limit.
    pub truncated: bool,
}

/// What a rollout is worth.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Score {
    /// The reward; `None` leaves the rollout out of its group.
    pub value: Option<f64>,
    /// The verdict on the answer, where the reward gives one.
    pub verdict: Option<Verdict>,
    /// Why, for people and logs.
    pub detail: Option<String>,
}

impl Score {
    /// Whether the answer is right, where the reward says so. Shaping does not change it.
    pub fn correct(&self) -> Option<bool> {
        self.verdict.map(Verdict::is_correct)
    }

    /// A score that leaves the rollout out of its group.
    pub fn left_out(detail: impl Into<String>) -> Self {
        Self {
            value: None,
            verdict: None,
            detail: Some(detail.into()),
        }
    }
}

/// Scores finished rollouts. Called from many threads at once; implementations are pure functions of
/// the request, except `command` and `http`, which are as good as the program behind them.
pub trait Reward: Send + Sync {
    /// The score of one rollout. Never panics and always returns within the reward's own limits.
    fn score(&self, request: &RewardRequest<'_>) -> Score;

    /// Checks, before a run, that answers to a row can be judged: its reference answer is readable and
    /// equal to itself, its columns are there. `extra` is what [`RewardRequest::extra`] will be. Rewards
    /// that leave the judgement to a program accept every row.
    ///
    /// # Errors
    /// [`UnusableGold`]: what is wrong with the row.
    fn check_gold(
        &self,
        ground_truth: &str,
        extra: &serde_json::Map<String, serde_json::Value>,
    ) -> Result<(), UnusableGold> {
        let _ = (ground_truth, extra);
        Ok(())
    }

    /// Checks, before a run, that a program or service which judges answers a request; whatever it says of it will
    /// do. Rewards that are computed here do without.
    ///
    /// # Errors
    /// [`RewardUnavailable`]: why there is no reply.
    fn check_available(&self, request: &RewardRequest<'_>) -> Result<(), RewardUnavailable> {
        let _ = request;
        Ok(())
    }

    /// Counts of everything that went wrong since the reward was built.
    fn failures(&self) -> RewardFailures {
        RewardFailures::default()
    }
}
