//! `seele data`: look into a data set, convert it, filter it by a model, let a server annotate it.

mod annotate;
mod filter;

use crate::exit::{self, Unusable};
use crate::hub;
use crate::model_place;
use crate::numbers::{percent, thousands};
use crate::output::{Output, print};
use seele_data::inspect::{GoldCheck, Inspection, Measures, Spread};
use seele_data::{FieldMapping, Layout, Problem, ProblemReader, ProblemWriter};
use seele_hub::Kind;
use seele_policy::model::ModelFiles;
use seele_policy::tokenizer::Tokenizer;
use seele_verify::{Extraction, Mode, Options, Verdict, compare_answers, verify_choice};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// Look into files of problems, convert, filter or annotate them.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    Inspect(InspectArgs),
    Convert(ConvertArgs),
    Filter(filter::Args),
    Annotate(annotate::Args),
}

/// Count rows, steps and lengths, check golds with the verifier, show five problems.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  seele data inspect gsm8k/train.jsonl
  seele data inspect train.parquet --model models/smollm2
  seele data inspect hf://openai/gsm8k/main/test-00000-of-00001.parquet
  seele data inspect other.jsonl --map problem=messages.0.content --map answer=meta.gold")]
struct InspectArgs {
    #[command(flatten)]
    input: Input,
    /// Count lengths in tokens of this model (as for `seele eval`) instead of characters.
    #[arg(long, value_name = "MODEL")]
    model: Option<PathBuf>,
    /// Print the result as one JSON object.
    #[arg(long)]
    json: bool,
}

/// Write a data set as JSON lines in the schema that every command reads.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  seele data convert train.parquet train.jsonl
  seele data convert math.jsonl math.jsonl.gz --layout math --limit 1000
  seele data convert other.jsonl ours.jsonl --map problem=q --map answer=work --map answer_in=last-box")]
struct ConvertArgs {
    #[command(flatten)]
    input: Input,
    /// File to write: `*.jsonl` or `*.jsonl.gz`.
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// Write only the first problems.
    #[arg(long)]
    limit: Option<usize>,
    /// Replace OUT if it exists.
    #[arg(long)]
    overwrite: bool,
}

#[derive(Debug, clap::Args)]
struct Input {
    /// JSON lines (also in gzip), Parquet, or a folder of such files; or hf://owner/name[@revision][/file], a
    /// data set of the Hugging Face hub.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Columns of the file: seele, gsm8k, math, deepmath, verl, luffy, uft [default: told by its first row].
    #[arg(long, value_parser = layout, conflicts_with = "map")]
    layout: Option<Layout>,
    /// Where another layout has `problem`, `answer`, `solution`, `steps`, `id`, `choices`, by dotted
    /// paths; `answer_in` is whole-field, last-box, after-hashes or answer-tag. Repeat for each field.
    #[arg(long, value_name = "FIELD=PATH", value_parser = map_entry)]
    map: Vec<(String, String)>,
}

fn layout(name: &str) -> Result<Layout, String> {
    serde_json::from_value(Value::from(name)).map_err(|error| error.to_string())
}

fn map_entry(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((field, path)) => Ok((field.trim().to_owned(), path.trim().to_owned())),
        None => Err("write FIELD=PATH, for example `answer=meta.gold`".into()),
    }
}

impl Input {
    /// The file or folder, on this machine.
    fn place(&self, output: &Output) -> anyhow::Result<PathBuf> {
        hub::local(Kind::DataSet, &self.file, output)
    }

    fn open(&self, output: &Output) -> anyhow::Result<ProblemReader> {
        Ok(self.open_at(&self.place(output)?)?)
    }

    fn open_at(&self, place: &Path) -> Result<ProblemReader, Unusable> {
        let layout = match self.map.is_empty() {
            true => self.layout.clone(),
            false => Some(Layout::Mapping(mapping(&self.map)?)),
        };
        ProblemReader::open(place, layout).map_err(unusable)
    }
}

