//! `seele train`: a recipe to a trained model in a run folder.

use crate::exit::Unusable;
use crate::numbers::{bytes, duration, thousands};
use crate::output::{Output, print};
use crate::progress::TerminalObserver;
use crate::{device, exit, hub, interrupt, model_place, plots, report, run_folder};
use anyhow::Context;
use seele_hub::Kind;
use seele_policy::device::DeviceChoice;
use seele_train::checkpoint::{self, Checkpoint};
use seele_train::metrics::{EvalChange, METRICS_FILE, MetricsRow, RunReport, read_metrics};
use seele_train::recipe::{
    Budget, Difference, Located, Materials, Pace, Recipe, StepTime, Wanted, free_disk, free_memory,
};
use seele_train::trainer::{self, MODEL, Outcome};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// Train a model as a recipe says.
#[derive(Debug, clap::Args)]
#[command(
    long_about = LONG_ABOUT,
    after_long_help = EXAMPLES
)]
pub(crate) struct Args {
    /// The recipe, a TOML file; with --resume, that of the run unless one is given.
    #[arg(required_unless_present = "resume")]
    recipe: Option<PathBuf>,
    /// Override a setting of the recipe; can be given many times.
    #[arg(long, short, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Where the model computes: cpu, cuda, cuda:<number>, or auto; the same as `--set device=...`.
    #[arg(long, value_name = "DEVICE")]
    device: Option<DeviceChoice>,
    /// Folder of the run, new or empty [default: runs/<recipe name>-<n>].
    #[arg(long, short, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Go on with a run: a run folder (its newest whole checkpoint) or a checkpoint
    /// [default: the folder of --out, else the newest runs/<recipe name>-<n>].
    #[arg(long, value_name = "PATH", num_args = 0..=1)]
    resume: Option<Option<PathBuf>>,
    /// With --resume, a setting (or section) that may differ from the run's; can be given many times.
    #[arg(long, value_name = "KEY", requires = "resume")]
    allow_change: Vec<String>,
    /// Print the resolved recipe and what it amounts to, check every file, and stop. What the recipe names
    /// on the Hugging Face hub is fetched to the cache for it.
    #[arg(long)]
    dry_run: bool,
}

impl Args {
    /// All overrides.
    fn settings(&self) -> Vec<String> {
        let device = self.device.map(|device| format!("device={device}"));
        self.set.iter().cloned().chain(device).collect()
    }
}

const LONG_ABOUT: &str = "\
Train a model as a recipe says.

A recipe names a model, problems with reference solutions, and a method. The run gets a folder of \
its own with the resolved recipe (recipe.toml), one line of measurements a step (metrics.jsonl), \
the trained model in Hugging Face layout (model/), checkpoints (checkpoints/) and plots (plots/).

`model.path` and the paths of data may be hf://owner/name[@revision][/file]: a model, or a data set, of the \
Hugging Face hub. It is fetched before anything else, and the run's recipe says its commit.

Ctrl-C once (or SIGTERM) finishes the step and writes a checkpoint; twice stops at once. --resume goes \
on from the newest whole checkpoint, on a CPU to the same bits as a run that was never stopped.";

const EXAMPLES: &str = "\
Examples:
  seele train recipes/quickstart.toml
  seele train recipes/quickstart.toml --set seed=2 --out runs/second
  seele train recipes/quickstart.toml --set method=grpo --set steps=50
  seele train recipes/smollm2-gsm8k.toml --set data.path=gsm8k/train.jsonl --dry-run
  seele train --resume runs/quickstart-1
  seele train --resume runs/quickstart-1 --set steps=100 --allow-change steps";

/// Below this, matrix products do not tell the time of a step.
const SHORT_STEP: Duration = Duration::from_millis(10);

/// What the first Ctrl-C says.
pub(super) const STOPPING: &str =
    "stopping after this step; press Ctrl-C again to stop at once, without saving";

