//! Parquet: every compression this build reads, damaged files, and published files unchanged.
#![expect(clippy::unwrap_used, reason = "test helpers fail by panicking")]

#[path = "../../../tests/reference.rs"]
mod reference;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use parquet::basic::{BrotliLevel, Compression, GzipLevel, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int32Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use reference::data;
use seele_data::{DataError, Layout, Problem, RowReader, read_problems};
use seele_random::Key;
use serde_json::{Value, json};

fn write(path: &Path, compression: Compression, rows: usize) {
    let schema = parse_message_type(
        "message rows {
            REQUIRED BYTE_ARRAY problem (UTF8);
            REQUIRED BYTE_ARRAY answer;
            OPTIONAL INT32 level;
            REQUIRED DOUBLE score;
            OPTIONAL INT32 day (DATE);
            REQUIRED INT32 __index_level_0__;
        }",
    );
    let properties = WriterProperties::builder()
        .set_compression(compression)
        .build();
    let file = std::fs::File::create(path).unwrap();
    let mut file =
        SerializedFileWriter::new(file, Arc::new(schema.unwrap()), Arc::new(properties)).unwrap();
    let texts = |name: &str| {
        (0..rows)
            .map(|i| ByteArray::from(format!("{name} {i}").into_bytes()))
            .collect::<Vec<_>>()
    };
    // Two row groups: rows are numbered across them.
    for _ in 0..2 {
        let mut group = file.next_row_group().unwrap();
        for name in ["p", "a"] {
            let mut column = group.next_column().unwrap().unwrap();
            column
                .typed::<ByteArrayType>()
                .write_batch(&texts(name), None, None)
                .unwrap();
            column.close().unwrap();
        }
        let numbers: Vec<i32> = (0..rows as i32).collect();
        // The first level is null, the others are there.
        let levels: Vec<i16> = (0..rows).map(|i| i16::from(i > 0)).collect();
        let mut column = group.next_column().unwrap().unwrap();
        column
            .typed::<Int32Type>()
            .write_batch(&numbers[1..], Some(&levels), None)
            .unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let mut scores = vec![0.5; rows];
        scores[0] = f64::NAN;
        column
            .typed::<DoubleType>()
            .write_batch(&scores, None, None)
            .unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column
            .typed::<Int32Type>()
            .write_batch(&numbers, Some(&vec![1; rows]), None)
            .unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column
            .typed::<Int32Type>()
            .write_batch(&numbers, None, None)
            .unwrap();
        column.close().unwrap();
        group.close().unwrap();
    }
    file.close().unwrap();
}

#[test]
fn every_compression_is_read_and_values_become_json() {
    let folder = tempfile::tempdir().unwrap();
    for compression in [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::GZIP(GzipLevel::default()),
        Compression::BROTLI(BrotliLevel::default()),
        Compression::LZ4_RAW,
        Compression::ZSTD(ZstdLevel::default()),
    ] {
        // The name does not tell the format.
        let path = folder.path().join("rows.data");
        write(&path, compression, 40);
        let rows: Vec<Value> = RowReader::open(&path)
            .unwrap()
            .map(|row| Value::Object(row.unwrap().fields))
            .collect();
        assert_eq!(rows.len(), 80);
        assert_eq!(
            rows[40],
            json!({"problem": "p 0", "answer": "a 0", "level": null, "score": null, "day": "1970-01-01"})
        );
        assert_eq!(
            rows[1],
            json!({"problem": "p 1", "answer": "a 1", "level": 1, "score": 0.5, "day": "1970-01-02"})
        );
        let problems = read_problems(&path, None).unwrap();
        assert_eq!(problems[79].id, "rows-79");
        assert_eq!(
            problems[79].place.to_string(),
            format!("`{}`, row 79", path.display())
        );
    }
}

#[test]
fn damaged_files_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.parquet");
    write(&path, Compression::SNAPPY, 40);
    let whole = std::fs::read(&path).unwrap();
    for end in [4, 10, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..end]).unwrap();
        let error = read_problems(&path, None).unwrap_err();
        assert!(matches!(error, DataError::Parquet { .. }), "{error}");
        assert!(
            error.to_string().contains("rows.parquet`, row 0"),
            "{error}"
        );
    }
}

