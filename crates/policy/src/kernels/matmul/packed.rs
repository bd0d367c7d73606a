//! Right factors packed in panels.

use super::bfloat16::{self, TILE_DEPTH};
use super::{Compute, PANEL, Right, each};
use crate::kernels::buffers::{self, Aligned, Buffer};
use crate::kernels::transpose::transpose_floats;
use crate::kernels::{Shared, team};
use std::ops::Range;

/// A matrix `[depth, columns]` in panels of 32 columns, padded with zeros.
///
/// Float32 panels are `[depth][32]`; bfloat16 panels hold pairs of rows, `[depth / 2][32][2]`, with the
/// depth padded to a multiple of 32.
#[derive(Clone, Debug, Default)]
pub struct Packed {
    pub(super) compute: Compute,
    panels: Aligned,
    pub(super) depth: usize,
    pub(super) columns: usize,
}

impl Packed {
    /// Packs `weight`, row-major `[out, in]`, as B of `x * weight^T`: depth `in`, columns `out`.
    pub fn transposed(weight: &[f32], out: usize, depth: usize, compute: Compute) -> Self {
        let mut packed = Self::sized(depth, out, compute);
        packed.fill_transposed(&[weight]);
        packed
    }

    /// Room for a matrix; its content is unspecified until a `fill` function has run.
    pub(crate) fn sized(depth: usize, columns: usize, compute: Compute) -> Self {
        Self {
            compute,
            panels: Aligned::zeroed(columns.div_ceil(PANEL) * panel_words(depth, compute)),
            depth,
            columns,
        }
    }

    /// Words of one panel.
    fn panel_words(&self) -> usize {
        panel_words(self.depth, self.compute)
    }

