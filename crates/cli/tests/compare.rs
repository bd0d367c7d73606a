//! `seele compare` as a person meets it: the real binary, a model of a few thousand weights.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test may stop where its set-up fails")]

use assert_cmd::cargo::CommandCargoExt;
use seele_train::metrics::depends_on_machine;
use serde_json::{Map, Value};
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const TINY: &str = r#"
seed = 4
steps = 3
threads = 1
[model.new]
hidden_size = 16
layers = 1
heads = 2
intermediate_size = 32
max_position_embeddings = 64
[data]
template = "bare"
arithmetic = { operations = { min = 1, max = 2 }, count = 12 }
[sft]
steps = 5
sequences_per_step = 4
eval_every_steps = 5
[rollout]
problems_per_step = 4
rollouts_per_problem = 4
max_new_tokens = 16
[hint]
rounds = 2
[reward]
extraction = "fallback"
[learning_rate]
peak = 1e-3
[eval]
every_steps = 2
[eval.sets.held_out]
arithmetic = { operations = { min = 1, max = 1 }, count = 5 }
"#;

struct Place(tempfile::TempDir);

struct Output {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::write(place.path().join("tiny.toml"), TINY).unwrap();
        place
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn start(&self, arguments: &[&str]) -> Child {
        Command::cargo_bin("seele")
            .unwrap()
            .current_dir(self.path())
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    fn seele(&self, arguments: &[&str]) -> Output {
        let output = self.start(arguments).wait_with_output().unwrap();
        Output {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.path().join(file)).unwrap()
    }

    /// Lines of a metrics log without what depends on the clock and the machine.
    fn metrics(&self, run: &str) -> Vec<Map<String, Value>> {
        let line = |line: &str| {
            let mut map: Map<String, Value> = serde_json::from_str(line).unwrap();
            map.retain(|key, _| !depends_on_machine(key));
            map
        };
        let log = self.read(&format!("{run}/metrics.jsonl"));
        log.lines().map(line).collect()
    }

    fn model(&self, run: &str) -> Vec<u8> {
        fs::read(self.path().join(run).join("model/model.safetensors")).unwrap()
    }
}

/// A table without its last column, the time.
fn without_time(table: &str) -> Vec<&str> {
    let lines = table.lines();
    lines
        .map(|line| {
            line.trim_end_matches('|')
                .rsplit_once('|')
                .map_or(line, |(start, _)| start)
        })
        .collect()
}

const COMPARE: [&str; 8] = [
    "compare",
    "tiny.toml",
    "--methods",
    "sft,grpo,seele",
    "--seeds",
    "2",
    "--out",
    "out",
];

#[test]
fn all_methods_start_from_one_supervised_model_and_finished_runs_are_not_repeated() {
    let place = Place::new();
    let first = place.seele(&COMPARE);
    assert_eq!(first.code, 0, "{}", first.stderr);
    assert_eq!(first.stdout, place.read("out/comparison.md"));
    let rows: Vec<&str> = first
        .stdout
        .lines()
        .filter(|line| line.starts_with('|'))
        .collect();
    assert!(
        rows[0].starts_with("| method | held_out | runs | rollouts a run |"),
        "{}",
        rows[0]
    );
    assert!(rows[2].starts_with("| before training |"), "{}", rows[2]);
    for (row, start) in rows[3..].iter().zip(["| sft |", "| grpo |", "| seele |"]) {
        assert!(
            row.starts_with(start) && row.contains("| 2 of 2 |"),
            "{row}"
        );
    }
    assert!(rows[3].contains("| 0 |") && rows[4].contains("| 48 |") && rows[5].contains("| 48 |"));
    let curves = place.read("out/curves.svg");
    assert!(
        ["held_out", "sft (", "seele ("]
            .iter()
            .all(|label| curves.contains(label))
    );

    // What the table says is what the logs say.
    let json: Value = serde_json::from_str(&place.read("out/comparison.json")).unwrap();
    assert_eq!(json["seeds"], serde_json::json!([4, 5]));
    for (index, method) in ["sft", "grpo", "seele"].into_iter().enumerate() {
        let entry = &json["methods"][index];
        assert_eq!(entry["label"], method);
        for (run, seed) in [4, 5].into_iter().enumerate() {
            let last = place
                .metrics(&format!("out/seed-{seed}/{method}"))
                .pop()
                .unwrap();
            let accuracy = &last["eval/held_out/accuracy"];
            assert_eq!(&entry["accuracy"]["held_out"]["values"][run], accuracy);
        }
    }
    assert!(
        place.metrics("out/seed-4/sft")[1]
            .get("reward/mean")
            .is_none()
    );
    let sft = place.read("out/seed-4/base/sft.jsonl");
    assert!(
        sft.lines()
            .last()
            .unwrap()
            .contains("sft/eval/held_out/loss"),
        "{sft}"
    );

    // A method that starts from the shared model is the run that has the stage itself.
    assert!(!place.path().join("out/seed-5/grpo/sft.jsonl").exists());
    let alone = place.seele(&[
        "train",
        "tiny.toml",
        "--set",
        "method=grpo",
        "--set",
        "seed=5",
        "--out",
        "alone",
    ]);
    assert_eq!(alone.code, 0, "{}", alone.stderr);
    assert!(place.metrics("alone") == place.metrics("out/seed-5/grpo"));
    assert!(place.model("alone") == place.model("out/seed-5/grpo"));

    let log = place.path().join("out/seed-4/seele/metrics.jsonl");
    let written = fs::metadata(&log).unwrap().modified().unwrap();
    let second = place.seele(&COMPARE);
    assert_eq!(second.code, 0, "{}", second.stderr);
    assert_eq!(
        second.stderr.matches("finished before").count(),
        8,
        "{}",
        second.stderr
    );
    assert_eq!(second.stdout, first.stdout);
    assert_eq!(fs::metadata(&log).unwrap().modified().unwrap(), written);

    // Other settings belong into another folder, and leave this one as it is.
    let other =
        place.seele(&[&COMPARE[..], &["--set", "seele:hint.target_accuracy=0.25"]].concat());
    assert_eq!(other.code, 2, "{}", other.stderr);
    assert!(
        other.stderr.contains("hint.target_accuracy: 0.5 -> 0.25")
            && other.stderr.contains("choose another `--out`"),
        "{}",
        other.stderr
    );
    assert_eq!(place.read("out/comparison.md"), first.stdout);
    assert_eq!(fs::metadata(&log).unwrap().modified().unwrap(), written);
}

#[test]
fn a_stopped_comparison_ends_as_one_that_was_never_stopped() {
    let arguments = |out: &'static str| {
        [
            "compare",
            "tiny.toml",
            "--methods",
            "grpo,seele",
            "--seeds",
            "1",
            "--set",
            "steps=40",
            "--out",
            out,
        ]
    };
    let place = Place::new();
    let child = place.start(&arguments("stopped"));
    let metrics = place.path().join("stopped/seed-4/seele/metrics.jsonl");
    let begun = Instant::now();
    while !metrics.exists() {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "no {}",
            metrics.display()
        );
        sleep(Duration::from_millis(2));
    }
    let kill = Command::new("kill")
        .arg(child.id().to_string())
        .status()
        .unwrap();
    assert!(kill.success());
    let stopped = child.wait_with_output().unwrap();
    assert_eq!(
        stopped.status.code(),
        Some(130),
        "{}",
        String::from_utf8_lossy(&stopped.stderr)
    );
    assert!(!place.path().join("stopped/seed-4/seele/model").exists());

    let resumed = place.seele(&arguments("stopped"));
    assert_eq!(resumed.code, 0, "{}", resumed.stderr);
    assert!(
        resumed.stderr.contains("going on from"),
        "{}",
        resumed.stderr
    );
    let whole = place.seele(&arguments("whole"));
    assert_eq!(without_time(&resumed.stdout), without_time(&whole.stdout));
    for run in ["grpo", "seele"] {
        let (a, b) = (
            format!("stopped/seed-4/{run}"),
            format!("whole/seed-4/{run}"),
        );
        assert!(place.metrics(&a) == place.metrics(&b), "{run}");
        assert!(place.model(&a) == place.model(&b), "{run}");
    }
}

