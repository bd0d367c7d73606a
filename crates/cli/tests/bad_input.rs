//! Bad input as people bring it: each is answered before long work, with file, place and remedy, and
//! leaves nothing behind. Models are made on the spot.
#![expect(clippy::unwrap_used, reason = "a test may stop where its set-up fails")]

#[path = "../../policy/tests/gguf_writer/mod.rs"]
mod gguf_writer;
#[path = "../../policy/tests/samples/mod.rs"]
mod samples;

use assert_cmd::Command;
use safetensors::SafeTensors;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

const RECIPE: &str = r#"
steps = 2
[model]
path = "model"
[data]
path = "train.jsonl"
template = "bare"
[rollout]
problems_per_step = 2
rollouts_per_problem = 4
max_new_tokens = 16
[hint]
rounds = 2
"#;

const ROWS: &str = r#"{"id": "a", "problem": "1+1=", "answer": "2", "solution": "1+1 is 2, so \\boxed{2}"}
{"id": "b", "problem": "1+2=", "answer": "3", "solution": "1+2 is 3, so \\boxed{3}"}
{"id": "c", "problem": "2+2=", "answer": "4", "solution": "2+2 is 4, so \\boxed{4}"}
"#;

/// A folder with a recipe, problems and a model, all good.
fn good() -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("recipe.toml"), RECIPE).unwrap();
    fs::write(place.path().join("train.jsonl"), ROWS).unwrap();
    let options = seele_policy::huggingface::SaveOptions::default();
    let model = samples::llama();
    model.save(&place.path().join("model"), &options).unwrap();
    place
}

struct Answer {
    code: i32,
    stdout: String,
    stderr: String,
    took: Duration,
}

fn seele(place: &Path, arguments: &[&str]) -> Answer {
    let begun = Instant::now();
    let mut command = Command::new(env!("CARGO_BIN_EXE_seele"));
    let output = command.current_dir(place).args(arguments).output().unwrap();
    Answer {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
        took: begun.elapsed(),
    }
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<String> {
    samples::names(folder)
        .into_iter()
        .flat_map(|name| {
            let path = folder.join(&name);
            if path.is_dir() {
                let below = files(&path).into_iter();
                below.map(|file| format!("{name}/{file}")).collect()
            } else {
                vec![name]
            }
        })
        .collect()
}

fn append(place: &Path, row: &str) {
    let path = place.join("train.jsonl");
    fs::write(
        &path,
        format!("{}{row}\n", fs::read_to_string(&path).unwrap()),
    )
    .unwrap();
}

fn cut(path: &Path, keep: f64) {
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..(bytes.len() as f64 * keep) as usize]).unwrap();
}

fn drop_tensor(path: &Path, name: &str) {
    let bytes = fs::read(path).unwrap();
    let mut tensors = SafeTensors::deserialize(&bytes).unwrap().tensors();
    tensors.retain(|(tensor, _)| tensor != name);
    fs::write(path, safetensors::serialize(tensors, None).unwrap()).unwrap();
}

type Damage = fn(&Path);

