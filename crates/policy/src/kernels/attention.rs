//! Attention of one query over a trunk's prefix and its own branch, forward and backward.
//!
//! A query sees a list of key rows: first `trunk[..fork]`, then its own branch up to itself. Scores,
//! softmax and the weighted sum run over that list in order, so the result depends neither on where
//! the rows are stored (cache or packed batch) nor on how the list is cut. No tokens x tokens matrix
//! exists: one row of scores at a time.

use super::elementwise::{add_scaled, dot};
use super::multiversion;
use super::softmax::softmax;

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
            let key = keys.row(i, query.len());
            let mut lanes = [0.0f32; 16];
            for (q, k) in query.chunks(16).zip(key.chunks(16)) {
                for ((lane, q), k) in lanes.iter_mut().zip(q).zip(k) {
                    *lane += q * k;
                }
            }
            *out = lanes.iter().sum::<f32>() * scale;
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

/// Gradient of [`attend`] for one query head: overwrites `dquery` and adds to the gradient rows of every
/// key and value seen, which `gradient_rows(part, row)` hands out.
pub fn attend_backward<'g>(
    query: &[f32],
    keys: [HeadRows<'_>; 2],
    values: [HeadRows<'_>; 2],
    dout: &[f32],
    scratch: &mut Scratch,
    dquery: &mut [f32],
    mut gradient_rows: impl FnMut(usize, usize) -> (&'g mut [f32], &'g mut [f32]),
) {
    let width = query.len();
    let scale = 1.0 / (width as f32).sqrt();
    attention_weights(query, keys, &mut scratch.weights);
    scratch.slopes.clear();
    let mut mean = 0.0;
    let trunk = keys[0].count;
    for (j, &weight) in scratch.weights.iter().enumerate() {
        let value = if j < trunk {
            values[0].row(j, width)
        } else {
            values[1].row(j - trunk, width)
        };
        let slope = dot(dout, value);
        mean += weight * slope;
        scratch.slopes.push(slope);
    }
    dquery.fill(0.0);
    for (j, (&weight, &slope)) in scratch.weights.iter().zip(&scratch.slopes).enumerate() {
        let (part, row) = if j < trunk { (0, j) } else { (1, j - trunk) };
        let (dkey, dvalue) = gradient_rows(part, row);
        let slope = weight * (slope - mean) * scale;
        add_scaled(dquery, slope, keys[part].row(row, width));
        add_scaled(dkey, slope, query);
        add_scaled(dvalue, weight, dout);
    }
}
