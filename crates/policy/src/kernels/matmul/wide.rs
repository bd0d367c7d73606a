//! Products of bfloat16 factors by float32 multiply-adds on widened factors.
//!
//! A bfloat16 number is the upper half of a float32, so widening is a shift or a mask. A product of two is exact in
//! float32 (where it is no smaller than float32's normal numbers), so a fused multiply-add rounds as a product and a
//! sum do, and every processor gives the same bits. The left factor comes widened; the panel is widened in registers,
//! row after row of sums anew, or once for many rows ([`widen`]), which then go through the tile of float32.

use super::bfloat16::{PANEL, Strip, TILE_DEPTH};
use crate::kernels::{Level, level};

/// Rows whose sums stay in registers, by width of the vectors.
#[cfg(target_arch = "x86_64")]
const ROWS_512: usize = 12;
#[cfg(target_arch = "x86_64")]
const ROWS_256: usize = 4;

/// The two numbers of a pair.
#[inline(always)]
fn halves(word: u32) -> [f32; 2] {
    [
        f32::from_bits(word << 16),
        f32::from_bits(word & 0xffff_0000),
    ]
}

/// Widens rows of pairs of a panel, `[pairs][32]`, to `[2 * pairs][32]`.
pub(super) fn widen(words: &[u32], out: &mut [f32]) {
    let (words, _) = words.as_chunks::<PANEL>();
    let (out, _) = out.as_chunks_mut::<PANEL>().0.as_chunks_mut::<2>();
    #[cfg(target_arch = "x86_64")]
    if level() == Level::Avx512 {
        // SAFETY: the processor has AVX-512.
        return unsafe { widen_512(words, out) };
    }
    for (words, [low, high]) in words.iter().zip(out) {
        for ((word, low), high) in words.iter().zip(low).zip(high) {
            [*low, *high] = halves(*word);
        }
    }
}

/// # Safety
/// The processor has AVX-512.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn widen_512(words: &[[u32; PANEL]], out: &mut [[[f32; PANEL]; 2]]) {
    use std::arch::x86_64::*;
    let upper = _mm512_set1_epi32(0xffff_0000_u32 as i32);
    // By hand: the compiler takes one column of many rows at a time, with gathers.
    for (words, [low, high]) in words.iter().zip(out) {
        for at in [0, 16] {
            // SAFETY: sixteen of 32 elements.
            unsafe {
                let words = _mm512_loadu_si512(words[at..].as_ptr().cast());
                let lower = _mm512_slli_epi32::<16>(words);
                _mm512_storeu_si512(low[at..].as_mut_ptr().cast(), lower);
                let upper = _mm512_and_si512(words, upper);
                _mm512_storeu_si512(high[at..].as_mut_ptr().cast(), upper);
            }
        }
    }
}

/// Computes the product with a left factor of rounded numbers: number k of row i is at `left + i * stride + k`.
///
/// # Safety
/// As [`Strip::run`].
pub(super) unsafe fn run(strip: Strip, left: *const f32, stride: usize) {
    #[cfg(target_arch = "x86_64")]
    let turns = strip.rows.div_ceil(ROWS_512);
    let at = |row: usize| left.wrapping_add(row * stride);
    // SAFETY: the caller's promise; `level` reports only features that the processor has.
    unsafe {
        match level() {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => strip.each_rows(ROWS_512, |part, first| {
                let share = (strip.blocks * 16).div_ceil(turns) * PANEL;
                let ahead = strip.ahead.wrapping_add(first / ROWS_512 * share);
                let (part, left) = (Strip { ahead, ..part }, at(first));
                match part.rows {
                    1 => avx512::<1>(part, left, stride, turns),
                    2 => avx512::<2>(part, left, stride, turns),
                    3 => avx512::<3>(part, left, stride, turns),
                    4 => avx512::<4>(part, left, stride, turns),
                    5 => avx512::<5>(part, left, stride, turns),
                    6 => avx512::<6>(part, left, stride, turns),
                    7 => avx512::<7>(part, left, stride, turns),
                    8 => avx512::<8>(part, left, stride, turns),
                    9 => avx512::<9>(part, left, stride, turns),
                    10 => avx512::<10>(part, left, stride, turns),
                    11 => avx512::<11>(part, left, stride, turns),
                    _ => avx512::<ROWS_512>(part, left, stride, turns),
                }
            }),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => strip.each_rows(ROWS_256, |part, first| {
                let left = at(first);
                match part.rows {
                    1 => avx2::<1>(part, left, stride),
                    2 => avx2::<2>(part, left, stride),
                    3 => avx2::<3>(part, left, stride),
                    _ => avx2::<ROWS_256>(part, left, stride),
                }
            }),
            _ => strip.each_rows(1, |part, first| {
                let left = at(first);
                portable(part, left);
            }),
        }
    }
}

