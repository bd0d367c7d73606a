//! The folder of a run: a new one each time, never over an old one.

use crate::exit::Unusable;
use anyhow::{Context, bail};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Makes the folder of a run: `wanted`, or the first free `runs/<name>-<n>`.
///
/// # Errors
/// If `wanted` exists and is not an empty folder, or a folder cannot be made.
pub(crate) fn create(wanted: Option<&Path>, name: &str) -> anyhow::Result<PathBuf> {
    match wanted {
        Some(path) => {
            check_free(path)?;
            fs::create_dir_all(path)
                .with_context(|| format!("cannot make the run folder `{}`", path.display()))?;
            Ok(path.to_path_buf())
        }
        None => create_numbered(Path::new("runs"), name),
    }
}

/// Refuses a path that holds anything.
///
/// # Errors
/// [`Unusable`] if `path` is a file or a folder with something in it; or it cannot be read.
pub(crate) fn check_free(path: &Path) -> anyhow::Result<()> {
    match fs::read_dir(path) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(Unusable(format!("the folder `{}` is not empty and nothing is ever written over; choose another `--out` or remove it", path.display())).into()),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotADirectory => {
            Err(Unusable(format!("`{}` is a file; `--out` wants a folder that is new or empty", path.display())).into())
        }
        Err(error) => Err(error).with_context(|| format!("cannot look into `{}`", path.display())),
    }
}

/// The run folder `runs/<name>-<n>` with the highest number.
///
/// # Errors
/// [`Unusable`] if there is none.
pub(crate) fn newest(name: &str) -> anyhow::Result<PathBuf> {
    newest_in(Path::new("runs"), name)
}

/// As [`newest`], among the runs in `parent`.
///
/// # Errors
/// [`Unusable`] if there is none.
pub(crate) fn newest_in(parent: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let number = |folder: &str| -> Option<u32> {
        let digits = folder.strip_prefix(name)?.strip_prefix('-')?;
        digits.parse().ok()
    };
    let numbers = fs::read_dir(parent)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| number(entry.file_name().to_str()?));
    match numbers.max() {
        Some(number) => Ok(parent.join(format!("{name}-{number}"))),
        None => Err(Unusable(format!(
            "there is no run `{}` to go on with; name its folder: `--resume <folder>`",
            parent.join(format!("{name}-<n>")).display()
        ))
        .into()),
    }
}

fn create_numbered(parent: &Path, name: &str) -> anyhow::Result<PathBuf> {
    fs::create_dir_all(parent)
        .with_context(|| format!("cannot make the folder `{}`", parent.display()))?;
    for number in 1u32.. {
        let path = parent.join(format!("{name}-{number}"));
        match fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("cannot make the run folder `{}`", path.display()));
            }
        }
    }
    bail!(
        "no free run folder `{}`",
        parent.join(format!("{name}-<n>")).display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbered_folders_are_never_taken_twice() {
        let folder = tempfile::tempdir().unwrap();
        let first = create_numbered(folder.path(), "quickstart").unwrap();
        let second = create_numbered(folder.path(), "quickstart").unwrap();
        assert!(first.ends_with("quickstart-1") && second.ends_with("quickstart-2"));
        fs::create_dir(folder.path().join("quickstart-1-x")).unwrap();
        assert_eq!(newest_in(folder.path(), "quickstart").unwrap(), second);
        let message = newest_in(folder.path(), "other").unwrap_err().to_string();
        assert!(message.contains("other-<n>"), "{message}");
    }

    #[test]
    fn a_folder_with_something_in_it_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        assert_eq!(create(Some(&out), "x").unwrap(), out);
        assert_eq!(create(Some(&out), "x").unwrap(), out);
        fs::write(out.join("recipe.toml"), "").unwrap();
        let message = create(Some(&out), "x").unwrap_err().to_string();
        assert!(
            message.contains("is not empty") && message.contains("--out"),
            "{message}"
        );
        let message = create(Some(&out.join("recipe.toml")), "x")
            .unwrap_err()
            .to_string();
        assert!(message.contains("is a file"), "{message}");
    }
}
