//! Products with bfloat16 factors and float32 sums.
//!
//! Both factors are kept as pairs of neighbours along the sum, the first in the low half of a 32-bit
//! word: the left one in tiles of 16 rows and 16 pairs (1 KiB, what a matrix register holds), the right
//! one in panels of 32 columns. Depths are padded with zeros to a multiple of 32. Where float32
//! multiply-adds are fastest, the left one is kept as rounded float32 instead ([`Left`]).

use super::{amx, wide};
use crate::kernels::buffers::Buffer;
use crate::kernels::transpose::transpose;
use crate::kernels::{Level, Shared, level, multiversion};

/// Rows of a left tile.
pub(crate) const TILE_ROWS: usize = 16;
/// Depth of a tile: 16 pairs.
pub(crate) const TILE_DEPTH: usize = 32;
/// Words of a left tile.
pub(crate) const TILE_WORDS: usize = 256;
/// Columns of a right panel.
pub(crate) const PANEL: usize = 32;

/// Which instructions multiply; a process uses one of them for every product, so bits agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// AMX matrix registers.
    Matrix,
    /// AVX512-BF16 dot products.
    Dot,
    /// Float32 multiply-adds on widened factors.
    Wide,
}

/// The unit of this processor, found out once.
pub(crate) fn unit() -> Unit {
    static UNIT: std::sync::OnceLock<Unit> = std::sync::OnceLock::new();
    *UNIT.get_or_init(|| {
        if level() == Level::Avx512 {
            if amx::request() {
                return Unit::Matrix;
            }
            #[cfg(target_arch = "x86_64")]
            if is_x86_feature_detected!("avx512bf16") && dot_products_are_fast() {
                return Unit::Dot;
            }
        }
        Unit::Wide
    })
}

/// Whether AVX512-BF16 does more than float32 multiply-adds on widened factors. Told by the maker and not by
/// the clock, so that a machine gives the same bits every time: AMD's cores are said to begin a dot product as often as
/// a multiply-add (not timed here); Intel's (Sapphire and Emerald Rapids, seen where AMX is hidden from a virtual machine) a
/// quarter as often, which is half the speed of multiply-adds for the same sums.
#[cfg(target_arch = "x86_64")]
fn dot_products_are_fast() -> bool {
    #[allow(unused_unsafe, reason = "safe from Rust 1.92 on")]
    // SAFETY: every x86-64 processor has the instruction and leaf 0.
    let maker = unsafe { std::arch::x86_64::__cpuid(0) };
    let name = [maker.ebx, maker.edx, maker.ecx].map(u32::to_le_bytes);
    name.as_flattened() == b"AuthenticAMD"
}

/// The nearest bfloat16, ties to even, in the upper half of the word; not-a-number stays one.
#[inline(always)]
pub(crate) fn round(x: f32) -> u32 {
    let bits = x.to_bits();
    let nearest = bits.wrapping_add(0x7fff + ((bits >> 16) & 1));
    let kept = if bits & 0x7fff_ffff > 0x7f80_0000 {
        bits | 0x0040_0000
    } else {
        nearest
    };
    kept & 0xffff_0000
}

#[inline(always)]
pub(crate) fn pair(low: f32, high: f32) -> u32 {
    round(high) | (round(low) >> 16)
}

multiversion! {
    /// Rounds values to bfloat16 where they are.
    pub(crate) fn round_all(values: &mut [f32]) {
        for value in values {
            *value = f32::from_bits(round(*value));
        }
    }
}

/// Number of tiles along a sum of `depth` products.
pub(crate) fn tiles(depth: usize) -> usize {
    depth.div_ceil(TILE_DEPTH)
}

multiversion! {
    /// Rounds a row to pairs of neighbours; the last of an odd number has a zero for its neighbour.
    pub(crate) fn round_row(row: &[f32], out: &mut [u32]) {
        round_pairs(row, out);
    }
}

#[inline(always)]
fn round_pairs(row: &[f32], out: &mut [u32]) {
    let (whole, rest) = row.as_chunks::<2>();
    for (word, &[low, high]) in out.iter_mut().zip(whole) {
        *word = pair(low, high);
    }
    if let ([low], Some(word)) = (rest, out.get_mut(whole.len())) {
        *word = pair(*low, 0.0);
    }
}

