//! GGUF files: golden models written as GGUF and read back, SmolLM2, and what is refused.
#![allow(clippy::unwrap_used, reason = "test helpers fail by panicking")]

mod fixtures;
mod gguf_writer;
mod samples;

use fixtures::{golden_models, ids, json, smollm2};
use gguf_writer::{BF16, F16, F32, Gguf, export, name_in_file};
use seele_policy::chat::Message;
use seele_policy::config::{Family, Llama3RopeScaling};
use seele_policy::model::{Model, ModelFiles};
use std::path::Path;

fn load(gguf: &Gguf) -> Model {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    gguf.write(&path);
    Model::load(&path).unwrap()
}

/// The message with which a file is refused, its path cut out.
fn refusal(gguf: &Gguf) -> String {
    refusal_of_bytes(&gguf.bytes(3, 32))
}

fn refusal_of_bytes(bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    std::fs::write(&path, bytes).unwrap();
    let message = Model::load(&path).unwrap_err().to_string();
    assert!(
        message.contains(&*path.to_string_lossy()),
        "the file is not named: {message}"
    );
    message.replace(&*path.to_string_lossy(), "FILE")
}

fn assert_same(loaded: &Model, model: &Model, name: &str) {
    let mut expected = model.config.clone();
    if expected.family == Family::Mistral {
        // The file format does not tell the two apart, and they compute the same.
        expected.family = Family::Llama;
    }
    assert_eq!(loaded.config, expected, "{name}");
    assert_eq!(loaded.parameters.values, model.parameters.values, "{name}");
    let source = |model: &Model| {
        model
            .chat_template
            .as_ref()
            .map(|template| template.source().to_owned())
    };
    assert_eq!(source(loaded), source(model), "{name}");
    for text in ["", "the thin thing", "a<|im_end|> b", "Zürich\n\n 12  34's"] {
        for special in [false, true] {
            let ids = |model: &Model| model.tokenizer.encode(text, special).unwrap();
            assert_eq!(ids(loaded), ids(model), "{name}: {text:?}");
        }
    }
}

#[test]
fn every_architecture_comes_back() {
    for (name, model) in [
        ("llama", samples::llama()),
        ("qwen2", samples::qwen2()),
        ("qwen3", samples::qwen3()),
    ] {
        assert_same(&load(&export(&model)), &model, name);
    }
}

/// The golden models written as GGUF. The one with scaled rotary frequencies needs more to be
/// written and is left out.
#[test]
fn golden_models_come_back() {
    for folder in golden_models() {
        let name = folder.display().to_string();
        let model = Model::load(&folder).unwrap();
        if model.config.rope_scaling.is_some() {
            continue;
        }
        let loaded = load(&export(&model));
        assert_same(&loaded, &model, &name);
        for case in json(&folder.join("fixture.json"))["tokenizer"]
            .as_array()
            .unwrap()
        {
            let text = case["text"].as_str().unwrap();
            let plain = loaded.tokenizer.encode(text, false).unwrap();
            assert_eq!(plain, ids(&case["ids_no_special"]), "{name}: {text:?}");
            assert_eq!(
                loaded.tokenizer.encode(text, true).unwrap(),
                ids(&case["ids"]),
                "{name}: {text:?}"
            );
        }
    }
}

#[test]
fn versions_and_alignments_read_the_same() {
    let model = samples::qwen2();
    let gguf = export(&model);
    let folder = tempfile::tempdir().unwrap();
    for (version, alignment) in [(2, 32), (3, 8), (3, 128)] {
        let path = folder.path().join("model.gguf");
        std::fs::write(&path, gguf.bytes(version, alignment)).unwrap();
        assert_eq!(
            Model::load(&path).unwrap().parameters.values,
            model.parameters.values
        );
    }
}

#[test]
fn half_precision_tensors_are_widened() {
    use half::{bf16, f16};
    let model = samples::qwen2();
    let mut gguf = export(&model);
    let mut expected = Vec::new();
    for spec in model.parameters.layout().tensors() {
        let values = &model.parameters.values[spec.range()];
        let (kind, bytes): (u32, Vec<[u8; 2]>) = if spec.name.contains("mlp") {
            expected.extend(values.iter().map(|value| f16::from_f32(*value).to_f32()));
            (
                F16,
                values
                    .iter()
                    .map(|value| f16::from_f32(*value).to_le_bytes())
                    .collect(),
            )
        } else {
            expected.extend(values.iter().map(|value| bf16::from_f32(*value).to_f32()));
            (
                BF16,
                values
                    .iter()
                    .map(|value| bf16::from_f32(*value).to_le_bytes())
                    .collect(),
            )
        };
        gguf.tensor(&name_in_file(&spec.name), &spec.shape, kind, bytes.concat());
    }
    assert_eq!(load(&gguf).parameters.values, expected);
}

