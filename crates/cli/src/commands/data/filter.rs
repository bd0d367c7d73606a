//! `seele data filter`: how often a model solves each problem, and the problems worth training on.

use super::{Input, unusable};
use crate::device::{DeviceArg, tell_shortages};
use crate::exit::{self, Unusable};
use crate::interrupt;
use crate::model_place;
use crate::numbers::{percent, thousands};
use crate::output::{Output, print};
use crate::sampling::{ACTIVE_BRANCHES, probability, temperature};
use crate::server_args::ServerArgs;
use anyhow::Context;
use indicatif::ProgressBar;
use seele_client::Outcome;
use seele_data::{Problem, ProblemWriter};
use seele_eval::{
    Benchmark, EvalError, Evaluation, Header, ProblemSet, Record, Served, ServedEvaluation,
};
use seele_policy::decoder::Compute;
use seele_policy::device::DeviceChoice;
use seele_policy::model::ModelFiles;
use seele_rollout::LocalEngine;
use seele_train::benchmarks::Examinee;
use seele_verify::Extraction;
use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

/// Files of the output folder.
const RESPONSES: &str = "responses.jsonl";
const COUNTED: &str = "counted.jsonl";
const KEPT: &str = "kept.jsonl";
/// Columns with the pass count of a problem and of how many samples it is.
const PASS_COUNT: &str = "pass_count";
const PASS_SAMPLES: &str = "pass_samples";
/// Refused problems that a message names at most.
const REFUSALS_NAMED: usize = 5;
/// What the first Ctrl-C says while a server is asked.
const STOPPING: &str = "stopping when the questions under way are answered; press Ctrl-C again to stop at once (no answer so far is lost)";

/// Count how often a model solves each problem, and keep those of a wanted difficulty.
///
/// The paper keeps the problems of DeepMath-103K on which the model fails in all 8 samples (App. E): `--keep all-wrong`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  seele data filter deepmath.parquet --model models/qwen --out filtered
  seele data filter train.jsonl --model quickstart --template bare --keep 1..7 --out filtered
  seele data filter train.jsonl --endpoint http://gpu:8000/v1 --model Qwen2.5-1.5B --out filtered

With --endpoint, a template with messages is put to /v1/chat/completions, where the server adds the model's
chat markup, any other as text to /v1/completions. Failures of the server are waited out. Problems that it
refuses are named and come into no file.

The output folder gets kept.jsonl, counted.jsonl (every problem with its pass_count and pass_samples) and
responses.jsonl (every response with its verdict). Repeating the command with its --out goes on where it
stopped; with another --keep it takes the counts that are there.")]
pub(crate) struct Args {
    #[command(flatten)]
    input: Input,
    #[arg(long, help = format!("{}; with --endpoint, its name there", model_place::HELP))]
    model: PathBuf,
    /// Let a server of OpenAI's interface sample (vLLM, llama.cpp, hosted services, `seele serve`); where it
    /// begins, for example http://127.0.0.1:8000/v1.
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// Folder of the results, new or of a run that was stopped.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Completions of each problem.
    #[arg(long, short = 'n', default_value = "8")]
    samples: NonZeroUsize,
    /// Divisor of the logits.
    #[arg(long, default_value_t = 0.6, value_parser = temperature)]
    temperature: f64,
    /// Draw from the smallest set of tokens with this probability.
    #[arg(long, default_value_t = 1.0, value_parser = probability)]
    top_p: f64,
    /// Longest completion, tokens; less if the model has no room for it.
    #[arg(long, default_value = "2048")]
    max_new_tokens: NonZeroUsize,
    /// Prompt template: a name, or a `.toml` file.
    #[arg(long, default_value = "r1-zero")]
    template: String,
    /// Where the answer is looked for: boxed, fallback, answer-tag, choice.
    #[arg(long, default_value = "boxed", value_parser = extraction)]
    extraction: Extraction,
    /// Which problems are kept: all-wrong, or a range of right samples such as 1..7 (both included).
    #[arg(long, default_value = "all-wrong")]
    keep: Keep,
    /// Use only the first problems.
    #[arg(long)]
    limit: Option<NonZeroUsize>,
    /// Source of every draw.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    device: DeviceArg,
    #[command(flatten)]
    asking: ServerArgs,
}

fn extraction(name: &str) -> Result<Extraction, String> {
    serde_json::from_value(name.into()).map_err(|error| error.to_string())
}

/// Right samples of a problem that is kept, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Keep {
    least: usize,
    most: usize,
}

