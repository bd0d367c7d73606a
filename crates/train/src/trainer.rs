//! A whole run: supervised stage, training steps, evaluation, checkpoints, the model at the end.

mod begin;
mod save;

use crate::benchmarks::{EVALUATIONS, Examinee, RunBenchmarks};
use crate::checkpoint::{
    Best, Checkpoint, CheckpointError, CheckpointName, CheckpointWriter, Identity, Stage,
    TrainerState, model_card, publish_model,
};
use crate::error::TrainError;
use crate::evaluate::{EvalLimits, Grader, evaluate, solution_losses};
use crate::metrics::{EvalAccuracy, MetricsLog, MetricsRow, StepMetrics};
use crate::progress::{Observer, Phase};
use crate::recipe::{Materials, Recipe};
use crate::step::Run;
use crate::supervised::Supervised;
use crate::watch::{Warning, Watch};
use seele_policy::device::Shortages;
use seele_random::Key;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Name of the folder of the final model in a run folder.
pub const MODEL: &str = "model";

const WEIGHTS: u64 = u64::from_be_bytes(*b"weights ");
const PROBLEMS: u64 = u64::from_be_bytes(*b"problems");

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// After its last step; the model is in `model/`.
    Finished,
    /// On request, before its last step.
    Stopped {
        /// What it can go on from; a model in Hugging Face layout too.
        checkpoint: PathBuf,
    },
}

/// Trains as the recipe says and writes `metrics.jsonl`, `sft.jsonl` (with a supervised stage),
/// `checkpoints/` and at the end `model/` into `folder`, which is there already. All of it runs on
/// `threads` threads of its own. When `stop` becomes true, the step at hand is finished and a checkpoint
/// written.
///
/// With `resume`, goes on from a checkpoint of a run with an equal recipe: on a CPU, to the same bits that
/// the run would have had.
///
/// # Errors
/// [`TrainError`]: what could not be read, sampled, scored or written. A checkpoint from before it is whole.
pub fn run(
    recipe: &Recipe,
    materials: Materials,
    observer: &mut dyn Observer,
    stop: &AtomicBool,
    folder: &Path,
    resume: Option<&Checkpoint>,
) -> Result<Outcome, TrainError> {
    let threads = recipe.threads;
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|index| format!("train-{index}"))
        .build()
        .map_err(|source| TrainError::Threads { threads, source })?;
    pool.install(|| {
        observer.phase(0, Phase::Load);
        let reward = recipe.reward.build()?;
        let (stop_tokens, end_token) = end_tokens(&materials)?;
        let grader = Grader {
            tokenizer: &materials.tokenizer,
            reward: reward.as_ref(),
            stop_tokens: &stop_tokens,
            max_new_tokens: recipe.rollout.max_new_tokens,
        };
        let place = Place {
            recipe,
            materials: &materials,
            folder,
            stop,
        };
        Session::begin(place, grader, end_token, resume)?.run(observer, resume)
    })
}

/// The tokens that end a rollout, and the one that ends a reference solution.
pub(crate) fn end_tokens(materials: &Materials) -> Result<(Vec<u32>, u32), TrainError> {
    let mut stop_tokens = materials.config.eos_token_ids.clone();
    let of_tokenizer = materials.tokenizer.eos_token_id();
    stop_tokens.extend(of_tokenizer.filter(|token| !stop_tokens.contains(token)));
    let end_token = of_tokenizer
        .or(stop_tokens.first().copied())
        .ok_or(TrainError::NoEndToken)?;
    Ok((stop_tokens, end_token))
}

/// Refuses to go on from the last checkpoint of a run in `folder` that is over and has its model.
///
/// # Errors
/// [`CheckpointError::NothingToDo`].
pub fn check_work(
    recipe: &Recipe,
    materials: &Materials,
    folder: &Path,
    checkpoint: &Checkpoint,
) -> Result<(), CheckpointError> {
    let state = checkpoint.state();
    if is_over(state, recipe, materials.steps(recipe)) && folder.join(MODEL).exists() {
        return Err(CheckpointError::NothingToDo {
            folder: checkpoint.folder().into(),
            step: state.step,
        });
    }
    Ok(())
}

/// What a run is given.
#[derive(Clone, Copy)]
struct Place<'a> {
    recipe: &'a Recipe,
    materials: &'a Materials,
    folder: &'a Path,
    stop: &'a AtomicBool,
}

impl Place<'_> {
    /// Training steps of the run.
    fn steps(&self) -> usize {
        self.materials.steps(self.recipe)
    }
}

/// A run under way.
struct Session<'a> {
    place: Place<'a>,
    run: Run<'a>,
    state: TrainerState,
    log: MetricsLog,
    sft_log: Option<MetricsLog>,
    writer: CheckpointWriter,
    identity: Arc<Identity>,
    /// The checkpoint that holds the state as it is now.
    saved: Option<CheckpointName>,
    /// File with the reference policy's weights, where nothing else holds them.
    reference: Option<PathBuf>,
    last: Option<StepMetrics>,
    /// What the device has been short of so far.
    shortages: Shortages,
}

