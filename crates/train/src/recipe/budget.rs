//! What a plan amounts to: counts exactly, tokens and memory as upper bounds or estimates.

use super::machine::free_memory;
use super::materials::Materials;
use super::plan::{ModelSource, Recipe};
use super::sections::{Compute, Recompute, SaveType};
use seele_policy::config::ModelConfig;
use seele_policy::decoder::{self, DecoderOptions};
use seele_policy::parameters::Layout;

/// Bytes of a float32.
const F32: u64 = 4;

/// The arithmetic of a plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Budget {
    /// Trainable numbers of the model.
    pub parameters: u64,
    /// Training problems.
    pub problems: usize,
    /// Training steps.
    pub steps: usize,
    /// Times that the training problems are gone through.
    pub epochs: f64,
    /// Rollouts of a step, at most; 0 where training reads reference solutions only.
    pub rollouts_per_step: u64,
    /// Rollouts of the run, at most.
    pub rollouts: u64,
    /// Tokens generated in a step, at most.
    pub generated_tokens_per_step: u64,
    /// Tokens that go forward and backward in a step, at most: trunks once, every rollout, all passes.
    pub trained_tokens_per_step: u64,
    /// Optimizer steps of a training step.
    pub updates_per_step: usize,
    /// Longest prompt, tokens.
    pub longest_prompt: usize,
    /// Longest solution, tokens.
    pub longest_solution: usize,
    /// Memory of the whole run.
    pub memory: Memory,
    /// Disk of the whole run.
    pub disk: Disk,
}

/// Disk by purpose, bytes, logs and tokenizer left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    /// One checkpoint.
    pub checkpoint: u64,
    /// Most checkpoints at a time, with the one that is being written.
    pub checkpoints: u64,
    /// Weights of the reference policy, which all checkpoints share.
    pub reference: u64,
    /// The model at the end.
    pub model: u64,
}

impl Disk {
    /// All together.
    pub fn total(&self) -> u64 {
        self.checkpoint * self.checkpoints + self.reference + self.model
    }
}

/// Memory by purpose, bytes. What follows from the number of weights is exact; the rest is estimated from
/// the longest problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
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
    /// What the backward pass keeps of a micro-batch.
    pub activations: u64,
}

impl Memory {
    /// All together. Sampling and training take turns, but the allocator keeps what either has taken.
    pub fn total(&self) -> u64 {
        let policy = self.weights + self.gradients + self.moments + self.packed;
        let beside = self.reference + self.snapshot;
        policy + beside + self.key_value_cache + self.activations
    }
}

impl Budget {
    /// Adds a plan up.
    pub fn of(recipe: &Recipe, materials: &Materials) -> Self {
        let config = &materials.config;
        let lengths = materials.train.problems.iter().map(|(_, problem)| {
            let (prompt, solution) = (problem.prompt_ids.len(), problem.solution_ids.len());
            (prompt, solution)
        });
        let longest_prompt = lengths.clone().map(|(prompt, _)| prompt).max().unwrap_or(0);
        let longest_solution = lengths
            .clone()
            .map(|(_, solution)| solution)
            .max()
            .unwrap_or(0);
        let longest_trunk = lengths
            .map(|(prompt, solution)| prompt + solution)
            .max()
            .unwrap_or(0);

        let rollout = &recipe.rollout;
        let problems = rollout.problems_per_step as u64;
        let steps = recipe.steps(materials.train.problems.len());
        let rollouts_per_step = match recipe.objective.needs_rollouts() {
            true => problems * rollout.rollouts_per_problem as u64,
            false => 0,
        };
        let generated = rollouts_per_step * rollout.max_new_tokens as u64;
        let trained = (generated + problems * longest_trunk as u64) * recipe.update.passes as u64;
        let parameters = Layout::of(config).len() as u64;
        let packed = match recipe.model.compute {
            Compute::F32 => F32,
            Compute::Bf16 => F32 / 2,
        };
        let kept_tokens = (rollout.max_active_branches as u64).min(rollouts_per_step)
            * rollout.max_new_tokens as u64
            + problems * longest_trunk as u64;
        Self {
            disk: recipe.disk(parameters, steps),
            parameters,
            problems: materials.train.problems.len(),
            steps,
            epochs: (steps * rollout.problems_per_step) as f64
                / materials.train.problems.len() as f64,
            rollouts_per_step,
            rollouts: rollouts_per_step * steps as u64,
            generated_tokens_per_step: generated,
            trained_tokens_per_step: trained,
            updates_per_step: recipe.updates_per_step(),
            longest_prompt,
            longest_solution,
            memory: Memory {
                weights: parameters * F32,
                gradients: parameters * F32,
                moments: 2 * parameters * F32,
                packed: 2 * parameters * packed,
                reference: if recipe.objective.needs_reference() {
                    parameters * packed
                } else {
                    0
                },
                snapshot: if recipe.save.beside_training {
                    3 * parameters * F32
                } else {
                    0
                },
                key_value_cache: (kept_tokens * key_value_bytes(config))
                    .min(rollout.cache_memory.bytes() as u64),
                activations: recipe.kept_activations(config, trained as usize),
            },
        }
    }
}

