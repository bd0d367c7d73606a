//! The objective as a recipe writes it.
//!
//! Every method minimises
//!
//! ```text
//! loss = policy + kl.coef * KL + imitation.coef * imitation - entropy.coef * entropy
//! ```
//!
//! over the tokens of an update batch. A token has a role: *hint* (prefix of the reference solution in front of
//! a rollout), *generated*, or *trace* (off-policy solution). Prompt tokens never carry a loss.

use serde::{Deserialize, Serialize};

use super::limit::Limit;
use crate::advantage::AdvantageConfig;

/// All sections of a recipe that say what is optimised. [`preset`](super::presets::preset) gives the published
/// methods; [`validate`](Self::validate) checks what a recipe made of them.
///
/// The default is clipped Dr.GRPO without KL, imitation or entropy terms.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ObjectiveConfig {
    /// Rewards to advantages.
    pub advantage: AdvantageConfig,
    /// Ratio, clipping, and which tokens the policy loss trains.
    pub policy_loss: PolicyLossConfig,
    /// How token values become the policy term; the other terms follow it unless they name their own mode.
    pub aggregation: AggregationConfig,
    /// Distance from the reference policy.
    pub kl: KlConfig,
    /// Supervised term on the reference solution.
    pub imitation: ImitationConfig,
    /// Entropy bonus.
    pub entropy: EntropyConfig,
    /// Prefix-RFT's choice of prefix tokens by entropy.
    pub entropy_filter: EntropyFilterConfig,
    /// What happens to over-long rollouts (DAPO).
    pub overlong: OverlongConfig,
    /// Whether problems whose rollouts all agree are dropped (DAPO).
    pub dynamic_sampling: DynamicSamplingConfig,
}

/// Policy-gradient term (`[policy_loss]`).
///
/// With `w = exp(clamp(log pi - log pi_old))` and advantage `A`, a token costs
/// `-min(w A, clip(w, 1 - clip_low, 1 + clip_high) A)`. A trace token costs `-A f(pi)` instead: no old
/// log-prob, no clip.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PolicyLossConfig {
    /// What the ratio `w` belongs to. Default `clip`.
    pub kind: PolicyLossKind,
    /// Distance below 1 where the ratio is clipped, in [0, 1], or `"off"`. Default 0.2.
    pub clip_low: Limit,
    /// Distance above 1 where the ratio is clipped, at least 0, or `"off"`. Default 0.2.
    pub clip_high: Limit,
    /// For `A < 0` the loss is at most `-dual_clip * A`, above 1, or `"off"`. Default off (verl: 3).
    pub dual_clip: Limit,
    /// Log-ratio is clamped to plus and minus this before the exponential (zero gradient outside), in nats,
    /// or `"off"`. Default 20.
    pub log_ratio_clamp: Limit,
    /// Hint tokens are policy tokens too (Prefix-RFT). Default false: a failed rollout must not push down its
    /// hint.
    pub on_hint: bool,
    /// Where the old log-prob of a hint token comes from; only with `on_hint`. Default `sampling`.
    pub prefix_old: PrefixOld,
    /// Weight `f` of a trace token's probability. Default `identity`.
    pub trace_shape: TraceShape,
    /// Constant of `trace_shape = "ratio"`, a probability above 0. Default 0.1 (LUFFY).
    pub shape_gamma: f64,
    /// Exponent of `trace_shape = "power"`, above 0. Default 0.5.
    pub shape_power: f64,
}

impl Default for PolicyLossConfig {
    fn default() -> Self {
        Self {
            kind: PolicyLossKind::Clip,
            clip_low: Limit::At(0.2),
            clip_high: Limit::At(0.2),
            dual_clip: Limit::Off,
            log_ratio_clamp: Limit::At(20.0),
            on_hint: false,
            prefix_old: PrefixOld::Sampling,
            trace_shape: TraceShape::Identity,
            shape_gamma: 0.1,
            shape_power: 0.5,
        }
    }
}

/// What the importance ratio belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PolicyLossKind {
    /// One ratio a token (PPO, GRPO); `token` in a recipe too.
    #[serde(alias = "token")]
    Clip,
    /// One ratio a sequence, `exp(mean over tokens of the log-ratio)` (GSPO); `sequence` in a recipe too. Needs
    /// an aggregation by sequence.
    #[serde(alias = "sequence")]
    Gspo,
    /// One ratio a sequence, `exp(sum over tokens of the log-ratio)` (RLOO in TRL). Needs an aggregation by
    /// sequence.
    SequenceRatio,
    /// No policy term (SFT).
    None,
}

