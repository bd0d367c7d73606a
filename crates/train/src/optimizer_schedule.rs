//! Learning rate over the steps of a run: warm-up, then constant, linear or cosine decay.

use serde::{Deserialize, Serialize};

/// Learning-rate schedule (`[learning_rate]`).
///
/// With `W` warm-up steps and `T` optimiser steps in the run, step `s` (from 0) uses
///
/// ```text
/// s <  W   peak * (s + 1) / W
/// s >= W   peak * (min_ratio + (1 - min_ratio) * shape(x)),   x = (s - W) / (T - W) in [0, 1]
/// ```
///
/// with `shape(x) = 1` (constant), `1 - x` (linear) or `(1 + cos(pi x)) / 2` (cosine). The first step of a
/// warm-up is above 0, so no step is wasted.
///
/// ```
/// use seele_train::optimizer_schedule::{Decay, LearningRateConfig};
///
/// let schedule = LearningRateConfig { peak: 1e-5, warmup_steps: 4, decay: Decay::Cosine, ..Default::default() };
/// assert_eq!(schedule.learning_rate(0, 104), 2.5e-6);
/// assert_eq!(schedule.learning_rate(4, 104), 1e-5);
/// assert!((schedule.learning_rate(54, 104) - 5e-6).abs() < 1e-18);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LearningRateConfig {
    /// Highest learning rate, above 0. Default 1e-6.
    pub peak: f64,
    /// Optimiser steps of linear warm-up. Default 0.
    pub warmup_steps: u64,
    /// Warm-up as a share of the run's optimiser steps, in [0, 1), rounded up; only with `warmup_steps = 0`.
    /// Default 0.
    pub warmup_share: f64,
    /// Course after the warm-up. Default `constant`.
    pub decay: Decay,
    /// Learning rate at the end, as a share of the peak, in [0, 1]; no effect on `constant`. Default 0.
    pub min_ratio: f64,
}

impl Default for LearningRateConfig {
    fn default() -> Self {
        Self {
            peak: 1e-6,
            warmup_steps: 0,
            warmup_share: 0.0,
            decay: Decay::Constant,
            min_ratio: 0.0,
        }
    }
}

/// Course of the learning rate after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decay {
    /// Stays at the peak.
    Constant,
    /// A straight line to `min_ratio * peak`.
    Linear,
    /// Half a cosine to `min_ratio * peak`.
    Cosine,
}

/// A learning-rate setting out of range.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("`{key}` is {value}, it must be {range}")]
pub struct LearningRateError {
    /// Key inside `[learning_rate]`.
    pub key: &'static str,
    /// What was given.
    pub value: f64,
    /// What is allowed.
    pub range: &'static str,
}

impl LearningRateConfig {
    /// Checks ranges.
    ///
    /// # Errors
    /// [`LearningRateError`] for the first setting out of range.
    pub fn validate(&self) -> Result<(), LearningRateError> {
        let refuse = |key, value, range| Err(LearningRateError { key, value, range });
        if !(self.peak.is_finite() && self.peak > 0.0) {
            return refuse("learning_rate.peak", self.peak, "a finite number above 0");
        }
        if !(0.0..1.0).contains(&self.warmup_share) {
            return refuse(
                "learning_rate.warmup_share",
                self.warmup_share,
                "at least 0 and below 1",
            );
        }
        if self.warmup_steps > 0 && self.warmup_share > 0.0 {
            return refuse(
                "learning_rate.warmup_share",
                self.warmup_share,
                "0 when `learning_rate.warmup_steps` is given; keep one of them",
            );
        }
        if !(0.0..=1.0).contains(&self.min_ratio) {
            return refuse("learning_rate.min_ratio", self.min_ratio, "between 0 and 1");
        }
        Ok(())
    }

