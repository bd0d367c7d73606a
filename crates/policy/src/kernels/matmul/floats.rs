//! Whole products by float32 multiply-adds: of float32 factors, and of bfloat16 factors where that is the fastest way
//! to multiply them ([`Unit::Wide`](super::bfloat16::Unit::Wide)).

use super::bfloat16::{self, Strip, TILE_DEPTH, Unit};
use super::extremes::{Extremes, RowExtremes};
use super::float32::{HEIGHT, Tile};
use super::{Blocks, Compute, Left, PANEL, READING, Right, Work, each, wide};
use crate::kernels::buffers::{Buffer, words};
use crate::kernels::{Shared, multiversion};

/// Most depth of a block of a panel, over which the rows pass: 48 KiB of float32; 72 KiB of pairs that are widened once,
/// of which the second-level cache gives what the first cannot hold in time; 48 KiB of pairs that are widened in
/// registers. Less depth reads and writes sums more often, and was slower.
const DEPTH: usize = 384;
const DEPTH_WIDENED: usize = 576;
const DEPTH_IN_PAIRS: usize = 768;
/// Rows from which on widening a panel once beats doing it in registers for every [`HEIGHT`] of them.
const WIDENED_ROWS: usize = 4 * HEIGHT;
/// Most rows of the left factor of one task, which the second-level cache keeps.
const ROWS: usize = 20 * HEIGHT;
/// What else a task does for each row and panel before it multiplies, as [`READING`].
const COPYING: usize = 1;
const WIDENING: usize = 3;
/// Lines that one task copies.
const LINES: usize = 16;
/// Operations below which a product runs on the calling thread.
const SERIAL: usize = 1 << 22;

/// How a block of a panel is multiplied.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// As it is, float32.
    Floats,
    /// Pairs, widened once for all rows of a task.
    Widened,
    /// Pairs, widened in registers.
    InPairs,
}

impl Way {
    fn of(compute: Compute, rows: usize, transposed: bool) -> Self {
        match compute {
            Compute::F32 => Way::Floats,
            Compute::Bf16 if transposed || rows >= WIDENED_ROWS => Way::Widened,
            Compute::Bf16 => Way::InPairs,
        }
    }

    /// Depth of a block.
    fn step(self, depth: usize) -> usize {
        // Even depths, so that no block is a remnant.
        let even = |most: usize| depth.div_ceil(depth.div_ceil(most));
        match self {
            Way::Floats => even(DEPTH),
            Way::Widened => even(DEPTH_WIDENED).next_multiple_of(TILE_DEPTH),
            Way::InPairs => DEPTH_IN_PAIRS,
        }
    }

    /// What a task does for each panel before it multiplies.
    fn before(self) -> usize {
        match self {
            // Twice as long as one of pairs.
            Way::Floats => 2 * READING,
            Way::Widened => READING + WIDENING,
            Way::InPairs => READING,
        }
    }
}

/// As the product that it is called by, with sizes checked.
pub(super) fn product(
    left: Left<'_>,
    rows: usize,
    b: Right<'_>,
    c: &mut [f32],
    accumulate: bool,
    extremes: Option<&Extremes>,
) {
    let (depth, columns) = (b.depth, b.columns);
    let shared = Shared(c.as_mut_ptr());
    let (rounds, transposed) = (
        b.compute == Compute::Bf16,
        matches!(left, Left::Columns { .. }),
    );
    let way = Way::of(b.compute, rows, transposed);
    let step = way.step(depth);
    let mut copy = Buffer::default();
    let left = match left {
        Left::Rows(a) if rounds || depth.is_multiple_of(512) => {
            Factor::copied(a, depth, rounds, &mut copy)
        }
        Left::Rows(a) => Factor {
            values: a,
            strides: [depth, 1],
        },
        Left::Columns { values, stride, .. } => Factor {
            values,
            strides: [1, stride],
        },
    };
    let work = Work {
        rows,
        panels: columns.div_ceil(PANEL),
        most: ROWS,
        unit: HEIGHT,
        before: [if transposed { COPYING } else { 0 }, way.before()],
    };
    let serial = 2 * rows * depth * columns < SERIAL;
    work.run(serial, |first_row, rows, first_panel, count| {
        let blocks = Blocks {
            panels: first_panel..first_panel + count,
            depth,
            step,
        };
        let (mut copy, mut widened) = (Buffer::default(), Buffer::default());
        let mut noted = RowExtremes::of(extremes, first_row, rows);
        for first_k in (0..depth).step_by(step) {
            let k = step.min(depth - first_k);
            let mut left = left.from(first_row, first_k);
            if transposed {
                left = left.lines_copied([rows, k], rounds, &mut copy);
            }
            for panel in blocks.panels.clone() {
                let (next, next_k) = blocks.after(panel, first_k);
                let block = b.block(panel, first_k);
                let tile = Tile {
                    a: left.values.as_ptr(),
                    a_strides: left.strides,
                    b: block.as_ptr(),
                    b_stride: PANEL,
                    // SAFETY: tasks own disjoint tiles of C, which has these columns.
                    c: unsafe { shared.at(first_row * columns + panel * PANEL) },
                    c_stride: columns,
                    depth: k,
                    rows,
                    columns: PANEL.min(columns - panel * PANEL),
                    accumulate: accumulate || first_k > 0,
                    ahead: b.panels.as_ptr().wrapping_add(b.place(next, next_k)),
                    // A widened panel has two rows for each that it was made from.
                    ahead_every: if way == Way::Widened { 2 } else { 1 },
                };
                // SAFETY: as above; sizes were checked by the caller.
                unsafe {
                    match way {
                        Way::Floats => tile.run(),
                        Way::Widened => {
                            let pairs = k.div_ceil(2);
                            widened.reset(2 * pairs * PANEL);
                            wide::widen(&words(block)[..pairs * PANEL], &mut widened);
                            let b = widened.as_ptr();
                            Tile { b, ..tile }.run();
                        }
                        Way::InPairs => in_pairs(tile).run(Unit::Wide),
                    }
                    if first_k + k == depth {
                        noted.panel(shared, columns, panel);
                    }
                }
            }
        }
    });
}

