//! Opening a model folder: every check that needs no weights.

use super::header::Header;
use super::{INDEX_FILE, SINGLE_FILE};
use crate::chat::ChatTemplate;
use crate::config::ModelConfig;
use crate::config::keys::Keys;
use crate::encoding::Encoding;
use crate::error::LoadError;
use crate::model::ModelFiles;
use crate::parameters::Layout;
use crate::tokenizer::Tokenizer;
use crate::weights::{FoundTensor, Piece, WeightTable};
use safetensors::tensor::{Dtype, TensorInfo};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Opens the folder: configuration, tokenizer, chat template and the tables of contents of the
/// weight files, all checked against each other.
pub(crate) fn open(folder: &Path) -> Result<ModelFiles, LoadError> {
    let identity = Identity::open(folder)?;
    let layout = Layout::of(&identity.config);
    let weights = weight_table(folder, &layout, identity.config.tied)?;
    Ok(identity.with(weights))
}

/// What a folder says of a model besides its weights.
pub(crate) struct Identity {
    pub(crate) config: ModelConfig,
    tokenizer: Tokenizer,
    chat_template: Option<ChatTemplate>,
}

impl Identity {
    /// Configuration, tokenizer and chat template of a folder, checked against each other.
    pub(crate) fn open(folder: &Path) -> Result<Self, LoadError> {
        let config_path = folder.join("config.json");
        let mut config = ModelConfig::from_file(&config_path)?;
        let generation_path = folder.join("generation_config.json");
        if let Some(text) = read_if_present(&generation_path)? {
            config.apply_generation_json(&text, &generation_path)?;
        }
        let tokenizer = Tokenizer::from_folder(folder)?;
        tokenizer.check_vocabulary(&folder.join("tokenizer.json"), config.vocab_size)?;
        if config.eos_token_ids.is_empty() {
            config.eos_token_ids.extend(tokenizer.eos_token_id());
        }
        let chat_template = chat_template(folder, &tokenizer)?;
        Ok(Self {
            config,
            tokenizer,
            chat_template,
        })
    }

    /// The model of these weights.
    pub(crate) fn with(self, weights: WeightTable) -> ModelFiles {
        let Self {
            config,
            tokenizer,
            chat_template,
        } = self;
        ModelFiles {
            config,
            tokenizer,
            chat_template,
            weights,
        }
    }
}

fn read_if_present(path: &Path) -> Result<Option<String>, LoadError> {
    if !path.is_file() {
        return Ok(None);
    }
    std::fs::read_to_string(path)
        .map(Some)
        .map_err(|source| LoadError::Read {
            path: path.to_owned(),
            source,
        })
}

/// The template of `chat_template.jinja`, or else the one in `tokenizer_config.json`: a string, or
/// the one called `default` in a list of named templates.
fn chat_template(folder: &Path, tokenizer: &Tokenizer) -> Result<Option<ChatTemplate>, LoadError> {
    let mut path = folder.join("chat_template.jinja");
    let mut source = read_if_present(&path)?;
    if source.is_none() {
        path = folder.join("tokenizer_config.json");
        if let Some(text) = read_if_present(&path)? {
            source = template_in_settings(&Keys::parse(&text, &path)?)?;
        }
    }
    source
        .map(|source| ChatTemplate::new(&source, tokenizer))
        .transpose()
        .map_err(|source| LoadError::ChatTemplate { path, source })
}

fn template_in_settings(keys: &Keys<'_>) -> Result<Option<String>, LoadError> {
    let key = "chat_template";
    let named = match keys.value(key) {
        None => return Ok(None),
        Some(Value::String(source)) => return Ok(Some(source.clone())),
        Some(Value::Array(named)) => named,
        Some(_) => return Err(keys.invalid(key, "a template or a list of named templates")),
    };
    let field = |entry: &Value, field: &str| Some(entry.get(field)?.as_str()?.to_owned());
    let default = named
        .iter()
        .find(|entry| field(entry, "name").as_deref() == Some("default"));
    default
        .and_then(|entry| field(entry, "template"))
        .map(Some)
        .ok_or_else(|| {
            keys.invalid(
                key,
                "a list with an entry of `name` \"default\" and its `template`",
            )
        })
}

