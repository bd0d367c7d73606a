//! Whole runs of a tiny model.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop where its set-up fails"
)]

use seele_train::metrics::{
    METRICS_FILE, MetricsRow, SFT_METRICS_FILE, depends_on_machine, read_metrics,
};
use seele_train::recipe::Recipe;
use std::path::Path;
use std::sync::atomic::AtomicBool;

const RECIPE: &str = r#"
method = "seele"
steps = 2
[model.new]
hidden_size = 16
layers = 2
heads = 2
intermediate_size = 32
max_position_embeddings = 96
[data]
template = "bare"
arithmetic = { operations = { min = 2, max = 3 }, count = 40 }
[sft]
steps = 2
sequences_per_step = 4
problems_per_sequence = 2
[sft.learning_rate]
peak = 1e-3
[rollout]
problems_per_step = 4
rollouts_per_problem = 6
max_new_tokens = 12
max_active_branches = 7
[hint]
rounds = 3
[reward]
extraction = "fallback"
[update]
problems_per_update = 2
passes = 2
tokens_per_microbatch = 100
[eval.sets.easy]
arithmetic = { operations = { min = 1, max = 1 }, count = 5 }
"#;

fn train(folder: &Path, overrides: &[&str]) -> Vec<MetricsRow> {
    let file = folder.join("recipe.toml");
    std::fs::write(&file, RECIPE).unwrap();
    let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
    let recipe = Recipe::load(&file, &overrides).unwrap();
    let materials = recipe.open().unwrap();
    let stop = AtomicBool::new(false);
    seele_train::trainer::run(&recipe, materials, &mut (), &stop, folder, None).unwrap();
    read_metrics(&folder.join(METRICS_FILE)).unwrap()
}

/// The log without what depends on the clock and the machine.
fn without_times(folder: &Path) -> Vec<serde_json::Map<String, serde_json::Value>> {
    let text = std::fs::read_to_string(folder.join(METRICS_FILE)).unwrap();
    let line = |line: &str| {
        let mut map: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(line).unwrap();
        map.retain(|key, _| !depends_on_machine(key));
        map
    };
    text.lines().map(line).collect()
}

#[test]
fn a_run_logs_every_measurement_and_saves_the_model() {
    let folder = tempfile::tempdir().unwrap();
    let rows = train(folder.path(), &[]);
    assert_eq!(rows.len(), 3);
    for row in &rows[1..] {
        for key in [
            "reward/mean",
            "hint/rate/mean",
            "hint/round_3/accuracy",
            "hint/round_1/rate",
            "group/zero_variance",
            "policy/loss",
            "policy/kl",
            "policy/entropy",
            "policy/imitation",
            "policy/clip_fraction",
            "policy/grad_norm",
            "policy/learning_rate",
            "rollout/response_length/mean",
            "rollout/truncated",
            "time/step",
            "tokens/rollout",
            "tokens/train",
        ] {
            assert!(row.get(key).is_some_and(f64::is_finite), "{key}");
        }
        let gap = row.get("policy/logprob_gap/max").unwrap();
        assert!(gap < 1e-3, "{gap}");
        assert!(row.get("policy/grad_norm").unwrap() > 0.0);
    }
    assert!(rows[2].get("eval/easy/accuracy").is_some());
    let sft = std::fs::read_to_string(folder.path().join(SFT_METRICS_FILE)).unwrap();
    assert_eq!(sft.lines().count(), 2);
    let model = seele_policy::model::Model::load(&folder.path().join("model")).unwrap();
    assert!(
        model
            .parameters
            .values
            .iter()
            .all(|value| value.is_finite())
    );
}

#[test]
fn a_seed_repeats_a_run_and_another_does_not() {
    let runs: Vec<_> = ["seed=1", "seed=1", "seed=2"]
        .iter()
        .map(|seed| {
            let folder = tempfile::tempdir().unwrap();
            train(folder.path(), &[seed]);
            without_times(folder.path())
        })
        .collect();
    assert_eq!(runs[0], runs[1]);
    assert_ne!(runs[0], runs[2]);
}

