//! `seele bench rollout`: the sampling phase of a recipe beside that of the same recipe with other settings.

use crate::commands::train;
use crate::exit;
use crate::numbers::thousands;
use crate::output::{Output, print};
use anyhow::Context;
use seele_train::recipe::Recipe;
use seele_train::speed::{RolloutReport, rollout};
use serde_json::json;
use std::fmt::Write as _;
use std::path::Path;

pub(super) fn run(
    file: &Path,
    set: &[String],
    against: &[String],
    runs: usize,
    json: bool,
    output: &Output,
) -> anyhow::Result<u8> {
    let mut recipes: Vec<Recipe> = vec![train::load(file, set, output)?];
    if !against.is_empty() {
        recipes.push(train::load(file, &[set, against].concat(), output)?);
    }
    let reports = rollout(&recipes, runs)
        .with_context(|| format!("cannot measure the sampling of `{}`", file.display()))?;
    let ratio = match reports.as_slice() {
        [own, other] => Some(other.times_as_long(own)),
        _ => None,
    };
    print(&if json {
        let object = json!({
            "bench": "rollout",
            "recipe": file.display().to_string(),
            "set": set,
            "against": against,
            "reports": reports,
            "ratio": ratio,
        });
        format!("{object}\n")
    } else {
        table(file, set, against, &reports, ratio)
    })?;
    Ok(exit::DONE)
}

fn table(
    file: &Path,
    set: &[String],
    against: &[String],
    reports: &[RolloutReport],
    ratio: Option<f64>,
) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "sampling of {} {}\n\n{:<34} {:>9} {:>9} {:>9} {:>11} {:>11} {:>9}",
        file.display(),
        set.join(" "),
        "medians",
        "seconds",
        "rollouts",
        "tokens",
        "tokens/s",
        "batch full",
        "tail, s"
    );
    let names = ["as it is".to_owned(), against.join(" ")];
    for (name, report) in names.iter().zip(reports) {
        let _ = writeln!(
            out,
            "{name:<34} {:>9.2} {:>9} {:>9} {:>11.0} {:>9.1} % {:>9.2}",
            report.seconds,
            report.rollouts,
            thousands(report.tokens),
            report.tokens_per_second,
            100.0 * report.utilisation,
            report.tail_seconds
        );
    }
    if let Some(ratio) = ratio {
        let _ = writeln!(
            out,
            "\n{} takes {ratio:.3} times as long",
            against.join(" ")
        );
    }
    out
}
