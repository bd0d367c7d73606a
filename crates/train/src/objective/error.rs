//! What can be wrong with an objective, its batch or what it is evaluated on.

/// Error of building or evaluating an [`Objective`](super::Objective).
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ObjectiveError {
    /// A setting is out of range or contradicts another.
    #[error("`{key}` {problem}")]
    Config {
        /// Dotted key inside the recipe.
        key: &'static str,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A preset name that does not exist.
    #[error("unknown method `{name}`, known methods are {known}")]
    UnknownPreset {
        /// The name that was asked for.
        name: String,
        /// All names, comma separated.
        known: String,
    },
    /// A per-token list of a branch or trunk has the wrong length.
    #[error("trunk {trunk}{}: {found} {what} for {expected} tokens", at_branch(*.branch))]
    Length {
        /// Trunk, in batch order.
        trunk: usize,
        /// Branch of that trunk; `None` is its solution.
        branch: Option<usize>,
        /// The list.
        what: &'static str,
        /// Tokens that need an entry.
        expected: usize,
        /// Entries present.
        found: usize,
    },
    /// A hint reaches beyond its trunk's solution.
    #[error(
        "trunk {trunk}, branch {branch}: the hint has {hint_tokens} tokens, the solution only {solution_tokens}"
    )]
    HintTooLong {
        /// Trunk, in batch order.
        trunk: usize,
        /// Branch of that trunk.
        branch: usize,
        /// Hint length, in tokens.
        hint_tokens: usize,
        /// Solution length, in tokens.
        solution_tokens: usize,
    },
    /// A reward, log-prob or entropy is NaN or infinite.
    #[error("trunk {trunk}{}: {what} is {value}, a finite number is needed", at_branch(*.branch))]
    NotFinite {
        /// Trunk, in batch order.
        trunk: usize,
        /// Branch of that trunk; `None` is its solution.
        branch: Option<usize>,
        /// The quantity.
        what: &'static str,
        /// Its value.
        value: f64,
    },
    /// A sequence-level policy loss met an off-policy trace.
    #[error(
        "trunk {trunk}, branch {branch} is an off-policy trace, for which `policy_loss.kind` with one ratio a sequence is not defined; use `clip` or `advantage.traces = \"apart\"`"
    )]
    TraceWithSequenceRatio {
        /// Trunk, in batch order.
        trunk: usize,
        /// Branch of that trunk.
        branch: usize,
    },
    /// Evaluation before `prepare` although the objective needs the whole batch first.
    #[error(
        "the objective needs the log-probs of the whole batch first: call `prepare` before `evaluate`"
    )]
    NotPrepared,
    /// Entropies were needed and not given.
    #[error("the objective needs the entropy of each token, none were given")]
    EntropiesMissing,
    /// Log-probs or entropies do not fit the slots they are for.
    #[error("{what}: {found} values for slots from {first} of {slots}")]
    Slots {
        /// The list.
        what: &'static str,
        /// First slot asked for.
        first: usize,
        /// Values given.
        found: usize,
        /// Slots of the objective.
        slots: usize,
    },
}

fn at_branch(branch: Option<usize>) -> String {
    branch.map_or_else(|| ", solution".to_owned(), |b| format!(", branch {b}"))
}
