//! Runs that are stopped, killed and gone on with, as a person or a scheduler does it: the real binary.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test may stop where its set-up fails")]

mod support;

use assert_cmd::cargo::CommandCargoExt;
use seele_train::metrics::depends_on_machine;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use support::copy;

/// Some seconds of a model of a few thousand weights.
const LONG: &str = r#"
method = "seele"
steps = 30
threads = 1
[model.new]
hidden_size = 16
layers = 1
heads = 2
intermediate_size = 32
max_position_embeddings = 64
[data]
template = "bare"
arithmetic = { operations = { min = 1, max = 2 }, count = 10 }
[sft]
steps = 6
sequences_per_step = 4
[rollout]
problems_per_step = 4
rollouts_per_problem = 4
max_new_tokens = 16
[hint]
rounds = 2
[overlong]
buffer = 16
[reward]
extraction = "fallback"
[learning_rate]
peak = 1e-3
[eval]
every_steps = 7
[eval.sets.held_out]
arithmetic = { operations = { min = 1, max = 1 }, count = 5 }
[save]
every_steps = 1
"#;

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::write(place.path().join("long.toml"), LONG).unwrap();
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
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Exit code and standard error.
    fn seele(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.start(arguments).wait_with_output().unwrap();
        (
            output.status.code().unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    }

    fn wait_for(&self, file: &str) {
        let begun = Instant::now();
        while !self.path().join(file).exists() {
            assert!(begun.elapsed() < Duration::from_secs(60), "no {file}");
            sleep(Duration::from_millis(5));
        }
    }

    /// Model and logs of the run, without what depends on the clock and the machine.
    fn result(&self, run: &str) -> (Vec<u8>, Vec<String>) {
        let run = self.path().join(run);
        let lines = ["metrics.jsonl", "sft.jsonl"].map(|log| {
            let text = fs::read_to_string(run.join(log)).unwrap();
            text.lines().map(without_times).collect::<Vec<_>>()
        });
        let model = fs::read(run.join("model/model.safetensors")).unwrap();
        (model, lines.concat())
    }
}

fn without_times(line: &str) -> String {
    let mut map: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line).unwrap();
    map.retain(|key, _| !depends_on_machine(key));
    serde_json::Value::Object(map).to_string()
}

/// Says which line or whether the weights differ.
fn assert_same(result: (Vec<u8>, Vec<String>), expected: &(Vec<u8>, Vec<String>), when: &str) {
    for (line, other) in result.1.iter().zip(&expected.1) {
        assert_eq!(line, other, "{when}");
    }
    assert_eq!(
        result.1.len(),
        expected.1.len(),
        "{when}: lines of the logs"
    );
    assert!(result.0 == expected.0, "{when}: the weights differ");
}

fn uninterrupted() -> (Vec<u8>, Vec<String>) {
    let place = Place::new();
    let (code, stderr) = place.seele(&["train", "long.toml", "--out", "run"]);
    assert_eq!(code, 0, "{stderr}");
    place.result("run")
}

#[test]
fn sigterm_writes_a_checkpoint_from_which_the_run_ends_to_the_same_bits() {
    let place = Place::new();
    let child = place.start(&["train", "long.toml", "--set", "save.every_steps=off"]);
    place.wait_for("runs/long-1/metrics.jsonl");
    let kill = Command::new("kill")
        .args(["-TERM", &child.id().to_string()])
        .status();
    assert!(kill.unwrap().success());
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    assert!(
        stderr.contains("go on with `seele train --resume runs/long-1`"),
        "{stderr}"
    );
    assert!(!place.path().join("runs/long-1/model").exists());

    let (code, stderr) = place.seele(&["train", "--resume", "runs/long-1"]);
    assert_eq!(code, 0, "{stderr}");
    assert!(
        stderr.contains("going on from runs/long-1/checkpoints/"),
        "{stderr}"
    );
    assert_same(
        place.result("runs/long-1"),
        &uninterrupted(),
        "after SIGTERM",
    );
}

