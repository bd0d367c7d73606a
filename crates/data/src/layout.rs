//! How the fields of a row become a [`Problem`]: one layout a file.

mod gsm8k;
mod luffy;
mod mapping;
mod own;
mod uft;
mod verl;

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{DataError, kind_of};
use crate::path::FieldPath;
use crate::problem::{Place, Problem};
use crate::rows::Row;
pub use mapping::{AnswerIn, FieldMapping};

/// The column layouts that public data sets have.
///
/// In a recipe: `layout = "gsm8k"`, or `layout = { mapping = { problem = "q", answer = "meta.gold" } }`.
/// Without one it is told by the fields of the first row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Layout {
    /// Our own schema: `problem`, `answer`, and optionally `id`, `solution`, `steps`, `choices`, `answer_index`.
    Seele,
    /// GSM8K as published: `question`, and `answer` that ends with `#### 72`.
    Gsm8k,
    /// MATH as published: `problem`, `solution` with the answer in its last box, `level`, `type`.
    Math,
    /// DeepMath-103K: `question`, `final_answer`, and three solutions, of which the first is used.
    #[serde(rename = "deepmath")]
    DeepMath,
    /// verl: `prompt` (messages), `reward_model.ground_truth`, `extra_info`.
    Verl,
    /// LUFFY: verl, and a reference trace as the first message of `target`.
    Luffy,
    /// UFT: verl, and the reference trace as a list of steps, `hint`.
    Uft,
    /// Any other, field by field.
    Mapping(FieldMapping),
}

impl Layout {
    /// The name, as in a recipe.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Seele => "seele",
            Self::Gsm8k => "gsm8k",
            Self::Math => "math",
            Self::DeepMath => "deepmath",
            Self::Verl => "verl",
            Self::Luffy => "luffy",
            Self::Uft => "uft",
            Self::Mapping(_) => "mapping",
        }
    }

    /// Tells the layout by the fields of a row that are not null; `None` if they fit none.
    pub fn detect(fields: &Map<String, Value>) -> Option<Self> {
        let has = |name: &str| fields.get(name).is_some_and(|value| !value.is_null());
        if ["id", "problem", "answer"].into_iter().all(has) {
            // Also a converted file, which keeps the columns it had.
            Some(Self::Seele)
        } else if has("prompt") && has("reward_model") {
            Some(match fields.get("target") {
                _ if has("hint") => Self::Uft,
                Some(Value::Array(_)) => Self::Luffy,
                _ => Self::Verl,
            })
        } else if has("problem") {
            let math = has("solution") && !has("answer") && (has("level") || has("type"));
            Some(if math { Self::Math } else { Self::Seele })
        } else if has("question") && has("final_answer") {
            Some(Self::DeepMath)
        } else if has("question") && has("answer") {
            Some(Self::Gsm8k)
        } else {
            None
        }
    }

    /// Whether ids are made from fields that published files repeat (`extra_info.index`), so that a
    /// repeated one is no mistake of the file.
    pub(crate) fn ids_may_repeat(&self) -> bool {
        matches!(self, Self::Verl | Self::Luffy | Self::Uft)
    }

    /// Reads one row.
    ///
    /// # Errors
    /// Any of the row errors of [`DataError`], naming the row's place.
    pub fn problem(&self, row: Row) -> Result<Problem, DataError> {
        let fields = Fields {
            layout: self.name(),
            place: row.place,
            rest: row.fields,
        };
        let draft = match self {
            Self::Seele => own::read(fields)?,
            Self::Gsm8k => gsm8k::read(fields)?,
            Self::Math => mapping::read(fields, &mapping::math())?,
            Self::DeepMath => mapping::read(fields, &mapping::deepmath())?,
            Self::Verl => verl::read(fields)?,
            Self::Luffy => luffy::read(fields)?,
            Self::Uft => uft::read(fields)?,
            Self::Mapping(mapping) => mapping::read(fields, mapping)?,
        };
        draft.check()
    }
}

/// A row on the way to a problem: not yet checked.
struct Draft {
    id: Option<String>,
    problem: String,
    answer: String,
    solution: Option<String>,
    steps: Vec<String>,
    choices: Vec<String>,
    answer_index: Option<usize>,
    /// What is left of the row.
    fields: Fields,
}

