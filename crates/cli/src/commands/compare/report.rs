//! What the runs of a comparison came to: table, JSON and curves.

use super::contestants::Contestant;
use crate::numbers::{duration, percent, thousands};
use crate::plots::{Curve, Panel, draw_panels};
use anyhow::Context;
use seele_train::metrics::{METRICS_FILE, MetricsRow, RunReport, read_metrics};
use seele_train::recipe::Recipe;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// One run, finished or failed.
pub(super) struct RunResult {
    label: String,
    seed: u64,
    /// Relative to the folder of the comparison.
    folder: String,
    /// What stopped it.
    error: Option<String>,
    /// Its metrics log; empty if it failed.
    rows: Vec<MetricsRow>,
}

impl RunResult {
    /// Reads a run's log.
    ///
    /// # Errors
    /// A log of a finished run that cannot be read.
    pub(super) fn read(
        label: &str,
        seed: u64,
        comparison: &Path,
        folder: &Path,
        error: Option<String>,
    ) -> anyhow::Result<Self> {
        let rows = match error {
            None => read_metrics(&folder.join(METRICS_FILE))?,
            Some(_) => Vec::new(),
        };
        let folder = folder.strip_prefix(comparison).unwrap_or(folder);
        Ok(Self {
            label: label.into(),
            seed,
            folder: folder.display().to_string(),
            error,
            rows,
        })
    }

    fn sum(&self, key: &str) -> f64 {
        self.rows.iter().filter_map(|row| row.get(key)).sum()
    }

    /// Accuracy on a set, before and after training.
    fn accuracy(&self, set: &str) -> Option<(f64, f64)> {
        let evals = RunReport::of(&self.rows).evals;
        let change = evals.into_iter().find(|change| change.name == set)?;
        Some((change.first.1, change.last.1))
    }
}

/// Mean and spread of a number over seeds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Summary {
    mean: f64,
    /// Sample standard deviation, divisor n - 1; `None` of one.
    deviation: Option<f64>,
}

impl Summary {
    /// `None` of nothing.
    pub(super) fn of(values: &[f64]) -> Option<Self> {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        (!values.is_empty()).then_some(Self {
            mean,
            deviation: (values.len() > 1).then(|| (squares / (count - 1.0)).sqrt()),
        })
    }

    fn text(summary: Option<Self>) -> String {
        match summary {
            None => "-".into(),
            Some(Self {
                mean,
                deviation: None,
            }) => percent(Some(mean)),
            Some(Self {
                mean,
                deviation: Some(deviation),
            }) => {
                format!("{:.1} ± {:.1} %", 100.0 * mean, 100.0 * deviation)
            }
        }
    }
}

/// All runs of a comparison.
pub(super) struct Comparison<'a> {
    recipe: &'a Recipe,
    /// The recipe of each contestant under the first seed.
    recipes: &'a [Recipe],
    contestants: &'a [Contestant],
    seeds: Vec<u64>,
    runs: Vec<RunResult>,
}

impl<'a> Comparison<'a> {
    pub(super) fn new(
        recipe: &'a Recipe,
        recipes: &'a [Recipe],
        contestants: &'a [Contestant],
        seeds: Vec<u64>,
        runs: Vec<RunResult>,
    ) -> Self {
        Self {
            recipe,
            recipes,
            contestants,
            seeds,
            runs,
        }
    }

