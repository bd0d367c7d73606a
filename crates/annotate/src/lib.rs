//! Stepwise solutions for problems, from any server that speaks OpenAI's chat interface (SEELE, App. E).
//!
//! Hints are prefixes of a reference solution, so training wants solutions of a few clear steps. This
//! crate asks a server for them and keeps one only if its boxed answer is the stored one, it has one to
//! five numbered steps, and its length is in range; up to three tries a problem.
//!
//! ```
//! use seele_annotate::steps_of;
//! let steps = steps_of("Sure!\n1. Add: 3 + 4 = 7.\n2. Double it: \\boxed{14}").unwrap();
//! assert_eq!(steps, ["1. Add: 3 + 4 = 7.\n", "2. Double it: \\boxed{14}"]);
//! ```
//!
//! Servers fail, stall and lie, and so do programs that run for days: every answer is written to a
//! [`Journal`] before the next question, a run that was killed goes on from there, and the two files of
//! results are made from it ([`write_results`]), so a problem is in one of them, once.
//!
//! - [`Annotation`]: asks for everything that the journal does not have yet, many at a time.
//! - [`Rules`]: what an annotation must be.
#![forbid(unsafe_code)]

mod annotation;
mod error;
mod journal;
mod prompt;
mod results;
mod rules;
mod steps;

pub use annotation::{Annotation, Progress};
pub use error::AnnotateError;
pub use journal::{Header, Journal, Try, Verdict};
pub use prompt::INSTRUCTIONS;
pub use results::{ANNOTATED, Counts, REJECTED, write_results};
pub use rules::{CountTokens, Rules};
pub use steps::steps_of;
