//! Shape and settings of a decoder: what `config.json` (or GGUF metadata) says, checked.

mod json;
pub(crate) mod keys;

use crate::error::LoadError;
use std::path::Path;

/// Largest number of parameters that is taken for a model rather than for damage.
const LARGEST_MODEL: u128 = 1 << 40;
/// Largest number of blocks, likewise.
const MOST_LAYERS: usize = 10_000;
/// Longest context, likewise: sines and cosines of every position are in memory, 2 GiB for heads of 128.
const LONGEST_CONTEXT: usize = 1 << 22;

/// Which published architecture a folder claims; decides names and defaults when it is saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// `LlamaForCausalLM`: Llama 2/3.x, SmolLM2.
    Llama,
    /// `Qwen2ForCausalLM`: Qwen2, Qwen2.5; bias on q, k and v.
    Qwen2,
    /// `Qwen3ForCausalLM`: RMS norm on each head of q and k.
    Qwen3,
    /// `MistralForCausalLM`: Mistral, Mathstral.
    Mistral,
}

/// Frequency scaling of Llama 3.1 and later (`rope_type: "llama3"`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Llama3RopeScaling {
    /// Divisor of the low frequencies.
    pub factor: f64,
    /// Wavelengths above `original_max_position_embeddings / low_freq_factor` are divided by `factor`.
    pub low_freq_factor: f64,
    /// Wavelengths below `original_max_position_embeddings / high_freq_factor` stay as they are.
    pub high_freq_factor: f64,
    /// Context length before scaling, in tokens.
    pub original_max_position_embeddings: usize,
}

/// Everything that fixes a decoder's function apart from its weights.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// Architecture.
    pub family: Family,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the gated feed-forward layer.
    pub intermediate_size: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key-value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of one head; even. `heads * head_dim` need not equal `hidden_size`.
    pub head_dim: usize,
    /// Added to the mean square in RMS norm.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Llama 3 frequency scaling, if any.
    pub rope_scaling: Option<Llama3RopeScaling>,
    /// Longest position the model was made for, in tokens.
    pub max_position_embeddings: usize,
    /// The output projection is the embedding.
    pub tied: bool,
    /// q, k and v projections have a bias.
    pub qkv_bias: bool,
    /// q and k are RMS-normalised per head before the rotation (Qwen3).
    pub qk_norm: bool,
    /// Beginning-of-sequence token, if the model names one.
    pub bos_token_id: Option<u32>,
    /// Tokens that end a generation; at least one for a model that can stop.
    pub eos_token_ids: Vec<u32>,
}

impl ModelConfig {
    /// Query heads that share one key-value head.
    pub fn queries_per_kv(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// Inverse rotary frequencies, `[head_dim / 2]`, rounded to float32 as `transformers` does.
    pub fn rope_inverse_frequencies(&self) -> Vec<f32> {
        (0..self.head_dim / 2)
            .map(|i| {
                let plain =
                    (1.0 / self.rope_theta.powf(2.0 * i as f64 / self.head_dim as f64)) as f32;
                match self.rope_scaling {
                    None => plain,
                    Some(scaling) => scaling.scale(plain),
                }
            })
            .collect()
    }
}

impl ModelConfig {
    /// Refuses sizes whose tensors no machine could hold, so that later arithmetic cannot overflow.
    pub(crate) fn check_sizes(&self, origin: &Path) -> Result<(), LoadError> {
        if self.max_position_embeddings > LONGEST_CONTEXT {
            return Err(LoadError::InvalidKey {
                path: origin.to_owned(),
                key: "max_position_embeddings".to_owned(),
                found: self.max_position_embeddings.to_string(),
                expected: format!("at most {LONGEST_CONTEXT}"),
            });
        }
        let [vocab, hidden, inner, layers] = [
            self.vocab_size,
            self.hidden_size,
            self.intermediate_size,
            self.layers,
        ]
        .map(|size| size as u128);
        let attention = (self.heads + self.kv_heads) as u128 * self.head_dim as u128;
        // Sizes are at most 2^31, so no product of three of them overflows; layers come last.
        let block = hidden * (2 * attention + 3 * inner + 2) + 2 * attention;
        let total = block
            .saturating_mul(layers)
            .saturating_add(2 * vocab * hidden);
        if total <= LARGEST_MODEL && self.layers <= MOST_LAYERS {
            return Ok(());
        }
        Err(LoadError::InvalidKey {
            path: origin.to_owned(),
            key: "num_hidden_layers".to_owned(),
            found: format!(
                "{layers} (with width {hidden}, inner width {inner} and vocabulary {vocab}: {total} parameters)"
            ),
            expected: format!("at most {MOST_LAYERS}, and the model at most 2^40 parameters"),
        })
    }
}

impl Llama3RopeScaling {
    /// One scaled inverse frequency: kept for short wavelengths, divided for long ones, blended between.
    pub(crate) fn scale(&self, frequency: f32) -> f32 {
        let frequency = f64::from(frequency);
        let wavelength = std::f64::consts::TAU / frequency;
        let original = self.original_max_position_embeddings as f64;
        let scaled = if wavelength < original / self.high_freq_factor {
            frequency
        } else if wavelength > original / self.low_freq_factor {
            frequency / self.factor
        } else {
            let blend = (original / wavelength - self.low_freq_factor)
                / (self.high_freq_factor - self.low_freq_factor);
            (1.0 - blend) * frequency / self.factor + blend * frequency
        };
        scaled as f32
    }
}
