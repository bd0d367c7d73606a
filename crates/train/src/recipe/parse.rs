//! Recipe files and `--set` arguments to nodes that know their origin.

use super::error::RecipeError;
use super::node::{Node, Origin, Table, Value};
use std::path::Path;
use std::sync::Arc;
use toml::de::{DeTable, DeValue};

/// Parses the text of a recipe file.
///
/// # Errors
/// [`RecipeError::Syntax`] with the line if the text is not TOML or holds a date or an integer
/// beyond 64 bits.
pub(crate) fn parse_file(text: &str, path: &Path, base: bool) -> Result<Node, RecipeError> {
    let path: Arc<Path> = path.into();
    let line = |offset: usize| {
        1 + text
            .bytes()
            .take(offset)
            .filter(|&byte| byte == b'\n')
            .count()
    };
    let syntax = |offset, message| RecipeError::Syntax {
        path: path.to_path_buf(),
        line: line(offset),
        message,
    };
    let origin = |offset| Origin::File {
        path: Arc::clone(&path),
        line: line(offset),
        base,
    };
    let parsed = DeTable::parse(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        syntax(offset, error.message().trim().replace('\n', ", "))
    })?;
    let table = table(parsed.get_ref(), &origin)
        .map_err(|Unsupported { offset, message }| syntax(offset, message))?;
    Ok(Node {
        value: Value::Table(table),
        origin: origin(0),
    })
}

/// A TOML value that no recipe holds, and its place in the text (bytes).
struct Unsupported {
    offset: usize,
    message: String,
}

fn table(parsed: &DeTable<'_>, origin: &dyn Fn(usize) -> Origin) -> Result<Table, Unsupported> {
    let mut entries: Vec<_> = parsed.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    let mut out = Table::default();
    for (key, item) in entries {
        out.insert(
            key.get_ref().as_ref(),
            node(item.get_ref(), key.span().start, origin)?,
        );
    }
    Ok(out)
}

fn node(
    parsed: &DeValue<'_>,
    offset: usize,
    origin: &dyn Fn(usize) -> Origin,
) -> Result<Node, Unsupported> {
    let unsupported = |message| Unsupported { offset, message };
    let value = match parsed {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(integer) => i64::from_str_radix(integer.as_str(), integer.radix())
            .map(Value::Integer)
            .map_err(|_| {
                unsupported(format!(
                    "integer `{}` does not fit in 64 bits",
                    integer.as_str()
                ))
            })?,
        DeValue::Float(float) => {
            let number = float.as_str().parse();
            Value::Float(
                number.map_err(|_| unsupported(format!("`{}` is not a number", float.as_str())))?,
            )
        }
        DeValue::Boolean(boolean) => Value::Boolean(*boolean),
        DeValue::Datetime(_) => {
            return Err(unsupported(
                "a recipe has no dates; put text in quotes".into(),
            ));
        }
        DeValue::Array(items) => Value::Array(
            items
                .iter()
                .map(|item| node(item.get_ref(), item.span().start, origin))
                .collect::<Result<_, _>>()?,
        ),
        DeValue::Table(inner) => Value::Table(table(inner, origin)?),
    };
    Ok(Node {
        value,
        origin: origin(offset),
    })
}

/// Parses `a.b.c=value` to a nest of tables with one value.
///
/// The value is read as TOML; what is not TOML is text, so that `--set method=grpo` and
/// `--set data.train=problems.jsonl` need no quotes.
///
/// # Errors
/// [`RecipeError::BadOverride`] without `=` or with an empty part in the key.
pub(crate) fn parse_override(argument: &str) -> Result<Node, RecipeError> {
    let bad = |reason: &str| RecipeError::BadOverride {
        argument: argument.into(),
        reason: reason.into(),
    };
    let (key, text) = argument
        .split_once('=')
        .ok_or_else(|| bad("there is no `=`"))?;
    let (key, text) = (key.trim(), text.trim());
    if key.split('.').any(|part| part.trim().is_empty()) {
        return Err(bad("the key is empty or has an empty part"));
    }
    let origin = Origin::Set {
        argument: argument.into(),
    };
    let text_value = || Node {
        value: Value::Text(text.into()),
        origin: origin.clone(),
    };
    let leaf = match DeValue::parse(text) {
        Ok(parsed) => {
            node(parsed.get_ref(), 0, &|_| origin.clone()).unwrap_or_else(|_| text_value())
        }
        Err(_) => text_value(),
    };
    Ok(key.rsplit('.').fold(leaf, |inner, part| {
        let mut table = Table::default();
        table.insert(part.trim(), inner);
        Node {
            value: Value::Table(table),
            origin: origin.clone(),
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(argument: &str, key: &str) -> Value {
        parse_override(argument)
            .unwrap()
            .find(key)
            .unwrap()
            .value
            .clone()
    }

    #[test]
    fn overrides_read_toml_values_and_fall_back_to_text() {
        assert_eq!(set("seed=7", "seed"), Value::Integer(7));
        assert_eq!(
            set("optimizer.learning_rate=1e-5", "optimizer.learning_rate"),
            Value::Float(1e-5)
        );
        assert_eq!(set("a.b.c=true", "a.b.c"), Value::Boolean(true));
        assert_eq!(set("method=grpo", "method"), Value::Text("grpo".into()));
        assert_eq!(set("method=\"grpo\"", "method"), Value::Text("grpo".into()));
        assert_eq!(
            set("data.train=data/a=b.jsonl", "data.train"),
            Value::Text("data/a=b.jsonl".into())
        );
        assert!(matches!(set("x=[1, 2]", "x"), Value::Array(items) if items.len() == 2));
        assert_eq!(set("t={a = 1}", "t.a"), Value::Integer(1));
        assert_eq!(
            set("day=2020-01-01", "day"),
            Value::Text("2020-01-01".into())
        );
    }

    #[test]
    fn overrides_without_key_or_value_are_refused() {
        for argument in ["seed", "=3", "a..b=3", ".a=1", "a.=1"] {
            let message = parse_override(argument).unwrap_err().to_string();
            assert!(message.contains("--set section.key=value"), "{message}");
        }
    }

    #[test]
    fn file_values_know_their_line() {
        let node = parse_file(
            "seed = 1\n\n[optimizer]\n# note\nlearning_rate = 1e-6\n",
            Path::new("r.toml"),
            false,
        )
        .unwrap();
        assert_eq!(
            node.find("optimizer.learning_rate")
                .unwrap()
                .origin
                .to_string(),
            "r.toml:5"
        );
        assert_eq!(node.find("seed").unwrap().origin.to_string(), "r.toml:1");
    }

    #[test]
    fn broken_toml_names_file_and_line() {
        let message = parse_file("seed = 1\nsteps = = 2\n", Path::new("r.toml"), false)
            .unwrap_err()
            .to_string();
        assert!(message.starts_with("r.toml:2: not valid TOML"), "{message}");
        let message = parse_file("seed = 2020-01-01\n", Path::new("r.toml"), false)
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("r.toml:1") && message.contains("dates"),
            "{message}"
        );
    }

    #[test]
    fn tables_keep_the_order_they_were_written_in() {
        let node = parse_file(
            "[eval.sets.zebra]\nlimit = 1\n[eval.sets.ant]\nlimit = 2\n",
            Path::new("r.toml"),
            false,
        )
        .unwrap();
        let Value::Table(sets) = &node.find("eval.sets").unwrap().value else {
            panic!("a table")
        };
        assert_eq!(
            sets.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(),
            ["zebra", "ant"]
        );
    }
}