/// Where the old log-prob of a hint token comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PrefixOld {
    /// The policy that sampled, evaluated on the fixed hint tokens.
    Sampling,
    /// The detached current log-prob: the ratio is 1 whatever the number of updates.
    Current,
}

/// Weight `f(p)` of a trace token with current probability `p`; it costs `-A f(p)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TraceShape {
    /// `p`.
    Identity,
    /// `p / (p + shape_gamma)`: unlikely tokens still learn (LUFFY).
    Ratio,
    /// `ln p`: the advantage-weighted log-likelihood.
    Log,
    /// `p ^ shape_power`.
    Power,
}

/// From token values to one number (`[aggregation]`).
///
/// Counts belong to the whole update batch, over all micro-batches and data-parallel ranks.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AggregationConfig {
    /// Normaliser. Default `sum-const`.
    pub mode: AggregationMode,
    /// `L_max` of `sum-const` and `sum-over-len`, in tokens, at least 1, constant over the run. Absent: the
    /// recipe's longest response.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l_max: Option<usize>,
    /// Sequences without a token of the term in a mean over sequences. Default `exclude`.
    pub empty: EmptySequences,
}

impl Default for AggregationConfig {
    fn default() -> Self {
        Self {
            mode: AggregationMode::SumConst,
            l_max: None,
            empty: EmptySequences::Exclude,
        }
    }
}

/// Normaliser of a term over its token set `T` (`T_i`: its tokens in sequence `i`, `N`: sequences in the batch).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AggregationMode {
    /// Sum / tokens in `T`.
    TokenMean,
    /// Mean over sequences of (sum over `T_i` / tokens in `T_i`).
    SeqMeanTokenMean,
    /// Mean over sequences of the sum over `T_i`.
    SeqMeanTokenSum,
    /// Sum / (`N * L_max`); every sequence counts in `N`.
    SumConst,
    /// Sum / `L_max`, not divided by `N`.
    SumOverLen,
}

/// Sequences without a token of the term, in a mean over sequences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EmptySequences {
    /// They do not count (verl).
    Exclude,
    /// They count with value 0 (TRL).
    Count,
}

/// Distance from the reference policy (`[kl]`), with `d = log pi - log pi_ref` a token.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KlConfig {
    /// Coefficient, at least 0. 0 switches the term off: no reference log-probs are needed. Default 0.
    pub coef: f64,
    /// Estimator. Default `k3`.
    pub kind: KlKind,
    /// Clamp `d` to [-20, 20] and the value to [-10, 10], with zero gradient outside (verl). Default true.
    pub clamp: bool,
    /// Tokens it covers. Default `generated`.
    #[serde(rename = "where")]
    pub tokens: KlTokens,
    /// In the loss, or in the reward before advantages. Default `loss`.
    pub placement: KlPlacement,
    /// Aggregation if it differs from the policy term's; only in the loss.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<AggregationMode>,
}

impl Default for KlConfig {
    fn default() -> Self {
        Self {
            coef: 0.0,
            kind: KlKind::K3,
            clamp: true,
            tokens: KlTokens::Generated,
            placement: KlPlacement::Loss,
            mode: None,
        }
    }
}

/// Estimator of the KL divergence from one sampled token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KlKind {
    /// `d`, gradient 1.
    K1,
    /// `|d|`, gradient sign(d).
    Abs,
    /// `d^2 / 2`, gradient `d`.
    K2,
    /// `exp(-d) + d - 1`, gradient `1 - exp(-d)`.
    K3,
    /// Value of `k3` with the gradient of `k2`: under fixed samples that one is the gradient of the KL.
    #[serde(rename = "k3+")]
    K3Plus,
}

/// Tokens that a KL term covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KlTokens {
    /// Generated tokens: the samples of the policy itself.
    Generated,
    /// Hint tokens and traces as well.
    All,
}

/// Where the KL acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KlPlacement {
    /// A term of the loss, at the current policy.
    Loss,
    /// `r - coef * sum over the sequence's tokens of the estimator at log pi_old - log pi_ref`, before
    /// advantages (RLOO in TRL, with `k1`).
    Reward,
}

