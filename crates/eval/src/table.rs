//! Results of several benchmarks as a table.

use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;

use crate::benchmark::SUITES;
use crate::error::EvalError;
use crate::record::Record;
use crate::statistics;
use crate::summary::Summary;

/// Results of a model, in the order of the benchmarks.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Table {
    /// One for each benchmark.
    pub benchmarks: Vec<Summary>,
    /// Plain means of the suites all of whose benchmarks are there, `(suite, 0..=1)`.
    pub averages: Vec<(&'static str, f64)>,
}

impl Table {
    /// The table of some records.
    pub fn new(records: &[Record]) -> Self {
        let benchmarks: Vec<Summary> = records.iter().map(Summary::new).collect();
        let accuracy = |name: &&str| {
            let named = |summary: &&Summary| summary.header.benchmark == **name;
            benchmarks
                .iter()
                .find(named)
                .map(|summary| summary.accuracy)
        };
        let averages = SUITES.iter().filter_map(|(suite, names)| {
            let all: Option<Vec<f64>> = names.iter().map(accuracy).collect();
            Some((*suite, statistics::mean(&all?)))
        });
        Self {
            averages: averages.collect(),
            benchmarks,
        }
    }

    /// Writes `results.md`, `results.json` and `results.csv` into a folder.
    ///
    /// # Errors
    /// [`EvalError::Write`].
    pub fn write(&self, folder: &Path) -> Result<(), EvalError> {
        let files = [
            ("results.md", self.to_markdown()),
            ("results.json", self.to_json()),
            ("results.csv", self.to_csv()),
        ];
        for (name, text) in files {
            let path = folder.join(name);
            std::fs::write(&path, text).map_err(|source| EvalError::Write { path, source })?;
        }
        Ok(())
    }

    /// The accuracies in one row as in papers, in percent, then a row for each benchmark with
    /// everything that says how sure and how clean they are.
    pub fn to_markdown(&self) -> String {
        let mut text = String::new();
        let titles = self.benchmarks.iter().map(|s| s.header.title.clone());
        let averages = self
            .averages
            .iter()
            .map(|(suite, _)| format!("avg. {suite}"));
        let titles: Vec<String> = titles.chain(averages).collect();
        let shares = self.benchmarks.iter().map(|s| s.accuracy);
        let shares = shares.chain(self.averages.iter().map(|(_, mean)| *mean));
        let shares: Vec<String> = shares.map(percent).collect();
        row(&mut text, &titles);
        rule(&mut text, 0, titles.len());
        row(&mut text, &shares);
        text.push('\n');

        let ks: Vec<usize> = {
            let mut ks: Vec<usize> = self
                .benchmarks
                .iter()
                .flat_map(|s| s.pass_at.keys().copied())
                .collect();
            ks.sort_unstable();
            ks.dedup();
            ks.into_iter().filter(|&k| k > 1).collect()
        };
        let voted = self
            .benchmarks
            .iter()
            .any(|summary| summary.majority.is_some());
        let mut head: Vec<String> = [
            "benchmark",
            "measure",
            "problems",
            "accuracy",
            "95 % interval",
        ]
        .map(String::from)
        .into();
        head.extend(ks.iter().map(|k| format!("pass@{k}")));
        head.extend(voted.then(|| "majority".into()));
        head.extend(["cut off", "no answer", "undecided", "tokens"].map(String::from));
        row(&mut text, &head);
        rule(&mut text, 2, head.len() - 2);
        for summary in &self.benchmarks {
            let share = |count: usize| percent(count as f64 / summary.responses.max(1) as f64);
            let (low, high) = summary.interval;
            let mut cells = vec![
                summary.header.title.clone(),
                summary.measure.clone(),
                problems(summary),
                percent(summary.accuracy),
                format!("{} to {}", percent(low), percent(high)),
            ];
            let or_dash = |share: Option<f64>| share.map_or_else(|| "-".into(), percent);
            cells.extend(ks.iter().map(|k| or_dash(summary.pass_at.get(k).copied())));
            cells.extend(voted.then(|| or_dash(summary.majority)));
            cells.extend([summary.truncated, summary.no_answer, summary.undecided].map(share));
            cells.push(format!("{:.0}", summary.mean_tokens));
            row(&mut text, &cells);
        }
        self.add_notes(&mut text);
        text
    }

    fn add_notes(&self, text: &mut String) {
        if let Some(Summary { header, .. }) = self.benchmarks.first() {
            let grader = &header.grader;
            let _ = write!(
                text,
                "\nAccuracies and shares in percent; intervals by bootstrap over problems. Model `{}`, judged by {} {}.\n",
                header.model.name, grader.name, grader.version
            );
        }
    }

    /// Everything, with the settings of each result.
    pub fn to_json(&self) -> String {
        // Only maps with text or integer keys, and finite numbers: always JSON.
        serde_json::to_string_pretty(self)
            .map_or_else(|error| error.to_string(), |json| json + "\n")
    }

    /// A line for each benchmark.
    pub fn to_csv(&self) -> String {
        let mut text = String::from(
            "model,benchmark,measure,problems,samples,accuracy,interval_low,interval_high,standard_error,sampling_error,majority,correct,truncated,no_answer,undecided,mean_tokens,temperature,top_p,top_k,max_new_tokens,seed,grader,data_sha256\n",
        );
        let optional =
            |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
        for summary in &self.benchmarks {
            let header = &summary.header;
            let cells = [
                quoted(&header.model.name),
                header.benchmark.clone(),
                summary.measure.clone(),
                header.problems.to_string(),
                header.samples.to_string(),
                summary.accuracy.to_string(),
                summary.interval.0.to_string(),
                summary.interval.1.to_string(),
                optional(summary.standard_error),
                optional(summary.sampling_error),
                optional(summary.majority),
                summary.correct.to_string(),
                summary.truncated.to_string(),
                summary.no_answer.to_string(),
                summary.undecided.to_string(),
                summary.mean_tokens.to_string(),
                header.temperature.to_string(),
                header.top_p.to_string(),
                header.top_k.to_string(),
                header.max_new_tokens.to_string(),
                header.seed.to_string(),
                format!("{} {}", header.grader.name, header.grader.version),
                header.data.sha256.clone(),
            ];
            text.push_str(&cells.join(","));
            text.push('\n');
        }
        text
    }
}

/// The number of problems, `first N of M` where not all were asked.
fn problems(summary: &Summary) -> String {
    let (asked, rows) = (summary.header.problems, summary.header.data.rows);
    match asked == rows {
        true => asked.to_string(),
        false => format!("first {asked} of {rows}"),
    }
}

fn quoted(text: &str) -> String {
    match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    }
}

/// A share in percent with one place, without the sign.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.1}", 100.0 * share)
}

/// Appends a row; a bar inside a cell would begin another.
pub(crate) fn row(text: &mut String, cells: &[String]) {
    for cell in cells {
        text.push_str("| ");
        text.push_str(&cell.replace('|', "\\|"));
        text.push(' ');
    }
    text.push_str("|\n");
}

/// Appends the line below a head: `left` columns of text, `right` columns of numbers.
pub(crate) fn rule(text: &mut String, left: usize, right: usize) {
    text.push_str(&"| --- ".repeat(left));
    text.push_str(&"| ---: ".repeat(right));
    text.push_str("|\n");
}
