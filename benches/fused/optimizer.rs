//! AdamW of 32 million parameters, their gradient clipped to a global norm of 1.

use crate::agreement::agree;
use crate::plain::{ClippedAdamW, tensor, variable};
use crate::{model, random};
use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor};
use candle_nn::{AdamW as CandleAdamW, Optimizer, ParamsAdamW};
use criterion::{BatchSize, Criterion, Throughput};
use seele_policy::adamw::{AdamW, AdamWSettings, global_norm};
use seele_policy::parameters::{Layout, Parameters};
use std::hint::black_box;
use std::sync::Arc;

const SETTINGS: AdamWSettings = AdamWSettings {
    beta1: 0.9,
    beta2: 0.999,
    epsilon: 1e-8,
    weight_decay: 0.1,
};
const LEARNING_RATE: f64 = 1e-3;

/// Clips and updates; the gradient is zero afterwards.
fn step(optimizer: &mut AdamW, parameters: &mut Parameters, gradient: &mut [f32]) {
    let scale = (1.0 / global_norm(gradient)).min(1.0);
    optimizer.step(&SETTINGS, LEARNING_RATE, scale, parameters, gradient);
}

/// candle's variables with the values of `parameters`, and their optimizers.
fn candles(parameters: &Parameters) -> Result<ClippedAdamW> {
    let tensors = parameters.layout().tensors();
    let variables = tensors
        .iter()
        .map(|spec| variable(&parameters.values[spec.range()], spec.shape.as_slice()))
        .collect::<Result<Vec<_>>>()?;
    let (matrices, vectors) = variables.iter().cloned().partition(|var| var.rank() > 1);
    let optimizer = |variables, weight_decay| {
        let params = ParamsAdamW {
            lr: LEARNING_RATE,
            beta1: SETTINGS.beta1,
            beta2: SETTINGS.beta2,
            eps: SETTINGS.epsilon,
            weight_decay,
        };
        CandleAdamW::new(variables, params)
    };
    Ok(ClippedAdamW {
        optimizers: [
            optimizer(matrices, SETTINGS.weight_decay)?,
            optimizer(vectors, 0.0)?,
        ],
        variables,
        store: GradStore::default(),
    })
}

pub(crate) fn optimizer(c: &mut Criterion) -> Result<()> {
    // The embedding and one block.
    let mut parameters = Parameters::zeros(Arc::new(Layout::of(&model(1, true))));
    let count = parameters.values.len();
    parameters.values = random(count, 1);
    let mut theirs = candles(&parameters)?;
    let layout = parameters.layout().clone();
    let split = |gradient: &[f32]| -> Result<Vec<Tensor>> {
        let tensors = layout.tensors().iter();
        tensors
            .map(|spec| tensor(&gradient[spec.range()], spec.shape.as_slice()))
            .collect()
    };
    let mut ours = AdamW::new(count);

    // Two updates, so that the moments are more than the gradient and its square.
    let before = random(count, 1);
    let gradients = [random(count, 2), random(count, 3)];
    for gradient in &gradients {
        step(&mut ours, &mut parameters, &mut gradient.clone());
        theirs.step(&split(gradient)?)?;
    }
    for (spec, variable) in layout.tensors().iter().zip(&theirs.variables) {
        let (new, old) = (&parameters.values[spec.range()], &before[spec.range()]);
        let change: Vec<f32> = new.iter().zip(old).map(|(a, b)| a - b).collect();
        let theirs = (variable.as_tensor() - tensor(old, spec.shape.as_slice())?)?;
        agree(&format!("change of {}", spec.name), &change, &theirs, 1e-3)?;
    }

    let gradient = &gradients[0];
    let split = split(gradient)?;
    let mut group = c.benchmark_group("clipped adamw");
    group.throughput(Throughput::Elements(count as u64));
    group.bench_function("seele", |b| {
        let step = |gradient: &mut Vec<f32>| step(&mut ours, &mut parameters, black_box(gradient));
        b.iter_batched_ref(|| gradient.clone(), step, BatchSize::PerIteration);
    });
    group.bench_function("candle", |b| b.iter(|| theirs.step(&split)));
    group.finish();
    Ok(())
}
