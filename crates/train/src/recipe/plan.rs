//! The recipe as it will run: every default filled in, every value checked.

use super::cache_memory::CacheMemory;
use super::defaults::{lay_defaults_under, make_paths_absolute, note_derived};
use super::error::RecipeError;
use super::layers::load;
use super::length::Length;
use super::locate::is_elsewhere;
use super::node::{Node, Origin, Table, Value};
use super::parse::parse_file;
use super::preset::layer_of;
use super::read::read;
use super::sections::{
    Compute, NewModel, OldLogprobs, OptimizerConfig, Recompute, Rounds, SaveConfig, TooLong,
};
use super::write::{portable_text, tidy, toml_text};
use super::written::{DataSection, EvalSetSection, Written};
use crate::objective::ObjectiveConfig;
use crate::optimizer_schedule::LearningRateConfig;
use seele_data::arithmetic::{ArithmeticConfig, Split};
use seele_data::{Layout, PromptTemplate};
use seele_eval::Benchmark;
use seele_hint::HintConfig;
use seele_policy::device::DeviceChoice;
use seele_verify::reward::{RewardConfig, RewardKind};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A resolved recipe. Made by [`Recipe::load`]; everything in it has been checked, but files are only
/// looked at by [`Recipe::check_files`].
#[derive(Clone, Debug)]
pub struct Recipe {
    /// Name of the run.
    pub name: String,
    /// The preset that the method's sections started from.
    pub method: String,
    /// Source of every random draw.
    pub seed: u64,
    /// How long training lasts; no steps only after a supervised stage.
    pub length: Length,
    /// Worker threads, at least 1.
    pub threads: usize,
    /// Where the model computes; everything else runs on the processor.
    pub device: DeviceChoice,
    /// What is trained.
    pub model: ModelPlan,
    /// What it is trained on.
    pub data: DataPlan,
    /// How rollouts are sampled.
    pub rollout: RolloutPlan,
    /// Hints, rounds and rollouts a round.
    pub hint: HintConfig,
    /// What a rollout is worth.
    pub reward: RewardConfig,
    /// What is minimised; `aggregation.l_max` is filled in.
    pub objective: ObjectiveConfig,
    /// AdamW.
    pub optimizer: OptimizerConfig,
    /// Learning rate over the optimizer steps.
    pub learning_rate: LearningRateConfig,
    /// How a step's rollouts become optimizer steps.
    pub update: UpdatePlan,
    /// Supervised fine-tuning before the first step.
    pub sft: Option<SftPlan>,
    /// Held-out evaluation without hints.
    pub eval: EvalPlan,
    /// Checkpoints.
    pub save: SaveConfig,
    /// The merged layers, for origins.
    layers: Node,
    /// What [`Recipe::to_toml`] writes.
    pub(super) resolved: Written,
    /// Names of paths of the plan that were located elsewhere.
    pub(super) located: BTreeMap<PathBuf, PathBuf>,
}

/// What is trained.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelPlan {
    /// Where the weights come from.
    pub source: ModelSource,
    /// Number type of activations and products.
    pub compute: Compute,
    /// What the backward pass keeps.
    pub recompute: Recompute,
}

/// Where the weights come from.
#[derive(Clone, Debug, PartialEq)]
pub enum ModelSource {
    /// A Hugging Face folder or a GGUF file, absolute; or a name that is still to be located.
    Path(PathBuf),
    /// Random weights.
    New(NewModel),
}

/// Problems and how they are put to the model.
#[derive(Clone, Debug, PartialEq)]
pub struct DataPlan {
    /// Where the problems come from.
    pub source: ProblemSource,
    /// How a problem becomes a prompt, system message included.
    pub template: PromptTemplate,
    /// Use only the first problems.
    pub limit: Option<usize>,
    /// Longest prompt, tokens; `None`: what the model has room for.
    pub max_prompt_tokens: Option<usize>,
    /// What becomes of problems that are too long.
    pub too_long: TooLong,
}

/// Where problems come from.
#[derive(Clone, Debug, PartialEq)]
pub enum ProblemSource {
    /// A file of problems, absolute.
    File {
        /// The file; or a name that is still to be located.
        path: PathBuf,
        /// Its columns; `None`: told by the first row.
        layout: Option<Layout>,
    },
    /// Generated arithmetic.
    Arithmetic {
        /// Settings of the generator.
        config: ArithmeticConfig,
        /// Which side of the division into training and held-out problems.
        split: Split,
    },
}