/// The product of a tile with a panel of pairs.
fn in_pairs(tile: Tile) -> Strip {
    Strip {
        left: bfloat16::Left::Floats {
            values: tile.a,
            stride: tile.a_strides[0],
        },
        panel: tile.b.cast(),
        blocks: bfloat16::tiles(tile.depth),
        ahead: tile.ahead.cast(),
        c: tile.c,
        c_stride: tile.c_stride,
        rows: tile.rows,
        columns: tile.columns,
        accumulate: tile.accumulate,
    }
}

/// The left factor: element (i, k) is at `values[i * strides[0] + k * strides[1]]`.
#[derive(Clone, Copy)]
struct Factor<'a> {
    values: &'a [f32],
    strides: [usize; 2],
}

impl<'a> Factor<'a> {
    /// Rows of `depth`, in `copy`.
    fn copied(rows: &[f32], depth: usize, round: bool, copy: &'a mut Buffer) -> Self {
        let (stride, count) = (line_stride(depth), rows.len() / depth);
        copy.reset(count * stride);
        let shared = Shared(copy.as_mut_ptr());
        each(
            count.div_ceil(LINES),
            rows.len(),
            || (),
            |(), task| {
                let first = task * LINES;
                let lines = LINES.min(count - first);
                // SAFETY: each task writes its own lines.
                let out = unsafe { shared.slice(first * stride, lines * stride) };
                copy_lines(&rows[first * depth..], depth, depth, round, out);
            },
        );
        Self {
            values: copy,
            strides: [stride, 1],
        }
    }

    /// The factor from a row and a depth on.
    fn from(self, row: usize, k: usize) -> Self {
        let [row_stride, k_stride] = self.strides;
        Self {
            values: &self.values[row * row_stride + k * k_stride..],
            ..self
        }
    }

    /// `rows` rows of depth `k` of a factor whose columns are lines in memory, in `copy`: a task reads them over and
    /// over, and in place they would fall on the same few lines of the first-level cache.
    fn lines_copied(self, [rows, k]: [usize; 2], round: bool, copy: &'a mut Buffer) -> Self {
        let stride = line_stride(rows);
        copy.reset(k * stride);
        copy_lines(self.values, self.strides[1], rows, round, copy);
        Self {
            values: copy,
            strides: [1, stride],
        }
    }
}

/// Elements between lines of `width` elements that do not fall on the same few lines of the first-level cache, and end
/// with a block of pairs: an odd number of cache lines.
pub(crate) fn line_stride(width: usize) -> usize {
    ((width.next_multiple_of(TILE_DEPTH) / 16) | 1) * 16
}

multiversion! {
    /// Copies lines of `width` elements, `stride` apart, to lines that are [`line_stride`] apart, rounded to bfloat16 if
    /// wanted, with zeros behind.
    pub(crate) fn copy_lines(from: &[f32], stride: usize, width: usize, round: bool, out: &mut [f32]) {
        for (i, out) in out.chunks_exact_mut(line_stride(width)).enumerate() {
            let line = &from[i * stride..][..width];
            let (copy, behind) = out.split_at_mut(width);
            behind.fill(0.0);
            if round {
                for (out, &x) in copy.iter_mut().zip(line) {
                    *out = f32::from_bits(bfloat16::round(x));
                }
            } else {
                for (out, &x) in copy.iter_mut().zip(line) {
                    *out = x;
                }
            }
        }
    }
}