/// Rows of the left factor, one of so many `turns`, each of which asks for its share of what is ahead.
///
/// # Safety
/// As [`run`] with exactly `H` rows, on a processor with AVX-512.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn avx512<const H: usize>(strip: Strip, left: *const f32, stride: usize, turns: usize) {
    use super::float32::{POINTERS, ROWS_OF_POINTER, apart};
    use std::arch::x86_64::*;
    let mask = |first: usize| {
        let lanes = strip.columns.saturating_sub(first).min(16);
        ((1u32 << lanes) - 1) as __mmask16
    };
    let masks = [mask(0), mask(16)];
    let upper = _mm512_set1_epi32(0xffff_0000_u32 as i32);
    let mut sum = [[_mm512_setzero_ps(); 2]; H];
    // SAFETY: masked lanes are not touched; words are read inside the panel, numbers inside rows of whole
    // blocks; a prefetch may name any address.
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
        let mut a: [_; POINTERS] =
            std::array::from_fn(|i| left.wrapping_add(i * ROWS_OF_POINTER * stride));
        let (mut b, mut ahead, mut wait) = (strip.panel, strip.ahead, turns);
        for _ in 0..strip.blocks * 16 {
            wait -= 1;
            if wait == 0 {
                wait = turns;
                _mm_prefetch::<_MM_HINT_T1>(ahead.cast());
                _mm_prefetch::<_MM_HINT_T1>(ahead.wrapping_add(16).cast());
                ahead = ahead.wrapping_add(PANEL);
            }
            let words = [0, 16].map(|half| _mm512_loadu_si512(b.add(half).cast()));
            let low = words.map(|b| _mm512_castsi512_ps(_mm512_slli_epi32::<16>(b)));
            let high = words.map(|b| _mm512_castsi512_ps(_mm512_and_si512(b, upper)));
            for (k, b) in [low, high].into_iter().enumerate() {
                for (i, row) in sum.iter_mut().enumerate() {
                    let at = a[i / ROWS_OF_POINTER].wrapping_add(i % ROWS_OF_POINTER * stride + k);
                    let x = _mm512_set1_ps(*at);
                    row[0] = _mm512_fmadd_ps(x, b[0], row[0]);
                    row[1] = _mm512_fmadd_ps(x, b[1], row[1]);
                }
            }
            for pointer in &mut a[..H.div_ceil(ROWS_OF_POINTER)] {
                *pointer = pointer.wrapping_add(2);
                apart(pointer);
            }
            b = b.wrapping_add(PANEL);
        }
        for (i, row) in sum.iter().enumerate() {
            for (half, sum) in row.iter().enumerate() {
                let at = strip.c.wrapping_add(i * strip.c_stride + half * 16);
                _mm512_mask_storeu_ps(at, masks[half], *sum);
            }
        }
    }
}

