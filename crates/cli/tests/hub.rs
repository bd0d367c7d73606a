//! `hf://` in every place where a model or problems are wanted, against a local server that imitates the hub.
#![expect(clippy::unwrap_used, reason = "a test may stop where its set-up fails")]

#[path = "../../hub/tests/imitation/mod.rs"]
mod imitation;
#[path = "../../policy/tests/samples/mod.rs"]
mod samples;

use imitation::Imitation;
use std::fs;
use std::path::Path;
use std::process::Command;

const COMMIT: &str = "1234567890123456789012345678901234567890";
const LATER: &str = "2234567890123456789012345678901234567890";

const ROWS: &str = r#"{"id": "a", "problem": "3+4=", "answer": "7", "solution": "3+4=7"}
{"id": "b", "problem": "1+1=", "answer": "2", "solution": "1+1=2"}
"#;

struct Place {
    hub: Imitation,
    folder: tempfile::TempDir,
}

/// A hub with `owner/small`, a model, and `owner/rows`, problems.
fn place() -> Place {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    let options = seele_policy::huggingface::SaveOptions::default();
    samples::llama().save(&model, &options).unwrap();
    let hub = Imitation::start();
    commit_model(&hub, &model, COMMIT);
    let rows: [(&str, &[u8]); 2] = [
        ("train.jsonl", ROWS.as_bytes()),
        ("test.jsonl", ROWS.as_bytes()),
    ];
    hub.commit("datasets/owner/rows", COMMIT, &rows);
    Place { hub, folder }
}

fn commit_model(hub: &Imitation, folder: &Path, commit: &str) {
    let files: Vec<(String, Vec<u8>)> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read(path).unwrap())
        })
        .collect();
    let files: Vec<(&str, &[u8])> = files
        .iter()
        .map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
        .collect();
    hub.commit("models/owner/small", commit, &files);
}

