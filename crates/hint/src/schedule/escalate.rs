//! `escalate`: stronger and stronger hints within a visit until a rollout succeeds (token-prefix form of
//! Scaf-GRPO and SAGE).

use super::no_hint::without_hint;
use super::{Fork, Grouping, HintUse, RoundPlan, Schedule, VisitState};
use super::{require_rate, require_rates, require_rollouts};
use crate::HintError;
use crate::length::Cut;
use serde::{Deserialize, Serialize};

/// Round 1 has no hint; as long as all rollouts of a round fail, the next one uses the next rate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Escalate {
    /// Rollouts a round. Default 8.
    pub rollouts: u32,
    /// Hint rates, least help first, each in `[0, 1]`. Default 0.25, 0.5, 0.75.
    pub rates: Vec<f64>,
    /// Share of the run before which no hint is given, in `[0, 1]`. Default 0.
    pub start_share: f64,
    /// Whether a hinted round replaces the failed ones or joins their group. Default `replace`.
    pub grouping: Grouping,
    /// What the hint tokens are for. Default `context`.
    pub hint_use: HintUse,
    /// Where a hint may end. Default `token`.
    pub cut: Cut,
}

impl Default for Escalate {
    fn default() -> Self {
        Self {
            rollouts: 8,
            rates: vec![0.25, 0.5, 0.75],
            start_share: 0.0,
            grouping: Grouping::Replace,
            hint_use: HintUse::Context,
            cut: Cut::Token,
        }
    }
}

impl Schedule for Escalate {
    fn plan(&self, visit: &VisitState) -> Option<RoundPlan> {
        let Some(last) = visit.rounds().last() else {
            return Some(RoundPlan::single(without_hint(self.rollouts)));
        };
        if !last.all_failed() || visit.progress() < self.start_share {
            return None;
        }
        let rate = *self.rates.get(visit.rounds().len() - 1)?;
        let hint_tokens = visit.solution().hint_tokens(rate, self.cut);
        let fork = Fork {
            rate,
            hint_tokens,
            rollouts: self.rollouts,
            hint_use: self.hint_use,
        };
        Some(RoundPlan {
            forks: vec![fork],
            grouping: self.grouping,
        })
    }

    fn max_rounds(&self) -> usize {
        1 + self.rates.len()
    }

    fn max_rollouts(&self) -> u32 {
        self.rollouts * (1 + self.rates.len() as u32)
    }

    fn hint_use(&self) -> Option<HintUse> {
        Some(self.hint_use)
    }

    fn validate(&self) -> Result<(), HintError> {
        require_rollouts(self.rollouts)?;
        require_rates(&self.rates)?;
        require_rate("start_share", self.start_share)
    }
}
