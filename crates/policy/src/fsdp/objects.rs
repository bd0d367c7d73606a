//! What the pickle of a shard says of its tensors.

use super::archive::Archive;
use super::pickle::{Id, Name, Node, Pickle, PickleError};
use super::region::{DIMENSIONS, Placement};
use crate::encoding::Encoding;
use crate::error::LoadError;
use std::path::Path;

/// Dimensions of a mesh of processes, at most.
const MESH_DIMENSIONS: usize = 8;
/// Bytes of a tensor's name, at most.
const LONGEST_NAME: usize = 1000;

/// Numbers of a tensor that lie in this file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Local {
    /// The record that they lie in.
    pub(super) record: String,
    /// First byte in the file.
    pub(super) offset: u64,
    /// How they are stored, or what they are where that cannot be read.
    pub(super) encoding: Result<Encoding, String>,
    pub(super) shape: Vec<usize>,
    /// From one index to the next in each dimension, in values.
    pub(super) strides: Vec<usize>,
}

/// What one process holds of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// A tensor that does not say what it is a part of.
    Plain(Local),
    /// A DTensor.
    Distributed {
        /// Of the whole.
        shape: Vec<usize>,
        /// One for each dimension of the mesh.
        placements: Vec<Placement>,
        /// Of the process in the mesh.
        coordinates: Vec<usize>,
        local: Local,
    },
    /// A sharded tensor of FSDP 1.
    Sharded {
        /// Of the whole.
        shape: Vec<usize>,
        /// Each with where it begins in the whole.
        shards: Vec<(Vec<usize>, Local)>,
    },
}

impl Held {
    /// Names of the records that the numbers lie in.
    pub(super) fn records(&self) -> impl Iterator<Item = &str> {
        let (one, several) = match self {
            Self::Plain(local) | Self::Distributed { local, .. } => (Some(local), &[][..]),
            Self::Sharded { shards, .. } => (None, &shards[..]),
        };
        let several = several.iter().map(|(_, local)| local);
        one.into_iter()
            .chain(several)
            .map(|local| local.record.as_str())
    }
}

/// The tensors of a shard by name, in the order of the file.
pub(super) fn state_dict(path: &Path, archive: &Archive) -> Result<Vec<(String, Held)>, LoadError> {
    let pickle = Pickle::read(&archive.pickle).map_err(|error| match error {
        PickleError::Foreign { at, name } => LoadError::ForeignObject {
            path: path.to_owned(),
            name,
            byte: at,
        },
        PickleError::Invalid { .. } => LoadError::Damaged {
            path: path.to_owned(),
            problem: error.to_string(),
        },
    })?;
    let damaged = |problem: String| LoadError::Damaged {
        path: path.to_owned(),
        problem,
    };
    let entries = pickle
        .entries(pickle.root())
        .ok_or_else(|| damaged("its pickle is not of a dictionary of tensors".to_owned()))?;
    let objects = Objects {
        pickle: &pickle,
        archive,
    };
    let mut tensors = Vec::with_capacity(entries.len());
    for (key, value) in entries {
        let name = pickle
            .text(*key)
            .filter(|name| name.len() <= LONGEST_NAME)
            .ok_or_else(|| damaged("one of its keys is not the name of a tensor".to_owned()))?;
        let held = objects.held(*value).map_err(|problem| match problem {
            Problem::Placement(placement) => LoadError::Unsupported {
                path: path.to_owned(),
                key: format!("placement of {name}"),
                found: placement.to_owned(),
                supported: "Shard, Replicate (save the checkpoint without tensor parallelism)"
                    .to_owned(),
            },
            Problem::Other(problem) => damaged(format!("tensor `{name}` {problem}")),
        })?;
        tensors.push((name.to_owned(), held));
    }
    Ok(tensors)
}

