//! How much an engine did, and how full its batch was.

/// Counts since the engine was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RolloutStatistics {
    /// Tokens drawn, end tokens included.
    pub decoded_tokens: u64,
    /// Trunk tokens that went through the model.
    pub prefilled_tokens: u64,
    /// Trunk tokens in front of the branches, summed over branches: what a prefill of each would have cost.
    pub forked_tokens: u64,
    /// Steps that drew at least one token.
    pub steps: u64,
    /// Branches that ended.
    pub finished_branches: u64,
    /// Most branches that run at a time.
    pub capacity: usize,
}

impl RolloutStatistics {
    /// Trunk tokens that sharing saved from going through the model.
    pub fn prefill_saved_tokens(&self) -> u64 {
        self.forked_tokens.saturating_sub(self.prefilled_tokens)
    }

    /// Branches that ran in a step, on average; 0 before the first step.
    pub fn mean_active_branches(&self) -> f64 {
        // Every running branch draws one token a step.
        self.decoded_tokens as f64 / self.steps.max(1) as f64
    }

    /// [`Self::mean_active_branches`] as a share of the capacity, 0..=1.
    pub fn occupancy(&self) -> f64 {
        self.mean_active_branches() / self.capacity.max(1) as f64
    }
}
