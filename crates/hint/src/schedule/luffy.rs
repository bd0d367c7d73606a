//! `luffy`: the reference solution as an off-policy member of the group.

use super::no_hint::without_hint;
use super::{Fork, Grouping, HintUse, RoundPlan, Schedule, VisitState, require, require_rollouts};
use crate::HintError;
use crate::length::hint_tokens;
use serde::{Deserialize, Serialize};

/// How much of the solution an off-policy member takes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trace {
    /// All of it: nothing is generated.
    #[default]
    Full,
    /// A uniformly drawn share, the rest is generated.
    Random,
    /// A share that falls linearly from all to nothing over the run, the rest is generated.
    Decaying,
}

/// `rollouts - traces` members start from the plain problem, `traces` follow the solution.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Luffy {
    /// Members of the group, traces included. Default 8.
    pub rollouts: u32,
    /// Off-policy members, below `rollouts`. Default 1.
    pub traces: u32,
    /// How much of the solution they take over. Default `full`.
    pub trace: Trace,
}

impl Default for Luffy {
    fn default() -> Self {
        Self {
            rollouts: 8,
            traces: 1,
            trace: Trace::Full,
        }
    }
}

impl Schedule for Luffy {
    fn plan(&self, visit: &VisitState) -> Option<RoundPlan> {
        if !visit.rounds().is_empty() {
            return None;
        }
        let tokens = visit.solution().tokens();
        let partial = |rate: f64| (rate, hint_tokens(rate, tokens));
        let (rate, hint_tokens) = match self.trace {
            Trace::Full => (1.0, tokens),
            Trace::Random => partial(visit.key().uniform()),
            Trace::Decaying => partial(1.0 - visit.progress()),
        };
        let trace = Fork {
            rate,
            hint_tokens,
            rollouts: self.traces,
            hint_use: HintUse::OffPolicy,
        };
        let forks = vec![without_hint(self.rollouts - self.traces), trace];
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
        Some(HintUse::OffPolicy)
    }

    fn validate(&self) -> Result<(), HintError> {
        require_rollouts(self.rollouts)?;
        let holds = self.traces >= 1 && self.traces < self.rollouts;
        require(
            holds,
            "traces",
            self.traces,
            "at least 1 and below `rollouts`",
        )
    }
}
