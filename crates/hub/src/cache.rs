//! The cache of `huggingface_hub`, by the layout that `hf-hub` knows: blobs by their etag, and for each
//! commit a folder with links to them.

use crate::error::HubError;
use crate::place::{HubPath, Kind};
use hf_hub::{Cache, CacheRepo, Repo, RepoType};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A repository in the cache.
pub(crate) struct Repository {
    repo: CacheRepo,
    folder: PathBuf,
    locks: PathBuf,
    revision: String,
}

impl Repository {
    pub(crate) fn new(cache: &Path, place: &HubPath) -> Self {
        let kind = match place.kind {
            Kind::Model => RepoType::Model,
            Kind::DataSet => RepoType::Dataset,
        };
        let revision = place.revision_or_main().to_owned();
        let repo = Repo::with_revision(place.repository.clone(), kind, revision.clone());
        let name = repo.folder_name();
        Self {
            folder: cache.join(&name),
            locks: cache.join(".locks").join(name),
            repo: Cache::new(cache.to_path_buf()).repo(repo),
            revision,
        }
    }

    /// The commit that the revision was when it was last asked for, or is.
    pub(crate) fn commit(&self) -> Option<String> {
        let named = fs::read_to_string(self.folder.join("refs").join(&self.revision));
        let commit = named.map_or_else(|_| self.revision.clone(), |text| text.trim().to_owned());
        (is_commit(&commit) && self.snapshot(&commit).is_dir()).then_some(commit)
    }

    /// Takes down what the revision is now.
    pub(crate) fn remember(&self, commit: &str) -> Result<(), HubError> {
        if commit == self.revision {
            return Ok(());
        }
        let kept = self.repo.create_ref(commit);
        kept.map_err(|source| failed(&self.folder.join("refs"), source))
    }

    /// Folder of a commit's files.
    pub(crate) fn snapshot(&self, commit: &str) -> PathBuf {
        self.repo.pointer_path(commit)
    }

    /// Where the contents with an etag lie.
    pub(crate) fn blob(&self, etag: &str) -> PathBuf {
        self.folder.join("blobs").join(etag)
    }

    /// The file that Python locks, too, while it fetches these contents.
    pub(crate) fn lock(&self, etag: &str) -> Result<fs::File, HubError> {
        let path = self.locks.join(format!("{etag}.lock"));
        let locked = || {
            fs::create_dir_all(&self.locks)?;
            let mut options = fs::OpenOptions::new();
            let file = options
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)?;
            file.lock()?;
            Ok(file)
        };
        locked().map_err(|source| failed(&path, source))
    }

    /// Puts a blob under its name into a commit's folder.
    pub(crate) fn link(&self, commit: &str, file: &str, etag: &str) -> Result<(), HubError> {
        let path = self.snapshot(commit).join(file);
        let linked = || {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            // A link without its blob is in the way.
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let up = "../".repeat(2 + file.matches('/').count());
            link(&format!("{up}blobs/{etag}"), &self.blob(etag), &path)
        };
        linked().map_err(|source| failed(&path, source))
    }

    /// The files of a commit that are there, by their names in the repository.
    pub(crate) fn files(&self, commit: &str) -> Vec<String> {
        let mut files = Vec::new();
        collect(&self.snapshot(commit), "", &mut files);
        files.sort();
        files
    }
}

#[cfg(unix)]
fn link(relative: &str, _blob: &Path, path: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(relative, path)
}

/// Without leave to make links, a copy stands in for one, as in Python.
#[cfg(not(unix))]
fn link(_relative: &str, blob: &Path, path: &Path) -> io::Result<()> {
    fs::copy(blob, path).map(drop)
}

fn collect(folder: &Path, prefix: &str, files: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let name = format!("{prefix}{}", name.to_string_lossy());
        if path.is_dir() {
            collect(&path, &format!("{name}/"), files);
        } else if path.is_file() {
            files.push(name);
        }
    }
}

/// Whether a text can be the name of a commit, and thus of a folder.
pub(crate) fn is_commit(text: &str) -> bool {
    text.len() >= 7 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

pub(crate) fn failed(path: &Path, source: io::Error) -> HubError {
    HubError::File {
        path: path.to_path_buf(),
        source,
    }
}