#[test]
fn other_methods_run_with_the_same_loop() {
    for method in ["grpo", "dapo", "gspo", "rloo", "luffy", "prefix-rft", "uft"] {
        let folder = tempfile::tempdir().unwrap();
        let method = format!("method={method}");
        let file = folder.path().join("recipe.toml");
        let text = RECIPE
            .replace("rounds = 3\n", "")
            .replace("[hint]\n", "")
            .replace("method = \"seele\"", "");
        std::fs::write(&file, text).unwrap();
        let recipe = Recipe::load(&file, std::slice::from_ref(&method)).unwrap();
        let materials = recipe.open().unwrap();
        let stop = AtomicBool::new(false);
        seele_train::trainer::run(&recipe, materials, &mut (), &stop, folder.path(), None)
            .unwrap_or_else(|error| panic!("{method}: {error}"));
        let rows = read_metrics(&folder.path().join(METRICS_FILE)).unwrap();
        for row in &rows[1..] {
            let gap = row.get("policy/logprob_gap/max").unwrap();
            assert!(gap < 1e-3, "{method}: {gap}");
        }
    }
}

#[test]
fn compute_and_recompute_are_the_recipe_s() {
    let log = |overrides: &[&str]| {
        let folder = tempfile::tempdir().unwrap();
        let rows = train(folder.path(), overrides);
        let gap = rows[1].get("policy/logprob_gap/max").unwrap();
        assert!(gap < 0.05, "{overrides:?}: {gap}");
        without_times(folder.path())
    };
    let kept = log(&["model.recompute=none"]);
    // What is kept changes nothing.
    assert_eq!(log(&["model.recompute=block"]), kept);
    assert_eq!(log(&["model.recompute=auto"]), kept);
    assert_ne!(log(&["model.compute=bf16"]), kept);
}

#[test]
fn the_number_of_threads_is_the_recipe_s() {
    struct Threads(usize);
    impl seele_train::progress::Observer for Threads {
        fn tick(&mut self, _: usize, _: usize, _: u64) {
            self.0 = rayon::current_num_threads();
        }
    }
    for threads in [1, 3] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("recipe.toml");
        std::fs::write(&file, RECIPE).unwrap();
        let recipe = Recipe::load(&file, &[format!("threads={threads}")]).unwrap();
        let materials = recipe.open().unwrap();
        let mut seen = Threads(0);
        let stop = AtomicBool::new(false);
        seele_train::trainer::run(&recipe, materials, &mut seen, &stop, folder.path(), None)
            .unwrap();
        assert_eq!(seen.0, threads);
    }
}

#[test]
fn a_run_ends_early_where_its_held_out_sets_are_good_enough() {
    let steps = |overrides: &[&str]| {
        let folder = tempfile::tempdir().unwrap();
        let all = [&["steps=3", "eval.every_steps=1"], overrides].concat();
        let rows = train(folder.path(), &all);
        assert!(folder.path().join("model").is_dir());
        // The first line is the evaluation before training.
        rows.len() - 1
    };
    assert_eq!(steps(&["eval.stop_at.easy=0.0"]), 1);
    assert_eq!(steps(&["eval.stop_at.easy=1.0"]), 3);

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("recipe.toml");
    std::fs::write(&file, RECIPE).unwrap();
    for (setting, message) in [
        ("eval.stop_at.hard=0.5", "there is no set `hard`"),
        ("eval.stop_at.easy=50", "expected 0 to 1"),
    ] {
        let error =
            Recipe::load(&file, &["eval.every_steps=1".into(), setting.into()]).unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
    }
    let error = Recipe::load(&file, &["eval.stop_at.easy=0.5".into()]).unwrap_err();
    assert!(error.to_string().contains("eval.every_steps"), "{error}");
}
