//! The fixed grid of starts: the best `b` for every `(k, mu)`, all in `f32`.
//!
//! With `d = 1 - a` and `u = 1 / (1 + exp(k (p + mu)))` the curve reads `1 - f = c u`, `c = 1 - b`, so for a
//! fixed `(k, mu)` the sum of squares is a parabola in `c`:
//!
//! ```text
//! sum w (c u - d)^2 = D - 2 A c + B c^2,  A = sum w d u,  B = sum w u^2,  D = sum w d^2
//! ```
//!
//! `exp(k (p + mu)) = exp(k p) exp(k mu)`: the second factor is a table. Rows halve `k` every second time, so
//! the first costs few exponentials, the rest are squares. Steps in `mu` follow the width `1 / k` of a curve.
//! `f32` is enough to tell local minima apart; the polish works in `f64`.

use super::ObjectivePrior;
use crate::curve::{B_RANGE, Curve, K_RANGE, MU_RANGE};
use crate::fit_set::Point;
use std::ops::Range;
use std::sync::LazyLock;

/// Values of `k`: the largest, divided by the square root of 2 again and again, and the smallest.
const ROWS: usize = 19;
/// Cells of each pair of rows with `k` and `k / sqrt 2`, steepest first; multiples of [`LANES`].
const LENGTHS: [usize; ROWS.div_ceil(2)] = [128, 64, 40, 32, 32, 24, 24, 16, 16, 16];
const CELLS: usize = {
    let (mut row, mut cells) = (0, 0);
    while row < ROWS {
        cells += LENGTHS[row / 2];
        row += 1;
    }
    cells
};
/// `mu` values worked on together: few enough to stay in vector registers.
const LANES: usize = 8;
/// Points whose exponentials are held at a time.
const BLOCK: usize = 16;
/// Caps `exp(k (p + mu))`, so that no product below overflows or becomes subnormal.
const ODDS_CAP: f32 = 1e15;

/// Rounding of an objective, relative to the sum of squared deficits.
const NOISE: f32 = 1e-6;

/// A row of cells with the same `k`.
struct Row {
    k: f64,
    cells: Range<usize>,
    first_mu: f64,
    step: f64,
}

impl Row {
    fn new(row: usize, start: usize) -> Self {
        let length = LENGTHS[row / 2];
        let k = if row + 1 == ROWS {
            K_RANGE[0]
        } else {
            K_RANGE[1] * 0.5f64.powf(row as f64 / 2.0)
        };
        // Beyond these the curve is flat over all rates: nothing but its tails is left in [0, 1].
        let tail = 5.0 / k;
        let low = (-1.0 - tail).max(MU_RANGE[0]);
        let high = tail.min(MU_RANGE[1]);
        Self {
            k,
            cells: start..start + length,
            first_mu: low,
            step: (high - low) / (length - 1) as f64,
        }
    }

    fn mu(&self, cell: usize) -> f64 {
        self.first_mu + self.step * (cell - self.cells.start) as f64
    }
}

struct Table {
    rows: Vec<Row>,
    /// `exp(k mu)`, `[cell]`.
    exp_k_mu: [f32; CELLS],
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let mut rows: Vec<Row> = Vec::with_capacity(ROWS);
    for row in 0..ROWS {
        let start = rows.last().map_or(0, |row| row.cells.end);
        rows.push(Row::new(row, start));
    }
    let mut exp_k_mu = [0.0; CELLS];
    for row in &rows {
        for cell in row.cells.clone() {
            let mu = row.mu(cell);
            exp_k_mu[cell] = (row.k * mu).exp().clamp(1e-37, f64::from(ODDS_CAP)) as f32;
        }
    }
    Table { rows, exp_k_mu }
});

/// A `(k, mu)` of the grid.
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

/// Objectives on the grid, `[cell]`.
pub(super) struct Scan {
    objective: [f32; CELLS],
    /// Differences up to this are rounding.
    noise: f32,
}

