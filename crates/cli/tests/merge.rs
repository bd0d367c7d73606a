//! `seele merge`, and models from wherever people have them: the real binary.
#![expect(clippy::unwrap_used, reason = "a test may stop where its set-up fails")]

#[path = "../../policy/tests/samples/mod.rs"]
mod samples;
#[path = "../../policy/tests/torch_writer/mod.rs"]
mod torch_writer;

mod support;

use assert_cmd::Command;
use std::fs;
use std::path::{Path, PathBuf};
use support::copy;
use torch_writer::{Pickle, Sharding, write_archive};

/// A fresh model of a few hundred weights.
const TINY: &str = r#"
method = "grpo"
steps = 3
threads = 1
[model.new]
hidden_size = 8
layers = 1
heads = 2
intermediate_size = 8
max_position_embeddings = 64
[data]
template = "bare"
arithmetic = { operations = { min = 1, max = 1 }, count = 6 }
[rollout]
problems_per_step = 2
rollouts_per_problem = 4
max_new_tokens = 8
[save]
every_steps = 1
"#;

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::write(place.path("tiny.toml"), TINY).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Exit code, standard output and standard error.
    fn seele(&self, arguments: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_seele"));
        let output = command
            .current_dir(self.0.path())
            .args(arguments)
            .output()
            .unwrap();
        (
            output.status.code().unwrap(),
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    }

    /// What a command prints that must end well.
    fn done(&self, arguments: &[&str]) -> String {
        let (code, stdout, stderr) = self.seele(arguments);
        assert_eq!(code, 0, "{arguments:?}: {stderr}");
        stdout
    }

    /// The message of a command that must refuse its input.
    fn refused(&self, arguments: &[&str]) -> String {
        let (code, stdout, stderr) = self.seele(arguments);
        assert_eq!((code, stdout.as_str()), (2, ""), "{arguments:?}: {stderr}");
        stderr
    }

    fn weights(&self, folder: &str) -> Vec<u8> {
        fs::read(self.path(folder).join("model.safetensors")).unwrap()
    }

    fn generated(&self, model: &str) -> String {
        self.done(&[
            "generate",
            model,
            "--prompt",
            "1+2=",
            "--max-new-tokens",
            "8",
            "--json",
        ])
    }
}

/// Checkpoints that PyTorch wrote, and the model that they are of.
fn of_torch() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../policy/tests/data/fsdp")
}

#[test]
fn checkpoints_and_run_folders_become_one_folder_of_the_same_weights() {
    let place = Place::new();
    place.done(&["train", "tiny.toml", "--out", "run"]);
    let printed = place.done(&["merge", "run/checkpoints/step_2", "--out", "two"]);
    assert!(
        printed.starts_with("two: ") && printed.contains("from 1 file, float32"),
        "{printed}"
    );
    assert!(place.weights("two") == place.weights("run/checkpoints/step_2"));
    assert!(!place.path("two/trainer").exists());
    let card = fs::read_to_string(place.path("two/README.md")).unwrap();
    assert!(card.contains("checkpoint `step_2`"), "{card}");
    // The run stands for its newest whole checkpoint.
    place.done(&["merge", "run", "--out", "newest"]);
    assert!(place.weights("newest") == place.weights("run/model"));
    place.done(&["merge", "run", "--out", "small", "--dtype", "bf16"]);
    assert!(place.weights("small").len() < place.weights("newest").len() * 2 / 3);

    let text = place.generated("run/model");
    for model in ["run", "run/checkpoints/step_3", "newest"] {
        assert_eq!(place.generated(model), text, "{model}");
    }
    let message = place.refused(&["merge", "run", "--out", "two"]);
    assert!(message.contains("`two` is not empty"), "{message}");
    assert!(place.weights("two") == place.weights("run/checkpoints/step_2"));
}

#[test]
fn half_a_checkpoint_is_no_model_either() {
    let place = Place::new();
    place.done(&["train", "tiny.toml", "--out", "run"]);
    let newest = place.path("run/checkpoints/step_3");
    fs::remove_file(newest.join("trainer/manifest.json")).unwrap();
    for arguments in [
        &["merge", "run/checkpoints/step_3", "--out", "new"][..],
        &["generate", "run/checkpoints/step_3", "--prompt", "1"],
        &[
            "train",
            "tiny.toml",
            "--set",
            "model.path=run/checkpoints/step_3",
        ],
    ] {
        let arguments: Vec<&str> = arguments.to_vec();
        let message = place.refused(&arguments);
        assert!(
            message.contains("is not a complete checkpoint"),
            "{message}"
        );
    }
    assert!(!place.path("new").exists());
    // The run then stands for the checkpoint before.
    let (code, _, stderr) = place.seele(&["merge", "run", "--out", "new"]);
    assert_eq!(code, 0, "{stderr}");
    assert!(
        stderr.contains("passed over: `run/checkpoints/step_3`"),
        "{stderr}"
    );
    assert!(place.weights("new") == place.weights("run/checkpoints/step_2"));

    let shard = place.path("run/checkpoints/step_2/model.safetensors");
    let mut bytes = fs::read(&shard).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&shard, bytes).unwrap();
    let message = place.refused(&["merge", "run/checkpoints/step_2", "--out", "other"]);
    assert!(
        message.contains("model.safetensors` does not have the SHA-256"),
        "{message}"
    );
}

