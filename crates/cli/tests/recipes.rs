//! Every row of the tables as a person checks it: `seele train ROW --dry-run`, with a tiny model of the row's
//! family in place of the real one.
#![expect(clippy::unwrap_used, reason = "a test may stop where its set-up fails")]

use assert_cmd::Command;
use seele_policy::chat::ChatTemplate;
use seele_policy::config::{Family, ModelConfig};
use seele_policy::huggingface::SaveOptions;
use seele_policy::model::Model;
use seele_policy::parameters::Parameters;
use seele_policy::tokenizer::Tokenizer;
use std::fs;
use std::path::{Path, PathBuf};

const MODELS: [(&str, Family); 5] = [
    ("qwen2.5-math-7b", Family::Qwen2),
    ("qwen2.5-3b", Family::Qwen2),
    ("qwen2.5-1.5b", Family::Qwen2),
    ("llama-3.2-3b", Family::Llama),
    ("mathstral-7b", Family::Mistral),
];
const METHODS: [&str; 6] = ["sft", "grpo", "luffy", "uft", "prefix-rft", "seele"];

/// What all rows have in common (algorithms.md 1.5).
const BUDGET: [(&str, &str); 7] = [
    ("rollout.rollouts_per_problem", "32"),
    ("rollout.max_new_tokens", "2048"),
    ("rollout.temperature", "1.0"),
    ("rollout.top_p", "1.0"),
    ("aggregation.l_max", "2048"),
    ("optimizer.weight_decay", "0.01"),
    ("optimizer.max_grad_norm", "1.0"),
];

/// What tells a row from the others (algorithms.md 1.5, 2 to 6, and the divergences of recipes/README.md).
fn published(method: &str) -> &'static [(&'static str, &'static str)] {
    match method {
        "sft" => &[
            ("rollout.problems_per_step", "128"),
            ("learning_rate.decay", "\"cosine\""),
            ("learning_rate.warmup_share", "0.05"),
            ("imitation.coef", "1.0"),
        ],
        "grpo" => &[
            ("learning_rate.decay", "\"constant\""),
            ("policy_loss.dual_clip", "3.0"),
            ("kl.coef", "0.001"),
        ],
        "luffy" => &[
            ("hint.traces", "4"),
            ("policy_loss.shape_gamma", "0.1"),
            ("entropy.coef", "0.001"),
            ("kl.coef", "0.0"),
        ],
        "uft" => &[
            ("hint.hint_share", "0.6"),
            ("kl.coef", "0.001"),
            ("imitation.coef", "0.001"),
            ("entropy.coef", "0.001"),
        ],
        "prefix-rft" => &[
            ("hint.prefix_rollouts", "4"),
            ("hint.lowest_rate", "0.05"),
            ("hint.highest_rate", "0.95"),
            ("entropy_filter.drop", "0.8"),
            ("kl.coef", "0.0"),
        ],
        _ => &[
            ("rollout.problems_per_step", "256"),
            ("update.problems_per_update", "64"),
            ("hint.rounds", "4"),
            ("hint.rollouts", "8"),
            ("hint.target_accuracy", "0.5"),
            ("kl.coef", "0.001"),
            ("imitation.coef", "0.001"),
        ],
    }
}

/// The value of a dotted key in a resolved recipe.
fn setting(resolved: &str, key: &str) -> Option<String> {
    let (section, key) = key.rsplit_once('.')?;
    let header = format!("[{section}]");
    let lines = resolved.lines().skip_while(|line| *line != header).skip(1);
    let mut of_section = lines.take_while(|line| !line.starts_with('['));
    let start = format!("{key} = ");
    let value = of_section.find_map(|line| line.strip_prefix(&start))?;
    Some(value.split(" # ").next()?.to_string())
}

fn recipes() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes")
}

/// Random weights in a family's layout, with the context of Qwen2.5-Math and one token a character.
fn save_tiny_model(family: Family, folder: &Path) {
    let alphabet: String = (' '..='~').chain(['\n']).collect();
    let tokenizer = Tokenizer::characters(&alphabet).unwrap();
    let config = ModelConfig {
        family,
        vocab_size: tokenizer.vocab_size(),
        hidden_size: 8,
        intermediate_size: 16,
        layers: 1,
        heads: 2,
        kv_heads: 1,
        head_dim: 4,
        rms_norm_eps: 1e-6,
        rope_theta: 1e4,
        rope_scaling: None,
        max_position_embeddings: 4096,
        tied: true,
        qkv_bias: family == Family::Qwen2,
        qk_norm: false,
        bos_token_id: tokenizer.bos_token_id(),
        eos_token_ids: tokenizer.eos_token_id().into_iter().collect(),
    };
    let model = Model {
        parameters: Parameters::random(&config, seele_random::Key::new(1)),
        chat_template: Some(ChatTemplate::characters(&tokenizer).unwrap()),
        config,
        tokenizer,
    };
    model.save(folder, &SaveOptions::default()).unwrap();
}

