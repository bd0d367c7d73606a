//! Whether the rows of a data set can be judged at all.
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