impl Recipe {
    /// How the decoder computes: `[model] compute` and `recompute`. What is recomputed changes no result.
    pub fn decoder_options(&self) -> DecoderOptions {
        DecoderOptions {
            compute: match self.model.compute {
                Compute::F32 => decoder::Compute::F32,
                Compute::Bf16 => decoder::Compute::Bf16,
            },
            recompute: match self.model.recompute {
                Recompute::None => decoder::Recompute::None,
                Recompute::Block => decoder::Recompute::Block,
                Recompute::Auto => match memory_for_activations() {
                    Some(bytes) => decoder::Recompute::Auto {
                        bytes: usize::try_from(bytes).unwrap_or(usize::MAX),
                    },
                    None => decoder::Recompute::Block,
                },
            },
        }
    }

    /// Disk for a model of so many parameters and a run of so many steps.
    fn disk(&self, parameters: u64, steps: usize) -> Disk {
        let save = &self.save;
        let (model, masters) = match save.dtype {
            SaveType::F32 => (parameters * F32, 0),
            SaveType::Bf16 => (parameters * F32 / 2, parameters * F32),
        };
        let taken = |every: Option<usize>| every.map_or(0, |every| steps / every);
        let best = usize::from(save.keep_best.is_some());
        let kept = save.keep_last + taken(save.keep_every) + best;
        // Those at the end and before the first step come on top of the regular ones, and any step may be
        // the best so far.
        let written = match best {
            0 => taken(save.every_steps) + 2,
            _ => steps + 1,
        };
        let is_own = self.sft.is_some() || matches!(self.model.source, ModelSource::New(_));
        let reference = is_own && self.objective.needs_reference();
        Disk {
            checkpoint: model + masters + 2 * parameters * F32,
            checkpoints: kept.min(written) as u64 + 1,
            reference: if reference { parameters * F32 } else { 0 },
            model,
        }
    }

    /// What the backward pass of a micro-batch keeps in a step of at most `trained` tokens, bytes.
    fn kept_activations(&self, config: &ModelConfig, trained: usize) -> u64 {
        let tokens = self.update.tokens_per_microbatch.min(trained);
        let bytes = |recompute| activation_bytes(config, tokens, recompute);
        match self.model.recompute {
            Recompute::Auto => {
                let least = bytes(Recompute::Block);
                let room = memory_for_activations().unwrap_or(0).max(least);
                bytes(Recompute::None).min(room)
            }
            chosen => bytes(chosen),
        }
    }
}

/// Whether the backward pass of a step of at most `trained` tokens computes parts of the forward pass again,
/// with so much free memory.
pub(super) fn recomputes(
    recipe: &Recipe,
    config: &ModelConfig,
    trained: usize,
    free: Option<u64>,
) -> bool {
    let tokens = recipe.update.tokens_per_microbatch.min(trained);
    match recipe.model.recompute {
        Recompute::None => false,
        Recompute::Block => true,
        Recompute::Auto => {
            let room = free.map_or(0, |bytes| bytes / 2);
            activation_bytes(config, tokens, Recompute::None) > room
        }
    }
}

