//! UFT rows: verl, the trace as a list of steps in `hint`, and texts with UFT's own prompt around them.

use super::mapping::AnswerIn;
use super::{Draft, Fields, verl};
use crate::error::DataError;

pub(super) fn read(row: Fields) -> Result<Draft, DataError> {
    // The maths rows carry the bare statement only inside the gold.
    let problem = match row.text_at(&["reward_model", "ground_truth", "question"])? {
        Some(statement) => statement,
        None => without_frame(&verl::statement(&row)?).to_owned(),
    };
    // `answer` is the trace and `<answer>...</answer>`. What stands in the tag answers the question;
    // the gold of the reward may not (countdown's is the number to reach, not the equation).
    let tagged = row.text_at(&["answer"])?;
    let answer = match tagged
        .as_deref()
        .and_then(|text| AnswerIn::AnswerTag.find(text))
    {
        Some(answer) => answer.to_owned(),
        None => verl::gold(&row)?,
    };
    let hint = row.at(&["hint"]).cloned();
    let steps = hint.map_or(Ok(Vec::new()), |hint| row.texts("hint", hint))?;
    let draft = verl::draft(row, problem, answer, None)?;
    Ok(Draft { steps, ..draft })
}

/// The statement without UFT's conversation frame; a text without the frame as it is. Our own
/// template frames it again, and the row keeps the original.
fn without_frame(text: &str) -> &str {
    let Some((_, asked)) = text.split_once("\nUser: ") else {
        return text;
    };
    let ends = [" Show your work in <think>", "\nAssistant:"];
    let end = ends.iter().filter_map(|end| asked.find(end)).min();
    end.map_or(asked, |end| &asked[..end])
}

#[cfg(test)]
mod tests {
    use super::without_frame;

    #[test]
    fn the_statement_is_cut_out_of_the_frame() {
        let framed = "A conversation.\nUser: What is 1+1? Show your work in <think> </think> tags.\nAssistant: <think> ";
        assert_eq!(without_frame(framed), "What is 1+1?");
        assert_eq!(without_frame("What is 1+1?"), "What is 1+1?");
    }
}
