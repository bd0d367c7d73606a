//! `fixed`: the same share of every solution.

use super::{Fork, HintUse, RoundPlan, Schedule, VisitState, require_rate, require_rollouts};
use crate::HintError;
use crate::length::Cut;
use serde::{Deserialize, Serialize};

/// All rollouts of all problems start after the same share of the solution.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FixedRate {
    /// Rollouts a visit. Default 8.
    pub rollouts: u32,
    /// Hint rate, in `[0, 1]`. Default 0.5.
    pub rate: f64,
    /// What the hint tokens are for. Default `context`.
    pub hint_use: HintUse,
    /// Where a hint may end. Default `token`.
    pub cut: Cut,
}

impl Default for FixedRate {
    fn default() -> Self {
        Self {
            rollouts: 8,
            rate: 0.5,
            hint_use: HintUse::Context,
            cut: Cut::Token,
        }
    }
}

impl Schedule for FixedRate {
    fn plan(&self, visit: &VisitState) -> Option<RoundPlan> {
        visit.rounds().is_empty().then(|| {
            let hint_tokens = visit.solution().hint_tokens(self.rate, self.cut);
            let (rate, rollouts, hint_use) = (self.rate, self.rollouts, self.hint_use);
            RoundPlan::single(Fork {
                rate,
                hint_tokens,
                rollouts,
                hint_use,
            })
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
        require_rate("rate", self.rate)
    }
}
