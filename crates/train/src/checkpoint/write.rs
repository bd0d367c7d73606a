//! Writing a checkpoint: whole or not at all.

use super::{
    CheckpointError, FIRST_MOMENT, HINT_MEMORY, MANIFEST, Manifest, RECIPE, REFERENCE,
    SECOND_MOMENT, STATE, TRAINER, TrainerState, WEIGHTS, write_tensors,
};
use seele_hint::Memory;
use seele_policy::adamw::AdamW;
use seele_policy::chat::ChatTemplate;
use seele_policy::config::ModelConfig;
use seele_policy::huggingface::{self, ModelParts, SaveOptions, WeightType};
use seele_policy::parameters::Parameters;
use seele_policy::tokenizer::Tokenizer;
use serde::Serialize;
use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// What never changes in a run.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) config: ModelConfig,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) chat_template: Option<ChatTemplate>,
    /// Number type of the model in Hugging Face layout.
    pub(crate) weights: WeightType,
    /// The resolved recipe.
    pub(crate) recipe: String,
}

/// A run at one moment: what it holds itself, or a copy.
#[derive(Debug)]
pub(crate) struct Snapshot<'a> {
    pub(crate) state: TrainerState,
    pub(crate) parameters: Cow<'a, Parameters>,
    pub(crate) optimizer: Cow<'a, AdamW>,
    pub(crate) hint_memory: Cow<'a, Memory>,
    /// File with the weights of the reference policy, where the run made it.
    pub(crate) reference: Option<PathBuf>,
    pub(crate) card: String,
}

impl Snapshot<'_> {
    /// A copy of everything, so that the run may go on.
    pub(crate) fn copied(self) -> Snapshot<'static> {
        Snapshot {
            parameters: Cow::Owned(self.parameters.into_owned()),
            optimizer: Cow::Owned(self.optimizer.into_owned()),
            hint_memory: Cow::Owned(self.hint_memory.into_owned()),
            state: self.state,
            reference: self.reference,
            card: self.card,
        }
    }

    /// Writes `checkpoints/<name>/` and returns it. One of the same name gives way.
    pub(crate) fn write(
        &self,
        checkpoints: &Path,
        identity: &Identity,
    ) -> Result<PathBuf, CheckpointError> {
        let target = checkpoints.join(self.state.name().to_string());
        let draft = Draft::new(&target)?;
        save_model(&draft.folder, identity, &self.parameters, &self.card)?;
        create_folder(&draft.path(TRAINER))?;
        let layout = self.parameters.layout();
        write_tensors(
            &draft.path(FIRST_MOMENT),
            layout,
            &self.optimizer.first_moment,
        )?;
        write_tensors(
            &draft.path(SECOND_MOMENT),
            layout,
            &self.optimizer.second_moment,
        )?;
        if identity.weights != WeightType::F32 {
            write_tensors(&draft.path(WEIGHTS), layout, &self.parameters.values)?;
        }
        if let Some(reference) = &self.reference {
            link_or_copy(reference, &draft.path(REFERENCE))?;
        }
        write_json(&draft.path(HINT_MEMORY), self.hint_memory.as_ref())?;
        write_json(&draft.path(STATE), &self.state)?;
        write_file(&draft.path(RECIPE), identity.recipe.as_bytes())?;
        let manifest = Manifest::of(&draft.folder)?;
        sync(&draft.path(TRAINER))?;
        write_json(&draft.path(MANIFEST), &manifest)?;
        sync(&draft.path(TRAINER))?;
        draft.publish()?;
        Ok(target)
    }
}

/// Writes a model folder with its card at `target`; one that is there gives way.
pub(crate) fn publish_model(
    target: &Path,
    identity: &Identity,
    parameters: &Parameters,
    card: &str,
) -> Result<(), CheckpointError> {
    let draft = Draft::new(target)?;
    save_model(&draft.folder, identity, parameters, card)?;
    draft.publish()
}

fn save_model(
    folder: &Path,
    identity: &Identity,
    parameters: &Parameters,
    card: &str,
) -> Result<(), CheckpointError> {
    let parts = ModelParts {
        config: &identity.config,
        parameters,
        tokenizer: &identity.tokenizer,
        chat_template: identity.chat_template.as_ref(),
    };
    let options = SaveOptions {
        weights: identity.weights,
        ..SaveOptions::default()
    };
    huggingface::save(folder, &parts, &options)?;
    write_file(&folder.join("README.md"), card.as_bytes())
}

/// A folder under a temporary name beside its target; removed unless published.
struct Draft {
    folder: PathBuf,
    target: PathBuf,
    published: bool,
}

impl Draft {
    fn new(target: &Path) -> Result<Self, CheckpointError> {
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).map_err(|source| failed(parent, source))?;
        }
        let folder = beside(target, "partial");
        remove_folder(&folder)?;
        Ok(Self {
            folder,
            target: target.into(),
            published: false,
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Makes the folder appear under its name.
    fn publish(mut self) -> Result<(), CheckpointError> {
        sync(&self.folder)?;
        let old = beside(&self.target, "removed");
        remove_folder(&old)?;
        let replaces = self.target.exists();
        if replaces {
            rename(&self.target, &old)?;
        }
        rename(&self.folder, &self.target)?;
        self.published = true;
        if let Some(parent) = self.target.parent() {
            sync(parent)?;
        }
        remove_folder(&old)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.published {
            // The error that brought us here matters more than a folder that cannot be removed.
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// `.<name>.<what>` beside a folder: no name that anyone takes for a checkpoint.
pub(super) fn beside(target: &Path, what: &str) -> PathBuf {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    target.with_file_name(format!(".{name}.{what}"))
}

pub(super) fn failed(path: &Path, source: io::Error) -> CheckpointError {
    CheckpointError::Write {
        path: path.into(),
        source,
    }
}

/// Removes a folder, if it is there.
pub(super) fn remove_folder(folder: &Path) -> Result<(), CheckpointError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(folder, error)),
        _ => Ok(()),
    }
}

pub(super) fn rename(from: &Path, to: &Path) -> Result<(), CheckpointError> {
    fs::rename(from, to).map_err(|source| failed(to, source))
}

fn create_folder(folder: &Path) -> Result<(), CheckpointError> {
    fs::create_dir(folder).map_err(|source| failed(folder, source))
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), CheckpointError> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| failed(path, io::Error::other(error)))?;
    write_file(path, text.as_bytes())
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<(), CheckpointError> {
    let write = || {
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|source| failed(path, source))
}

/// A second name for the same content; a copy where the file system has no such thing.
pub(super) fn link_or_copy(from: &Path, to: &Path) -> Result<(), CheckpointError> {
    if fs::hard_link(from, to).is_ok() {
        return Ok(());
    }
    let copy = || {
        fs::copy(from, to)?;
        File::open(to)?.sync_all()
    };
    copy().map_err(|source| failed(to, source))
}

/// Waits until a file, or the entries of a folder, are on disk.
fn sync(path: &Path) -> Result<(), CheckpointError> {
    if cfg!(windows) {
        // Folders cannot be opened as files there.
        return Ok(());
    }
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(|source| failed(path, source))
}
