//! Checkpoints: a run that is cut anywhere goes on as if it had not been.
//!
//! `checkpoints/step_<n>/` in a run folder is a complete Hugging Face folder with `trainer/` beside the
//! model:
//!
//! | file in `trainer/` | what |
//! | --- | --- |
//! | `state.json` | stage, counters, sampler position, best score, position in the logs |
//! | `first_moment.safetensors`, `second_moment.safetensors` | AdamW, float32, by tensor name |
//! | `weights.safetensors` | master weights, float32, where the model beside is rounded |
//! | `reference.safetensors` | the reference policy, where the run made it |
//! | `hint_memory.json` | what the hint schedule remembers of every problem |
//! | `recipe.toml` | the resolved recipe |
//! | `manifest.json` | format version, size and SHA-256 of every other file |
//!
//! A checkpoint is written under a temporary name, flushed, given its manifest, flushed and renamed: the
//! manifest is the mark of completeness, and nothing without one is ever loaded. [`find`] alone decides
//! what a run can go on from.

mod card;
mod error;
mod find;
mod fingerprint;
mod manifest;
mod name;
mod retention;
mod state;
mod tensors;
mod write;
mod writer;

pub use error::CheckpointError;
pub use find::{Checkpoint, Found, find, find_model, is_run, run_folder_of};
pub use manifest::{FORMAT, FileRecord, Manifest};
pub use name::CheckpointName;
pub use state::{Best, Stage, SupervisedPosition, TrainerState};

pub(crate) use card::model_card;
pub(crate) use fingerprint::fingerprint;
pub(crate) use retention::{clear_leftovers, set_later_aside};
pub(crate) use tensors::{read_tensors, write_tensors};
pub(crate) use write::{Identity, Snapshot, publish_model};
pub(crate) use writer::CheckpointWriter;

/// Folder of the checkpoints in a run folder.
pub const CHECKPOINTS: &str = "checkpoints";

/// Folder of what only training reads, in a checkpoint.
const TRAINER: &str = "trainer";
const STATE: &str = "trainer/state.json";
const FIRST_MOMENT: &str = "trainer/first_moment.safetensors";
const SECOND_MOMENT: &str = "trainer/second_moment.safetensors";
const WEIGHTS: &str = "trainer/weights.safetensors";
const REFERENCE: &str = "trainer/reference.safetensors";
const HINT_MEMORY: &str = "trainer/hint_memory.json";
const RECIPE: &str = "trainer/recipe.toml";
const MANIFEST: &str = "trainer/manifest.json";
