//! Nanoseconds a decision. `cargo bench -p seele-hint`.
#![expect(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

#[path = "../../../tests/reference.rs"]
mod reference;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use seele_hint::{
    Estimator, FitSet, FitSetOptions, ForkResult, HintConfig, HintController, LeastSquares,
    Observation, Visit, VisitContext,
};
use std::hint::black_box;

fn seen(rate: f64, accuracy: f64) -> Observation {
    Observation {
        rate,
        accuracy,
        rollouts: 8,
    }
}

fn least_squares(criterion: &mut Criterion) {
    let estimator = LeastSquares::default();
    // Three rounds and two margins, with a sum of squares far from 0: nothing is cut short.
    let noisy = [seen(0.98, 0.875), seen(0.58, 0.625), seen(0.64, 0.25)];
    let set = FitSet::new(&noisy, &[], FitSetOptions::default()).unwrap();
    assert_eq!(set.points().len(), 5);
    criterion.bench_function("irt-lsq/5 noisy points", |bencher| {
        bencher.iter(|| estimator.fit(black_box(&set)))
    });
    let exact = [seen(0.98, 1.0), seen(0.5, 0.125)];
    criterion.bench_function("irt-lsq/2 rounds, estimate", |bencher| {
        bencher.iter(|| estimator.estimate(black_box(&exact), 0.5));
    });

    let Some(sets) = golden_sets() else { return };
    let mut group = criterion.benchmark_group("irt-lsq");
    group.throughput(Throughput::Elements(sets.len() as u64));
    group.bench_function("all reference cases", |bencher| {
        bencher.iter(|| {
            sets.iter()
                .map(|set| estimator.fit(black_box(set)).sse)
                .sum::<f64>()
        });
    });
    group.finish();
}

/// The reference cases, if they are there.
fn golden_sets() -> Option<Vec<FitSet>> {
    let text = std::fs::read_to_string(reference::golden("irt_fits.json")?).unwrap();
    let golden: serde_json::Value = serde_json::from_str(&text).unwrap();
    let cases = golden["cases"].as_array().unwrap().iter();
    let sets = cases.map(|case| {
        let rounds = case["observations"].as_array().unwrap().iter();
        let rounds: Vec<_> = rounds
            .map(|r| seen(r["p"].as_f64().unwrap(), r["accuracy"].as_f64().unwrap()))
            .collect();
        FitSet::new(&rounds, &[], FitSetOptions::default()).unwrap()
    });
    Some(sets.collect())
}

/// A visit after one round, so that the next decision has something to decide.
fn started(schedule: &str) -> Visit {
    let controller = HintController::new(&HintConfig::preset(schedule).unwrap()).unwrap();
    let context = VisitContext {
        seed: 1,
        step: 0,
        total_steps: 1,
        epoch: 0,
    };
    let mut visit = controller.start_visit(0, 200, &[], context).unwrap();
    visit.next_round().unwrap();
    visit
        .observe(&[ForkResult {
            successes: 3,
            rollouts: 8,
        }])
        .unwrap();
    visit
}

fn decisions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decision");
    for schedule in ["seele", "seele-bayes"] {
        let visit = started(schedule);
        group.bench_function(schedule, |bencher| {
            bencher.iter_batched_ref(
                || visit.clone(),
                |visit| visit.next_round(),
                criterion::BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, least_squares, decisions);
criterion_main!(benches);
