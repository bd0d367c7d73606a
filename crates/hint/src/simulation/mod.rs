//! Hint schedules on simulated problems: what they would do with a policy whose true accuracy is known.
//!
//! 1024 problems with known curves (some logistic, some stairs, bumps, flat or late ones) are visited in five
//! epochs, in index order and batches of 256; the curves move to the left between epochs, as if the policy
//! learned. Everything is determined by the seed. "Steady" figures are those of the last three epochs.

mod baseline;
mod problem;
mod report;

pub use baseline::BaselineKind;
pub use problem::{PROBLEMS, PopulationKind, Problem, Shape};
pub use report::{EpochReport, Report};

use crate::schedule::{ForkResult, HintController, Seele, SeeleBayes, VisitContext};
use crate::{HintConfig, HintError};
use baseline::Baseline;
use report::Tally;
use std::sync::Arc;

/// Visits of every problem.
pub const EPOCHS: u64 = 5;
const BATCH: u64 = 256;
const STEPS_PER_EPOCH: u64 = PROBLEMS / BATCH;

/// A schedule that can be simulated with a given number of rounds and rollouts.
#[derive(Debug, Clone, PartialEq)]
pub enum Simulated {
    /// A controller of this crate, with its settings.
    Controller(HintConfig),
    /// A schedule that exists for comparison only.
    Baseline(BaselineKind),
    /// The best length of every problem in hindsight.
    Oracle,
}

impl Simulated {
    /// Names that [`Simulated::by_name`] knows: the two controllers, the baselines, and the best lengths in
    /// hindsight.
    pub const NAMES: [&'static str; 8] = [
        "seele",
        "seele-bayes",
        BaselineKind::None.name(),
        BaselineKind::Fixed.name(),
        BaselineKind::Uniform.name(),
        BaselineKind::Uft.name(),
        BaselineKind::Stochastic.name(),
        "oracle",
    ];

    /// The schedule of that name with default settings.
    ///
    /// # Errors
    /// [`HintError::UnknownSchedule`], listing the names.
    pub fn by_name(name: &str) -> Result<Self, HintError> {
        let mut known = [
            Self::Controller(HintConfig::Seele(Seele::default())),
            Self::Controller(HintConfig::SeeleBayes(SeeleBayes::default())),
            Self::Oracle,
        ]
        .into_iter()
        .chain(BaselineKind::ALL.map(Self::Baseline));
        known
            .find(|schedule| schedule.name() == name)
            .ok_or_else(|| Self::unknown(name))
    }

    /// Name of the schedule.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Controller(config) => config.name(),
            Self::Baseline(kind) => kind.name(),
            Self::Oracle => "oracle",
        }
    }

    fn unknown(name: &str) -> HintError {
        HintError::UnknownSchedule {
            name: name.into(),
            known: Self::NAMES.join(", "),
        }
    }
}

/// What is simulated.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Problems.
    pub population: PopulationKind,
    /// Rounds a visit.
    pub rounds: u32,
    /// Rollouts a round.
    pub rollouts: u32,
    /// Target accuracy, in `(0, 1)`.
    pub target: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            population: PopulationKind::Standard,
            rounds: 4,
            rollouts: 8,
            target: 0.5,
        }
    }
}

/// Simulates one schedule with one seed. `rounds`, `rollouts` and `target` of the settings override those of a
/// controller's configuration.
///
/// # Errors
/// [`HintError::Setting`] if a setting is out of range, [`HintError::UnknownSchedule`] for a name or a
/// controller that is not simulated.
pub fn simulate(schedule: &Simulated, settings: Settings, seed: u64) -> Result<Report, HintError> {
    // Checks the settings for baselines and the oracle too.
    let Settings {
        rounds,
        rollouts,
        target,
        ..
    } = settings;
    let checked = Seele {
        rounds,
        rollouts,
        target_accuracy: target,
        ..Seele::default()
    };
    HintConfig::Seele(checked).schedule()?;

    let problems: Vec<Problem> = (0..PROBLEMS)
        .map(|index| Problem::new(seed, index, settings.population))
        .collect();
    let mut driver = Driver::new(schedule, settings)?;
    let mut tally = Tally::new(schedule.name(), seed, settings);
    for epoch in 0..EPOCHS {
        for (batch, problems) in problems.chunks(BATCH as usize).enumerate() {
            let step = epoch * STEPS_PER_EPOCH + batch as u64;
            let context = VisitContext {
                seed,
                step,
                total_steps: EPOCHS * STEPS_PER_EPOCH,
                epoch,
            };
            driver.step(problems, batch as u64 * BATCH, context, &mut tally)?;
        }
    }
    Ok(tally.report())
}

/// Chooses the lengths: a controller, or knowledge of the truth.
enum Driver {
    Controller(Box<HintController>),
    Oracle(Settings),
}