/// Runs the command.
///
/// # Errors
/// A recipe, file or folder that cannot be used, or a failure of the training itself.
pub(crate) fn run(args: &Args, output: &Output) -> anyhow::Result<u8> {
    if let Some(path) = &args.resume {
        return resume(args, path.as_deref(), output);
    }
    // The argument parser lets no other case through.
    let file = args.recipe.as_deref().context("no recipe is given")?;
    let recipe = load(file, &args.settings(), output)?;
    if let Some(out) = &args.out {
        run_folder::check_free(out)?;
    }
    if args.dry_run {
        return dry_run(&recipe, &open(&recipe)?);
    }
    let stop = interrupt::stop_flag(STOPPING).context("cannot listen for Ctrl-C")?;
    // Everything that can be wrong with the input is found before the run has a folder.
    let materials = open(&recipe)?;
    let place = args.out.as_deref().unwrap_or(Path::new("runs"));
    let budget = Budget::of(&recipe, &materials);
    check_machine(&budget, budget.disk.total(), place)?;
    let folder = run_folder::create(args.out.as_deref(), &recipe.name)?;
    write_recipe(&recipe, &folder)?;
    tracing::info!("run folder {}", folder.display());
    expect(&recipe, &materials, &budget);
    execute(&recipe, materials, output, &stop, &folder, None)
}

/// Goes on with a run.
fn resume(args: &Args, path: Option<&Path>, output: &Output) -> anyhow::Result<u8> {
    let given = match &args.recipe {
        Some(file) => Some(load(file, &args.settings(), output)?),
        None => None,
    };
    let path = match (path.or(args.out.as_deref()), &given) {
        (Some(path), _) => path.to_path_buf(),
        (None, Some(recipe)) => run_folder::newest(&recipe.name)?,
        (None, None) => {
            return Err(Unusable(
                "`--resume` without a recipe needs a path: a run folder or one of its checkpoints"
                    .into(),
            )
            .into());
        }
    };
    let found = checkpoint::find(&path)?;
    let folder = match (checkpoint::run_folder_of(&path), &args.out) {
        (Some(folder), _) => folder,
        (None, Some(folder)) => folder.clone(),
        (None, None) => {
            return Err(Unusable(format!(
                "checkpoint `{}` lies outside of its run; name the folder with the run's logs: `--out <folder>`",
                path.display()
            ))
            .into());
        }
    };
    for error in &found.passed_over {
        tracing::warn!("passed over: {error}");
    }
    let checkpoint = found.checkpoint;
    let before = Recipe::load(&checkpoint.recipe(), &[])?;
    let recipe = match given {
        Some(recipe) => recipe,
        None => load(&checkpoint.recipe(), &args.settings(), output)?,
    };
    refuse_changes(&before.differences(&recipe), &args.allow_change)?;
    if args.dry_run {
        let materials = open(&recipe)?;
        trainer::check_work(&recipe, &materials, &folder, &checkpoint)?;
        tracing::info!("would go on from {}", checkpoint.folder().display());
        return dry_run(&recipe, &materials);
    }
    let stop = interrupt::stop_flag(STOPPING).context("cannot listen for Ctrl-C")?;
    let materials = open(&recipe)?;
    trainer::check_work(&recipe, &materials, &folder, &checkpoint)?;
    let budget = Budget::of(&recipe, &materials);
    // Older checkpoints make room as newer ones come.
    check_machine(&budget, budget.disk.checkpoint + budget.disk.model, &folder)?;
    write_recipe(&recipe, &folder)?;
    tracing::info!("going on from {}", checkpoint.folder().display());
    expect(&recipe, &materials, &budget);
    let checkpoint = Some(&checkpoint);
    execute(&recipe, materials, output, &stop, &folder, checkpoint)
}

/// A recipe whose files are there. A model that is the newest of several is written into it by its own
/// name: when the run goes on, there may be a newer one.
pub(super) fn load(file: &Path, set: &[String], output: &Output) -> anyhow::Result<Recipe> {
    let mut recipe = Recipe::load(file, set)?;
    recipe.check_files()?;
    device::check(recipe.device, "device")?;
    locate(&mut recipe, output)?;
    Ok(recipe)
}

