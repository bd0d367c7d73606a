//! Laws of curves, estimators and fit sets over random and hostile input.

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use seele_hint::curve::{B_RANGE, K_RANGE, MU_RANGE};
use seele_hint::{
    Bayes, Curve, Estimate, Estimator, FitSet, FitSetOptions, HintError, LeastSquares, Observation,
    Point, Weighting,
};

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(4),
        ..ProptestConfig::default()
    }
}

fn range([low, high]: [f64; 2]) -> std::ops::RangeInclusive<f64> {
    low..=high
}

fn curve() -> impl Strategy<Value = Curve> {
    (range(K_RANGE), range(MU_RANGE), range(B_RANGE)).prop_map(|(k, mu, b)| Curve { k, mu, b })
}

/// Rounds as a controller sees them, and harder: clustered, on a coarse grid, at the ends.
fn observations() -> impl Strategy<Value = Vec<Observation>> {
    let rate = prop_oneof![
        0.0..=1.0,
        (0u32..=10).prop_map(|tenth| f64::from(tenth) / 10.0),
        (0u32..=60).prop_map(|step| 0.5 + f64::from(step) / 400.0),
    ];
    let round = (rate, 0u32..=16, 1u32..=16).prop_map(|(rate, successes, rollouts)| Observation {
        rate,
        accuracy: f64::from(successes.min(rollouts)) / f64::from(rollouts),
        rollouts,
    });
    prop::collection::vec(round, 1..9)
}

fn weighting() -> impl Strategy<Value = Weighting> {
    prop_oneof![
        Just(Weighting::Rounds),
        Just(Weighting::Distinct),
        Just(Weighting::Binomial),
        Just(Weighting::Samples)
    ]
}

fn bits(estimate: Estimate) -> [u64; 6] {
    let Estimate {
        curve,
        sse,
        rate,
        predicted,
    } = estimate;
    [curve.k, curve.mu, curve.b, sse, rate, predicted].map(f64::to_bits)
}

/// The least sum of squares of a dense grid, every minimum followed down; shares no code with the estimator.
fn brute_force(points: &[Point]) -> f64 {
    let objective = |k: f64, mu: f64| {
        let (mut numerator, mut denominator) = (0.0, 0.0);
        let logistic = |p: &Point| 1.0 / (1.0 + (-k * (p.rate + mu)).exp());
        for p in points {
            let s = logistic(p);
            numerator += p.weight * (1.0 - s) * (p.accuracy - s);
            denominator += p.weight * (1.0 - s) * (1.0 - s);
        }
        let b = if denominator > 0.0 {
            (numerator / denominator).clamp(0.0, 0.95)
        } else {
            0.0
        };
        points
            .iter()
            .map(|p| p.weight * (b + (1.0 - b) * logistic(p) - p.accuracy).powi(2))
            .sum::<f64>()
    };
    let (k_count, mu_count) = (60, 500);
    let k_at = |i: usize| 0.1 * 500f64.powf(i as f64 / (k_count - 1) as f64);
    let mu_at = |j: usize| -2.0 + 4.0 * j as f64 / (mu_count - 1) as f64;
    let grid: Vec<Vec<f64>> = (0..k_count)
        .map(|i| {
            (0..mu_count)
                .map(|j| objective(k_at(i), mu_at(j)))
                .collect()
        })
        .collect();
    let at = |i: usize, j: usize| {
        grid.get(i)
            .and_then(|row| row.get(j))
            .copied()
            .unwrap_or(f64::INFINITY)
    };
    let mut minima = Vec::new();
    for i in 0..k_count {
        for j in 0..mu_count {
            let around = [
                (i.wrapping_sub(1), j),
                (i + 1, j),
                (i, j.wrapping_sub(1)),
                (i, j + 1),
            ];
            if around.into_iter().all(|(a, b)| at(a, b) >= at(i, j)) {
                minima.push((at(i, j), k_at(i), mu_at(j)));
            }
        }
    }
    minima.sort_by(|x, y| x.0.total_cmp(&y.0));
    minima.truncate(30);
    minima
        .into_iter()
        .map(|start| walk_down(start, objective))
        .fold(f64::INFINITY, f64::min)
}

