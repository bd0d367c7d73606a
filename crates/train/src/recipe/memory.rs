//! How much memory a plan takes, before anything is read.

use super::device_memory::DeviceMemory;
#[cfg(feature = "cuda")]
use super::device_memory::Extent;
use super::materials::Materials;
use super::plan::Recipe;
use super::problems::EncodedData;
use crate::metrics::ResidentMemory;
use seele_policy::decoder::DecoderOptions;
use seele_policy::decoder::footprint::{decoder_bytes, pass_bytes};
use seele_rollout::EngineLoad;

/// Bytes of a float32.
const F32: u64 = 4;

/// Code of this program that training is the first to run, and a thread's stack and heap, with those of the
/// grader beside it, as measured on Linux, MiB.
const CODE_TO_COME_MIB: f64 = 1.5;
const THREAD_MIB: f64 = 1.0;

/// Bytes of a token of a rollout in a step: its id and log-prob, as sampled and as measured, and, while it is
/// trained on, its place, its scores and their gradients in both precisions.
const ROLLOUT_TOKEN: u64 = 96;

/// Memory by purpose, bytes. What follows from the number of weights is exact; the rest is estimated from
/// the longest problem and the longest rollout, so it is rarely reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// What this process holds already, where the system tells, and what it needs for itself: the program, its
    /// threads, the tokenizer, the problems.
    pub process: u64,
    /// Master weights.
    pub weights: u64,
    /// Gradients.
    pub gradients: u64,
    /// Both moments of AdamW.
    pub moments: u64,
    /// Weights packed for products, forward and backward.
    pub packed: u64,
    /// Reference policy, if there is one.
    pub reference: u64,
    /// The copy that a checkpoint is written from while training goes on.
    pub snapshot: u64,
    /// Keys and values while sampling.
    pub key_value_cache: u64,
    /// What a pass over a micro-batch holds until it has gone backward, and the logits of sampling.
    pub activations: u64,
    /// The rollouts of a step and what is computed for each of their tokens.
    pub rollouts: u64,
    /// Memory of the device that the model is on; all of the above is the host's. `None` on the CPU.
    pub device: Option<DeviceMemory>,
}

impl Memory {
    /// All together. Sampling and training take turns, but the allocator keeps what either has taken.
    pub fn total(&self) -> u64 {
        self.process + self.additional()
    }

    /// What is still to come.
    pub fn additional(&self) -> u64 {
        let policy = self.weights + self.gradients + self.moments + self.packed;
        let beside = self.reference + self.snapshot;
        policy + beside + self.key_value_cache + self.activations + self.rollouts
    }
}

/// Longest parts of any problem, tokens.
#[derive(Clone, Copy, Default)]
pub(super) struct Longest {
    pub(super) prompt: usize,
    pub(super) solution: usize,
    /// Prompt and solution of one problem.
    pub(super) trunk: usize,
}

impl Longest {
    pub(super) fn of(data: &EncodedData) -> Self {
        let mut longest = Self::default();
        for (_, problem) in &data.problems {
            let (prompt, solution) = (problem.prompt_ids.len(), problem.solution_ids.len());
            longest.prompt = longest.prompt.max(prompt);
            longest.solution = longest.solution.max(solution);
            longest.trunk = longest.trunk.max(prompt + solution);
        }
        longest
    }
}

impl Recipe {
    /// Memory of a run with steps of `rollouts` rollouts.
    pub(super) fn memory(
        &self,
        materials: &Materials,
        longest: Longest,
        rollouts: u64,
        parameters: u64,
    ) -> Memory {
        let config = &materials.config;
        let DecoderOptions { compute, recompute } = self.decoder_options();
        let loads = self.engine_loads(materials, longest, rollouts as usize);
        let most = |of: &dyn Fn(&EngineLoad) -> usize| loads.iter().map(of).max().unwrap_or(0);
        let cache = most(&|load| load.cache_bytes(config, compute));
        let cache = cache.min(self.rollout.cache_memory.bytes());
        let states = most(&|load| load.state_bytes(config));
        let rows = self.rows_of_pass(materials, longest);
        let tokens = rollouts * self.rollout.max_new_tokens as u64;
        let copies = self.save.beside_training
            && (self.save.every_steps.is_some() || self.save.keep_best.is_some());
        #[cfg(feature = "cuda")]
        let device = self.device_memory(
            config,
            &Extent {
                rows,
                trunk: longest.trunk,
                rollout: self.rollout.max_new_tokens,
                loads: &loads,
            },
        );
        #[cfg(not(feature = "cuda"))]
        let device = None;
        let on_host = |bytes: usize| if device.is_none() { bytes as u64 } else { 0 };
        Memory {
            device,
            process: process_bytes(self.threads),
            weights: parameters * F32,
            gradients: if device.is_none() {
                parameters * F32
            } else {
                0
            },
            moments: 2 * parameters * F32,
            packed: on_host(decoder_bytes(config, compute, true)),
            reference: match self.objective.needs_reference() {
                true => on_host(decoder_bytes(config, compute, false)),
                false => 0,
            },
            snapshot: if copies { 3 * parameters * F32 } else { 0 },
            key_value_cache: on_host(cache),
            activations: states as u64 + on_host(pass_bytes(config, compute, recompute, rows)),
            rollouts: tokens * ROLLOUT_TOKEN,
        }
    }