#[test]
fn training_goes_on_from_the_checkpoint_that_a_run_stood_for_when_it_began() {
    let place = Place::new();
    place.done(&["train", "tiny.toml", "--out", "first"]);
    // Without [model.new], as a file may have only one of the two.
    let (_, rest) = TINY.split_once("[data]").unwrap();
    let recipe = format!("method = \"grpo\"\nsteps = 1\n[model]\npath = \"first\"\n[data]{rest}");
    fs::write(place.path("second.toml"), recipe).unwrap();
    place.done(&["train", "second.toml", "--out", "second"]);
    let resolved = fs::read_to_string(place.path("second/recipe.toml")).unwrap();
    assert!(
        resolved.contains("first/checkpoints/step_3\""),
        "{resolved}"
    );
}

#[test]
fn sharded_checkpoints_of_verl_are_merged_evaluated_and_trained_on() {
    let place = Place::new();
    for (name, dtype) in [
        ("fsdp2-2-bf16", "bfloat16"),
        ("fsdp1-sharded-2-f32", "float32"),
    ] {
        copy(&of_torch().join(name), &place.path(name));
        let merged = format!("{name}-merged");
        let printed = place.done(&["merge", name, "--out", &merged]);
        assert!(
            printed.contains(&format!("from 2 files, {dtype}")),
            "{printed}"
        );
        // The folders of a step and of its policy stand for the same.
        for below in ["global_step_7", "global_step_7/actor"] {
            let folder = format!("{name}/{below}");
            let again = format!("{name}-{}", below.len());
            place.done(&["merge", &folder, "--out", &again]);
            assert!(place.weights(&again) == place.weights(&merged));
        }
        assert_eq!(place.generated(name), place.generated(&merged));
    }
    let original = fs::read(of_torch().join("model/model.safetensors")).unwrap();
    assert!(place.weights("fsdp1-sharded-2-f32-merged") == original);

    fs::write(
        place.path("problems.jsonl"),
        "{\"id\": \"a\", \"problem\": \"1+2=\", \"answer\": \"3\", \"solution\": \"3\"}\n",
    )
    .unwrap();
    let evaluated = place.done(&[
        "eval",
        "fsdp2-2-bf16",
        "--data",
        "problems.jsonl",
        "--template",
        "bare",
        "--json",
    ]);
    assert!(evaluated.contains("\"samples\":1"), "{evaluated}");
    let (_, rest) = TINY.split_once("[data]").unwrap();
    let recipe =
        format!("method = \"grpo\"\nsteps = 1\n[model]\npath = \"fsdp2-2-bf16\"\n[data]{rest}");
    fs::write(place.path("on.toml"), recipe).unwrap();
    place.done(&["train", "on.toml", "--out", "on"]);
    let resolved = fs::read_to_string(place.path("on/recipe.toml")).unwrap();
    assert!(
        resolved.contains("fsdp2-2-bf16/global_step_7/actor\""),
        "{resolved}"
    );
}

#[test]
fn a_hostile_shard_is_refused_by_name_and_nothing_is_written_or_run() {
    let place = Place::new();
    Sharding::default().write(&samples::llama(), &place.path("shards"));
    let mut pickle = Pickle::new();
    pickle
        .raw(b"}")
        .text("model.norm.weight")
        .global("os", "system");
    let pickle = pickle.text("touch ran").raw(b"\x85Rs").finish();
    write_archive(
        &place.path("shards/model_world_size_2_rank_1.pt"),
        &pickle,
        &[],
    );
    for arguments in [
        &["merge", "shards", "--out", "merged"][..],
        &["eval", "shards", "--data", "tiny.toml"],
        &["generate", "shards", "--prompt", "1"],
        &["train", "tiny.toml", "--set", "model.path=shards"],
    ] {
        let arguments: Vec<&str> = arguments.to_vec();
        let message = place.refused(&arguments);
        assert!(
            message.contains("rank_1.pt` asks for `os.system`")
                && message.contains("nothing of it was run"),
            "{message}"
        );
    }
    assert_eq!(samples::names(place.0.path()), ["shards", "tiny.toml"]);
}

#[test]
fn what_is_no_checkpoint_is_named() {
    let place = Place::new();
    fs::create_dir_all(place.path("empty")).unwrap();
    for (model, expected) in [
        ("nowhere", "there is no such file or folder"),
        ("empty", "it has neither a `config.json` nor a `.gguf` file"),
        ("tiny.toml", "it is a file, but not a `.gguf` file"),
    ] {
        let message = place.refused(&["merge", model, "--out", "merged"]);
        assert!(message.contains(expected), "{message}");
    }
    copy(&of_torch().join("fsdp2-2-bf16"), &place.path("shards"));
    let actor = place.path("shards/global_step_7/actor");
    fs::remove_file(actor.join("model_world_size_2_rank_0.pt")).unwrap();
    let message = place.refused(&["merge", "shards", "--out", "merged"]);
    assert!(
        message.contains("`model_world_size_2_rank_0.pt` is missing"),
        "{message}"
    );
    assert!(!place.path("merged").exists());
}
