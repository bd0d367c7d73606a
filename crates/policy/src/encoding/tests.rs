//! Blocks packed by hand, and blocks that another program has decoded.

use super::Encoding;
use half::f16;

/// Numbers from 0 below `limit`, the same at every run.
fn numbers(count: usize, limit: u32) -> Vec<u8> {
    let mut state = 7_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((state >> 16) % limit) as u8
    };
    (0..count).map(|_| next()).collect()
}

fn half(value: f32) -> [u8; 2] {
    f16::from_f32(value).to_le_bytes()
}

fn decoded(encoding: Encoding, block: &[u8]) -> Vec<f32> {
    assert_eq!(block.len(), encoding.block_bytes());
    let mut values = vec![f32::NAN; encoding.block_values()];
    encoding.decode(block, &mut values);
    values
}

/// Low halves are the first 16 numbers, high halves the last 16.
fn nibbles(quants: &[u8]) -> Vec<u8> {
    (0..16)
        .map(|i| (quants[i] & 15) | ((quants[i + 16] & 15) << 4))
        .collect()
}

/// Bit `i` of the word is the fifth bit of number `i`.
fn fifth_bits(quants: &[u8]) -> [u8; 4] {
    quants
        .iter()
        .enumerate()
        .fold(0_u32, |word, (i, quant)| {
            word | (u32::from(quant >> 4) << i)
        })
        .to_le_bytes()
}

#[test]
fn plain_formats_are_widened() {
    let values = [1.5_f32, -0.25, 65504.0];
    let mut out = [0.0; 3];
    Encoding::F32.decode(&values.map(f32::to_le_bytes).concat(), &mut out);
    assert_eq!(out, values);
    Encoding::F16.decode(&values.map(half).concat(), &mut out);
    assert_eq!(out, values);
    Encoding::Bf16.decode(&[0x80, 0x3f, 0x00, 0xc0, 0x01, 0x00], &mut out);
    assert_eq!(out, [1.0, -2.0, f32::from_bits(0x0001_0000)]);
}

#[test]
fn blocks_of_32_unpack_what_was_packed() {
    let (scale, offset) = (0.25, -1.5);
    let four = numbers(32, 16);
    let five = numbers(32, 32);
    let bytes = numbers(32, 256);
    let value = |quant: u8, zero: f32| (f32::from(quant) - zero) * scale;

    let block = [&half(scale)[..], &nibbles(&four)].concat();
    assert_eq!(
        decoded(Encoding::Q4_0, &block),
        four.iter().map(|&q| value(q, 8.0)).collect::<Vec<_>>()
    );

    let block = [&half(scale)[..], &half(offset), &nibbles(&four)].concat();
    assert_eq!(
        decoded(Encoding::Q4_1, &block),
        four.iter()
            .map(|&q| value(q, 0.0) + offset)
            .collect::<Vec<_>>()
    );

    let block = [&half(scale)[..], &fifth_bits(&five), &nibbles(&five)].concat();
    assert_eq!(
        decoded(Encoding::Q5_0, &block),
        five.iter().map(|&q| value(q, 16.0)).collect::<Vec<_>>()
    );

    let block = [
        &half(scale)[..],
        &half(offset),
        &fifth_bits(&five),
        &nibbles(&five),
    ]
    .concat();
    assert_eq!(
        decoded(Encoding::Q5_1, &block),
        five.iter()
            .map(|&q| value(q, 0.0) + offset)
            .collect::<Vec<_>>()
    );

    let block = [&half(scale)[..], &bytes].concat();
    let signed = |&q: &u8| f32::from(q as i8) * scale;
    assert_eq!(
        decoded(Encoding::Q8_0, &block),
        bytes.iter().map(signed).collect::<Vec<_>>()
    );
}

/// Two low bits of 256 numbers: byte `i` of each 32 has number `i` of four runs of 32.
fn two_low_bits(quants: &[u8]) -> Vec<u8> {
    let mut packed = vec![0; 64];
    for (i, quant) in quants.iter().enumerate() {
        let (half, run, place) = (i / 128, i % 128 / 32, i % 32);
        packed[32 * half + place] |= (quant & 3) << (2 * run);
    }
    packed
}