struct Output {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Place {
    fn seele_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_seele"));
        command.current_dir(self.folder.path()).args(arguments);
        for name in [
            "HF_TOKEN",
            "HF_HUB_CACHE",
            "HF_HUB_OFFLINE",
            "TRANSFORMERS_OFFLINE",
        ] {
            command.env_remove(name);
        }
        command.env("HF_HOME", self.folder.path().join("hf"));
        command.env("HF_ENDPOINT", &self.hub.endpoint);
        let output = command.envs(variables.iter().copied()).output().unwrap();
        Output {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    fn seele(&self, arguments: &[&str]) -> Output {
        self.seele_with(arguments, &[])
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.folder.path().join(path)).unwrap()
    }
}

#[test]
fn every_command_takes_models_and_problems_of_the_hub() {
    let place = place();
    let rows = "hf://owner/rows/train.jsonl";
    let model = "hf://owner/small";
    let few = ["--max-new-tokens", "2"];
    let commands: [&[&str]; 9] = [
        &["generate", model, "--prompt", "3+4=", few[0], few[1]],
        &[
            "eval",
            model,
            "--data",
            rows,
            "--template",
            "bare",
            few[0],
            few[1],
        ],
        &["merge", model, "--out", "merged"],
        &[
            "bench", "decode", model, "--batch", "2", "--prompt", "4", "--new", "2", "--runs", "1",
        ],
        &[
            "bench", "step", model, "--data", rows, "--batch", "2", "--share", "2", "--new", "2",
            "--runs", "1",
        ],
        &["data", "inspect", rows, "--model", model],
        &[
            "data",
            "inspect",
            "hf://datasets/owner/rows@main/test.jsonl",
        ],
        &["data", "convert", rows, "rows.jsonl"],
        &[
            "data",
            "filter",
            rows,
            "--model",
            model,
            "--template",
            "bare",
            few[0],
            few[1],
            "--out",
            "filtered",
        ],
    ];
    for arguments in commands {
        let output = place.seele(arguments);
        assert_eq!(output.code, 0, "{arguments:?}: {}", output.stderr);
    }
    let converted = place.read("rows.jsonl");
    assert_eq!(converted.lines().count(), 2);
    let header = place.read("filtered/responses.jsonl");
    assert!(
        header.contains(&format!("hf://owner/small@{COMMIT}")),
        "{header}"
    );
    let requests = place.hub.requests();
    let contents = requests.iter().filter(|request| request.elsewhere);
    // Weights, tokenizer and what else is large, and the two files of problems: each once.
    let mut paths: Vec<&str> = contents.map(|request| request.path.as_str()).collect();
    let all = paths.len();
    paths.sort_unstable();
    paths.dedup();
    assert_eq!(paths.len(), all, "{paths:?}");
    assert!(paths.iter().any(|path| path.contains("model.safetensors")));
}

#[test]
fn a_benchmark_s_file_may_lie_on_the_hub() {
    let place = place();
    let benchmark = "name = \"own\"\ntitle = \"Own\"\ntemplate = \"bare\"\nmax_new_tokens = 2\nrows = 2\n\
        files = [\"own.jsonl\", \"hf://owner/rows/test.jsonl\"]\n";
    fs::write(place.folder.path().join("own.toml"), benchmark).unwrap();
    let arguments = [
        "eval",
        "hf://owner/small",
        "--suite",
        "own.toml",
        "--out",
        "out",
        "--json",
    ];
    let output = place.seele(&arguments);
    assert_eq!(output.code, 0, "{}", output.stderr);
    let fetched = |place: &Place| {
        let requests = place.hub.requests();
        requests
            .iter()
            .any(|request| request.path.contains("owner/rows"))
    };
    assert!(fetched(&place));
    fs::create_dir(place.folder.path().join("data")).unwrap();
    fs::write(place.folder.path().join("data/own.jsonl"), ROWS).unwrap();
    let output = place.seele(&[&arguments[..4], &["--out", "other"]].concat());
    assert_eq!(output.code, 0, "{}", output.stderr);
    assert!(!fetched(&place), "it is in the data folder");
}

const RECIPE: &str = r#"
method = "grpo"
steps = 2
model.path = "hf://owner/small"
data = { path = "hf://owner/rows/train.jsonl", template = "bare" }
eval.sets.test.path = "hf://owner/rows/test.jsonl"
[rollout]
problems_per_step = 2
rollouts_per_problem = 2
max_new_tokens = 4
[sft]
steps = 1
sequences_per_step = 2
"#;

#[test]
fn a_run_says_the_commits_of_what_it_was_made_from_and_stays_with_them() {
    let place = place();
    fs::write(place.folder.path().join("recipe.toml"), RECIPE).unwrap();
    let dry = place.seele(&["train", "recipe.toml", "--dry-run"]);
    assert_eq!(dry.code, 0, "{}", dry.stderr);
    let pinned = [
        format!("path = \"hf://owner/small@{COMMIT}\""),
        format!("path = \"hf://owner/rows@{COMMIT}/train.jsonl\""),
        format!("path = \"hf://owner/rows@{COMMIT}/test.jsonl\""),
    ];
    for name in &pinned {
        assert!(dry.stdout.contains(name), "{name}: {}", dry.stdout);
    }
    let run = place.seele(&["train", "recipe.toml", "--out", "run", "--set", "steps=1"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let recipe = place.read("run/recipe.toml");
    assert!(pinned.iter().all(|name| recipe.contains(name)), "{recipe}");
    let card = place.read("run/model/README.md");
    assert!(
        card.contains(&format!("hf://owner/small@{COMMIT}")),
        "{card}"
    );

    // The branch moves on: the run does not, and a recipe that would make it says so.
    commit_model(&place.hub, &place.folder.path().join("model"), LATER);
    let more = ["--set", "steps=2", "--allow-change", "steps"];
    let changed = place.seele(&[&["train", "recipe.toml", "--resume", "run"], &more[..]].concat());
    assert_eq!(changed.code, 2);
    assert!(
        changed.stderr.contains("model.path") && changed.stderr.contains(LATER),
        "{}",
        changed.stderr
    );
    let away = [("HF_ENDPOINT", "http://127.0.0.1:9")];
    let resumed = place.seele_with(&[&["train", "--resume", "run"], &more[..]].concat(), &away);
    assert_eq!(resumed.code, 0, "{}", resumed.stderr);
    assert!(
        resumed.stderr.contains("cannot reach the hub"),
        "{}",
        resumed.stderr
    );
}

#[test]
fn without_a_network_the_user_is_told_what_to_do_before_anything_begins() {
    let place = place();
    fs::write(place.folder.path().join("recipe.toml"), RECIPE).unwrap();
    let away = [("HF_ENDPOINT", "http://127.0.0.1:9")];
    let output = place.seele_with(&["train", "recipe.toml", "--out", "run"], &away);
    assert_eq!(output.code, 2, "{}", output.stderr);
    for part in [
        "`model.path`",
        "cannot reach the hub",
        "hf download owner/small",
        "HF_ENDPOINT",
    ] {
        assert!(output.stderr.contains(part), "{part}: {}", output.stderr);
    }
    assert!(!place.folder.path().join("run").exists());
    let offline = [("HF_HUB_OFFLINE", "1")];
    let inspect = ["data", "inspect", "hf://owner/rows/train.jsonl"];
    let output = place.seele_with(&inspect, &offline);
    assert_eq!(output.code, 2);
    assert!(
        output.stderr.contains("--repo-type dataset"),
        "{}",
        output.stderr
    );
    assert_eq!(place.seele(&inspect).code, 0);
    let output = place.seele_with(&inspect, &offline);
    assert_eq!(output.code, 0, "{}", output.stderr);
    let wrong = place.seele(&["generate", "hf://owner/rows", "--prompt", "x"]);
    assert_eq!(wrong.code, 2);
    assert!(
        wrong.stderr.contains("no model repository"),
        "{}",
        wrong.stderr
    );
    let mixed = place.seele(&["data", "inspect", "hf://owner/rows"]);
    assert_eq!(mixed.code, 2);
    assert!(mixed.stderr.contains("`train.jsonl`"), "{}", mixed.stderr);
}

#[test]
fn weights_of_an_unknown_family_are_not_fetched() {
    let place = place();
    let config = br#"{"model_type": "mamba", "architectures": ["MambaForCausalLM"]}"#;
    let weights = [0; 500];
    let files: [(&str, &[u8]); 3] = [
        ("config.json", config),
        ("tokenizer.json", b"{}"),
        ("model.safetensors", &weights),
    ];
    place.hub.commit("models/owner/small", LATER, &files);
    let output = place.seele(&["generate", "hf://owner/small", "--prompt", "x"]);
    assert_eq!(output.code, 2, "{}", output.stderr);
    assert!(output.stderr.contains("mamba"), "{}", output.stderr);
    let requests = place.hub.requests();
    let weights = |request: &&imitation::Request| request.path.contains("model.safetensors");
    assert_eq!(requests.iter().filter(weights).count(), 0);
}