impl std::str::FromStr for Keep {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "all-wrong" {
            return Ok(Self { least: 0, most: 0 });
        }
        let number = |text: &str| text.trim().parse::<usize>().ok();
        let ends = text.split_once("..");
        match ends.and_then(|(least, most)| Some((number(least)?, number(most)?))) {
            Some((least, most)) if least <= most => Ok(Self { least, most }),
            _ => Err("expected all-wrong, or a range such as 1..7".into()),
        }
    }
}

/// Runs the command.
///
/// # Errors
/// Data or a model that cannot be used, or a failure while sampling or writing.
pub(super) fn run(args: &Args, output: &Output) -> anyhow::Result<u8> {
    if args.keep.most > args.samples.get() {
        return Err(Unusable(format!(
            "`--keep {}..{}` asks for more right samples than the {} of `--samples`",
            args.keep.least, args.keep.most, args.samples
        ))
        .into());
    }
    let limit = args.limit.map_or(usize::MAX, NonZeroUsize::get);
    let place = args.input.place(output)?;
    let problems = args.input.open_at(&place)?.take(limit);
    let problems: Vec<Problem> = problems.collect::<Result<_, _>>().map_err(unusable)?;
    let mut set = ProblemSet::of_path(&place, problems.clone()).map_err(refused)?;
    set.file.clone_from(&args.input.file);
    let record = match &args.endpoint {
        None => sampled(args, set, output)?,
        Some(_) if args.device.device != DeviceChoice::Cpu => {
            return Err(Unusable(
                "`--device` is for a model that is read here; leave it out with `--endpoint`"
                    .into(),
            )
            .into());
        }
        Some(endpoint) => match served(args, endpoint, set, output)? {
            Served::Whole(record) => *record,
            Served::Partial(outcome) => return Ok(unfinished(outcome)),
        },
    };
    let refusals = refusals(&record);
    let mut right: HashMap<&str, usize> = HashMap::new();
    for response in &record.responses {
        *right.entry(&response.id).or_insert(0) += usize::from(response.correct);
    }
    let samples = record.header.samples;
    let mut counted = ProblemWriter::create(args.out.join(COUNTED), true)?;
    let mut kept = ProblemWriter::create(args.out.join(KEPT), true)?;
    let mut by_count = vec![0; samples + 1];
    for mut problem in problems {
        if refusals.contains_key(problem.id.as_str()) {
            continue;
        }
        let passed = right.get(problem.id.as_str()).copied().unwrap_or(0);
        problem.extra.insert(PASS_COUNT.into(), passed.into());
        problem.extra.insert(PASS_SAMPLES.into(), samples.into());
        counted.write(&problem)?;
        if (args.keep.least..=args.keep.most).contains(&passed) {
            kept.write(&problem)?;
        }
        by_count[passed] += 1;
    }
    let all = counted.finish()?;
    let kept = kept.finish()?;
    print(&report(&by_count, all, kept, &args.out.join(KEPT)))?;
    Ok(exit::DONE)
}

/// What is put to the model, and how.
fn benchmark(args: &Args, problems: &[Problem]) -> anyhow::Result<Benchmark> {
    Ok(Benchmark {
        name: "filter".into(),
        title: "filter".into(),
        files: vec![args.input.file.clone()],
        rows: None,
        get: None,
        template: match args.template.ends_with(".toml") {
            true => std::path::absolute(&args.template)?.display().to_string(),
            false => args.template.clone(),
        },
        extraction: args.extraction,
        mode: match problems.iter().all(|problem| problem.choices.is_empty()) {
            true => seele_verify::Mode::Math,
            false => seele_verify::Mode::Choice,
        },
        relative_tolerance: None,
        absolute_tolerance_field: None,
        shuffle_choices: None,
        samples: args.samples.get(),
        temperature: args.temperature,
        top_p: args.top_p,
        top_k: 0,
        max_new_tokens: args.max_new_tokens.get(),
        groups: Vec::new(),
        folder: None,
    })
}

