//! One transformer block over the rows of a micro-batch, forward and backward.

use super::Decoder;
use super::tree::{Rows, Segment};
use super::weights::{BlockWeights, Linear};
use crate::kernels::Shared;
use crate::kernels::attention::{self, Blocks, Share, Sight, Span};
use crate::kernels::buffers::Buffer;
use crate::kernels::elementwise::{
    add_bias, add_bias_backward, add_rows, head_norms, head_norms_backward, rms_norm_backward,
    swiglu, swiglu_backward,
};
use rayon::prelude::*;

/// What the backward pass of a block needs; rebuilt from the block's input when it is not kept.
pub(crate) struct Tape {
    input: Buffer,
    /// q, k and v as attention sees them, `[rows, (heads + 2 * kv_heads) * head_dim]`.
    qkv: Buffer,
    /// q and k before their head norm, if the model has one.
    raw: Option<Buffer>,
    attended: Buffer,
    middle: Buffer,
    gate_up: Buffer,
}

impl Tape {
    pub(crate) fn into_input(self) -> Buffer {
        self.input
    }
}

fn product(x: &[f32], linear: &Linear) -> Buffer {
    let mut y = Buffer::take(x.len() / linear.depth * linear.out);
    linear.apply(x, &mut y);
    y
}

impl Decoder {
    /// q, k and v of a block's input (`[rows, hidden_size]`): normed, projected, biased, head-normed,
    /// rotated to their positions. Also q and k before the head norm.
    pub(crate) fn project(
        &self,
        weights: &BlockWeights,
        input: &[f32],
        positions: &[usize],
    ) -> (Buffer, Option<Buffer>) {
        let normed = self.normalise(input, &weights.input_norm);
        let mut qkv = product(&normed, &weights.qkv);
        let (stride, d) = (weights.qkv.out, self.config.head_dim);
        if let Some(biases) = &weights.biases {
            let joined: Vec<f32> = biases
                .iter()
                .flat_map(|b| b.values.iter().copied())
                .collect();
            add_bias(&mut qkv, &joined);
        }
        let heads = [self.config.heads, self.config.kv_heads];
        let width = (heads[0] + heads[1]) * d;
        let raw = weights.head_norms.as_ref().map(|norms| {
            let mut raw = Buffer::take(positions.len() * width);
            let norms = norms.each_ref().map(|norm| norm.values.as_slice());
            head_norms(&mut qkv, stride, heads, norms, self.epsilon(), &mut raw);
            raw
        });
        self.rotary.rotate(&mut qkv, stride, width, positions, 1.0);
        (qkv, raw)
    }

    /// `middle = input + attended * output projection`.
    pub(crate) fn after_attention(
        &self,
        weights: &BlockWeights,
        input: &[f32],
        attended: &[f32],
    ) -> Buffer {
        let mut middle = product(attended, &weights.output);
        add_rows(&mut middle, input);
        middle
    }

    /// Gate and up projections of the norm of `middle`.
    pub(crate) fn gate_up(&self, weights: &BlockWeights, middle: &[f32]) -> Buffer {
        product(
            &self.normalise(middle, &weights.middle_norm),
            &weights.gate_up,
        )
    }

    /// The block's output: `middle + down(silu(gate) * up)`.
    pub(crate) fn feed_forward(
        &self,
        weights: &BlockWeights,
        middle: &[f32],
        gate_up: &[f32],
    ) -> Buffer {
        let mut output = product(&self.active(gate_up), &weights.down);
        add_rows(&mut output, middle);
        output
    }

    fn active(&self, gate_up: &[f32]) -> Buffer {
        let mut active = Buffer::take(gate_up.len() / 2);
        swiglu(gate_up, self.config.intermediate_size, &mut active);
        active
    }

    /// Block `index` on `input` (`[rows, hidden_size]`), up to what its backward pass needs.
    pub(crate) fn block_tape(&self, index: usize, rows: &Rows, input: Buffer) -> Tape {
        let weights = &self.weights.blocks[index];
        let (qkv, raw) = self.project(weights, &input, &rows.positions);
        let attended = self.attention(rows, &qkv);
        let middle = self.after_attention(weights, &input, &attended);
        let gate_up = self.gate_up(weights, &middle);
        Tape {
            input,
            qkv,
            raw,
            attended,
            middle,
            gate_up,
        }
    }

