//! Two results side by side, problem by problem.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use seele_random::Key;
use serde::Serialize;

use crate::error::EvalError;
use crate::record::Record;
use crate::statistics;
use crate::summary::{accuracy, by_problem};
use crate::table::{percent, row, rule};

/// Key coordinates of the draws of a comparison.
const BOOTSTRAP: u64 = 2;
const SIGNS: u64 = 3;

/// Two models on the benchmarks that both were put to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// The first model.
    pub a: String,
    /// The second model.
    pub b: String,
    /// Benchmark by benchmark, by name.
    pub benchmarks: Vec<ComparedBenchmark>,
    /// Names of benchmarks that only one side has.
    pub only_one: Vec<String>,
}

/// Two models on one benchmark.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ComparedBenchmark {
    /// Name in tables.
    pub title: String,
    /// Problems.
    pub problems: usize,
    /// Accuracy of the first, 0..=1.
    pub accuracy_a: f64,
    /// Accuracy of the second.
    pub accuracy_b: f64,
    /// Second minus first.
    pub difference: f64,
    /// 95 % interval of the difference by the paired bootstrap over problems.
    pub interval: (f64, f64),
    /// Problems that the first solves more often.
    pub better_a: usize,
    /// Problems that the second solves more often.
    pub better_b: usize,
    /// Two-sided p-value of "there is no difference".
    pub p_value: f64,
    /// Where it comes from: `exact McNemar` for one sample a problem on both sides, else
    /// `sign flips` of the problems' differences.
    pub test: &'static str,
    /// Settings that differ besides the model, each with both values.
    pub settings: Vec<String>,
}

impl Comparison {
    /// Compares two records, or all records of two folders.
    ///
    /// # Errors
    /// [`EvalError::NothingInCommon`], [`EvalError::OtherProblems`], or a record cannot be read.
    pub fn read(a: &Path, b: &Path) -> Result<Self, EvalError> {
        let (of_a, of_b) = (records(a)?, records(b)?);
        let name = |record: &Record| record.header.benchmark.clone();
        let mut benchmarks = Vec::new();
        let mut only_one: Vec<String> = Vec::new();
        for record in &of_a {
            match of_b.iter().find(|other| name(other) == name(record)) {
                Some(other) => benchmarks.push(ComparedBenchmark::new(record, other)?),
                None => only_one.push(name(record)),
            }
        }
        let in_a = |record: &&Record| of_a.iter().any(|other| name(other) == name(record));
        only_one.extend(of_b.iter().filter(|record| !in_a(record)).map(name));
        let model = |records: &[Record]| records.first().map(|r| r.header.model.name.clone());
        match (model(&of_a), model(&of_b)) {
            (Some(a), Some(b)) if !benchmarks.is_empty() => Ok(Self {
                a,
                b,
                benchmarks,
                only_one,
            }),
            _ => Err(EvalError::NothingInCommon {
                a: a.to_path_buf(),
                b: b.to_path_buf(),
            }),
        }
    }

    /// A row for each benchmark.
    pub fn to_markdown(&self) -> String {
        let mut text = format!("A: `{}`\nB: `{}`\n\n", self.a, self.b);
        let head = ["benchmark", "problems", "A", "B", "B - A", "95 % interval"];
        let head = head
            .into_iter()
            .chain(["better A", "better B", "p", "test"]);
        row(&mut text, &head.map(String::from).collect::<Vec<_>>());
        text.push_str("| --- ");
        rule(&mut text, 0, 8);
        // The last column is text.
        text.truncate(text.len() - 2);
        text.push_str("| --- |\n");
        for compared in &self.benchmarks {
            let signed = |share: f64| format!("{:+.1}", 100.0 * share);
            let cells = [
                compared.title.clone(),
                compared.problems.to_string(),
                percent(compared.accuracy_a),
                percent(compared.accuracy_b),
                signed(compared.difference),
                format!(
                    "{} to {}",
                    signed(compared.interval.0),
                    signed(compared.interval.1)
                ),
                compared.better_a.to_string(),
                compared.better_b.to_string(),
                format!("{:.4}", compared.p_value),
                compared.test.into(),
            ];
            row(&mut text, &cells);
        }
        text.push_str(
            "\nAccuracies in percent, differences in points; better: problems solved more often.\n",
        );
        for compared in self
            .benchmarks
            .iter()
            .filter(|compared| !compared.settings.is_empty())
        {
            let _ = writeln!(
                text,
                "{}: A and B differ in more than the model: {}.",
                compared.title,
                compared.settings.join(", ")
            );
        }
        if !self.only_one.is_empty() {
            let _ = writeln!(text, "Only on one side: {}.", self.only_one.join(", "));
        }
        text
    }
}

