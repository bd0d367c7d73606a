//! What a run can go on from.

use super::{
    CHECKPOINTS, CheckpointError, CheckpointName, FIRST_MOMENT, HINT_MEMORY, Manifest, RECIPE,
    REFERENCE, SECOND_MOMENT, STATE, TRAINER, TrainerState, WEIGHTS, read_tensors, retention,
};
use crate::trainer::MODEL;
use seele_hint::Memory;
use seele_policy::adamw::AdamW;
use seele_policy::model::{Model, ModelFiles};
use seele_policy::parameters::{Layout, Parameters};
use serde::de::DeserializeOwned;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A checkpoint of which every file has been held to its manifest.
#[derive(Debug)]
pub struct Checkpoint {
    folder: PathBuf,
    manifest: Manifest,
    state: TrainerState,
}

/// A checkpoint, and the later ones that could not be used.
#[derive(Debug)]
pub struct Found {
    /// The newest whole checkpoint, or the one that was asked for.
    pub checkpoint: Checkpoint,
    /// Why later ones were passed over.
    pub passed_over: Vec<CheckpointError>,
}

/// The run folder that a path belongs to: itself, or the one around it where it is a checkpoint in its
/// place; `None` for a checkpoint that lies elsewhere.
pub fn run_folder_of(path: &Path) -> Option<PathBuf> {
    if is_run_folder(path) || !path.join(TRAINER).is_dir() {
        return Some(path.into());
    }
    let around = |path: &Path| -> Option<PathBuf> {
        let checkpoints = path
            .parent()
            .filter(|parent| parent.ends_with(CHECKPOINTS))?;
        let run = checkpoints.parent()?;
        Some(match run.as_os_str().is_empty() {
            true => ".".into(),
            false => run.into(),
        })
    };
    // As it was written where that says enough, else as it is.
    around(path).or_else(|| around(&path.canonicalize().ok()?))
}

fn is_run_folder(path: &Path) -> bool {
    path.join(CHECKPOINTS).is_dir()
}

/// Whether a path is the folder of a run that has something to show: checkpoints, or the model at its end.
pub fn is_run(path: &Path) -> bool {
    let has_model = || path.join(MODEL).is_dir() && !path.join("config.json").exists();
    is_run_folder(path) || has_model()
}

/// The checkpoint at `path`, or the newest whole one of the run folder `path`.
///
/// This is the only place that decides what can be gone on from.
///
/// # Errors
/// What is wrong with the checkpoint asked for, or with the newest of a run that has no whole one;
/// [`CheckpointError::None`] for a run without any, [`CheckpointError::NoFolder`] for no run at all.
pub fn find(path: &Path) -> Result<Found, CheckpointError> {
    if !path.is_dir() {
        return Err(CheckpointError::NoFolder {
            folder: path.into(),
        });
    }
    let is_checkpoint = path.join(TRAINER).is_dir();
    let named_like_one = path
        .file_name()
        .and_then(|name| CheckpointName::parse(name.to_str()?));
    if named_like_one.is_some() && path.is_dir() && !is_run_folder(path) && !is_checkpoint {
        return Err(CheckpointError::Incomplete {
            folder: path.into(),
        });
    }
    let (checkpoint, passed_over) = newest(path, Checkpoint::open)?;
    Ok(Found {
        checkpoint,
        passed_over,
    })
}

/// The folder or file of the model at `path`, for who wants its weights and not go on with its run: a
/// checkpoint stands for itself and must be whole; a run folder for its newest whole checkpoint, else for
/// the model that it ended with; anything else for what [`ModelFiles::locate`] says.
///
/// Returns with it why later checkpoints were passed over.
///
/// # Errors
/// As [`find`], and [`CheckpointError::Load`] for shards that are not all there.
pub fn find_model(path: &Path) -> Result<(PathBuf, Vec<CheckpointError>), CheckpointError> {
    if !is_run(path) && !path.join(TRAINER).is_dir() {
        return Ok((ModelFiles::locate(path)?, Vec::new()));
    }
    let found = newest(path, |folder| {
        Manifest::verify_model(folder).map(|_| folder.to_path_buf())
    });
    let model = path.join(MODEL);
    match found {
        Err(CheckpointError::None { .. }) if model.is_dir() => Ok((model, Vec::new())),
        found => found,
    }
}

