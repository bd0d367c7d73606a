//! Matrix products with one fixed order of accumulation.
//!
//! `C[m, n] (+)= A[m, k] * B[k, n]`: every element of C is its start value plus the products in the
//! order of k, whatever m, n and the number of threads, so a row's bits do not depend on its company. In
//! float32 each step is one (fused) multiply-add; in bfloat16 both factors are rounded and the sums are
//! float32, in the order of the processor's instruction ([`bfloat16`]). B is packed in panels of 32
//! columns, so that a kernel reads it in one stream; weights are packed once per update.

pub(crate) mod amx;
pub(crate) mod bfloat16;
mod extremes;
pub(crate) mod float32;
mod packed;
mod wide;

pub use packed::Packed;

use super::buffers::{self, Buffer};
use super::{Shared, team};
use bfloat16::{Strip, TILE_DEPTH, TILE_ROWS, TILE_WORDS, unit};
use extremes::{Extremes, RowExtremes};
use float32::Tile;
use std::ops::Range;

/// Columns of a packed panel.
const PANEL: usize = 32;
/// Depth of a float32 panel block, 32 KiB: it stays in the first-level cache while the rows pass by.
const FLOAT_DEPTH: usize = 256;
/// Depth of a bfloat16 panel block in tiles, 48 KiB.
const PAIR_DEPTH: usize = 24;
/// Most rows of A of one task, which the second-level cache keeps, and what they are a multiple of, by number type.
const FLOAT_ROWS: [usize; 2] = [192, 24];
const PAIR_ROWS: [usize; 2] = [256, 32];
/// Tasks a thread, so that none waits long for the last.
const TASKS: usize = 4;
/// Operations below which a product runs on the calling thread, by number type.
const SERIAL_FLOAT: usize = 1 << 22;
const SERIAL_PAIR: usize = 1 << 24;

/// Number type of the factors of matrix products; sums, and everything else, are float32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Compute {
    /// Float32 factors.
    #[default]
    F32,
    /// Factors rounded to bfloat16: multiplied by AMX or AVX512-BF16 where the processor has them and they are
    /// fast, else widened to float32.
    Bf16,
}

/// `c = a * b`: `a` is row-major `[rows, b.depth()]`, `c` row-major `[rows, b.columns()]`.
pub fn matmul(a: &[f32], b: &Packed, c: &mut [f32]) {
    if b.depth == 0 {
        c.fill(0.0);
    }
    product(Left::Rows(a), b.all(), c, false, None);
}

/// As [`matmul`], for some columns of `b`, from a whole panel on: `c` is `[rows, columns.len()]`.
pub(crate) fn matmul_columns(a: &[f32], b: &Packed, columns: Range<usize>, c: &mut [f32]) {
    if b.depth == 0 {
        c.fill(0.0);
    }
    product(Left::Rows(a), b.some(columns), c, false, None);
}

/// As [`matmul`]; `extremes` becomes the smallest and the largest element of each row of `c`, noted while
/// they are at hand. NaN counts as neither; infinities the wrong way round without rows or depth of `b`.
pub fn matmul_with_extremes(a: &[f32], b: &Packed, c: &mut [f32], extremes: &mut Vec<[f32; 2]>) {
    let noted = Extremes::of(c.len().checked_div(b.columns).unwrap_or(0));
    if b.depth == 0 {
        c.fill(0.0);
    }
    product(Left::Rows(a), b.all(), c, false, Some(&noted));
    *extremes = noted.into_rows();
}

/// `c += a * b`, shapes as in [`matmul`].
pub fn matmul_add(a: &[f32], b: &Packed, c: &mut [f32]) {
    product(Left::Rows(a), b.all(), c, true, None);
}

/// Gradient of a weight: `gradient[out, depth] += dy^T * x`, summed over rows in their order.
///
/// `x` is `[rows, depth]`; `dy` is `[rows, stride]`, and each of `parts` names its first column in `dy`
/// and the gradient `[out_i, depth]` that `out_i` columns from there add to.
pub fn add_outer(
    dy: &[f32],
    stride: usize,
    x: &[f32],
    depth: usize,
    compute: Compute,
    parts: &mut [(usize, &mut [f32])],
) {
    let rows = dy.len().checked_div(stride).unwrap_or(0);
    if rows == 0 || depth == 0 {
        return;
    }
    let x = Packed::plain(x, rows, depth, compute);
    for (first, gradient) in parts {
        add_outer_packed(&dy[*first..], stride, &x, gradient);
    }
    x.give_back();
}

/// As [`add_outer`] with `x` packed as it stands, for one part whose first column is that of `dy`.
pub(crate) fn add_outer_packed(dy: &[f32], stride: usize, x: &Packed, gradient: &mut [f32]) {
    let left = Left::Columns {
        values: dy,
        stride,
        columns: gradient.len().checked_div(x.columns).unwrap_or(0),
    };
    product(left, x.all(), gradient, true, None);
}

