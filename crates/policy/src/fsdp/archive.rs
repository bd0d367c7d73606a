//! The zip archive of `torch.save`: a pickle and records of raw numbers, none of them compressed.

use crate::error::LoadError;
use rawzip::{CompressionMethod, RECOMMENDED_BUFFER_SIZE, ZipArchive};
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Bytes of a pickle, at most. One of a model of 1,000 tensors has about 1 MB.
const LARGEST_PICKLE: u64 = 64 << 20;

/// Where a record lies in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) offset: u64,
    pub(super) len: u64,
    pub(super) crc32: u32,
}

/// What an archive consists of. The numbers stay on disk.
#[derive(Debug)]
pub(super) struct Archive {
    records: HashMap<String, Record>,
    /// The description of what the records hold.
    pub(super) pickle: Vec<u8>,
}

impl Archive {
    pub(super) fn open(path: &Path) -> Result<Self, LoadError> {
        let read_error = |source| LoadError::Read {
            path: path.to_owned(),
            source,
        };
        let damaged = |problem: String| LoadError::Damaged {
            path: path.to_owned(),
            problem,
        };
        let no_archive = |error: rawzip::Error| {
            damaged(format!(
                "it is no zip archive as `torch.save` writes it ({error})"
            ))
        };
        let file = File::open(path).map_err(read_error)?;
        let file_len = file.metadata().map_err(read_error)?.len();
        let mut buffer = vec![0; RECOMMENDED_BUFFER_SIZE];
        let zip = ZipArchive::from_file(file, &mut buffer).map_err(no_archive)?;
        let mut records = HashMap::new();
        let (mut pickle, mut order) = (None, None);
        let mut entries = zip.entries(&mut buffer);
        while let Some(header) = entries.next_entry().map_err(no_archive)? {
            // Every name begins with a folder that is called as the file was.
            let path = String::from_utf8_lossy(header.file_path().as_bytes()).into_owned();
            let Some((_, name)) = path.split_once('/') else {
                continue;
            };
            if header.compression_method() != CompressionMethod::STORE {
                return Err(damaged(format!("record `{name}` is compressed")));
            }
            let crc32 = header.crc32();
            let entry = zip
                .get_entry(header.wayfinder())
                .map_err(|error| damaged(format!("record `{name}` cannot be found: {error}")))?;
            let (offset, end) = entry.compressed_data_range();
            if end > file_len || end < offset {
                return Err(damaged(format!(
                    "record `{name}` would end past the {file_len} bytes of the file"
                )));
            }
            let len = end - offset;
            let record = Record { offset, len, crc32 };
            match name {
                "data.pkl" | "byteorder" => {
                    if len > LARGEST_PICKLE {
                        return Err(damaged(format!(
                            "its `{name}` has {len} bytes, more than any checkpoint needs"
                        )));
                    }
                    let mut bytes = Vec::new();
                    let mut reader = entry.reader();
                    reader.read_to_end(&mut bytes).map_err(read_error)?;
                    if rawzip::crc32(&bytes) != crc32 {
                        return Err(damaged(format!("`{name}` does not have its CRC-32")));
                    }
                    match name {
                        "data.pkl" => pickle = Some(bytes),
                        _ => order = Some(bytes),
                    }
                }
                _ => {
                    if let Some(key) = name.strip_prefix("data/") {
                        records.insert(key.to_owned(), record);
                    }
                }
            }
        }
        if order.is_some_and(|order| order != b"little") {
            return Err(damaged(
                "its numbers are big-endian, which is not supported".to_owned(),
            ));
        }
        let pickle = pickle.ok_or_else(|| {
            damaged("it has no `data.pkl`, so it is not of `torch.save`".to_owned())
        })?;
        Ok(Self { records, pickle })
    }

    /// The record of a storage.
    pub(super) fn record(&self, key: &str) -> Option<Record> {
        self.records.get(key).copied()
    }
}
