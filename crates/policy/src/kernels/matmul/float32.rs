//! The float32 tile: rows times columns whose sums stay in registers over the whole depth: 12 x 32 with AVX-512,
//! 6 x 16 with AVX2.

use crate::kernels::{Level, level};

/// Columns of a tile: two 512-bit vectors.
pub(crate) const WIDTH: usize = 32;
/// Rows of a tile.
pub(crate) const HEIGHT: usize = 12;

/// One small product: `c[i][j] (+)= sum over k of a[i][k] * b[k][j]`, multiply-adds in the order of k,
/// starting from `c` or from zero.
#[derive(Clone, Copy)]
pub(crate) struct Tile {
    /// Element (i, k) is at `a + i * strides[0] + k * strides[1]`.
    pub(crate) a: *const f32,
    pub(crate) a_strides: [usize; 2],
    /// Element (k, j) is at `b + k * b_stride + j`.
    pub(crate) b: *const f32,
    pub(crate) b_stride: usize,
    /// Element (i, j) is at `c + i * c_stride + j`.
    pub(crate) c: *mut f32,
    pub(crate) c_stride: usize,
    pub(crate) depth: usize,
    /// Rows, any number: more than [`HEIGHT`] are done in turns.
    pub(crate) rows: usize,
    /// Columns, at most [`WIDTH`].
    pub(crate) columns: usize,
    /// Whether sums start from `c`.
    pub(crate) accumulate: bool,
    /// What will be needed next, a row of it for so many rows of `b`; null for nothing.
    pub(crate) ahead: *const f32,
    pub(crate) ahead_every: usize,
}

impl Tile {
    /// Computes the product.
    ///
    /// # Safety
    /// All elements named by sizes and strides lie in memory the caller may read or write, and no other
    /// thread touches those of `c`.
    #[inline]
    pub(crate) unsafe fn run(mut self) {
        let (mut rows, level) = (self.rows, level());
        // A core can wait for few lines of memory at a time, so every turn asks for its share of those ahead.
        let wait = rows.div_ceil(HEIGHT).max(1) * self.ahead_every;
        let share = self.depth.div_ceil(wait) * WIDTH;
        while rows > 0 {
            self.rows = rows.min(HEIGHT);
            // SAFETY: the caller's promise; `level` reports only features that the processor has.
            unsafe {
                self.dispatch(level, wait);
                self.a = self.a.wrapping_add(self.rows * self.a_strides[0]);
                self.c = self.c.wrapping_add(self.rows * self.c_stride);
            }
            rows -= self.rows;
            if !self.ahead.is_null() {
                self.ahead = self.ahead.wrapping_add(share);
            }
        }
    }

    /// Up to [`HEIGHT`] rows with the instructions of `level`; asks for what is ahead of one in so many rows
    /// of `b`.
    ///
    /// # Safety
    /// As [`Tile::run`], on a processor that has them.
    #[inline]
    unsafe fn dispatch(self, level: Level, every: usize) {
        macro_rules! heights {
            ($whole:literal) => {
                match self.rows {
                    1 => avx512::<1, $whole>(self, every),
                    2 => avx512::<2, $whole>(self, every),
                    3 => avx512::<3, $whole>(self, every),
                    4 => avx512::<4, $whole>(self, every),
                    5 => avx512::<5, $whole>(self, every),
                    6 => avx512::<6, $whole>(self, every),
                    7 => avx512::<7, $whole>(self, every),
                    8 => avx512::<8, $whole>(self, every),
                    9 => avx512::<9, $whole>(self, every),
                    10 => avx512::<10, $whole>(self, every),
                    11 => avx512::<11, $whole>(self, every),
                    _ => avx512::<HEIGHT, $whole>(self, every),
                }
            };
        }
        // SAFETY: the promise of `run`.
        unsafe {
            match level {
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 if self.columns == WIDTH => heights!(true),
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 => heights!(false),
                #[cfg(target_arch = "x86_64")]
                Level::Avx2 => self.with_avx2(),
                _ => portable(self),
            }
        }
    }
}

/// Rows whose elements one address register reaches: an instruction adds no, one or two row strides to it.
#[cfg(target_arch = "x86_64")]
pub(super) const ROWS_OF_POINTER: usize = 3;
/// Such registers of a tile.
#[cfg(target_arch = "x86_64")]
pub(super) const POINTERS: usize = HEIGHT / ROWS_OF_POINTER;

