//! Writes shards as `torch.save` does: pickles by hand, in the instructions that Python's pickler uses.
#![allow(dead_code, reason = "each test binary uses its own part")]

use half::bf16;
use rawzip::{CompressionMethod, ZipArchiveWriter};
use seele_policy::huggingface::SaveOptions;
use seele_policy::model::Model;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// A pickle under construction.
pub(crate) struct Pickle(pub(crate) Vec<u8>);

impl Pickle {
    pub(crate) fn new() -> Self {
        Self(vec![0x80, 2])
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn global(&mut self, module: &str, name: &str) -> &mut Self {
        self.raw(format!("c{module}\n{name}\n").as_bytes())
    }

    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        self.raw(b"X")
            .raw(&(text.len() as u32).to_le_bytes())
            .raw(text.as_bytes())
    }

    pub(crate) fn int(&mut self, value: usize) -> &mut Self {
        self.raw(b"J").raw(&(value as i32).to_le_bytes())
    }

    pub(crate) fn ints(&mut self, values: &[usize]) -> &mut Self {
        self.raw(b"(");
        for value in values {
            self.int(*value);
        }
        self.raw(b"t")
    }

    /// An ordered dictionary without entries.
    pub(crate) fn ordered(&mut self) -> &mut Self {
        self.global("collections", "OrderedDict").raw(b")R")
    }

    pub(crate) fn finish(&mut self) -> Vec<u8> {
        self.raw(b".");
        std::mem::take(&mut self.0)
    }

    /// A plain tensor.
    pub(crate) fn tensor(&mut self, local: &Local) -> &mut Self {
        self.global("torch._utils", "_rebuild_tensor_v2");
        self.raw(b"((").text("storage").global("torch", local.class);
        self.text(&local.record.to_string()).text("cpu");
        self.int(local.stored).raw(b"tQ").int(local.first);
        self.ints(&local.shape).ints(&local.strides).raw(b"\x89");
        self.ordered().raw(b"tR")
    }

    /// A class derived from tensors, up to its state.
    fn wrapper(&mut self, class: (&str, &str), shape: &[usize]) -> &mut Self {
        self.global("torch._tensor", "_rebuild_from_type_v2")
            .raw(b"(");
        self.global("torch._utils", "_rebuild_wrapper_subclass");
        self.global(class.0, class.1)
            .raw(b"(")
            .global(class.0, class.1);
        self.global("torch", "float32").ints(shape).ints(shape);
        self.raw(b"K\x00");
        self.global("torch.serialization", "_get_layout");
        self.text("torch.strided").raw(b"\x85R");
        self.global("torch", "device")
            .text("cpu")
            .raw(b"\x85R\x89t")
    }

    pub(crate) fn dtensor(&mut self, of: &Distributed<'_>, local: &Local) -> &mut Self {
        let tensor = "torch.distributed.tensor";
        let (api, spec, types) = match of.old_names {
            true => (
                "torch.distributed._tensor.api".to_owned(),
                "torch.distributed._tensor.placement_types".to_owned(),
                "torch.distributed._tensor.placement_types".to_owned(),
            ),
            false => (
                tensor.to_owned(),
                format!("{tensor}._dtensor_spec"),
                format!("{tensor}.placement_types"),
            ),
        };
        self.wrapper((&api, "DTensor"), of.shape);
        // Attributes without a place in the class: none. Those with one:
        self.raw(b"N}(").text("_local_tensor").tensor(local);
        self.text("_spec")
            .global(&spec, "DTensorSpec")
            .raw(b")\x81}(");
        self.text("mesh");
        self.global("torch.distributed.device_mesh", "DeviceMesh");
        self.raw(b")\x81}(").text("_coordinate_on_dim").raw(b"](");
        for coordinate in of.coordinates {
            self.int(*coordinate);
        }
        self.raw(b"eub").text("placements").raw(b"(");
        for placement in of.placements {
            match placement {
                Placement::Shard(dimension) => {
                    self.global(&types, "Shard").raw(b")\x81}");
                    self.text("dim").int(*dimension).raw(b"sb");
                }
                Placement::Other(name) => {
                    self.global(&types, name).raw(b")\x81}b");
                }
            }
        }
        self.raw(b"tub").raw(b"u\x86tR")
    }

