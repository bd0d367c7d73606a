//! Attention of one query over a trunk's prefix and its own branch, forward and backward.
//!
//! A query sees a list of key rows: first `trunk[..fork]`, then its own branch up to itself. Scores,
//! softmax and the weighted sum run over that list in order, so the result depends neither on where
//! the rows are stored (cache or packed batch) nor on how the list is cut. No tokens x tokens matrix
//! exists: one row of scores at a time.

use super::elementwise::{add_scaled, dot};
use super::softmax::softmax;
use super::{Shared, multiversion};

/// Key or value rows of one head: `rows` rows, `stride` elements apart, `offset` to the head.
#[derive(Clone, Copy)]
pub struct HeadRows<'a> {
    /// The whole buffer, `[.., stride]`.
    pub rows: &'a [f32],
    /// First row.
    pub first: usize,
    /// Number of rows.
    pub count: usize,
    /// Elements from one row to the next.
    pub stride: usize,
    /// First element of the head within a row.
    pub offset: usize,
}

impl<'a> HeadRows<'a> {
    #[inline(always)]
    fn row(&self, i: usize, width: usize) -> &'a [f32] {
        &self.rows[(self.first + i) * self.stride + self.offset..][..width]
    }
}

multiversion! {
    fn scores(query: &[f32], keys: HeadRows<'_>, scale: f32, out: &mut [f32]) {
        for (i, out) in out.iter_mut().enumerate() {
            *out = dot(query, keys.row(i, query.len())) * scale;
        }
    }
}

multiversion! {
    fn mix(weights: &[f32], values: HeadRows<'_>, out: &mut [f32]) {
        let width = out.len();
        for (i, &w) in weights.iter().enumerate() {
            for (o, v) in out.iter_mut().zip(values.row(i, width)) {
                *o += w * v;
            }
        }
    }
}

/// Attention weights of one query, into `weights` (resized to the number of keys).
fn attention_weights(query: &[f32], keys: [HeadRows<'_>; 2], weights: &mut Vec<f32>) {
    let scale = 1.0 / (query.len() as f32).sqrt();
    weights.clear();
    weights.resize(keys[0].count + keys[1].count, 0.0);
    let (first, second) = weights.split_at_mut(keys[0].count);
    scores(query, keys[0], scale, first);
    scores(query, keys[1], scale, second);
    softmax(weights);
}

/// Output of one query head: `out` (`[head_dim]`) is overwritten; `weights` is scratch.
pub fn attend(
    query: &[f32],
    keys: [HeadRows<'_>; 2],
    values: [HeadRows<'_>; 2],
    weights: &mut Vec<f32>,
    out: &mut [f32],
) {
    attention_weights(query, keys, weights);
    out.fill(0.0);
    let (first, second) = weights.split_at(keys[0].count);
    mix(first, values[0], out);
    mix(second, values[1], out);
}

/// Scratch of [`attend_backward`].
#[derive(Default)]
pub struct Scratch {
    weights: Vec<f32>,
    slopes: Vec<f32>,
}

/// Where the gradients of keys or values go: rows laid out like those of [`HeadRows`], writable.
#[derive(Clone, Copy)]
pub(crate) struct GradientRows {
    /// The whole buffer.
    pub(crate) rows: Shared,
    /// Elements from one row to the next.
    pub(crate) stride: usize,
    /// First element of the head within a row.
    pub(crate) offset: usize,
}

impl GradientRows {
    /// # Safety
    /// The calling task alone touches this head's columns of this row.
    #[inline(always)]
    #[expect(clippy::mut_from_ref, reason = "disjointness is the caller's promise")]
    unsafe fn row(&self, row: usize, width: usize) -> &mut [f32] {
        // SAFETY: the caller's promise.
        unsafe { self.rows.slice(row * self.stride + self.offset, width) }
    }
}

/// Gradient of [`attend`] for one query head: overwrites `dquery` and adds to the rows of `dkeys` and
/// `dvalues` of every key seen.
///
/// # Safety
/// The calling task alone touches the head's columns of those rows, and they lie in the buffers.
pub(crate) unsafe fn attend_backward(
    query: &[f32],
    keys_and_values: [[HeadRows<'_>; 2]; 2],
    dout: &[f32],
    scratch: &mut Scratch,
    dquery: &mut [f32],
    gradients: [GradientRows; 2],
) {
    let [keys, values] = keys_and_values;
    attention_weights(query, keys, &mut scratch.weights);
    let trunk = keys[0].count;
    let Scratch { weights, slopes } = scratch;
    slopes.clear();
    slopes.resize(weights.len(), 0.0);
    dquery.fill(0.0);
    scores(dout, values[0], 1.0, &mut slopes[..trunk]);
    scores(dout, values[1], 1.0, &mut slopes[trunk..]);
    score_slopes(weights, slopes, 1.0 / (query.len() as f32).sqrt());
    for (part, range) in [(0, 0..trunk), (1, trunk..weights.len())] {
        let coefficients = [&slopes[range.clone()], &weights[range]];
        spread(coefficients, query, keys[part], dout, dquery, gradients);
    }
}

multiversion! {
    /// Turns the derivatives by the attention weights into derivatives by the scaled dot products.
    fn score_slopes(weights: &[f32], slopes: &mut [f32], scale: f32) {
        let mean = dot(weights, slopes);
        for (slope, weight) in slopes.iter_mut().zip(weights) {
            *slope = weight * (*slope - mean) * scale;
        }
    }
}

multiversion! {
    /// Adds one query's share to its own gradient and to those of the keys and values it sees.
    fn spread(coefficients: [&[f32]; 2], query: &[f32], keys: HeadRows<'_>, dout: &[f32], dquery: &mut [f32], gradients: [GradientRows; 2]) {
        let width = query.len();
        for (i, (&slope, &weight)) in coefficients[0].iter().zip(coefficients[1]).enumerate() {
            // SAFETY: the promise made to `attend_backward`, which alone calls this.
            let (dkey, dvalue) =
                unsafe { (gradients[0].row(keys.first + i, width), gradients[1].row(keys.first + i, width)) };
            add_scaled(dquery, slope, keys.row(i, width));
            add_scaled(dkey, slope, query);
            add_scaled(dvalue, weight, dout);
        }
    }
}