/// Brings what a recipe names on the hub to this machine. It is written into the recipe with its commit.
pub(super) fn locate(recipe: &mut Recipe, output: &Output) -> anyhow::Result<()> {
    recipe.locate(|key, wanted, path| -> anyhow::Result<_> {
        let kind = match wanted {
            Wanted::Model => Kind::Model,
            Wanted::Problems => Kind::DataSet,
        };
        let in_recipe = || format!("`{key}`");
        if let Some(fetched) = hub::fetch(kind, path, output).with_context(in_recipe)? {
            let name = fetched.pinned.to_string().into();
            let path = fetched.path;
            return Ok(Some(Located { name, path }));
        }
        if kind == Kind::DataSet {
            return Ok(None);
        }
        let found = model_place::find(path, output).with_context(in_recipe)?;
        let name = found.clone();
        Ok((found != *path).then_some(Located { name, path: found }))
    })?;
    if let Some(plan) = &mut recipe.eval.benchmarks {
        for benchmark in &mut plan.benchmarks {
            hub::bring_files(benchmark, &plan.data, output).context("`eval.benchmarks`")?;
        }
    }
    Ok(())
}

/// A run goes on as it began, but for what the user says may differ.
fn refuse_changes(differences: &[Difference], allowed: &[String]) -> anyhow::Result<()> {
    let refused: Vec<String> = differences
        .iter()
        .filter(|difference| !allowed.iter().any(|key| difference.is_at(key)))
        .map(|difference| format!("\n  {difference}"))
        .collect();
    if refused.is_empty() {
        return Ok(());
    }
    Err(Unusable(format!(
        "the recipe differs from that of the run in {}; take the changes back, or allow each with `--allow-change <key>`:{}",
        match refused.len() {
            1 => "1 setting".into(),
            several => format!("{several} settings"),
        },
        refused.concat()
    ))
    .into())
}

/// The model and the problems, with a word on rows that the reward cannot judge.
pub(super) fn open(recipe: &Recipe) -> anyhow::Result<Materials> {
    let materials = recipe.open()?;
    for rows in &materials.unusable_rows {
        tracing::warn!("{rows}");
    }
    Ok(materials)
}

/// Refuses a run whose checkpoints do not fit the disk, where they need so many bytes more, and warns of one
/// that may not fit the memory.
pub(super) fn check_machine(budget: &Budget, needed: u64, folder: &Path) -> anyhow::Result<()> {
    let disk = &budget.disk;
    if let Some(free) = free_disk(folder).filter(|free| *free < needed) {
        return Err(Unusable(format!(
            "the run needs {} on the disk of `{}` ({} checkpoints of {} and the model), which has {} left; choose another `--out`, or lower `save.keep_last`",
            bytes(needed),
            folder.display(),
            disk.checkpoints,
            bytes(disk.checkpoint),
            bytes(free)
        ))
        .into());
    }
    let memory = budget.memory.additional();
    if let Some(free) = free_memory().filter(|free| *free < memory) {
        tracing::warn!(
            "the run may need {} of memory, {} are free; if it runs out, lower `rollout.max_active_branches` or `update.tokens_per_microbatch`, or set `save.beside_training = false`",
            bytes(memory),
            bytes(free)
        );
    }
    check_device(budget)
}

/// Refuses a run whose weights alone are more than the device has room for, and warns of one that has to do with
/// less than it would take.
fn check_device(budget: &Budget) -> anyhow::Result<()> {
    let Some((device, free)) = budget.memory.device.and_then(|d| Some((d, d.free?))) else {
        return Ok(());
    };
    let lasting = device.weights + device.learning + device.reference;
    if lasting > free {
        return Err(Unusable(format!(
            "weights, gradient and moments need {} on the device, which has {} free; end what else runs on it, or take a smaller model, `kl.coef = 0`, or `device = \"cpu\"`",
            bytes(lasting),
            bytes(free)
        ))
        .into());
    }
    if device.is_too_much() {
        tracing::warn!(
            "the run would take {} on the device, which has {} free: micro-batches will go through in parts and fewer rollouts run at a time. Lower `update.tokens_per_microbatch` or `rollout.max_active_branches`, or set `model.recompute = \"block\"`",
            bytes(device.total()),
            bytes(free)
        );
    }
    Ok(())
}

