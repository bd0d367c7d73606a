//! The fused operations of `seele-policy` beside plain compositions of candle's tensor operations.
//!
//! `cargo bench --manifest-path benches/Cargo.toml` runs all, `... -- attention` one group. Both sides
//! compute in float32, get the same inputs at the widths of SmolLM2-135M (hidden 576, inner 1536, 9 query
//! and 3 key-value heads of 64, vocabulary 49,152) and rayon's threads; each group first checks that they
//! agree. candle's matrix products pick their instructions at run time as ours do, its elementwise loops
//! do not: `RUSTFLAGS="-C target-cpu=native"` gives them the processor's vectors.
#![allow(
    missing_docs,
    reason = "criterion's macro makes an undocumented function"
)]

mod agreement;
mod attention;
mod elementwise;
mod logprobs;
mod optimizer;
mod plain;

use candle_core::Result;
use criterion::{Criterion, criterion_group, criterion_main};
use seele_policy::config::{Family, ModelConfig};
use seele_random::Key;
use std::time::Duration;

/// Rows of the elementwise operations and of attention.
const ROWS: usize = 2048;
/// Width of hidden states.
const HIDDEN: usize = 576;
/// Query heads.
const HEADS: usize = 9;
/// Key-value heads.
const KV_HEADS: usize = 3;
/// Width of a head.
const HEAD_WIDTH: usize = 64;
/// Width between a block's gates and its down projection.
const INNER: usize = 1536;
/// Words.
const VOCABULARY: usize = 49_152;
/// Added to the mean square by the norms.
const EPSILON: f64 = 1e-5;

/// SmolLM2-135M with another number of blocks, and its output projection tied to the embedding or not.
fn model(layers: usize, tied: bool) -> ModelConfig {
    ModelConfig {
        family: Family::Llama,
        vocab_size: VOCABULARY,
        hidden_size: HIDDEN,
        intermediate_size: INNER,
        layers,
        heads: HEADS,
        kv_heads: KV_HEADS,
        head_dim: HEAD_WIDTH,
        rms_norm_eps: EPSILON,
        rope_theta: 10_000.0,
        rope_scaling: None,
        max_position_embeddings: 2048,
        tied,
        qkv_bias: false,
        qk_norm: false,
        bos_token_id: None,
        eos_token_ids: vec![0],
    }
}

/// Values in [-1, 1).
fn random(len: usize, key: u64) -> Vec<f32> {
    (0..len)
        .map(|i| (2.0 * Key::new(key).with(i as u64).uniform() - 1.0) as f32)
        .collect()
}

/// Compares and times one operation.
type Group = fn(&mut Criterion) -> Result<()>;

fn fused(c: &mut Criterion) {
    let groups: [(&str, Group); 6] = [
        ("rms norm", elementwise::rms_norm),
        ("rotary", elementwise::rotary),
        ("swiglu", elementwise::swiglu),
        ("attention", attention::attention),
        ("logprobs", logprobs::logprobs),
        ("optimizer", optimizer::optimizer),
    ];
    for (name, group) in groups {
        if let Err(error) = group(c) {
            panic!("{name}: candle refused: {error}");
        }
    }
}

criterion_group! {
    name = operations;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = fused
}
criterion_main!(operations);