/// The left factor of a product.
#[derive(Clone, Copy)]
enum Left<'a> {
    /// Row-major `[rows, depth]`.
    Rows(&'a [f32]),
    /// The transpose of `columns` columns of `[depth, stride]`.
    Columns {
        values: &'a [f32],
        stride: usize,
        columns: usize,
    },
}

/// The right factor of a product: a packed matrix, or some columns of one.
#[derive(Clone, Copy)]
struct Right<'a> {
    compute: Compute,
    panels: &'a [f32],
    /// Words of one panel.
    words: usize,
    depth: usize,
    columns: usize,
}

/// Runs `work` for each index, side by side if `elements` are many.
fn each<S>(
    count: usize,
    elements: usize,
    state: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, usize) + Sync,
) {
    if elements < 1 << 16 {
        let mut state = state();
        (0..count).for_each(|i| work(&mut state, i));
    } else {
        team::each_with(count, state, work);
    }
}

fn product(
    left: Left<'_>,
    b: Right<'_>,
    c: &mut [f32],
    accumulate: bool,
    extremes: Option<&Extremes>,
) {
    let (depth, columns) = (b.depth, b.columns);
    if depth == 0 || columns == 0 || c.is_empty() {
        return;
    }
    let rows = c.len() / columns;
    assert_eq!(
        c.len(),
        rows * columns,
        "the product has rows * columns elements"
    );
    match left {
        Left::Rows(a) => assert_eq!(a.len(), rows * depth, "left rows are as long as b is deep"),
        Left::Columns {
            values,
            stride,
            columns,
        } => assert!(
            columns == rows && values.len() >= (depth - 1) * stride + columns,
            "left columns are as long as b is deep"
        ),
    }
    match b.compute {
        Compute::F32 => product_floats(left, rows, b, c, accumulate, extremes),
        Compute::Bf16 => product_pairs(left, rows, b, c, accumulate, extremes),
    }
}

/// Cuts rows x panels into tasks of at most `block` rows, a multiple of `unit`: `task(first row, rows, first panel,
/// panels)`.
fn tasks(
    rows: usize,
    [block, unit]: [usize; 2],
    panels: usize,
    serial: bool,
    task: impl Fn(usize, usize, usize, usize) + Sync,
) {
    if serial {
        for first in (0..rows).step_by(block) {
            task(first, block.min(rows - first), 0, panels);
        }
        return;
    }
    let wanted = TASKS * rayon::current_num_threads();
    let row_blocks = rows.div_ceil(block);
    let groups = wanted.div_ceil(row_blocks).clamp(1, panels);
    let width = panels.div_ceil(groups);
    let groups = panels.div_ceil(width);
    // Even heights, so that no task is a remnant.
    let height = rows.div_ceil(row_blocks).next_multiple_of(unit).min(block);
    let row_blocks = rows.div_ceil(height);
    team::each(row_blocks * groups, |i| {
        let (row, panel) = (i / groups * height, i % groups * width);
        task(
            row,
            height.min(rows - row),
            panel,
            width.min(panels - panel),
        );
    });
}

/// A task's way through the blocks of its panels: all panels at one depth, then all at the next.
struct Blocks {
    panels: Range<usize>,
    depth: usize,
    /// Depth of a block.
    step: usize,
}

impl Blocks {
    /// Panel and depth of the block after that of `panel` at `at`; at the end, of the first one of the next task.
    fn after(&self, panel: usize, at: usize) -> (usize, usize) {
        if panel + 1 < self.panels.end {
            (panel + 1, at)
        } else if at + self.step < self.depth {
            (self.panels.start, at + self.step)
        } else {
            (self.panels.end, 0)
        }
    }
}

