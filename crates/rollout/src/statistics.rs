//! How much an engine did, how full its batch was, and where the time went.

use std::time::Duration;

/// Counts since the engine was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RolloutStatistics {
    /// Tokens drawn, end tokens included.
    pub decoded_tokens: u64,
    /// Trunk tokens that went through the model.
    pub prefilled_tokens: u64,
    /// Trunk tokens in front of the branches, summed over branches: what a prefill of each would have cost.
    pub forked_tokens: u64,
    /// Tokens of branches that gave way to others for lack of memory and go through the model again.
    pub repeated_tokens: u64,
    /// Steps that drew at least one token.
    pub steps: u64,
    /// Branches that ended.
    pub finished_branches: u64,
    /// Most branches that run at a time.
    pub capacity: usize,
    /// Most pages of keys and values that were held at a time, of trunks and branches.
    pub peak_pages: usize,
    /// Where the time went.
    pub time: RolloutTimes,
}

/// Wall-clock time since the engine was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RolloutTimes {
    /// Trunks through the model.
    pub prefill: Duration,
    /// Branches through the model, up to the logits.
    pub decode: Duration,
    /// Tokens from logits.
    pub draw: Duration,
    /// Of all that, steps with nothing waiting that drew tokens for fewer than half as many branches as
    /// the fullest step before: the last long branches, with a machine that could do more.
    pub tail: Duration,
}

impl RolloutStatistics {
    /// Trunk tokens that sharing saved from going through the model.
    pub fn prefill_saved_tokens(&self) -> u64 {
        self.forked_tokens.saturating_sub(self.prefilled_tokens)
    }

    /// Branches that drew a token in a step, on average; 0 before the first step.
    pub fn mean_active_branches(&self) -> f64 {
        self.decoded_tokens as f64 / self.steps.max(1) as f64
    }

    /// [`Self::mean_active_branches`] as a share of the capacity, 0..=1.
    pub fn utilisation(&self) -> f64 {
        self.mean_active_branches() / self.capacity.max(1) as f64
    }
}