/// A time of products alone: below some milliseconds it is threads and verdicts that a step waits for.
fn step_text(time: Duration) -> String {
    match time < SHORT_STEP {
        true => format!("under {}", duration(SHORT_STEP)),
        false => duration(time),
    }
}

/// Says what the run will take.
fn expect(recipe: &Recipe, materials: &Materials, budget: &Budget) {
    let memory = bytes(budget.memory.total());
    match Pace::estimate(recipe, &materials.config, budget) {
        Some(Pace {
            likely: Some(likely),
            most,
        }) => tracing::info!(
            "about {memory} of memory; {} a step with rollouts as long as the solutions, at most {}, by estimate",
            step_text(likely.total()),
            step_text(most.total())
        ),
        Some(Pace { likely: None, most }) => tracing::info!(
            "about {memory} of memory and at most {} a step, by estimate",
            step_text(most.total())
        ),
        None => tracing::info!("about {memory} of memory, by estimate"),
    }
}

/// Writes `recipe.toml`, whole or not at all.
pub(super) fn write_recipe(recipe: &Recipe, folder: &Path) -> anyhow::Result<()> {
    let (draft, target) = (folder.join(".recipe.toml"), folder.join("recipe.toml"));
    fs::write(&draft, recipe.to_toml())
        .and_then(|()| fs::rename(&draft, &target))
        .with_context(|| format!("cannot write `{}`", target.display()))
}

/// Trains, and says what a person wants to know after it.
fn execute(
    recipe: &Recipe,
    materials: Materials,
    output: &Output,
    stop: &AtomicBool,
    folder: &Path,
    checkpoint: Option<&Checkpoint>,
) -> anyhow::Result<u8> {
    match train(recipe, materials, output, stop, folder, checkpoint)? {
        Outcome::Finished => {
            conclude(recipe, folder, &folder.join(MODEL))?;
            Ok(exit::DONE)
        }
        Outcome::Stopped { checkpoint } => {
            conclude(recipe, folder, &checkpoint)?;
            tracing::info!(
                "stopped; go on with `seele train --resume {}`",
                folder.display()
            );
            Ok(exit::INTERRUPTED)
        }
    }
}

/// The call into the library, followed on standard error.
pub(super) fn train(
    recipe: &Recipe,
    materials: Materials,
    output: &Output,
    stop: &AtomicBool,
    folder: &Path,
    checkpoint: Option<&Checkpoint>,
) -> anyhow::Result<Outcome> {
    let mut observer = TerminalObserver::new(output, materials.steps(recipe));
    let outcome = trainer::run(recipe, materials, &mut observer, stop, folder, checkpoint);
    drop(observer);
    Ok(outcome?)
}

/// Draws the curves of a run, where there are any; returns the file.
pub(super) fn draw(
    recipe: &Recipe,
    folder: &Path,
    rows: &[MetricsRow],
) -> anyhow::Result<Option<PathBuf>> {
    let report = RunReport::of(rows);
    let is_flat = |change: &EvalChange| change.first.0 == change.last.0;
    if report.periods.is_empty() && report.evals.iter().all(is_flat) {
        return Ok(None);
    }
    let plots = folder.join("plots");
    fs::create_dir_all(&plots)
        .with_context(|| format!("cannot make the folder `{}`", plots.display()))?;
    let path = plots.join("hints.svg");
    plots::draw(&path, &recipe.name, rows, recipe.target_accuracy())?;
    Ok(Some(path))
}