multiversion! {
    /// Packs up to 16 rows (row-major, `[rows, depth]`) into tiles, `[tiles(depth)][16][16 pairs]`.
    pub(crate) fn pack_rows(a: &[f32], depth: usize, out: &mut [u32]) {
        for (i, row) in a.chunks_exact(depth).enumerate() {
            let whole = row.chunks_exact(TILE_DEPTH);
            let rest = whole.remainder();
            for (tile, values) in out.chunks_exact_mut(TILE_WORDS).zip(whole) {
                round_pairs(values, &mut tile[i * 16..(i + 1) * 16]);
            }
            if !rest.is_empty() {
                let mut values = [0.0; TILE_DEPTH];
                values[..rest.len()].copy_from_slice(rest);
                let at = depth / TILE_DEPTH * TILE_WORDS + i * 16;
                round_pairs(&values, &mut out[at..at + 16]);
            }
        }
        for i in a.len() / depth..TILE_ROWS {
            for tile in out.chunks_exact_mut(TILE_WORDS) {
                tile[i * 16..(i + 1) * 16].fill(0);
            }
        }
    }
}

multiversion! {
    /// Pairs of rows 2i and 2i + 1 of up to 32 rows (`stride` apart, `width` wide), lines of `out` being
    /// `out_stride` apart: `[16][width]`; rows that are missing count as zero.
    pub(crate) fn pair_rows(a: &[f32], stride: usize, rows: usize, width: usize, out_stride: usize, out: &mut [u32]) {
        for (i, out) in out.chunks_exact_mut(out_stride).take(16).enumerate() {
            let out = &mut out[..width];
            if 2 * i + 1 < rows {
                let low = &a[2 * i * stride..][..width];
                let high = &a[(2 * i + 1) * stride..][..width];
                for ((out, low), high) in out.iter_mut().zip(low).zip(high) {
                    *out = pair(*low, *high);
                }
            } else if 2 * i < rows {
                for (out, low) in out.iter_mut().zip(&a[2 * i * stride..][..width]) {
                    *out = pair(*low, 0.0);
                }
            } else {
                out.fill(0);
            }
        }
    }
}

/// Turns `[16 pairs][width]` words, as [`pair_rows`] makes them, into one left tile for each 16 columns;
/// tile t goes to `out + t * tile_stride`.
///
/// # Safety
/// The tiles lie inside the buffer and belong to the caller alone.
pub(crate) unsafe fn tiles_of_pairs(
    pairs: &[u32],
    width: usize,
    out: Shared<u32>,
    tile_stride: usize,
) {
    for (t, first) in (0..width).step_by(TILE_ROWS).enumerate() {
        let columns = TILE_ROWS.min(width - first);
        // SAFETY: the caller's promise.
        let tile = unsafe { out.slice(t * tile_stride, TILE_WORDS) };
        tile[columns * 16..].fill(0);
        transpose(&pairs[first..], width, [16, columns], tile, 16);
    }
}

/// Packs `columns` rows of a weight (`[columns][depth]`, at most 32) as one panel of its transpose;
/// `scratch` is work memory.
pub(crate) fn pack_panel_transposed(
    weight: &[f32],
    depth: usize,
    scratch: &mut Buffer,
    panel: &mut [u32],
) {
    let (blocks, columns) = (tiles(depth), weight.len() / depth);
    scratch.reset(blocks * TILE_WORDS);
    let scratch = scratch.pairs_mut();
    if columns < PANEL {
        panel.fill(0);
    }
    for (half, rows) in weight.chunks(TILE_ROWS * depth).enumerate() {
        pack_rows(rows, depth, scratch);
        for (block, tile) in scratch.chunks_exact(TILE_WORDS).enumerate() {
            let out = &mut panel[block * 16 * PANEL + half * 16..];
            transpose(tile, 16, [rows.len() / depth, 16], out, PANEL);
        }
    }
}

/// The left factor of a [`Strip`], in the form that the processor's [`unit`] multiplies.
#[derive(Clone, Copy)]
pub(crate) enum Left {
    /// Pairs, for [`Unit::Matrix`] and [`Unit::Dot`].
    Pairs(Pairs),
    /// Rounded numbers as float32, for [`Unit::Wide`]: number k of row i is at `values + i * stride + k`.
    Floats { values: *const f32, stride: usize },
}

impl Left {
    /// The factor from row `first` on: of a tile for tiles, any row for rows.
    pub(crate) fn at_row(self, first: usize) -> Self {
        match self {
            Left::Pairs(pairs) => Left::Pairs(pairs.at_row(first)),
            Left::Floats { values, stride } => Left::Floats {
                values: values.wrapping_add(first * stride),
                stride,
            },
        }
    }