fn mapping(entries: &[(String, String)]) -> Result<FieldMapping, Unusable> {
    let mut fields = Map::new();
    for (field, path) in entries {
        if fields.insert(field.clone(), path.clone().into()).is_some() {
            return Err(Unusable(format!(
                "--map: `{field}` is given twice; keep one"
            )));
        }
    }
    serde_json::from_value(Value::Object(fields))
        .map_err(|error| Unusable(format!("--map: {error}")))
}

fn unusable(error: impl ToString) -> Unusable {
    Unusable(error.to_string())
}

/// Runs the command.
///
/// # Errors
/// Data or a model that cannot be used, or a file that cannot be written.
pub(crate) fn run(args: &Args, output: &Output) -> anyhow::Result<u8> {
    match &args.action {
        Action::Inspect(args) => inspect(args, output)?,
        Action::Convert(args) => convert(args, output)?,
        Action::Filter(args) => return filter::run(args, output),
        Action::Annotate(args) => return annotate::run(args, output),
    }
    Ok(exit::DONE)
}

fn inspect(args: &InspectArgs, output: &Output) -> anyhow::Result<()> {
    let problems = args.input.open(output)?;
    let files = match &args.model {
        Some(model) => Some(ModelFiles::open(&model_place::find(model, output)?)?),
        None => None,
    };
    let tokenizer = files.as_ref().map(ModelFiles::tokenizer);
    let measures = Measures {
        unit: if tokenizer.is_some() {
            "tokens"
        } else {
            "characters"
        },
        length: &|text| length(tokenizer, text),
        gold: &check_gold,
    };
    let found = Inspection::of(problems, &measures).map_err(unusable)?;
    if args.json {
        return print(&format!("{}\n", serde_json::to_string(&found)?));
    }
    print(&report(&args.input.file.display().to_string(), &found))
}

fn length(tokenizer: Option<&Tokenizer>, text: &str) -> Result<usize, seele_data::BoxError> {
    Ok(match tokenizer {
        Some(tokenizer) => tokenizer.encode(text, false)?.len(),
        None => text.chars().count(),
    })
}

/// The gold under the verifier's default settings; in a solution the answer may stand without a box.
fn check_gold(problem: &Problem) -> GoldCheck {
    let mut options = if problem.choices.is_empty() {
        Options::default()
    } else {
        Options::with_mode(Mode::Choice)
    };
    let compared = compare_answers(&problem.answer, "0", &options);
    if options.mode != Mode::Choice {
        options.extraction = Extraction::Fallback;
    }
    let solution_agrees = problem.solution.as_deref().map(|solution| {
        // Equations and sentences as golds have no mark in their solutions, they are its end.
        solution.trim_end().ends_with(problem.answer.trim())
            || verify_choice(solution, &problem.answer, &problem.choices, &options).is_correct()
    });
    GoldCheck {
        readable: compared.verdict != Verdict::GoldUnreadable,
        solution_agrees,
    }
}

fn convert(args: &ConvertArgs, output: &Output) -> anyhow::Result<()> {
    let problems = args.input.open(output)?;
    let mut writer = ProblemWriter::create(&args.output, args.overwrite).map_err(unusable)?;
    for problem in problems.take(args.limit.unwrap_or(usize::MAX)) {
        let problem = problem.map_err(unusable)?;
        writer.write(&problem)?;
    }
    let rows = writer.finish()?;
    tracing::info!(
        "wrote {} problems to `{}`",
        thousands(rows),
        args.output.display()
    );
    Ok(())
}