/// Draws the plot and prints the table.
fn conclude(recipe: &Recipe, folder: &Path, model: &Path) -> anyhow::Result<()> {
    let rows = read_metrics(&folder.join(METRICS_FILE))?;
    let report = RunReport::of(&rows);
    let plot = draw(recipe, folder, &rows)?;
    let text = report::text(&report, recipe.target_accuracy(), model, plot.as_deref());
    print(&text)
}

/// The resolved recipe on standard output, with the arithmetic as comments, so that the output is
/// itself a recipe.
fn dry_run(recipe: &Recipe, materials: &Materials) -> anyhow::Result<u8> {
    let budget = Budget::of(recipe, materials);
    let mut out = recipe.to_toml();
    out.push_str("\n# What it amounts to:\n");
    for (name, value) in arithmetic(recipe, materials, &budget) {
        out.push_str(&format!("#   {name:<26} {value}\n"));
    }
    print(&out)?;
    tracing::info!("every file is there and every row was read; nothing was trained or written");
    Ok(exit::DONE)
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
            match budget.rollouts_per_step {
                0 => "none: training reads reference solutions only".into(),
                rollouts => format!(
                    "{} = {} problems x {} in {rounds} {}",
                    thousands(rollouts),
                    rollout.problems_per_step,
                    rollout.rollouts_per_problem,
                    if rounds == 1 { "round" } else { "rounds" }
                ),
            },
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
                thousands((budget.steps * budget.updates_per_step) as u64),
                thousands(budget.steps as u64),
                budget.updates_per_step
            ),
        ),
    ]);
    if let (Some(sft), Some(data)) = (&recipe.sft, &materials.sft) {
        let steps = materials.sft_steps(recipe);
        let problems = (steps * sft.sequences_per_step * sft.problems_per_sequence) as f64;
        let times = problems / data.problems.len() as f64;
        lines.push((
            "supervised steps before",
            format!(
                "{steps}, {} problems gone through {times:.2} times",
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
            "about {}: program, tokenizer and problems {}, weights {}, gradients {}, moments {}, packed weights {}, reference {}, snapshot of a checkpoint {}, key-value cache {}, activations {}, rollouts {}",
            bytes(memory.total()),
            bytes(memory.process),
            bytes(memory.weights),
            bytes(memory.gradients),
            bytes(memory.moments),
            bytes(memory.packed),
            bytes(memory.reference),
            bytes(memory.snapshot),
            bytes(memory.key_value_cache),
            bytes(memory.activations),
            bytes(memory.rollouts),
        ),
    ));
    if let Some(device) = &memory.device {
        let free = device.free.map_or_else(|| "unbounded".to_owned(), bytes);
        lines.push((
            "memory of the device",
            format!(
                "about {} of {free} free: weights {}, gradient and moments {}, reference {}; key-value cache {} and sampling {}, or training {}",
                bytes(device.total()),
                bytes(device.weights),
                bytes(device.learning),
                bytes(device.reference),
                bytes(device.key_value_cache),
                bytes(device.sampling),
                bytes(device.training),
            ),
        ));
    }
    if let Some(Pace { likely, most }) = Pace::estimate(recipe, &materials.config, budget) {
        let parts = |time: StepTime| {
            format!(
                "{} (sampling {}, update {})",
                step_text(time.total()),
                duration(time.rollout),
                duration(time.update)
            )
        };
        let likely =
            likely.map(|time| format!("{} with rollouts as long as the solutions, ", parts(time)));
        lines.push((
            "time a step",
            format!(
                "{}at most {}; estimated from matrix products on this machine, without verification and evaluation",
                likely.unwrap_or_default(),
                parts(most)
            ),
        ));
    }
    let disk = &budget.disk;
    lines.push((
        "disk",
        format!(
            "about {}: at most {} checkpoints of {}, reference {}, model {}",
            bytes(disk.total()),
            disk.checkpoints,
            bytes(disk.checkpoint),
            bytes(disk.reference),
            bytes(disk.model)
        ),
    ));
    lines
}
