//! `irt-bayes`: a discrete posterior over accuracy-hint curves, with a prior learned from the population.
//!
//! Where least squares takes a step between two rounds at face value, the posterior knows how little eight
//! rollouts say, remembers earlier visits, expects curves to move to the left as the policy improves, and
//! starts a new problem from what other problems look like.

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