    /// Warm-up steps of a run of `total_steps` optimiser steps.
    pub fn warmup(&self, total_steps: u64) -> u64 {
        if self.warmup_steps > 0 {
            self.warmup_steps
        } else {
            (self.warmup_share * total_steps as f64).ceil() as u64
        }
    }

    /// Learning rate of optimiser step `step`, counted from 0, in a run of `total_steps`. Steps past the end
    /// keep the last value.
    pub fn learning_rate(&self, step: u64, total_steps: u64) -> f64 {
        let warmup = self.warmup(total_steps);
        if step < warmup {
            return self.peak * (step + 1) as f64 / warmup as f64;
        }
        let decay_steps = total_steps.saturating_sub(warmup).max(1);
        let progress = ((step - warmup) as f64 / decay_steps as f64).min(1.0);
        let shape = match self.decay {
            Decay::Constant => return self.peak,
            Decay::Linear => 1.0 - progress,
            Decay::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
        };
        self.peak * (self.min_ratio + (1.0 - self.min_ratio) * shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(decay: Decay, warmup_steps: u64, min_ratio: f64) -> LearningRateConfig {
        LearningRateConfig {
            peak: 2.0,
            warmup_steps,
            decay,
            min_ratio,
            ..Default::default()
        }
    }

    #[test]
    fn warm_up_rises_linearly_from_above_zero_to_the_peak() {
        let rates: Vec<f64> = (0..5)
            .map(|s| schedule(Decay::Constant, 4, 0.0).learning_rate(s, 10))
            .collect();
        assert_eq!(rates, [0.5, 1.0, 1.5, 2.0, 2.0]);
    }

    #[test]
    fn linear_and_cosine_end_at_the_minimum_and_stay_there() {
        for decay in [Decay::Linear, Decay::Cosine] {
            let schedule = schedule(decay, 2, 0.1);
            assert_eq!(schedule.learning_rate(2, 12), 2.0);
            assert!((schedule.learning_rate(7, 12) - 2.0 * 0.55).abs() < 1e-12);
            assert!((schedule.learning_rate(12, 12) - 0.2).abs() < 1e-12);
            assert!((schedule.learning_rate(1000, 12) - 0.2).abs() < 1e-12);
        }
    }

    #[test]
    fn decay_never_rises() {
        let schedule = schedule(Decay::Cosine, 3, 0.0);
        let rates: Vec<f64> = (3..40).map(|s| schedule.learning_rate(s, 40)).collect();
        assert!(rates.windows(2).all(|w| w[0] >= w[1]));
    }

    #[test]
    fn warm_up_share_is_rounded_up() {
        let schedule = LearningRateConfig {
            warmup_share: 0.05,
            ..Default::default()
        };
        assert_eq!(schedule.warmup(100), 5);
        assert_eq!(schedule.warmup(101), 6);
        assert_eq!(schedule.warmup(0), 0);
    }

    #[test]
    fn warm_up_longer_than_the_run_keeps_rising() {
        let schedule = schedule(Decay::Linear, 10, 0.0);
        assert_eq!(schedule.learning_rate(4, 5), 1.0);
        assert_eq!(schedule.learning_rate(0, 0), 0.2);
    }

    #[test]
    fn settings_out_of_range_are_named() {
        for (config, key) in [
            (
                LearningRateConfig {
                    peak: 0.0,
                    ..Default::default()
                },
                "peak",
            ),
            (
                LearningRateConfig {
                    min_ratio: 1.5,
                    ..Default::default()
                },
                "min_ratio",
            ),
            (
                LearningRateConfig {
                    warmup_share: f64::NAN,
                    ..Default::default()
                },
                "warmup_share",
            ),
            (
                LearningRateConfig {
                    warmup_steps: 3,
                    warmup_share: 0.1,
                    ..Default::default()
                },
                "warmup_share",
            ),
        ] {
            assert!(config.validate().unwrap_err().key.ends_with(key));
        }
        assert_eq!(LearningRateConfig::default().validate(), Ok(()));
    }
}
