//! GGUF files: one file with metadata, tokenizer and weights, often quantised.
//!
//! Versions 2 and 3, little endian, architectures llama (which Mistral files use too), qwen2 and
//! qwen3. Weights become float32; names, row order, tokenizer and chat template become those of a
//! Hugging Face folder, so that a model loaded here and saved is an ordinary folder.

mod config;
mod header;
mod metadata;
mod pretokenizer;
mod reader;
mod rope;
mod tensors;
mod tokenizer;

use crate::chat::ChatTemplate;
use crate::error::LoadError;
use crate::model::ModelFiles;
use crate::parameters::Layout;
use header::Header;
use std::path::Path;

/// Opens the file: every check that needs no weights.
pub(crate) fn open(path: &Path) -> Result<ModelFiles, LoadError> {
    let header = Header::read(path)?;
    let config = config::model_config(&header)?;
    let tokenizer = tokenizer::tokenizer(&header.metadata)?;
    tokenizer.check_vocabulary(path, config.vocab_size)?;
    let chat_template = header
        .metadata
        .text("tokenizer.chat_template")?
        .map(|source| ChatTemplate::new(source, &tokenizer))
        .transpose()
        .map_err(|source| LoadError::ChatTemplate {
            path: path.to_owned(),
            source,
        })?;
    let weights = tensors::weight_table(&header, &config, &Layout::of(&config))?;
    Ok(ModelFiles {
        config,
        tokenizer,
        chat_template,
        weights,
    })
}