impl Scan {
    /// * `points`: at least one.
    pub(super) fn new(points: &[Point], prior: &ObjectivePrior) -> Self {
        let table = &*TABLE;
        let (prior_a, prior_b, mut constant) = prior.parabola();
        let mut sum_du = [prior_a as f32; CELLS];
        let mut sum_uu = [prior_b as f32; CELLS];
        for block in points.chunks(BLOCK) {
            accumulate(block, table, &mut sum_du, &mut sum_uu);
        }
        for point in points {
            constant += point.weight * (1.0 - point.accuracy).powi(2);
        }
        let constant = constant as f32;
        let mut objective = [0.0; CELLS];
        for ((value, a), b) in objective.iter_mut().zip(sum_du).zip(sum_uu) {
            let c = (a / b).clamp(1.0 - B_RANGE[1] as f32, 1.0);
            *value = constant + c * (c * b - 2.0 * a);
        }
        if prior.strength > 0.0 {
            for row in &table.rows {
                for cell in row.cells.clone() {
                    objective[cell] += prior.of_position(row.k, row.mu(cell)) as f32;
                }
            }
        }
        Self {
            objective,
            noise: NOISE * constant,
        }
    }

    /// Local minima below `limit`, lowest first (the lowest [`MOST_MINIMA`] of them).
    ///
    /// The minima of each row, refined by a parabola, are followed from row to row; those that are no higher
    /// than their neighbours on the way are minima in both directions. Those of the steepest curves count in any
    /// case: along that bound minima are narrow.
    pub(super) fn minima(&self, limit: f32) -> impl Iterator<Item = Start> + use<> {
        let tolerance = TOL * 1.0;
        let mut found = Lowest::new(limit);
        let mut before = RowMinima::default();
        let mut current = RowMinima::default();
        for index in 0..=ROWS {
            let after = match TABLE.rows.get(index) {
                Some(row) => {
                    RowMinima::new(row, &self.objective[row.cells.clone()], self.noise, limit)
                }
                None => RowMinima::default(),
            };
            if let Some(row) = index.checked_sub(1).and_then(|index| TABLE.rows.get(index)) {
                for minimum in current.iter() {
                    let is_lower = |other: &RowMinima| {
                        other
                            .on_the_way(minimum, row)
                            .is_some_and(|o| o.value < minimum.value - tolerance)
                    };
                    if index == 1 || !(is_lower(&before) || is_lower(&after)) {
                        found.insert(
                            minimum.value,
                            Start {
                                k: row.k,
                                mu: minimum.mu,
                            },
                        );
                    }
                }
            }
            before = std::mem::replace(&mut current, after);
        }
        found.places()
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
}

/// Local minima kept of a row and of the grid; three rounds make three or four steps.
const MOST_ROW_MINIMA: usize = 8;
const MOST_MINIMA: usize = 16;
const TOL: f32 = 0.001;
/// How far a minimum may move in `mu` from one row to the next, in units of `1 / k`.
const DRIFT: f64 = 2.0;

/// A local minimum of a row, between cells.
#[derive(Clone, Copy, Default)]
struct RowMinimum {
    mu: f64,
    value: f32,
}

/// The local minima of a row, in order of `mu`.
#[derive(Default)]
struct RowMinima {
    minima: [RowMinimum; MOST_ROW_MINIMA],
    count: usize,
}

impl RowMinima {
    /// Minima below `limit` that are more than `noise` below what lies between them: on a plateau rounding makes
    /// many that are not.
    fn new(row: &Row, objective: &[f32], noise: f32, limit: f32) -> Self {
        let mut minima = Self::default();
        if objective
            .iter()
            .fold(f32::INFINITY, |least, &value| least.min(value))
            >= limit
        {
            return minima;
        }
        let (mut lowest, mut at) = (f32::INFINITY, 0);
        let mut highest = f32::INFINITY;
        for (index, &value) in objective.iter().enumerate() {
            if value < lowest && value < highest - noise {
                (lowest, at) = (value, index);
            } else if value > lowest + noise {
                minima.push(row, objective, at, limit);
                (lowest, highest) = (f32::INFINITY, value);
            } else if lowest == f32::INFINITY {
                highest = highest.max(value);
            }
        }
        if lowest < f32::INFINITY {
            minima.push(row, objective, at, limit);
        }
        minima
    }