/// Six-bit scales and offsets of eight groups in twelve bytes.
fn scales_and_offsets(scales: &[u8], offsets: &[u8]) -> Vec<u8> {
    let mut packed = vec![0; 12];
    for group in 0..4 {
        packed[group] = scales[group] | ((scales[group + 4] >> 4) << 6);
        packed[group + 4] = offsets[group] | ((offsets[group + 4] >> 4) << 6);
        packed[group + 8] = (scales[group + 4] & 15) | ((offsets[group + 4] & 15) << 4);
    }
    packed
}

/// Four low bits of 256 numbers: each 32 bytes have one run of 32 low and the next high.
fn four_low_bits(quants: &[u8]) -> Vec<u8> {
    let mut packed = vec![0; 128];
    for (i, quant) in quants.iter().enumerate() {
        packed[i / 64 * 32 + i % 32] |= (quant & 15) << (4 * (i / 32 % 2));
    }
    packed
}

#[test]
fn super_blocks_unpack_what_was_packed() {
    let (scale, offset) = (0.5_f32, 0.25_f32);
    let expect = |encoding, block: Vec<u8>, value: &dyn Fn(usize) -> f32| {
        assert_eq!(
            decoded(encoding, &block),
            (0..256).map(value).collect::<Vec<_>>(),
            "{encoding:?}"
        );
    };

    let (quants, scales, offsets) = (numbers(256, 4), numbers(16, 16), numbers(17, 16));
    let packed: Vec<u8> = scales
        .iter()
        .zip(&offsets[1..])
        .map(|(scale, offset)| scale | (offset << 4))
        .collect();
    let block = [
        &packed[..],
        &two_low_bits(&quants),
        &half(scale),
        &half(offset),
    ]
    .concat();
    expect(Encoding::Q2K, block, &|i| {
        let (group_scale, group_offset) =
            (f32::from(scales[i / 16]), f32::from(offsets[1 + i / 16]));
        scale * group_scale * f32::from(quants[i]) - offset * group_offset
    });

    let (quants, scales) = (numbers(256, 8), numbers(16, 64));
    let mut high_bits = [0; 32];
    for (i, quant) in quants.iter().enumerate() {
        high_bits[i % 32] |= (quant >> 2) << (i / 32);
    }
    let mut packed = [0; 12];
    for (group, scale) in scales.iter().enumerate() {
        packed[group % 8] |= (scale & 15) << (4 * (group / 8));
        packed[8 + group % 4] |= (scale >> 4) << (2 * (group / 4));
    }
    let block = [
        &high_bits[..],
        &two_low_bits(&quants),
        &packed,
        &half(scale),
    ]
    .concat();
    expect(Encoding::Q3K, block, &|i| {
        scale * (f32::from(scales[i / 16]) - 32.0) * (f32::from(quants[i]) - 4.0)
    });

    let (quants, scales, offsets) = (numbers(256, 16), numbers(8, 64), numbers(9, 64));
    let packed = scales_and_offsets(&scales, &offsets[1..]);
    let block = [
        &half(scale)[..],
        &half(offset),
        &packed,
        &four_low_bits(&quants),
    ]
    .concat();
    let affine = |i: usize, quant: u8| {
        scale * f32::from(scales[i / 32]) * f32::from(quant)
            - offset * f32::from(offsets[1 + i / 32])
    };
    expect(Encoding::Q4K, block, &|i| affine(i, quants[i]));

    let quants = numbers(256, 32);
    let mut high_bits = [0; 32];
    for (i, quant) in quants.iter().enumerate() {
        high_bits[i % 32] |= (quant >> 4) << (i / 32);
    }
    let block = [
        &half(scale)[..],
        &half(offset),
        &packed,
        &high_bits,
        &four_low_bits(&quants),
    ]
    .concat();
    expect(Encoding::Q5K, block, &|i| affine(i, quants[i]));

    let (quants, scales) = (numbers(256, 64), numbers(16, 256));
    let (mut low_bits, mut high_bits) = ([0; 128], [0; 64]);
    for (i, quant) in quants.iter().enumerate() {
        let (half, run, place) = (i / 128, i % 128 / 32, i % 32);
        low_bits[64 * half + 32 * (run % 2) + place] |= (quant & 15) << (4 * (run / 2));
        high_bits[32 * half + place] |= (quant >> 4) << (2 * run);
    }
    let block = [&low_bits[..], &high_bits, &scales, &half(scale)].concat();
    expect(Encoding::Q6K, block, &|i| {
        scale * f32::from(scales[i / 16] as i8) * (f32::from(quants[i]) - 32.0)
    });
}

