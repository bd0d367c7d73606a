//! Which files of a repository are wanted.

use crate::error::HubError;
use crate::place::{HubPath, Kind, is_tame};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// Weights in one file, and the index of those in several.
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// Endings of files of problems.
const PROBLEMS: [&str; 3] = [".jsonl", ".jsonl.gz", ".parquet"];
/// Files that a message names at most.
const NAMED: usize = 12;

/// What is wanted of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Selection {
    /// Files to be fetched first; the settings of a model, or all of a data set.
    pub(crate) files: Vec<String>,
    /// What a model has besides.
    pub(crate) weights: Weights,
    /// The file or folder to be read, in the repository; empty for the repository itself.
    pub(crate) target: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Weights {
    /// Nothing, or what [`Selection::files`] has already.
    None,
    /// This file.
    One(String),
    /// The files that this one of [`Selection::files`] names.
    Indexed(String),
}

/// Chooses among the files of a repository.
pub(crate) fn select(place: &HubPath, files: &[String]) -> Result<Selection, HubError> {
    match place.kind {
        Kind::Model => model(place, files),
        Kind::DataSet => data_set(place, files),
    }
}

fn unsuitable(place: &HubPath, problem: String) -> HubError {
    HubError::Unsuitable {
        place: Box::new(place.clone()),
        problem,
    }
}

/// The files right in a folder, whose name ends in `/` unless it is the repository itself.
fn right_in<'a>(files: &'a [String], folder: &'a str) -> impl Iterator<Item = &'a str> {
    files.iter().filter_map(move |file| {
        let name = file.strip_prefix(folder)?;
        (!name.contains('/')).then_some(name)
    })
}

/// The folder that is meant, or the file.
fn inside<'a>(place: &'a HubPath, files: &[String]) -> Result<Inside<'a>, HubError> {
    let Some(inside) = &place.inside else {
        return Ok(Inside::Folder(String::new()));
    };
    if files.contains(inside) {
        return Ok(Inside::File(inside));
    }
    let folder = format!("{inside}/");
    if files.iter().any(|file| file.starts_with(&folder)) {
        return Ok(Inside::Folder(folder));
    }
    let near = files
        .iter()
        .map(|file| (strsim::jaro_winkler(file, inside), file))
        .filter(|(similarity, _)| *similarity > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let problem = match near {
        Some((_, near)) => format!("there is no such file; did you mean `{near}`?"),
        None => format!("there is no such file; there are {}", named(files)),
    };
    Err(unsuitable(place, problem))
}

enum Inside<'a> {
    File(&'a String),
    Folder(String),
}

fn named(files: &[impl AsRef<str>]) -> String {
    let quoted = files.iter().take(NAMED);
    let mut text: Vec<String> = quoted.map(|file| format!("`{}`", file.as_ref())).collect();
    if files.len() > NAMED {
        text.push(format!("{} more", files.len() - NAMED));
    }
    match text.is_empty() {
        true => "none".into(),
        false => text.join(", "),
    }
}

