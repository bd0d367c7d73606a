//! The sampling phase of a step, by the code that trains, of recipes beside each other.

use super::{SpeedError, median};
use crate::error::TrainError;
use crate::evaluate::Grader;
use crate::recipe::{Materials, Recipe};
use crate::step::Run;
use crate::trainer::end_tokens;
use crate::update::Learner;
use seele_data::EpochSampler;
use seele_hint::HintController;
use seele_random::Key;
use seele_verify::reward::Reward;
use serde::Serialize;

/// The sampling phase of one recipe.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RolloutReport {
    /// Median seconds of the phase, verdicts and curve fits included.
    pub seconds: f64,
    /// Rollouts of the step.
    pub rollouts: usize,
    /// Tokens that they have together; the same in every run.
    pub tokens: u64,
    /// `tokens` over `seconds`.
    pub tokens_per_second: f64,
    /// Branches that drew a token in a step of the engine, as a share of its capacity, `0..=1`.
    pub utilisation: f64,
    /// Median seconds at the end of the phase in which the batch ran empty.
    pub tail_seconds: f64,
    /// Seconds of each run.
    pub runs: Vec<f64>,
}

impl RolloutReport {
    /// This time over the other's, the median over the turns: what the machine does meanwhile hits both.
    pub fn times_as_long(&self, other: &Self) -> f64 {
        let turns = self.runs.iter().zip(&other.runs);
        median(turns.map(|(own, other)| own / other).collect())
    }
}

/// Samples the first step of each recipe `runs` times, the recipes in turns, every run from the same state:
/// nothing is trained. All run on the first recipe's number of threads.
///
/// # Errors
/// [`SpeedError`]: what cannot be opened or sampled.
pub fn rollout(recipes: &[Recipe], runs: usize) -> Result<Vec<RolloutReport>, SpeedError> {
    let Some(first) = recipes.first() else {
        return Ok(Vec::new());
    };
    let mut variants = Vec::with_capacity(recipes.len());
    for recipe in recipes {
        variants.push(Variant::open(recipe)?);
    }
    super::on_threads(first.threads, || {
        let mut measured = vec![Vec::with_capacity(runs); variants.len()];
        for _ in 0..runs {
            for (variant, measured) in variants.iter().zip(&mut measured) {
                measured.push(variant.sample()?);
            }
        }
        Ok(measured.iter().map(|samples| report(samples)).collect())
    })?
}

/// A recipe with all that sampling needs.
struct Variant<'a> {
    recipe: &'a Recipe,
    materials: Materials,
    reward: Box<dyn Reward>,
}

/// One run of a variant.
#[derive(Clone, Copy)]
struct Sample {
    seconds: f64,
    tail: f64,
    rollouts: usize,
    tokens: u64,
    utilisation: f64,
}

impl<'a> Variant<'a> {
    fn open(recipe: &'a Recipe) -> Result<Self, SpeedError> {
        Ok(Self {
            recipe,
            materials: recipe.open()?,
            reward: recipe.reward.build().map_err(TrainError::from)?,
        })
    }

    fn sample(&self) -> Result<Sample, TrainError> {
        let (recipe, materials) = (self.recipe, &self.materials);
        let (stop_tokens, end_token) = end_tokens(materials)?;
        let key = Key::new(recipe.seed);
        let model = materials.read_model(key)?;
        let options = recipe.decoder_options();
        let (config, parameters) = (&model.config, &model.parameters);
        let decoder = recipe.device.decoder(config, parameters, options, false)?;
        let (problems, at_once) = (
            materials.train.problems.len(),
            recipe.rollout.problems_per_step,
        );
        let mut run = Run {
            recipe,
            data: &materials.train,
            grader: Grader {
                tokenizer: &materials.tokenizer,
                reward: self.reward.as_ref(),
                stop_tokens: &stop_tokens,
                max_new_tokens: recipe.rollout.max_new_tokens,
            },
            end_token,
            learner: Learner::new(decoder, model.parameters, &recipe.optimizer),
            reference: None,
            hints: HintController::new(&recipe.hint)?,
            sampler: EpochSampler::new(problems, at_once, key)?,
            updates: 0,
            skipped_in_a_row: 0,
        };
        let metrics = run.only_sample(1)?;
        Ok(Sample {
            seconds: metrics.time.rollout + metrics.time.reward,
            tail: metrics.time.rollout_tail,
            rollouts: metrics.rollouts,
            tokens: metrics.tokens_rollout,
            utilisation: metrics.utilisation,
        })
    }
}

fn report(samples: &[Sample]) -> RolloutReport {
    let seconds = median(samples.iter().map(|sample| sample.seconds).collect());
    let last = samples.last();
    let tokens = last.map_or(0, |sample| sample.tokens);
    RolloutReport {
        seconds,
        rollouts: last.map_or(0, |sample| sample.rollouts),
        tokens,
        tokens_per_second: tokens as f64 / seconds,
        utilisation: last.map_or(0.0, |sample| sample.utilisation),
        tail_seconds: median(samples.iter().map(|sample| sample.tail).collect()),
        runs: samples.iter().map(|sample| sample.seconds).collect(),
    }
}
