//! The files of UFT and LUFFY, as published, train as they are.
#![expect(clippy::unwrap_used, reason = "a test may stop where its set-up fails")]

#[path = "../../../tests/reference.rs"]
mod reference;

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder of published files, or `None` with a line on stderr.
fn folder() -> Option<PathBuf> {
    reference::data("parquet")
}

/// A fresh model over the file's own characters, on the prompts that the rows carry.
fn train(file: &Path, rows: usize, more: &str) {
    let place = tempfile::tempdir().unwrap();
    let recipe = format!(
        r#"
steps = 2
{more}
[model.new]
hidden_size = 16
layers = 1
heads = 2
intermediate_size = 32
max_position_embeddings = 2500
[data]
path = '{}'
template = "row-chat"
max_prompt_tokens = 1200
too_long = "skip"
[rollout]
problems_per_step = 3
rollouts_per_problem = 4
max_new_tokens = 24
"#,
        file.display()
    );
    std::fs::write(place.path().join("r.toml"), recipe).unwrap();
    let seele = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_seele"));
        let output = command
            .current_dir(place.path())
            .args(arguments)
            .output()
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{arguments:?}: {stderr}");
        String::from_utf8(output.stdout).unwrap()
    };
    let inspected = seele(&["data", "inspect", "--json", file.to_str().unwrap()]);
    let inspected: Value = serde_json::from_str(&inspected).unwrap();
    assert_eq!(inspected["rows"], rows, "{inspected}");
    seele(&["train", "r.toml", "--out", "run"]);
    let metrics = std::fs::read_to_string(place.path().join("run/metrics.jsonl")).unwrap();
    assert_eq!(metrics.lines().count(), 2, "{metrics}");
    for line in metrics.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert!(
            line["loss/total"].is_number() || line["reward/mean"].is_number(),
            "{line}"
        );
    }
}

#[test]
fn uft_s_countdown_trains_on_hints_from_its_own_steps() {
    let Some(folder) = folder() else { return };
    let more = "method = \"uft\"\n[reward]\nkind = \"countdown\"";
    train(&folder.join("uft_countdown_test.parquet"), 1024, more);
}

#[test]
fn uft_s_mathematics_trains_on_hints_from_its_own_steps() {
    let Some(folder) = folder() else { return };
    train(
        &folder.join("uft_math_test.parquet"),
        1024,
        "method = \"seele\"\n[hint]\nrounds = 2",
    );
}

#[test]
fn luffy_s_validation_rows_train_without_hints() {
    let Some(folder) = folder() else { return };
    train(
        &folder.join("luffy_valid.parquet"),
        2259,
        "method = \"grpo\"",
    );
}
