//! Text with named slots.

use serde_json::Value;

use super::TemplateError;
use crate::path::FieldPath;
use crate::problem::Problem;

/// A text cut at its slots.
#[derive(Clone, Debug, PartialEq, Default)]
pub(super) struct Pattern {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq)]
enum Piece {
    Literal(String),
    Question,
    Problem,
    Choices,
    Answer,
    Solution,
    Row(FieldPath),
}

const SLOTS: &str =
    "question, problem, choices, row.FIELD, and in `solution` also solution and answer";

impl Pattern {
    /// Finds the slots. The error is a reason for [`TemplateError::Invalid`].
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find("{{") {
            let inner = &rest[at + 2..];
            match inner
                .split_once("}}")
                .filter(|(name, _)| is_name(name.trim()))
            {
                Some((name, after)) => {
                    literal.push_str(&rest[..at]);
                    if !literal.is_empty() {
                        pieces.push(Piece::Literal(std::mem::take(&mut literal)));
                    }
                    pieces.push(slot(name.trim())?);
                    rest = after;
                }
                // One brace further on, so that `{{{answer}}}` is a slot inside braces.
                None => {
                    literal.push_str(&rest[..at + 1]);
                    rest = &rest[at + 1..];
                }
            }
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        Ok(Self { pieces })
    }

    /// Whether the statement of the problem appears.
    pub(super) fn asks(&self) -> bool {
        self.pieces
            .iter()
            .any(|p| matches!(p, Piece::Question | Piece::Problem))
    }

    /// A slot that must not be in a prompt, if there is one.
    pub(super) fn gives_away(&self) -> Option<&'static str> {
        self.pieces.iter().find_map(|piece| match piece {
            Piece::Answer => Some("answer"),
            Piece::Solution => Some("solution"),
            _ => None,
        })
    }

    /// How many times the solution appears.
    pub(super) fn solutions(&self) -> usize {
        self.pieces
            .iter()
            .filter(|&p| *p == Piece::Solution)
            .count()
    }

    /// What stands before and after the solution.
    pub(super) fn split_at_solution(&self) -> (Self, Self) {
        let mut halves = self.pieces.split(|piece| *piece == Piece::Solution);
        let mut half = || Self {
            pieces: halves.next().unwrap_or_default().to_vec(),
        };
        (half(), half())
    }

    /// The text for a problem. One pass: slots inside the filled-in texts are left alone.
    pub(super) fn fill(&self, problem: &Problem, template: &str) -> Result<String, TemplateError> {
        let mut text = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Literal(literal) => text.push_str(literal),
                Piece::Question => {
                    text.push_str(&problem.problem);
                    if !problem.choices.is_empty() {
                        text.push_str("\n\n");
                        text.push_str(&problem.lettered_choices());
                    }
                }
                Piece::Problem => text.push_str(&problem.problem),
                Piece::Choices => text.push_str(&problem.lettered_choices()),
                Piece::Answer => text.push_str(&problem.answer),
                Piece::Solution => text.push_str(problem.solution.as_deref().unwrap_or_default()),
                Piece::Row(path) => match path.find(&problem.extra) {
                    Some(Value::String(value)) => text.push_str(value),
                    Some(value) => text.push_str(&value.to_string()),
                    None => {
                        return Err(TemplateError::MissingField {
                            place: problem.place.clone(),
                            field: path.to_string(),
                            template: template.to_owned(),
                        });
                    }
                },
            }
        }
        Ok(text)
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|c| c.is_alphanumeric() || "_.-".contains(c))
}

fn slot(name: &str) -> Result<Piece, String> {
    match name {
        "question" => Ok(Piece::Question),
        "problem" => Ok(Piece::Problem),
        "choices" => Ok(Piece::Choices),
        "answer" => Ok(Piece::Answer),
        "solution" => Ok(Piece::Solution),
        _ => match name.strip_prefix("row.").map(str::parse) {
            Some(Ok(path)) => Ok(Piece::Row(path)),
            _ => Err(format!("no slot is called `{name}`; there are {SLOTS}")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_that_are_no_slot_stay() {
        let pattern = Pattern::parse(r"\boxed{} {x} {{1}} \boxed{{{answer}}}").unwrap_err();
        assert!(pattern.contains("`1`"));
        let pattern = Pattern::parse(r"\boxed{} {x} { {y} } \boxed{{{answer}}} {{").unwrap();
        assert_eq!(
            pattern.pieces,
            [
                Piece::Literal(r"\boxed{} {x} { {y} } \boxed{".into()),
                Piece::Answer,
                Piece::Literal("} {{".into()),
            ]
        );
    }

    #[test]
    fn an_unknown_slot_is_an_error() {
        assert!(
            Pattern::parse("{{ quesiton }}")
                .unwrap_err()
                .contains("no slot is called `quesiton`")
        );
    }
}
