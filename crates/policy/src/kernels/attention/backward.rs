//! Gradients of attention for one group and one key-value head.

use super::float::{mix, pack_across, pack_along, scores};
use super::{Ahead, BLOCK, Blocks, Compute, Heads, Left, Sight, Span, Weights, gather};
use crate::kernels::buffers::Buffer;
use crate::kernels::elementwise::{add, dot};
use crate::kernels::matmul::bfloat16::round_all;
use crate::kernels::matmul::float32::Tile;
use crate::kernels::{Shared, multiversion};
use std::ops::Range;

/// Work memory of a task.
#[derive(Default)]
pub(super) struct Scratch {
    trunk: Sequence,
    branch: Sequence,
    queries: Buffer,
    douts: Buffer,
    dqueries: Buffer,
    weights: Weights,
    slopes: Weights,
}

/// A sequence's keys and values for the backward pass, and their gradients.
#[derive(Default)]
struct Sequence {
    /// Blocks of keys `[width][32]`, keys `[32][width]` and values `[width][32]`.
    packed: Buffer,
    /// Blocks of gradients of keys and of values, `[32][width]` each.
    gradients: Buffer,
}

impl Sequence {
    fn pack(&mut self, heads: Heads, kv_head: usize, rows: &[f32], count: usize) {
        let (stride, width) = (heads.row_width(), heads.width);
        let (blocks, one) = (count.div_ceil(BLOCK), BLOCK * width);
        self.packed.reset(3 * one * blocks);
        self.gradients.reset_to_zeros(2 * one * blocks);
        if count > 0 {
            let [_, key, value] = heads.offsets(kv_head);
            pack_across(
                &rows[key..],
                stride,
                count,
                width,
                &mut self.packed,
                3 * one,
            );
            pack_along(
                &rows[key..],
                stride,
                count,
                width,
                &mut self.packed[one..],
                3 * one,
            );
            let values = &mut self.packed[2 * one..];
            pack_across(&rows[value..], stride, count, width, values, 3 * one);
            if heads.compute == Compute::Bf16 {
                // What the forward pass multiplied, so that its weights come out again.
                round_all(&mut self.packed);
            }
        }
    }

    fn blocks(&self, heads: Heads) -> Blocks<'_> {
        Blocks::Run(&self.packed, 3 * BLOCK * heads.width)
    }

    /// Adds the share of a block of queries to the gradients of the first `count` keys and values.
    fn add(&mut self, heads: Heads, count: usize, shares: [(&[f32], &[f32]); 2]) {
        let width = heads.width;
        for (part, (coefficients, rows)) in shares.into_iter().enumerate() {
            let queries = rows.len() / width;
            for start in (0..count).step_by(BLOCK) {
                let keys = BLOCK.min(count - start);
                let at = (2 * (start / BLOCK) + part) * BLOCK * width;
                let block = &mut self.gradients[at..at + BLOCK * width];
                debug_assert!(queries * count <= coefficients.len());
                for column in (0..width).step_by(BLOCK) {
                    // SAFETY: `coefficients` is `[queries, count]`, `rows` `[queries, width]`, the block
                    // `[32, width]`.
                    unsafe {
                        Tile {
                            a: coefficients[start..].as_ptr(),
                            a_strides: [1, count],
                            b: rows[column..].as_ptr(),
                            b_stride: width,
                            c: block[column..].as_mut_ptr(),
                            c_stride: width,
                            depth: queries,
                            rows: keys,
                            columns: BLOCK.min(width - column),
                            accumulate: true,
                            ahead: std::ptr::null(),
                            ahead_every: 1,
                        }
                        .run();
                    }
                }
            }
        }
    }
}

/// Rows of branches whose shares of their trunk's gradient are summed before they join those of other
/// branches: part of the order of the sum, whatever the number of threads.
const ROWS_PER_SHARE: usize = 1024;

