//! The table at the end of a run.

use crate::numbers::percent;
use seele_train::metrics::RunReport;
use std::fmt::Write as _;
use std::path::Path;

/// The report as aligned text: accuracy without hints before and after, then how the rounds and
/// the hints moved, then where things are.
pub(crate) fn text(
    report: &RunReport,
    target_accuracy: Option<f64>,
    model: &Path,
    plot: Option<&Path>,
) -> String {
    let mut out = String::new();
    if !report.evals.is_empty() {
        let mut rows = vec![vec![
            "accuracy without hints".to_string(),
            "before".into(),
            "after".into(),
            "change".into(),
        ]];
        for change in &report.evals {
            let points = 100.0 * (change.last.1 - change.first.1);
            rows.push(vec![
                format!("  {}", change.name),
                percent(Some(change.first.1)),
                percent(Some(change.last.1)),
                format!("{points:+.1} points"),
            ]);
        }
        table(&mut out, &rows);
        out.push('\n');
    }
    if !report.periods.is_empty() {
        let mut header = vec!["mean over steps".to_string()];
        header.extend(
            report
                .periods
                .iter()
                .map(|period| format!("{}-{}", period.first_step, period.last_step)),
        );
        let mut rows = vec![header];
        let rounds = report
            .periods
            .iter()
            .map(|period| period.round_accuracies.len())
            .max()
            .unwrap_or(0);
        for round in 0..rounds {
            let mut row = vec![format!("  accuracy, round {}", round + 1)];
            row.extend(
                report
                    .periods
                    .iter()
                    .map(|period| figure(period.round_accuracies.get(round).copied())),
            );
            rows.push(row);
        }
        let mut row = vec!["  hint rate".to_string()];
        row.extend(
            report
                .periods
                .iter()
                .map(|period| figure(Some(period.hint_rate))),
        );
        rows.push(row);
        table(&mut out, &rows);
        if let Some(target) = target_accuracy {
            let _ = writeln!(out, "  (target accuracy {target})");
        }
        out.push('\n');
    }
    let _ = writeln!(out, "model  {}", model.display());
    if let Some(plot) = plot {
        let _ = writeln!(out, "plot   {}", plot.display());
    }
    out
}

fn figure(value: Option<f64>) -> String {
    value.map_or_else(|| "-".into(), |value| format!("{value:.2}"))
}

/// First column to the left, the others to the right.
fn table(out: &mut String, rows: &[Vec<String>]) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
    };
    let widths: Vec<usize> = (0..columns)
        .map(|column| width(column).unwrap_or(0))
        .collect();
    for row in rows {
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let _ = if column == 0 {
                write!(out, "{cell:<width$}")
            } else {
                write!(out, "  {cell:>width$}")
            };
        }
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use seele_train::metrics::{EvalChange, Period};

    #[test]
    fn report_is_a_readable_table() {
        let period = |first_step, last_step, accuracy: f64, hint_rate| Period {
            first_step,
            last_step,
            round_accuracies: vec![accuracy, 0.5],
            hint_rate,
            reward: accuracy,
        };
        let report = RunReport {
            evals: vec![
                EvalChange {
                    name: "easy".into(),
                    first: (0, 0.98),
                    last: (40, 1.0),
                },
                EvalChange {
                    name: "hard".into(),
                    first: (0, 0.0234),
                    last: (40, 0.4141),
                },
            ],
            periods: vec![period(1, 20, 0.91, 0.95), period(21, 40, 0.55, 0.3)],
        };
        let expected = "\
accuracy without hints  before    after        change
  easy                  98.0 %  100.0 %   +2.0 points
  hard                   2.3 %   41.4 %  +39.1 points

mean over steps      1-20  21-40
  accuracy, round 1  0.91   0.55
  accuracy, round 2  0.50   0.50
  hint rate          0.95   0.30
  (target accuracy 0.5)

model  runs/x-1/model
plot   runs/x-1/plots/hints.svg
";
        let text = text(
            &report,
            Some(0.5),
            Path::new("runs/x-1/model"),
            Some(Path::new("runs/x-1/plots/hints.svg")),
        );
        assert_eq!(text, expected);
    }
}
