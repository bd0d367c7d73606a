//! `seele train`: a recipe to a trained model in a run folder.

use crate::numbers::{bytes, thousands};
use crate::output::{Output, print};
use crate::progress::TerminalObserver;
use crate::{exit, interrupt, plots, report, run_folder};
use anyhow::Context;
use seele_train::metrics::{METRICS_FILE, RunReport, read_metrics};
use seele_train::progress::Observer;
use seele_train::recipe::{Budget, Materials, Recipe};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// Train a model as a recipe says.
#[derive(Debug, clap::Args)]
#[command(
    long_about = LONG_ABOUT,
    after_long_help = EXAMPLES
)]
pub(crate) struct Args {
    /// The recipe, a TOML file.
    recipe: PathBuf,
    /// Override a setting of the recipe; can be given many times.
    #[arg(long, short, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Folder of the run, new or empty [default: runs/<recipe name>-<n>].
    #[arg(long, short, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print the resolved recipe and what it amounts to, check every file, and stop.
    #[arg(long)]
    dry_run: bool,
}

const LONG_ABOUT: &str = "\
Train a model as a recipe says.

A recipe names a model, problems with reference solutions, and a method. The run gets a folder of \
its own with the resolved recipe (recipe.toml), one line of measurements a step (metrics.jsonl), \
the trained model in Hugging Face layout (model/) and plots (plots/).

Ctrl-C once finishes the step and saves the model; twice stops at once.";

const EXAMPLES: &str = "\
Examples:
  seele train recipes/quickstart.toml
  seele train recipes/quickstart.toml --set seed=2 --out runs/second
  seele train recipes/quickstart.toml --set method=grpo --set steps=50
  seele train recipes/smollm2-gsm8k.toml --set data.path=gsm8k/train.jsonl --dry-run";

/// Runs the command.
///
/// # Errors
/// A recipe, file or folder that cannot be used, or a failure of the training itself.
pub(crate) fn run(args: &Args, output: &Output) -> anyhow::Result<u8> {
    let recipe = Recipe::load(&args.recipe, &args.set)?;
    recipe.check_files()?;
    if let Some(out) = &args.out {
        run_folder::check_free(out)?;
    }
    if args.dry_run {
        return dry_run(&recipe);
    }
    let stop = interrupt::stop_flag().context("cannot listen for Ctrl-C")?;
    train(&recipe, args.out.as_deref(), output, &stop)?;
    Ok(if stop.load(Ordering::SeqCst) {
        exit::INTERRUPTED
    } else {
        exit::DONE
    })
}

fn train(
    recipe: &Recipe,
    out: Option<&Path>,
    output: &Output,
    stop: &AtomicBool,
) -> anyhow::Result<()> {
    // Everything that can be wrong with the input is found before the run has a folder.
    let materials = recipe.open()?;
    warn_of_golds(&materials);
    let mut observer = TerminalObserver::new(output, recipe.steps);
    let folder = run_folder::create(out, &recipe.name)?;
    let written = folder.join("recipe.toml");
    fs::write(&written, recipe.to_toml())
        .with_context(|| format!("cannot write `{}`", written.display()))?;
    tracing::info!("run folder {}", folder.display());
    execute(recipe, materials, &mut observer, stop, &folder)?;
    drop(observer);
    conclude(recipe, &folder)
}

/// The call into the library.
fn execute(
    recipe: &Recipe,
    materials: Materials,
    observer: &mut dyn Observer,
    stop: &AtomicBool,
    folder: &Path,
) -> anyhow::Result<()> {
    Ok(seele_train::trainer::run(
        recipe, materials, observer, stop, folder,
    )?)
}