/// Pattern search: slow and hard to get wrong.
fn walk_down(
    (mut value, mut k, mut mu): (f64, f64, f64),
    objective: impl Fn(f64, f64) -> f64,
) -> f64 {
    let (mut k_step, mut mu_step) = (0.1, 0.01);
    while k_step > 1e-9 {
        let before = value;
        for (a, b) in [
            (1., 0.),
            (-1., 0.),
            (0., 1.),
            (0., -1.),
            (1., 1.),
            (-1., -1.),
            (1., -1.),
            (-1., 1.),
        ] {
            let next = (
                (k * (1.0 + a * k_step)).clamp(0.1, 50.0),
                (mu + b * mu_step).clamp(-2.0, 2.0),
            );
            let found = objective(next.0, next.1);
            if found < value {
                (value, (k, mu)) = (found, next);
            }
        }
        let factor = if value < before {
            1.3f64.min(0.5 / k_step)
        } else {
            0.5
        };
        (k_step, mu_step) = (k_step * factor, mu_step * factor);
        if before - value < 1e-13 && factor > 1.0 {
            break;
        }
    }
    value
}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn the_inverse_is_monotone_inside_the_unit_interval_and_nearest(curve in curve(), low in 0.0..=1.0f64, high in 0.0..=1.0f64) {
        let (low, high) = if low <= high { (low, high) } else { (high, low) };
        let (first, second) = (curve.rate_for(low), curve.rate_for(high));
        prop_assert!((0.0..=1.0).contains(&first) && first <= second && second <= 1.0);
        let distance = |rate| (curve.accuracy(rate) - low).abs();
        for step in 0..=20 {
            prop_assert!(distance(first) <= distance(f64::from(step) / 20.0) + 1e-9);
        }
    }

    #[test]
    fn fits_are_finite_inside_the_bounds_and_no_random_curve_is_better(
        observations in observations(), weight in weighting(), target in 0.01..0.99f64, others in prop::collection::vec(curve(), 20),
    ) {
        let estimator = LeastSquares { weight, ..LeastSquares::default() };
        let estimate = estimator.estimate(&observations, target).unwrap();
        prop_assert!(estimate.curve.is_within_bounds(), "{:?}", estimate);
        prop_assert!((0.0..=1.0).contains(&estimate.rate) && (0.0..=1.0).contains(&estimate.predicted));
        let set = FitSet::new(&observations, &[], estimator.fit_set_options()).unwrap();
        for other in others {
            prop_assert!(estimate.sse <= set.sum_of_squares(|rate| other.accuracy(rate)) + 1e-6);
        }
    }

    #[test]
    fn the_order_of_observations_does_not_matter_to_the_last_bit(
        (observations, shuffled) in observations().prop_flat_map(|o| (Just(o.clone()), Just(o).prop_shuffle())), weight in weighting(),
    ) {
        let least_squares = LeastSquares { weight, plateau: Some(0.01), ..LeastSquares::default() };
        let bayes = Bayes::default();
        let estimators: [&dyn Estimator; 2] = [&least_squares, &bayes];
        for estimator in estimators {
            let estimates = [&observations, &shuffled].map(|o| bits(estimator.estimate(o, 0.5).unwrap()));
            prop_assert_eq!(estimates[0], estimates[1], "{}", estimator.name());
        }
    }

    // With the fitted curve g, a new point (p, g(p)) adds nothing to the sum of squares of g. A new fit h that
    // moved would have SSE(h) + (h(p) - g(p))^2 <= SSE(g) + ties, and SSE(h) >= SSE(g) - ties, so that it can
    // differ at p by the square root of two ties at most.
    #[test]
    fn an_observation_at_the_fitted_value_moves_nothing(observations in observations(), rate in 0.001..0.999f64) {
        prop_assume!(observations.iter().all(|o| o.rate != rate));
        let before = LeastSquares::default().estimate(&observations, 0.5).unwrap();
        let accuracy = before.curve.accuracy(rate);
        let mut more = observations;
        more.push(Observation { rate, accuracy, rollouts: 8 });
        let after = LeastSquares::default().estimate(&more, 0.5).unwrap();
        prop_assert!((after.sse - before.sse).abs() <= 2e-6, "{} {}", before.sse, after.sse);
        prop_assert!((after.curve.accuracy(rate) - accuracy).abs() <= 2e-3);
    }

    #[test]
    fn bayes_is_finite_and_learns_from_what_it_sees(observations in observations(), target in 0.01..0.99f64) {
        let estimate = Bayes::default().estimate(&observations, target).unwrap();
        prop_assert!((0.0..=1.0).contains(&estimate.rate) && (0.0..=1.0).contains(&estimate.predicted));
        prop_assert!(estimate.curve.is_within_bounds() && estimate.sse.is_finite());
        let failures = observations.iter().map(|o| Observation { accuracy: 0.0, ..*o }).collect::<Vec<_>>();
        let successes = observations.iter().map(|o| Observation { accuracy: 1.0, ..*o }).collect::<Vec<_>>();
        let half = |o: &[Observation]| -Bayes::default().estimate(o, 0.5).unwrap().curve.mu;
        prop_assert!(half(&successes) < half(&failures));
    }

    #[test]
    fn hostile_numbers_are_refused_or_handled(
        rate in prop::num::f64::ANY, accuracy in prop::num::f64::ANY, rollouts in any::<u32>(), target in prop::num::f64::ANY,
    ) {
        let observation = Observation { rate, accuracy, rollouts };
        let unit = 0.0..=1.0;
        let valid = unit.contains(&rate) && unit.contains(&accuracy) && rollouts > 0;
        let estimators: [&dyn Estimator; 2] = [&LeastSquares::default(), &Bayes::default()];
        for estimator in estimators {
            let result = estimator.estimate(&[observation], target);
            prop_assert_eq!(result.is_ok(), valid);
            prop_assert!(result.is_ok_and(|e| (0.0..=1.0).contains(&e.rate) && e.curve.is_within_bounds()) || !valid);
        }
    }
}

