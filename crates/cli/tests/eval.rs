//! `seele eval` as a person meets it: suites, restarts, comparisons, runs by name, and the same
//! evaluation inside training. The real binary, models made on the spot.
#![expect(clippy::unwrap_used, reason = "a test may stop where its set-up fails")]

#[path = "../../policy/tests/samples/mod.rs"]
mod samples;

use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const BENCHMARK: &str = r#"
name = "sums"
title = "Sums"
files = ["sums.jsonl"]
rows = 40
get = "forty sums, from this test"
template = "bare"
extraction = "fallback"
max_new_tokens = 300
groups = ["level"]
"#;

fn sums(folder: &Path) {
    fs::write(folder.join("sums.toml"), BENCHMARK).unwrap();
    let row = |i: usize| {
        let (a, b) = (i % 7 + 1, i % 5 + 2);
        let row = format!(
            r#"{{"id": "s{i}", "problem": "{a}+{b}=", "answer": "{}", "level": {}}}"#,
            a + b,
            i % 2
        );
        row + "\n"
    };
    fs::create_dir(folder.join("sets")).unwrap();
    let rows: String = (0..40).map(row).collect();
    fs::write(folder.join("sets/sums.jsonl"), rows).unwrap();
}

/// A folder with a model, a benchmark and its problems.
fn place() -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    let options = seele_policy::huggingface::SaveOptions::default();
    let model = samples::llama();
    model.save(&place.path().join("model"), &options).unwrap();
    sums(place.path());
    place
}

struct Answer {
    code: i32,
    stdout: String,
    stderr: String,
}

