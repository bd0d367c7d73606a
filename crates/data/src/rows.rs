//! Rows of a file as JSON objects, one at a time, whatever the file format.

mod jsonl;
mod parquet;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::error::DataError;
use crate::problem::Place;

/// One row: its place and its fields.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Where the row stands.
    pub place: Place,
    /// The fields in the order of the file.
    pub fields: Map<String, Value>,
}

/// Streams the rows of a data file; memory holds one row (Parquet: one page a column) at a time.
///
/// The format is told by the first bytes, not by the name: Parquet, JSON lines, or JSON lines in gzip.
/// After an error the stream ends.
pub struct RowReader {
    path: Arc<Path>,
    rows: Box<dyn Iterator<Item = Result<Row, DataError>> + Send>,
    failed: bool,
}

impl RowReader {
    /// Opens a file.
    ///
    /// # Errors
    /// [`DataError::Open`], or [`DataError::Parquet`] if a Parquet file has no readable footer.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, DataError> {
        let path: Arc<Path> = path.as_ref().into();
        let file = File::open(&path).map_err(|source| DataError::Open {
            path: path.to_path_buf(),
            source,
        })?;
        let mut text = BufReader::with_capacity(1 << 16, file);
        let start = text.fill_buf().map_err(|source| DataError::Open {
            path: path.to_path_buf(),
            source,
        })?;
        let rows: Box<dyn Iterator<Item = Result<Row, DataError>> + Send> =
            if start.starts_with(b"PAR1") {
                Box::new(parquet::Rows::new(path.clone(), text.into_inner())?)
            } else if start.starts_with(&[0x1f, 0x8b]) {
                let text =
                    BufReader::with_capacity(1 << 16, flate2::bufread::MultiGzDecoder::new(text));
                Box::new(jsonl::Lines::new(path.clone(), text))
            } else {
                Box::new(jsonl::Lines::new(path.clone(), text))
            };
        Ok(Self {
            path,
            rows,
            failed: false,
        })
    }

    /// The file as it was named.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Iterator for RowReader {
    type Item = Result<Row, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let row = self.rows.next()?;
        self.failed = row.is_err();
        Some(row)
    }
}
