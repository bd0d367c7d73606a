//! Sampling for the commands that only read a model: what they ask for and what they get.

use crate::device::{DeviceArg, tell_shortages};
use anyhow::Context;
use seele_policy::model::Model;
use seele_random::Key;
use seele_rollout::{Finish, LocalEngine, RolloutError, complete};
use std::num::NonZeroUsize;

/// Completions that are written at a time: enough to keep the processor busy; more take more memory
/// for their keys and values.
pub(crate) const ACTIVE_BRANCHES: usize = 64;

/// How tokens are drawn.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Sampling {
    /// Divisor of the logits; 0 always takes the likeliest token.
    #[arg(long, default_value_t = 0.0, value_parser = temperature)]
    pub(crate) temperature: f64,
    /// Draw from the smallest set of tokens with this probability.
    #[arg(long, default_value_t = 1.0, value_parser = probability)]
    pub(crate) top_p: f64,
    /// Draw from so many likeliest tokens.
    #[arg(long)]
    pub(crate) top_k: Option<NonZeroUsize>,
    /// Source of every draw.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
}

pub(crate) fn temperature(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value >= 0.0 && value.is_finite() => Ok(value),
        _ => Err("expected a number, 0 or more".into()),
    }
}

pub(crate) fn probability(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value <= 1.0 => Ok(value),
        _ => Err("expected a number above 0 and at most 1".into()),
    }
}

/// A prompt and how many completions of it are wanted.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// Prompt, `[tokens]`, at least one.
    pub(crate) prompt_ids: Vec<u32>,
    /// Completions.
    pub(crate) samples: usize,
}

/// What the model wrote after a prompt.
#[derive(Clone, Debug)]
pub(crate) struct Completion {
    /// Index of the request.
    pub(crate) request: usize,
    /// Index among the samples of the request.
    pub(crate) sample: usize,
    /// Generated tokens, the end token included.
    pub(crate) ids: Vec<u32>,
    /// Log-probability of each token under the model at the sampling temperature, `[tokens]`.
    pub(crate) logprobs: Vec<f32>,
    /// Cut at the length limit: the model did not end by itself.
    pub(crate) truncated: bool,
}

/// Completes every prompt, in the order of the requests and their samples. `finished` is told how many
/// completions are done. A prompt goes through the model once, however many samples it has.
///
/// # Errors
/// Whatever the engine reports.
pub(crate) fn sample(
    model: &Model,
    requests: &[Request],
    sampling: &Sampling,
    device: DeviceArg,
    max_new_tokens: usize,
    finished: &mut dyn FnMut(usize),
) -> anyhow::Result<Vec<Completion>> {
    let decoder = device.decoder(&model.config, &model.parameters)?;
    let settings = seele_rollout::Sampling {
        temperature: sampling.temperature as f32,
        top_p: sampling.top_p as f32,
        top_k: sampling.top_k.map_or(0, NonZeroUsize::get),
        max_new_tokens,
        stop_tokens: model.config.eos_token_ids.clone(),
    };
    let mut engine = LocalEngine::new(&decoder, settings, ACTIVE_BRANCHES)?;
    let key = Key::new(sampling.seed);
    // By tag: the request and its sample.
    let wanted: Vec<(usize, usize)> = requests
        .iter()
        .enumerate()
        .flat_map(|(request, Request { samples, .. })| {
            (0..*samples).map(move |sample| (request, sample))
        })
        .collect();
    let mut completions = Vec::with_capacity(wanted.len());
    let tagged =
        wanted
            .iter()
            .enumerate()
            .map(|(tag, &(request, sample))| seele_rollout::Completion {
                prompt: request,
                prompt_ids: &requests[request].prompt_ids,
                key: key.with(request as u64).with(sample as u64),
                tag: tag as u64,
            });
    complete(&mut engine, tagged, |ended, _| {
        completions.extend(ended.into_iter().map(|branch| {
            let (request, sample) = wanted[branch.tag as usize];
            Completion {
                request,
                sample,
                ids: branch.tokens,
                logprobs: branch.logprobs,
                truncated: branch.finish == Finish::Length,
            }
        }));
        finished(completions.len());
        Ok::<(), RolloutError>(())
    })
    .context("cannot sample")?;
    tell_shortages(&decoder);
    completions.sort_by_key(|completion| (completion.request, completion.sample));
    Ok(completions)
}
