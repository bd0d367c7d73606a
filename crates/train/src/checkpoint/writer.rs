//! Checkpoints beside training: a snapshot in memory, written while the run goes on; or while it waits, and then
//! without a copy of it.

use super::{CheckpointError, Identity, Snapshot, retention};
use crate::recipe::SaveConfig;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

/// Writes checkpoints one at a time: at most one snapshot is in memory besides the run.
#[derive(Debug)]
pub(crate) struct CheckpointWriter {
    checkpoints: PathBuf,
    identity: Arc<Identity>,
    settings: SaveConfig,
    running: Option<JoinHandle<Result<PathBuf, CheckpointError>>>,
    last: Option<PathBuf>,
}

impl CheckpointWriter {
    pub(crate) fn new(checkpoints: PathBuf, identity: Arc<Identity>, settings: SaveConfig) -> Self {
        Self {
            checkpoints,
            identity,
            settings,
            running: None,
            last: None,
        }
    }

    /// The folder of the checkpoints.
    pub(crate) fn folder(&self) -> &Path {
        &self.checkpoints
    }

    /// Waits for the checkpoint before, then writes a copy of `snapshot` beside training; where the settings want
    /// no copy, as [`Self::write_now`].
    ///
    /// # Errors
    /// Of the checkpoint before, and of this one where it is written at once.
    pub(crate) fn write(&mut self, snapshot: Snapshot<'_>) -> Result<(), CheckpointError> {
        if !self.settings.beside_training {
            return self.write_now(snapshot);
        }
        // Before the copy is made, so that there are never two.
        self.finish()?;
        let copy = snapshot.copied();
        let (checkpoints, settings) = (self.checkpoints.clone(), self.settings.clone());
        let identity = Arc::clone(&self.identity);
        let work = move || write_and_prune(&copy, &checkpoints, &identity, &settings);
        let thread = thread::Builder::new().name("checkpoint".into());
        let failed = |source| super::write::failed(&self.checkpoints, source);
        self.running = Some(thread.spawn(work).map_err(failed)?);
        Ok(())
    }

    /// Waits for the checkpoint before, then writes `snapshot` before this returns.
    ///
    /// # Errors
    /// Of the checkpoint before, and of this one.
    pub(crate) fn write_now(&mut self, snapshot: Snapshot<'_>) -> Result<(), CheckpointError> {
        self.finish()?;
        let Self {
            checkpoints,
            identity,
            settings,
            ..
        } = self;
        self.last = Some(write_and_prune(&snapshot, checkpoints, identity, settings)?);
        Ok(())
    }

    /// Takes the outcome of a checkpoint that has been written, without waiting for one that has not.
    pub(crate) fn poll(&mut self) -> Result<(), CheckpointError> {
        match &self.running {
            Some(running) if running.is_finished() => self.finish().map(|_| ()),
            _ => Ok(()),
        }
    }

    /// Waits for the checkpoint that is being written; returns the last one.
    pub(crate) fn finish(&mut self) -> Result<Option<&Path>, CheckpointError> {
        if let Some(running) = self.running.take() {
            let outcome = running
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            self.last = Some(outcome?);
        }
        Ok(self.last.as_deref())
    }
}

fn write_and_prune(
    snapshot: &Snapshot<'_>,
    checkpoints: &Path,
    identity: &Identity,
    settings: &SaveConfig,
) -> Result<PathBuf, CheckpointError> {
    let folder = snapshot.write(checkpoints, identity)?;
    let best = snapshot.state.best.map(|best| best.step);
    retention::prune(checkpoints, settings, best)?;
    Ok(folder)
}

impl Drop for CheckpointWriter {
    fn drop(&mut self) {
        // Where an error ends the run, the checkpoint at hand is still worth having.
        if let Some(running) = self.running.take() {
            let _ = running.join();
        }
    }
}
