//! What a schedule answers: rounds of rollouts forked from hints.

use serde::{Deserialize, Serialize};

/// What training does with the hint tokens of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HintUse {
    /// Nothing: they are part of the prompt.
    Context,
    /// They are targets of the imitation loss (SEELE, UFT).
    Imitation,
    /// They carry the policy loss like generated tokens, with the old log-probability of the sampling policy
    /// on the fixed tokens (Prefix-RFT).
    Policy,
    /// They carry the off-policy policy loss, behaviour probability 1 (LUFFY).
    OffPolicy,
}

/// Rollouts that start from the same hint.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fork {
    /// The rate the schedule asked for, before rounding and cutting; in `[0, 1]`.
    pub rate: f64,
    /// Leading solution tokens given to the rollouts: at most one less than the solution has, or for
    /// [`HintUse::OffPolicy`] all of them, in which case nothing is left to generate and the solution itself
    /// (with end-of-sequence) is the member of the group.
    pub hint_tokens: usize,
    /// Rollouts from this hint, at least 1.
    pub rollouts: u32,
    /// What training does with the hint tokens.
    pub hint_use: HintUse,
}

/// How a round joins what was sampled before it in the same visit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Grouping {
    /// Its rollouts join the problem's group.
    #[default]
    Join,
    /// Its rollouts replace the group: earlier rounds of the visit are not trained on.
    Replace,
}

/// The next rollouts of a visit: several forks are sampled at the same time.
#[derive(Debug, Clone, PartialEq)]
pub struct RoundPlan {
    /// At least one.
    pub forks: Vec<Fork>,
    /// Whether the round joins or replaces the group of the earlier rounds.
    pub grouping: Grouping,
}

impl RoundPlan {
    /// A round with one fork that joins the group.
    pub fn single(fork: Fork) -> Self {
        Self {
            forks: vec![fork],
            grouping: Grouping::Join,
        }
    }

    /// Rollouts of all forks.
    pub fn rollouts(&self) -> u32 {
        self.forks.iter().map(|fork| fork.rollouts).sum()
    }
}

/// What came of a fork, by the correctness of its rollouts (not by shaped rewards).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForkResult {
    /// Correct rollouts, at most `rollouts`.
    pub successes: u32,
    /// Verified rollouts, at most the number planned; 0 if none was finished, which counts as not observed.
    pub rollouts: u32,
}

impl ForkResult {
    /// `successes / rollouts`, none without rollouts.
    pub fn accuracy(&self) -> Option<f64> {
        (self.rollouts > 0).then(|| f64::from(self.successes) / f64::from(self.rollouts))
    }
}

/// A finished round.
#[derive(Debug, Clone, PartialEq)]
pub struct Round {
    /// What was planned.
    pub plan: RoundPlan,
    /// What came of each fork, in the order of the plan.
    pub results: Vec<ForkResult>,
}

impl Round {
    /// Whether there are results and none is a success.
    pub fn all_failed(&self) -> bool {
        self.results.iter().any(|r| r.rollouts > 0) && self.results.iter().all(|r| r.successes == 0)
    }
}
