//! Model folders in the layout of Hugging Face: `config.json`, `generation_config.json`,
//! safetensors in one file or in shards with an index, `tokenizer.json`, `tokenizer_config.json`.

mod header;
mod open;
mod save;

pub(crate) use open::{Identity, has_weights, open};
pub use save::{ModelParts, SaveOptions, WeightType, save};

/// The one weight file of a small model.
const SINGLE_FILE: &str = "model.safetensors";
/// Says which shard holds which tensor.
const INDEX_FILE: &str = "model.safetensors.index.json";
