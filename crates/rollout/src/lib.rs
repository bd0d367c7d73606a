//! Rollouts of branches that share a trunk, with continuous batching.
//!
//! Every rollout of a problem continues a prefix of one token sequence, the *trunk*: the prompt
//! followed by the reference solution. A *branch* forks from the trunk after some tokens (the prompt
//! and its hint) and generates on its own. The engine computes the keys and values of a trunk once,
//! for all its branches and all their rounds, and keeps its batch full: a branch that ends leaves at
//! once and the next in the queue takes its place, whichever problem it belongs to. Keys and values lie
//! in pages of a pool whose size can be bounded; branches are admitted as memory allows.
//!
//! ```
//! use seele_policy::config::{Family, ModelConfig};
//! use seele_policy::decoder::Decoder;
//! use seele_policy::parameters::Parameters;
//! use seele_random::Key;
//! use seele_rollout::{BranchRequest, LocalEngine, RolloutEngine, Sampling};
//!
//! # let config = ModelConfig {
//! #     family: Family::Llama, vocab_size: 40, hidden_size: 32, intermediate_size: 48, layers: 2,
//! #     heads: 4, kv_heads: 2, head_dim: 8, rms_norm_eps: 1e-5, rope_theta: 10_000.0,
//! #     rope_scaling: None, max_position_embeddings: 128, tied: true, qkv_bias: false,
//! #     qk_norm: false, bos_token_id: None, eos_token_ids: vec![1],
//! # };
//! let decoder = Decoder::new(&config, &Parameters::random(&config, Key::new(0)));
//! let sampling = Sampling { max_new_tokens: 8, stop_tokens: vec![1], ..Sampling::default() };
//! let mut engine = LocalEngine::new(&decoder, sampling, 16)?;
//! let trunk = engine.add_trunk(vec![5, 9, 2, 30, 7])?;
//! for (tag, fork) in [(0, 3), (1, 3), (2, 5)] {
//!     let (key, expected_tokens) = (Key::new(7).with(tag), 0);
//!     engine.submit(BranchRequest { trunk, fork, key, expected_tokens, tag })?;
//! }
//! let mut tokens = 0;
//! while engine.pending() > 0 {
//!     for branch in engine.step()? {
//!         assert_eq!(branch.tokens.len(), branch.logprobs.len());
//!         tokens += branch.tokens.len() as u64;
//!     }
//! }
//! assert_eq!(engine.statistics().decoded_tokens, tokens);
//! assert_eq!(engine.statistics().prefilled_tokens, 5); // not 3 + 3 + 5
//! # Ok::<(), seele_rollout::RolloutError>(())
//! ```
//!
//! The engine knows token ids only, nothing of text, hints or rewards.
//!
//! - [`RolloutEngine`]: what the training loop asks of an engine; [`LocalEngine`] runs in this process.
//! - [`LocalEngine::submit_with`], [`LocalEngine::running`], [`LocalEngine::cancel`]: for a server, whose
//!   branches each have settings of their own and are watched while they grow.
//! - [`complete`]: many completions of many prompts, the engine kept full.
//! - [`EngineLoad`]: the memory that an engine will hold; [`host_cache_memory`]: what it may where nothing is said.
//! - [`Sampling`]: temperature, top-k, top-p, greedy, and when a branch ends.
//! - [`RolloutStatistics`]: what the work was, how full the batch, and where the time went.
#![forbid(unsafe_code)]

mod complete;
mod engine;
mod error;
mod local;
mod sampling;
mod statistics;

pub use complete::{Completion, complete};
pub use engine::{Alternative, BranchRequest, Finish, FinishedBranch, RolloutEngine, TrunkId};
pub use error::RolloutError;
pub use local::{BranchSettings, EngineLoad, LocalEngine, RunningBranch, host_cache_memory};
pub use sampling::{Draw, Sampler, Sampling};
pub use statistics::{RolloutStatistics, RolloutTimes};
