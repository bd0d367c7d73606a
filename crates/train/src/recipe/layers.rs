//! A recipe is built from layers: preset of the method, base recipes, the file, `--set`.

use super::error::RecipeError;
use super::node::{Node, Origin, Value};
use super::parse::{parse_file, parse_override};
use super::written::DEFAULT_METHOD;
use std::path::{Path, PathBuf};

/// Reads a recipe file with everything it extends, and lays the overrides on top.
///
/// # Errors
/// A file that cannot be read or is not TOML, a circle of `extends`, an override that is not
/// `key=value`.
pub(crate) fn load(path: &Path, overrides: &[String]) -> Result<Node, RecipeError> {
    let mut merged = load_file(path, false, &mut Vec::new(), None)?;
    // All overrides are one layer: their order matters only where two give the same key.
    let mut top: Option<Node> = None;
    for argument in overrides {
        let layer = parse_override(argument)?;
        if layer.find("extends").is_some() {
            let reason = "`extends` belongs into a recipe file".into();
            return Err(RecipeError::BadOverride {
                argument: argument.clone(),
                reason,
            });
        }
        match &mut top {
            None => top = Some(layer),
            Some(top) => lay_over(top, layer),
        }
    }
    if let Some(top) = top {
        // A file without a method is written for the default one.
        if let Value::Table(table) = &mut merged.value
            && table.get("method").is_none()
        {
            let method = Node {
                value: Value::Text(DEFAULT_METHOD.into()),
                origin: Origin::Default,
            };
            table.insert("method", method);
        }
        lay_recipe_over(&mut merged, top);
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

/// Sections that belong to a method; a layer that changes the method takes away what the layers
/// below wrote there for another one.
pub(crate) const METHOD_SECTIONS: [&str; 10] = [
    "hint",
    "advantage",
    "policy_loss",
    "aggregation",
    "kl",
    "imitation",
    "entropy",
    "entropy_filter",
    "overlong",
    "dynamic_sampling",
];

/// Lays a whole recipe over another.
pub(crate) fn lay_recipe_over(base: &mut Node, over: Node) {
    let changes = |key: &str| match (base.find(key), over.find(key)) {
        (Some(below), Some(above)) => below.value != above.value,
        _ => false,
    };
    let mut dropped: Vec<&str> = Vec::new();
    if changes("method") {
        dropped.extend(METHOD_SECTIONS);
    }
    if changes("hint.schedule") {
        dropped.push("hint");
    }
    if let Value::Table(table) = &mut base.value {
        for section in dropped {
            table.remove(section);
        }
    }
    lay_over(base, over);
}

/// Keys of one table of which only one can hold: a layer that gives one takes the other away from
/// the layers below (`--set model.path=...` replaces a `[model.new]` of the recipe).
const ALTERNATIVES: [[&str; 2]; 4] = [
    ["steps", "epochs"],
    ["path", "new"],
    ["path", "arithmetic"],
    ["warmup_steps", "warmup_share"],
];

/// Lays `over` on `base`: tables merge key by key, everything else is replaced.
fn lay_over(base: &mut Node, over: Node) {
    let Node { value, origin } = over;
    match (&mut base.value, value) {
        (Value::Table(below), Value::Table(above)) => {
            for [a, b] in ALTERNATIVES {
                for (given, other) in [(a, b), (b, a)] {
                    if above.get(given).is_some() && above.get(other).is_none() {
                        below.remove(other);
                    }
                }
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn files(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    fn value(node: &Node, key: &str) -> Option<String> {
        node.find(key).map(|node| match &node.value {
            Value::Text(text) => text.clone(),
            Value::Integer(integer) => integer.to_string(),
            other => other.kind().into(),
        })
    }

    #[test]
    fn later_layers_win_key_by_key() {
        let folder = files(&[
            (
                "base.toml",
                "seed = 1\nsteps = 10\n[rollout]\ntop_k = 5\nmax_new_tokens = 64\n",
            ),
            (
                "top.toml",
                "extends = \"base.toml\"\nsteps = 20\n[rollout]\ntop_k = 6\n",
            ),
        ]);
        let merged = load(
            &folder.path().join("top.toml"),
            &["rollout.top_k=7".into(), "name=x".into()],
        )
        .unwrap();
        let found = [
            "seed",
            "steps",
            "rollout.top_k",
            "rollout.max_new_tokens",
            "name",
        ]
        .map(|key| value(&merged, key).unwrap());
        assert_eq!(found, ["1", "20", "7", "64", "x"]);
        assert!(merged.find("extends").is_none());
        assert_eq!(
            merged
                .find("rollout.max_new_tokens")
                .unwrap()
                .origin
                .comment(),
            "base base.toml:5"
        );
        assert_eq!(merged.find("steps").unwrap().origin.comment(), "top.toml:2");
        assert_eq!(
            merged.find("rollout.top_k").unwrap().origin.comment(),
            "--set"
        );
    }

    #[test]
    fn several_bases_are_laid_in_order() {
        let folder = files(&[
            ("model.toml", "seed = 1\nsteps = 1\n"),
            ("method.toml", "seed = 2\n"),
            ("top.toml", "extends = [\"model.toml\", \"method.toml\"]\n"),
        ]);
        let merged = load(&folder.path().join("top.toml"), &[]).unwrap();
        assert_eq!(
            (value(&merged, "seed"), value(&merged, "steps")),
            (Some("2".into()), Some("1".into()))
        );
    }

    #[test]
    fn an_alternative_of_a_higher_layer_replaces_the_one_below() {
        let folder = files(&[(
            "r.toml",
            "[model]\ncompute = \"f32\"\n[model.new]\nlayers = 2\n",
        )]);
        let path = folder.path().join("r.toml");
        let merged = load(&path, &["model.path=m".into()]).unwrap();
        assert!(merged.find("model.new").is_none());
        assert_eq!(value(&merged, "model.compute"), Some("f32".into()));
        let merged = load(&path, &["model.new.layers=3".into()]).unwrap();
        assert_eq!(value(&merged, "model.new.layers"), Some("3".into()));
    }

    #[test]
    fn another_method_takes_the_sections_of_the_old_one_away() {
        let folder = files(&[(
            "r.toml",
            "method = \"seele\"\nseed = 3\n[hint]\nrounds = 4\n[policy-loss]\nclip_low = 0.1\n",
        )]);
        let path = folder.path().join("r.toml");
        let merged = load(&path, &["hint.rollouts=2".into(), "method=uft".into()]).unwrap();
        assert!(merged.find("hint.rounds").is_none() && merged.find("policy_loss").is_none());
        assert_eq!(value(&merged, "hint.rollouts"), Some("2".into()));
        assert_eq!(value(&merged, "seed"), Some("3".into()));
        let merged = load(&path, &["method=seele".into()]).unwrap();
        assert_eq!(value(&merged, "hint.rounds"), Some("4".into()));
        assert!(merged.find("policy_loss.clip_low").is_some());

        // Without a method in the file, its sections are those of the default one.
        let folder = files(&[("r.toml", "[hint]\nrounds = 4\n")]);
        let merged = load(&folder.path().join("r.toml"), &["method=grpo".into()]).unwrap();
        assert!(merged.find("hint").is_none());
    }

    #[test]
    fn a_circle_of_bases_is_named() {
        let folder = files(&[
            ("a.toml", "extends = \"b.toml\"\n"),
            ("b.toml", "\nextends = \"a.toml\"\n"),
        ]);
        let message = load(&folder.path().join("a.toml"), &[])
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("b.toml:2") && message.contains("leads back"),
            "{message}"
        );
    }

    #[test]
    fn the_same_base_twice_is_no_circle() {
        let folder = files(&[
            ("base.toml", "seed = 1\n"),
            ("a.toml", "extends = \"base.toml\"\n"),
            ("top.toml", "extends = [\"a.toml\", \"base.toml\"]\n"),
        ]);
        assert!(load(&folder.path().join("top.toml"), &[]).is_ok());
    }

    #[test]
    fn a_missing_base_names_the_line_that_asks_for_it() {
        let folder = files(&[("a.toml", "seed = 1\nextends = \"nowhere.toml\"\n")]);
        let message = load(&folder.path().join("a.toml"), &[])
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("nowhere.toml") && message.contains("a.toml:2"),
            "{message}"
        );
    }
}
