//! `seele verify`: verdicts on answers, from JSON lines or for one response.

use crate::exit::{self, Unusable};
use anyhow::Context;
use clap::{Args, ValueEnum};
use seele_verify::{Extraction, Mode, Options, compare_answers, explain, verify_choice};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::borrow::Cow;
use std::io::{BufRead, BufReader, BufWriter, Write};

/// Check answers against reference answers.
///
/// Reads JSON lines from standard input and writes one verdict a line, in the same order. A line has `gold`,
/// and `response` (a model output, from which the answer is extracted) or `prediction` (an answer); optionally `id`,
/// `extract` (`boxed`, `fallback`, `choice`, `answer_tag`), `choices` (option texts) and `rel_tol`. Other fields are ignored.
/// The verdict line has `id`, `verdict`, `correct`, `extracted` and `reason`.
///
/// With --response and --gold it explains one verdict step by step instead.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// How answers are compared.
    #[arg(long, value_enum, default_value_t = ModeName::Math)]
    mode: ModeName,
    /// Where answers are looked for in responses, unless a line says otherwise [default: boxed; choice in mode choice].
    #[arg(long, value_enum)]
    extract: Option<ExtractionName>,
    /// Relative tolerance for numeric golds, unless a line says otherwise [default: none; 1e-4 in mode numeric].
    #[arg(long)]
    rel_tol: Option<f64>,
    /// One model output, to be explained.
    #[arg(long, requires = "gold")]
    response: Option<String>,
    /// The reference answer of that output.
    #[arg(long, requires = "response")]
    gold: Option<String>,
    /// An option text of that problem, in order; repeat it for every option.
    #[arg(long, requires = "response")]
    choice: Vec<String>,
}

/// Names of [`Mode`].
#[derive(Clone, Copy, Debug, ValueEnum)]
enum ModeName {
    /// Equal in value and in form.
    Strict,
    /// Mathematically equal.
    Math,
    /// Equal within a relative tolerance.
    Numeric,
    /// The same choice letter.
    Choice,
}

/// Names of [`Extraction`].
#[derive(Clone, Copy, Debug, ValueEnum)]
enum ExtractionName {
    /// The last box.
    Boxed,
    /// The last box, else the last answer phrase, else the last number.
    Fallback,
    /// A choice letter.
    Choice,
    /// The last answer tag.
    AnswerTag,
}

impl VerifyArgs {
    fn options(&self) -> anyhow::Result<Options> {
        let mode = match self.mode {
            ModeName::Strict => Mode::Strict,
            ModeName::Math => Mode::Math,
            ModeName::Numeric => Mode::Numeric,
            ModeName::Choice => Mode::Choice,
        };
        let mut options = Options::with_mode(mode);
        if let Some(extraction) = self.extract {
            options.extraction = match extraction {
                ExtractionName::Boxed => Extraction::Boxed,
                ExtractionName::Fallback => Extraction::Fallback,
                ExtractionName::Choice => Extraction::Choice,
                ExtractionName::AnswerTag => Extraction::AnswerTag,
            };
        }
        options.relative_tolerance = self.rel_tol.map(tolerance).transpose()?;
        Ok(options)
    }
}

fn tolerance(value: f64) -> anyhow::Result<f64> {
    if (0.0..1.0).contains(&value) {
        Ok(value)
    } else {
        Err(Unusable(format!(
            "a relative tolerance must be in [0, 1), not {value}"
        ))
        .into())
    }
}

/// One line of input.
#[derive(Deserialize)]
struct Question<'a> {
    #[serde(default)]
    id: Option<Value>,
    #[serde(borrow)]
    gold: Cow<'a, str>,
    #[serde(borrow, default)]
    prediction: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    response: Option<Cow<'a, str>>,
    #[serde(default)]
    extract: Option<Extraction>,
    #[serde(default)]
    choices: Vec<String>,
    #[serde(default)]
    rel_tol: Option<f64>,
}

/// One line of output.
#[derive(Serialize)]
struct Answer<'a> {
    id: Option<Value>,
    verdict: &'static str,
    correct: bool,
    extracted: Option<&'a str>,
    reason: &'static str,
}

