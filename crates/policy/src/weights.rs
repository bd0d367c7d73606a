//! Where each tensor of a model lies in its files, and reading them all into one buffer.

mod matching;
mod piece;

pub(crate) use matching::FoundTensor;
pub(crate) use piece::Piece;

use crate::encoding::Encoding;
use crate::error::LoadError;
use crate::parameters::{Layout, Parameters};
use rayon::prelude::*;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

/// Values that one task reads and converts at a time; a multiple of every block size.
const VALUES_PER_TASK: usize = 1 << 19;
/// Bytes that are checked at a time.
const BYTES_PER_CHECK: u64 = 1 << 20;

/// The order of the rows of a projection in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowOrder {
    /// As this program keeps them: in each head, first all first elements of the rotary pairs, then
    /// all second ones.
    Halves,
    /// The two elements of each rotary pair side by side (GGUF files of the llama architecture).
    Pairs {
        /// Rows of one head.
        head_dim: usize,
    },
}

/// One stored tensor.
#[derive(Clone, Debug)]
pub(crate) struct StoredTensor {
    /// Name in the file.
    pub(crate) name: String,
    pub(crate) encoding: Encoding,
    pub(crate) rows: RowOrder,
    /// What its values are read from: together every value once.
    pub(crate) pieces: Vec<Piece>,
}

/// Values that are stored more than once and must be the same each time.
#[derive(Clone, Debug)]
pub(crate) struct Copied {
    /// Index in the layout of the tensor that it must equal.
    pub(crate) tensor: usize,
    /// Covers all of the tensor or a part.
    pub(crate) stored: StoredTensor,
    pub(crate) kind: CopyKind,
}

/// Why something is stored twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CopyKind {
    /// An output projection beside the embedding that it must equal.
    Tied,
    /// What several processes held.
    Replica,
}

/// A run of bytes whose CRC-32 is known.
#[derive(Clone, Debug)]
pub(crate) struct Checked {
    /// Index into the files of the table.
    pub(crate) file: usize,
    pub(crate) bytes: Range<u64>,
    pub(crate) crc32: u32,
    /// What it is called inside the file.
    pub(crate) name: String,
}

/// Every tensor of a model, checked against the configuration but not read yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct WeightTable {
    pub(crate) files: Vec<PathBuf>,
    /// In the order of the layout.
    pub(crate) tensors: Vec<StoredTensor>,
    pub(crate) copies: Vec<Copied>,
    /// Held to their checksums before anything is read.
    pub(crate) checked: Vec<Checked>,
}

impl WeightTable {
    /// Reads and converts everything, on all threads.
    pub(crate) fn read(&self, layout: &Arc<Layout>) -> Result<Parameters, LoadError> {
        let open = |path: &PathBuf| {
            File::open(path).map_err(|source| LoadError::Read {
                path: path.clone(),
                source,
            })
        };
        let files: Vec<File> = self.files.iter().map(open).collect::<Result<_, _>>()?;
        self.checked
            .par_iter()
            .try_for_each_init(Vec::new, |bytes, checked| {
                self.check(&files[checked.file], checked, bytes)
            })?;
        let mut parameters = Parameters::zeros(Arc::clone(layout));

        let mut tasks = Vec::new();
        let mut rest = parameters.values.as_mut_slice();
        for (tensor, spec) in self.tensors.iter().zip(layout.tensors()) {
            let (values, after) = rest.split_at_mut(spec.len());
            rest = after;
            for (task, values) in values.chunks_mut(VALUES_PER_TASK).enumerate() {
                tasks.push((tensor, task * VALUES_PER_TASK, values));
            }
        }
        tasks
            .into_par_iter()
            .try_for_each_init(Vec::new, |bytes, (tensor, first, values)| {
                self.read_values(&files, tensor, first, values, bytes)
            })?;

        for (tensor, spec) in self.tensors.iter().zip(layout.tensors()) {
            if let RowOrder::Pairs { head_dim } = tensor.rows {
                let columns = spec.shape.get(1).copied().unwrap_or(1);
                pairs_to_halves(&mut parameters.values[spec.range()], head_dim, columns);
            }
        }
        self.copies.par_iter().try_for_each_init(
            || (Vec::new(), Vec::new()),
            |(bytes, values), copy| {
                let original = &parameters.values[layout.tensors()[copy.tensor].range()];
                self.compare(&files, copy, original, bytes, values)
            },
        )?;
        Ok(parameters)
    }

