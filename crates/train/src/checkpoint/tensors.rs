//! Float32 buffers as safetensors files, by tensor name.

use super::CheckpointError;
use safetensors::{Dtype, SafeTensors};
use seele_policy::parameters::Layout;
use serde_json::{Map, Value, json};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Writes `values` (`[layout.len()]`) as one tensor for each of the layout, and waits until it is on disk.
pub(crate) fn write_tensors(
    path: &Path,
    layout: &Layout,
    values: &[f32],
) -> Result<(), CheckpointError> {
    let mut header = Map::new();
    for spec in layout.tensors() {
        let range = spec.range();
        let entry = json!({"dtype": "F32", "shape": spec.shape, "data_offsets": [4 * range.start, 4 * range.end]});
        header.insert(spec.name.clone(), entry);
    }
    let header = Value::Object(header).to_string();
    // Spaces to a multiple of eight keep the numbers aligned.
    let header_bytes = header.len().next_multiple_of(8);
    let write = || -> io::Result<()> {
        let mut out = BufWriter::with_capacity(1 << 17, File::create(path)?);
        out.write_all(&(header_bytes as u64).to_le_bytes())?;
        write!(out, "{header:header_bytes$}")?;
        for value in values {
            out.write_all(&value.to_le_bytes())?;
        }
        out.into_inner()?.sync_all()
    };
    write().map_err(|source| CheckpointError::Write {
        path: path.into(),
        source,
    })
}

/// Reads a file of [`write_tensors`]; `[layout.len()]`.
pub(crate) fn read_tensors(path: &Path, layout: &Layout) -> Result<Vec<f32>, CheckpointError> {
    let bytes = fs::read(path).map_err(|source| CheckpointError::Read {
        path: path.into(),
        source,
    })?;
    let content = |problem: String| CheckpointError::Content {
        path: path.into(),
        problem,
    };
    let tensors = SafeTensors::deserialize(&bytes).map_err(|error| content(error.to_string()))?;
    let mut values = vec![0.0; layout.len()];
    for spec in layout.tensors() {
        let tensor = tensors
            .tensor(&spec.name)
            .map_err(|_| content(format!("tensor `{}` is missing", spec.name)))?;
        if tensor.dtype() != Dtype::F32 || tensor.shape() != spec.shape {
            return Err(content(format!(
                "tensor `{}` is {:?} {:?}, expected F32 {:?}",
                spec.name,
                tensor.dtype(),
                tensor.shape(),
                spec.shape
            )));
        }
        let numbers = tensor.data().as_chunks::<4>().0;
        for (value, bytes) in values[spec.range()].iter_mut().zip(numbers) {
            *value = f32::from_le_bytes(*bytes);
        }
    }
    Ok(values)
}