/// Two blocks of bytes from the generator `x -> 1664525 x + 1013904223` (seed 1, top byte), the
/// half-precision numbers at the given places replaced by 0x2E66 and 0xA8CD, decoded by
/// `gguf.quants.dequantize` of the Python package gguf 0.19: the sum of value times place (from 1),
/// and values 0, n - 1 and n + 7 of a block of n.
#[test]
fn another_program_decodes_the_same() {
    let cases: [(Encoding, &[usize], f64, [f32; 3]); 10] = [
        (
            Encoding::Q4_0,
            &[0],
            -258.2369384765625,
            [-0.6998291, -0.29992676, -0.6998291],
        ),
        (
            Encoding::Q4_1,
            &[0, 2],
            1573.2840576171875,
            [1.1622009, 0.7622986, 1.2621765],
        ),
        (
            Encoding::Q5_0,
            &[0],
            -76.8812255859375,
            [0.5998535, -1.4996338, -0.39990234],
        ),
        (
            Encoding::Q5_1,
            &[0, 2],
            3277.0679931640625,
            [0.36239624, 2.0619812, 0.5623474],
        ),
        (
            Encoding::Q8_0,
            &[0],
            1910.933349609375,
            [-12.696899, -0.49987793, 9.497681],
        ),
        (
            Encoding::Q2K,
            &[80, 82],
            190629.13671875,
            [0.11251831, 2.7620544, 3.524231],
        ),
        (
            Encoding::Q3K,
            &[108],
            -41424.884033203125,
            [2.0994873, 10.797363, 2.7993164],
        ),
        (
            Encoding::Q4K,
            &[0, 2],
            3121190.3193359375,
            [14.546509, 39.85324, 13.135162],
        ),
        (
            Encoding::Q5K,
            &[0, 2],
            7953629.390380859,
            [8.547974, 22.65744, 108.911285],
        ),
        (
            Encoding::Q6K,
            &[208],
            -558165.5958251953,
            [-114.77197, -0.0, 164.95972],
        ),
    ];
    for (encoding, places, sum, picked) in cases {
        let mut state = 1_u32;
        let mut bytes: Vec<u8> = (0..2 * encoding.block_bytes())
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect();
        for block in bytes.chunks_mut(encoding.block_bytes()) {
            for (place, number) in places.iter().zip([0x2E66_u16, 0xA8CD]) {
                block[*place..place + 2].copy_from_slice(&number.to_le_bytes());
            }
        }
        let n = encoding.block_values();
        let mut values = vec![0.0; 2 * n];
        encoding.decode(&bytes, &mut values);
        let weighted: f64 = values
            .iter()
            .enumerate()
            .map(|(i, &value)| f64::from(value) * (i + 1) as f64)
            .sum();
        assert!(
            (weighted - sum).abs() <= 1e-9 * sum.abs(),
            "{encoding:?}: {weighted} instead of {sum}"
        );
        assert_eq!(
            [values[0], values[n - 1], values[n + 7]],
            picked,
            "{encoding:?}"
        );
    }
}

#[test]
fn sizes_are_counted_in_whole_blocks() {
    assert_eq!(Encoding::Q4_1.bytes(64), Some(40));
    assert_eq!(Encoding::Q4_1.bytes(33), None);
    assert_eq!(Encoding::Q6K.bytes(256), Some(210));
    assert_eq!(Encoding::F32.bytes(usize::MAX), None);
}
