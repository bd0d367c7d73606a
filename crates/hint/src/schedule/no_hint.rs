//! `none`: plain reinforcement learning (GRPO, Dr.GRPO, DAPO, GSPO, RLOO).

use super::{Fork, HintUse, RoundPlan, Schedule, VisitState, require_rollouts};
use crate::HintError;
use serde::{Deserialize, Serialize};

/// All rollouts start from the plain problem.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NoHint {
    /// Rollouts a visit. Default 8.
    pub rollouts: u32,
}

impl Default for NoHint {
    fn default() -> Self {
        Self { rollouts: 8 }
    }
}

impl Schedule for NoHint {
    fn plan(&self, visit: &VisitState) -> Option<RoundPlan> {
        visit
            .rounds()
            .is_empty()
            .then(|| RoundPlan::single(without_hint(self.rollouts)))
    }

    fn max_rounds(&self) -> usize {
        1
    }

    fn max_rollouts(&self) -> u32 {
        self.rollouts
    }

    fn hint_use(&self) -> Option<HintUse> {
        None
    }

    fn validate(&self) -> Result<(), HintError> {
        require_rollouts(self.rollouts)
    }
}

/// A fork from the plain problem.
pub(super) fn without_hint(rollouts: u32) -> Fork {
    Fork {
        rate: 0.0,
        hint_tokens: 0,
        rollouts,
        hint_use: HintUse::Context,
    }
}
