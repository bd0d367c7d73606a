//! A whole run: supervised stage, training steps, evaluation, checkpoints, the model at the end.

use crate::checkpoint::{
    Best, CHECKPOINTS, Checkpoint, CheckpointError, CheckpointName, CheckpointWriter, Identity,
    Snapshot, Stage, SupervisedPosition, TrainerState, clear_leftovers, fingerprint, model_card,
    publish_model, read_tensors, set_later_aside, write_tensors,
};
use crate::error::TrainError;
use crate::evaluate::{EvalLimits, Grader, evaluate};
use crate::metrics::{
    EvalAccuracy, METRICS_FILE, MetricsLog, MetricsRow, SFT_METRICS_FILE, StepMetrics,
};
use crate::progress::{Observer, Phase};
use crate::recipe::{Materials, ModelSource, Recipe, SaveType};
use crate::step::Run;
use crate::supervised::Supervised;
use crate::update::Learner;
use crate::watch::Watch;
use seele_data::EpochSampler;
use seele_hint::HintController;
use seele_policy::decoder::Decoder;
use seele_policy::huggingface::WeightType;
use seele_policy::parameters::{Layout, Parameters};
use seele_random::Key;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Name of the folder of the final model in a run folder.
pub const MODEL: &str = "model";

const WEIGHTS: u64 = u64::from_be_bytes(*b"weights ");
const SUPERVISED: u64 = u64::from_be_bytes(*b"sft     ");
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
        let mut stop_tokens = materials.config.eos_token_ids.clone();
        let of_tokenizer = materials.tokenizer.eos_token_id();
        stop_tokens.extend(of_tokenizer.filter(|token| !stop_tokens.contains(token)));
        let end_token = of_tokenizer
            .or(stop_tokens.first().copied())
            .ok_or(TrainError::NoEndToken)?;
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

/// What a run is given.
#[derive(Clone, Copy)]
struct Place<'a> {
    recipe: &'a Recipe,
    materials: &'a Materials,
    folder: &'a Path,
    stop: &'a AtomicBool,
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
}

fn key_of(recipe: &Recipe) -> Key {
    Key::new(recipe.seed)
}

impl<'a> Session<'a> {
    fn begin(
        place: Place<'a>,
        grader: Grader<'a>,
        end_token: u32,
        resume: Option<&Checkpoint>,
    ) -> Result<Self, TrainError> {
        let Place {
            recipe, materials, ..
        } = place;
        let (config, options) = (&materials.config, recipe.decoder_options());
        let layout = Arc::new(Layout::of(config));
        let data = fingerprint(&materials.train);
        let mut hints = HintController::new(&recipe.hint)?;
        let order = (
            materials.train.problems.len(),
            recipe.rollout.problems_per_step,
            key_of(recipe).with(PROBLEMS),
        );
        let checkpoints = place.folder.join(CHECKPOINTS);
        clear_leftovers(&checkpoints)?;
        let (state, learner, sampler);
        match resume {
            None => {
                let parameters = materials
                    .read_model(key_of(recipe).with(WEIGHTS))?
                    .parameters;
                let decoder = Decoder::with_options(config, &parameters, options);
                learner = Learner::new(decoder, parameters, &recipe.optimizer);
                sampler = EpochSampler::new(order.0, order.1, order.2)?;
                state = TrainerState {
                    stage: match recipe.sft {
                        Some(_) => Stage::Supervised(SupervisedPosition::default()),
                        None => Stage::BeforeTraining,
                    },
                    step: 0,
                    updates: 0,
                    skipped_in_a_row: 0,
                    optimizer_steps: 0,
                    sampler: sampler.position(),
                    best: None,
                    metrics_bytes: 0,
                    sft_metrics_bytes: 0,
                    data,
                };
            }
            Some(checkpoint) => {
                state = checkpoint.state().clone();
                check_same_run(checkpoint, materials, &data)?;
                let over = state.stage == Stage::Training && state.step >= recipe.steps;
                if over && place.folder.join(MODEL).exists() {
                    return Err(CheckpointError::NothingToDo {
                        folder: checkpoint.folder().into(),
                        step: state.step,
                    }
                    .into());
                }
                let parameters = checkpoint.parameters(&layout)?;
                let optimizer = checkpoint.optimizer(&layout)?;
                let decoder = Decoder::with_options(config, &parameters, options);
                learner = Learner::resume(decoder, parameters, optimizer, &recipe.optimizer);
                sampler = EpochSampler::resume(order.0, order.1, order.2, state.sampler)?;
                hints.restore(checkpoint.hint_memory()?)?;
                let logs = [
                    (METRICS_FILE, state.metrics_bytes),
                    (SFT_METRICS_FILE, state.sft_metrics_bytes),
                ];
                for (name, bytes) in logs {
                    MetricsLog::check(&place.folder.join(name), bytes)?;
                }
                // Before the logs are cut: a run killed in between must not find a checkpoint that
                // remembers more than they hold.
                set_later_aside(&checkpoints, state.name())?;
            }
        }
        let open = |name: &str, bytes: u64| match resume {
            None => MetricsLog::open(&place.folder.join(name)),
            Some(_) => MetricsLog::resume(&place.folder.join(name), bytes),
        };
        let identity = Arc::new(Identity {
            config: config.clone(),
            tokenizer: materials.tokenizer.clone(),
            chat_template: materials.chat_template.clone(),
            weights: match recipe.save.dtype {
                SaveType::F32 => WeightType::F32,
                SaveType::Bf16 => WeightType::Bf16,
            },
            recipe: recipe.to_toml(),
        });
        Ok(Self {
            place,
            log: open(METRICS_FILE, state.metrics_bytes)?,
            sft_log: match recipe.sft {
                Some(_) => Some(open(SFT_METRICS_FILE, state.sft_metrics_bytes)?),
                None => None,
            },
            writer: CheckpointWriter::new(checkpoints, Arc::clone(&identity), recipe.save.clone()),
            identity,
            saved: resume.map(|_| state.name()),
            reference: None,
            last: None,
            run: Run {
                recipe,
                data: &materials.train,
                grader,
                end_token,
                learner,
                reference: None,
                hints,
                sampler,
                updates: state.updates,
                skipped_in_a_row: state.skipped_in_a_row,
            },
            state,
        })
    }

