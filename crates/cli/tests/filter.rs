//! `seele data filter` through the real binary, with a model made on the spot.
#![expect(clippy::unwrap_used, reason = "a test may stop where its set-up fails")]

#[path = "support/processes.rs"]
mod processes;
#[path = "../../policy/tests/samples/mod.rs"]
mod samples;

use processes::{end, rows};
use serde_json::Value;
use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const PROBLEMS: usize = 40;

fn place() -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    let options = seele_policy::huggingface::SaveOptions::default();
    samples::llama()
        .save(&place.path().join("model"), &options)
        .unwrap();
    // Any number with the digit counts: the model writes at random, and some of it is right.
    let rows: String = (0..PROBLEMS)
        .map(|i| {
            format!(
                r#"{{"id": "p{i}", "problem": "pick {i}: ", "answer": "{}"}}"#,
                i % 10
            ) + "\n"
        })
        .collect();
    fs::write(place.path().join("rows.jsonl"), rows).unwrap();
    place
}

fn start(place: &Path, arguments: &[&str]) -> Child {
    let fixed = [
        "data",
        "filter",
        "rows.jsonl",
        "--model",
        "model",
        "--template",
        "bare",
    ];
    let fixed = [
        &fixed[..],
        &["--extraction", "fallback", "--temperature", "1"],
    ]
    .concat();
    Command::new(env!("CARGO_BIN_EXE_seele"))
        .current_dir(place)
        .args([&fixed, arguments].concat())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn filter(place: &Path, arguments: &[&str]) -> (i32, String, String) {
    end(start(place, arguments))
}

const LONG: [&str; 6] = ["--samples", "4", "--max-new-tokens", "200", "--seed", "2"];

#[test]
fn every_problem_gets_its_pass_count_and_those_in_range_are_kept() {
    let place = place();
    let arguments = [&LONG[..], &["--keep", "1..3", "--out", "out"]].concat();
    let (code, stdout, stderr) = filter(place.path(), &arguments);
    assert_eq!(code, 0, "{stderr}");
    let out = place.path().join("out");
    let responses = rows(&out.join("responses.jsonl"));
    assert_eq!(responses.len(), 1 + 4 * PROBLEMS);
    let mut right: HashMap<&str, u64> = HashMap::new();
    for response in &responses[1..] {
        let passed = u64::from(response["correct"].as_bool().unwrap());
        *right.entry(response["id"].as_str().unwrap()).or_default() += passed;
    }
    let counted = rows(&out.join("counted.jsonl"));
    assert_eq!(counted.len(), PROBLEMS);
    for row in &counted {
        assert_eq!(
            row["pass_count"],
            right[row["id"].as_str().unwrap()],
            "{row}"
        );
        assert_eq!(row["pass_samples"], 4);
    }
    let in_range = |row: &&Value| (1..=3).contains(&row["pass_count"].as_u64().unwrap());
    let expected: Vec<Value> = counted.iter().filter(in_range).cloned().collect();
    let kept = rows(&out.join("kept.jsonl"));
    assert!(!kept.is_empty() && kept.len() < PROBLEMS, "{stdout}");
    assert_eq!(kept, expected);
    assert!(
        stdout.contains(&format!("kept {} of {PROBLEMS} problems", kept.len())),
        "{stdout}"
    );

    // Another range takes the counts that are there.
    let before = fs::metadata(out.join("responses.jsonl")).unwrap().len();
    let (code, _, stderr) = filter(place.path(), &[&LONG[..], &["--out", "out"]].concat());
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(
        fs::metadata(out.join("responses.jsonl")).unwrap().len(),
        before
    );
    let kept = rows(&out.join("kept.jsonl"));
    let all_wrong = counted.iter().filter(|row| row["pass_count"] == 0).count();
    assert_eq!(kept.len(), all_wrong);
}

#[test]
fn a_filter_that_is_killed_goes_on_to_the_same_files() {
    let place = place();
    let whole = [&LONG[..], &["--keep", "1..4", "--out", "whole"]].concat();
    let (code, expected, stderr) = filter(place.path(), &whole);
    assert_eq!(code, 0, "{stderr}");
    let killed = [&LONG[..], &["--keep", "1..4", "--out", "killed"]].concat();
    let mut child = start(place.path(), &killed);
    let path = place.path().join("killed/responses.jsonl");
    let begun = Instant::now();
    while rows(&path).len() < 20 {
        assert!(begun.elapsed() < Duration::from_secs(60), "no responses");
        sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let (code, stdout, stderr) = filter(place.path(), &killed);
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(stdout.replace("killed", "whole"), expected);
    for file in ["responses.jsonl", "counted.jsonl", "kept.jsonl"] {
        let read = |folder: &str| fs::read(place.path().join(folder).join(file)).unwrap();
        assert_eq!(read("killed"), read("whole"), "{file}");
    }
    let other = [&LONG[..2], &["--out", "whole"]].concat();
    let (code, _, stderr) = filter(place.path(), &other);
    assert_eq!(code, 2);
    assert!(stderr.contains("was made with other settings"), "{stderr}");
    let (code, _, stderr) = filter(
        place.path(),
        &["--samples", "2", "--keep", "1..3", "--out", "x"],
    );
    assert_eq!(code, 2);
    assert!(stderr.contains("more right samples than the 2"), "{stderr}");
}