/// The responses of a model here, asked for as far as they are not in the record yet.
fn sampled(args: &Args, set: ProblemSet, output: &Output) -> anyhow::Result<Record> {
    args.device.check()?;
    let benchmark = benchmark(args, &set.problems)?;
    let (path, name) = model_place::find_named(&args.model, output)?;
    let files = ModelFiles::open(&path)?;
    let (config, tokenizer) = (files.config(), files.tokenizer());
    let mut examinee = Examinee::new(name, config, tokenizer, files.chat_template())?;
    // Everything that can be wrong with the input is found before the weights are read.
    Evaluation::new(&benchmark, set.clone(), examinee.subject(), args.seed).map_err(refused)?;
    let model = files.read()?;
    examinee.identify(&model.parameters, Compute::F32);
    let decoder = args.device.decoder(&model.config, &model.parameters)?;
    drop(model);

    let evaluation = Evaluation::new(&benchmark, set, examinee.subject(), args.seed)?;
    let bar = bar(evaluation.header(), output);
    let mut engine = LocalEngine::new(&decoder, evaluation.sampling(), ACTIVE_BRANCHES)?;
    let record = evaluation.run(&mut engine, &args.out.join(RESPONSES), &mut |at| {
        bar.set_position(at.done as u64);
    });
    bar.finish_and_clear();
    tell_shortages(&decoder);
    record.map_err(explain)
}

/// The responses of a model behind a server, likewise.
fn served(args: &Args, endpoint: &str, set: ProblemSet, output: &Output) -> anyhow::Result<Served> {
    let model = args.model.to_string_lossy();
    let server = args.asking.server(endpoint, &model).map_err(unusable)?;
    let benchmark = benchmark(args, &set.problems)?;
    let evaluation = ServedEvaluation::new(&benchmark, set, &model, args.seed).map_err(refused)?;
    let stop = interrupt::stop_flag(STOPPING).context("cannot listen for Ctrl-C")?;
    let bar = bar(evaluation.header(), output);
    let record = args.out.join(RESPONSES);
    let served = evaluation.run(&server, &record, &stop, &mut |at| {
        bar.set_position(at.done as u64);
    });
    bar.finish_and_clear();
    served.map_err(explain)
}

fn bar(header: &Header, output: &Output) -> ProgressBar {
    let bar = ProgressBar::new(header.responses() as u64);
    output.progress.add(bar)
}

/// The problems that the server would not answer, with what it said.
fn refusals(record: &Record) -> BTreeMap<&str, &str> {
    let responses = record.responses.iter().filter(|response| response.refused);
    let refusals: BTreeMap<&str, &str> = responses
        .map(|response| (response.id.as_str(), response.reason.as_str()))
        .collect();
    for (id, reason) in refusals.iter().take(REFUSALS_NAMED) {
        tracing::warn!("problem `{id}` is in no file: the server refuses it with {reason}");
    }
    if refusals.len() > REFUSALS_NAMED {
        let more = thousands((refusals.len() - REFUSALS_NAMED) as u64);
        tracing::warn!("and {more} more; `{RESPONSES}` has them all");
    }
    refusals
}

fn unfinished(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Stopped => {
            tracing::info!("stopped; repeat the command to go on");
            exit::INTERRUPTED
        }
        Outcome::Finished | Outcome::Unanswered => {
            tracing::warn!(
                "some questions could not be answered; repeat the command to ask them again"
            );
            exit::FAILED
        }
    }
}

fn explain(error: EvalError) -> anyhow::Error {
    match error {
        EvalError::Client(client) if client.is_failure() => client.into(),
        EvalError::OtherSettings { .. } | EvalError::BrokenRecord { .. } | EvalError::Client(_) => {
            refused(error)
        }
        error => anyhow::Error::new(error).context("cannot finish sampling"),
    }
}

fn refused(error: EvalError) -> anyhow::Error {
    Unusable(error.to_string()).into()
}

fn report(by_count: &[usize], all: u64, kept: u64, path: &Path) -> String {
    let mut text = String::from("right samples  problems\n");
    for (passed, problems) in by_count.iter().enumerate() {
        let share = percent(Some(*problems as f64 / all.max(1) as f64));
        text.push_str(&format!(
            "{passed:>13}  {:>8}  {share:>7}\n",
            thousands(*problems as u64)
        ));
    }
    text.push_str(&format!(
        "kept {} of {} problems in {}\n",
        thousands(kept),
        thousands(all),
        path.display()
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_all_wrong_or_a_range() {
        let keep = |text: &str| text.parse::<Keep>().map(|keep| (keep.least, keep.most));
        assert_eq!(keep("all-wrong"), Ok((0, 0)));
        assert_eq!(keep("1..7"), Ok((1, 7)));
        for bad in ["7..1", "1", "..", "a..b", ""] {
            assert!(keep(bad).is_err(), "{bad}");
        }
    }
}
