//! RMS norm, rotary embedding, SwiGLU and bias, forward and backward, row by row.

use super::softmax::{exp, total};
use super::{Shared, multiversion};
use rayon::prelude::*;

/// Elements below which a pass runs on the calling thread.
const SERIAL_ELEMENTS: usize = 1 << 15;

/// Runs `work` on each row of `out`, on several threads if there is enough to do.
fn each_row(out: &mut [f32], width: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
    if out.len() < SERIAL_ELEMENTS {
        out.chunks_mut(width)
            .enumerate()
            .for_each(|(i, row)| work(i, row));
    } else {
        out.par_chunks_mut(width)
            .with_min_len(8)
            .enumerate()
            .for_each(|(i, row)| work(i, row));
    }
}

/// Dot product in 16 partial sums.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 16];
    let (ca, cb) = (a.chunks_exact(16), b.chunks_exact(16));
    let (ra, rb) = (ca.remainder(), cb.remainder());
    for (x, y) in ca.zip(cb) {
        for ((lane, x), y) in lanes.iter_mut().zip(x).zip(y) {
            *lane += x * y;
        }
    }
    total(lanes) + ra.iter().zip(rb).map(|(x, y)| x * y).sum::<f32>()
}

multiversion! {
    fn norm_row(x: &[f32], weight: &[f32], epsilon: f32, y: &mut [f32]) {
        let mut lanes = [0.0f32; 16];
        for chunk in x.chunks(16) {
            for (lane, v) in lanes.iter_mut().zip(chunk) {
                *lane += v * v;
            }
        }
        let inverse = 1.0 / (total(lanes) / x.len() as f32 + epsilon).sqrt();
        for ((y, x), w) in y.iter_mut().zip(x).zip(weight) {
            *y = x * inverse * w;
        }
    }
}

/// RMS norm of each row of width `weight.len()`: `y = x / sqrt(mean(x^2) + epsilon) * weight`.
pub fn rms_norm(x: &[f32], weight: &[f32], epsilon: f32, y: &mut [f32]) {
    let width = weight.len();
    each_row(y, width, |i, y| {
        norm_row(&x[i * width..(i + 1) * width], weight, epsilon, y)
    });
}

multiversion! {
    fn norm_row_backward(x: &[f32], weight: &[f32], epsilon: f32, dy: &[f32], dx: &mut [f32]) {
        let (mut square, mut along) = ([0.0f32; 16], [0.0f32; 16]);
        for ((x, w), dy) in x.chunks(16).zip(weight.chunks(16)).zip(dy.chunks(16)) {
            for (l, ((x, w), dy)) in x.iter().zip(w).zip(dy).enumerate() {
                square[l] += x * x;
                along[l] += dy * w * x;
            }
        }
        let width = x.len() as f32;
        let inverse = 1.0 / (total(square) / width + epsilon).sqrt();
        let slope = total(along) * inverse * inverse * inverse / width;
        for (((dx, x), w), dy) in dx.iter_mut().zip(x).zip(weight).zip(dy) {
            *dx += dy * w * inverse - x * slope;
        }
    }
}

/// Gradient of [`rms_norm`]: adds to `dx` and to `dweight`.
pub fn rms_norm_backward(
    x: &[f32],
    weight: &[f32],
    epsilon: f32,
    dy: &[f32],
    dx: &mut [f32],
    dweight: &mut [f32],
) {
    let width = weight.len();
    each_row(dx, width, |i, dx| {
        let at = i * width..(i + 1) * width;
        norm_row_backward(&x[at.clone()], weight, epsilon, &dy[at], dx);
    });
    norm_weight_backward(x, epsilon, dy, dweight);
}

multiversion! {
    fn norm_weight_backward(x: &[f32], epsilon: f32, dy: &[f32], dweight: &mut [f32]) {
        let width = dweight.len();
        for (x, dy) in x.chunks_exact(width).zip(dy.chunks_exact(width)) {
            let inverse = 1.0 / (dot(x, x) / width as f32 + epsilon).sqrt();
            for ((dw, x), dy) in dweight.iter_mut().zip(x).zip(dy) {
                *dw += dy * x * inverse;
            }
        }
    }
}

