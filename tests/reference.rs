//! Where reference data of tests lies. A test that finds none says so and passes; but a folder that somebody
//! names is there, or the test fails: a slip in the name must not pass for a check.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The file of that name among the reference vectors: in the folder `SEELE_GOLDEN`, by default beside the
/// workspace.
///
/// # Panics
/// If `SEELE_GOLDEN` is set and holds no such file.
#[allow(dead_code, reason = "each test binary uses its own part")]
pub(crate) fn golden(file: &str) -> Option<PathBuf> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/golden");
    find("SEELE_GOLDEN", beside, file)
}

/// The file of that name among the data sets: in the folder `SEELE_DATA`, by default beside the workspace.
///
/// # Panics
/// If `SEELE_DATA` is set and holds no such file.
#[allow(dead_code, reason = "each test binary uses its own part")]
pub(crate) fn data(file: &str) -> Option<PathBuf> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data");
    find("SEELE_DATA", beside, file)
}

fn find(variable: &str, beside: &str, file: &str) -> Option<PathBuf> {
    let found = place(std::env::var_os(variable), Path::new(beside), file);
    match found {
        Ok(Some(path)) => Some(path),
        Ok(None) => {
            eprintln!("skipped: no `{file}` in `{beside}`; name its folder in {variable}");
            None
        }
        Err(path) => panic!(
            "{variable} is set, but there is no `{}`; give the whole path, for tests run in the folder of their crate",
            path.display()
        ),
    }
}

/// The file in the folder that was named, or else beside; an error if it is not in the one that was named.
fn place(named: Option<OsString>, beside: &Path, file: &str) -> Result<Option<PathBuf>, PathBuf> {
    match named {
        Some(folder) => {
            let path = Path::new(&folder).join(file);
            if path.exists() {
                Ok(Some(path))
            } else {
                Err(path)
            }
        }
        None => Ok(Some(beside.join(file)).filter(|path| path.exists())),
    }
}

#[test]
fn a_folder_that_was_named_is_there_or_an_error() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (file, nowhere) = ("Cargo.toml", Path::new("no such folder"));
    let named = |folder: &Path| Some(folder.into());
    assert_eq!(place(named(here), nowhere, file), Ok(Some(here.join(file))));
    assert_eq!(place(None, here, file), Ok(Some(here.join(file))));
    assert_eq!(place(None, nowhere, file), Ok(None));
    assert_eq!(place(named(nowhere), here, file), Err(nowhere.join(file)));
    assert_eq!(
        place(Some("".into()), here, "no such file"),
        Err("no such file".into())
    );
}
