//! The list of a checkpoint's files, with what it takes to know that they are whole.

use super::{CheckpointError, MANIFEST, TRAINER};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Format of checkpoints; changes when old ones can no longer be read as they are.
pub const FORMAT: u64 = 1;

/// Size and content of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRecord {
    /// Size.
    pub bytes: u64,
    /// SHA-256, lower-case hexadecimal.
    pub sha256: String,
}

/// What a checkpoint consists of. Its presence is the mark of completeness.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`] of the program that wrote it.
    pub format: u64,
    /// Every other file by its path inside the checkpoint, with `/`.
    pub files: BTreeMap<String, FileRecord>,
}

impl Manifest {
    /// Records every file below `folder`.
    pub(super) fn of(folder: &Path) -> Result<Self, CheckpointError> {
        let mut files = BTreeMap::new();
        for path in files_below(folder)? {
            let name = path
                .strip_prefix(folder)
                .unwrap_or(&path)
                .components()
                .map(|part| part.as_os_str().to_string_lossy())
                .collect::<Vec<_>>()
                .join("/");
            files.insert(name, record(&path).map_err(|source| read(&path, source))?);
        }
        Ok(Self {
            format: FORMAT,
            files,
        })
    }

    /// Reads the manifest of a checkpoint and holds every file to it.
    ///
    /// # Errors
    /// [`CheckpointError`] for the first thing that is not as it was written.
    pub fn verify(folder: &Path) -> Result<Self, CheckpointError> {
        Self::verify_content(folder, |_| true)
    }

    /// As [`Self::verify`], but of what only training reads, three quarters of a checkpoint or more, only
    /// the sizes are looked at.
    ///
    /// # Errors
    /// As [`Self::verify`].
    pub fn verify_model(folder: &Path) -> Result<Self, CheckpointError> {
        let of_trainer = Path::new(TRAINER);
        Self::verify_content(folder, |name| !Path::new(name).starts_with(of_trainer))
    }

    /// Checks the sizes of all files, and the content of those that `reads` names.
    fn verify_content(
        folder: &Path,
        reads: impl Fn(&str) -> bool,
    ) -> Result<Self, CheckpointError> {
        let path = folder.join(MANIFEST);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(CheckpointError::Incomplete {
                    folder: folder.into(),
                });
            }
            Err(source) => return Err(read(&path, source)),
        };
        let unreadable = |error: serde_json::Error| CheckpointError::Content {
            path: path.clone(),
            problem: format!("not a manifest: {error}"),
        };
        // The format first: another one may have other fields.
        let json: serde_json::Value = serde_json::from_str(&text).map_err(unreadable)?;
        let found = json["format"].as_u64().unwrap_or(0);
        if found != FORMAT {
            return Err(CheckpointError::Format {
                folder: folder.into(),
                found,
                expected: FORMAT,
            });
        }
        let manifest: Self = serde_json::from_value(json).map_err(unreadable)?;
        // Sizes cost nothing, so a file that was cut is named before the first is read whole.
        for (name, expected) in &manifest.files {
            let path = folder.join(name);
            match path.metadata() {
                Ok(metadata) if metadata.len() == expected.bytes => {}
                Ok(metadata) => {
                    return Err(CheckpointError::Size {
                        path,
                        expected: expected.bytes,
                        found: metadata.len(),
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Err(CheckpointError::MissingFile { path });
                }
                Err(source) => return Err(read(&path, source)),
            }
        }
        for (name, expected) in manifest.files.iter().filter(|(name, _)| reads(name)) {
            let path = folder.join(name);
            let found = record(&path).map_err(|source| read(&path, source))?;
            if found != *expected {
                return Err(CheckpointError::Checksum { path });
            }
        }
        Ok(manifest)
    }
}

fn read(path: &Path, source: io::Error) -> CheckpointError {
    CheckpointError::Read {
        path: path.into(),
        source,
    }
}

fn files_below(folder: &Path) -> Result<Vec<PathBuf>, CheckpointError> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).map_err(|source| read(&folder, source))? {
            let path = entry.map_err(|source| read(&folder, source))?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path);
            }
        }
    }
    Ok(files)
}

fn record(path: &Path) -> io::Result<FileRecord> {
    let mut file = File::open(path)?;
    let (mut hash, mut bytes) = (Sha256::new(), 0);
    let mut buffer = vec![0; 1 << 17];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            count => {
                hash.update(&buffer[..count]);
                bytes += count as u64;
            }
        }
    }
    Ok(FileRecord {
        bytes,
        sha256: hexadecimal(&hash.finalize()),
    })
}

/// Lower-case digits, two a byte.
pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn checkpoint() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("trainer")).unwrap();
        fs::write(folder.path().join("config.json"), "{}").unwrap();
        fs::write(folder.path().join("trainer/state.json"), "abc").unwrap();
        let manifest = Manifest::of(folder.path()).unwrap();
        fs::write(
            folder.path().join(MANIFEST),
            serde_json::to_string(&manifest).unwrap(),
        )
        .unwrap();
        folder
    }

    #[test]
    fn an_untouched_checkpoint_is_whole_and_its_digests_are_sha_256() {
        let folder = checkpoint();
        let manifest = Manifest::verify(folder.path()).unwrap();
        assert_eq!(
            manifest.files["trainer/state.json"],
            FileRecord {
                bytes: 3,
                sha256: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad".into(),
            }
        );
        assert_eq!(manifest.files.len(), 2);
    }

    #[test]
    fn who_only_reads_the_model_does_not_read_the_rest() {
        let folder = checkpoint();
        fs::write(folder.path().join("trainer/state.json"), "xyz").unwrap();
        assert!(Manifest::verify_model(folder.path()).is_ok());
        fs::write(folder.path().join("config.json"), "[]").unwrap();
        let message = Manifest::verify_model(folder.path())
            .unwrap_err()
            .to_string();
        assert!(message.contains("config.json` does not have"), "{message}");
    }

    #[test]
    fn every_kind_of_damage_is_named() {
        type Damage = fn(&Path);
        let cases: [(Damage, &str); 6] = [
            (
                |f| fs::write(f.join("config.json"), "{ }").unwrap(),
                "config.json` has 3 bytes instead of 2",
            ),
            (
                |f| fs::write(f.join("config.json"), "[]").unwrap(),
                "config.json` does not have the SHA-256",
            ),
            (
                |f| fs::remove_file(f.join("trainer/state.json")).unwrap(),
                "trainer/state.json` is missing",
            ),
            (
                |f| fs::remove_file(f.join(MANIFEST)).unwrap(),
                "is not a complete checkpoint",
            ),
            (
                |f| fs::write(f.join(MANIFEST), "{\"format\": 0}").unwrap(),
                "has format 0, this program reads format 1",
            ),
            (
                |f| fs::write(f.join(MANIFEST), "{\"format\": 1, \"fil").unwrap(),
                "not a manifest",
            ),
        ];
        for (damage, expected) in cases {
            let folder = checkpoint();
            damage(folder.path());
            let message = Manifest::verify(folder.path()).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }
}
