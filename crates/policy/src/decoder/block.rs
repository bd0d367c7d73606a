//! One transformer block over the rows of a micro-batch, forward and backward.

use super::host::HostDecoder;
use super::tree::Rows;
use super::weights::{BlockWeights, Linear};
use crate::kernels::attention;
use crate::kernels::buffers::Buffer;
use crate::kernels::elementwise::{
    add_bias, add_bias_backward, add_rows, head_norms, head_norms_backward, rms_norm_backward,
    swiglu, swiglu_backward,
};
use crate::kernels::matmul::{Compute, bfloat16::round_all};
use crate::kernels::resting::Resting;
use crate::kernels::team;

/// Elements that one task rounds.
const ROUNDED: usize = 1 << 14;

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

    /// Rounds it as [`Tape::rest`] does, where it is.
    pub(crate) fn rounded(mut self, compute: Compute) -> Self {
        if compute == Compute::Bf16 {
            let matrices = [&mut self.qkv, &mut self.attended, &mut self.gate_up];
            for matrix in matrices.into_iter().chain(&mut self.raw) {
                team::each_chunk(matrix, ROUNDED, |_, part| round_all(part));
            }
        }
        self
    }

    /// Lays it by until the backward pass.
    pub(crate) fn rest(self, compute: Compute) -> RestingTape {
        let whole = |matrix: &Buffer| Resting::new(matrix, Compute::F32);
        let rest = |matrix: &Buffer| Resting::new(matrix, compute);
        RestingTape {
            input: whole(&self.input),
            qkv: rest(&self.qkv),
            raw: self.raw.as_ref().map(rest),
            attended: rest(&self.attended),
            middle: whole(&self.middle),
            gate_up: rest(&self.gate_up),
        }
    }
}

/// A [`Tape`] between the passes. In bfloat16 what products made and will read is rounded: factors of products would be
/// rounded anyway, keys and values have been, and SwiGLU's slope loses no more than its input's products did. Queries are
/// rounded before the scale of the scores as well as after it: the same bits where that is a power of two (heads of 16,
/// 64, 256), else one rounding more than the forward pass had. What the blocks add up stays float32.
pub(crate) struct RestingTape {
    input: Resting,
    qkv: Resting,
    raw: Option<Resting>,
    attended: Resting,
    middle: Resting,
    gate_up: Resting,
}

impl RestingTape {
    pub(crate) fn wake(self) -> Tape {
        Tape {
            input: self.input.wake(),
            qkv: self.qkv.wake(),
            raw: self.raw.map(Resting::wake),
            attended: self.attended.wake(),
            middle: self.middle.wake(),
            gate_up: self.gate_up.wake(),
        }
    }
}

fn product(x: &[f32], linear: &Linear) -> Buffer {
    let mut y = Buffer::take(x.len() / linear.depth * linear.out);
    linear.apply(x, &mut y);
    y
}

impl HostDecoder {
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
        let heads = self.heads();
        let mut attended = Buffer::take(rows.positions.len() * heads.query_width());
        attention::groups(heads, &rows.groups, &qkv, &mut attended);
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
        let mut dqkv = Buffer::take(tape.qkv.len());
        attention::groups_backward(self.heads(), &rows.groups, &tape.qkv, &dattended, &mut dqkv);
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
}
