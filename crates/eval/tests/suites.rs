//! The benchmarks that come with the crate find their problems in the real data sets.

#[path = "../../../tests/reference.rs"]
mod reference;

use reference::data;
use seele_eval::{Benchmark, EvalError, ProblemSet};

#[test]
fn every_benchmark_has_its_published_rows_or_says_how_to_get_them() {
    let Some(folder) = data(".") else { return };
    let published = [
        ("gsm8k", 1319),
        ("math500", 500),
        ("minerva", 272),
        ("olympiadbench", 675),
        ("aime24", 30),
        ("aime25", 30),
        ("amc23", 40),
        ("amc83", 83),
        ("arc_c", 1172),
        ("mmlu_pro", 12032),
        ("gpqa_diamond", 198),
    ];
    assert_eq!(Benchmark::names().count(), published.len());
    for (name, rows) in published {
        let benchmark = Benchmark::named(name).unwrap();
        match ProblemSet::load(&benchmark, &folder, None) {
            Ok(set) => assert_eq!((set.rows, set.problems.len()), (rows, rows), "{name}"),
            // May not be republished; a folder that has it is checked like the others.
            Err(error @ EvalError::MissingSet { .. }) if name == "gpqa_diamond" => {
                let message = error.to_string();
                assert!(
                    message.contains("password-protected archive")
                        && message.contains("gpqa_diamond.csv"),
                    "{message}"
                );
            }
            Err(error) => panic!("{name}: {error}"),
        }
    }
}

#[test]
fn the_hash_of_a_set_is_that_of_its_file() {
    let Some(folder) = data(".") else { return };
    let set = ProblemSet::load(&Benchmark::named("amc23").unwrap(), &folder, Some(3)).unwrap();
    assert_eq!(
        (set.sha256.as_str(), set.rows, set.problems.len()),
        (
            "4a8abf5705ef43a4d99f33d9e49fe1beca2683430bc25db05a3601a394b9167c",
            40,
            3
        )
    );
}