    /// Writes `comparison.md`, `comparison.json` and, once there is something to draw, `curves.svg`;
    /// returns the table.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub(super) fn write(&self, folder: &Path) -> anyhow::Result<String> {
        let table = self.markdown();
        let json = serde_json::to_string_pretty(&self.json())?;
        for (name, text) in [
            ("comparison.md", &table),
            ("comparison.json", &(json + "\n")),
        ] {
            let path = folder.join(name);
            fs::write(&path, text).with_context(|| format!("cannot write `{}`", path.display()))?;
        }
        if self.runs.iter().any(|run| !run.rows.is_empty()) {
            let title = format!("{}: mean over seeds", self.recipe.name);
            draw_panels(&folder.join("curves.svg"), &title, self.panels())?;
        }
        Ok(table)
    }

    fn runs_of<'b>(&'b self, label: &'b str) -> impl Iterator<Item = &'b RunResult> {
        self.runs.iter().filter(move |run| run.label == label)
    }

    fn finished<'b>(&'b self, label: &'b str) -> impl Iterator<Item = &'b RunResult> {
        self.runs_of(label).filter(|run| run.error.is_none())
    }

    /// Names of the held-out sets and benchmarks.
    fn sets(&self) -> impl Iterator<Item = &str> {
        let eval = &self.recipe.eval;
        let benchmarks = eval.benchmarks.iter().flat_map(|plan| &plan.benchmarks);
        let sets = eval.sets.iter().map(|set| set.name.as_str());
        sets.chain(benchmarks.map(|benchmark| benchmark.name.as_str()))
    }

    /// Accuracy on a set before training, one value a seed.
    fn before(&self, set: &str) -> Vec<f64> {
        let of_seed = |seed: &u64| {
            let mut runs = self.runs.iter().filter(|run| run.seed == *seed);
            runs.find_map(|run| Some(run.accuracy(set)?.0))
        };
        self.seeds.iter().filter_map(of_seed).collect()
    }

    fn after(&self, label: &str, set: &str) -> Vec<f64> {
        self.finished(label)
            .filter_map(|run| Some(run.accuracy(set)?.1))
            .collect()
    }

    fn markdown(&self) -> String {
        let sets: Vec<&str> = self.sets().collect();
        let mut out = format!(
            "Accuracy without hints on held-out problems, mean ± sample standard deviation over seeds {}.\n\n| method |",
            self.seeds
                .iter()
                .map(u64::to_string)
                .collect::<Vec<_>>()
                .join(", ")
        );
        for set in &sets {
            let _ = write!(out, " {set} |");
        }
        out.push_str(" runs | rollouts a run | time a run |\n| --- |");
        out.push_str(&" ---: |".repeat(sets.len() + 3));
        out.push_str("\n| before training |");
        for set in &sets {
            let _ = write!(out, " {} |", Summary::text(Summary::of(&self.before(set))));
        }
        out.push_str(" | | |\n");
        for Contestant { label, .. } in self.contestants {
            let _ = write!(out, "| {label} |");
            for set in &sets {
                let _ = write!(
                    out,
                    " {} |",
                    Summary::text(Summary::of(&self.after(label, set)))
                );
            }
            let mean = |key: &str| {
                let sums: Vec<f64> = self.finished(label).map(|run| run.sum(key)).collect();
                Summary::of(&sums).map(|summary| summary.mean)
            };
            let rollouts = mean("rollout/count").map(|count| thousands(count.round() as u64));
            let seconds =
                mean("time/step").map(|seconds| duration(Duration::from_secs_f64(seconds)));
            let (finished, all) = (self.finished(label).count(), self.runs_of(label).count());
            let _ = writeln!(
                out,
                " {finished} of {all} | {} | {} |",
                rollouts.unwrap_or_else(|| "-".into()),
                seconds.unwrap_or_else(|| "-".into())
            );
        }
        let failed: Vec<&RunResult> = self.runs.iter().filter(|run| run.error.is_some()).collect();
        if !failed.is_empty() {
            out.push_str("\nFailed:\n\n");
            for run in failed {
                let error = run.error.as_deref().unwrap_or_default().replace('\n', " ");
                let _ = writeln!(out, "- {}, seed {}: {error}", run.label, run.seed);
            }
        }
        out
    }

    fn json(&self) -> Value {
        let summary = |values: Vec<f64>| {
            let summary = Summary::of(&values);
            json!({
                "mean": summary.map(|summary| summary.mean),
                "sample_standard_deviation": summary.and_then(|summary| summary.deviation),
                "values": values,
            })
        };
        let by_set = |values: &dyn Fn(&str) -> Vec<f64>| -> BTreeMap<String, Value> {
            self.sets()
                .map(|set| (set.to_string(), summary(values(set))))
                .collect()
        };
        let methods: Vec<Value> = self
            .contestants
            .iter()
            .zip(self.recipes)
            .map(|(Contestant { label, method, overrides }, recipe)| {
                let runs: Vec<Value> = self
                    .runs_of(label)
                    .map(|run| {
                        let accuracy: BTreeMap<&str, Option<f64>> =
                            self.sets().map(|set| (set, run.accuracy(set).map(|pair| pair.1))).collect();
                        json!({
                            "seed": run.seed,
                            "folder": run.folder,
                            "error": run.error,
                            "accuracy": accuracy,
                            "rollouts": run.sum("rollout/count"),
                            "trained_tokens": run.sum("tokens/train"),
                            "seconds": run.sum("time/step"),
                        })
                    })
                    .collect();
                json!({
                    "label": label,
                    "method": method,
                    "settings": overrides,
                    "rollouts_per_problem": recipe.objective.needs_rollouts().then_some(recipe.rollout.rollouts_per_problem),
                    "accuracy": by_set(&|set| self.after(label, set)),
                    "runs": runs,
                })
            })
            .collect();
        json!({
            "version": 1,
            "recipe": self.recipe.name,
            "seeds": self.seeds,
            "problems_per_step": self.recipe.rollout.problems_per_step,
            "before": by_set(&|set| self.before(set)),
            "methods": methods,
        })
    }

    /// Held-out accuracy with every seed faint behind the mean, then reward and hint rate.
    fn panels(&self) -> Vec<Panel> {
        let curves = |key: &str, smooth: bool| {
            let curve = |Contestant { label, .. }: &Contestant| {
                let runs: Vec<Vec<(f64, f64)>> = self
                    .finished(label)
                    .map(|run| {
                        let points = run
                            .rows
                            .iter()
                            .map(|row| Some((row.step as f64, row.get(key)?)));
                        points.flatten().collect()
                    })
                    .collect();
                Curve {
                    label: label.clone(),
                    points: mean_curve(&runs),
                    behind: if smooth { Vec::new() } else { runs },
                    smooth,
                }
            };
            self.contestants.iter().map(curve).collect()
        };
        let mut panels: Vec<Panel> = self
            .sets()
            .map(|set| Panel {
                title: format!("accuracy without hints on held-out problems: {set}"),
                curves: curves(&format!("eval/{set}/accuracy"), false),
                target: None,
            })
            .collect();
        for (title, key) in [
            ("mean reward of the rollouts, hinted or not", "reward/mean"),
            (
                "mean hint rate (share of the solution revealed)",
                "hint/rate/mean",
            ),
        ] {
            panels.push(Panel {
                title: title.into(),
                curves: curves(key, true),
                target: None,
            });
        }
        panels
    }
}

