//! `seele eval`: accuracy of a model on benchmarks or on a file of problems, without hints.

mod file;
mod suite;

use crate::device::DeviceArg;
use crate::exit::{self, Unusable};
use crate::output::{Output, print};
use crate::sampling::{probability, temperature};
use seele_data::{Layout, PromptTemplate};
use seele_eval::{Benchmark, Comparison};
use seele_verify::Extraction;
use seele_verify::reward::RewardKind;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::num::NonZeroUsize;
use std::path::PathBuf;

/// Measure the accuracy of a model on benchmarks or on a file of problems, without hints.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  seele eval models/smollm2 --suite math --data data --out runs/eval-smollm2
  seele eval models/smollm2 --suite gsm8k,math500 --data data --limit 200 --template chat-boxed
  seele eval --compare runs/eval-smollm2 runs/eval-trained
  seele eval quickstart --data problems.jsonl --template bare
  seele eval models/smollm2 --data gsm8k/test.jsonl --limit 100 --template chat-boxed
  seele eval models/smollm2 --data aime24.jsonl --temperature 0.6 --top-p 0.95 --samples 32 --json

Greedy decoding and one sample a problem give pass@1; with more samples the accuracy is the mean over
all of them (avg@k).

Suites: math (GSM8K, MATH-500, Minerva, OlympiadBench, AIME24, AMC23), general (ARC-C, GPQA-D, MMLU-Pro),
paper (both), or names and .toml files of benchmarks, separated by commas. Options given here take the
place of a benchmark's own settings. Repeating a command with its --out goes on where it stopped.")]
pub(crate) struct Args {
    #[arg(help = crate::model_place::HELP)]
    #[arg(required_unless_present = "compare")]
    model: Option<PathBuf>,
    /// Benchmarks: a suite (math, general, paper), or names and .toml files separated by commas.
    #[arg(long, value_name = "NAME,...", conflicts_with_all = ["layout", "reward", "system", "responses"])]
    suite: Option<String>,
    /// File of problems; with --suite, the folder of the benchmarks' files [default: data].
    #[arg(long, required_unless_present_any = ["suite", "compare"])]
    data: Option<PathBuf>,
    /// With --suite: folder of responses and results [default: runs/eval-<n>].
    #[arg(long, requires = "suite", value_name = "DIR")]
    out: Option<PathBuf>,
    /// With --suite: leave out benchmarks whose problems are not there instead of refusing.
    #[arg(long, requires = "suite")]
    skip_missing: bool,
    /// Compare two results, folders of --out or single records, by a paired test.
    #[arg(long, num_args = 2, value_names = ["A", "B"], conflicts_with_all = ["model", "data", "suite"])]
    compare: Option<Vec<PathBuf>>,
    /// Columns of the file [default: told by its first row].
    #[arg(long, value_parser = named::<Layout>)]
    layout: Option<Layout>,
    /// Use only the first problems.
    #[arg(long)]
    limit: Option<NonZeroUsize>,
    /// Prompt template: a name, or a `.toml` file [default: r1-zero, or the benchmark's].
    #[arg(long)]
    template: Option<String>,
    /// System message of a chat template.
    #[arg(long)]
    system: Option<String>,
    /// How answers are judged.
    #[arg(long, default_value = "math", value_parser = named::<RewardKind>)]
    reward: RewardKind,
    /// Where the answer is looked for: boxed, fallback, answer-tag, choice [default: as the reward has it].
    #[arg(long, value_parser = named::<Extraction>)]
    extraction: Option<Extraction>,
    /// Longest completion, tokens [default: what the model has room for, at most 2048,
    /// or the benchmark's].
    #[arg(long)]
    max_new_tokens: Option<NonZeroUsize>,
    /// Completions of each problem [default: 1, or the benchmark's].
    #[arg(long, short = 'n')]
    samples: Option<NonZeroUsize>,
    /// Divisor of the logits; 0 always takes the likeliest token [default: 0, or the benchmark's].
    #[arg(long, value_parser = temperature)]
    temperature: Option<f64>,
    /// Draw from the smallest set of tokens with this probability [default: 1, or the benchmark's].
    #[arg(long, value_parser = probability)]
    top_p: Option<f64>,
    /// Draw from so many likeliest tokens.
    #[arg(long)]
    top_k: Option<NonZeroUsize>,
    /// Source of every draw.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    device: DeviceArg,
    /// Write every completion with its verdict to this file, one JSON object a line.
    #[arg(long, value_name = "FILE")]
    responses: Option<PathBuf>,
    /// Print the result as one JSON object.
    #[arg(long)]
    json: bool,
}

