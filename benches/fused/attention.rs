//! Causal attention of 4 sequences of 512 tokens.

use crate::agreement::agree;
use crate::plain::{self, gradients, tensor, variable};
use crate::{HEAD_WIDTH, HEADS, KV_HEADS, ROWS, random};
use candle_core::Result;
use criterion::{Criterion, Throughput};
use seele_policy::kernels::attention::{Heads, causal, causal_backward};
use seele_policy::kernels::matmul::Compute;
use std::hint::black_box;

pub(crate) fn attention(c: &mut Criterion) -> Result<()> {
    const TOKENS: usize = 512;
    const LENGTHS: [usize; ROWS / TOKENS] = [TOKENS; ROWS / TOKENS];
    let heads = Heads {
        kv_heads: KV_HEADS,
        per_kv: HEADS / KV_HEADS,
        width: HEAD_WIDTH,
        compute: Compute::F32,
    };
    let qkv = random(ROWS * heads.row_width(), 1);
    let dy = random(ROWS * heads.query_width(), 2);
    let (mut y, mut dqkv) = (vec![0.0; dy.len()], vec![0.0; qkv.len()]);
    let forward = |y: &mut [f32]| causal(heads, &LENGTHS, black_box(&qkv), y);
    let backward = |dqkv: &mut [f32]| causal_backward(heads, &LENGTHS, &qkv, &dy, dqkv);

    let shape = (LENGTHS.len(), TOKENS, HEADS + 2 * KV_HEADS, HEAD_WIDTH);
    let (xs, x_var) = (tensor(&qkv, shape)?, variable(&qkv, shape)?);
    let dys = tensor(&dy, (ROWS, heads.query_width()))?;
    let mask: Vec<f32> = (0..TOKENS * TOKENS)
        .map(|i| match i % TOKENS > i / TOKENS {
            true => f32::NEG_INFINITY,
            false => 0.0,
        })
        .collect();
    let mask = tensor(&mask, (TOKENS, TOKENS))?;
    let plain = || plain::attention(black_box(&xs), KV_HEADS, &mask);
    let plain_both = || {
        let y = plain::attention(&x_var, KV_HEADS, &mask)?;
        gradients(&y, &dys, &[&x_var])
    };

    forward(&mut y);
    backward(&mut dqkv);
    agree("attention", &y, &plain()?, 2e-6)?;
    agree("attention's gradient", &dqkv, &plain_both()?[0], 1e-5)?;

    let mut group = c.benchmark_group("attention");
    group.throughput(Throughput::Elements(ROWS as u64));
    group.bench_function("forward/seele", |b| b.iter(|| forward(&mut y)));
    group.bench_function("forward/candle", |b| b.iter(plain));
    group.bench_function("forward+backward/seele", |b| {
        b.iter(|| {
            forward(&mut y);
            backward(&mut dqkv);
        });
    });
    group.bench_function("forward+backward/candle", |b| b.iter(plain_both));
    group.finish();
    Ok(())
}