#[test]
fn a_run_that_fails_is_named_and_the_others_go_on() {
    let place = Place::new();
    fs::create_dir_all(place.path().join("out/seed-4")).unwrap();
    fs::write(place.path().join("out/seed-4/grpo"), "in the way").unwrap();
    let output = place.seele(&COMPARE);
    assert_eq!(output.code, 1, "{}", output.stderr);
    assert!(
        output.stderr.contains("error: grpo, seed 4: "),
        "{}",
        output.stderr
    );
    assert!(
        output.stdout.contains("\nFailed:\n\n- grpo, seed 4: "),
        "{}",
        output.stdout
    );
    assert!(
        output.stdout.contains("| grpo |") && output.stdout.contains("| 1 of 2 | 48 |"),
        "{}",
        output.stdout
    );
    assert!(
        output.stdout.contains("| 2 of 2 | 48 |"),
        "{}",
        output.stdout
    );
}

#[test]
fn values_of_a_setting_are_compared_with_each_other() {
    let place = Place::new();
    let vary = "hint.target_accuracy=0.25,0.75";
    let arguments = [
        "compare",
        "tiny.toml",
        "--methods",
        "seele",
        "--seeds",
        "1",
        "--vary",
        vary,
    ];
    let output = place.seele(&arguments);
    assert_eq!(output.code, 0, "{}", output.stderr);
    for value in ["0.25", "0.75"] {
        assert!(
            output
                .stdout
                .contains(&format!("| seele target_accuracy={value} |")),
            "{}",
            output.stdout
        );
        let recipe = place.read(&format!(
            "runs/compare-tiny/seed-4/seele-target_accuracy={value}/recipe.toml"
        ));
        let mut lines = recipe.lines();
        let start = format!("target_accuracy = {value} ");
        let written = lines.any(|line| line.starts_with(&start) && line.ends_with("# --set"));
        assert!(written, "{recipe}");
    }
}

