//! Speed of decoding, of training and of whole steps, beside what the machine can do at best, and of the
//! sampling phase of recipes beside each other.
//!
//! Each of the first makes its own work from token ids (random ones, unless a step is given problems), runs
//! it once to fill caches and buffers, then several times for medians, and afterwards measures the
//! machine's ceilings in the same process: how fast the model's products with weights run by themselves,
//! and how fast memory is read. The floor of a phase is the time that its operations and bytes take at
//! these ceilings.

mod ceiling;
mod decode;
mod peak;
mod rollout;
mod step;
mod train;

pub use ceiling::ProductCeiling;
pub use decode::decode;
pub use peak::{Peak, PeakSource};
pub use rollout::{RolloutReport, rollout};
pub use step::{StepSource, step};
pub use train::train;

use crate::error::TrainError;
use crate::metrics::ResidentMemory;
use crate::recipe::{MaterialsError, RecipeError};
use ceiling::Ceilings;
use seele_policy::config::ModelConfig;
#[cfg(feature = "cuda")]
use seele_policy::cuda::Footprint;
use seele_policy::decoder::{Compute, Decoder, Recompute};
use seele_policy::device::{DecodingCalls, DeviceChoice, Shortages};
use seele_random::Key;
use seele_rollout::RolloutError;
use serde::Serialize;

/// Sequences of one measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Work {
    /// Sequences.
    pub batch: usize,
    /// Of these, so many continue the same prompt (and hint); divides `batch`.
    pub share: usize,
    /// Tokens of a prompt, at least 1.
    pub prompt_tokens: usize,
    /// Tokens after the prompt that are given too; in training they carry a loss of their own.
    pub hint_tokens: usize,
    /// Tokens of each sequence beyond them, at least 1.
    pub new_tokens: usize,
}

/// How a measurement is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measuring {
    /// Timed runs, at least 1; the reported times are their medians.
    pub runs: usize,
    /// Worker threads, at least 1.
    pub threads: usize,
    /// Number type of products.
    pub compute: Compute,
    /// Most tokens that go forward and backward together.
    pub tokens_per_microbatch: usize,
    /// What the backward pass computes again.
    pub recompute: Recompute,
    /// Where the model computes.
    pub device: DeviceChoice,
}

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpeedError {
    /// A size is 0.
    #[error("`{name}` is 0; give at least 1")]
    Nothing {
        /// Name of the size.
        name: &'static str,
    },
    /// Prompts cannot be shared evenly.
    #[error(
        "{batch} sequences cannot share prompts by {share}; give a batch that is a multiple of it"
    )]
    Uneven {
        /// Sequences.
        batch: usize,
        /// Sequences of a prompt.
        share: usize,
    },
    /// A sequence is longer than the model's context.
    #[error(
        "sequences of {tokens} tokens do not fit the model's context of {context}; shorten prompt, hint or new tokens"
    )]
    TooLong {
        /// Tokens of a sequence.
        tokens: usize,
        /// Positions of the model.
        context: usize,
    },
    /// A step needs groups.
    #[error("a step compares the samples of a problem; let at least 2 share a prompt")]
    NoGroup,
    /// Too few problems for the step.
    #[error("a step of {wanted} problems needs as many; the file has {found}")]
    TooFewProblems {
        /// Problems of the step.
        wanted: usize,
        /// Problems of the file.
        found: usize,
    },
    /// A path that a recipe cannot hold.
    #[error("the path `{path}` is not valid Unicode; rename it")]
    Path {
        /// The path, as far as it can be shown.
        path: String,
    },
    /// The settings do not make a recipe.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// Model or problems cannot be opened.
    #[error(transparent)]
    Materials(#[from] MaterialsError),
    /// The engine stopped.
    #[error(transparent)]
    Rollout(#[from] RolloutError),
    /// A step failed.
    #[error(transparent)]
    Train(#[from] TrainError),
}

impl SpeedError {
    /// Whether the work was refused before anything ran.
    pub fn is_unusable(&self) -> bool {
        !matches!(self, Self::Rollout(_) | Self::Train(_))
    }
}

/// A measurement. Times are wall-clock medians over the runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Tokens a second: of decoding after the prefill, generated ones; of training, rows that go forward and
    /// backward; of a step, generated ones over the whole step.
    pub tokens_per_second: f64,
    /// Seconds of one run, all phases.
    pub seconds: f64,
    /// Share of `tokens_per_second`'s time that its products would take at the ceiling, `0..=1`.
    pub ceiling_share: f64,
    /// Model FLOP utilisation: operations that the model cannot do without, over `tokens_per_second`'s time and
    /// the peak's operations a second, `0..=1`. What is computed again in a backward pass does not count.
    pub flop_utilisation: f64,
    /// Bytes that cannot do without being moved, over the same time and the peak's bytes a second, `0..=1`.
    pub bandwidth_share: f64,
    /// What both are shares of.
    pub peak: Peak,
    /// What the device is called; nothing on the CPU.
    pub device: Option<String>,
    /// Most memory that the process has held up to the end of the runs, MiB; the model's loading counts.
    pub peak_rss_mib: Option<f64>,
    /// Calls to the device for a token of every sequence; nothing on the CPU, and where nothing is sampled.
    pub calls_per_token: Option<DecodingCalls>,
    /// Parts of a run.
    pub phases: Vec<Phase>,
    /// The model's products with weights by themselves.
    pub product_ceilings: Vec<ProductCeiling>,
    /// Memory read by all threads, GB a second; on a GPU, its memory read and written by copies.
    pub read_gb_per_second: f64,
    /// What the device was short of in all runs together; nothing on the CPU.
    pub shortages: Shortages,
    /// Seconds of each run.
    pub runs: Vec<f64>,
}

/// A part of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Phase {
    /// What it does.
    pub name: &'static str,
    /// Median seconds.
    pub seconds: f64,
    /// Multiplications and additions that it cannot do without.
    pub operations: f64,
    /// Bytes of memory that it cannot do without moving.
    pub bytes: f64,
    /// Seconds that both take at the ceilings: the longer of the two for each kind of work.
    pub floor_seconds: f64,
    /// As [`Report::flop_utilisation`], of this part.
    pub flop_utilisation: f64,
    /// As [`Report::bandwidth_share`], of this part.
    pub bandwidth_share: f64,
}

