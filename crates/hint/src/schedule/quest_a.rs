//! `quest-a`: a fixed share of the solution, smaller in later phases of the run (QuestA).

use super::{Fork, HintUse, RoundPlan, Schedule, VisitState, require_rates, require_rollouts};
use crate::HintError;
use crate::length::Cut;
use serde::{Deserialize, Serialize};

/// The run is divided into as many equal phases as there are rates. QuestA trains on hard problems only:
/// choose those when the training set is made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QuestA {
    /// Rollouts a visit. Default 8.
    pub rollouts: u32,
    /// Hint rate of each phase, in `[0, 1]`. Default 0.5, 0.25.
    pub rates: Vec<f64>,
    /// What the hint tokens are for. Default `context`.
    pub hint_use: HintUse,
    /// Where a hint may end. Default `token`.
    pub cut: Cut,
}

impl Default for QuestA {
    fn default() -> Self {
        Self {
            rollouts: 8,
            rates: vec![0.5, 0.25],
            hint_use: HintUse::Context,
            cut: Cut::Token,
        }
    }
}

impl Schedule for QuestA {
    fn plan(&self, visit: &VisitState) -> Option<RoundPlan> {
        if !visit.rounds().is_empty() {
            return None;
        }
        let context = visit.context();
        let phase = u128::from(context.step) * self.rates.len() as u128
            / u128::from(context.total_steps.max(1));
        let last = self.rates.len().checked_sub(1)?;
        let rate = self.rates[usize::try_from(phase).map_or(last, |phase| phase.min(last))];
        let hint_tokens = visit.solution().hint_tokens(rate, self.cut);
        let (rollouts, hint_use) = (self.rollouts, self.hint_use);
        Some(RoundPlan::single(Fork {
            rate,
            hint_tokens,
            rollouts,
            hint_use,
        }))
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
        require_rates(&self.rates)
    }
}
