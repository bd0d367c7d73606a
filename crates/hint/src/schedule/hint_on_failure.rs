//! `hint-on-failure`: a hint only for problems none of whose rollouts succeeds (GHPO-like).

use super::no_hint::without_hint;
use super::{Fork, Grouping, HintUse, RoundPlan, Schedule, VisitState};
use super::{require_rate, require_rates, require_rollouts};
use crate::HintError;
use crate::length::Cut;
use crate::memory::Memory;
use serde::{Deserialize, Serialize};

/// Round 1 has no hint. If all its rollouts fail, a second round starts from a share of the solution. A problem
/// whose hinted rollouts all fail gets the next larger share at its next visit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HintOnFailure {
    /// Rollouts a round. Default 8.
    pub rollouts: u32,
    /// Hint rates in stages, each in `[0, 1]`; the last one stays. Default 0.5.
    pub rates: Vec<f64>,
    /// Share of the run before which no hint is given, in `[0, 1]`. Default 0.
    pub start_share: f64,
    /// Whether the hinted round replaces the failed one or joins its group. Default `replace`.
    pub grouping: Grouping,
    /// What the hint tokens are for. Default `context`.
    pub hint_use: HintUse,
    /// Where a hint may end. Default `token`.
    pub cut: Cut,
}

impl Default for HintOnFailure {
    fn default() -> Self {
        Self {
            rollouts: 8,
            rates: vec![0.5],
            start_share: 0.0,
            grouping: Grouping::Replace,
            hint_use: HintUse::Context,
            cut: Cut::Token,
        }
    }
}

impl Schedule for HintOnFailure {
    fn plan(&self, visit: &VisitState) -> Option<RoundPlan> {
        match visit.rounds() {
            [] => Some(RoundPlan::single(without_hint(self.rollouts))),
            [first] if first.all_failed() && visit.progress() >= self.start_share => {
                let last = self.rates.len().checked_sub(1)?;
                let rate = self.rates[(visit.record().failed_visits as usize).min(last)];
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
            _ => None,
        }
    }

    fn max_rounds(&self) -> usize {
        2
    }

    fn max_rollouts(&self) -> u32 {
        2 * self.rollouts
    }

    fn hint_use(&self) -> Option<HintUse> {
        Some(self.hint_use)
    }

    fn validate(&self) -> Result<(), HintError> {
        require_rollouts(self.rollouts)?;
        require_rates(&self.rates)?;
        require_rate("start_share", self.start_share)
    }

    fn finish(&self, visits: &[VisitState], memory: &mut Memory) {
        for visit in visits.iter().filter(|visit| !visit.rounds().is_empty()) {
            let mut record = visit.record().clone();
            record.visits = record.visits.saturating_add(1);
            if visit
                .rounds()
                .get(1)
                .is_some_and(|hinted| hinted.all_failed())
            {
                record.failed_visits = record.failed_visits.saturating_add(1);
            }
            memory.set_record(visit.problem(), record);
        }
    }
}