fn product_floats(
    left: Left<'_>,
    rows: usize,
    b: Right<'_>,
    c: &mut [f32],
    accumulate: bool,
    extremes: Option<&Extremes>,
) {
    let (depth, columns, words) = (b.depth, b.columns, b.words);
    let (shared, panels) = (Shared(c.as_mut_ptr()), b.panels);
    let serial = 2 * rows * depth * columns < SERIAL_FLOAT;
    // Even depths, so that no block is a remnant.
    let block_depth = depth.div_ceil(depth.div_ceil(FLOAT_DEPTH));
    let [mut block, unit] = FLOAT_ROWS;
    if let Left::Columns { .. } = left {
        // Each task copies its columns, so tasks rather share the panels.
        let share = rows.div_ceil(TASKS * rayon::current_num_threads());
        block = share.next_multiple_of(unit).min(block);
    }
    tasks(
        rows,
        [block, unit],
        columns.div_ceil(PANEL),
        serial,
        |first_row, rows, first_panel, count| {
            let blocks = Blocks {
                panels: first_panel..first_panel + count,
                depth,
                step: block_depth,
            };
            let mut copy = Buffer::default();
            let mut noted = RowExtremes::of(extremes, first_row, rows);
            for first_k in (0..depth).step_by(block_depth) {
                let k = block_depth.min(depth - first_k);
                let (a, a_strides) =
                    left_block(left, depth, [first_row, rows], [first_k, k], &mut copy);
                for panel in blocks.panels.clone() {
                    let block = &panels[panel * words + first_k * PANEL..];
                    let (next, next_k) = blocks.after(panel, first_k);
                    // SAFETY: tasks own disjoint tiles of C; sizes were checked by `product`.
                    unsafe {
                        Tile {
                            a: a.as_ptr(),
                            a_strides,
                            b: block.as_ptr(),
                            b_stride: PANEL,
                            c: shared.at(first_row * columns + panel * PANEL),
                            c_stride: columns,
                            depth: k,
                            rows,
                            columns: PANEL.min(columns - panel * PANEL),
                            accumulate: accumulate || first_k > 0,
                            ahead: panels.as_ptr().wrapping_add(next * words + next_k * PANEL),
                        }
                        .run();
                        if first_k + k == depth {
                            noted.panel(shared, columns, panel);
                        }
                    }
                }
            }
        },
    );
}

/// Rows `first_row..` and depth `first_k..` of the left factor, and its strides: in place, or in `copy`
/// where lines in place would fall on the same few lines of the first-level cache.
fn left_block<'a>(
    left: Left<'a>,
    depth: usize,
    [first_row, rows]: [usize; 2],
    [first_k, k]: [usize; 2],
    copy: &'a mut Buffer,
) -> (&'a [f32], [usize; 2]) {
    let mut copied = |lines: usize, width: usize, from: &[f32], stride: usize| {
        // An odd number of cache lines.
        let padded = (width.div_ceil(16) | 1) * 16;
        copy.reset(lines * padded);
        for (i, line) in copy.chunks_exact_mut(padded).enumerate() {
            line[..width].copy_from_slice(&from[i * stride..][..width]);
        }
        padded
    };
    match left {
        Left::Rows(a) => {
            let a = &a[first_row * depth + first_k..];
            if depth.is_multiple_of(512) {
                let stride = copied(rows, k, a, depth);
                (copy, [stride, 1])
            } else {
                (a, [depth, 1])
            }
        }
        Left::Columns { values, stride, .. } => {
            let values = &values[first_k * stride + first_row..];
            let stride = copied(k, rows, values, stride);
            (copy, [1, stride])
        }
    }
}

