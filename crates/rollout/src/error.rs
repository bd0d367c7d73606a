//! What can go wrong in a rollout.

use crate::TrunkId;

/// Why an engine refused a request or stopped.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RolloutError {
    /// A trunk without tokens: nothing predicts a first token.
    #[error("a trunk needs at least one token; put the beginning-of-sequence token in it")]
    EmptyTrunk,
    /// A token has no row in the embedding.
    #[error(
        "token {token} at position {position} of the trunk is outside the vocabulary of {vocab_size}; encode with the model's own tokenizer"
    )]
    UnknownToken {
        /// Index in the trunk.
        position: usize,
        /// The token.
        token: u32,
        /// Rows of the embedding.
        vocab_size: usize,
    },
    /// The trunk was never added, or has been dropped.
    #[error("there is no {trunk:?}; submit branches between `add_trunk` and `drop_trunk`")]
    UnknownTrunk {
        /// The id that was asked for.
        trunk: TrunkId,
    },
    /// A branch must fork after the first token and not beyond the last.
    #[error(
        "a branch cannot fork after {fork} tokens of a trunk of {trunk_tokens}; use 1 to {trunk_tokens}"
    )]
    ForkOutsideTrunk {
        /// Trunk tokens that were to precede the branch.
        fork: usize,
        /// Tokens of the trunk.
        trunk_tokens: usize,
    },
    /// A branch could become longer than the model's context.
    #[error(
        "a branch that forks after {fork} tokens and may draw {max_new_tokens} more does not fit the model's context of {context_tokens}; shorten the prompt or allow fewer new tokens"
    )]
    BeyondContext {
        /// Trunk tokens in front of the branch.
        fork: usize,
        /// Longest branch.
        max_new_tokens: usize,
        /// Positions that the model has.
        context_tokens: usize,
    },
    /// Even alone a branch would not fit into the key-value memory.
    #[error(
        "a trunk of {trunk_tokens} tokens with a branch of up to {max_new_tokens} needs {needed} MiB for its keys and values, but the pool has {pool}; give it more memory or allow fewer new tokens"
    )]
    PoolTooSmall {
        /// Tokens of the trunk.
        trunk_tokens: usize,
        /// Longest branch.
        max_new_tokens: usize,
        /// Memory of both, MiB, rounded up.
        needed: usize,
        /// Memory of the pool, MiB.
        pool: usize,
    },
    /// A setting outside its range.
    #[error("`{setting}` is {found}, but must be {expected}")]
    InvalidSetting {
        /// Name of the setting.
        setting: &'static str,
        /// What it was.
        found: String,
        /// What it may be.
        expected: &'static str,
    },
    /// The model gave a logit that is infinite or not a number.
    #[error(
        "the model's logits for token {position} of branch {tag} are not finite: the weights have diverged or are damaged; go back to an earlier checkpoint with a lower learning rate, or fetch the model again"
    )]
    NonFiniteLogits {
        /// The branch's tag.
        tag: u64,
        /// Index of the token in the branch.
        position: usize,
    },
    /// The device that the model is on has failed, or has no room.
    #[cfg(feature = "cuda")]
    #[error(transparent)]
    Device(#[from] seele_policy::device::DeviceError),
}
