//! Checkpoints of a run under way.

use super::{Outcome, Session};
use crate::checkpoint::{CheckpointName, Snapshot, model_card};
use crate::error::TrainError;
use crate::progress::{Observer, Phase};
use std::path::PathBuf;

impl Session<'_> {
    /// Writes a checkpoint, unless there is one of this moment.
    pub(super) fn save(&mut self, observer: &mut dyn Observer) -> Result<(), TrainError> {
        let name = self.state.name();
        if self.saved == Some(name) {
            return Ok(());
        }
        let step = match name {
            CheckpointName::Supervised(step) | CheckpointName::Step(step) => step,
        };
        observer.phase(step, Phase::Save);
        let learner = &self.run.learner;
        self.state.optimizer_steps = learner.optimizer.steps;
        // Lines of a step that a checkpoint holds must not be lost after it.
        self.state.metrics_bytes = self.log.sync()?;
        if let Some(log) = &self.sft_log {
            self.state.sft_metrics_bytes = log.sync()?;
        }
        self.writer.write(|| Snapshot {
            card: model_card(
                self.place.recipe,
                &self.state,
                self.last.as_ref(),
                self.place.steps(),
            ),
            state: self.state.clone(),
            parameters: learner.parameters.clone(),
            optimizer: learner.optimizer.clone(),
            hint_memory: self.run.hints.memory().clone(),
            reference: self.reference.clone(),
        })?;
        self.saved = Some(name);
        Ok(())
    }

    /// Writes a checkpoint of this moment, waits until it is on disk and returns it.
    pub(super) fn save_now(&mut self, observer: &mut dyn Observer) -> Result<PathBuf, TrainError> {
        self.save(observer)?;
        self.writer.finish()?;
        let name = self.state.name().to_string();
        Ok(self.writer.folder().join(name))
    }

    pub(super) fn stopped(mut self, observer: &mut dyn Observer) -> Result<Outcome, TrainError> {
        let checkpoint = self.save_now(observer)?;
        Ok(Outcome::Stopped { checkpoint })
    }
}
