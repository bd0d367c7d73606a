//! `seele compare`: one recipe under several methods and seeds, with equal budgets, in one table.

mod contestants;
mod report;
mod run;

use crate::exit::{self, Unusable};
use crate::interrupt;
use crate::output::{Output, print};
use anyhow::Context;
use contestants::{Contestant, Setting, contestants};
use report::{Comparison, RunResult};
use run::{Job, Outcome};
use seele_train::recipe::Recipe;
use std::fs;
use std::path::{Path, PathBuf};

/// Compare methods: train one recipe under each of them, with several seeds and an equal budget.
#[derive(Debug, clap::Args)]
#[command(long_about = LONG_ABOUT, after_long_help = EXAMPLES)]
pub(crate) struct Args {
    /// The recipe, a TOML file with held-out sets; its own method and seed count for nothing else.
    recipe: PathBuf,
    /// Methods to compare, separated by commas.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "sft,grpo,luffy,uft,prefix-rft,seele,seele-bayes"
    )]
    methods: Vec<String>,
    /// Runs of each method; their seeds count up from that of the recipe.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=1000))]
    seeds: u64,
    /// Override a setting of the recipe for all methods, or for one (METHOD:KEY=VALUE); can be given
    /// many times.
    #[arg(long, short, value_name = "[METHOD:]KEY=VALUE")]
    set: Vec<String>,
    /// Compare each method under several values of a setting.
    #[arg(long, value_name = "KEY=VALUE,VALUE,...")]
    vary: Option<String>,
    /// Folder of the comparison; the same command goes on with what is in it
    /// [default: runs/compare-<recipe name>].
    #[arg(long, short, value_name = "DIR")]
    out: Option<PathBuf>,
}

const LONG_ABOUT: &str = "\
Compare methods: train one recipe under each of them, with several seeds and an equal budget.

Every run has the recipe's steps, problems a step and rollouts a problem (SFT: the same problems in the \
same order with their solutions, nothing sampled), and is evaluated without hints. A supervised stage \
([sft]) is run once a seed, and all methods of the seed start from its model. What the recipe writes for \
its own method ([hint], [imitation], ...) holds for that method alone.

The folder gets every run in a folder of its own, comparison.md and comparison.json (mean and spread over \
seeds) and curves.svg. The same command goes on where it was stopped: finished runs are not repeated, and \
interrupted ones are resumed from their newest checkpoint. A run that fails is named, and the others go on.";

const EXAMPLES: &str = "\
Examples:
  seele compare recipes/benchmark.toml
  seele compare recipes/benchmark.toml --methods grpo,seele --seeds 5 --out runs/two
  seele compare recipes/benchmark.toml --methods grpo,seele --set steps=50 --set seele:hint.rounds=2
  seele compare recipes/benchmark.toml --methods seele --vary hint.target_accuracy=0.25,0.5,0.75";