    /// The matrix as a product's right factor.
    pub(super) fn all(&self) -> Right<'_> {
        self.some(0..self.columns)
    }

    /// Some of its columns, from a whole panel on, as a product's right factor.
    pub(super) fn some(&self, columns: Range<usize>) -> Right<'_> {
        debug_assert!(columns.start.is_multiple_of(PANEL) && columns.end <= self.columns);
        let words = self.panel_words();
        Right {
            compute: self.compute,
            panels: &self.panels.floats()[columns.start / PANEL * words..],
            words,
            depth: self.depth,
            columns: columns.len(),
        }
    }

    /// Packs weights `[out_i, depth]` below each other, as in [`Packed::transposed`].
    pub(crate) fn fill_transposed(&mut self, weights: &[&[f32]]) {
        let (depth, columns, words) = (self.depth, self.columns, self.panel_words());
        if words == 0 {
            return;
        }
        debug_assert_eq!(
            weights.iter().map(|w| w.len()).sum::<usize>(),
            depth * columns
        );
        let compute = self.compute;
        let panels = Shared(self.panels.pairs_mut().as_mut_ptr());
        team::each_with(
            columns.div_ceil(PANEL),
            Default::default,
            |(joined, scratch): &mut (Buffer, Buffer), p| {
                // SAFETY: each task writes its own panel.
                let panel = unsafe { panels.slice(p * words, words) };
                let count = PANEL.min(columns - p * PANEL);
                // The rows of a panel may come from two weights.
                join(weights, depth, p * PANEL, count, joined);
                match compute {
                    Compute::F32 => {
                        // SAFETY: the panel is words of 32 bits, and every bit pattern is a float32.
                        let panel = unsafe {
                            std::slice::from_raw_parts_mut(
                                panel.as_mut_ptr().cast::<f32>(),
                                panel.len(),
                            )
                        };
                        transpose_floats(joined, depth, [count, depth], panel, PANEL);
                    }
                    Compute::Bf16 => {
                        bfloat16::pack_panel_transposed(joined, depth, scratch, panel);
                    }
                }
            },
        );
    }

    /// Packs `matrix`, row-major `[depth, columns]`, as it stands, into memory from the pool.
    pub(crate) fn plain(matrix: &[f32], depth: usize, columns: usize, compute: Compute) -> Self {
        let mut packed = Self::pooled(depth, columns, compute);
        packed.fill_lines(|first, count, _| {
            Some(&matrix[first * columns..(first + count) * columns])
        });
        packed
    }

    /// As [`Packed::sized`], in memory from the pool.
    fn pooled(depth: usize, columns: usize, compute: Compute) -> Self {
        Self {
            compute,
            panels: buffers::take(columns.div_ceil(PANEL) * panel_words(depth, compute)),
            depth,
            columns,
        }
    }

    /// The transpose of some columns of this matrix, from a whole panel on, in the same number type and in memory from
    /// the pool: turns the weights of a forward product into those of its gradient.
    pub(crate) fn transpose(&self, columns: Range<usize>) -> Self {
        debug_assert!(columns.start.is_multiple_of(PANEL) && columns.end <= self.columns);
        let mut transpose = Self::pooled(columns.len(), self.depth, self.compute);
        transpose.fill_lines(|first, _, lines| {
            lines.reset(PANEL * self.depth);
            self.panel_rows((columns.start + first) / PANEL, lines);
            None
        });
        transpose
    }

    /// Returns the memory to the pool.
    pub(crate) fn give_back(self) {
        buffers::give_back(self.panels);
    }

    /// Packs rows: `source(first, count, lines)` returns the `count` rows (at most 32) from `first` on, or
    /// puts them into `lines`.
    fn fill_lines<'m>(
        &mut self,
        source: impl Fn(usize, usize, &mut Buffer) -> Option<&'m [f32]> + Sync + Send,
    ) {
        let (depth, columns, words, compute) =
            (self.depth, self.columns, self.panel_words(), self.compute);
        let panels = Shared(self.panels.pairs_mut().as_mut_ptr());
        let block = |(lines, pairs): &mut (Buffer, Buffer), block: usize| {
            let first = block * TILE_DEPTH;
            let rows = TILE_DEPTH.min(depth - first);
            let found = source(first, rows, lines);
            let lines = found.unwrap_or(lines);
            if compute == Compute::Bf16 {
                pairs.reset(16 * columns);
                bfloat16::pair_rows(lines, columns, rows, columns, columns, pairs.pairs_mut());
            }
            for panel in 0..columns.div_ceil(PANEL) {
                let (from, width) = (panel * PANEL, PANEL.min(columns - panel * PANEL));
                match compute {
                    Compute::F32 => {
                        for (i, line) in lines.chunks_exact(columns).take(rows).enumerate() {
                            let at = panel * words + (first + i) * PANEL;
                            // SAFETY: each task writes its own rows of each panel.
                            let out = unsafe { panels.floats(at, PANEL) };
                            out[..width].copy_from_slice(&line[from..from + width]);
                            out[width..].fill(0.0);
                        }
                    }
                    Compute::Bf16 => {
                        for (i, line) in pairs.pairs_mut().chunks_exact(columns).enumerate() {
                            let at = panel * words + (block * 16 + i) * PANEL;
                            // SAFETY: as above.
                            let out = unsafe { panels.slice(at, PANEL) };
                            out[..width].copy_from_slice(&line[from..from + width]);
                            out[width..].fill(0);
                        }
                    }
                }
            }
        };
        let blocks = depth.div_ceil(TILE_DEPTH);
        each(blocks, depth * columns, Default::default, block);
    }

    /// Columns of panel `panel` as rows, `[32, depth]`.
    fn panel_rows(&self, panel: usize, lines: &mut [f32]) {
        let words = self.panel_words();
        match self.compute {
            Compute::F32 => {
                let panel = &self.panels.floats()[panel * words..(panel + 1) * words];
                transpose_floats(panel, PANEL, [self.depth, PANEL], lines, self.depth);
            }
            Compute::Bf16 => {
                let panel = &self.panels.pairs()[panel * words..(panel + 1) * words];
                for (pair, words) in panel.chunks_exact(PANEL).enumerate() {
                    for half in 0..2 {
                        let k = 2 * pair + half;
                        if k < self.depth {
                            for (j, word) in words.iter().enumerate() {
                                let bits = if half == 0 {
                                    word << 16
                                } else {
                                    word & 0xffff_0000
                                };
                                lines[j * self.depth + k] = f32::from_bits(bits);
                            }
                        }
                    }
                }
            }
        }
    }

    /// Copies column `column` (`[depth]`) into `out`: a row of the weight that was packed.
    pub(crate) fn column(&self, column: usize, out: &mut [f32]) {
        let at = column / PANEL * self.panel_words() + column % PANEL;
        match self.compute {
            Compute::F32 => {
                let values = self.panels.floats()[at..].iter().step_by(PANEL);
                for (out, value) in out.iter_mut().zip(values) {
                    *out = *value;
                }
            }
            Compute::Bf16 => {
                let words = self.panels.pairs()[at..].iter().step_by(PANEL);
                for (out, word) in out.chunks_mut(2).zip(words) {
                    out[0] = f32::from_bits(word << 16);
                    if let Some(high) = out.get_mut(1) {
                        *high = f32::from_bits(word & 0xffff_0000);
                    }
                }
            }
        }
    }

    /// Bytes of the panels.
    pub(crate) fn bytes(&self) -> usize {
        Self::bytes_of(self.depth, self.columns, self.compute)
    }

    /// Bytes of the panels of a matrix `[depth, columns]`.
    pub(crate) fn bytes_of(depth: usize, columns: usize, compute: Compute) -> usize {
        columns.div_ceil(PANEL) * panel_words(depth, compute) * size_of::<u32>()
    }

    /// Columns of the matrix.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Rows of the matrix: the length of a product's sum.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Number type of the factors of a product with it.
    pub fn compute(&self) -> Compute {
        self.compute
    }
}

