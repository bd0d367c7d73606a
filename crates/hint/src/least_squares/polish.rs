//! Newton's method in `(k, mu)` with `b` eliminated (variable projection), inside a trust region.
//!
//! In the notation of the scan, the residuals are `r = c u - d`. At each position `c` takes its best value. The
//! quadratic model has the exact second derivatives: noisy accuracies leave large residuals, where Gauss-Newton
//! crawls. With two variables and a box, the model's minimum is found exactly even if it is not convex.

use super::ObjectivePrior;
use crate::curve::{B_RANGE, Curve, K_RANGE, MU_RANGE};
use crate::fit_set::Point;

/// A walk ends when the model promises no more than this.
const ENOUGH: f64 = 1e-8;
/// A walk ends when no more than this is left of the objective.
const EXACT: f64 = 1e-7;
/// Far above what is needed (typically 3 to 12); a bound on time, not a criterion.
const MAX_STEPS: usize = 100;
/// A first step changes `k` by at most half, and `mu` by as much as moves the curve half as far as it is wide.
const FIRST_RADIUS: f64 = 0.5;
const LARGEST_RADIUS: f64 = 4.0;
const SMALLEST_RADIUS: f64 = 1e-7;
/// Width of the curve's rise, in units of `1 / k`.
const RISE: f64 = 4.0;
/// What is left to gain is below this multiple of what an unrestricted convex model promises.
const HOPE: f64 = 4.0;

/// The objective at one `(k, mu)`, with everything a step needs.
#[derive(Clone, Copy)]
struct Place {
    k: f64,
    mu: f64,
    c: f64,
    value: f64,
    /// Half the gradient of `value` in `(k, mu)`.
    gradient: [f64; 2],
    /// Half the second derivatives: `kk`, `k mu`, `mu mu`.
    matrix: [f64; 3],
}

/// A step and the decrease that the model promises for it.
struct Step {
    by: [f64; 2],
    promised: f64,
    /// Whether the model's minimum lies inside the trust region: a larger one would promise no more.
    is_free: bool,
}

impl Place {
    fn new(points: &[Point], prior: &ObjectivePrior, k: f64, mu: f64) -> Self {
        let (mut a, mut b, mut d) = prior.parabola();
        // Sums over points. u falls with z = k (p + mu): u' = -v, u'' = s; z' = (q, k), q = p + mu.
        let mut uv = [0.0; 2];
        let mut dv = [0.0; 2];
        let mut vv = [0.0; 3];
        let mut us = [0.0; 3];
        let mut ds = [0.0; 3];
        for point in points {
            let q = point.rate + mu;
            let odds = (k * q).exp();
            let u = 1.0 / (1.0 + odds);
            let v = u * u * odds;
            let s = v * (1.0 - 2.0 * u);
            let deficit = 1.0 - point.accuracy;
            let (wu, wv, ws) = (point.weight * u, point.weight * v, point.weight * s);
            a += wu * deficit;
            b += wu * u;
            d += point.weight * deficit * deficit;
            for (power, factor) in [1.0, q, q * q].into_iter().enumerate() {
                vv[power] += wv * v * factor;
                us[power] += ws * u * factor;
                ds[power] += ws * deficit * factor;
                if power < 2 {
                    uv[power] += wv * u * factor;
                    dv[power] += wv * deficit * factor;
                }
            }
        }
        let free = a / b;
        let c = free.clamp(1.0 - B_RANGE[1], 1.0);
        let value = d + c * (c * b - 2.0 * a) + prior.of_position(k, mu);

        // Sums of w r v and w r s with the powers of q, r = c u - d.
        let rv = [c * uv[0] - dv[0], c * uv[1] - dv[1]];
        let rs: [f64; 3] = std::array::from_fn(|power| c * us[power] - ds[power]);
        let mut gradient = [-c * rv[1], -c * k * rv[0]];
        let mut matrix = [
            c * (c * vv[2] + rs[2]),
            c * (k * (c * vv[1] + rs[1]) - rv[0]),
            c * k * k * (c * vv[0] + rs[0]),
        ];
        if c == free {
            // c follows the others: its row and column are projected out.
            let mixed = [-c * uv[1] - rv[1], -k * (c * uv[0] + rv[0])];
            matrix[0] -= mixed[0] * mixed[0] / b;
            matrix[1] -= mixed[0] * mixed[1] / b;
            matrix[2] -= mixed[1] * mixed[1] / b;
        }
        prior.add_derivatives(k, mu, &mut gradient, &mut matrix);
        Self {
            k,
            mu,
            c,
            value,
            gradient,
            matrix,
        }
    }

