//! The numbers that a run goes on from.

use super::CheckpointName;
use seele_data::SamplerPosition;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Everything about a run that is neither weights, moments nor hint memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainerState {
    /// How far the run is.
    pub stage: Stage,
    /// Training steps finished.
    pub step: usize,
    /// Optimizer steps of training so far, skipped ones included.
    pub updates: usize,
    /// Optimizer steps that were skipped in a row up to now.
    pub skipped_in_a_row: usize,
    /// Steps that AdamW has taken since its moments were zero.
    pub optimizer_steps: u64,
    /// Where the order of problems stands.
    pub sampler: SamplerPosition,
    /// Accuracy of every held-out set at the last evaluation; empty before the first one.
    #[serde(default)]
    pub held_out: BTreeMap<String, f64>,
    /// The step after which that was; absent in older checkpoints, which forget at `step` what was not
    /// measured after it.
    #[serde(default)]
    pub held_out_step: Option<usize>,
    /// Best value so far of the metric that retention looks at.
    pub best: Option<Best>,
    /// Length of `metrics.jsonl`.
    pub metrics_bytes: u64,
    /// Length of `sft.jsonl`.
    pub sft_metrics_bytes: u64,
    /// SHA-256 of the training problems as token ids.
    pub data: String,
}

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Stage {
    /// In supervised fine-tuning.
    Supervised(SupervisedPosition),
    /// Before the evaluation that precedes the first training step.
    BeforeTraining,
    /// In training.
    Training,
}

/// How far supervised fine-tuning is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SupervisedPosition {
    /// Steps finished.
    pub step: usize,
    /// Pass over the problems that the next sequence starts in.
    pub epoch: u64,
    /// Problems of that pass already taken.
    pub taken: usize,
}

/// Best value of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Best {
    /// Step that had it.
    pub step: usize,
    /// The value.
    pub value: f64,
}

impl TrainerState {
    /// Name of a checkpoint taken now.
    pub fn name(&self) -> CheckpointName {
        match self.stage {
            Stage::Supervised(position) => CheckpointName::Supervised(position.step),
            Stage::BeforeTraining | Stage::Training => CheckpointName::Step(self.step),
        }
    }
}
