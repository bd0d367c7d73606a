//! `irt-bayes`: a discrete posterior over accuracy-hint curves, with a prior learned from the population.
//!
//! Where least squares takes a step between two rounds at face value, the posterior knows how little eight
//! rollouts say, remembers earlier visits, expects curves to move to the left as the policy improves, and
//! starts a new problem from what other problems look like.
//!
//! # Curves
//!
//! 1,640 curves ([`CELLS`]), tabulated at the rates `p` = 0, 0.01, ..., 1 ([`RATES`]) and shared by all problems:
//!
//! ```text
//! F(p) = 0.01 + 0.98 (b + (top - b) / (1 + exp(-k (p - c))))
//! ```
//!
//! `k`: 5 values, geometric from 3 to 50. `c` (`-mu` of the paper's curve): 41 values from -0.5 to 1.1. `b`: 0.005,
//! 0.12, 0.28, 0.45. `top`: 1 and 0.75, for problems that stay uncertain with the whole hint. The outer constants
//! keep every outcome possible. A [`Belief`] is a weight `w` for each curve; the initial one, `W0`, is uniform in `k`,
//! `exp(-((c - 0.5) / 0.35)^2 / 2)` in `c`, (0.4, 0.2, 0.2, 0.2) in `b` and (0.85, 0.15) in `top`.
//!
//! # A round
//!
//! `s` successes of `n` rollouts at hint rate `p` ([`Belief::observe`]), without margin points:
//!
//! ```text
//! w <- w F(p)^s (1 - F(p))^(n - s)
//! ```
//!
//! The next rate ([`Prediction::best_row`]), with `E` and `V` mean and variance of `F(p)` under the belief:
//!
//! ```text
//! p* = the first p with the least (E - target)^2 + caution V
//! ```
//!
//! `caution` ([`Bayes::caution`]) is 0, 0.5, 1, 1, ... over the rounds of a first visit and 1 in later ones, where
//! `target` is 0.5: `E[a (1 - a)] = 1/4 - (E - 1/2)^2 - V`, so 1 maximises what a rollout is expected to teach. For
//! other targets it is 0.
//!
//! # Between visits
//!
//! A later visit starts from ([`Population::revisit`])
//!
//! ```text
//! w <- max(0.95 T w + 0.05 W, 1e-12)
//! T[c', c] ~ exp(-((c' - (c - delta)) / 0.05)^2 / 2), normalised over c'
//! ```
//!
//! with the population prior `W` and the drift `delta` by which curves move to the left from one visit to the next.
//! A problem's first visit starts from `W` ([`Population::prior`]).
//!
//! # The population
//!
//! [`Population`] learns both after every step, from the `B` problems of the step:
//!
//! ```text
//! A     <- A + sum over problems of (posterior, smoothed in c by a normal of deviation 0.04);   W = A / sum A
//! delta <- delta + r B / (N + B),   N = 64
//! ```
//!
//! `A` is `128 W0` before anything is known and `128 T W` at the first step of each later epoch. `r` is the mean over
//! the revisited problems among the `B` of (mean of `c` before the visit, after `T`) - (mean of `c` after its last
//! round), and `B` counts those alone; `delta` starts at 0.03.
//!
//! # Where this departs from the first design
//!
//! The design lets `N` begin at 256 and grow by `B` with every step: `delta` is then the mean over all revisits of a
//! run. Early epochs move fast and later ones slowly, such a mean never forgets the fast ones, and first rounds of
//! late visits start with too short a hint (accuracy 0.14 instead of 0.5 in a run of the quickstart, see
//! `docs/hint-control.md`). With `N` fixed at 64 a step of `B` revisits has the weight `B / (N + B)`: of 256 revisits 0.8,
//! so that little but the last step counts; of 32 a third, so that about the last three do.

mod belief;
mod grid;
mod population;

pub use belief::{Belief, PackedBelief, Prediction};
pub use grid::{CELLS, RATES, row_of_rate};
pub use population::Population;

pub(crate) use population::FinishedVisit;

