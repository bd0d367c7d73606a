//! `prefix-rft`: a few rollouts of the group continue a prefix of random length.

use super::no_hint::without_hint;
use super::{
    Fork, Grouping, HintUse, RoundPlan, Schedule, VisitState, cosine_decay, require, require_rate,
    require_rollouts,
};
use crate::HintError;
use crate::length::{Cut, prefix_tokens};
use serde::{Deserialize, Serialize};

/// Most rollouts start from the plain problem, `prefix_rollouts` of them from one prefix whose rate is uniform
/// between a bound that falls along a cosine over the run, from `highest_rate` to `lowest_rate`, and
/// `highest_rate`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PrefixRft {
    /// Rollouts a visit, those from the prefix included. Default 8.
    pub rollouts: u32,
    /// Rollouts from the prefix, at most `rollouts`. Default 1.
    pub prefix_rollouts: u32,
    /// Lower bound of the rate at the end of the run, in `[0, 1]`. Default 0.05.
    pub lowest_rate: f64,
    /// Upper bound of the rate, in `[0, 1]`. Default 0.95.
    pub highest_rate: f64,
    /// Least tokens of a prefix, as far as the solution is long enough and the rate is not 0. Default 1.
    pub min_prefix_tokens: usize,
    /// What the prefix tokens are for. Default `policy`.
    pub hint_use: HintUse,
    /// Where a prefix may end. Default `token`.
    pub cut: Cut,
}

impl Default for PrefixRft {
    fn default() -> Self {
        Self {
            rollouts: 8,
            prefix_rollouts: 1,
            lowest_rate: 0.05,
            highest_rate: 0.95,
            min_prefix_tokens: 1,
            hint_use: HintUse::Policy,
            cut: Cut::Token,
        }
    }
}

impl Schedule for PrefixRft {
    fn plan(&self, visit: &VisitState) -> Option<RoundPlan> {
        if !visit.rounds().is_empty() {
            return None;
        }
        let total = visit.context().total_steps.max(1) as f64;
        let phase = visit.context().step.saturating_add(1) as f64 / total;
        let low = cosine_decay(self.highest_rate, self.lowest_rate, phase);
        let rate = low + (self.highest_rate - low) * visit.key().uniform();
        let solution = visit.solution();
        let length = prefix_tokens(rate, solution.tokens(), self.min_prefix_tokens);
        let hint_tokens = solution.snap(length, self.cut);
        let prefix = Fork {
            rate,
            hint_tokens,
            rollouts: self.prefix_rollouts,
            hint_use: self.hint_use,
        };
        let plain = self.rollouts - self.prefix_rollouts;
        let mut forks = vec![prefix];
        if plain > 0 {
            forks.insert(0, without_hint(plain));
        }
        Some(RoundPlan {
            forks,
            grouping: Grouping::Join,
        })
    }

    fn max_rounds(&self) -> usize {
        1
    }

    fn max_rollouts(&self) -> u32 {
        self.rollouts
    }

    fn hint_use(&self) -> Option<HintUse> {
        Some(self.hint_use)
    }

    fn validate(&self) -> Result<(), HintError> {
        require_rollouts(self.rollouts)?;
        let prefix = self.prefix_rollouts;
        require(
            (1..=self.rollouts).contains(&prefix),
            "prefix_rollouts",
            prefix,
            "1 to `rollouts`",
        )?;
        require_rate("highest_rate", self.highest_rate)?;
        require_rate("lowest_rate", self.lowest_rate)?;
        let (low, high) = (self.lowest_rate, self.highest_rate);
        require(low <= high, "lowest_rate", low, "at most `highest_rate`")
    }
}
