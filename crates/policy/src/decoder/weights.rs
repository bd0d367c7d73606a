//! A model's weights as the passes use them: projections packed for products, vectors as they are.

use super::options::Compute;
use crate::config::ModelConfig;
use crate::kernels::matmul::{
    Packed, add_outer, add_outer_packed, matmul, matmul_add, matmul_columns,
};
use crate::kernels::team::together;
use crate::parameters::Layout;
use std::ops::Range;

/// A vector of the model: where it lies in the flat buffer, and its values.
pub(crate) struct Vector {
    pub(crate) range: Range<usize>,
    pub(crate) values: Vec<f32>,
}

impl Vector {
    fn new(range: Range<usize>) -> Self {
        Self {
            values: vec![0.0; range.len()],
            range,
        }
    }

    fn update(&mut self, values: &[f32]) {
        self.values.copy_from_slice(&values[self.range.clone()]);
    }
}

/// Projections `[out_i, depth]` of one input, as one product: where they lie in the flat buffer, and packed.
pub(crate) struct Linear {
    parts: Vec<Range<usize>>,
    pub(crate) out: usize,
    pub(crate) depth: usize,
    packed: Packed,
}

impl Linear {
    fn new(parts: Vec<Range<usize>>, depth: usize, compute: Compute) -> Self {
        let out = parts.iter().map(|part| part.len()).sum::<usize>() / depth;
        Self {
            parts,
            out,
            depth,
            packed: Packed::sized(depth, out, compute),
        }
    }

    fn update(&mut self, values: &[f32]) {
        let parts: Vec<&[f32]> = self
            .parts
            .iter()
            .map(|part| &values[part.clone()])
            .collect();
        self.packed.fill_transposed(&parts);
    }

    pub(crate) fn packed(&self) -> &Packed {
        &self.packed
    }

    /// `y = x * weight^T`.
    pub(crate) fn apply(&self, x: &[f32], y: &mut [f32]) {
        matmul(x, &self.packed, y);
    }

    /// `dx = dy * weight`, and adds `dy^T * x` to the projections' ranges of `gradient`.
    pub(crate) fn backward(&self, dy: &[f32], x: &[f32], gradient: &mut [f32], dx: &mut [f32]) {
        // Anew in each pass, into memory that the next projection uses again: the rows of a pass pay for it many times
        // over, and the weights are not held twice.
        let transpose = self.packed.transpose(0..self.out);
        matmul(dy, &transpose, dx);
        transpose.give_back();
        let mut rest = gradient;
        let (mut passed, mut column) = (0, 0);
        let mut parts: Vec<(usize, &mut [f32])> = Vec::with_capacity(self.parts.len());
        for part in &self.parts {
            let (own, after) = rest[part.start - passed..].split_at_mut(part.len());
            parts.push((column, own));
            (rest, passed) = (after, part.end);
            column += part.len() / self.depth;
        }
        add_outer(
            dy,
            self.out,
            x,
            self.depth,
            self.packed.compute(),
            &mut parts,
        );
    }

    /// As [`Linear::apply`], for some outputs, from a whole panel on: `y` is `[rows, outputs.len()]`.
    pub(crate) fn apply_some(&self, x: &[f32], outputs: Range<usize>, y: &mut [f32]) {
        matmul_columns(x, &self.packed, outputs, y);
    }

    /// As [`Linear::backward`] of a projection of one part, for some outputs, from a whole panel on: `dy` is `[rows,
    /// outputs.len()]`, `x` packed as it stands, and `dx` is added to.
    pub(crate) fn backward_some(
        &self,
        dy: &[f32],
        outputs: Range<usize>,
        x: &Packed,
        gradient: &mut [f32],
        dx: &mut [f32],
    ) {
        let transpose = self.packed.transpose(outputs.clone());
        matmul_add(dy, &transpose, dx);
        transpose.give_back();
        let first = self.parts[0].start;
        let [start, end] = [outputs.start, outputs.end].map(|output| first + output * self.depth);
        add_outer_packed(dy, outputs.len(), x, &mut gradient[start..end]);
    }
}

/// Weights of one block.
pub(crate) struct BlockWeights {
    pub(crate) input_norm: Vector,
    /// q, k and v: `[(heads + 2 * kv_heads) * head_dim, hidden_size]`.
    pub(crate) qkv: Linear,
    /// Biases of q, k, v.
    pub(crate) biases: Option<[Vector; 3]>,
    /// Head norms of q and k.
    pub(crate) head_norms: Option<[Vector; 2]>,
    pub(crate) output: Linear,
    pub(crate) middle_norm: Vector,
    /// Gate and up: `[2 * intermediate_size, hidden_size]`.
    pub(crate) gate_up: Linear,
    pub(crate) down: Linear,
}