use crate::fit_set::check_observations;
use crate::{Curve, Estimate, Estimator, HintError, Observation};

/// The estimator `irt-bayes` for one problem: a prior over curves, updated by the observations.
#[derive(Debug, Clone, PartialEq)]
pub struct Bayes {
    prior: Belief,
}

impl Bayes {
    /// With a prior, for instance [`Population::prior`].
    pub fn new(prior: Belief) -> Self {
        Self { prior }
    }

    /// How much the variance of a prediction counts when a rate is chosen, by the number of rounds observed
    /// since the problem was first seen: 0, 0.5, then 1. For targets other than 0.5 always 0, because avoiding
    /// variance pushes the accuracy away from 0.5.
    pub fn caution(target: f64, rounds_observed: usize) -> f64 {
        match rounds_observed {
            _ if target != 0.5 => 0.0,
            0 => 0.0,
            1 => 0.5,
            _ => 1.0,
        }
    }
}

impl Default for Bayes {
    fn default() -> Self {
        Self::new(Belief::initial())
    }
}

impl Estimator for Bayes {
    fn name(&self) -> &'static str {
        "irt-bayes"
    }

    fn estimate(&self, observations: &[Observation], target: f64) -> Result<Estimate, HintError> {
        check_observations(observations)?;
        let mut rounds: Vec<(usize, f64, f64)> = observations
            .iter()
            .map(|o| {
                let rollouts = f64::from(o.rollouts);
                (
                    row_of_rate(o.rate),
                    o.accuracy * rollouts,
                    (1.0 - o.accuracy) * rollouts,
                )
            })
            .collect();
        // Sums of the same numbers in the same order, whatever the order of arrival.
        rounds.sort_unstable_by(|x, y| {
            x.0.cmp(&y.0)
                .then(x.1.total_cmp(&y.1))
                .then(x.2.total_cmp(&y.2))
        });
        let posterior = self.prior.observe(rounds);
        let prediction = posterior.predict();
        let caution = Self::caution(target, observations.len());
        let row = prediction.best_row(0..RATES, target, caution);
        let mut errors: Vec<f64> = observations
            .iter()
            .map(|o| (prediction.mean(row_of_rate(o.rate)) - o.accuracy).powi(2))
            .collect();
        errors.sort_unstable_by(f64::total_cmp);
        let (k, floor) = posterior.mean_shape();
        Ok(Estimate {
            curve: Curve {
                k,
                mu: -posterior.mean_center(),
                b: 0.01 + 0.98 * floor,
            },
            sse: errors.iter().sum(),
            rate: row as f64 / (RATES - 1) as f64,
            predicted: prediction.mean(row),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(rate: f64, accuracy: f64) -> Observation {
        Observation {
            rate,
            accuracy,
            rollouts: 8,
        }
    }

    #[test]
    fn without_observations_the_prior_answers() {
        let estimate = Bayes::default().estimate(&[], 0.5).unwrap();
        assert!((estimate.predicted - 0.5).abs() < 0.02, "{estimate:?}");
        assert_eq!(estimate.sse, 0.0);
    }

    #[test]
    fn a_clear_curve_is_found() {
        let rounds = [
            seen(0.3, 0.0),
            seen(0.5, 0.0),
            seen(0.6, 0.5),
            seen(0.7, 1.0),
            seen(0.9, 1.0),
        ];
        let estimate = Bayes::default().estimate(&rounds, 0.5).unwrap();
        assert!(
            (estimate.rate - 0.6).abs() < 0.03 && estimate.curve.k > 10.0,
            "{estimate:?}"
        );
    }

    #[test]
    fn higher_targets_ask_for_no_less_help() {
        let rounds = [seen(0.4, 0.25), seen(0.6, 0.75)];
        let rate = |target| Bayes::default().estimate(&rounds, target).unwrap().rate;
        assert!(
            rate(0.25) <= rate(0.375) && rate(0.375) <= rate(0.625) && rate(0.625) <= rate(0.75)
        );
    }
}
