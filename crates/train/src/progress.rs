//! What a run tells its surroundings while it works. The library prints nothing.

use crate::metrics::{EvalAccuracy, SftStepMetrics, StepMetrics};
use crate::watch::Warning;

/// What a step is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Weights, problems and tokenizer are being read.
    Load,
    /// A step of supervised fine-tuning before reinforcement learning.
    Sft,
    /// Rollouts are being sampled. Problems do not wait for each other, so this is the earliest
    /// round that some problem has not finished.
    Round {
        /// Round, from 1.
        round: usize,
        /// Rounds of the step.
        rounds: usize,
    },
    /// Nothing is left to sample until a rollout is verified.
    Reward,
    /// The log-probabilities of the reference policy are being computed.
    LogProbs,
    /// Gradients and optimizer.
    Update,
    /// Accuracy without hints on a held-out set.
    Eval {
        /// Name of the set.
        set: String,
    },
    /// A model folder is being written.
    Save,
}

/// Listens to a run. Every method has an empty default, and `()` listens to nothing.
///
/// The calls of one step come in this order: `phase` (with any number of `tick` after each),
/// `step_finished`; `evaluated` follows an evaluation and comes before the `step_finished` of its
/// step. All come from the thread that runs the loop, so a slow listener slows the run.
pub trait Observer: Send {
    /// A phase of `step` begins; steps count from 1, and 0 is before the first.
    fn phase(&mut self, step: usize, phase: Phase) {
        let _ = (step, phase);
    }

    /// `done` of `total` units of the phase (rollouts, sequences, problems) are finished, and the
    /// phase has worked through `tokens` tokens so far. `total` may grow.
    fn tick(&mut self, done: usize, total: usize, tokens: u64) {
        let _ = (done, total, tokens);
    }

    /// A step of supervised fine-tuning has ended.
    fn sft_step_finished(&mut self, metrics: &SftStepMetrics) {
        let _ = metrics;
    }

    /// A step has ended and its line is in the metrics log.
    fn step_finished(&mut self, metrics: &StepMetrics) {
        let _ = metrics;
    }

    /// A step has shown something that a person should look at; follows its `step_finished`.
    fn warning(&mut self, step: usize, warning: &Warning) {
        let _ = (step, warning);
    }

    /// The evaluation after `step` found every set of `eval.stop_at` at its accuracy: the run ends.
    fn goals_reached(&mut self, step: usize) {
        let _ = step;
    }

    /// The held-out sets were evaluated after `step` (0: before the first).
    fn evaluated(&mut self, step: usize, results: &[EvalAccuracy]) {
        let _ = (step, results);
    }
}

impl Observer for () {}
