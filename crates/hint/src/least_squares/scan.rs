//! The objective on a fixed grid: the best `b` for every `(k, mu)`, all in `f32`.
//!
//! With `d = 1 - a` and `u = 1 / (1 + exp(k (p + mu)))` the curve reads `1 - f = c u`, `c = 1 - b`, so for a
//! fixed `(k, mu)` the sum of squares is a parabola in `c`:
//!
//! ```text
//! sum w (c u - d)^2 = D - 2 A c + B c^2,  A = sum w d u,  B = sum w u^2,  D = sum w d^2
//! ```
//!
//! `exp(k (p + mu)) = exp(k p) exp(k mu)`: the second factor is a table, and so is `u` at the rates 0 and 1,
//! where the margins lie. `k` halves every second row, so the first factor costs two exponentials a point, the
//! rest are squares. Steps in `mu` follow the width `1 / k` of a curve. `f32` is enough to tell local minima
//! apart; the polish works in `f64`.

use super::ObjectivePrior;
use crate::curve::{B_RANGE, Curve, K_RANGE, MU_RANGE};
use crate::fit_set::Point;
use std::ops::Range;
use std::sync::LazyLock;

/// Values of `k`: the largest, divided by the square root of 2 again and again. Below the last, 0.55, curves are
/// nearly straight over all rates, and walks find their way.
pub(super) const ROWS: usize = 14;
/// Row with the `k` next to that of [`Curve::START`].
pub(super) const START_ROW: usize = 5;
/// Cells of each pair of rows with `k` and `k / sqrt 2`, steepest first; multiples of [`LANES`]. The last cell
/// of a row is no place but its end.
const LENGTHS: [usize; ROWS / 2] = [72, 40, 32, 24, 16, 16, 8];
/// All cells, some before and behind the rows among them, so that every block has neighbours.
pub(super) const CELLS: usize = {
    let (mut row, mut cells) = (0, 2 * LANES);
    while row < ROWS {
        cells += LENGTHS[row / 2];
        row += 1;
    }
    cells
};
/// Cells worked on together: few enough to stay in vector registers.
pub(super) const LANES: usize = 8;
/// Points whose exponentials are held at a time.
const BLOCK: usize = 16;
/// Caps `exp(k (p + mu))`, so that no product below overflows or becomes subnormal.
const ODDS_CAP: f32 = 1e15;

/// A row of places with the same `k`, ascending in `mu`.
pub(super) struct Row {
    pub(super) k: f64,
    /// The places; the cell behind them ends the row.
    pub(super) cells: Range<usize>,
    first_mu: f64,
    pub(super) step: f64,
}

impl Row {
    fn new(row: usize, start: usize) -> Self {
        let places = LENGTHS[row / 2] - 1;
        let k = K_RANGE[1] * 0.5f64.powf(row as f64 / 2.0);
        // Beyond these the curve is flat over all rates: nothing but its tails is left in [0, 1].
        let tail = 5.0 / k;
        let low = (-1.0 - tail).max(MU_RANGE[0]);
        let high = tail.min(MU_RANGE[1]);
        Self {
            k,
            cells: start..start + places,
            first_mu: low,
            step: (high - low) / (places - 1) as f64,
        }
    }

    pub(super) fn mu(&self, cell: usize) -> f64 {
        self.first_mu + self.step * (cell - self.cells.start) as f64
    }
}

pub(super) struct Table {
    pub(super) rows: [Row; ROWS],
    /// `exp(k mu)`, `[cell]`.
    exp_k_mu: [f32; CELLS],
    /// `u` at the rates 0 and 1, `[end, cell]`.
    u_at_ends: [[f32; CELLS]; 2],
}

pub(super) static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let mut start = LANES;
    let rows = std::array::from_fn(|row| {
        let row = Row::new(row, start);
        start = row.cells.end + 1;
        row
    });
    let mut exp_k_mu = [1.0; CELLS];
    let mut u_at_ends = [[0.5; CELLS]; 2];
    for row in &rows {
        for cell in row.cells.clone() {
            let odds = |rate: f64| {
                let odds = (row.k * (rate + row.mu(cell))).exp();
                odds.clamp(1e-37, f64::from(ODDS_CAP))
            };
            exp_k_mu[cell] = odds(0.0) as f32;
            u_at_ends[0][cell] = (1.0 / (1.0 + odds(0.0))) as f32;
            u_at_ends[1][cell] = (1.0 / (1.0 + odds(1.0))) as f32;
        }
    }
    Table {
        rows,
        exp_k_mu,
        u_at_ends,
    }
});

