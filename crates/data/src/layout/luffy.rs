//! LUFFY training rows: verl, and the off-policy trace as the one message of `target`.

use super::{Draft, Fields, verl};
use crate::error::DataError;

pub(super) fn read(row: Fields) -> Result<Draft, DataError> {
    let trace = row
        .find(&"target.0.content".parse().expect("a path"))
        .cloned();
    let trace = trace
        .map(|text| row.text("target.0.content", text))
        .transpose()?;
    let solution = match trace {
        Some(trace) => Some(trace),
        None => row.text_at(&["extra_info", "answer"])?,
    };
    let problem = verl::statement(&row)?;
    let answer = verl::gold(&row)?;
    verl::draft(row, problem, answer, solution)
}
