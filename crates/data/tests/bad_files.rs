//! Files that cannot be read: each message names the file, the place and what to do.
#![expect(clippy::unwrap_used, reason = "test helpers fail by panicking")]

use std::io::Write;

use seele_data::{DataError, Layout, ProblemReader, read_problems};

const GOOD: &str =
    r#"{"id": "a", "problem": "p", "answer": "1", "solution": "xy", "steps": ["x", "y"]}"#;

fn error_of(name: &str, bytes: &[u8]) -> DataError {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    read_problems(&path, None).unwrap_err()
}

fn message_of(text: &str) -> String {
    let message = error_of("rows.jsonl", text.as_bytes()).to_string();
    assert!(message.contains("rows.jsonl"), "{message}");
    message
}

#[track_caller]
fn assert_second_row(row: &str, expected: &str) {
    let message = message_of(&format!("{GOOD}\n{row}\n"));
    assert!(
        message.contains("line 2") && message.contains(expected),
        "{message}"
    );
}

#[test]
fn wrong_rows_name_line_field_and_remedy() {
    assert_second_row(r#"{"id": "b", "problem": "p""#, "broken JSON");
    assert_second_row("7", "expected a JSON object, found a number");
    assert_second_row(
        r#"{"id": "b", "problem": "p"}"#,
        "no `answer`, which layout `seele` needs",
    );
    assert_second_row(
        r#"{"id": "b", "problem": "p", "answer": null}"#,
        "no `answer`",
    );
    assert_second_row(
        r#"{"id": "b", "problem": "p", "answer": " "}"#,
        "`answer` is blank",
    );
    assert_second_row(r#"{"id": "b", "answer": "1"}"#, "no `problem`");
    assert_second_row(
        r#"{"problem": "p", "answer": ["1"]}"#,
        "`answer` must be a string, found a list",
    );
    assert_second_row(
        r#"{"problem": "p", "answer": 123456789012345678901}"#,
        "`answer` must be a string, found a number",
    );
    assert_second_row(
        r#"{"problem": "p", "answer": "1", "steps": ["x", 2]}"#,
        "`steps` must be a list of strings",
    );
    assert_second_row(
        r#"{"problem": "p", "answer": "1", "steps": ["x", ""]}"#,
        "step 1 of problem",
    );
    assert_second_row(
        r#"{"id": "b", "problem": "p", "answer": "1", "solution": "x y", "steps": ["x", "y"]}"#,
        "the steps of problem `b` do not join to its solution, they differ from byte 1 on",
    );
    assert_second_row(
        r#"{"id": "a", "problem": "p", "answer": "1"}"#,
        "id `a` was already used at",
    );
    assert_second_row(
        r#"{"problem": "p", "choices": ["x", "y"], "answer": "C"}"#,
        "answer `C`",
    );
    assert_second_row(
        r#"{"problem": "p", "choices": ["x", "y"], "answer": "A", "answer_index": 1}"#,
        "(index 1)",
    );
    assert_second_row(
        r#"{"problem": "p", "choices": ["x", "y"], "answer_index": 2}"#,
        "(index 2)",
    );
    assert_second_row(
        r#"{"problem": "p", "choices": ["x", "y"], "answer_index": -1}"#,
        "must be an integer from 0",
    );
}

#[test]
fn numbers_that_json_keeps_are_answers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("n.jsonl");
    std::fs::write(
        &path,
        "{\"problem\": \"p\", \"answer\": 72}\n{\"problem\": \"p\", \"answer\": -0.5}",
    )
    .unwrap();
    let problems = read_problems(&path, None).unwrap();
    assert_eq!([&problems[0].answer, &problems[1].answer], ["72", "-0.5"]);
    assert_eq!([&problems[0].id, &problems[1].id], ["n-0", "n-1"]);
}

#[test]
fn missing_and_empty_files_say_so() {
    let error = read_problems("no/such/file.jsonl", None).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("cannot open data file `no/such/file.jsonl`"),
        "{error}"
    );
    for text in ["", "\n\n"] {
        assert!(message_of(text).contains("has no rows"));
    }
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(
        read_problems(folder.path(), None),
        Err(DataError::EmptyFolder { .. })
    ));
}

#[test]
fn unknown_fields_are_listed() {
    let message = message_of(r#"{"prompt_text": "p", "gold": "1"}"#);
    assert!(
        message.contains("`prompt_text`, `gold`") && message.contains("mapping"),
        "{message}"
    );
}

#[test]
fn a_truncated_gzip_file_is_an_error_not_a_short_file() {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    // Enough distinct rows that the cut does not fall into the first block.
    for row in 0..3000 {
        writeln!(
            gzip,
            "{{\"id\": \"{row}\", \"problem\": \"p{}\", \"answer\": \"1\"}}",
            row * row
        )
        .unwrap();
    }
    let whole = gzip.finish().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.gz");
    std::fs::write(&path, &whole).unwrap();
    assert_eq!(read_problems(&path, None).unwrap().len(), 3000);
    let error = error_of("cut.jsonl.gz", &whole[..whole.len() / 2]);
    assert!(matches!(error, DataError::Read { .. }), "{error}");
}

#[test]
fn the_stream_ends_after_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.jsonl");
    std::fs::write(&path, format!("{GOOD}\n{{\n{GOOD}\n")).unwrap();
    let rows: Vec<_> = ProblemReader::open(&path, Some(Layout::Seele))
        .unwrap()
        .collect();
    assert_eq!(
        rows.iter().map(Result::is_ok).collect::<Vec<_>>(),
        [true, false]
    );
}

#[test]
fn a_folder_is_read_in_the_order_of_names_and_ids_are_unique_across_it() {
    let folder = tempfile::tempdir().unwrap();
    let row = |id: &str| format!("{{\"id\": \"{id}\", \"problem\": \"p\", \"answer\": \"1\"}}\n");
    std::fs::write(folder.path().join("b.jsonl"), row("2")).unwrap();
    std::fs::write(folder.path().join("a.jsonl"), row("1")).unwrap();
    std::fs::write(folder.path().join("notes.txt"), "no data").unwrap();
    let ids: Vec<String> = read_problems(folder.path(), None)
        .unwrap()
        .into_iter()
        .map(|p| p.id)
        .collect();
    assert_eq!(ids, ["1", "2"]);
    std::fs::write(folder.path().join("c.jsonl"), row("1")).unwrap();
    let message = read_problems(folder.path(), None).unwrap_err().to_string();
    assert!(
        message.contains("c.jsonl`, line 1: id `1` was already used at")
            && message.contains("a.jsonl`, line 1"),
        "{message}"
    );
}