/// Sequences of a group that one task handles: a range of its spans, the first of which is the trunk.
#[derive(Clone, Debug)]
pub(super) struct Share {
    pub(super) group: usize,
    spans: Range<usize>,
}

/// Cuts a group's spans into shares of about as many rows.
pub(super) fn shares(group: usize, spans: &[Span]) -> Vec<Share> {
    let mut shares = Vec::new();
    let (mut first, mut rows) = (0, 0);
    for (i, span) in spans.iter().enumerate() {
        rows += span.rows;
        if rows >= ROWS_PER_SHARE || i + 1 == spans.len() {
            shares.push(Share {
                group,
                spans: first..i + 1,
            });
            (first, rows) = (i + 1, 0);
        }
    }
    shares
}

/// Gradients by queries, keys and values of a share of a group, for one key-value head: `spans` are the
/// group's sequences, trunk first; `rows` and `drows` are q, k and v and their gradients
/// (`[.., row_width]`), `dout` is the gradient of the output (`[.., query_width]`). Overwrites the head's
/// columns of the share's rows in `drows`, but for keys and values of the trunk: the share's part of
/// those is returned, for [`finish`].
///
/// # Safety
/// The spans lie in the buffers, and the calling task alone touches the head's columns of their rows.
#[expect(
    clippy::too_many_arguments,
    reason = "what attention saw, and where to"
)]
pub(super) unsafe fn share(
    heads: Heads,
    kv_head: usize,
    share: &Share,
    spans: &[Span],
    rows: &[f32],
    dout: &[f32],
    drows: Shared<f32>,
    scratch: &mut Scratch,
) -> Buffer {
    let trunk = spans[0];
    let stride = heads.row_width();
    scratch
        .trunk
        .pack(heads, kv_head, &rows[trunk.first * stride..], trunk.rows);
    for index in share.spans.clone() {
        let (span, alone) = (spans[index], index == 0);
        if span.rows == 0 {
            continue;
        }
        if !alone {
            let rows = &rows[span.first * stride..];
            scratch.branch.pack(heads, kv_head, rows, span.rows);
        }
        for first in (0..span.rows).step_by(heads.rows_per_task()) {
            let count = heads.rows_per_task().min(span.rows - first);
            scratch.block(heads, kv_head, span, alone, [first, count], rows, dout);
            let own = heads.per_kv * heads.width;
            let [column, ..] = heads.offsets(kv_head);
            for (i, row) in scratch.dqueries.chunks_exact(own).enumerate() {
                // SAFETY: the caller's promise.
                let out = unsafe { drows.slice((span.first + first + i) * stride + column, own) };
                for (out, x) in out.iter_mut().zip(row) {
                    *out = x * heads.scale();
                }
            }
        }
        if !alone {
            let gradients = &scratch.branch.gradients;
            // SAFETY: the caller's promise.
            unsafe { write(heads, kv_head, span, gradients, drows) };
        }
    }
    std::mem::take(&mut scratch.trunk.gradients)
}

/// Sums what the shares of one group returned, in their order, and writes the trunk's gradients.
///
/// # Safety
/// As [`share`], for the trunk's rows.
pub(super) unsafe fn finish(
    heads: Heads,
    kv_head: usize,
    trunk: Span,
    mut parts: Vec<Buffer>,
    drows: Shared<f32>,
) {
    let Some((sum, rest)) = parts.split_first_mut() else {
        return;
    };
    for part in rest {
        add(sum, part);
    }
    // SAFETY: the caller's promise.
    unsafe { write(heads, kv_head, trunk, sum, drows) };
}

/// Writes blocks of gradients to a span's columns of keys and values.
///
/// # Safety
/// The rows lie in the buffer, and the calling task alone touches the head's columns of them.
unsafe fn write(heads: Heads, kv_head: usize, span: Span, gradients: &[f32], drows: Shared<f32>) {
    let (stride, width) = (heads.row_width(), heads.width);
    let [_, key, value] = heads.offsets(kv_head);
    for i in 0..span.rows {
        for (part, column) in [key, value].into_iter().enumerate() {
            let at = (2 * (i / BLOCK) + part) * BLOCK * width + i % BLOCK * width;
            // SAFETY: the caller's promise.
            let out = unsafe { drows.slice((span.first + i) * stride + column, width) };
            out.copy_from_slice(&gradients[at..at + width]);
        }
    }
}