impl ComparedBenchmark {
    /// Lines two records of one benchmark up.
    ///
    /// # Errors
    /// [`EvalError::OtherProblems`] if they do not have the same problems with the same golds.
    pub fn new(a: &Record, b: &Record) -> Result<Self, EvalError> {
        let (of_a, of_b) = (by_problem(a), by_problem(b));
        let other = |reason: String| EvalError::OtherProblems {
            benchmark: a.header.title.clone(),
            a: a.header.model.name.clone(),
            b: b.header.model.name.clone(),
            reason,
        };
        if of_a.len() != of_b.len() {
            return Err(other(format!("{} and {} problems", of_a.len(), of_b.len())));
        }
        let (mut shares_a, mut shares_b) = (Vec::new(), Vec::new());
        for ((id_a, in_a), (id_b, in_b)) in of_a.iter().zip(&of_b) {
            let gold = |responses: &[&crate::Response]| responses.first().map(|r| r.gold.clone());
            if id_a != id_b {
                return Err(other(format!("`{id_a}` stands where `{id_b}` does")));
            }
            if gold(in_a) != gold(in_b) {
                return Err(other(format!("the golds of `{id_a}` differ")));
            }
            shares_a.push(accuracy(in_a));
            shares_b.push(accuracy(in_b));
        }
        let pairs = shares_a.iter().zip(&shares_b);
        let differences: Vec<f64> = pairs.map(|(a, b)| b - a).collect();
        let better_a = differences
            .iter()
            .filter(|difference| **difference < 0.0)
            .count();
        let better_b = differences
            .iter()
            .filter(|difference| **difference > 0.0)
            .count();
        let key = Key::new(a.header.seed);
        let single = a.header.samples == 1 && b.header.samples == 1;
        let (p_value, test) = match single {
            true => (statistics::mcnemar(better_a, better_b), "exact McNemar"),
            false => {
                let p = statistics::sign_flip_test(&differences, key.with(SIGNS));
                (p, "sign flips")
            }
        };
        let mut settings = a.header.differences(&b.header);
        settings.retain(|setting| !setting.starts_with("`model."));
        Ok(Self {
            title: a.header.title.clone(),
            problems: differences.len(),
            accuracy_a: statistics::mean(&shares_a),
            accuracy_b: statistics::mean(&shares_b),
            difference: statistics::mean(&differences),
            interval: statistics::bootstrap_interval(&differences, key.with(BOOTSTRAP)),
            better_a,
            better_b,
            p_value,
            test,
            settings,
        })
    }
}

/// The record itself, or the records of a folder by name.
fn records(path: &Path) -> Result<Vec<Record>, EvalError> {
    if !path.is_dir() {
        return Ok(vec![Record::read(path)?]);
    }
    let read = |source| EvalError::Read {
        path: path.to_path_buf(),
        source,
    };
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(path).map_err(read)? {
        let file = entry.map_err(read)?.path();
        if file.extension().is_some_and(|ending| ending == "jsonl") {
            files.push(file);
        }
    }
    files.sort();
    files.iter().map(|file| Record::read(file)).collect()
}