/// 256 problems with stepwise solutions, as many as a step has.
fn problems() -> String {
    let row = |number: usize| {
        let (first, second) = (number + 2, number + 3);
        format!(
            "{{\"id\": \"p{number}\", \"problem\": \"What is {first} + {second}?\", \"answer\": \"{sum}\", \"solution\": \"Add {first} and {second}.\\nThe sum is \\\\boxed{{{sum}}}.\", \"steps\": [\"Add {first} and {second}.\\n\", \"The sum is \\\\boxed{{{sum}}}.\"]}}\n",
            sum = first + second
        )
    };
    (0..256).map(row).collect()
}

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::write(place.0.path().join("problems.jsonl"), problems()).unwrap();
        place
    }

    /// Standard output of a dry run of a row on the tiny model.
    fn dry_run(&self, row: &Path, family: Family) -> String {
        self.dry_run_with(row, family, &[])
    }

    fn dry_run_with(&self, row: &Path, family: Family, settings: &[&str]) -> String {
        let name = format!("{family:?}");
        if !self.0.path().join(&name).exists() {
            save_tiny_model(family, &self.0.path().join(&name));
        }
        let output = Command::new(env!("CARGO_BIN_EXE_seele"))
            .current_dir(self.0.path())
            .arg("train")
            .arg(row)
            .args(["--set", &format!("model.path={name}")])
            .args(["--set", "data.path=problems.jsonl"])
            .args(["--set", "eval.sets.math500.path=problems.jsonl"])
            .args(settings.iter().flat_map(|setting| ["--set", setting]))
            .arg("--dry-run")
            .output()
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{}: {stderr}", row.display());
        let stdout = String::from_utf8(output.stdout).unwrap();
        // Columns of comments are aligned; what matters is what they say.
        let lines = stdout.lines();
        let single_spaced =
            |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ") + "\n";
        lines.map(single_spaced).collect()
    }
}

#[test]
fn every_row_of_the_tables_is_a_method_on_a_model_with_the_published_budget() {
    let place = Place::new();
    for (model, family) in MODELS {
        let folder = recipes().join("tables").join(model);
        assert_eq!(
            fs::read_dir(&folder).unwrap().count(),
            METHODS.len(),
            "{model}"
        );
        for method in METHODS {
            let resolved = place.dry_run(&folder.join(format!("{method}.toml")), family);
            let has = |text: &str| {
                assert!(
                    resolved.contains(text),
                    "{model} {method}: {text}\n{resolved}"
                )
            };
            has(&format!("method = \"{method}\" # base {method}.toml:"));
            has(&format!("name = \"{model}-{method}\""));
            let is = |key: &str, value: &str| {
                let found = setting(&resolved, key);
                assert_eq!(found.as_deref(), Some(value), "{model} {method}: {key}");
            };
            for (key, value) in BUDGET {
                is(key, value);
            }
            for (key, value) in published(method) {
                is(key, value);
            }
            if method == "sft" {
                has("epochs = 3 # base sft.toml:");
                has("rollouts a step none: training reads reference solutions only");
                has("optimizer steps 6 = 6 steps x 1");
            } else {
                has("steps = 400 # base deepmath.toml:");
                has("rollouts a step 8,192 = 256 problems x 32 in ");
                has("optimizer steps 1,600 = 400 steps x 4");
                has("peak = 1e-6 # base deepmath.toml:");
            }
        }
    }
}

#[test]
fn every_ablation_resolves_and_differs_from_the_main_rows() {
    let place = Place::new();
    let folder = recipes().join("tables/ablations");
    let values = |resolved: &str| -> Vec<String> {
        let lines = resolved.lines().filter(|line| !line.starts_with("name = "));
        lines
            .map(|line| line.split(" # ").next().unwrap_or_default().to_string())
            .collect()
    };
    let main: Vec<Vec<String>> = METHODS
        .map(|method| recipes().join(format!("tables/qwen2.5-1.5b/{method}.toml")))
        .iter()
        .map(|row| values(&place.dry_run(row, Family::Qwen2)))
        .collect();
    let mut seen = main;
    for entry in fs::read_dir(folder).unwrap() {
        let row = entry.unwrap().path();
        let values = values(&place.dry_run(&row, Family::Qwen2));
        assert!(
            !seen.contains(&values),
            "{} is another row again",
            row.display()
        );
        seen.push(values);
    }
    assert_eq!(seen.len(), METHODS.len() + 16);
}

#[test]
fn every_method_resolves_on_a_row_and_stands_in_the_index() {
    let place = Place::new();
    let row = recipes().join("tables/qwen2.5-1.5b/grpo.toml");
    let index = fs::read_to_string(recipes().join("README.md")).unwrap();
    for method in seele_train::recipe::methods() {
        let resolved = place.dry_run_with(&row, Family::Qwen2, &[&format!("method={method}")]);
        let has = |text: &str| assert!(resolved.contains(text), "{method}: {text}\n{resolved}");
        has(&format!("method = \"{method}\" # --set"));
        has("rollouts_per_problem = 32 # base deepmath.toml:");
        assert!(index.contains(&format!("\n| `{method}` |")), "{method}");
    }
}

#[test]
fn the_index_of_the_recipes_names_every_one_of_them() {
    let index = fs::read_to_string(recipes().join("README.md")).unwrap();
    let mut folders = vec![recipes()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(recipes()).unwrap().display().to_string();
            if path.is_dir() {
                folders.push(path);
            } else if name.ends_with(".toml") {
                assert!(
                    index.contains(&format!("]({name})")),
                    "{name} is not in recipes/README.md"
                );
            }
        }
    }
}
