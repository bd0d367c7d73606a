//! The part of a tensor that lies in one file.

use std::ops::Range;

/// Runs of values that lie one after another in the tensor and in the file, each a fixed distance from
/// the one before: a whole tensor, some of its rows, or some columns of some rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Index into the files of the table.
    pub(crate) file: usize,
    /// First byte in the file.
    pub(crate) offset: u64,
    /// Row-major position of the first value in the tensor.
    pub(crate) first: usize,
    /// Values in a run, at least 1.
    pub(crate) run: usize,
    /// Runs.
    pub(crate) runs: usize,
    /// From the start of a run to that of the next, in the tensor; at least `run`.
    pub(crate) stride: usize,
    /// The same in the file.
    pub(crate) stored_stride: usize,
}

/// Values of a piece that lie next to each other on both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// Row-major positions in the tensor.
    pub(crate) place: Range<usize>,
    /// Values of the file between the start of the piece and this.
    pub(crate) stored: usize,
}

impl Piece {
    /// A whole tensor of `len` values.
    pub(crate) fn whole(file: usize, offset: u64, len: usize) -> Self {
        Self {
            file,
            offset,
            first: 0,
            run: len,
            runs: 1,
            stride: len,
            stored_stride: len,
        }
    }

    /// What of the piece falls into `wanted`, row-major positions in the tensor.
    pub(crate) fn parts(&self, wanted: &Range<usize>) -> impl Iterator<Item = Part> {
        let (first, run, stride) = (self.first, self.run, self.stride.max(1));
        let stored_stride = self.stored_stride;
        let wanted = wanted.clone();
        // The run that `wanted` begins in or after, and the first that begins past it.
        let begin = wanted.start.saturating_sub(first) / stride;
        let end = wanted.end.saturating_sub(first).div_ceil(stride);
        (begin..end.min(self.runs)).filter_map(move |index| {
            let start = first + index * stride;
            let place = start.max(wanted.start)..(start + run).min(wanted.end);
            let stored = index * stored_stride + place.start.saturating_sub(start);
            (!place.is_empty()).then_some(Part { place, stored })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_tensor_is_read_in_stretches() {
        let piece = Piece::whole(0, 0, 10);
        let parts: Vec<Part> = piece.parts(&(4..8)).collect();
        assert_eq!(
            parts,
            [Part {
                place: 4..8,
                stored: 4
            }]
        );
        assert_eq!(piece.parts(&(10..12)).count(), 0);
    }

    #[test]
    fn columns_of_some_rows_are_read_row_by_row_and_every_value_once() {
        // Columns 2..5 of rows 1..4 of a tensor `[5, 6]`; in the file rows are 4 apart.
        let piece = Piece {
            file: 0,
            offset: 0,
            first: 8,
            run: 3,
            runs: 3,
            stride: 6,
            stored_stride: 4,
        };
        for step in 1..=30 {
            let mut found = Vec::new();
            for start in (0..30).step_by(step) {
                for part in piece.parts(&(start..(start + step).min(30))) {
                    found.extend(
                        part.place
                            .clone()
                            .zip(part.stored..part.stored + part.place.len()),
                    );
                }
            }
            let expected: Vec<(usize, usize)> = (0..3)
                .flat_map(|row| (0..3).map(move |column| (8 + 6 * row + column, 4 * row + column)))
                .collect();
            assert_eq!(found, expected, "in steps of {step}");
        }
    }
}
