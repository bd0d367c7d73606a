//! `irt-lsq`: the paper's bounded least squares (SEELE Eq. 13, Alg. 1), by a search that finds the global
//! minimum.
//!
//! The paper minimises `sum_j w_j (f(p_j) - a_j)^2` with a trust-region method from one start, which ends in
//! a local minimum now and then. For a fixed `(k, mu)` the best `b` has a closed form, so the search is
//! two-dimensional and can be thorough: the objective on a fixed grid shows where its local minima are. The one
//! downhill from the start values is polished first, then the others, given up as soon as they cannot lead below
//! what is known. A later result replaces the first only if its objective is lower by more than 1e-6, so that
//! among the many solutions of an underdetermined fit the result is repeatable.

mod minima;
mod polish;
mod scan;

use minima::Minima;
use polish::polish;
use scan::Scan;

use crate::curve::Curve;
use crate::fit_set::{
    FitSet, FitSetOptions, LARGEST_WEIGHT, Observation, Point, Weighting, check_weight,
};
use crate::{Estimate, Estimator, HintError};
use serde::{Deserialize, Serialize};

/// Objectives closer than this are ties: the solution found first stays.
const TIE: f64 = 1e-6;
/// How much a minimum of the grid may lie above the minimum it belongs to, for points of weight 1.
const SLACK: f64 = 0.06;
/// Differences between neighbouring rows of the grid that its coarseness may cause, for points of weight 1.
const LEVEL: f64 = 0.005;
/// Distances from the start values that a prior of strength 1 punishes with 1.
const PRIOR_SCALE: Curve = Curve {
    k: 40.0,
    mu: 1.0,
    b: 1.0,
};

/// The estimator `irt-lsq` and its options; the defaults are the paper's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LeastSquares {
    /// Weight of an observed rate. Default `rounds`.
    pub weight: Weighting,
    /// Weight of each margin point, from 1e-6 to 1e12. Default 1.
    pub margin_weight: f64,
    /// Strength of a quadratic penalty toward [`Curve::START`], at least 0:
    /// `prior * (((k - 10) / 40)^2 + (mu + 0.5)^2 + (b - 0.05)^2)`. Default 0, off.
    pub prior: f64,
    /// Averages the rate over all grid curves whose objective is at most the best plus this tolerance, at
    /// least 0. Default none: the rate of the best curve.
    pub plateau: Option<f64>,
}

impl Default for LeastSquares {
    fn default() -> Self {
        Self {
            weight: Weighting::Rounds,
            margin_weight: 1.0,
            prior: 0.0,
            plateau: None,
        }
    }
}

/// Result of a fit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fit {
    /// The curve, inside the bounds.
    pub curve: Curve,
    /// Weighted sum of squares of `curve` over the fit set, without the prior.
    pub sse: f64,
}

impl LeastSquares {
    /// Checks the options.
    ///
    /// # Errors
    /// [`HintError::Setting`] naming the option.
    pub fn validate(&self) -> Result<(), HintError> {
        check_weight("margin_weight", self.margin_weight)?;
        for (key, value) in [
            ("prior", self.prior),
            ("plateau", self.plateau.unwrap_or(0.0)),
        ] {
            if !(0.0..=LARGEST_WEIGHT).contains(&value) {
                let expected = "a number from 0 to 1e12";
                return Err(HintError::Setting {
                    key,
                    value: value.to_string(),
                    expected,
                });
            }
        }
        Ok(())
    }

    /// How this estimator weighs observations and margins.
    pub fn fit_set_options(&self) -> FitSetOptions {
        FitSetOptions {
            weight: self.weight,
            margin_weight: self.margin_weight,
        }
    }

    /// The curve with the least weighted sum of squares; deterministic, allocates nothing.
    ///
    /// An empty set gives [`Curve::START`].
    pub fn fit(&self, set: &FitSet) -> Fit {
        let (curve, _) = search(set.points(), &self.objective_prior());
        self.result(set, curve)
    }

