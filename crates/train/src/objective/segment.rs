//! Runs of tokens that share a treatment: the solution of a trunk, or one branch.

use std::ops::Range;

use super::ObjectiveError;
use super::config::{ImitationKind, ObjectiveConfig, PolicyLossKind};
use super::evaluation::Evaluation;

/// Advantage times weight of one token, summed over the sequences that share it, by sign. The policy loss is
/// proportional to the size of the advantage, so the two sums are all that is left of any number of sequences.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct PolicyMass {
    /// Sum of `weight * A` over sequences with `A > 0`.
    pub(super) positive: f64,
    /// Sum of `weight * -A` over sequences with `A < 0`.
    pub(super) negative: f64,
    /// Sequences that train the token, whatever their advantage.
    pub(super) sequences: u32,
    positive_sequences: u32,
    negative_sequences: u32,
}

impl PolicyMass {
    pub(super) fn add(&mut self, advantage: f64, weight: f64) {
        self.sequences += 1;
        if advantage > 0.0 {
            self.positive += weight * advantage;
            self.positive_sequences += 1;
        } else if advantage < 0.0 {
            self.negative -= weight * advantage;
            self.negative_sequences += 1;
        }
    }
}

/// What one token counts in each term.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct TokenWeights {
    pub(super) policy: PolicyMass,
    /// Of sequences for which the token is part of an off-policy trace that they continue.
    pub(super) off_policy: PolicyMass,
    pub(super) kl: f64,
    pub(super) imitation: f64,
    pub(super) entropy: f64,
}

impl TokenWeights {
    /// Whether any derivative can differ from 0.
    pub(super) fn is_trained(&self) -> bool {
        self.policy.positive > 0.0
            || self.policy.negative > 0.0
            || self.off_policy.positive > 0.0
            || self.off_policy.negative > 0.0
            || self.kl > 0.0
            || self.imitation > 0.0
            || self.entropy > 0.0
    }
}

/// Where the ratio of a segment's tokens comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RatioSource {
    /// Current against old log-prob of the token.
    Token,
    /// The old log-prob is the detached current one.
    Detached,
    /// One ratio for the whole branch.
    Sequence,
    /// No ratio: off-policy trace.
    Trace,
}

/// Weights of a segment's tokens: all alike on a branch, one by one on a solution.
#[derive(Debug, Clone)]
pub(super) enum Weights {
    Alike(TokenWeights),
    Each(Vec<TokenWeights>),
}

#[derive(Debug, Clone)]
pub(super) struct Segment {
    pub(super) trunk: usize,
    /// `None`: the solution.
    pub(super) branch: Option<usize>,
    pub(super) slots: Range<usize>,
    pub(super) ratio: RatioSource,
    /// Whether the tokens are samples of the policy.
    pub(super) sampled: bool,
    pub(super) weights: Weights,
    pub(super) old_logprobs: Vec<f64>,
    pub(super) ref_logprobs: Vec<f64>,
    /// Log of the branch's ratio; from `prepare`, with one ratio a sequence.
    pub(super) sequence_log_ratio: f64,
    /// Value and derivative of the imitation term by token; from `prepare`, with `probability`.
    pub(super) hint_probability: Vec<(f64, f64)>,
}

impl Segment {
    pub(super) fn weights(&self, offset: usize) -> &TokenWeights {
        match &self.weights {
            Weights::Alike(weights) => weights,
            Weights::Each(weights) => &weights[offset],
        }
    }

    pub(super) fn require_finite(
        &self,
        what: &'static str,
        value: f64,
    ) -> Result<f64, ObjectiveError> {
        if value.is_finite() {
            return Ok(value);
        }
        Err(ObjectiveError::NotFinite {
            trunk: self.trunk,
            branch: self.branch,
            what,
            value,
        })
    }

