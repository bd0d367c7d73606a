//! `seele eval MODEL --suite ...`: benchmarks by their protocols.

use super::Args;
use crate::device::tell_shortages;
use crate::exit::{self, Unusable};
use crate::hub;
use crate::model_place;
use crate::output::{Output, print};
use crate::run_folder;
use crate::sampling::ACTIVE_BRANCHES;
use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use seele_eval::{Benchmark, EvalError, Evaluation, ProblemSet, Record, Table};
use seele_policy::decoder::{Compute, Decoder};
use seele_policy::model::ModelFiles;
use seele_rollout::LocalEngine;
use seele_train::benchmarks::Examinee;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

/// Where problems are looked for without `--data`.
const DATA_FOLDER: &str = "data";

/// Puts the benchmarks of `list` to a model.
///
/// # Errors
/// An unusable benchmark, set, model or folder; or a failure while sampling.
pub(super) fn run(args: &Args, list: &str, model: &Path, output: &Output) -> anyhow::Result<u8> {
    args.device.check()?;
    let chosen = problems(args, list, output)?;
    // Everything that can be wrong with the input is found before the weights are read.
    let (path, name) = model_place::find_named(model, output)?;
    let files = ModelFiles::open(&path)?;
    let mut examinee = Examinee::new(
        name,
        files.config(),
        files.tokenizer(),
        files.chat_template(),
    )?;
    for (benchmark, set) in &chosen {
        Evaluation::new(benchmark, set.clone(), examinee.subject(), args.seed).map_err(unusable)?;
    }
    let model = files.read()?;
    examinee.identify(&model.parameters, Compute::F32);
    let decoder = args.device.decoder(&model.config, &model.parameters)?;
    drop(model);

    let out = match &args.out {
        Some(out) => out.clone(),
        None => run_folder::create(None, "eval")?,
    };
    tracing::info!(
        "records go to `{}`; a stopped evaluation goes on with `--out {0}`",
        out.display()
    );
    let mut records: Vec<Record> = Vec::with_capacity(chosen.len());
    for (benchmark, set) in chosen {
        let evaluation = Evaluation::new(&benchmark, set, examinee.subject(), args.seed)?;
        records.push(record(&evaluation, &decoder, &out, output)?);
    }
    tell_shortages(&decoder);
    let table = Table::new(&records);
    table.write(&out)?;
    let result = match args.json {
        true => table.to_json(),
        false => table.to_markdown(),
    };
    print(&result).with_context(|| format!("the results are in `{}`", out.display()))?;
    tracing::info!("every response and the results are in `{}`", out.display());
    Ok(exit::DONE)
}

/// The benchmarks with their problems; all that are missing are named together.
fn problems(
    args: &Args,
    list: &str,
    output: &Output,
) -> anyhow::Result<Vec<(Benchmark, ProblemSet)>> {
    let folder = args.data.clone().unwrap_or_else(|| DATA_FOLDER.into());
    let limit = args.limit.map(NonZeroUsize::get);
    let (mut chosen, mut missing) = (Vec::new(), Vec::new());
    for benchmark in Benchmark::select(list).map_err(unusable)? {
        let mut benchmark = args.adapted(benchmark)?;
        benchmark.prompt_template().map_err(unusable)?;
        hub::bring_files(&mut benchmark, &folder, output)?;
        match ProblemSet::load(&benchmark, &folder, limit) {
            Ok(set) => chosen.push((benchmark, set)),
            Err(error @ EvalError::MissingSet { .. }) => missing.push(error.to_string()),
            Err(error) => return Err(unusable(error)),
        }
    }
    if !args.skip_missing && !missing.is_empty() {
        let advice = "put it there, or leave it out with `--skip-missing`";
        return Err(Unusable(format!("{}\n{advice}", missing.join("\n"))).into());
    }
    for set in &missing {
        tracing::warn!("left out: {set}");
    }
    match chosen.is_empty() {
        true => Err(Unusable("no benchmark is left to be evaluated".into()).into()),
        false => Ok(chosen),
    }
}

/// One benchmark from where its record stands.
fn record(
    evaluation: &Evaluation<'_>,
    decoder: &Decoder,
    out: &Path,
    output: &Output,
) -> anyhow::Result<Record> {
    let header = evaluation.header();
    let path: PathBuf = out.join(format!("{}.jsonl", header.benchmark));
    let bar = output
        .progress
        .add(ProgressBar::new(header.responses() as u64));
    // A constant with known placeholders; a default style is the fallback.
    let style = ProgressStyle::with_template("{prefix} {bar:16} {pos} of {len}, ETA {eta}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.set_style(style.progress_chars("=> "));
    bar.set_prefix(header.title.clone());
    let mut engine = LocalEngine::new(decoder, evaluation.sampling(), ACTIVE_BRANCHES)?;
    let record = evaluation.run(&mut engine, &path, &mut |at| {
        if bar.position() == 0 && at.tokens == 0 && at.done > 0 {
            tracing::info!(
                "{}: {} of {} responses are there already",
                header.title,
                at.done,
                at.total
            );
        }
        bar.set_position(at.done as u64);
    });
    bar.finish_and_clear();
    record.map_err(|error| match error {
        EvalError::OtherSettings { .. } | EvalError::BrokenRecord { .. } => unusable(error),
        error => anyhow::Error::new(error).context(format!("cannot finish {}", header.title)),
    })
}

fn unusable(error: EvalError) -> anyhow::Error {
    Unusable(error.to_string()).into()
}
