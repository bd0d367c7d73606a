//! Local minima of the grid, where walks start.
//!
//! The minima of each row, refined by a parabola, are connected to those of the neighbouring rows: together they
//! are the bottoms of valleys, which run along `k`. A walk starts from every place of a valley that is not
//! clearly higher than its neighbours.

use super::scan::{CELLS, LANES, ROWS, START_ROW, Scan, Start, TABLE};
use crate::curve::Curve;
use std::ops::Range;

/// Minima of all rows that are kept; five or six points have about thirty.
const MOST: usize = 96;
/// Rounding of an objective, relative to `D`.
const ROUNDING: f32 = 2e-6;
/// How far the bottom of a valley may move in `mu` from one row to the next, in units of `1 / k`.
const DRIFT: f64 = 2.0;

/// A local minimum of a row, between cells.
#[derive(Clone, Copy, Default)]
struct RowMinimum {
    mu: f64,
    value: f32,
    cell: usize,
    row: usize,
    /// Whether a walk is to start here.
    is_start: bool,
}

/// The local minima of all rows, in order of row and `mu`.
pub(super) struct Minima {
    found: [RowMinimum; MOST],
    count: usize,
    /// Index of the first minimum of each row, and the count behind the last row.
    row_starts: [usize; ROWS + 1],
    /// Index of the minimum that is reached from the start values.
    from_start: usize,
}

impl Minima {
    /// * `level`: by how much one row may seem lower than the next although it is not.
    pub(super) fn new(scan: &Scan, level: f32) -> Self {
        let mut minima = Self {
            found: [RowMinimum::default(); MOST],
            count: 0,
            row_starts: [0; ROWS + 1],
            from_start: 0,
        };
        let noise = ROUNDING * scan.constant;
        for (row, starts) in TABLE.rows.iter().enumerate() {
            minima.row_starts[row] = minima.count;
            for block in starts.cells.clone().step_by(LANES) {
                for cell in row_minima(&scan.objective, block) {
                    minima.insert(&scan.objective, (row, cell), noise);
                }
            }
        }
        minima.row_starts[ROWS] = minima.count;
        for index in 0..minima.count {
            // Along the bound of `k` minima are narrow: those always count.
            let is_start = minima.found[index].row == 0 || minima.lower(index, level).is_none();
            minima.found[index].is_start = is_start;
        }
        let mut index = minima
            .nearest(START_ROW, Curve::START.mu, f64::INFINITY)
            .unwrap_or(0);
        while let Some(lower) = minima.lower(index, level) {
            index = lower;
        }
        minima.from_start = index;
        minima
    }

    /// Where the walk begins that is downhill from the start values; not to be taken again.
    pub(super) fn take_from_start(&mut self) -> Start {
        self.take(self.from_start).0
    }

    /// The lowest minimum that was not taken, with its objective.
    pub(super) fn take_lowest(&mut self) -> Option<(Start, f32)> {
        let (mut lowest, mut value) = (None, f32::INFINITY);
        for (index, minimum) in self.found[..self.count].iter().enumerate() {
            if minimum.is_start && minimum.value < value {
                (lowest, value) = (Some(index), minimum.value);
            }
        }
        lowest.map(|index| self.take(index))
    }

    fn take(&mut self, index: usize) -> (Start, f32) {
        let minimum = &mut self.found[index];
        minimum.is_start = false;
        let start = Start {
            k: TABLE.rows[minimum.row].k,
            mu: minimum.mu,
        };
        (start, minimum.value)
    }

    /// Adds the minimum at `cell`, unless nothing but rounding divides it from the one before; then the lower
    /// one stays.
    fn insert(&mut self, objective: &[f32; CELLS], (row, cell): (usize, usize), noise: f32) {
        let value = objective[cell];
        if self.count > self.row_starts[row] {
            let before = self.found[self.count - 1].cell;
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
            cell,
            row,
            is_start: false,
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

    /// The minimum of a neighbouring row that this one's valley leads down to by more than `level`.
    fn lower(&self, index: usize, level: f32) -> Option<usize> {
        let from = &self.found[index];
        let reach = DRIFT / TABLE.rows[from.row].k;
        let (mut lower, mut value) = (None, from.value - level);
        let rows = [from.row.checked_sub(1), Some(from.row + 1)];
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
        while let Some((start, value)) = minima.take_lowest() {
            let distance = (start.mu + 0.5).abs();
            assert!(distance < 0.03 || value > 0.1, "{} {value}", start.mu);
        }
    }

    #[test]
    fn two_steps_in_the_data_have_two_minima_lowest_first() {
        // Up, down and up again: a steep curve can follow either rise.
        let mut minima = minima(&[(0.0, 0.0), (0.3, 0.9), (0.5, 0.0), (0.8, 1.0), (1.0, 1.0)]);
        let (mut before, mut places) = (0.0, Vec::new());
        while let Some((start, value)) = minima.take_lowest() {
            assert!(value >= before);
            before = value;
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
