//! What can go wrong: bad observations, bad settings, a memory that does not fit.

/// Errors of this crate. Each names what is wrong, where, and what was expected.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum HintError {
    /// An observation holds a value no round can have produced.
    #[error("observation {index}: `{field}` is {value}, expected {expected}")]
    Observation {
        /// Position in the slice that was passed, from 0.
        index: usize,
        /// `rate`, `accuracy` or `rollouts`.
        field: &'static str,
        /// The value found.
        value: f64,
        /// The range that is accepted.
        expected: &'static str,
    },
    /// A setting is outside its range.
    #[error("`{key}` is {value}, expected {expected}")]
    Setting {
        /// Key of the setting as written in a recipe's `[hint]` section.
        key: &'static str,
        /// The value found.
        value: String,
        /// The range that is accepted.
        expected: &'static str,
    },
    /// A schedule name that does not exist.
    #[error("unknown hint schedule `{name}`; known schedules: {known}")]
    UnknownSchedule {
        /// The name found.
        name: String,
        /// All names, separated by commas.
        known: String,
    },
    /// A reference solution that cannot be cut.
    #[error("problem {problem}: {reason}")]
    Solution {
        /// Key of the problem.
        problem: u64,
        /// What is wrong with the solution.
        reason: String,
    },
    /// Results that do not answer the round that was planned.
    #[error("problem {problem}: {reason}")]
    RoundResults {
        /// Key of the problem.
        problem: u64,
        /// What does not fit.
        reason: String,
    },
    /// A saved memory of another schedule, or a damaged one.
    #[error("hint memory: {0}")]
    Memory(String),
}
