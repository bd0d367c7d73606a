//! Blocks of 32 values. The low halves of the 16 quant bytes are values 0 to 15, the high halves
//! values 16 to 31; a fifth bit, where there is one, comes from a 32-bit word, bit `i` for value `i`.

use super::half_at;

/// `[scale f16, 16 bytes]`: `scale * (q - 8)`.
pub(super) fn q4_0(block: &[u8], values: &mut [f32]) {
    let scale = half_at(block);
    for (i, &byte) in block[2..18].iter().enumerate() {
        values[i] = f32::from(i16::from(byte & 15) - 8) * scale;
        values[i + 16] = f32::from(i16::from(byte >> 4) - 8) * scale;
    }
}

/// `[scale f16, offset f16, 16 bytes]`: `scale * q + offset`.
pub(super) fn q4_1(block: &[u8], values: &mut [f32]) {
    let (scale, offset) = (half_at(block), half_at(&block[2..]));
    for (i, &byte) in block[4..20].iter().enumerate() {
        values[i] = f32::from(byte & 15) * scale + offset;
        values[i + 16] = f32::from(byte >> 4) * scale + offset;
    }
}

/// `[scale f16, fifth bits u32, 16 bytes]`: `scale * (q - 16)`.
pub(super) fn q5_0(block: &[u8], values: &mut [f32]) {
    let scale = half_at(block);
    five_bits(&block[2..22], |i, q| {
        values[i] = f32::from(i16::from(q) - 16) * scale
    });
}

/// `[scale f16, offset f16, fifth bits u32, 16 bytes]`: `scale * q + offset`.
pub(super) fn q5_1(block: &[u8], values: &mut [f32]) {
    let (scale, offset) = (half_at(block), half_at(&block[2..]));
    five_bits(&block[4..24], |i, q| {
        values[i] = f32::from(q) * scale + offset
    });
}

/// Gives the 32 five-bit numbers of `[fifth bits u32, 16 bytes]` with their places.
fn five_bits(bytes: &[u8], mut give: impl FnMut(usize, u8)) {
    let fifth = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    let bit = |i: usize| (((fifth >> i) & 1) as u8) << 4;
    for (i, &byte) in bytes[4..20].iter().enumerate() {
        give(i, (byte & 15) | bit(i));
        give(i + 16, (byte >> 4) | bit(i + 16));
    }
}

/// `[scale f16, 32 signed bytes]`: `scale * q`.
pub(super) fn q8_0(block: &[u8], values: &mut [f32]) {
    let scale = half_at(block);
    for (value, &byte) in values.iter_mut().zip(&block[2..34]) {
        *value = f32::from(byte.cast_signed()) * scale;
    }
}