    fn run(
        mut self,
        observer: &mut dyn Observer,
        resume: Option<&Checkpoint>,
    ) -> Result<Outcome, TrainError> {
        if self.supervise(observer)? || self.train(observer, resume)? {
            return self.stopped(observer);
        }
        self.save(observer)?;
        self.writer.finish()?;
        let Self { place, run, .. } = &self;
        let card = model_card(place.recipe, &self.state, self.last.as_ref());
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
            tokens_per_microbatch: recipe.update.tokens_per_microbatch,
            key: key_of(recipe).with(SUPERVISED),
        };
        while !stage.is_over(position) {
            if self.is_stopped() {
                return Ok(true);
            }
            if let Some(log) = &mut self.sft_log {
                stage.step(&mut self.run.learner, &mut position, log, observer)?;
            }
            self.state.stage = Stage::Supervised(position);
            self.saved = None;
            self.writer.poll()?;
            if self.is_due(recipe.save.every_steps, position.step) && !stage.is_over(position) {
                self.save(observer)?;
            }
        }
        self.run.learner.reset_optimizer();
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
            if !self.place.materials.eval.is_empty() {
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
        while self.state.step < recipe.steps {
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
            if self.is_due(recipe.save.every_steps, step) && step < recipe.steps {
                self.save(observer)?;
            }
        }
        Ok(false)
    }

