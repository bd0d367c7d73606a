//! Writes GGUF files, to test the reader: by hand, or from a loaded model.
#![allow(dead_code, reason = "each test binary uses its own part")]

use seele_policy::config::{Family, ModelConfig};
use seele_policy::model::Model;
use seele_policy::parameters::TensorSpec;
use serde_json::Value;
use std::path::Path;

/// Number formats by their numbers in the file.
pub(crate) const F32: u32 = 0;
pub(crate) const F16: u32 = 1;
pub(crate) const BF16: u32 = 30;

/// A file in the making.
#[derive(Clone, Default)]
pub(crate) struct Gguf {
    entries: Vec<(String, Vec<u8>)>,
    tensors: Vec<(String, Vec<usize>, u32, Vec<u8>)>,
}

fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

impl Gguf {
    fn entry(&mut self, key: &str, kind: u32, value: &[u8]) -> &mut Self {
        self.remove(key);
        self.entries
            .push((key.to_owned(), [&kind.to_le_bytes()[..], value].concat()));
        self
    }

    fn array(
        &mut self,
        key: &str,
        kind: u32,
        elements: impl ExactSizeIterator<Item = Vec<u8>>,
    ) -> &mut Self {
        let mut value = [
            &kind.to_le_bytes()[..],
            &(elements.len() as u64).to_le_bytes(),
        ]
        .concat();
        elements.for_each(|element| value.extend(element));
        self.entry(key, 9, &value)
    }

    pub(crate) fn remove(&mut self, key: &str) -> &mut Self {
        self.entries.retain(|(name, _)| name != key);
        self
    }

    pub(crate) fn u32(&mut self, key: &str, value: usize) -> &mut Self {
        self.entry(key, 4, &(value as u32).to_le_bytes())
    }

    pub(crate) fn f32(&mut self, key: &str, value: f64) -> &mut Self {
        self.entry(key, 6, &(value as f32).to_le_bytes())
    }

    pub(crate) fn bool(&mut self, key: &str, value: bool) -> &mut Self {
        self.entry(key, 7, &[u8::from(value)])
    }

    pub(crate) fn text(&mut self, key: &str, value: &str) -> &mut Self {
        self.entry(key, 8, &string(value))
    }

    pub(crate) fn texts(&mut self, key: &str, values: &[String]) -> &mut Self {
        self.array(key, 8, values.iter().map(|value| string(value)))
    }

    pub(crate) fn i32s(&mut self, key: &str, values: &[i32]) -> &mut Self {
        self.array(
            key,
            5,
            values.iter().map(|value| value.to_le_bytes().to_vec()),
        )
    }

    pub(crate) fn f32s(&mut self, key: &str, values: &[f32]) -> &mut Self {
        self.array(
            key,
            6,
            values.iter().map(|value| value.to_le_bytes().to_vec()),
        )
    }

    /// Adds or replaces a tensor of row-major `shape`.
    pub(crate) fn tensor(
        &mut self,
        name: &str,
        shape: &[usize],
        kind: u32,
        bytes: Vec<u8>,
    ) -> &mut Self {
        self.without_tensor(name);
        self.tensors
            .push((name.to_owned(), shape.to_vec(), kind, bytes));
        self
    }

    pub(crate) fn without_tensor(&mut self, name: &str) -> &mut Self {
        self.tensors.retain(|(other, ..)| other != name);
        self
    }

    /// The bytes of the file.
    pub(crate) fn bytes(&self, version: u32, alignment: usize) -> Vec<u8> {
        let mut file = b"GGUF".to_vec();
        file.extend(version.to_le_bytes());
        file.extend((self.tensors.len() as u64).to_le_bytes());
        file.extend((self.entries.len() as u64 + 1).to_le_bytes());
        file.extend(
            [
                string("general.alignment"),
                4_u32.to_le_bytes().to_vec(),
                (alignment as u32).to_le_bytes().to_vec(),
            ]
            .concat(),
        );
        for (key, value) in &self.entries {
            file.extend([string(key), value.clone()].concat());
        }
        let mut offset = 0;
        for (name, shape, kind, bytes) in &self.tensors {
            file.extend(string(name));
            file.extend((shape.len() as u32).to_le_bytes());
            shape
                .iter()
                .rev()
                .for_each(|size| file.extend((*size as u64).to_le_bytes()));
            file.extend(kind.to_le_bytes());
            file.extend((offset as u64).to_le_bytes());
            offset += bytes.len().next_multiple_of(alignment);
        }
        for (.., bytes) in &self.tensors {
            file.resize(file.len().next_multiple_of(alignment), 0);
            file.extend(bytes);
        }
        file
    }

    pub(crate) fn write(&self, path: &Path) {
        std::fs::write(path, self.bytes(3, 32)).unwrap();
    }
}

