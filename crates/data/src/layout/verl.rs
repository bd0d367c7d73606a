//! verl rows: chat messages, a gold for the reward, and whatever else the set's author added.

use serde_json::Value;

use super::{Draft, Fields};
use crate::error::{DataError, kind_of};
use crate::problem::steps_of_lines;

pub(super) fn read(row: Fields) -> Result<Draft, DataError> {
    let solution = row.text_at(&["extra_info", "answer"])?;
    let problem = statement(&row)?;
    let answer = gold(&row)?;
    draft(row, problem, answer, solution)
}

/// A draft whose steps are the lines of its solution. All columns stay in the row: rewards of these
/// sets look into them.
pub(super) fn draft(
    row: Fields,
    problem: String,
    answer: String,
    solution: Option<String>,
) -> Result<Draft, DataError> {
    Ok(Draft {
        id: id(&row)?,
        problem,
        answer,
        steps: solution.as_deref().map(steps_of_lines).unwrap_or_default(),
        solution,
        choices: Vec::new(),
        answer_index: None,
        fields: row,
    })
}

/// The question in the set's own words, else the last thing the user says in the prompt.
pub(super) fn statement(row: &Fields) -> Result<String, DataError> {
    for path in [&["extra_info", "question"][..], &["question"]] {
        if let Some(question) = row.text_at(path)? {
            return Ok(question);
        }
    }
    let messages = row.at(&["prompt"]).ok_or_else(|| row.missing("prompt"))?;
    let Value::Array(messages) = messages else {
        return Err(row.wrong_type("prompt", "a list of messages", messages));
    };
    let asked = messages
        .iter()
        .rev()
        .find(|message| message["role"] == "user");
    let content = asked.map(|message| &message["content"]);
    match content {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(other) => Err(row.wrong_type("prompt.content", "a string", other)),
        None => Err(row.missing("prompt (a message of role `user`)")),
    }
}

/// The gold: a text or number, or inside a struct its `target`, or its `solution_text_format`
/// (knights and knaves).
pub(super) fn gold(row: &Fields) -> Result<String, DataError> {
    let path = "reward_model.ground_truth";
    let gold = row
        .at(&["reward_model", "ground_truth"])
        .ok_or_else(|| row.missing(path))?;
    let gold = match gold {
        Value::Object(parts) => ["target", "solution_text_format"]
            .iter()
            .find_map(|part| parts.get(*part)),
        other => Some(other),
    };
    // Sets that accept several wordings list them; the first is the gold, all stay in the row.
    let gold = match gold {
        Some(Value::Array(golds)) => golds.first(),
        other => other,
    };
    let gold = gold
        .filter(|value| !value.is_null())
        .ok_or_else(|| row.missing("reward_model.ground_truth.target"))?;
    match gold {
        Value::String(_) | Value::Number(_) => row.text(path, gold.clone()),
        other => Err(DataError::WrongType {
            place: row.place.clone(),
            field: path.into(),
            expected: "a string, a number, or an object with `target`",
            found: kind_of(other),
        }),
    }
}

/// `split-index`; files repeat it where they repeat rows.
fn id(row: &Fields) -> Result<Option<String>, DataError> {
    let split = row.text_at(&["extra_info", "split"])?;
    let index = row.text_at(&["extra_info", "index"])?;
    Ok(split
        .zip(index)
        .map(|(split, index)| format!("{split}-{index}")))
}
