//! Matrix products in float32 with one fixed order of accumulation.
//!
//! `C[m, n] += A[m, k] * B[k, n]`: every element of C is its start value plus the products in the
//! order of k, one (fused) multiply-add after the other, whatever m, n and the number of threads.
//! B is packed in panels of [`PANEL`] columns, so that a kernel reads it in one stream; weights are
//! packed once per update.

use super::{Level, Shared, level};
use rayon::prelude::*;

/// Columns of a packed panel: two 512-bit vectors.
pub const PANEL: usize = 32;
/// Rows of A that one kernel call multiplies.
const ROWS: usize = 12;
/// Depth of a panel block, 32 KiB: it stays in the first-level cache while the rows pass by.
const DEPTH: usize = 256;
/// Operations below which a product runs on the calling thread.
const SERIAL_FLOP: usize = 1 << 21;

/// A matrix `[depth, columns]` in panels: `[panel][depth][PANEL]`, padded with zeros.
#[derive(Clone, Debug, Default)]
pub struct Packed {
    panels: Vec<f32>,
    depth: usize,
    columns: usize,
}

impl Packed {
    /// Packs `weight`, row-major `[out, in]`, as B of `x * weight^T`: depth `in`, columns `out`.
    pub fn transposed(weight: &[f32], out: usize, depth: usize) -> Self {
        let mut packed = Self::default();
        packed.fill(out, depth, |panel, first, columns| {
            for j in 0..columns {
                let row = &weight[(first + j) * depth..(first + j + 1) * depth];
                for (k, &value) in row.iter().enumerate() {
                    panel[k * PANEL + j] = value;
                }
            }
        });
        packed
    }

    /// Packs `matrix`, row-major `[depth, columns]`, as it stands.
    pub fn plain(matrix: &[f32], depth: usize, columns: usize) -> Self {
        let mut packed = Self::default();
        packed.fill(columns, depth, |panel, first, width| {
            for k in 0..depth {
                let row = &matrix[k * columns + first..][..width];
                panel[k * PANEL..k * PANEL + width].copy_from_slice(row);
            }
        });
        packed
    }

    fn fill(
        &mut self,
        columns: usize,
        depth: usize,
        write: impl Fn(&mut [f32], usize, usize) + Sync,
    ) {
        (self.depth, self.columns) = (depth, columns);
        self.panels.clear();
        self.panels
            .resize(columns.div_ceil(PANEL) * PANEL * depth, 0.0);
        if depth == 0 {
            return;
        }
        self.panels
            .par_chunks_mut(PANEL * depth)
            .enumerate()
            .for_each(|(p, panel)| {
                let first = p * PANEL;
                write(panel, first, PANEL.min(columns - first));
            });
    }

    /// Columns of the matrix.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Rows of the matrix: the length of a product's sum.
    pub fn depth(&self) -> usize {
        self.depth
    }
}

/// `c = a * b`: `a` is row-major `[rows, b.depth()]`, `c` row-major `[rows, b.columns()]`.
pub fn matmul(a: &[f32], b: &Packed, c: &mut [f32]) {
    c.fill(0.0);
    matmul_add(a, b, c);
}

/// `c += a * b`, shapes as in [`matmul`].
pub fn matmul_add(a: &[f32], b: &Packed, c: &mut [f32]) {
    let (depth, columns) = (b.depth, b.columns);
    if depth == 0 || columns == 0 {
        return;
    }
    let rows = c.len() / columns;
    assert_eq!(
        a.len(),
        rows * depth,
        "the left factor has rows * depth elements"
    );
    assert_eq!(
        c.len(),
        rows * columns,
        "the product has rows * columns elements"
    );
    let panels = columns.div_ceil(PANEL);
    let shared = Shared(c.as_mut_ptr());
    let work = |panel: usize, first_row: usize, rows: usize| {
        let columns_here = PANEL.min(columns - panel * PANEL);
        for first_k in (0..depth).step_by(DEPTH) {
            let k = DEPTH.min(depth - first_k);
            let block = &b.panels[(panel * depth + first_k) * PANEL..][..k * PANEL];
            let mut row = first_row;
            while row < first_row + rows {
                let height = ROWS.min(first_row + rows - row);
                let left = &a[row * depth + first_k..];
                // SAFETY: tasks own disjoint (panel, row range) tiles of C; the tile lies inside it.
                unsafe {
                    let tile = shared.at(row * columns + panel * PANEL);
                    kernel(height, k, left, depth, block, tile, columns, columns_here);
                }
                row += height;
            }
        }
    };
    if 2 * rows * depth * columns < SERIAL_FLOP {
        (0..panels).for_each(|panel| work(panel, 0, rows));
    } else if panels >= 4 * rayon::current_num_threads() || rows < 4 * ROWS {
        (0..panels)
            .into_par_iter()
            .for_each(|panel| work(panel, 0, rows));
    } else {
        let height = (rows.div_ceil(4 * rayon::current_num_threads())).next_multiple_of(ROWS);
        (0..rows.div_ceil(height))
            .into_par_iter()
            .for_each(|block| {
                let first = block * height;
                (0..panels).for_each(|panel| work(panel, first, height.min(rows - first)));
            });
    }
}

