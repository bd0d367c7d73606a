//! KL estimators of one token.

use super::config::{KlConfig, KlKind};

/// verl's bounds on the log-ratio (nats) and on the value.
const LOG_RATIO_CLAMP: f64 = 20.0;
const VALUE_CLAMP: f64 = 10.0;

impl KlConfig {
    /// Value and derivative by the current log-prob of the estimator at `d = log pi - log pi_ref` (nats).
    ///
    /// A clamped part has zero gradient. `k3+` has the value of `k3` and the gradient of `k2`.
    pub fn estimate(&self, d: f64) -> (f64, f64) {
        let (bounded, slope) = if self.clamp && d.abs() > LOG_RATIO_CLAMP {
            (LOG_RATIO_CLAMP.copysign(d), 0.0)
        } else {
            (d, 1.0)
        };
        let (value, gradient) = estimate_unclamped(self.kind, bounded);
        if self.clamp && value.abs() > VALUE_CLAMP {
            (VALUE_CLAMP.copysign(value), 0.0)
        } else {
            (value, gradient * slope)
        }
    }
}

fn estimate_unclamped(kind: KlKind, d: f64) -> (f64, f64) {
    // exp(-d) + d - 1 near 0 is the difference of almost equal numbers; expm1 keeps its digits.
    let k3 = || ((-d).exp_m1() + d, -(-d).exp_m1());
    match kind {
        KlKind::K1 => (d, 1.0),
        KlKind::Abs if d == 0.0 => (0.0, 0.0),
        KlKind::Abs => (d.abs(), d.signum()),
        KlKind::K2 => (0.5 * d * d, d),
        KlKind::K3 => k3(),
        KlKind::K3Plus => (k3().0, d),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [KlKind; 5] = [
        KlKind::K1,
        KlKind::Abs,
        KlKind::K2,
        KlKind::K3,
        KlKind::K3Plus,
    ];

    fn kl(kind: KlKind, clamp: bool) -> KlConfig {
        KlConfig {
            kind,
            clamp,
            ..Default::default()
        }
    }

    #[test]
    fn equal_policies_have_no_distance_and_only_k1_a_gradient() {
        for kind in KINDS {
            let (value, gradient) = kl(kind, true).estimate(0.0);
            assert_eq!(value, 0.0, "{kind:?}");
            assert_eq!(
                gradient,
                f64::from(u8::from(kind == KlKind::K1)),
                "{kind:?}"
            );
        }
    }

    #[test]
    fn gradients_are_those_of_the_value_except_for_straight_through() {
        let step = 1e-6;
        for kind in [KlKind::K1, KlKind::Abs, KlKind::K2, KlKind::K3] {
            for d in [-2.0, -0.3, 0.01, 1.7, 8.0] {
                for clamp in [false, true] {
                    let config = kl(kind, clamp);
                    let slope =
                        (config.estimate(d + step).0 - config.estimate(d - step).0) / (2.0 * step);
                    let gradient = config.estimate(d).1;
                    assert!((slope - gradient).abs() < 1e-8, "{kind:?} at {d}");
                }
            }
        }
        let (value, gradient) = kl(KlKind::K3Plus, false).estimate(0.7);
        assert_eq!(value, kl(KlKind::K3, false).estimate(0.7).0);
        assert_eq!(gradient, 0.7);
    }

    #[test]
    fn clamped_parts_are_bounded_and_have_no_gradient() {
        for kind in KINDS {
            for d in [-1e4, -25.0, 25.0, 1e4] {
                let (value, gradient) = kl(kind, true).estimate(d);
                assert!(value.abs() <= VALUE_CLAMP, "{kind:?} at {d}");
                assert_eq!(gradient, 0.0, "{kind:?} at {d}");
            }
        }
    }
}
