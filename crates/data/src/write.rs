//! Files of problems in our own schema, whole or absent.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::error::DataError;
use crate::problem::Problem;

/// Writes problems as JSON lines, in gzip if the name ends in `.gz`.
///
/// The rows go to a file beside the wanted one, which takes its name in [`finish`](Self::finish);
/// without that call nothing stays.
pub struct ProblemWriter {
    path: PathBuf,
    partial: PathBuf,
    /// `None` only while finishing.
    sink: Option<Sink>,
    rows: u64,
}

enum Sink {
    Plain(BufWriter<File>),
    Gzip(GzEncoder<BufWriter<File>>),
}

impl Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(file) => file.write_all(bytes),
            Self::Gzip(file) => file.write_all(bytes),
        }
    }

    /// Everything is on the disk when this returns.
    fn close(self) -> io::Result<()> {
        let buffer = match self {
            Self::Plain(file) => file,
            Self::Gzip(file) => file.finish()?,
        };
        buffer
            .into_inner()
            .map_err(|error| error.into_error())?
            .sync_all()
    }
}

impl ProblemWriter {
    /// Begins a file named `*.jsonl` or `*.jsonl.gz`.
    ///
    /// # Errors
    /// [`DataError::OutputFormat`] for another name, [`DataError::Exists`] unless `overwrite`,
    /// [`DataError::Write`].
    pub fn create(path: impl AsRef<Path>, overwrite: bool) -> Result<Self, DataError> {
        let path = path.as_ref().to_path_buf();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let gzip = name.ends_with(".jsonl.gz");
        if !gzip && !name.ends_with(".jsonl") {
            return Err(DataError::OutputFormat { path });
        }
        if path.exists() && !overwrite {
            return Err(DataError::Exists { path });
        }
        let partial = path.with_file_name(format!(".{name}.{}.partial", std::process::id()));
        let file = File::create(&partial).map_err(|source| DataError::Write {
            path: path.clone(),
            source,
        })?;
        let file = BufWriter::new(file);
        let sink = if gzip {
            Sink::Gzip(GzEncoder::new(file, Compression::default()))
        } else {
            Sink::Plain(file)
        };
        Ok(Self {
            path,
            partial,
            sink: Some(sink),
            rows: 0,
        })
    }

    /// Writes one problem.
    ///
    /// # Errors
    /// [`DataError::Write`].
    pub fn write(&mut self, problem: &Problem) -> Result<(), DataError> {
        let mut line = serde_json::Value::Object(problem.to_row()).to_string();
        line.push('\n');
        let written = match &mut self.sink {
            Some(sink) => sink.write(line.as_bytes()),
            None => Ok(()),
        };
        self.rows += 1;
        written.map_err(|source| self.failed(source))
    }

    /// Gives the file its name and returns the number of rows.
    ///
    /// # Errors
    /// [`DataError::Write`]; nothing stays then either.
    pub fn finish(mut self) -> Result<u64, DataError> {
        let closed = self.sink.take().map_or(Ok(()), Sink::close);
        closed
            .and_then(|()| std::fs::rename(&self.partial, &self.path))
            .map_err(|source| self.failed(source))?;
        Ok(self.rows)
    }

    fn failed(&self, source: io::Error) -> DataError {
        DataError::Write {
            path: self.path.clone(),
            source,
        }
    }
}

impl Drop for ProblemWriter {
    fn drop(&mut self) {
        drop(self.sink.take());
        // After `finish` it is gone already; otherwise there is no one to report a failure to.
        let _ = std::fs::remove_file(&self.partial);
    }
}