/// Supervised term on the reference solution (`[imitation]`).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImitationConfig {
    /// Coefficient, at least 0; 0 switches the term off. Default 0.
    pub coef: f64,
    /// Likelihood or probability. Default `log-likelihood`.
    pub kind: ImitationKind,
    /// Tokens it covers. Default `hint`.
    #[serde(rename = "where")]
    pub tokens: ImitationTokens,
    /// Aggregation of `log-likelihood`. Default `token-mean`; `probability` is always a mean over sequences.
    pub mode: AggregationMode,
    /// Whose hint a sequence imitates; only with `where = "hint"`. Default `own`.
    pub which_hint: WhichHint,
}

impl Default for ImitationConfig {
    fn default() -> Self {
        Self {
            coef: 0.0,
            kind: ImitationKind::LogLikelihood,
            tokens: ImitationTokens::Hint,
            mode: AggregationMode::TokenMean,
            which_hint: WhichHint::Own,
        }
    }
}

/// What imitation maximises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImitationKind {
    /// `log pi` of each token.
    LogLikelihood,
    /// `pi` of the whole hint, mean over all sequences: SEELE's Eq. 47 as printed, inert for hints of
    /// ordinary length; for study, with `where = "hint"`.
    Probability,
}

/// Tokens that imitation covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImitationTokens {
    /// The hint tokens of each sequence: a solution token counts once for every sequence whose hint covers it.
    Hint,
    /// Generated tokens.
    Generated,
    /// Off-policy traces (RL with SFT loss).
    Trace,
    /// The whole solution on each trunk, once a trunk (SFT).
    Solution,
}

/// Whose hint a sequence imitates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhichHint {
    /// Its own (Eq. 47: the expectation is over samples with their hints).
    Own,
    /// The longest hint of the problem's last round.
    LastRound,
    /// The longest hint of the problem.
    Longest,
}

/// Entropy bonus (`[entropy]`): `-coef * entropy` over generated tokens, full-vocabulary entropy in nats.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EntropyConfig {
    /// Coefficient; 0 switches it off. Default 0.
    pub coef: f64,
    /// Aggregation. Default `token-mean`.
    pub mode: AggregationMode,
}

impl Default for EntropyConfig {
    fn default() -> Self {
        Self {
            coef: 0.0,
            mode: AggregationMode::TokenMean,
        }
    }
}

/// Prefix-RFT's entropy filter (`[entropy_filter]`): of the prefix tokens the `floor(drop * count)` with the
/// lowest current entropy get advantage 0. Of equal entropies the earlier token is dropped first.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EntropyFilterConfig {
    /// Share of prefix tokens dropped, in [0, 1]. 0 switches the filter off. Default 0 (Prefix-RFT: 0.8).
    pub drop: f64,
    /// What is ranked together. Default `sequence`, which does not depend on the batch's make-up.
    pub scope: EntropyFilterScope,
}

impl Default for EntropyFilterConfig {
    fn default() -> Self {
        Self {
            drop: 0.0,
            scope: EntropyFilterScope::Sequence,
        }
    }
}

/// What the entropy filter ranks together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EntropyFilterScope {
    /// The prefix of one sequence.
    Sequence,
    /// All prefixes of the update batch, or of this rank's share of it.
    Batch,
}

/// Over-long rollouts (`[overlong]`, DAPO).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OverlongConfig {
    /// Length of the zone in front of the longest response where the penalty grows, in tokens, or `"off"`:
    /// `min(0, -(length - (longest - buffer)) / buffer * factor)` is added to the reward. Default off
    /// (DAPO: 4096 of 20480).
    pub buffer: Limit,
    /// Penalty at the longest response, reward units, at least 0. Default 1.
    pub factor: f64,
    /// Keep rollouts that hit the length limit out of the policy, KL and entropy terms; they stay in the
    /// group's baseline and in `N`. Default false.
    pub mask_truncated: bool,
}

impl Default for OverlongConfig {
    fn default() -> Self {
        Self {
            buffer: Limit::Off,
            factor: 1.0,
            mask_truncated: false,
        }
    }
}

/// Dynamic sampling (`[dynamic_sampling]`, DAPO): problems whose rollouts are all right or all wrong are
/// replaced by others until the batch is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DynamicSamplingConfig {
    /// Drop problems with uniform correctness. Default false.
    pub drop_uniform: bool,
    /// Rollout batches sampled at most to fill one training batch; at least 1. 1: drop without replacement.
    /// Default 1 (DAPO: 10).
    pub max_rollout_batches: usize,
}

impl Default for DynamicSamplingConfig {
    fn default() -> Self {
        Self {
            drop_uniform: false,
            max_rollout_batches: 1,
        }
    }
}