/// Template of the paper's evaluation.
const TEMPLATE: &str = "r1-zero";

/// A value of an option that a recipe has too, by its name there.
fn named<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_value(Value::from(text)).map_err(|error| error.to_string())
}

/// Runs the command.
///
/// # Errors
/// A model or data that cannot be used, or a failure while sampling.
pub(crate) fn run(args: &Args, output: &Output) -> anyhow::Result<u8> {
    match (&args.compare, &args.model, &args.suite, &args.data) {
        (Some(results), ..) => compare(results, args.json),
        (None, Some(model), Some(suite), _) => suite::run(args, suite, model, output),
        (None, Some(model), None, Some(data)) => file::on_file(args, model, data, output),
        // The argument parser asks for a model and for `--data` or `--suite`.
        _ => Err(Unusable(
            "name a model and `--data` or `--suite`, or two results to `--compare`".into(),
        )
        .into()),
    }
}

fn compare(results: &[PathBuf], json: bool) -> anyhow::Result<u8> {
    let [a, b] = results else {
        return Err(Unusable("`--compare` takes two results".into()).into());
    };
    let comparison = Comparison::read(a, b).map_err(|error| Unusable(error.to_string()))?;
    let text = match json {
        true => format!("{}\n", serde_json::to_string_pretty(&comparison)?),
        false => comparison.to_markdown(),
    };
    print(&text)?;
    Ok(exit::DONE)
}

impl Args {
    /// A benchmark with the settings that were given in the place of its own.
    fn adapted(&self, mut benchmark: Benchmark) -> anyhow::Result<Benchmark> {
        if let Some(template) = &self.template {
            benchmark.template.clone_from(template);
            if template.ends_with(".toml") {
                // Relative to here, not to the benchmark's file.
                let path = std::path::absolute(template)?;
                benchmark.template = path.display().to_string();
            }
        }
        if let Some(extraction) = self.extraction {
            benchmark.extraction = extraction;
        }
        if let Some(tokens) = self.max_new_tokens {
            benchmark.max_new_tokens = tokens.get();
        }
        if let Some(samples) = self.samples {
            benchmark.samples = samples.get();
        }
        if let Some(temperature) = self.temperature {
            benchmark.temperature = temperature;
            if temperature == 0.0 && self.samples.is_none() {
                benchmark.samples = 1;
            }
        }
        if let Some(top_p) = self.top_p {
            benchmark.top_p = top_p;
        }
        if let Some(top_k) = self.top_k {
            benchmark.top_k = top_k.get();
        }
        benchmark
            .check()
            .map_err(|error| Unusable(error.to_string()))?;
        Ok(benchmark)
    }

    fn template(&self) -> anyhow::Result<PromptTemplate> {
        let name = self.template.as_deref().unwrap_or(TEMPLATE);
        let template = if name.ends_with(".toml") {
            PromptTemplate::from_file(name)
        } else {
            PromptTemplate::named(name)
        };
        let template = template.map_err(|error| Unusable(error.to_string()))?;
        match &self.system {
            None => Ok(template),
            Some(system) => Ok(template
                .with_system(Some(system))
                .map_err(|error| Unusable(error.to_string()))?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_have_the_names_of_the_recipe() {
        assert_eq!(named::<Extraction>("answer-tag"), Ok(Extraction::AnswerTag));
        assert!(named::<RewardKind>("maths").unwrap_err().contains("math"));
    }
}