/// Where a walk starts, or a place of the grid: the best `b` belongs to every `(k, mu)`.
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

/// Objectives on the grid.
pub(super) struct Scan {
    /// `[cell]`; infinite where there is no place.
    pub(super) objective: [f32; CELLS],
    /// `D`, the scale of rounding errors.
    pub(super) constant: f32,
}

impl Scan {
    /// * `points`: at least one, ascending in rate.
    pub(super) fn new(points: &[Point], prior: &ObjectivePrior) -> Self {
        let table = &*TABLE;
        let (prior_a, prior_b, mut constant) = prior.parabola();
        for point in points {
            constant += point.weight * (1.0 - point.accuracy).powi(2);
        }
        let (mut inner, mut ends) = (points, [Term::default(); 2]);
        if let [first, rest @ ..] = inner
            && first.rate == 0.0
        {
            (inner, ends[0]) = (rest, Term::new(first));
        }
        if let [rest @ .., last] = inner
            && last.rate == 1.0
        {
            (inner, ends[1]) = (rest, Term::new(last));
        }
        let first = First {
            a: prior_a as f32,
            b: prior_b as f32,
            ends,
        };
        let mut scan = Self {
            objective: [f32::INFINITY; CELLS],
            constant: constant as f32,
        };
        if inner.len() <= BLOCK {
            scan.add(inner, table, Some(&first), None, true);
        } else {
            let mut sum_uu = [0.0; CELLS];
            let mut first = Some(&first);
            for block in inner.chunks(BLOCK) {
                scan.add(block, table, first.take(), Some(&mut sum_uu), false);
            }
            scan.add(&[], table, None, Some(&mut sum_uu), true);
        }
        for row in &table.rows {
            if prior.strength > 0.0 {
                for cell in row.cells.clone() {
                    scan.objective[cell] += prior.of_position(row.k, row.mu(cell)) as f32;
                }
            }
            scan.objective[row.cells.end] = f32::INFINITY;
        }
        scan
    }

    /// All places whose objective is at most `limit`.
    pub(super) fn curves_within(&self, limit: f32) -> impl Iterator<Item = Start> {
        TABLE.rows.iter().flat_map(move |row| {
            let cells = row
                .cells
                .clone()
                .filter(move |&cell| self.objective[cell] <= limit);
            cells.map(move |cell| Start {
                k: row.k,
                mu: row.mu(cell),
            })
        })
    }

