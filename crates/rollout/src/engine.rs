//! What the training loop asks of a rollout engine.

use crate::{Draw, RolloutError, RolloutStatistics};
use seele_random::Key;

/// A trunk of one engine. Ids are not reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrunkId(pub(crate) u64);

/// One rollout to be made: the sequence is `trunk[..fork]` followed by generated tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BranchRequest {
    /// The trunk it continues.
    pub trunk: TrunkId,
    /// Trunk tokens in front of it, 1 to the trunk's length.
    pub fork: usize,
    /// Token `t` of the branch is drawn with `key.with(t)`, whatever else runs.
    pub key: Key,
    /// Tokens that the caller expects to have generated one after another from here on: this branch, and
    /// what can only be asked for when it has ended. Of the branches that wait, the one with most is
    /// started first, so that the longest way through the work does not begin last. 0 where nothing is
    /// known; results do not depend on it.
    pub expected_tokens: usize,
    /// The caller's name for it, handed back unchanged.
    pub tag: u64,
}

/// Why a branch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// It drew a stop token.
    Stop,
    /// It reached the length limit without one.
    Length,
}

/// A rollout that has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct FinishedBranch {
    /// The trunk it continues.
    pub trunk: TrunkId,
    /// The request's tag.
    pub tag: u64,
    /// Trunk tokens in front of it.
    pub fork: usize,
    /// Generated tokens, `[tokens]`, at least one, the stop token included.
    pub tokens: Vec<u32>,
    /// Natural-log probability of each token, `[tokens]`, under the whole temperature-scaled
    /// distribution: top-k and top-p restrict the draw, not this. Greedy records temperature 1.
    pub logprobs: Vec<f32>,
    /// Why it ended.
    pub finish: Finish,
    /// The likeliest tokens at each place, `[tokens]`, as many as were asked for, the likeliest
    /// first; empty if none were.
    pub alternatives: Vec<Vec<Alternative>>,
}

/// A token that could have been drawn, and its natural-log probability, as in
/// [`FinishedBranch::logprobs`].
pub type Alternative = Draw;

/// Generates branches from trunks, many at a time.
///
/// Submit at any time, also between steps; call [`step`](Self::step) while
/// [`pending`](Self::pending) is above zero.
pub trait RolloutEngine {
    /// Takes in a trunk. Its tokens go through the model only as far as branches fork.
    ///
    /// # Errors
    /// [`RolloutError::EmptyTrunk`], [`RolloutError::UnknownToken`].
    fn add_trunk(&mut self, tokens: Vec<u32>) -> Result<TrunkId, RolloutError>;

    /// Frees a trunk and everything it cached. Its branches that wait or run end without a result.
    /// An unknown id does nothing.
    fn drop_trunk(&mut self, trunk: TrunkId);

    /// Queues a branch.
    ///
    /// # Errors
    /// [`RolloutError::UnknownTrunk`], [`RolloutError::ForkOutsideTrunk`], [`RolloutError::BeyondContext`],
    /// [`RolloutError::PoolTooSmall`]; nothing is queued.
    fn submit(&mut self, request: BranchRequest) -> Result<(), RolloutError>;

    /// Fills the batch from the queue, draws one token for each running branch, and returns those
    /// that ended by it. With nothing pending it does nothing.
    ///
    /// # Errors
    /// [`RolloutError::NonFiniteLogits`]. The engine cannot go on afterwards: drop it.
    fn step(&mut self) -> Result<Vec<FinishedBranch>, RolloutError>;

    /// Branches that wait or run.
    fn pending(&self) -> usize;

    /// Counts since the engine was made.
    fn statistics(&self) -> RolloutStatistics;
}
