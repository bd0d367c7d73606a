//! Little-endian numbers and strings from a file whose length is known, never past its end.

use crate::error::LoadError;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

/// A position in the file.
pub(super) struct Reader {
    path: PathBuf,
    file: BufReader<File>,
    position: u64,
    len: u64,
}

impl Reader {
    pub(super) fn open(path: &Path) -> Result<Self, LoadError> {
        let read_error = |source| LoadError::Read {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(read_error)?;
        let len = file.metadata().map_err(read_error)?.len();
        Ok(Self {
            path: path.to_owned(),
            file: BufReader::with_capacity(1 << 16, file),
            position: 0,
            len,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of the whole file.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Bytes read so far.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    pub(super) fn damaged(&self, problem: impl Into<String>) -> LoadError {
        LoadError::Damaged {
            path: self.path.clone(),
            problem: problem.into(),
        }
    }

    /// The next `N` bytes, which are part of `what`.
    pub(super) fn bytes<const N: usize>(&mut self, what: &str) -> Result<[u8; N], LoadError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes, what)?;
        Ok(bytes)
    }

    pub(super) fn u32(&mut self, what: &str) -> Result<u32, LoadError> {
        Ok(u32::from_le_bytes(self.bytes(what)?))
    }

    pub(super) fn u64(&mut self, what: &str) -> Result<u64, LoadError> {
        Ok(u64::from_le_bytes(self.bytes(what)?))
    }

    /// A number of things that each take at least `bytes_each` bytes, so that a wrong number is
    /// noticed before memory is taken for it.
    pub(super) fn count(&mut self, bytes_each: u64, what: &str) -> Result<usize, LoadError> {
        let count = self.u64(what)?;
        let room = (self.len - self.position) / bytes_each;
        if count > room {
            return Err(self.damaged(format!(
                "{what} at byte {} would be {count}, more than the {} bytes that follow can hold",
                self.position - 8,
                self.len - self.position,
            )));
        }
        Ok(count as usize)
    }

    pub(super) fn string(&mut self, what: &str) -> Result<String, LoadError> {
        let start = self.position;
        let mut bytes = vec![0; self.count(1, &format!("the length of {what}"))?];
        self.fill(&mut bytes, what)?;
        String::from_utf8(bytes)
            .map_err(|_| self.damaged(format!("{what} at byte {start} is not UTF-8")))
    }

    fn fill(&mut self, bytes: &mut [u8], what: &str) -> Result<(), LoadError> {
        let remaining = self.len - self.position;
        if bytes.len() as u64 > remaining {
            return Err(self.damaged(format!("it ends at byte {}, inside {what}", self.len)));
        }
        self.file
            .read_exact(bytes)
            .map_err(|source| LoadError::Read {
                path: self.path.clone(),
                source,
            })?;
        self.position += bytes.len() as u64;
        Ok(())
    }
}
