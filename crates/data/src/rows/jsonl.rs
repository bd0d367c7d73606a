//! JSON lines.

use std::io::{BufRead, Read};
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::Row;
use crate::error::{DataError, kind_of};
use crate::problem::Place;

/// No row is longer; a file without line feeds is refused here instead of filling the memory.
const LINE_LIMIT: u64 = 256 << 20;

/// The rows of a text stream. Lines end with `\n` only: texts hold other Unicode line separators.
/// Blank lines are passed over.
pub(super) struct Lines<R> {
    file: Arc<Path>,
    text: R,
    line: u64,
    buffer: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(file: Arc<Path>, text: R) -> Self {
        Self {
            file,
            text,
            line: 0,
            buffer: Vec::new(),
        }
    }

    fn place(&self) -> Place {
        Place::Line {
            file: self.file.clone(),
            line: self.line,
        }
    }

    /// The next row; `None` at the end of the file.
    fn row(&mut self) -> Result<Option<Row>, DataError> {
        loop {
            self.buffer.clear();
            self.line += 1;
            let read = (&mut self.text)
                .take(LINE_LIMIT)
                .read_until(b'\n', &mut self.buffer)
                .map_err(|source| DataError::Read {
                    place: self.place(),
                    source,
                })?;
            if read == 0 {
                return Ok(None);
            }
            if read as u64 == LINE_LIMIT && self.buffer.last() != Some(&b'\n') {
                return Err(DataError::LineTooLong {
                    place: self.place(),
                    limit: LINE_LIMIT,
                });
            }
            let mut line = self.buffer.as_slice();
            if self.line == 1 {
                line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
            }
            if !line.trim_ascii().is_empty() {
                return parse(line, self.place()).map(Some);
            }
        }
    }
}

fn parse(line: &[u8], place: Place) -> Result<Row, DataError> {
    match serde_json::from_slice::<Value>(line) {
        Ok(Value::Object(fields)) => Ok(Row { place, fields }),
        Ok(other) => Err(DataError::NotAnObject {
            place,
            found: kind_of(&other),
        }),
        // An array over several lines: say so instead of complaining about its first line.
        Err(error) if error.is_eof() && line.trim_ascii() == b"[" => Err(DataError::NotAnObject {
            place,
            found: "a list",
        }),
        Err(error) => {
            let message = error.to_string();
            let reason = message
                .rfind(" at line ")
                .map_or(message.as_str(), |end| &message[..end]);
            Err(DataError::Json {
                place,
                column: error.column(),
                reason: reason.to_owned(),
            })
        }
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = Result<Row, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.row().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<Result<Row, DataError>> {
        Lines::new(Path::new("x.jsonl").into(), text.as_bytes()).collect()
    }

    #[test]
    fn only_the_line_feed_ends_a_row() {
        let rows = lines("\u{feff}{\"a\": \"x\u{2028}y\u{85}z\"}\r\n\n{\"a\": 2}");
        let rows: Vec<Row> = rows.into_iter().map(Result::unwrap).collect();
        assert_eq!(rows[0].fields["a"], "x\u{2028}y\u{85}z");
        assert_eq!(rows[1].place.to_string(), "`x.jsonl`, line 3");
        assert_eq!(rows.len(), 2);
    }

    #[test]
    fn broken_json_names_line_and_column() {
        let rows = lines("{\"a\": 1}\n{\"a\": 1,, }\n");
        let message = rows[1].as_ref().unwrap_err().to_string();
        assert!(
            message.starts_with("`x.jsonl`, line 2, column 9: broken JSON (key must be a string)"),
            "{message}"
        );
    }

    #[test]
    fn a_json_array_is_told_apart_from_broken_json() {
        for text in ["[\n{\"a\": 1}\n]\n", "[{\"a\": 1}]\n"] {
            let message = lines(text)[0].as_ref().unwrap_err().to_string();
            assert!(
                message.contains("found a list") && message.contains("jq -c"),
                "{message}"
            );
        }
    }

    #[test]
    fn invalid_utf8_is_an_error() {
        let mut rows = Lines::new(Path::new("x").into(), &b"{\"a\": \"\xff\"}"[..]);
        assert!(matches!(rows.next(), Some(Err(DataError::Json { .. }))));
    }
}