/// Keeps `pointer` in a register of its own; the compiler would otherwise derive all rows from one, each from
/// the one before, and the additions compete with the multiply-adds.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
#[expect(
    clippy::pointers_in_nomem_asm_block,
    reason = "nothing is read or written"
)]
pub(super) fn apart(pointer: &mut *const f32) {
    // SAFETY: a comment is no instruction.
    unsafe {
        std::arch::asm!(
            "/* {} */",
            inout(reg) * pointer,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
}

/// Reads whole rows of `b` if they are `WHOLE`; a masked read takes a multiply-add's place.
///
/// # Safety
/// As [`Tile::run`] with exactly `H` rows and, if `WHOLE`, [`WIDTH`] columns, on a processor with AVX-512.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn avx512<const H: usize, const WHOLE: bool>(tile: Tile, every: usize) {
    use std::arch::x86_64::*;
    let masks = [0, 16].map(|first| {
        let lanes = tile.columns.saturating_sub(first).min(16);
        ((1u32 << lanes) - 1) as __mmask16
    });
    let mut sum = [[_mm512_setzero_ps(); 2]; H];
    // SAFETY: masked lanes are not touched; the rest is inside the three matrices; a prefetch may
    // name any address.
    unsafe {
        // Stores leave the core in order, each waiting for its line: ask for all of them now, and they
        // are there when the sums are done.
        for i in 0..H {
            let at = tile.c.wrapping_add(i * tile.c_stride);
            for column in [0, 16, tile.columns - 1] {
                _mm_prefetch::<_MM_HINT_ET0>(at.wrapping_add(column).cast());
            }
        }
        if tile.accumulate {
            for (i, row) in sum.iter_mut().enumerate() {
                let at = tile.c.add(i * tile.c_stride);
                row[0] = _mm512_maskz_loadu_ps(masks[0], at);
                row[1] = _mm512_maskz_loadu_ps(masks[1], at.wrapping_add(16));
            }
        }
        let [stride, step] = tile.a_strides;
        let mut a: [_; POINTERS] =
            std::array::from_fn(|i| tile.a.wrapping_add(i * ROWS_OF_POINTER * stride));
        let (mut b, mut ahead) = (tile.b, tile.ahead);
        let mut wait = if ahead.is_null() { usize::MAX } else { every };
        for _ in 0..tile.depth {
            wait -= 1;
            if wait == 0 {
                wait = every;
                _mm_prefetch::<_MM_HINT_T1>(ahead.cast());
                _mm_prefetch::<_MM_HINT_T1>(ahead.wrapping_add(16).cast());
                ahead = ahead.wrapping_add(WIDTH);
            }
            let halves = [b, b.wrapping_add(16)];
            let [b0, b1] = if WHOLE {
                halves.map(|half| _mm512_loadu_ps(half))
            } else {
                [0, 1].map(|i| _mm512_maskz_loadu_ps(masks[i], halves[i]))
            };
            for (i, row) in sum.iter_mut().enumerate() {
                let at = a[i / ROWS_OF_POINTER].wrapping_add(i % ROWS_OF_POINTER * stride);
                let x = _mm512_set1_ps(*at);
                row[0] = _mm512_fmadd_ps(x, b0, row[0]);
                row[1] = _mm512_fmadd_ps(x, b1, row[1]);
            }
            for pointer in &mut a[..H.div_ceil(ROWS_OF_POINTER)] {
                *pointer = pointer.wrapping_add(step);
                apart(pointer);
            }
            b = b.wrapping_add(tile.b_stride);
        }
        for (i, row) in sum.iter().enumerate() {
            let at = tile.c.add(i * tile.c_stride);
            _mm512_mask_storeu_ps(at, masks[0], row[0]);
            _mm512_mask_storeu_ps(at.wrapping_add(16), masks[1], row[1]);
        }
    }
}

/// Rows and columns of a tile of 256-bit vectors.
#[cfg(target_arch = "x86_64")]
const AVX2_TILE: [usize; 2] = [6, 16];

#[cfg(target_arch = "x86_64")]
impl Tile {
    /// Computes the product in smaller tiles.
    ///
    /// # Safety
    /// As [`Tile::run`], on a processor with AVX2 and FMA.
    unsafe fn with_avx2(self) {
        let [height, width] = AVX2_TILE;
        for column in (0..self.columns).step_by(width) {
            for row in (0..self.rows).step_by(height) {
                let part = Tile {
                    a: self.a.wrapping_add(row * self.a_strides[0]),
                    b: self.b.wrapping_add(column),
                    c: self.c.wrapping_add(row * self.c_stride + column),
                    rows: height.min(self.rows - row),
                    columns: width.min(self.columns - column),
                    ..self
                };
                // SAFETY: the caller's promise, for a part of the rows and columns.
                unsafe {
                    match part.rows {
                        1 => avx2::<1>(part),
                        2 => avx2::<2>(part),
                        3 => avx2::<3>(part),
                        4 => avx2::<4>(part),
                        5 => avx2::<5>(part),
                        _ => avx2::<6>(part),
                    }
                }
            }
        }
    }
}

/// # Safety
/// As [`Tile::run`] with exactly `H` rows and at most 16 columns, on a processor with AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2<const H: usize>(tile: Tile) {
    use std::arch::x86_64::*;
    // Masks of the columns that there are: the sign bit of each lane counts.
    let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    let masks = [0, 8].map(|first| {
        let columns = tile.columns.saturating_sub(first) as i32;
        _mm256_cmpgt_epi32(_mm256_set1_epi32(columns), lanes)
    });
    let mut sum = [[_mm256_setzero_ps(); 2]; H];
    // SAFETY: masked lanes are not touched; the rest is inside the three matrices.
    unsafe {
        if tile.accumulate {
            for (i, row) in sum.iter_mut().enumerate() {
                let at = tile.c.wrapping_add(i * tile.c_stride);
                row[0] = _mm256_maskload_ps(at, masks[0]);
                row[1] = _mm256_maskload_ps(at.wrapping_add(8), masks[1]);
            }
        }
        let (mut a, mut b) = (tile.a, tile.b);
        for _ in 0..tile.depth {
            let (b0, b1) = if tile.columns == AVX2_TILE[1] {
                (_mm256_loadu_ps(b), _mm256_loadu_ps(b.add(8)))
            } else {
                let second = b.wrapping_add(8);
                (
                    _mm256_maskload_ps(b, masks[0]),
                    _mm256_maskload_ps(second, masks[1]),
                )
            };
            for (i, row) in sum.iter_mut().enumerate() {
                let x = _mm256_set1_ps(*a.add(i * tile.a_strides[0]));
                row[0] = _mm256_fmadd_ps(x, b0, row[0]);
                row[1] = _mm256_fmadd_ps(x, b1, row[1]);
            }
            a = a.wrapping_add(tile.a_strides[1]);
            b = b.wrapping_add(tile.b_stride);
        }
        for (i, row) in sum.iter().enumerate() {
            let at = tile.c.wrapping_add(i * tile.c_stride);
            _mm256_maskstore_ps(at, masks[0], row[0]);
            _mm256_maskstore_ps(at.wrapping_add(8), masks[1], row[1]);
        }
    }
}

