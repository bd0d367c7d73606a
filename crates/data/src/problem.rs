//! A problem as every other crate sees it, whatever file it came from.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};

/// Names of the fields of our own row schema, in the order they are written.
pub(crate) const SCHEMA_FIELDS: [&str; 7] = [
    "id",
    "problem",
    "choices",
    "answer",
    "answer_index",
    "solution",
    "steps",
];

/// A problem with its gold answer and, where there is one, a stepwise reference solution.
///
/// What [`ProblemReader`](crate::ProblemReader) yields holds: `problem` and `answer` are not blank;
/// `steps`, when not empty, are non-empty strings whose concatenation is `solution`; `choices`, when
/// not empty, come with an `answer_index` inside them whose letter is `answer`.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// Unique in its file.
    pub id: String,
    /// The statement only: no instruction, no prompt template, no options.
    pub problem: String,
    /// The gold answer without a box; for multiple choice, the letter of the right option.
    pub answer: String,
    /// The full reference solution, the source of hints.
    pub solution: Option<String>,
    /// The solution cut into steps; empty when the row has none.
    pub steps: Vec<String>,
    /// Option texts without labels; empty unless the problem is multiple choice.
    pub choices: Vec<String>,
    /// Zero-based index of the right option in `choices`.
    pub answer_index: Option<usize>,
    /// Everything else the row carries, under its own names, for rewards and reports.
    pub extra: Map<String, Value>,
    /// Where the problem came from.
    pub place: Place,
}

impl Problem {
    /// The label of option `index`: `A` for 0, `B` for 1, and so on up to `Z`.
    pub fn choice_letter(index: usize) -> Option<char> {
        u8::try_from(index)
            .ok()
            .filter(|&i| i < 26)
            .map(|i| char::from(b'A' + i))
    }

    /// The options as a prompt shows them, one a line: `A) first`, `B) second`. Empty without options.
    pub fn lettered_choices(&self) -> String {
        self.choices
            .iter()
            .enumerate()
            .filter_map(|(i, text)| {
                Self::choice_letter(i).map(|letter| format!("{letter}) {text}"))
            })
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// The row in our own schema; the inverse of reading it, up to the order of the extra fields.
    pub fn to_row(&self) -> Map<String, Value> {
        let mut row = Map::new();
        row.insert("id".into(), self.id.clone().into());
        row.insert("problem".into(), self.problem.clone().into());
        if !self.choices.is_empty() {
            row.insert("choices".into(), self.choices.clone().into());
        }
        row.insert("answer".into(), self.answer.clone().into());
        if let Some(index) = self.answer_index {
            row.insert("answer_index".into(), index.into());
        }
        if let Some(solution) = &self.solution {
            row.insert("solution".into(), solution.clone().into());
        }
        if !self.steps.is_empty() {
            row.insert("steps".into(), self.steps.clone().into());
        }
        for (name, value) in &self.extra {
            // A foreign column may bear one of our names with another meaning (UFT's `answer`).
            let name = if SCHEMA_FIELDS.contains(&name.as_str()) {
                format!("{name}_raw")
            } else {
                name.clone()
            };
            row.entry(name).or_insert_with(|| value.clone());
        }
        row
    }
}

/// Where a problem came from, for messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A line of a text file.
    Line {
        /// The file as the user named it.
        file: Arc<Path>,
        /// One-based line number.
        line: u64,
    },
    /// A row of a Parquet file.
    Row {
        /// The file as the user named it.
        file: Arc<Path>,
        /// Zero-based row number, as data-frame programs count.
        row: u64,
    },
    /// Made by a generator of this crate.
    Generated {
        /// Name of the generator.
        generator: &'static str,
        /// Zero-based number in the generated set.
        index: u64,
    },
}

impl Place {
    /// The file, if the problem was read from one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Line { file, .. } | Self::Row { file, .. } => Some(file),
            Self::Generated { .. } => None,
        }
    }

    /// Zero-based position in the source: lines count from 0 here too.
    pub fn index(&self) -> u64 {
        match self {
            Self::Line { line, .. } => line.saturating_sub(1),
            Self::Row { row, .. } => *row,
            Self::Generated { index, .. } => *index,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line { file, line } => write!(f, "`{}`, line {line}", file.display()),
            Self::Row { file, row } => write!(f, "`{}`, row {row}", file.display()),
            Self::Generated { generator, index } => write!(f, "{generator} problem {index}"),
        }
    }
}

/// Cuts a text into its lines, each with its line break; blank lines belong to the step before them
/// (at the start: to the first). The pieces join to `text`; a blank text has no steps.
pub fn steps_of_lines(text: &str) -> Vec<String> {
    let mut steps: Vec<String> = Vec::new();
    let mut blank_start = String::new();
    for line in text.split_inclusive('\n') {
        if !line.trim().is_empty() {
            steps.push(std::mem::take(&mut blank_start) + line);
        } else if let Some(last) = steps.last_mut() {
            last.push_str(line);
        } else {
            blank_start.push_str(line);
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blank_lines_belong_to_the_step_before_them() {
        assert_eq!(steps_of_lines("a\n\nb\n"), ["a\n\n", "b\n"]);
        assert_eq!(steps_of_lines("\n \na\u{2028}b"), ["\n \na\u{2028}b"]);
        assert!(steps_of_lines(" \n").is_empty());
    }

    #[test]
    fn choices_have_letters_up_to_z() {
        assert_eq!(Problem::choice_letter(9), Some('J'));
        assert_eq!(Problem::choice_letter(26), None);
    }
}
