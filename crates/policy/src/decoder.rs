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
//! * `host`: all of it on the CPU; on a GPU, `crate::cuda`;
//! * [`options`]: number type of products, and what the backward pass rebuilds.

pub mod block;
pub mod cache;
pub mod decoding;
pub mod footprint;
pub mod head;
mod host;
#[cfg(feature = "cuda")]
mod on_device;
pub mod options;
pub mod products;
pub mod training;
pub mod tree;
mod weights;

pub use cache::{BranchCache, TrunkCache};
pub use decoding::DecodeRow;
#[cfg(feature = "cuda")]
pub use on_device::Draws;
pub use options::{Compute, DecoderOptions, Recompute};
pub use training::{ScoreGradients, TokenScores};
pub use tree::{TreeBranch, TreeGroup};

use crate::config::ModelConfig;
use crate::device::Shortages;
use crate::parameters::Parameters;
use host::HostDecoder;

/// A model's weights, ready for passes. `Send` and `Sync`.
///
/// On the CPU it holds them packed for the kernels. In [`Compute::Bf16`] they are rounded to bfloat16, the
/// embedding of a tied model included; norms and biases stay float32, and so do all sums, norms and softmax;
/// attention rounds queries, keys, values and its weights.
pub struct Decoder {
    place: Place,
}

/// Where a decoder's numbers are.
#[cfg_attr(
    feature = "cuda",
    expect(
        clippy::large_enum_variant,
        reason = "a program has one or two decoders"
    )
)]
enum Place {
    Host(HostDecoder),
    #[cfg(feature = "cuda")]
    Device(on_device::OnDevice),
}

impl Decoder {
    /// Packs a model's weights with default options; the parameters are copied, not kept.
    pub fn new(config: &ModelConfig, parameters: &Parameters) -> Self {
        Self::with_options(config, parameters, DecoderOptions::default())
    }

    /// Packs a model's weights for the CPU; the parameters are copied, not kept.
    pub fn with_options(
        config: &ModelConfig,
        parameters: &Parameters,
        options: DecoderOptions,
    ) -> Self {
        Self {
            place: Place::Host(HostDecoder::new(config, parameters, options)),
        }
    }

    /// Takes over new weights after an optimiser step.
    pub fn update(&mut self, parameters: &Parameters) {
        match &mut self.place {
            Place::Host(host) => host.update(parameters),
            #[cfg(feature = "cuda")]
            Place::Device(device) => device.update(parameters),
        }
    }

    /// How often its device had no room since it was last asked; never on the CPU.
    pub fn take_shortages(&self) -> Shortages {
        match &self.place {
            Place::Host(_) => Shortages::default(),
            #[cfg(feature = "cuda")]
            Place::Device(device) => device.decoder().take_shortages(),
        }
    }

    /// Shape and settings.
    pub fn config(&self) -> &ModelConfig {
        match &self.place {
            Place::Host(host) => host.config(),
            #[cfg(feature = "cuda")]
            Place::Device(device) => device.decoder().config(),
        }
    }

    /// How it computes.
    pub fn options(&self) -> DecoderOptions {
        match &self.place {
            Place::Host(host) => host.options(),
            #[cfg(feature = "cuda")]
            Place::Device(device) => device.decoder().options(),
        }
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