fn product_pairs(
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
    pack_left(left, rows, depth, tiles.pairs_mut());
    let (shared, panels) = (Shared(c.as_mut_ptr()), buffers::words(b.panels));
    let (unit, left) = (unit(), tiles.pairs());
    let serial = 2 * rows * depth * columns < SERIAL_PAIR;
    tasks(
        rows,
        PAIR_ROWS,
        columns.div_ceil(PANEL),
        serial,
        |first_row, rows, first_panel, count| {
            let blocks = Blocks {
                panels: first_panel..first_panel + count,
                depth: deep,
                step: PAIR_DEPTH,
            };
            let _session = amx::Session::open(unit);
            let mut noted = RowExtremes::of(extremes, first_row, rows);
            for first in (0..deep).step_by(PAIR_DEPTH) {
                for panel in blocks.panels.clone() {
                    let at = first_row / TILE_ROWS * tile_stride + first * TILE_WORDS;
                    let block = &panels[panel * words + first * 16 * PANEL..];
                    let (next, next_first) = blocks.after(panel, first);
                    // SAFETY: tasks own disjoint tiles of C and start at whole row tiles; sizes were
                    // checked by `product`.
                    unsafe {
                        Strip {
                            left: bfloat16::Left::tiles(left[at..].as_ptr(), tile_stride),
                            panel: block.as_ptr(),
                            blocks: PAIR_DEPTH.min(deep - first),
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
                        if first + PAIR_DEPTH >= deep {
                            noted.panel(shared, columns, panel);
                        }
                    }
                }
            }
        },
    );
    buffers::give_back(tiles);
}

/// Rounds the left factor into tiles.
fn pack_left(left: Left<'_>, rows: usize, depth: usize, tiles: &mut [u32]) {
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
                bfloat16::pack_rows(a, depth, out);
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
                    bfloat16::pair_rows(
                        &values[first * stride..],
                        stride,
                        count,
                        rows,
                        rows,
                        pairs,
                    );
                    // SAFETY: each task writes its own block of each row tile.
                    unsafe {
                        let out = Shared(shared.at(block * TILE_WORDS));
                        bfloat16::tiles_of_pairs(pairs, rows, out, tile_stride);
                    }
                },
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use seele_random::Key;

    pub(super) const BOTH: [Compute; 2] = [Compute::F32, Compute::Bf16];

    pub(super) fn random(len: usize, key: u64) -> Vec<f32> {
        (0..len)
            .map(|i| Key::new(key).with(i as u64).normal() as f32)
            .collect()
    }

    /// What a product sees of a factor.
    pub(super) fn factors(values: &[f32], compute: Compute) -> Vec<f64> {
        let seen = |x: &f32| match compute {
            Compute::F32 => f64::from(*x),
            Compute::Bf16 => f64::from(half::bf16::from_f32(*x).to_f32()),
        };
        values.iter().map(seen).collect()
    }

    #[test]
    fn products_equal_sums_in_double_precision() {
        for compute in BOTH {
            for (m, k, n) in [
                (1, 5, 3),
                (13, 300, 70),
                (64, 576, 96),
                (50, 33, 320),
                (300, 900, 40),
            ] {
                let (a, w) = (random(m * k, 1), random(n * k, 2));
                let b = Packed::transposed(&w, n, k, compute);
                let mut c = vec![0.25; m * n];
                matmul_add(&a, &b, &mut c);
                let (a64, w64) = (factors(&a, compute), factors(&w, compute));
                for i in 0..m {
                    for j in 0..n {
                        let exact: f64 = (0..k).map(|l| a64[i * k + l] * w64[j * k + l]).sum();
                        let error = (f64::from(c[i * n + j]) - 0.25 - exact).abs();
                        assert!(error < 1e-3, "{compute:?} {m} {k} {n} at {i} {j}: {error}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_row_has_the_same_bits_alone_and_among_others() {
        for compute in BOTH {
            let (m, k, n) = (437, 820, 100);
            let (a, w) = (random(m * k, 3), random(n * k, 4));
            let b = Packed::transposed(&w, n, k, compute);
            let mut all = vec![f32::NAN; m * n];
            matmul(&a, &b, &mut all);
            for i in [0, 1, 15, 16, 200, 431, 436] {
                let mut alone = vec![f32::NAN; n];
                matmul(&a[i * k..(i + 1) * k], &b, &mut alone);
                assert_eq!(alone, all[i * n..(i + 1) * n], "{compute:?}");
            }
        }
    }

    #[test]
    fn the_block_asked_for_is_the_one_that_comes_next() {
        for (panels, depth, step) in [(3..7, 576, 192), (0..1, 100, 100), (2..4, 500, 250)] {
            let blocks = Blocks {
                panels,
                depth,
                step,
            };
            let depths = (0..depth).step_by(step);
            let order = depths.flat_map(|at| blocks.panels.clone().map(move |panel| (panel, at)));
            let order: Vec<_> = order.chain([(blocks.panels.end, 0)]).collect();
            for pair in order.windows(2) {
                assert_eq!(blocks.after(pair[0].0, pair[0].1), pair[1]);
            }
        }
    }

    #[test]
    fn extremes_are_those_of_the_rows() {
        for compute in BOTH {
            for (m, k, n) in [(3, 40, 50), (300, 820, 1000)] {
                let (a, w) = (random(m * k, 7), random(n * k, 8));
                let b = Packed::transposed(&w, n, k, compute);
                let (mut c, mut extremes) = (vec![0.0; m * n], Vec::new());
                matmul_with_extremes(&a, &b, &mut c, &mut extremes);
                let mut plain = vec![0.0; m * n];
                matmul(&a, &b, &mut plain);
                assert_eq!(c, plain);
                assert_eq!(extremes.len(), m);
                for (row, found) in c.chunks_exact(n).zip(extremes) {
                    let low = row.iter().copied().fold(f32::INFINITY, f32::min);
                    let high = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                    assert_eq!(found, [low, high], "{compute:?}");
                }
            }
        }
    }

    #[test]
    fn outer_products_sum_over_rows() {
        for compute in BOTH {
            for m in [21, 64, 300] {
                let (n, k) = (40, 35);
                let (dy, x) = (random(m * n, 5), random(m * k, 6));
                let (mut upper, mut lower) = (vec![1.0; 15 * k], vec![1.0; 25 * k]);
                let mut parts = [(0, &mut upper[..]), (15, &mut lower[..])];
                add_outer(&dy, n, &x, k, compute, &mut parts);
                let gradient = [upper, lower].concat();
                let (dy, x) = (factors(&dy, compute), factors(&x, compute));
                for o in 0..n {
                    for j in 0..k {
                        let exact: f64 = (0..m).map(|r| dy[r * n + o] * x[r * k + j]).sum();
                        assert!((f64::from(gradient[o * k + j]) - 1.0 - exact).abs() < 1e-4);
                    }
                }
            }
        }
    }
}
