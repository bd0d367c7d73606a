//! The problems that a recipe names, as text and as token ids.

use super::plan::{DataPlan, ProblemSource};
use super::sections::TooLong;
use seele_data::arithmetic::ArithmeticError;
use seele_data::{
    ChatTemplate, DataError, EncodeError, EncodedProblem, Encoder, LengthLimits, Place, Problem,
    ProblemReader, TextEncoder, read_problems,
};
use std::path::PathBuf;

/// Problems that cannot be read, made or encoded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProblemsError {
    /// A file of problems.
    #[error(transparent)]
    File(#[from] DataError),
    /// The generator.
    #[error(transparent)]
    Arithmetic(#[from] ArithmeticError),
    /// A problem does not fit the template, the tokenizer or the model.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// A prompt is longer than the recipe allows.
    #[error(
        "{place}: the prompt of problem `{id}` has {found} tokens, `max_prompt_tokens` is {allowed}; raise it, or set `too_long = \"skip\"`"
    )]
    LongPrompt {
        /// The row.
        place: Place,
        /// The problem.
        id: String,
        /// Its tokens.
        found: usize,
        /// What the recipe allows.
        allowed: usize,
    },
    /// A file without a row.
    #[error("`{}` holds no problem", path.display())]
    NoRow {
        /// The file.
        path: PathBuf,
    },
    /// Nothing is left.
    #[error(
        "all {skipped} problems are too long; shorten `rollout.max_new_tokens`, or choose a model with a longer context"
    )]
    AllTooLong {
        /// Problems that were left out.
        skipped: usize,
    },
}

/// What is done with reference solutions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Solutions {
    /// A problem without one is an error.
    Required,
    /// Encoded where there is one and it fits.
    Optional,
    /// Left out; they need no room in the context either. For evaluation.
    Ignored,
}

/// Problems with their token ids.
#[derive(Clone, Debug)]
pub struct EncodedData {
    /// The problems in the order of the file, each with its token ids; at least one.
    pub problems: Vec<(Problem, EncodedProblem)>,
    /// Problems that were left out because they are too long.
    pub skipped: usize,
}

impl EncodedData {
    /// Whether any problem has a reference solution.
    pub fn has_solutions(&self) -> bool {
        let mut problems = self.problems.iter();
        problems.any(|(_, problem)| !problem.solution_ids.is_empty())
    }
}

impl DataPlan {
    /// Reads or makes the problems, at most `limit` of them.
    ///
    /// With a limit, rows after the last one wanted are not looked at.
    ///
    /// # Errors
    /// [`ProblemsError`], which names the row or setting.
    pub fn problems(&self) -> Result<Vec<Problem>, ProblemsError> {
        let limit = self.limit.unwrap_or(usize::MAX);
        match &self.source {
            ProblemSource::File { path, layout } if self.limit.is_some() && path.is_file() => {
                let reader = ProblemReader::open(path, layout.clone())?;
                let problems: Vec<Problem> = reader.take(limit).collect::<Result<_, _>>()?;
                if problems.is_empty() {
                    Err(ProblemsError::NoRow { path: path.clone() })
                } else {
                    Ok(problems)
                }
            }
            ProblemSource::File { path, layout } => {
                let mut problems = read_problems(path, layout.as_ref())?;
                problems.truncate(limit);
                Ok(problems)
            }
            ProblemSource::Arithmetic { config, split } => {
                let mut config = config.clone();
                config.count = config.count.min(limit);
                Ok(config.generate(*split)?)
            }
        }
    }

    /// Reads or makes the problems and encodes them under the template.
    ///
    /// `limits` is what the model has room for.
    ///
    /// # Errors
    /// [`ProblemsError`], which names the problem.
    pub fn encode(
        &self,
        text: &dyn TextEncoder,
        chat: Option<&dyn ChatTemplate>,
        limits: LengthLimits,
        solutions: Solutions,
    ) -> Result<EncodedData, ProblemsError> {
        let mut encoder = Encoder::new(&self.template, text, limits);
        if let Some(chat) = chat {
            encoder = encoder.with_chat(chat);
        }
        if solutions == Solutions::Required {
            encoder = encoder.require_solution();
        }
        let mut data = EncodedData {
            problems: Vec::new(),
            skipped: 0,
        };
        for mut problem in self.problems()? {
            if solutions == Solutions::Ignored {
                forget_solution(&mut problem);
            }
            let mut encoded = self.encode_one(&encoder, &problem);
            let too_long = matches!(
                encoded,
                Err(ProblemsError::Encode(EncodeError::TooLong { .. }))
            );
            if too_long && solutions == Solutions::Optional {
                forget_solution(&mut problem);
                encoded = self.encode_one(&encoder, &problem);
            }
            match encoded {
                Ok(encoded) => data.problems.push((problem, encoded)),
                Err(
                    ProblemsError::LongPrompt { .. }
                    | ProblemsError::Encode(EncodeError::TooLong { .. }),
                ) if self.too_long == TooLong::Skip => {
                    data.skipped += 1;
                }
                Err(error) => return Err(error),
            }
        }
        match data.problems.is_empty() {
            true => Err(ProblemsError::AllTooLong {
                skipped: data.skipped,
            }),
            false => Ok(data),
        }
    }

