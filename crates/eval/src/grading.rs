//! How responses are judged, and what of it a record must say.

use seele_data::Problem;
use seele_verify::{Extraction, Grade, Mode, Options, verify_choice};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::benchmark::Benchmark;
use crate::error::EvalError;

/// Name of the verifier. All crates of the workspace bear the same version.
pub const GRADER: &str = "seele-verify";

/// The verifier and its settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Grader {
    /// Name of the verifier.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Where the answer is looked for.
    pub extraction: Extraction,
    /// How it is compared.
    pub mode: Mode,
    /// Relative tolerance on numeric golds.
    pub relative_tolerance: Option<f64>,
    /// Column with the absolute tolerance of a row.
    pub absolute_tolerance_field: Option<String>,
    /// Work limit of a comparison, in steps.
    pub fuel: u32,
}

impl Grader {
    /// The grader of a benchmark.
    pub fn new(benchmark: &Benchmark) -> Self {
        Self {
            name: GRADER.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            extraction: benchmark.extraction,
            mode: benchmark.mode,
            relative_tolerance: benchmark.relative_tolerance,
            absolute_tolerance_field: benchmark.absolute_tolerance_field.clone(),
            fuel: Options::DEFAULT_FUEL,
        }
    }

    /// The verifier's settings for answers that are compared with each other.
    pub fn options(&self) -> Options {
        Options {
            mode: self.mode,
            extraction: self.extraction,
            relative_tolerance: self.relative_tolerance,
            fuel: self.fuel,
            ..Options::default()
        }
    }

    /// The verifier's settings for a problem, whose row may bring a tolerance.
    ///
    /// # Errors
    /// [`EvalError::Field`] if that tolerance is no number from 0.
    pub(crate) fn options_for(&self, problem: &Problem) -> Result<Options, EvalError> {
        let mut options = self.options();
        let Some(field) = &self.absolute_tolerance_field else {
            return Ok(options);
        };
        let tolerance = match problem.extra.get(field) {
            None | Some(Value::Null) => return Ok(options),
            Some(Value::String(text)) if text.trim().is_empty() => return Ok(options),
            Some(Value::String(text)) => text.trim().parse::<f64>().ok(),
            Some(other) => other.as_f64(),
        };
        let tolerance = tolerance.filter(|tolerance| *tolerance >= 0.0 && tolerance.is_finite());
        let tolerance = tolerance.ok_or_else(|| EvalError::Field {
            id: problem.id.clone(),
            field: field.clone(),
            expected: "a number, 0 or more",
        })?;
        // The verifier takes a share of the gold. A gold that is no plain number is compared exactly.
        if let Ok(gold) = problem.answer.trim().parse::<f64>() {
            let relative = if gold == 0.0 {
                tolerance
            } else {
                tolerance / gold.abs()
            };
            if relative < 1.0 {
                options.relative_tolerance = Some(relative);
            }
        }
        Ok(options)
    }

    /// Judges a response; the options come from [`Self::options_for`].
    pub(crate) fn grade<'a>(problem: &Problem, response: &'a str, options: &Options) -> Grade<'a> {
        verify_choice(response, &problem.answer, &problem.choices, options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use seele_data::Place;

    fn graded(error: Value, answer: &str, response: &str) -> Result<bool, EvalError> {
        let benchmark = Benchmark::named("olympiadbench")?;
        let problem = Problem {
            id: "p".into(),
            problem: "?".into(),
            answer: answer.into(),
            solution: None,
            steps: Vec::new(),
            choices: Vec::new(),
            answer_index: None,
            extra: [("error".to_owned(), error)].into_iter().collect(),
            place: Place::Generated {
                generator: "test",
                index: 0,
            },
        };
        let options = Grader::new(&benchmark).options_for(&problem)?;
        Ok(Grader::grade(&problem, response, &options).is_correct())
    }

    #[test]
    fn the_tolerance_of_a_row_is_absolute() {
        let error = || Value::from("1e-1");
        assert!(graded(error(), "4.2", r"\boxed{4.29}").unwrap());
        assert!(!graded(error(), "4.2", r"\boxed{4.31}").unwrap());
        assert!(graded(0.5.into(), "-4", r"\boxed{-4.4}").unwrap());
        assert!(!graded(Value::Null, "4.2", r"\boxed{4.29}").unwrap());
        assert!(graded("about".into(), "4.2", "").is_err());
    }
}