    /// The best step of the model inside the bounds and the trust region.
    fn step(&self, radius: f64) -> Step {
        let [g_k, g_mu] = self.gradient;
        let [kk, k_mu, mu_mu] = self.matrix;
        let reach = [radius * self.k, radius * RISE / self.k];
        let bounds = [
            (K_RANGE[0] - self.k, K_RANGE[1] - self.k),
            (MU_RANGE[0] - self.mu, MU_RANGE[1] - self.mu),
        ];
        let [k_box, mu_box] =
            [0, 1].map(|i| (bounds[i].0.max(-reach[i]), bounds[i].1.min(reach[i])));
        let model = |k: f64, mu: f64| {
            2.0 * (g_k * k + g_mu * mu) + kk * k * k + mu_mu * mu * mu + 2.0 * k_mu * k * mu
        };
        let inside = |(low, high): (f64, f64), value: f64| low <= value && value <= high;

        let determinant = kk * mu_mu - k_mu * k_mu;
        if kk > 0.0 && determinant > 0.0 {
            let k = (k_mu * g_mu - mu_mu * g_k) / determinant;
            let mu = (k_mu * g_k - kk * g_mu) / determinant;
            if inside(k_box, k) && inside(mu_box, mu) {
                return Step {
                    by: [k, mu],
                    promised: -model(k, mu),
                    is_free: true,
                };
            }
        }
        // The minimum lies on an edge: inside it, if the model is convex along it, or at its ends.
        let mut best = Step {
            by: [0.0, 0.0],
            promised: 0.0,
            is_free: true,
        };
        let mut consider = |k: f64, mu: f64, is_free: bool| {
            let promised = -model(k, mu);
            if promised > best.promised {
                best = Step {
                    by: [k, mu],
                    promised,
                    is_free,
                };
            }
        };
        for k in [k_box.0, k_box.1] {
            let at_bound = k == bounds[0].0 || k == bounds[0].1;
            let mu = -(g_mu + k_mu * k) / mu_mu;
            if mu_mu > 0.0 && inside(mu_box, mu) {
                consider(k, mu, at_bound);
            } else {
                for mu in [mu_box.0, mu_box.1] {
                    consider(k, mu, at_bound && (mu == bounds[1].0 || mu == bounds[1].1));
                }
            }
        }
        for mu in [mu_box.0, mu_box.1] {
            let at_bound = mu == bounds[1].0 || mu == bounds[1].1;
            let k = -(g_k + k_mu * mu) / kk;
            if kk > 0.0 && inside(k_box, k) {
                consider(k, mu, at_bound);
            }
        }
        best
    }
}

/// Walks downhill from `start` and returns the local minimum reached with its objective (`start.b` is not
/// used: the best `b` belongs to every position). Gives up as soon as it has no hope of getting below `limit`.
pub(super) fn polish(
    start: Curve,
    points: &[Point],
    prior: &ObjectivePrior,
    limit: f64,
) -> (Curve, f64) {
    let mut place = Place::new(points, prior, start.k, start.mu);
    let mut radius = FIRST_RADIUS;
    for _ in 0..MAX_STEPS {
        if place.value <= EXACT {
            break;
        }
        let step = place.step(radius);
        let hopeless = step.is_free && place.value - HOPE * step.promised > limit;
        if hopeless || (step.is_free && step.promised <= ENOUGH) || step.promised.is_nan() {
            break;
        }
        let k = (place.k + step.by[0]).clamp(K_RANGE[0], K_RANGE[1]);
        let mu = (place.mu + step.by[1]).clamp(MU_RANGE[0], MU_RANGE[1]);
        let next = Place::new(points, prior, k, mu);
        // The share of the promise that was kept says how far to trust the model.
        let kept = (place.value - next.value) / step.promised;
        if kept < 0.25 {
            radius *= 0.25;
        } else if kept > 0.75 && !step.is_free {
            radius = (2.0 * radius).min(LARGEST_RADIUS);
        }
        if next.value < place.value {
            place = next;
        } else if radius < SMALLEST_RADIUS {
            break;
        }
    }
    (
        Curve {
            k: place.k,
            mu: place.mu,
            b: (1.0 - place.c).clamp(B_RANGE[0], B_RANGE[1]),
        },
        place.value,
    )
}