enum Problem {
    /// Shares that cannot be put side by side.
    Placement(&'static str),
    /// Continues "tensor `x`".
    Other(&'static str),
}

use Problem::Other;

struct Objects<'a> {
    pickle: &'a Pickle,
    archive: &'a Archive,
}

impl Objects<'_> {
    /// What a value of the dictionary is.
    fn held(&self, id: Id) -> Result<Held, Problem> {
        let call = self.pickle.call(id).ok_or(Other("is no tensor"))?;
        let arguments = self.pickle.elements(call.arguments).unwrap_or(&[]);
        match (call.function, arguments) {
            (Name::Tensor | Name::TensorOfType, _) => Ok(Held::Plain(self.local(id)?)),
            // Not more than one such wrapper: a parameter is of a tensor.
            (Name::Parameter, [tensor, ..]) => match self.pickle.call(*tensor) {
                Some(inner) if inner.function != Name::Parameter => self.held(*tensor),
                _ => Err(Other("is a parameter of no tensor")),
            },
            (Name::Derived, [function, class, arguments, state]) => {
                let function = self.pickle.name(*function);
                match (self.pickle.name(*class), function) {
                    (Some(Name::DTensor), Some(Name::Wrapper)) => {
                        self.distributed(*arguments, *state)
                    }
                    (Some(Name::ShardedTensor), Some(Name::Wrapper)) => {
                        self.sharded(*arguments, *state)
                    }
                    (Some(Name::Ignored), Some(Name::Tensor | Name::TensorOfType)) => {
                        let of_type = function == Some(Name::TensorOfType);
                        Ok(Held::Plain(self.numbers(*arguments, of_type)?))
                    }
                    _ => Err(Other("is of a class that is not known")),
                }
            }
            _ => Err(Other("is no tensor")),
        }
    }

    /// A tensor whose numbers are in this file.
    fn local(&self, id: Id) -> Result<Local, Problem> {
        let call = self.pickle.call(id).ok_or(Other("has no numbers"))?;
        match call.function {
            Name::Tensor => self.numbers(call.arguments, false),
            Name::TensorOfType => self.numbers(call.arguments, true),
            Name::Parameter => match self.pickle.elements(call.arguments) {
                Some([tensor, ..]) => match self.pickle.call(*tensor) {
                    Some(inner) if inner.function == Name::Tensor => {
                        self.numbers(inner.arguments, false)
                    }
                    _ => Err(Other("has no numbers")),
                },
                _ => Err(Other("has no numbers")),
            },
            _ => Err(Other("has no numbers")),
        }
    }

    /// What a function that makes tensors was to be called with: storage, offset, size, strides and more,
    /// and the number type where the storage does not say it.
    fn numbers(&self, arguments: Id, of_type: bool) -> Result<Local, Problem> {
        let pickle = self.pickle;
        let arguments = pickle.elements(arguments).unwrap_or(&[]);
        let [storage, first, size, strides, rest @ ..] = arguments else {
            return Err(Other("has too few arguments"));
        };
        let shape = pickle.counts(*size, DIMENSIONS);
        let shape = shape.ok_or(Other("has a size that no tensor of a decoder has"))?;
        let strides = pickle.counts(*strides, DIMENSIONS);
        let strides = strides
            .filter(|strides| strides.len() == shape.len())
            .ok_or(Other("has strides that do not fit its size"))?;
        let first = pickle.count(*first).ok_or(Other("has no offset"))?;

        let Node::Outside(description) = pickle.get(*storage) else {
            return Err(Other("has no storage"));
        };
        let [kind, class, key, _location, numbers] = pickle.elements(*description).unwrap_or(&[])
        else {
            return Err(Other("has a storage that is described in another way"));
        };
        if pickle.text(*kind) != Some("storage") {
            return Err(Other("has a storage that is described in another way"));
        }
        let number_type = match (pickle.name(*class), of_type) {
            (Some(Name::Storage(of)), false) => of,
            (Some(Name::UntypedStorage | Name::Storage(_)), true) => {
                match rest.get(2).and_then(|id| pickle.name(*id)) {
                    Some(Name::Type(of)) => of,
                    _ => return Err(Other("has no number type")),
                }
            }
            _ => return Err(Other("has a storage of unknown type")),
        };
        let key = pickle
            .text(*key)
            .ok_or(Other("has a storage without name"))?;
        let record = self
            .archive
            .record(key)
            .ok_or(Other("has numbers in a record that is not in the file"))?;
        let (encoding, bytes) = match number_type {
            "float32" => (Ok(Encoding::F32), 4),
            "bfloat16" => (Ok(Encoding::Bf16), 2),
            "float16" => (Ok(Encoding::F16), 2),
            other => (Err(other.to_owned()), 1),
        };
        let stored = pickle
            .count(*numbers)
            .ok_or(Other("has a storage without length"))?;
        let whole = (stored as u64).checked_mul(bytes);
        if encoding.is_ok() && !of_type && whole != Some(record.len) {
            return Err(Other("has a record of another length than its pickle says"));
        }
        // The last value must lie in the record.
        let empty = shape.contains(&0);
        let values = product(&shape).filter(|values| *values as u64 <= record.len);
        let last = shape
            .iter()
            .zip(&strides)
            .try_fold(first as u64, |last, (size, stride)| {
                let steps = (*size as u64).saturating_sub(1);
                last.checked_add(steps.checked_mul(*stride as u64)?)
            });
        let end = last
            .and_then(|last| last.checked_add(1)?.checked_mul(bytes))
            .filter(|end| empty || *end <= record.len && values.is_some());
        if end.is_none() {
            return Err(Other("reaches past the end of its record"));
        }
        let before = if empty { 0 } else { first as u64 * bytes };
        Ok(Local {
            record: key.to_owned(),
            offset: record.offset + before,
            encoding,
            shape,
            strides,
        })
    }

