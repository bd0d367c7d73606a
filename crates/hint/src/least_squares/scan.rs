//! The fixed grids of starts: the best `b` for every `(k, mu)`, all in `f32`.
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
const K_COUNT: usize = 26;
/// Values of `mu`: 12 coarse ones below -1.04, 74 in steps of 0.015, 26 coarse ones above 0.06.
const MU_COUNT: usize = 112;
const FINE_FROM: usize = 12;
const FINE_TO: usize = FINE_FROM + 74;
/// Values of `mu` for the steepest curves: steps of 0.004 from -1.14.
const STEEPEST_COUNT: usize = 320;

/// Caps `exp(k (p + mu))`, so that no product below overflows or becomes subnormal.
const ODDS_CAP: f32 = 1e15;
/// Points whose `exp(k p)` are held at a time.
const BLOCK: usize = 16;
/// `mu` values worked on together: few enough to stay in vector registers.
const LANES: usize = 16;
const _: () = assert!(MU_COUNT.is_multiple_of(LANES) && STEEPEST_COUNT.is_multiple_of(LANES));

struct Table {
    k: [f64; K_COUNT],
    mu: [f64; MU_COUNT],
    /// `exp(k mu)`, `[k, mu]`.
    exp_k_mu: [[f32; MU_COUNT]; K_COUNT],
    steepest_mu: [f64; STEEPEST_COUNT],
    /// `exp(k mu)` for the largest `k`, `[steepest mu]`.
    steepest_exp_k_mu: [f32; STEEPEST_COUNT],
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let ratio = (K_RANGE[1] / K_RANGE[0]).powf(1.0 / (K_COUNT - 1) as f64);
    let k: [f64; K_COUNT] =
        std::array::from_fn(|i| (K_RANGE[0] * ratio.powi(i as i32)).min(K_RANGE[1]));
    let mu: [f64; MU_COUNT] = std::array::from_fn(|j| {
        if j < FINE_FROM {
            MU_RANGE[0] + 0.08 * j as f64
        } else if j < FINE_TO {
            -1.04 + 0.015 * (j - FINE_FROM) as f64
        } else {
            let above = (j - FINE_TO + 1) as f64 / (MU_COUNT - FINE_TO) as f64;
            0.055 + (MU_RANGE[1] - 0.055) * above
        }
    });
    let steepest_mu: [f64; STEEPEST_COUNT] = std::array::from_fn(|j| -1.14 + 0.004 * j as f64);
    let capped_exp = |exponent: f64| exponent.exp().clamp(1e-37, f64::from(ODDS_CAP)) as f32;
    Table {
        exp_k_mu: k.map(|k| mu.map(|mu| capped_exp(k * mu))),
        steepest_exp_k_mu: steepest_mu.map(|mu| capped_exp(K_RANGE[1] * mu)),
        k,
        mu,
        steepest_mu,
    }
});

/// A `(k, mu)` of a grid.
#[derive(Clone, Copy)]
pub(super) struct Start {
    pub(super) k: f64,
    pub(super) mu: f64,
}

impl Start {
    /// The curve with the best `b` for this place, in `f64`.
    pub(super) fn with_best_b(self, points: &[Point], prior: &ObjectivePrior) -> Curve {
        let Self { k, mu } = self;
        let (mut a, mut b, _) = prior.parabola();
        for point in points {
            let u = 1.0 / (1.0 + (k * (point.rate + mu)).exp());
            a += point.weight * (1.0 - point.accuracy) * u;
            b += point.weight * u * u;
        }
        let c = (a / b).clamp(1.0 - B_RANGE[1], 1.0);
        Curve { k, mu, b: 1.0 - c }
    }
}

/// Objectives on the grid, `[k, mu]`.
pub(super) struct Scan {
    objective: [[f32; MU_COUNT]; K_COUNT],
}

impl Scan {
    /// * `points`: at least one.
    pub(super) fn new(points: &[Point], prior: &ObjectivePrior) -> Self {
        let table = &*TABLE;
        let mut objective = [[0.0; MU_COUNT]; K_COUNT];
        let rows = objective.iter_mut().zip(&table.exp_k_mu);
        for ((row, exp_k_mu), &k) in rows.zip(&table.k) {
            scan_row(points, prior, k, (&table.mu, exp_k_mu), row);
        }
        Self { objective }
    }

    /// The up to `N` lowest local minima, lowest first.
    pub(super) fn minima<const N: usize>(&self) -> impl Iterator<Item = Start> + use<N> {
        let mut lowest = Lowest::<N>::new();
        for (k_index, row) in self.objective.iter().enumerate() {
            // Outside the grid counts as higher: a minimum may sit on a bound.
            let before = if k_index > 0 {
                &self.objective[k_index - 1]
            } else {
                row
            };
            let after = self.objective.get(k_index + 1).unwrap_or(row);
            for mu_index in 0..MU_COUNT {
                let value = row[mu_index];
                if value < lowest.bound()
                    && value <= before[mu_index]
                    && value <= after[mu_index]
                    && is_minimum(row, mu_index)
                {
                    lowest.insert(value, [k_index, mu_index]);
                }
            }
        }
        lowest.places().map(|[k, mu]| Start {
            k: TABLE.k[k],
            mu: TABLE.mu[mu],
        })
    }

