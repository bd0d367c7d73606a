//! Number formats of stored weights, and their values as float32.
//!
//! Plain formats hold one value an element. The quantised ones are those of the ggml library: a
//! block of 32 (`Q4_0` to `Q8_0`) or 256 values (`Q2_K` to `Q6_K`) shares scales. All multi-byte
//! numbers are little endian.

mod k_quants;
mod quants;

use half::{bf16, f16};

/// How a tensor's numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of single precision.
    Bf16,
    /// 4 bits, scale.
    Q4_0,
    /// 4 bits, scale and offset.
    Q4_1,
    /// 5 bits, scale.
    Q5_0,
    /// 5 bits, scale and offset.
    Q5_1,
    /// 8 bits, scale.
    Q8_0,
    /// 2 bits, 4-bit scales and offsets of 16 values.
    Q2K,
    /// 3 bits, 6-bit scales of 16 values.
    Q3K,
    /// 4 bits, 6-bit scales and offsets of 32 values.
    Q4K,
    /// 5 bits, 6-bit scales and offsets of 32 values.
    Q5K,
    /// 6 bits, 8-bit scales of 16 values.
    Q6K,
}

impl Encoding {
    /// Every format, for messages.
    pub(crate) const NAMES: &'static str =
        "F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K";

    /// Values in one block; 1 for the plain formats.
    pub fn block_values(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 => 32,
            Self::Q2K | Self::Q3K | Self::Q4K | Self::Q5K | Self::Q6K => 256,
        }
    }

    /// Bytes of one block.
    pub fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q2K => 84,
            Self::Q3K => 110,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
        }
    }

    /// Bytes of `values` values, if they fill whole blocks and the number fits.
    pub fn bytes(self, values: usize) -> Option<usize> {
        values
            .is_multiple_of(self.block_values())
            .then(|| (values / self.block_values()).checked_mul(self.block_bytes()))
            .flatten()
    }

    /// Bytes before the value at `position` of a tensor, the first of a block.
    pub(crate) fn offset(self, position: usize) -> u64 {
        (position / self.block_values() * self.block_bytes()) as u64
    }

    /// Writes the values of whole blocks.
    ///
    /// * `bytes`: `[blocks * block_bytes]`
    /// * `values`: `[blocks * block_values]`
    ///
    /// Blocks that only one of the two has room for are left alone.
    pub fn decode(self, bytes: &[u8], values: &mut [f32]) {
        match self {
            Self::F32 => plain(bytes, values, f32::from_le_bytes),
            Self::F16 => plain(bytes, values, |b| f16::from_le_bytes(b).to_f32()),
            Self::Bf16 => plain(bytes, values, |b| bf16::from_le_bytes(b).to_f32()),
            Self::Q4_0 => self.blocks(bytes, values, quants::q4_0),
            Self::Q4_1 => self.blocks(bytes, values, quants::q4_1),
            Self::Q5_0 => self.blocks(bytes, values, quants::q5_0),
            Self::Q5_1 => self.blocks(bytes, values, quants::q5_1),
            Self::Q8_0 => self.blocks(bytes, values, quants::q8_0),
            Self::Q2K => self.blocks(bytes, values, k_quants::q2_k),
            Self::Q3K => self.blocks(bytes, values, k_quants::q3_k),
            Self::Q4K => self.blocks(bytes, values, k_quants::q4_k),
            Self::Q5K => self.blocks(bytes, values, k_quants::q5_k),
            Self::Q6K => self.blocks(bytes, values, k_quants::q6_k),
        }
    }

    fn blocks(self, bytes: &[u8], values: &mut [f32], decode_block: impl Fn(&[u8], &mut [f32])) {
        let blocks = bytes.chunks_exact(self.block_bytes());
        for (block, values) in blocks.zip(values.chunks_exact_mut(self.block_values())) {
            decode_block(block, values);
        }
    }
}

fn plain<const N: usize>(bytes: &[u8], values: &mut [f32], decode: impl Fn([u8; N]) -> f32) {
    let (numbers, _) = bytes.as_chunks::<N>();
    for (value, number) in values.iter_mut().zip(numbers) {
        *value = decode(*number);
    }
}

/// The half-precision number at the start of `bytes`, which has at least two.
fn half_at(bytes: &[u8]) -> f32 {
    f16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
}

#[cfg(test)]
mod tests;