#[test]
fn hint_schedules_are_methods_too_and_a_set_can_be_answered_by_chance() {
    let place = Place::new();
    let methods = "uft-stage,r3,fixed,quest-a,hint-on-failure,multi-level,escalate";
    let arguments = [
        "compare",
        "tiny.toml",
        "--methods",
        methods,
        "--seeds",
        "1",
        "--set",
        "steps=1",
        "--set",
        "eval.sets.held_out.samples=3",
        "--set",
        "eval.sets.held_out.temperature=1",
    ];
    let output = place.seele(&arguments);
    assert_eq!(output.code, 0, "{}", output.stderr);
    for method in methods.split(',') {
        assert!(
            output.stdout.contains(&format!("| {method} |")),
            "{method}: {}",
            output.stdout
        );
        // Five problems with three answers each.
        let run = place.metrics(&format!("runs/compare-tiny/seed-4/{method}"));
        let accuracy = run.last().unwrap()["eval/held_out/accuracy"].as_f64();
        let answers = accuracy.unwrap() * 15.0;
        assert!(
            (answers - answers.round()).abs() < 1e-9,
            "{method}: {answers}"
        );
    }
}

#[test]
fn what_cannot_be_compared_is_said_before_anything_is_started() {
    let cases: [(&[&str], &str); 7] = [
        (&["--methods", "sele"], "did you mean `seele`?"),
        (
            &["--set", "uft:kl.coef=0", "--methods", "grpo"],
            "not among --methods (grpo)",
        ),
        (
            &[
                "--methods",
                "grpo,seele",
                "--set",
                "seele:rollout.rollouts_per_problem=8",
            ],
            "`grpo` and `seele` would get different budgets (3 steps of 4 problems with 4 rollouts each; 3 steps of 4 with 8)",
        ),
        (
            &["--methods", "grpo", "--set", "grpo:sft.steps=1"],
            "all methods of a seed share one supervised model",
        ),
        (
            &["--set", "eval.stop_at.held_out=0.5"],
            "`eval.stop_at` ends runs at different steps",
        ),
        (&["--seeds", "0"], "0 is not in 1..=1000"),
        (
            &["--vary", "steps"],
            "--vary steps: expected a key and its values",
        ),
    ];
    for (arguments, expected) in cases {
        let place = Place::new();
        let output = place.seele(&[&["compare", "tiny.toml"], arguments].concat());
        assert_eq!(output.code, 2, "{arguments:?}: {}", output.stderr);
        assert!(
            output.stderr.contains(expected),
            "{arguments:?}: {}",
            output.stderr
        );
        assert!(!place.path().join("runs").exists(), "{arguments:?}");
    }
}
