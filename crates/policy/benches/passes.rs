//! Speed of the fused operations and of whole passes, in both number types.
//!
//! `cargo bench -p seele-policy -- matmul` runs one part. A product's floor is its 2 m k n operations at
//! the speed of the largest shape here; an elementwise operation's is its bytes at memory speed; the
//! throughput criterion prints is elements of the first operand (rows x width) or tokens a second.
#![allow(
    missing_docs,
    reason = "criterion's macro makes an undocumented function"
)]

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use seele_policy::adamw::{AdamW, AdamWSettings, global_norm};
use seele_policy::config::{Family, ModelConfig};
use seele_policy::decoder::{
    BranchCache, Compute, DecodeRow, Decoder, DecoderOptions, Recompute, ScoreGradients,
    TreeBranch, TreeGroup, TrunkCache,
};
use seele_policy::kernels::elementwise::{
    Rotary, rms_norm, rms_norm_backward, swiglu, swiglu_backward,
};
use seele_policy::kernels::matmul::{Packed, add_outer, matmul};
use seele_policy::kernels::softmax::log_sum_exp_and_entropy;
use seele_policy::parameters::{Layout, Parameters};
use seele_random::Key;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

const BOTH: [Compute; 2] = [Compute::F32, Compute::Bf16];

fn random(len: usize) -> Vec<f32> {
    (0..len)
        .map(|i| (Key::new(1).with(i as u64).uniform() - 0.5) as f32)
        .collect()
}

/// SmolLM2-135M's widths with fewer blocks and words.
fn config(layers: usize) -> ModelConfig {
    ModelConfig {
        family: Family::Llama,
        vocab_size: 4096,
        hidden_size: 576,
        intermediate_size: 1536,
        layers,
        heads: 9,
        kv_heads: 3,
        head_dim: 64,
        rms_norm_eps: 1e-5,
        rope_theta: 10_000.0,
        rope_scaling: None,
        max_position_embeddings: 2048,
        tied: true,
        qkv_bias: false,
        qk_norm: false,
        bos_token_id: None,
        eos_token_ids: vec![0],
    }
}

fn tokens(len: usize, key: u64) -> Vec<u32> {
    (0..len)
        .map(|i| Key::new(key).with(i as u64).below(4096) as u32)
        .collect()
}

/// m x k times k x n; the throughput is operations (2 m k n).
fn products(c: &mut Criterion) {
    let mut group = c.benchmark_group("matmul");
    for (m, k, n) in [
        (32, 576, 3072),
        (128, 576, 3072),
        (2048, 576, 3072),
        (2048, 1536, 576),
    ] {
        let (a, w) = (random(m * k), random(n * k));
        let (mut y, mut gradient) = (vec![0.0; m * n], vec![0.0; n * k]);
        group.throughput(Throughput::Elements((2 * m * k * n) as u64));
        for compute in BOTH {
            let name = format!("{compute:?} {m}x{k}x{n}");
            let b = Packed::transposed(&w, n, k, compute);
            group.bench_function(BenchmarkId::new("forward", &name), |bench| {
                bench.iter(|| matmul(black_box(&a), &b, &mut y));
            });
            if m >= 2048 {
                group.bench_function(BenchmarkId::new("weight gradient", &name), |bench| {
                    bench.iter(|| {
                        let parts = &mut [(0, gradient.as_mut_slice())];
                        add_outer(black_box(&y), n, &a, k, compute, parts);
                    });
                });
            }
        }
    }
    group.finish();
}

/// 2048 rows of width 576 (1536 for SwiGLU).
fn elementwise(c: &mut Criterion) {
    let (rows, width, inner) = (2048, 576, 1536);
    let mut group = c.benchmark_group("elementwise");
    let (x, dy, weight) = (random(rows * width), random(rows * width), random(width));
    let (mut y, mut dweight) = (vec![0.0; rows * width], vec![0.0; width]);
    group.throughput(Throughput::Elements((rows * width) as u64));
    group.bench_function("rms norm", |bench| {
        bench.iter(|| rms_norm(black_box(&x), &weight, 1e-5, &mut y));
    });
    group.bench_function("rms norm backward", |bench| {
        bench.iter(|| rms_norm_backward(black_box(&x), &weight, 1e-5, &dy, &mut y, &mut dweight));
    });
    let rotary = Rotary::new(&config(1).rope_inverse_frequencies(), 2048);
    let positions: Vec<usize> = (0..rows).collect();
    group.bench_function("rotary", |bench| {
        bench.iter(|| rotary.rotate(black_box(&mut y), width, width, &positions, 1.0));
    });
    let (gate_up, dout) = (random(2 * rows * inner), random(rows * inner));
    let mut out = vec![0.0; rows * inner];
    group.throughput(Throughput::Elements((rows * inner) as u64));
    group.bench_function("swiglu", |bench| {
        bench.iter(|| swiglu(black_box(&gate_up), inner, &mut out));
    });
    group.bench_function("swiglu backward", |bench| {
        // Gradients take the place of gates and ups, so each turn gets its own.
        bench.iter_batched_ref(
            || gate_up.clone(),
            |gate_up| swiglu_backward(gate_up, inner, &dout),
            BatchSize::PerIteration,
        );
    });
    let logits = random(49_152);
    group.throughput(Throughput::Elements(49_152));
    group.bench_function("log-sum-exp and entropy of one row", |bench| {
        bench.iter(|| log_sum_exp_and_entropy(black_box(&logits)));
    });
    group.finish();
}