fn key_of(recipe: &Recipe) -> Key {
    Key::new(recipe.seed)
}

impl<'a> Session<'a> {
    fn run(
        mut self,
        observer: &mut dyn Observer,
        resume: Option<&Checkpoint>,
    ) -> Result<Outcome, TrainError> {
        if self.supervise(observer)? || self.train(observer, resume)? {
            return self.stopped(observer);
        }
        self.save_now(observer)?;
        let Self { place, run, .. } = &self;
        let card = model_card(place.recipe, &self.state, self.last.as_ref(), place.steps());
        let model = place.folder.join(MODEL);
        publish_model(&model, &self.identity, &run.learner.parameters, &card)?;
        Ok(Outcome::Finished)
    }

    /// The supervised stage, from where it stands; whether the run was stopped in it.
    fn supervise(&mut self, observer: &mut dyn Observer) -> Result<bool, TrainError> {
        let Place {
            recipe, materials, ..
        } = self.place;
        let (Stage::Supervised(mut position), Some(plan), Some(data)) =
            (self.state.stage, &recipe.sft, &materials.sft)
        else {
            return Ok(false);
        };
        let stage = Supervised {
            plan,
            data,
            end_token: self.run.end_token,
            held_out: &materials.eval,
            tokens_per_microbatch: recipe.update.tokens_per_microbatch,
            seed: recipe.seed,
            steps: materials.sft_steps(recipe),
        };
        while !stage.is_over(position) {
            if self.is_stopped() {
                return Ok(true);
            }
            if let Some(log) = &mut self.sft_log {
                stage.step(&mut self.run.learner, &mut position, log, observer)?;
            }
            self.tell_shortages(position.step, observer);
            self.state.stage = Stage::Supervised(position);
            self.saved = None;
            self.writer.poll()?;
            if self.is_due(recipe.save.every_steps, position.step) && !stage.is_over(position) {
                self.save(observer)?;
            }
        }
        #[cfg(feature = "cuda")]
        self.run.learner.read_back()?;
        self.run.learner.reset_optimizer();
        #[cfg(feature = "cuda")]
        self.run.learner.write_moments()?;
        self.state.stage = Stage::BeforeTraining;
        self.saved = None;
        Ok(false)
    }

    /// All steps, from where the run stands; whether it was stopped before the last.
    fn train(
        &mut self,
        observer: &mut dyn Observer,
        resume: Option<&Checkpoint>,
    ) -> Result<bool, TrainError> {
        let recipe = self.place.recipe;
        let began_here = self.state.stage != Stage::Training;
        if began_here {
            if self.is_stopped() {
                return Ok(true);
            }
            if self.has_evaluation() {
                #[cfg(feature = "cuda")]
                self.run.learner.read_back()?;
                let results = self.evaluate(0, observer)?;
                self.log.append_evaluation(0, &results)?;
                observer.evaluated(0, &results);
            }
            self.state.stage = Stage::Training;
            self.saved = None;
        }
        self.take_reference(resume.filter(|_| !began_here))?;
        if began_here && recipe.sft.is_some() && recipe.save.every_steps.is_some() {
            // The supervised stage should not have to be repeated.
            self.save(observer)?;
        }
        let mut watch = Watch::new(recipe.model.compute);
        let steps = self.place.steps();
        while !is_over(&self.state, recipe, steps) {
            if self.is_stopped() {
                return Ok(true);
            }
            self.writer.poll()?;
            let metrics = self.step(observer)?;
            let step = metrics.step;
            observer.step_finished(&metrics);
            for warning in watch.look(&metrics) {
                observer.warning(step, &warning);
            }
            self.tell_shortages(step, observer);
            self.last = Some(metrics);
            let updates = self.state.skipped_in_a_row;
            if updates >= recipe.optimizer.max_skipped_updates {
                let checkpoint = self.save_now(observer)?;
                return Err(TrainError::Diverged {
                    step,
                    updates,
                    checkpoint,
                });
            }
            let is_best = self.state.best.is_some_and(|best| best.step == step);
            if is_over(&self.state, recipe, steps) {
                if step < steps {
                    observer.goals_reached(step);
                }
            } else if is_best || self.is_due(recipe.save.every_steps, step) {
                self.save(observer)?;
            }
        }
        Ok(false)
    }

    /// Says how short of memory the device was, each kind once a run.
    fn tell_shortages(&mut self, step: usize, observer: &mut dyn Observer) {
        let mut shortages = self.run.learner.decoder.take_shortages();
        if let Some(reference) = &self.run.reference {
            shortages += reference.take_shortages();
        }
        let is_new = shortages.has_kinds_beside(&self.shortages);
        self.shortages += shortages;
        if is_new {
            observer.warning(step, &Warning::ShortOfMemory(shortages));
        }
    }