/// What `open` makes of the checkpoint at `path`, or of the newest in the run folder `path` that it can
/// open; and why later ones were passed over.
fn newest<T>(
    path: &Path,
    open: impl Fn(&Path) -> Result<T, CheckpointError>,
) -> Result<(T, Vec<CheckpointError>), CheckpointError> {
    if !is_run_folder(path) && path.join(TRAINER).is_dir() {
        return Ok((open(path)?, Vec::new()));
    }
    let checkpoints = path.join(CHECKPOINTS);
    let mut passed_over = Vec::new();
    for name in retention::names(&checkpoints)?.into_iter().rev() {
        match open(&checkpoints.join(name.to_string())) {
            Ok(opened) => return Ok((opened, passed_over)),
            Err(error) => passed_over.push(error),
        }
    }
    let none = CheckpointError::None {
        folder: path.into(),
    };
    Err(passed_over.into_iter().next().unwrap_or(none))
}

impl Checkpoint {
    fn open(folder: &Path) -> Result<Self, CheckpointError> {
        let manifest = Manifest::verify(folder)?;
        let state: TrainerState = read_json(&folder.join(STATE))?;
        Ok(Self {
            folder: folder.into(),
            manifest,
            state,
        })
    }

    /// Its folder, which is a model in Hugging Face layout.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Counters and positions.
    pub fn state(&self) -> &TrainerState {
        &self.state
    }

    /// The resolved recipe of the run that wrote it, a file.
    pub fn recipe(&self) -> PathBuf {
        self.folder.join(RECIPE)
    }

    /// Master weights, float32.
    pub(crate) fn parameters(&self, layout: &Arc<Layout>) -> Result<Parameters, CheckpointError> {
        let files = ModelFiles::open(&self.folder)?;
        if Layout::of(files.config()) != **layout {
            return Err(self.other_run("a model of another shape".into()));
        }
        match self.file(WEIGHTS) {
            Some(path) => {
                let mut parameters = Parameters::zeros(Arc::clone(layout));
                parameters.values = read_tensors(&path, layout)?;
                Ok(parameters)
            }
            None => {
                let Model { parameters, .. } = files.read()?;
                Ok(parameters)
            }
        }
    }

    /// Moments of AdamW.
    pub(crate) fn optimizer(&self, layout: &Layout) -> Result<AdamW, CheckpointError> {
        Ok(AdamW {
            first_moment: read_tensors(&self.folder.join(FIRST_MOMENT), layout)?,
            second_moment: read_tensors(&self.folder.join(SECOND_MOMENT), layout)?,
            steps: self.state.optimizer_steps,
        })
    }

    /// The file with the reference policy's weights, where the run made it.
    pub(crate) fn reference(&self) -> Option<PathBuf> {
        self.file(REFERENCE)
    }

    /// What the hint schedule remembers.
    pub(crate) fn hint_memory(&self) -> Result<Memory, CheckpointError> {
        read_json(&self.folder.join(HINT_MEMORY))
    }

    /// The tokenizer's file.
    pub(crate) fn tokenizer(&self) -> Result<String, CheckpointError> {
        let path = self.folder.join("tokenizer.json");
        fs::read_to_string(&path).map_err(|source| CheckpointError::Read { path, source })
    }

    pub(crate) fn other_run(&self, what: String) -> CheckpointError {
        CheckpointError::OtherRun {
            folder: self.folder.clone(),
            what,
        }
    }

    fn file(&self, name: &str) -> Option<PathBuf> {
        self.manifest
            .files
            .contains_key(name)
            .then(|| self.folder.join(name))
    }
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, CheckpointError> {
    let text = fs::read_to_string(path).map_err(|source| CheckpointError::Read {
        path: path.into(),
        source,
    })?;
    serde_json::from_str(&text).map_err(|error| CheckpointError::Content {
        path: path.into(),
        problem: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_belongs_to_the_run_around_it() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run");
        let checkpoint = run.join(CHECKPOINTS).join("step_3");
        fs::create_dir_all(checkpoint.join(TRAINER)).unwrap();
        assert_eq!(run_folder_of(&run), Some(run.clone()));
        assert_eq!(run_folder_of(&checkpoint), Some(run.clone()));
        let copy = folder.path().join("copy");
        fs::create_dir_all(copy.join(TRAINER)).unwrap();
        assert_eq!(run_folder_of(&copy), None);
    }
}