#[test]
fn quantised_tensors_are_decoded_in_place() {
    let model = samples::qwen2();
    let mut gguf = export(&model);
    let name = "model.layers.1.mlp.gate_proj.weight";
    let spec = model.parameters.layout().find(name).unwrap();
    // Q8_0: blocks of 32 with a scale of 0.5 and the numbers -16 to 15.
    let block = [
        &half::f16::from_f32(0.5).to_le_bytes()[..],
        &(-16..16).map(|q: i8| q as u8).collect::<Vec<_>>(),
    ]
    .concat();
    gguf.tensor(
        &name_in_file(name),
        &spec.shape,
        8,
        block.repeat(spec.len() / 32),
    );
    let loaded = load(&gguf).parameters;
    let expected: Vec<f32> = (0..spec.len())
        .map(|i| ((i % 32) as f32 - 16.0) * 0.5)
        .collect();
    assert_eq!(loaded.get(name).unwrap(), expected);
    let next = "model.layers.1.mlp.up_proj.weight";
    assert_eq!(loaded.get(next), model.parameters.get(next));
}

#[test]
fn llama3_scaling_is_recognised_by_its_divisors() {
    let mut model = samples::llama();
    let mut gguf = export(&model);
    model.config.rope_theta = 500_000.0;
    let plain = model.config.rope_inverse_frequencies();
    let scaling = Llama3RopeScaling {
        factor: 32.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 8192,
    };
    model.config.rope_scaling = Some(scaling);
    let scaled = model.config.rope_inverse_frequencies();
    let divisors: Vec<f32> = plain
        .iter()
        .zip(&scaled)
        .map(|(plain, scaled)| plain / scaled)
        .collect();
    assert!(divisors.contains(&1.0) && divisors.contains(&32.0));
    let tensor = |divisors: &[f32]| {
        divisors
            .iter()
            .flat_map(|divisor| divisor.to_le_bytes())
            .collect::<Vec<u8>>()
    };
    gguf.f32("llama.rope.freq_base", 500_000.0);
    gguf.tensor(
        "rope_freqs.weight",
        &[divisors.len()],
        F32,
        tensor(&divisors),
    );
    assert_eq!(load(&gguf).config, model.config);

    let other: Vec<f32> = divisors.iter().map(|divisor| divisor.sqrt()).collect();
    gguf.tensor("rope_freqs.weight", &[divisors.len()], F32, tensor(&other));
    let message = refusal(&gguf);
    assert!(
        message.starts_with("`FILE`: `rope_freqs.weight` = divisors of the rotary frequencies"),
        "{message}"
    );
}

#[test]
fn smollm2_has_its_published_shape() {
    let Some(file) = smollm2() else { return };
    let model = Model::load(&file).unwrap();
    let config = &model.config;
    assert_eq!(
        (config.family, config.tied, config.vocab_size),
        (Family::Llama, true, 49152)
    );
    assert_eq!(
        (config.hidden_size, config.intermediate_size, config.layers),
        (576, 1536, 30)
    );
    assert_eq!((config.heads, config.kv_heads, config.head_dim), (9, 3, 64));
    assert_eq!(
        (
            config.rope_theta,
            config.rms_norm_eps,
            config.max_position_embeddings
        ),
        (1e5, 1e-5, 8192)
    );
    assert_eq!(
        (config.bos_token_id, config.eos_token_ids.as_slice()),
        (Some(1), &[2][..])
    );
    assert_eq!(model.parameters.layout().len(), 134_515_008);
    let chat = model.chat_template.unwrap().render(
        &[Message::new("system", "Be brief."), Message::user("Hi")],
        true,
    );
    assert_eq!(
        chat.unwrap(),
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
    );
}

#[test]
fn a_folder_with_one_gguf_file_is_that_file() {
    let model = samples::llama();
    let gguf = export(&model);
    let folder = tempfile::tempdir().unwrap();
    gguf.write(&folder.path().join("a.gguf"));
    assert_eq!(
        ModelFiles::open(folder.path()).unwrap().config(),
        &model.config
    );
    gguf.write(&folder.path().join("b.gguf"));
    let message = ModelFiles::open(folder.path()).unwrap_err().to_string();
    assert!(
        message.contains("2 `.gguf` files to choose from; name one of them"),
        "{message}"
    );
}

