//! `config.json`: both spellings, what is refused, and writing it back.
#![allow(clippy::unwrap_used, reason = "test helpers fail by panicking")]

mod fixtures;

use fixtures::golden_models;
use proptest::prelude::*;
use seele_policy::config::{Family, Llama3RopeScaling, ModelConfig};
use seele_policy::error::LoadError;
use seele_policy::huggingface::WeightType;
use serde_json::{Value, json};
use std::path::Path;

fn llama() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 320, "hidden_size": 48,
        "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 3, "max_position_embeddings": 512,
        "rms_norm_eps": 1e-5, "rope_theta": 1e5, "eos_token_id": [316, 319],
    })
}

fn mistral() -> Value {
    changed(
        llama(),
        &json!({ "architectures": ["MistralForCausalLM"], "model_type": "mistral", "num_key_value_heads": 1 }),
    )
}

fn qwen2() -> Value {
    changed(
        llama(),
        &json!({ "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "num_key_value_heads": 1 }),
    )
}

/// `config` with the keys of `changes` set.
fn changed(mut config: Value, changes: &Value) -> Value {
    for (key, value) in changes.as_object().unwrap() {
        config[key] = value.clone();
    }
    config
}

fn parse(config: &Value) -> Result<ModelConfig, LoadError> {
    ModelConfig::from_json_str(&config.to_string(), Path::new("config.json"))
}

#[test]
fn defaults_are_those_of_transformers() {
    let config = parse(&llama()).unwrap();
    assert_eq!(
        (config.family, config.kv_heads, config.head_dim),
        (Family::Llama, 3, 16)
    );
    assert!(!config.tied && !config.qkv_bias && !config.qk_norm);
    assert_eq!(
        (config.bos_token_id, config.eos_token_ids.as_slice()),
        (None, &[316, 319][..])
    );
    let mut bare = llama();
    for key in ["rms_norm_eps", "rope_theta", "eos_token_id"] {
        bare.as_object_mut().unwrap().remove(key);
    }
    let config = parse(&bare).unwrap();
    assert_eq!((config.rms_norm_eps, config.rope_theta), (1e-6, 1e4));
    assert!(config.eos_token_ids.is_empty());
}

#[test]
fn both_spellings_of_the_rotary_embedding_say_the_same() {
    let scaling = json!({
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    });
    let old = parse(&changed(llama(), &json!({ "rope_scaling": scaling }))).unwrap();
    let new_scaling = changed(scaling, &json!({ "rope_theta": 1e5 }));
    let new = parse(&changed(
        llama(),
        &json!({ "rope_parameters": new_scaling, "rope_theta": null }),
    ))
    .unwrap();
    assert_eq!(old, new);
    let expected = Llama3RopeScaling {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 64,
    };
    assert_eq!(old.rope_scaling, Some(expected));
    let default = json!({ "rope_type": "default", "rope_theta": 1e5 });
    assert_eq!(
        parse(&changed(llama(), &json!({ "rope_parameters": default }))).unwrap(),
        parse(&llama()).unwrap()
    );
}

#[test]
fn a_window_that_cuts_nothing_off_is_let_through() {
    for changes in [
        json!({ "sliding_window": null }),
        json!({ "sliding_window": 512 }),
        json!({}),
    ] {
        parse(&changed(mistral(), &changes)).unwrap();
    }
    parse(&changed(
        qwen2(),
        &json!({ "sliding_window": 8, "use_sliding_window": false }),
    ))
    .unwrap();
    parse(&changed(qwen2(), &json!({ "sliding_window": 8 }))).unwrap();
}

#[test]
fn what_is_not_computed_is_refused_by_name() {
    let cases = [
        (
            llama(),
            json!({ "model_type": "gemma2" }),
            "`config.json`: `model_type` = \"gemma2\" is not supported; supported: llama, qwen2, qwen3, mistral",
        ),
        (
            llama(),
            json!({ "architectures": ["LlamaForSequenceClassification"] }),
            "`config.json`: `architectures` = [\"LlamaForSequenceClassification\"] is not supported; supported: LlamaForCausalLM",
        ),
        (
            llama(),
            json!({ "hidden_act": "gelu" }),
            "`config.json`: `hidden_act` = \"gelu\" is not supported; supported: silu",
        ),
        (
            llama(),
            json!({ "attention_bias": true }),
            "`config.json`: `attention_bias` = true is not supported; supported: false",
        ),
        (
            llama(),
            json!({ "mlp_bias": true }),
            "`config.json`: `mlp_bias` = true is not supported; supported: false",
        ),
        (
            llama(),
            json!({ "quantization_config": { "bits": 4 } }),
            "`config.json`: `quantization_config` = {\"bits\":4} is not supported",
        ),
        (
            llama(),
            json!({ "rope_scaling": { "type": "linear", "factor": 2.0 } }),
            "`config.json`: `rope_scaling.type` = \"linear\" is not supported; supported: default, llama3",
        ),
        (
            llama(),
            json!({ "rope_parameters": { "rope_type": "yarn" } }),
            "`config.json`: `rope_parameters.rope_type` = \"yarn\" is not supported",
        ),
        (
            llama(),
            json!({ "rope_scaling": { "factor": 2.0 } }),
            "`config.json` does not give `rope_scaling.rope_type`, the kind of rotary frequency scaling",
        ),
        (
            llama(),
            json!({ "partial_rotary_factor": 0.5 }),
            "`config.json`: `partial_rotary_factor` = 0.5 is not supported; supported: 1",
        ),
        (
            llama(),
            json!({ "num_key_value_heads": 2 }),
            "`config.json`: `num_key_value_heads` is 2, but must be a divisor of `num_attention_heads` = 3",
        ),
        (
            llama(),
            json!({ "hidden_size": 50 }),
            "`config.json`: `hidden_size` is 50, but must be a multiple of `num_attention_heads` = 3",
        ),
        (
            llama(),
            json!({ "head_dim": 15 }),
            "`config.json`: `head_dim` is 15, but must be such that the head width 15 is even",
        ),
        (
            llama(),
            json!({ "num_hidden_layers": -1 }),
            "`config.json`: `num_hidden_layers` is -1, but must be a positive whole number",
        ),
        (
            llama(),
            json!({ "max_position_embeddings": 1_u64 << 31 }),
            "`config.json`: `max_position_embeddings` is 2147483648, but must be at most 4194304",
        ),
        (
            llama(),
            json!({ "num_hidden_layers": 20000 }),
            "`config.json`: `num_hidden_layers` is 20000",
        ),
        (
            llama(),
            json!({ "vocab_size": "many" }),
            "`config.json`: `vocab_size` is \"many\", but must be a positive whole number",
        ),
        (
            llama(),
            json!({ "hidden_size": 2147483646, "intermediate_size": 2147483647 }),
            "`config.json`: `num_hidden_layers` is 3 (with width 2147483646",
        ),
        (
            llama(),
            json!({ "rms_norm_eps": 0.0 }),
            "`config.json`: `rms_norm_eps` is 0.0, but must be a number above 0",
        ),
        (
            llama(),
            json!({ "tie_word_embeddings": 1 }),
            "`config.json`: `tie_word_embeddings` is 1, but must be true or false",
        ),
        (
            llama(),
            json!({ "eos_token_id": 320 }),
            "`config.json`: `eos_token_id` is 320, but must be below `vocab_size` = 320",
        ),
        (
            llama(),
            json!({ "eos_token_id": [1, "x"] }),
            "`config.json`: `eos_token_id` is [1,\"x\"], but must be a token id or a list",
        ),
        (
            llama(),
            json!({ "vocab_size": null }),
            "`config.json` does not give `vocab_size`, the number of rows of the embedding",
        ),
        (
            mistral(),
            json!({ "sliding_window": 256 }),
            "`config.json`: `sliding_window` = 256 is not supported; supported: null, or at least `max_position_embeddings` = 512",
        ),
        (
            mistral(),
            json!({ "max_position_embeddings": 8192 }),
            "`config.json`: `sliding_window` = absent is not supported",
        ),
        (
            qwen2(),
            json!({ "use_sliding_window": true }),
            "`config.json`: `use_sliding_window` = true is not supported; supported: false",
        ),
        (
            qwen2(),
            json!({ "layer_types": ["full_attention", "sliding_attention"] }),
            "`config.json`: `layer_types` = [\"full_attention\",\"sliding_attention\"] is not supported",
        ),
        (
            qwen2(),
            json!({ "num_key_value_heads": null }),
            "`config.json` does not give `num_key_value_heads`, the number of key-value heads",
        ),
    ];
    for (config, changes, expected) in cases {
        let message = parse(&changed(config, &changes)).unwrap_err().to_string();
        assert!(
            message.starts_with(expected),
            "{message}\ninstead of\n{expected}"
        );
    }
}

#[test]
fn text_that_is_no_json_object_names_the_file() {
    for text in ["", "[]", "{\"a\": }", "null"] {
        let message = ModelConfig::from_json_str(text, Path::new("x/config.json"))
            .unwrap_err()
            .to_string();
        assert!(
            message.starts_with("`x/config.json` is not a JSON object: "),
            "{message}"
        );
    }
}

#[test]
fn golden_configurations_survive_writing() {
    for folder in golden_models() {
        let config = ModelConfig::from_file(&folder.join("config.json")).unwrap();
        let written = config.to_json(WeightType::F32);
        assert_eq!(parse(&written).unwrap(), config, "{}", folder.display());
    }
}

fn any_config() -> impl Strategy<Value = ModelConfig> {
    let family = prop::sample::select(vec![
        Family::Llama,
        Family::Qwen2,
        Family::Qwen3,
        Family::Mistral,
    ]);
    let scaling = prop::option::of((1.0..64.0_f64, 0.5..2.0_f64, 2.5..8.0_f64, 1..10_000_usize));
    let ids = (
        prop::option::of(0..100_u32),
        prop::collection::vec(0..100_u32, 0..4),
    );
    let sizes = (
        100..1000_usize,
        1..100_usize,
        1..100_usize,
        1..5_usize,
        1..4_usize,
        1..4_usize,
        1..10_usize,
    );
    (
        family,
        sizes,
        scaling,
        ids,
        any::<bool>(),
        1e-8..1e-3_f64,
        1.0..1e7_f64,
    )
        .prop_map(
            |(
                family,
                (vocab_size, hidden_size, intermediate_size, layers, kv_heads, group, half),
                scaling,
                ids,
                tied,
                eps,
                theta,
            )| ModelConfig {
                family,
                vocab_size,
                hidden_size,
                intermediate_size,
                layers,
                heads: kv_heads * group,
                kv_heads,
                head_dim: 2 * half,
                rms_norm_eps: eps,
                rope_theta: theta,
                rope_scaling: scaling.map(
                    |(
                        factor,
                        low_freq_factor,
                        high_freq_factor,
                        original_max_position_embeddings,
                    )| {
                        Llama3RopeScaling {
                            factor,
                            low_freq_factor,
                            high_freq_factor,
                            original_max_position_embeddings,
                        }
                    },
                ),
                max_position_embeddings: 10 * vocab_size,
                tied,
                qkv_bias: family == Family::Qwen2,
                qk_norm: family == Family::Qwen3,
                bos_token_id: ids.0,
                eos_token_ids: ids.1,
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn reading_what_was_written_gives_it_back(config in any_config()) {
        for weights in [WeightType::F32, WeightType::Bf16] {
            prop_assert_eq!(&parse(&config.to_json(weights)).unwrap(), &config);
        }
    }

    #[test]
    fn a_value_of_another_kind_never_panics(
        key in prop::sample::select(llama().as_object().unwrap().keys().cloned().collect::<Vec<_>>()),
        value in prop::sample::select(vec![json!(null), json!(true), json!(0), json!(-7), json!(1e300), json!(u64::MAX), json!("x"), json!([]), json!({}), json!(2147483648_u64)]),
    ) {
        if let Ok(config) = parse(&changed(llama(), &json!({ key: value }))) {
            prop_assert!(!seele_policy::parameters::Layout::of(&config).is_empty());
        }
    }
}