/// Cosines and sines of every (position, pair): the rotary embedding's table.
#[derive(Clone, Debug)]
pub struct Rotary {
    half: usize,
    cosines: Vec<f32>,
    sines: Vec<f32>,
}

impl Rotary {
    /// A table for positions `0..positions` with the given inverse frequencies (`[head_dim / 2]`).
    pub fn new(frequencies: &[f32], positions: usize) -> Self {
        let angles =
            (0..positions).flat_map(|p| frequencies.iter().map(move |&f| p as f64 * f64::from(f)));
        let (sines, cosines) = angles.map(|a| (a.sin() as f32, a.cos() as f32)).unzip();
        Self {
            half: frequencies.len(),
            cosines,
            sines,
        }
    }

    /// Positions in the table.
    pub fn positions(&self) -> usize {
        self.cosines.len() / self.half.max(1)
    }

    /// Rotates each head of each row of `x` (`[rows, heads * head_dim]`, halves paired as in Hugging
    /// Face) to its position; `sign` 1 forward, -1 backward (the inverse rotation).
    pub fn rotate(&self, x: &mut [f32], width: usize, positions: &[usize], sign: f32) {
        let half = self.half;
        each_row(x, width, |i, row| {
            let at = positions[i] * half;
            let (cosines, sines) = (&self.cosines[at..at + half], &self.sines[at..at + half]);
            for head in row.chunks_exact_mut(2 * half) {
                let (low, high) = head.split_at_mut(half);
                for (((a, b), &c), &s) in low.iter_mut().zip(high).zip(cosines).zip(sines) {
                    let (x, y) = (*a, *b);
                    *a = x * c - y * (s * sign);
                    *b = y * c + x * (s * sign);
                }
            }
        });
    }
}

multiversion! {
    fn swiglu_row(gate: &[f32], up: &[f32], out: &mut [f32]) {
        for ((out, &g), &u) in out.iter_mut().zip(gate).zip(up) {
            *out = g / (1.0 + exp(-g)) * u;
        }
    }
}

/// `out = silu(gate) * up`, element by element.
pub fn swiglu(gate: &[f32], up: &[f32], out: &mut [f32]) {
    const BLOCK: usize = 4096;
    each_row(out, BLOCK, |i, out| {
        let at = i * BLOCK..i * BLOCK + out.len();
        swiglu_row(&gate[at.clone()], &up[at], out);
    });
}

multiversion! {
    fn swiglu_row_backward(gate: &mut [f32], up: &mut [f32], dout: &[f32]) {
        for ((g, u), &d) in gate.iter_mut().zip(up).zip(dout) {
            let sigmoid = 1.0 / (1.0 + exp(-*g));
            let silu = *g * sigmoid;
            let dgate = d * *u * (sigmoid + silu * (1.0 - sigmoid));
            *u = d * silu;
            *g = dgate;
        }
    }
}

/// Gradient of [`swiglu`]: replaces `gate` and `up` by their gradients.
pub fn swiglu_backward(gate: &mut [f32], up: &mut [f32], dout: &[f32]) {
    const BLOCK: usize = 4096;
    let shared = Shared(up.as_mut_ptr());
    each_row(gate, BLOCK, |i, gate| {
        // SAFETY: block i of `up` belongs to this call alone.
        let up = unsafe { shared.slice(i * BLOCK, gate.len()) };
        swiglu_row_backward(gate, up, &dout[i * BLOCK..i * BLOCK + gate.len()]);
    });
}

multiversion! {
    /// `y += x`.
    pub fn add(y: &mut [f32], x: &[f32]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y += x;
        }
    }
}

/// `y += scale * x`.
#[inline(always)]
pub(crate) fn add_scaled(y: &mut [f32], scale: f32, x: &[f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += scale * x;
    }
}

/// Adds `bias` to each row.
pub fn add_bias(y: &mut [f32], bias: &[f32]) {
    each_row(y, bias.len(), |_, row| add(row, bias));
}

/// Adds the rows of `dy` to `dbias`.
pub fn add_bias_backward(dy: &[f32], dbias: &mut [f32]) {
    for row in dy.chunks_exact(dbias.len()) {
        add(dbias, row);
    }
}