    /// What the engines of a run have to hold: in a step of so many rollouts, and in evaluations.
    fn engine_loads(
        &self,
        materials: &Materials,
        longest: Longest,
        rollouts: usize,
    ) -> Vec<EngineLoad> {
        let at_a_time = self.rollout.max_active_branches;
        let step = EngineLoad {
            trunks: self.rollout.problems_per_step,
            trunk_tokens: longest.trunk,
            branches: rollouts.min(at_a_time),
            new_tokens: self.rollout.max_new_tokens,
        };
        let mut loads = Vec::from_iter((rollouts > 0).then_some(step));
        // As many prompts wait as are answered.
        let asked = |problems: usize, prompt: usize, new_tokens: usize| EngineLoad {
            trunks: problems.min(2 * at_a_time),
            trunk_tokens: prompt,
            branches: problems.min(at_a_time),
            new_tokens,
        };
        loads.extend(materials.eval.iter().map(|(_, data)| {
            let prompt = Longest::of(data).prompt;
            asked(data.problems.len(), prompt, self.eval.max_new_tokens)
        }));
        loads.extend(materials.benchmarks.iter().map(|(benchmark, set)| {
            let questions = set.problems.len() * benchmark.samples;
            let new_tokens = benchmark.max_new_tokens;
            let room = materials.config.max_position_embeddings;
            asked(questions, room.saturating_sub(new_tokens), new_tokens)
        }));
        loads
    }

    /// Rows of the largest micro-batch: those of the recipe, or of what is passed at a time if that is less. A
    /// trunk with a single rollout may have more.
    fn rows_of_pass(&self, materials: &Materials, longest: Longest) -> usize {
        let rollouts = match self.objective.needs_rollouts() {
            true => self.rollout.rollouts_per_problem,
            false => 0,
        };
        let rollout = self.rollout.max_new_tokens.saturating_sub(1);
        let most = |groups: usize, group: usize, least: usize| {
            let together = self.update.tokens_per_microbatch.min(groups * group);
            together.max(least)
        };
        let sft = match (&self.sft, &materials.sft) {
            (Some(sft), Some(data)) => {
                let sequence = (sft.problems_per_sequence * (Longest::of(data).trunk + 1))
                    .min(materials.config.max_position_embeddings);
                most(sft.sequences_per_step, sequence, sequence)
            }
            _ => 0,
        };
        let group = longest.trunk + rollouts * rollout;
        let least = longest.trunk + rollouts.min(1) * rollout;
        most(self.update.problems_per_update, group, least).max(sft)
    }
}

/// What this process holds, and what it takes for itself when `threads` threads are at work, bytes: code that
/// is read as it is first run, stacks, heaps. Only the latter where the system does not say.
fn process_bytes(threads: usize) -> u64 {
    let resident = ResidentMemory::read().map_or(0.0, |memory| memory.now_mib);
    ((resident + CODE_TO_COME_MIB + threads as f64 * THREAD_MIB) * f64::from(1 << 20)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sampling_and_training_both_count() {
        let memory = Memory {
            process: 100,
            weights: 1,
            gradients: 1,
            moments: 2,
            packed: 2,
            reference: 1,
            snapshot: 3,
            key_value_cache: 10,
            activations: 7,
            rollouts: 5,
            device: None,
        };
        assert_eq!(memory.additional(), 32);
        assert_eq!(memory.total(), 132);
    }
}
