//! Rows whose rollouts no reward can judge, and rewards that do not answer, found before they cost a run.

use super::problems::EncodedData;
use crate::evaluate::columns;
use rayon::prelude::*;
use seele_data::Place;
use seele_verify::reward::{Reward, RewardRequest, RewardUnavailable, UnusableGold};
use std::fmt;

/// Examples that a message shows.
const SHOWN: usize = 5;

/// Rows of one data section that the reward cannot judge: their reference answer cannot be read, or a
/// column is not there. Their rollouts count as wrong or have no reward.
#[derive(Clone, Debug, PartialEq)]
pub struct UnusableRows {
    /// Section of the recipe.
    pub section: String,
    /// How many.
    pub unusable: usize,
    /// Of how many.
    pub problems: usize,
    /// The first few.
    pub examples: Vec<UnusableRow>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq)]
pub struct UnusableRow {
    /// The problem.
    pub id: String,
    /// Its row.
    pub place: Place,
    /// The reference answer.
    pub answer: String,
    /// What is wrong.
    pub reason: UnusableGold,
}

impl UnusableRows {
    /// Checks every row under the run's reward; `None` if all can be judged.
    pub fn find(reward: &dyn Reward, section: &str, data: &EncodedData) -> Option<Self> {
        let found: Vec<UnusableRow> = data
            .problems
            .par_iter()
            .filter_map(|(problem, _)| {
                let checked = reward.check_gold(&problem.answer, &columns(problem));
                Some(UnusableRow {
                    id: problem.id.clone(),
                    place: problem.place.clone(),
                    answer: problem.answer.clone(),
                    reason: checked.err()?,
                })
            })
            .collect();
        (!found.is_empty()).then(|| Self {
            section: section.into(),
            unusable: found.len(),
            problems: data.problems.len(),
            examples: found.into_iter().take(SHOWN).collect(),
        })
    }
}

/// Asks for the score of the first problem's own solution, and says why there is no reply.
pub(super) fn check_available(
    reward: &dyn Reward,
    data: &EncodedData,
    max_response_tokens: usize,
) -> Result<(), RewardUnavailable> {
    let Some((problem, encoded)) = data.problems.first() else {
        return Ok(());
    };
    let response = problem.solution.as_deref().unwrap_or(&problem.answer);
    reward.check_available(&RewardRequest {
        id: "before-the-run",
        problem: &problem.problem,
        response,
        completion: response,
        ground_truth: &problem.answer,
        extra: &columns(problem),
        response_tokens: encoded.solution_ids.len(),
        max_response_tokens,
        truncated: false,
    })
}

impl fmt::Display for UnusableRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            section,
            unusable,
            problems,
            examples,
        } = self;
        write!(
            f,
            "[{section}]: the reward cannot judge {unusable} of {problems} rows; correct or drop them"
        )?;
        for example in examples {
            let UnusableRow {
                id,
                place,
                answer,
                reason,
            } = example;
            write!(
                f,
                "\n  `{id}` ({place}), reference answer `{answer}`: {reason}"
            )?;
        }
        match unusable - examples.len() {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more"),
        }
    }
}
