//! Checkpoints of a run under way.

use super::{Outcome, Session};
use crate::checkpoint::{CheckpointError, CheckpointName, CheckpointWriter, Snapshot, model_card};
use crate::error::TrainError;
use crate::progress::{Observer, Phase};
use std::borrow::Cow;
use std::path::PathBuf;

impl Session<'_> {
    /// Writes a checkpoint beside training, unless there is one of this moment.
    pub(super) fn save(&mut self, observer: &mut dyn Observer) -> Result<(), TrainError> {
        self.save_by(CheckpointWriter::write, observer)
    }

    /// Writes a checkpoint of this moment, waits until it is on disk and returns it.
    pub(super) fn save_now(&mut self, observer: &mut dyn Observer) -> Result<PathBuf, TrainError> {
        self.save_by(CheckpointWriter::write_now, observer)?;
        self.writer.finish()?;
        let name = self.state.name().to_string();
        Ok(self.writer.folder().join(name))
    }

    fn save_by(
        &mut self,
        write: impl FnOnce(&mut CheckpointWriter, Snapshot<'_>) -> Result<(), CheckpointError>,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        let name = self.state.name();
        if self.saved == Some(name) {
            return Ok(());
        }
        let step = match name {
            CheckpointName::Supervised(step) | CheckpointName::Step(step) => step,
        };
        observer.phase(step, Phase::Save);
        #[cfg(feature = "cuda")]
        self.run.learner.read_back()?;
        let learner = &self.run.learner;
        self.state.optimizer_steps = learner.optimizer.steps;
        // Lines of a step that a checkpoint holds must not be lost after it.
        self.state.metrics_bytes = self.log.sync()?;
        if let Some(log) = &self.sft_log {
            self.state.sft_metrics_bytes = log.sync()?;
        }
        let snapshot = Snapshot {
            card: model_card(
                self.place.recipe,
                &self.state,
                self.last.as_ref(),
                self.place.steps(),
            ),
            state: self.state.clone(),
            parameters: Cow::Borrowed(&learner.parameters),
            optimizer: Cow::Borrowed(&learner.optimizer),
            hint_memory: Cow::Borrowed(self.run.hints.memory()),
            reference: self.reference.clone(),
        };
        write(&mut self.writer, snapshot)?;
        self.saved = Some(name);
        Ok(())
    }

    pub(super) fn stopped(mut self, observer: &mut dyn Observer) -> Result<Outcome, TrainError> {
        let checkpoint = self.save_now(observer)?;
        Ok(Outcome::Stopped { checkpoint })
    }
}
