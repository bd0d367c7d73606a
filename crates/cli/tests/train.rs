//! `seele train` as a person meets it: the real binary, a tiny model, files in a folder of its own.
#![expect(clippy::unwrap_used, reason = "a test may stop where its set-up fails")]

use assert_cmd::Command;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// A fresh model of a few thousand weights on one-digit sums.
const TINY: &str = r#"
method = "seele"
steps = 2
[model.new]
hidden_size = 16
layers = 1
heads = 2
intermediate_size = 32
max_position_embeddings = 64
[data]
template = "bare"
arithmetic = { operations = { min = 1, max = 2 }, count = 20 }
[rollout]
problems_per_step = 4
rollouts_per_problem = 4
max_new_tokens = 16
[hint]
rounds = 2
[eval.sets.held_out]
arithmetic = { operations = { min = 1, max = 1 }, count = 5 }
"#;

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.path().join(name), text).unwrap();
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn seele(&self, arguments: &[&str]) -> Output {
        let start = Instant::now();
        let mut command = Command::new(env!("CARGO_BIN_EXE_seele"));
        let output = command
            .current_dir(self.path())
            .args(arguments)
            .output()
            .unwrap();
        Output {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
            took: start.elapsed(),
        }
    }

    /// Everything in the folder besides what the test wrote.
    fn files(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

struct Output {
    code: i32,
    stdout: String,
    stderr: String,
    took: Duration,
}

#[test]
fn a_dry_run_prints_a_recipe_that_loads_again_and_writes_nothing() {
    let place = Place::new();
    place.write("tiny.toml", TINY);
    let first = place.seele(&["train", "tiny.toml", "--set", "seed=5", "--dry-run"]);
    assert_eq!(first.code, 0, "{}", first.stderr);
    assert!(first.stdout.contains("seed = 5"), "{}", first.stdout);
    assert!(
        first
            .stdout
            .contains("rollouts a step            16 = 4 problems x 4 in 2 rounds"),
        "{}",
        first.stdout
    );
    assert_eq!(place.files(), ["tiny.toml"]);

    let other = Place::new();
    other.write("recipe.toml", &first.stdout);
    let second = other.seele(&["train", "recipe.toml", "--dry-run"]);
    let values = |text: &str| -> Vec<String> {
        // What this machine has and how fast it is differs from one moment to the next.
        let measured = ["#   memory", "#   time a step"];
        text.lines()
            .filter(|line| !measured.iter().any(|name| line.starts_with(name)))
            .filter_map(|line| line.split(" # ").next())
            .map(|line| line.trim_end().to_string())
            .collect()
    };
    assert_eq!(values(&second.stdout), values(&first.stdout));
}

#[test]
fn bad_input_is_answered_at_once_with_place_and_remedy_and_leaves_nothing_behind() {
    let row = r#"{"problem": "1+1=", "answer": "2", "solution": "2"}"#;
    let cases: &[(&[&str], i32, &[&str])] = &[
        (
            &["train", "nowhere.toml"],
            2,
            &["cannot read recipe `nowhere.toml`"],
        ),
        (
            &["train", "broken.toml"],
            2,
            &["broken.toml:2: not valid TOML"],
        ),
        (
            &["train", "tiny.toml", "--set", "rollout.problem_per_step=3"],
            2,
            &["did you mean `rollout.problems_per_step`?"],
        ),
        (
            &["train", "tiny.toml", "--set", "seed"],
            2,
            &["--set seed: there is no `=`"],
        ),
        (
            &["train", "tiny.toml", "--set", "data.path=none.jsonl"],
            2,
            &["`data.path`", "none.jsonl` does not exist"],
        ),
        (
            &["train", "tiny.toml", "--set", "data.path=cut.jsonl"],
            2,
            &["cut.jsonl", "line 2"],
        ),
        (
            &["train", "tiny.toml", "--set", "data.path=unanswered.jsonl"],
            2,
            &["unanswered.jsonl", "line 1", "`answer`"],
        ),
        (
            &[
                "train",
                "tiny.toml",
                "--set",
                "model.new.max_position_embeddings=20",
            ],
            2,
            &["[data]", "20"],
        ),
        (
            &["train", "tiny.toml", "--set", "model.path=empty"],
            2,
            &["[model]", "empty"],
        ),
        (
            &["train", "tiny.toml", "--out", "full"],
            2,
            &["`full` is not empty", "--out"],
        ),
    ];
    for (arguments, code, expected) in cases {
        let place = Place::new();
        place.write("tiny.toml", TINY);
        place.write("broken.toml", "steps = 1\nseed = = 2\n");
        place.write("cut.jsonl", &format!("{row}\n{}\n", &row[..30]));
        place.write("unanswered.jsonl", "{\"problem\": \"1+1=\"}\n");
        fs::create_dir(place.path().join("empty")).unwrap();
        fs::create_dir(place.path().join("full")).unwrap();
        place.write("full/notes.txt", "");
        let before = place.files();
        for dry_run in [false, true] {
            let mut arguments = arguments.to_vec();
            if dry_run {
                arguments.push("--dry-run");
            }
            let output = place.seele(&arguments);
            assert_eq!(output.code, *code, "{arguments:?}: {}", output.stderr);
            assert!(
                output.stderr.starts_with("error: "),
                "{arguments:?}: {}",
                output.stderr
            );
            for part in *expected {
                assert!(
                    output.stderr.contains(part),
                    "{arguments:?}: `{part}` is not in\n{}",
                    output.stderr
                );
            }
            assert_eq!(output.stdout, "", "{arguments:?}");
            assert!(
                output.took < Duration::from_secs(5),
                "{arguments:?} took {:?}",
                output.took
            );
            assert_eq!(place.files(), before, "{arguments:?}");
        }
    }
}

#[test]
fn help_shows_examples_and_exit_codes_without_colours_where_there_is_no_terminal() {
    let place = Place::new();
    let help = place.seele(&["--help"]);
    assert_eq!(help.code, 0);
    assert!(
        help.stdout.contains("seele train recipes/quickstart.toml")
            && help.stdout.contains("Exit codes:")
    );
    assert!(!help.stdout.contains('\x1b'));
    let train = place.seele(&["train", "--help"]);
    assert!(
        train.stdout.contains("--set <KEY=VALUE>") && train.stdout.contains("Examples:"),
        "{}",
        train.stdout
    );
    assert_eq!(place.seele(&["trian"]).code, 2);
    assert_eq!(place.seele(&["train"]).code, 2);
}

#[test]
fn quiet_keeps_messages_off_standard_error() {
    let place = Place::new();
    place.write("tiny.toml", TINY);
    assert_ne!(place.seele(&["train", "tiny.toml", "--dry-run"]).stderr, "");
    assert_eq!(
        place
            .seele(&["train", "tiny.toml", "--dry-run", "--quiet"])
            .stderr,
        ""
    );
}
