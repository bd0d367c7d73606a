//! Newton's method with `b` eliminated (variable projection), inside a trust region.
//!
//! In the notation of the scan, the residuals are `r = c u - d`. At each position `c` takes its best value. The
//! quadratic model has the exact second derivatives: noisy accuracies leave large residuals, where Gauss-Newton
//! crawls. With two variables and a box, the model's minimum is found exactly even if it is not convex.
//!
//! The variables of a step are the changes of `k` and of `k (p + mu)` at the rate `p = -mu`, where the curve is
//! halfway up. The exponent is linear in them, so that valleys which bend in `(k, mu)` are straight.

use super::scan::Start;
use super::{ObjectivePrior, TIE};
use crate::curve::{B_RANGE, Curve, K_RANGE, MU_RANGE};
use crate::fit_set::Point;

/// A walk ends when the model promises no more than this.
const ENOUGH: f64 = 1e-8;
/// A walk ends when no more than this is left of the objective: half of what makes a tie.
const EXACT: f64 = 0.5 * TIE;
/// Far above what is needed (typically 2 to 8); a bound on time, not a criterion.
const MAX_STEPS: usize = 100;
const FIRST_RADIUS: f64 = 0.25;
const LARGEST_RADIUS: f64 = 4.0;
const SMALLEST_RADIUS: f64 = 1e-7;
/// Width of the curve's rise, in units of the exponent.
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
    /// Half the gradient of `value` in the variables of a step.
    gradient: [f64; 2],
    /// Half the second derivatives: first variable, mixed, second.
    matrix: [f64; 3],
}

/// A step and what the model promises.
struct Step {
    by: [f64; 2],
    /// The decrease.
    promised: f64,
    /// Whether the model's minimum lies inside the trust region: a larger one would promise no more.
    is_free: bool,
    /// Decrease of a convex model without a trust region; infinite if the model is not convex.
    hoped: f64,
}