/// Draws the plot and prints the table.
fn conclude(recipe: &Recipe, folder: &Path) -> anyhow::Result<()> {
    let rows = read_metrics(&folder.join(METRICS_FILE))?;
    let plots = folder.join("plots");
    fs::create_dir_all(&plots)
        .with_context(|| format!("cannot make the folder `{}`", plots.display()))?;
    let plot = plots.join("hints.svg");
    plots::draw(&plot, &recipe.name, &rows, recipe.target_accuracy())?;
    let text = report::text(
        &RunReport::of(&rows),
        recipe.target_accuracy(),
        &folder.join("model"),
        Some(&plot),
    );
    print(&text)
}

/// The resolved recipe on standard output, with the arithmetic as comments, so that the output is
/// itself a recipe.
fn dry_run(recipe: &Recipe) -> anyhow::Result<u8> {
    let materials = recipe.open()?;
    warn_of_golds(&materials);
    let budget = Budget::of(recipe, &materials);
    let mut out = recipe.to_toml();
    out.push_str("\n# What it amounts to:\n");
    for (name, value) in arithmetic(recipe, &materials, &budget) {
        out.push_str(&format!("#   {name:<26} {value}\n"));
    }
    print(&out)?;
    tracing::info!("every file is there and every row was read; nothing was trained or written");
    Ok(exit::DONE)
}

/// Names reference answers that the reward cannot read.
fn warn_of_golds(materials: &Materials) {
    for golds in &materials.unreadable_golds {
        tracing::warn!("{golds}");
    }
}

fn arithmetic(
    recipe: &Recipe,
    materials: &Materials,
    budget: &Budget,
) -> Vec<(&'static str, String)> {
    let rollout = &recipe.rollout;
    let rounds = recipe
        .hint
        .schedule()
        .map_or(1, |schedule| schedule.max_rounds());
    let memory = &budget.memory;
    let train = &materials.train;
    let mut lines = vec![
        (
            "model",
            format!("{} parameters", thousands(budget.parameters)),
        ),
        (
            "problems",
            format!(
                "{}, gone through {:.2} times",
                thousands(budget.problems as u64),
                budget.epochs
            ),
        ),
    ];
    if train.skipped > 0 {
        lines.push((
            "problems left out",
            format!("{}, too long", thousands(train.skipped as u64)),
        ));
    }
    lines.extend([
        (
            "longest prompt, solution",
            format!(
                "{} tokens, {} tokens",
                budget.longest_prompt, budget.longest_solution
            ),
        ),
        (
            "rollouts a step",
            format!(
                "{} = {} problems x {} in {rounds} {}",
                thousands(budget.rollouts_per_step),
                rollout.problems_per_step,
                rollout.rollouts_per_problem,
                if rounds == 1 { "round" } else { "rounds" }
            ),
        ),
        ("rollouts in all", thousands(budget.rollouts)),
        (
            "generated tokens a step",
            format!("at most {}", thousands(budget.generated_tokens_per_step)),
        ),
        (
            "trained tokens a step",
            format!("at most {}", thousands(budget.trained_tokens_per_step)),
        ),
        (
            "optimizer steps",
            format!(
                "{} = {} steps x {}",
                recipe.optimizer_steps(),
                recipe.steps,
                budget.updates_per_step
            ),
        ),
    ]);
    if let (Some(sft), Some(data)) = (&recipe.sft, &materials.sft) {
        let problems = (sft.steps * sft.sequences_per_step * sft.problems_per_sequence) as f64;
        let times = problems / data.problems.len() as f64;
        lines.push((
            "supervised steps before",
            format!(
                "{}, {} problems gone through {times:.2} times",
                sft.steps,
                data.problems.len()
            ),
        ));
    }
    for (name, data) in &materials.eval {
        lines.push((
            "held-out problems",
            format!("{} in `{name}`", data.problems.len()),
        ));
    }
    lines.push((
        "memory",
        format!(
            "about {}: weights {}, gradients {}, moments {}, reference {}, and the larger of key-value cache {} and activations {}",
            bytes(memory.total()),
            bytes(memory.weights),
            bytes(memory.gradients),
            bytes(memory.moments),
            bytes(memory.reference),
            bytes(memory.key_value_cache),
            bytes(memory.activations),
        ),
    ));
    lines
}