    /// The rest of the block's forward pass.
    pub(crate) fn block_output(&self, index: usize, tape: &Tape) -> Buffer {
        self.feed_forward(&self.weights.blocks[index], &tape.middle, &tape.gate_up)
    }

    /// Gradient of a block: takes the gradient of its output, returns that of its input, adds those of
    /// its weights to `gradient`.
    pub(crate) fn block_backward(
        &self,
        index: usize,
        rows: &Rows,
        tape: Tape,
        doutput: Buffer,
        gradient: &mut [f32],
    ) -> Buffer {
        let weights = &self.weights.blocks[index];
        let (epsilon, inner) = (self.epsilon(), self.config.intermediate_size);
        let mut backward = |linear: &Linear, dy: &[f32], x: &[f32]| {
            let mut dx = Buffer::take(x.len());
            linear.backward(dy, x, gradient, &mut dx);
            dx
        };
        // Feed-forward half.
        let active = self.active(&tape.gate_up);
        let dactive = backward(&weights.down, &doutput, &active);
        drop(active);
        let mut dgate_up = tape.gate_up;
        swiglu_backward(&mut dgate_up, inner, &dactive);
        let normed = self.normalise(&tape.middle, &weights.middle_norm);
        let dnormed = backward(&weights.gate_up, &dgate_up, &normed);
        let mut dmiddle = doutput;
        let norm = &weights.middle_norm;
        let dnorm = &mut gradient[norm.range.clone()];
        rms_norm_backward(
            &tape.middle,
            &norm.values,
            epsilon,
            &dnormed,
            &mut dmiddle,
            dnorm,
        );
        // Attention half.
        let mut backward = |linear: &Linear, dy: &[f32], x: &[f32]| {
            let mut dx = Buffer::take(x.len());
            linear.backward(dy, x, gradient, &mut dx);
            dx
        };
        let dattended = backward(&weights.output, &dmiddle, &tape.attended);
        let mut dqkv = self.attention_backward(rows, &tape.qkv, &dattended);
        let heads = [self.config.heads, self.config.kv_heads];
        let (stride, width) = (
            weights.qkv.out,
            (heads[0] + heads[1]) * self.config.head_dim,
        );
        self.rotary
            .rotate(&mut dqkv, stride, width, &rows.positions, -1.0);
        if let (Some(norms), Some(raw)) = (&weights.head_norms, &tape.raw) {
            let mut dnorms = norms.each_ref().map(|norm| vec![0.0; norm.values.len()]);
            let [dq, dk] = &mut dnorms;
            let values = norms.each_ref().map(|norm| norm.values.as_slice());
            head_norms_backward(raw, &mut dqkv, stride, heads, values, epsilon, [dq, dk]);
            for (norm, dnorm) in norms.iter().zip(&dnorms) {
                add_rows(&mut gradient[norm.range.clone()], dnorm);
            }
        }
        if let Some(biases) = &weights.biases {
            let mut sums = vec![0.0; stride];
            add_bias_backward(&dqkv, &mut sums);
            let mut first = 0;
            for bias in biases {
                let len = bias.values.len();
                add_rows(&mut gradient[bias.range.clone()], &sums[first..first + len]);
                first += len;
            }
        }
        let normed = self.normalise(&tape.input, &weights.input_norm);
        let mut dnormed = Buffer::take(normed.len());
        weights.qkv.backward(&dqkv, &normed, gradient, &mut dnormed);
        let norm = &weights.input_norm;
        let dnorm = &mut gradient[norm.range.clone()];
        rms_norm_backward(
            &tape.input,
            &norm.values,
            epsilon,
            &dnormed,
            &mut dmiddle,
            dnorm,
        );
        dmiddle
    }