/// Words of one panel of so many rows.
fn panel_words(depth: usize, compute: Compute) -> usize {
    PANEL
        * match compute {
            Compute::F32 => depth,
            Compute::Bf16 => bfloat16::tiles(depth) * TILE_DEPTH / 2,
        }
}

/// Rows `first..first + count` of matrices of `width` columns that lie below each other.
fn join(matrices: &[&[f32]], width: usize, first: usize, count: usize, lines: &mut Buffer) {
    lines.reset(count * width);
    let mut start = 0;
    for matrix in matrices {
        let end = start + matrix.len() / width;
        let (from, to) = (first.max(start), (first + count).min(end));
        if from < to {
            lines[(from - first) * width..(to - first) * width]
                .copy_from_slice(&matrix[(from - start) * width..(to - start) * width]);
        }
        start = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::matmul::matmul;
    use crate::kernels::matmul::tests::{BOTH, factors, random};

    #[test]
    fn a_packed_weight_gives_back_its_rows_and_its_transpose() {
        for compute in BOTH {
            let (n, k) = (70, 45);
            let w = random(n * k, 7);
            let split = 33 * k;
            let mut b = Packed::sized(k, n, compute);
            b.fill_transposed(&[&w[..split], &w[split..]]);
            let seen = factors(&w, compute);
            let mut row = vec![0.0; k];
            for j in 0..n {
                b.column(j, &mut row);
                assert_eq!(factors(&row, Compute::F32), seen[j * k..(j + 1) * k]);
            }
            let dy = random(3 * n, 8);
            let mut dx = vec![0.0; 3 * k];
            matmul(&dy, &b.transpose(0..n), &mut dx);
            let dy = factors(&dy, compute);
            for r in 0..3 {
                for i in 0..k {
                    let exact: f64 = (0..n).map(|o| dy[r * n + o] * seen[o * k + i]).sum();
                    assert!((f64::from(dx[r * k + i]) - exact).abs() < 1e-4);
                }
            }
        }
    }
}
