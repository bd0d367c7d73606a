//! A model with all that is needed to talk to it.

use crate::chat::ChatTemplate;
use crate::config::ModelConfig;
use crate::encoding::Encoding;
use crate::error::{LoadError, SaveError};
use crate::fsdp;
use crate::huggingface::{self, ModelParts, SaveOptions, WeightType};
use crate::parameters::{Layout, Parameters};
use crate::tokenizer::Tokenizer;
use crate::weights::WeightTable;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Weights, tokenizer and chat template that belong together.
#[derive(Clone, Debug)]
pub struct Model {
    /// Shape and settings.
    pub config: ModelConfig,
    /// Every weight, float32.
    pub parameters: Parameters,
    /// Text to ids and back; all its ids have a row in the embedding.
    pub tokenizer: Tokenizer,
    /// How the model wants a conversation written, if it says so.
    pub chat_template: Option<ChatTemplate>,
}

impl Model {
    /// Loads what [`ModelFiles::open`] can open. Everything that can be checked without the weights is
    /// checked first. Weights are read on all threads
    /// and take 4 bytes each.
    ///
    /// # Errors
    /// [`LoadError`] names file, place and remedy.
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        ModelFiles::open(path)?.read()
    }

    /// Writes a Hugging Face folder; see [`huggingface::save`].
    ///
    /// # Errors
    /// As [`huggingface::save`].
    pub fn save(&self, folder: &Path, options: &SaveOptions) -> Result<(), SaveError> {
        huggingface::save(folder, &self.parts(), options)
    }

    /// The model's parts, borrowed.
    pub fn parts(&self) -> ModelParts<'_> {
        ModelParts {
            config: &self.config,
            parameters: &self.parameters,
            tokenizer: &self.tokenizer,
            chat_template: self.chat_template.as_ref(),
        }
    }
}

/// A model whose files have been checked, but whose weights have not been read.
#[derive(Clone, Debug)]
pub struct ModelFiles {
    pub(crate) config: ModelConfig,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) chat_template: Option<ChatTemplate>,
    pub(crate) weights: WeightTable,
}

impl ModelFiles {
    /// Checks what is at `path`: a Hugging Face folder, a `.gguf` file or a folder with one, or a checkpoint
    /// that verl sharded with FSDP (the folder of its shards, of its step, or of its experiment, which
    /// stands for its newest step). Held against each other are the configuration, the tokenizer and that its ids fit, the chat
    /// template, and that the weight files hold exactly the tensors that the configuration calls
    /// for, whole. Reads no weight, so it takes well under a second for any size.
    ///
    /// # Errors
    /// [`LoadError`] names file, place and remedy.
    pub fn open(path: &Path) -> Result<Self, LoadError> {
        let metadata = std::fs::metadata(path).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => LoadError::NotAModel {
                path: path.to_owned(),
                problem:
                    "there is no such file or folder; give a Hugging Face folder or a `.gguf` file"
                        .to_owned(),
            },
            _ => LoadError::Read {
                path: path.to_owned(),
                source,
            },
        })?;
        if metadata.is_file() {
            return match path.extension() {
                Some(extension) if extension.eq_ignore_ascii_case("gguf") => {
                    crate::gguf::open(path)
                }
                _ => Err(LoadError::NotAModel {
                    path: path.to_owned(),
                    problem:
                        "it is a file, but not a `.gguf` file; give the folder with `config.json`"
                            .to_owned(),
                }),
            };
        }
        if huggingface::has_weights(path) {
            return huggingface::open(path);
        }
        if let Some(shards) = fsdp::locate(path)? {
            return fsdp::open(&shards);
        }
        if path.join("config.json").is_file() {
            return huggingface::open(path);
        }
        match gguf_files_in(path)?.as_slice() {
            [file] => crate::gguf::open(file),
            [] => Err(LoadError::NotAModel {
                path: path.to_owned(),
                problem: "it has neither a `config.json` nor a `.gguf` file".to_owned(),
            }),
            several => Err(LoadError::NotAModel {
                path: path.to_owned(),
                problem: format!(
                    "it has no `config.json`, and {} `.gguf` files to choose from; name one of them, for example `{}`",
                    several.len(),
                    several[0].display(),
                ),
            }),
        }
    }

    /// What `path` stands for: for the experiment or the step of a sharded checkpoint the folder of its
    /// shards, for anything else itself. Looks at names only.
    ///
    /// # Errors
    /// [`LoadError`] if it stands for shards that are not all there.
    pub fn locate(path: &Path) -> Result<PathBuf, LoadError> {
        if !path.is_dir() || huggingface::has_weights(path) {
            return Ok(path.to_owned());
        }
        let shards = fsdp::locate(path)?;
        let folder = shards.and_then(|shards| Some(shards.files.first()?.parent()?.to_owned()));
        Ok(folder.unwrap_or_else(|| path.to_owned()))
    }

    /// Reads the weights.
    ///
    /// # Errors
    /// [`LoadError::Read`], [`LoadError::NotFinite`], [`LoadError::NotTied`].
    pub fn read(self) -> Result<Model, LoadError> {
        let layout = Arc::new(Layout::of(&self.config));
        let parameters = self.weights.read(&layout)?;
        let Self {
            config,
            tokenizer,
            chat_template,
            ..
        } = self;
        Ok(Model {
            config,
            parameters,
            tokenizer,
            chat_template,
        })
    }

    /// Shape and settings.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The chat template, if there is one.
    pub fn chat_template(&self) -> Option<&ChatTemplate> {
        self.chat_template.as_ref()
    }

    /// The number format that holds the stored weights exactly, in the least space that can be saved.
    pub fn weight_type(&self) -> WeightType {
        let mut tensors = self.weights.tensors.iter();
        match tensors.all(|tensor| tensor.encoding == Encoding::Bf16) {
            true => WeightType::Bf16,
            false => WeightType::F32,
        }
    }

    /// The files that hold the weights.
    pub fn weight_files(&self) -> &[PathBuf] {
        &self.weights.files
    }
}

fn gguf_files_in(folder: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let read_error = |source| LoadError::Read {
        path: folder.to_owned(),
        source,
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(read_error)? {
        let path = entry.map_err(read_error)?.path();
        if path.is_file()
            && path
                .extension()
                .is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
        {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
