//! What comes out of evaluating an objective.

use std::ops::AddAssign;

/// The terms of a loss before their coefficients, or one piece's share of them.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Terms {
    /// Policy loss.
    pub policy: f64,
    /// KL to the reference policy, in nats; 0 when it is in the reward.
    pub kl: f64,
    /// Negative log-likelihood (nats) or negative probability of the imitated tokens.
    pub imitation: f64,
    /// Entropy under its aggregation, in nats; 0 without an entropy bonus.
    pub entropy: f64,
}

impl AddAssign for Terms {
    fn add_assign(&mut self, other: Self) {
        self.policy += other.policy;
        self.kl += other.kl;
        self.imitation += other.imitation;
        self.entropy += other.entropy;
    }
}

/// Sums behind the metrics of a step; pieces are merged with `+=`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Statistics {
    /// Tokens with a ratio, a shared hint token once for every sequence that trains it.
    pub ratio_tokens: f64,
    /// Those of them whose gradient a clip (or the clamp of the log-ratio) takes away.
    pub clipped_tokens: f64,
    /// Sum of ratios.
    pub ratio_sum: f64,
    /// Largest absolute log-ratio before any clamp, in nats.
    pub max_abs_log_ratio: f64,
    /// Generated tokens whose entropy was given.
    pub sampled_tokens: f64,
    /// Sum of their entropies, in nats.
    pub entropy_sum: f64,
}

impl Statistics {
    /// Share of ratio tokens where the clip is active, in [0, 1]; `None` without such tokens.
    pub fn clip_fraction(&self) -> Option<f64> {
        (self.ratio_tokens > 0.0).then(|| self.clipped_tokens / self.ratio_tokens)
    }

    /// Mean ratio; `None` without such tokens.
    pub fn mean_ratio(&self) -> Option<f64> {
        (self.ratio_tokens > 0.0).then(|| self.ratio_sum / self.ratio_tokens)
    }

    /// Mean entropy of generated tokens, in nats; `None` if none was given.
    pub fn mean_entropy(&self) -> Option<f64> {
        (self.sampled_tokens > 0.0).then(|| self.entropy_sum / self.sampled_tokens)
    }
}

impl AddAssign for Statistics {
    fn add_assign(&mut self, other: Self) {
        self.ratio_tokens += other.ratio_tokens;
        self.clipped_tokens += other.clipped_tokens;
        self.ratio_sum += other.ratio_sum;
        self.max_abs_log_ratio = self.max_abs_log_ratio.max(other.max_abs_log_ratio);
        self.sampled_tokens += other.sampled_tokens;
        self.entropy_sum += other.entropy_sum;
    }
}

/// One piece of an update batch, evaluated. Terms, loss and statistics of all pieces add up to those of the
/// batch; the derivatives are already those of the whole loss.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Evaluation {
    /// The piece's share of `policy + kl.coef * kl + imitation.coef * imitation - entropy.coef * entropy`.
    pub loss: f64,
    /// The piece's share of each term.
    pub terms: Terms,
    /// Sums for metrics.
    pub statistics: Statistics,
    /// `[tokens of the piece]`: derivative of the loss by each current log-prob.
    pub grad_logprobs: Vec<f64>,
    /// `[tokens of the piece]`: derivative of the loss by each entropy; empty without an entropy bonus.
    pub grad_entropies: Vec<f64>,
}