/// `SEELE_KILLS` sets how often the run is killed; 60 for the whole check.
#[test]
fn a_run_that_is_killed_at_any_moment_goes_on_to_the_same_bits() {
    let kills: u64 = std::env::var("SEELE_KILLS").map_or(8, |text| text.parse().unwrap());
    let begun = Instant::now();
    let expected = uninterrupted();
    let whole_run = begun.elapsed();
    let mut place = Place::new();
    let mut resumed = 0;
    for kill in 0..kills {
        let has_checkpoint = seele_train::checkpoint::find(&run_of(&place)).is_ok();
        let mut child = if has_checkpoint {
            resumed += 1;
            place.start(&["train", "--resume", "run"])
        } else {
            // Killed before the first checkpoint there is nothing to go on from.
            place = Place::new();
            place.start(&["train", "long.toml", "--out", "run"])
        };
        if kill == 0 {
            // However the speed of the machine changes, one kill comes after a checkpoint.
            let waiting = Instant::now();
            while seele_train::checkpoint::find(&run_of(&place)).is_err() {
                assert!(waiting.elapsed() < Duration::from_secs(60), "no checkpoint");
                sleep(Duration::from_millis(5));
            }
        } else {
            let share = seele_random::Key::new(11).with(kill).uniform();
            sleep(whole_run.mul_f64(0.6 * share));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        if place.path().join("run/model").exists() {
            // Killed after its last word, it has nothing left to do.
            let (code, stderr) = place.seele(&["train", "--resume", "run"]);
            let over = code == 2 && stderr.contains("nothing to do");
            assert!(code == 0 || over, "{stderr}");
            assert_same(place.result("run"), &expected, &format!("kill {kill}"));
            place = Place::new();
        }
    }
    // The last kill may have come before the first whole checkpoint.
    if seele_train::checkpoint::find(&run_of(&place)).is_ok() {
        let (code, stderr) = place.seele(&["train", "--resume", "run"]);
        assert_eq!(code, 0, "{stderr}");
        assert_same(place.result("run"), &expected, "after the last kill");
    }
    assert!(resumed > 0);
}

fn run_of(place: &Place) -> PathBuf {
    place.path().join("run")
}

#[test]
fn changes_are_refused_by_name_unless_they_are_allowed() {
    let place = Place::new();
    let quick = ["--set", "steps=2", "--set", "sft=off"];
    let (code, stderr) =
        place.seele(&[&["train", "long.toml", "--out", "run"], &quick[..]].concat());
    assert_eq!(code, 0, "{stderr}");

    let (code, stderr) = place.seele(&["train", "--resume", "run"]);
    assert_eq!(code, 2);
    assert!(
        stderr.contains("nothing to do") && stderr.contains("--allow-change steps"),
        "{stderr}"
    );
    // It is said before anything else is.
    assert!(!stderr.contains("going on from"), "{stderr}");
    let more = [
        "train",
        "--resume",
        "run",
        "--set",
        "steps=3",
        "--set",
        "optimizer.beta1=0.8",
    ];
    let (code, stderr) = place.seele(&more);
    assert_eq!(code, 2);
    for part in [
        "differs",
        "steps: 2 -> 3",
        "optimizer.beta1: 0.9 -> 0.8",
        "--allow-change",
    ] {
        assert!(stderr.contains(part), "{stderr}");
    }
    let allowed = ["--allow-change", "steps", "--allow-change", "optimizer"];
    let (code, stderr) = place.seele(&[&more[..], &allowed].concat());
    assert_eq!(code, 0, "{stderr}");
    let log = fs::read_to_string(place.path().join("run/metrics.jsonl")).unwrap();
    assert_eq!(log.lines().count(), 4);

    for (arguments, expected) in [
        (&["train", "--resume"][..], "needs a path"),
        (
            &["train", "--resume", "nowhere"],
            "there is no folder `nowhere`",
        ),
        (
            &["train", "long.toml", "--resume"],
            "there is no run `runs/long-<n>`",
        ),
        (
            &["train", "long.toml", "--allow-change", "steps"],
            "--resume",
        ),
    ] {
        let (code, stderr) = place.seele(arguments);
        assert_eq!(code, 2, "{arguments:?}: {stderr}");
        assert!(stderr.contains(expected), "{arguments:?}: {stderr}");
    }
}

#[test]
fn every_kind_of_bad_checkpoint_is_named_and_none_is_loaded() {
    let place = Place::new();
    let quick = ["--set", "steps=2", "--set", "sft=off"];
    let (code, stderr) =
        place.seele(&[&["train", "long.toml", "--out", "run"], &quick[..]].concat());
    assert_eq!(code, 0, "{stderr}");
    let other = ["--set", "model.new.hidden_size=32"];
    let other = [
        &["train", "long.toml", "--out", "other"],
        &quick[..],
        &other,
    ]
    .concat();
    assert_eq!(place.seele(&other).0, 0);

    let edit = |path: &Path, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = fs::read(path).unwrap();
        change(&mut bytes);
        fs::write(path, bytes).unwrap();
    };
    let flip = |bytes: &mut Vec<u8>| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    };
    let older = |bytes: &mut Vec<u8>| {
        let text = String::from_utf8(bytes.clone()).unwrap();
        *bytes = text.replace("\"format\": 1", "\"format\": 0").into_bytes();
    };
    type Damage<'a> = &'a dyn Fn(&Path);
    let cases: [(Damage<'_>, &str); 8] = [
        (
            &|step| edit(&step.join("trainer/second_moment.safetensors"), &flip),
            "second_moment.safetensors` does not have the SHA-256 of the manifest",
        ),
        (
            &|step| edit(&step.join("model.safetensors"), &flip),
            "model.safetensors` does not have the SHA-256 of the manifest",
        ),
        (
            &|step| edit(&step.join("model.safetensors"), &|bytes| bytes.truncate(99)),
            "model.safetensors` has 99 bytes instead of",
        ),
        (
            &|step| fs::remove_file(step.join("model.safetensors")).unwrap(),
            "model.safetensors` is missing",
        ),
        (
            &|step| fs::remove_file(step.join("trainer/hint_memory.json")).unwrap(),
            "hint_memory.json` is missing",
        ),
        (
            &|step| edit(&step.join("trainer/manifest.json"), &older),
            "has format 0, this program reads format 1",
        ),
        (
            &|step| fs::remove_file(step.join("trainer/manifest.json")).unwrap(),
            "is not a complete checkpoint",
        ),
        (
            &|step| {
                fs::remove_dir_all(step).unwrap();
                copy(&place.path().join("other/checkpoints/step_2"), step);
            },
            "the recipe differs from that of the run",
        ),
    ];
    let more = ["--set", "steps=3", "--allow-change", "steps"];
    for (damage, expected) in cases {
        let copied = place.path().join("copied");
        copy(&place.path().join("run"), &copied);
        damage(&copied.join("checkpoints/step_2"));
        let by_name = [
            "train",
            "long.toml",
            "--resume",
            "copied/checkpoints/step_2",
        ];
        let (code, stderr) = place.seele(&[&by_name[..], &["--set", "sft=off"], &more].concat());
        assert_eq!(code, 2, "{stderr}");
        assert!(stderr.contains(expected), "{stderr}");
        let untouched = fs::read(place.path().join("run/metrics.jsonl")).unwrap();
        assert!(fs::read(copied.join("metrics.jsonl")).unwrap() == untouched);
        // Without a name, the whole one before it is taken.
        if !expected.contains("recipe differs") {
            let (code, stderr) =
                place.seele(&[&["train", "--resume", "copied"], &more[..]].concat());
            assert_eq!(code, 0, "{stderr}");
            assert!(stderr.contains(expected), "{stderr}");
            assert!(
                stderr.contains("going on from copied/checkpoints/step_1"),
                "{stderr}"
            );
        }
        fs::remove_dir_all(&copied).unwrap();
    }
    // A checkpoint of another model under the recipe of this run.
    let step = place.path().join("run/checkpoints/step_2");
    let allowed = [
        "--set",
        "sft=off",
        "--allow-change",
        "model",
        "--allow-change",
        "name",
    ];
    fs::remove_dir_all(&step).unwrap();
    copy(&place.path().join("other/checkpoints/step_2"), &step);
    let by_name = ["train", "long.toml", "--resume", "run/checkpoints/step_2"];
    let (code, stderr) = place.seele(&[&by_name[..], &allowed, &more].concat());
    assert_eq!(code, 2, "{stderr}");
    assert!(
        stderr.contains("was made with a model of another shape"),
        "{stderr}"
    );
}