    /// [`LeastSquares::fit`], then the rate for `target`: the curve's own, or with `plateau` the mean rate of
    /// the best curve and all grid curves that fit about as well.
    pub fn fit_and_rate(&self, set: &FitSet, target: f64) -> (Fit, f64) {
        let (points, prior) = (set.points(), self.objective_prior());
        let (curve, objective) = search(points, &prior);
        let mut sum = curve.rate_for(target);
        let mut count = 1.0;
        if let Some(tolerance) = self.plateau.filter(|_| !points.is_empty()) {
            for near in Scan::new(points, &prior).curves_within((objective + tolerance) as f32) {
                sum += near.with_best_b(points, &prior).rate_for(target);
                count += 1.0;
            }
        }
        (self.result(set, curve), sum / count)
    }

    fn objective_prior(&self) -> ObjectivePrior {
        ObjectivePrior {
            strength: self.prior,
        }
    }

    fn result(&self, set: &FitSet, curve: Curve) -> Fit {
        Fit {
            curve,
            sse: set.sum_of_squares(|rate| curve.accuracy(rate)),
        }
    }
}

/// The global minimum: curve and objective.
fn search(points: &[Point], prior: &ObjectivePrior) -> (Curve, f64) {
    if points.is_empty() {
        return (Curve::START, 0.0);
    }
    let weight = points.iter().map(|point| point.weight).sum::<f64>() / points.len() as f64;
    let mut minima = Minima::new(&Scan::new(points, prior), (LEVEL * weight) as f32);
    let mut best = polish(minima.take_from_start(), points, prior, None);
    // The objective is never negative: below a tie nothing could be lower by more than one.
    while best.1 > TIE
        && let Some(start) = minima.take_lowest((best.1 + SLACK * weight) as f32)
    {
        let other = polish(start, points, prior, Some(best));
        if other.1 < best.1 - TIE {
            best = other;
        }
    }
    best
}

impl Estimator for LeastSquares {
    fn name(&self) -> &'static str {
        "irt-lsq"
    }

    fn estimate(&self, observations: &[Observation], target: f64) -> Result<Estimate, HintError> {
        self.validate()?;
        let set = FitSet::new(observations, &[], self.fit_set_options())?;
        if observations.is_empty() {
            // Nothing to fit: the cold start, which is all but the last token.
            let (curve, rate) = (Curve::START, 1.0);
            return Ok(Estimate {
                curve,
                sse: 0.0,
                rate,
                predicted: curve.accuracy(rate),
            });
        }
        let (fit, rate) = self.fit_and_rate(&set, target);
        Ok(Estimate {
            curve: fit.curve,
            sse: fit.sse,
            rate,
            predicted: fit.curve.accuracy(rate),
        })
    }
}

/// The penalty of the option `prior`, as part of the objective.
struct ObjectivePrior {
    strength: f64,
}

impl ObjectivePrior {
    /// What the penalty on `b` adds to `A`, `B` and `D` of the parabola in `c = 1 - b` (see the scan).
    fn parabola(&self) -> (f64, f64, f64) {
        let strength = self.strength / PRIOR_SCALE.b.powi(2);
        let start = 1.0 - Curve::START.b;
        (strength * start, strength, strength * start * start)
    }

    /// The penalty on `k` and `mu`.
    fn of_position(&self, k: f64, mu: f64) -> f64 {
        let k = (k - Curve::START.k) / PRIOR_SCALE.k;
        let mu = (mu - Curve::START.mu) / PRIOR_SCALE.mu;
        self.strength * (k * k + mu * mu)
    }

    /// Adds the penalty's half gradient and matrix in the variables of a polishing step.
    fn add_derivatives(&self, k: f64, mu: f64, gradient: &mut [f64; 2], matrix: &mut [f64; 3]) {
        let of_k = self.strength / PRIOR_SCALE.k.powi(2);
        let of_mu = self.strength / PRIOR_SCALE.mu.powi(2);
        let (from_k, from_mu) = (k - Curve::START.k, mu - Curve::START.mu);
        gradient[0] += of_k * from_k;
        gradient[1] += of_mu * from_mu / k;
        matrix[0] += of_k;
        matrix[1] -= of_mu * from_mu / (k * k);
        matrix[2] += of_mu / (k * k);
    }
}
