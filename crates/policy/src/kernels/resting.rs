//! Matrices at rest between a forward and a backward pass.

use super::buffers::Buffer;
use super::matmul::{Compute, bfloat16::pair};
use super::{multiversion, team};

/// Words that one task rounds. A word holds element i of a chunk of twice as many below element i + WORDS, so that
/// neither direction shuffles.
const WORDS: usize = 1 << 12;

/// A matrix that waits to be read again: as it is, or rounded to bfloat16 in half the memory.
#[derive(Debug)]
pub(crate) enum Resting {
    Whole(Buffer),
    Rounded {
        pairs: Buffer,
        /// Elements of the matrix.
        len: usize,
    },
}

impl Resting {
    /// Rounded if products round their factors: it was made by one, or will be a factor of one.
    pub(crate) fn new(matrix: Buffer, compute: Compute) -> Self {
        match compute {
            Compute::F32 => Self::Whole(matrix),
            Compute::Bf16 => {
                let len = matrix.len();
                let mut pairs = Buffer::take(len.div_ceil(2 * WORDS) * WORDS);
                team::each_chunk(pairs.pairs_mut(), WORDS, |chunk, words| {
                    let own = &matrix[2 * chunk * WORDS..];
                    let own = &own[..own.len().min(2 * WORDS)];
                    let (low, high) = own.split_at(own.len().min(WORDS));
                    round_halves(low, high, words);
                });
                Self::Rounded { pairs, len }
            }
        }
    }

    /// The matrix in float32.
    pub(crate) fn wake(self) -> Buffer {
        match self {
            Self::Whole(matrix) => matrix,
            Self::Rounded { pairs, len } => {
                let mut matrix = Buffer::take(len);
                let words = pairs.pairs();
                team::each_chunk(&mut matrix, 2 * WORDS, |chunk, own| {
                    let (low, high) = own.split_at_mut(own.len().min(WORDS));
                    widen_halves(&words[chunk * WORDS..], low, high);
                });
                matrix
            }
        }
    }
}

multiversion! {
    /// Pairs `low` with `high`, which may be shorter.
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

    fn values(len: usize) -> Buffer {
        let mut matrix = Buffer::take(len);
        for (i, x) in matrix.iter_mut().enumerate() {
            *x = (i as f32 * 0.37).sin() * 1e3;
        }
        matrix
    }

    #[test]
    fn a_rounded_matrix_comes_back_rounded_whatever_its_length() {
        for len in [0, 1, 7, WORDS, WORDS + 3, 2 * WORDS, 5 * WORDS + 1] {
            let rounded: Vec<f32> = values(len)
                .iter()
                .map(|&x| f32::from_bits(round(x)))
                .collect();
            let resting = Resting::new(values(len), Compute::Bf16);
            assert_eq!(*resting.wake(), *rounded, "{len}");
        }
    }

    #[test]
    fn a_matrix_of_float32_products_stays_as_it_is() {
        let resting = Resting::new(values(100), Compute::F32);
        assert_eq!(*resting.wake(), *values(100));
    }
}
