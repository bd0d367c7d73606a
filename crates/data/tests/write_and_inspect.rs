//! Converting and inspecting data.
#![expect(clippy::unwrap_used, reason = "test helpers fail by panicking")]

use std::path::{Path, PathBuf};

use seele_data::arithmetic::{ArithmeticConfig, Split};
use seele_data::inspect::{GoldCheck, InspectError, Inspection, Measures};
use seele_data::{DataError, Problem, ProblemReader, ProblemWriter, read_problems};

fn problems() -> Vec<Problem> {
    let config = ArithmeticConfig {
        count: 40,
        ..ArithmeticConfig::default()
    };
    config.generate(Split::Train).unwrap()
}

fn write(path: &Path, problems: &[Problem]) {
    let mut writer = ProblemWriter::create(path, false).unwrap();
    for problem in problems {
        writer.write(problem).unwrap();
    }
    assert_eq!(writer.finish().unwrap(), problems.len() as u64);
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}

#[test]
fn what_is_written_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["rows.jsonl", "rows.jsonl.gz"] {
        let path = folder.path().join(name);
        write(&path, &problems());
        let again = read_problems(&path, None).unwrap();
        let rows = |problems: &[Problem]| problems.iter().map(Problem::to_row).collect::<Vec<_>>();
        assert_eq!(rows(&again), rows(&problems()));
    }
    let plain = std::fs::read(folder.path().join("rows.jsonl")).unwrap();
    let gzip = std::fs::read(folder.path().join("rows.jsonl.gz")).unwrap();
    assert!(gzip.len() < plain.len() && gzip.starts_with(&[0x1f, 0x8b]));
}

#[test]
fn a_file_that_is_not_finished_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.jsonl");
    let mut writer = ProblemWriter::create(&path, false).unwrap();
    writer.write(&problems()[0]).unwrap();
    drop(writer);
    assert!(files_in(folder.path()).is_empty());
    write(&path, &problems());
    assert_eq!(files_in(folder.path()), [path]);
}

#[test]
fn a_file_is_overwritten_only_when_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.jsonl");
    write(&path, &problems());
    assert!(matches!(
        ProblemWriter::create(&path, false),
        Err(DataError::Exists { .. })
    ));
    let mut writer = ProblemWriter::create(&path, true).unwrap();
    writer.write(&problems()[0]).unwrap();
    // Until the end the old file is whole.
    assert_eq!(read_problems(&path, None).unwrap().len(), 40);
    writer.finish().unwrap();
    assert_eq!(read_problems(&path, None).unwrap().len(), 1);
    let other = ProblemWriter::create(folder.path().join("rows.parquet"), false);
    assert!(matches!(other, Err(DataError::OutputFormat { .. })));
}

fn inspect(path: &Path) -> Result<Inspection, InspectError> {
    let measures = Measures {
        unit: "characters",
        length: &|text| {
            if text.contains('€') {
                Err("no euro".into())
            } else {
                Ok(text.chars().count())
            }
        },
        gold: &|problem| GoldCheck {
            readable: problem.answer != "?",
            solution_agrees: problem
                .solution
                .as_ref()
                .map(|text| text.ends_with(&problem.answer)),
        },
    };
    Inspection::of(ProblemReader::open(path, None).unwrap(), &measures)
}

#[test]
fn an_inspection_counts_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.jsonl");
    std::fs::write(
        &path,
        r#"{"problem": "ab", "answer": "1", "steps": ["x", "y1"], "level": 3}
{"problem": "abcd", "answer": "2", "solution": "3", "level": null}
{"problem": "a", "answer": "?", "subject": "s"}
{"problem": "abc", "choices": ["x", "y"], "answer": "B"}
"#,
    )
    .unwrap();
    let found = inspect(&path).unwrap();
    assert_eq!(
        (
            found.rows,
            found.with_solution,
            found.with_steps,
            found.with_choices
        ),
        (4, 2, 1, 1)
    );
    assert_eq!((found.gold_readable, found.solution_agrees), (3, 1));
    let lengths = found.problem_length.unwrap();
    assert_eq!(
        (
            lengths.min,
            lengths.median,
            lengths.p95,
            lengths.max,
            lengths.mean
        ),
        (1, 3, 4, 4, 2.5)
    );
    assert_eq!(found.solution_length.unwrap().max, 3);
    assert_eq!(found.steps.unwrap().mean, 2.0);
    assert_eq!(
        found.fields.into_iter().collect::<Vec<_>>(),
        [("level".to_owned(), 1), ("subject".to_owned(), 1)]
    );
    assert_eq!(found.samples.len(), 4);
    assert_eq!(found.layouts, ["seele"]);
}

#[test]
fn samples_are_spread_over_the_data_and_always_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.jsonl");
    write(&path, &problems());
    let found = inspect(&path).unwrap();
    let rows: Vec<u64> = found
        .samples
        .iter()
        .map(|problem| problem.place.index())
        .collect();
    assert_eq!(rows.len(), 5);
    assert!(rows.is_sorted() && rows[4] >= 10, "{rows:?}");
    assert_eq!(inspect(&path).unwrap(), found);
}

#[test]
fn a_text_that_cannot_be_measured_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.jsonl");
    std::fs::write(
        &path,
        "{\"id\": \"x\", \"problem\": \"5 €\", \"answer\": \"1\"}\n",
    )
    .unwrap();
    let message = inspect(&path).unwrap_err().to_string();
    assert!(
        message.ends_with("line 1: cannot measure problem `x`: no euro"),
        "{message}"
    );
}

#[test]
fn each_file_of_a_folder_has_its_own_layout() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("a.jsonl"),
        "{\"question\": \"q\", \"answer\": \"so\\n#### 5\"}\n",
    )
    .unwrap();
    write(&folder.path().join("b.jsonl.gz"), &problems());
    let found = inspect(folder.path()).unwrap();
    assert_eq!((found.rows, found.layouts), (41, vec!["gsm8k", "seele"]));
}
