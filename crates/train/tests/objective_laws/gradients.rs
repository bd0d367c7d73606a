//! Derivatives against central finite differences, over random objectives.

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use seele_train::objective::{Objective, ObjectiveConfig};

use crate::support::{Batch, SEQUENCE_RATIO, TOKEN_RATIO, batch, config};

const STEP: f64 = 1e-6;

/// The loss as a function of all current values, preparation included.
fn loss(objective: &mut Objective, logprobs: &[f64], entropies: &[f64]) -> f64 {
    if objective.needs_all_logprobs_first() {
        objective.prepare(logprobs, Some(entropies)).unwrap();
    }
    objective
        .evaluate(0, logprobs, Some(entropies))
        .unwrap()
        .loss
}

fn slope(values: &[f64], index: usize, mut loss: impl FnMut(&[f64]) -> f64) -> f64 {
    let mut moved = values.to_vec();
    moved[index] += STEP;
    let up = loss(&moved);
    moved[index] = values[index] - STEP;
    (up - loss(&moved)) / (2.0 * STEP)
}

/// Whether a kink (clip bound, filter rank, |d| at 0) lies within the step: the derivative jumps across it.
fn smooth(
    objective: &mut Objective,
    logprobs: &[f64],
    entropies: &[f64],
    index: usize,
    gradient: f64,
) -> bool {
    [-2.0 * STEP, 2.0 * STEP].iter().all(|shift| {
        let mut moved = logprobs.to_vec();
        moved[index] += shift;
        loss(objective, &moved, entropies);
        let there = objective
            .evaluate(0, &moved, Some(entropies))
            .unwrap()
            .grad_logprobs[index];
        (there - gradient).abs() <= 1e-3 * (1.0 + gradient.abs())
    })
}

fn check(config: &ObjectiveConfig, batch: &Batch) -> Result<(), TestCaseError> {
    let (mut objective, found) = batch.evaluate(config);
    let (logprobs, entropies) = (batch.logprobs(), batch.entropies());
    for (index, &gradient) in found.grad_logprobs.iter().enumerate() {
        if !smooth(&mut objective, &logprobs, &entropies, index, gradient) {
            continue;
        }
        let expected = slope(&logprobs, index, |moved| {
            loss(&mut objective, moved, &entropies)
        });
        prop_assert!(
            (gradient - expected).abs() <= 1e-6 * (1.0 + gradient.abs()),
            "slot {index}: {gradient} instead of {expected}"
        );
    }
    for (index, &gradient) in found.grad_entropies.iter().enumerate() {
        let expected = slope(&entropies, index, |moved| {
            // The filter's choice is a constant; only the bonus has a derivative.
            objective.prepare(&logprobs, Some(&entropies)).unwrap();
            objective.evaluate(0, &logprobs, Some(moved)).unwrap().loss
        });
        prop_assert!(
            (gradient - expected).abs() <= 1e-6,
            "entropy of slot {index}: {gradient} instead of {expected}"
        );
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(2),
        ..ProptestConfig::default()
    })]

    #[test]
    fn with_one_ratio_a_token(config in config(TOKEN_RATIO), batch in batch(1..3)) {
        check(&config, &batch)?;
    }

    #[test]
    fn with_one_ratio_a_sequence(config in config(SEQUENCE_RATIO), batch in batch(1..3)) {
        check(&config, &batch.without_traces())?;
    }
}