/// Norm of the gradient and update of 3.9 million parameters; the floor is 32 bytes a parameter.
fn optimizer(c: &mut Criterion) {
    let layout = Arc::new(Layout::of(&config(1)));
    let mut parameters = Parameters::zeros(layout);
    let gradient = random(parameters.values.len());
    let mut optimizer = AdamW::new(gradient.len());
    let settings = AdamWSettings {
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        weight_decay: 0.01,
    };
    let mut group = c.benchmark_group("optimizer");
    group.throughput(Throughput::Elements(gradient.len() as u64));
    group.bench_function("adamw", |bench| {
        let fresh = || gradient.clone();
        let step = |gradient: &mut Vec<f32>| {
            let scale = global_norm(black_box(gradient)).recip();
            optimizer.step(&settings, 1e-6, scale, &mut parameters, gradient);
        };
        bench.iter_batched_ref(fresh, step, BatchSize::PerIteration);
    });
    group.finish();
}

/// Forward and backward of two blocks and the head on a tree: prompt 150, hint 150, 8 branches of 100
/// tokens; and the same sequences each alone.
fn training(c: &mut Criterion) {
    let config = config(2);
    let parameters = Parameters::random(&config, Key::new(2));
    let trunk = tokens(300, 3);
    let branches: Vec<Vec<u32>> = (0..8).map(|i| tokens(100, 4 + i)).collect();
    let group = |branches| TreeGroup {
        trunk: &trunk,
        prompt_tokens: 150,
        branches,
    };
    let branch = |tokens| TreeBranch { fork: 300, tokens };
    let tree = [group(branches.iter().map(|b| branch(b)).collect())];
    let plain: Vec<TreeGroup<'_>> = branches.iter().map(|b| group(vec![branch(b)])).collect();
    let mut gradient = vec![0.0; parameters.values.len()];
    let mut bench_group = c.benchmark_group("train");
    for compute in BOTH {
        for recompute in [Recompute::None, Recompute::Block] {
            let options = DecoderOptions { compute, recompute };
            let decoder = Decoder::with_options(&config, &parameters, options);
            for (name, groups) in [("tree", &tree[..]), ("plain", &plain)] {
                let trained = branches.iter().map(|b| b.len()).sum::<usize>();
                bench_group.throughput(Throughput::Elements(trained as u64));
                let name = format!("{name} {compute:?} recompute {recompute:?}");
                bench_group.bench_function(name, |bench| {
                    bench.iter(|| {
                        decoder.train(groups, 1.0, &mut gradient, |scores| {
                            Ok::<_, ()>(ScoreGradients {
                                logprobs: vec![1e-3; scores.logprobs.len()],
                                entropies: vec![],
                            })
                        })
                    });
                });
            }
        }
    }
    bench_group.finish();
}

/// One token of each of 32 branches of a trunk of 256 tokens, two blocks and the head.
fn decoding(c: &mut Criterion) {
    let config = config(2);
    let parameters = Parameters::random(&config, Key::new(2));
    let mut group = c.benchmark_group("decode");
    group.throughput(Throughput::Elements(32));
    for compute in BOTH {
        let options = DecoderOptions {
            compute,
            ..DecoderOptions::default()
        };
        let decoder = Decoder::with_options(&config, &parameters, options);
        let mut trunk = TrunkCache::new(&config);
        decoder.extend_trunk(&mut trunk, &tokens(256, 3));
        let (mut hidden, mut logits) = (Vec::new(), Vec::new());
        group.bench_function(format!("32 branches {compute:?}"), |bench| {
            let fresh = || (0..32).map(|_| BranchCache::new(256)).collect();
            let mut branches: Vec<BranchCache> = fresh();
            bench.iter(|| {
                if branches[0].len() == 128 {
                    branches = fresh();
                }
                let mut rows: Vec<DecodeRow<'_>> = branches
                    .iter_mut()
                    .map(|branch| DecodeRow {
                        trunk: &trunk,
                        branch,
                        token: 7,
                    })
                    .collect();
                decoder.decode(&mut rows, &mut hidden);
                decoder.logits(&hidden, &mut logits);
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = passes;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = products, elementwise, optimizer, training, decoding
}
criterion_main!(passes);