/// Rows of the left factor.
///
/// # Safety
/// As [`run`] with exactly `H` rows, on a processor with AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2<const H: usize>(strip: Strip, left: *const f32, stride: usize) {
    use std::arch::x86_64::*;
    /// Columns whose sums stay in registers.
    const COLUMNS: usize = 16;
    let upper = _mm256_set1_epi32(0xffff_0000_u32 as i32);
    // SAFETY: `c` is touched in the strip's columns, words are read inside the panel, numbers inside rows of
    // whole blocks.
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
            for pair in 0..strip.blocks * 16 {
                let b = strip.panel.add(pair * PANEL + column);
                let words = [0, 8].map(|half| _mm256_loadu_si256(b.add(half).cast()));
                let low = words.map(|b| _mm256_castsi256_ps(_mm256_slli_epi32::<16>(b)));
                let high = words.map(|b| _mm256_castsi256_ps(_mm256_and_si256(b, upper)));
                for (k, b) in [low, high].into_iter().enumerate() {
                    for (i, sum) in sum.iter_mut().enumerate() {
                        let x = _mm256_set1_ps(*left.add(i * stride + 2 * pair + k));
                        sum[0] = _mm256_fmadd_ps(x, b[0], sum[0]);
                        sum[1] = _mm256_fmadd_ps(x, b[1], sum[1]);
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

/// One row of the left factor.
///
/// # Safety
/// As [`run`] with one row.
unsafe fn portable(strip: Strip, left: *const f32) {
    let mut sum = [0.0f32; PANEL];
    // SAFETY: the row of `c` has `columns` elements; words are read inside the panel, numbers inside a row of whole
    // blocks.
    unsafe {
        let out = std::slice::from_raw_parts_mut(strip.c, strip.columns);
        let left = std::slice::from_raw_parts(left, strip.blocks * TILE_DEPTH);
        if strip.accumulate {
            sum[..out.len()].copy_from_slice(out);
        }
        for (pair, &[low, high]) in left.as_chunks::<2>().0.iter().enumerate() {
            let words = strip.panel.add(pair * PANEL);
            for (s, b) in sum.iter_mut().zip(&*words.cast::<[u32; PANEL]>()) {
                let [l, h] = halves(*b);
                *s += low * l;
                *s += high * h;
            }
        }
        out.copy_from_slice(&sum[..out.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::matmul::bfloat16::{Left, pair, round};
    use crate::kernels::matmul::float32::Tile;

    /// Every form gives the bits of the plainest, for any number of rows, columns and blocks.
    #[test]
    #[cfg(target_arch = "x86_64")]
    fn every_width_of_vectors_gives_the_same_bits() {
        let value = |i: usize| f32::from_bits(round(((i * 7919 % 211) as f32 - 105.0) / 64.0));
        for (rows, columns, blocks) in [(12, 32, 9), (5, 17, 1), (4, 16, 8), (1, 1, 2), (3, 31, 17)]
        {
            let depth = blocks * TILE_DEPTH;
            let stride = depth + 5;
            let left: Vec<f32> = (0..rows * stride).map(value).collect();
            let panel: Vec<u32> = (0..blocks * 16 * PANEL)
                .map(|i| pair(value(i), value(i + 3)))
                .collect();
            let mut widened = vec![0.0; depth * PANEL];
            widen(&panel, &mut widened);
            for accumulate in [false, true] {
                let product = |work: &dyn Fn(Strip)| {
                    let mut c = vec![0.5; rows * columns];
                    work(Strip {
                        left: Left::Floats {
                            values: left.as_ptr(),
                            stride,
                        },
                        panel: panel.as_ptr(),
                        blocks,
                        ahead: panel.as_ptr(),
                        c: c.as_mut_ptr(),
                        c_stride: columns,
                        rows,
                        columns,
                        accumulate,
                    });
                    c
                };
                let at = |row: usize| left[row * stride..].as_ptr();
                // SAFETY: here and below, sizes are those of the buffers above, on a processor with the instructions.
                let plain = product(&|strip| {
                    strip.each_rows(1, |part, row| unsafe { portable(part, at(row)) });
                });
                let same = |height: usize, work: &dyn Fn(Strip, usize)| {
                    if rows % height == 0 {
                        assert_eq!(product(&|strip| strip.each_rows(height, work)), plain);
                    }
                };
                if is_x86_feature_detected!("avx512f") {
                    same(1, &|part, row| unsafe {
                        avx512::<1>(part, at(row), stride, 3)
                    });
                    same(ROWS_512, &|part, row| unsafe {
                        avx512::<ROWS_512>(part, at(row), stride, 1)
                    });
                }
                if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                    same(1, &|part, row| unsafe { avx2::<1>(part, at(row), stride) });
                    same(ROWS_256, &|part, row| unsafe {
                        avx2::<ROWS_256>(part, at(row), stride)
                    });
                }
                // Many rows: the panel widened once.
                let through_tile = product(&|strip| unsafe {
                    Tile {
                        a: left.as_ptr(),
                        a_strides: [stride, 1],
                        b: widened.as_ptr(),
                        b_stride: PANEL,
                        c: strip.c,
                        c_stride: columns,
                        depth,
                        rows,
                        columns,
                        accumulate,
                        ahead: std::ptr::null(),
                        ahead_every: 1,
                    }
                    .run();
                });
                assert_eq!(through_tile, plain);
            }
        }
    }
}
