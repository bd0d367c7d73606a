//! What every estimator of the accuracy-hint curve answers.

use crate::{Curve, HintError, Observation};

/// What an estimator makes of a problem's observations.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The curve; for `irt-bayes` the posterior mean of its parameters.
    pub curve: Curve,
    /// Weighted sum of squares of the predictions over the fit set (with margins, if the estimator uses them).
    pub sse: f64,
    /// Recommended hint rate, in `[0, 1]`.
    pub rate: f64,
    /// Accuracy predicted at `rate`, in `[0, 1]`.
    pub predicted: f64,
}

/// Estimates the accuracy-hint curve of one problem from the rounds of one visit.
pub trait Estimator {
    /// The name used in recipes and commands.
    fn name(&self) -> &'static str;

    /// * `observations`: finished rounds in any order; the answer does not depend on it. May be empty.
    /// * `target`: target accuracy, in `(0, 1)`.
    ///
    /// # Errors
    /// [`HintError::Observation`] for values that are not finite or outside their range.
    fn estimate(&self, observations: &[Observation], target: f64) -> Result<Estimate, HintError>;
}
