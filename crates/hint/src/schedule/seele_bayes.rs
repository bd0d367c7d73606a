//! `seele-bayes`: SEELE's loop with the estimator `irt-bayes`.

use super::seele::{require_rounds, require_target};
use super::{Fork, HintUse, RoundPlan, Schedule, Start, VisitState, require_rollouts};
use crate::HintError;
use crate::bayes::{Bayes, Belief, FinishedVisit, PackedBelief, RATES, row_of_rate};
use crate::length::{Cut, hint_tokens};
use crate::memory::Memory;
use serde::{Deserialize, Serialize};

/// What the first round of a problem's first visit uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ColdStart {
    /// The rate the population prior recommends.
    #[default]
    Prior,
    /// All but the last token, as in the paper.
    Paper,
}

/// Every round asks for the length whose accuracy is expected nearest to the target (and, at target 0.5, is
/// known best) under a belief that combines this visit, earlier visits and the population.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SeeleBayes {
    /// Rounds a visit, `m`. Default 4.
    pub rounds: u32,
    /// Rollouts a round, `n`. Default 8.
    pub rollouts: u32,
    /// Accuracy every round aims at, in `(0, 1)`. Default 0.5.
    pub target_accuracy: f64,
    /// First round of a first visit: `prior` or `paper`. Default `prior`.
    pub cold_start: ColdStart,
    /// What the hint tokens are for. Default `imitation`.
    pub hint_use: HintUse,
    /// Where a hint may end. Default `token`.
    pub cut: Cut,
}

impl Default for SeeleBayes {
    fn default() -> Self {
        Self {
            rounds: 4,
            rollouts: 8,
            target_accuracy: 0.5,
            cold_start: ColdStart::Prior,
            hint_use: HintUse::Imitation,
            cut: Cut::Token,
        }
    }
}

impl SeeleBayes {
    fn posterior(&self, visit: &VisitState, before: &Belief) -> Belief {
        before.observe(visit.outcomes().map(|(_, hint_tokens, result)| {
            let successes = f64::from(result.successes);
            let row = row_of_rate(visit.solution().rate_of(hint_tokens));
            (row, successes, f64::from(result.rollouts) - successes)
        }))
    }

    /// Row of the belief's tables and hint tokens of the next round.
    fn choose(&self, visit: &VisitState, before: &Belief) -> (usize, usize) {
        let first_visit = visit.record().visits == 0;
        let solution = visit.solution();
        let rounds = visit
            .outcomes()
            .filter(|(.., result)| result.rollouts > 0)
            .count();
        if first_visit && rounds == 0 && self.cold_start == ColdStart::Paper {
            return (RATES - 1, solution.hint_tokens(1.0, self.cut));
        }
        let prediction = self.posterior(visit, before).predict();
        let caution = Bayes::caution(
            self.target_accuracy,
            if first_visit { rounds } else { usize::MAX },
        );
        let ends = solution.inner_step_ends();
        if self.cut == Cut::Token || ends.is_empty() {
            let row = prediction.best_row(0..RATES, self.target_accuracy, caution);
            return (
                row,
                hint_tokens(row as f64 / (RATES - 1) as f64, solution.tokens()),
            );
        }
        // Only lengths that can be cut are candidates; several may share a row, the first is taken.
        let lengths = || std::iter::once(0).chain(ends.iter().copied());
        let row_of = |tokens| row_of_rate(solution.rate_of(tokens));
        let row = prediction.best_row(lengths().map(row_of), self.target_accuracy, caution);
        (
            row,
            lengths().find(|&tokens| row_of(tokens) == row).unwrap_or(0),
        )
    }
}

impl Schedule for SeeleBayes {
    fn plan(&self, visit: &VisitState) -> Option<RoundPlan> {
        if visit.rounds().len() >= self.rounds as usize {
            return None;
        }
        let before = visit.belief()?;
        let (row, hint_tokens) = self.choose(visit, before);
        let rate = row as f64 / (RATES - 1) as f64;
        let (rollouts, hint_use) = (self.rollouts, self.hint_use);
        Some(RoundPlan::single(Fork {
            rate,
            hint_tokens,
            rollouts,
            hint_use,
        }))
    }

    fn max_rounds(&self) -> usize {
        self.rounds as usize
    }

    fn max_rollouts(&self) -> u32 {
        self.rounds * self.rollouts
    }

    fn hint_use(&self) -> Option<HintUse> {
        Some(self.hint_use)
    }

    fn target_accuracy(&self) -> Option<f64> {
        Some(self.target_accuracy)
    }

    fn validate(&self) -> Result<(), HintError> {
        require_rounds(self.rounds)?;
        require_rollouts(self.rollouts)?;
        require_target(self.target_accuracy)
    }

    fn start(&self, problem: u64, memory: &Memory) -> Start {
        let record = memory.record(problem).cloned().unwrap_or_default();
        let population = memory.population().cloned().unwrap_or_default();
        let belief = match &record.belief {
            Some(stored) => population.revisit(&stored.unpack()),
            None => population.prior(),
        };
        Start {
            record,
            belief: Some(belief),
        }
    }

    fn finish(&self, visits: &[VisitState], memory: &mut Memory) {
        let mut population = memory.population().cloned().unwrap_or_default();
        let mut finished = Vec::with_capacity(visits.len());
        let mut epoch = 0;
        for visit in visits {
            let observed = visit.outcomes().any(|(.., result)| result.rollouts > 0);
            let Some(before) = visit.belief().filter(|_| observed) else {
                continue;
            };
            let after = self.posterior(visit, before);
            let mut record = visit.record().clone();
            let revisited = record.visits > 0;
            record.visits = record.visits.saturating_add(1);
            record.belief = Some(PackedBelief::pack(&after));
            memory.set_record(visit.problem(), record);
            epoch = epoch.max(visit.context().epoch);
            finished.push(FinishedVisit {
                before: before.clone(),
                after,
                revisited,
            });
        }
        population.learn(epoch, &finished);
        memory.set_population(population);
    }
}
