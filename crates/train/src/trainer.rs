//! A whole run: supervised stage, training steps, evaluation, saving.

use crate::error::TrainError;
use crate::evaluate::{EvalLimits, Grader, evaluate};
use crate::metrics::{METRICS_FILE, MetricsLog, SFT_METRICS_FILE};
use crate::progress::{Observer, Phase};
use crate::recipe::{Materials, Recipe, SaveType};
use crate::step::Run;
use crate::supervised::Supervised;
use crate::update::Learner;
use crate::watch::Watch;
use seele_data::EpochSampler;
use seele_hint::HintController;
use seele_policy::decoder::Decoder;
use seele_policy::huggingface::{self, ModelParts, SaveOptions, WeightType};
use seele_random::Key;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

const WEIGHTS: u64 = u64::from_be_bytes(*b"weights ");
const SUPERVISED: u64 = u64::from_be_bytes(*b"sft     ");
const PROBLEMS: u64 = u64::from_be_bytes(*b"problems");

/// Trains as the recipe says and writes `metrics.jsonl`, `sft.jsonl` (with a supervised stage) and the
/// model folders into `folder`, which is there already. When `stop` becomes true, the step at hand is
/// finished and the model saved.
///
/// # Errors
/// [`TrainError`]: what could not be read, sampled, scored or written.
pub fn run(
    recipe: &Recipe,
    materials: Materials,
    observer: &mut dyn Observer,
    stop: &AtomicBool,
    folder: &Path,
) -> Result<(), TrainError> {
    let key = Key::new(recipe.seed);
    observer.phase(0, Phase::Load);
    let model = materials.read_model(key.with(WEIGHTS))?;
    let mut stop_tokens = model.config.eos_token_ids.clone();
    let of_tokenizer = model.tokenizer.eos_token_id();
    stop_tokens.extend(of_tokenizer.filter(|token| !model.config.eos_token_ids.contains(token)));
    let end_token = of_tokenizer
        .or(stop_tokens.first().copied())
        .ok_or(TrainError::NoEndToken)?;
    let reward = recipe.reward.build()?;
    let grader = |max_new_tokens| Grader {
        tokenizer: &materials.tokenizer,
        reward: reward.as_ref(),
        stop_tokens: &stop_tokens,
        max_new_tokens,
    };
    let decoder = Decoder::new(&model.config, &model.parameters);
    let mut learner = Learner::new(decoder, model.parameters, &recipe.optimizer);

    if let (Some(plan), Some(data)) = (&recipe.sft, &materials.sft) {
        let mut log = MetricsLog::open(&folder.join(SFT_METRICS_FILE))?;
        let stage = Supervised {
            plan,
            data,
            end_token,
            tokens_per_microbatch: recipe.update.tokens_per_microbatch,
            key: key.with(SUPERVISED),
        };
        stage.run(&mut learner, &mut log, observer, stop)?;
    }

    let mut log = MetricsLog::open(&folder.join(METRICS_FILE))?;
    let eval_grader = grader(recipe.eval.max_new_tokens);
    let measure = |learner: &Learner, step: usize, observer: &mut dyn Observer| {
        let limits = EvalLimits {
            max_active_branches: recipe.rollout.max_active_branches,
            grading_threads: recipe.grading_threads(),
        };
        evaluate(
            &learner.decoder,
            &materials.eval,
            &eval_grader,
            limits,
            step,
            observer,
        )
    };
    if !materials.eval.is_empty() && !stop.load(Ordering::SeqCst) {
        let results = measure(&learner, 0, observer)?;
        log.append_evaluation(0, &results)?;
        observer.evaluated(0, &results);
    }

    // A reference policy is the policy as reinforcement finds it, after the supervised stage.
    let needs_reference = recipe.objective.needs_reference();
    let reference = needs_reference.then(|| Decoder::new(&model.config, &learner.parameters));
    let problems = materials.train.problems.len();
    let mut run = Run {
        recipe,
        data: &materials.train,
        grader: grader(recipe.rollout.max_new_tokens),
        end_token,
        learner,
        reference,
        hints: HintController::new(&recipe.hint)?,
        sampler: EpochSampler::new(
            problems,
            recipe.rollout.problems_per_step,
            key.with(PROBLEMS),
        )?,
        updates: 0,
        skipped_in_a_row: 0,
    };
    let save = |learner: &Learner, step: usize, name: &str, observer: &mut dyn Observer| {
        observer.phase(step, Phase::Save);
        let parts = ModelParts {
            config: &model.config,
            parameters: &learner.parameters,
            tokenizer: &model.tokenizer,
            chat_template: model.chat_template.as_ref(),
        };
        let weights = match recipe.save.dtype {
            SaveType::F32 => WeightType::F32,
            SaveType::Bf16 => WeightType::Bf16,
        };
        let options = SaveOptions {
            weights,
            ..SaveOptions::default()
        };
        huggingface::save(&folder.join(name), &parts, &options)
    };
    let mut watch = Watch::default();
    let mut last = 0;
    for step in 1..=recipe.steps {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let mut metrics = run.step(step, observer)?;
        last = step;
        let ends = step == recipe.steps || stop.load(Ordering::SeqCst);
        let due = |every: Option<usize>| every.is_some_and(|every| step.is_multiple_of(every));
        if !materials.eval.is_empty() && (step == recipe.steps || due(recipe.eval.every_steps)) {
            let begun = Instant::now();
            metrics.eval = measure(&run.learner, step, observer)?;
            metrics.time.eval = begun.elapsed().as_secs_f64();
            metrics.time.step += metrics.time.eval;
            observer.evaluated(step, &metrics.eval);
        }
        log.append(&metrics)?;
        if due(recipe.save.every_steps) && !ends {
            save(&run.learner, step, &format!("model-step-{step}"), observer)?;
        }
        observer.step_finished(&metrics);
        for warning in watch.look(&metrics) {
            observer.warning(step, &warning);
        }
    }
    save(&run.learner, last, "model", observer)?;
    Ok(())
}
