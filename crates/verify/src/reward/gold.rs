//! Whether a run would get rewards at all: what is asked of a reward before it.
use thiserror::Error;

use crate::compare::GoldError;

/// Why no answer to a problem can be judged by a reward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum UnusableGold {
    /// The reference answer itself cannot be used.
    #[error(transparent)]
    Gold(#[from] GoldError),
    /// A column that the reward reads is missing or of another type.
    #[error("{0}")]
    Columns(&'static str),
}

/// The program or service that judges does not answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct RewardUnavailable(pub String);