    /// All places whose objective is at most `limit`.
    pub(super) fn curves_within(&self, limit: f32) -> impl Iterator<Item = Start> {
        let rows = self.objective.iter().zip(&TABLE.k);
        rows.flat_map(move |(row, &k)| {
            let cells = row
                .iter()
                .zip(&TABLE.mu)
                .filter(move |&(&value, _)| value <= limit);
            cells.map(move |(_, &mu)| Start { k, mu })
        })
    }
}

/// Objectives of curves with the largest `k`, `[steepest mu]`.
pub(super) struct SteepestScan {
    objective: [f32; STEEPEST_COUNT],
}

impl SteepestScan {
    /// * `points`: at least one.
    pub(super) fn new(points: &[Point], prior: &ObjectivePrior) -> Self {
        let table = &*TABLE;
        let mut objective = [0.0; STEEPEST_COUNT];
        let columns = (&table.steepest_mu, &table.steepest_exp_k_mu);
        scan_row(points, prior, K_RANGE[1], columns, &mut objective);
        Self { objective }
    }

    /// The up to `N` lowest local minima, lowest first.
    pub(super) fn minima<const N: usize>(&self) -> impl Iterator<Item = Start> + use<N> {
        let mut lowest = Lowest::<N>::new();
        for (mu_index, &value) in self.objective.iter().enumerate() {
            if value < lowest.bound() && is_minimum(&self.objective, mu_index) {
                lowest.insert(value, [0, mu_index]);
            }
        }
        lowest.places().map(|[_, mu]| Start {
            k: K_RANGE[1],
            mu: TABLE.steepest_mu[mu],
        })
    }
}

fn is_minimum(row: &[f32], index: usize) -> bool {
    let value = row[index];
    (index == 0 || value <= row[index - 1]) && row.get(index + 1).is_none_or(|&next| value <= next)
}

/// Cells within which two local minima count as one (a plateau has many).
const SEPARATION: usize = 2;

/// The `N` lowest local minima seen so far, lowest first.
struct Lowest<const N: usize> {
    found: [Option<(f32, [usize; 2])>; N],
}

impl<const N: usize> Lowest<N> {
    fn new() -> Self {
        Self { found: [None; N] }
    }

    /// Values at or above this are not among the lowest.
    fn bound(&self) -> f32 {
        self.found[N - 1].map_or(f32::INFINITY, |(value, _)| value)
    }

    fn insert(&mut self, value: f32, place: [usize; 2]) {
        let near = |other: &Option<(f32, [usize; 2])>| {
            other.is_some_and(|(_, other)| (0..2).all(|i| other[i].abs_diff(place[i]) < SEPARATION))
        };
        let lower = |other: &Option<(f32, _)>| other.is_some_and(|(other, _)| other <= value);
        if let Some(at) = self.found.iter().position(near) {
            if lower(&self.found[at]) {
                return;
            }
            self.found[at..].rotate_left(1);
            self.found[N - 1] = None;
        }
        let at = self.found.partition_point(lower);
        if at < N {
            self.found[at..].rotate_right(1);
            self.found[at] = Some((value, place));
        }
    }

    fn places(self) -> impl Iterator<Item = [usize; 2]> {
        self.found.into_iter().flatten().map(|(_, place)| place)
    }
}

/// Objectives for one `k` and all `mu` of a row.
fn scan_row<const COUNT: usize>(
    points: &[Point],
    prior: &ObjectivePrior,
    k: f64,
    (mu, exp_k_mu): (&[f64; COUNT], &[f32; COUNT]),
    objective: &mut [f32; COUNT],
) {
    let (prior_a, prior_b, mut constant) = prior.parabola();
    let mut sum_du = [prior_a as f32; COUNT];
    let mut sum_uu = [prior_b as f32; COUNT];
    for block in points.chunks(BLOCK) {
        accumulate(block, k, exp_k_mu, &mut sum_du, &mut sum_uu);
    }
    for point in points {
        constant += point.weight * (1.0 - point.accuracy).powi(2);
    }
    let constant = constant as f32;
    for (value, (a, b)) in objective.iter_mut().zip(sum_du.into_iter().zip(sum_uu)) {
        let c = (a / b).clamp(1.0 - B_RANGE[1] as f32, 1.0);
        *value = constant + c * (c * b - 2.0 * a);
    }
    if prior.strength > 0.0 {
        for (value, &mu) in objective.iter_mut().zip(mu) {
            *value += prior.of_position(k, mu) as f32;
        }
    }
}

/// Adds the points of `block` (at most [`BLOCK`]) to both sums of a row.
#[inline]
fn accumulate<const COUNT: usize>(
    block: &[Point],
    k: f64,
    exp_k_mu: &[f32; COUNT],
    sum_du: &mut [f32; COUNT],
    sum_uu: &mut [f32; COUNT],
) {
    let mut terms = [(0.0f32, 0.0f32, 0.0f32); BLOCK];
    for (term, point) in terms.iter_mut().zip(block) {
        let deficit = point.weight * (1.0 - point.accuracy);
        *term = (
            (k * point.rate).exp() as f32,
            deficit as f32,
            point.weight as f32,
        );
    }
    let terms = &terms[..block.len().min(BLOCK)];
    for start in (0..COUNT).step_by(LANES) {
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
