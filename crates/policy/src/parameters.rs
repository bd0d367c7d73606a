//! All trainable numbers of a model in one flat float32 buffer, addressed by Hugging Face names.
//!
//! One buffer makes the optimiser, the gradient norm, checkpoints and gradient reduction single
//! passes over memory; the layout says which range belongs to which tensor.

use crate::config::ModelConfig;
use rayon::prelude::*;
use seele_random::Key;
use std::ops::Range;
use std::sync::Arc;

/// Weights that one thread hashes at a time.
const FINGERPRINT_PART: usize = 1 << 18;

/// Place and shape of one tensor in the flat buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Hugging Face name, for example `model.layers.0.self_attn.q_proj.weight`.
    pub name: String,
    /// Row-major shape; projections are `[out, in]`.
    pub shape: Vec<usize>,
    /// First element in the flat buffer.
    pub offset: usize,
}

impl TensorSpec {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether the tensor has no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its range in the flat buffer.
    pub fn range(&self) -> Range<usize> {
        self.offset..self.offset + self.len()
    }
}

/// Which tensors a model has, in the order of the flat buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    tensors: Vec<TensorSpec>,
    len: usize,
}

impl Layout {
    /// The tensors a configuration calls for: embedding, blocks in order, final norm, output
    /// projection unless tied.
    pub fn of(config: &ModelConfig) -> Self {
        let mut layout = Self {
            tensors: Vec::new(),
            len: 0,
        };
        let (h, i, d) = (
            config.hidden_size,
            config.intermediate_size,
            config.head_dim,
        );
        let (q, kv) = (config.heads * d, config.kv_heads * d);
        layout.push(
            "model.embed_tokens.weight".into(),
            vec![config.vocab_size, h],
        );
        for block in 0..config.layers {
            let mut add = |name: &str, shape: Vec<usize>| {
                layout.push(format!("model.layers.{block}.{name}"), shape)
            };
            add("input_layernorm.weight", vec![h]);
            for (name, rows) in [("q_proj", q), ("k_proj", kv), ("v_proj", kv)] {
                add(&format!("self_attn.{name}.weight"), vec![rows, h]);
                if config.qkv_bias {
                    add(&format!("self_attn.{name}.bias"), vec![rows]);
                }
            }
            if config.qk_norm {
                add("self_attn.q_norm.weight", vec![d]);
                add("self_attn.k_norm.weight", vec![d]);
            }
            add("self_attn.o_proj.weight", vec![h, q]);
            add("post_attention_layernorm.weight", vec![h]);
            add("mlp.gate_proj.weight", vec![i, h]);
            add("mlp.up_proj.weight", vec![i, h]);
            add("mlp.down_proj.weight", vec![h, i]);
        }
        layout.push("model.norm.weight".into(), vec![h]);
        if !config.tied {
            layout.push("lm_head.weight".into(), vec![config.vocab_size, h]);
        }
        layout
    }

    fn push(&mut self, name: String, shape: Vec<usize>) {
        let spec = TensorSpec {
            name,
            shape,
            offset: self.len,
        };
        self.len += spec.len();
        self.tensors.push(spec);
    }

    /// The tensors in buffer order.
    pub fn tensors(&self) -> &[TensorSpec] {
        &self.tensors
    }

    /// Elements in the whole buffer.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The tensor of that name.
    pub fn find(&self, name: &str) -> Option<&TensorSpec> {
        self.tensors.iter().find(|spec| spec.name == name)
    }
}

/// The numbers of a model (or of its gradient, or of an optimiser moment).
#[derive(Clone, Debug)]
pub struct Parameters {
    layout: Arc<Layout>,
    /// The flat buffer, `[layout.len()]`.
    pub values: Vec<f32>,
}

impl Parameters {
    /// All zeros.
    pub fn zeros(layout: Arc<Layout>) -> Self {
        let values = vec![0.0; layout.len()];
        Self { layout, values }
    }

    /// Fresh weights for training from nothing: normal with standard deviation `1 / sqrt(columns)`, which
    /// keeps the size of activations at every width (GPT-2's constant 0.02 fits widths around 2,500 and
    /// leaves small models with next to no signal), the residual outputs (`o_proj`, `down_proj`) divided
    /// by `sqrt(2 * layers)` (GPT-2's rule), norms 1, biases 0.
    pub fn random(config: &ModelConfig, key: Key) -> Self {
        let mut parameters = Self::zeros(Arc::new(Layout::of(config)));
        let layout = Arc::clone(&parameters.layout);
        let residual = 1.0 / (2.0 * config.layers as f64).sqrt();
        for (index, spec) in layout.tensors().iter().enumerate() {
            let values = &mut parameters.values[spec.range()];
            if spec.name.ends_with("norm.weight") {
                values.fill(1.0);
            } else if !spec.name.ends_with(".bias") {
                let residual_output =
                    spec.name.ends_with("o_proj.weight") || spec.name.ends_with("down_proj.weight");
                let columns = spec.shape.last().copied().unwrap_or(1).max(1);
                let std = if residual_output { residual } else { 1.0 } / (columns as f64).sqrt();
                let key = key.with(index as u64);
                for (i, value) in values.iter_mut().enumerate() {
                    *value = (key.with(i as u64).normal() * std) as f32;
                }
            }
        }
        parameters
    }

    /// 64 bits that are the same for the same weights and, but for chance, for no others.
    pub fn fingerprint(&self) -> u64 {
        let parts: Vec<u64> = self
            .values
            .par_chunks(FINGERPRINT_PART)
            .map(|part| {
                let bits = part.iter().map(|value| u64::from(value.to_bits()));
                bits.fold(Key::new(0), Key::with).bits()
            })
            .collect();
        parts.into_iter().fold(Key::new(0), Key::with).bits()
    }

    /// Where each tensor lies.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// The tensor of that name.
    pub fn get(&self, name: &str) -> Option<&[f32]> {
        self.layout
            .find(name)
            .map(|spec| &self.values[spec.range()])
    }

    /// The tensor of that name, to be written.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut [f32]> {
        let range = self.layout.find(name)?.range();
        Some(&mut self.values[range])
    }
}