/// Work of one kind: its products have so many rows.
#[derive(Clone, Copy, Debug, Default)]
struct Need {
    /// 0: no products.
    rows: usize,
    operations: f64,
    bytes: f64,
}

/// A phase before it has been put beside the ceilings.
struct Part {
    name: &'static str,
    needs: Vec<Need>,
    /// Whether its time counts for tokens a second.
    counts: bool,
}

impl Part {
    /// Operations and bytes.
    fn work(&self) -> (f64, f64) {
        let operations = self.needs.iter().map(|need| need.operations).sum();
        (operations, self.needs.iter().map(|need| need.bytes).sum())
    }
}

/// Times of one run.
struct Times {
    whole: f64,
    /// In the order of the parts.
    parts: Vec<f64>,
}

impl Work {
    /// Checks that it can be done with a model.
    ///
    /// # Errors
    /// [`SpeedError::Nothing`], [`SpeedError::Uneven`], [`SpeedError::TooLong`].
    pub fn check(&self, config: &ModelConfig) -> Result<(), SpeedError> {
        for (name, size) in [
            ("batch", self.batch),
            ("share", self.share),
            ("prompt", self.prompt_tokens),
            ("new", self.new_tokens),
        ] {
            if size == 0 {
                return Err(SpeedError::Nothing { name });
            }
        }
        let (batch, share) = (self.batch, self.share);
        if !batch.is_multiple_of(share) {
            return Err(SpeedError::Uneven { batch, share });
        }
        let (tokens, context) = (
            self.trunk_tokens() + self.new_tokens,
            config.max_position_embeddings,
        );
        if tokens > context {
            return Err(SpeedError::TooLong { tokens, context });
        }
        Ok(())
    }

    fn trunk_tokens(&self) -> usize {
        self.prompt_tokens + self.hint_tokens
    }

    fn trunks(&self) -> usize {
        self.batch / self.share
    }

    /// Operations and bytes of computing trunks once each and then a token of every branch after the other.
    fn decoding(&self, decoder: &Decoder) -> [Need; 2] {
        let (trunk, new, batch) = (self.trunk_tokens(), self.new_tokens, self.batch as f64);
        let weights = decoder.projection_bytes() as f64;
        let prefill = Need {
            rows: trunk,
            operations: self.trunks() as f64
                * (decoder.product_operations(trunk, 0) + causal(decoder, 0, trunk)),
            bytes: self.trunks() as f64 * weights,
        };
        // The first token is drawn from the trunk; the last is never an input.
        let steps = new as f64 - 1.0;
        let products = decoder.product_operations(1, 0) * steps
            + decoder.product_operations(0, 1) * new as f64;
        let own = new as f64 / 2.0;
        let positions = trunk as f64 * self.trunks() as f64 + own * batch;
        let cached = (decoder.key_value_bytes() as f64) * positions;
        let decode = Need {
            rows: self.batch,
            operations: batch * (products + causal(decoder, trunk, new - 1)),
            bytes: steps * (weights + cached),
        };
        [prefill, decode]
    }

    /// Operations and bytes of forward and backward passes in `microbatches` parts.
    fn training(&self, decoder: &Decoder, microbatches: usize) -> Need {
        let (trunk, inputs) = (self.trunk_tokens(), self.new_tokens - 1);
        let (trunks, batch) = (self.trunks() as f64, self.batch as f64);
        let scored = trunks * (1 + self.hint_tokens) as f64 + batch * inputs as f64;
        let forward = decoder.product_operations(1, 0) * self.rows() as f64
            + decoder.product_operations(0, 1) * scored
            + trunks * causal(decoder, 0, trunk)
            + batch * causal(decoder, trunk, inputs);
        let microbatches = microbatches.max(1);
        // Weights for both directions, and the gradient read and written.
        let moved = 2 * decoder.projection_bytes() + 8 * parameters(decoder);
        Need {
            rows: self.rows() / microbatches,
            operations: 3.0 * forward,
            bytes: (microbatches * moved) as f64,
        }
    }