#[test]
fn every_kind_of_bad_input_is_named_with_place_and_remedy() {
    let nothing: Damage = |_| ();
    let cases: &[(&str, Damage, &[&str], &[&str])] = &[
        (
            "a recipe that is not there",
            |place| fs::remove_file(place.join("recipe.toml")).unwrap(),
            &[],
            &["cannot read recipe `recipe.toml`"],
        ),
        (
            "a data file that is not there",
            |place| fs::remove_file(place.join("train.jsonl")).unwrap(),
            &[],
            &[
                "recipe.toml:6",
                "`data.path`",
                "train.jsonl` does not exist",
            ],
        ),
        (
            "a model folder that is not there",
            |place| fs::remove_dir_all(place.join("model")).unwrap(),
            &[],
            &["recipe.toml:4", "`model.path`", "model` does not exist"],
        ),
        (
            "a broken JSON line",
            |place| append(place, r#"{"id": "d", "problem": "#),
            &[],
            &["[data]", "train.jsonl", "line 4"],
        ),
        (
            "a row without answer",
            |place| append(place, r#"{"id": "d", "problem": "3+3=", "solution": "6"}"#),
            &[],
            &["[data]", "train.jsonl", "line 4", "`answer`"],
        ),
        (
            "a row without solution",
            |place| append(place, r#"{"id": "d", "problem": "3+3=", "answer": "6"}"#),
            &[],
            &[
                "[data]",
                "train.jsonl",
                "line 4",
                "no solution",
                "train without hints",
            ],
        ),
        (
            "an unknown key",
            nothing,
            &["--set", "rollout.tempreature=1"],
            &["unknown key", "did you mean `rollout.temperature`?"],
        ),
        (
            "a model without a tensor",
            |place| drop_tensor(&place.join("model/model.safetensors"), "model.norm.weight"),
            &[],
            &["[model]", "model/model.safetensors", "`model.norm.weight`"],
        ),
        (
            "a cut safetensors file",
            |place| cut(&place.join("model/model.safetensors"), 0.7),
            &[],
            &["[model]", "model/model.safetensors", "byte"],
        ),
        (
            "a cut GGUF file",
            |place| {
                let bytes = gguf_writer::export(&samples::llama()).bytes(3, 32);
                fs::write(place.join("model.gguf"), bytes).unwrap();
                cut(&place.join("model.gguf"), 0.8);
            },
            &["--set", "model.path=model.gguf"],
            &["[model]", "model.gguf", "byte"],
        ),
        (
            "a solution longer than the context",
            |place| {
                let solution = "word ".repeat(200);
                append(
                    place,
                    &format!(
                        r#"{{"id": "d", "problem": "3+3=", "answer": "6", "solution": "{solution}"}}"#
                    ),
                );
            },
            &[],
            &["[data]", "train.jsonl", "line 4", "`d`", "> 512"],
        ),
        (
            "a tokenizer that is no JSON",
            |place| cut(&place.join("model/tokenizer.json"), 0.5),
            &[],
            &["[model]", "tokenizer.json"],
        ),
        (
            "an output folder that is in use",
            |place| {
                fs::create_dir(place.join("out")).unwrap();
                fs::write(place.join("out/notes.txt"), "").unwrap();
            },
            &["--out", "out"],
            &["`out` is not empty", "choose another `--out`"],
        ),
        (
            "an output folder that is a file",
            |place| fs::write(place.join("out"), "").unwrap(),
            &["--out", "out"],
            &["`out` is a file"],
        ),
    ];
    for (name, damage, arguments, expected) in cases {
        let place = good();
        damage(place.path());
        let before = files(place.path());
        for dry_run in [&["--dry-run"][..], &[]] {
            let arguments = [&["train", "recipe.toml"], *arguments, dry_run].concat();
            let answer = seele(place.path(), &arguments);
            let Answer {
                code,
                stdout,
                stderr,
                took,
            } = &answer;
            assert_eq!(*code, 2, "{name}: {stderr}");
            assert!(stderr.starts_with("error: "), "{name}: {stderr}");
            for part in *expected {
                assert!(
                    stderr.contains(part),
                    "{name}: `{part}` is not in\n{stderr}"
                );
            }
            assert_eq!(stdout, "", "{name}");
            assert!(*took < Duration::from_secs(10), "{name} took {took:?}");
            assert_eq!(files(place.path()), before, "{name}");
        }
    }
}

#[test]
fn the_good_input_is_good() {
    let place = good();
    let answer = seele(place.path(), &["train", "recipe.toml", "--out", "out"]);
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    assert!(place.path().join("out/model/model.safetensors").exists());
    let gguf = gguf_writer::export(&samples::llama()).bytes(3, 32);
    fs::write(place.path().join("model.gguf"), gguf).unwrap();
    let arguments = [
        "train",
        "recipe.toml",
        "--set",
        "model.path=model.gguf",
        "--dry-run",
    ];
    let answer = seele(place.path(), &arguments);
    assert_eq!(answer.code, 0, "{}", answer.stderr);
}

#[test]
fn reference_answers_that_cannot_be_read_are_listed() {
    let place = good();
    append(
        place.path(),
        r#"{"id": "odd", "problem": "?", "answer": "\\frac{1}{", "solution": "so it is"}"#,
    );
    let answer = seele(place.path(), &["train", "recipe.toml", "--dry-run"]);
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    for part in [
        "warning: ",
        "cannot judge 1 of 4 rows",
        "`odd`",
        "line 4",
        "cannot be read",
    ] {
        assert!(answer.stderr.contains(part), "{}", answer.stderr);
    }
}
