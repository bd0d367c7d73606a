//! How well does a model solve the benchmarks of the field, by the protocols that papers report?
//!
//! A benchmark is a small TOML file ([`Benchmark`]): where its problems are, how they are put to the
//! model, how answers are read and compared, and how many samples are drawn. An [`Evaluation`] puts
//! every problem to a rollout engine and keeps every response, judged, in a file from which a stopped
//! evaluation goes on ([`Record`]). A [`Summary`] says what the record shows and how sure that is;
//! a [`Comparison`] lines up two records problem by problem.
//!
//! ```
//! use seele_eval::{Benchmark, statistics};
//! let math: Vec<String> = Benchmark::select("math")?.into_iter().map(|b| b.title).collect();
//! assert_eq!(math, ["GSM8K", "MATH-500", "Minerva", "OlympiadBench", "AIME24", "AMC23"]);
//!
//! let own = Benchmark::from_toml(r#"
//!     name = "sums"
//!     title = "Sums"
//!     files = ["sums.jsonl"]
//!     template = "bare"
//!     samples = 4
//!     temperature = 1.0
//! "#)?;
//! assert_eq!((own.samples, own.max_new_tokens), (4, 2048));
//!
//! // 2 of 4 samples right: a draw of two misses both with probability 1/6.
//! assert!((statistics::pass_at_k(4, 2, 2) - 5.0 / 6.0).abs() < 1e-12);
//! # Ok::<(), seele_eval::EvalError>(())
//! ```
//!
//! This crate knows token ids, text and verdicts; the model is behind
//! [`RolloutEngine`](seele_rollout::RolloutEngine), the comparison of answers behind [`seele_verify`].
#![forbid(unsafe_code)]

mod benchmark;
mod comparison;
mod error;
mod evaluation;
mod gpqa;
mod grading;
mod problems;
mod record;
mod served;
mod sheet;
pub mod statistics;
mod summary;
mod table;

pub use benchmark::{Benchmark, SUITES};
pub use comparison::{ComparedBenchmark, Comparison};
pub use error::EvalError;
pub use evaluation::{Evaluation, Progress, Subject};
pub use grading::{GRADER, Grader};
pub use problems::ProblemSet;
pub use record::{DataIdentity, Header, ModelIdentity, Record, Response};
pub use served::{Served, ServedEvaluation};
pub use summary::{GroupAccuracy, Summary};
pub use table::Table;