/// Runs the command.
///
/// # Errors
/// A recipe, method or folder that cannot be used, before anything is started; or results that cannot be
/// written.
pub(crate) fn run(args: &Args, output: &Output) -> anyhow::Result<u8> {
    let settings: Vec<Setting> = args.set.iter().map(|text| Setting::parse(text)).collect();
    let for_all: Vec<String> = settings
        .iter()
        .filter(|setting| setting.method.is_none())
        .map(|setting| setting.text.clone())
        .collect();
    let recipe = Recipe::load(&args.recipe, &for_all)?;
    let contestants = contestants(&args.methods, &settings, args.vary.as_deref())?;
    let plan = Plan {
        args,
        output,
        for_all,
        first_seed: recipe.seed,
        shares_base: recipe.sft.is_some(),
        folder: match &args.out {
            Some(folder) => folder.clone(),
            None => Path::new("runs").join(format!("compare-{}", recipe.name)),
        },
    };
    let recipes = plan.check(&recipe, &contestants)?;
    let stop = interrupt::stop_flag(super::train::STOPPING).context("cannot listen for Ctrl-C")?;
    fs::create_dir_all(&plan.folder)
        .with_context(|| format!("cannot make the folder `{}`", plan.folder.display()))?;

    let mut results = Vec::new();
    let mut failed = false;
    let total = args.seeds as usize * contestants.len();
    for seed in plan.seeds() {
        let base = plan.base(seed)?;
        let base_failure = match &base {
            None => None,
            Some(job) => {
                tracing::info!("seed {seed}: the supervised stage that all methods share");
                match job.run(output, &stop) {
                    Ok(Outcome::Finished) => None,
                    Ok(Outcome::Stopped) => {
                        return plan.stopped(&recipe, &recipes, &contestants, results);
                    }
                    Err(error) => {
                        Some(format!("the supervised stage failed: {}", one_line(&error)))
                    }
                }
            }
        };
        for contestant in &contestants {
            let label = &contestant.label;
            tracing::info!("run {} of {total}: {label}, seed {seed}", results.len() + 1);
            let job = plan.job(contestant, seed, base.as_ref())?;
            let outcome = match &base_failure {
                None => job.run(output, &stop),
                Some(failure) => Err(anyhow::anyhow!("{failure}")),
            };
            let error = match outcome {
                Ok(Outcome::Finished) => None,
                Ok(Outcome::Stopped) => {
                    return plan.stopped(&recipe, &recipes, &contestants, results);
                }
                Err(error) => {
                    failed = true;
                    let error = one_line(&error);
                    tracing::error!("{label}, seed {seed}: {error}; the other runs go on");
                    Some(error)
                }
            };
            results.push(RunResult::read(
                label,
                seed,
                &plan.folder,
                &job.folder,
                error,
            )?);
        }
    }
    print(&plan.write(&recipe, &recipes, &contestants, results)?)?;
    Ok(if failed { exit::FAILED } else { exit::DONE })
}

/// An error with its causes in one line; causes that are said already are left out.
fn one_line(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

/// What is run where.
struct Plan<'a> {
    args: &'a Args,
    output: &'a Output,
    /// Overrides for every run.
    for_all: Vec<String>,
    first_seed: u64,
    /// Whether the methods of a seed start from one supervised model.
    shares_base: bool,
    folder: PathBuf,
}