    /// Size of the whole, from what an object that wraps tensors was to be made with.
    fn whole_shape(&self, arguments: Id) -> Option<Vec<usize>> {
        let [_class, _type, size, ..] = self.pickle.elements(arguments)? else {
            return None;
        };
        let shape = self.pickle.counts(*size, DIMENSIONS)?;
        product(&shape).map(|_| shape)
    }

    fn distributed(&self, arguments: Id, state: Id) -> Result<Held, Problem> {
        let pickle = self.pickle;
        let attribute = |key| pickle.attribute(state, key);
        let shape = self
            .whole_shape(arguments)
            .ok_or(Other("has a size that no tensor of a decoder has"))?;
        let local = attribute("_local_tensor").ok_or(Other("has no local tensor"))?;
        let spec = attribute("_spec")
            .and_then(|id| self.state_of(id, Name::DTensorSpec))
            .ok_or(Other("does not say how it is laid out"))?;
        let placements = pickle
            .attribute(spec, "placements")
            .and_then(|id| pickle.elements(id))
            .filter(|placements| placements.len() <= MESH_DIMENSIONS)
            .ok_or(Other("has no placements"))?;
        let placements: Vec<Placement> = placements
            .iter()
            .map(|id| self.placement(*id))
            .collect::<Result<_, _>>()?;
        let coordinates = pickle
            .attribute(spec, "mesh")
            .and_then(|id| self.state_of(id, Name::DeviceMesh))
            .and_then(|mesh| pickle.attribute(mesh, "_coordinate_on_dim"))
            .and_then(|id| pickle.counts(id, MESH_DIMENSIONS))
            .filter(|coordinates| coordinates.len() == placements.len())
            .ok_or(Other("does not say where in its mesh it was held"))?;
        Ok(Held::Distributed {
            shape,
            placements,
            coordinates,
            local: self.local(local)?,
        })
    }

    fn placement(&self, id: Id) -> Result<Placement, Problem> {
        let call = self.pickle.call(id).ok_or(Other("has no placements"))?;
        match call.function {
            Name::Replicate => Ok(Placement::Replicate),
            Name::Shard => {
                let state = call.state.ok_or(Other("is cut along no dimension"))?;
                let dimension = self.pickle.attribute(state, "dim");
                let dimension = dimension.and_then(|id| self.pickle.count(id));
                let dimension = dimension.filter(|dimension| *dimension < DIMENSIONS);
                let dimension = dimension.ok_or(Other("is cut along no dimension of its own"))?;
                Ok(Placement::Shard(dimension))
            }
            Name::OtherPlacement(name) => Err(Problem::Placement(name)),
            _ => Err(Other("has no placements")),
        }
    }

    fn sharded(&self, arguments: Id, state: Id) -> Result<Held, Problem> {
        let pickle = self.pickle;
        let shape = self
            .whole_shape(arguments)
            .ok_or(Other("has a size that no tensor of a decoder has"))?;
        let shards = match pickle.elements(state) {
            Some([shards, ..]) => pickle.elements(*shards),
            _ => None,
        };
        let shards = shards
            .ok_or(Other("has no list of shards"))?
            .iter()
            .map(|id| {
                let state = self.state_of(*id, Name::LocalShard)?;
                let metadata = pickle.attribute(state, "metadata")?;
                let metadata = self.state_of(metadata, Name::ShardMetadata)?;
                let offsets = pickle.attribute(metadata, "shard_offsets")?;
                let offsets = pickle.counts(offsets, DIMENSIONS)?;
                Some((offsets, pickle.attribute(state, "tensor")?))
            })
            .map(|shard| {
                let (offsets, tensor) = shard.ok_or(Other("has a shard without place"))?;
                Ok((offsets, self.local(tensor)?))
            });
        Ok(Held::Sharded {
            shape,
            shards: shards.collect::<Result<_, _>>()?,
        })
    }

    /// The state of an object of a class.
    fn state_of(&self, id: Id, class: Name) -> Option<Id> {
        let call = self.pickle.call(id).filter(|call| call.function == class)?;
        call.state
    }
}

/// Values in a tensor; `None` if there are more than memory can have addresses.
fn product(shape: &[usize]) -> Option<usize> {
    shape
        .iter()
        .try_fold(1, |values: usize, size| values.checked_mul(*size))
}
