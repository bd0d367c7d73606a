//! Products of bfloat16 factors by float32 multiply-adds on widened factors.
//!
//! A bfloat16 number is the upper half of a float32, so widening is a shift or a mask. A product of two is exact in
//! float32 (where it is no smaller than float32's normal numbers), so a fused multiply-add rounds as a product and a
//! sum do, and every processor gives the same bits.

#[cfg(target_arch = "x86_64")]
use super::bfloat16::{Left, TILE_DEPTH};
use super::bfloat16::{PANEL, Strip};
use crate::kernels::{Level, level};
#[cfg(target_arch = "x86_64")]
use std::mem::MaybeUninit;

/// Rows whose sums stay in registers, by width of the vectors.
#[cfg(target_arch = "x86_64")]
const ROWS_512: usize = 12;
#[cfg(target_arch = "x86_64")]
const ROWS_256: usize = 4;
/// Blocks of the left factor that are widened at a time: 12 KiB for twelve rows.
#[cfg(target_arch = "x86_64")]
const WIDENED: usize = 8;

/// Computes the product.
///
/// # Safety
/// As [`Strip::run`].
pub(super) unsafe fn run(strip: Strip) {
    #[cfg(target_arch = "x86_64")]
    let turns = strip.rows.div_ceil(ROWS_512);
    // SAFETY: the caller's promise; `level` reports only features that the processor has.
    unsafe {
        match level() {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => strip.each_rows(ROWS_512, |part, first| match part.rows {
                1 => avx512::<1>(part, first, turns),
                2 => avx512::<2>(part, first, turns),
                3 => avx512::<3>(part, first, turns),
                4 => avx512::<4>(part, first, turns),
                5 => avx512::<5>(part, first, turns),
                6 => avx512::<6>(part, first, turns),
                7 => avx512::<7>(part, first, turns),
                8 => avx512::<8>(part, first, turns),
                9 => avx512::<9>(part, first, turns),
                10 => avx512::<10>(part, first, turns),
                11 => avx512::<11>(part, first, turns),
                _ => avx512::<ROWS_512>(part, first, turns),
            }),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => strip.each_rows(ROWS_256, |part, first| match part.rows {
                1 => avx2::<1>(part, first),
                2 => avx2::<2>(part, first),
                3 => avx2::<3>(part, first),
                _ => avx2::<ROWS_256>(part, first),
            }),
            _ => strip.each_rows(1, |part, first| portable(part, first)),
        }
    }
}

/// Widened rows of the left factor: of each block first the 16 lower, then the 16 higher numbers of its pairs.
#[cfg(target_arch = "x86_64")]
type Widened<const H: usize> = [[MaybeUninit<f32>; WIDENED * TILE_DEPTH]; H];

/// The two numbers of a pair.
#[inline(always)]
fn halves(word: u32) -> [f32; 2] {
    [
        f32::from_bits(word << 16),
        f32::from_bits(word & 0xffff_0000),
    ]
}

/// Widens `count` blocks of `H` rows of the left factor, from row `row` and block `block` on: `split` is called
/// with 16 pairs and the places for their lower and their higher numbers.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn widen<const H: usize>(
    left: Left,
    row: usize,
    [block, count]: [usize; 2],
    out: &mut Widened<H>,
    split: impl Fn(*const u32, [*mut f32; 2]),
) {
    for (i, out) in out.iter_mut().enumerate() {
        let row = left.at_row(row + i);
        for (k, out) in out.chunks_exact_mut(TILE_DEPTH).take(count).enumerate() {
            let words = row.words.wrapping_add((block + k) * row.block_stride);
            let (low, high) = out.split_at_mut(16);
            split(words, [low, high].map(|half| half.as_mut_ptr().cast()));
        }
    }
}