impl Scratch {
    /// One block of queries: leaves the gradients of the queries (but for the softmax scale) in
    /// `dqueries` and adds to those of keys and values. `alone` for the trunk itself.
    #[expect(clippy::too_many_arguments, reason = "the place of the block")]
    fn block(
        &mut self,
        heads: Heads,
        kv_head: usize,
        span: Span,
        alone: bool,
        [first, count]: [usize; 2],
        rows: &[f32],
        dout: &[f32],
    ) {
        let (width, one) = (heads.width, BLOCK * heads.width);
        let start = span.first + first;
        let (stride, out_stride) = (heads.row_width(), heads.query_width());
        let (queries, douts) = (&rows[start * stride..], &dout[start * out_stride..]);
        gather(
            heads,
            kv_head,
            queries,
            stride,
            count,
            heads.scale(),
            &mut self.queries,
        );
        if heads.compute == Compute::Bf16 {
            round_all(&mut self.queries);
        }
        gather(
            heads,
            kv_head,
            douts,
            out_stride,
            count,
            1.0,
            &mut self.douts,
        );
        let own = if alone { &self.trunk } else { &self.branch };
        let sight = Sight {
            trunk: self.trunk.blocks(heads),
            fork: span.fork,
            own: own.blocks(heads),
            before: first,
        };
        let (fork, reach) = (span.fork, sight.reach(count));
        let left = Left::Floats(&self.queries, width);
        self.weights.compute(heads, left, count, sight);
        let (weights, slopes) = (&self.weights, &mut self.slopes);
        slopes.trunk.reset(weights.trunk.len());
        slopes.own.reset(weights.own.len());
        scores(
            &self.douts,
            width,
            sight.trunk,
            2 * one,
            fork,
            Ahead::NOTHING,
            &mut slopes.trunk,
            fork,
        );
        scores(
            &self.douts,
            width,
            sight.own,
            2 * one,
            reach,
            Ahead::NOTHING,
            &mut slopes.own,
            reach,
        );
        for i in 0..count * heads.per_kv {
            let (t, o) = (i * fork..(i + 1) * fork, i * reach..(i + 1) * reach);
            score_slopes(
                [&weights.trunk[t.clone()], &weights.own[o.clone()]],
                [&mut slopes.trunk[t], &mut slopes.own[o]],
            );
        }
        self.dqueries.reset_to_zeros(self.queries.len());
        mix(
            &slopes.trunk,
            fork,
            sight.trunk,
            one,
            fork,
            Ahead::NOTHING,
            width,
            &mut self.dqueries,
        );
        mix(
            &slopes.own,
            reach,
            sight.own,
            one,
            reach,
            Ahead::NOTHING,
            width,
            &mut self.dqueries,
        );
        self.trunk.add(
            heads,
            fork,
            [
                (&slopes.trunk, &self.queries),
                (&weights.trunk, &self.douts),
            ],
        );
        let own = if alone {
            &mut self.trunk
        } else {
            &mut self.branch
        };
        own.add(
            heads,
            reach,
            [(&slopes.own, &self.queries), (&weights.own, &self.douts)],
        );
    }
}

multiversion! {
    /// Turns the derivatives by the attention weights into derivatives by the scores.
    fn score_slopes(weights: [&[f32]; 2], slopes: [&mut [f32]; 2]) {
        let mean = dot(weights[0], slopes[0]) + dot(weights[1], slopes[1]);
        for (weights, slopes) in weights.into_iter().zip(slopes) {
            for (slope, weight) in slopes.iter_mut().zip(weights) {
                *slope = weight * (*slope - mean);
            }
        }
    }
}