impl BlockWeights {
    fn update(&mut self, values: &[f32]) {
        let vectors = [&mut self.input_norm, &mut self.middle_norm]
            .into_iter()
            .chain(self.biases.iter_mut().flatten())
            .chain(self.head_norms.iter_mut().flatten());
        vectors.for_each(|vector| vector.update(values));
        let linears = [
            &mut self.qkv,
            &mut self.output,
            &mut self.gate_up,
            &mut self.down,
        ];
        linears.into_iter().for_each(|linear| linear.update(values));
    }
}

/// All weights of a model.
pub(crate) struct Weights {
    pub(crate) blocks: Vec<BlockWeights>,
    pub(crate) final_norm: Vector,
    /// The output projection; a tied model's embedding too.
    pub(crate) head: Linear,
    /// The embedding of a model that is not tied.
    embedding: Option<Vector>,
    /// Where the embedding lies in the flat buffer.
    pub(crate) embedding_range: Range<usize>,
}

impl Weights {
    /// Packs the flat buffer `values`, laid out as `layout` (made from `config`).
    pub(crate) fn new(
        config: &ModelConfig,
        layout: &Layout,
        values: &[f32],
        compute: Compute,
    ) -> Self {
        let range = |name: &str| {
            let spec = layout.find(name);
            spec.expect("a layout made from the configuration has every tensor of it")
                .range()
        };
        let hidden = config.hidden_size;
        let blocks = (0..config.layers).map(|block| {
            let range = |rest: &str| range(&format!("model.layers.{block}.{rest}"));
            let vector = |rest: &str| Vector::new(range(rest));
            let linear = |names: &[&str], depth: usize| {
                let parts = names
                    .iter()
                    .map(|name| range(&format!("{name}_proj.weight")));
                Linear::new(parts.collect(), depth, compute)
            };
            BlockWeights {
                input_norm: vector("input_layernorm.weight"),
                qkv: linear(&["self_attn.q", "self_attn.k", "self_attn.v"], hidden),
                biases: config
                    .qkv_bias
                    .then(|| ["q", "k", "v"].map(|p| vector(&format!("self_attn.{p}_proj.bias")))),
                head_norms: config
                    .qk_norm
                    .then(|| ["q", "k"].map(|p| vector(&format!("self_attn.{p}_norm.weight")))),
                output: linear(&["self_attn.o"], config.heads * config.head_dim),
                middle_norm: vector("post_attention_layernorm.weight"),
                gate_up: linear(&["mlp.gate", "mlp.up"], hidden),
                down: linear(&["mlp.down"], config.intermediate_size),
            }
        });
        let embedding_range = range("model.embed_tokens.weight");
        let head = if config.tied {
            embedding_range.clone()
        } else {
            range("lm_head.weight")
        };
        let mut weights = Self {
            blocks: blocks.collect(),
            final_norm: Vector::new(range("model.norm.weight")),
            head: Linear::new(vec![head], hidden, compute),
            embedding: (!config.tied).then(|| Vector::new(embedding_range.clone())),
            embedding_range,
        };
        weights.update(values);
        weights
    }

    /// Packs new values into the same memory.
    pub(crate) fn update(&mut self, values: &[f32]) {
        together(|| {
            for block in &mut self.blocks {
                block.update(values);
            }
            self.final_norm.update(values);
            self.head.update(values);
            if let Some(embedding) = &mut self.embedding {
                embedding.update(values);
            }
        });
    }

    /// Numbers in all projections of the blocks and the output projection.
    pub(crate) fn parameters(&self) -> usize {
        let linears = self
            .blocks
            .iter()
            .flat_map(|block| [&block.qkv, &block.output, &block.gate_up, &block.down])
            .chain([&self.head]);
        linears.map(|linear| linear.out * linear.depth).sum()
    }

    /// Copies the embedding of `token` into `row` (`[hidden_size]`).
    pub(crate) fn embed(&self, token: usize, row: &mut [f32]) {
        match &self.embedding {
            Some(table) => row.copy_from_slice(&table.values[token * row.len()..][..row.len()]),
            None => self.head.packed().column(token, row),
        }
    }
}
