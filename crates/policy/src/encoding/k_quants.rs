//! Super-blocks of 256 values in groups of 16 or 32, each group with its own small scale (and
//! offset), all of them multiples of one or two half-precision numbers.

use super::half_at;

/// `[16 scale bytes, 64 bytes, scale f16, offset f16]`, groups of 16: the scale byte of a group
/// holds its scale (low half) and offset (high half). Byte `i` of each 32 holds value `i` of four
/// consecutive runs of 32, two bits each.
pub(super) fn q2_k(block: &[u8], values: &mut [f32]) {
    let (scales, quants) = (&block[..16], &block[16..80]);
    let (scale, offset) = (half_at(&block[80..]), half_at(&block[82..]));
    for (group, values) in values.chunks_exact_mut(16).enumerate() {
        let group_scale = scale * f32::from(scales[group] & 15);
        let group_offset = offset * f32::from(scales[group] >> 4);
        let (bytes, shift) = two_bit_group(quants, group);
        for (value, &byte) in values.iter_mut().zip(bytes) {
            *value = group_scale * f32::from((byte >> shift) & 3) - group_offset;
        }
    }
}

/// `[32 high-bit bytes, 64 bytes, 12 scale bytes, scale f16]`, groups of 16: two low bits as in
/// `Q2_K`; bit `j` of high-bit byte `i` belongs to value `i` of run `j` of 32, and its absence
/// subtracts 4. Scales are six bits, less 32.
pub(super) fn q3_k(block: &[u8], values: &mut [f32]) {
    let (high_bits, quants, packed) = (&block[..32], &block[32..96], &block[96..108]);
    let scale = half_at(&block[108..]);
    for (group, values) in values.chunks_exact_mut(16).enumerate() {
        // Low four bits of 16 scales in the first eight bytes, high two bits in the last four.
        let low = (packed[group % 8] >> (4 * (group / 8))) & 15;
        let high = (packed[8 + group % 4] >> (2 * (group / 4))) & 3;
        let group_scale = scale * f32::from(i16::from(low | (high << 4)) - 32);
        let (bytes, shift) = two_bit_group(quants, group);
        let high_bits = &high_bits[16 * (group % 2)..];
        for ((value, &byte), &high_bits) in values.iter_mut().zip(bytes).zip(high_bits) {
            let without_high_bit = if (high_bits >> (group / 2)) & 1 == 0 {
                4
            } else {
                0
            };
            *value = group_scale * f32::from(i16::from((byte >> shift) & 3) - without_high_bit);
        }
    }
}

/// Bytes and shift of the two-bit numbers of one group of 16.
fn two_bit_group(quants: &[u8], group: usize) -> (&[u8], usize) {
    let (half, run) = (group / 8, (group % 8) / 2);
    (&quants[32 * half + 16 * (group % 2)..][..16], 2 * run)
}

/// `[scale f16, offset f16, 12 scale bytes, 128 bytes]`, groups of 32: each 32 bytes hold one group
/// in their low and the next in their high halves.
pub(super) fn q4_k(block: &[u8], values: &mut [f32]) {
    let (scale, offset) = (half_at(block), half_at(&block[2..]));
    let (packed, quants) = (&block[4..16], &block[16..144]);
    for (group, values) in values.chunks_exact_mut(32).enumerate() {
        let (group_scale, group_offset) = scale_and_offset(packed, group);
        let (group_scale, group_offset) = (scale * group_scale, offset * group_offset);
        let bytes = &quants[32 * (group / 2)..];
        for (value, &byte) in values.iter_mut().zip(bytes) {
            *value = group_scale * f32::from((byte >> (4 * (group % 2))) & 15) - group_offset;
        }
    }
}

/// `[scale f16, offset f16, 12 scale bytes, 32 fifth-bit bytes, 128 bytes]`: as `Q4_K`, and bit `j`
/// of fifth-bit byte `i` belongs to value `i` of group `j`.
pub(super) fn q5_k(block: &[u8], values: &mut [f32]) {
    let (scale, offset) = (half_at(block), half_at(&block[2..]));
    let (packed, fifth_bits, quants) = (&block[4..16], &block[16..48], &block[48..176]);
    for (group, values) in values.chunks_exact_mut(32).enumerate() {
        let (group_scale, group_offset) = scale_and_offset(packed, group);
        let (group_scale, group_offset) = (scale * group_scale, offset * group_offset);
        let bytes = &quants[32 * (group / 2)..];
        for ((value, &byte), &fifth) in values.iter_mut().zip(bytes).zip(fifth_bits) {
            let quant = ((byte >> (4 * (group % 2))) & 15) | (((fifth >> group) & 1) << 4);
            *value = group_scale * f32::from(quant) - group_offset;
        }
    }
}

/// Six-bit scale and offset of one of eight groups. Those of the first four are the low six bits
/// of bytes 0 to 3 and 4 to 7; those of the others have their low halves in bytes 8 to 11 and their
/// top two bits above the earlier six.
fn scale_and_offset(packed: &[u8], group: usize) -> (f32, f32) {
    let (scale, offset) = if group < 4 {
        (packed[group] & 63, packed[group + 4] & 63)
    } else {
        let scale = (packed[group + 4] & 15) | ((packed[group - 4] >> 6) << 4);
        let offset = (packed[group + 4] >> 4) | ((packed[group] >> 6) << 4);
        (scale, offset)
    };
    (f32::from(scale), f32::from(offset))
}

/// `[128 bytes, 64 high-bit bytes, 16 signed scale bytes, scale f16]`, groups of 16. In each half of
/// 128 values, run `r` of 32 has its low four bits in the low (runs 0, 1) or high (runs 2, 3) halves
/// of 32 bytes, and its high two bits in bits `2r` and `2r + 1` of 32 bytes; 32 is subtracted.
pub(super) fn q6_k(block: &[u8], values: &mut [f32]) {
    let (low_bits, high_bits, scales) = (&block[..128], &block[128..192], &block[192..208]);
    let scale = half_at(&block[208..]);
    for (index, values) in values.chunks_exact_mut(32).enumerate() {
        let (half, run) = (index / 4, index % 4);
        let low_bits = &low_bits[64 * half + 32 * (run % 2)..];
        let high_bits = &high_bits[32 * half..];
        for (i, value) in values.iter_mut().enumerate() {
            let low = (low_bits[i] >> (4 * (run / 2))) & 15;
            let high = (high_bits[i] >> (2 * run)) & 3;
            let group_scale = scale * f32::from(scales[2 * index + i / 16].cast_signed());
            *value = group_scale * f32::from(i16::from(low | (high << 4)) - 32);
        }
    }
}