impl Place {
    fn new(points: &[Point], prior: &ObjectivePrior, k: f64, mu: f64) -> Self {
        let sums = Sums::new(points, k, mu);
        let (prior_a, prior_b, prior_d) = prior.parabola();
        let (a, b, d) = (sums.du + prior_a, sums.uu + prior_b, sums.dd + prior_d);
        let Sums {
            uv, dv, bend, ds, ..
        } = sums;
        let free = a / b;
        let c = free.clamp(1.0 - B_RANGE[1], 1.0);
        let value = d + c * (c * b - 2.0 * a) + prior.of_position(k, mu);

        // Sums of w r v with the powers of q, r = c u - d.
        let rv = [c * uv[0] - dv[0], c * uv[1] - dv[1]];
        let mut gradient = [-c * rv[1], -c * rv[0]];
        let second = |power: usize| c * (c * bend[power] - ds[power]);
        let mut matrix = [second(2), second(1), second(0)];
        if c == free {
            // c follows the others: its row and column are projected out.
            let mixed = [-c * uv[1] - rv[1], -c * uv[0] - rv[0]];
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
        let [g_0, g_1] = self.gradient;
        let [h_00, h_01, h_11] = self.matrix;
        let reach = [radius * self.k, radius * RISE];
        let bounds = [
            (K_RANGE[0] - self.k, K_RANGE[1] - self.k),
            (
                (MU_RANGE[0] - self.mu) * self.k,
                (MU_RANGE[1] - self.mu) * self.k,
            ),
        ];
        let [box_0, box_1] =
            [0, 1].map(|i| (bounds[i].0.max(-reach[i]), bounds[i].1.min(reach[i])));
        let model = |x: f64, y: f64| {
            2.0 * (g_0 * x + g_1 * y) + h_00 * x * x + h_11 * y * y + 2.0 * h_01 * x * y
        };
        let inside = |(low, high): (f64, f64), value: f64| low <= value && value <= high;

        let mut hoped = f64::INFINITY;
        let determinant = h_00 * h_11 - h_01 * h_01;
        if h_00 > 0.0 && determinant > 0.0 {
            let x = (h_01 * g_1 - h_11 * g_0) / determinant;
            let y = (h_01 * g_0 - h_00 * g_1) / determinant;
            hoped = -model(x, y);
            if inside(box_0, x) && inside(box_1, y) {
                return Step {
                    by: [x, y],
                    promised: hoped,
                    is_free: true,
                    hoped,
                };
            }
        }
        // The minimum lies on an edge: inside it, if the model is convex along it, or at its ends.
        let mut best = Step {
            by: [0.0, 0.0],
            promised: 0.0,
            is_free: true,
            hoped,
        };
        let mut consider = |x: f64, y: f64, is_free: bool| {
            let promised = -model(x, y);
            if promised > best.promised {
                best = Step {
                    by: [x, y],
                    promised,
                    is_free,
                    // Only bounds restrict a free step.
                    hoped: if is_free { hoped.min(promised) } else { hoped },
                };
            }
        };
        for x in [box_0.0, box_0.1] {
            let at_bound = x == bounds[0].0 || x == bounds[0].1;
            let y = -(g_1 + h_01 * x) / h_11;
            if h_11 > 0.0 && inside(box_1, y) {
                consider(x, y, at_bound);
            } else {
                for y in [box_1.0, box_1.1] {
                    consider(x, y, at_bound && (y == bounds[1].0 || y == bounds[1].1));
                }
            }
        }
        for y in [box_1.0, box_1.1] {
            let at_bound = y == bounds[1].0 || y == bounds[1].1;
            let x = -(g_0 + h_01 * y) / h_00;
            if h_00 > 0.0 && inside(box_0, x) {
                consider(x, y, at_bound);
            }
        }
        best
    }

    /// Where a step leads.
    fn after(&self, step: &Step) -> Start {
        let k = (self.k + step.by[0]).clamp(K_RANGE[0], K_RANGE[1]);
        let mu = (self.mu + step.by[1] / k).clamp(MU_RANGE[0], MU_RANGE[1]);
        Start { k, mu }
    }

    /// Whether a short step of a convex model leads next to the minimum `known`.
    fn leads_to(&self, step: &Step, known: Curve) -> bool {
        let Start { k, mu } = self.after(step);
        step.is_free
            && step.hoped < f64::INFINITY
            && step.by[0].abs() < 0.2 * self.k
            && step.by[1].abs() < 0.5
            && (k - known.k).abs() < 0.15 * known.k
            && (mu - known.mu).abs() * known.k < 0.3
    }
}

/// Sums over points of products with their weights. `u` falls with `z = k (p + mu)`: `u' = -v`, `u'' = s`.
/// Arrays are by the power of `q = p + mu`, the derivative of `z` by `k`, in the product.
#[derive(Default)]
struct Sums {
    du: f64,
    uu: f64,
    dd: f64,
    uv: [f64; 2],
    dv: [f64; 2],
    /// `v^2 + u s = u v (2 - 3 u)`: half the second derivative of `u^2`.
    bend: [f64; 3],
    ds: [f64; 3],
}

impl Sums {
    fn new(points: &[Point], k: f64, mu: f64) -> Self {
        let mut sums = Self::default();
        for point in points {
            let q = point.rate + mu;
            let odds = (k * q).exp();
            let u = 1.0 / (1.0 + odds);
            let v = u * u * odds;
            let d = 1.0 - point.accuracy;
            let (wd, wv) = (point.weight * d, point.weight * v);
            let (wuv, wdv) = (wv * u, wv * d);
            sums.du += wd * u;
            sums.uu += point.weight * u * u;
            sums.dd += wd * d;
            sums.uv[0] += wuv;
            sums.uv[1] += wuv * q;
            sums.dv[0] += wdv;
            sums.dv[1] += wdv * q;
            let (bend, ds) = (wuv * (2.0 - 3.0 * u), wdv * (1.0 - 2.0 * u));
            let (bend_q, ds_q) = (bend * q, ds * q);
            sums.bend[0] += bend;
            sums.bend[1] += bend_q;
            sums.bend[2] += bend_q * q;
            sums.ds[0] += ds;
            sums.ds[1] += ds_q;
            sums.ds[2] += ds_q * q;
        }
        sums
    }
}

/// Walks downhill from `start` and returns the local minimum reached with its objective.
///
/// * `known`: the lowest minimum so far. The walk is given up where it has no hope of getting below it by more
///   than a tie, or leads to it.
pub(super) fn polish(
    start: Start,
    points: &[Point],
    prior: &ObjectivePrior,
    known: Option<(Curve, f64)>,
) -> (Curve, f64) {
    let mut place = Place::new(points, prior, start.k, start.mu);
    let mut radius = FIRST_RADIUS;
    for _ in 0..MAX_STEPS {
        if place.value <= EXACT {
            break;
        }
        let step = place.step(radius);
        if (step.is_free && step.promised <= ENOUGH) || step.promised.is_nan() {
            break;
        }
        if let Some((curve, value)) = known
            && place.value > value - TIE
            && (place.value - HOPE * step.hoped > value - TIE || place.leads_to(&step, curve))
        {
            break;
        }
        let Start { k, mu } = place.after(&step);
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
    let curve = Curve {
        k: place.k,
        mu: place.mu,
        b: (1.0 - place.c).clamp(B_RANGE[0], B_RANGE[1]),
    };
    (curve, place.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derivatives_agree_with_finite_differences() {
        let point = |rate, accuracy, weight| Point {
            rate,
            accuracy,
            weight,
        };
        let points = [
            point(0.0, 0.1, 1.0),
            point(0.3, 0.5, 2.0),
            point(0.45, 0.2, 1.0),
            point(1.0, 0.9, 0.5),
        ];
        for strength in [0.0, 0.1] {
            let prior = ObjectivePrior { strength };
            // The first place has b inside its range, the second at 0.
            for (k, mu) in [(9.0, -0.5), (3.0, 0.1)] {
                let place = Place::new(&points, &prior, k, mu);
                let (x, y) = (1e-3 * k, 1e-3);
                let at = |i: f64, j: f64| {
                    let k = k + i * x;
                    Place::new(&points, &prior, k, mu + j * y / k).value
                };
                // Half of what differences of the value give.
                let gradient = [
                    (at(1.0, 0.0) - at(-1.0, 0.0)) / (4.0 * x),
                    (at(0.0, 1.0) - at(0.0, -1.0)) / (4.0 * y),
                ];
                let corners = at(1.0, 1.0) - at(1.0, -1.0) - at(-1.0, 1.0) + at(-1.0, -1.0);
                let matrix = [
                    (at(1.0, 0.0) - 2.0 * place.value + at(-1.0, 0.0)) / (2.0 * x * x),
                    corners / (8.0 * x * y),
                    (at(0.0, 1.0) - 2.0 * place.value + at(0.0, -1.0)) / (2.0 * y * y),
                ];
                for (numeric, exact) in gradient.into_iter().zip(place.gradient) {
                    assert!((numeric - exact).abs() < 1e-7, "{numeric} {exact}");
                }
                for (numeric, exact) in matrix.into_iter().zip(place.matrix) {
                    assert!((numeric - exact).abs() < 1e-6, "{numeric} {exact}");
                }
            }
        }
    }
}