proptest! {
    #![proptest_config(config(40))]

    #[test]
    fn the_least_squares_fit_is_the_global_minimum(observations in observations(), weight in weighting()) {
        prop_assume!(weight != Weighting::Binomial);
        let options = FitSetOptions { weight, ..FitSetOptions::default() };
        let set = FitSet::new(&observations, &[], options).unwrap();
        let fit = LeastSquares::default().fit(&set);
        prop_assert!(fit.sse <= brute_force(set.points()) + 1e-6, "{:?} {:?}", fit, set);
    }
}

/// Problems on which a search is easily led astray.
#[test]
fn deceptive_problems_are_fitted_too() {
    let problems: [(&str, &[(f64, f64)]); 6] = [
        (
            "two minima in one flat valley",
            &[(0.3, 0.3125), (0.7, 0.5)],
        ),
        (
            "two minima in one flat valley, one at the floor",
            &[(0.103, 0.375), (0.379, 0.5), (0.62, 1.0)],
        ),
        (
            "a plateau beside the minimum",
            &[(0.684, 0.0), (0.727, 0.75), (0.786, 0.625)],
        ),
        (
            "a valley that bends: the accuracy without a hint is known well",
            &[
                (0.0, 0.625),
                (0.0, 0.5),
                (0.0083, 0.875),
                (0.0, 0.75),
                (0.0, 1.0),
                (0.0, 0.625),
            ],
        ),
        (
            "a narrow minimum at the bound of `k`",
            &[(0.2063, 0.25), (0.275, 0.0), (0.2813, 0.75)],
        ),
        (
            "a contradiction between close rates",
            &[(0.114, 0.0), (0.179, 1.0), (0.067, 1.0)],
        ),
    ];
    for (name, rounds) in problems {
        let observations: Vec<Observation> = rounds
            .iter()
            .map(|&(rate, accuracy)| Observation {
                rate,
                accuracy,
                rollouts: 8,
            })
            .collect();
        let set = FitSet::new(&observations, &[], FitSetOptions::default()).unwrap();
        let (fit, best) = (LeastSquares::default().fit(&set), brute_force(set.points()));
        assert!(fit.sse <= best + 1e-6, "{name}: {fit:?}, best {best}");
    }
}

