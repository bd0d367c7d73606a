//! What a plan amounts to: counts exactly, tokens and memory as upper bounds or estimates.

use super::machine::free_memory;
use super::materials::Materials;
use super::memory::{Longest, Memory};
use super::plan::{ModelSource, Recipe};
use super::sections::{Compute, Recompute, SaveType};
use seele_data::EncodedProblem;
use seele_policy::config::ModelConfig;
use seele_policy::decoder::footprint::tape_bytes;
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
    /// Mean prompt, tokens.
    pub mean_prompt: f64,
    /// Mean solution, tokens; `None` where there are none.
    pub mean_solution: Option<f64>,
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

impl Budget {
    /// Adds a plan up.
    pub fn of(recipe: &Recipe, materials: &Materials) -> Self {
        let config = &materials.config;
        let longest = Longest::of(&materials.train);
        let mean = |length: &dyn Fn(&EncodedProblem) -> usize| {
            let problems = &materials.train.problems;
            let sum: usize = problems.iter().map(|(_, problem)| length(problem)).sum();
            sum as f64 / problems.len().max(1) as f64
        };
        let rollout = &recipe.rollout;
        let problems = rollout.problems_per_step as u64;
        let steps = recipe.steps(materials.train.problems.len());
        let rollouts_per_step = match recipe.objective.needs_rollouts() {
            true => problems * rollout.rollouts_per_problem as u64,
            false => 0,
        };
        let generated = rollouts_per_step * rollout.max_new_tokens as u64;
        let trained = (generated + problems * longest.trunk as u64) * recipe.update.passes as u64;
        let parameters = Layout::of(config).len() as u64;
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
            longest_prompt: longest.prompt,
            longest_solution: longest.solution,
            mean_prompt: mean(&|problem| problem.prompt_ids.len()),
            mean_solution: materials
                .train
                .has_solutions()
                .then(|| mean(&|problem| problem.solution_ids.len())),
            memory: recipe.memory(materials, longest, rollouts_per_step, parameters),
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
            (config.layers * tape_bytes(config, recipe.decoder_options().compute, tokens)) as u64
                > room
        }
    }
}

/// Half of the memory that is free, bytes; `None` where the system does not say.
fn memory_for_activations() -> Option<u64> {
    free_memory().map(|bytes| bytes / 2)
}

#[cfg(test)]
mod tests {
    use super::super::sections::SaveConfig;
    use super::*;

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
}
