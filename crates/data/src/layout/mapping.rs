//! Rows of any other layout, field by field; MATH and DeepMath-103K are read this way too.

use serde::{Deserialize, Serialize};

use super::{Draft, Fields};
use crate::error::DataError;
use crate::path::FieldPath;
use crate::problem::steps_of_lines;

/// Which field of a row holds what. Paths may go into nested fields and lists: `meta.gold`,
/// `messages.-1.content`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldMapping {
    /// The statement.
    pub problem: FieldPath,
    /// The gold answer, or the text that contains it (see `answer_in`).
    pub answer: FieldPath,
    /// Where in that text the answer stands.
    #[serde(default)]
    pub answer_in: AnswerIn,
    /// The reference solution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub solution: Option<FieldPath>,
    /// The solution as a list of steps. Without it, the lines of the solution are its steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<FieldPath>,
    /// A unique name; the file name and row number without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<FieldPath>,
    /// Option texts of multiple choice; the answer must then be a letter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub choices: Option<FieldPath>,
}

/// Where in its field the gold answer stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AnswerIn {
    /// The field is the answer.
    #[default]
    WholeField,
    /// In the last `\boxed{}` (or `\fbox{}`) of the field.
    LastBox,
    /// Behind the last `####` of the field.
    AfterHashes,
    /// In the last `<answer>...</answer>` of the field.
    AnswerTag,
}

impl AnswerIn {
    /// The answer, trimmed; `None` if its mark is not in `text`.
    pub(super) fn find(self, text: &str) -> Option<&str> {
        let answer = match self {
            Self::WholeField => Some(text),
            Self::LastBox => last_box(text),
            Self::AfterHashes => text.rsplit_once("####").map(|(_, answer)| answer),
            Self::AnswerTag => text
                .rsplit_once("</answer>")
                .and_then(|(before, _)| Some(before.rsplit_once("<answer>")?.1)),
        };
        answer.map(str::trim)
    }

    fn mark(self) -> &'static str {
        match self {
            Self::WholeField => "text",
            Self::LastBox => "`\\boxed{...}`",
            Self::AfterHashes => "`####`",
            Self::AnswerTag => "`<answer>...</answer>`",
        }
    }
}

pub(super) fn math() -> FieldMapping {
    FieldMapping {
        answer_in: AnswerIn::LastBox,
        id: Some(field("unique_id")),
        ..simple("problem", "solution", "solution")
    }
}

pub(super) fn deepmath() -> FieldMapping {
    simple("question", "final_answer", "r1_solution_1")
}

fn simple(problem: &str, answer: &str, solution: &str) -> FieldMapping {
    FieldMapping {
        problem: field(problem),
        answer: field(answer),
        answer_in: AnswerIn::WholeField,
        solution: Some(field(solution)),
        steps: None,
        id: None,
        choices: None,
    }
}

fn field(name: &str) -> FieldPath {
    name.parse().expect("names without dots are paths")
}

pub(super) fn read(mut row: Fields, mapping: &FieldMapping) -> Result<Draft, DataError> {
    let optional =
        |path: &Option<FieldPath>| path.as_ref().map_or(Ok(None), |path| row.find_text(path));
    let list = |path: &Option<FieldPath>| {
        let found = path
            .as_ref()
            .and_then(|path| Some((path, row.find(path)?.clone())));
        found.map_or(Ok(Vec::new()), |(path, value)| {
            row.texts(&path.to_string(), value)
        })
    };
    let require = |path: &FieldPath| {
        row.find_text(path)?
            .ok_or_else(|| row.missing(&path.to_string()))
    };
    let problem = require(&mapping.problem)?;
    let marked = require(&mapping.answer)?;
    let Some(answer) = mapping.answer_in.find(&marked).map(str::to_owned) else {
        return Err(DataError::NoAnswerMark {
            place: row.place,
            field: mapping.answer.to_string(),
            mark: mapping.answer_in.mark(),
        });
    };
    let solution = optional(&mapping.solution)?;
    let mut steps = list(&mapping.steps)?;
    if let (true, Some(solution)) = (steps.is_empty(), &solution) {
        steps = steps_of_lines(solution);
    }
    let choices = list(&mapping.choices)?;
    let id = optional(&mapping.id)?;
    // What the problem now holds word by word is not kept a second time.
    let whole_answer = (mapping.answer_in == AnswerIn::WholeField).then_some(&mapping.answer);
    let moved = [
        &mapping.solution,
        &mapping.steps,
        &mapping.id,
        &mapping.choices,
    ];
    let moved = moved
        .into_iter()
        .flatten()
        .chain([&mapping.problem])
        .chain(whole_answer);
    for field in moved.filter_map(FieldPath::top_level) {
        row.take(field);
    }
    Ok(Draft {
        id,
        problem,
        answer,
        solution,
        steps,
        choices,
        answer_index: None,
        fields: row,
    })
}

/// Content of the last `\boxed{...}` or `\fbox{...}`, braces balanced, or of `\boxed 5` up to the
/// next space or dollar.
fn last_box(text: &str) -> Option<&str> {
    let macros = ["\\boxed", "\\fbox"].into_iter();
    let (at, name) = macros
        .filter_map(|name| Some((text.rfind(name)?, name)))
        .max()?;
    let after = &text[at + name.len()..];
    let Some(inside) = after.trim_start().strip_prefix('{') else {
        let bare = after.strip_prefix(' ')?.split(['$', ' ', '\n']).next()?;
        return (!bare.is_empty()).then_some(bare);
    };
    let mut depth = 1usize;
    for (i, c) in inside.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(&inside[..i]);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_box_is_read_to_its_own_brace() {
        assert_eq!(
            last_box(r"\boxed{1} so \boxed{\frac{1}{2}}."),
            Some(r"\frac{1}{2}")
        );
        assert_eq!(last_box(r"\fbox{7}"), Some("7"));
        assert_eq!(last_box(r"is $\boxed 5$."), Some("5"));
        assert_eq!(last_box(r"\boxed{\frac{1}{2}"), None);
        assert_eq!(last_box("5"), None);
    }

    #[test]
    fn marks_are_found_from_the_end() {
        assert_eq!(AnswerIn::AfterHashes.find("a #### 1 #### 2 "), Some("2"));
        assert_eq!(
            AnswerIn::AnswerTag.find("<answer>1</answer> <answer> 2 </answer>"),
            Some("2")
        );
        assert_eq!(AnswerIn::AnswerTag.find("1</answer>"), None);
    }
}