    pub(crate) fn sharded(&mut self, shape: &[usize], row: usize, local: &Local) -> &mut Self {
        let api = "torch.distributed._shard.sharded_tensor.api";
        self.wrapper((api, "ShardedTensor"), shape);
        self.raw(b"(]");
        self.global("torch.distributed._shard.sharded_tensor.shard", "Shard");
        self.raw(b")\x81N}(")
            .text("tensor")
            .tensor(local)
            .text("metadata");
        self.global("torch.distributed._shard.metadata", "ShardMetadata");
        self.raw(b")\x81N}(")
            .text("shard_offsets")
            .raw(b"](")
            .int(row);
        for _ in 1..shape.len() {
            self.int(0);
        }
        self.raw(b"eu\x86bu\x86ba}");
        self.global("__builtin__", "getattr");
        self.global(api, "ShardedTensor").text("ProcessGroupState");
        self.raw(b"\x86R)\x81N\x89ttR")
    }
}

/// Numbers in a record of the file.
pub(crate) struct Local {
    pub(crate) class: &'static str,
    pub(crate) record: usize,
    /// Values in the record.
    pub(crate) stored: usize,
    /// The first of them.
    pub(crate) first: usize,
    pub(crate) shape: Vec<usize>,
    pub(crate) strides: Vec<usize>,
}

#[derive(Clone, Copy)]
pub(crate) enum Placement {
    Shard(usize),
    Other(&'static str),
}

/// How a tensor is laid over the processes.
pub(crate) struct Distributed<'a> {
    pub(crate) shape: &'a [usize],
    pub(crate) placements: &'a [Placement],
    pub(crate) coordinates: &'a [usize],
    /// Modules are called as in versions before 2.5.
    pub(crate) old_names: bool,
}

/// Writes what `torch.save` would: a pickle and its records.
pub(crate) fn write_archive(path: &Path, pickle: &[u8], records: &[Vec<u8>]) {
    let mut archive = ZipArchiveWriter::new(Vec::new());
    let mut add = |name: String, bytes: &[u8]| {
        let file = archive.new_file(&name);
        let file = file.compression_method(CompressionMethod::STORE);
        let (mut entry, config) = file.start().unwrap();
        let mut writer = config.wrap(&mut entry);
        writer.write_all(bytes).unwrap();
        let (_, descriptor) = writer.finish().unwrap();
        entry.finish(descriptor).unwrap();
    };
    add("model/data.pkl".into(), pickle);
    add("model/byteorder".into(), b"little");
    for (index, record) in records.iter().enumerate() {
        add(format!("model/data/{index}"), record);
    }
    add("model/version".into(), b"3\n");
    fs::write(path, archive.finish().unwrap()).unwrap();
}

/// The bytes of values in a number type.
pub(crate) fn encode(values: &[f32], is_bf16: bool) -> Vec<u8> {
    let of = |value: &f32| match is_bf16 {
        true => bf16::from_f32(*value).to_le_bytes().to_vec(),
        false => value.to_le_bytes().to_vec(),
    };
    values.iter().flat_map(of).collect()
}

/// How a model is shared out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// DTensors, cut along the first dimension.
    Rows,
    /// The same, with the module names of old versions.
    OldRows,
    /// DTensors, matrices cut along the second dimension, vectors whole; rows are further apart in the
    /// record than they are long.
    Columns,
    /// DTensors on two rows of processes that hold the same, cut along the first dimension.
    Hybrid,
    /// Sharded tensors of FSDP 1, cut along the first dimension.
    Sharded,
    /// Plain tensors, cut along the first dimension.
    Plain,
    /// Plain tensors, whole everywhere.
    PlainWhole,
}

/// A checkpoint as verl writes it.
pub(crate) struct Sharding<'a> {
    pub(crate) kind: Kind,
    pub(crate) ranks: usize,
    pub(crate) is_bf16: bool,
    /// In front of every name.
    pub(crate) prefix: &'a str,
    /// A tied model's output projection is written beside its embedding.
    pub(crate) with_output: bool,
}

impl Default for Sharding<'_> {
    fn default() -> Self {
        Self {
            kind: Kind::Rows,
            ranks: 2,
            is_bf16: false,
            prefix: "",
            with_output: false,
        }
    }
}