    fn encode_one(
        &self,
        encoder: &Encoder<'_>,
        problem: &Problem,
    ) -> Result<EncodedProblem, ProblemsError> {
        let encoded = encoder.encode(problem)?;
        match self.max_prompt_tokens {
            Some(allowed) if encoded.prompt_ids.len() > allowed => Err(ProblemsError::LongPrompt {
                place: problem.place.clone(),
                id: problem.id.clone(),
                found: encoded.prompt_ids.len(),
                allowed,
            }),
            _ => Ok(encoded),
        }
    }
}

fn forget_solution(problem: &mut Problem) {
    problem.solution = None;
    problem.steps.clear();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::Recipe;
    use seele_data::EncodedText;

    fn data(section: &str) -> DataPlan {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("r.toml");
        let text =
            format!("steps = 1\n[model]\npath = \"m\"\n[data]\ntemplate = \"bare\"\n{section}");
        std::fs::write(&file, text).unwrap();
        Recipe::load(&file, &[]).unwrap().data
    }

    fn bytes(text: &str) -> Result<EncodedText, seele_data::BoxError> {
        let spans = (0..text.len()).map(|start| start..start + 1).collect();
        Ok(EncodedText {
            ids: text.bytes().map(u32::from).collect(),
            spans,
        })
    }

    const ROOM: LengthLimits = LengthLimits {
        context_tokens: 500,
        response_tokens: 10,
    };
    /// Problems of one operation have a prompt of 4 bytes, those of two 6.
    const MIXED: &str = "[data.arithmetic]\ncount = 20\noperations = { min = 1, max = 2 }\n";

    #[test]
    fn the_limit_takes_the_first_problems() {
        let all = data(MIXED).problems().unwrap();
        let some = data(&format!("limit = 7\n{MIXED}")).problems().unwrap();
        assert_eq!((all.len(), some.as_slice()), (20, &all[..7]));
    }

    #[test]
    fn too_long_problems_are_refused_or_skipped_and_counted() {
        let refused = data(&format!("max_prompt_tokens = 5\n{MIXED}")).encode(
            &bytes,
            None,
            ROOM,
            Solutions::Required,
        );
        let message = refused.unwrap_err().to_string();
        assert!(
            message.contains("has 6 tokens") && message.contains("too_long"),
            "{message}"
        );

        let plan = data(&format!(
            "max_prompt_tokens = 5\ntoo_long = \"skip\"\n{MIXED}"
        ));
        let data = plan
            .encode(&bytes, None, ROOM, Solutions::Required)
            .unwrap();
        assert!(data.skipped > 0 && data.skipped + data.problems.len() == 20);
        assert!(
            data.problems
                .iter()
                .all(|(_, encoded)| encoded.prompt_ids.len() == 4)
        );
    }

    #[test]
    fn a_solution_without_use_needs_no_room() {
        let plan = data("[data.arithmetic]\ncount = 1\noperations = { min = 9, max = 9 }\n");
        let problem = &plan.problems().unwrap()[0];
        let solution = problem.solution.as_ref().unwrap().len();
        let tight = LengthLimits {
            context_tokens: problem.problem.len() + solution,
            response_tokens: 1,
        };
        let solution_tokens = |solutions, limits| {
            let data = plan.encode(&bytes, None, limits, solutions)?;
            Ok::<_, ProblemsError>(data.problems[0].1.solution_ids.len())
        };
        assert!(solution_tokens(Solutions::Required, tight).is_err());
        assert_eq!(solution_tokens(Solutions::Optional, tight).unwrap(), 0);
        assert_eq!(
            solution_tokens(Solutions::Optional, ROOM).unwrap(),
            solution
        );
        assert_eq!(solution_tokens(Solutions::Ignored, ROOM).unwrap(), 0);
    }

    #[test]
    fn nothing_left_is_an_error() {
        let plan = data(&format!(
            "max_prompt_tokens = 1\ntoo_long = \"skip\"\n{MIXED}"
        ));
        assert!(matches!(
            plan.encode(&bytes, None, ROOM, Solutions::Required),
            Err(ProblemsError::AllTooLong { skipped: 20 })
        ));
    }
}
