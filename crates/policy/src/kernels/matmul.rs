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
pub(crate) mod floats;
mod packed;
mod pairs;
mod wide;

pub use packed::Packed;

use super::team;
use bfloat16::{Unit, unit};
use extremes::Extremes;
use std::ops::Range;

/// Columns of a packed panel.
const PANEL: usize = 32;
/// Tasks a thread, so that none waits long for the last.
const TASKS: usize = 4;
/// What reading a panel of pairs takes, in the units of [`Work::before`]: a guess that profiles do not contradict.
const READING: usize = 6;

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

/// Words that so many elements of a left factor take when they are rounded to bfloat16.
pub(crate) fn rounded_words(elements: usize) -> usize {
    match unit() {
        Unit::Wide => elements,
        Unit::Matrix | Unit::Dot => elements / 2,
    }
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

impl<'a> Right<'a> {
    /// Where panel `panel` holds row `k`, or the pair whose first row that is.
    fn place(&self, panel: usize, k: usize) -> usize {
        let line = match self.compute {
            Compute::F32 => k,
            Compute::Bf16 => k / 2,
        };
        panel * self.words + line * PANEL
    }

    /// Panel `panel` from row `k` on.
    fn block(&self, panel: usize, k: usize) -> &'a [f32] {
        &self.panels[self.place(panel, k)..]
    }
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
    if b.compute == Compute::Bf16 && unit() != Unit::Wide {
        pairs::product(left, rows, b, c, accumulate, extremes);
    } else {
        floats::product(left, rows, b, c, accumulate, extremes);
    }
}

/// What tasks are made of: so many rows and panels, of which a task has at most `most` rows, a multiple of `unit`.
#[derive(Clone, Copy)]
struct Work {
    rows: usize,
    panels: usize,
    most: usize,
    unit: usize,
    /// What a task does for each of its rows and for each of its panels before it multiplies, as the time to multiply
    /// so many panels with a row, and so many rows with a panel.
    before: [usize; 2],
}

impl Work {
    /// Rows and panels of a task: the cut into enough tasks with which the thread that has most to do is done first.
    fn cut(self) -> [usize; 2] {
        let threads = rayon::current_num_threads();
        let wanted = TASKS * threads;
        let fewest = self.rows.div_ceil(self.most);
        let most = self.rows.div_ceil(self.unit).min(wanted).max(fewest);
        let of = |blocks: usize, groups: usize| {
            let height = self.rows.div_ceil(blocks).next_multiple_of(self.unit);
            [height.min(self.most), self.panels.div_ceil(groups)]
        };
        let cost = |[height, width]: [usize; 2]| {
            let tasks = self.rows.div_ceil(height) * self.panels.div_ceil(width);
            let [row, panel] = self.before;
            // Threads do not run evenly: at the end one waits for a part of a task.
            (4 * tasks.div_ceil(threads) + 1) * (height * (width + row) + width * panel)
        };
        let cuts = (fewest..=most).flat_map(|blocks| {
            let groups = wanted.div_ceil(blocks).min(self.panels);
            (groups..=(2 * groups).min(self.panels)).map(move |groups| of(blocks, groups))
        });
        cuts.min_by_key(|&cut| cost(cut))
            .unwrap_or([self.most, self.panels])
    }

    /// Runs `task(first row, rows, first panel, panels)` for all of it; one after the other if `serial`.
    fn run(self, serial: bool, task: impl Fn(usize, usize, usize, usize) + Sync) {
        let [height, width] = match serial {
            true => [self.most, self.panels],
            false => self.cut(),
        };
        let groups = self.panels.div_ceil(width);
        let run = |index: usize| {
            let (row, panel) = (index / groups * height, index % groups * width);
            let [rows, panels] = [self.rows - row, self.panels - panel];
            task(row, height.min(rows), panel, width.min(panels));
        };
        let tasks = self.rows.div_ceil(height) * groups;
        match serial {
            true => (0..tasks).for_each(run),
            false => team::each(tasks, run),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use seele_random::Key;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

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
    fn tasks_cover_every_row_and_panel_once() {
        for (rows, panels) in [
            (1, 1),
            (32, 30),
            (240, 4),
            (250, 18),
            (1124, 96),
            (3072, 18),
        ] {
            for before in [[0, 6], [1, 12]] {
                let work = Work {
                    rows,
                    panels,
                    most: 240,
                    unit: 12,
                    before,
                };
                let seen: Vec<AtomicUsize> = (0..rows * panels).map(|_| 0.into()).collect();
                for serial in [true, false] {
                    work.run(serial, |first_row, rows, first_panel, count| {
                        assert!(rows <= 240 && first_row.is_multiple_of(12));
                        for row in first_row..first_row + rows {
                            for panel in first_panel..first_panel + count {
                                seen[row * panels + panel].fetch_add(1, Relaxed);
                            }
                        }
                    });
                }
                assert!(seen.iter().all(|times| times.load(Relaxed) == 2));
            }
        }
    }

    #[test]
    fn few_rows_stay_together_and_threads_have_alike() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build();
        let pool = pool.expect("threads can be started");
        let cut = |rows, panels| {
            let work = Work {
                rows,
                panels,
                most: 240,
                unit: 12,
                before: [0, 6],
            };
            pool.install(|| work.cut())
        };
        // 32 rows read every panel once; 30 panels are ten tasks of three.
        assert_eq!(cut(32, 30), [36, 3]);
        let [height, width] = cut(3072, 18);
        let tasks = 3072usize.div_ceil(height) * 18usize.div_ceil(width);
        assert!(
            tasks.is_multiple_of(2),
            "{tasks} tasks of {height} x {width}"
        );
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
