//! One transformer block over the rows of a micro-batch, forward and backward.

use super::tree::{Rows, Segment};
use super::{BlockWeights, Decoder, Linear};
use crate::kernels::Shared;
use crate::kernels::attention::{GradientRows, HeadRows, Scratch, attend, attend_backward};
use crate::kernels::elementwise::{
    add, add_bias, add_bias_backward, rms_norm, rms_norm_backward, swiglu, swiglu_backward,
};
use crate::kernels::matmul::{add_outer, matmul, matmul_add};
use rayon::prelude::*;

/// What the backward pass of a block needs; rebuilt from the block's input when it is not kept.
pub(crate) struct Tape {
    input: Vec<f32>,
    normed: Vec<f32>,
    /// q and k before their head norm, if the model has one.
    raw: Option<[Vec<f32>; 2]>,
    query: Vec<f32>,
    key: Vec<f32>,
    value: Vec<f32>,
    attended: Vec<f32>,
    middle: Vec<f32>,
    middle_normed: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
}

fn product(x: &[f32], linear: &Linear) -> Vec<f32> {
    let rows = x.len() / linear.depth;
    let mut y = vec![0.0; rows * linear.out];
    matmul(x, linear.forward(), &mut y);
    y
}

impl Decoder {
    /// q, k, v of normalised rows: projected, biased, head-normed, rotated to their positions. Also q
    /// and k before the head norm.
    #[expect(
        clippy::type_complexity,
        reason = "q, k, v and what the head norm started from"
    )]
    pub(crate) fn project(
        &self,
        weights: &BlockWeights,
        normed: &[f32],
        positions: &[usize],
    ) -> (Vec<f32>, Vec<f32>, Vec<f32>, Option<[Vec<f32>; 2]>) {
        let mut query = product(normed, &weights.query);
        let mut key = product(normed, &weights.key);
        let mut value = product(normed, &weights.value);
        if let Some(biases) = &weights.biases {
            for (x, bias) in [&mut query, &mut key, &mut value].into_iter().zip(biases) {
                add_bias(x, &self.values[bias.clone()]);
            }
        }
        let raw = weights.head_norms.as_ref().map(|norms| {
            let raw = [query.clone(), key.clone()];
            for ((x, raw), norm) in [&mut query, &mut key].into_iter().zip(&raw).zip(norms) {
                rms_norm(raw, &self.values[norm.clone()], self.epsilon(), x);
            }
            raw
        });
        self.rotary
            .rotate(&mut query, weights.query.out, positions, 1.0);
        self.rotary
            .rotate(&mut key, weights.key.out, positions, 1.0);
        (query, key, value, raw)
    }

    /// Adds the block's second half to `middle`: `middle + down(silu(gate) * up)` of its norm.
    pub(crate) fn feed_forward(&self, weights: &BlockWeights, middle: &mut [f32]) -> [Vec<f32>; 3] {
        let mut normed = vec![0.0; middle.len()];
        rms_norm(
            middle,
            &self.values[weights.middle_norm.clone()],
            self.epsilon(),
            &mut normed,
        );
        let gate = product(&normed, &weights.gate);
        let up = product(&normed, &weights.up);
        let mut active = vec![0.0; gate.len()];
        swiglu(&gate, &up, &mut active);
        add(middle, &product(&active, &weights.down));
        [normed, gate, up]
    }

    /// Runs block `index` on `input` (`[rows, hidden_size]`); returns its output and its tape.
    pub(crate) fn block_forward(
        &self,
        index: usize,
        rows: &Rows,
        input: Vec<f32>,
    ) -> (Vec<f32>, Tape) {
        let weights = &self.blocks[index];
        let mut normed = vec![0.0; input.len()];
        rms_norm(
            &input,
            &self.values[weights.input_norm.clone()],
            self.epsilon(),
            &mut normed,
        );
        let (query, key, value, raw) = self.project(weights, &normed, &rows.positions);
        let attended = self.attention(rows, &query, &key, &value);
        let mut middle = input.clone();
        add(&mut middle, &product(&attended, &weights.output));
        let mut output = middle.clone();
        let [middle_normed, gate, up] = self.feed_forward(weights, &mut output);
        let tape = Tape {
            input,
            normed,
            raw,
            query,
            key,
            value,
            attended,
            middle,
            middle_normed,
            gate,
            up,
        };
        (output, tape)
    }

    /// Gradient of a block: takes the gradient of its output, returns that of its input, adds those of
    /// its weights to `gradient`.
    pub(crate) fn block_backward(
        &self,
        index: usize,
        rows: &Rows,
        tape: Tape,
        doutput: Vec<f32>,
        gradient: &mut [f32],
    ) -> Vec<f32> {
        let weights = &self.blocks[index];
        let Tape {
            input,
            normed,
            raw,
            mut query,
            mut key,
            value,
            attended,
            middle,
            middle_normed,
            mut gate,
            mut up,
        } = tape;
        let epsilon = self.epsilon();
        // Feed-forward half.
        let mut active = vec![0.0; gate.len()];
        swiglu(&gate, &up, &mut active);
        let dactive = self.linear_backward(&weights.down, &doutput, &active, gradient);
        swiglu_backward(&mut gate, &mut up, &dactive);
        let mut dnormed = self.linear_backward(&weights.gate, &gate, &middle_normed, gradient);
        self.linear_backward_into(&weights.up, &up, &middle_normed, gradient, &mut dnormed);
        let mut dmiddle = doutput;
        let norm = &self.values[weights.middle_norm.clone()];
        let dnorm = &mut gradient[weights.middle_norm.clone()];
        rms_norm_backward(&middle, norm, epsilon, &dnormed, &mut dmiddle, dnorm);
        // Attention half.
        let dattended = self.linear_backward(&weights.output, &dmiddle, &attended, gradient);
        let [mut dquery, mut dkey, dvalue] =
            self.attention_backward(rows, &query, &key, &value, &dattended);
        self.rotary
            .rotate(&mut dquery, weights.query.out, &rows.positions, -1.0);
        self.rotary
            .rotate(&mut dkey, weights.key.out, &rows.positions, -1.0);
        if let (Some(norms), Some(raw)) = (&weights.head_norms, &raw) {
            for ((d, raw), (norm, buffer)) in [&mut dquery, &mut dkey]
                .into_iter()
                .zip(raw)
                .zip(norms.iter().zip([&mut query, &mut key]))
            {
                buffer.fill(0.0);
                let dnorm = &mut gradient[norm.clone()];
                rms_norm_backward(raw, &self.values[norm.clone()], epsilon, d, buffer, dnorm);
                std::mem::swap(d, buffer);
            }
        }
        if let Some(biases) = &weights.biases {
            for (d, bias) in [&dquery, &dkey, &dvalue].into_iter().zip(biases) {
                add_bias_backward(d, &mut gradient[bias.clone()]);
            }
        }
        let mut dnormed = self.linear_backward(&weights.query, &dquery, &normed, gradient);
        self.linear_backward_into(&weights.key, &dkey, &normed, gradient, &mut dnormed);
        self.linear_backward_into(&weights.value, &dvalue, &normed, gradient, &mut dnormed);
        let norm = &self.values[weights.input_norm.clone()];
        let dnorm = &mut gradient[weights.input_norm.clone()];
        rms_norm_backward(&input, norm, epsilon, &dnormed, &mut dmiddle, dnorm);
        dmiddle
    }

    fn linear_backward(
        &self,
        linear: &Linear,
        dy: &[f32],
        x: &[f32],
        gradient: &mut [f32],
    ) -> Vec<f32> {
        let mut dx = vec![0.0; x.len()];
        self.linear_backward_into(linear, dy, x, gradient, &mut dx);
        dx
    }

    pub(crate) fn linear_backward_into(
        &self,
        linear: &Linear,
        dy: &[f32],
        x: &[f32],
        gradient: &mut [f32],
        dx: &mut [f32],
    ) {
        matmul_add(dy, linear.backward(&self.values), dx);
        add_outer(
            dy,
            x,
            x.len() / linear.depth,
            &mut gradient[linear.range.clone()],
        );
    }

    fn attention(&self, rows: &Rows, query: &[f32], key: &[f32], value: &[f32]) -> Vec<f32> {
        let (heads, d, per_kv) = (
            self.config.heads,
            self.config.head_dim,
            self.config.queries_per_kv(),
        );
        let kv_width = self.config.kv_heads * d;
        let mut out = vec![0.0; query.len()];
        let shared = Shared(out.as_mut_ptr());
        let segments: Vec<Segment> = rows.groups.iter().flatten().copied().collect();
        segments
            .par_iter()
            .for_each_init(Vec::new, |scratch, segment| {
                for i in 0..segment.rows {
                    let row = segment.first + i;
                    for head in 0..heads {
                        let offset = head / per_kv * d;
                        let at = row * heads * d + head * d;
                        // SAFETY: each (row, head) of the output is written once.
                        let out = unsafe { shared.slice(at, d) };
                        let keys = visible(segment, i, key, kv_width, offset);
                        let values = visible(segment, i, value, kv_width, offset);
                        attend(&query[at..at + d], keys, values, scratch, out);
                    }
                }
            });
        out
    }

    fn attention_backward(
        &self,
        rows: &Rows,
        query: &[f32],
        key: &[f32],
        value: &[f32],
        dout: &[f32],
    ) -> [Vec<f32>; 3] {
        let (d, per_kv, kv_heads) = (
            self.config.head_dim,
            self.config.queries_per_kv(),
            self.config.kv_heads,
        );
        let (width, kv_width) = (self.config.heads * d, kv_heads * d);
        let (mut dquery, mut dkey, mut dvalue) = (
            vec![0.0; query.len()],
            vec![0.0; key.len()],
            vec![0.0; value.len()],
        );
        let [shared_q, shared_k, shared_v] =
            [&mut dquery, &mut dkey, &mut dvalue].map(|x| Shared(x.as_mut_ptr()));
        let tasks: Vec<(usize, usize)> = (0..rows.groups.len())
            .flat_map(|group| (0..kv_heads).map(move |head| (group, head)))
            .collect();
        tasks
            .par_iter()
            .for_each_init(Scratch::default, |scratch, &(group, kv_head)| {
                let offset = kv_head * d;
                for segment in &rows.groups[group] {
                    for i in 0..segment.rows {
                        let row = segment.first + i;
                        let keys = visible(segment, i, key, kv_width, offset);
                        let values = visible(segment, i, value, kv_width, offset);
                        for head in kv_head * per_kv..(kv_head + 1) * per_kv {
                            let at = row * width + head * d;
                            // SAFETY: a task owns the key-value head's columns of its group's rows, and the
                            // query heads that read it.
                            let dq = unsafe { shared_q.slice(at, d) };
                            let gradients = [shared_k, shared_v].map(|rows| GradientRows {
                                rows,
                                stride: kv_width,
                                offset,
                            });
                            // SAFETY: as above; keys and values have one row for each row of the batch.
                            unsafe {
                                attend_backward(
                                    &query[at..at + d],
                                    [keys, values],
                                    &dout[at..at + d],
                                    scratch,
                                    dq,
                                    gradients,
                                );
                            }
                        }
                    }
                }
            });
        [dquery, dkey, dvalue]
    }
}

/// The rows that row `i` of a segment sees: the trunk up to the fork, then its own segment up to itself.
fn visible<'a>(
    segment: &Segment,
    i: usize,
    rows: &'a [f32],
    stride: usize,
    offset: usize,
) -> [HeadRows<'a>; 2] {
    [
        HeadRows {
            rows,
            first: segment.trunk,
            count: segment.fork,
            stride,
            offset,
        },
        HeadRows {
            rows,
            first: segment.first,
            count: i + 1,
            stride,
            offset,
        },
    ]
}