/// Rows from `row` of the left factor on, one of so many `turns`, each of which asks for its share of what is ahead.
///
/// # Safety
/// As [`Strip::run`] with exactly `H` rows, on a processor with AVX-512.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn avx512<const H: usize>(strip: Strip, row: usize, turns: usize) {
    use std::arch::x86_64::*;
    let mask = |first: usize| {
        let lanes = strip.columns.saturating_sub(first).min(16);
        ((1u32 << lanes) - 1) as __mmask16
    };
    let masks = [mask(0), mask(16)];
    let upper = _mm512_set1_epi32(0xffff_0000_u32 as i32);
    let mut left: Widened<H> = [[MaybeUninit::uninit(); WIDENED * TILE_DEPTH]; H];
    let mut sum = [[_mm512_setzero_ps(); 2]; H];
    // SAFETY: masked lanes are not touched; words are read inside tiles and panel, numbers of `left` after
    // they were written; a prefetch may name any address.
    unsafe {
        for i in 0..H {
            let at = strip.c.wrapping_add(i * strip.c_stride);
            for column in [0, 16, strip.columns - 1] {
                _mm_prefetch::<_MM_HINT_ET0>(at.wrapping_add(column).cast());
            }
        }
        if strip.accumulate {
            for (i, row) in sum.iter_mut().enumerate() {
                for (half, sum) in row.iter_mut().enumerate() {
                    let at = strip.c.wrapping_add(i * strip.c_stride + half * 16);
                    *sum = _mm512_maskz_loadu_ps(masks[half], at);
                }
            }
        }
        let share = (strip.blocks * 16).div_ceil(turns) * PANEL;
        let mut ahead = strip.ahead.wrapping_add(row / ROWS_512 * share);
        let mut wait = turns;
        for first in (0..strip.blocks).step_by(WIDENED) {
            let count = WIDENED.min(strip.blocks - first);
            widen(
                strip.left,
                row,
                [first, count],
                &mut left,
                |words, [low, high]| {
                    let words = _mm512_loadu_si512(words.cast());
                    _mm512_storeu_si512(low.cast(), _mm512_slli_epi32::<16>(words));
                    _mm512_storeu_si512(high.cast(), _mm512_and_si512(words, upper));
                },
            );
            for block in 0..count {
                let panel = (first + block) * 16 * PANEL;
                for pair in 0..16 {
                    wait -= 1;
                    if wait == 0 {
                        wait = turns;
                        _mm_prefetch::<_MM_HINT_T1>(ahead.cast());
                        _mm_prefetch::<_MM_HINT_T1>(ahead.wrapping_add(16).cast());
                        ahead = ahead.wrapping_add(PANEL);
                    }
                    let b = strip.panel.add(panel + pair * PANEL);
                    let words = [0, 16].map(|half| _mm512_loadu_si512(b.add(half).cast()));
                    let low = words.map(|b| _mm512_castsi512_ps(_mm512_slli_epi32::<16>(b)));
                    let high = words.map(|b| _mm512_castsi512_ps(_mm512_and_si512(b, upper)));
                    for (sum, left) in sum.iter_mut().zip(&left) {
                        let left = left.as_ptr().add(block * TILE_DEPTH + pair).cast::<f32>();
                        let x = _mm512_set1_ps(*left);
                        sum[0] = _mm512_fmadd_ps(x, low[0], sum[0]);
                        sum[1] = _mm512_fmadd_ps(x, low[1], sum[1]);
                        let x = _mm512_set1_ps(*left.add(16));
                        sum[0] = _mm512_fmadd_ps(x, high[0], sum[0]);
                        sum[1] = _mm512_fmadd_ps(x, high[1], sum[1]);
                    }
                }
            }
        }
        for (i, row) in sum.iter().enumerate() {
            for (half, sum) in row.iter().enumerate() {
                let at = strip.c.wrapping_add(i * strip.c_stride + half * 16);
                _mm512_mask_storeu_ps(at, masks[half], *sum);
            }
        }
    }
}

/// Rows from `row` of the left factor on.
///
/// # Safety
/// As [`Strip::run`] with exactly `H` rows, on a processor with AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2<const H: usize>(strip: Strip, row: usize) {
    use std::arch::x86_64::*;
    /// Columns whose sums stay in registers.
    const COLUMNS: usize = 16;
    let upper = _mm256_set1_epi32(0xffff_0000_u32 as i32);
    let mut left: Widened<H> = [[MaybeUninit::uninit(); WIDENED * TILE_DEPTH]; H];
    // SAFETY: `c` is touched in the strip's columns, words are read inside tiles and panel, numbers of `left`
    // after they were written.
    unsafe {
        for column in (0..strip.columns).step_by(COLUMNS) {
            let width = COLUMNS.min(strip.columns - column);
            let row_of_c = |i: usize| strip.c.wrapping_add(i * strip.c_stride + column);
            let mut edge = [[0.0f32; COLUMNS]; H];
            if strip.accumulate {
                for (i, edge) in edge.iter_mut().enumerate() {
                    row_of_c(i).copy_to_nonoverlapping(edge.as_mut_ptr(), width);
                }
            }
            let mut sum = edge.map(|row| [0, 8].map(|at| _mm256_loadu_ps(row[at..].as_ptr())));
            for first in (0..strip.blocks).step_by(WIDENED) {
                let count = WIDENED.min(strip.blocks - first);
                widen(
                    strip.left,
                    row,
                    [first, count],
                    &mut left,
                    |words, [low, high]| {
                        for half in [0, 8] {
                            let words = _mm256_loadu_si256(words.add(half).cast());
                            let (low, high) = (low.add(half), high.add(half));
                            _mm256_storeu_si256(low.cast(), _mm256_slli_epi32::<16>(words));
                            _mm256_storeu_si256(high.cast(), _mm256_and_si256(words, upper));
                        }
                    },
                );
                for block in 0..count {
                    for pair in 0..16 {
                        let at = ((first + block) * 16 + pair) * PANEL + column;
                        let b = strip.panel.add(at);
                        let words = [0, 8].map(|half| _mm256_loadu_si256(b.add(half).cast()));
                        let low = words.map(|b| _mm256_castsi256_ps(_mm256_slli_epi32::<16>(b)));
                        let high = words.map(|b| _mm256_castsi256_ps(_mm256_and_si256(b, upper)));
                        for (sum, left) in sum.iter_mut().zip(&left) {
                            let left = left.as_ptr().add(block * TILE_DEPTH + pair).cast::<f32>();
                            let x = _mm256_set1_ps(*left);
                            sum[0] = _mm256_fmadd_ps(x, low[0], sum[0]);
                            sum[1] = _mm256_fmadd_ps(x, low[1], sum[1]);
                            let x = _mm256_set1_ps(*left.add(16));
                            sum[0] = _mm256_fmadd_ps(x, high[0], sum[0]);
                            sum[1] = _mm256_fmadd_ps(x, high[1], sum[1]);
                        }
                    }
                }
            }
            for (i, (sum, edge)) in sum.iter().zip(&mut edge).enumerate() {
                _mm256_storeu_ps(edge.as_mut_ptr(), sum[0]);
                _mm256_storeu_ps(edge[8..].as_mut_ptr(), sum[1]);
                row_of_c(i).copy_from_nonoverlapping(edge.as_ptr(), width);
            }
        }
    }
}

