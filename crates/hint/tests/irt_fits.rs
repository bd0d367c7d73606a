//! `irt-lsq` against the stored reference fits (bounded 3PL least squares, dense scan plus many starts).
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../../tests/reference.rs"]
mod reference;

use seele_hint::{Curve, Estimator, FitSet, FitSetOptions, LeastSquares, Observation};
use serde_json::Value;

fn cases() -> Option<Value> {
    let text = std::fs::read_to_string(reference::golden("irt_fits.json")?).unwrap();
    Some(serde_json::from_str(&text).unwrap())
}

fn observations(case: &Value) -> Vec<Observation> {
    let rounds = case["observations"].as_array().unwrap();
    rounds
        .iter()
        .map(|round| Observation {
            rate: round["p"].as_f64().unwrap(),
            accuracy: round["accuracy"].as_f64().unwrap(),
            rollouts: round["n"].as_u64().unwrap() as u32,
        })
        .collect()
}

/// The sum of squares over the stored points, written out again so that no code is shared.
fn sum_of_squares(curve: Curve, points: &[Value]) -> f64 {
    let term = |point: &Value| {
        let p = point["p"].as_f64().unwrap();
        let f = curve.b + (1.0 - curve.b) / (1.0 + (-curve.k * (p + curve.mu)).exp());
        point["weight"].as_f64().unwrap() * (f - point["accuracy"].as_f64().unwrap()).powi(2)
    };
    points.iter().map(term).sum()
}

#[test]
fn every_case_reaches_the_best_known_sum_of_squares_and_rate() {
    let Some(golden) = cases() else { return };
    let cases = golden["cases"].as_array().unwrap();
    assert!(!cases.is_empty());
    let mut failures = Vec::new();
    let mut identified = 0;
    for case in cases {
        let id = case["id"].as_str().unwrap();
        let observations = observations(case);
        let set = FitSet::new(&observations, &[], FitSetOptions::default()).unwrap();
        let fit = LeastSquares::default().fit(&set);
        let sse = sum_of_squares(fit.curve, case["points"].as_array().unwrap());
        let best = case["best"]["sse"].as_f64().unwrap();
        if !fit.curve.is_within_bounds() {
            failures.push(format!("{id}: {:?} is outside the bounds", fit.curve));
        }
        if sse > best + 1e-6 || (sse - fit.sse).abs() > 1e-12 * (1.0 + sse) {
            failures.push(format!(
                "{id}: sum of squares {sse} (own {}), best {best}, {:?}",
                fit.sse, fit.curve
            ));
        }
        let mut previous = 0.0;
        for entry in case["rates"].as_array().unwrap() {
            let target = entry["target"].as_f64().unwrap();
            let rate = LeastSquares::default()
                .estimate(&observations, target)
                .unwrap()
                .rate;
            if rate != fit.curve.rate_for(target) || !(previous..=1.0).contains(&rate) {
                failures.push(format!(
                    "{id}: rate {rate} for target {target} after {previous}"
                ));
            }
            previous = rate;
            if entry["identified"].as_bool().unwrap() {
                identified += 1;
                let [low, high] = ["rate_lo", "rate_hi"].map(|key| entry[key].as_f64().unwrap());
                if rate < low - 0.005 || rate > high + 0.005 {
                    failures.push(format!(
                        "{id}: rate {rate} for target {target} is outside [{low}, {high}]"
                    ));
                }
            }
        }
    }
    assert!(
        identified > cases.len(),
        "only {identified} identified rates were compared"
    );
    assert!(
        failures.is_empty(),
        "{} failures:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

#[test]
fn points_are_averaged_and_margins_added_as_stored() {
    let Some(golden) = cases() else { return };
    for case in golden["cases"].as_array().unwrap() {
        let set = FitSet::new(&observations(case), &[], FitSetOptions::default()).unwrap();
        let stored = case["points"].as_array().unwrap();
        assert_eq!(set.points().len(), stored.len(), "{}", case["id"]);
        for (own, stored) in set.points().iter().zip(stored) {
            let field = |key: &str| stored[key].as_f64().unwrap();
            assert_eq!(
                (own.rate, own.weight),
                (field("p"), field("weight")),
                "{}",
                case["id"]
            );
            assert!(
                (own.accuracy - field("accuracy")).abs() < 1e-15,
                "{}",
                case["id"]
            );
        }
    }
}
