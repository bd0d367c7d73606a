//! What can stop a run.

use crate::metrics::MetricsError;
use crate::objective::ObjectiveError;
use seele_data::SamplerError;
use seele_hint::HintError;
use seele_policy::error::{LoadError, SaveError};
use seele_policy::tokenizer::TokenizerError;
use seele_rollout::RolloutError;
use seele_verify::reward::RewardConfigError;

/// Why a run stopped before its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// The weights cannot be read.
    #[error("cannot read the model: {0}")]
    Load(#[from] LoadError),
    /// A model folder cannot be written.
    #[error("cannot save the model: {0}")]
    Save(#[from] SaveError),
    /// The metrics log cannot be written.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The reward cannot be built.
    #[error("[reward]: {0}")]
    Reward(#[from] RewardConfigError),
    /// The hint schedule refused a setting, a problem or a result.
    #[error("[hint]: {0}")]
    Hint(#[from] HintError),
    /// Sampling failed.
    #[error("step {step}: sampling failed: {source}")]
    Rollout {
        /// Training step, from 1; 0 is before the first.
        step: usize,
        /// Why.
        source: RolloutError,
    },
    /// A completion cannot be decoded.
    #[error("cannot decode a completion: {0}")]
    Decode(#[from] TokenizerError),
    /// The objective refused its batch.
    #[error("objective: {0}")]
    Objective(#[from] ObjectiveError),
    /// Problems cannot be drawn.
    #[error("[rollout] problems_per_step: {0}")]
    Sampler(#[from] SamplerError),
    /// Neither the model nor its tokenizer says how a text ends.
    #[error(
        "the model names no end-of-sequence token; add `eos_token_id` to its `config.json` or `eos_token` to its tokenizer settings"
    )]
    NoEndToken,
}

impl From<RolloutError> for TrainError {
    fn from(source: RolloutError) -> Self {
        Self::Rollout { step: 0, source }
    }
}

impl TrainError {
    /// Names the step in an error of sampling.
    pub(crate) fn at_step(self, step: usize) -> Self {
        match self {
            Self::Rollout { source, .. } => Self::Rollout { step, source },
            other => other,
        }
    }
}
