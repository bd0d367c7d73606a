//! Defaults that depend on other settings, and the checks of every value.

mod idle;
mod method;

use super::error::RecipeError;
use super::length::Length;
use super::node::{Node, Origin};
use super::plan::{BenchmarksPlan, DataPlan, EvalSetPlan, ModelSource, ProblemSource};
use super::sections::{NewModel, OptimizerConfig};
use super::written::{DataSection, EvalSection, ModelSection, RolloutSection, SftSection, Written};
use crate::optimizer_schedule::LearningRateConfig;
use seele_data::PromptTemplate;
use seele_data::arithmetic::{ArithmeticConfig, ArithmeticError, Split};
use seele_eval::Benchmark;
use std::fmt::Display;

/// Update batch of the paper (Sec. 5.1), problems.
const PROBLEMS_PER_UPDATE: usize = 64;

/// Checks of a recipe; what is wrong is reported at the place where it was written.
pub(crate) struct Checks<'a> {
    pub(crate) layers: &'a Node,
}

impl Checks<'_> {
    fn at(&self, key: &str) -> Origin {
        // A default has no place of its own; the table around it does, if it was written.
        let mut key = key;
        loop {
            match (self.layers.find(key), key.rsplit_once('.')) {
                (Some(node), _) => return node.origin.clone(),
                (None, Some((outer, _))) => key = outer,
                (None, None) => return Origin::Default,
            }
        }
    }

    fn bad(&self, key: &str, problem: impl Into<String>) -> RecipeError {
        RecipeError::BadValue {
            at: self.at(key),
            key: key.into(),
            problem: problem.into(),
        }
    }

    fn require(
        &self,
        holds: bool,
        key: &str,
        value: impl Display,
        range: &str,
    ) -> Result<(), RecipeError> {
        if holds {
            Ok(())
        } else {
            Err(self.bad(key, format!("expected {range}, found {value}")))
        }
    }

    fn at_least_one(&self, value: usize, key: &str) -> Result<(), RecipeError> {
        self.require(value >= 1, key, value, "a whole number, 1 or more")
    }

    fn at_least_one_if_given(&self, value: Option<usize>, key: &str) -> Result<(), RecipeError> {
        value.map_or(Ok(()), |value| {
            self.require(
                value >= 1,
                key,
                value,
                "a whole number, 1 or more, or \"off\"",
            )
        })
    }

    /// Fills in what depends on other settings and checks everything but paths.
    pub(crate) fn fill_and_check(
        &self,
        recipe: &mut Written,
        name: String,
    ) -> Result<(), RecipeError> {
        let name = recipe.name.get_or_insert(name);
        let usable =
            !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', '\0']);
        self.require(
            usable,
            "name",
            format!("`{name}`"),
            "text that can name a folder",
        )?;
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let threads = *recipe.threads.get_or_insert_with(cores);
        self.at_least_one(threads, "threads")?;
        let length = self.length("", recipe.steps, recipe.epochs)?;
        self.require(
            length != Length::Steps(0) || recipe.sft.is_some(),
            "steps",
            0,
            "a whole number, 1 or more (0 only after a supervised stage, [sft])",
        )?;
        self.rollout(&recipe.rollout)?;
        self.rollouts_per_problem(recipe)?;
        let (rollout, update) = (&recipe.rollout, &mut recipe.update);
        let per_step = rollout.problems_per_step;
        let per_update = *update
            .problems_per_update
            .get_or_insert(per_step.min(PROBLEMS_PER_UPDATE));
        let range = format!("1 to rollout.problems_per_step ({per_step})");
        self.require(
            (1..=per_step).contains(&per_update),
            "update.problems_per_update",
            per_update,
            &range,
        )?;
        self.at_least_one(update.passes, "update.passes")?;
        self.at_least_one(update.tokens_per_microbatch, "update.tokens_per_microbatch")?;
        recipe
            .aggregation
            .l_max
            .get_or_insert(rollout.max_new_tokens);
        self.fill_overlong(&mut recipe.overlong, recipe.rollout.max_new_tokens)?;
        self.objective(&recipe.objective())?;
        self.hint_use(recipe)?;
        self.no_idle_settings(recipe)?;
        recipe
            .reward
            .build()
            .map_err(|error| self.bad("reward", error.to_string()))?;
        self.shaped_once(&recipe.reward)?;
        self.optimizer(&recipe.optimizer)?;
        self.learning_rate(&recipe.learning_rate, "")?;
        if let Some(sft) = &recipe.sft {
            self.sft(sft, &recipe.eval)?;
        }
        self.at_least_one_if_given(recipe.eval.every_steps, "eval.every_steps")?;
        let eval_tokens = *recipe
            .eval
            .max_new_tokens
            .get_or_insert(rollout.max_new_tokens);
        self.at_least_one(eval_tokens, "eval.max_new_tokens")?;
        self.stop_at(recipe)?;
        self.save(recipe)
    }

    fn stop_at(&self, recipe: &Written) -> Result<(), RecipeError> {
        if !recipe.eval.stop_at.is_empty() && recipe.eval.every_steps.is_none() {
            let problem = "has no effect without evaluations on the way; give `eval.every_steps`";
            return Err(self.bad("eval.stop_at", problem));
        }
        let sets = self.evaluated(recipe)?;
        for (name, accuracy) in &recipe.eval.stop_at {
            let key = format!("eval.stop_at.{name}");
            if !sets.contains(name) {
                let problem = format!(
                    "there is no set `{name}`; describe it in [eval.sets.{name}], or name a benchmark in [eval.benchmarks]"
                );
                return Err(self.bad(&key, problem));
            }
            if !(0.0..=1.0).contains(accuracy) {
                return Err(self.bad(&key, format!("expected 0 to 1, found {accuracy}")));
            }
        }
        Ok(())
    }

    fn save(&self, recipe: &Written) -> Result<(), RecipeError> {
        let save = &recipe.save;
        self.at_least_one_if_given(save.every_steps, "save.every_steps")?;
        self.at_least_one(save.keep_last, "save.keep_last")?;
        self.at_least_one_if_given(save.keep_every, "save.keep_every")?;
        let Some(metric) = &save.keep_best else {
            return Ok(());
        };
        let sets = self.evaluated(recipe)?.into_iter();
        let known: Vec<String> = std::iter::once("reward/mean".into())
            .chain(sets.map(|name| format!("eval/{name}/accuracy")))
            .collect();
        let range = format!("one of {}", known.join(", "));
        self.require(
            known.contains(metric),
            "save.keep_best",
            format!("`{metric}`"),
            &range,
        )
    }

    fn rollout(&self, rollout: &RolloutSection) -> Result<(), RecipeError> {
        self.at_least_one(rollout.problems_per_step, "rollout.problems_per_step")?;
        self.at_least_one(rollout.max_new_tokens, "rollout.max_new_tokens")?;
        self.at_least_one(rollout.max_active_branches, "rollout.max_active_branches")?;
        self.at_least_one_if_given(rollout.top_k, "rollout.top_k")?;
        let (temperature, top_p) = (rollout.temperature, rollout.top_p);
        let warm = temperature > 0.0 && temperature.is_finite();
        self.require(warm, "rollout.temperature", temperature, "a number above 0")?;
        self.require(
            top_p > 0.0 && top_p <= 1.0,
            "rollout.top_p",
            top_p,
            "a number in (0, 1]",
        )
    }

    fn optimizer(&self, optimizer: &OptimizerConfig) -> Result<(), RecipeError> {
        for (key, value) in [
            ("optimizer.beta1", optimizer.beta1),
            ("optimizer.beta2", optimizer.beta2),
        ] {
            self.require(
                (0.0..1.0).contains(&value),
                key,
                value,
                "a number in [0, 1)",
            )?;
        }
        let positive = |value: f64| value > 0.0 && value.is_finite();
        self.require(
            positive(optimizer.epsilon),
            "optimizer.epsilon",
            optimizer.epsilon,
            "a number above 0",
        )?;
        let decay = optimizer.weight_decay;
        self.require(
            decay >= 0.0 && decay.is_finite(),
            "optimizer.weight_decay",
            decay,
            "a number, 0 or more",
        )?;
        self.at_least_one(
            optimizer.max_skipped_updates,
            "optimizer.max_skipped_updates",
        )?;
        match optimizer.max_grad_norm {
            Some(norm) => self.require(
                positive(norm),
                "optimizer.max_grad_norm",
                norm,
                "a number above 0 or \"off\"",
            ),
            None => Ok(()),
        }
    }

    fn learning_rate(
        &self,
        schedule: &LearningRateConfig,
        section: &str,
    ) -> Result<(), RecipeError> {
        schedule.validate().map_err(|error| {
            let key = format!("{section}{}", error.key);
            self.bad(
                &key,
                format!("expected {}, found {}", error.range, error.value),
            )
        })
    }

    /// The length of the run (`section` empty) or of its supervised stage (`sft.`).
    pub(crate) fn length(
        &self,
        section: &str,
        steps: Option<usize>,
        epochs: Option<usize>,
    ) -> Result<Length, RecipeError> {
        let key = format!("{section}epochs");
        match (steps, epochs) {
            (Some(steps), None) => Ok(Length::Steps(steps)),
            (None, Some(epochs)) => {
                self.at_least_one(epochs, &key)?;
                Ok(Length::Epochs(epochs))
            }
            (Some(_), Some(_)) => {
                let problem = format!("`{section}steps` is given too; keep one of them");
                Err(self.bad(&key, problem))
            }
            (None, None) => Err(RecipeError::Missing {
                key: format!("{section}steps"),
                at: Some(match section {
                    "" => self.layers.origin.clone(),
                    section => self.at(section.trim_end_matches('.')),
                }),
                remedy: "write `steps = ...`, or `epochs = ...` for passes over the problems"
                    .into(),
            }),
        }
    }

    fn sft(&self, sft: &SftSection, eval: &EvalSection) -> Result<(), RecipeError> {
        if let Length::Steps(steps) = self.length("sft.", sft.steps, sft.epochs)? {
            self.at_least_one(steps, "sft.steps")?;
        }
        let key = "sft.eval_every_steps";
        self.at_least_one_if_given(sft.eval_every_steps, key)?;
        if sft.eval_every_steps.is_some() && eval.sets.0.is_empty() {
            let problem = "there is no held-out set; describe one in [eval.sets.<name>]";
            return Err(self.bad(key, problem));
        }
        self.at_least_one(sft.sequences_per_step, "sft.sequences_per_step")?;
        self.at_least_one(sft.problems_per_sequence, "sft.problems_per_sequence")?;
        self.learning_rate(&sft.learning_rate, "sft.")
    }

    /// Where the weights come from: exactly one of `path` and `new`.
    pub(crate) fn model_source(&self, model: &ModelSection) -> Result<ModelSource, RecipeError> {
        match (&model.path, &model.new) {
            (Some(path), None) => Ok(ModelSource::Path(path.clone())),
            (None, Some(new)) => {
                self.new_model(new)?;
                Ok(ModelSource::New(new.clone()))
            }
            (Some(_), Some(_)) => Err(self.bad("model.new", "`model.path` is given too; keep one of them")),
            (None, None) => Err(RecipeError::Missing {
                key: "model.path".into(),
                at: Some(self.at("model")),
                remedy: "name a Hugging Face folder or a GGUF file, or describe a fresh model in [model.new]".into(),
            }),
        }
    }

    fn new_model(&self, model: &NewModel) -> Result<(), RecipeError> {
        for (key, value) in [
            ("hidden_size", model.hidden_size),
            ("layers", model.layers),
            ("heads", model.heads),
            ("intermediate_size", model.intermediate_size),
            ("max_position_embeddings", model.max_position_embeddings),
        ] {
            self.at_least_one(value, &format!("model.new.{key}"))?;
        }
        let kv_heads = model.kv_heads.unwrap_or(model.heads);
        let range = format!("a divisor of heads ({})", model.heads);
        let divides = kv_heads >= 1 && model.heads.is_multiple_of(kv_heads);
        self.require(divides, "model.new.kv_heads", kv_heads, &range)?;
        match model.head_dim {
            Some(width) => {
                let even = width >= 2 && width % 2 == 0;
                self.require(even, "model.new.head_dim", width, "an even number")?;
            }
            None => {
                let range = format!(
                    "an even multiple of heads ({}), or give `head_dim`",
                    model.heads
                );
                let even = model.hidden_size.is_multiple_of(2 * model.heads);
                self.require(even, "model.new.hidden_size", model.hidden_size, &range)?;
            }
        }
        let base = model.rope_theta;
        self.require(
            base > 0.0 && base.is_finite(),
            "model.new.rope_theta",
            base,
            "a number above 0",
        )
    }

    /// A data section at the dotted key `key`; generated problems are of the side `split`.
    pub(crate) fn data(
        &self,
        section: &DataSection,
        key: &str,
        split: Split,
    ) -> Result<DataPlan, RecipeError> {
        let source = match (&section.path, &section.arithmetic) {
            (Some(path), None) => ProblemSource::File {
                path: path.clone(),
                layout: section.layout.clone(),
            },
            (None, Some(config)) => {
                // One problem is enough to check the settings.
                let one = ArithmeticConfig {
                    count: config.count.min(1),
                    ..config.clone()
                };
                let key = format!("{key}.arithmetic");
                one.generate(split).map_err(|error| match error {
                    ArithmeticError::Setting {
                        key: setting,
                        found,
                        expected,
                    } => self.bad(
                        &format!("{key}.{setting}"),
                        format!("expected {expected}, found {found}"),
                    ),
                    other => self.bad(&key, other.to_string()),
                })?;
                ProblemSource::Arithmetic {
                    config: config.clone(),
                    split,
                }
            }
            (Some(_), Some(_)) => {
                return Err(self.bad(
                    &format!("{key}.arithmetic"),
                    format!("`{key}.path` is given too; keep one of them"),
                ));
            }
            (None, None) => {
                return Err(RecipeError::Missing {
                    key: format!("{key}.path"),
                    at: Some(self.at(key)).filter(|at| *at != Origin::Default),
                    remedy: format!(
                        "name a file of problems, or describe generated ones in [{key}.arithmetic]"
                    ),
                });
            }
        };
        self.at_least_one_if_given(section.limit, &format!("{key}.limit"))?;
        self.at_least_one_if_given(
            section.max_prompt_tokens,
            &format!("{key}.max_prompt_tokens"),
        )?;
        Ok(DataPlan {
            source,
            template: self.template(section, key)?,
            limit: section.limit,
            max_prompt_tokens: section.max_prompt_tokens,
            too_long: section.too_long,
        })
    }

    fn template(&self, section: &DataSection, key: &str) -> Result<PromptTemplate, RecipeError> {
        let name = &section.template;
        let template = if name.ends_with(".toml") {
            PromptTemplate::from_file(name)
        } else {
            PromptTemplate::named(name)
        };
        let template =
            template.map_err(|error| self.bad(&format!("{key}.template"), error.to_string()))?;
        match &section.system_message {
            None => Ok(template),
            Some(message) => template
                .with_system(Some(message))
                .map_err(|error| self.bad(&format!("{key}.system_message"), error.to_string())),
        }
    }

    /// The held-out sets; what they leave out is as in training.
    pub(crate) fn eval_sets(&self, recipe: &Written) -> Result<Vec<EvalSetPlan>, RecipeError> {
        let sets = recipe.eval.sets.0.iter().map(|(name, set)| {
            let key = format!("eval.sets.{name}");
            let usable = !name.is_empty() && !name.contains(['/', '.']);
            self.require(
                usable,
                &key,
                format!("`{name}`"),
                "a name without `/` and `.`",
            )?;
            let (samples, temperature) = (set.samples, set.temperature);
            self.at_least_one(samples, &format!("{key}.samples"))?;
            self.require(
                temperature >= 0.0 && temperature.is_finite(),
                &format!("{key}.temperature"),
                temperature,
                "0 (greedy) or a number above 0",
            )?;
            self.require(
                samples == 1 || temperature > 0.0,
                &format!("{key}.samples"),
                samples,
                "1 for greedy answers, which are all the same; set `temperature` for more",
            )?;
            let data = self.data(&set.data_section(&recipe.data), &key, Split::HeldOut)?;
            Ok(EvalSetPlan {
                name: name.clone(),
                data,
                samples,
                temperature,
            })
        });
        sets.collect()
    }

    /// The benchmarks with the settings of their files.
    pub(crate) fn benchmarks(
        &self,
        recipe: &Written,
    ) -> Result<Option<BenchmarksPlan>, RecipeError> {
        let Some(section) = &recipe.eval.benchmarks else {
            return Ok(None);
        };
        let key = "eval.benchmarks.suite";
        let benchmarks =
            Benchmark::select(&section.suite).map_err(|error| self.bad(key, error.to_string()))?;
        let is_set = |name: &str| recipe.eval.sets.0.iter().any(|(set, _)| set == name);
        if let Some(benchmark) = benchmarks.iter().find(|benchmark| is_set(&benchmark.name)) {
            let name = &benchmark.name;
            let problem = format!("`{name}` is also a set; rename [eval.sets.{name}]");
            return Err(self.bad(key, problem));
        }
        self.at_least_one_if_given(section.limit, "eval.benchmarks.limit")?;
        Ok(Some(BenchmarksPlan {
            benchmarks,
            data: section.data.clone(),
            limit: section.limit,
        }))
    }

    /// Names of everything that is evaluated.
    fn evaluated(&self, recipe: &Written) -> Result<Vec<String>, RecipeError> {
        let sets = recipe.eval.sets.0.iter().map(|(name, _)| name.clone());
        let plan = self.benchmarks(recipe)?;
        let benchmarks = plan.into_iter().flat_map(|plan| plan.benchmarks);
        Ok(sets
            .chain(benchmarks.map(|benchmark| benchmark.name))
            .collect())
    }
}
