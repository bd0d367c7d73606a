//! What a simulation measures.

use super::{EPOCHS, Settings};
use crate::schedule::ForkResult;

/// Epochs that count as steady: the last three.
const STEADY_EPOCHS: usize = 3;

/// Figures of one schedule and one seed.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Name of the schedule.
    pub schedule: String,
    /// Seed of population and rewards.
    pub seed: u64,
    /// What was simulated.
    pub settings: Settings,
    /// Figures of each epoch.
    pub epochs: Vec<EpochReport>,
}

/// Figures of one epoch; means over problems.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EpochReport {
    /// True accuracy of each round.
    pub round_accuracy: Vec<f64>,
    /// Hint rate of each round.
    pub round_rate: Vec<f64>,
    /// Learning efficiency: mean of `a (1 - a) / 0.25` over rollouts, `a` the true accuracy.
    pub efficiency: f64,
    /// Mean of `|a - target|` over rounds, `a` the true accuracy.
    pub deviation: f64,
    /// Mean of `|observed accuracy - target|` over rounds.
    pub observed_deviation: f64,
    /// Mean of `|observed accuracy - target|` over whole groups.
    pub group_deviation: f64,
    /// Share of rounds whose rewards are all equal.
    pub uniform_rounds: f64,
    /// Share of groups (all rounds of a visit) whose rewards are all equal.
    pub uniform_groups: f64,
}

impl EpochReport {
    /// True accuracy over all rounds.
    pub fn accuracy(&self) -> f64 {
        mean(self.round_accuracy.iter().copied())
    }
}

impl Report {
    /// Mean of a figure over the last three epochs.
    pub fn steady(&self, figure: impl Fn(&EpochReport) -> f64) -> f64 {
        let skipped = self.epochs.len().saturating_sub(STEADY_EPOCHS);
        mean(self.epochs.iter().skip(skipped).map(figure))
    }

    /// Mean of a figure over all epochs.
    pub fn overall(&self, figure: impl Fn(&EpochReport) -> f64) -> f64 {
        mean(self.epochs.iter().map(figure))
    }

    /// A figure of the first epoch.
    pub fn first(&self, figure: impl Fn(&EpochReport) -> f64) -> f64 {
        self.epochs.first().map_or(f64::NAN, figure)
    }
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (count, sum) = values.fold((0.0, 0.0), |(count, sum), value| (count + 1.0, sum + value));
    sum / count
}

/// Sums while a simulation runs.
pub(super) struct Tally {
    schedule: String,
    seed: u64,
    settings: Settings,
    epochs: Vec<Sums>,
    epoch: usize,
    /// Rounds, successes and rollouts of the current visit.
    visit: (usize, u32, u32),
}

#[derive(Clone, Default)]
struct Sums {
    visits: f64,
    rounds: f64,
    round_accuracy: Vec<f64>,
    round_rate: Vec<f64>,
    efficiency: f64,
    deviation: f64,
    observed_deviation: f64,
    group_deviation: f64,
    uniform_rounds: f64,
    uniform_groups: f64,
}

impl Tally {
    pub(super) fn new(schedule: &str, seed: u64, settings: Settings) -> Self {
        let per_round = vec![0.0; settings.rounds as usize];
        let sums = Sums {
            round_accuracy: per_round.clone(),
            round_rate: per_round,
            ..Sums::default()
        };
        let epochs = vec![sums; EPOCHS as usize];
        Self {
            schedule: schedule.into(),
            seed,
            settings,
            epochs,
            epoch: 0,
            visit: (0, 0, 0),
        }
    }

    /// A round with its true accuracy and its result.
    pub(super) fn round(&mut self, epoch: u64, rate: f64, accuracy: f64, result: ForkResult) {
        self.epoch = epoch as usize;
        let Some(sums) = self.epochs.get_mut(self.epoch) else {
            return;
        };
        let (round, successes, rollouts) = &mut self.visit;
        if let (Some(accuracies), Some(rates)) = (
            sums.round_accuracy.get_mut(*round),
            sums.round_rate.get_mut(*round),
        ) {
            *accuracies += accuracy;
            *rates += rate;
        }
        *round += 1;
        *successes += result.successes;
        *rollouts += result.rollouts;
        let observed = f64::from(result.successes) / f64::from(result.rollouts);
        sums.rounds += 1.0;
        sums.efficiency += accuracy * (1.0 - accuracy) / 0.25;
        sums.deviation += (accuracy - self.settings.target).abs();
        sums.observed_deviation += (observed - self.settings.target).abs();
        sums.uniform_rounds += f64::from(is_uniform(result.successes, result.rollouts));
    }

    pub(super) fn end_visit(&mut self) {
        let (_, successes, rollouts) = std::mem::take(&mut self.visit);
        let Some(sums) = self.epochs.get_mut(self.epoch) else {
            return;
        };
        sums.visits += 1.0;
        let observed = f64::from(successes) / f64::from(rollouts);
        sums.group_deviation += (observed - self.settings.target).abs();
        sums.uniform_groups += f64::from(is_uniform(successes, rollouts));
    }

    pub(super) fn report(self) -> Report {
        let epochs = self.epochs.into_iter().map(|sums| {
            let per_visit =
                |values: Vec<f64>| values.into_iter().map(|sum| sum / sums.visits).collect();
            EpochReport {
                round_accuracy: per_visit(sums.round_accuracy),
                round_rate: per_visit(sums.round_rate),
                efficiency: sums.efficiency / sums.rounds,
                deviation: sums.deviation / sums.rounds,
                observed_deviation: sums.observed_deviation / sums.rounds,
                group_deviation: sums.group_deviation / sums.visits,
                uniform_rounds: sums.uniform_rounds / sums.rounds,
                uniform_groups: sums.uniform_groups / sums.visits,
            }
        });
        let epochs = epochs.collect();
        Report {
            schedule: self.schedule,
            seed: self.seed,
            settings: self.settings,
            epochs,
        }
    }
}

fn is_uniform(successes: u32, rollouts: u32) -> bool {
    successes == 0 || successes == rollouts
}