#[test]
fn what_is_not_computed_is_refused_by_name() {
    let model = samples::llama();
    let gguf = export(&model);
    type Change = fn(&mut Gguf) -> &mut Gguf;
    let cases: [(Change, &str); 17] = [
        (
            |g| g.text("general.architecture", "gemma2"),
            "`FILE`: `general.architecture` = \"gemma2\" is not supported; supported: llama, qwen2, qwen3",
        ),
        (
            |g| g.remove("general.architecture"),
            "`FILE` does not give `general.architecture`, the architecture",
        ),
        (
            |g| g.remove("llama.block_count"),
            "`FILE` does not give `llama.block_count`, the number of blocks",
        ),
        (
            |g| g.u32("llama.expert_count", 8),
            "`FILE`: `llama.expert_count` = 8 is not supported; supported: models without experts",
        ),
        (
            |g| g.u32("llama.attention.sliding_window", 64),
            "`FILE`: `llama.attention.sliding_window` = 64 is not supported",
        ),
        (
            |g| g.text("llama.rope.scaling.type", "yarn"),
            "`FILE`: `llama.rope.scaling.type` = \"yarn\" is not supported",
        ),
        (
            |g| g.u32("llama.attention.head_count_kv", 2),
            "`FILE`: `llama.attention.head_count_kv` is 2, but must be a divisor of the number of query heads, 3",
        ),
        (
            |g| g.u32("llama.rope.dimension_count", 8),
            "`FILE`: `llama.rope.dimension_count` = 8 is not supported; supported: the width of a head, 16",
        ),
        (
            |g| g.text("tokenizer.ggml.model", "t5"),
            "`FILE`: `tokenizer.ggml.model` = \"t5\" is not supported; supported: gpt2, llama",
        ),
        (
            |g| g.text("tokenizer.ggml.pre", "tekken"),
            "`FILE`: `tokenizer.ggml.pre` = \"tekken\" is not supported",
        ),
        (
            |g| g.text("tokenizer.chat_template", "{% if %}"),
            "`FILE`: the chat template does not compile",
        ),
        (
            |g| g.u32("tokenizer.ggml.eos_token_id", 264),
            "`FILE`: `eos_token_id` is 264, but must be below `vocab_size` = 264",
        ),
        (
            |g| g.without_tensor("blk.1.ffn_up.weight"),
            "`FILE` does not hold tensor `blk.1.ffn_up.weight` of shape [96, 48]",
        ),
        (
            |g| g.tensor("blk.0.attn_q.bias", &[48], F32, vec![0; 192]),
            "`FILE` holds tensor `blk.0.attn_q.bias`, which the configuration has no place for",
        ),
        (
            |g| g.tensor("output_norm.weight", &[24], F32, vec![0; 96]),
            "`FILE`: tensor `output_norm.weight` has shape [24], but the configuration calls for [48]",
        ),
        (
            |g| g.tensor("output_norm.weight", &[48], 16, vec![0; 192]),
            "`FILE`: tensor `output_norm.weight` is stored as IQ2_XXS, which is not supported; supported: F32, F16, BF16, Q4_0",
        ),
        (
            |g| {
                g.tensor(
                    "output_norm.weight",
                    &[48],
                    F32,
                    [[0; 4], f32::NAN.to_le_bytes()].concat().repeat(24),
                )
            },
            "`FILE`: element 1 of tensor `output_norm.weight` is NaN",
        ),
    ];
    for (change, expected) in cases {
        let mut changed = gguf.clone();
        change(&mut changed);
        let message = refusal(&changed);
        assert!(
            message.starts_with(expected),
            "{message}\ninstead of\n{expected}"
        );
    }
}

#[test]
fn other_versions_and_other_files_are_refused() {
    let version = |bytes: [u8; 4]| [&b"GGUF"[..], &bytes, &[0; 64]].concat();
    let unsupported = "is not supported; supported: GGUF versions 2 and 3, little endian";
    assert_eq!(
        refusal_of_bytes(&version([1, 0, 0, 0])),
        format!("`FILE`: `version` = 1 {unsupported}")
    );
    assert_eq!(
        refusal_of_bytes(&version([0, 0, 0, 3])),
        format!("`FILE`: `version` = 3, big endian {unsupported}")
    );
    let message = refusal_of_bytes(b"PK\x03\x04 something else");
    assert!(
        message.starts_with("`FILE` is damaged: it does not begin with `GGUF`"),
        "{message}"
    );
    assert!(refusal_of_bytes(b"").starts_with("`FILE` is damaged: it ends at byte 0"));
    let message = Model::load(Path::new("no/such/model.gguf"))
        .unwrap_err()
        .to_string();
    assert!(
        message.starts_with("no model in `no/such/model.gguf`: there is no such file"),
        "{message}"
    );
}
