//! Verdicts a second on the public vectors, hostile ones left out, and on single cases of each cost.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a benchmark may stop at what it did not expect"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

#[path = "../tests/hostile/answers.rs"]
mod hostile;
#[path = "../../../tests/reference.rs"]
mod reference;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use seele_verify::{Extraction, Options, compare_answers, verify_choice};
use serde_json::Value;

fn vectors(criterion: &mut Criterion) {
    let Some(file) = reference::golden("verifier.jsonl") else {
        return;
    };
    let text = std::fs::read_to_string(file).unwrap();
    let cases: Vec<(Value, Options, Vec<String>)> = text
        .split('\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|case| !case["category"].as_str().unwrap().starts_with("hostile"))
        .map(|case| {
            let extraction = case.get("extract").map_or(Extraction::Boxed, |name| {
                serde_json::from_value(name.clone()).unwrap()
            });
            let options = Options {
                extraction,
                relative_tolerance: case["rel_tol"].as_f64(),
                ..Options::default()
            };
            let choices = case.get("choices").map_or_else(Vec::new, |choices| {
                serde_json::from_value(choices.clone()).unwrap()
            });
            (case, options, choices)
        })
        .collect();
    let mut group = criterion.benchmark_group("public vectors");
    group.throughput(Throughput::Elements(cases.len() as u64));
    group.sample_size(20);
    group.bench_function("all", |bencher| {
        bencher.iter(|| {
            let mut correct = 0;
            for (case, options, choices) in &cases {
                let gold = case["gold"].as_str().unwrap_or_default();
                let verdict = match case["prediction"].as_str() {
                    Some(prediction) => compare_answers(gold, prediction, options).verdict,
                    None => {
                        verify_choice(
                            case["response"].as_str().unwrap_or_default(),
                            gold,
                            choices,
                            options,
                        )
                        .verdict
                    }
                };
                correct += usize::from(verdict.is_correct());
            }
            black_box(correct)
        });
    });
    group.finish();
}

fn single(criterion: &mut Criterion) {
    for (name, gold, answer) in [
        ("integers", "1250", "1251"),
        ("fraction", r"\frac{3}{4}", "0.75"),
        ("polynomial", "x^2+2x+1", "(x+1)^2"),
        ("nested roots", r"1+\sqrt{2}", r"\sqrt{3+2\sqrt{2}}"),
        (
            "differential equation",
            r"y=e^{4 x}(c_{1}+c_{2} x)",
            r"y = c_{2} x e^{4 x} + c_{1} e^{4 x}",
        ),
        ("tower", r"2^{10^{9}}", r"2^{10^{9}}+1"),
    ] {
        criterion.bench_function(name, |bencher| {
            bencher
                .iter(|| compare_answers(black_box(gold), black_box(answer), &Options::default()));
        });
    }
}

/// The slowest verdict on hostile answers, printed: the limit is 20 ms.
fn slowest_hostile(criterion: &mut Criterion) {
    let answers = hostile::answers();
    let (mut slowest, mut gold, mut answer) = (Duration::ZERO, "", "");
    for one in &answers {
        for other in hostile::GOLDS {
            // The best of three, against what else the machine does.
            let spent = (0..3)
                .map(|_| {
                    let start = Instant::now();
                    black_box(compare_answers(other, one, &Options::default()));
                    start.elapsed()
                })
                .min()
                .unwrap();
            if spent > slowest {
                (slowest, gold, answer) = (spent, other, one);
            }
        }
    }
    println!("slowest hostile verdict: {slowest:?} for {gold} and {answer:.60}");
    criterion.bench_function("slowest hostile", |bencher| {
        bencher.iter(|| compare_answers(black_box(gold), black_box(answer), &Options::default()));
    });
}

criterion_group!(benches, vectors, single, slowest_hostile);
criterion_main!(benches);