impl Plan<'_> {
    fn seeds(&self) -> impl Iterator<Item = u64> {
        (0..self.args.seeds).map(|index| self.first_seed.wrapping_add(index))
    }

    /// Loads and opens every contestant's recipe, so that what is wrong is found before anything runs.
    fn check(&self, recipe: &Recipe, contestants: &[Contestant]) -> anyhow::Result<Vec<Recipe>> {
        if recipe.eval.sets.is_empty() && recipe.eval.benchmarks.is_none() {
            return Err(Unusable(format!(
                "`{}` has no held-out set to compare methods on; describe one in [eval.sets.<name>]",
                self.args.recipe.display()
            ))
            .into());
        }
        if !recipe.eval.stop_at.is_empty() {
            return Err(Unusable(
                "`eval.stop_at` ends runs at different steps, and a comparison gives all methods the same; take it out of the recipe".into(),
            )
            .into());
        }
        let shared = ["sft", "model"].map(|section| (section, format!("{section}.")));
        for contestant in contestants.iter().filter(|_| self.shares_base) {
            let for_base = |text: &&String| {
                shared.iter().any(|(key, start)| {
                    text.starts_with(start) || text.starts_with(&format!("{key}="))
                })
            };
            if let Some(text) = contestant.overrides.iter().find(for_base) {
                return Err(Unusable(format!(
                    "`{text}` of `{}`: all methods of a seed share one supervised model; set it for all methods, or compare recipes without [sft]",
                    contestant.label
                ))
                .into());
            }
        }
        let mut recipes = Vec::new();
        for contestant in contestants {
            let of_method = self.load(contestant, self.first_seed, &[])?;
            of_method.check_files()?;
            super::train::open(&of_method)?;
            recipes.push(of_method);
        }
        self.check_budgets(contestants, &recipes)?;
        for seed in self.seeds() {
            let base = self.base(seed)?;
            for contestant in contestants {
                self.job(contestant, seed, base.as_ref())?.check()?;
            }
            base.map_or(Ok(()), |base| base.check())?;
        }
        Ok(recipes)
    }

    /// All methods visit the same number of problems, and those that sample sample as much.
    fn check_budgets(&self, contestants: &[Contestant], recipes: &[Recipe]) -> anyhow::Result<()> {
        let budget = |recipe: &Recipe| {
            (
                recipe.length,
                recipe.rollout.problems_per_step,
                recipe
                    .objective
                    .needs_rollouts()
                    .then_some(recipe.rollout.rollouts_per_problem),
            )
        };
        let mut known: Option<(&str, _)> = None;
        for (contestant, recipe) in contestants.iter().zip(recipes) {
            let (length, problems, rollouts) = budget(recipe);
            let Some((first, before)) = known else {
                known = Some((&contestant.label, (length, problems, rollouts)));
                continue;
            };
            let (other_length, other_problems, other_rollouts) = before;
            let differ =
                other_rollouts.is_some() && rollouts.is_some() && rollouts != other_rollouts;
            if differ || (length, problems) != (other_length, other_problems) {
                return Err(Unusable(format!(
                    "`{first}` and `{}` would get different budgets ({other_length} of {other_problems} problems with {} rollouts each; {length} of {problems} with {}); set `rollout.rollouts_per_problem`, `rollout.problems_per_step` and `steps` for all methods",
                    contestant.label,
                    other_rollouts.unwrap_or(0),
                    rollouts.unwrap_or(0),
                ))
                .into());
            }
            if other_rollouts.is_none() {
                known = Some((&contestant.label, (length, problems, rollouts)));
            }
        }
        Ok(())
    }

    fn load(&self, contestant: &Contestant, seed: u64, more: &[String]) -> anyhow::Result<Recipe> {
        let mut overrides = self.for_all.clone();
        overrides.extend(contestant.overrides.iter().cloned());
        overrides.push(format!("seed={seed}"));
        overrides.push(format!("name={}", contestant.folder()));
        overrides.extend(more.iter().cloned());
        let recipe = self.located(&overrides);
        recipe.with_context(|| format!("method `{}`", contestant.label))
    }

    /// A recipe with what it names on the hub on this machine.
    fn located(&self, overrides: &[String]) -> anyhow::Result<Recipe> {
        let mut recipe = Recipe::load(&self.args.recipe, overrides)?;
        super::train::locate(&mut recipe, self.output)?;
        Ok(recipe)
    }

    /// The supervised stage of a seed, if the methods share one. Its model is saved in full precision, so that
    /// a run from it is the run that would have had the stage itself.
    fn base(&self, seed: u64) -> anyhow::Result<Option<Job>> {
        if !self.shares_base {
            return Ok(None);
        }
        let mut overrides = self.for_all.clone();
        overrides.extend(["steps=0", "save.dtype=f32", "name=base"].map(String::from));
        overrides.push(format!("seed={seed}"));
        Ok(Some(Job {
            recipe: self.located(&overrides)?,
            folder: self.seed_folder(seed).join("base"),
        }))
    }

    fn job(&self, contestant: &Contestant, seed: u64, base: Option<&Job>) -> anyhow::Result<Job> {
        let more = match base {
            None => Vec::new(),
            Some(base) => vec![
                "sft=off".into(),
                format!("model.path={}", base.model().display()),
            ],
        };
        Ok(Job {
            recipe: self.load(contestant, seed, &more)?,
            folder: self.seed_folder(seed).join(contestant.folder()),
        })
    }

    fn seed_folder(&self, seed: u64) -> PathBuf {
        self.folder.join(format!("seed-{seed}"))
    }

    /// Writes table and curves; returns the table.
    fn write(
        &self,
        recipe: &Recipe,
        recipes: &[Recipe],
        contestants: &[Contestant],
        runs: Vec<RunResult>,
    ) -> anyhow::Result<String> {
        let comparison =
            Comparison::new(recipe, recipes, contestants, self.seeds().collect(), runs);
        comparison.write(&self.folder)
    }

    fn stopped(
        &self,
        recipe: &Recipe,
        recipes: &[Recipe],
        contestants: &[Contestant],
        runs: Vec<RunResult>,
    ) -> anyhow::Result<u8> {
        if !runs.is_empty() {
            print(&self.write(recipe, recipes, contestants, runs)?)?;
        }
        tracing::info!("stopped; the same command goes on with the comparison");
        Ok(exit::INTERRUPTED)
    }
}
