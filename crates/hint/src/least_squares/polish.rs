//! Projected Newton in `(k, mu)` with `b` eliminated (variable projection).
//!
//! In the notation of the scan, the residuals are `r = c u - d`. At each position `c` takes its best value.
//! The step minimises, inside the bounds and exactly, a quadratic model: the second derivatives if they are
//! positive definite, else about their Gauss-Newton part, damped after Marquardt. Noisy accuracies leave large
//! residuals, where Gauss-Newton alone crawls.

use super::ObjectivePrior;
use crate::curve::{B_RANGE, Curve, K_RANGE, MU_RANGE};
use crate::fit_set::Point;

/// A polish ends when the model promises no more than this, or no more than this is left.
const ENOUGH: f64 = 1e-9;
/// Far above what is needed (typically 5 to 15); a bound on time, not a criterion.
const MAX_STEPS: usize = 200;
const MAX_DAMPING: f64 = 1e12;
const FLATTEST: f64 = 0.01;

/// The objective at one `(k, mu)`, with everything a step needs.
#[derive(Clone, Copy)]
struct Place {
    k: f64,
    mu: f64,
    c: f64,
    value: f64,
    /// Half the gradient of `value` in `(k, mu)`.
    gradient: [f64; 2],
    /// Half the second derivatives (or a positive definite stand-in): `kk`, `k mu`, `mu mu`.
    matrix: [f64; 3],
}

/// Subtracts the share of a variable with curvature `curvature` and mixed derivatives `mixed`.
fn project_out(matrix: &mut [f64; 3], mixed: [f64; 2], curvature: f64) {
    matrix[0] -= mixed[0] * mixed[0] / curvature;
    matrix[1] -= mixed[0] * mixed[1] / curvature;
    matrix[2] -= mixed[1] * mixed[1] / curvature;
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
        let first_order = [c * c * vv[2], c * c * k * vv[1], c * c * k * k * vv[0]];
        let second_order = [c * rs[2], c * (k * rs[1] - rv[0]), c * k * k * rs[0]];
        let mut exact: [f64; 3] = std::array::from_fn(|i| first_order[i] + second_order[i]);
        let mut matrix = first_order;
        if c == free {
            // c follows the others: its row and column are projected out.
            project_out(&mut matrix, [-c * uv[1], -c * k * uv[0]], b);
            project_out(
                &mut exact,
                [-c * uv[1] - rv[1], -k * (c * uv[0] + rv[0])],
                b,
            );
        }
        if exact[0] > 0.0 && exact[0] * exact[2] > exact[1] * exact[1] {
            matrix = exact;
        } else {
            // Still no flatter than the truth along the axes, or steps overshoot for ever.
            matrix[0] = matrix[0].max(exact[0]);
            matrix[2] = matrix[2].max(exact[2]);
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

    /// The step inside the bounds that minimises the damped model, and the decrease the model promises.
    fn step(&self, damping: f64) -> ([f64; 2], f64) {
        let [g_k, g_mu] = self.gradient;
        let [kk, k_mu, mu_mu] = self.matrix;
        // A unit of mu moves k (p + mu) about k times as far as a unit of k. A direction that is much flatter
        // than the other in these terms is damped like a share of the other: its own curvature may vanish.
        let unit = self.k * self.k;
        let h_k = kk + damping * kk.max(FLATTEST * mu_mu / unit).max(f64::MIN_POSITIVE);
        let h_mu = mu_mu + damping * mu_mu.max(FLATTEST * kk * unit).max(f64::MIN_POSITIVE);
        let low = [K_RANGE[0] - self.k, MU_RANGE[0] - self.mu];
        let high = [K_RANGE[1] - self.k, MU_RANGE[1] - self.mu];
        let model = |k: f64, mu: f64| {
            2.0 * (g_k * k + g_mu * mu) + h_k * k * k + h_mu * mu * mu + 2.0 * k_mu * k * mu
        };

        let determinant = h_k * h_mu - k_mu * k_mu;
        let inner = [
            (k_mu * g_mu - h_mu * g_k) / determinant,
            (k_mu * g_k - h_k * g_mu) / determinant,
        ];
        let inside = (0..2).all(|i| (low[i]..=high[i]).contains(&inner[i]));
        if determinant > 0.0 && inside {
            return (inner, -model(inner[0], inner[1]));
        }
        // The minimum lies on an edge: on each the other coordinate has its own best value.
        let mut best = ([0.0, 0.0], 0.0);
        for edge_k in [low[0], high[0]] {
            let mu = (-(g_mu + k_mu * edge_k) / h_mu).clamp(low[1], high[1]);
            let value = model(edge_k, mu);
            if value < best.1 {
                best = ([edge_k, mu], value);
            }
        }
        for edge_mu in [low[1], high[1]] {
            let k = (-(g_k + k_mu * edge_mu) / h_k).clamp(low[0], high[0]);
            let value = model(k, edge_mu);
            if value < best.1 {
                best = ([k, edge_mu], value);
            }
        }
        (best.0, -best.1)
    }
}

/// Walks downhill from `start` and returns the local minimum reached with its objective (`start.b` is not
/// used: the best `b` belongs to every position).
pub(super) fn polish(start: Curve, points: &[Point], prior: &ObjectivePrior) -> (Curve, f64) {
    let mut place = Place::new(points, prior, start.k, start.mu);
    let mut damping = 1e-3;
    for _ in 0..MAX_STEPS {
        if place.value <= ENOUGH {
            break;
        }
        let ([d_k, d_mu], promised) = place.step(damping);
        // Damping shortens the promise: undo that, or a hard stretch would look like the goal.
        let undamped = promised * (1.0 + damping);
        if undamped <= ENOUGH || undamped.is_nan() {
            break;
        }
        let k = (place.k + d_k).clamp(K_RANGE[0], K_RANGE[1]);
        let mu = (place.mu + d_mu).clamp(MU_RANGE[0], MU_RANGE[1]);
        let next = Place::new(points, prior, k, mu);
        if next.value < place.value {
            // The usual rule: the share of the promise that was kept says how far to trust the model.
            let kept = (place.value - next.value) / promised;
            if kept > 0.75 {
                damping = (damping * 0.1).max(1e-9);
            } else if kept < 0.25 {
                damping *= 4.0;
            }
            place = next;
        } else {
            damping *= 10.0;
            if damping > MAX_DAMPING {
                break;
            }
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
