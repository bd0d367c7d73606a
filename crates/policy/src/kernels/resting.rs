//! Matrices at rest between a forward and a backward pass.
//!
//! They lie in blocks of one size, so that micro-batches of whatever length share one set of blocks: kept as whole
//! matrices, each length would leave a set of its own behind.

use super::buffers::{BLOCK, Buffer};
use super::matmul::{Compute, bfloat16::pair};
use super::{multiversion, team};

/// A matrix that waits to be read again, as it is or rounded to bfloat16 in half the memory.
#[derive(Debug)]
pub(crate) struct Resting {
    blocks: Vec<Buffer>,
    /// Elements of the matrix.
    len: usize,
    number: Compute,
}

impl Resting {
    /// Copies a matrix, rounding to `number`.
    pub(crate) fn new(matrix: &[f32], number: Compute) -> Self {
        let own = elements(number);
        let blocks = team::collect(
            matrix.len().div_ceil(own),
            || (),
            |(), index| {
                let matrix = &matrix[index * own..];
                let matrix = &matrix[..matrix.len().min(own)];
                let mut block = Buffer::take(BLOCK);
                match number {
                    Compute::F32 => block[..matrix.len()].copy_from_slice(matrix),
                    Compute::Bf16 => {
                        let (low, high) = matrix.split_at(matrix.len().min(BLOCK));
                        round_halves(low, high, block.pairs_mut());
                    }
                }
                block
            },
        );
        Self {
            blocks,
            len: matrix.len(),
            number,
        }
    }

    /// The matrix in float32.
    pub(crate) fn wake(self) -> Buffer {
        let mut matrix = Buffer::take(self.len);
        team::each_chunk(&mut matrix, elements(self.number), |index, matrix| {
            let block = &self.blocks[index];
            match self.number {
                Compute::F32 => matrix.copy_from_slice(&block[..matrix.len()]),
                Compute::Bf16 => {
                    let (low, high) = matrix.split_at_mut(matrix.len().min(BLOCK));
                    widen_halves(block.pairs(), low, high);
                }
            }
        });
        matrix
    }
}

/// Elements of a block.
fn elements(number: Compute) -> usize {
    match number {
        Compute::F32 => BLOCK,
        Compute::Bf16 => 2 * BLOCK,
    }
}

multiversion! {
    /// Pairs element i of `low` with element i of `high`, which may be shorter: a block's first half with its
    /// second, so that neither direction shuffles.
    fn round_halves(low: &[f32], high: &[f32], words: &mut [u32]) {
        let (both, alone) = low.split_at(high.len());
        for ((word, low), high) in words.iter_mut().zip(both).zip(high) {
            *word = pair(*low, *high);
        }
        for (word, low) in words[high.len()..].iter_mut().zip(alone) {
            *word = pair(*low, 0.0);
        }
    }
}

multiversion! {
    /// What [`round_halves`] paired.
    fn widen_halves(words: &[u32], low: &mut [f32], high: &mut [f32]) {
        for (low, word) in low.iter_mut().zip(words) {
            *low = f32::from_bits(word << 16);
        }
        for (high, word) in high.iter_mut().zip(words) {
            *high = f32::from_bits(word & 0xffff_0000);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::matmul::bfloat16::round;

    #[test]
    fn a_matrix_comes_back_rounded_to_its_number_whatever_its_length() {
        for len in [0, 1, 7, BLOCK, BLOCK + 3, 2 * BLOCK, 5 * BLOCK + 1] {
            let matrix: Vec<f32> = (0..len).map(|i| (i as f32 * 0.37).sin() * 1e3).collect();
            let rounded: Vec<f32> = matrix.iter().map(|&x| f32::from_bits(round(x))).collect();
            for (number, expected) in [(Compute::F32, &matrix), (Compute::Bf16, &rounded)] {
                let woken = Resting::new(&matrix, number).wake();
                assert_eq!(*woken, **expected, "{len} {number:?}");
            }
        }
    }
}
