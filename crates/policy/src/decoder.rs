//! The decoder: forward and backward on trunk and branches, and token-by-token decoding.
//!
//! The passes are written out instead of recorded by an automatic differentiator: one decoder family,
//! fixed order of operations, memory under control. A [`Decoder`] holds the weights packed for the
//! kernels; sampling and training use the same one, so there is nothing to synchronise.
//!
//! * [`tree`]: what is trained on: groups of one trunk and its branches, as rows;
//! * [`block`]: one transformer block over rows, forward and backward;
//! * [`head`]: log-probs and entropies of given tokens straight from hidden states, in chunks;
//! * [`training`]: the whole pass over a micro-batch;
//! * [`decoding`]: key-value caches and one token a branch.

pub mod block;
pub mod decoding;
pub mod head;
pub mod training;
pub mod tree;

pub use decoding::{BranchCache, DecodeRow, TrunkCache};
pub use training::{ScoreGradients, TokenScores};
pub use tree::{TreeBranch, TreeGroup};

use crate::config::ModelConfig;
use crate::kernels::elementwise::Rotary;
use crate::kernels::matmul::Packed;
use crate::parameters::{Layout, Parameters};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// A projection `[out, in]`: where it lies in the flat buffer, and packed for both directions.
pub(crate) struct Linear {
    range: Range<usize>,
    out: usize,
    depth: usize,
    forward: Packed,
    /// For the gradient of the input; packed when first asked for.
    backward: OnceLock<Packed>,
}

impl Linear {
    fn new(layout: &Layout, name: &str, values: &[f32]) -> Option<Self> {
        let spec = layout.find(name)?;
        let (out, depth) = (spec.shape[0], spec.shape[1]);
        let forward = Packed::transposed(&values[spec.range()], out, depth);
        Some(Self {
            range: spec.range(),
            out,
            depth,
            forward,
            backward: OnceLock::new(),
        })
    }

    pub(crate) fn forward(&self) -> &Packed {
        &self.forward
    }

    pub(crate) fn backward(&self, values: &[f32]) -> &Packed {
        self.backward
            .get_or_init(|| Packed::plain(&values[self.range.clone()], self.out, self.depth))
    }
}

/// Weights of one block.
pub(crate) struct BlockWeights {
    pub(crate) input_norm: Range<usize>,
    pub(crate) query: Linear,
    pub(crate) key: Linear,
    pub(crate) value: Linear,
    /// Biases of q, k, v.
    pub(crate) biases: Option<[Range<usize>; 3]>,
    /// Head norms of q and k.
    pub(crate) head_norms: Option<[Range<usize>; 2]>,
    pub(crate) output: Linear,
    pub(crate) middle_norm: Range<usize>,
    pub(crate) gate: Linear,
    pub(crate) up: Linear,
    pub(crate) down: Linear,
}

/// A model's weights, packed, with what a pass over it needs. `Send` and `Sync`.
pub struct Decoder {
    config: ModelConfig,
    layout: Arc<Layout>,
    values: Vec<f32>,
    rotary: Rotary,
    blocks: Vec<BlockWeights>,
    final_norm: Range<usize>,
    embedding: Range<usize>,
    head: Linear,
}

impl Decoder {
    /// Packs a model's weights; the parameters are copied, not kept.
    pub fn new(config: &ModelConfig, parameters: &Parameters) -> Self {
        let layout = Arc::clone(parameters.layout());
        let values = parameters.values.clone();
        let (blocks, head) = pack(config, &layout, &values);
        let range = |name: &str| layout.find(name).map(|spec| spec.range()).unwrap_or(0..0);
        Self {
            rotary: Rotary::new(
                &config.rope_inverse_frequencies(),
                config.max_position_embeddings,
            ),
            final_norm: range("model.norm.weight"),
            embedding: range("model.embed_tokens.weight"),
            config: config.clone(),
            blocks,
            head,
            layout,
            values,
        }
    }

    /// Takes over new weights after an optimiser step.
    pub fn update(&mut self, parameters: &Parameters) {
        self.values.copy_from_slice(&parameters.values);
        (self.blocks, self.head) = pack(&self.config, &self.layout, &self.values);
    }

    /// Shape and settings.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    pub(crate) fn epsilon(&self) -> f32 {
        self.config.rms_norm_eps as f32
    }

    /// Embedding rows of `tokens`, `[tokens, hidden_size]`; an id beyond the vocabulary is row 0 (callers
    /// check ids where they enter the program).
    fn embed(&self, tokens: &[u32]) -> Vec<f32> {
        let width = self.config.hidden_size;
        let table = &self.values[self.embedding.clone()];
        let mut rows = Vec::with_capacity(tokens.len() * width);
        for &token in tokens {
            let row = if (token as usize) < self.config.vocab_size {
                token as usize
            } else {
                0
            };
            rows.extend_from_slice(&table[row * width..(row + 1) * width]);
        }
        rows
    }

    /// Final RMS norm of `[rows, hidden_size]`.
    fn normalise(&self, hidden: &[f32]) -> Vec<f32> {
        let mut out = vec![0.0; hidden.len()];
        let weight = &self.values[self.final_norm.clone()];
        crate::kernels::elementwise::rms_norm(hidden, weight, self.epsilon(), &mut out);
        out
    }
}

/// Packs every projection; blocks side by side.
fn pack(config: &ModelConfig, layout: &Layout, values: &[f32]) -> (Vec<BlockWeights>, Linear) {
    const COMPLETE: &str = "a layout made from the configuration has every tensor of it";
    let blocks = (0..config.layers)
        .into_par_iter()
        .map(|block| {
            let name = |rest: &str| format!("model.layers.{block}.{rest}");
            let range = |rest: &str| {
                layout
                    .find(&name(rest))
                    .map(|spec| spec.range())
                    .expect(COMPLETE)
            };
            let linear = |rest: &str| Linear::new(layout, &name(rest), values).expect(COMPLETE);
            BlockWeights {
                input_norm: range("input_layernorm.weight"),
                query: linear("self_attn.q_proj.weight"),
                key: linear("self_attn.k_proj.weight"),
                value: linear("self_attn.v_proj.weight"),
                biases: config
                    .qkv_bias
                    .then(|| ["q", "k", "v"].map(|p| range(&format!("self_attn.{p}_proj.bias")))),
                head_norms: config
                    .qk_norm
                    .then(|| ["q", "k"].map(|p| range(&format!("self_attn.{p}_norm.weight")))),
                output: linear("self_attn.o_proj.weight"),
                middle_norm: range("post_attention_layernorm.weight"),
                gate: linear("mlp.gate_proj.weight"),
                up: linear("mlp.up_proj.weight"),
                down: linear("mlp.down_proj.weight"),
            }
        })
        .collect();
    let head = if config.tied {
        "model.embed_tokens.weight"
    } else {
        "lm_head.weight"
    };
    (blocks, Linear::new(layout, head, values).expect(COMPLETE))
}

#[cfg(test)]
pub(crate) fn tiny_config() -> ModelConfig {
    ModelConfig {
        family: crate::config::Family::Qwen3,
        vocab_size: 50,
        hidden_size: 32,
        intermediate_size: 48,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        head_dim: 8,
        rms_norm_eps: 1e-6,
        rope_theta: 10_000.0,
        rope_scaling: None,
        max_position_embeddings: 128,
        tied: true,
        qkv_bias: true,
        qk_norm: true,
        bos_token_id: None,
        eos_token_ids: vec![1],
    }
}
