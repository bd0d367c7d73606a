//! What lies under and between the written settings: presets, section defaults, folders of paths.

use super::error::RecipeError;
use super::layers::lay_recipe_over;
use super::locate::is_elsewhere;
use super::node::{Node, Origin, Table, Value};
use super::preset::{layer_of, preset_layer};
use super::read::OFF;
use super::written::DEFAULT_METHOD;
use crate::optimizer_schedule::{Decay, LearningRateConfig};
use std::path::{Path, PathBuf};

/// Puts the preset of the method, and defaults that differ by section, under what was written.
pub(crate) fn lay_defaults_under(written: Node) -> Result<Node, RecipeError> {
    let method = match written.find("method") {
        Some(Node {
            value: Value::Text(method),
            origin,
        }) => (method.clone(), origin.clone()),
        // A method that is not text is refused when it is read.
        _ => (DEFAULT_METHOD.into(), Origin::Default),
    };
    let mut layers = preset_layer(&method.0, &method.1)?;
    if let (Some(_), Value::Table(table)) = (written.find("sft"), &mut layers.value) {
        let mut sft = Table::default();
        sft.insert(
            "learning_rate",
            layer_of(&sft_learning_rate(), &Origin::Default),
        );
        table.insert(
            "sft",
            Node {
                value: Value::Table(sft),
                origin: Origin::Default,
            },
        );
    }
    lay_recipe_over(&mut layers, written);
    Ok(layers)
}

fn sft_learning_rate() -> LearningRateConfig {
    LearningRateConfig {
        peak: 1e-5,
        warmup_share: 0.05,
        decay: Decay::Cosine,
        ..Default::default()
    }
}

/// Makes paths independent of the current folder: those of a file start from its folder.
pub(crate) fn make_paths_absolute(layers: &mut Node) {
    for key in [
        "model.path",
        "data.path",
        "data.template",
        "sft.data.path",
        "sft.data.template",
        "eval.benchmarks.data",
    ] {
        if let Some(node) = layers.find_mut(key) {
            make_path_absolute(key, node);
        }
    }
    if let Some(node) = layers.find_mut("eval.benchmarks.suite") {
        make_files_absolute(node);
    }
    let sets = layers.find_mut("eval.sets");
    if let Some(Node {
        value: Value::Table(sets),
        ..
    }) = sets
    {
        for (_, set) in sets.iter_mut() {
            for key in ["path", "template"] {
                if let Some(node) = set.find_mut(key) {
                    make_path_absolute(key, node);
                }
            }
        }
    }
}

fn make_path_absolute(key: &str, node: &mut Node) {
    let folder = node.origin.folder();
    let Value::Text(text) = &mut node.value else {
        return;
    };
    // A template is a name unless it is a file, and `off` is no file.
    let is_file = !key.ends_with("template") || text.ends_with(".toml");
    if is_file
        && text != OFF
        && let Some(absolute) = in_folder(folder.as_deref(), Path::new(text))
            .as_deref()
            .and_then(Path::to_str)
    {
        *text = absolute.into();
    }
}

/// The files of a list of benchmarks; its other entries are names.
fn make_files_absolute(list: &mut Node) {
    let folder = list.origin.folder();
    let Value::Text(text) = &mut list.value else {
        return;
    };
    let entries = text.split(',').map(|entry| {
        let entry = entry.trim();
        let file = entry
            .ends_with(".toml")
            .then(|| in_folder(folder.as_deref(), Path::new(entry)))
            .flatten();
        file.and_then(|file| file.to_str().map(String::from))
            .unwrap_or_else(|| entry.to_owned())
    });
    *text = entries.collect::<Vec<_>>().join(",");
}

/// `path` seen from `folder` (the current one if `None`), absolute. `None` if there is no such folder.
fn in_folder(folder: Option<&Path>, path: &Path) -> Option<PathBuf> {
    if path.is_absolute() || is_elsewhere(path) {
        return Some(path.into());
    }
    // The folder's real path has no links, so that leading `..` can be taken away from it.
    let here = folder
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut folder = here.canonicalize().ok()?;
    let mut rest = path.strip_prefix(".").unwrap_or(path);
    while let Ok(inner) = rest.strip_prefix("..") {
        folder.pop();
        rest = inner;
    }
    Some(folder.join(rest))
}

/// Settings that follow from others unless they are written.
const DERIVED: [(&str, &str); 6] = [
    ("hint.rollouts", "rollout.rollouts_per_problem"),
    ("rollout.rollouts_per_problem", "hint.rollouts"),
    ("update.problems_per_update", "rollout.problems_per_step"),
    ("aggregation.l_max", "rollout.max_new_tokens"),
    ("overlong.buffer", "rollout.max_new_tokens"),
    ("eval.max_new_tokens", "rollout.max_new_tokens"),
];

/// Says of settings that were filled in what they follow from.
pub(crate) fn note_derived(mut layers: Node) -> Node {
    let is_written =
        |layers: &Node, key: &str| layers.find(key).is_some_and(|node| node.origin.rank() > 1);
    for (key, from) in DERIVED {
        // The schedule's own number of rollouts stands unless there is a budget.
        let follows = match key {
            "hint.rollouts" => is_written(&layers, from),
            // A zone that is off is off for any length.
            "overlong.buffer" => layers
                .find(key)
                .is_some_and(|node| matches!(node.value, Value::Float(_) | Value::Integer(_))),
            _ => true,
        };
        if follows && !is_written(&layers, key) {
            layers.set_origin(key, Origin::Derived { from });
        }
    }
    layers
}
