//! Tensor names of GGUF files, and where each tensor of a layout is found.

use super::header::Header;
use super::rope;
use crate::config::{Family, ModelConfig};
use crate::encoding::Encoding;
use crate::error::LoadError;
use crate::parameters::Layout;
use crate::weights::{Piece, RowOrder, StoredTensor, WeightTable};
use std::collections::HashSet;

/// Part of a block's tensor name here and in the file.
const BLOCK_PARTS: [(&str, &str); 11] = [
    ("input_layernorm", "attn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_norm", "attn_k_norm"),
    ("self_attn.o_proj", "attn_output"),
    ("post_attention_layernorm", "ffn_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];

/// Finds each tensor of the layout; nothing may be missing or left over.
pub(super) fn weight_table(
    header: &Header,
    config: &ModelConfig,
    layout: &Layout,
) -> Result<WeightTable, LoadError> {
    let path = header.path().to_owned();
    let mut tensors = Vec::with_capacity(layout.tensors().len());
    let mut known = HashSet::from([rope::FACTORS.to_owned()]);
    for spec in layout.tensors() {
        let name = name_in_file(&spec.name);
        let Some(info) = header.tensors.get(&name) else {
            return Err(LoadError::MissingTensor {
                path,
                tensor: name,
                shape: spec.shape.clone(),
            });
        };
        if info.shape != spec.shape {
            let (expected, found) = (spec.shape.clone(), info.shape.clone());
            return Err(LoadError::TensorShape {
                path,
                tensor: name,
                expected,
                found,
            });
        }
        let encoding = match &info.encoding {
            Ok(encoding) => *encoding,
            Err(found) => {
                let found = found.clone();
                return Err(LoadError::TensorType {
                    path,
                    tensor: name,
                    found,
                    supported: Encoding::NAMES,
                });
            }
        };
        // The converter for the llama architecture reorders the rows of q and k; others do not.
        let reordered = config.family == Family::Llama
            && (name.contains(".attn_q.") || name.contains(".attn_k."));
        let rows = if reordered {
            RowOrder::Pairs {
                head_dim: config.head_dim,
            }
        } else {
            RowOrder::Halves
        };
        known.insert(name.clone());
        tensors.push(StoredTensor {
            name,
            encoding,
            rows,
            pieces: vec![Piece::whole(0, info.offset, spec.len())],
        });
    }
    if let Some(extra) = header.tensors.keys().find(|name| !known.contains(*name)) {
        return Err(LoadError::UnexpectedTensor {
            path,
            tensor: extra.clone(),
        });
    }
    Ok(WeightTable {
        files: vec![path],
        tensors,
        ..WeightTable::default()
    })
}

/// The name of a tensor in the file, by its Hugging Face name.
fn name_in_file(name: &str) -> String {
    match name {
        "model.embed_tokens.weight" => return "token_embd.weight".to_owned(),
        "model.norm.weight" => return "output_norm.weight".to_owned(),
        "lm_head.weight" => return "output.weight".to_owned(),
        _ => {}
    }
    let parts = || {
        let (block, rest) = name.strip_prefix("model.layers.")?.split_once('.')?;
        let (part, kind) = rest.rsplit_once('.')?;
        let (_, part) = BLOCK_PARTS.into_iter().find(|(ours, _)| *ours == part)?;
        Some(format!("blk.{block}.{part}.{kind}"))
    };
    parts().unwrap_or_else(|| name.to_owned())
}
