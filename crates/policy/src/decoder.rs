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
//! * [`decoding`]: one token a branch; [`cache`]: the keys and values behind it;
//! * [`footprint`]: the memory that a decoder and its passes hold;
//! * [`products`]: the products with weights alone, to measure passes against;
//! * [`options`]: number type of products, and what the backward pass rebuilds.

pub mod block;
pub mod cache;
pub mod decoding;
pub mod footprint;
pub mod head;
pub mod options;
pub mod products;
pub mod training;
pub mod tree;
mod weights;

pub use cache::{BranchCache, TrunkCache};
pub use decoding::DecodeRow;
pub use options::{Compute, DecoderOptions, Recompute};
pub use training::{ScoreGradients, TokenScores};
pub use tree::{TreeBranch, TreeGroup};

use crate::config::ModelConfig;
use crate::kernels::attention::Heads;
use crate::kernels::buffers::Buffer;
use crate::kernels::elementwise::{Rotary, rms_norm};
use crate::kernels::team;
use crate::parameters::Parameters;
use weights::{Vector, Weights};

/// Elements of embedding rows that one task fetches.
const EMBEDDED: usize = 1 << 12;

/// A model's weights, packed, with what a pass over it needs. `Send` and `Sync`.
///
/// In [`Compute::Bf16`] it holds the weights rounded to bfloat16, the embedding of a tied model included;
/// norms and biases stay float32, and so do all sums, norms and softmax; attention rounds queries, keys,
/// values and its weights.
pub struct Decoder {
    config: ModelConfig,
    options: DecoderOptions,
    rotary: Rotary,
    weights: Weights,
}

impl Decoder {
    /// Packs a model's weights with default options; the parameters are copied, not kept.
    pub fn new(config: &ModelConfig, parameters: &Parameters) -> Self {
        Self::with_options(config, parameters, DecoderOptions::default())
    }

    /// Packs a model's weights; the parameters are copied, not kept.
    pub fn with_options(
        config: &ModelConfig,
        parameters: &Parameters,
        options: DecoderOptions,
    ) -> Self {
        Self {
            rotary: Rotary::new(
                &config.rope_inverse_frequencies(),
                config.max_position_embeddings,
            ),
            weights: Weights::new(
                config,
                parameters.layout(),
                &parameters.values,
                options.compute,
            ),
            config: config.clone(),
            options,
        }
    }

    /// Takes over new weights after an optimiser step.
    pub fn update(&mut self, parameters: &Parameters) {
        self.weights.update(&parameters.values);
    }

    /// Shape and settings.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// How it computes.
    pub fn options(&self) -> DecoderOptions {
        self.options
    }

    fn epsilon(&self) -> f32 {
        self.config.rms_norm_eps as f32
    }

    fn heads(&self) -> Heads {
        Heads::of(&self.config, self.options.compute)
    }

    /// Embedding rows of `tokens`, `[tokens, hidden_size]`; an id beyond the vocabulary is row 0 (callers
    /// check ids where they enter the program).
    fn embed(&self, tokens: &[u32]) -> Buffer {
        let width = self.config.hidden_size;
        let mut rows = Buffer::take(tokens.len() * width);
        // A packed row lies scattered, so that fetching it takes longer than its size suggests.
        let few = EMBEDDED.div_ceil(width.max(1));
        team::each_chunk(&mut rows, few * width, |chunk, rows| {
            let tokens = tokens[chunk * few..].iter();
            for (row, &token) in rows.chunks_exact_mut(width).zip(tokens) {
                let token = token as usize;
                let known = token < self.config.vocab_size;
                self.weights.embed(if known { token } else { 0 }, row);
            }
        });
        rows
    }

    /// RMS norm of `[rows, hidden_size]`.
    fn normalise(&self, hidden: &[f32], norm: &Vector) -> Buffer {
        let mut out = Buffer::take(hidden.len());
        rms_norm(hidden, &norm.values, self.epsilon(), &mut out);
        out
    }
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
