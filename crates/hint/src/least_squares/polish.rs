//! Projected Gauss-Newton in `(k, mu)` with `b` eliminated (variable projection).
//!
//! In the notation of the scan, the residuals are `r = c u - d`. At each position `c` takes its best value;
//! the step comes from the Gauss-Newton matrix with the column of `c` projected out, damped after Marquardt,
//! and is the exact minimiser of that model inside the bounds.

use super::ObjectivePrior;
use crate::curve::{B_RANGE, Curve, K_RANGE, MU_RANGE};
use crate::fit_set::Point;

/// A polish ends when neither the last step nor the model promises more than this.
const ENOUGH: f64 = 1e-12;
/// Far above what is needed (typically 5 to 15); a bound on time, not a criterion.
const MAX_STEPS: usize = 200;
const MAX_DAMPING: f64 = 1e12;

/// The objective at one `(k, mu)`, with everything a step needs.
#[derive(Clone, Copy)]
struct Place {
    k: f64,
    mu: f64,
    c: f64,
    value: f64,
    /// Half the gradient of `value` in `(k, mu)`.
    gradient: [f64; 2],
    /// Gauss-Newton matrix: `kk`, `k mu`, `mu mu`.
    matrix: [f64; 3],
}

impl Place {
    fn new(points: &[Point], prior: &ObjectivePrior, k: f64, mu: f64) -> Self {
        let (mut a, mut b, mut d) = prior.parabola();
        let prior_b = b;
        // Sums over points, named by their factors: u, v = u (1 - u), q = p + mu, d = 1 - accuracy.
        let (mut uv, mut uvq, mut dv, mut dvq) = (0.0, 0.0, 0.0, 0.0);
        let (mut vv, mut vvq, mut vvqq) = (0.0, 0.0, 0.0);
        for point in points {
            let q = point.rate + mu;
            let odds = (k * q).exp();
            let u = 1.0 / (1.0 + odds);
            let v = u * u * odds;
            let deficit = 1.0 - point.accuracy;
            let (wu, wv) = (point.weight * u, point.weight * v);
            let wd = point.weight * deficit;
            a += wu * deficit;
            b += wu * u;
            d += wd * deficit;
            uv += wv * u;
            uvq += wv * u * q;
            dv += wv * deficit;
            dvq += wv * deficit * q;
            vv += wv * v;
            vvq += wv * v * q;
            vvqq += wv * v * q * q;
        }
        let free = a / b;
        let c = free.clamp(1.0 - B_RANGE[1], 1.0);
        let value = d + c * (c * b - 2.0 * a) + prior.of_position(k, mu);

        // Derivatives of r = c u - d: -c v q in k, -c v k in mu, u in c.
        let mut gradient = [-c * (c * uvq - dvq), -c * k * (c * uv - dv)];
        let mut matrix = [c * c * vvqq, c * c * k * vvq, c * c * k * k * vv];
        if c == free {
            let (h_k, h_mu) = (-c * uvq, -c * k * uv);
            matrix[0] -= h_k * h_k / b;
            matrix[1] -= h_k * h_mu / b;
            matrix[2] -= h_mu * h_mu / b;
        }
        debug_assert!(b >= prior_b);
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
        // The floor keeps a flat direction from an infinite step.
        let h_k = kk.max(1e-30) * (1.0 + damping);
        let h_mu = mu_mu.max(1e-30) * (1.0 + damping);
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
        let ([d_k, d_mu], promised) = place.step(damping);
        if promised <= ENOUGH || promised.is_nan() {
            break;
        }
        let k = (place.k + d_k).clamp(K_RANGE[0], K_RANGE[1]);
        let mu = (place.mu + d_mu).clamp(MU_RANGE[0], MU_RANGE[1]);
        let next = Place::new(points, prior, k, mu);
        if next.value < place.value {
            let gained = place.value - next.value;
            place = next;
            damping = (damping * 0.1).max(1e-9);
            if gained < ENOUGH {
                break;
            }
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