/// The inspection for people.
fn report(name: &str, found: &Inspection) -> String {
    let mut out = format!("{name}\n\n");
    let count = |rows: usize, of: usize| {
        let share = (of > 0).then(|| rows as f64 / of as f64);
        format!("{:>10}  {:>7}", thousands(rows as u64), percent(share))
    };
    let mut line = |label: &str, value: String| out.push_str(&format!("{label:<34}{value}\n"));
    line("layout", format!("{:>10}", found.layouts.join(", ")));
    line("problems", format!("{:>10}", thousands(found.rows as u64)));
    for (label, rows, of) in [
        ("with a solution", found.with_solution, found.rows),
        ("with steps", found.with_steps, found.rows),
        ("multiple choice", found.with_choices, found.rows),
        (
            "gold readable by the verifier",
            found.gold_readable,
            found.rows,
        ),
        (
            "solution ends in the gold",
            found.solution_agrees,
            found.with_solution,
        ),
    ] {
        line(label, count(rows, of));
    }
    out.push_str(&format!(
        "\n{:<22}{:>9}{:>9}{:>9}{:>9}{:>9}\n",
        "", "min", "median", "mean", "95 %", "max"
    ));
    for (label, spread) in [
        (format!("problem, {}", found.unit), found.problem_length),
        (format!("solution, {}", found.unit), found.solution_length),
        ("steps".to_owned(), found.steps),
    ] {
        if let Some(Spread {
            min,
            median,
            p95,
            max,
            mean,
        }) = spread
        {
            out.push_str(&format!(
                "{label:<22}{min:>9}{median:>9}{mean:>9.1}{p95:>9}{max:>9}\n"
            ));
        }
    }
    if !found.fields.is_empty() {
        let fields = found
            .fields
            .iter()
            .map(|(name, rows)| format!("{name} ({})", thousands(*rows as u64)));
        out.push_str(&format!(
            "\nfurther fields: {}\n",
            fields.collect::<Vec<_>>().join(", ")
        ));
    }
    for problem in &found.samples {
        out.push_str(&format!(
            "\n{}\n  problem   {}\n",
            problem.id,
            one_line(&problem.problem)
        ));
        for (index, choice) in problem.choices.iter().enumerate() {
            let letter = Problem::choice_letter(index).unwrap_or('?');
            out.push_str(&format!("  {letter})        {}\n", one_line(choice)));
        }
        out.push_str(&format!("  answer    {}\n", one_line(&problem.answer)));
        match problem.steps.split_last() {
            Some((last, before)) => {
                if let Some(step) = before.first() {
                    out.push_str(&format!("  step 1    {}\n", one_line(step)));
                }
                out.push_str(&format!(
                    "  step {:<4} {}\n",
                    problem.steps.len(),
                    one_line(last)
                ));
            }
            None => {
                if let Some(solution) = &problem.solution {
                    out.push_str(&format!("  solution  {}\n", one_line(solution)));
                }
            }
        }
    }
    out
}

/// A text on one line, cut where it would run over the terminal.
fn one_line(text: &str) -> String {
    const CHARACTERS: usize = 84;
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match words.char_indices().nth(CHARACTERS) {
        Some((end, _)) => format!("{}...", &words[..end]),
        None => words,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use seele_data::arithmetic::{AnswerForm, ArithmeticConfig, Split};

    #[test]
    fn a_mapping_is_put_together_from_its_parts() {
        let entry = |text: &str| map_entry(text).unwrap();
        let entries = ["problem=q", "answer = a.0", "answer_in=last-box"].map(entry);
        let built = mapping(&entries).unwrap();
        assert_eq!(built.answer.to_string(), "a.0");
        for (entries, message) in [
            (vec!["problem=q"], "missing field `answer`"),
            (
                vec!["problem=q", "answer=a", "gold=b"],
                "unknown field `gold`",
            ),
            (vec!["problem=q", "problem=r"], "`problem` is given twice"),
            (
                vec!["problem=q..r", "answer=a"],
                "`q..r` is not a field path",
            ),
        ] {
            let entries: Vec<_> = entries.into_iter().map(entry).collect();
            let error = mapping(&entries).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
        assert!(map_entry("problem").is_err());
    }

    #[test]
    fn golds_of_generated_problems_agree_with_their_solutions() {
        for answer in [AnswerForm::Plain, AnswerForm::Boxed, AnswerForm::Hashes] {
            let config = ArithmeticConfig {
                answer,
                count: 20,
                ..ArithmeticConfig::default()
            };
            for problem in config.generate(Split::Train).unwrap() {
                let expected = GoldCheck {
                    readable: true,
                    solution_agrees: Some(true),
                };
                assert_eq!(check_gold(&problem), expected, "{:?}", problem.solution);
            }
        }
    }

    #[test]
    fn long_texts_are_cut_to_a_line() {
        assert_eq!(one_line("a\n  b"), "a b");
        let long = one_line(&"é".repeat(200));
        assert_eq!(long.chars().count(), 87);
    }
}
