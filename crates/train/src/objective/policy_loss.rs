//! The clipped policy loss and the off-policy weight of one token.

use super::config::{PolicyLossConfig, TraceShape};

/// Loss of one token for an advantage of +1 or -1.
///
/// The loss is proportional to the size of the advantage, so a shared hint token needs its two values once,
/// whatever the number of sequences that it belongs to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct UnitLoss {
    pub(super) value: f64,
    /// Derivative by the log-ratio.
    pub(super) gradient: f64,
    /// Whether clip, dual clip or the clamp of the log-ratio takes the gradient away.
    pub(super) clipped: bool,
}

/// Both signs of the advantage, and the ratio that was used.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct RatioLoss {
    pub(super) ratio: f64,
    /// Advantage +1: `-min(w, clip(w))`.
    pub(super) positive: UnitLoss,
    /// Advantage -1: `min(max(w, clip(w)), dual_clip)`.
    pub(super) negative: UnitLoss,
}

impl PolicyLossConfig {
    /// Loss at `log_ratio = log pi - log pi_old` (nats).
    pub(super) fn ratio_loss(&self, log_ratio: f64) -> RatioLoss {
        let (bounded, clamped) = match self.log_ratio_clamp.value() {
            Some(limit) if log_ratio.abs() > limit => (limit.copysign(log_ratio), true),
            _ => (log_ratio, false),
        };
        let ratio = bounded.exp();
        let slope = if clamped { 0.0 } else { ratio };

        let positive = match self.clip_high.value() {
            Some(high) if ratio > 1.0 + high => UnitLoss::flat(-(1.0 + high)),
            _ => UnitLoss::sloped(-ratio, -slope, clamped),
        };
        let mut negative = match self.clip_low.value() {
            Some(low) if ratio < 1.0 - low => UnitLoss::flat(1.0 - low),
            _ => UnitLoss::sloped(ratio, slope, clamped),
        };
        if let Some(cap) = self.dual_clip.value()
            && negative.value > cap
        {
            negative = UnitLoss::flat(cap);
        }
        RatioLoss {
            ratio,
            positive,
            negative,
        }
    }

    /// Weight `f(p)` of an off-policy token at log-prob `log p` (nats), and its derivative by `log p`.
    ///
    /// For `ratio` with constant `c`: `p / (p + c)` and `c p / (p + c)^2`, largest at `p = c` (LUFFY).
    pub fn shape_trace(&self, logprob: f64) -> (f64, f64) {
        let p = logprob.exp();
        match self.trace_shape {
            TraceShape::Identity => (p, p),
            TraceShape::Ratio => {
                let c = self.shape_gamma;
                (p / (p + c), c * p / ((p + c) * (p + c)))
            }
            TraceShape::Log => (logprob, 1.0),
            TraceShape::Power => {
                let value = (self.shape_power * logprob).exp();
                (value, self.shape_power * value)
            }
        }
    }
}

impl UnitLoss {
    fn flat(value: f64) -> Self {
        Self {
            value,
            gradient: 0.0,
            clipped: true,
        }
    }

    fn sloped(value: f64, gradient: f64, clipped: bool) -> Self {
        Self {
            value,
            gradient,
            clipped,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::limit::Limit;
    use super::*;

    fn clip() -> PolicyLossConfig {
        PolicyLossConfig {
            clip_low: Limit::At(0.2),
            clip_high: Limit::At(0.28),
            dual_clip: Limit::At(3.0),
            ..Default::default()
        }
    }

    #[test]
    fn the_four_quadrants_of_the_clip() {
        let high = clip().ratio_loss(1.5f64.ln());
        assert_eq!((high.positive.value, high.positive.gradient), (-1.28, 0.0));
        assert!((high.negative.gradient - 1.5).abs() < 1e-15);
        let low = clip().ratio_loss(0.5f64.ln());
        assert_eq!((low.negative.value, low.negative.gradient), (0.8, 0.0));
        assert!((low.positive.gradient + 0.5).abs() < 1e-15);
        assert!(high.positive.clipped && low.negative.clipped);
        assert!(!high.negative.clipped && !low.positive.clipped);
    }

    #[test]
    fn dual_clip_caps_the_loss_of_a_negative_advantage() {
        let loss = clip().ratio_loss(4.0f64.ln());
        assert_eq!((loss.negative.value, loss.negative.gradient), (3.0, 0.0));
        assert!(loss.negative.clipped);
    }

    #[test]
    fn the_clamp_keeps_an_enormous_ratio_finite() {
        let config = PolicyLossConfig {
            clip_low: Limit::Off,
            clip_high: Limit::Off,
            ..Default::default()
        };
        let loss = config.ratio_loss(1e4);
        assert_eq!(loss.ratio, 20.0f64.exp());
        assert_eq!((loss.positive.gradient, loss.negative.gradient), (0.0, 0.0));
        assert!(loss.positive.clipped && loss.negative.clipped);
    }

    #[test]
    fn ratio_one_is_never_clipped() {
        let loss = clip().ratio_loss(0.0);
        assert_eq!((loss.positive.value, loss.positive.gradient), (-1.0, -1.0));
        assert_eq!((loss.negative.value, loss.negative.gradient), (1.0, 1.0));
    }

    #[test]
    fn derivatives_of_the_shapes_match_finite_differences() {
        let step = 1e-6;
        for trace_shape in [
            TraceShape::Identity,
            TraceShape::Ratio,
            TraceShape::Log,
            TraceShape::Power,
        ] {
            let config = PolicyLossConfig {
                trace_shape,
                ..Default::default()
            };
            for logprob in [-12.0, -2.3, -0.4, -1e-3] {
                let slope = (config.shape_trace(logprob + step).0
                    - config.shape_trace(logprob - step).0)
                    / (2.0 * step);
                assert!((slope - config.shape_trace(logprob).1).abs() < 1e-9);
            }
        }
    }
}
