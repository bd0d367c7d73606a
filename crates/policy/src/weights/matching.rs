//! What files hold against what a configuration calls for.

use super::{Copied, CopyKind, Piece, RowOrder, StoredTensor, WeightTable};
use crate::encoding::Encoding;
use crate::error::LoadError;
use crate::parameters::{Layout, TensorSpec};
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

/// The output projection, which a tied model may hold beside its embedding.
const OUTPUT: &str = "lm_head.weight";

/// A tensor that files hold, as their tables of contents have it.
#[derive(Clone, Debug)]
pub(crate) struct FoundTensor {
    /// Index of the file to name where something is wrong with it.
    pub(crate) file: usize,
    /// How its numbers are stored, or what they are where that cannot be read.
    pub(crate) encoding: Result<Encoding, String>,
    pub(crate) shape: Vec<usize>,
    /// Together every value once.
    pub(crate) pieces: Vec<Piece>,
    /// Values that are stored again.
    pub(crate) replicas: Vec<Piece>,
}

impl WeightTable {
    /// Finds each tensor of the layout among `found` (by name); nothing may be missing or left over. A
    /// missing one is missed in `table_of`.
    pub(crate) fn matching(
        files: Vec<PathBuf>,
        mut found: BTreeMap<String, FoundTensor>,
        layout: &Layout,
        tied: bool,
        table_of: &Path,
    ) -> Result<Self, LoadError> {
        let embedding = layout.tensors().first().filter(|_| tied);
        if let Some(embedding) = embedding
            && !found.contains_key(&embedding.name)
            && let Some(output) = found.remove(OUTPUT)
        {
            // Tied tensors are one; some programs keep it under this name.
            found.insert(embedding.name.clone(), output);
        }
        let mut table = Self {
            files,
            ..Self::default()
        };
        for (index, spec) in layout.tensors().iter().enumerate() {
            let tensor = found
                .get(&spec.name)
                .ok_or_else(|| LoadError::MissingTensor {
                    path: table_of.to_owned(),
                    tensor: spec.name.clone(),
                    shape: spec.shape.clone(),
                })?;
            let stored = table.stored(tensor, spec)?;
            if !tensor.replicas.is_empty() {
                table.copies.push(Copied {
                    tensor: index,
                    stored: StoredTensor {
                        pieces: tensor.replicas.clone(),
                        ..stored.clone()
                    },
                    kind: CopyKind::Replica,
                });
            }
            table.tensors.push(stored);
        }
        let known: HashSet<&str> = layout
            .tensors()
            .iter()
            .map(|spec| spec.name.as_str())
            .collect();
        for (name, tensor) in &found {
            if known.contains(name.as_str()) {
                continue;
            }
            if let Some(embedding) = embedding.filter(|_| name == OUTPUT) {
                let spec = TensorSpec {
                    name: name.clone(),
                    ..embedding.clone()
                };
                let mut stored = table.stored(tensor, &spec)?;
                stored.pieces.extend(tensor.replicas.iter().cloned());
                table.copies.push(Copied {
                    tensor: 0,
                    stored,
                    kind: CopyKind::Tied,
                });
            } else if !name.ends_with(".rotary_emb.inv_freq") {
                // Old checkpoints keep the rotary frequencies, which follow from the configuration.
                return Err(LoadError::UnexpectedTensor {
                    path: table.files[tensor.file].clone(),
                    tensor: name.clone(),
                });
            }
        }
        Ok(table)
    }

    /// Checks type and shape of one tensor.
    fn stored(&self, found: &FoundTensor, spec: &TensorSpec) -> Result<StoredTensor, LoadError> {
        let path = || self.files[found.file].clone();
        let encoding = found
            .encoding
            .clone()
            .map_err(|encoding| LoadError::TensorType {
                path: path(),
                tensor: spec.name.clone(),
                found: encoding,
                supported: "F32, F16, BF16",
            })?;
        if found.shape != spec.shape {
            return Err(LoadError::TensorShape {
                path: path(),
                tensor: spec.name.clone(),
                expected: spec.shape.clone(),
                found: found.shape.clone(),
            });
        }
        Ok(StoredTensor {
            name: spec.name.clone(),
            encoding,
            rows: RowOrder::Halves,
            pieces: found.pieces.clone(),
        })
    }
}