fn model(place: &HubPath, files: &[String]) -> Result<Selection, HubError> {
    let gguf = |file: &str| file.to_ascii_lowercase().ends_with(".gguf");
    let one = |file: String| Selection {
        files: Vec::new(),
        target: file.clone(),
        weights: Weights::One(file),
    };
    let folder = match inside(place, files)? {
        Inside::File(file) if gguf(file) => return Ok(one(file.clone())),
        Inside::File(_) => {
            let problem = "a model is a repository, a folder in one, or a `.gguf` file";
            return Err(unsuitable(place, problem.into()));
        }
        Inside::Folder(folder) => folder,
    };
    let names: BTreeSet<&str> = right_in(files, &folder).collect();
    let has = |name: &str| names.contains(name);
    let weights = match (has(WEIGHTS), has(INDEX)) {
        (true, _) => Weights::One(format!("{folder}{WEIGHTS}")),
        (false, true) => Weights::Indexed(format!("{folder}{INDEX}")),
        (false, false) => Weights::None,
    };
    if has("config.json") && weights != Weights::None {
        if !has("tokenizer.json") {
            let problem = "it has no `tokenizer.json`; load it with `transformers` (`AutoTokenizer`), save that with `save_pretrained` beside the weights, and give the folder as a path";
            return Err(unsuitable(place, problem.into()));
        }
        // Other programs' indexes have no part in it, and ours has none where the weights are one file.
        let unwanted = |name: &str| {
            name.ends_with(".index.json") && weights != Weights::Indexed(format!("{folder}{name}"))
        };
        let settings = names.iter().filter(|name| {
            (name.ends_with(".json") || name.ends_with(".jinja")) && !unwanted(name)
        });
        return Ok(Selection {
            files: settings.map(|name| format!("{folder}{name}")).collect(),
            weights,
            target: folder.trim_end_matches('/').to_owned(),
        });
    }
    let packed: Vec<&str> = names.iter().copied().filter(|name| gguf(name)).collect();
    match packed.as_slice() {
        [file] => Ok(one(format!("{folder}{file}"))),
        [] => {
            let present: Vec<&str> = names.into_iter().collect();
            Err(unsuitable(
                place,
                format!(
                    "no model is there: neither `config.json` with `{WEIGHTS}` nor a `.gguf` file; there are {}",
                    named(&present)
                ),
            ))
        }
        several => Err(unsuitable(
            place,
            format!(
                "there are several `.gguf` files, name one of {}",
                named(several)
            ),
        )),
    }
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// The files with the weights, as the index at `index` says, whose text is `text`.
pub(crate) fn shards(place: &HubPath, index: &str, text: &str) -> Result<Vec<String>, HubError> {
    let broken = |reason: String| unsuitable(place, format!("`{index}`: {reason}"));
    let map: Index = serde_json::from_str(text).map_err(|error| broken(error.to_string()))?;
    let folder = index.strip_suffix(INDEX).unwrap_or_default();
    let names: BTreeSet<&String> = map.weight_map.values().collect();
    let shards = names.into_iter().map(|name| match is_tame(name) {
        true => Ok(format!("{folder}{name}")),
        false => Err(broken(format!("`{name}` is no file of the repository"))),
    });
    shards.collect()
}

/// The name of a file of problems without its ending and, where it is one of several, its number.
fn stem(name: &str) -> Option<&str> {
    let mut endings = PROBLEMS.iter();
    let stem = endings.find_map(|ending| name.strip_suffix(ending))?;
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if number(stem) {
        return Some("");
    }
    let numbered = stem
        .rsplit_once("-of-")
        .filter(|(_, count)| number(count))
        .and_then(|(rest, _)| rest.rsplit_once('-'))
        .filter(|(_, index)| number(index));
    Some(numbered.map_or(stem, |(stem, _)| stem))
}

/// How many files a numbered one says there are.
fn count(name: &str) -> Option<usize> {
    let (_, count) = name.rsplit_once("-of-")?;
    count.split('.').next()?.parse().ok()
}

fn data_set(place: &HubPath, files: &[String]) -> Result<Selection, HubError> {
    let all = |files: Vec<String>, target: &str| Selection {
        files,
        weights: Weights::None,
        target: target.trim_end_matches('/').to_owned(),
    };
    let folder = match inside(place, files)? {
        // A file may have any name; what it is, its bytes say.
        Inside::File(file) => return Ok(all(vec![file.clone()], file)),
        Inside::Folder(folder) => folder,
    };
    let mut found: Vec<(&str, &str, String)> = Vec::new();
    for file in files.iter().filter(|file| file.starts_with(&folder)) {
        let (parent, name) = match file.rfind('/') {
            Some(slash) => file.split_at(slash + 1),
            None => ("", file.as_str()),
        };
        if let Some(stem) = stem(name) {
            found.push((parent, stem, file.clone()));
        }
    }
    let sets: BTreeSet<(&str, &str)> = found
        .iter()
        .map(|(parent, stem, _)| (*parent, *stem))
        .collect();
    let sets: Vec<(&str, &str)> = sets.into_iter().collect();
    let parent = match sets.as_slice() {
        [(parent, _)] => *parent,
        [] => {
            return Err(unsuitable(
                place,
                format!(
                    "no `.jsonl`, `.jsonl.gz` or `.parquet` file is there; there are {}. A branch with Parquet files is made by the hub for many data sets: `{}`",
                    named(files),
                    HubPath {
                        revision: Some("refs/convert/parquet".into()),
                        inside: None,
                        ..place.clone()
                    }
                ),
            ));
        }
        _ => {
            let names: Vec<&String> = found.iter().map(|(_, _, file)| file).collect();
            return Err(unsuitable(
                place,
                format!(
                    "there are several sets of problems, and taking all would mix them (training and test problems, often); name a file behind the repository, or a folder with one set: {}",
                    named(&names)
                ),
            ));
        }
    };
    let wanted: Vec<String> = found.iter().map(|(_, _, file)| file.clone()).collect();
    // Held against each other where the names say how many there are.
    let short = |file: &&String| count(file).is_some_and(|count| count != wanted.len());
    if let Some(file) = wanted.iter().find(short) {
        let problem = format!(
            "`{file}` is one of more files than the {} that are there",
            wanted.len()
        );
        return Err(unsuitable(place, problem));
    }
    match wanted.as_slice() {
        [file] => Ok(all(vec![file.clone()], file)),
        _ => Ok(all(wanted, parent)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(kind: Kind, place: &str, files: &[&str]) -> Result<Selection, String> {
        let place = HubPath::parse(kind, place).unwrap();
        let files: Vec<String> = files.iter().map(|file| (*file).to_owned()).collect();
        select(&place, &files).map_err(|error| error.to_string())
    }

    const SETTINGS: [&str; 3] = ["config.json", "tokenizer.json", "tokenizer_config.json"];

    #[test]
    fn a_model_is_its_settings_and_its_weights_and_nothing_else_of_the_repository() {
        let more = [
            "README.md",
            "model.safetensors",
            "onnx/config.json",
            "onnx/model.onnx",
            "pytorch_model.bin",
            "pytorch_model.bin.index.json",
        ];
        let found = chosen(Kind::Model, "hf://a/b", &[&SETTINGS[..], &more].concat()).unwrap();
        assert_eq!(found.files, SETTINGS);
        assert_eq!(found.weights, Weights::One(WEIGHTS.into()));
        assert_eq!(found.target, "");

        let nested = [
            "x/config.json",
            "x/tokenizer.json",
            "x/model.safetensors.index.json",
        ];
        let found = chosen(Kind::Model, "hf://a/b/x", &nested).unwrap();
        assert_eq!(found.weights, Weights::Indexed(nested[2].into()));
        assert!(found.files.contains(&nested[2].to_owned()) && found.target == "x");
        let place = HubPath::parse(Kind::Model, "hf://a/b/x").unwrap();
        let index = r#"{"weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors", "c": "m-1.safetensors"}}"#;
        let files = shards(&place, nested[2], index).unwrap();
        assert_eq!(files, ["x/m-1.safetensors", "x/m-2.safetensors"]);
        let escape = r#"{"weight_map": {"a": "../../secret"}}"#;
        assert!(shards(&place, nested[2], escape).is_err());
    }

    #[test]
    fn of_several_gguf_files_one_must_be_named() {
        let files = ["a-q4.gguf", "a-q8.gguf", "config.json"];
        let message = chosen(Kind::Model, "hf://a/b", &files).unwrap_err();
        assert!(message.contains("`a-q4.gguf`, `a-q8.gguf`"), "{message}");
        let found = chosen(Kind::Model, "hf://a/b/a-q8.gguf", &files).unwrap();
        assert_eq!((found.target.as_str(), found.files.len()), ("a-q8.gguf", 0));
        assert_eq!(
            chosen(Kind::Model, "hf://a/b", &files[1..]).unwrap().target,
            "a-q8.gguf"
        );
    }

    #[test]
    fn what_is_missing_is_said_before_anything_is_fetched() {
        for (place, files, part) in [
            ("hf://a/b", &["README.md"][..], "no model is there"),
            (
                "hf://a/b",
                &["config.json", "model.safetensors"],
                "tokenizer.json",
            ),
            (
                "hf://a/b/model/confg.json",
                &["model/config.json"],
                "did you mean `model/config.json`",
            ),
            ("hf://a/b/config.json", &["config.json"], "a `.gguf` file"),
        ] {
            let message = chosen(Kind::Model, place, files).unwrap_err();
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn a_data_set_is_one_set_of_problems_in_one_file_or_several() {
        let data = |place: &str, files: &[&str]| chosen(Kind::DataSet, place, files);
        let one = data("hf://a/b", &["README.md", "train.jsonl.gz"]).unwrap();
        assert_eq!(
            (one.target.as_str(), one.files.len()),
            ("train.jsonl.gz", 1)
        );
        let parts = [
            "data/train-00000-of-00002.parquet",
            "data/train-00001-of-00002.parquet",
        ];
        let all = data("hf://a/b", &parts).unwrap();
        assert_eq!((all.target.as_str(), all.files.len()), ("data", 2));
        assert!(
            data("hf://a/b", &parts[..1])
                .unwrap_err()
                .contains("more files")
        );
        let part = format!("hf://a/b/{}", parts[0]);
        assert_eq!(data(&part, &parts[..1]).unwrap().target, parts[0]);
        let three = ["x/0000.parquet", "x/0001.parquet", "y/0000.parquet"];
        assert_eq!(data("hf://a/b/x", &three).unwrap().target, "x");
        assert!(data("hf://a/b", &three).unwrap_err().contains("mix"));
        let splits = [
            "main/train-00000-of-00001.parquet",
            "main/test-00000-of-00001.parquet",
        ];
        let message = data("hf://a/b/main", &splits).unwrap_err();
        assert!(
            message.contains(splits[1]) && message.contains("mix"),
            "{message}"
        );
        assert_eq!(
            data("hf://a/b/main/test-00000-of-00001.parquet", &splits)
                .unwrap()
                .files,
            splits[1..]
        );
        let message = data("hf://a/b", &["train.csv"]).unwrap_err();
        assert!(message.contains("refs%2Fconvert%2Fparquet"), "{message}");
        assert_eq!(
            data("hf://a/b/train.csv", &["train.csv"]).unwrap().target,
            "train.csv"
        );
    }
}
