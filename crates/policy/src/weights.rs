//! Where each tensor of a model lies in its files, and reading them all into one buffer.

use crate::encoding::Encoding;
use crate::error::LoadError;
use crate::parameters::{Layout, Parameters, TensorSpec};
use rayon::prelude::*;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Values that one task reads and converts at a time; a multiple of every block size.
const VALUES_PER_TASK: usize = 1 << 19;

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
    /// Index into the files of the table.
    pub(crate) file: usize,
    /// First byte in the file.
    pub(crate) offset: u64,
    pub(crate) encoding: Encoding,
    pub(crate) rows: RowOrder,
}

/// Every tensor of a model, checked against the configuration but not read yet.
#[derive(Clone, Debug)]
pub(crate) struct WeightTable {
    pub(crate) files: Vec<PathBuf>,
    /// In the order of the layout.
    pub(crate) tensors: Vec<StoredTensor>,
    /// An output projection stored beside the embedding that it must equal.
    pub(crate) tied_copy: Option<StoredTensor>,
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
        let mut parameters = Parameters::zeros(Arc::clone(layout));

        let mut tasks = Vec::new();
        let mut rest = parameters.values.as_mut_slice();
        for (tensor, spec) in self.tensors.iter().zip(layout.tensors()) {
            let (values, after) = rest.split_at_mut(spec.len());
            rest = after;
            for (task, values) in values.chunks_mut(VALUES_PER_TASK).enumerate() {
                tasks.push(Task {
                    tensor,
                    first: task * VALUES_PER_TASK,
                    values,
                });
            }
        }
        tasks
            .into_par_iter()
            .try_for_each_init(Vec::new, |bytes, mut task| {
                task.run(&files, bytes)
                    .map_err(|problem| self.error(task.tensor, problem))
            })?;

        for (tensor, spec) in self.tensors.iter().zip(layout.tensors()) {
            if let RowOrder::Pairs { head_dim } = tensor.rows {
                let columns = spec.shape.get(1).copied().unwrap_or(1);
                pairs_to_halves(&mut parameters.values[spec.range()], head_dim, columns);
            }
        }
        if let (Some(copy), Some(embedding)) = (&self.tied_copy, layout.tensors().first()) {
            self.compare_with_embedding(&files, copy, embedding, &parameters)?;
        }
        Ok(parameters)
    }

    fn compare_with_embedding(
        &self,
        files: &[File],
        copy: &StoredTensor,
        embedding: &TensorSpec,
        parameters: &Parameters,
    ) -> Result<(), LoadError> {
        let embedding = &parameters.values[embedding.range()];
        let (mut bytes, mut values) = (Vec::new(), Vec::new());
        for (task, expected) in embedding.chunks(VALUES_PER_TASK).enumerate() {
            values.resize(expected.len(), 0.0);
            let mut task = Task {
                tensor: copy,
                first: task * VALUES_PER_TASK,
                values: &mut values,
            };
            task.run(files, &mut bytes)
                .map_err(|problem| self.error(copy, problem))?;
            if values != expected {
                return Err(LoadError::NotTied {
                    path: self.files[copy.file].clone(),
                });
            }
        }
        Ok(())
    }

    fn error(&self, tensor: &StoredTensor, problem: Problem) -> LoadError {
        let path = self.files[tensor.file].clone();
        let tensor = tensor.name.clone();
        match problem {
            Problem::Io(source) if source.kind() == io::ErrorKind::UnexpectedEof => {
                LoadError::Damaged {
                    path,
                    problem: format!("it ends inside tensor `{tensor}`"),
                }
            }
            Problem::Io(source) => LoadError::Read { path, source },
            Problem::NotFinite { element, value } => LoadError::NotFinite {
                path,
                tensor,
                element,
                value,
            },
        }
    }
}

enum Problem {
    Io(io::Error),
    NotFinite { element: usize, value: f32 },
}

/// A run of values of one tensor.
struct Task<'a> {
    tensor: &'a StoredTensor,
    /// Row-major position of the first value, at the start of a block.
    first: usize,
    values: &'a mut [f32],
}

impl Task<'_> {
    fn run(&mut self, files: &[File], bytes: &mut Vec<u8>) -> Result<(), Problem> {
        let encoding = self.tensor.encoding;
        let blocks_before = self.first / encoding.block_values();
        bytes.resize(
            self.values.len() / encoding.block_values() * encoding.block_bytes(),
            0,
        );
        let offset = self.tensor.offset + (blocks_before * encoding.block_bytes()) as u64;
        read_exact_at(&files[self.tensor.file], bytes, offset).map_err(Problem::Io)?;
        encoding.decode(bytes, self.values);
        match self.values.iter().position(|value| !value.is_finite()) {
            None => Ok(()),
            Some(at) => Err(Problem::NotFinite {
                element: self.first + at,
                value: self.values[at],
            }),
        }
    }
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
