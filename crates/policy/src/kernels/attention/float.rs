//! Float32 keys and values: blocks of keys `[width][32]`, then of values `[32][width]`.

use super::{Ahead, BLOCK, Blocks, Heads};
use crate::kernels::matmul::float32::Tile;
use crate::kernels::transpose::transpose_floats;

/// Writes the key and value of position `at` into its block.
pub(super) fn store(block: &mut [f32], at: usize, key: &[f32], value: &[f32]) {
    let (keys, values) = block.split_at_mut(BLOCK * key.len());
    for (k, &x) in key.iter().enumerate() {
        keys[k * BLOCK + at] = x;
    }
    values[at * value.len()..][..value.len()].copy_from_slice(value);
}

/// Packs `rows` rows of one head (`stride` apart from `first` on) as `[width][32]`, block by block.
pub(super) fn pack_across(
    rows: &[f32],
    stride: usize,
    count: usize,
    width: usize,
    out: &mut [f32],
    block: usize,
) {
    for (i, start) in (0..count).step_by(BLOCK).enumerate() {
        let size = [BLOCK.min(count - start), width];
        transpose_floats(
            &rows[start * stride..],
            stride,
            size,
            &mut out[i * block..],
            BLOCK,
        );
    }
}

/// Copies `rows` rows of one head as `[32][width]`, block by block.
pub(super) fn pack_along(
    rows: &[f32],
    stride: usize,
    count: usize,
    width: usize,
    out: &mut [f32],
    block: usize,
) {
    for i in 0..count {
        let at = i / BLOCK * block + i % BLOCK * width;
        out[at..at + width].copy_from_slice(&rows[i * stride..][..width]);
    }
}

/// Packs keys and values of one head: `count` rows, as far apart as rows of q, k and v.
pub(super) fn pack(heads: Heads, keys: &[f32], values: &[f32], count: usize, out: &mut [f32]) {
    let (stride, width, block) = (heads.row_width(), heads.width, heads.block_words());
    pack_across(keys, stride, count, width, out, block);
    let out = &mut out[BLOCK * width..];
    pack_along(values, stride, count, width, out, block);
}

/// `out[i][j] = left[i] . keys[j]` for `count` keys held as `[width][32]` from word `first` of each block
/// on; `next` will be read afterwards.
///
/// `left` is `[rows, width]`; rows of `out` are `stride` apart.
#[expect(
    clippy::too_many_arguments,
    reason = "three matrices with their strides"
)]
pub(super) fn scores(
    left: &[f32],
    width: usize,
    blocks: Blocks<'_>,
    first: usize,
    count: usize,
    next: Ahead,
    out: &mut [f32],
    stride: usize,
) {
    let rows = left.len() / width;
    for start in (0..count).step_by(BLOCK) {
        let columns = BLOCK.min(count - start);
        let block = &blocks.block(start / BLOCK)[first..first + BLOCK * width];
        let ahead = match start + BLOCK < count {
            true => blocks.block(start / BLOCK + 1)[first..].as_ptr(),
            false => next.0,
        };
        let out = &mut out[start..];
        debug_assert!((rows - 1) * stride + columns <= out.len());
        // SAFETY: `left` and the block are as large as the sizes say, and so is `out`.
        unsafe {
            Tile {
                a: left.as_ptr(),
                a_strides: [width, 1],
                b: block.as_ptr(),
                b_stride: BLOCK,
                c: out.as_mut_ptr(),
                c_stride: stride,
                depth: width,
                rows,
                columns,
                accumulate: false,
                ahead,
                ahead_every: 1,
            }
            .run();
        }
    }
}

/// `out[i] += sum over j of weights[i][j] * rows[j]` for `count` rows held as `[32][width]` from word
/// `first` of each block on; `next` will be read afterwards. Rows of `weights` are `stride` apart, `out` is
/// `[rows, width]`.
#[expect(
    clippy::too_many_arguments,
    reason = "three matrices with their strides"
)]
pub(super) fn mix(
    weights: &[f32],
    stride: usize,
    blocks: Blocks<'_>,
    first: usize,
    count: usize,
    next: Ahead,
    width: usize,
    out: &mut [f32],
) {
    let rows = out.len() / width;
    for start in (0..count).step_by(BLOCK) {
        let depth = BLOCK.min(count - start);
        let block = &blocks.block(start / BLOCK)[first..first + BLOCK * width];
        debug_assert!((rows - 1) * stride + start + depth <= weights.len());
        let ahead = match start + BLOCK < count {
            true => blocks.block(start / BLOCK + 1)[first..].as_ptr(),
            false => next.0,
        };
        for column in (0..width).step_by(BLOCK) {
            // SAFETY: weights, block and `out` are as large as the sizes say.
            unsafe {
                Tile {
                    a: weights[start..].as_ptr(),
                    a_strides: [stride, 1],
                    b: block[column..].as_ptr(),
                    b_stride: width,
                    c: out[column..].as_mut_ptr(),
                    c_stride: width,
                    depth,
                    rows,
                    columns: BLOCK.min(width - column),
                    accumulate: true,
                    // Each turn asks for its share of the block.
                    ahead: match ahead.is_null() {
                        true => ahead,
                        false => ahead.wrapping_add(column * BLOCK),
                    },
                    ahead_every: 1,
                }
                .run();
            }
        }
    }
}
