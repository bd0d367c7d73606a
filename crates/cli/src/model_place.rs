//! Where a model lies: a folder or file of its own, a run by its folder or name, or on the hub.

use crate::exit::Unusable;
use crate::hub;
use crate::output::Output;
use crate::run_folder;
use seele_hub::Kind;
use seele_train::checkpoint::{self, CheckpointError};
use std::path::{Component, Path, PathBuf};

/// What `--help` says of a model argument.
pub(crate) const HELP: &str = "Hugging Face folder, GGUF file, a run by folder or name (its last checkpoint), a checkpoint, one that verl sharded, or hf://owner/name[@revision][/file] on the Hugging Face hub";

/// The model that is meant by `given`: itself, or the last checkpoint of the run folder `given`, of
/// `runs/<given>`, or of the newest `runs/<given>-<n>`, or of the experiment `given` of verl; or what
/// lies on the hub by that name, brought to the cache.
///
/// # Errors
/// A checkpoint that is not whole, a run without a whole checkpoint or model, a place on the hub that
/// cannot be had.
pub(crate) fn find(given: &Path, output: &Output) -> anyhow::Result<PathBuf> {
    Ok(find_named(given, output)?.0)
}

/// As [`find`], with what to call it in records: its path, or its name on the hub with the commit.
///
/// # Errors
/// As [`find`].
pub(crate) fn find_named(given: &Path, output: &Output) -> anyhow::Result<(PathBuf, String)> {
    if let Some(fetched) = hub::fetch(Kind::Model, given, output)? {
        return Ok((fetched.path, fetched.pinned.to_string()));
    }
    let path = find_in(Path::new("runs"), given)?;
    let name = path.display().to_string();
    Ok((path, name))
}

fn find_in(runs: &Path, given: &Path) -> anyhow::Result<PathBuf> {
    if given.exists() {
        return model_of(given);
    }
    let mut parts = given.components();
    let (Some(Component::Normal(name)), None) = (parts.next(), parts.next()) else {
        return Ok(given.to_path_buf());
    };
    if checkpoint::is_run(&runs.join(name)) {
        return model_of(&runs.join(name));
    }
    match name.to_str().map(|name| run_folder::newest_in(runs, name)) {
        Some(Ok(run)) => model_of(&run),
        // Neither a path nor a run: the loader's message says what could be given.
        _ => Ok(given.to_path_buf()),
    }
}

fn model_of(path: &Path) -> anyhow::Result<PathBuf> {
    let (found, passed_over) = match checkpoint::find_model(path) {
        Err(CheckpointError::None { .. }) => {
            return Err(Unusable(format!(
                "the run `{}` has neither a checkpoint nor a model yet",
                path.display()
            ))
            .into());
        }
        found => found?,
    };
    for error in &passed_over {
        tracing::warn!("passed over: {error}");
    }
    if found != path {
        tracing::info!("model {}", found.display());
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use seele_train::checkpoint::CHECKPOINTS;
    use seele_train::trainer::MODEL;
    use std::fs;

    #[test]
    fn a_run_is_found_by_folder_name_and_beginning_of_the_name() {
        let folder = tempfile::tempdir().unwrap();
        let runs = folder.path().join("runs");
        for run in ["sums-2", "sums-10", "sums-9"] {
            fs::create_dir_all(runs.join(run).join(MODEL)).unwrap();
        }
        let find = |given: &str| find_in(&runs, Path::new(given)).unwrap();
        assert_eq!(find("sums"), runs.join("sums-10/model"));
        assert_eq!(find("sums-9"), runs.join("sums-9/model"));
        let whole = runs.join("sums-2");
        assert_eq!(find(whole.to_str().unwrap()), runs.join("sums-2/model"));
        // What is no run stays what was given.
        assert_eq!(find("other"), Path::new("other"));
        assert_eq!(find("models/sums"), Path::new("models/sums"));
        let model = whole.join(MODEL);
        assert_eq!(find(model.to_str().unwrap()), model);
        fs::create_dir_all(runs.join("empty-1").join(CHECKPOINTS)).unwrap();
        let message = find_in(&runs, Path::new("empty")).unwrap_err().to_string();
        assert!(
            message.contains("neither a checkpoint nor a model"),
            "{message}"
        );
    }
}
