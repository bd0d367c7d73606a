//! Parquet rows as JSON objects, read page by page.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use parquet::errors::ParquetError;
use parquet::file::reader::SerializedFileReader;
use parquet::record::Field;
use parquet::record::reader::RowIter;
use serde_json::{Map, Number, Value};

use super::Row;
use crate::error::{BoxError, DataError};
use crate::problem::Place;

/// The index column that pandas writes; it says nothing about the problem.
const PANDAS_INDEX: &str = "__index_level_0__";

pub(super) struct Rows {
    file: Arc<Path>,
    rows: RowIter<'static>,
    row: u64,
}

impl Rows {
    pub(super) fn new(file: Arc<Path>, opened: File) -> Result<Self, DataError> {
        let reader = guarded(|| SerializedFileReader::new(opened));
        let reader = reader.map_err(|source| damaged(&file, 0, source))?;
        Ok(Self {
            rows: RowIter::from_file_into(Box::new(reader)),
            file,
            row: 0,
        })
    }
}

/// Calls the Parquet reader, which panics on some damaged files (a negative column length, a missing
/// dictionary page), and makes an error of a panic. What panicked must not be used again.
fn guarded<T>(read: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, BoxError> {
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(result) => result.map_err(BoxError::from),
        Err(_) => Err("its pages contradict its footer".into()),
    }
}

fn damaged(file: &Arc<Path>, row: u64, source: BoxError) -> DataError {
    let file = file.clone();
    DataError::Parquet {
        place: Place::Row { file, row },
        source,
    }
}

impl Iterator for Rows {
    type Item = Result<Row, DataError>;

    /// After an error the reader is not asked again: [`RowReader`](super::RowReader) sees to it.
    fn next(&mut self) -> Option<Self::Item> {
        let row = self.row;
        let columns = match guarded(|| self.rows.next().transpose()) {
            Ok(columns) => columns?.into_columns(),
            Err(source) => return Some(Err(damaged(&self.file, row, source))),
        };
        self.row += 1;
        let named = columns.into_iter().filter(|(name, _)| name != PANDAS_INDEX);
        Some(Ok(Row {
            place: Place::Row {
                file: self.file.clone(),
                row,
            },
            fields: named.map(|(name, field)| (name, json(&field))).collect(),
        }))
    }
}

/// A field as JSON. Dates and times become ISO 8601 text, decimals their text; bytes that are no text become
/// hexadecimal digits; a number that JSON has no word for (NaN, infinity) becomes null.
fn json(field: &Field) -> Value {
    let float = |x: f64| Number::from_f64(x).map_or(Value::Null, Value::Number);
    match field {
        Field::Null => Value::Null,
        Field::Bool(value) => (*value).into(),
        Field::Byte(n) => (*n).into(),
        Field::Short(n) => (*n).into(),
        Field::Int(n) => (*n).into(),
        Field::Long(n) => (*n).into(),
        Field::UByte(n) => (*n).into(),
        Field::UShort(n) => (*n).into(),
        Field::UInt(n) => (*n).into(),
        Field::ULong(n) => (*n).into(),
        Field::Float16(x) => float(f64::from(*x)),
        Field::Float(x) => float(f64::from(*x)),
        Field::Double(x) => float(*x),
        Field::Str(text) => text.as_str().into(),
        Field::Bytes(bytes) => match std::str::from_utf8(bytes.data()) {
            Ok(text) => text.into(),
            Err(_) => bytes
                .data()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>()
                .into(),
        },
        Field::Group(row) => row
            .get_column_iter()
            .map(|(name, field)| (name.clone(), json(field)))
            .collect::<Map<_, _>>()
            .into(),
        Field::ListInternal(list) => list.elements().iter().map(json).collect(),
        Field::MapInternal(map) => {
            let entries = map.entries().iter().map(|(key, value)| {
                let key = match json(key) {
                    Value::String(text) => text,
                    other => other.to_string(),
                };
                (key, json(value))
            });
            entries.collect::<Map<_, _>>().into()
        }
        Field::Date(days) => date(i64::from(*days)).into(),
        Field::TimeMillis(ms) => time(i64::from(*ms) * 1000).into(),
        Field::TimeMicros(us) => time(*us).into(),
        Field::TimestampMillis(ms) => timestamp(ms.saturating_mul(1000)).into(),
        Field::TimestampMicros(us) => timestamp(*us).into(),
        // Quoted, because JSON numbers would lose digits of long ones.
        Field::Decimal(_) => field.to_string().into(),
    }
}

const MICROS_A_DAY: i64 = 86_400_000_000;

fn timestamp(micros: i64) -> String {
    let day = micros.div_euclid(MICROS_A_DAY);
    format!("{}T{}", date(day), time(micros.rem_euclid(MICROS_A_DAY)))
}

fn time(micros: i64) -> String {
    let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
    let clock = format!(
        "{:02}:{:02}:{:02}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    );
    if fraction == 0 {
        clock
    } else {
        format!("{clock}.{fraction:06}")
    }
}

/// The Gregorian date of a day counted from 1970-01-01. Years are counted from March in eras of
/// 400 years (146,097 days), so that a leap day ends its year.
fn date(days: i64) -> String {
    let since_year_0 = days + 719_468;
    let (era, day) = (
        since_year_0.div_euclid(146_097),
        since_year_0.rem_euclid(146_097),
    );
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let from_march = (5 * day + 2) / 153;
    let day = day - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = era * 400 + year + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_times_are_iso_8601() {
        let days = [0, 59, 60, 789, 790, 11_016, 19_782, -1, -719_468];
        let dates = days.map(date);
        assert_eq!(
            dates,
            [
                "1970-01-01",
                "1970-03-01",
                "1970-03-02",
                "1972-02-29",
                "1972-03-01",
                "2000-02-29",
                "2024-02-29",
                "1969-12-31",
                "0000-03-01"
            ]
        );
        assert_eq!(timestamp(1_700_000_000_000_000), "2023-11-14T22:13:20");
        assert_eq!(timestamp(-1), "1969-12-31T23:59:59.999999");
        // Damaged files hold any number.
        timestamp(i64::MIN);
        date(i64::from(i32::MAX));
    }
}