/// How rollouts are sampled.
#[derive(Clone, Debug, PartialEq)]
pub struct RolloutPlan {
    /// Problems of one step, each with all its rounds.
    pub problems_per_step: usize,
    /// Most rollouts of a problem, over all its rounds.
    pub rollouts_per_problem: usize,
    /// Divisor of the logits, above 0.
    pub temperature: f64,
    /// Smallest set of tokens with this probability is sampled from, `(0, 1]`.
    pub top_p: f64,
    /// Only so many most likely tokens are sampled from.
    pub top_k: Option<usize>,
    /// Longest completion, tokens, hint not included.
    pub max_new_tokens: usize,
    /// Rollouts that are decoded at the same time.
    pub max_active_branches: usize,
    /// Bound on the memory for their keys and values.
    pub cache_memory: CacheMemory,
    /// Whether problems wait for each other between rounds.
    pub rounds: Rounds,
}

/// How a step's rollouts become optimizer steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdatePlan {
    /// Problems of one optimizer step, each whole.
    pub problems_per_update: usize,
    /// Times that the rollouts of a step are gone through.
    pub passes: usize,
    /// Most tokens that go forward and backward together, unless one rollout with its prompt and hint has more.
    pub tokens_per_microbatch: usize,
    /// Where the log-probs of the policy that sampled come from.
    pub old_logprobs: OldLogprobs,
}

/// Supervised fine-tuning on reference solutions.
#[derive(Clone, Debug, PartialEq)]
pub struct SftPlan {
    /// How long it lasts, in steps of one optimizer step each.
    pub length: Length,
    /// Sequences of one step.
    pub sequences_per_step: usize,
    /// Problems joined to one sequence.
    pub problems_per_sequence: usize,
    /// Learning rate over the steps.
    pub learning_rate: LearningRateConfig,
    /// Measure the loss on held-out solutions every so many steps and after the last; `None`: never.
    pub eval_every_steps: Option<usize>,
    /// Problems with solutions.
    pub data: DataPlan,
}

/// Held-out evaluation.
#[derive(Clone, Debug, PartialEq)]
pub struct EvalPlan {
    /// Evaluate every so many steps besides before the first and after the last.
    pub every_steps: Option<usize>,
    /// The run ends before its last step once an evaluation after a step finds every set named here at its
    /// accuracy, `0..=1`, or above. Empty: it never does. What is reported should be another set, for a
    /// set that decides when to stop is no longer a fair measure.
    pub stop_at: BTreeMap<String, f64>,
    /// Longest completion, tokens.
    pub max_new_tokens: usize,
    /// The sets, in the order they were written.
    pub sets: Vec<EvalSetPlan>,
    /// Benchmarks by their own protocols.
    pub benchmarks: Option<BenchmarksPlan>,
}

/// Benchmarks that are evaluated together with the sets.
#[derive(Clone, Debug, PartialEq)]
pub struct BenchmarksPlan {
    /// What is put to the policy, and how.
    pub benchmarks: Vec<Benchmark>,
    /// Folder of their files, absolute.
    pub data: PathBuf,
    /// Use only the first problems of each.
    pub limit: Option<usize>,
}

/// One held-out set.
#[derive(Clone, Debug, PartialEq)]
pub struct EvalSetPlan {
    /// Its name, as in `eval/<name>/accuracy`.
    pub name: String,
    /// Its problems.
    pub data: DataPlan,
    /// Answers to each problem, at least 1; accuracy is the share of right ones.
    pub samples: usize,
    /// Divisor of the logits they are sampled with; 0: greedy, one answer.
    pub temperature: f64,
}

/// Two plans are equal if they run the same; where a value was written does not count.
impl PartialEq for Recipe {
    fn eq(&self, other: &Self) -> bool {
        self.resolved == other.resolved
    }
}