/// Half of the memory that is free, bytes; `None` where the system does not say.
fn memory_for_activations() -> Option<u64> {
    free_memory().map(|bytes| bytes / 2)
}

/// Keys and values of one token, bytes.
fn key_value_bytes(config: &ModelConfig) -> u64 {
    2 * (config.layers * config.kv_heads * config.head_dim) as u64 * F32
}

/// What a backward pass over `tokens` tokens keeps, bytes, estimated; `auto` counts as `none`.
///
/// Counted per block: its input and the input of its feed-forward layer, both after their norms, q, k, v, the
/// attended values, and gate, up and their product.
pub fn activation_bytes(config: &ModelConfig, tokens: usize, recompute: Recompute) -> u64 {
    let (queries, keys) = (
        config.heads * config.head_dim,
        config.kv_heads * config.head_dim,
    );
    let block =
        (4 * config.hidden_size + 2 * queries + 2 * keys + 3 * config.intermediate_size) as u64;
    let (layers, tokens) = (config.layers as u64, tokens as u64);
    let numbers = match recompute {
        Recompute::None | Recompute::Auto => layers * block,
        Recompute::Block => layers * config.hidden_size as u64 + block,
    };
    tokens * numbers * F32
}

#[cfg(test)]
mod tests {
    use super::super::sections::SaveConfig;
    use super::*;
    use seele_policy::config::Family;

    fn config() -> ModelConfig {
        ModelConfig {
            family: Family::Llama,
            vocab_size: 100,
            hidden_size: 8,
            intermediate_size: 16,
            layers: 3,
            heads: 4,
            kv_heads: 2,
            head_dim: 2,
            rms_norm_eps: 1e-6,
            rope_theta: 1e4,
            rope_scaling: None,
            max_position_embeddings: 64,
            tied: true,
            qkv_bias: false,
            qk_norm: false,
            bos_token_id: None,
            eos_token_ids: vec![0],
        }
    }

    #[test]
    fn recomputing_keeps_one_block_and_the_inputs_of_the_others() {
        let bytes = |recompute| activation_bytes(&config(), 10, recompute);
        let block = 4 * 8 + 2 * 8 + 2 * 4 + 3 * 16;
        assert_eq!(bytes(Recompute::None), 10 * 3 * block * 4);
        assert_eq!(bytes(Recompute::Block), 10 * (3 * 8 + block) * 4);
    }

    #[test]
    fn keys_and_values_of_a_token_count_every_layer() {
        assert_eq!(key_value_bytes(&config()), 2 * 3 * 2 * 2 * 4);
    }

    #[test]
    fn disk_counts_the_checkpoints_that_stay_and_the_one_being_written() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("r.toml");
        std::fs::write(
            &file,
            "steps = 100\n[model]\npath = \"m\"\n[data]\npath = \"d\"\n",
        )
        .unwrap();
        let disk = |overrides: &[&str]| {
            let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
            Recipe::load(&file, &overrides).unwrap().disk(10, 100)
        };
        let often = disk(&["save.every_steps=1"]);
        assert_eq!((often.checkpoint, often.checkpoints), (120, 4));
        assert_eq!((often.model, often.reference), (40, 0));
        assert_eq!(often.total(), 4 * 120 + 40);
        assert_eq!(disk(&[]).checkpoints, 3);
        let best = ["save.every_steps=off", "save.keep_best=reward/mean"];
        assert_eq!(
            disk(&best).checkpoints,
            SaveConfig::default().keep_last as u64 + 2
        );
        let more = [
            "save.every_steps=10",
            "save.keep_every=25",
            "save.dtype=bf16",
        ];
        let more = disk(&more);
        assert_eq!((more.checkpoint, more.checkpoints), (20 + 40 + 80, 8));
    }

    #[test]
    fn sampling_and_training_both_count() {
        let memory = Memory {
            weights: 1,
            gradients: 1,
            moments: 2,
            packed: 2,
            reference: 1,
            snapshot: 3,
            key_value_cache: 10,
            activations: 7,
        };
        assert_eq!(memory.total(), 27);
    }
}