impl Driver {
    fn new(schedule: &Simulated, settings: Settings) -> Result<Self, HintError> {
        let Settings {
            rounds,
            rollouts,
            target,
            ..
        } = settings;
        let controller = match schedule {
            Simulated::Controller(HintConfig::Seele(config)) => {
                let config = Seele {
                    rounds,
                    rollouts,
                    target_accuracy: target,
                    ..config.clone()
                };
                HintController::new(&HintConfig::Seele(config))
            }
            Simulated::Controller(HintConfig::SeeleBayes(config)) => {
                let config = SeeleBayes {
                    rounds,
                    rollouts,
                    target_accuracy: target,
                    ..config.clone()
                };
                HintController::new(&HintConfig::SeeleBayes(config))
            }
            Simulated::Baseline(kind) => {
                let baseline = Baseline {
                    kind: *kind,
                    rounds,
                    rollouts,
                    target,
                };
                HintController::with_schedule(kind.name(), Arc::new(baseline))
            }
            Simulated::Oracle => return Ok(Self::Oracle(settings)),
            Simulated::Controller(other) => return Err(Simulated::unknown(other.name())),
        };
        Ok(Self::Controller(Box::new(controller?)))
    }

    fn step(
        &mut self,
        problems: &[Problem],
        first: u64,
        context: VisitContext,
        tally: &mut Tally,
    ) -> Result<(), HintError> {
        let mut visits = Vec::with_capacity(problems.len());
        for (problem, index) in problems.iter().zip(first..) {
            let mut policy = SimulatedPolicy::new(problem, context);
            match self {
                Self::Controller(controller) => {
                    let (tokens, step_ends) = (problem.tokens, &problem.step_ends);
                    let mut visit = controller.start_visit(index, tokens, step_ends, context)?;
                    while let Some(plan) = visit.next_round() {
                        let results: Vec<ForkResult> = plan
                            .forks
                            .iter()
                            .map(|fork| policy.roll_out(fork.hint_tokens, fork.rollouts, tally))
                            .collect();
                        visit.observe(&results)?;
                    }
                    visits.push(visit);
                }
                Self::Oracle(settings) => {
                    let length = problem.best_hint_tokens(policy.center, settings.target);
                    for _ in 0..settings.rounds {
                        policy.roll_out(length, settings.rollouts, tally);
                    }
                }
            }
            tally.end_visit();
        }
        if let Self::Controller(controller) = self {
            controller.finish_step(visits);
        }
        Ok(())
    }
}

/// Rolls out a problem in one epoch.
struct SimulatedPolicy<'a> {
    problem: &'a Problem,
    context: VisitContext,
    center: f64,
    /// Rollouts of this visit so far.
    slots: u64,
}

impl<'a> SimulatedPolicy<'a> {
    fn new(problem: &'a Problem, context: VisitContext) -> Self {
        let center = problem.center_in(context.seed, context.epoch);
        Self {
            problem,
            context,
            center,
            slots: 0,
        }
    }

    fn roll_out(&mut self, hint_tokens: usize, rollouts: u32, tally: &mut Tally) -> ForkResult {
        let accuracy = self.problem.accuracy(self.center, hint_tokens);
        let VisitContext { seed, epoch, .. } = self.context;
        let slots = self.slots..self.slots + u64::from(rollouts);
        self.slots = slots.end;
        let mut successes = 0;
        for slot in slots {
            successes += u32::from(self.problem.reward(seed, epoch, slot, accuracy));
        }
        let result = ForkResult {
            successes,
            rollouts,
        };
        tally.round(
            epoch,
            hint_tokens as f64 / self.problem.tokens as f64,
            accuracy,
            result,
        );
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lengths and successes of each round of the first visits of problems 0 to 3, in one batch.
    fn first_visits(name: &str) -> Vec<(Vec<usize>, Vec<u32>)> {
        let seed = 11;
        let Simulated::Controller(config) = Simulated::by_name(name).unwrap() else {
            unreachable!()
        };
        let controller = HintController::new(&config).unwrap();
        let context = VisitContext {
            seed,
            step: 0,
            total_steps: 20,
            epoch: 0,
        };
        (0..4)
            .map(|index| {
                let problem = Problem::new(seed, index, PopulationKind::Standard);
                let mut tally = Tally::new("", seed, Settings::default());
                let mut policy = SimulatedPolicy::new(&problem, context);
                let mut visit = controller
                    .start_visit(index, problem.tokens, &[], context)
                    .unwrap();
                let (mut lengths, mut successes) = (vec![], vec![]);
                while let Some(plan) = visit.next_round() {
                    let result = policy.roll_out(
                        plan.forks[0].hint_tokens,
                        plan.forks[0].rollouts,
                        &mut tally,
                    );
                    lengths.push(plan.forks[0].hint_tokens);
                    successes.push(result.successes);
                    visit.observe(&[result]).unwrap();
                }
                (lengths, successes)
            })
            .collect()
    }

    #[test]
    fn irt_bayes_makes_the_documented_first_visits() {
        let visits = first_visits("seele-bayes");
        let lengths: Vec<_> = visits.iter().map(|visit| visit.0.clone()).collect();
        let expected = [
            [56, 104, 77, 81],
            [127, 108, 120, 133],
            [127, 143, 162, 156],
            [29, 29, 27, 28],
        ];
        assert_eq!(lengths, expected);
        let successes: Vec<_> = visits.iter().map(|visit| visit.1.clone()).collect();
        assert_eq!(
            successes,
            [[0, 8, 2, 6], [5, 2, 1, 4], [3, 2, 5, 2], [4, 5, 3, 3]]
        );
    }

    #[test]
    fn irt_lsq_starts_with_all_but_the_last_token() {
        let visits = first_visits("seele");
        let first: Vec<_> = visits
            .iter()
            .map(|visit| (visit.0[0], visit.1[0]))
            .collect();
        assert_eq!(first, [(139, 8), (316, 8), (317, 8), (71, 8)]);
    }
}
