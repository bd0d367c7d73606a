//! Whole products of bfloat16 factors by instructions that multiply pairs: AMX and AVX512-BF16.

use super::bfloat16::{
    self, Pairs, Strip, TILE_DEPTH, TILE_ROWS, TILE_WORDS, pack_rows, pair_rows, tiles_of_pairs,
    unit,
};
use super::extremes::{Extremes, RowExtremes};
use super::{Blocks, Left, PANEL, READING, Right, Work, amx, each};
use crate::kernels::Shared;
use crate::kernels::buffers::{self, Buffer};

/// Depth of a panel block in tiles, 48 KiB: it stays in the first-level cache while the rows pass by.
const DEPTH: usize = 24;
/// Most rows of the left factor of one task, which the second-level cache keeps, and what they are a multiple of.
const ROWS: [usize; 2] = [256, 32];
/// Operations below which a product runs on the calling thread.
const SERIAL: usize = 1 << 24;

/// As the product that it is called by, with sizes checked.
pub(super) fn product(
    left: Left<'_>,
    rows: usize,
    b: Right<'_>,
    c: &mut [f32],
    accumulate: bool,
    extremes: Option<&Extremes>,
) {
    let (depth, columns, words) = (b.depth, b.columns, b.words);
    let deep = bfloat16::tiles(depth);
    let tile_stride = deep * TILE_WORDS;
    let mut tiles = buffers::take(rows.div_ceil(TILE_ROWS) * tile_stride);
    pack(left, rows, depth, tiles.pairs_mut());
    let (shared, panels) = (Shared(c.as_mut_ptr()), buffers::words(b.panels));
    let (unit, left) = (unit(), tiles.pairs());
    let serial = 2 * rows * depth * columns < SERIAL;
    let [most, multiple] = ROWS;
    let work = Work {
        rows,
        panels: columns.div_ceil(PANEL),
        most,
        unit: multiple,
        before: [0, READING],
    };
    work.run(serial, |first_row, rows, first_panel, count| {
        let blocks = Blocks {
            panels: first_panel..first_panel + count,
            depth: deep,
            step: DEPTH,
        };
        let _session = amx::Session::open(unit);
        let mut noted = RowExtremes::of(extremes, first_row, rows);
        for first in (0..deep).step_by(DEPTH) {
            for panel in blocks.panels.clone() {
                let at = first_row / TILE_ROWS * tile_stride + first * TILE_WORDS;
                let block = &panels[panel * words + first * 16 * PANEL..];
                let (next, next_first) = blocks.after(panel, first);
                let left = Pairs::tiles(left[at..].as_ptr(), tile_stride);
                // SAFETY: tasks own disjoint tiles of C and start at whole row tiles; sizes were
                // checked by the caller.
                unsafe {
                    Strip {
                        left: bfloat16::Left::Pairs(left),
                        panel: block.as_ptr(),
                        blocks: DEPTH.min(deep - first),
                        ahead: panels
                            .as_ptr()
                            .wrapping_add(next * words + next_first * 16 * PANEL),
                        c: shared.at(first_row * columns + panel * PANEL),
                        c_stride: columns,
                        rows,
                        columns: PANEL.min(columns - panel * PANEL),
                        accumulate: accumulate || first > 0,
                    }
                    .run(unit);
                    if first + DEPTH >= deep {
                        noted.panel(shared, columns, panel);
                    }
                }
            }
        }
    });
    buffers::give_back(tiles);
}

/// Rounds the left factor into tiles.
fn pack(left: Left<'_>, rows: usize, depth: usize, tiles: &mut [u32]) {
    let blocks = bfloat16::tiles(depth);
    let tile_stride = blocks * TILE_WORDS;
    let shared = Shared(tiles.as_mut_ptr());
    match left {
        Left::Rows(a) => each(
            rows.div_ceil(TILE_ROWS),
            rows * depth,
            || (),
            |(), tile| {
                let first = tile * TILE_ROWS;
                let a = &a[first * depth..(first + TILE_ROWS).min(rows) * depth];
                // SAFETY: each task writes its own tiles.
                let out = unsafe { shared.slice(tile * tile_stride, tile_stride) };
                pack_rows(a, depth, out);
            },
        ),
        Left::Columns { values, stride, .. } => {
            each(
                blocks,
                rows * depth,
                Buffer::default,
                |pairs: &mut Buffer, block| {
                    let first = block * TILE_DEPTH;
                    let count = TILE_DEPTH.min(depth - first);
                    pairs.reset(16 * rows);
                    let pairs = pairs.pairs_mut();
                    let values = &values[first * stride..];
                    pair_rows(values, stride, count, rows, rows, pairs);
                    // SAFETY: each task writes its own block of each row tile.
                    unsafe {
                        let out = Shared(shared.at(block * TILE_WORDS));
                        tiles_of_pairs(pairs, rows, out, tile_stride);
                    }
                },
            );
        }
    }
}