/// Runs the command; the value is the exit code.
///
/// # Errors
/// An unreadable line, with its number, or a failing stream.
pub(crate) fn run(args: &VerifyArgs) -> anyhow::Result<u8> {
    let options = args.options()?;
    let mut output = BufWriter::new(std::io::stdout().lock());
    if let (Some(response), Some(gold)) = (&args.response, &args.gold) {
        for (step, text) in explain(response, gold, &args.choice, &options)
            .steps
            .iter()
            .enumerate()
        {
            writeln!(output, "{}. {text}", step + 1)?;
        }
        output.flush()?;
        return Ok(exit::DONE);
    }
    let mut input = BufReader::with_capacity(1 << 16, std::io::stdin().lock());
    let mut line = String::new();
    for number in 1usize.. {
        line.clear();
        if input
            .read_line(&mut line)
            .context("cannot read standard input")?
            == 0
        {
            break;
        }
        if line.trim().is_empty() {
            continue;
        }
        judge(&line, &options, &mut output)
            .with_context(|| format!("in line {number} of standard input"))?;
        // Whoever feeds one line at a time gets each verdict at once; a file is answered in blocks.
        if input.buffer().is_empty() {
            output.flush().context("cannot write to standard output")?;
        }
    }
    output.flush().context("cannot write to standard output")?;
    Ok(exit::DONE)
}

/// Answers one line.
fn judge(line: &str, options: &Options, output: &mut impl Write) -> anyhow::Result<()> {
    let question: Question<'_> = serde_json::from_str(line)?;
    let mut options = *options;
    if let Some(extraction) = question.extract {
        options.extraction = extraction;
    }
    if let Some(value) = question.rel_tol {
        options.relative_tolerance = Some(tolerance(value)?);
    }
    let answer = match (&question.prediction, &question.response) {
        (Some(prediction), _) => {
            let comparison = compare_answers(&question.gold, prediction, &options);
            write_answer(
                question.id,
                comparison.verdict,
                Some(prediction),
                comparison.reason.text(),
                output,
            )
        }
        (None, Some(response)) => {
            let grade = verify_choice(response, &question.gold, &question.choices, &options);
            write_answer(
                question.id,
                grade.verdict,
                grade.extracted.as_deref(),
                grade.reason.text(),
                output,
            )
        }
        (None, None) => anyhow::bail!(
            "neither `response` nor `prediction`: one of them is needed beside `gold`"
        ),
    };
    answer.context("cannot write to standard output")
}

fn write_answer(
    id: Option<Value>,
    verdict: seele_verify::Verdict,
    extracted: Option<&str>,
    reason: &'static str,
    output: &mut impl Write,
) -> anyhow::Result<()> {
    let answer = Answer {
        id,
        verdict: verdict.name(),
        correct: verdict.is_correct(),
        extracted,
        reason,
    };
    serde_json::to_writer(&mut *output, &answer)?;
    output.write_all(b"\n")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(line: &str) -> Value {
        let mut output = Vec::new();
        judge(line, &Options::default(), &mut output).unwrap();
        serde_json::from_slice(&output).unwrap()
    }

    #[test]
    fn lines_are_answered_with_their_ids() {
        let answer =
            answered(r#"{"id": 7, "prediction": "0.5", "gold": "\\frac12", "note": "ignored"}"#);
        assert_eq!(answer["id"], 7);
        assert_eq!(
            (answer["verdict"].as_str(), answer["correct"].as_bool()),
            (Some("correct"), Some(true))
        );
        let answer = answered(
            r#"{"id": "a", "response": "The answer is (C).", "gold": "C", "extract": "choice", "choices": ["x", "y", "z"]}"#,
        );
        assert_eq!(
            (answer["extracted"].as_str(), answer["correct"].as_bool()),
            (Some("C"), Some(true))
        );
        let answer = answered(
            r#"{"response": "<answer>3.0001</answer>", "gold": "3", "extract": "answer_tag", "rel_tol": 1e-4}"#,
        );
        assert_eq!(
            (answer["id"].is_null(), answer["correct"].as_bool()),
            (true, Some(true))
        );
        let answer = answered(r#"{"response": "nothing", "gold": "3"}"#);
        assert_eq!(answer["verdict"], "no-answer");
    }

    #[test]
    fn unusable_lines_say_why() {
        let error = |line: &str| {
            judge(line, &Options::default(), &mut Vec::new())
                .unwrap_err()
                .to_string()
        };
        assert!(error(r#"{"gold": "1"}"#).contains("`prediction`"));
        assert!(error(r#"{"prediction": "1"}"#).contains("gold"));
        assert!(error(r#"{"prediction": "1", "gold": "1", "rel_tol": 2}"#).contains("[0, 1)"));
    }
}