    /// Adds one token to `result`; returns the derivatives of the loss by its log-prob and its entropy.
    pub(super) fn evaluate_token(
        &self,
        config: &ObjectiveConfig,
        offset: usize,
        logprob: f64,
        entropy: Option<f64>,
        result: &mut Evaluation,
    ) -> Result<(f64, f64), ObjectiveError> {
        let weights = self.weights(offset);
        let mut gradient = 0.0;
        let sequences = weights.policy.sequences + weights.off_policy.sequences;
        if sequences > 0 || weights.is_trained() {
            self.require_finite("current log-prob", logprob)?;
        }
        if weights.off_policy.sequences > 0 {
            gradient += trace_token(config, weights.off_policy, logprob, result);
        }
        if weights.policy.sequences > 0 {
            gradient += self.policy_token(config, offset, logprob, result);
        }
        if weights.kl > 0.0 {
            let (value, slope) = config.kl.estimate(logprob - self.ref_logprobs[offset]);
            result.terms.kl += weights.kl * value;
            gradient += config.kl.coef * weights.kl * slope;
        }
        if weights.imitation > 0.0 {
            let (value, slope) = match config.imitation.kind {
                ImitationKind::LogLikelihood => (-weights.imitation * logprob, -weights.imitation),
                ImitationKind::Probability => self.hint_probability[offset],
            };
            result.terms.imitation += value;
            gradient += config.imitation.coef * slope;
        }

        let mut entropy_gradient = 0.0;
        if weights.entropy > 0.0 {
            let entropy = entropy.ok_or(ObjectiveError::EntropiesMissing)?;
            result.terms.entropy += weights.entropy * self.require_finite("entropy", entropy)?;
            entropy_gradient = -config.entropy.coef * weights.entropy;
        }
        if let (true, Some(entropy)) = (self.sampled, entropy) {
            result.statistics.sampled_tokens += 1.0;
            result.statistics.entropy_sum += entropy;
        }
        Ok((gradient, entropy_gradient))
    }

    fn policy_token(
        &self,
        config: &ObjectiveConfig,
        offset: usize,
        logprob: f64,
        result: &mut Evaluation,
    ) -> f64 {
        let mass = self.weights(offset).policy;
        let log_ratio = match self.ratio {
            RatioSource::Token => logprob - self.old_logprobs[offset],
            RatioSource::Detached => 0.0,
            RatioSource::Sequence => self.sequence_log_ratio,
            RatioSource::Trace => return trace_token(config, mass, logprob, result),
        };

        let loss = config.policy_loss.ratio_loss(log_ratio);
        let mut gradient = 0.0;
        let mut clipped = 0;
        // A mass of 0 is skipped, not multiplied: the ratio may be infinite.
        if mass.positive > 0.0 {
            result.terms.policy += mass.positive * loss.positive.value;
            gradient += mass.positive * loss.positive.gradient;
            clipped += u32::from(loss.positive.clipped) * mass.positive_sequences;
        }
        if mass.negative > 0.0 {
            result.terms.policy += mass.negative * loss.negative.value;
            gradient += mass.negative * loss.negative.gradient;
            clipped += u32::from(loss.negative.clipped) * mass.negative_sequences;
        }
        let sequences = f64::from(mass.sequences);
        let statistics = &mut result.statistics;
        statistics.ratio_tokens += sequences;
        statistics.clipped_tokens += f64::from(clipped);
        statistics.ratio_sum += sequences * loss.ratio;
        statistics.max_abs_log_ratio = statistics.max_abs_log_ratio.max(log_ratio.abs());

        // Every token of a summed log-ratio moves it by 1, of a mean one by 1 / tokens; the mass has that
        // factor already, since the value is spread evenly over the tokens.
        if config.policy_loss.kind == PolicyLossKind::SequenceRatio {
            gradient *= self.slots.len() as f64;
        }
        gradient
    }
}

/// Adds the policy term of a token that was not sampled; returns its derivative.
fn trace_token(
    config: &ObjectiveConfig,
    mass: PolicyMass,
    logprob: f64,
    result: &mut Evaluation,
) -> f64 {
    let (value, slope) = config.policy_loss.shape_trace(logprob);
    let mass = mass.negative - mass.positive;
    result.terms.policy += mass * value;
    mass * slope
}