/// Finds each tensor of the layout in the weight files; nothing may be missing or left over.
fn weight_table(folder: &Path, layout: &Layout, tied: bool) -> Result<WeightTable, LoadError> {
    let (table_of, files) = weight_files(folder)?;
    let mut found = BTreeMap::new();
    for (file, path) in files.iter().enumerate() {
        let header = Header::read(path)?;
        for (name, info) in &header.tensors {
            found
                .entry(name.clone())
                .or_insert_with(|| found_tensor(file, header.data_start, info));
        }
    }
    WeightTable::matching(files, found, layout, tied, &table_of)
}

fn found_tensor(file: usize, data_start: u64, info: &TensorInfo) -> FoundTensor {
    let offset = data_start + info.data_offsets.0 as u64;
    FoundTensor {
        file,
        encoding: match info.dtype {
            Dtype::F32 => Ok(Encoding::F32),
            Dtype::F16 => Ok(Encoding::F16),
            Dtype::BF16 => Ok(Encoding::Bf16),
            other => Err(format!("{other:?}")),
        },
        pieces: vec![Piece::whole(file, offset, info.shape.iter().product())],
        shape: info.shape.clone(),
        replicas: Vec::new(),
    }
}

/// Whether weights lie in the folder itself.
pub(crate) fn has_weights(folder: &Path) -> bool {
    folder.join(SINGLE_FILE).is_file() || folder.join(INDEX_FILE).is_file()
}

/// The weight files, and the one file to blame for a tensor that is in none of them.
fn weight_files(folder: &Path) -> Result<(PathBuf, Vec<PathBuf>), LoadError> {
    let single = folder.join(SINGLE_FILE);
    if single.is_file() {
        return Ok((single.clone(), vec![single]));
    }
    let index = folder.join(INDEX_FILE);
    let Some(text) = read_if_present(&index)? else {
        let other = [
            "pytorch_model.bin",
            "pytorch_model.bin.index.json",
            "consolidated.safetensors",
        ]
        .into_iter()
        .find(|name| folder.join(name).is_file());
        let hint = match other {
            Some(name) => format!(
                "; it has `{name}`: load that with `transformers` and save it with `save_pretrained`"
            ),
            None => String::new(),
        };
        return Err(LoadError::NotAModel {
            path: folder.to_owned(),
            problem: format!("neither `{SINGLE_FILE}` nor `{INDEX_FILE}` is there{hint}"),
        });
    };
    let keys = Keys::parse(&text, &index)?;
    let map = keys
        .object("weight_map", "weight_map.")?
        .ok_or_else(|| keys.missing("weight_map", "the place of each tensor"))?;
    let files = shards(map.into_map(), folder, &index)?;
    Ok((index, files))
}

/// The files that the index names, in order, each checked to be there.
fn shards(
    weight_map: Map<String, Value>,
    folder: &Path,
    index: &Path,
) -> Result<Vec<PathBuf>, LoadError> {
    let mut first_tensors = BTreeMap::new();
    for (tensor, shard) in weight_map {
        // A shard lies in the folder itself: a path that leads elsewhere is refused.
        let name = shard.as_str().filter(|name| {
            Path::new(name)
                .file_name()
                .is_some_and(|last| last == *name)
        });
        let Some(name) = name else {
            return Err(LoadError::InvalidKey {
                path: index.to_owned(),
                key: format!("weight_map.{tensor}"),
                found: shard.to_string(),
                expected: "the name of a file in the same folder".to_owned(),
            });
        };
        first_tensors.entry(name.to_owned()).or_insert(tensor);
    }
    first_tensors
        .into_iter()
        .map(|(shard, tensor)| {
            let path = folder.join(&shard);
            if path.is_file() {
                Ok(path)
            } else {
                Err(LoadError::MissingShard {
                    index: index.to_owned(),
                    shard,
                    tensor,
                })
            }
        })
        .collect()
}