impl Draft {
    /// Everything that must hold whatever the layout.
    fn check(mut self) -> Result<Problem, DataError> {
        let place = self.fields.place;
        let id = self.id.unwrap_or_else(|| row_id(&place));
        if self.problem.trim().is_empty() {
            return Err(DataError::Blank {
                place,
                field: "problem".into(),
            });
        }
        if let Some(step) = self.steps.iter().position(String::is_empty) {
            return Err(DataError::EmptyStep { place, id, step });
        }
        if !self.steps.is_empty() {
            let joined = self.steps.concat();
            match &self.solution {
                None => self.solution = Some(joined),
                Some(solution) if *solution == joined => {}
                Some(solution) => {
                    let same = solution.bytes().zip(joined.bytes());
                    let byte = same.take_while(|(a, b)| a == b).count();
                    return Err(DataError::StepsDoNotJoin { place, id, byte });
                }
            }
        }
        // A blank solution is no source of hints; it is what "none" looks like in some sets.
        self.solution = self.solution.filter(|text| !text.trim().is_empty());
        if self.solution.is_none() {
            self.steps.clear();
        }
        if !self.choices.is_empty() {
            let letter = |index| Problem::choice_letter(index).map(String::from);
            let labels = (0..self.choices.len()).map_while(letter);
            let by_letter = labels.clone().position(|label| label == self.answer.trim());
            let fits = match (self.answer_index, by_letter) {
                (Some(index), Some(other)) => index == other,
                (Some(index), None) => self.answer.is_empty() && index < self.choices.len(),
                (None, found) => found.is_some(),
            };
            let index = self.answer_index.or(by_letter);
            let Some((index, label)) = index.filter(|_| fits).and_then(|i| Some((i, letter(i)?)))
            else {
                return Err(DataError::AnswerNotAChoice {
                    place,
                    id,
                    answer: self.answer,
                    index: self.answer_index,
                    choices: self.choices.len(),
                });
            };
            self.answer_index = Some(index);
            self.answer = label;
        }
        if self.answer.trim().is_empty() {
            return Err(DataError::Blank {
                place,
                field: "answer".into(),
            });
        }
        Ok(Problem {
            id,
            problem: self.problem,
            answer: self.answer,
            solution: self.solution,
            steps: self.steps,
            choices: self.choices,
            answer_index: self.answer_index,
            extra: self.fields.rest,
            place,
        })
    }
}

/// The id of a row without one: file name and position.
pub(crate) fn row_id(place: &Place) -> String {
    let stem = place
        .file()
        .and_then(Path::file_name)
        .map_or("row".into(), |n| n.to_string_lossy());
    let stem = stem.split('.').next().unwrap_or("row");
    format!("{stem}-{}", place.index())
}

/// The fields of a row that are not used up yet, with what a message needs.
struct Fields {
    layout: &'static str,
    place: Place,
    rest: Map<String, Value>,
}

impl Fields {
    fn missing(&self, field: &str) -> DataError {
        DataError::MissingField {
            place: self.place.clone(),
            field: field.to_owned(),
            layout: self.layout,
        }
    }

    fn wrong_type(&self, field: &str, expected: &'static str, found: &Value) -> DataError {
        DataError::WrongType {
            place: self.place.clone(),
            field: field.to_owned(),
            expected,
            found: kind_of(found),
        }
    }

    /// Removes a field; null counts as absent.
    fn take(&mut self, field: &str) -> Option<Value> {
        // `shift_remove` keeps the order of the others, so that a row is written as it was read.
        self.rest
            .shift_remove(field)
            .filter(|value| !value.is_null())
    }

    /// A value somewhere inside the row, left where it is; null counts as absent.
    fn find(&self, path: &FieldPath) -> Option<&Value> {
        path.find(&self.rest).filter(|value| !value.is_null())
    }

    fn find_text(&self, path: &FieldPath) -> Result<Option<String>, DataError> {
        let value = self.find(path).cloned();
        value
            .map(|value| self.text(&path.to_string(), value))
            .transpose()
    }

    /// A nested field by name; paths written in this crate are valid.
    fn at(&self, path: &[&str]) -> Option<&Value> {
        let (first, rest) = path.split_first()?;
        let start = self.rest.get(*first)?;
        let found = rest.iter().try_fold(start, |value, part| value.get(part))?;
        (!found.is_null()).then_some(found)
    }

    fn text_at(&self, path: &[&str]) -> Result<Option<String>, DataError> {
        let value = self.at(path).cloned();
        value
            .map(|value| self.text(&path.join("."), value))
            .transpose()
    }

    fn take_text(&mut self, field: &str) -> Result<Option<String>, DataError> {
        self.take(field)
            .map(|value| self.text(field, value))
            .transpose()
    }

    fn require_text(&mut self, field: &str) -> Result<String, DataError> {
        self.take_text(field)?.ok_or_else(|| self.missing(field))
    }

    fn take_texts(&mut self, field: &str) -> Result<Vec<String>, DataError> {
        self.take(field)
            .map_or(Ok(Vec::new()), |value| self.texts(field, value))
    }

    /// A string, or a number that JSON keeps exactly.
    fn text(&self, field: &str, value: Value) -> Result<String, DataError> {
        match value {
            Value::String(text) => Ok(text),
            // Beyond 2^53 a number without quotes has lost digits already.
            Value::Number(n)
                if n.is_i64() || n.is_u64() || n.as_f64().is_some_and(|x| x.abs() < 9e15) =>
            {
                Ok(n.to_string())
            }
            other => Err(self.wrong_type(field, "a string", &other)),
        }
    }

    fn texts(&self, field: &str, value: Value) -> Result<Vec<String>, DataError> {
        match value {
            Value::Array(items) => items
                .into_iter()
                .map(|item| match item {
                    Value::String(text) => Ok(text),
                    other => Err(self.wrong_type(field, "a list of strings", &other)),
                })
                .collect(),
            other => Err(self.wrong_type(field, "a list of strings", &other)),
        }
    }
}
