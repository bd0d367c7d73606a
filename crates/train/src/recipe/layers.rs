//! A recipe is built from layers: preset of the method, base recipes, the file, `--set`.

use super::error::RecipeError;
use super::node::{Node, Origin, Table, Value};
use super::parse::{parse_file, parse_override};
use std::path::{Path, PathBuf};

/// Reads a recipe file with everything it extends, and lays the overrides on top.
///
/// # Errors
/// A file that cannot be read or is not TOML, a circle of `extends`, an override that is not
/// `key=value`.
pub(crate) fn load(path: &Path, overrides: &[String]) -> Result<Node, RecipeError> {
    let mut merged = load_file(path, false, &mut Vec::new(), None)?;
    for argument in overrides {
        let layer = parse_override(argument)?;
        if layer.find("extends").is_some() {
            let reason = "`extends` is a matter of the recipe file".into();
            return Err(RecipeError::BadOverride {
                argument: argument.clone(),
                reason,
            });
        }
        lay_over(&mut merged, layer);
    }
    Ok(merged)
}

fn load_file(
    path: &Path,
    base: bool,
    above: &mut Vec<PathBuf>,
    named_by: Option<&Origin>,
) -> Result<Node, RecipeError> {
    let read_error = |source| RecipeError::Read {
        path: path.into(),
        named_by: named_by.cloned(),
        source,
    };
    let identity = path.canonicalize().map_err(read_error)?;
    if let Some(at) = named_by.filter(|_| above.contains(&identity)) {
        return Err(RecipeError::Circle {
            at: at.clone(),
            path: path.into(),
        });
    }
    let text = std::fs::read_to_string(path).map_err(read_error)?;
    let mut layer = parse_file(&text, path, base)?;
    let Value::Table(table) = &mut layer.value else {
        return Ok(layer);
    };
    let Some(extends) = table.remove("extends") else {
        return Ok(layer);
    };

    above.push(identity);
    let mut merged = Node::table(layer.origin.clone());
    for (name, at) in extended_files(&extends)? {
        let folder = path.parent().unwrap_or(Path::new(""));
        lay_over(
            &mut merged,
            load_file(&folder.join(name), true, above, Some(at))?,
        );
    }
    above.pop();
    lay_over(&mut merged, layer);
    Ok(merged)
}

/// `extends = "a.toml"` or `extends = ["a.toml", "b.toml"]`, the later over the earlier.
fn extended_files(node: &Node) -> Result<Vec<(&str, &Origin)>, RecipeError> {
    let items = match &node.value {
        Value::Array(items) => items.iter().collect(),
        _ => vec![node],
    };
    items
        .into_iter()
        .map(|item| match &item.value {
            Value::Text(text) => Ok((text.as_str(), &item.origin)),
            other => Err(RecipeError::BadValue {
                at: item.origin.clone(),
                key: "extends".into(),
                problem: format!(
                    "expected a recipe file or a list of them, found {}",
                    other.kind()
                ),
            }),
        })
        .collect()
}

/// Keys of one table of which only one can hold: a layer that gives one takes the other away from
/// the layers below (`--set model.path=...` replaces a `[model.new]` of the recipe).
const ALTERNATIVES: [[&str; 2]; 2] = [["path", "new"], ["path", "arithmetic"]];

/// Keys that choose what a table is; with another choice the other keys of the layers below mean
/// something else and are dropped.
const CHOICES: [&str; 1] = ["kind"];

/// Lays `over` on `base`: tables merge key by key, everything else is replaced.
pub(crate) fn lay_over(base: &mut Node, over: Node) {
    let Node { value, origin } = over;
    match (&mut base.value, value) {
        (Value::Table(below), Value::Table(above)) => {
            drop_what_the_choice_excludes(below, &above);
            for (key, node) in above {
                match below.get_mut(&key) {
                    Some(old) => lay_over(old, node),
                    None => below.insert(key, node),
                }
            }
        }
        (_, value) => base.value = value,
    }
    base.origin = origin;
}

fn drop_what_the_choice_excludes(below: &mut Table, above: &Table) {
    for [a, b] in ALTERNATIVES {
        for (given, other) in [(a, b), (b, a)] {
            if above.get(given).is_some() && above.get(other).is_none() {
                below.remove(other);
            }
        }
    }
    for choice in CHOICES {
        if let (Some(old), Some(new)) = (below.get(choice), above.get(choice))
            && old.value != new.value
        {
            *below = Table::default();
        }
    }
}
