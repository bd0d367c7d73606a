//! What can be wrong while nodes become settings, and how it is said.

use crate::recipe::error::{RecipeError, nearest};
use crate::recipe::node::{Node, Origin, Value};
use serde::de::{self, Expected, Unexpected};
use std::fmt;

#[derive(Debug)]
pub(super) struct ReadError {
    /// Keys from the inside out.
    path: Vec<String>,
    pub(super) origin: Option<Origin>,
    problem: Problem,
}

#[derive(Debug)]
enum Problem {
    UnknownKey { key: String, known: Vec<String> },
    Missing(String),
    BadValue(String),
}

impl ReadError {
    fn new(problem: Problem) -> Self {
        Self {
            path: Vec::new(),
            origin: None,
            problem,
        }
    }

    /// Adds the key that leads to `node`, inside which the error arose.
    pub(super) fn inside(mut self, key: &str, node: &Node) -> Self {
        if self.origin.is_none() {
            // A tagged enum finds its unknown keys only after it has read the whole table.
            let entry = match (&self.problem, &node.value) {
                (Problem::UnknownKey { key, .. }, Value::Table(table)) => table.get(key),
                _ => None,
            };
            self.origin = Some(entry.unwrap_or(node).origin.clone());
        }
        if !key.is_empty() {
            self.path.push(key.into());
        }
        self
    }
}

impl From<ReadError> for RecipeError {
    fn from(error: ReadError) -> Self {
        let at = error.origin.unwrap_or(Origin::Default);
        let table = error
            .path
            .iter()
            .rev()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(".");
        let join = |key: &str| {
            if table.is_empty() {
                key.to_string()
            } else {
                format!("{table}.{key}")
            }
        };
        match error.problem {
            Problem::UnknownKey { key, known } => {
                let remedy = match nearest(&key, known.iter().map(String::as_str)) {
                    Some(near) => format!("did you mean `{}`?", join(near)),
                    None => format!("known keys here: {}", list(&known)),
                };
                Self::UnknownKey {
                    at,
                    key: join(&key),
                    remedy,
                }
            }
            Problem::Missing(key) => {
                let remedy = format!(
                    "write `{key} = ...`{}",
                    if table.is_empty() {
                        String::new()
                    } else {
                        format!(" in [{table}]")
                    }
                );
                Self::Missing {
                    key: join(&key),
                    at: (at != Origin::Default).then_some(at),
                    remedy,
                }
            }
            Problem::BadValue(problem) => Self::BadValue {
                at,
                key: table,
                problem,
            },
        }
    }
}

pub(super) fn list(words: &[String]) -> String {
    if words.is_empty() {
        "none".into()
    } else {
        words
            .iter()
            .map(|word| format!("`{word}`"))
            .collect::<Vec<_>>()
            .join(", ")
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {:?}", self.problem, self.path)
    }
}

impl std::error::Error for ReadError {}

/// What serde calls a type, in the words of someone who writes a recipe.
fn plain_name(expected: &dyn Expected) -> String {
    let name = expected.to_string();
    match name.as_str() {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, 0 or more".into(),
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number".into(),
        "a nonzero u32" | "a nonzero u64" | "a nonzero usize" => "a whole number, 1 or more".into(),
        "f32" | "f64" => "a number".into(),
        "a string" | "string" | "path string" => "text in quotes".into(),
        "a boolean" => "`true` or `false`".into(),
        "a sequence" => "a list".into(),
        "a map" => "a table".into(),
        other => match other.strip_prefix("struct ") {
            Some(_) => "a table".into(),
            None => other.into(),
        },
    }
}

fn found(value: Unexpected<'_>) -> String {
    match value {
        Unexpected::Str(text) => format!("`\"{text}\"`"),
        Unexpected::Bool(value) => format!("`{value}`"),
        Unexpected::Unsigned(value) => format!("`{value}`"),
        Unexpected::Signed(value) => format!("`{value}`"),
        Unexpected::Float(value) => format!("`{value}`"),
        Unexpected::Map => "a table".into(),
        Unexpected::Seq => "a list".into(),
        other => other.to_string(),
    }
}

impl de::Error for ReadError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(Problem::BadValue(message.to_string()))
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(Problem::BadValue(format!(
            "expected {}, found {}",
            plain_name(expected),
            found(unexpected)
        )))
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(unexpected, expected)
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let known: Vec<String> = expected.iter().map(|word| word.to_string()).collect();
        let remedy = match nearest(variant, expected.iter().copied()) {
            Some(near) => format!("did you mean `{near}`? (known: {})", list(&known)),
            None => format!("known: {}", list(&known)),
        };
        Self::new(Problem::BadValue(format!(
            "unknown value `{variant}`; {remedy}"
        )))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let known = expected.iter().map(|word| word.to_string()).collect();
        Self::new(Problem::UnknownKey {
            key: field.into(),
            known,
        })
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(Problem::Missing(field.into()))
    }
}