/// `gradient[out, depth] += dy^T * x` with `dy` `[rows, out]` and `x` `[rows, depth]`: the gradient of
/// a weight, summed over rows in their order.
pub fn add_outer(dy: &[f32], x: &[f32], rows: usize, gradient: &mut [f32]) {
    if rows == 0 {
        return;
    }
    let (out, depth) = (dy.len() / rows, x.len() / rows);
    let mut transposed = vec![0.0; dy.len()];
    const TILE: usize = 32;
    transposed
        .par_chunks_mut(rows * TILE)
        .enumerate()
        .for_each(|(block, chunk)| {
            let first = block * TILE;
            for r0 in (0..rows).step_by(TILE) {
                for (o, line) in chunk.chunks_exact_mut(rows).enumerate() {
                    for r in r0..rows.min(r0 + TILE) {
                        line[r] = dy[r * out + first + o];
                    }
                }
            }
        });
    matmul_add(&transposed, &Packed::plain(x, rows, depth), gradient);
}

/// One tile: `height` rows (1 to 12) times one panel block.
///
/// # Safety
/// `left` holds `height` rows of stride `stride` with `k` elements each; `tile` points to `height` rows
/// of stride `columns` with `width` writable elements each.
#[expect(clippy::too_many_arguments, reason = "a tile is a tile")]
unsafe fn kernel(
    height: usize,
    k: usize,
    left: &[f32],
    stride: usize,
    block: &[f32],
    tile: *mut f32,
    columns: usize,
    width: usize,
) {
    macro_rules! heights {
        ($call:ident) => {
            match height {
                1 => $call::<1>(k, left, stride, block, tile, columns, width),
                2 => $call::<2>(k, left, stride, block, tile, columns, width),
                3 => $call::<3>(k, left, stride, block, tile, columns, width),
                4 => $call::<4>(k, left, stride, block, tile, columns, width),
                5 => $call::<5>(k, left, stride, block, tile, columns, width),
                6 => $call::<6>(k, left, stride, block, tile, columns, width),
                7 => $call::<7>(k, left, stride, block, tile, columns, width),
                8 => $call::<8>(k, left, stride, block, tile, columns, width),
                9 => $call::<9>(k, left, stride, block, tile, columns, width),
                10 => $call::<10>(k, left, stride, block, tile, columns, width),
                11 => $call::<11>(k, left, stride, block, tile, columns, width),
                _ => $call::<12>(k, left, stride, block, tile, columns, width),
            }
        };
    }
    // SAFETY: the caller's promise, and `level` reports only what the processor has.
    unsafe {
        match level() {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => heights!(tile_avx512),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => heights!(tile_avx2),
            _ => heights!(tile_portable),
        }
    }
}

/// # Safety
/// As [`kernel`], on a processor with AVX-512.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
unsafe fn tile_avx512<const H: usize>(
    k: usize,
    left: &[f32],
    stride: usize,
    block: &[f32],
    tile: *mut f32,
    columns: usize,
    width: usize,
) {
    use std::arch::x86_64::*;
    let mask = |from: usize| -> __mmask16 {
        let live = width.saturating_sub(from).min(16);
        ((1u32 << live) - 1) as __mmask16
    };
    let (low, high) = (mask(0), mask(16));
    let mut sum = [[_mm512_setzero_ps(); 2]; H];
    // SAFETY: masked lanes are not touched; the rest is inside the tile and the inputs.
    unsafe {
        for (i, row) in sum.iter_mut().enumerate() {
            row[0] = _mm512_maskz_loadu_ps(low, tile.add(i * columns));
            row[1] = _mm512_maskz_loadu_ps(high, tile.add(i * columns).wrapping_add(16));
        }
        let (a, b) = (left.as_ptr(), block.as_ptr());
        for depth in 0..k {
            let b0 = _mm512_loadu_ps(b.add(depth * PANEL));
            let b1 = _mm512_loadu_ps(b.add(depth * PANEL + 16));
            for (i, row) in sum.iter_mut().enumerate() {
                let x = _mm512_set1_ps(*a.add(i * stride + depth));
                row[0] = _mm512_fmadd_ps(x, b0, row[0]);
                row[1] = _mm512_fmadd_ps(x, b1, row[1]);
            }
        }
        for (i, row) in sum.iter().enumerate() {
            _mm512_mask_storeu_ps(tile.add(i * columns), low, row[0]);
            _mm512_mask_storeu_ps(tile.add(i * columns).wrapping_add(16), high, row[1]);
        }
    }
}

