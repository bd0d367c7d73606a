//! Typed settings back to TOML, each line saying where its value came from.

use super::node::{Node, Origin, Table, Value};
use super::read::OFF;
use std::fmt::Write as _;
use std::path::Path;

/// The nodes of a serialised value. `null` becomes the word that turns an option off, and keys get
/// underscores, whichever of the two spellings their type has.
pub(crate) fn node_of(value: &serde_json::Value, origin: &Origin) -> Node {
    use serde_json::Value as Json;
    let value = match value {
        Json::Null => Value::Text(OFF.into()),
        Json::Bool(value) => Value::Boolean(*value),
        Json::Number(number) => match number.as_i64() {
            Some(integer) => Value::Integer(integer),
            None => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::Text(text.clone()),
        Json::Array(items) => {
            Value::Array(items.iter().map(|item| node_of(item, origin)).collect())
        }
        Json::Object(entries) => {
            let mut table = Table::default();
            for (key, value) in entries {
                table.insert(key.replace('-', "_"), node_of(value, origin));
            }
            Value::Table(table)
        }
    };
    Node {
        value,
        origin: origin.clone(),
    }
}

/// TOML text of a table; every line ends in a comment that names the value's origin in `written`,
/// the merged layers that the table was resolved from.
pub(crate) fn toml_text(resolved: &Table, written: &Node) -> String {
    let mut out = String::new();
    write_table(&mut out, resolved, Comments::Origins(Some(written)), "");
    out
}

/// TOML text of a table for people elsewhere: no comments, and of paths the last part only, because where a
/// file lies on this machine concerns nobody else.
pub(crate) fn portable_text(resolved: &Table) -> String {
    let mut out = String::new();
    write_table(&mut out, &with_short_paths(resolved), Comments::None, "");
    out
}

/// Keys whose texts are paths, or may be.
const PATHS: [&str; 4] = ["path", "data", "suite", "template"];

fn with_short_paths(table: &Table) -> Table {
    let mut short = table.clone();
    for (key, node) in short.iter_mut() {
        match &mut node.value {
            Value::Table(inner) => *inner = with_short_paths(inner),
            Value::Text(text) if PATHS.contains(&key.as_str()) => {
                if let Some(name) = Path::new(text.as_str()).file_name() {
                    *text = name.to_string_lossy().into_owned();
                }
            }
            _ => {}
        }
    }
    short
}

/// What follows a value on its line.
#[derive(Clone, Copy)]
enum Comments<'a> {
    None,
    /// Where it came from, according to the merged layers of its table.
    Origins(Option<&'a Node>),
}

impl<'a> Comments<'a> {
    /// Those of the value at `key`.
    fn below(self, key: &str) -> Self {
        match self {
            Self::None => Self::None,
            Self::Origins(layers) => Self::Origins(match layers.map(|node| &node.value) {
                Some(Value::Table(table)) => table.get(key),
                _ => None,
            }),
        }
    }
}

fn write_table(out: &mut String, table: &Table, comments: Comments<'_>, path: &str) {
    let has_own_header = |node: &Node| match &node.value {
        Value::Table(inner) => path.is_empty() || !is_short(inner),
        _ => false,
    };
    let (tables, plain): (Vec<_>, Vec<_>) =
        table.iter().partition(|(_, node)| has_own_header(node));
    if !path.is_empty() && (!plain.is_empty() || tables.is_empty()) {
        let _ = write!(out, "\n[{path}]\n");
    }
    for (key, node) in plain {
        let line = format!("{} = {}", key_text(key), value_text(&node.value));
        let _ = match comments.below(key) {
            Comments::None => writeln!(out, "{line}"),
            Comments::Origins(layer) => {
                let origin = layer.map_or(&Origin::Default, |node| &node.origin);
                writeln!(out, "{line:<44} # {}", origin.comment())
            }
        };
    }
    for (key, node) in tables {
        if let Value::Table(inner) = &node.value {
            let key_path = if path.is_empty() {
                key_text(key)
            } else {
                format!("{path}.{}", key_text(key))
            };
            write_table(out, inner, comments.below(key), &key_path);
        }
    }
}

/// Whether a table reads best on one line, such as `{ min = 1, max = 3 }`.
fn is_short(table: &Table) -> bool {
    let is_plain = |node: &Node| !matches!(node.value, Value::Table(_) | Value::Array(_));
    table.iter().len() <= 2 && table.iter().all(|(_, node)| is_plain(node))
}

fn key_text(key: &str) -> String {
    let bare = !key.is_empty()
        && key
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    if bare {
        key.into()
    } else {
        toml::Value::String(key.into()).to_string()
    }
}

pub(crate) fn value_text(value: &Value) -> String {
    match value {
        Value::Boolean(value) => value.to_string(),
        Value::Integer(value) => value.to_string(),
        Value::Float(value) => float_text(*value),
        Value::Text(text) => toml::Value::String(text.clone()).to_string(),
        Value::Array(items) => {
            format!(
                "[{}]",
                items
                    .iter()
                    .map(|item| value_text(&item.value))
                    .collect::<Vec<_>>()
                    .join(", ")
            )
        }
        Value::Table(table) => {
            let entries = table
                .iter()
                .map(|(key, node)| format!("{} = {}", key_text(key), value_text(&node.value)));
            format!("{{ {} }}", entries.collect::<Vec<_>>().join(", "))
        }
    }
}

/// The shortest text that reads back to the same number; small and large ones with an exponent.
fn float_text(value: f64) -> String {
    let size = value.abs();
    if value.is_nan() {
        "nan".into()
    } else if value.is_infinite() {
        if value > 0.0 {
            "inf".into()
        } else {
            "-inf".into()
        }
    } else if size != 0.0 && !(1e-3..1e9).contains(&size) {
        format!("{value:e}")
    } else {
        format!("{value:?}")
    }
}

/// Makes the text load to the same plan and easier to read: settings that were switched off and that
/// their types leave out when they are absent come back, so that a preset does not switch them on
/// again; of two alternatives the one that nobody wrote goes.
pub(crate) fn tidy(mut table: Table, layers: Option<&Node>) -> Table {
    let is_off = |node: &Node| matches!(&node.value, Value::Text(text) if text == OFF);
    let below = |key: &str| layers.and_then(|node| node.find(key));
    if let Some(Node {
        value: Value::Table(written),
        ..
    }) = layers
    {
        for (key, node) in written.iter() {
            if is_off(node) && table.get(key).is_none() {
                table.insert(key.as_str(), node.clone());
            }
        }
    }
    for alternative in ["path", "new", "arithmetic"] {
        if table.get(alternative).is_some_and(is_off) && below(alternative).is_none() {
            table.remove(alternative);
        }
    }
    for (key, node) in table.iter_mut() {
        if let Value::Table(inner) = &mut node.value {
            *inner = tidy(std::mem::take(inner), below(key));
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::super::parse::parse_file;
    use super::*;
    use std::path::Path;

    fn table(node: &Node) -> &Table {
        match &node.value {
            Value::Table(table) => table,
            other => panic!("{}", other.kind()),
        }
    }

    #[test]
    fn written_text_reads_back_and_names_origins() {
        let text = "seed = 7\n[model]\npath = \"a \\\"b\\\" \\n c\"\n[eval.sets.\"two words\"]\nlimit = 3\nlist = [1, 2.5, {x = true}]\n";
        let written = parse_file(text, Path::new("r.toml"), false).unwrap();
        let mut resolved = table(&written).clone();
        resolved.insert(
            "steps",
            Node {
                value: Value::Integer(9),
                origin: Origin::Default,
            },
        );
        let text = toml_text(&resolved, &written);
        let again = parse_file(&text, Path::new("again.toml"), false).unwrap();
        for key in ["seed", "steps", "model.path", "eval.sets.two words.limit"] {
            let expected = if key == "steps" {
                resolved.get(key).map(|node| &node.value)
            } else {
                written.find(key).map(|node| &node.value)
            };
            assert_eq!(
                again.find(key).map(|node| &node.value),
                expected,
                "{key}\n{text}"
            );
        }
        assert!(
            text.contains("seed = 7") && text.contains("# r.toml:1"),
            "{text}"
        );
        assert!(
            text.lines()
                .any(|line| line.starts_with("steps = 9") && line.ends_with("# default")),
            "{text}"
        );
    }

    #[test]
    fn floats_read_back_exactly() {
        for value in [
            0.0,
            1.0,
            -2.5,
            1e-6,
            3e-4,
            0.001,
            1.0 / 3.0,
            1e12,
            5e-324,
            f64::MAX,
            12345678.9,
        ] {
            let text = float_text(value);
            let again: toml::Table = format!("x = {text}").parse().unwrap();
            assert_eq!(again["x"].as_float(), Some(value), "{text}");
        }
    }
}
