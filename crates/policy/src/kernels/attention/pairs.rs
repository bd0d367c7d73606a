//! Keys and values rounded to bfloat16: a block of keys is a panel `[width / 2 pairs][32 positions]`, one of
//! values a panel `[16 pairs of positions][32]` for each 32 columns; widths are padded with zeros to a
//! multiple of 32. Sums are float32, in the order of the processor's instruction ([`bfloat16`]); the
//! weighted values are summed block by block, so a sum's bits depend on where blocks begin: with the trunk,
//! and with the branch.

use super::{Ahead, BLOCK, Blocks, Heads};
use crate::kernels::buffers::{Buffer, words};
use crate::kernels::matmul::bfloat16::{
    Left, PANEL, Pairs, Strip, TILE_ROWS, Unit, pair, pair_rows, round, round_row, tiles, unit,
};
use crate::kernels::matmul::floats::{copy_lines, line_stride};
use crate::kernels::transpose::transpose;

/// Words of a panel that is one tile deep.
const PANEL_WORDS: usize = 16 * PANEL;

/// Words of a block's keys, and of its values.
pub(super) fn half_words(width: usize) -> usize {
    tiles(width) * PANEL_WORDS
}

/// Writes the key and value of position `at` into its block; positions are written in their order, into
/// a block of zeros.
pub(super) fn store(block: &mut [u32], at: usize, key: &[f32], value: &[f32]) {
    let (keys, values) = block.split_at_mut(half_words(key.len()));
    let (whole, rest) = key.as_chunks::<2>();
    let lines = keys.chunks_exact_mut(BLOCK);
    let last = rest.iter().map(|&low| [low, 0.0]);
    for (line, [low, high]) in lines.zip(whole.iter().copied().chain(last)) {
        line[at] = pair(low, high);
    }
    for (panel, value) in values
        .chunks_exact_mut(PANEL_WORDS)
        .zip(value.chunks(PANEL))
    {
        let line = &mut panel[at / 2 * PANEL..][..value.len()];
        for (word, &x) in line.iter_mut().zip(value) {
            *word = match at % 2 {
                0 => round(x) >> 16,
                _ => (*word & 0xffff) | round(x),
            };
        }
    }
}

/// Packs keys and values of one head: `count` rows, as far apart as rows of q, k and v.
pub(super) fn pack(heads: Heads, keys: &[f32], values: &[f32], count: usize, out: &mut [u32]) {
    let (stride, width) = (heads.row_width(), heads.width);
    let pairs = tiles(width) * 16;
    let mut rounded = Buffer::zeros(BLOCK * pairs);
    let rounded = rounded.pairs_mut();
    let blocks = out.chunks_exact_mut(heads.block_words());
    for (start, block) in (0..count).step_by(BLOCK).zip(blocks) {
        let rows = BLOCK.min(count - start);
        let (key_panel, value_panels) = block.split_at_mut(half_words(width));
        for (line, key) in rounded
            .chunks_exact_mut(pairs)
            .zip(keys[start * stride..].chunks(stride))
            .take(rows)
        {
            round_row(&key[..width], line);
        }
        transpose(rounded, pairs, [rows, pairs], key_panel, BLOCK);
        let values = &values[start * stride..];
        for (column, panel) in value_panels.chunks_exact_mut(PANEL_WORDS).enumerate() {
            let first = column * PANEL;
            let columns = PANEL.min(width - first);
            pair_rows(&values[first..], stride, rows, columns, PANEL, panel);
        }
    }
}

/// Rounds `rows` rows of `width` values, `stride` apart, as a left factor that may begin at any row.
pub(super) fn left(
    values: &[f32],
    stride: usize,
    rows: usize,
    width: usize,
    rounded: &mut Buffer,
) -> Left {
    if unit() == Unit::Wide {
        let line = line_stride(width);
        rounded.reset(rows * line);
        copy_lines(values, stride, width, true, rounded);
        return Left::Floats {
            values: rounded.as_ptr(),
            stride: line,
        };
    }
    let pairs = tiles(width) * 16;
    // A tile is read whole from any row on.
    rounded.reset((rows + TILE_ROWS - 1) * pairs);
    let rounded = rounded.pairs_mut();
    // A trunk of which nothing is seen has no columns.
    let lines = values.chunks(stride.max(1)).take(rows);
    for (out, line) in rounded.chunks_exact_mut(pairs.max(1)).zip(lines) {
        let (out, padding) = out.split_at_mut(width.div_ceil(2));
        round_row(&line[..width], out);
        padding.fill(0);
    }
    Left::Pairs(Pairs::rows(rounded.as_ptr(), pairs))
}

/// `out[i][j] = left[i] . keys[j]` for the first `count` keys; `next` will be read afterwards. Rows of `out`
/// are `stride` apart. A session of matrix registers is open on this thread.
#[expect(
    clippy::too_many_arguments,
    reason = "three matrices with their strides"
)]
pub(super) fn scores(
    left: Left,
    rows: usize,
    width: usize,
    blocks: Blocks<'_>,
    count: usize,
    next: Ahead,
    out: &mut [f32],
    stride: usize,
) {
    let unit = unit();
    for start in (0..count).step_by(BLOCK) {
        let columns = BLOCK.min(count - start);
        let panel = &words(blocks.block(start / BLOCK))[..half_words(width)];
        let ahead = match start + BLOCK < count {
            true => blocks.block(start / BLOCK + 1).as_ptr(),
            false => next.0,
        };
        let out = &mut out[start..];
        debug_assert!((rows - 1) * stride + columns <= out.len());
        // SAFETY: the left factor and the panel are as large as the sizes say, and so is `out`.
        unsafe {
            Strip {
                left,
                panel: panel.as_ptr(),
                blocks: tiles(width),
                ahead: ahead.cast(),
                c: out.as_mut_ptr(),
                c_stride: stride,
                rows,
                columns,
                accumulate: false,
            }
            .run(unit);
        }
    }
}

/// `out[i] += sum over j of weights[i][j] * values[j]` for the first `count` values; `next` will be read
/// afterwards. The weights behind `count` are zeros up to a whole block, `out` is `[rows, width]`. A session
/// of matrix registers is open on this thread.
pub(super) fn mix(
    weights: Left,
    rows: usize,
    width: usize,
    blocks: Blocks<'_>,
    count: usize,
    next: Ahead,
    out: &mut [f32],
) {
    let (unit, first) = (unit(), half_words(width));
    debug_assert!(rows * width <= out.len());
    for index in 0..count.div_ceil(BLOCK) {
        let values = &words(blocks.block(index))[first..2 * first];
        let ahead = match (index + 1) * BLOCK < count {
            true => blocks.block(index + 1)[first..].as_ptr(),
            false => next.0,
        };
        let left = weights.at_block(index);
        for (column, panel) in values.chunks_exact(PANEL_WORDS).enumerate() {
            // SAFETY: weights, block and `out` are as large as the sizes say.
            unsafe {
                Strip {
                    left,
                    panel: panel.as_ptr(),
                    blocks: 1,
                    // Each turn asks for its share of the block.
                    ahead: match ahead.is_null() {
                        true => ahead.cast(),
                        false => ahead.wrapping_add(column * PANEL_WORDS).cast(),
                    },
                    c: out[column * PANEL..].as_mut_ptr(),
                    c_stride: width,
                    rows,
                    columns: PANEL.min(width - column * PANEL),
                    accumulate: true,
                }
                .run(unit);
            }
        }
    }
}
