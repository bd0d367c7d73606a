//! Writing a model folder: whole or not at all.

use super::{INDEX_FILE, SINGLE_FILE};
use crate::chat::ChatTemplate;
use crate::config::ModelConfig;
use crate::error::SaveError;
use crate::parameters::{Layout, Parameters, TensorSpec};
use crate::tokenizer::Tokenizer;
use half::bf16;
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Number format of saved weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum WeightType {
    /// Exactly the trained values.
    #[default]
    F32,
    /// Rounded to the nearest bfloat16, half the size.
    Bf16,
}

impl WeightType {
    /// Name of the format in `config.json`.
    pub(crate) fn torch_name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::Bf16 => "bfloat16",
        }
    }

    fn dtype(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::Bf16 => Dtype::BF16,
        }
    }

    /// Bytes of one number.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }
}

/// How to save a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SaveOptions {
    /// Number format of the weights.
    pub weights: WeightType,
    /// Weights are spread over several files so that none grows beyond this, in bytes; a tensor is
    /// never split.
    pub max_shard_bytes: usize,
}

impl Default for SaveOptions {
    /// Float32, shards of 5 GB.
    fn default() -> Self {
        Self {
            weights: WeightType::F32,
            max_shard_bytes: 5_000_000_000,
        }
    }
}

/// What goes into a model folder.
#[derive(Clone, Copy, Debug)]
pub struct ModelParts<'a> {
    /// Shape and settings.
    pub config: &'a ModelConfig,
    /// Every weight.
    pub parameters: &'a Parameters,
    /// The tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// The chat template, if there is one.
    pub chat_template: Option<&'a ChatTemplate>,
}

/// Writes a folder that `transformers` and everything else that knows the layout loads unchanged.
/// It is written beside the target, flushed to disk, then renamed: after a crash the target is
/// whole or absent.
///
/// # Errors
/// [`SaveError::Exists`] if the target is there and not an empty folder, [`SaveError::Layout`] if
/// the parameters are not those of the configuration, and what the system refuses.
pub fn save(folder: &Path, parts: &ModelParts<'_>, options: &SaveOptions) -> Result<(), SaveError> {
    if **parts.parameters.layout() != Layout::of(parts.config) {
        let expected = Layout::of(parts.config).len();
        return Err(SaveError::Layout {
            parameters: parts.parameters.layout().len(),
            expected,
        });
    }
    let draft = Draft::beside(folder)?;
    draft.write_json("config.json", &parts.config.to_json(options.weights))?;
    draft.write_json("generation_config.json", &parts.config.generation_json())?;
    write_tokenizer(&draft, parts)?;
    write_weights(&draft, parts.parameters, options)?;
    draft.publish()
}

fn write_tokenizer(draft: &Draft, parts: &ModelParts<'_>) -> Result<(), SaveError> {
    let name = "tokenizer.json";
    let text = parts
        .tokenizer
        .to_json()
        .map_err(|source| SaveError::Tokenizer {
            path: draft.path(name),
            source,
        })?;
    draft.write(name, text.as_bytes())?;
    let mut settings = parts.tokenizer.settings().clone();
    // Without a class `transformers` cannot tell what to build; this one reads any `tokenizer.json`.
    settings
        .entry("tokenizer_class")
        .or_insert_with(|| json!("PreTrainedTokenizerFast"));
    if let Some(template) = parts.chat_template {
        settings.insert("chat_template".to_owned(), json!(template.source()));
    }
    draft.write_json("tokenizer_config.json", &Value::Object(settings))
}

fn write_weights(
    draft: &Draft,
    parameters: &Parameters,
    options: &SaveOptions,
) -> Result<(), SaveError> {
    let shards = shards(parameters.layout(), options);
    let single = shards.len() == 1;
    let mut weight_map = Map::new();
    for (index, specs) in shards.iter().enumerate() {
        let name = if single {
            SINGLE_FILE.to_owned()
        } else {
            format!("model-{:05}-of-{:05}.safetensors", index + 1, shards.len())
        };
        let path = draft.path(&name);
        write_shard(&path, specs, parameters, options.weights)?;
        weight_map.extend(specs.iter().map(|spec| (spec.name.clone(), json!(name))));
    }
    if single {
        return Ok(());
    }
    let total_size = parameters.layout().len() * options.weights.bytes();
    draft.write_json(
        INDEX_FILE,
        &json!({ "metadata": { "total_size": total_size }, "weight_map": weight_map }),
    )
}

