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

    /// Where the kernels can run here: a GPU that is there is used, or tests fail.
    fn devices(folder: &Path) -> Vec<&'static str> {
        let dry = ["train", "recipe.toml", "--device", "cuda", "--dry-run"];
        let (code, _, errors) = seele(folder, &dry);
        let is_missing = errors.contains("cannot find") || errors.contains("there is no device");
        assert!(code == 0 || is_missing, "{errors}");
        let gpu = (code == 0).then_some("cuda");
        gpu.into_iter().chain(["emulated"]).collect()
    }

    #[test]
    fn a_machine_without_a_gpu_says_what_it_lacks() {
        let place = place();
        let dry = ["train", "recipe.toml", "--device", "cuda:99", "--dry-run"];
        let (code, _, errors) = seele(place.path(), &dry);
        assert_eq!(code, 2, "{errors}");
        let library = errors.contains("cannot find") && errors.contains(".so");
        assert!(
            library || errors.contains("there is no device 99"),
            "{errors}"
        );
    }

    #[test]
    fn a_run_on_the_kernels_is_that_on_the_cpu_up_to_rounding() {
        let place = place();
        for device in devices(place.path()) {
            if device != "emulated" || has_compiler() {
                compare_runs(&place, device);
            }
        }
    }

    fn compare_runs(place: &tempfile::TempDir, other: &str) {
        let run = |device: &str| {
            let out = format!("{device}-beside-{other}");
            let arguments = ["train", "recipe.toml", "--device", device, "--out", &out];
            let (code, _, errors) = seele(place.path(), &arguments);
            assert_eq!(code, 0, "{errors}");
            metrics(&place.path().join(out))
        };
        let (cpu, kernels) = (run("cpu"), run(other));
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
        let texts = ["cpu", other].map(|device| {
            let model = format!("{other}-beside-{other}/model");
            let arguments = [
                "generate",
                &model,
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

    #[test]
    fn a_run_on_a_small_device_takes_less_at_a_time_and_says_so() {
        if !has_compiler() {
            return;
        }
        let place = place();
        // A micro-batch of four groups of nearly 100 rows takes more than a MiB.
        let sets = [
            "--set",
            "steps=1",
            "--set",
            "rollout.problems_per_step=4",
            "--set",
            "rollout.rollouts_per_problem=12",
            "--set",
            "model.new.intermediate_size=256",
        ];
        let run = |device: &str, more: &[&str]| {
            let fixed = ["train", "recipe.toml", "--device", device, "--out", device];
            seele(place.path(), &[fixed.as_slice(), &sets, more].concat())
        };
        let (code, plan, errors) = run("emulated:1", &["--dry-run"]);
        assert_eq!(code, 0, "{errors}");
        let line = plan
            .lines()
            .find(|line| line.contains("memory of the device"));
        assert!(
            line.is_some_and(|line| line.contains("of 1.00 MiB free")),
            "{plan}"
        );
        let (code, _, errors) = run("emulated:1", &[]);
        assert_eq!(code, 0, "{errors}");
        assert!(
            errors.contains("micro-batches went through in halves"),
            "{errors}"
        );
        let (code, _, errors) = run("emulated", &[]);
        assert_eq!(code, 0, "{errors}");
        assert!(!errors.contains("short of memory"), "{errors}");
        for (short, whole) in metrics(&place.path().join("emulated:1"))
            .iter()
            .zip(metrics(&place.path().join("emulated")))
        {
            for key in [
                "reward/mean",
                "rollout/response_length/mean",
                "policy/entropy",
            ] {
                assert_eq!(short[key], whole[key], "{key}");
            }
        }
    }

    #[test]
    fn a_model_larger_than_the_device_is_refused_before_anything_runs() {
        if !has_compiler() {
            return;
        }
        let place = place();
        let (code, _, errors) = seele(
            place.path(),
            &[
                "train",
                "recipe.toml",
                "--device",
                "emulated:1",
                "--set",
                "model.new.hidden_size=256",
            ],
        );
        assert_eq!(code, 2, "{errors}");
        assert!(
            errors.contains("weights, gradient and moments need")
                && errors.contains("device = \"cpu\""),
            "{errors}"
        );
    }

    #[test]
    fn measurements_on_a_device_name_it_and_halve_what_it_has_no_room_for() {
        if !has_compiler() {
            return;
        }
        let place = place();
        let wide = "model.new.intermediate_size=256";
        let sets = ["--set", "steps=1", "--set", wide, "--out", "run"];
        let (code, _, errors) = seele(
            place.path(),
            &[["train", "recipe.toml"].as_slice(), &sets].concat(),
        );
        assert_eq!(code, 0, "{errors}");
        let bench = |what: &str, device: &str, more: &[&str]| {
            let fixed = ["bench", what, "run/model", "--device", device, "--json"];
            let few = ["--runs", "1", "--batch", "12", "--new", "16"];
            let (code, text, errors) =
                seele(place.path(), &[fixed.as_slice(), &few, more].concat());
            assert_eq!(code, 0, "{errors}");
            (serde_json::from_str::<Value>(&text).unwrap(), errors)
        };
        let (decode, _) = bench("decode", "emulated", &["--prompt", "8"]);
        assert_eq!(decode["device"], "emulation");
        assert_eq!(decode["peak"]["source"], "measured");
        // One layer: nine kernels and products, and two besides; a graph launch, two copies each way, and three
        // calls that draw.
        assert_eq!(decode["calls_per_token"]["recorded"], 11);
        assert!(decode["calls_per_token"]["made"].as_u64().unwrap() <= 8);
        assert!(decode["flop_utilisation"].as_f64().unwrap() > 0.0);
        assert!(decode["bandwidth_share"].as_f64().unwrap() > 0.0);
        let (train, errors) = bench("train", "emulated:1", &[]);
        assert!(
            train["shortages"]["microbatches"].as_u64().unwrap() > 0,
            "{train}"
        );
        assert!(
            errors.contains("micro-batches went through in halves"),
            "{errors}"
        );
    }
}
