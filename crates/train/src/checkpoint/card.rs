//! `README.md` of a saved model: what it is, what it was trained on, what it achieved.

use super::TrainerState;
use crate::metrics::StepMetrics;
use crate::recipe::{DataPlan, ModelSource, ProblemSource, Recipe};
use std::fmt::Write as _;
use std::path::Path;

/// The model card after a step of a run of `steps`; `last` is that step.
pub(crate) fn model_card(
    recipe: &Recipe,
    state: &TrainerState,
    last: Option<&StepMetrics>,
    steps: usize,
) -> String {
    let mut card = String::from(
        "---\nlibrary_name: transformers\ntags: [seele, reinforcement-learning]\n---\n\n",
    );
    let _ = writeln!(card, "# {}\n", recipe.name);
    let base = match &recipe.model.source {
        ModelSource::Path(path) => format!("`{}`", public_name(recipe, path)),
        ModelSource::New(_) => "random weights".into(),
    };
    let _ = writeln!(
        card,
        "Trained from {base} by `seele {}` with method `{}`, seed {}: checkpoint `{}` of {} steps.\n",
        env!("CARGO_PKG_VERSION"),
        recipe.method,
        recipe.seed,
        state.name(),
        steps
    );
    let _ = writeln!(card, "## Data\n");
    let _ = writeln!(card, "- training: {}", data_text(recipe, &recipe.data));
    if let Some(sft) = &recipe.sft {
        let _ = writeln!(
            card,
            "- supervised fine-tuning before: {}",
            data_text(recipe, &sft.data)
        );
    }
    for set in &recipe.eval.sets {
        let _ = writeln!(
            card,
            "- held-out `{}`: {}",
            set.name,
            data_text(recipe, &set.data)
        );
    }
    let _ = writeln!(card, "\n## Results\n");
    let last = last.filter(|last| last.rollouts > 0);
    if last.is_none() && state.held_out.is_empty() {
        let _ = writeln!(card, "None measured yet.");
    } else {
        let _ = writeln!(card, "| measure | step | value |\n| --- | --- | --- |");
    }
    let mut row = |name: &str, step: usize, value: f64| {
        let _ = writeln!(card, "| {name} | {step} | {value:.4} |");
    };
    if let Some(last) = last {
        row("mean reward of the rollouts", last.step, last.reward_mean);
        row("mean hint rate", last.step, last.hint_rate_mean);
    }
    for (name, accuracy) in &state.held_out {
        let step = state.held_out_step.unwrap_or(state.step);
        let name = format!("accuracy without hints on `{name}`");
        row(&name, step, *accuracy);
    }
    let _ = writeln!(
        card,
        "\n## Recipe\n\nEvery setting; of paths the last part.\n\n```toml\n{}```",
        recipe.to_portable_toml()
    );
    card
}

fn data_text(recipe: &Recipe, data: &DataPlan) -> String {
    match &data.source {
        ProblemSource::File { path, .. } => format!("`{}`", public_name(recipe, path)),
        ProblemSource::Arithmetic { config, .. } => {
            format!("{} generated problems of arithmetic", config.count)
        }
    }
}

/// What a file or folder is called: by its name elsewhere, or its own, for where it lies on this machine
/// concerns nobody else.
fn public_name(recipe: &Recipe, path: &Path) -> String {
    let name = recipe
        .name_of(path)
        .or_else(|| path.file_name().map(Path::new));
    name.unwrap_or(path).display().to_string()
}
