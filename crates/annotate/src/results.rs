//! The two files of results, made from the journal.

use crate::error::AnnotateError;
use crate::journal::{Journal, Verdict};
use crate::rules::without_thoughts;
use crate::steps::steps_of;
use seele_data::{Problem, ProblemWriter};
use serde_json::{Value, json};
use std::path::Path;

/// File of the problems with their new solutions.
pub const ANNOTATED: &str = "annotated.jsonl";
/// File of the problems for which no answer was kept.
pub const REJECTED: &str = "rejected.jsonl";

/// Problems by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// In [`ANNOTATED`].
    pub annotated: usize,
    /// In [`REJECTED`].
    pub rejected: usize,
    /// In neither yet.
    pub open: usize,
}

/// Writes both files into `folder`, in the order of `problems`; each replaces what was there as a whole.
///
/// An annotated problem has the solution and its steps; what it had before is in its column
/// `reference_solution`, and `annotation` says who wrote it. A rejected one is as it was, with the
/// reasons in `annotation`.
///
/// # Errors
/// [`AnnotateError::Data`] if a file cannot be written.
pub fn write_results(
    journal: &Journal,
    problems: &[Problem],
    folder: &Path,
) -> Result<Counts, AnnotateError> {
    let mut annotated = ProblemWriter::create(folder.join(ANNOTATED), true)?;
    let mut rejected = ProblemWriter::create(folder.join(REJECTED), true)?;
    let mut counts = Counts::default();
    let model = &journal.header().model;
    for problem in problems {
        let tries = journal.tries_of(&problem.id);
        let (true, Some(last)) = (journal.is_settled(&problem.id), tries.last()) else {
            counts.open += 1;
            continue;
        };
        let mut problem = problem.clone();
        match &last.verdict {
            Verdict::Accepted { tokens } => {
                if let Some(before) = problem.solution.take() {
                    problem
                        .extra
                        .insert("reference_solution".into(), before.into());
                }
                let note = json!({ "model": model, "tries": tries.len(), "tokens": tokens });
                problem.extra.insert("annotation".into(), note);
                // It was accepted for its steps, so it has some.
                problem.steps = steps_of(without_thoughts(&last.response)).unwrap_or_default();
                problem.solution = Some(problem.steps.concat());
                annotated.write(&problem)?;
                counts.annotated += 1;
            }
            Verdict::Rejected { .. } | Verdict::Refused { .. } => {
                let reasons: Vec<Value> = tries
                    .iter()
                    .filter_map(|found| match &found.verdict {
                        Verdict::Rejected { reason } | Verdict::Refused { reason } => {
                            Some(reason.clone().into())
                        }
                        Verdict::Accepted { .. } => None,
                    })
                    .collect();
                let note = json!({ "model": model, "tries": tries.len(), "reasons": reasons });
                problem.extra.insert("annotation".into(), note);
                rejected.write(&problem)?;
                counts.rejected += 1;
            }
        }
    }
    annotated.finish()?;
    rejected.finish()?;
    Ok(counts)
}
