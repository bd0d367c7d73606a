//! What can be wrong with a data file.

use std::path::PathBuf;

use crate::problem::Place;

/// An error of any of the caller's own parts: a tokenizer, a chat template.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A data file that cannot be read as problems. Every message names the file, the line or row and
/// what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The file is missing or may not be read.
    #[error("cannot open data file `{}`: {source}; check the path and its permissions", path.display())]
    Open {
        /// The file as the user named it.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// Reading failed after the file was opened, for example in a truncated gzip stream.
    #[error("cannot read {place}: {source}; the file may be cut off or damaged, fetch it again")]
    Read {
        /// The row that was being read.
        place: Place,
        /// The operating system's or decompressor's reason.
        source: std::io::Error,
    },
    /// A Parquet file is damaged or uses what the reader does not know.
    #[error(
        "cannot read {place}: {source}; the Parquet file may be cut off or damaged, fetch it again"
    )]
    Parquet {
        /// The row that was being read.
        place: Place,
        /// The Parquet reader's reason.
        source: BoxError,
    },
    /// The file holds no row.
    #[error("data file `{}` has no rows; give a file with at least one problem", path.display())]
    Empty {
        /// The file as the user named it.
        path: PathBuf,
    },
    /// A folder without any file this crate reads.
    #[error("folder `{}` has no `.jsonl`, `.jsonl.gz` or `.parquet` file; name the data file", path.display())]
    EmptyFolder {
        /// The folder as the user named it.
        path: PathBuf,
    },
    /// A line is not JSON.
    #[error(
        "{place}, column {column}: broken JSON ({reason}); each line must hold one whole JSON object"
    )]
    Json {
        /// The line.
        place: Place,
        /// One-based byte column where the parser stopped.
        column: usize,
        /// What the parser expected.
        reason: String,
    },
    /// A line is JSON, but not an object.
    #[error("{place}: expected a JSON object, found {found}; write one `{{\"problem\": ..., \"answer\": ...}}` a line{}",
        if *found == "a list" { " (a JSON array becomes lines with `jq -c '.[]'`)" } else { "" })]
    NotAnObject {
        /// The line.
        place: Place,
        /// Kind of value found.
        found: &'static str,
    },
    /// A line is too long to be a row.
    #[error(
        "{place} is longer than {limit} bytes; rows end with a line feed, check that this file is JSON lines"
    )]
    LineTooLong {
        /// The line.
        place: Place,
        /// The limit in bytes.
        limit: u64,
    },
    /// The fields of the first row fit none of the known layouts.
    #[error(
        "{place}: no known layout has the fields {}; name the fields with a mapping, for example `layout = {{ mapping = {{ problem = \"FIELD\", answer = \"FIELD\" }} }}`",
        listed(fields)
    )]
    UnknownLayout {
        /// The first row.
        place: Place,
        /// The fields found.
        fields: Vec<String>,
    },
    /// A field that the layout needs is absent or null.
    #[error(
        "{place}: no `{field}`, which layout `{layout}` needs; add it, remove the row, or name another field with a mapping"
    )]
    MissingField {
        /// The row.
        place: Place,
        /// Dotted path of the field.
        field: String,
        /// Name of the layout.
        layout: &'static str,
    },
    /// A field holds another kind of value than it must.
    #[error("{place}: `{field}` must be {expected}, found {found}")]
    WrongType {
        /// The row.
        place: Place,
        /// Dotted path of the field.
        field: String,
        /// Kind of value needed.
        expected: &'static str,
        /// Kind of value found.
        found: &'static str,
    },
    /// A text that must say something is blank.
    #[error("{place}: `{field}` is blank; fill it in or remove the row")]
    Blank {
        /// The row.
        place: Place,
        /// Dotted path of the field.
        field: String,
    },
    /// The gold answer should be marked inside a text and is not.
    #[error(
        "{place}: `{field}` has no {mark} to take the answer from; complete the row or name the answer's field with a mapping"
    )]
    NoAnswerMark {
        /// The row.
        place: Place,
        /// Dotted path of the field.
        field: String,
        /// The mark that is missing.
        mark: &'static str,
    },
    /// The concatenation of the steps is not the solution.
    #[error(
        "{place}: the steps of problem `{id}` do not join to its solution, they differ from byte {byte} on; cut the solution anew, or drop `solution` to have it made from the steps"
    )]
    StepsDoNotJoin {
        /// The row.
        place: Place,
        /// The problem.
        id: String,
        /// First byte of the solution that differs.
        byte: usize,
    },
    /// A step is the empty string.
    #[error("{place}: step {step} of problem `{id}` is empty; remove it")]
    EmptyStep {
        /// The row.
        place: Place,
        /// The problem.
        id: String,
        /// Zero-based index of the step.
        step: usize,
    },
    /// The gold of a multiple-choice problem is not one of its options.
    #[error("{place}: answer `{answer}` (index {}) is not the label of one of the {choices} options of problem `{id}`; the answer is a letter from `A`, the index counts from 0",
        index.map_or("not given".to_owned(), |i| i.to_string()))]
    AnswerNotAChoice {
        /// The row.
        place: Place,
        /// The problem.
        id: String,
        /// The gold as given.
        answer: String,
        /// The index as given.
        index: Option<usize>,
        /// Number of options.
        choices: usize,
    },
    /// Two rows have the same id.
    #[error(
        "{place}: id `{id}` was already used at {first}; ids must be unique, because results are kept by id"
    )]
    DuplicateId {
        /// The later row.
        place: Place,
        /// The id.
        id: String,
        /// The earlier row.
        first: Place,
    },
    /// The name of a file to write says no format that is written.
    #[error("cannot tell what to write to `{}`; name the file `*.jsonl` or `*.jsonl.gz` (Parquet is read, not written)", path.display())]
    OutputFormat {
        /// The file as the user named it.
        path: PathBuf,
    },
    /// The file to write is there already.
    #[error("`{}` exists; name another file or allow overwriting it", path.display())]
    Exists {
        /// The file as the user named it.
        path: PathBuf,
    },
    /// Writing a file failed.
    #[error("cannot write `{}`: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
}

fn listed(fields: &[String]) -> String {
    fields
        .iter()
        .map(|f| format!("`{f}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Kind of a JSON value, for messages.
pub(crate) fn kind_of(value: &serde_json::Value) -> &'static str {
    use serde_json::Value;
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
