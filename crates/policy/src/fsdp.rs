//! Checkpoints that verl writes of a model sharded by PyTorch's FSDP: one file a process, beside a folder
//! with the configuration and the tokenizer.
//!
//! ```text
//! experiment/
//!   latest_checkpointed_iteration.txt     the step of the newest checkpoint
//!   global_step_100/actor/
//!     model_world_size_4_rank_0.pt        what process 0 of 4 held
//!     ...
//!     huggingface/                        config.json, tokenizer.json and so on
//! ```
//!
//! Each file is a zip archive of `torch.save`: raw numbers, and a pickle that says which tensor they belong
//! to. The pickle is read as data and nothing of it is run ([`pickle`]); what it describes is understood in
//! [`objects`]; where each process's share lies in the whole is worked out in [`region`]. Shares may be
//! DTensors of FSDP 1 and 2 (`Shard` along any dimension, `Replicate`, on meshes of any number of dimensions),
//! sharded tensors of FSDP 1, or plain tensors, either whole in every process or cut along the first dimension.

mod archive;
mod assemble;
mod locate;
mod objects;
mod pickle;
mod region;

pub(crate) use locate::{ShardFolder, locate};

use crate::error::LoadError;
use crate::huggingface::Identity;
use crate::model::ModelFiles;
use crate::parameters::Layout;
use crate::weights::{Checked, FoundTensor, WeightTable};
use archive::Archive;
use assemble::assemble;
use objects::Held;
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Parts of a tensor's name that wrappers around modules add and the model itself does not have.
const WRAPPERS: [&str; 4] = [
    "_fsdp_wrapped_module",
    "_checkpoint_wrapped_module",
    "_orig_mod",
    "_fpw_module",
];

/// Opens the shards of a checkpoint: every check that needs no weights.
pub(crate) fn open(folder: &ShardFolder) -> Result<ModelFiles, LoadError> {
    let identity = Identity::open(&folder.identity)?;
    let config = &identity.config;
    let layout = Layout::of(config);
    let ranks: Vec<Rank> = folder
        .files
        .par_iter()
        .map(|file| Rank::read(file))
        .collect::<Result<_, _>>()?;
    let mut found = BTreeMap::new();
    let names: BTreeSet<&String> = ranks.iter().flat_map(|rank| rank.tensors.keys()).collect();
    if let Some(adapter) = names.iter().find(|name| name.contains("lora_")) {
        return Err(LoadError::NotAModel {
            path: folder.files[0].clone(),
            problem: format!(
                "it holds `{adapter}`, an adapter beside the weights; merge the adapter into the model where it was trained"
            ),
        });
    }
    for name in names {
        let expected = layout.find(name).or(layout.tensors().first());
        let expected = expected.map_or(&[][..], |spec| &spec.shape);
        found.insert(name.clone(), whole(&ranks, &folder.files, name, expected)?);
    }
    let files = folder.files.clone();
    let mut weights = WeightTable::matching(files, found, &layout, config.tied, &folder.files[0])?;
    weights.checked = checked(&ranks);
    Ok(identity.with(weights))
}

/// What one process held.
struct Rank {
    archive: Archive,
    tensors: BTreeMap<String, Held>,
}

impl Rank {
    fn read(path: &Path) -> Result<Self, LoadError> {
        let archive = Archive::open(path)?;
        let mut tensors = BTreeMap::new();
        for (name, held) in objects::state_dict(path, &archive)? {
            let name = without_wrappers(&name);
            if tensors.insert(name.clone(), held).is_some() {
                return Err(LoadError::Damaged {
                    path: path.to_owned(),
                    problem: format!("it holds tensor `{name}` twice"),
                });
            }
        }
        Ok(Self { archive, tensors })
    }
}

/// One tensor from what all processes hold of it.
fn whole(
    ranks: &[Rank],
    files: &[PathBuf],
    name: &str,
    expected: &[usize],
) -> Result<FoundTensor, LoadError> {
    let mut held = Vec::with_capacity(ranks.len());
    for (rank, file) in ranks.iter().zip(files) {
        held.push(rank.tensors.get(name).ok_or_else(|| LoadError::Damaged {
            path: file.clone(),
            problem: format!("it does not hold tensor `{name}`, of which other ranks hold parts"),
        })?);
    }
    assemble(&held, expected).map_err(|(rank, problem)| LoadError::Damaged {
        path: files[rank].clone(),
        problem: format!("tensor `{name}` {problem}"),
    })
}

/// The records that tensors lie in, each with its checksum.
fn checked(ranks: &[Rank]) -> Vec<Checked> {
    let mut checked = Vec::new();
    for (file, rank) in ranks.iter().enumerate() {
        let used: BTreeSet<&str> = rank.tensors.values().flat_map(Held::records).collect();
        checked.extend(used.into_iter().filter_map(|record| {
            let entry = rank.archive.record(record)?;
            Some(Checked {
                file,
                bytes: entry.offset..entry.offset + entry.len,
                crc32: entry.crc32,
                name: format!("data/{record}"),
            })
        }));
    }
    checked
}

/// The name of a tensor in the model itself.
fn without_wrappers(name: &str) -> String {
    let own: Vec<&str> = name
        .split('.')
        .filter(|part| !WRAPPERS.contains(part))
        .collect();
    let name = own.join(".");
    match name.strip_prefix("module.") {
        Some(rest) => rest.to_owned(),
        None => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_what_wrappers_add() {
        for (name, expected) in [
            ("model.norm.weight", "model.norm.weight"),
            (
                "_fsdp_wrapped_module.model.layers.0._fsdp_wrapped_module._checkpoint_wrapped_module.mlp.up_proj.weight",
                "model.layers.0.mlp.up_proj.weight",
            ),
            ("module._orig_mod.lm_head.weight", "lm_head.weight"),
        ] {
            assert_eq!(without_wrappers(name), expected);
        }
    }
}
