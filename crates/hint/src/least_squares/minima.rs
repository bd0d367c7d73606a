//! Local minima of the grid, where walks start.
//!
//! The minima of each row, refined by a parabola, are connected to those of the neighbouring rows: together they
//! are the bottoms of valleys, which run along `k`. A walk starts from every place of a valley that is not
//! clearly higher than its neighbours.

use super::scan::{CELLS, LANES, ROWS, START_ROW, Scan, Start, TABLE};
use crate::curve::Curve;
use std::ops::Range;

/// Minima of all rows that are kept; five or six points have about thirty.
const MOST: usize = 64;
/// Rounding of an objective, relative to `D`.
const ROUNDING: f32 = 2e-6;
/// How far the bottom of a valley may move in `mu` from one row to the next, in units of `1 / k`.
const DRIFT: f64 = 2.0;

/// A local minimum of a row, between cells.
#[derive(Clone, Copy, Default)]
struct RowMinimum {
    mu: f64,
    value: f32,
    cell: u16,
    row: u8,
    /// A walk started here.
    is_taken: bool,
}

/// The local minima of all rows, in order of row and `mu`.
pub(super) struct Minima {
    found: [RowMinimum; MOST],
    count: usize,
    /// Index of the first minimum of each row, and the count behind the last row.
    row_starts: [usize; ROWS + 1],
    /// By how much one row may seem lower than the next although it is not.
    level: f32,
}

impl Minima {
    /// * `level`: by how much one row may seem lower than the next although it is not.
    pub(super) fn new(scan: &Scan, level: f32) -> Self {
        let mut minima = Self {
            found: [RowMinimum::default(); MOST],
            count: 0,
            row_starts: [0; ROWS + 1],
            level,
        };
        let noise = ROUNDING * scan.constant;
        for (row, starts) in TABLE.rows.iter().enumerate() {
            minima.row_starts[row] = minima.count;
            for block in starts.cells.clone().step_by(LANES) {
                for cell in row_minima(&scan.objective, block) {
                    minima.insert(&scan.objective, row, cell, noise);
                }
            }
        }
        minima.row_starts[ROWS] = minima.count;
        minima
    }

    /// Where the walk begins that is downhill from the start values.
    pub(super) fn take_from_start(&mut self) -> Start {
        let mut index = self
            .nearest(START_ROW, Curve::START.mu, f64::INFINITY)
            .unwrap_or(0);
        while let Some(lower) = self.lower(index) {
            index = lower;
        }
        self.take(index)
    }

    /// The lowest start that was not taken, none if it lies above `limit`.
    pub(super) fn take_lowest(&mut self, limit: f32) -> Option<Start> {
        let (mut lowest, mut value) = (None, limit);
        for (index, minimum) in self.found[..self.count].iter().enumerate() {
            if !minimum.is_taken && minimum.value <= value && self.is_start(index) {
                (lowest, value) = (Some(index), minimum.value);
            }
        }
        lowest.map(|index| self.take(index))
    }

    fn take(&mut self, index: usize) -> Start {
        let minimum = &mut self.found[index];
        minimum.is_taken = true;
        Start {
            k: TABLE.rows[usize::from(minimum.row)].k,
            mu: minimum.mu,
        }
    }

    /// Whether a walk has to start here. Along the bound of `k` minima are narrow: those always count.
    fn is_start(&self, index: usize) -> bool {
        self.found[index].row == 0 || self.lower(index).is_none()
    }

    /// Adds the minimum at `cell`, unless nothing but rounding divides it from the one before; then the lower
    /// one stays.
    fn insert(&mut self, objective: &[f32; CELLS], row: usize, cell: usize, noise: f32) {
        let value = objective[cell];
        if self.count > self.row_starts[row] {
            let before = usize::from(self.found[self.count - 1].cell);
            let between = &objective[before..cell];
            let ridge = between.iter().fold(value, |highest, &v| highest.max(v));
            if ridge - value.max(objective[before]) < noise {
                if objective[before] <= value {
                    return;
                }
                self.count -= 1;
            }
        }
        let Some(place) = self.found.get_mut(self.count) else {
            return;
        };
        let (mut mu, mut lowest) = (TABLE.rows[row].mu(cell), value);
        // The lowest place of the parabola through the cell and its neighbours, if it has any on both sides.
        let (left, right) = (objective[cell - 1], objective[cell + 1]);
        let (curvature, slope) = (left - 2.0 * value + right, 0.5 * (right - left));
        if curvature > 0.0 && curvature.is_finite() && slope.abs() <= curvature {
            mu -= TABLE.rows[row].step * f64::from(slope / curvature);
            lowest = (value - 0.5 * slope * slope / curvature).max(0.0);
        }
        *place = RowMinimum {
            mu,
            value: lowest,
            // Both are below 2^16 and 2^8, as the grid is.
            cell: cell as u16,
            row: row as u8,
            is_taken: false,
        };
        self.count += 1;
    }

