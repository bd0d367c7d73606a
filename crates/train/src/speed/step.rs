//! Whole training steps, by the code that trains.

use super::{
    Measuring, Need, Part, Report, SpeedError, Times, Work, on_threads, optimizer_bytes, report,
    tokens,
};
use crate::error::TrainError;
use crate::evaluate::Grader;
use crate::metrics::StepMetrics;
use crate::recipe::{EncodedData, Materials, Recipe};
use crate::step::Run;
use crate::update::Learner;
use seele_data::EpochSampler;
use seele_hint::HintController;
use seele_policy::decoder::{Compute, Recompute};
use seele_random::Key;
use seele_verify::reward::{Reward, RewardRequest, Score};
use std::path::Path;

/// Where the prompts of measured steps come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepSource<'a> {
    /// Random tokens, as many as the work says.
    Random,
    /// The first problems of a file, put through a prompt template; the work's prompt length says nothing.
    Problems {
        /// The file.
        path: &'a Path,
        /// Name of a template, or a `.toml` file.
        template: &'a str,
    },
}

/// Steps of GRPO: `work.batch` rollouts of `work.batch / work.share` problems, `work.new_tokens` tokens each
/// with no early end, a reward that differs between rollouts, one optimizer step.
///
/// # Errors
/// [`SpeedError`]: work that cannot be done, what cannot be opened, sampled or scored.
pub fn step(
    model: &Path,
    source: StepSource<'_>,
    work: &Work,
    measuring: Measuring,
) -> Result<Report, SpeedError> {
    if work.share < 2 {
        return Err(SpeedError::NoGroup);
    }
    let recipe = Recipe::from_text(&recipe(model, source, work, measuring)?, "bench")?;
    let mut materials = recipe.open()?;
    let mut work = *work;
    match source {
        StepSource::Random => {
            work.check(&materials.config)?;
            make_up(&mut materials, &work);
        }
        StepSource::Problems { .. } => {
            let problems = &mut materials.train.problems;
            let (wanted, found) = (work.trunks(), problems.len());
            if found < wanted {
                return Err(SpeedError::TooFewProblems { wanted, found });
            }
            problems.truncate(wanted);
            let prompts = problems.iter().map(|(_, encoded)| encoded.prompt_ids.len());
            work.prompt_tokens = prompts.sum::<usize>().div_ceil(wanted.max(1));
            work.check(&materials.config)?;
        }
    }
    let measured = on_threads(measuring.threads, || {
        measure(&recipe, &materials, &work, measuring.runs)
    })?;
    Ok(measured?)
}

fn recipe(
    model: &Path,
    source: StepSource<'_>,
    work: &Work,
    measuring: Measuring,
) -> Result<String, SpeedError> {
    let quoted = |path: &Path| {
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.into());
        let text = absolute.to_str().ok_or_else(|| SpeedError::Path {
            path: path.display().to_string(),
        })?;
        Ok::<_, SpeedError>(toml::Value::from(text).to_string())
    };
    let model = quoted(model)?;
    let data = match source {
        // Replaced by random tokens; only the settings around it are used.
        StepSource::Random => {
            let count = work.trunks();
            format!(
                "template = \"bare\"\narithmetic = {{ operations = {{ min = 1, max = 2 }}, count = {count} }}"
            )
        }
        StepSource::Problems { path, template } => {
            let template = toml::Value::from(template).to_string();
            format!("path = {}\ntemplate = {template}", quoted(path)?)
        }
    };
    let compute = match measuring.compute {
        Compute::F32 => "f32",
        Compute::Bf16 => "bf16",
    };
    let recompute = match measuring.recompute {
        Recompute::None => "none",
        Recompute::Block => "block",
        Recompute::Auto { .. } => "auto",
    };
    let (problems, share) = (work.trunks(), work.share);
    let (batch, new_tokens, threads) = (work.batch, work.new_tokens, measuring.threads);
    let device = measuring.device;
    let microbatch = measuring.tokens_per_microbatch;
    Ok(format!(
        "method = \"grpo\"\nsteps = 1\nthreads = {threads}\ndevice = \"{device}\"\n[model]\npath = {model}\ncompute = \"{compute}\"\nrecompute = \"{recompute}\"\n\
         [data]\n{data}\n[kl]\ncoef = 0.0\n[rollout]\nproblems_per_step = {problems}\nrollouts_per_problem = {share}\n\
         max_new_tokens = {new_tokens}\nmax_active_branches = {batch}\n[update]\ntokens_per_microbatch = {microbatch}\n"
    ))
}

/// Random tokens in place of the prompts.
fn make_up(materials: &mut Materials, work: &Work) {
    let vocab_size = materials.config.vocab_size;
    for (index, (_, encoded)) in materials.train.problems.iter_mut().enumerate() {
        let key = Key::new(0).with(index as u64);
        encoded.prompt_ids = tokens(key, work.prompt_tokens, vocab_size);
    }
}

/// Half of the rollouts are right, whatever they say.
struct ByPlace;

impl Reward for ByPlace {
    fn score(&self, request: &RewardRequest<'_>) -> Score {
        let last = request.id.bytes().last().unwrap_or(0);
        Score {
            value: Some(f64::from(last % 2)),
            verdict: None,
            detail: None,
        }
    }
}

fn measure(
    recipe: &Recipe,
    materials: &Materials,
    work: &Work,
    runs: usize,
) -> Result<Report, TrainError> {
    let model = materials.read_model(Key::new(0))?;
    let options = recipe.decoder_options();
    let (config, parameters) = (&model.config, &model.parameters);
    let decoder = recipe.device.decoder(config, parameters, options, true)?;
    let data: &EncodedData = &materials.train;
    let mut run = Run {
        recipe,
        data,
        grader: Grader {
            tokenizer: &materials.tokenizer,
            reward: &ByPlace,
            // Every rollout has all its tokens.
            stop_tokens: &[],
            max_new_tokens: work.new_tokens,
        },
        end_token: 0,
        learner: Learner::new(decoder, model.parameters, &recipe.optimizer),
        reference: None,
        hints: HintController::new(&recipe.hint)?,
        sampler: EpochSampler::new(data.problems.len(), work.trunks(), Key::new(0))?,
        updates: 0,
        skipped_in_a_row: 0,
    };
    let mut times = Vec::with_capacity(runs);
    let mut tokens = 0;
    for step in 1..=runs + 1 {
        let metrics: StepMetrics = run.step(step, &mut ())?;
        tokens = metrics.tokens_rollout;
        // The first one filled the buffers.
        if step > 1 {
            let time = metrics.time;
            times.push(Times {
                whole: time.step,
                parts: vec![time.rollout + time.reward, time.logprobs + time.update],
            });
        }
    }
    let decoder = &run.learner.decoder;
    let budget = recipe.update.tokens_per_microbatch;
    let microbatches = work.rows().div_ceil(budget);
    let optimizer = Need {
        bytes: optimizer_bytes(decoder),
        ..Need::default()
    };
    let parts = vec![
        Part {
            name: "rollout",
            needs: work.decoding(decoder).to_vec(),
            counts: true,
        },
        Part {
            name: "update",
            needs: vec![work.training(decoder, microbatches), optimizer],
            counts: true,
        },
    ];
    Ok(report(decoder, parts, times, tokens as f64))
}
