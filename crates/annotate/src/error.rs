//! What can stop an annotation.

use std::io;
use std::path::PathBuf;

/// Why an annotation could not be begun or finished.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AnnotateError {
    /// A problem file, or a file of results.
    #[error(transparent)]
    Data(#[from] seele_data::DataError),
    /// A setting outside its range.
    #[error("`{setting}` must be {expected}")]
    Setting {
        /// The setting.
        setting: &'static str,
        /// What it may be.
        expected: &'static str,
    },
    /// A file cannot be read or written.
    #[error("cannot use `{}`: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// Another process is at work in the folder.
    #[error("`{}` is in use by another process; wait for it, or choose another folder", path.display())]
    InUse {
        /// The journal.
        path: PathBuf,
    },
    /// The journal holds something else than it should.
    #[error("`{}`, line {line}: {reason}; choose another folder, or remove it to ask for everything again", path.display())]
    BrokenJournal {
        /// The journal.
        path: PathBuf,
        /// One-based line.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// The journal was begun with other settings.
    #[error("`{}` was begun with other settings ({}); choose another folder, or remove it", path.display(), differences.join(", "))]
    OtherSettings {
        /// The journal.
        path: PathBuf,
        /// Settings that differ, with both values.
        differences: Vec<String>,
    },
    /// The server cannot be asked.
    #[error(transparent)]
    Client(#[from] seele_client::ClientError),
}
