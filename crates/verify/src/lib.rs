//! (crate documentation follows with the equivalence engine)
#![forbid(unsafe_code)]

mod algebra;
mod compare;
mod explain;
mod extract;
mod fuel;
mod grader;
mod number;
mod numeric;
mod options;
pub mod reward;
mod syntax;
mod tree;
mod verdict;

pub use compare::{Comparison, GoldError, check_gold};
pub use explain::{AnswerKind, Explanation, answer_kind, explain};
pub use extract::extract;
pub use grader::{compare_answers, equal, verify, verify_choice};
pub use options::{Extraction, Mode, Options};
pub use verdict::{Grade, Reason, Verdict};
