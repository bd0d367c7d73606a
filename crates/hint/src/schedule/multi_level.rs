//! `multi-level`: several hint levels at once in one group (StepHint-like).

use super::{
    Fork, Grouping, HintUse, RoundPlan, Schedule, VisitState, require_rates, require_rollouts,
};
use crate::HintError;
use crate::length::Cut;
use serde::{Deserialize, Serialize};

/// One group whose rollouts start from different shares of the solution.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MultiLevel {
    /// Rollouts of each level. Default 2.
    pub rollouts: u32,
    /// Hint rates, each in `[0, 1]`; levels that are cut to the same length are sampled together. Default
    /// 0, 0.25, 0.5, 0.75.
    pub rates: Vec<f64>,
    /// What the hint tokens are for. Default `context`.
    pub hint_use: HintUse,
    /// Where a hint may end. Default `step`.
    pub cut: Cut,
}

impl Default for MultiLevel {
    fn default() -> Self {
        let rates = vec![0.0, 0.25, 0.5, 0.75];
        Self {
            rollouts: 2,
            rates,
            hint_use: HintUse::Context,
            cut: Cut::Step,
        }
    }
}

impl Schedule for MultiLevel {
    fn plan(&self, visit: &VisitState) -> Option<RoundPlan> {
        if !visit.rounds().is_empty() {
            return None;
        }
        let mut forks: Vec<Fork> = Vec::with_capacity(self.rates.len());
        for &rate in &self.rates {
            let hint_tokens = visit.solution().hint_tokens(rate, self.cut);
            match forks
                .iter_mut()
                .find(|fork| fork.hint_tokens == hint_tokens)
            {
                Some(fork) => fork.rollouts += self.rollouts,
                None => forks.push(Fork {
                    rate,
                    hint_tokens,
                    rollouts: self.rollouts,
                    hint_use: self.hint_use,
                }),
            }
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
        self.rollouts * self.rates.len() as u32
    }

    fn hint_use(&self) -> Option<HintUse> {
        Some(self.hint_use)
    }

    fn validate(&self) -> Result<(), HintError> {
        require_rollouts(self.rollouts)?;
        require_rates(&self.rates)
    }
}