impl Recipe {
    /// Reads a recipe file and what it extends, lays `overrides` (`key=value`) on top, fills in the
    /// method's preset and the defaults, and checks every value.
    ///
    /// # Errors
    /// [`RecipeError`], which names the file and line (or the override), the key and the remedy.
    pub fn load(path: &Path, overrides: &[String]) -> Result<Self, RecipeError> {
        let name = path
            .file_stem()
            .map_or_else(|| "run".into(), |stem| stem.to_string_lossy().into_owned());
        Self::resolve(load(path, overrides)?, name)
    }

    /// A recipe given as text, named `name`.
    pub(crate) fn from_text(text: &str, name: &str) -> Result<Self, RecipeError> {
        Self::resolve(parse_file(text, Path::new(name), false)?, name.into())
    }

    fn resolve(written: Node, name: String) -> Result<Self, RecipeError> {
        let mut layers = lay_defaults_under(written)?;
        make_paths_absolute(&mut layers);
        let mut resolved: Written = read(&layers, "")?;
        let checks = super::check::Checks { layers: &layers };
        checks.fill_and_check(&mut resolved, name)?;
        let data = |section: &DataSection, key: &str| checks.data(section, key, Split::Train);
        let training = data(&resolved.data, "data")?;
        let plan = Self {
            name: resolved.name.clone().unwrap_or_default(),
            method: resolved.method.clone(),
            seed: resolved.seed,
            length: checks.length("", resolved.steps, resolved.epochs)?,
            threads: resolved.threads.unwrap_or(1),
            device: resolved.device,
            model: ModelPlan {
                source: checks.model_source(&resolved.model)?,
                compute: resolved.model.compute,
                recompute: resolved.model.recompute,
            },
            rollout: RolloutPlan {
                problems_per_step: resolved.rollout.problems_per_step,
                rollouts_per_problem: resolved.rollout.rollouts_per_problem.unwrap_or(1),
                temperature: resolved.rollout.temperature,
                top_p: resolved.rollout.top_p,
                top_k: resolved.rollout.top_k,
                max_new_tokens: resolved.rollout.max_new_tokens,
                max_active_branches: resolved.rollout.max_active_branches,
                cache_memory: resolved.rollout.cache_memory,
                rounds: resolved.rollout.rounds,
            },
            hint: resolved.hint.clone(),
            reward: resolved.reward.clone(),
            objective: resolved.objective(),
            optimizer: resolved.optimizer.clone(),
            learning_rate: resolved.learning_rate,
            update: UpdatePlan {
                problems_per_update: resolved.update.problems_per_update.unwrap_or(1),
                passes: resolved.update.passes,
                tokens_per_microbatch: resolved.update.tokens_per_microbatch,
                old_logprobs: resolved.update.old_logprobs,
            },
            sft: match &resolved.sft {
                None => None,
                Some(sft) => Some(SftPlan {
                    length: checks.length("sft.", sft.steps, sft.epochs)?,
                    sequences_per_step: sft.sequences_per_step,
                    problems_per_sequence: sft.problems_per_sequence,
                    learning_rate: sft.learning_rate,
                    eval_every_steps: sft.eval_every_steps,
                    data: match &sft.data {
                        None => training.clone(),
                        Some(section) => data(section, "sft.data")?,
                    },
                }),
            },
            eval: EvalPlan {
                every_steps: resolved.eval.every_steps,
                stop_at: resolved.eval.stop_at.clone(),
                max_new_tokens: resolved
                    .eval
                    .max_new_tokens
                    .unwrap_or(resolved.rollout.max_new_tokens),
                sets: checks.eval_sets(&resolved)?,
                benchmarks: checks.benchmarks(&resolved)?,
            },
            save: resolved.save.clone(),
            data: training,
            resolved,
            layers: note_derived(layers),
            located: BTreeMap::new(),
        };
        Ok(plan)
    }

    /// The resolved recipe as TOML: every value, and in a comment where it came from. Loading the
    /// text gives the same plan.
    pub fn to_toml(&self) -> String {
        format!(
            "# Resolved by seele {}: every setting of the run, and where it came from.\n\n{}",
            env!("CARGO_PKG_VERSION"),
            toml_text(&self.tidied(), &self.layers)
        )
    }

    /// The resolved recipe as TOML for people elsewhere: every value, and of paths the last part.
    pub(crate) fn to_portable_toml(&self) -> String {
        portable_text(&self.tidied())
    }

