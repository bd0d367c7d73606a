//! Objectives of all methods as pure functions over tokens.
//!
//! A method is an [`ObjectiveConfig`]; [`presets`] has the published ones by name. An [`Objective`] is built
//! once an update batch from the batch's [`Trunk`]s and owns everything that belongs to the batch as a whole:
//! advantages and normalisers. It is then evaluated piece by piece, as micro-batches come out of the model.
//!
//! ```
//! use seele_train::objective::{Branch, Objective, Trunk, presets::preset};
//!
//! // Two rollouts of two tokens, behind a hint of one token; one right, one wrong.
//! let rollout = |reward| Branch {
//!     hint_tokens: 1,
//!     reward,
//!     tokens: 2,
//!     old_logprobs: vec![-0.7, -1.2],
//!     ref_logprobs: vec![-0.7, -1.2],
//!     ..Branch::default()
//! };
//! let trunk = Trunk {
//!     solution_tokens: 3,
//!     branches: vec![rollout(1.0), rollout(0.0)],
//!     ..Trunk::default()
//! };
//! let config = preset("seele")?.with_longest_response(4);
//! let objective = Objective::new(config, vec![trunk])?;
//!
//! // Slots: three solution tokens, then two of each branch. A first micro-batch holds the trunk, a second one
//! // the branches.
//! assert_eq!((objective.slots(), objective.trained_solution_tokens(0)), (7, 1));
//! let trunk = objective.evaluate(0, &[-0.3f32, -0.1, -2.0], None)?;
//! let branches = objective.evaluate(3, &[-0.7, -1.2, -0.7, -1.2], None)?;
//! // Imitation: 0.001 / 2 hint tokens, twice, since both rollouts have this hint.
//! assert_eq!(trunk.grad_logprobs, [-0.001, 0.0, 0.0]);
//! // Policy: -A / (2 sequences * 4 tokens), with A = 0.5 and -0.5.
//! assert_eq!(branches.grad_logprobs, [-0.0625, -0.0625, 0.0625, 0.0625]);
//! # Ok::<(), seele_train::objective::ObjectiveError>(())
//! ```

mod aggregation;
mod assemble;
mod batch;
mod batch_objective;
mod config;
mod coverage;
mod entropy_filter;
mod error;
mod evaluation;
mod kl;
mod limit;
mod policy_loss;
mod prepare;
pub mod presets;
mod reward_shaping;
mod segment;
mod validate;

pub use aggregation::TermCount;
pub use batch::{Branch, HintRole, Trunk};
pub use batch_objective::Objective;
pub use config::{
    AggregationConfig, AggregationMode, DynamicSamplingConfig, EmptySequences, EntropyConfig,
    EntropyFilterConfig, EntropyFilterScope, ImitationConfig, ImitationKind, ImitationTokens,
    KlConfig, KlKind, KlPlacement, KlTokens, ObjectiveConfig, OverlongConfig, PolicyLossConfig,
    PolicyLossKind, PrefixOld, TraceShape, WhichHint,
};
pub use coverage::BatchTotals;
pub use error::ObjectiveError;
pub use evaluation::{Evaluation, Statistics, Terms};
pub use limit::Limit;
pub use reward_shaping::{dynamic_sampling_keep, overlong_penalty};