    /// The factor from block `first` along the sum on.
    pub(crate) fn at_block(self, first: usize) -> Self {
        match self {
            Left::Pairs(pairs) => Left::Pairs(Pairs {
                words: pairs.words.wrapping_add(first * pairs.block_stride),
                ..pairs
            }),
            Left::Floats { values, stride } => Left::Floats {
                values: values.wrapping_add(first * TILE_DEPTH),
                stride,
            },
        }
    }
}

/// A left factor in pairs: word (row i of tile t, pair p of block k) is at
/// `words + t * tile_stride + i * row_stride + k * block_stride + p`. All 16 rows of the last tile are read.
#[derive(Clone, Copy)]
pub(crate) struct Pairs {
    pub(super) words: *const u32,
    pub(super) tile_stride: usize,
    pub(super) row_stride: usize,
    pub(super) block_stride: usize,
}

impl Pairs {
    /// Tiles as [`pack_rows`] makes them.
    pub(crate) fn tiles(words: *const u32, tile_stride: usize) -> Self {
        Self {
            words,
            tile_stride,
            row_stride: 16,
            block_stride: TILE_WORDS,
        }
    }

    /// Rows of `stride` words, one behind the other.
    pub(crate) fn rows(words: *const u32, stride: usize) -> Self {
        Self {
            words,
            tile_stride: TILE_ROWS * stride,
            row_stride: stride,
            block_stride: 16,
        }
    }

    /// The factor from row `first` on: of a tile for tiles, any row for rows.
    pub(super) fn at_row(self, first: usize) -> Self {
        let offset = first / TILE_ROWS * self.tile_stride + first % TILE_ROWS * self.row_stride;
        Self {
            words: self.words.wrapping_add(offset),
            ..self
        }
    }
}

/// A product of a run of row tiles with one panel: `c (+)= left * panel` over `blocks` tiles of depth.
#[derive(Clone, Copy)]
pub(crate) struct Strip {
    pub(crate) left: Left,
    /// Word (pair p of block k, column j) is at `panel + (k * 16 + p) * 32 + j`.
    pub(crate) panel: *const u32,
    pub(crate) blocks: usize,
    /// What will be read next, as many lines as the panel has.
    pub(crate) ahead: *const u32,
    pub(crate) c: *mut f32,
    pub(crate) c_stride: usize,
    pub(crate) rows: usize,
    /// At most 32.
    pub(crate) columns: usize,
    pub(crate) accumulate: bool,
}

impl Strip {
    /// Computes the product.
    ///
    /// # Safety
    /// The words and the elements of `c` lie in memory the caller may read or write, and no other thread
    /// touches those of `c`. The left factor has the form of `unit`; for [`Unit::Matrix`] an [`amx::Session`] is open
    /// on this thread.
    pub(crate) unsafe fn run(self, unit: Unit) {
        // SAFETY: the caller's promise; `unit` reports only what the processor has.
        unsafe {
            match (self.left, unit) {
                (Left::Floats { values, stride }, _) => wide::run(self, values, stride),
                #[cfg(target_arch = "x86_64")]
                (Left::Pairs(left), Unit::Dot) => {
                    self.each_rows(8, |part, first| dot(part, left.at_row(first)));
                }
                (Left::Pairs(left), _) => amx::run(self, left),
            }
        }
    }

    /// Calls `work` for each `count` rows with their part of `c` and the first of them in the left factor.
    #[inline(always)]
    pub(super) fn each_rows(self, count: usize, work: impl Fn(Strip, usize)) {
        for first in (0..self.rows).step_by(count) {
            let c = self.c.wrapping_add(first * self.c_stride);
            let rows = count.min(self.rows - first);
            work(Strip { c, rows, ..self }, first);
        }
    }
}

/// Up to eight rows with AVX512-BF16.
///
/// # Safety
/// As [`Strip::run`], on a processor with AVX512-BF16.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn dot(strip: Strip, left: Pairs) {
    // SAFETY: the caller's promise.
    unsafe {
        match strip.rows {
            1 => dot_rows::<1>(strip, left),
            2 => dot_rows::<2>(strip, left),
            3 => dot_rows::<3>(strip, left),
            4 => dot_rows::<4>(strip, left),
            5 => dot_rows::<5>(strip, left),
            6 => dot_rows::<6>(strip, left),
            7 => dot_rows::<7>(strip, left),
            _ => dot_rows::<8>(strip, left),
        }
    }
}