impl Sharding<'_> {
    /// Writes the shards of a model and `huggingface/` into a folder, and returns their paths.
    pub(crate) fn write(&self, model: &Model, folder: &Path) -> Vec<PathBuf> {
        fs::create_dir_all(folder).unwrap();
        let identity = folder.join("huggingface");
        model.save(&identity, &SaveOptions::default()).unwrap();
        fs::remove_file(identity.join("model.safetensors")).unwrap();
        (0..self.ranks)
            .map(|rank| {
                let path = folder.join(format!("model_world_size_{}_rank_{rank}.pt", self.ranks));
                let (pickle, records) = self.shard(model, rank);
                write_archive(&path, &pickle, &records);
                path
            })
            .collect()
    }

    fn shard(&self, model: &Model, rank: usize) -> (Vec<u8>, Vec<Vec<u8>>) {
        let (mut pickle, mut records) = (Pickle::new(), Vec::new());
        pickle.ordered().raw(b"(");
        let layout = model.parameters.layout();
        let tensors = layout
            .tensors()
            .iter()
            .map(|spec| (spec.name.as_str(), &spec.shape, spec.range()));
        let embedding = &layout.tensors()[0];
        let output = self
            .with_output
            .then(|| ("lm_head.weight", &embedding.shape, embedding.range()));
        for (name, shape, range) in tensors.chain(output) {
            pickle.text(&format!("{}{name}", self.prefix));
            let values = &model.parameters.values[range];
            self.share(&mut pickle, &mut records, shape, values, rank);
        }
        (pickle.raw(b"u").finish(), records)
    }

    /// What `rank` holds of a tensor.
    fn share(
        &self,
        pickle: &mut Pickle,
        records: &mut Vec<Vec<u8>>,
        shape: &[usize],
        values: &[f32],
        rank: usize,
    ) {
        let columns = shape.get(1).copied().unwrap_or(1);
        let parts = match self.kind {
            Kind::Hybrid => self.ranks / 2,
            _ => self.ranks,
        };
        let part = rank % parts;
        let cut = |size: usize| {
            let each = size.div_ceil(parts);
            (part * each).min(size)..((part + 1) * each).min(size)
        };
        let class = if self.is_bf16 {
            "BFloat16Storage"
        } else {
            "FloatStorage"
        };
        let local = |first, shape: Vec<usize>, strides, stored: &[f32]| Local {
            class,
            record: records.len(),
            stored: stored.len(),
            first,
            shape,
            strides,
        };
        let whole_rows = |rows: std::ops::Range<usize>| {
            let stored = &values[rows.start * columns..rows.end * columns];
            let (size, strides) = match shape.len() {
                1 => (vec![rows.len()], vec![1]),
                _ => (vec![rows.len(), columns], vec![columns, 1]),
            };
            (local(0, size, strides, stored), stored.to_vec())
        };
        let (placements, coordinates): (&[Placement], &[usize]) = match self.kind {
            Kind::Columns if shape.len() == 2 => (&[Placement::Shard(1)], &[part]),
            Kind::Columns => (&[Placement::Other("Replicate")], &[part]),
            Kind::Hybrid => (
                &[Placement::Other("Replicate"), Placement::Shard(0)],
                &[rank / parts, part],
            ),
            _ => (&[Placement::Shard(0)], &[part]),
        };
        let distributed = Distributed {
            shape,
            placements,
            coordinates,
            old_names: self.kind == Kind::OldRows,
        };
        let rows = cut(shape[0]);
        let stored = match self.kind {
            Kind::Rows | Kind::OldRows | Kind::Hybrid => {
                let (local, stored) = whole_rows(rows);
                pickle.dtensor(&distributed, &local);
                stored
            }
            Kind::Columns if shape.len() == 2 => {
                let (own, gap) = (cut(columns), 3);
                // Three values of something else in front and between the rows.
                let mut stored = vec![9.0; gap];
                for row in values.chunks(columns) {
                    stored.extend_from_slice(&row[own.clone()]);
                    stored.extend_from_slice(&[9.0; 3]);
                }
                let (size, strides) = (vec![shape[0], own.len()], vec![own.len() + gap, 1]);
                pickle.dtensor(&distributed, &local(gap, size, strides, &stored));
                stored
            }
            Kind::Columns => {
                let (local, stored) = whole_rows(0..shape[0]);
                pickle.dtensor(&distributed, &local);
                stored
            }
            Kind::Sharded => {
                let first = rows.start;
                let (local, stored) = whole_rows(rows);
                pickle.sharded(shape, first, &local);
                stored
            }
            Kind::Plain => {
                let (local, stored) = whole_rows(rows);
                pickle.tensor(&local);
                stored
            }
            Kind::PlainWhole => {
                let (local, stored) = whole_rows(0..shape[0]);
                pickle.tensor(&local);
                stored
            }
        };
        records.push(encode(&stored, self.is_bf16));
    }
}
