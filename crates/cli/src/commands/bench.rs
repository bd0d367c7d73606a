//! `seele bench`: how fast a model decodes and trains here, and how fast it could.

mod rollouts;

use crate::device::DeviceArg;
use crate::exit;
use crate::hub;
use crate::model_place;
use crate::numbers::thousands;
use crate::output::{Output, print};
use anyhow::Context;
use clap::{Subcommand, ValueEnum};
use seele_hub::Kind;
use seele_policy::decoder::{Compute, Recompute};
use seele_policy::model::Model;
use seele_train::recipe::free_memory;
use seele_train::speed::{Measuring, PeakSource, Report, StepSource, Work, decode, step, train};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::num::NonZeroUsize;
use std::path::PathBuf;

/// Measure decoding, training or whole steps of a model, beside what the machine can do.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  seele bench decode models/smollm2 --batch 32 --prompt 256 --compute bf16
  seele bench train models/smollm2 --batch 256 --share 32 --prompt 150 --hint 150 --new 100
  seele bench step models/smollm2 --batch 32 --share 8 --new 128 --json
  seele bench rollout recipes/smollm2-gsm8k.toml --against rollout.rounds=lock-step
  seele bench rollout recipes/smollm2-gsm8k.toml --against method=grpo

The floor beside a time is what its operations and bytes take at the machine's ceilings: the model's products
with weights by themselves, with as many rows, and memory read by all threads. Both are measured in the same
run. `ceiling_share` is the time of all products at their ceiling, as a share of the time they took.
`flop_utilisation` (of the model, so what is computed again does not count) and `bandwidth_share` are shares of
`peak`: of the chip's data sheet where it is known, else of those ceilings, as `peak.source` says. They are
given for the whole, where the phases count for tokens a second, and for each of `phases`.
Times are medians; `peak_rss_mib` is the most memory that the process has held, loading included.")]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Sample side by side; tokens a second leave the prefill out
    Decode {
        #[command(flatten)]
        common: Common,
        /// Sequences decoded side by side.
        #[arg(long, default_value = "32")]
        batch: NonZeroUsize,
        /// Of these, so many continue the same prompt; default: all.
        #[arg(long)]
        share: Option<NonZeroUsize>,
        /// Tokens of a prompt.
        #[arg(long, default_value = "256")]
        prompt: NonZeroUsize,
        /// Tokens sampled for each sequence; none ends early.
        #[arg(long, default_value = "64")]
        new: NonZeroUsize,
    },
    /// Forward, backward and an optimizer step; tokens a second count rows of the model
    Train {
        #[command(flatten)]
        common: Common,
        /// Sequences of the step.
        #[arg(long, default_value = "16")]
        batch: NonZeroUsize,
        /// Sequences that are branches of one trunk; 1 lays each out alone.
        #[arg(long, default_value = "1")]
        share: NonZeroUsize,
        /// Tokens of a prompt, which carry no loss.
        #[arg(long, default_value = "1")]
        prompt: NonZeroUsize,
        /// Tokens of a hint behind the prompt; with a loss, once a trunk.
        #[arg(long, default_value = "0")]
        hint: usize,
        /// Tokens of a sequence behind prompt and hint.
        #[arg(long, default_value = "512")]
        new: NonZeroUsize,
        /// What the backward pass computes again.
        #[arg(long, value_enum, default_value = "auto")]
        recompute: Recomputed,
        /// Most tokens that go forward and backward together.
        #[arg(long, default_value = "2048")]
        microbatch: NonZeroUsize,
    },
    /// Whole steps of GRPO: rollouts, advantages, update
    Step {
        #[command(flatten)]
        common: Common,
        /// Rollouts of a step.
        #[arg(long, default_value = "32")]
        batch: NonZeroUsize,
        /// Rollouts of a problem.
        #[arg(long, default_value = "8")]
        share: NonZeroUsize,
        /// Tokens of a made-up prompt.
        #[arg(long, default_value = "128", conflicts_with = "data")]
        prompt: NonZeroUsize,
        /// Tokens of a rollout; none ends early.
        #[arg(long, default_value = "128")]
        new: NonZeroUsize,
        /// Problems whose first ones give the prompts.
        #[arg(long)]
        data: Option<PathBuf>,
        /// Prompt template for them.
        #[arg(long, default_value = "bare", requires = "data")]
        template: String,
        /// What the backward pass computes again.
        #[arg(long, value_enum, default_value = "auto")]
        recompute: Recomputed,
        /// Most tokens that go forward and backward together.
        #[arg(long, default_value = "2048")]
        microbatch: NonZeroUsize,
    },
    /// The sampling phase of a recipe's first step, and of the same recipe with other settings
    Rollout {
        /// The recipe, a TOML file.
        recipe: PathBuf,
        /// Override a setting of the recipe; can be given many times.
        #[arg(long, short, value_name = "KEY=VALUE")]
        set: Vec<String>,
        /// A further override of what it is measured against; can be given many times.
        #[arg(long, value_name = "KEY=VALUE")]
        against: Vec<String>,
        /// Runs of each, in turns.
        #[arg(long, default_value = "5")]
        runs: NonZeroUsize,
        /// One JSON object instead of a table.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, clap::Args)]
struct Common {
    #[arg(help = model_place::HELP)]
    model: PathBuf,
    /// Number type of matrix products.
    #[arg(long, value_enum, default_value = "f32")]
    compute: Factors,
    #[command(flatten)]
    device: DeviceArg,
    /// Timed runs, after one that is not.
    #[arg(long, default_value = "5")]
    runs: NonZeroUsize,
    /// Worker threads; default: one a core.
    #[arg(long)]
    threads: Option<NonZeroUsize>,
    /// One JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Factors {
    F32,
    Bf16,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Recomputed {
    /// Nothing: most memory.
    None,
    /// Every block from its input.
    Block,
    /// What does not fit in half of the free memory.
    Auto,
}

impl Common {
    fn threads(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        self.threads.map_or_else(cores, NonZeroUsize::get)
    }

    fn measuring(&self, microbatch: usize, recompute: Recomputed) -> Measuring {
        Measuring {
            runs: self.runs.get(),
            threads: self.threads(),
            compute: match self.compute {
                Factors::F32 => Compute::F32,
                Factors::Bf16 => Compute::Bf16,
            },
            tokens_per_microbatch: microbatch,
            recompute: recompute.setting(),
            device: self.device.device,
        }
    }
}

impl Recomputed {
    fn setting(self) -> Recompute {
        match self {
            Self::None => Recompute::None,
            Self::Block => Recompute::Block,
            Self::Auto => match free_memory() {
                Some(bytes) => Recompute::Auto {
                    bytes: usize::try_from(bytes / 2).unwrap_or(usize::MAX),
                },
                None => Recompute::Block,
            },
        }
    }
}

/// Runs the command.
///
/// # Errors
/// A model or problems that cannot be read, work that does not fit the model, a failure while running.
pub(crate) fn run(args: &Args, output: &Output) -> anyhow::Result<u8> {
    if let What::Decode { common, .. } | What::Train { common, .. } | What::Step { common, .. } =
        &args.what
    {
        common.device.check()?;
    }
    let (name, common, work, measured) = match &args.what {
        What::Decode {
            common,
            batch,
            share,
            prompt,
            new,
        } => {
            let work = Work {
                batch: batch.get(),
                share: share.unwrap_or(*batch).get(),
                prompt_tokens: prompt.get(),
                hint_tokens: 0,
                new_tokens: new.get(),
            };
            let report = decode(
                Model::load(&model_place::find(&common.model, output)?)?,
                &work,
                common.measuring(usize::MAX, Recomputed::None),
            );
            ("decode", common, work, report)
        }
        What::Train {
            common,
            batch,
            share,
            prompt,
            hint,
            new,
            recompute,
            microbatch,
        } => {
            let work = Work {
                batch: batch.get(),
                share: share.get(),
                prompt_tokens: prompt.get(),
                hint_tokens: *hint,
                new_tokens: new.get(),
            };
            let measuring = common.measuring(microbatch.get(), *recompute);
            let report = train(
                Model::load(&model_place::find(&common.model, output)?)?,
                &work,
                measuring,
            );
            ("train", common, work, report)
        }
        What::Step {
            common,
            batch,
            share,
            prompt,
            new,
            data,
            template,
            recompute,
            microbatch,
        } => {
            let work = Work {
                batch: batch.get(),
                share: share.get(),
                prompt_tokens: prompt.get(),
                hint_tokens: 0,
                new_tokens: new.get(),
            };
            let model = model_place::find(&common.model, output)?;
            let data = match data {
                Some(data) => Some(hub::local(Kind::DataSet, data, output)?),
                None => None,
            };
            let source = match &data {
                Some(path) => StepSource::Problems { path, template },
                None => StepSource::Random,
            };
            let measuring = common.measuring(microbatch.get(), *recompute);
            let report = step(&model, source, &work, measuring);
            ("step", common, work, report)
        }
        What::Rollout {
            recipe,
            set,
            against,
            runs,
            json,
        } => return rollouts::run(recipe, set, against, runs.get(), *json, output),
    };
    let report =
        measured.with_context(|| format!("cannot measure `{}`", common.model.display()))?;
    if report.shortages.is_any() {
        tracing::warn!("{}", report.shortages);
    }
    print(&if common.json {
        format!("{}\n", object(name, common, &work, &report)?)
    } else {
        table(name, common, &work, &report)
    })?;
    Ok(exit::DONE)
}

/// The report with what was measured, as one object.
fn object(name: &str, common: &Common, work: &Work, report: &Report) -> anyhow::Result<Value> {
    let mut object = json!({
        "bench": name,
        "model": common.model.display().to_string(),
        "compute": format!("{:?}", common.compute).to_lowercase(),
        "threads": common.threads(),
    });
    for part in [serde_json::to_value(work)?, serde_json::to_value(report)?] {
        if let (Value::Object(all), Value::Object(part)) = (&mut object, part) {
            all.extend(part);
        }
    }
    Ok(object)
}

fn table(name: &str, common: &Common, work: &Work, report: &Report) -> String {
    let mut out = String::new();
    let Work {
        batch,
        share,
        prompt_tokens,
        hint_tokens,
        new_tokens,
    } = work;
    let hint = match hint_tokens {
        0 => String::new(),
        tokens => format!(" + hint {tokens}"),
    };
    let device = report.device.as_ref().map(|name| format!("{name}, "));
    let _ = writeln!(
        out,
        "{name} {}: {batch} sequences, {share} a prompt, prompt {prompt_tokens}{hint} + {new_tokens} new tokens",
        common.model.display()
    );
    let _ = writeln!(
        out,
        "{:?}, {}{} threads, medians of {} runs\n",
        common.compute,
        device.unwrap_or_default(),
        common.threads(),
        report.runs.len()
    );
    let _ = writeln!(
        out,
        "{:<22} {:>9} {:>9} {:>12} {:>9} {:>8} {:>8}",
        "", "seconds", "floor", "GFLOP", "GB", "FLOP %", "GB/s %"
    );
    for phase in &report.phases {
        let _ = writeln!(
            out,
            "{:<22} {:>9.4} {:>9.4} {:>12.2} {:>9.3} {:>8.1} {:>8.1}",
            phase.name,
            phase.seconds,
            phase.floor_seconds,
            phase.operations / 1e9,
            phase.bytes / 1e9,
            100.0 * phase.flop_utilisation,
            100.0 * phase.bandwidth_share
        );
    }
    let _ = writeln!(out, "{:<22} {:>9.4}\n", "whole", report.seconds);
    let _ = writeln!(
        out,
        "tokens a second        {:.0}\nshare of the ceiling   {:.1} %",
        report.tokens_per_second,
        100.0 * report.ceiling_share
    );
    let source = match report.peak.source {
        PeakSource::Published => "the chip's data sheet",
        PeakSource::Measured => "the ceilings below",
    };
    let _ = writeln!(
        out,
        "model FLOPs            {:.1} % of {:.2} TFLOP/s, by {source}\nmemory bandwidth       {:.1} % of {:.1} GB/s, likewise",
        100.0 * report.flop_utilisation,
        report.peak.tflops,
        100.0 * report.bandwidth_share,
        report.peak.gb_per_second
    );
    if let Some(calls) = report.calls_per_token {
        let _ = writeln!(
            out,
            "calls a token          {} to the device; one of them repeats {}",
            calls.made, calls.recorded
        );
    }
    if let Some(mebibytes) = report.peak_rss_mib {
        let _ = writeln!(
            out,
            "peak memory            {} MiB",
            thousands(mebibytes.round() as u64)
        );
    }
    for ceiling in &report.product_ceilings {
        let _ = writeln!(
            out,
            "ceiling of products    {:.0} GFLOP/s with {} rows",
            ceiling.gflops, ceiling.rows
        );
    }
    let _ = writeln!(
        out,
        "memory                 {:.1} GB/s read",
        report.read_gb_per_second
    );
    out
}
