//! The table of contents of a safetensors file, checked against the file's length.

use crate::error::LoadError;
use safetensors::tensor::{Metadata, TensorInfo};
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// A table of contents longer than this is damage; the format's own bound.
const LARGEST_HEADER: u64 = 100_000_000;

/// Tensors of one file.
pub(super) struct Header {
    pub(super) tensors: HashMap<String, TensorInfo>,
    /// First byte of the numbers.
    pub(super) data_start: u64,
}

impl Header {
    /// Reads the table of contents of `path`; the numbers stay on disk.
    pub(super) fn read(path: &Path) -> Result<Self, LoadError> {
        let read_error = |source| LoadError::Read {
            path: path.to_owned(),
            source,
        };
        let damaged = |problem: String| LoadError::Damaged {
            path: path.to_owned(),
            problem,
        };
        let mut file = File::open(path).map_err(read_error)?;
        let file_len = file.metadata().map_err(read_error)?.len();
        if file_len < 8 {
            return Err(damaged(format!(
                "it has {file_len} bytes, too few for a safetensors file"
            )));
        }
        let mut length = [0; 8];
        file.read_exact(&mut length).map_err(read_error)?;
        let header_len = u64::from_le_bytes(length);
        if header_len > LARGEST_HEADER {
            return Err(damaged(format!(
                "its table of contents would have {header_len} bytes; it is no safetensors file"
            )));
        }
        let data_start = 8 + header_len;
        if data_start > file_len {
            return Err(damaged(format!(
                "its table of contents ends at byte {data_start}, but the file has {file_len} bytes"
            )));
        }
        let mut header = vec![0; header_len as usize];
        file.read_exact(&mut header).map_err(read_error)?;
        let metadata: Metadata = serde_json::from_slice(&header)
            .map_err(|error| damaged(format!("its table of contents cannot be read: {error}")))?;
        let data_end = data_start + metadata.data_len() as u64;
        if data_end != file_len {
            return Err(damaged(format!(
                "its tensors end at byte {data_end}, but the file has {file_len} bytes"
            )));
        }
        let tensors = metadata
            .tensors()
            .into_iter()
            .map(|(name, info)| (name, info.clone()))
            .collect();
        Ok(Self {
            tensors,
            data_start,
        })
    }
}
