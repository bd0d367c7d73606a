//! The fixed grid of starts: the best `b` for every `(k, mu)`, all in `f32`.
//!
//! With `d = 1 - a` and `u = 1 / (1 + exp(k (p + mu)))` the curve reads `1 - f = c u`, `c = 1 - b`, so for a
//! fixed `(k, mu)` the sum of squares is a parabola in `c`:
//!
//! ```text
//! sum w (c u - d)^2 = D - 2 A c + B c^2,  A = sum w d u,  B = sum w u^2,  D = sum w d^2
//! ```
//!
//! `exp(k (p + mu)) = exp(k p) exp(k mu)`: the second factor is a table, the first costs one exponential for
//! each `k` and point. `f32` is enough to tell local minima apart; the polish works in `f64`.

use super::ObjectivePrior;
use crate::curve::{B_RANGE, Curve, K_RANGE, MU_RANGE};
use crate::fit_set::Point;
use std::sync::LazyLock;

/// Values of `k`: geometric over [`K_RANGE`].
pub(super) const K_COUNT: usize = 26;
/// Values of `mu`: 12 coarse ones below -1.04, 74 in steps of 0.015, 26 coarse ones above 0.06.
pub(super) const MU_COUNT: usize = 112;
const FINE_FROM: usize = 12;
const FINE_COUNT: usize = 74;

/// Caps `exp(k (p + mu))`, so that no product below overflows or becomes subnormal.
const ODDS_CAP: f32 = 1e15;
/// Points whose `exp(k p)` are held at a time.
const BLOCK: usize = 16;
/// `mu` values worked on together: few enough to stay in vector registers.
const LANES: usize = 16;

pub(super) struct Table {
    pub(super) k: [f64; K_COUNT],
    pub(super) mu: [f64; MU_COUNT],
    /// `exp(k mu)`, `[k, mu]`.
    exp_k_mu: [[f32; MU_COUNT]; K_COUNT],
}

pub(super) static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let ratio = (K_RANGE[1] / K_RANGE[0]).powf(1.0 / (K_COUNT - 1) as f64);
    let k: [f64; K_COUNT] =
        std::array::from_fn(|i| (K_RANGE[0] * ratio.powi(i as i32)).min(K_RANGE[1]));
    let fine_end = FINE_FROM + FINE_COUNT;
    let mu = std::array::from_fn(|j| {
        if j < FINE_FROM {
            MU_RANGE[0] + 0.08 * j as f64
        } else if j < fine_end {
            -1.04 + 0.015 * (j - FINE_FROM) as f64
        } else {
            let above = (j - fine_end + 1) as f64 / (MU_COUNT - fine_end) as f64;
            0.055 + (MU_RANGE[1] - 0.055) * above
        }
    });
    let exp_k_mu = k.map(|k| mu.map(|mu| (k * mu).exp().clamp(1e-37, f64::from(ODDS_CAP)) as f32));
    Table { k, mu, exp_k_mu }
});

/// Sums of squares (with the prior) on the grid, `[k, mu]`.
pub(super) struct Scan {
    pub(super) sse: [[f32; MU_COUNT]; K_COUNT],
}

impl Scan {
    pub(super) fn new(points: &[Point], prior: &ObjectivePrior) -> Self {
        let table = &*TABLE;
        let mut sse = [[0.0; MU_COUNT]; K_COUNT];
        let constant = points
            .iter()
            .map(|p| p.weight * (1.0 - p.accuracy).powi(2))
            .sum::<f64>();
        let (prior_a, prior_b, prior_constant) = prior.parabola();
        for (k_index, row) in sse.iter_mut().enumerate() {
            let k = table.k[k_index];
            let mut sum_du = [prior_a as f32; MU_COUNT];
            let mut sum_uu = [prior_b as f32; MU_COUNT];
            for block in points.chunks(BLOCK) {
                accumulate(block, k, &table.exp_k_mu[k_index], &mut sum_du, &mut sum_uu);
            }
            let constant = (constant + prior_constant) as f32;
            for mu_index in 0..MU_COUNT {
                let (a, b) = (sum_du[mu_index], sum_uu[mu_index]);
                let c = (a / b).clamp(1.0 - B_RANGE[1] as f32, 1.0);
                row[mu_index] = constant + c * (c * b - 2.0 * a);
            }
            if prior.strength > 0.0 {
                for (value, &mu) in row.iter_mut().zip(&table.mu) {
                    *value += prior.of_position(k, mu) as f32;
                }
            }
        }
        Self { sse }
    }