    /// The next step, with its evaluation and its line in the log.
    fn step(&mut self, observer: &mut dyn Observer) -> Result<StepMetrics, TrainError> {
        let recipe = self.place.recipe;
        let step = self.state.step + 1;
        let mut metrics = self.run.step(step, observer)?;
        let evaluates = step == recipe.steps || self.is_due(recipe.eval.every_steps, step);
        if evaluates && !self.place.materials.eval.is_empty() {
            let begun = Instant::now();
            metrics.eval = self.evaluate(step, observer)?;
            metrics.time.eval = begun.elapsed().as_secs_f64();
            metrics.time.step += metrics.time.eval;
            observer.evaluated(step, &metrics.eval);
        }
        self.log.append(&metrics)?;
        self.state.step = step;
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
            max_active_branches: recipe.rollout.max_active_branches,
            grading_threads: recipe.grading_threads(),
        };
        let decoder = &self.run.learner.decoder;
        let sets = &self.place.materials.eval;
        evaluate(decoder, sets, &grader, limits, step, observer)
    }

    /// The reference policy is the policy as reinforcement finds it, after the supervised stage: `resume`
    /// is the checkpoint of a run that was past that point.
    fn take_reference(&mut self, resume: Option<&Checkpoint>) -> Result<(), TrainError> {
        let Place {
            recipe, materials, ..
        } = self.place;
        if !recipe.objective.needs_reference() {
            return Ok(());
        }
        let layout = Arc::clone(self.run.learner.parameters.layout());
        // Weights that come from a file as they are need no copy in every checkpoint.
        let is_own = recipe.sft.is_some() || matches!(recipe.model.source, ModelSource::New(_));
        let resumed = match resume {
            None => None,
            Some(checkpoint) => Some(match checkpoint.reference() {
                Some(file) => {
                    let mut parameters = Parameters::zeros(Arc::clone(&layout));
                    parameters.values = read_tensors(&file, &layout)?;
                    parameters
                }
                None => {
                    materials
                        .read_model(key_of(recipe).with(WEIGHTS))?
                        .parameters
                }
            }),
        };
        let parameters = resumed.as_ref().unwrap_or(&self.run.learner.parameters);
        if is_own {
            // Checkpoints hold further names of this file, so it is never written over.
            let folder = self.writer.folder();
            let file = folder.join("reference.safetensors");
            let failed = |source| CheckpointError::Write {
                path: file.clone(),
                source,
            };
            std::fs::create_dir_all(folder).map_err(failed)?;
            if file.exists() {
                std::fs::remove_file(&file).map_err(failed)?;
            }
            write_tensors(&file, &layout, &parameters.values)?;
            self.reference = Some(file);
        }
        let options = recipe.decoder_options();
        let config = &materials.config;
        self.run.reference = Some(Decoder::with_options(config, parameters, options));
        Ok(())
    }

    /// Writes a checkpoint, unless there is one of this moment.
    fn save(&mut self, observer: &mut dyn Observer) -> Result<(), TrainError> {
        let name = self.state.name();
        if self.saved == Some(name) {
            return Ok(());
        }
        let step = match name {
            CheckpointName::Supervised(step) | CheckpointName::Step(step) => step,
        };
        observer.phase(step, Phase::Save);
        let learner = &self.run.learner;
        self.state.optimizer_steps = learner.optimizer.steps;
        // Lines of a step that a checkpoint holds must not be lost after it.
        self.state.metrics_bytes = self.log.sync()?;
        if let Some(log) = &self.sft_log {
            self.state.sft_metrics_bytes = log.sync()?;
        }
        self.writer.write(|| Snapshot {
            card: model_card(self.place.recipe, &self.state, self.last.as_ref()),
            state: self.state.clone(),
            parameters: learner.parameters.clone(),
            optimizer: learner.optimizer.clone(),
            hint_memory: self.run.hints.memory().clone(),
            reference: self.reference.clone(),
        })?;
        self.saved = Some(name);
        Ok(())
    }

    /// Writes a checkpoint of this moment, waits until it is on disk and returns it.
    fn save_now(&mut self, observer: &mut dyn Observer) -> Result<PathBuf, TrainError> {
        self.save(observer)?;
        self.writer.finish()?;
        let name = self.state.name().to_string();
        Ok(self.writer.folder().join(name))
    }

    fn stopped(mut self, observer: &mut dyn Observer) -> Result<Outcome, TrainError> {
        let checkpoint = self.save_now(observer)?;
        Ok(Outcome::Stopped { checkpoint })
    }

    fn is_stopped(&self) -> bool {
        self.place.stop.load(Ordering::SeqCst)
    }

    fn is_due(&self, every: Option<usize>, step: usize) -> bool {
        every.is_some_and(|every| step.is_multiple_of(every))
    }
}

/// Refuses a checkpoint of another model's tokenizer or of other problems; its weights are held to the
/// shape where they are read.
fn check_same_run(
    checkpoint: &Checkpoint,
    materials: &Materials,
    data: &str,
) -> Result<(), CheckpointError> {
    if checkpoint.state().data != data {
        return Err(checkpoint.other_run("other training problems".into()));
    }
    let same_tokenizer = materials
        .tokenizer
        .to_json()
        .is_ok_and(|json| checkpoint.tokenizer().is_ok_and(|saved| saved == json));
    if !same_tokenizer {
        return Err(checkpoint.other_run("another tokenizer".into()));
    }
    Ok(())
}
