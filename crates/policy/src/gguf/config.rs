//! The configuration, from metadata and tensor shapes.

use super::header::Header;
use super::metadata::Value;
use super::rope;
use crate::config::{Family, ModelConfig};
use crate::error::LoadError;

/// The configuration of the model in the file.
pub(super) fn model_config(header: &Header) -> Result<ModelConfig, LoadError> {
    let metadata = &header.metadata;
    let key = "general.architecture";
    let architecture = metadata
        .text(key)?
        .ok_or_else(|| metadata.missing(key, "the architecture"))?;
    let family = match architecture {
        "llama" => Family::Llama,
        "qwen2" => Family::Qwen2,
        "qwen3" => Family::Qwen3,
        _ => return Err(metadata.unsupported(key, "llama, qwen2, qwen3")),
    };
    let named = |name: &str| format!("{architecture}.{name}");
    let size = |name: &str| metadata.size(&named(name));
    let required =
        |name: &str, meaning: &'static str| metadata.required_size(&named(name), meaning);
    refuse_what_is_not_computed(header, architecture)?;

    let hidden_size = required("embedding_length", "the width of the residual stream")?;
    let heads = required("attention.head_count", "the number of query heads")?;
    let kv_heads = size("attention.head_count_kv")?.unwrap_or(heads);
    if heads % kv_heads != 0 {
        let expected = format!("a divisor of the number of query heads, {heads}");
        return Err(metadata.invalid(&named("attention.head_count_kv"), expected));
    }
    let head_dim = match size("attention.key_length")? {
        Some(head_dim) => head_dim,
        None if hidden_size % heads == 0 => hidden_size / heads,
        None => {
            let expected = format!(
                "a multiple of the number of heads, {heads}, where `attention.key_length` is not given"
            );
            return Err(metadata.invalid(&named("embedding_length"), expected));
        }
    };
    for name in ["attention.value_length", "rope.dimension_count"] {
        if size(name)?.is_some_and(|width| width != head_dim) {
            return Err(
                metadata.unsupported(&named(name), format!("the width of a head, {head_dim}"))
            );
        }
    }
    if head_dim % 2 != 0 {
        let key = if size("attention.key_length")?.is_some() {
            "attention.key_length"
        } else {
            "embedding_length"
        };
        return Err(metadata.invalid(
            &named(key),
            "such that the width of a head is even, for the rotary embedding",
        ));
    }
    let vocab_size = vocab_size(header)?;
    let rope_theta = metadata
        .positive(&named("rope.freq_base"))?
        .unwrap_or(10_000.0);
    let mut eos_token_ids = Vec::new();
    for key in ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"] {
        eos_token_ids.extend(
            metadata
                .token_id(key)?
                .filter(|id| !eos_token_ids.contains(id)),
        );
    }

    let eps_key = named("attention.layer_norm_rms_epsilon");
    let config = ModelConfig {
        family,
        vocab_size,
        hidden_size,
        intermediate_size: required("feed_forward_length", "the width of the feed-forward layer")?,
        layers: required("block_count", "the number of blocks")?,
        heads,
        kv_heads,
        head_dim,
        rms_norm_eps: metadata
            .positive(&eps_key)?
            .ok_or_else(|| metadata.missing(&eps_key, "the number added in RMS norm"))?,
        rope_theta,
        rope_scaling: rope::scaling(header, rope_theta, head_dim)?,
        max_position_embeddings: required(
            "context_length",
            "the longest position the model was made for",
        )?,
        tied: !header.tensors.contains_key("output.weight"),
        qkv_bias: family == Family::Qwen2,
        qk_norm: family == Family::Qwen3,
        bos_token_id: metadata.token_id("tokenizer.ggml.bos_token_id")?,
        eos_token_ids,
    };
    config.check_sizes(metadata.path())?;
    config.check_token_ids(metadata.path())?;
    Ok(config)
}

/// Rows of the embedding: the one size that the metadata need not give.
fn vocab_size(header: &Header) -> Result<usize, LoadError> {
    let name = "token_embd.weight";
    let found = header.tensors.get(name).map(|tensor| tensor.shape.clone());
    match found.as_deref() {
        Some([rows, _]) if *rows > 0 => Ok(*rows),
        Some(found) => Err(LoadError::Damaged {
            path: header.path().to_owned(),
            problem: format!(
                "the embedding `{name}` has shape {found:?}, but should have rows and columns"
            ),
        }),
        None => Err(LoadError::Damaged {
            path: header.path().to_owned(),
            problem: format!(
                "it holds no embedding, `{name}`; it may be one part of a split model"
            ),
        }),
    }
}

fn refuse_what_is_not_computed(header: &Header, architecture: &str) -> Result<(), LoadError> {
    let metadata = &header.metadata;
    let key = format!("{architecture}.expert_count");
    if !matches!(metadata.get(&key), None | Some(Value::Integer(0))) {
        return Err(metadata.unsupported(&key, "models without experts"));
    }
    let key = "split.count";
    if !matches!(metadata.get(key), None | Some(Value::Integer(0 | 1))) {
        return Err(metadata.unsupported(key, "one file; merge the parts first"));
    }
    let key = format!("{architecture}.attention.sliding_window");
    let window = metadata.size(&key)?;
    let context = metadata.size(&format!("{architecture}.context_length"))?;
    if window.is_some() && window < context {
        return Err(metadata.unsupported(&key, "none, or at least the context length"));
    }
    Ok(())
}
