//! What can be wrong with a recipe.

use super::node::Origin;
use std::path::PathBuf;

/// A recipe that cannot be used, with the place and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecipeError {
    /// A recipe file, or one that it extends, cannot be read.
    #[error("cannot read recipe `{}`{}", path.display(), named_by.as_ref().map(|at| format!(" (`extends` at {at})")).unwrap_or_default())]
    Read {
        /// The file.
        path: PathBuf,
        /// The `extends` that named it, if one did.
        named_by: Option<Origin>,
        /// Why.
        source: std::io::Error,
    },
    /// The text is not TOML.
    #[error("{}:{line}: not valid TOML: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What the parser expected.
        message: String,
    },
    /// An override is not `key=value`.
    #[error(
        "--set {argument}: {reason}; write it as `--set section.key=value`, for example `--set optimizer.learning_rate=1e-5`"
    )]
    BadOverride {
        /// The argument.
        argument: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Recipes extend each other in a circle.
    #[error("{at}: `extends` leads back to `{}`; a recipe cannot build on itself", path.display())]
    Circle {
        /// The `extends` that closes the circle.
        at: Origin,
        /// The file reached twice.
        path: PathBuf,
    },
    /// No such key.
    #[error("{at}: unknown key `{key}`; {remedy}")]
    UnknownKey {
        /// Where it was written.
        at: Origin,
        /// The dotted key.
        key: String,
        /// The nearest known key, or the known ones.
        remedy: String,
    },
    /// The value is of another kind or outside its range.
    #[error("{at}: `{key}`: {problem}")]
    BadValue {
        /// Where it was written.
        at: Origin,
        /// The dotted key.
        key: String,
        /// What is wrong and what is allowed.
        problem: String,
    },
    /// A required key is not there.
    #[error("`{key}` is missing{}; {remedy}", at.as_ref().map(|at| format!(" (table at {at})")).unwrap_or_default())]
    Missing {
        /// The dotted key.
        key: String,
        /// The table that lacks it, if it was written.
        at: Option<Origin>,
        /// What to write.
        remedy: String,
    },
    /// A file or folder that the recipe names is not there.
    #[error("{at}: `{key}`: `{}` does not exist{}", path.display(), hint)]
    MissingFile {
        /// Where it was written.
        at: Origin,
        /// The dotted key.
        key: String,
        /// The file, with relative parts resolved.
        path: PathBuf,
        /// What to do, starting with a separator; may be empty.
        hint: String,
    },
}

/// The nearest of `known` to `word`, if it is near enough to be a slip.
///
/// Ends that agree count for more than edit distance alone: `lr` is not near `lora`, but
/// `learning_rat` is near `learning_rate` and `rounds_` near `rounds`.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let folded = word.to_lowercase().replace('-', "_");
    known
        .into_iter()
        .map(|candidate| {
            let other = candidate.to_lowercase().replace('-', "_");
            let mut score = strsim::jaro_winkler(&folded, &other);
            let distance = strsim::damerau_levenshtein(&folded, &other);
            // A part of the name (`temperature` for `rollout_temperature`, `tokens` for `max_tokens`).
            if folded.len() > 3
                && other.len() > 3
                && (other.contains(&folded) || folded.contains(&other))
            {
                score = score.max(0.9);
            }
            if distance <= 1 + folded.chars().count() / 5 {
                score = score.max(0.95);
            }
            (score, candidate)
        })
        .filter(|(score, _)| *score >= 0.84)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn nearest_finds_slips_and_refuses_strangers() {
        let known = [
            "learning_rate",
            "weight_decay",
            "max_grad_norm",
            "warmup_steps",
            "seed",
        ];
        assert_eq!(nearest("learning_rat", known), Some("learning_rate"));
        assert_eq!(nearest("learning-rate", known), Some("learning_rate"));
        assert_eq!(nearest("grad_norm", known), Some("max_grad_norm"));
        assert_eq!(nearest("sead", known), Some("seed"));
        assert_eq!(nearest("banana", known), None);
        assert_eq!(nearest("x", known), None);
    }
}