    /// Adds the points of `block` (at most [`BLOCK`]). `A` lies where the objective will be; `B` lies in `sum_uu`
    /// between two blocks. The `last` block turns both into the objective.
    #[inline]
    fn add(
        &mut self,
        block: &[Point],
        table: &Table,
        first: Option<&First>,
        mut sum_uu: Option<&mut [f32; CELLS]>,
        last: bool,
    ) {
        let block = &block[..block.len().min(BLOCK)];
        let mut terms = [Term::default(); BLOCK];
        // For the flattest two rows; the others follow by squaring.
        let mut exp_k_rate = [[0.0f64; BLOCK]; 2];
        for (index, point) in block.iter().enumerate() {
            terms[index] = Term::new(point);
            for (of_row, row) in exp_k_rate.iter_mut().zip(&table.rows[ROWS - 2..]) {
                of_row[index] = (row.k * point.rate).exp();
            }
        }
        let terms = &terms[..block.len()];
        for (index, row) in table.rows.iter().enumerate().rev() {
            let mut factors = [0.0f32; BLOCK];
            for (factor, exp) in factors.iter_mut().zip(&mut exp_k_rate[index % 2]) {
                *factor = *exp as f32;
                // `k` is twice as large two rows further.
                *exp *= *exp;
            }
            for start in row.cells.clone().step_by(LANES) {
                let lanes = start..start + LANES;
                let (mut a, mut b) = ([0.0; LANES], [0.0; LANES]);
                if let Some(first) = first {
                    (a, b) = ([first.a; LANES], [first.b; LANES]);
                    for (u, end) in table.u_at_ends.iter().zip(&first.ends) {
                        let u = &u[lanes.clone()];
                        for i in 0..LANES {
                            a[i] += end.deficit * u[i];
                            b[i] += end.weight * u[i] * u[i];
                        }
                    }
                } else if let Some(sum_uu) = sum_uu.as_deref() {
                    a.copy_from_slice(&self.objective[lanes.clone()]);
                    b.copy_from_slice(&sum_uu[lanes.clone()]);
                }
                let exp_k_mu = &table.exp_k_mu[lanes.clone()];
                for (term, &factor) in terms.iter().zip(&factors) {
                    for i in 0..LANES {
                        let odds = factor * exp_k_mu[i];
                        let u = 1.0 / (1.0 + if odds < ODDS_CAP { odds } else { ODDS_CAP });
                        a[i] += term.deficit * u;
                        b[i] += term.weight * u * u;
                    }
                }
                if last {
                    for (a, &b) in a.iter_mut().zip(&b) {
                        let c = (*a / b).clamp(1.0 - B_RANGE[1] as f32, 1.0);
                        *a = self.constant + c * (c * b - 2.0 * *a);
                    }
                } else if let Some(sum_uu) = sum_uu.as_deref_mut() {
                    sum_uu[lanes.clone()].copy_from_slice(&b);
                }
                self.objective[lanes].copy_from_slice(&a);
            }
        }
    }
}

/// What a point contributes to `A` and `B` with `u` and `u^2`.
#[derive(Clone, Copy, Default)]
struct Term {
    deficit: f32,
    weight: f32,
}

impl Term {
    fn new(point: &Point) -> Self {
        Self {
            deficit: (point.weight * (1.0 - point.accuracy)) as f32,
            weight: point.weight as f32,
        }
    }
}

/// What sums start from: the prior, and the points at the rates 0 and 1.
struct First {
    a: f32,
    b: f32,
    ends: [Term; 2],
}

#[cfg(test)]
mod tests {
    use super::*;

    /// More points than a block, both ends among them.
    fn points() -> Vec<Point> {
        (0..=40)
            .map(|i| Point {
                rate: f64::from(i) / 40.0,
                accuracy: f64::from(i * 7 % 11) / 10.0,
                weight: 1.0 + f64::from(i % 3),
            })
            .collect()
    }

    #[test]
    fn every_cell_has_the_objective_of_its_place() {
        let all = points();
        for points in [&all[..], &all[1..40], &all[..5], &all[40..]] {
            for strength in [0.0, 0.5] {
                let prior = ObjectivePrior { strength };
                let scan = Scan::new(points, &prior);
                for row in &TABLE.rows {
                    for cell in row.cells.clone() {
                        let (k, mu) = (row.k, row.mu(cell));
                        let curve = Start { k, mu }.with_best_b(points, &prior);
                        let squares = points
                            .iter()
                            .map(|p| p.weight * (curve.accuracy(p.rate) - p.accuracy).powi(2));
                        let penalty = prior.of_position(k, mu)
                            + strength * (curve.b - Curve::START.b).powi(2);
                        let expected = squares.sum::<f64>() + penalty;
                        let found = f64::from(scan.objective[cell]);
                        assert!(
                            (found - expected).abs() < 1e-5 * (1.0 + expected),
                            "k {k} mu {mu}: {found}, expected {expected}"
                        );
                    }
                    assert_eq!(scan.objective[row.cells.end], f32::INFINITY);
                }
            }
        }
    }

    #[test]
    fn the_start_row_is_next_to_the_start_values() {
        let distance = |row: &Row| (row.k / Curve::START.k).ln().abs();
        let least = TABLE
            .rows
            .iter()
            .map(distance)
            .fold(f64::INFINITY, f64::min);
        assert_eq!(distance(&TABLE.rows[START_ROW]), least);
    }
}
