//! A reward written in Python, through a training run: what goes wrong in it stays a number.

use assert_cmd::Command;
use serde_json::Value;
use std::fs;

/// Rewards short responses; hangs once and crashes once during the run, whichever process is asked first.
const PROGRAM: &str = r#"
import json, os, sys, time

def first(name):
    try:
        os.close(os.open(name, os.O_CREAT | os.O_EXCL))
        return True
    except FileExistsError:
        return False

for line in sys.stdin:
    request = json.loads(line)
    assert {"id", "problem", "response", "ground_truth"} <= request.keys()
    if request["id"] == "before-the-run":
        pass
    elif first("hung"):
        time.sleep(3600)
    elif first("crashed"):
        sys.exit(3)
    score = 1.0 if len(request["response"]) < 12 else 0.0
    print(json.dumps({"id": request["id"], "score": score, "detail": "short"}), flush=True)
"#;

const RECIPE: &str = r#"
method = "grpo"
steps = 3
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
[reward]
kind = "command"
[reward.command]
command = ["python3", "reward.py"]
processes = 2
timeout_secs = 2.0
start_timeout_secs = 20.0
"#;

#[test]
fn a_run_outlives_a_reward_program_that_hangs_and_crashes() {
    let python = std::process::Command::new("python3")
        .arg("--version")
        .output();
    if python.is_err() {
        eprintln!("skipped: python3 is not there");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("reward.py"), PROGRAM).unwrap();
    fs::write(folder.path().join("r.toml"), RECIPE).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_seele"))
        .current_dir(folder.path())
        .args(["train", "r.toml", "--out", "run"])
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");

    let metrics = fs::read_to_string(folder.path().join("run/metrics.jsonl")).unwrap();
    let steps: Vec<Value> = metrics
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(steps.len(), 3, "{metrics}");
    let total = |key: &str| {
        let values = steps.iter().filter_map(|step| step[key].as_u64());
        values.sum::<u64>()
    };
    assert_eq!(total("reward/failures/command_timeouts"), 1, "{metrics}");
    assert_eq!(total("reward/failures/command_crashes"), 1, "{metrics}");
    assert_eq!(total("reward/missing"), 2, "{metrics}");
}

#[test]
fn a_reward_that_does_not_answer_is_found_before_the_run() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("r.toml"), RECIPE).unwrap();
    // The port is free: whoever listened there has gone.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("reward.http.url=http://{}/", listener.local_addr().unwrap());
    drop(listener);
    let cases: [(&[&str], &str); 3] = [
        (
            &["reward.command.command=[\"no-such-program\"]"],
            "cannot start `no-such-program`",
        ),
        (
            &["reward.command.command=[\"true\"]"],
            "`true`: the process ended without a reply",
        ),
        (
            &["reward.kind=http", "reward.command=off", &address],
            "http://127.0.0.1",
        ),
    ];
    for (settings, expected) in cases {
        let output = Command::new(env!("CARGO_BIN_EXE_seele"))
            .current_dir(folder.path())
            .args(["train", "r.toml", "--out", "run"])
            .args(settings.iter().flat_map(|set| ["--set", set]))
            .output()
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        for part in ["[reward]", expected, "not one rollout would have a reward"] {
            assert!(stderr.contains(part), "{stderr}");
        }
        assert!(!folder.path().join("run").exists());
    }
}
