//! `seele train`: a recipe to a trained model in a run folder.

use crate::output::Output;
use crate::progress::TerminalObserver;
use crate::{exit, interrupt, plots, report, run_folder};
use anyhow::Context;
use seele_train::metrics::{RunReport, read_metrics};
use seele_train::progress::Observer;
use seele_train::recipe::Recipe;
use std::fs;
use std::io::Write;
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
    let mut observer = TerminalObserver::new(output, recipe.steps);
    let folder = run_folder::create(out, &recipe.name)?;
    let written = folder.join("recipe.toml");
    fs::write(&written, recipe.to_toml())
        .with_context(|| format!("cannot write `{}`", written.display()))?;
    tracing::info!("run folder {}", folder.display());
    execute(recipe, &mut observer, stop, &folder)?;
    drop(observer);
    conclude(recipe, &folder)
}

/// The call into the library.
fn execute(_: &Recipe, _: &mut dyn Observer, _: &AtomicBool, _: &Path) -> anyhow::Result<()> {
    anyhow::bail!("the step loop is not connected yet")
}

/// Draws the plot and prints the table.
fn conclude(recipe: &Recipe, folder: &Path) -> anyhow::Result<()> {
    let rows = read_metrics(&folder.join("metrics.jsonl"))?;
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
    std::io::stdout()
        .write_all(text.as_bytes())
        .context("cannot write to standard output")
}

/// The resolved recipe on standard output, with the arithmetic as comments, so that the output is
/// itself a recipe.
fn dry_run(recipe: &Recipe) -> anyhow::Result<u8> {
    let text = recipe.to_toml();
    std::io::stdout()
        .write_all(text.as_bytes())
        .context("cannot write to standard output")?;
    Ok(exit::DONE)
}
