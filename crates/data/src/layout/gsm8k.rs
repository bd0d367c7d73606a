//! GSM8K as published: worked lines with calculator marks (`<<48/2=24>>`), then `#### 72`.

use super::{Draft, Fields};
use crate::error::DataError;
use crate::problem::steps_of_lines;

pub(super) fn read(mut row: Fields) -> Result<Draft, DataError> {
    let problem = row.require_text("question")?;
    let raw = row.require_text("answer")?;
    let Some((worked, answer)) = raw.rsplit_once("####") else {
        return Err(DataError::NoAnswerMark {
            place: row.place,
            field: "answer".into(),
            mark: "`####`",
        });
    };
    let answer = without_thousands_commas(answer.trim());
    let mut worked = without_calculator_marks(worked.trim_end());
    if !worked.is_empty() {
        worked.push('\n');
    }
    // The closing line becomes one that the verifier reads, and that a model may well write.
    let mut steps = steps_of_lines(&worked);
    steps.push(format!("The answer is \\boxed{{{answer}}}."));
    let id = row.take_text("id")?;
    row.rest.insert("answer_raw".into(), raw.into());
    Ok(Draft {
        id,
        problem,
        answer,
        solution: None,
        steps,
        choices: Vec::new(),
        answer_index: None,
        fields: row,
    })
}

fn without_calculator_marks(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, marked)) = rest.split_once("<<") {
        let Some((_, after)) = marked.split_once(">>") else {
            break;
        };
        kept.push_str(before);
        rest = after;
    }
    kept + rest
}

fn without_thousands_commas(answer: &str) -> String {
    let plain = answer
        .chars()
        .all(|c| c.is_ascii_digit() || ",.-$%".contains(c));
    if plain {
        answer.replace(',', "")
    } else {
        answer.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::layout::Layout;
    use crate::problem::Place;
    use crate::rows::Row;

    fn row(answer: &str) -> Row {
        let serde_json::Value::Object(fields) = json!({"question": "q", "answer": answer}) else {
            unreachable!()
        };
        let place = Place::Line {
            file: std::path::Path::new("dir/train.jsonl").into(),
            line: 8,
        };
        Row { place, fields }
    }

    #[test]
    fn calculator_marks_go_and_the_closing_line_gets_a_box() {
        let raw = "He has 48/2 = <<48/2=24>>24 clips.\nThen 48+24 = <<48+24=72>>72.\n#### 1,072";
        let problem = Layout::Gsm8k.problem(row(raw)).unwrap();
        assert_eq!(problem.answer, "1072");
        assert_eq!(
            problem.steps,
            [
                "He has 48/2 = 24 clips.\n",
                "Then 48+24 = 72.\n",
                "The answer is \\boxed{1072}."
            ]
        );
        assert_eq!(problem.solution.unwrap(), problem.steps.concat());
        assert_eq!(problem.extra["answer_raw"], raw);
        assert_eq!(problem.id, "train-7");
    }

    #[test]
    fn an_answer_without_hashes_is_an_error() {
        let message = Layout::Gsm8k.problem(row("72")).unwrap_err().to_string();
        assert!(
            message.contains("line 8: `answer` has no `####`"),
            "{message}"
        );
    }
}