/// # Safety
/// As [`kernel`], on a processor with AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn tile_avx2<const H: usize>(
    k: usize,
    left: &[f32],
    stride: usize,
    block: &[f32],
    tile: *mut f32,
    columns: usize,
    width: usize,
) {
    for i in 0..H {
        let mut sum = [0.0f32; PANEL];
        // SAFETY: row i of the tile has `width` elements.
        let out = unsafe { std::slice::from_raw_parts_mut(tile.add(i * columns), width) };
        sum[..width].copy_from_slice(out);
        for (x, b) in left[i * stride..][..k]
            .iter()
            .zip(block.chunks_exact(PANEL))
        {
            for (s, b) in sum.iter_mut().zip(b) {
                *s = x.mul_add(*b, *s);
            }
        }
        out.copy_from_slice(&sum[..width]);
    }
}

/// # Safety
/// As [`kernel`].
unsafe fn tile_portable<const H: usize>(
    k: usize,
    left: &[f32],
    stride: usize,
    block: &[f32],
    tile: *mut f32,
    columns: usize,
    width: usize,
) {
    for i in 0..H {
        let mut sum = [0.0f32; PANEL];
        // SAFETY: row i of the tile has `width` elements.
        let out = unsafe { std::slice::from_raw_parts_mut(tile.add(i * columns), width) };
        sum[..width].copy_from_slice(out);
        for (x, b) in left[i * stride..][..k]
            .iter()
            .zip(block.chunks_exact(PANEL))
        {
            for (s, b) in sum.iter_mut().zip(b) {
                *s += x * b;
            }
        }
        out.copy_from_slice(&sum[..width]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use seele_random::Key;

    fn random(len: usize, key: u64) -> Vec<f32> {
        (0..len)
            .map(|i| Key::new(key).with(i as u64).normal() as f32)
            .collect()
    }

    #[test]
    fn products_equal_sums_in_double_precision() {
        for (m, k, n) in [(1, 5, 3), (13, 300, 70), (64, 576, 96), (50, 33, 320)] {
            let (a, w) = (random(m * k, 1), random(n * k, 2));
            let mut c = vec![0.0; m * n];
            matmul(&a, &Packed::transposed(&w, n, k), &mut c);
            for i in 0..m {
                for j in 0..n {
                    let exact: f64 = (0..k)
                        .map(|l| f64::from(a[i * k + l]) * f64::from(w[j * k + l]))
                        .sum();
                    assert!(
                        (f64::from(c[i * n + j]) - exact).abs() < 1e-3,
                        "{m} {k} {n} at {i} {j}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_row_has_the_same_bits_alone_and_among_others() {
        let (m, k, n) = (37, 520, 100);
        let (a, w) = (random(m * k, 3), random(n * k, 4));
        let b = Packed::transposed(&w, n, k);
        let mut all = vec![0.0; m * n];
        matmul(&a, &b, &mut all);
        for i in 0..m {
            let mut alone = vec![0.0; n];
            matmul(&a[i * k..(i + 1) * k], &b, &mut alone);
            assert_eq!(alone, all[i * n..(i + 1) * n]);
        }
    }

    #[test]
    fn outer_products_sum_over_rows() {
        let (m, n, k) = (21, 40, 35);
        let (dy, x) = (random(m * n, 5), random(m * k, 6));
        let mut gradient = vec![1.0; n * k];
        add_outer(&dy, &x, m, &mut gradient);
        for o in 0..n {
            for j in 0..k {
                let exact: f64 = (0..m)
                    .map(|r| f64::from(dy[r * n + o]) * f64::from(x[r * k + j]))
                    .sum();
                assert!((f64::from(gradient[o * k + j]) - 1.0 - exact).abs() < 1e-4);
            }
        }
    }
}