/// The model as the llama.cpp converter would lay it out, weights in float32.
pub(crate) fn export(model: &Model) -> Gguf {
    let mut gguf = Gguf::default();
    let config = &model.config;
    let architecture = match config.family {
        Family::Llama | Family::Mistral => "llama",
        Family::Qwen2 => "qwen2",
        Family::Qwen3 => "qwen3",
    };
    gguf.text("general.architecture", architecture);
    for (name, value) in [
        ("block_count", config.layers),
        ("context_length", config.max_position_embeddings),
        ("embedding_length", config.hidden_size),
        ("feed_forward_length", config.intermediate_size),
        ("attention.head_count", config.heads),
        ("attention.head_count_kv", config.kv_heads),
        ("attention.key_length", config.head_dim),
        ("attention.value_length", config.head_dim),
        ("rope.dimension_count", config.head_dim),
    ] {
        gguf.u32(&format!("{architecture}.{name}"), value);
    }
    gguf.f32(&format!("{architecture}.rope.freq_base"), config.rope_theta);
    gguf.f32(
        &format!("{architecture}.attention.layer_norm_rms_epsilon"),
        config.rms_norm_eps,
    );
    tokenizer(&mut gguf, model);
    for spec in model.parameters.layout().tensors() {
        let values = in_file_order(config, spec, &model.parameters.values[spec.range()]);
        let bytes = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        gguf.tensor(&name_in_file(&spec.name), &spec.shape, F32, bytes);
    }
    gguf
}

/// Names of GGUF files, by substitution.
pub(crate) fn name_in_file(name: &str) -> String {
    let mut name = name
        .replace("model.embed_tokens", "token_embd")
        .replace("lm_head", "output");
    name = name
        .replace("model.norm", "output_norm")
        .replace("model.layers", "blk");
    for (ours, theirs) in [
        ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", "ffn_norm"),
        ("self_attn.o_proj", "attn_output"),
        ("self_attn.", "attn_"),
        ("mlp.", "ffn_"),
        ("_proj", ""),
    ] {
        name = name.replace(ours, theirs);
    }
    name
}

/// For the llama architecture the rows of q and k: `[heads, 2, head_dim / 2]` swapped to
/// `[heads, head_dim / 2, 2]`.
fn in_file_order(config: &ModelConfig, spec: &TensorSpec, values: &[f32]) -> Vec<f32> {
    let swapped = matches!(config.family, Family::Llama | Family::Mistral)
        && (spec.name.contains("q_proj") || spec.name.contains("k_proj"));
    if !swapped {
        return values.to_vec();
    }
    let (half, columns) = (config.head_dim / 2, config.hidden_size);
    let mut out = Vec::new();
    for head in values.chunks(config.head_dim * columns) {
        for pair in 0..half {
            for side in 0..2 {
                out.extend(&head[(side * half + pair) * columns..][..columns]);
            }
        }
    }
    out
}

fn tokenizer(gguf: &mut Gguf, model: &Model) {
    let json: Value = serde_json::from_str(&model.tokenizer.to_json().unwrap()).unwrap();
    let size = model.tokenizer.vocab_size();
    let mut tokens = vec![String::new(); size];
    let mut types = vec![1; size];
    for (token, id) in json["model"]["vocab"].as_object().unwrap() {
        let id = id.as_u64().unwrap() as usize;
        tokens[id] = token.clone();
        if token.starts_with("<0x") {
            types[id] = 6;
        }
    }
    for added in json["added_tokens"].as_array().unwrap() {
        let id = added["id"].as_u64().unwrap() as usize;
        tokens[id] = added["content"].as_str().unwrap().to_owned();
        types[id] = if added["special"] == true { 3 } else { 4 };
    }
    let merges: Vec<String> = json["model"]["merges"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pair| {
            format!(
                "{} {}",
                pair[0].as_str().unwrap(),
                pair[1].as_str().unwrap()
            )
        })
        .collect();
    if model.config.family == Family::Mistral {
        // A token made by an earlier merge scores higher; others never result from a merge.
        let made = |token: &String| {
            merges
                .iter()
                .position(|merge| merge.replace(' ', "") == *token)
        };
        let scores: Vec<f32> = tokens
            .iter()
            .map(|token| made(token).map_or(-1e6, |rank| -(rank as f32)))
            .collect();
        gguf.text("tokenizer.ggml.model", "llama")
            .f32s("tokenizer.ggml.scores", &scores);
        gguf.u32("tokenizer.ggml.unknown_token_id", 0);
    } else {
        let pre = if model.config.family == Family::Llama {
            "llama-bpe"
        } else {
            "qwen2"
        };
        gguf.text("tokenizer.ggml.model", "gpt2")
            .text("tokenizer.ggml.pre", pre);
        gguf.texts("tokenizer.ggml.merges", &merges);
    }
    gguf.texts("tokenizer.ggml.tokens", &tokens)
        .i32s("tokenizer.ggml.token_type", &types);
    let ids = [
        ("bos_token_id", model.config.bos_token_id),
        ("eos_token_id", model.config.eos_token_ids.first().copied()),
        ("eot_token_id", model.config.eos_token_ids.get(1).copied()),
        ("padding_token_id", model.tokenizer.pad_token_id()),
    ];
    for (name, id) in ids {
        if let Some(id) = id {
            gguf.u32(&format!("tokenizer.ggml.{name}"), id as usize);
        }
    }
    if let Some(template) = &model.chat_template {
        gguf.text("tokenizer.chat_template", template.source());
    }
}