    /// Rows that go forward and backward.
    fn rows(&self) -> usize {
        self.trunks() * self.trunk_tokens() + self.batch * (self.new_tokens - 1)
    }
}

/// Bytes that an optimizer step moves: the gradient's norm, AdamW, which clears the gradient, and packing the
/// weights.
fn optimizer_bytes(decoder: &Decoder) -> f64 {
    (parameters(decoder) * (4 + 32 + 4) + decoder.projection_bytes()) as f64
}

fn parameters(decoder: &Decoder) -> usize {
    seele_policy::parameters::Layout::of(decoder.config()).len()
}

/// Operations of attention for `rows` rows that follow each other behind `before` others.
fn causal(decoder: &Decoder, before: usize, rows: usize) -> f64 {
    let seen = before as f64 + (rows as f64 + 1.0) / 2.0;
    rows as f64 * decoder.attention_operations(seen)
}

/// Made-up tokens.
fn tokens(key: Key, count: usize, vocab_size: usize) -> Vec<u32> {
    (0..count as u64)
        .map(|i| key.with(i).below(vocab_size as u64) as u32)
        .collect()
}

/// Puts runs and their needs beside the machine's ceilings, which are measured now.
fn report(decoder: &Decoder, parts: Vec<Part>, runs: Vec<Times>, tokens: f64) -> Report {
    // What measuring the ceilings takes does not count.
    let peak_rss_mib = ResidentMemory::read().map(|memory| memory.peak_mib);
    let shortages = decoder.take_shortages();
    let rows = parts.iter().flat_map(|part| &part.needs);
    let rows = rows.map(|need| need.rows).filter(|&rows| rows > 0);
    let ceilings = Ceilings::measure(decoder, rows.collect());
    let of_part = |index: usize| median(runs.iter().map(|run| run.parts[index]).collect());
    let counted: Vec<usize> = (0..parts.len()).filter(|&i| parts[i].counts).collect();
    let counted_seconds = median(
        runs.iter()
            .map(|run| counted.iter().map(|&i| run.parts[i]).sum())
            .collect(),
    );
    let products = counted.iter().flat_map(|&i| &parts[i].needs);
    let at_ceiling: f64 = products
        .map(|need| ceilings.product_seconds(need.operations, need.rows))
        .sum();
    let device = device_name(decoder);
    let published = |name: &String| Peak::published(name, decoder.options().compute);
    let peak = device.as_ref().and_then(published);
    let peak = peak.unwrap_or_else(|| ceilings.peak());
    let phases = parts.iter().enumerate().map(|(index, part)| {
        let (seconds, (operations, bytes)) = (of_part(index), part.work());
        Phase {
            name: part.name,
            seconds,
            operations,
            bytes,
            floor_seconds: part.needs.iter().map(|need| ceilings.floor(need)).sum(),
            flop_utilisation: peak.flop_utilisation(operations, seconds),
            bandwidth_share: peak.bandwidth_share(bytes, seconds),
        }
    });
    let work = counted.iter().map(|&index| parts[index].work());
    let (operations, bytes) = work.fold((0.0, 0.0), |sum, part| (sum.0 + part.0, sum.1 + part.1));
    Report {
        tokens_per_second: tokens / counted_seconds,
        seconds: median(runs.iter().map(|run| run.whole).collect()),
        ceiling_share: at_ceiling / counted_seconds,
        flop_utilisation: peak.flop_utilisation(operations, counted_seconds),
        bandwidth_share: peak.bandwidth_share(bytes, counted_seconds),
        peak,
        device,
        peak_rss_mib,
        calls_per_token: None,
        phases: phases.collect(),
        product_ceilings: ceilings.products,
        read_gb_per_second: ceilings.read_gb_per_second,
        shortages,
        runs: runs.iter().map(|run| run.whole).collect(),
    }
}

/// Calls to the decoder's device for a token of so many sequences.
#[cfg(feature = "cuda")]
fn calls_per_token(decoder: &Decoder, sequences: usize) -> Option<DecodingCalls> {
    decoder.on_device()?;
    let footprint = Footprint::of(decoder.config(), decoder.options(), false).ok()?;
    footprint.decoding_calls(sequences).ok()
}

#[cfg(not(feature = "cuda"))]
fn calls_per_token(_: &Decoder, _: usize) -> Option<DecodingCalls> {
    None
}

#[cfg(feature = "cuda")]
fn device_name(decoder: &Decoder) -> Option<String> {
    let device = decoder.on_device()?;
    Some(device.device_name().to_owned())
}

#[cfg(not(feature = "cuda"))]
fn device_name(_: &Decoder) -> Option<String> {
    None
}

/// The middle value, of an even number the mean of the two in the middle; 0 of none.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        len if len % 2 == 1 => values[middle],
        _ => (values[middle - 1] + values[middle]) / 2.0,
    }
}

/// Runs `work` on so many threads of its own.
fn on_threads<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> Result<R, TrainError> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .map_err(|source| TrainError::Threads { threads, source })?;
    Ok(pool.install(work))
}

#[cfg(test)]
mod tests;