    fn tidied(&self) -> Table {
        match layer_of(&self.resolved, &Origin::Default).value {
            Value::Table(table) => tidy(table, Some(&self.layers)),
            _ => Table::default(),
        }
    }

    /// Training steps of the whole run over so many problems.
    pub fn steps(&self, problems: usize) -> usize {
        self.length.steps(problems, self.rollout.problems_per_step)
    }

    /// Optimizer steps of a training step.
    pub fn updates_per_step(&self) -> usize {
        let problems = self.rollout.problems_per_step;
        problems.div_ceil(self.update.problems_per_update) * self.update.passes
    }

    /// Optimizer steps of the whole run over so many problems, without supervised fine-tuning.
    pub fn optimizer_steps(&self, problems: usize) -> usize {
        self.steps(problems) * self.updates_per_step()
    }

    /// The accuracy that the hint schedule aims at, if it aims at one.
    pub fn target_accuracy(&self) -> Option<f64> {
        self.hint.target_accuracy()
    }

    /// Threads that verify rollouts beside the ones that sample and train: as many as the reward's program
    /// or server takes at once, and for rewards that compute here, one for each of the run's threads.
    pub fn grading_threads(&self) -> usize {
        fn of(reward: &RewardConfig, threads: usize) -> usize {
            let outside = match reward.kind {
                RewardKind::Command => reward.command.as_ref().map(|command| command.processes),
                RewardKind::Http => reward.http.as_ref().map(|http| http.connections),
                RewardKind::Sum => reward.terms.iter().map(|term| of(term, threads)).max(),
                _ => None,
            };
            outside.unwrap_or(threads)
        }
        of(&self.reward, self.threads)
    }

    /// Looks for every file that the recipe names, but for those that are still to be located.
    ///
    /// # Errors
    /// [`RecipeError::MissingFile`] for the first one that is not there.
    pub fn check_files(&self) -> Result<(), RecipeError> {
        let look = |key: String, path: &Path, hint: &str| match path.try_exists() {
            Ok(true) => Ok(()),
            _ if is_elsewhere(path) => Ok(()),
            _ => Err(RecipeError::MissingFile {
                at: self
                    .layers
                    .find(&key)
                    .map_or(Origin::Default, |node| node.origin.clone()),
                key,
                path: path.into(),
                hint: hint.into(),
            }),
        };
        if let ModelSource::Path(path) = &self.model.source {
            look(
                "model.path".into(),
                path,
                "; it names a Hugging Face folder or a GGUF file",
            )?;
        }
        let sft = self
            .sft
            .iter()
            .map(|sft| ("sft.data.path".to_string(), &sft.data));
        let sets = self
            .eval
            .sets
            .iter()
            .map(|set| (format!("eval.sets.{}.path", set.name), &set.data));
        for (key, data) in std::iter::once(("data.path".to_string(), &self.data))
            .chain(sft)
            .chain(sets)
        {
            if let ProblemSource::File { path, .. } = &data.source {
                look(
                    key,
                    path,
                    "; it names a file of problems, for example JSON lines",
                )?;
            }
        }
        Ok(())
    }
}

impl Written {
    pub(crate) fn objective(&self) -> ObjectiveConfig {
        ObjectiveConfig {
            advantage: self.advantage,
            policy_loss: self.policy_loss,
            aggregation: self.aggregation,
            kl: self.kl,
            imitation: self.imitation,
            entropy: self.entropy,
            entropy_filter: self.entropy_filter,
            overlong: self.overlong,
            dynamic_sampling: self.dynamic_sampling,
        }
    }
}

impl EvalSetSection {
    /// The set as a data section of its own: what it leaves out is as in training.
    pub(crate) fn data_section(&self, training: &DataSection) -> DataSection {
        DataSection {
            path: self.path.clone(),
            arithmetic: self.arithmetic.clone(),
            layout: self.layout.clone(),
            template: self
                .template
                .clone()
                .unwrap_or_else(|| training.template.clone()),
            system_message: training
                .system_message
                .clone()
                .filter(|_| self.template.is_none()),
            limit: self.limit,
            max_prompt_tokens: training.max_prompt_tokens,
            too_long: training.too_long,
        }
    }
}
