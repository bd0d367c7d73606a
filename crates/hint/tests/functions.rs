//! The small functions around hints against reference vectors, through the public interface.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../../tests/reference.rs"]
mod reference;

use seele_hint::curve::Curve;
use seele_hint::length::{effective_rate, hint_tokens, prefix_tokens, slice_end};
use seele_hint::schedule::{Seele, Uft, cosine_decay};
use seele_hint::{HintConfig, HintController, VisitContext};
use serde_json::Value;

fn functions() -> Option<Vec<Value>> {
    let text = std::fs::read_to_string(reference::golden("losses.json")?).unwrap();
    let mut golden: Value = serde_json::from_str(&text).unwrap();
    let Value::Array(functions) = golden["functions"].take() else {
        panic!("`functions` is no list");
    };
    Some(functions)
}

fn numbers(value: &Value) -> Vec<f64> {
    let values = value.as_array().unwrap();
    values.iter().map(|value| value.as_f64().unwrap()).collect()
}

fn integers(value: &Value) -> Vec<u64> {
    let values = value.as_array().unwrap();
    values.iter().map(|value| value.as_u64().unwrap()).collect()
}

fn rows(value: &Value) -> Vec<Vec<f64>> {
    value.as_array().unwrap().iter().map(numbers).collect()
}

/// The result of a function of this crate, flat; none for functions of others.
fn result(function: &str, args: &Value) -> Option<Vec<f64>> {
    let number = |key: &str| args[key].as_f64().unwrap();
    let integer = |key: &str| args[key].as_u64().unwrap();
    let of_each =
        |values: Vec<u64>, f: &dyn Fn(u64) -> f64| Some(values.into_iter().map(f).collect());
    match function {
        "uft_probability" => {
            let uft = Uft {
                hint_share: 1.0,
                lowest_probability: number("low"),
                highest_probability: number("high"),
                ..Uft::default()
            };
            // Steps of the vectors count from 1.
            of_each(integers(&args["steps"]), &|step| {
                uft.probability(step - 1, integer("t_hint"))
            })
        }
        "uft_cuts" => {
            let units = integer("units") as usize;
            let slices = units.min(integer("slices") as usize);
            let ends = (0..=slices).map(|index| slice_end(index, units, slices) as f64);
            Some(ends.collect())
        }
        "cosine_decay" => of_each(integers(&args["steps"]), &|step| {
            let share = step as f64 / number("steps_total");
            cosine_decay(number("start"), number("end"), share)
        }),
        "prefix_length_floor" => {
            let (tokens, least) = (integer("tokens") as usize, integer("min_len") as usize);
            let length = |rate| prefix_tokens(rate, tokens, least) as f64;
            Some(numbers(&args["rates"]).into_iter().map(length).collect())
        }
        "cold_start_rate" => of_each(integers(&args["tokens"]), &cold_start_rate),
        "hint_length" => {
            let length = |pair: Vec<f64>| hint_tokens(pair[0], pair[1] as usize) as f64;
            Some(rows(&args["pairs"]).into_iter().map(length).collect())
        }
        "curve_value" => {
            let rates = numbers(&args["rates"]);
            let curves = rows(&args["rows_k_mu_b"]);
            let values = curves.iter().flat_map(|row| {
                let curve = curve(row);
                rates.iter().map(move |&rate| curve.accuracy(rate))
            });
            Some(values.collect())
        }
        "curve_inverse" => {
            let rate = |row: Vec<f64>| curve(&row).rate_for(row[3]);
            let curves = rows(&args["rows_k_mu_b_target"]);
            Some(curves.into_iter().map(rate).collect())
        }
        "binomial_pmf" => Some(revealed_shares(integer("n") as usize, number("p"))),
        _ => None,
    }
}

fn curve(row: &[f64]) -> Curve {
    Curve {
        k: row[0],
        mu: row[1],
        b: row[2],
    }
}

fn context(seed: u64) -> VisitContext {
    VisitContext {
        seed,
        step: 0,
        total_steps: 1_000_000,
        epoch: 0,
    }
}

/// What the first round of a first visit of `seele` really uses.
fn cold_start_rate(tokens: u64) -> f64 {
    let controller = HintController::new(&HintConfig::Seele(Seele::default())).unwrap();
    let tokens = tokens as usize;
    let mut visit = controller.start_visit(0, tokens, &[], context(1)).unwrap();
    let round = visit.next_round().unwrap();
    effective_rate(round.forks[0].hint_tokens, tokens)
}

/// Visits that a distribution is estimated from.
const DRAWS: u64 = 40_000;

/// Share of `uft` visits that reveal 0, 1, ..., `slices` slices, each with the same probability.
fn revealed_shares(slices: usize, probability: f64) -> Vec<f64> {
    let uft = Uft {
        slices: slices as u32,
        lowest_probability: probability,
        highest_probability: probability,
        ..Uft::default()
    };
    let controller = HintController::new(&HintConfig::Uft(uft)).unwrap();
    let tokens = slices * 10;
    let step_ends: Vec<usize> = (1..=slices).map(|step| step * 10).collect();
    let mut shares = vec![0.0; slices + 1];
    for problem in 0..DRAWS {
        let mut visit = controller
            .start_visit(problem, tokens, &step_ends, context(7))
            .unwrap();
        let hint = visit.next_round().unwrap().forks[0].hint_tokens;
        // All slices end one token before the solution does.
        shares[hint.div_ceil(10)] += 1.0 / DRAWS as f64;
    }
    shares
}

#[test]
fn every_function_gives_its_reference_values() {
    let Some(functions) = functions() else { return };
    let mut compared = std::collections::BTreeMap::<&str, usize>::new();
    for entry in &functions {
        let [name, function] = ["name", "fn"].map(|key| entry[key].as_str().unwrap());
        let Some(values) = result(function, &entry["args"]) else {
            continue;
        };
        let expected = match &entry["expected"] {
            nested if nested[0].is_array() => rows(nested).concat(),
            flat => numbers(flat),
        };
        assert_eq!(values.len(), expected.len(), "{name}");
        for (index, (value, expected)) in values.into_iter().zip(expected).enumerate() {
            let tolerance = if function == "binomial_pmf" {
                // A share of draws: five standard deviations.
                5.0 * (expected * (1.0 - expected) / DRAWS as f64).sqrt()
            } else {
                entry["abs_tol"].as_f64().unwrap()
            };
            assert!(
                (value - expected).abs() <= tolerance,
                "{name}, value {index}: {value}, expected {expected} within {tolerance:e}"
            );
        }
        *compared.entry(function).or_default() += 1;
    }
    let names: Vec<&str> = compared.into_keys().collect();
    let expected = [
        "binomial_pmf",
        "cold_start_rate",
        "cosine_decay",
        "curve_inverse",
        "curve_value",
        "hint_length",
        "prefix_length_floor",
        "uft_cuts",
        "uft_probability",
    ];
    assert_eq!(names, expected);
}