    /// The next step, with its evaluation and its line in the log.
    fn step(&mut self, observer: &mut dyn Observer) -> Result<StepMetrics, TrainError> {
        let recipe = self.place.recipe;
        let step = self.state.step + 1;
        let mut metrics = self.run.step(step, observer)?;
        let evaluates = step == self.place.steps() || self.is_due(recipe.eval.every_steps, step);
        if evaluates && self.has_evaluation() {
            let begun = Instant::now();
            #[cfg(feature = "cuda")]
            self.run.learner.read_back()?;
            metrics.eval = self.evaluate(step, observer)?;
            metrics.time.eval = begun.elapsed().as_secs_f64();
            metrics.time.step += metrics.time.eval;
            observer.evaluated(step, &metrics.eval);
        }
        self.log.append(&metrics)?;
        self.state.step = step;
        if !metrics.eval.is_empty() {
            let accuracies = metrics.eval.iter();
            let accuracies = accuracies.map(|set| (set.name.clone(), set.accuracy));
            self.state.held_out = accuracies.collect();
            self.state.held_out_step = Some(step);
        }
        self.state.updates = self.run.updates;
        self.state.skipped_in_a_row = self.run.skipped_in_a_row;
        self.state.sampler = self.run.sampler.position();
        if let Some(metric) = &recipe.save.keep_best
            && let Some(value) = MetricsRow::from(&metrics).get(metric)
            && self.state.best.is_none_or(|best| value > best.value)
        {
            self.state.best = Some(Best { step, value });
        }
        self.saved = None;
        Ok(metrics)
    }

    fn evaluate(
        &self,
        step: usize,
        observer: &mut dyn Observer,
    ) -> Result<Vec<EvalAccuracy>, TrainError> {
        let recipe = self.place.recipe;
        let grader = Grader {
            max_new_tokens: recipe.eval.max_new_tokens,
            ..self.run.grader
        };
        let limits = EvalLimits {
            plans: &recipe.eval.sets,
            seed: recipe.seed,
            max_active_branches: recipe.rollout.max_active_branches,
            grading_threads: recipe.grading_threads(),
        };
        let decoder = &self.run.learner.decoder;
        let materials = self.place.materials;
        let mut results = evaluate(decoder, &materials.eval, &grader, limits, step, observer)?;
        if !recipe.objective.needs_rollouts() {
            let losses = solution_losses(
                decoder,
                &materials.eval,
                self.run.end_token,
                self.run.budget(),
            );
            for set in losses {
                let result = results.iter_mut().find(|result| result.name == set.name);
                if let Some(result) = result {
                    result.loss = Some(set.loss);
                }
            }
        }
        if !materials.benchmarks.is_empty() {
            let folder = self.place.folder.join(EVALUATIONS);
            let folder = folder.join(CheckpointName::Step(step).to_string());
            let name = format!("{}, step {step}", recipe.name);
            let (tokenizer, chat) = (&materials.tokenizer, materials.chat_template.as_ref());
            let mut examinee = Examinee::new(name, &materials.config, tokenizer, chat)?;
            examinee.identify(&self.run.learner.parameters, decoder.options().compute);
            let benchmarks = RunBenchmarks {
                sets: &materials.benchmarks,
                seed: recipe.seed,
                max_active_branches: limits.max_active_branches,
                folder: &folder,
            };
            results.extend(
                benchmarks
                    .evaluate(decoder, &examinee, step, observer)
                    .map_err(|error| error.at_step(step))?,
            );
        }
        Ok(results)
    }

    fn has_evaluation(&self) -> bool {
        let materials = self.place.materials;
        !materials.eval.is_empty() || !materials.benchmarks.is_empty()
    }

    fn is_stopped(&self) -> bool {
        self.place.stop.load(Ordering::SeqCst)
    }

    fn is_due(&self, every: Option<usize>, step: usize) -> bool {
        every.is_some_and(|every| step.is_multiple_of(every))
    }
}

/// Whether a run of `steps` is after its last step: that of the recipe, or one whose evaluation found every set of
/// `eval.stop_at` at its accuracy.
fn is_over(state: &TrainerState, recipe: &Recipe, steps: usize) -> bool {
    let goals = &recipe.eval.stop_at;
    let reached = |(name, goal)| {
        state
            .held_out
            .get(name)
            .is_some_and(|accuracy| accuracy >= goal)
    };
    // Older checkpoints know the accuracies of their own step only.
    let evaluated = state.held_out_step.is_none_or(|step| step == state.step);
    let at_goal = evaluated && !goals.is_empty() && goals.iter().all(reached);
    state.stage == Stage::Training && (state.step >= steps || at_goal)
}