    /// Attention of every row over the trunk prefix and the own segment it sees.
    fn attention(&self, rows: &Rows, qkv: &[f32]) -> Buffer {
        let heads = self.heads();
        let (stride, words) = (heads.row_width(), heads.block_words());
        let segments: Vec<Segment> = rows.groups.iter().flatten().copied().collect();
        // Where each segment's blocks begin, in blocks of all key-value heads.
        let count = |segment: &Segment| segment.rows.div_ceil(attention::BLOCK);
        let mut starts = Vec::with_capacity(segments.len());
        let mut blocks = 0;
        for segment in &segments {
            starts.push(blocks);
            blocks += count(segment) * heads.kv_heads;
        }
        let mut packed = Buffer::take(blocks * words);
        let shared = Shared(packed.as_mut_ptr());
        let each = |index: usize| (index / heads.kv_heads, index % heads.kv_heads);
        (0..segments.len() * heads.kv_heads)
            .into_par_iter()
            .for_each(|index| {
                let (s, kv_head) = each(index);
                let (segment, own) = (&segments[s], count(&segments[s]));
                // SAFETY: each task writes the blocks of its segment and head.
                let out = unsafe { shared.slice((starts[s] + kv_head * own) * words, own * words) };
                attention::pack(
                    heads,
                    kv_head,
                    &qkv[segment.first * stride..],
                    segment.rows,
                    out,
                );
            });
        let packed = &packed;
        let run = |s: usize, kv_head: usize| {
            let own = count(&segments[s]);
            let from = (starts[s] + kv_head * own) * words;
            Blocks::Run(&packed[from..from + own * words], words)
        };
        // (segment, its group's trunk, first row within the segment).
        let mut tasks = Vec::new();
        let mut index = 0;
        for group in &rows.groups {
            let trunk = index;
            for segment in group {
                let firsts = (0..segment.rows).step_by(heads.rows_per_task());
                tasks.extend(firsts.map(|first| (index, trunk, first)));
                index += 1;
            }
        }
        let mut out = Buffer::take(rows.positions.len() * heads.query_width());
        let shared = Shared(out.as_mut_ptr());
        (0..tasks.len() * heads.kv_heads)
            .into_par_iter()
            .for_each_init(Default::default, |scratch, index| {
                let (task, kv_head) = each(index);
                let (s, trunk, first) = tasks[task];
                let segment = &segments[s];
                let row = segment.first + first;
                let sight = Sight {
                    trunk: run(trunk, kv_head),
                    fork: segment.fork,
                    own: run(s, kv_head),
                    before: first,
                };
                let count = heads.rows_per_task().min(segment.rows - first);
                // SAFETY: each task writes one head of its own rows.
                unsafe {
                    let out = Shared(shared.at(row * heads.query_width()));
                    let queries = &qkv[row * stride..];
                    attention::sequence(heads, kv_head, queries, count, sight, scratch, out);
                }
            });
        out
    }

    /// Gradient of [`Decoder::attention`] by q, k and v.
    fn attention_backward(&self, rows: &Rows, qkv: &[f32], dout: &[f32]) -> Buffer {
        let heads = self.heads();
        let mut dqkv = Buffer::take(qkv.len());
        let shared = Shared(dqkv.as_mut_ptr());
        let spans: Vec<Vec<Span>> = rows
            .groups
            .iter()
            .map(|group| {
                let span = |segment: &Segment| Span {
                    first: segment.first,
                    rows: segment.rows,
                    fork: segment.fork,
                };
                group.iter().map(span).collect()
            })
            .collect();
        let shares: Vec<Share> = spans
            .iter()
            .enumerate()
            .flat_map(|(group, spans)| attention::shares(group, spans))
            .collect();
        // For each share, the parts of all heads.
        let mut parts: Vec<Buffer> = (0..shares.len() * heads.kv_heads)
            .into_par_iter()
            .with_max_len(1)
            .map_init(Default::default, |scratch, index| {
                let (share, kv_head) = (&shares[index / heads.kv_heads], index % heads.kv_heads);
                let spans = &spans[share.group];
                // SAFETY: a task owns the key-value head's columns of its share's rows, and those of
                // the query heads that read it.
                unsafe {
                    attention::share(heads, kv_head, share, spans, qkv, dout, shared, scratch)
                }
            })
            .collect();
        let mut rest = parts.drain(..);
        for shares in shares.chunk_by(|a, b| a.group == b.group) {
            let mut by_head: Vec<Vec<Buffer>> = (0..heads.kv_heads).map(|_| Vec::new()).collect();
            for _ in shares {
                for (head, part) in by_head.iter_mut().zip(rest.by_ref().take(heads.kv_heads)) {
                    head.push(part);
                }
            }
            let trunk = spans[shares[0].group][0];
            for (kv_head, parts) in by_head.into_iter().enumerate() {
                // SAFETY: nothing else runs on these rows any more.
                unsafe { attention::finish(heads, kv_head, trunk, parts, shared) };
            }
        }
        drop(rest);
        dqkv
    }
}
