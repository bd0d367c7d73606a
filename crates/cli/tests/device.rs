//! `device` and `--device`, as a user gives them.
#![expect(clippy::unwrap_used, reason = "a test may stop where its set-up fails")]

use assert_cmd::cargo::CommandCargoExt;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Seconds of a model of a few thousand weights: a supervised stage, hints in two rounds, an evaluation,
/// checkpoints, and a reference policy.
const RECIPE: &str = r#"
method = "seele"
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
arithmetic = { operations = { min = 1, max = 2 }, count = 8 }
[sft]
steps = 3
sequences_per_step = 4
[rollout]
problems_per_step = 2
rollouts_per_problem = 4
max_new_tokens = 6
[hint]
rounds = 2
[kl]
coef = 0.01
[reward]
extraction = "fallback"
[learning_rate]
peak = 1e-3
[eval]
every_steps = 2
[eval.sets.held_out]
arithmetic = { operations = { min = 1, max = 1 }, count = 4 }
[save]
every_steps = 1
"#;

/// Exit code, standard output and standard error.
fn seele(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let output = Command::cargo_bin("seele")
        .unwrap()
        .current_dir(folder)
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code().unwrap(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

fn place() -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("recipe.toml"), RECIPE).unwrap();
    place
}

#[test]
fn an_unknown_device_is_refused_with_those_there_are() {
    let place = place();
    for arguments in [
        ["train", "recipe.toml", "--set", "device=gpu"].as_slice(),
        &["train", "recipe.toml", "--device", "gpu"],
        &["serve", "model", "--device", "gpu"],
    ] {
        let (code, _, errors) = seele(place.path(), arguments);
        assert_eq!(code, 2, "{errors}");
        assert!(
            errors.contains("\"cuda\"") && errors.contains("\"auto\""),
            "{errors}"
        );
    }
}

#[cfg(not(feature = "cuda"))]
#[test]
fn a_build_without_gpus_says_which_build_has_them_and_auto_takes_the_cpu() {
    let place = place();
    for arguments in [
        ["train", "recipe.toml", "--device", "cuda"].as_slice(),
        &[
            "train",
            "recipe.toml",
            "--set",
            "device=cuda:1",
            "--dry-run",
        ],
        &["generate", "nowhere", "--prompt", "x", "--device", "cuda"],
        &["bench", "decode", "nowhere", "--device", "cuda"],
    ] {
        let (code, _, errors) = seele(place.path(), arguments);
        assert_eq!(code, 2, "{errors}");
        assert!(errors.contains("--features cuda"), "{errors}");
    }
    let (code, plan, errors) = seele(
        place.path(),
        &["train", "recipe.toml", "--device", "auto", "--dry-run"],
    );
    assert_eq!(code, 0, "{errors}");
    assert!(plan.contains("device = \"auto\""), "{plan}");
}

/// The whole trainer with the GPU's kernels, which run on the CPU here.
#[cfg(feature = "cuda")]
mod emulated {
    use super::*;
    use serde_json::Value;

    fn metrics(folder: &Path) -> Vec<Value> {
        let text = fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    fn has_compiler() -> bool {
        let found = Command::new("c++").arg("--version").output().is_ok();
        if !found {
            eprintln!("skipped: no C++ compiler");
        }
        found
    }

    #[test]
    fn a_run_on_the_kernels_is_that_on_the_cpu_up_to_rounding() {
        if !has_compiler() {
            return;
        }
        let place = place();
        let run = |device: &str| {
            let arguments = ["train", "recipe.toml", "--device", device, "--out", device];
            let (code, _, errors) = seele(place.path(), &arguments);
            assert_eq!(code, 0, "{errors}");
            metrics(&place.path().join(device))
        };
        let (cpu, kernels) = (run("cpu"), run("emulated"));
        assert_eq!(cpu.len(), kernels.len());
        // The first line is the evaluation before training.
        assert_eq!(cpu.len(), 4);
        for (cpu, kernels) in cpu.iter().zip(&kernels).skip(1) {
            for key in [
                "policy/loss",
                "policy/grad_norm",
                "policy/entropy",
                "policy/imitation",
                "policy/kl",
            ] {
                let [cpu, kernels] = [cpu, kernels].map(|row| row[key].as_f64().unwrap());
                let bound = 1e-3 * cpu.abs() + 1e-5;
                assert!(
                    (cpu - kernels).abs() <= bound,
                    "{key}: {kernels}, on the CPU {cpu}"
                );
            }
            let gap = kernels["policy/logprob_gap/max"].as_f64().unwrap_or(0.0);
            assert!(gap < 1e-4, "{gap}");
        }
        // The model that was trained there says the same wherever it is read.
        let texts = ["cpu", "emulated"].map(|device| {
            let model = "emulated/model";
            let arguments = [
                "generate",
                model,
                "--prompt",
                "1+2",
                "--max-new-tokens",
                "5",
                "--device",
                device,
            ];
            let (code, text, errors) = seele(place.path(), &arguments);
            assert_eq!(code, 0, "{errors}");
            text
        });
        assert_eq!(texts[0], texts[1]);
    }

    #[test]
    fn a_run_on_the_kernels_goes_on_to_the_same_bits() {
        if !has_compiler() {
            return;
        }
        let place = place();
        let train = |arguments: &[&str]| {
            let (code, _, errors) = seele(place.path(), arguments);
            assert_eq!(code, 0, "{errors}");
        };
        let begin = |out: &str, steps: &str| {
            let steps = format!("steps={steps}");
            let constant = "learning_rate.decay=constant";
            let fixed = [
                "train",
                "recipe.toml",
                "--device",
                "emulated",
                "--set",
                constant,
            ];
            train(&[fixed.as_slice(), &["--set", &steps, "--out", out]].concat());
        };
        begin("whole", "3");
        begin("part", "2");
        let more = ["--set", "steps=3", "--allow-change", "steps"];
        train(&[["train", "--resume", "part"].as_slice(), &more].concat());
        let weights = |run: &str| fs::read(place.path().join(run).join("model/model.safetensors"));
        assert_eq!(weights("whole").unwrap(), weights("part").unwrap());
    }
}