/// Row `row` of the left factor.
///
/// # Safety
/// As [`Strip::run`] with one row.
unsafe fn portable(strip: Strip, row: usize) {
    let (mut sum, left) = ([0.0f32; PANEL], strip.left.at_row(row));
    // SAFETY: the row of `c` has `columns` elements; words are read inside tiles and panel.
    unsafe {
        let out = std::slice::from_raw_parts_mut(strip.c, strip.columns);
        if strip.accumulate {
            sum[..out.len()].copy_from_slice(out);
        }
        for block in 0..strip.blocks {
            let words = left.words.add(block * left.block_stride);
            for pair in 0..16 {
                let [low, high] = halves(*words.add(pair));
                let panel = strip.panel.add((block * 16 + pair) * PANEL);
                for (s, b) in sum.iter_mut().zip(&*panel.cast::<[u32; PANEL]>()) {
                    let [l, h] = halves(*b);
                    *s += low * l;
                    *s += high * h;
                }
            }
        }
        out.copy_from_slice(&sum[..out.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::matmul::bfloat16::pair;

    /// Every form gives the bits of the plainest, for any number of rows, columns and blocks.
    #[test]
    #[cfg(target_arch = "x86_64")]
    fn every_width_of_vectors_gives_the_same_bits() {
        let value = |i: usize| ((i * 7919 % 211) as f32 - 105.0) / 64.0;
        for (rows, columns, blocks) in [(12, 32, 9), (5, 17, 1), (4, 16, 8), (1, 1, 2), (3, 31, 17)]
        {
            let word = |i: usize| pair(value(i), value(i + 3));
            let left: Vec<u32> = (0..rows * blocks * 16).map(word).collect();
            let panel: Vec<u32> = (0..blocks * 16 * PANEL).map(word).collect();
            let product = |height: usize, work: &dyn Fn(Strip, usize), accumulate: bool| {
                let mut c = vec![0.5; rows * columns];
                let strip = Strip {
                    left: Left::rows(left.as_ptr(), blocks * 16),
                    panel: panel.as_ptr(),
                    blocks,
                    ahead: panel.as_ptr(),
                    c: c.as_mut_ptr(),
                    c_stride: columns,
                    rows,
                    columns,
                    accumulate,
                };
                strip.each_rows(height, work);
                c
            };
            for accumulate in [false, true] {
                // SAFETY: here and below, sizes are those of the buffers above, on a processor with the instructions.
                let plain = product(1, &|part, row| unsafe { portable(part, row) }, accumulate);
                let same = |height: usize, work: &dyn Fn(Strip, usize)| {
                    if rows % height == 0 {
                        assert_eq!(product(height, work, accumulate), plain);
                    }
                };
                if is_x86_feature_detected!("avx512f") {
                    same(1, &|part, row| unsafe { avx512::<1>(part, row, 3) });
                    same(ROWS_512, &|part, row| unsafe {
                        avx512::<ROWS_512>(part, row, 1)
                    });
                }
                if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                    same(1, &|part, row| unsafe { avx2::<1>(part, row) });
                    same(ROWS_256, &|part, row| unsafe {
                        avx2::<ROWS_256>(part, row)
                    });
                }
            }
        }
    }
}
