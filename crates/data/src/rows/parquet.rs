//! Parquet rows as JSON objects, read page by page.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use parquet::errors::ParquetError;
use parquet::file::reader::SerializedFileReader;
use parquet::record::Field;
use parquet::record::reader::RowIter;
use serde_json::{Map, Number, Value};

use super::Row;
use crate::error::DataError;
use crate::problem::Place;

/// The index column that pandas writes; it says nothing about the problem.
const PANDAS_INDEX: &str = "__index_level_0__";

pub(super) struct Rows {
    file: Arc<Path>,
    rows: RowIter<'static>,
    row: u64,
}

impl Rows {
    pub(super) fn new(path: Arc<Path>, file: File) -> Result<Self, DataError> {
        let reader = SerializedFileReader::new(file).map_err(|source| damaged(&path, 0, source))?;
        Ok(Self {
            rows: RowIter::from_file_into(Box::new(reader)),
            file: path,
            row: 0,
        })
    }
}

fn damaged(file: &Arc<Path>, row: u64, source: ParquetError) -> DataError {
    DataError::Parquet {
        place: Place::Row {
            file: file.clone(),
            row,
        },
        source: Box::new(source),
    }
}

impl Iterator for Rows {
    type Item = Result<Row, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = self.row;
        let columns = match self.rows.next()? {
            Ok(columns) => columns.into_columns(),
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

/// A field as JSON. Dates, times and decimals become their text; bytes that are no text become
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
        dated => dated.to_string().into(),
    }
}
