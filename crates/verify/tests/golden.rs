//! The public verdict vectors: accuracy by category, recall and false acceptances, with their bounds.
#![allow(
    clippy::unwrap_used,
    reason = "a test may stop at what it did not expect"
)]
#[path = "../../../tests/reference.rs"]
mod reference;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use reference::golden;
use seele_verify::{Extraction, Options, compare_answers, verify_choice};
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    id: String,
    category: String,
    #[serde(default)]
    prediction: Option<String>,
    #[serde(default)]
    response: Option<String>,
    #[serde(default)]
    extract: Option<Extraction>,
    #[serde(default)]
    choices: Vec<String>,
    gold: String,
    #[serde(default)]
    rel_tol: Option<f64>,
    expected: bool,
}

impl Case {
    fn verdict(&self) -> bool {
        let options = Options {
            relative_tolerance: self.rel_tol,
            extraction: self.extract.unwrap_or_default(),
            ..Options::default()
        };
        match (&self.prediction, &self.response) {
            (Some(prediction), _) => compare_answers(&self.gold, prediction, &options)
                .verdict
                .is_correct(),
            (None, Some(response)) => {
                verify_choice(response, &self.gold, &self.choices, &options).is_correct()
            }
            (None, None) => panic!("case {} has neither prediction nor response", self.id),
        }
    }

    fn shown(&self) -> String {
        let text = self
            .prediction
            .as_deref()
            .or(self.response.as_deref())
            .unwrap_or_default();
        let tail: String = text
            .chars()
            .rev()
            .take(160)
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
            .collect();
        format!(
            "{} {} | {} | {}",
            self.id,
            self.category,
            self.gold,
            tail.replace('\n', " ")
        )
    }
}

fn cases() -> Option<Vec<Case>> {
    let text = std::fs::read_to_string(golden("verifier.jsonl")?).unwrap();
    Some(
        text.split('\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_str(line).unwrap())
            .collect(),
    )
}

#[test]
fn verdicts_agree_with_the_public_vectors() {
    let Some(cases) = cases() else { return };
    let mut by_category: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    let (mut right, mut accepted_right, mut all_right, mut accepted_wrong, mut all_wrong) =
        (0, 0, 0, 0, 0);
    for case in &cases {
        let verdict = case.verdict();
        let entry = by_category.entry(&case.category).or_default();
        entry.1 += 1;
        if verdict == case.expected {
            right += 1;
            entry.0 += 1;
        } else {
            eprintln!(
                "{} {}",
                if verdict {
                    "FALSE ACCEPTANCE"
                } else {
                    "missed"
                },
                case.shown()
            );
        }
        if case.expected {
            all_right += 1;
            accepted_right += usize::from(verdict);
        } else {
            all_wrong += 1;
            accepted_wrong += usize::from(verdict);
        }
    }
    for (category, (good, all)) in &by_category {
        println!("{category:24} {good:4} / {all:4}");
    }
    let percent = |part: usize, whole: usize| 100.0 * part as f64 / whole as f64;
    println!(
        "accuracy {:.2} %, right answers accepted {:.2} %, wrong answers accepted {:.2} % ({accepted_wrong})",
        percent(right, cases.len()),
        percent(accepted_right, all_right),
        percent(accepted_wrong, all_wrong)
    );
    assert!(
        percent(right, cases.len()) >= 99.0,
        "accuracy is below 99 %"
    );
    assert!(
        percent(accepted_wrong, all_wrong) <= 0.2,
        "more than 0.2 % of the wrong answers are accepted"
    );
}

/// Work, not time: the vectors' budgets are milliseconds, and [`Options::fuel`] steps take about ten.
#[test]
fn every_verdict_comes_within_the_work_limit() {
    let Some(cases) = cases() else { return };
    let mut most = (0, String::new());
    let mut slowest = (Duration::ZERO, String::new());
    for case in &cases {
        let start = Instant::now();
        std::hint::black_box(case.verdict());
        let spent = start.elapsed();
        if spent > slowest.0 {
            slowest = (spent, case.shown());
        }
        let Some(prediction) = &case.prediction else {
            continue;
        };
        let options = Options::default();
        let steps = compare_answers(&case.gold, prediction, &options).steps;
        assert!(steps <= options.fuel, "{steps} steps for {}", case.shown());
        if steps > most.0 {
            most = (steps, case.shown());
        }
    }
    println!("most work: {} steps for {}", most.0, most.1);
    println!("slowest verdict: {:?} for {}", slowest.0, slowest.1);
}
