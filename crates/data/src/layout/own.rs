//! Our own schema.

use super::{Draft, Fields};
use crate::error::DataError;

pub(super) fn read(mut row: Fields) -> Result<Draft, DataError> {
    let answer_index = match row.take("answer_index") {
        None => None,
        Some(value) => {
            let index = value.as_u64().and_then(|i| usize::try_from(i).ok());
            Some(index.ok_or_else(|| row.wrong_type("answer_index", "an integer from 0", &value))?)
        }
    };
    Ok(Draft {
        id: row.take_text("id")?,
        problem: row.require_text("problem")?,
        // The letter of a choice follows from its index.
        answer: match row.take_text("answer")? {
            Some(answer) => answer,
            None if answer_index.is_some() && row.rest.contains_key("choices") => String::new(),
            None => return Err(row.missing("answer")),
        },
        solution: row.take_text("solution")?,
        steps: row.take_texts("steps")?,
        choices: row.take_texts("choices")?,
        answer_index,
        fields: row,
    })
}
