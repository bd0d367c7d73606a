//! What can be wrong with writing a checkpoint or going on from one.

use seele_policy::error::{LoadError, SaveError};
use std::io;
use std::path::PathBuf;

/// A checkpoint that cannot be written or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The operating system refused to write; earlier checkpoints are as they were.
    #[error("cannot write checkpoint file `{}`: {source}; earlier checkpoints are intact, go on with `--resume` once this is solved", path.display())]
    Write {
        /// File or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The model of a checkpoint cannot be written.
    #[error(
        "cannot write the model of a checkpoint: {0}; earlier checkpoints are intact, go on with `--resume` once this is solved"
    )]
    Model(#[from] SaveError),
    /// The operating system refused to read.
    #[error("cannot read `{}`: {source}", path.display())]
    Read {
        /// File or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is neither a run nor a checkpoint.
    #[error("there is no folder `{}`; name that of a run or of one of its checkpoints", folder.display())]
    NoFolder {
        /// What was looked for.
        folder: PathBuf,
    },
    /// There is nothing to go on from.
    #[error("`{}` holds no complete checkpoint; start the run anew without `--resume`", folder.display())]
    None {
        /// The folder that was looked into.
        folder: PathBuf,
    },
    /// A folder without the mark of completeness.
    #[error("`{}` is not a complete checkpoint: it has no `trainer/manifest.json`; name another one", folder.display())]
    Incomplete {
        /// The folder.
        folder: PathBuf,
    },
    /// Written by another version of the format.
    #[error("checkpoint `{}` has format {found}, this program reads format {expected}; use the version that wrote it", folder.display())]
    Format {
        /// The checkpoint.
        folder: PathBuf,
        /// Its format.
        found: u64,
        /// Ours.
        expected: u64,
    },
    /// A file of the manifest is not there.
    #[error("checkpoint file `{}` is missing; use another checkpoint", path.display())]
    MissingFile {
        /// The file.
        path: PathBuf,
    },
    /// A file has another size than the manifest says.
    #[error("checkpoint file `{}` has {found} bytes instead of {expected}: it was cut off or replaced; use another checkpoint", path.display())]
    Size {
        /// The file.
        path: PathBuf,
        /// Bytes in the manifest.
        expected: u64,
        /// Bytes on disk.
        found: u64,
    },
    /// A file has other content than the manifest says.
    #[error("checkpoint file `{}` does not have the SHA-256 of the manifest: it is damaged; use another checkpoint", path.display())]
    Checksum {
        /// The file.
        path: PathBuf,
    },
    /// A file of ours does not say what it should.
    #[error("checkpoint file `{}`: {problem}; use another checkpoint", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The weights cannot be loaded.
    #[error("cannot load weights: {0}")]
    Load(#[from] LoadError),
    /// Made with another model, tokenizer or data.
    #[error("checkpoint `{}` was made with {what}; go on with what it was made with, or start a new run", folder.display())]
    OtherRun {
        /// The checkpoint.
        folder: PathBuf,
        /// What differs, with both values where they are short.
        what: String,
    },
    /// The run is over.
    #[error("nothing to do: checkpoint `{}` is after step {step}, the last one; raise `steps` (`--set steps=... --allow-change steps`), or `eval.stop_at` if that ended the run, to go on", folder.display())]
    NothingToDo {
        /// The checkpoint.
        folder: PathBuf,
        /// Its step.
        step: usize,
    },
}

impl CheckpointError {
    /// Whether the checkpoint cannot be used as it is, rather than the disk written: nothing was started.
    pub fn is_unusable(&self) -> bool {
        !matches!(self, Self::Write { .. } | Self::Model(_))
    }
}
