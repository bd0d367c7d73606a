//! `seele hint` as a person meets it: the real binary, lines in and lines out.
#![expect(clippy::unwrap_used, reason = "a test may stop where its set-up fails")]

use assert_cmd::Command;
use serde_json::{Value, json};
use std::path::Path;

struct Output {
    code: i32,
    stdout: String,
    stderr: String,
}

fn seele(folder: &Path, arguments: &[&str], input: &str) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_seele"))
        .current_dir(folder)
        .arg("hint")
        .args(arguments)
        .write_stdin(input)
        .output()
        .unwrap();
    Output {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn keys(line: &Value) -> Vec<&str> {
    line.as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

const GOOD: &str = r#"{"id": "a", "observations": [[0.9, 1.0, 8], [0.5, 0.25, 8]], "target": 0.5}"#;

/// One round of one rollout: the shortest simulation.
const SHORT: [&str; 7] = [
    "simulate",
    "--seeds",
    "11",
    "--rounds",
    "1",
    "--rollouts",
    "1",
];

#[test]
fn fits_go_on_past_lines_that_cannot_be_used_and_the_exit_code_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let bayes = GOOD.replace("\"target\"", "\"estimator\": \"irt-bayes\", \"target\"");
    let clean = seele(folder.path(), &["fit"], &format!("{GOOD}\n{bayes}\n"));
    assert_eq!((clean.code, clean.stderr.as_str()), (0, ""));
    let fits = lines(&clean.stdout);
    assert_eq!(fits.len(), 2);
    for fit in &fits {
        assert_eq!(
            keys(fit),
            ["id", "k", "mu", "b", "sse", "rate", "predicted"]
        );
        assert_eq!(fit["id"], "a");
        assert!(
            fit["rate"]
                .as_f64()
                .is_some_and(|rate| (0.5..0.9).contains(&rate))
        );
    }

    let wrong = r#"{"id": "b", "observations": [[1.5, 1.0, 8]], "target": 0.5}"#;
    let input = format!("{GOOD}\n{{\"id\": \n\n{wrong}\n{GOOD}\n");
    let mixed = seele(folder.path(), &["fit"], &input);
    assert_eq!(mixed.code, 1, "{}", mixed.stderr);
    assert!(
        mixed.stderr.contains("2 of the lines could not be used"),
        "{}",
        mixed.stderr
    );
    let answers = lines(&mixed.stdout);
    assert_eq!(answers.len(), 4);
    for (answer, line) in answers[1..3].iter().zip([2, 4]) {
        assert_eq!(keys(answer), ["line", "error"]);
        assert_eq!(answer["line"], json!(line));
    }
    assert!(
        answers[2]["error"].as_str().unwrap().contains("1.5"),
        "{}",
        answers[2]
    );
    assert_eq!((&answers[0], &answers[3]), (&fits[0], &fits[0]));
}

#[test]
fn a_simulation_prints_a_line_for_every_schedule_and_seed() {
    let folder = tempfile::tempdir().unwrap();
    let schedules = ["none", "stochastic", "seele", "oracle"];
    let mut arguments = SHORT.to_vec();
    arguments[2] = "11,12";
    arguments.extend(schedules.iter().flat_map(|name| ["--schedule", name]));
    arguments.push("--json");
    let output = seele(folder.path(), &arguments, "");
    assert_eq!(output.code, 0, "{}", output.stderr);
    let reports = lines(&output.stdout);
    let order: Vec<(&str, u64)> = reports
        .iter()
        .map(|report| {
            let seed = report["seed"].as_u64().unwrap();
            (report["schedule"].as_str().unwrap(), seed)
        })
        .collect();
    let expected: Vec<_> = schedules
        .iter()
        .flat_map(|name| [(*name, 11), (*name, 12)])
        .collect();
    assert_eq!(order, expected);
    let numbers = [
        "efficiency",
        "efficiency_all",
        "efficiency_first",
        "mad",
        "zero_variance_rounds",
        "zero_variance_groups",
        "mean_accuracy",
    ];
    for report in &reports {
        assert_eq!(keys(report), [&["schedule", "seed"], &numbers[..]].concat());
        for key in numbers {
            let is_share = |value: f64| (0.0..=1.0).contains(&value);
            assert!(
                report[key].as_f64().is_some_and(is_share),
                "{key}: {report}"
            );
        }
    }
    // With --json nothing is drawn unless it is asked for.
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn every_population_is_simulated_and_differs_from_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let mut seen = Vec::new();
    for population in ["standard", "still", "volatile", "stairs", "easy", "guess"] {
        let more = ["--schedule", "fixed", "--json", "--population", population];
        let output = seele(folder.path(), &[&SHORT[..], &more].concat(), "");
        assert_eq!(output.code, 0, "{population}: {}", output.stderr);
        assert!(!seen.contains(&output.stdout), "{population}");
        seen.push(output.stdout);
    }
    let more = ["--population", "hard"];
    let output = seele(folder.path(), &[&SHORT[..], &more].concat(), "");
    assert_eq!(output.code, 2);
    assert!(
        output.stderr.contains("known populations: standard, still"),
        "{}",
        output.stderr
    );
}

#[test]
fn tables_name_the_schedules_and_the_curves_are_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let schedules = ["--schedule", "uniform", "--schedule", "oracle"];
    let arguments = [&SHORT[..], &schedules].concat();
    let output = seele(folder.path(), &arguments, "");
    assert_eq!(output.code, 0, "{}", output.stderr);
    assert!(
        output
            .stdout
            .starts_with("population standard, 1 rounds of 1 rollouts"),
        "{}",
        output.stdout
    );
    for name in ["\nuniform ", "\noracle "] {
        assert_eq!(output.stdout.matches(name).count(), 2, "{}", output.stdout);
    }
    let named = seele(
        folder.path(),
        &[&arguments[..], &["--svg", "named.svg"]].concat(),
        "",
    );
    assert_eq!(named.code, 0, "{}", named.stderr);
    for file in ["hint-simulation.svg", "named.svg"] {
        let svg = std::fs::read_to_string(folder.path().join(file)).unwrap();
        assert!(svg.contains("<svg") && svg.contains("uniform") && svg.contains("oracle"));
    }
}

#[test]
fn what_cannot_be_simulated_is_said_with_what_can() {
    let folder = tempfile::tempdir().unwrap();
    let cases: [(&[&str], &str); 3] = [
        (&["--schedule", "luffy"], "unknown hint schedule `luffy`"),
        (&["--target", "1.5"], "`target_accuracy`"),
        (&["--rounds", "0"], "`rounds`"),
    ];
    for (more, expected) in cases {
        let output = seele(folder.path(), &[&["simulate"], more].concat(), "");
        assert_eq!(output.code, 2, "{more:?}: {}", output.stderr);
        assert!(
            output.stderr.contains(expected),
            "{more:?}: {}",
            output.stderr
        );
        assert_eq!(output.stdout, "", "{more:?}");
    }
}
