//! What can stop a run.

use crate::checkpoint::CheckpointError;
use crate::metrics::MetricsError;
use crate::objective::ObjectiveError;
use seele_data::SamplerError;
use seele_eval::EvalError;
use seele_hint::HintError;
use seele_policy::error::LoadError;
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
    /// The device that was asked for cannot be had, has failed, or has no room.
    #[error("`device`: {0}")]
    Device(#[from] seele_policy::device::DeviceError),
    /// A checkpoint cannot be written or used.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Threads cannot be started.
    #[error("cannot start {threads} threads: {source}; lower `threads`")]
    Threads {
        /// How many.
        threads: usize,
        /// Why.
        source: rayon::ThreadPoolBuildError,
    },
    /// Update after update is not finite.
    #[error(
        "step {step}: {updates} updates in a row had a loss or gradient that is not finite, and were skipped; the run stops here. Go on from an earlier checkpoint with a lower `learning_rate.peak`, or a higher `kl.coef`; the state is in `{}`", checkpoint.display()
    )]
    Diverged {
        /// Training step, from 1.
        step: usize,
        /// Optimizer steps skipped in a row.
        updates: usize,
        /// Checkpoint of this moment.
        checkpoint: std::path::PathBuf,
    },
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
    /// A benchmark.
    #[error("[eval.benchmarks]: {0}")]
    Benchmark(#[from] EvalError),
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
    /// Whether what the run was to go on from cannot be used: nothing was started.
    pub fn is_unusable(&self) -> bool {
        match self {
            Self::Checkpoint(error) => error.is_unusable(),
            Self::Metrics(error) => matches!(error, MetricsError::Short { .. }),
            _ => false,
        }
    }

    /// Names the step in an error of sampling.
    pub(crate) fn at_step(self, step: usize) -> Self {
        match self {
            Self::Rollout { source, .. } => Self::Rollout { step, source },
            other => other,
        }
    }
}
