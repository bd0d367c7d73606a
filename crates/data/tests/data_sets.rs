//! The real data sets load whole, with the numbers of rows and steps that their description states.

#[path = "../../../tests/reference.rs"]
mod reference;

use reference::data;
use seele_data::{Layout, Problem, read_problems};

/// File, rows, rows with steps, mean number of steps of those to two digits.
const SETS: [(&str, usize, usize, f64); 16] = [
    ("gsm8k/train.jsonl", 7473, 7473, 4.58),
    ("gsm8k/test.jsonl", 1319, 1319, 4.65),
    ("math500.jsonl", 500, 500, 5.53),
    ("aime24.jsonl", 30, 30, 44.53),
    ("aime25.jsonl", 30, 0, 0.0),
    ("amc23.jsonl", 40, 0, 0.0),
    ("amc83.jsonl", 83, 0, 0.0),
    ("minerva.jsonl", 272, 272, 5.66),
    ("olympiadbench.jsonl", 675, 675, 16.32),
    ("math_traces.jsonl", 925, 925, 8.63),
    ("arc_c.jsonl", 1172, 0, 0.0),
    ("mmlu_pro.jsonl.gz", 12032, 0, 0.0),
    ("countdown/train.jsonl", 5000, 5000, 3.51),
    ("countdown/test.jsonl", 1024, 1024, 3.48),
    ("kk_logic/train.jsonl", 4500, 4500, 24.22),
    ("kk_logic/test.jsonl", 500, 500, 24.51),
];

#[test]
fn every_set_has_the_rows_and_steps_of_its_description() {
    let Some(folder) = data(".") else { return };
    for (file, rows, with_steps, mean_steps) in SETS {
        let problems = read_problems(folder.join(file), None).unwrap();
        assert_eq!(problems.len(), rows, "{file}");
        let steps: Vec<usize> = problems
            .iter()
            .map(|p| p.steps.len())
            .filter(|&n| n > 0)
            .collect();
        assert_eq!(steps.len(), with_steps, "{file}");
        let mean = steps.iter().sum::<usize>() as f64 / steps.len().max(1) as f64;
        assert!((mean - mean_steps).abs() < 0.006, "{file}: {mean} steps");
        assert!(
            problems.iter().all(|p| p.extra.contains_key("source")),
            "{file}"
        );
    }
}

#[test]
fn a_row_written_again_is_the_row_that_was_read() {
    let Some(folder) = data(".") else { return };
    for file in [
        "aime24.jsonl",
        "arc_c.jsonl",
        "countdown/test.jsonl",
        "olympiadbench.jsonl",
    ] {
        let text = std::fs::read_to_string(folder.join(file)).unwrap();
        let problems: Vec<Problem> =
            read_problems(folder.join(file), Some(&Layout::Seele)).unwrap();
        for (problem, line) in problems.iter().zip(text.split('\n')) {
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(serde_json::Value::Object(problem.to_row()), row);
        }
    }
}