/// Tensors in order, a new shard whenever the next one would not fit.
fn shards<'a>(layout: &'a Layout, options: &SaveOptions) -> Vec<Vec<&'a TensorSpec>> {
    let mut shards: Vec<Vec<&TensorSpec>> = vec![Vec::new()];
    let mut filled = 0;
    for spec in layout.tensors() {
        let bytes = spec.len() * options.weights.bytes();
        if filled > 0 && filled + bytes > options.max_shard_bytes {
            shards.push(Vec::new());
            filled = 0;
        }
        filled += bytes;
        if let Some(shard) = shards.last_mut() {
            shard.push(spec);
        }
    }
    shards
}

/// Writes one safetensors file: length of the table of contents, the table, the numbers.
fn write_shard(
    path: &Path,
    specs: &[&TensorSpec],
    parameters: &Parameters,
    weights: WeightType,
) -> Result<(), SaveError> {
    let mut end = 0;
    let tensors = specs.iter().map(|spec| {
        let start = end;
        end += spec.len() * weights.bytes();
        let info = TensorInfo {
            dtype: weights.dtype(),
            shape: spec.shape.clone(),
            data_offsets: (start, end),
        };
        (spec.name.clone(), info)
    });
    let format = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let header = Metadata::new(Some(format), tensors.collect())
        .and_then(|metadata| Ok(serde_json::to_string(&metadata)?))
        .map_err(|source| SaveError::Tensors {
            path: path.to_owned(),
            source,
        })?;
    // Spaces to a multiple of eight keep the numbers aligned.
    let header_len = header.len().next_multiple_of(8);

    let write = || -> io::Result<()> {
        let mut out = BufWriter::with_capacity(1 << 17, File::create_new(path)?);
        out.write_all(&(header_len as u64).to_le_bytes())?;
        write!(out, "{header:header_len$}")?;
        for spec in specs {
            for value in &parameters.values[spec.range()] {
                match weights {
                    WeightType::F32 => out.write_all(&value.to_le_bytes())?,
                    WeightType::Bf16 => out.write_all(&bf16::from_f32(*value).to_le_bytes())?,
                }
            }
        }
        out.into_inner()?.sync_all()
    };
    write().map_err(|source| SaveError::Write {
        path: path.to_owned(),
        source,
    })
}

/// A folder under a temporary name beside its target; removed unless published.
struct Draft {
    folder: PathBuf,
    target: PathBuf,
    published: bool,
}

impl Draft {
    fn beside(target: &Path) -> Result<Self, SaveError> {
        let parent = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        fs::create_dir_all(parent).map_err(|source| SaveError::Write {
            path: parent.to_owned(),
            source,
        })?;
        let taken = match fs::read_dir(target) {
            Ok(mut entries) => entries.next().is_some(),
            Err(_) => target.exists(),
        };
        let Some(name) = target.file_name().filter(|_| !taken) else {
            return Err(SaveError::Exists {
                path: target.to_owned(),
            });
        };
        let folder = parent.join(format!(
            ".{}.partial-{}",
            name.to_string_lossy(),
            std::process::id()
        ));
        // What a killed process of the same number left behind.
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(|source| SaveError::Write {
                path: folder.clone(),
                source,
            })?;
        }
        fs::create_dir(&folder).map_err(|source| SaveError::Write {
            path: folder.clone(),
            source,
        })?;
        Ok(Self {
            folder,
            target: target.to_owned(),
            published: false,
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), SaveError> {
        let path = self.path(name);
        fs::write(&path, bytes).map_err(|source| SaveError::Write {
            path: path.clone(),
            source,
        })?;
        sync(&path)
    }

    fn write_json(&self, name: &str, value: &Value) -> Result<(), SaveError> {
        self.write(name, format!("{value:#}\n").as_bytes())
    }

    /// Makes the folder appear under its name.
    fn publish(mut self) -> Result<(), SaveError> {
        sync(&self.folder)?;
        fs::rename(&self.folder, &self.target).map_err(|source| SaveError::Write {
            path: self.target.clone(),
            source,
        })?;
        self.published = true;
        match self.target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => sync(parent),
            _ => sync(Path::new(".")),
        }
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

/// Waits until a file, or the entries of a folder, are on disk.
fn sync(path: &Path) -> Result<(), SaveError> {
    if cfg!(windows) && path.is_dir() {
        // Folders cannot be opened as files there.
        return Ok(());
    }
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(|source| SaveError::Write {
            path: path.to_owned(),
            source,
        })
}
