//! Schedules that exist for comparison in the simulation only: they spend the same rounds and rollouts as the
//! controllers.

use super::problem::BASELINES;
use crate::HintError;
use crate::length::hint_tokens;
use crate::memory::Memory;
use crate::schedule::{Fork, HintUse, RoundPlan, Schedule, VisitState};
use seele_random::Key;
use std::f64::consts::PI;

/// A baseline with its rounds, rollouts and target.
#[derive(Debug, Clone, Copy)]
pub(super) struct Baseline {
    pub(super) kind: BaselineKind,
    pub(super) rounds: u32,
    pub(super) rollouts: u32,
    pub(super) target: f64,
}

/// A baseline of the simulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BaselineKind {
    /// No hint.
    None,
    /// Half of the solution.
    Fixed,
    /// A uniformly drawn length for each round.
    Uniform,
    /// Steps revealed with a probability that falls to 0.05 over the first 60 % of the run, then none.
    Uft,
    /// A rate that follows the accuracy with falling gain.
    Stochastic,
}

impl BaselineKind {
    /// Every baseline, from no hint to the most informed.
    pub const ALL: [Self; 5] = [
        Self::None,
        Self::Fixed,
        Self::Uniform,
        Self::Uft,
        Self::Stochastic,
    ];

    /// Its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Fixed => "fixed",
            Self::Uniform => "uniform",
            Self::Uft => "uft",
            Self::Stochastic => "stochastic",
        }
    }
}

impl Schedule for Baseline {
    fn plan(&self, visit: &VisitState) -> Option<RoundPlan> {
        let round = visit.rounds().len();
        if round >= self.rounds as usize {
            return None;
        }
        let solution = visit.solution();
        let context = visit.context();
        let key = Key::new(context.seed)
            .with(BASELINES)
            .with(visit.problem())
            .with(context.epoch);
        let length = match self.kind {
            BaselineKind::None => 0,
            BaselineKind::Fixed => hint_tokens(0.5, solution.tokens()),
            BaselineKind::Uniform => {
                let share = key.with(round as u64).uniform();
                ((share * solution.tokens() as f64) as usize).min(solution.tokens() - 1)
            }
            BaselineKind::Uft => revealed_steps(visit, key, round as u64),
            BaselineKind::Stochastic => hint_tokens(self.followed_rate(visit), solution.tokens()),
        };
        let rate = solution.rate_of(length);
        let fork = Fork {
            rate,
            hint_tokens: length,
            rollouts: self.rollouts,
            hint_use: HintUse::Context,
        };
        Some(RoundPlan::single(fork))
    }

    fn max_rounds(&self) -> usize {
        self.rounds as usize
    }

    fn max_rollouts(&self) -> u32 {
        self.rounds * self.rollouts
    }

    fn hint_use(&self) -> Option<HintUse> {
        Some(HintUse::Context)
    }

    fn target_accuracy(&self) -> Option<f64> {
        (self.kind == BaselineKind::Stochastic).then_some(self.target)
    }

    fn validate(&self) -> Result<(), HintError> {
        Ok(())
    }

    fn finish(&self, visits: &[VisitState], memory: &mut Memory) {
        for visit in visits
            .iter()
            .filter(|_| self.kind == BaselineKind::Stochastic)
        {
            let mut record = visit.record().clone();
            record.visits += 1;
            record.rate = Some(self.followed_rate(visit));
            memory.set_record(visit.problem(), record);
        }
    }
}

impl Baseline {
    /// `rate += gain (target - accuracy)` after every round.
    fn followed_rate(&self, visit: &VisitState) -> f64 {
        let tokens = visit.solution().tokens();
        let start = visit
            .record()
            .rate
            .unwrap_or((tokens - 1) as f64 / tokens as f64);
        let gains: &[f64] = if visit.record().visits == 0 {
            &[0.8, 0.4, 0.25, 0.15]
        } else {
            &[0.15]
        };
        let accuracies = visit
            .outcomes()
            .filter_map(|(.., result)| result.accuracy())
            .enumerate();
        accuracies.fold(start, |rate, (round, accuracy)| {
            let gain = gains.get(round).or(gains.last()).copied().unwrap_or(0.0);
            (rate + gain * (self.target - accuracy)).clamp(0.0, 1.0)
        })
    }
}

fn revealed_steps(visit: &VisitState, key: Key, round: u64) -> usize {
    let progress = visit.progress();
    if progress >= 0.6 {
        return 0;
    }
    let probability = 0.05 + 0.45 * (1.0 + (PI * progress / 0.6).cos());
    let ends = visit.solution().inner_step_ends();
    let revealed = (0..=ends.len() as u64)
        .filter(|step| key.with(8 * round + step).uniform() < probability)
        .count();
    match revealed {
        0 => 0,
        steps => ends
            .get(steps - 1)
            .copied()
            .unwrap_or(visit.solution().tokens() - 1),
    }
}
