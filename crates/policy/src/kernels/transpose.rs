//! Transposition of 32-bit words in blocks of 16 x 16.

use super::buffers::{words, words_mut};

/// `output[c * output_stride + r] = input[r * input_stride + c]` for `r` below `rows` and `c` below
/// `columns`; other elements of `output` stay.
pub(crate) fn transpose(
    input: &[u32],
    input_stride: usize,
    [rows, columns]: [usize; 2],
    output: &mut [u32],
    output_stride: usize,
) {
    if rows == 0 || columns == 0 {
        return;
    }
    assert!(
        (rows - 1) * input_stride + columns <= input.len()
            && (columns - 1) * output_stride + rows <= output.len(),
        "both matrices lie inside their buffers"
    );
    for r in (0..rows).step_by(16) {
        for c in (0..columns).step_by(16) {
            let size = [16.min(rows - r), 16.min(columns - c)];
            let from = &input[r * input_stride + c..];
            let to = &mut output[c * output_stride + r..];
            #[cfg(target_arch = "x86_64")]
            if super::level() == super::Level::Avx512 {
                // SAFETY: the processor has AVX-512; the bounds were checked above.
                unsafe { block(from, input_stride, size, to, output_stride) };
                continue;
            }
            for r in 0..size[0] {
                for c in 0..size[1] {
                    to[c * output_stride + r] = from[r * input_stride + c];
                }
            }
        }
    }
}

/// As [`transpose`], for float32.
pub(crate) fn transpose_floats(
    input: &[f32],
    input_stride: usize,
    size: [usize; 2],
    output: &mut [f32],
    output_stride: usize,
) {
    let (input, output) = (words(input), words_mut(output));
    transpose(input, input_stride, size, output, output_stride);
}

/// # Safety
/// The processor has AVX-512; `rows` and `columns` are at most 16 and inside both buffers.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn block(
    input: &[u32],
    input_stride: usize,
    [rows, columns]: [usize; 2],
    output: &mut [u32],
    output_stride: usize,
) {
    use std::arch::x86_64::*;
    let mask = |n: usize| ((1u32 << n) - 1) as __mmask16;
    let mut r = [_mm512_setzero_si512(); 16];
    for (i, row) in r.iter_mut().enumerate().take(rows) {
        // SAFETY: masked lanes are not touched; the rest is inside the input.
        *row = unsafe {
            let at = input.as_ptr().add(i * input_stride);
            _mm512_maskz_loadu_epi32(mask(columns), at.cast())
        };
    }
    // Pairs of rows, then quadruples, then 128-bit lanes.
    let mut t = r;
    for i in 0..8 {
        t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
    }
    let mut u = t;
    for i in 0..4 {
        u[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
        u[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
        u[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
        u[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
    }
    for j in 0..4 {
        let even = _mm512_shuffle_i32x4::<0x88>(u[j], u[4 + j]);
        let even_high = _mm512_shuffle_i32x4::<0x88>(u[8 + j], u[12 + j]);
        let odd = _mm512_shuffle_i32x4::<0xdd>(u[j], u[4 + j]);
        let odd_high = _mm512_shuffle_i32x4::<0xdd>(u[8 + j], u[12 + j]);
        t[j] = _mm512_shuffle_i32x4::<0x88>(even, even_high);
        t[8 + j] = _mm512_shuffle_i32x4::<0xdd>(even, even_high);
        t[4 + j] = _mm512_shuffle_i32x4::<0x88>(odd, odd_high);
        t[12 + j] = _mm512_shuffle_i32x4::<0xdd>(odd, odd_high);
    }
    for (i, column) in t.iter().enumerate().take(columns) {
        // SAFETY: as for the loads.
        unsafe {
            let at = output.as_mut_ptr().add(i * output_stride);
            _mm512_mask_storeu_epi32(at.cast(), mask(rows), *column);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_lands_in_its_place_and_no_other_is_touched() {
        for (rows, columns) in [(1, 1), (16, 16), (37, 21), (5, 40)] {
            let (from, to) = (columns + 3, rows + 2);
            let input: Vec<u32> = (0..rows * from).map(|i| i as u32 + 1).collect();
            let mut output = vec![0; columns * to];
            transpose(&input, from, [rows, columns], &mut output, to);
            for c in 0..columns {
                for r in 0..to {
                    let expected = if r < rows { input[r * from + c] } else { 0 };
                    assert_eq!(output[c * to + r], expected, "{rows} x {columns}");
                }
            }
        }
    }
}