/// # Safety
/// As [`Tile::run`].
unsafe fn portable(tile: Tile) {
    for i in 0..tile.rows {
        // SAFETY: row i of `c` has `columns` elements, as has each of the `depth` rows of `b`.
        unsafe {
            let out = std::slice::from_raw_parts_mut(tile.c.add(i * tile.c_stride), tile.columns);
            let mut sum = [0.0f32; WIDTH];
            if tile.accumulate {
                sum[..tile.columns].copy_from_slice(out);
            }
            for k in 0..tile.depth {
                let x = *tile.a.add(i * tile.a_strides[0] + k * tile.a_strides[1]);
                let b = std::slice::from_raw_parts(tile.b.add(k * tile.b_stride), tile.columns);
                if let Ok(b) = <&[f32; WIDTH]>::try_from(b) {
                    for (s, b) in sum.iter_mut().zip(b) {
                        *s += x * b;
                    }
                } else {
                    for (s, b) in sum.iter_mut().zip(b) {
                        *s += x * b;
                    }
                }
            }
            out.copy_from_slice(&sum[..tile.columns]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both vector forms round each multiply-add once and in the same order, so they give the same bits.
    #[test]
    #[cfg(target_arch = "x86_64")]
    fn both_widths_of_vectors_give_the_same_bits() {
        if !(is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("fma")) {
            eprintln!("skipped: this processor has no AVX-512");
            return;
        }
        let value = |i: usize| ((i * 7919 % 211) as f32 - 105.0) / 37.0;
        for (rows, columns, depth) in [(12, 32, 50), (7, 17, 3), (1, 1, 9), (6, 16, 20), (5, 31, 1)]
        {
            let a: Vec<f32> = (0..rows * depth).map(value).collect();
            let b: Vec<f32> = (0..depth * WIDTH).map(|i| value(i + 3)).collect();
            for accumulate in [false, true] {
                let product = |work: &dyn Fn(Tile)| {
                    let mut c = vec![0.5; rows * columns];
                    work(Tile {
                        a: a.as_ptr(),
                        a_strides: [depth, 1],
                        b: b.as_ptr(),
                        b_stride: WIDTH,
                        c: c.as_mut_ptr(),
                        c_stride: columns,
                        depth,
                        rows,
                        columns,
                        accumulate,
                        ahead: std::ptr::null(),
                        ahead_every: 1,
                    });
                    c
                };
                // SAFETY: sizes are those of the buffers above; the processor has the instructions.
                let wide = product(&|tile| unsafe { tile.dispatch(Level::Avx512, 1) });
                // SAFETY: as above.
                let narrow = product(&|tile| unsafe { tile.dispatch(Level::Avx2, 1) });
                assert_eq!(wide, narrow, "{rows} x {columns} x {depth}");
            }
        }
    }
}
