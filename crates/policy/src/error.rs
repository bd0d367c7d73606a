//! What can be wrong with a model folder or file, and with writing one.

use crate::chat::ChatTemplateError;
use crate::tokenizer::TokenizerError;
use std::path::PathBuf;

/// Why a model could not be loaded. Every message names the file, the place in it and the remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The operating system refused to read a file.
    #[error("cannot read `{}`: {source}", path.display())]
    Read {
        /// File or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The path holds nothing that can be loaded.
    #[error("no model in `{}`: {problem}", path.display())]
    NotAModel {
        /// Path that was given.
        path: PathBuf,
        /// What is missing and what to give instead.
        problem: String,
    },
    /// A JSON file does not parse, or is not an object.
    #[error("`{}` is not a JSON object: {source}; copy the file again from where the model came from", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Line, column and reason.
        source: serde_json::Error,
    },
    /// A setting that fixes the model's function is not given.
    #[error("`{}` does not give `{key}`, {meaning}", path.display())]
    MissingKey {
        /// The file.
        path: PathBuf,
        /// Name of the setting.
        key: String,
        /// What the setting is.
        meaning: &'static str,
    },
    /// A setting has a value that cannot be right.
    #[error("`{}`: `{key}` is {found}, but must be {expected}", path.display())]
    InvalidKey {
        /// The file.
        path: PathBuf,
        /// Name of the setting.
        key: String,
        /// Value in the file.
        found: String,
        /// What would be right.
        expected: String,
    },
    /// A setting is valid, but asks for something this program does not compute.
    #[error("`{}`: `{key}` = {found} is not supported; supported: {supported}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// Name of the setting.
        key: String,
        /// Value in the file.
        found: String,
        /// What can be loaded instead.
        supported: String,
    },
    /// A weight file is cut short or its table of contents contradicts itself.
    #[error("`{}` is damaged: {problem}; copy or download the file again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not fit, with byte positions where they are known.
        problem: String,
    },
    /// The configuration calls for a tensor that no weight file holds.
    #[error(
        "`{}` does not hold tensor `{tensor}` of shape {shape:?}, which the configuration calls for; \
         the weights are incomplete or belong to another configuration",
        path.display()
    )]
    MissingTensor {
        /// The weight file, or the index of the shards.
        path: PathBuf,
        /// Name as the file would spell it.
        tensor: String,
        /// Shape it would have.
        shape: Vec<usize>,
    },
    /// A tensor has another shape than the configuration calls for.
    #[error(
        "`{}`: tensor `{tensor}` has shape {found:?}, but the configuration calls for {expected:?}; \
         weights and configuration belong to different models",
        path.display()
    )]
    TensorShape {
        /// The weight file.
        path: PathBuf,
        /// Name of the tensor.
        tensor: String,
        /// Shape by the configuration.
        expected: Vec<usize>,
        /// Shape in the file.
        found: Vec<usize>,
    },
    /// A tensor is stored in a number format that cannot be read.
    #[error("`{}`: tensor `{tensor}` is stored as {found}, which is not supported; supported: {supported}", path.display())]
    TensorType {
        /// The weight file.
        path: PathBuf,
        /// Name of the tensor.
        tensor: String,
        /// Format in the file.
        found: String,
        /// Formats that can be read.
        supported: &'static str,
    },
    /// A weight file holds a tensor that the configuration has no place for.
    #[error(
        "`{}` holds tensor `{tensor}`, which the configuration has no place for; \
         loading without it would change what the model computes",
        path.display()
    )]
    UnexpectedTensor {
        /// The weight file.
        path: PathBuf,
        /// Name of the tensor.
        tensor: String,
    },
    /// A weight is not a number.
    #[error("`{}`: element {element} of tensor `{tensor}` is {value}; the weights are unusable, take another copy or checkpoint", path.display())]
    NotFinite {
        /// The weight file.
        path: PathBuf,
        /// Name of the tensor.
        tensor: String,
        /// Row-major position of the element.
        element: usize,
        /// NaN or an infinity.
        value: f32,
    },
    /// A tied model ships an output projection that is not its embedding.
    #[error(
        "`{}`: `lm_head.weight` differs from the embedding although `tie_word_embeddings` is true; \
         set it to false in the configuration to use both",
        path.display()
    )]
    NotTied {
        /// The weight file.
        path: PathBuf,
    },
    /// What several processes held of a model is not the same.
    #[error(
        "`{}`: tensor `{tensor}` is not the same as in the other ranks that hold it; the shards are of different moments or models",
        path.display()
    )]
    ReplicasDiffer {
        /// The shard.
        path: PathBuf,
        /// Name of the tensor.
        tensor: String,
    },
    /// A shard names something that weights do not need, as only a program hidden in it would.
    #[error(
        "`{}` asks for `{name}` (byte {byte} of its pickle), which no weights need; nothing of it was run. \
         Do not load it with `torch.load`, which would; get the checkpoint from where it was written",
        path.display()
    )]
    ForeignObject {
        /// The shard.
        path: PathBuf,
        /// Module and name.
        name: String,
        /// Byte of the pickle.
        byte: usize,
    },
    /// The index of the shards names a file that is not there.
    #[error("`{}` places tensor `{tensor}` in `{shard}`, which is not in the folder; copy the missing file", index.display())]
    MissingShard {
        /// The index file.
        index: PathBuf,
        /// Name of the absent file.
        shard: String,
        /// First tensor that would be in it.
        tensor: String,
    },
    /// The tokenizer cannot be built.
    #[error("`{}`: {source}", path.display())]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: TokenizerError,
    },
    /// The tokenizer knows ids that the embedding has no row for.
    #[error(
        "`{}`: token `{token}` has id {id}, but the model's vocabulary has {vocab_size} rows; \
         tokenizer and weights belong to different models",
        path.display()
    )]
    TokenBeyondVocabulary {
        /// File of the tokenizer.
        path: PathBuf,
        /// The token with the largest id.
        token: String,
        /// Its id.
        id: u32,
        /// Rows of the embedding.
        vocab_size: usize,
    },
    /// The chat template cannot be compiled.
    #[error("`{}`: {source}", path.display())]
    ChatTemplate {
        /// File that holds the template.
        path: PathBuf,
        /// What is wrong with it.
        source: ChatTemplateError,
    },
}

/// Why a model folder could not be written. The target is then absent, as before.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SaveError {
    /// The target is there already; nothing is overwritten.
    #[error("`{}` exists already; choose another folder or move it away", path.display())]
    Exists {
        /// Folder that was to be written.
        path: PathBuf,
    },
    /// The operating system refused to write.
    #[error("cannot write `{}`: {source}", path.display())]
    Write {
        /// File or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The table of contents of a weight file could not be made.
    #[error("cannot write `{}`: {source}", path.display())]
    Tensors {
        /// The weight file.
        path: PathBuf,
        /// What the format's library said.
        source: safetensors::SafeTensorError,
    },
    /// The parameters do not belong to the configuration.
    #[error(
        "the parameters are laid out for another configuration than the one to be saved ({parameters} numbers, expected {expected})"
    )]
    Layout {
        /// Numbers in the parameters.
        parameters: usize,
        /// Numbers the configuration calls for.
        expected: usize,
    },
    /// The tokenizer could not be serialised.
    #[error("cannot write `{}`: {source}", path.display())]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// Why.
        source: TokenizerError,
    },
}
