//! What stands before the weights: version, metadata, table of tensors.

use super::metadata::Metadata;
use super::reader::Reader;
use crate::encoding::Encoding;
use crate::error::LoadError;
use std::collections::BTreeMap;
use std::path::Path;

/// Bytes that an entry of the metadata takes at least: name length, type, one byte of value.
const SMALLEST_ENTRY: u64 = 13;
/// Bytes that an entry of the tensor table takes at least.
const SMALLEST_TENSOR: u64 = 32;
/// Dimensions of a tensor at most.
const MOST_DIMENSIONS: u32 = 4;
/// Tensors start at multiples of this unless the file says otherwise.
const DEFAULT_ALIGNMENT: usize = 32;

/// One tensor as the file has it.
#[derive(Clone, Debug)]
pub(super) struct TensorInfo {
    /// Row-major shape, as Hugging Face writes it: the reverse of the order in the file.
    pub(super) shape: Vec<usize>,
    /// The number format, or the name of one that cannot be read.
    pub(super) encoding: Result<Encoding, String>,
    /// First byte in the file.
    pub(super) offset: u64,
}

/// Everything before the weights.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) metadata: Metadata,
    pub(super) tensors: BTreeMap<String, TensorInfo>,
}

impl Header {
    pub(super) fn path(&self) -> &Path {
        self.metadata.path()
    }

    pub(super) fn read(path: &Path) -> Result<Self, LoadError> {
        let mut reader = Reader::open(path)?;
        let magic = reader.bytes::<4>("the magic number")?;
        if magic != *b"GGUF" {
            return Err(reader.damaged("it does not begin with `GGUF`; it is no GGUF file"));
        }
        let version = reader.u32("the version")?;
        if !matches!(version, 2 | 3) {
            let found = match version.swap_bytes() {
                swapped @ 1..=0xffff if version > 0xffff => format!("{swapped}, big endian"),
                _ => version.to_string(),
            };
            return Err(LoadError::Unsupported {
                path: path.to_owned(),
                key: "version".to_owned(),
                found,
                supported: "GGUF versions 2 and 3, little endian".to_owned(),
            });
        }
        let tensor_count = reader.count(SMALLEST_TENSOR, "the number of tensors")?;
        let entry_count = reader.count(SMALLEST_ENTRY, "the number of metadata entries")?;
        let metadata = Metadata::read(&mut reader, entry_count)?;
        let alignment = metadata
            .size("general.alignment")?
            .unwrap_or(DEFAULT_ALIGNMENT);

        let mut tensors = BTreeMap::new();
        for index in 0..tensor_count {
            let name = reader.string(&format!("the name of tensor {index}"))?;
            let tensor = tensor(&mut reader, &name, alignment)?;
            if tensors.insert(name.clone(), tensor).is_some() {
                return Err(reader.damaged(format!("it holds tensor `{name}` twice")));
            }
        }
        let data_start = reader.position().next_multiple_of(alignment as u64);
        for (name, tensor) in &mut tensors {
            tensor.place(data_start).filter(|end| *end <= reader.len()).ok_or_else(|| {
                reader.damaged(format!(
                    "tensor `{name}` of shape {:?} starts at byte {} and ends beyond the {} bytes of the file",
                    tensor.shape,
                    tensor.offset,
                    reader.len(),
                ))
            })?;
        }
        Ok(Self { metadata, tensors })
    }
}

impl TensorInfo {
    /// Counts the offset from the start of the file; returns the end of the tensor. A format that
    /// cannot be read is taken for empty: it is refused later, if the tensor is wanted.
    fn place(&mut self, data_start: u64) -> Option<u64> {
        self.offset = self.offset.checked_add(data_start)?;
        let bytes = match self.encoding {
            Ok(encoding) => encoding.bytes(self.shape.iter().product())?,
            Err(_) => 0,
        };
        self.offset.checked_add(bytes as u64)
    }
}

fn tensor(reader: &mut Reader, name: &str, alignment: usize) -> Result<TensorInfo, LoadError> {
    let what = format!("the entry of tensor `{name}`");
    let dimensions = reader.u32(&what)?;
    if !(1..=MOST_DIMENSIONS).contains(&dimensions) {
        return Err(reader.damaged(format!("tensor `{name}` has {dimensions} dimensions")));
    }
    let mut shape = Vec::new();
    let mut values = 1_usize;
    for _ in 0..dimensions {
        let size = usize::try_from(reader.u64(&what)?).ok();
        let size = size.filter(|size| {
            values
                .checked_mul(*size)
                .is_some_and(|product| product <= 1 << 48)
        });
        let size =
            size.ok_or_else(|| reader.damaged(format!("tensor `{name}` has an impossible size")))?;
        values *= size;
        shape.insert(0, size);
    }
    let encoding = encoding(reader.u32(&what)?);
    if let Ok(encoding) = encoding
        && !shape
            .last()
            .is_some_and(|columns| columns.is_multiple_of(encoding.block_values()))
    {
        return Err(reader.damaged(format!(
            "tensor `{name}` of shape {shape:?} cannot be stored as {encoding:?}, in blocks of {} values",
            encoding.block_values(),
        )));
    }
    let offset = reader.u64(&what)?;
    if !offset.is_multiple_of(alignment as u64) {
        return Err(reader.damaged(format!(
            "tensor `{name}` starts at {offset}, which is no multiple of {alignment}"
        )));
    }
    Ok(TensorInfo {
        shape,
        encoding,
        offset,
    })
}

/// The number format by its number in the file.
fn encoding(number: u32) -> Result<Encoding, String> {
    let unsupported = match number {
        0 => return Ok(Encoding::F32),
        1 => return Ok(Encoding::F16),
        2 => return Ok(Encoding::Q4_0),
        3 => return Ok(Encoding::Q4_1),
        6 => return Ok(Encoding::Q5_0),
        7 => return Ok(Encoding::Q5_1),
        8 => return Ok(Encoding::Q8_0),
        10 => return Ok(Encoding::Q2K),
        11 => return Ok(Encoding::Q3K),
        12 => return Ok(Encoding::Q4K),
        13 => return Ok(Encoding::Q5K),
        14 => return Ok(Encoding::Q6K),
        30 => return Ok(Encoding::Bf16),
        9 => "Q8_1",
        15 => "Q8_K",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        20 => "IQ4_NL",
        21 => "IQ3_S",
        22 => "IQ2_S",
        23 => "IQ4_XS",
        24 => "I8",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        29 => "IQ1_M",
        34 => "TQ1_0",
        35 => "TQ2_0",
        39 => "MXFP4",
        other => return Err(format!("type {other}")),
    };
    Err(unsupported.to_owned())
}