    fn row(&self, row: usize) -> Range<usize> {
        self.row_starts[row]..self.row_starts[row + 1]
    }

    /// The minimum of a row next to `mu`, no further away than `reach`.
    fn nearest(&self, row: usize, mu: f64, reach: f64) -> Option<usize> {
        let (mut nearest, mut least) = (None, reach);
        for index in self.row(row) {
            let distance = (self.found[index].mu - mu).abs();
            if distance <= least {
                (nearest, least) = (Some(index), distance);
            }
        }
        nearest
    }

    /// The minimum of a neighbouring row that this one's valley leads down to by more than the level.
    fn lower(&self, index: usize) -> Option<usize> {
        let from = &self.found[index];
        let row = usize::from(from.row);
        let reach = DRIFT / TABLE.rows[row].k;
        let (mut lower, mut value) = (None, from.value - self.level);
        let rows = [row.checked_sub(1), Some(row + 1)];
        for row in rows.into_iter().flatten().filter(|&row| row < ROWS) {
            if let Some(next) = self.nearest(row, from.mu, reach)
                && self.found[next].value < value
            {
                (lower, value) = (Some(next), self.found[next].value);
            }
        }
        lower
    }
}

/// The cells of a block that are below their left and not above their right neighbour.
#[inline]
fn row_minima(objective: &[f32; CELLS], block: usize) -> impl Iterator<Item = usize> {
    let lanes = |from: usize| &objective[from..from + LANES];
    let (left, value, right) = (lanes(block - 1), lanes(block), lanes(block + 1));
    // No branches: most blocks hold none, and that is known at once.
    let mut bits = 0u32;
    for i in 0..LANES {
        bits |= u32::from((value[i] < left[i]) & (value[i] <= right[i])) << i;
    }
    std::iter::from_fn(move || {
        let cell = (bits != 0).then(|| block + bits.trailing_zeros() as usize);
        bits &= bits.wrapping_sub(1);
        cell
    })
}

#[cfg(test)]
mod tests {
    use super::super::ObjectivePrior;
    use super::*;
    use crate::fit_set::Point;

    fn minima(points: &[(f64, f64)]) -> Minima {
        let point = |&(rate, accuracy): &(f64, f64)| Point {
            rate,
            accuracy,
            weight: 1.0,
        };
        let points: Vec<Point> = points.iter().map(point).collect();
        Minima::new(
            &Scan::new(&points, &ObjectivePrior { strength: 0.0 }),
            0.002,
        )
    }

    #[test]
    fn one_step_in_the_data_has_one_valley_and_the_start_leads_into_it() {
        let mut minima = minima(&[(0.0, 0.0), (0.3, 0.0), (0.5, 0.45), (0.7, 1.0), (1.0, 1.0)]);
        let start = minima.take_from_start();
        assert!((start.mu + 0.5).abs() < 0.03 && start.k > 10.0);
        while let Some(start) = minima.take_lowest(0.1) {
            assert!((start.mu + 0.5).abs() < 0.03, "{}", start.mu);
        }
    }

    #[test]
    fn two_steps_in_the_data_have_two_minima() {
        // Up, down and up again: a steep curve can follow either rise.
        let mut minima = minima(&[(0.0, 0.0), (0.3, 0.9), (0.5, 0.0), (0.8, 1.0), (1.0, 1.0)]);
        let mut places = Vec::new();
        while let Some(start) = minima.take_lowest(f32::INFINITY) {
            if start.k == 50.0 {
                places.push(start.mu);
            }
        }
        for expected in [-0.3, -0.65] {
            let found = places.iter().any(|mu| (mu - expected).abs() < 0.15);
            assert!(found, "{expected}: {places:?}");
        }
    }
}
