//! The fixed family of curves that beliefs are about, and its tables.
//!
//! ```text
//! F = 0.01 + 0.98 (b + (top - b) / (1 + exp(-k (p - c))))
//! ```
//!
//! `c` stands for `-mu` of the paper's curve; `top` below 1 describes problems that stay uncertain with the
//! whole hint; the outer constants keep every outcome possible. The tables are shared by all problems.

use std::sync::LazyLock;

/// Values of `k`, geometric from 3 to 50.
pub(super) const K_COUNT: usize = 5;
/// Values of `c`, from -0.5 to 1.1 in steps of 0.04.
pub(super) const C_COUNT: usize = 41;
/// Values of `b` and their prior weights.
const B: [(f64, f64); 4] = [(0.005, 0.4), (0.12, 0.2), (0.28, 0.2), (0.45, 0.2)];
/// Values of `top` and their prior weights.
const TOP: [(f64, f64); 2] = [(1.0, 0.85), (0.75, 0.15)];
/// Cells that share `k` and `c`, contiguous.
pub(super) const SHAPES: usize = B.len() * TOP.len();
/// Number of curves.
pub const CELLS: usize = K_COUNT * C_COUNT * SHAPES;
/// Rates with tabulated accuracies: 0, 0.01, ..., 1.
pub const RATES: usize = 101;
/// `RATES` rounded up to whole vectors.
pub(super) const PADDED_RATES: usize = 104;

pub(super) struct Grid {
    /// `c` by index.
    pub(super) c: [f64; C_COUNT],
    /// `k` by index.
    pub(super) k: [f64; K_COUNT],
    /// `F`, `[cell, rate]`, cells in order of `k`, `c`, `b`, `top`; 0 behind the last rate.
    pub(super) accuracy: Vec<[f32; PADDED_RATES]>,
    /// `ln F`, `[rate, cell]`.
    pub(super) ln_success: Vec<[f32; CELLS]>,
    /// `ln (1 - F)`, `[rate, cell]`.
    pub(super) ln_failure: Vec<[f32; CELLS]>,
    /// The prior before anything is known: uniform in `k`, normal around 0.5 with deviation 0.35 in `c`.
    pub(super) initial: Vec<f64>,
}

pub(super) static GRID: LazyLock<Grid> = LazyLock::new(|| {
    let k: [f64; K_COUNT] =
        std::array::from_fn(|i| 3.0 * (50.0f64 / 3.0).powf(i as f64 / (K_COUNT - 1) as f64));
    let c: [f64; C_COUNT] = std::array::from_fn(|i| -0.5 + 1.6 * i as f64 / (C_COUNT - 1) as f64);
    let mut grid = Grid {
        c,
        k,
        accuracy: vec![[0.0; PADDED_RATES]; CELLS],
        ln_success: vec![[0.0; CELLS]; RATES],
        ln_failure: vec![[0.0; CELLS]; RATES],
        initial: vec![0.0; CELLS],
    };
    for cell in 0..CELLS {
        let (k_index, c_index, (b, b_weight), (top, top_weight)) = parts(cell);
        for rate in 0..RATES {
            let distance = rate as f64 / (RATES - 1) as f64 - c[c_index];
            let logistic = 1.0 / (1.0 + (-k[k_index] * distance).exp());
            let accuracy = 0.01 + 0.98 * (b + (top - b) * logistic);
            grid.accuracy[cell][rate] = accuracy as f32;
            grid.ln_success[rate][cell] = accuracy.ln() as f32;
            grid.ln_failure[rate][cell] = (1.0 - accuracy).ln() as f32;
        }
        let deviation = (c[c_index] - 0.5) / 0.35;
        grid.initial[cell] = (-0.5 * deviation * deviation).exp() * b_weight * top_weight;
    }
    let sum: f64 = grid.initial.iter().sum();
    grid.initial.iter_mut().for_each(|weight| *weight /= sum);
    grid
});

/// Indices of `k` and `c`, and value and prior weight of `b` and `top`, of a cell.
fn parts(cell: usize) -> (usize, usize, (f64, f64), (f64, f64)) {
    let shape = cell % SHAPES;
    let position = cell / SHAPES;
    (
        position / C_COUNT,
        position % C_COUNT,
        B[shape / TOP.len()],
        TOP[shape % TOP.len()],
    )
}

/// Index of `c` of a cell.
pub(super) fn c_index(cell: usize) -> usize {
    cell / SHAPES % C_COUNT
}

/// `k` and `b` of a cell.
pub(super) fn k_and_b(cell: usize) -> (f64, f64) {
    let (k_index, _, (b, _), _) = parts(cell);
    (GRID.k[k_index], b)
}

/// Row of the tables for a rate: the nearest hundredth, half up.
pub fn row_of_rate(rate: f64) -> usize {
    // `as` saturates and turns NaN into 0.
    ((rate * (RATES - 1) as f64 + 0.5).floor() as usize).min(RATES - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_initial_prior_is_normalised_and_centred() {
        let mean: f64 = (0..CELLS)
            .map(|cell| GRID.initial[cell] * GRID.c[c_index(cell)])
            .sum();
        assert!((GRID.initial.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        assert!((mean - 0.45).abs() < 0.05, "{mean}");
        let floors: f64 = (0..CELLS)
            .filter(|&c| k_and_b(c).1 < 0.01)
            .map(|c| GRID.initial[c])
            .sum();
        assert!((floors - 0.4).abs() < 1e-12);
    }

    #[test]
    fn tables_agree_with_each_other() {
        for cell in (0..CELLS).step_by(37) {
            for rate in [0, 50, 100] {
                let accuracy = GRID.accuracy[cell][rate];
                assert!((GRID.ln_success[rate][cell] - accuracy.ln()).abs() < 1e-5);
                assert!((GRID.ln_failure[rate][cell] - (1.0 - accuracy).ln()).abs() < 1e-4);
            }
        }
        assert_eq!(CELLS, 1640);
    }
}