    /// Fills `values`, which begin at the row-major position `first` of a tensor.
    fn read_values(
        &self,
        files: &[File],
        tensor: &StoredTensor,
        first: usize,
        values: &mut [f32],
        bytes: &mut Vec<u8>,
    ) -> Result<(), LoadError> {
        let encoding = tensor.encoding;
        let wanted = first..first + values.len();
        for piece in &tensor.pieces {
            for part in piece.parts(&wanted) {
                let place = part.place.start - first;
                let values = &mut values[place..][..part.place.len()];
                let offset = piece.offset + encoding.offset(part.stored);
                let failed = |source| self.failed(piece.file, &tensor.name, source);
                read_into(&files[piece.file], encoding, offset, values, bytes).map_err(failed)?;
                if let Some(at) = values.iter().position(|value| !value.is_finite()) {
                    return Err(LoadError::NotFinite {
                        path: self.files[piece.file].clone(),
                        tensor: tensor.name.clone(),
                        element: part.place.start + at,
                        value: values[at],
                    });
                }
            }
        }
        Ok(())
    }

    fn compare(
        &self,
        files: &[File],
        copy: &Copied,
        original: &[f32],
        bytes: &mut Vec<u8>,
        values: &mut Vec<f32>,
    ) -> Result<(), LoadError> {
        let Copied { stored, kind, .. } = copy;
        for piece in &stored.pieces {
            for (task, expected) in original.chunks(VALUES_PER_TASK).enumerate() {
                let first = task * VALUES_PER_TASK;
                for part in piece.parts(&(first..first + expected.len())) {
                    values.resize(part.place.len(), 0.0);
                    let offset = piece.offset + stored.encoding.offset(part.stored);
                    let failed = |source| self.failed(piece.file, &stored.name, source);
                    read_into(&files[piece.file], stored.encoding, offset, values, bytes)
                        .map_err(failed)?;
                    if values[..] != expected[part.place.start - first..][..part.place.len()] {
                        let path = self.files[piece.file].clone();
                        return Err(match kind {
                            CopyKind::Tied => LoadError::NotTied { path },
                            CopyKind::Replica => LoadError::ReplicasDiffer {
                                path,
                                tensor: stored.name.clone(),
                            },
                        });
                    }
                }
            }
        }
        Ok(())
    }

    fn check(&self, file: &File, checked: &Checked, bytes: &mut Vec<u8>) -> Result<(), LoadError> {
        let mut crc32 = rawzip::Crc32::new();
        let mut at = checked.bytes.start;
        while at < checked.bytes.end {
            let count = BYTES_PER_CHECK.min(checked.bytes.end - at);
            bytes.resize(count as usize, 0);
            read_exact_at(file, bytes, at)
                .map_err(|source| self.failed(checked.file, &checked.name, source))?;
            crc32.update(bytes);
            at += count;
        }
        if crc32.checksum() == checked.crc32 {
            return Ok(());
        }
        Err(LoadError::Damaged {
            path: self.files[checked.file].clone(),
            problem: format!("`{}` does not have its CRC-32", checked.name),
        })
    }

    fn failed(&self, file: usize, what: &str, source: io::Error) -> LoadError {
        let path = self.files[file].clone();
        if source.kind() == io::ErrorKind::UnexpectedEof {
            let problem = format!("it ends inside tensor `{what}`");
            return LoadError::Damaged { path, problem };
        }
        LoadError::Read { path, source }
    }
}

/// Reads whole blocks from `offset` on.
fn read_into(
    file: &File,
    encoding: Encoding,
    offset: u64,
    values: &mut [f32],
    bytes: &mut Vec<u8>,
) -> io::Result<()> {
    bytes.resize(encoding.offset(values.len()) as usize, 0);
    read_exact_at(file, bytes, offset)?;
    encoding.decode(bytes, values);
    Ok(())
}

#[cfg(unix)]
fn read_exact_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut bytes: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, bytes, offset)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                bytes = &mut bytes[read..];
                offset += read as u64;
            }
        }
    }
    Ok(())
}

/// Puts the rows of a projection (or the elements of a bias, with one column) from rotary pairs into
/// rotary halves: row `2 i + s` of each head becomes row `s * head_dim / 2 + i`.
fn pairs_to_halves(values: &mut [f32], head_dim: usize, columns: usize) {
    let mut stored = vec![0.0; head_dim * columns];
    for head in values.chunks_exact_mut(head_dim * columns) {
        stored.copy_from_slice(head);
        for (row, values) in stored.chunks_exact(columns).enumerate() {
            let place = (row % 2) * (head_dim / 2) + row / 2;
            head[place * columns..][..columns].copy_from_slice(values);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotary_pairs_are_parted_within_each_head() {
        // Two heads of four rows with two columns, each value = 10 * row + column.
        let mut values: Vec<f32> = (0..8)
            .flat_map(|row| [row as f32 * 10.0, row as f32 * 10.0 + 1.0])
            .collect();
        pairs_to_halves(&mut values, 4, 2);
        let rows: Vec<f32> = values.iter().step_by(2).map(|value| value / 10.0).collect();
        assert_eq!(rows, [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]);
        assert!(values.chunks(2).all(|row| row[1] == row[0] + 1.0));
    }
}
