//! Sampling for the commands that only read a model: what they ask for and what they get.

use seele_policy::model::Model;

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
    pub(crate) top_k: Option<std::num::NonZeroUsize>,
    /// Source of every draw.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
}

fn temperature(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value >= 0.0 && value.is_finite() => Ok(value),
        _ => Err("expected a number, 0 or more".into()),
    }
}

fn probability(text: &str) -> Result<f64, String> {
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
/// completions are done.
///
/// # Errors
/// Whatever the engine reports.
pub(crate) fn sample(
    _: &Model,
    _: &[Request],
    _: &Sampling,
    _: usize,
    _: &mut dyn FnMut(usize),
) -> anyhow::Result<Vec<Completion>> {
    anyhow::bail!("the rollout engine is not connected yet")
}
