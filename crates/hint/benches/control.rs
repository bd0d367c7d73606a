//! Nanoseconds a decision. `cargo bench -p seele-hint`.

#![expect(clippy::unwrap_used, reason = "a benchmark fails by panicking")]
use criterion::{Criterion, criterion_group, criterion_main};
use seele_hint::{FitSet, FitSetOptions, LeastSquares, Observation};
use std::hint::black_box;

fn fits(criterion: &mut Criterion) {
    let seen = |rate, accuracy| Observation {
        rate,
        accuracy,
        rollouts: 8,
    };
    let rounds = [seen(0.98, 1.0), seen(0.58, 0.375), seen(0.6, 0.75)];
    let set = FitSet::new(&rounds, &[], FitSetOptions::default()).unwrap();
    assert_eq!(set.points().len(), 5);
    criterion.bench_function("irt-lsq fit, 5 points", |bencher| {
        bencher.iter(|| LeastSquares::default().fit(black_box(&set)));
    });
}

criterion_group!(benches, fits);
criterion_main!(benches);