/// Runs on a file system of so many KiB until it is full, makes space, and goes on.
fn fill_and_go_on(kibibytes: usize, settings: &[&str], expected_message: &str) {
    let place = Place::new();
    let disk = place.path().join("disk");
    fs::create_dir(&disk).unwrap();
    let mount = |options: &str| {
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(&disk)
            .status();
        assert!(mounted.unwrap().success());
    };
    mount(&format!("size={kibibytes}k"));
    let settings: Vec<&str> = settings.iter().flat_map(|set| ["--set", set]).collect();
    let (code, stderr) =
        place.seele(&[&["train", "long.toml", "--out", "disk/run"], &settings[..]].concat());
    mount("remount,size=8m");
    let resumed = place.seele(&["train", "--resume", "disk/run"]);
    let result = (resumed.0 == 0).then(|| place.result("disk/run"));
    assert!(
        Command::new("umount")
            .arg(&disk)
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(code, 1, "{stderr}");
    for part in [expected_message, "No space left", "--resume"] {
        assert!(stderr.contains(part), "{stderr}");
    }
    assert_eq!(resumed.0, 0, "{}", resumed.1);
    assert!(result == Some(uninterrupted()));
}

#[test]
#[ignore = "mounts a small disk, which root alone may: cargo test -p seele --test resume -- --ignored"]
fn a_full_disk_stops_the_run_with_a_message_and_loses_nothing() {
    let keep_all = ["save.keep_last=100"];
    fill_and_go_on(1500, &keep_all, "earlier checkpoints are intact");
    let keep_one = ["save.every_steps=5", "save.keep_last=1"];
    fill_and_go_on(180, &keep_one, "are intact");
}

/// `SEELE_STEPS` sets the number of steps, 20,000 for the whole check. Live bytes are counted by the tests of
/// `seele-train`; this is what a person sees of the process.
#[test]
#[ignore = "20,000 steps, minutes: cargo test --release -p seele --test resume -- --ignored memory"]
fn resident_memory_is_flat_within_two_percent() {
    let steps: usize = std::env::var("SEELE_STEPS").map_or(20_000, |text| text.parse().unwrap());
    let place = Place::new();
    let settings = [
        &format!("steps={steps}"),
        &format!("save.every_steps={}", steps / 20),
        &format!("eval.every_steps={}", steps / 20),
        "sft=off",
        "model.new.hidden_size=128",
        "model.new.layers=3",
        "model.new.intermediate_size=512",
        "rollout.problems_per_step=1",
        "rollout.max_new_tokens=4",
        "overlong.buffer=4",
        // The policy stays what it is, so that rollouts do not grow and shrink and the work buffers with them.
        "learning_rate.peak=1e-9",
    ];
    let output = Command::cargo_bin("seele")
        .unwrap()
        .current_dir(place.path())
        .args(["train", "long.toml", "--out", "run"])
        .args(settings.iter().flat_map(|set| ["--set", set]))
        .output()
        .unwrap();
    assert!(output.status.success());
    let log = fs::read_to_string(place.path().join("run/metrics.jsonl")).unwrap();
    let resident: Vec<f64> = log
        .lines()
        .filter_map(|line| {
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            row["memory/rss_mib"].as_f64()
        })
        .collect();
    assert_eq!(resident.len(), steps);
    // A tenth is for warming up. Checkpoints and evaluations come and go on top, so of each ninth of the rest
    // it is the median that says what stays.
    let held: Vec<f64> = resident[steps / 10..]
        .chunks(steps / 10)
        .map(|stretch| {
            let mut stretch = stretch.to_vec();
            stretch.sort_by(f64::total_cmp);
            stretch[stretch.len() / 2]
        })
        .collect();
    eprintln!("MiB held in each tenth of {steps} steps after the first: {held:.2?}");
    let least = held.iter().copied().fold(f64::MAX, f64::min);
    let most = held.iter().copied().fold(0.0, f64::max);
    assert!(most <= 1.02 * least, "{least:.2} to {most:.2} MiB");
}
