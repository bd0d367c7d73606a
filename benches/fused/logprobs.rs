//! Output projection, log-probs and entropies of 512 rows, with the norm before them.
//!
//! Ours is a model without blocks: embedding, final norm and head. candle starts from the embedding's rows,
//! each token being another, so that our gradient of the embedding is its gradient of the rows.

use crate::agreement::agree;
use crate::plain::{self, gradients_of, tensor, variable};
use crate::{EPSILON, HIDDEN, VOCABULARY, model, random};
use candle_core::{Device, Error, Result, Tensor};
use criterion::{Criterion, Throughput};
use seele_policy::decoder::{Decoder, ScoreGradients, TreeBranch, TreeGroup};
use seele_policy::parameters::Parameters;
use seele_random::Key;
use std::convert::Infallible;

const ROWS: usize = 512;

pub(crate) fn logprobs(c: &mut Criterion) -> Result<()> {
    let config = model(0, false);
    let parameters = Parameters::random(&config, Key::new(1));
    let named = |name: &str| {
        let spec = parameters.layout().find(name);
        let range = spec.map(|spec| spec.range());
        range.ok_or_else(|| Error::msg(format!("the model has no {name}")))
    };
    let [embedding, norm, head] = [
        named("model.embed_tokens.weight")?,
        named("model.norm.weight")?,
        named("lm_head.weight")?,
    ];
    // 97 and the vocabulary have no common divisor.
    let tokens: Vec<u32> = (0..=ROWS).map(|i| (i * 97 % VOCABULARY) as u32).collect();
    let (dlogprobs, dentropies) = (random(ROWS, 2), random(ROWS, 3));

    let decoder = Decoder::new(&config, &parameters);
    let groups = [TreeGroup {
        trunk: &tokens[..1],
        prompt_tokens: 1,
        branches: vec![TreeBranch {
            fork: 1,
            tokens: &tokens[1..],
        }],
    }];
    let forward = || decoder.evaluate(&groups, 1.0);
    let mut gradient = vec![0.0; parameters.values.len()];
    let both = |gradient: &mut [f32]| {
        // The gradient is added to; candle makes none of the embedding.
        gradient[norm.clone()].fill(0.0);
        gradient[head.clone()].fill(0.0);
        decoder.train(&groups, 1.0, gradient, |_| {
            Ok::<_, Infallible>(ScoreGradients {
                logprobs: dlogprobs.clone(),
                entropies: dentropies.clone(),
            })
        })
    };

    let values = &parameters.values;
    let row_of = |token: u32| embedding.start + token as usize * HIDDEN;
    let rows_of = |values: &[f32]| -> Vec<f32> {
        let rows = tokens[..ROWS].iter();
        rows.flat_map(|&token| values[row_of(token)..][..HIDDEN].iter().copied())
            .collect()
    };
    let hidden = variable(&rows_of(values), (ROWS, HIDDEN))?;
    let weight = variable(&values[norm.clone()], HIDDEN)?;
    let projection = variable(&values[head.clone()], (VOCABULARY, HIDDEN))?;
    let targets = Tensor::from_slice(&tokens[1..], ROWS, &Device::Cpu)?;
    let slopes = [tensor(&dlogprobs, ROWS)?, tensor(&dentropies, ROWS)?];
    let score = |hidden: &Tensor, weight: &Tensor, projection: &Tensor| {
        let normed = plain::rms_norm(hidden, weight, EPSILON)?;
        plain::logprobs(&normed, projection, &targets)
    };
    let [hiddens, weights, projections] =
        [&hidden, &weight, &projection].map(|var| var.as_detached_tensor());
    let plain = || score(&hiddens, &weights, &projections);
    let plain_both = || {
        let [logprobs, entropies] = score(&hidden, &weight, &projection)?;
        let loss = ((logprobs * &slopes[0])?.sum_all()? + (entropies * &slopes[1])?.sum_all()?)?;
        gradients_of(loss, &[&hidden, &weight, &projection])
    };

    let scores = forward();
    let Ok(trained) = both(&mut gradient);
    assert_eq!(scores, trained, "forward alone and with backward");
    let theirs = plain()?;
    agree("log-probs", &scores.logprobs, &theirs[0], 1e-6)?;
    agree("entropies", &scores.entropies, &theirs[1], 1e-6)?;
    let theirs = plain_both()?;
    agree(
        "gradient by hidden states",
        &rows_of(&gradient),
        &theirs[0],
        1e-4,
    )?;
    agree(
        "gradient by the norm",
        &gradient[norm.clone()],
        &theirs[1],
        1e-4,
    )?;
    agree(
        "gradient by the projection",
        &gradient[head.clone()],
        &theirs[2],
        1e-4,
    )?;

    let mut group = c.benchmark_group("logprobs");
    group.throughput(Throughput::Elements(ROWS as u64));
    group.bench_function("forward/seele", |b| b.iter(forward));
    group.bench_function("forward/candle", |b| b.iter(plain));
    group.bench_function("forward+backward/seele", |b| b.iter(|| both(&mut gradient)));
    group.bench_function("forward+backward/candle", |b| b.iter(plain_both));
    group.finish();
    Ok(())
}