/// # Safety
/// As [`dot`], with exactly `H` rows.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn dot_rows<const H: usize>(strip: Strip, left: Pairs) {
    use std::arch::x86_64::*;
    let mask = |first: usize| {
        let lanes = strip.columns.saturating_sub(first).min(16);
        ((1u32 << lanes) - 1) as __mmask16
    };
    let (low, high) = (mask(0), mask(16));
    let mut sum = [[_mm512_setzero_ps(); 2]; H];
    // SAFETY: masked lanes are not touched; words are read inside tiles and panel.
    unsafe {
        if strip.accumulate {
            for (i, row) in sum.iter_mut().enumerate() {
                let at = strip.c.add(i * strip.c_stride);
                row[0] = _mm512_maskz_loadu_ps(low, at);
                row[1] = _mm512_maskz_loadu_ps(high, at.wrapping_add(16));
            }
        }
        let bits = |x: __m512i| -> __m512bh { std::mem::transmute(x) };
        for block in 0..strip.blocks {
            for pair in 0..16 {
                let b = strip.panel.add((block * 16 + pair) * PANEL);
                let b0 = bits(_mm512_loadu_si512(b.cast()));
                let b1 = bits(_mm512_loadu_si512(b.add(16).cast()));
                for (i, row) in sum.iter_mut().enumerate() {
                    let at = block * left.block_stride + i * left.row_stride + pair;
                    let x = *left.words.add(at);
                    let x = bits(_mm512_set1_epi32(x as i32));
                    row[0] = _mm512_dpbf16_ps(row[0], x, b0);
                    row[1] = _mm512_dpbf16_ps(row[1], x, b1);
                }
            }
        }
        for (i, row) in sum.iter().enumerate() {
            let at = strip.c.add(i * strip.c_stride);
            _mm512_mask_storeu_ps(at, low, row[0]);
            _mm512_mask_storeu_ps(at.wrapping_add(16), high, row[1]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_to_nearest_even_and_keeps_infinity_and_not_a_number() {
        for x in [
            0.0,
            -1.0,
            1.0 / 3.0,
            3.389e38,
            1e-40,
            f32::INFINITY,
            1.003_906_3,
        ] {
            let ours = f32::from_bits(round(x));
            assert_eq!(ours, half::bf16::from_f32(x).to_f32(), "{x}");
        }
        assert!(f32::from_bits(round(f32::NAN)).is_nan());
    }

    /// The three units multiply the same rounded factors; only the order of a pair's sum may differ.
    #[test]
    fn every_unit_the_processor_has_gives_the_same_product() {
        let (rows, columns, blocks) = (19, 29, 3);
        let value = |i: usize| ((i * 7919 % 211) as f32 - 105.0) / 64.0;
        let depth = blocks * TILE_DEPTH;
        let a: Vec<f32> = (0..rows * depth).map(value).collect();
        let w: Vec<f32> = (0..columns * depth).map(|i| value(i + 5)).collect();
        let mut left = vec![0; 2 * blocks * TILE_WORDS];
        for (tile, rows) in left
            .chunks_mut(blocks * TILE_WORDS)
            .zip(a.chunks(TILE_ROWS * depth))
        {
            pack_rows(rows, depth, tile);
        }
        let mut panel = vec![0; blocks * 16 * PANEL];
        pack_panel_transposed(&w, depth, &mut Buffer::default(), &mut panel);
        let mut rounded = a.clone();
        round_all(&mut rounded);
        let floats = Left::Floats {
            values: rounded.as_ptr(),
            stride: depth,
        };
        let pairs = Left::Pairs(Pairs::tiles(left.as_ptr(), blocks * TILE_WORDS));
        let mut units = vec![(Unit::Wide, floats)];
        if unit() == Unit::Matrix {
            units.push((Unit::Matrix, pairs));
        }
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx512bf16") {
            units.push((Unit::Dot, pairs));
        }
        for (unit, left) in units {
            let mut c = vec![0.5; rows * columns];
            let strip = Strip {
                left,
                panel: panel.as_ptr(),
                blocks,
                ahead: panel.as_ptr(),
                c: c.as_mut_ptr(),
                c_stride: columns,
                rows,
                columns,
                accumulate: true,
            };
            let session = amx::Session::open(unit);
            // SAFETY: sizes are those of the buffers above.
            unsafe { strip.run(unit) };
            drop(session);
            for i in 0..rows {
                for j in 0..columns {
                    let exact: f64 = (0..depth)
                        .map(|k| f64::from(a[i * depth + k]) * f64::from(w[j * depth + k]))
                        .sum();
                    let error = (f64::from(c[i * columns + j]) - 0.5 - exact).abs();
                    assert!(error < 1e-4, "{unit:?} at {i} {j}: {error:e}");
                }
            }
        }
    }
}
