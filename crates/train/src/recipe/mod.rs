//! Recipes: what a run does, as a TOML file.
//!
//! A recipe is written in sections (`[model]`, `[data]`, `[rollout]`, `[hint]`, ...), can build on
//! others (`extends = "base.toml"`), and names a `method` whose preset fills the sections that tell
//! one method from another. Values are laid over each other in this order, the later winning key by key:
//!
//! 1. defaults, 2. preset of the method, 3. recipes named by `extends`, 4. the file, 5. `--set key=value`.
//!
//! What was written and what will run are two types: the layers, in which every value remembers its
//! file and line, and the [`Recipe`], in which everything is filled in and checked. A recipe says
//! where each of its values came from ([`Recipe::to_toml`]), and that text loads to the same plan.
//!
//! ```
//! use seele_train::recipe::Recipe;
//!
//! let folder = tempfile::tempdir()?;
//! let file = folder.path().join("gsm8k.toml");
//! std::fs::write(&file, r#"
//!     method = "seele"
//!     steps = 100
//!     [model]
//!     path = "models/smollm2"
//!     [data]
//!     path = "gsm8k/train.jsonl"
//!     [rollout]
//!     problems_per_step = 16
//!     rollouts_per_problem = 32
//! "#)?;
//! let recipe = Recipe::load(&file, &["hint.target_accuracy=0.25".into()])?;
//! assert_eq!(recipe.target_accuracy(), Some(0.25));
//! assert_eq!(recipe.objective.imitation.coef, 0.001);
//!
//! let slip = Recipe::load(&file, &["rollout.temprature=0.7".into()]).unwrap_err();
//! assert_eq!(
//!     slip.to_string(),
//!     "--set rollout.temprature=0.7: unknown key `rollout.temprature`; did you mean `rollout.temperature`?"
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Keys may be spelled with `-` or `_`. TOML has no null: `"off"` takes back an optional setting that
//! a layer below has given. Relative paths start from the folder of the file that they stand in;
//! those of `--set` from the current folder. A path with a scheme (`hf://owner/name`) is a name: see
//! [`Recipe::locate`].

mod budget;
mod cache_memory;
mod check;
mod defaults;
mod device_memory;
mod differences;
mod error;
mod golds;
mod layers;
mod length;
mod locate;
mod machine;
mod materials;
mod memory;
mod node;
mod pace;
mod parse;
mod plan;
mod preset;
mod problems;
mod read;
mod sections;
mod text;
mod write;
mod written;

pub use budget::{Budget, Disk};
pub use cache_memory::CacheMemory;
pub use device_memory::DeviceMemory;
pub use differences::Difference;
pub use error::{RecipeError, nearest};
pub use golds::{UnusableRow, UnusableRows};
pub use length::Length;
pub use locate::{Located, Wanted};
pub use machine::{free_disk, free_memory};
pub use materials::{Materials, MaterialsError};
pub use memory::Memory;
pub use node::Origin;
pub use pace::{Pace, StepTime};
pub use plan::{
    BenchmarksPlan, DataPlan, EvalPlan, EvalSetPlan, ModelPlan, ModelSource, ProblemSource, Recipe,
    RolloutPlan, SftPlan, UpdatePlan,
};
pub use preset::methods;
pub use problems::{EncodedData, ProblemsError, Solutions};
pub use sections::{
    Compute, ModelFamily, NewModel, NewTokenizer, OldLogprobs, OptimizerConfig, Recompute, Rounds,
    SaveConfig, SaveType, TooLong,
};
pub use text::{ModelChat, ModelText};
