//! One visit of a problem: the rounds sampled for it in one training step.

use super::Schedule;
use super::plan::{ForkResult, Round, RoundPlan};
use crate::bayes::Belief;
use crate::length::Solution;
use crate::memory::ProblemRecord;
use crate::{HintError, Observation};
use seele_random::Key;
use std::sync::Arc;

/// Separates the draws of hint schedules from all other draws of a run.
const PURPOSE: u64 = u64::from_be_bytes(*b"hint    ");

/// Where in the run a visit happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VisitContext {
    /// Seed of the run; with step and problem it determines every draw of a schedule.
    pub seed: u64,
    /// Training step, from 0.
    pub step: u64,
    /// Planned number of training steps, at least 1.
    pub total_steps: u64,
    /// Pass over the training problems, from 0.
    pub epoch: u64,
}

/// What a visit starts from.
#[derive(Debug, Clone)]
pub struct Start {
    /// What earlier visits left behind; empty on the first.
    pub record: ProblemRecord,
    /// Belief over curves, for a schedule that keeps one.
    pub belief: Option<Belief>,
}

/// What a schedule knows when it plans a round.
#[derive(Debug, Clone)]
pub struct VisitState {
    problem: u64,
    solution: Solution,
    context: VisitContext,
    start: Start,
    rounds: Vec<Round>,
}

impl VisitState {
    /// Key of the problem.
    pub fn problem(&self) -> u64 {
        self.problem
    }

    /// Lengths of the reference solution and its steps.
    pub fn solution(&self) -> &Solution {
        &self.solution
    }

    /// Where in the run this visit happens.
    pub fn context(&self) -> VisitContext {
        self.context
    }

    /// What earlier visits left behind; empty on the first.
    pub fn record(&self) -> &ProblemRecord {
        &self.start.record
    }

    /// Belief over curves before the first round; only with the estimator `irt-bayes`.
    pub fn belief(&self) -> Option<&Belief> {
        self.start.belief.as_ref()
    }

    /// Finished rounds in order.
    pub fn rounds(&self) -> &[Round] {
        &self.rounds
    }

    /// Share of the run that is over: `step / total_steps`, in `[0, 1]`.
    pub fn progress(&self) -> f64 {
        (self.context.step as f64 / self.context.total_steps.max(1) as f64).min(1.0)
    }

    /// Key of the random draws of this problem in this step.
    pub fn key(&self) -> Key {
        Key::new(self.context.seed)
            .with(PURPOSE)
            .with(self.context.step)
            .with(self.problem)
    }

    /// Observations of the finished rounds, one for each fork with results, in order, with
    /// `rate_of(fork's requested rate, fork's hint tokens)` as rate.
    pub(crate) fn observations(&self, rate_of: impl Fn(f64, usize) -> f64) -> Vec<Observation> {
        self.outcomes()
            .filter_map(|(rate, hint_tokens, result)| {
                let rate = rate_of(rate, hint_tokens);
                result.accuracy().map(|accuracy| Observation {
                    rate,
                    accuracy,
                    rollouts: result.rollouts,
                })
            })
            .collect()
    }

    /// Requested rate, hint tokens and result of every finished fork, in order.
    pub(crate) fn outcomes(&self) -> impl Iterator<Item = (f64, usize, ForkResult)> {
        self.rounds.iter().flat_map(|round| {
            let forks = round.plan.forks.iter().zip(&round.results);
            forks.map(|(fork, &result)| (fork.rate, fork.hint_tokens, result))
        })
    }
}

/// A problem in the hands of a schedule: plans rounds, takes their results. Knows nothing of other visits,
/// so visits advance independently, in any order and on any thread.
#[derive(Debug, Clone)]
pub struct Visit {
    schedule: Arc<dyn Schedule>,
    state: VisitState,
    pending: Option<RoundPlan>,
}

impl Visit {
    pub(super) fn new(
        schedule: Arc<dyn Schedule>,
        (problem, solution, context): (u64, Solution, VisitContext),
        start: Start,
    ) -> Self {
        let state = VisitState {
            problem,
            solution,
            context,
            start,
            rounds: Vec::new(),
        };
        Self {
            schedule,
            state,
            pending: None,
        }
    }

    /// The next rollouts to sample; none when the visit is over. Until [`Visit::observe`] is called the same
    /// plan is returned again.
    pub fn next_round(&mut self) -> Option<RoundPlan> {
        if self.pending.is_none() {
            self.pending = self.schedule.plan(&self.state);
        }
        self.pending.clone()
    }

    /// Takes the results of the round last returned by [`Visit::next_round`], one for each fork in order.
    ///
    /// # Errors
    /// [`HintError::RoundResults`] if no round is pending, or the results do not fit its forks. The visit is
    /// then as before.
    pub fn observe(&mut self, results: &[ForkResult]) -> Result<(), HintError> {
        let refuse = |reason| {
            Err(HintError::RoundResults {
                problem: self.state.problem,
                reason,
            })
        };
        let Some(plan) = &self.pending else {
            return refuse("results came without a planned round; call `next_round` first".into());
        };
        if results.len() != plan.forks.len() {
            return refuse(format!(
                "the round has {} forks, found {} results",
                plan.forks.len(),
                results.len()
            ));
        }
        for (index, (fork, result)) in plan.forks.iter().zip(results).enumerate() {
            if result.rollouts > fork.rollouts || result.successes > result.rollouts {
                return refuse(format!(
                    "fork {index} of {} rollouts cannot have {} successes of {}",
                    fork.rollouts, result.successes, result.rollouts
                ));
            }
        }
        if let Some(plan) = self.pending.take() {
            self.state.rounds.push(Round {
                plan,
                results: results.to_vec(),
            });
        }
        Ok(())
    }

    /// Everything known about this visit.
    pub fn state(&self) -> &VisitState {
        &self.state
    }

    pub(super) fn into_state(self) -> VisitState {
        self.state
    }
}
