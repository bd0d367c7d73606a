//! The accuracy-hint curve (SEELE Sec. 4.2, Eq. 12) and its inverse.

use serde::{Deserialize, Serialize};

/// Smallest and largest `k` a fit may return. The largest is what the paper's Fig. 3 shows.
pub const K_RANGE: [f64; 2] = [0.1, 50.0];
/// Smallest and largest `mu`. Above 0 for problems that are easy without a hint, below -1 for problems
/// that fail with all of it.
pub const MU_RANGE: [f64; 2] = [-2.0, 2.0];
/// Smallest and largest `b`, a probability that must leave room for the curve to rise.
pub const B_RANGE: [f64; 2] = [0.0, 0.95];

/// Accuracy as a function of the hint rate, the three-parameter logistic of item response theory:
///
/// ```text
/// f(p) = b + (1 - b) / (1 + exp(-k (p + mu)))
/// ```
///
/// The fields keep the symbols of Eq. 12. With finite fields, `k > 0` and `0 <= b < 1`, `f` rises from
/// `b` (no hint helps) to 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// Discrimination: how sharply accuracy rises, per unit of hint rate.
    pub k: f64,
    /// Offset: `-mu` is the rate at which accuracy is halfway between `b` and 1.
    pub mu: f64,
    /// Guessing floor: accuracy far below `-mu`, in `[0, 1)`.
    pub b: f64,
}

impl Curve {
    /// The values every fit starts from.
    pub const START: Self = Self {
        k: 10.0,
        mu: -0.5,
        b: 0.05,
    };

    /// `f(rate)`, in `[0, 1]` for every finite `rate`; does not overflow.
    pub fn accuracy(&self, rate: f64) -> f64 {
        self.b + (1.0 - self.b) / (1.0 + (-self.k * (rate + self.mu)).exp())
    }

    /// The rate in `[0, 1]` whose accuracy is nearest to `target`:
    ///
    /// ```text
    /// p* = -mu + (ln(target - b) - ln(1 - target)) / k, clamped to [0, 1]
    /// ```
    ///
    /// 0 if `target <= b` (no hint already reaches it) or `target` is not a number, 1 if `target >= 1`.
    /// Never decreases with `target`.
    pub fn rate_for(&self, target: f64) -> f64 {
        if target >= 1.0 {
            1.0
        } else if target > self.b {
            let rate = -self.mu + ((target - self.b).ln() - (1.0 - target).ln()) / self.k;
            rate.clamp(0.0, 1.0)
        } else {
            0.0
        }
    }

    /// Whether all three parameters are finite and inside [`K_RANGE`], [`MU_RANGE`] and [`B_RANGE`].
    pub fn is_within_bounds(&self) -> bool {
        let inside = |value: f64, [low, high]: [f64; 2]| (low..=high).contains(&value);
        inside(self.k, K_RANGE) && inside(self.mu, MU_RANGE) && inside(self.b, B_RANGE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_way_point_is_minus_mu() {
        let curve = Curve {
            k: 43.15,
            mu: -0.84,
            b: 0.02,
        };
        assert!((curve.accuracy(0.84) - 0.51).abs() < 1e-12);
        assert!((Curve { b: 0.0, ..curve }.rate_for(0.5) - 0.84).abs() < 1e-12);
    }

    #[test]
    fn inverse_undoes_the_curve() {
        let curve = Curve {
            k: 4.46,
            mu: -0.5,
            b: 0.1,
        };
        for rate in [0.05, 0.3, 0.7, 0.95] {
            assert!((curve.rate_for(curve.accuracy(rate)) - rate).abs() < 1e-12);
        }
    }

    #[test]
    fn targets_out_of_reach_take_the_nearest_end() {
        let curve = Curve {
            k: 19.03,
            mu: -0.64,
            b: 0.45,
        };
        assert_eq!(curve.rate_for(0.45), 0.0);
        assert_eq!(curve.rate_for(0.2), 0.0);
        assert_eq!(
            curve.rate_for(0.46),
            (0.64 + (0.01f64.ln() - 0.54f64.ln()) / 19.03).clamp(0.0, 1.0)
        );
        assert_eq!(curve.rate_for(1.0), 1.0);
        assert_eq!(curve.rate_for(f64::NAN), 0.0);
        assert_eq!(Curve { mu: -1.7, ..curve }.rate_for(0.5), 1.0);
    }

    #[test]
    fn extreme_slopes_do_not_overflow() {
        let curve = Curve {
            k: 50.0,
            mu: -2.0,
            b: 0.0,
        };
        assert!(curve.accuracy(0.0) >= 0.0 && curve.accuracy(0.0) < 1e-40);
        assert_eq!(Curve { mu: 2.0, ..curve }.accuracy(1.0), 1.0);
        assert!(curve.accuracy(-1e300).is_finite());
    }
}
