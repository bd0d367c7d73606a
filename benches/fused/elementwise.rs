//! RMS norm, rotary embedding and SwiGLU on 2048 rows.

use crate::agreement::agree;
use crate::plain::{self, gradients, tensor, variable};
use crate::{EPSILON, HEAD_WIDTH, HEADS, HIDDEN, INNER, KV_HEADS, ROWS, random};
use candle_core::Result;
use criterion::{BatchSize, Criterion, Throughput};
use seele_policy::kernels::elementwise::{self, Rotary};
use std::hint::black_box;

pub(crate) fn rms_norm(c: &mut Criterion) -> Result<()> {
    let (x, dy) = (random(ROWS * HIDDEN, 1), random(ROWS * HIDDEN, 2));
    let weight = random(HIDDEN, 3);
    let (mut y, mut dx) = (vec![0.0; x.len()], vec![0.0; x.len()]);
    let mut dweight = vec![0.0; HIDDEN];
    let forward = |y: &mut [f32]| elementwise::rms_norm(black_box(&x), &weight, EPSILON as f32, y);
    let backward = |dx: &mut [f32], dweight: &mut [f32]| {
        // The gradients are added to.
        dx.fill(0.0);
        dweight.fill(0.0);
        elementwise::rms_norm_backward(&x, &weight, EPSILON as f32, &dy, dx, dweight);
    };

    let shape = (ROWS, HIDDEN);
    let (xs, weights) = (tensor(&x, shape)?, tensor(&weight, HIDDEN)?);
    let (x_var, weight_var) = (variable(&x, shape)?, variable(&weight, HIDDEN)?);
    let dys = tensor(&dy, shape)?;
    let plain = || plain::rms_norm(black_box(&xs), &weights, EPSILON);
    let plain_both = || {
        let y = plain::rms_norm(&x_var, &weight_var, EPSILON)?;
        gradients(&y, &dys, &[&x_var, &weight_var])
    };

    forward(&mut y);
    backward(&mut dx, &mut dweight);
    agree("rms norm", &y, &plain()?, 1e-6)?;
    let theirs = plain_both()?;
    agree("rms norm's gradient by x", &dx, &theirs[0], 1e-5)?;
    agree(
        "rms norm's gradient by the weight",
        &dweight,
        &theirs[1],
        1e-5,
    )?;

    let mut group = c.benchmark_group("rms norm");
    group.throughput(Throughput::Elements(x.len() as u64));
    group.bench_function("forward/seele", |b| b.iter(|| forward(&mut y)));
    group.bench_function("forward/candle", |b| b.iter(plain));
    group.bench_function("forward+backward/seele", |b| {
        b.iter(|| {
            forward(&mut y);
            backward(&mut dx, &mut dweight);
        });
    });
    group.bench_function("forward+backward/candle", |b| b.iter(plain_both));
    group.finish();
    Ok(())
}

/// Queries and keys; ours rotates in place.
pub(crate) fn rotary(c: &mut Criterion) -> Result<()> {
    let width = (HEADS + KV_HEADS) * HEAD_WIDTH;
    let (x, dy) = (random(ROWS * width, 1), random(ROWS * width, 2));
    let half = HEAD_WIDTH / 2;
    let frequencies: Vec<f32> = (0..half)
        .map(|i| 10_000f64.powf(-(i as f64) / half as f64) as f32)
        .collect();
    let table = Rotary::new(&frequencies, ROWS);
    let positions: Vec<usize> = (0..ROWS).collect();
    let rotate = |x: &mut [f32], sign| table.rotate(black_box(x), width, width, &positions, sign);

    let angles = positions
        .iter()
        .flat_map(|&p| frequencies.iter().map(move |&f| p as f64 * f64::from(f)));
    let (sines, cosines): (Vec<f32>, Vec<f32>) =
        angles.map(|a| (a.sin() as f32, a.cos() as f32)).unzip();
    let shape = (ROWS, HEADS + KV_HEADS, HEAD_WIDTH);
    let (cosines, sines) = (
        tensor(&cosines, (ROWS, 1, half))?,
        tensor(&sines, (ROWS, 1, half))?,
    );
    let (xs, x_var, dys) = (
        tensor(&x, shape)?,
        variable(&x, shape)?,
        tensor(&dy, shape)?,
    );
    let plain = || plain::rotary(black_box(&xs), &cosines, &sines);
    let plain_both = || {
        let y = plain::rotary(&x_var, &cosines, &sines)?;
        gradients(&y, &dys, &[&x_var])
    };

    let (mut y, mut dx) = (x.clone(), dy.clone());
    rotate(&mut y, 1.0);
    rotate(&mut dx, -1.0);
    agree("rotary", &y, &plain()?, 1e-6)?;
    agree("rotary's gradient", &dx, &plain_both()?[0], 1e-6)?;

    let mut group = c.benchmark_group("rotary");
    group.throughput(Throughput::Elements(x.len() as u64));
    group.bench_function("forward/seele", |b| b.iter(|| rotate(&mut y, 1.0)));
    group.bench_function("forward/candle", |b| b.iter(plain));
    group.bench_function("forward+backward/seele", |b| {
        b.iter(|| {
            rotate(&mut y, 1.0);
            rotate(&mut dx, -1.0);
        });
    });
    group.bench_function("forward+backward/candle", |b| b.iter(plain_both));
    group.finish();
    Ok(())
}

pub(crate) fn swiglu(c: &mut Criterion) -> Result<()> {
    let (gate_up, dy) = (random(2 * ROWS * INNER, 1), random(ROWS * INNER, 2));
    let mut y = vec![0.0; ROWS * INNER];
    let forward = |y: &mut [f32]| elementwise::swiglu(black_box(&gate_up), INNER, y);
    let backward = |gate_up: &mut [f32]| elementwise::swiglu_backward(gate_up, INNER, &dy);

    let shape = (ROWS, 2 * INNER);
    let (xs, x_var) = (tensor(&gate_up, shape)?, variable(&gate_up, shape)?);
    let dys = tensor(&dy, (ROWS, INNER))?;
    let plain = || plain::swiglu(black_box(&xs), INNER);
    let plain_both = || gradients(&plain::swiglu(&x_var, INNER)?, &dys, &[&x_var]);

    forward(&mut y);
    let mut gradient = gate_up.clone();
    backward(&mut gradient);
    agree("swiglu", &y, &plain()?, 2e-6)?;
    agree("swiglu's gradient", &gradient, &plain_both()?[0], 2e-6)?;

    let mut group = c.benchmark_group("swiglu");
    group.throughput(Throughput::Elements(y.len() as u64));
    group.bench_function("forward/seele", |b| b.iter(|| forward(&mut y)));
    group.bench_function("forward/candle", |b| b.iter(plain));
    group.bench_function("forward+backward/seele", |b| {
        // Gradients take the place of gates and ups, so each turn gets its own.
        let work = |gate_up: &mut Vec<f32>| {
            forward(&mut y);
            backward(gate_up);
        };
        b.iter_batched_ref(|| gate_up.clone(), work, BatchSize::PerIteration);
    });
    group.bench_function("forward+backward/candle", |b| b.iter(plain_both));
    group.finish();
    Ok(())
}
