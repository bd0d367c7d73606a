//! `seele bench` on a model that `seele train` has just written.
#![expect(clippy::unwrap_used, reason = "a test may stop where its set-up fails")]

use assert_cmd::Command;
use serde_json::Value;
use std::fs;
use std::path::Path;

const TINY: &str = r#"
method = "grpo"
steps = 1
[model.new]
hidden_size = 32
layers = 2
heads = 2
intermediate_size = 48
max_position_embeddings = 64
[data]
template = "bare"
arithmetic = { operations = { min = 1, max = 2 }, count = 4 }
[rollout]
problems_per_step = 2
rollouts_per_problem = 2
max_new_tokens = 4
"#;

fn seele(folder: &Path, arguments: &[&str]) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_seele"))
        .current_dir(folder)
        .args(arguments)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn every_measurement_prints_a_table_or_one_object() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    fs::write(folder.join("tiny.toml"), TINY).unwrap();
    let trained = seele(folder, &["train", "tiny.toml"]);
    assert!(trained.status.success(), "{}", text(&trained.stderr));
    let model = "runs/tiny-1/model";
    let row = r#"{"problem": "1+2=", "answer": "3"}"#;
    fs::write(folder.join("data.jsonl"), format!("{row}\n{row}\n")).unwrap();

    let few = ["--runs", "2", "--batch", "4", "--new", "5"];
    let cases: [(&str, &[&str], &[&str]); 4] = [
        ("decode", &["--prompt", "9"], &["prefill", "decode", "draw"]),
        (
            "train",
            &["--share", "2", "--prompt", "9", "--hint", "2"],
            &["forward and backward", "optimizer"],
        ),
        (
            "step",
            &["--share", "2", "--prompt", "9"],
            &["rollout", "update"],
        ),
        (
            "step",
            &["--share", "2", "--data", "data.jsonl"],
            &["rollout", "update"],
        ),
    ];
    let computes = ["f32", "bf16", "f32", "bf16"];
    for ((what, more, phases), compute) in cases.into_iter().zip(computes) {
        let mut arguments = vec!["bench", what, model, "--json", "--compute", compute];
        arguments.extend(few.iter().chain(more));
        let output = seele(folder, &arguments);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let number = |key: &str| report[key].as_f64().unwrap();
        for key in ["seconds", "ceiling_share", "tokens_per_second"] {
            assert!(number(key) > 0.0, "{report}");
        }
        assert!(!cfg!(target_os = "linux") || number("peak_rss_mib") > 1.0);
        assert_eq!(report["bench"], what);
        assert_eq!(report["compute"], compute);
        let list = |key: &str| report[key].as_array().unwrap().clone();
        let names: Vec<Value> = list("phases").iter().map(|p| p["name"].clone()).collect();
        assert_eq!(names, phases);
        assert_eq!(list("runs").len(), 2);
    }
    let table = text(
        &seele(
            folder,
            &["bench", "train", model, "--runs", "1", "--new", "9"],
        )
        .stdout,
    );
    for line in [
        "floor",
        "tokens a second",
        "share of the ceiling",
        "ceiling of products",
    ] {
        assert!(table.contains(line), "{table}");
    }

    let refused: [(&[&str], &str); 4] = [
        (
            &["decode", model, "--batch", "5", "--share", "2"],
            "5 sequences cannot share prompts by 2",
        ),
        (
            &["train", model, "--new", "99"],
            "do not fit the model's context of 64",
        ),
        (
            &[
                "step",
                model,
                "--batch",
                "6",
                "--share",
                "2",
                "--new",
                "5",
                "--data",
                "data.jsonl",
            ],
            "a step of 3 problems needs as many; the file has 2",
        ),
        (&["decode", "nowhere"], "there is no such file or folder"),
    ];
    for (arguments, message) in refused {
        let output = seele(folder, &[&["bench"], arguments].concat());
        let error = text(&output.stderr);
        assert!(
            output.status.code() == Some(2) && error.contains(message),
            "{error}"
        );
    }
}

#[test]
fn the_sampling_of_a_recipe_is_put_beside_that_of_other_settings() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    fs::write(folder.join("tiny.toml"), TINY).unwrap();
    let common = [
        "bench",
        "rollout",
        "tiny.toml",
        "--set",
        "method=seele",
        "--set",
        "rollout.rollouts_per_problem=8",
        "--runs",
        "2",
    ];
    let lock_step = ["--against", "rollout.rounds=lock-step"];
    let output = seele(folder, &[&common[..], &lock_step, &["--json"]].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let object: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(object["ratio"].as_f64().unwrap() > 0.0, "{object}");
    let reports = object["reports"].as_array().unwrap();
    assert_eq!(reports.len(), 2);
    for report in reports {
        assert_eq!(report["rollouts"], 16);
        // Waiting changes no rollout.
        assert_eq!(report["tokens"], reports[0]["tokens"]);
        assert_eq!(report["runs"].as_array().unwrap().len(), 2);
        let utilisation = report["utilisation"].as_f64().unwrap();
        assert!(utilisation > 0.0 && utilisation <= 1.0, "{report}");
    }

    let table = text(
        &seele(
            folder,
            &[&common[..], &["--against", "method=grpo"]].concat(),
        )
        .stdout,
    );
    assert!(table.contains("method=grpo takes "), "{table}");
    let alone = text(&seele(folder, &common).stdout);
    assert!(alone.contains("as it is") && !alone.contains("times as long"));

    let refused = seele(folder, &[&common[..], &["--against", "rounds=2"]].concat());
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused.stderr));
    assert!(text(&refused.stderr).contains("rounds"));
}
