//! Reference answers that nothing can be compared with, found before they cost a run.

use super::problems::EncodedData;
use rayon::prelude::*;
use seele_data::Place;
use seele_verify::reward::{RewardConfig, RewardKind};
use seele_verify::{GoldError, Mode, Options, check_gold};
use std::fmt;

/// Examples that a message shows.
const SHOWN: usize = 5;

/// Reference answers of one data section that cannot be read: every rollout of their problems counts as
/// wrong, unless its answer is the same text.
#[derive(Clone, Debug, PartialEq)]
pub struct UnreadableGolds {
    /// Section of the recipe.
    pub section: String,
    /// How many.
    pub unreadable: usize,
    /// Of how many.
    pub problems: usize,
    /// The first few.
    pub examples: Vec<UnreadableGold>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq)]
pub struct UnreadableGold {
    /// The problem.
    pub id: String,
    /// Its row.
    pub place: Place,
    /// The answer.
    pub answer: String,
    /// What is wrong with it.
    pub reason: GoldError,
}

impl UnreadableGolds {
    /// Checks all answers under the run's reward; `None` if every one can be read, or if the reward does not
    /// read answers.
    pub fn find(reward: &RewardConfig, section: &str, data: &EncodedData) -> Option<Self> {
        let options = Options::with_mode(mode_of(reward)?);
        let found: Vec<UnreadableGold> = data
            .problems
            .par_iter()
            .filter_map(|(problem, _)| {
                let reason = check_gold(&problem.answer, &options).err()?;
                Some(UnreadableGold {
                    id: problem.id.clone(),
                    place: problem.place.clone(),
                    answer: problem.answer.clone(),
                    reason,
                })
            })
            .collect();
        (!found.is_empty()).then(|| Self {
            section: section.into(),
            unreadable: found.len(),
            problems: data.problems.len(),
            examples: found.into_iter().take(SHOWN).collect(),
        })
    }
}

/// How the reward compares answers, if it does.
fn mode_of(reward: &RewardConfig) -> Option<Mode> {
    match reward.kind {
        RewardKind::Math => Some(reward.mode.unwrap_or_default()),
        RewardKind::Numeric => Some(Mode::Numeric),
        RewardKind::Choice => Some(Mode::Choice),
        RewardKind::Sum => reward.terms.iter().find_map(mode_of),
        _ => None,
    }
}

impl fmt::Display for UnreadableGolds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            section,
            unreadable,
            problems,
            examples,
        } = self;
        write!(
            f,
            "[{section}]: {unreadable} of {problems} reference answers cannot be read, so answers to them count as wrong; correct or drop them"
        )?;
        for example in examples {
            let UnreadableGold {
                id,
                place,
                answer,
                reason,
            } = example;
            write!(f, "\n  `{id}` ({place}): `{answer}`: {reason}")?;
        }
        match unreadable - examples.len() {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more"),
        }
    }
}