#[test]
fn a_changed_byte_is_read_or_refused_but_never_panics() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.parquet");
    write(&path, Compression::SNAPPY, 40);
    let whole = std::fs::read(&path).unwrap();
    for change in 0..600 {
        let key = Key::new(5).with(change);
        let mut changed = whole.clone();
        changed[key.with(0).below(whole.len() as u64) as usize] = key.with(1).below(256) as u8;
        std::fs::write(&path, &changed).unwrap();
        if let Ok(problems) = read_problems(&path, None) {
            assert!(problems.len() <= 80);
        }
    }
}

/// What a problem asks, answers and shows, without where it came from.
fn content(problem: &Problem) -> (&str, &str, Option<&str>, &[String]) {
    (
        &problem.problem,
        &problem.answer,
        problem.solution.as_deref(),
        &problem.steps,
    )
}

#[test]
fn uft_countdown_is_read_as_the_problems_made_from_it() {
    let (Some(parquet), Some(jsonl)) = (
        data("parquet/uft_countdown_test.parquet"),
        data("countdown/test.jsonl"),
    ) else {
        return;
    };
    let read = read_problems(parquet, None).unwrap();
    let made = read_problems(jsonl, None).unwrap();
    assert_eq!((read.len(), made.len()), (1024, 1024));
    for (read, made) in read.iter().zip(&made) {
        assert_eq!(content(read), content(made));
        assert_eq!(
            read.extra["reward_model"]["ground_truth"]["numbers"],
            made.extra["numbers"]
        );
    }
    assert_eq!(read[7].id, "test-7");
}

#[test]
fn uft_math_is_read_as_the_problems_made_from_it() {
    let (Some(parquet), Some(jsonl)) = (
        data("parquet/uft_math_test.parquet"),
        data("math_traces.jsonl"),
    ) else {
        return;
    };
    let read = read_problems(parquet, Some(&Layout::Uft)).unwrap();
    assert_eq!(read.len(), 1024);
    let made: HashMap<String, Problem> = read_problems(jsonl, None)
        .unwrap()
        .into_iter()
        .map(|p| (p.problem.clone(), p))
        .collect();
    let mut compared = 0;
    for read in &read {
        if let Some(made) = made.get(&read.problem) {
            assert_eq!(read.solution, made.solution);
            // One published gold begins with a space, which reading the tag trims.
            assert_eq!(read.answer, made.answer.trim());
            compared += 1;
        }
    }
    assert_eq!(compared, 925);
}

#[test]
fn luffy_validation_rows_are_read_although_they_repeat_ids() {
    let (Some(parquet), Some(aime), Some(amc)) = (
        data("parquet/luffy_valid.parquet"),
        data("aime24.jsonl"),
        data("amc83.jsonl"),
    ) else {
        return;
    };
    let read = read_problems(parquet, None).unwrap();
    assert_eq!(read.len(), 2259);
    assert_eq!(read[0].extra["prompt"][0]["role"], "system");
    let golds: HashMap<&str, &str> = read
        .iter()
        .map(|p| (p.problem.as_str(), p.answer.as_str()))
        .collect();
    // Published as `025` and `142.0`.
    let same = |published: &str, made: &str| {
        published.parse::<f64>().unwrap() == made.parse::<f64>().unwrap()
    };
    let made = [aime, amc]
        .map(|file| read_problems(file, None).unwrap())
        .concat();
    let mut compared = 0;
    for made in &made {
        // Some statements were edited where ours come from; most are the same text.
        if let Some(gold) = golds.get(made.problem.as_str()) {
            assert!(same(gold, &made.answer), "{}: {gold}", made.id);
            compared += 1;
        }
    }
    assert!(compared >= 100, "{compared} of {}", made.len());
    // The AIME rows stand there eight times.
    assert_eq!(
        read.iter()
            .filter(|p| p.extra["data_source"] == "aime")
            .count(),
        30 * 8
    );
}