    /// Adds the minimum near cell `at`, moved to the lowest place of the parabola through it and its neighbours.
    fn push(&mut self, row: &Row, objective: &[f32], at: usize, limit: f32) {
        let mut minimum = RowMinimum {
            mu: row.first_mu + row.step * at as f64,
            value: objective[at],
        };
        if let (Some(&left), Some(&right)) =
            (objective.get(at.wrapping_sub(1)), objective.get(at + 1))
        {
            let curvature = left - 2.0 * minimum.value + right;
            let slope = 0.5 * (right - left);
            if curvature > 0.0 && slope.abs() <= curvature {
                minimum.mu -= row.step * f64::from(slope / curvature);
                minimum.value = (minimum.value - 0.5 * slope * slope / curvature).max(0.0);
            }
        }
        if minimum.value < limit && self.count < MOST_ROW_MINIMA {
            self.minima[self.count] = minimum;
            self.count += 1;
        }
    }

    fn iter(&self) -> impl Iterator<Item = &RowMinimum> {
        self.minima[..self.count].iter()
    }

    /// The minimum that one of a neighbouring row moves to, if it does not end there.
    fn on_the_way(&self, from: &RowMinimum, row: &Row) -> Option<&RowMinimum> {
        let distance = |minimum: &&RowMinimum| (minimum.mu - from.mu).abs();
        let nearest = self
            .iter()
            .min_by(|x, y| distance(x).total_cmp(&distance(y)))?;
        (distance(&nearest) * row.k <= DRIFT).then_some(nearest)
    }
}

/// The lowest local minima seen so far, lowest first.
struct Lowest {
    /// Values at or above this are not among the lowest.
    bound: f32,
    found: [Option<(f32, Start)>; MOST_MINIMA],
}

impl Lowest {
    fn new(bound: f32) -> Self {
        Self {
            bound,
            found: [None; MOST_MINIMA],
        }
    }

    fn insert(&mut self, value: f32, place: Start) {
        if value >= self.bound {
            return;
        }
        let lower = |other: &Option<(f32, Start)>| other.is_some_and(|(other, _)| other <= value);
        let at = self.found.partition_point(lower);
        self.found[at..].rotate_right(1);
        self.found[at] = Some((value, place));
        if let Some((highest, _)) = self.found[MOST_MINIMA - 1] {
            self.bound = self.bound.min(highest);
        }
    }

    fn places(self) -> impl Iterator<Item = Start> {
        self.found.into_iter().flatten().map(|(_, place)| place)
    }
}

/// Adds the points of `block` (at most [`BLOCK`]) to both sums.
fn accumulate(
    block: &[Point],
    table: &Table,
    sum_du: &mut [f32; CELLS],
    sum_uu: &mut [f32; CELLS],
) {
    let mut weights = [(0.0f32, 0.0f32); BLOCK];
    let mut exp_k_rate = [[0.0f64; BLOCK]; ROWS];
    for (index, point) in block.iter().enumerate().take(BLOCK) {
        weights[index] = (
            (point.weight * (1.0 - point.accuracy)) as f32,
            point.weight as f32,
        );
        exp_k_rate[ROWS - 1][index] = (table.rows[ROWS - 1].k * point.rate).exp();
        for row in [ROWS - 2, ROWS - 3] {
            exp_k_rate[row][index] = (table.rows[row].k * point.rate).exp();
        }
    }
    for row in (0..ROWS - 3).rev() {
        for index in 0..BLOCK {
            exp_k_rate[row][index] = exp_k_rate[row + 2][index].powi(2);
        }
    }
    for (row, exp_k_rate) in table.rows.iter().zip(&exp_k_rate) {
        for start in row.cells.clone().step_by(LANES) {
            let lanes = start..start + LANES;
            let exp_k_mu = &table.exp_k_mu[lanes.clone()];
            let (sum_du, sum_uu) = (&mut sum_du[lanes.clone()], &mut sum_uu[lanes]);
            let mut du: [f32; LANES] = std::array::from_fn(|i| sum_du[i]);
            let mut uu: [f32; LANES] = std::array::from_fn(|i| sum_uu[i]);
            for (&(weighted_deficit, weight), &exp_k_rate) in
                weights.iter().zip(exp_k_rate).take(block.len())
            {
                let exp_k_rate = exp_k_rate as f32;
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
}
