//! Small models made on the spot.
#![allow(dead_code, reason = "each test binary uses its own part")]

use seele_policy::chat::ChatTemplate;
use seele_policy::config::{Family, ModelConfig};
use seele_policy::huggingface::SaveOptions;
use seele_policy::model::Model;
use seele_policy::parameters::{Layout, Parameters};
use seele_policy::tokenizer::Tokenizer;
use seele_random::Key;
use serde_json::{Map, Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Rows of the embedding: 256 bytes, 3 merges, 5 special tokens.
pub(crate) const VOCAB_SIZE: usize = 264;
/// Special tokens, from id 259 on.
pub(crate) const SPECIAL: [&str; 5] = [
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|pad|>",
];

/// Three blocks, three heads of 16, untied; a text begins with `<|begin_of_text|>`.
pub(crate) fn llama() -> Model {
    let config = ModelConfig {
        family: Family::Llama,
        vocab_size: VOCAB_SIZE,
        hidden_size: 48,
        intermediate_size: 96,
        layers: 3,
        heads: 3,
        kv_heads: 3,
        head_dim: 16,
        rms_norm_eps: 1e-5,
        rope_theta: 1e5,
        rope_scaling: None,
        max_position_embeddings: 512,
        tied: false,
        qkv_bias: false,
        qk_norm: false,
        bos_token_id: Some(259),
        eos_token_ids: vec![260, 262],
    };
    model(config, tokenizer(true))
}

/// Two blocks, four query heads and two key-value heads of 16, biases, tied.
pub(crate) fn qwen2() -> Model {
    let config = ModelConfig {
        family: Family::Qwen2,
        hidden_size: 64,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        rms_norm_eps: 1e-6,
        rope_theta: 1e6,
        tied: true,
        qkv_bias: true,
        bos_token_id: None,
        eos_token_ids: vec![262],
        ..llama().config
    };
    model(config, tokenizer(false))
}

/// As [`qwen2`], with norms on the heads instead of biases.
pub(crate) fn qwen3() -> Model {
    let qwen2 = qwen2();
    let config = ModelConfig {
        family: Family::Qwen3,
        qkv_bias: false,
        qk_norm: true,
        tied: false,
        ..qwen2.config
    };
    model(config, qwen2.tokenizer)
}

/// The model in a folder that can be changed.
pub(crate) fn saved(model: &Model) -> (tempfile::TempDir, PathBuf) {
    saved_with(model, &SaveOptions::default())
}

/// The model in a folder, its weights in two shards.
pub(crate) fn sharded(model: &Model) -> (tempfile::TempDir, PathBuf) {
    let most = 4 * model.parameters.layout().len() * 2 / 3;
    saved_with(
        model,
        &SaveOptions {
            max_shard_bytes: most,
            ..SaveOptions::default()
        },
    )
}

fn saved_with(model: &Model, options: &SaveOptions) -> (tempfile::TempDir, PathBuf) {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("model");
    model.save(&folder, options).unwrap();
    (scratch, folder)
}

/// What is in a folder, in order.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// The configuration filled with numbers that are all different, norms and biases included.
fn model(config: ModelConfig, tokenizer: Tokenizer) -> Model {
    let mut parameters = Parameters::zeros(Arc::new(Layout::of(&config)));
    for (place, value) in parameters.values.iter_mut().enumerate() {
        *value = Key::new(7).with(place as u64).normal() as f32 * 0.02;
    }
    let template =
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}";
    let chat_template = Some(ChatTemplate::new(template, &tokenizer).unwrap());
    Model {
        config,
        parameters,
        tokenizer,
        chat_template,
    }
}

/// Byte-level byte-pair encoding with the merges `th`, `the` and `in`.
fn tokenizer(add_bos: bool) -> Tokenizer {
    let mut vocabulary = Map::new();
    let merges = [["t", "h"], ["th", "e"], ["i", "n"]];
    for token in byte_characters()
        .map(String::from)
        .chain(merges.map(|pair| pair.concat()))
    {
        vocabulary.insert(token, json!(vocabulary.len()));
    }
    let added: Vec<Value> = SPECIAL
        .iter()
        .enumerate()
        .map(|(i, content)| {
            json!({
                "id": 259 + i, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true,
            })
        })
        .collect();
    let byte_level = |use_regex: bool| json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": use_regex });
    let bos = json!({ "SpecialToken": { "id": SPECIAL[0], "type_id": 0 } });
    let with_bos = json!({
        "type": "TemplateProcessing",
        "single": [bos, { "Sequence": { "id": "A", "type_id": 0 } }],
        "pair": [bos, { "Sequence": { "id": "A", "type_id": 0 } }, { "Sequence": { "id": "B", "type_id": 0 } }],
        "special_tokens": { SPECIAL[0]: { "id": SPECIAL[0], "ids": [259], "tokens": [SPECIAL[0]] } },
    });
    let description = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
        "pre_tokenizer": byte_level(true),
        "post_processor": if add_bos { with_bos } else { byte_level(false) },
        "decoder": byte_level(true),
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocabulary, "merges": merges,
        },
    });
    let settings = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": SPECIAL[0],
        "eos_token": SPECIAL[3],
        "pad_token": SPECIAL[4],
    });
    Tokenizer::from_json(
        description.to_string().as_bytes(),
        settings.as_object().unwrap().clone(),
    )
    .unwrap()
}

/// How byte-level tokenizers spell the 256 bytes: printable ones as they are, the rest from U+0100.
fn byte_characters() -> impl Iterator<Item = char> {
    let printable = |byte: &u32| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let spelled = (0..256)
        .filter(printable)
        .chain((0..).map(|i| 0x100 + i))
        .take(256);
    spelled.map(|code| char::from_u32(code).unwrap())
}
