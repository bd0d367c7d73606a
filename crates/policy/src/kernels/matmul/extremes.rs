//! The smallest and largest element of each row of a product, noted while a panel is in the first-level
//! cache: reading a wide product again takes as long as a tenth of computing it.

use super::PANEL;
use crate::kernels::{Shared, multiversion};
use std::sync::{Mutex, PoisonError};

const LANES: usize = 16;
const NONE: [f32; 2] = [f32::INFINITY, f32::NEG_INFINITY];

/// Of all rows.
pub(super) struct Extremes {
    rows: Mutex<Vec<[f32; 2]>>,
}

impl Extremes {
    pub(super) fn of(rows: usize) -> Self {
        Self {
            rows: Mutex::new(vec![NONE; rows]),
        }
    }

    pub(super) fn into_rows(self) -> Vec<[f32; 2]> {
        self.rows
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Of the rows and panels of one task; joins those of all when dropped.
pub(super) struct RowExtremes<'a> {
    all: Option<&'a Extremes>,
    first_row: usize,
    rows: Vec<Lanes>,
}

/// Smallest and largest by place in a vector.
type Lanes = [[f32; LANES]; 2];

impl<'a> RowExtremes<'a> {
    pub(super) fn of(all: Option<&'a Extremes>, first_row: usize, rows: usize) -> Self {
        let none = NONE.map(|x| [x; LANES]);
        Self {
            all,
            first_row,
            rows: vec![none; if all.is_some() { rows } else { 0 }],
        }
    }

    /// Notes a finished panel of `c`, `[.., columns]`.
    ///
    /// # Safety
    /// The task's rows and columns of `c` lie in memory, and no other task touches them.
    pub(super) unsafe fn panel(&mut self, c: Shared<f32>, columns: usize, panel: usize) {
        let width = PANEL.min(columns - panel * PANEL);
        let first = self.first_row * columns + panel * PANEL;
        for (i, lanes) in self.rows.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            note(lanes, unsafe { c.slice(first + i * columns, width) });
        }
    }
}

impl Drop for RowExtremes<'_> {
    fn drop(&mut self) {
        let Some(all) = self.all else { return };
        let mut all = all.rows.lock().unwrap_or_else(PoisonError::into_inner);
        for (joint, [low, high]) in all.iter_mut().skip(self.first_row).zip(&self.rows) {
            for (&low, &high) in low.iter().zip(high) {
                joint[0] = if low < joint[0] { low } else { joint[0] };
                joint[1] = if high > joint[1] { high } else { joint[1] };
            }
        }
    }
}

multiversion! {
    fn note(lanes: &mut Lanes, row: &[f32]) {
        let [low, high] = lanes;
        for part in row.chunks(LANES) {
            for ((low, high), &v) in low.iter_mut().zip(high.iter_mut()).zip(part) {
                *low = if v < *low { v } else { *low };
                *high = if v > *high { v } else { *high };
            }
        }
    }
}
