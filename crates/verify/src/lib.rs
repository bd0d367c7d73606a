//! (crate documentation follows with the equivalence engine)
#![forbid(unsafe_code)]

mod compare;
mod extract;
mod grader;
mod options;
pub mod reward;
mod verdict;

pub use compare::Comparison;
pub use extract::extract;
pub use grader::{compare_answers, equal, verify, verify_choice};
pub use options::{Extraction, Mode, Options};
pub use verdict::{Grade, Reason, Verdict};
