//! The decoder on the CPU.

use super::options::DecoderOptions;
use super::weights::{Vector, Weights};
use crate::config::ModelConfig;
use crate::kernels::attention::Heads;
use crate::kernels::buffers::Buffer;
use crate::kernels::elementwise::{Rotary, rms_norm};
use crate::kernels::team;
use crate::parameters::Parameters;

/// Elements of embedding rows that one task fetches.
const EMBEDDED: usize = 1 << 12;

/// A decoder on the CPU: a model's weights, packed, with what a pass over it needs.
///
/// In [`Compute::Bf16`](super::Compute::Bf16) it holds the weights rounded to bfloat16, the embedding of a tied model included;
/// norms and biases stay float32, and so do all sums, norms and softmax; attention rounds queries, keys,
/// values and its weights.
pub(crate) struct HostDecoder {
    pub(super) config: ModelConfig,
    pub(super) options: DecoderOptions,
    pub(super) rotary: Rotary,
    pub(super) weights: Weights,
}

impl HostDecoder {
    /// Packs a model's weights; the parameters are copied, not kept.
    pub(super) fn new(
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
    pub(super) fn update(&mut self, parameters: &Parameters) {
        self.weights.update(&parameters.values);
    }

    /// Shape and settings.
    pub(super) fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// How it computes.
    pub(super) fn options(&self) -> DecoderOptions {
        self.options
    }

    pub(super) fn epsilon(&self) -> f32 {
        self.config.rms_norm_eps as f32
    }

    pub(super) fn heads(&self) -> Heads {
        Heads::of(&self.config, self.options.compute)
    }

    /// Embedding rows of `tokens`, `[tokens, hidden_size]`; an id beyond the vocabulary is row 0 (callers
    /// check ids where they enter the program).
    pub(super) fn embed(&self, tokens: &[u32]) -> Buffer {
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
    pub(super) fn normalise(&self, hidden: &[f32], norm: &Vector) -> Buffer {
        let mut out = Buffer::take(hidden.len());
        rms_norm(hidden, &norm.values, self.epsilon(), &mut out);
        out
    }
}