fn start(place: &Path, arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_seele"))
        .current_dir(place)
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn seele(place: &Path, arguments: &[&str]) -> Answer {
    let output = start(place, arguments).wait_with_output().unwrap();
    Answer {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn lines(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(String::from).collect()
}

const SUITE: [&str; 6] = ["eval", "model", "--suite", "sums.toml", "--data", "sets"];

fn with<'a>(first: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [first, more].concat()
}

#[test]
fn a_suite_that_is_killed_goes_on_and_ends_in_the_same_files() {
    let place = place();
    let sampled = ["--samples", "4", "--temperature", "1", "--seed", "3"];
    let arguments = with(&SUITE, &sampled);
    let whole = seele(place.path(), &with(&arguments, &["--out", "whole"]));
    assert_eq!(whole.code, 0, "{}", whole.stderr);
    assert!(
        whole.stdout.starts_with("| Sums |\n| ---: |\n") && whole.stdout.contains("avg@4"),
        "{}",
        whole.stdout
    );
    let record = lines(&place.path().join("whole/sums.jsonl"));
    assert_eq!(record.len(), 1 + 160);
    let header: Value = serde_json::from_str(&record[0]).unwrap();
    assert_eq!(header["grader"]["name"], "seele-verify");
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(header["grader"]["version"], version);

    let mut child = start(place.path(), &with(&arguments, &["--out", "killed"]));
    let path = place.path().join("killed/sums.jsonl");
    let begun = Instant::now();
    while lines(&path).len() < 9 {
        assert!(begun.elapsed() < Duration::from_secs(60), "no responses");
        sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let kept = lines(&path).len();
    assert!(kept < 161, "it was not stopped in the middle");
    let resumed = seele(place.path(), &with(&arguments, &["--out", "killed"]));
    assert_eq!(resumed.code, 0, "{}", resumed.stderr);
    assert!(
        resumed.stderr.contains("responses are there already"),
        "{}",
        resumed.stderr
    );
    for file in ["sums.jsonl", "results.md", "results.json", "results.csv"] {
        let read = |folder: &str| fs::read_to_string(place.path().join(folder).join(file)).unwrap();
        assert_eq!(read("killed"), read("whole"), "{file}");
    }

    let other = seele(
        place.path(),
        &with(
            &SUITE,
            &["--samples", "4", "--temperature", "1", "--out", "whole"],
        ),
    );
    assert_eq!(other.code, 2);
    assert!(other.stderr.contains("`seed`: 0 and 3"), "{}", other.stderr);
}

#[test]
fn two_results_are_lined_up_with_a_paired_test() {
    let place = place();
    for (limit, out) in [("40", "a"), ("40", "b"), ("30", "c")] {
        let more = ["--limit", limit, "--out", out, "--max-new-tokens", "20"];
        let answer = seele(place.path(), &with(&SUITE, &more));
        assert_eq!(answer.code, 0, "{}", answer.stderr);
    }
    let same = seele(place.path(), &["eval", "--compare", "a", "b"]);
    assert_eq!(same.code, 0, "{}", same.stderr);
    assert!(
        same.stdout.contains("| Sums | 40 |")
            && same.stdout.contains("| 0 | 0 | 1.0000 | exact McNemar |"),
        "{}",
        same.stdout
    );
    let json = seele(place.path(), &["eval", "--compare", "a", "b", "--json"]);
    let json: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json["benchmarks"][0]["p_value"], 1.0);
    let other = seele(place.path(), &["eval", "--compare", "a", "c"]);
    assert_eq!(other.code, 2);
    assert!(
        other.stderr.contains("not made on the same problems"),
        "{}",
        other.stderr
    );
}

#[test]
fn what_cannot_be_evaluated_is_said_before_the_model_is_read() {
    let place = place();
    fs::write(place.path().join("model/model.safetensors"), "damaged").unwrap();
    let cases: [(&[&str], &[&str]); 4] = [
        (
            &["--suite", "gpqa_diamond,sums.toml,aime24", "--data", "sets"],
            &[
                "GPQA-D",
                "password-protected archive",
                "AIME24",
                "--skip-missing",
            ],
        ),
        (
            &["--suite", "gsm8", "--data", "sets"],
            &["did you mean `gsm8k`"],
        ),
        (
            &[
                "--suite",
                "sums.toml",
                "--data",
                "sets",
                "--template",
                "boxd",
            ],
            &["`boxd`"],
        ),
        (
            &["--suite", "sums.toml", "--data", "sets", "--samples", "3"],
            &["`samples` must be 1 with temperature 0"],
        ),
    ];
    for (arguments, expected) in cases {
        let answer = seele(place.path(), &with(&["eval", "model"], arguments));
        assert_eq!(answer.code, 2, "{arguments:?}: {}", answer.stderr);
        for part in expected {
            assert!(answer.stderr.contains(part), "{part}: {}", answer.stderr);
        }
    }
    let rows = fs::read_to_string(place.path().join("sets/sums.jsonl")).unwrap();
    let short: String = rows
        .lines()
        .take(39)
        .map(|row| format!("{row}\n"))
        .collect();
    fs::write(place.path().join("sets/sums.jsonl"), short).unwrap();
    let answer = seele(place.path(), &SUITE);
    assert_eq!(answer.code, 2);
    assert!(
        answer.stderr.contains("has 39 rows, published are 40"),
        "{}",
        answer.stderr
    );
}

const RECIPE: &str = r#"
method = "grpo"
name = "tiny"
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
[learning_rate]
peak = 1e-2
[eval]
every_steps = 1
[eval.sets.held_out]
arithmetic = { operations = { min = 1, max = 1 }, count = 5 }
[eval.benchmarks]
suite = "sums.toml"
data = "sets"
limit = 12
"#;

#[test]
fn training_evaluates_as_the_command_does_and_a_run_is_evaluated_by_name() {
    let place = tempfile::tempdir().unwrap();
    sums(place.path());
    fs::write(place.path().join("tiny.toml"), RECIPE).unwrap();
    let trained = seele(place.path(), &["train", "tiny.toml"]);
    assert_eq!(trained.code, 0, "{}", trained.stderr);
    let run = place.path().join("runs/tiny-1");
    let metrics = lines(&run.join("metrics.jsonl"));
    let keys = ["eval/held_out/accuracy", "eval/sums/accuracy"];
    for line in &metrics {
        let line: Value = serde_json::from_str(line).unwrap();
        assert!(keys.iter().all(|key| line[key].is_number()), "{line}");
    }
    assert_eq!(metrics.len(), 3);

    let arguments = [
        "eval",
        "tiny",
        "--suite",
        "sums.toml",
        "--data",
        "sets",
        "--limit",
        "12",
    ];
    let by_command = seele(place.path(), &with(&arguments, &["--out", "by-command"]));
    assert_eq!(by_command.code, 0, "{}", by_command.stderr);
    assert!(
        by_command.stderr.contains("runs/tiny-1/checkpoints/step_2"),
        "{}",
        by_command.stderr
    );
    let of = |path: PathBuf| lines(&path)[1..].to_vec();
    let expected = of(run.join("eval/step_2/sums.jsonl"));
    assert_eq!(expected.len(), 12);
    assert_eq!(of(place.path().join("by-command/sums.jsonl")), expected);

    let steps = [
        "eval",
        "--compare",
        "runs/tiny-1/eval/step_0",
        "runs/tiny-1/eval/step_2",
    ];
    let compared = seele(place.path(), &steps);
    assert_eq!(compared.code, 0, "{}", compared.stderr);
    assert!(
        compared.stdout.contains("A: `tiny, step 0`"),
        "{}",
        compared.stdout
    );

    let arguments = [
        "train",
        "tiny.toml",
        "--set",
        "eval.benchmarks.data=nowhere",
    ];
    let missing = seele(place.path(), &arguments);
    assert_eq!(missing.code, 2);
    assert!(
        missing.stderr.contains("[eval.benchmarks]: Sums") && missing.stderr.contains("forty sums"),
        "{}",
        missing.stderr
    );
}