    /// The up to `N` lowest local minima, lowest first, no two within [`SEPARATION`] cells of each other.
    pub(super) fn local_minima<const N: usize>(&self) -> impl Iterator<Item = (usize, usize)> {
        let mut found = [(f32::INFINITY, usize::MAX, usize::MAX); N];
        for k_index in 0..K_COUNT {
            let row = &self.sse[k_index];
            // Outside the grid counts as higher: a minimum may sit on a bound.
            let before = if k_index > 0 {
                &self.sse[k_index - 1]
            } else {
                row
            };
            let after = if k_index + 1 < K_COUNT {
                &self.sse[k_index + 1]
            } else {
                row
            };
            for mu_index in 0..MU_COUNT {
                let value = row[mu_index];
                if value >= found[N - 1].0 || value > before[mu_index] || value > after[mu_index] {
                    continue;
                }
                if (mu_index > 0 && value > row[mu_index - 1])
                    || (mu_index + 1 < MU_COUNT && value > row[mu_index + 1])
                {
                    continue;
                }
                insert_separated(&mut found, (value, k_index, mu_index));
            }
        }
        found
            .into_iter()
            .filter(|minimum| minimum.1 != usize::MAX)
            .map(|(_, k, mu)| (k, mu))
    }
}

/// Cells in `k` and `mu` within which two local minima count as one.
const SEPARATION: usize = 3;

fn insert_separated<const N: usize>(
    found: &mut [(f32, usize, usize); N],
    candidate: (f32, usize, usize),
) {
    let near = |other: &(f32, usize, usize)| {
        other.1 != usize::MAX
            && other.1.abs_diff(candidate.1) < SEPARATION
            && other.2.abs_diff(candidate.2) < SEPARATION
    };
    if let Some(at) = found.iter().position(near) {
        if found[at].0 <= candidate.0 {
            return;
        }
        found[at..].rotate_left(1);
        found[N - 1] = (f32::INFINITY, usize::MAX, usize::MAX);
    }
    let at = found.partition_point(|other| other.0 <= candidate.0);
    if at < N {
        found[at..].rotate_right(1);
        found[at] = candidate;
    }
}

/// Adds the points of `block` (at most [`BLOCK`]) to both sums of one row.
#[inline]
fn accumulate(
    block: &[Point],
    k: f64,
    exp_k_mu: &[f32; MU_COUNT],
    sum_du: &mut [f32; MU_COUNT],
    sum_uu: &mut [f32; MU_COUNT],
) {
    let mut terms = [(0.0f32, 0.0f32, 0.0f32); BLOCK];
    for (term, point) in terms.iter_mut().zip(block) {
        let deficit = 1.0 - point.accuracy;
        *term = (
            (k * point.rate).exp() as f32,
            (point.weight * deficit) as f32,
            point.weight as f32,
        );
    }
    let terms = &terms[..block.len().min(BLOCK)];
    for start in (0..MU_COUNT).step_by(LANES) {
        let lanes = start..start + LANES;
        let exp_k_mu = &exp_k_mu[lanes.clone()];
        let (sum_du, sum_uu) = (&mut sum_du[lanes.clone()], &mut sum_uu[lanes]);
        let mut du: [f32; LANES] = std::array::from_fn(|i| sum_du[i]);
        let mut uu: [f32; LANES] = std::array::from_fn(|i| sum_uu[i]);
        for &(exp_k_rate, weighted_deficit, weight) in terms {
            for i in 0..LANES {
                let odds = exp_k_rate * exp_k_mu[i];
                let u = 1.0 / (1.0 + if odds < ODDS_CAP { odds } else { ODDS_CAP });
                du[i] += weighted_deficit * u;
                uu[i] += weight * u * u;
            }
        }
        sum_du.copy_from_slice(&du);
        sum_uu.copy_from_slice(&uu);
    }
}

/// The curve of a grid cell with the best `b` for it, in `f64`.
pub(super) fn curve_at(
    k_index: usize,
    mu_index: usize,
    points: &[Point],
    prior: &ObjectivePrior,
) -> Curve {
    let (k, mu) = (TABLE.k[k_index], TABLE.mu[mu_index]);
    let (mut a, mut b, _) = prior.parabola();
    for point in points {
        let u = 1.0 / (1.0 + (k * (point.rate + mu)).exp());
        a += point.weight * (1.0 - point.accuracy) * u;
        b += point.weight * u * u;
    }
    let c = (a / b).clamp(1.0 - B_RANGE[1], 1.0);
    Curve { k, mu, b: 1.0 - c }
}

const _: () = assert!(MU_COUNT.is_multiple_of(LANES));
