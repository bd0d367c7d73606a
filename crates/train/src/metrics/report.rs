//! What a run achieved, read from its metrics log.

use super::MetricsRow;

/// The figures of the table at the end of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunReport {
    /// One entry a held-out set, in the order they were first evaluated.
    pub evals: Vec<EvalChange>,
    /// Up to four equal parts of the run, in order.
    pub periods: Vec<Period>,
}

/// Accuracy without hints on a held-out set, first and last evaluation.
#[derive(Clone, Debug, PartialEq)]
pub struct EvalChange {
    /// Name of the set.
    pub name: String,
    /// Step and accuracy of the first evaluation.
    pub first: (usize, f64),
    /// Step and accuracy of the last evaluation; the first one if there was only one.
    pub last: (usize, f64),
}

/// Means over consecutive steps.
#[derive(Clone, Debug, PartialEq)]
pub struct Period {
    /// First step.
    pub first_step: usize,
    /// Last step.
    pub last_step: usize,
    /// Mean accuracy of each round.
    pub round_accuracies: Vec<f64>,
    /// Mean hint rate.
    pub hint_rate: f64,
    /// Mean reward.
    pub reward: f64,
}

impl RunReport {
    /// Reads the figures out of the lines of a log, in order.
    pub fn of(rows: &[MetricsRow]) -> Self {
        let mut evals: Vec<EvalChange> = Vec::new();
        for row in rows {
            for (key, &accuracy) in &row.values {
                let name = key
                    .strip_prefix("eval/")
                    .and_then(|rest| rest.strip_suffix("/accuracy"));
                let Some(name) = name else { continue };
                let at = (row.step, accuracy);
                match evals.iter_mut().find(|change| change.name == name) {
                    Some(change) => change.last = at,
                    None => evals.push(EvalChange {
                        name: name.into(),
                        first: at,
                        last: at,
                    }),
                }
            }
        }
        let steps: Vec<&MetricsRow> = rows
            .iter()
            .filter(|row| row.get("reward/mean").is_some())
            .collect();
        let parts = steps.len().min(4);
        let periods = (0..parts)
            .map(|part| {
                Period::of(&steps[part * steps.len() / parts..(part + 1) * steps.len() / parts])
            })
            .collect();
        Self { evals, periods }
    }
}

impl Period {
    fn of(rows: &[&MetricsRow]) -> Self {
        let mean_of = |key: &str| mean(rows.iter().filter_map(|row| row.get(key)));
        let rounds = rows
            .iter()
            .map(|row| row.round_accuracies().len())
            .max()
            .unwrap_or(0);
        Self {
            first_step: rows.first().map_or(0, |row| row.step),
            last_step: rows.last().map_or(0, |row| row.step),
            round_accuracies: (1..=rounds)
                .map(|round| mean_of(&format!("hint/round_{round}/accuracy")))
                .collect(),
            hint_rate: mean_of("hint/rate/mean"),
            reward: mean_of("reward/mean"),
        }
    }
}

/// Mean; 0 of nothing.
fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (count, sum) = values.fold((0usize, 0.0), |(count, sum), value| {
        (count + 1, sum + value)
    });
    if count == 0 { 0.0 } else { sum / count as f64 }
}

#[cfg(test)]
mod tests {
    use super::super::{RoundMetrics, StepMetrics};
    use super::*;

    fn row(step: usize, accuracy: f64) -> MetricsRow {
        let rounds = vec![
            RoundMetrics {
                accuracy,
                hint_rate: 0.5,
                ..Default::default()
            },
            RoundMetrics {
                accuracy: 0.5,
                hint_rate: 0.5,
                ..Default::default()
            },
        ];
        MetricsRow::from(&StepMetrics {
            step,
            rollouts: 1,
            rounds,
            hint_rate_mean: 1.0 / step as f64,
            ..Default::default()
        })
    }

    fn eval(step: usize, accuracy: f64) -> MetricsRow {
        MetricsRow {
            step,
            values: [("eval/hard/accuracy".to_string(), accuracy)].into(),
        }
    }

    #[test]
    fn periods_are_equal_parts_in_order() {
        let rows: Vec<MetricsRow> = (1..=10).map(|step| row(step, step as f64 / 10.0)).collect();
        let report = RunReport::of(&rows);
        let bounds: Vec<_> = report
            .periods
            .iter()
            .map(|period| (period.first_step, period.last_step))
            .collect();
        assert_eq!(bounds, [(1, 2), (3, 5), (6, 7), (8, 10)]);
        assert!((report.periods[3].round_accuracies[0] - 0.9).abs() < 1e-12);
        assert_eq!(report.periods[0].round_accuracies[1], 0.5);
        assert_eq!(report.periods[0].hint_rate, 0.75);
    }

    #[test]
    fn evaluations_before_and_after_are_found_among_steps() {
        let rows = [eval(0, 0.1), row(1, 0.5), eval(2, 0.3), eval(4, 0.6)];
        let report = RunReport::of(&rows);
        assert_eq!(
            report.evals,
            [EvalChange {
                name: "hard".into(),
                first: (0, 0.1),
                last: (4, 0.6)
            }]
        );
        assert_eq!(report.periods.len(), 1);
    }

    #[test]
    fn an_empty_log_gives_an_empty_report() {
        assert_eq!(RunReport::of(&[]), RunReport::default());
    }
}
