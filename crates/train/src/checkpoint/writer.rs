//! Checkpoints beside training: a snapshot in memory, written while the run goes on.

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

    /// Waits for the checkpoint before, then takes the snapshot that `take` makes and writes it, beside
    /// training unless the settings say otherwise.
    ///
    /// # Errors
    /// Of this checkpoint where it is written at once, and of the one before.
    pub(crate) fn write(&mut self, take: impl FnOnce() -> Snapshot) -> Result<(), CheckpointError> {
        // Before the snapshot is taken, so that there are never two.
        self.finish()?;
        let snapshot = take();
        let (checkpoints, identity) = (self.checkpoints.clone(), Arc::clone(&self.identity));
        let settings = self.settings.clone();
        let work = move || {
            let folder = snapshot.write(&checkpoints, &identity)?;
            let best = snapshot.state.best.map(|best| best.step);
            retention::prune(&checkpoints, &settings, best)?;
            Ok(folder)
        };
        if self.settings.beside_training {
            let thread = thread::Builder::new().name("checkpoint".into());
            let running = thread.spawn(work);
            let failed = |source| super::write::failed(&self.checkpoints, source);
            self.running = Some(running.map_err(failed)?);
        } else {
            self.last = Some(work()?);
        }
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

impl Drop for CheckpointWriter {
    fn drop(&mut self) {
        // Where an error ends the run, the checkpoint at hand is still worth having.
        if let Some(running) = self.running.take() {
            let _ = running.join();
        }
    }
}
