//! One run of a comparison: begun, gone on with, or found finished.

use crate::commands::train;
use crate::exit::Unusable;
use crate::output::Output;
use anyhow::Context;
use seele_train::checkpoint::{self, Checkpoint, CheckpointError};
use seele_train::metrics::{METRICS_FILE, read_metrics};
use seele_train::recipe::{Budget, Recipe};
use seele_train::trainer::{self, MODEL};
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

/// A run and its folder.
pub(super) struct Job {
    pub(super) recipe: Recipe,
    pub(super) folder: PathBuf,
}

/// How a run ended.
pub(super) enum Outcome {
    /// It is over, now or since an earlier call.
    Finished,
    /// On request.
    Stopped,
}

/// What the folder of a run holds.
enum State {
    /// Nothing that could be gone on from.
    New,
    /// A run that was stopped.
    Interrupted(Box<Checkpoint>),
    /// A run with its model.
    Finished,
}

impl Job {
    /// The model of the finished run.
    pub(super) fn model(&self) -> PathBuf {
        self.folder.join(MODEL)
    }

    /// Brings the run to its end, unless it is there.
    ///
    /// # Errors
    /// A folder that holds something else; whatever stops the training.
    pub(super) fn run(&self, output: &Output, stop: &AtomicBool) -> anyhow::Result<Outcome> {
        if stop.load(Ordering::SeqCst) {
            return Ok(Outcome::Stopped);
        }
        let (recipe, folder) = (&self.recipe, &self.folder);
        let checkpoint = match self.state()? {
            State::Finished => {
                tracing::info!("finished before: {}", folder.display());
                return Ok(Outcome::Finished);
            }
            State::Interrupted(checkpoint) => {
                tracing::info!("going on from {}", checkpoint.folder().display());
                Some(checkpoint)
            }
            State::New => None,
        };
        recipe.check_files()?;
        let materials = train::open(recipe)?;
        if checkpoint.is_none() {
            let budget = Budget::of(recipe, &materials);
            train::check_machine(&budget, budget.disk.total(), folder)?;
        }
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the run folder `{}`", folder.display()))?;
        train::write_recipe(recipe, folder)?;
        let outcome = train::train(
            recipe,
            materials,
            output,
            stop,
            folder,
            checkpoint.as_deref(),
        )?;
        train::draw(recipe, folder, &read_metrics(&folder.join(METRICS_FILE))?)?;
        Ok(match outcome {
            trainer::Outcome::Finished => Outcome::Finished,
            trainer::Outcome::Stopped { .. } => Outcome::Stopped,
        })
    }

    fn state(&self) -> anyhow::Result<State> {
        let folder = &self.folder;
        if !folder.exists() {
            return Ok(State::New);
        }
        let state = match checkpoint::find(folder) {
            Ok(_) if folder.join(MODEL).is_dir() => State::Finished,
            Ok(found) => {
                for error in &found.passed_over {
                    tracing::warn!("passed over: {error}");
                }
                State::Interrupted(Box::new(found.checkpoint))
            }
            Err(CheckpointError::None { .. }) => {
                // Ended before its first checkpoint: only logs, which the run writes anew.
                fs::remove_dir_all(folder)
                    .with_context(|| format!("cannot clear the folder `{}`", folder.display()))?;
                State::New
            }
            Err(error) => return Err(error.into()),
        };
        Ok(state)
    }

    /// Refuses a folder that holds a run with other settings.
    ///
    /// # Errors
    /// [`Unusable`], which lists what differs.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let written = self.folder.join("recipe.toml");
        if !written.exists() {
            return Ok(());
        }
        let differences = Recipe::load(&written, &[])?.differences(&self.recipe);
        // How many threads share the work changes no result.
        let differences = differences.iter().filter(|one| !one.is_at("threads"));
        let lines: Vec<String> = differences.map(|one| format!("\n  {one}")).collect();
        if lines.is_empty() {
            return Ok(());
        }
        Err(Unusable(format!(
            "`{}` holds a run with other settings; choose another `--out`, or take the changes back:{}",
            self.folder.display(),
            lines.concat()
        ))
        .into())
    }
}