#[test]
fn a_hundred_thousand_observations_are_fitted() {
    let truth = Curve {
        k: 12.0,
        mu: -0.4,
        b: 0.1,
    };
    let observations: Vec<Observation> = (0..100_000)
        .map(|i| {
            let rate = f64::from(i * 7919 % 100_003) / 100_003.0;
            Observation {
                rate,
                accuracy: truth.accuracy(rate),
                rollouts: 8,
            }
        })
        .collect();
    let estimate = LeastSquares::default()
        .estimate(&observations, 0.5)
        .unwrap();
    assert!(
        (estimate.rate - truth.rate_for(0.5)).abs() < 1e-3,
        "{estimate:?}"
    );
    assert!(
        (Bayes::default().estimate(&observations, 0.5).unwrap().rate - truth.rate_for(0.5)).abs()
            < 0.05
    );
}

#[test]
fn a_bad_number_is_named_wherever_it_stands() {
    let good = Observation {
        rate: 0.5,
        accuracy: 0.5,
        rollouts: 8,
    };
    for bad in [f64::NAN, f64::INFINITY, -0.1, 1.0 + 1e-12] {
        let rounds = [good, Observation { rate: bad, ..good }];
        let error = LeastSquares::default().estimate(&rounds, 0.5).unwrap_err();
        assert!(
            matches!(
                error,
                HintError::Observation {
                    index: 1,
                    field: "rate",
                    ..
                }
            ),
            "{error}"
        );
        assert_eq!(
            Bayes::default()
                .estimate(&rounds, 0.5)
                .unwrap_err()
                .to_string(),
            error.to_string()
        );
    }
    for margin_weight in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let estimator = LeastSquares {
            margin_weight,
            ..LeastSquares::default()
        };
        assert!(matches!(
            estimator.estimate(&[good], 0.5),
            Err(HintError::Setting {
                key: "margin_weight",
                ..
            })
        ));
    }
}

#[test]
fn no_observation_gives_the_cold_start_without_a_fit() {
    let estimate = LeastSquares::default().estimate(&[], 0.5).unwrap();
    assert_eq!((estimate.rate, estimate.curve), (1.0, Curve::START));
}

#[test]
fn a_prior_pulls_an_underdetermined_fit_to_the_start_values() {
    let observations = [Observation {
        rate: 0.9,
        accuracy: 1.0,
        rollouts: 8,
    }];
    let distance = |prior| {
        let estimator = LeastSquares {
            prior,
            ..LeastSquares::default()
        };
        let curve = estimator.estimate(&observations, 0.5).unwrap().curve;
        (curve.k - Curve::START.k).abs() / 40.0 + (curve.mu - Curve::START.mu).abs()
    };
    assert!(
        distance(0.01) < distance(0.0) && distance(1.0) < distance(0.01) && distance(1000.0) < 1e-3
    );
}

#[test]
fn a_plateau_is_averaged() {
    // One success at the end: any step before it fits, the fit alone takes an arbitrary one.
    let observations = [Observation {
        rate: 0.9,
        accuracy: 1.0,
        rollouts: 8,
    }];
    let estimator = LeastSquares {
        plateau: Some(0.01),
        ..LeastSquares::default()
    };
    let rate = estimator.estimate(&observations, 0.5).unwrap().rate;
    assert!((rate - 0.45).abs() < 0.05, "{rate}");
}
