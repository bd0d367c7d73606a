//! What can be wrong with a template, or between a template and a problem.

use std::path::PathBuf;

use super::PromptTemplate;
use crate::error::BoxError;
use crate::problem::Place;

/// A template that cannot be used, or a problem that does not fit it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// No template of this name.
    #[error("no prompt template `{name}`{}; there are {}, or give the path of a `.toml` file", nearest.map_or(String::new(), |n| format!(", did you mean `{n}`?")), PromptTemplate::names().collect::<Vec<_>>().join(", "))]
    UnknownName {
        /// The name as given.
        name: String,
        /// The most similar known name.
        nearest: Option<&'static str>,
    },
    /// The file cannot be read.
    #[error("cannot read prompt template `{}`: {source}", path.display())]
    File {
        /// The file as the user named it.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// The text is not the TOML of a template.
    #[error("prompt template {origin}: {source}")]
    Toml {
        /// File or name.
        origin: String,
        /// The parser's message, with line and column.
        source: Box<toml::de::Error>,
    },
    /// The parts of a template do not go together.
    #[error("prompt template `{name}`: {reason}")]
    Invalid {
        /// The template.
        name: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A slot names a field that the row does not have.
    #[error("{place}: no field `{field}`, which prompt template `{template}` asks for")]
    MissingField {
        /// The row.
        place: Place,
        /// Dotted path of the field.
        field: String,
        /// The template.
        template: String,
    },
    /// The field that should hold chat messages does not.
    #[error(
        "{place}: `{field}` is not a list of messages, each with the texts `role` and `content`; use a template that asks with `{{{{question}}}}`"
    )]
    NotMessages {
        /// The row.
        place: Place,
        /// Dotted path of the field.
        field: String,
    },
    /// The template needs the model's chat template and the model has none.
    #[error(
        "prompt template `{name}` sends chat messages, but the model has no chat template; use `r1-zero`, `plain` or another text template"
    )]
    NoChatTemplate {
        /// The template.
        name: String,
    },
    /// The model's chat template refused the messages.
    #[error("{place}: the model's chat template failed on prompt template `{name}`: {source}")]
    Chat {
        /// The row.
        place: Place,
        /// The template.
        name: String,
        /// Its message.
        source: BoxError,
    },
}