/// Mean over runs at every step that all of them have.
fn mean_curve(runs: &[Vec<(f64, f64)>]) -> Vec<(f64, f64)> {
    let mut sums: BTreeMap<u64, (f64, usize)> = BTreeMap::new();
    for &(step, value) in runs.iter().flatten() {
        let (sum, count) = sums.entry(step as u64).or_default();
        *sum += value;
        *count += 1;
    }
    sums.into_iter()
        .filter(|(_, (_, count))| *count == runs.len())
        .map(|(step, (sum, count))| (step as f64, sum / count as f64))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_is_the_sample_standard_deviation_over_seeds() {
        let summary = Summary::of(&[0.1, 0.2, 0.6]).unwrap();
        assert!((summary.mean - 0.3).abs() < 1e-12);
        assert!((summary.deviation.unwrap() - 0.07f64.sqrt()).abs() < 1e-12);
        assert_eq!(Summary::text(Some(summary)), "30.0 ± 26.5 %");
        assert_eq!(Summary::text(Summary::of(&[0.25])), "25.0 %");
        assert_eq!(Summary::text(Summary::of(&[])), "-");
    }

    #[test]
    fn a_mean_curve_has_the_steps_of_all_runs() {
        let runs = [
            vec![(0.0, 0.2), (5.0, 0.4)],
            vec![(0.0, 0.4), (5.0, 0.8), (7.0, 1.0)],
        ];
        let mean = mean_curve(&runs);
        assert_eq!(mean.len(), 2);
        assert!((mean[1].1 - 0.6).abs() < 1e-12);
    }
}
