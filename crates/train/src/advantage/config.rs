//! The `[advantage]` section of a recipe.

use serde::{Deserialize, Serialize};

/// How rewards become advantages (`[advantage]`).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdvantageConfig {
    /// Estimator. Default `dr-grpo`.
    pub kind: AdvantageKind,
    /// Which rollouts form one group. Default `problem`: all rounds of a problem together, as SEELE does.
    pub scope: AdvantageScope,
    /// Added to the standard deviation in `grpo`, `grpo-population-std` and `batch`; reward units.
    /// Default 1e-6 (verl; TRL uses 1e-4).
    pub eps: f64,
    /// Advantage of a group of one. Default `zero`.
    pub singleton: Singleton,
    /// Whether off-policy traces belong to the group. Default `member`.
    pub traces: TraceMembership,
    /// Factor on the advantage of trace tokens, dimensionless. Default 1.
    pub trace_weight: f64,
}

impl Default for AdvantageConfig {
    fn default() -> Self {
        Self {
            kind: AdvantageKind::DrGrpo,
            scope: AdvantageScope::Problem,
            eps: 1e-6,
            singleton: Singleton::Zero,
            traces: TraceMembership::Member,
            trace_weight: 1.0,
        }
    }
}

/// Advantage estimator. `r` is the reward of a sequence, `mean` and `std` belong to its group of `G` rewards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AdvantageKind {
    /// 0 for every sequence: no policy gradient (SFT).
    None,
    /// `(r - mean) / (std + eps)`, std with `G - 1`.
    Grpo,
    /// `(r - mean) / (std + eps)`, std with `G`; for comparison.
    GrpoPopulationStd,
    /// `r - mean` (Dr.GRPO; SEELE Eq. 2).
    DrGrpo,
    /// `r - mean of the others = (r - mean) G / (G - 1)`.
    Rloo,
    /// `(r - mean) / (std of all rewards of the update batch + eps)` (TRL `scale_rewards = "batch"`).
    Batch,
    /// Prefix-RFT as its public code computes it. With `R0` the mean reward of the unprefixed rollouts of the
    /// problem and `q` rollouts from the same prefix: unprefixed `r - R0`, prefix tokens `(r - R0) / q`,
    /// continuation `r`.
    Split,
    /// As `split` with the continuation centred too: `r - R0`.
    SplitCentred,
    /// Prefix-RFT's second function. With `Rp` the mean reward of the rollouts from the same prefix: unprefixed
    /// `r - R0`, prefix tokens `(r - Rp - R0) / q`, continuation `r - Rp`. Presupposes `q > 1`.
    SplitV2,
    /// Prefix-RFT's Eq. 3 read literally: `r - mean of all` for every token of every sequence.
    Hybrid,
}

impl AdvantageKind {
    /// Whether prefix tokens and continuation get advantages of their own.
    pub fn splits_prefix(self) -> bool {
        matches!(self, Self::Split | Self::SplitCentred | Self::SplitV2)
    }
}

/// Which rollouts form one group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AdvantageScope {
    /// All rollouts of a problem, over all its rounds.
    Problem,
    /// The rollouts of one round of a problem.
    Round,
}

/// Advantage of a group of one, for the estimators that compare within a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Singleton {
    /// 0: nothing to compare with, nothing to learn.
    Zero,
    /// The reward itself (verl).
    Raw,
}

/// Whether off-policy traces belong to the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TraceMembership {
    /// A trace counts in the group's mean and is trained by the policy loss (LUFFY).
    Member,
    /// Rollouts have their own baseline and the policy loss does not see traces, neither their tokens nor
    /// their number; an imitation term can train them (RL with SFT loss).
    Apart,
}
