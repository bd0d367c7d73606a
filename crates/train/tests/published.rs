//! The presets against the numbers of `algorithms.md`, the exact specification of the methods: a row a setting,
//! with the section that states it.
#![expect(clippy::unwrap_used, reason = "a test may stop where its set-up fails")]

use seele_hint::HintConfig;
use seele_train::objective::presets::{PRESET_NAMES, preset};
use seele_train::recipe::Recipe;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Section, preset, dotted key, value.
type Row = (&'static str, &'static str, &'static str, Value);

fn published() -> Vec<Row> {
    let off = || json!("off");
    vec![
        // 1.2, 1.5: bounds and hyperparameters; 1.8: advantage; 1.9: objective.
        ("1.5", "seele", "hint.rounds", json!(4)),
        ("1.5", "seele", "hint.rollouts", json!(8)),
        ("1.5", "seele", "hint.target_accuracy", json!(0.5)),
        ("1.4", "seele", "hint.cold_start_rate", json!(1.0)),
        ("1.4", "seele", "hint.memory", json!("refit")),
        ("1.6", "seele", "hint.record", json!("effective")),
        ("1.3", "seele", "hint.weight", json!("rounds")),
        ("1.3", "seele", "hint.margin_weight", json!(1.0)),
        ("1.3", "seele", "hint.prior", json!(0.0)),
        ("1.8", "seele", "advantage.kind", json!("dr-grpo")),
        ("1.8", "seele", "advantage.scope", json!("problem")),
        (
            "1.8",
            "seele",
            "dynamic_sampling.drop_uniform",
            json!(false),
        ),
        ("1.5", "seele", "policy_loss.clip_low", json!(0.2)),
        ("1.5", "seele", "policy_loss.clip_high", json!(0.2)),
        ("1.9", "seele", "policy_loss.on_hint", json!(false)),
        ("1.9", "seele", "aggregation.mode", json!("sum-const")),
        ("1.5", "seele", "kl.coef", json!(0.001)),
        ("1.9", "seele", "kl.kind", json!("k3")),
        ("1.9", "seele", "kl.where", json!("generated")),
        ("1.5", "seele", "imitation.coef", json!(0.001)),
        ("1.9", "seele", "imitation.kind", json!("log-likelihood")),
        ("1.9", "seele", "imitation.mode", json!("token-mean")),
        ("1.9", "seele", "imitation.which_hint", json!("own")),
        ("1.5", "seele", "entropy.coef", json!(0.0)),
        ("1.5", "seele-bayes", "hint.rounds", json!(4)),
        ("1.5", "seele-bayes", "hint.rollouts", json!(8)),
        ("1.5", "seele-bayes", "hint.target_accuracy", json!(0.5)),
        ("1.5", "seele-bayes", "kl.coef", json!(0.001)),
        ("1.5", "seele-bayes", "imitation.coef", json!(0.001)),
        // 2: the group-relative family.
        ("2", "grpo", "advantage.kind", json!("grpo")),
        ("2", "grpo", "advantage.eps", json!(1e-6)),
        ("2", "grpo", "policy_loss.clip_low", json!(0.2)),
        ("2", "grpo", "policy_loss.clip_high", json!(0.2)),
        ("2", "grpo", "policy_loss.dual_clip", json!(3.0)),
        ("2", "grpo", "policy_loss.log_ratio_clamp", json!(20.0)),
        ("2", "grpo", "aggregation.mode", json!("token-mean")),
        ("2", "grpo", "kl.coef", json!(0.001)),
        ("2", "grpo", "kl.kind", json!("k3")),
        ("2", "grpo", "kl.clamp", json!(true)),
        ("2", "grpo", "imitation.coef", json!(0.0)),
        ("2", "grpo", "entropy.coef", json!(0.0)),
        ("2", "dr-grpo", "advantage.kind", json!("dr-grpo")),
        ("2", "dr-grpo", "policy_loss.clip_low", json!(0.2)),
        ("2", "dr-grpo", "policy_loss.clip_high", json!(0.2)),
        ("2", "dr-grpo", "policy_loss.dual_clip", json!(3.0)),
        ("2", "dr-grpo", "aggregation.mode", json!("sum-const")),
        ("2", "dr-grpo", "kl.coef", json!(0.0)),
        ("2", "dapo", "advantage.kind", json!("grpo")),
        ("2", "dapo", "policy_loss.clip_low", json!(0.2)),
        ("2", "dapo", "policy_loss.clip_high", json!(0.28)),
        ("2", "dapo", "policy_loss.dual_clip", json!(3.0)),
        ("2", "dapo", "aggregation.mode", json!("token-mean")),
        ("2", "dapo", "kl.coef", json!(0.0)),
        ("2", "dapo", "dynamic_sampling.drop_uniform", json!(true)),
        (
            "2",
            "dapo",
            "dynamic_sampling.max_rollout_batches",
            json!(10),
        ),
        ("2", "dapo", "overlong.buffer", json!(4096.0)),
        ("2", "dapo", "overlong.factor", json!(1.0)),
        ("2", "gspo", "policy_loss.kind", json!("gspo")),
        ("2", "gspo", "policy_loss.clip_low", json!(3e-4)),
        ("2", "gspo", "policy_loss.clip_high", json!(4e-4)),
        ("2", "gspo", "policy_loss.log_ratio_clamp", json!(10.0)),
        (
            "2",
            "gspo",
            "aggregation.mode",
            json!("seq-mean-token-mean"),
        ),
        ("2", "gspo", "kl.coef", json!(0.0)),
        ("2", "rloo", "advantage.kind", json!("rloo")),
        ("2", "rloo", "policy_loss.kind", json!("sequence-ratio")),
        ("2", "rloo", "policy_loss.clip_low", json!(0.2)),
        ("2", "rloo", "policy_loss.clip_high", json!(0.2)),
        ("2", "rloo", "aggregation.mode", json!("seq-mean-token-sum")),
        ("2", "rloo", "kl.coef", json!(0.05)),
        ("2", "rloo", "kl.kind", json!("k1")),
        ("2", "rloo", "kl.clamp", json!(false)),
        ("2", "rloo", "kl.placement", json!("reward")),
        // 3: supervised.
        ("3", "sft", "policy_loss.kind", json!("none")),
        ("3", "sft", "imitation.coef", json!(1.0)),
        ("3", "sft", "imitation.where", json!("solution")),
        ("3", "sft", "imitation.mode", json!("token-mean")),
        ("3", "rl-with-sft-loss", "imitation.coef", json!(1.0)),
        ("3", "rl-with-sft-loss", "imitation.where", json!("trace")),
        (
            "3",
            "rl-with-sft-loss",
            "imitation.mode",
            json!("token-mean"),
        ),
        ("3", "rl-with-sft-loss", "advantage.traces", json!("apart")),
        // 4: LUFFY.
        ("4", "luffy", "hint.rollouts", json!(8)),
        ("4", "luffy", "hint.traces", json!(1)),
        ("4", "luffy", "hint.trace", json!("full")),
        ("4", "luffy", "advantage.kind", json!("dr-grpo")),
        ("4", "luffy", "advantage.traces", json!("member")),
        ("4", "luffy", "policy_loss.clip_low", off()),
        ("4", "luffy", "policy_loss.clip_high", off()),
        ("4", "luffy", "policy_loss.trace_shape", json!("ratio")),
        ("4", "luffy", "policy_loss.shape_gamma", json!(0.1)),
        ("4", "luffy", "aggregation.mode", json!("sum-over-len")),
        ("4", "luffy", "entropy.coef", json!(0.001)),
        ("4", "luffy", "kl.coef", json!(0.0)),
        // 5: UFT; 300 of its 500 steps have hints.
        ("5", "uft", "hint.rollouts", json!(4)),
        ("5", "uft", "hint.slices", json!(5)),
        ("5", "uft", "hint.hint_share", json!(300.0 / 500.0)),
        ("5", "uft", "hint.lowest_probability", json!(0.05)),
        ("5", "uft", "hint.highest_probability", json!(0.95)),
        ("5", "uft", "advantage.kind", json!("grpo")),
        ("5", "uft", "policy_loss.clip_low", json!(0.2)),
        ("5", "uft", "policy_loss.clip_high", json!(0.2)),
        ("5", "uft", "aggregation.mode", json!("token-mean")),
        ("5", "uft", "kl.coef", json!(0.001)),
        ("5", "uft", "kl.kind", json!("k3")),
        ("5", "uft", "imitation.coef", json!(0.001)),
        ("5", "uft", "imitation.mode", json!("token-mean")),
        ("5", "uft", "entropy.coef", json!(0.001)),
        ("5", "uft-stage", "hint.slices", json!(5)),
        ("5", "uft-stage", "hint.hint_share", json!(300.0 / 500.0)),
        ("5", "uft-stage", "imitation.coef", json!(0.001)),
        ("5", "r3", "hint.slices", json!(5)),
        ("5", "r3", "hint.hint_use", json!("context")),
        ("5", "r3", "imitation.coef", json!(0.0)),
        // 6: Prefix-RFT.
        ("6", "prefix-rft", "hint.rollouts", json!(8)),
        ("6", "prefix-rft", "hint.prefix_rollouts", json!(1)),
        ("6", "prefix-rft", "hint.lowest_rate", json!(0.05)),
        ("6", "prefix-rft", "hint.highest_rate", json!(0.95)),
        ("6", "prefix-rft", "hint.hint_use", json!("policy")),
        ("6", "prefix-rft", "advantage.kind", json!("split")),
        ("6", "prefix-rft", "policy_loss.on_hint", json!(true)),
        (
            "6",
            "prefix-rft",
            "policy_loss.prefix_old",
            json!("sampling"),
        ),
        ("6", "prefix-rft", "policy_loss.clip_low", json!(0.2)),
        ("6", "prefix-rft", "policy_loss.clip_high", json!(0.2)),
        ("6", "prefix-rft", "policy_loss.dual_clip", json!(3.0)),
        ("6", "prefix-rft", "entropy_filter.drop", json!(0.8)),
        ("6", "prefix-rft", "entropy_filter.scope", json!("sequence")),
        ("6", "prefix-rft", "aggregation.mode", json!("sum-over-len")),
        ("6", "prefix-rft", "kl.coef", json!(0.0)),
        // 7: schedules of related methods; where the section gives no value, the schedule's own stands.
        ("7", "fixed", "hint.schedule", json!("fixed")),
        ("7", "quest-a", "hint.rates", json!([0.5, 0.25])),
        ("7", "hint-on-failure", "hint.rollouts", json!(8)),
        ("7", "hint-on-failure", "hint.rates", json!([0.5])),
        ("7", "hint-on-failure", "hint.start_share", json!(0.0)),
        ("7", "multi-level", "hint.cut", json!("step")),
        ("7", "escalate", "hint.rates", json!([0.25, 0.5, 0.75])),
    ]
}

fn settings(method: &str) -> Value {
    let recipe = format!(
        "method = \"{method}\"\nsteps = 1\n[model]\npath = \"m\"\n[data]\npath = \"d.jsonl\"\n"
    );
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r.toml");
    std::fs::write(&path, recipe).unwrap();
    let hint: HintConfig = Recipe::load(&path, &[]).unwrap().hint;
    let mut settings = serde_json::to_value(preset(method).unwrap()).unwrap();
    settings["hint"] = serde_json::to_value(hint).unwrap();
    settings
}

#[test]
fn presets_have_the_published_numbers() {
    let rows = published();
    for (section, method, key, value) in &rows {
        let settings = settings(method);
        let found = &settings[key.split_once('.').unwrap().0][key.split_once('.').unwrap().1];
        assert_eq!(found, value, "{method}: {key}, section {section}");
    }
    let covered: BTreeSet<&str> = rows.iter().map(|row| row.1).collect();
    assert_eq!(covered, BTreeSet::from(PRESET_NAMES));
}
