//! Which checkpoints stay.

use super::write::{beside, failed, remove_folder, rename};
use super::{CheckpointError, CheckpointName};
use crate::recipe::SaveConfig;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

/// Names of the checkpoints in a folder, in order; what has another name is none.
pub(super) fn names(checkpoints: &Path) -> Result<Vec<CheckpointName>, CheckpointError> {
    let read = |source| CheckpointError::Read {
        path: checkpoints.into(),
        source,
    };
    let entries = match fs::read_dir(checkpoints) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(read(source)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(read)?.file_name();
        names.extend(name.to_str().and_then(CheckpointName::parse));
    }
    names.sort_unstable();
    Ok(names)
}

/// Those of `names` that the settings keep: the last `keep_last`, every `keep_every`-th step, and the best.
fn kept(
    names: &[CheckpointName],
    settings: &SaveConfig,
    best: Option<usize>,
) -> BTreeSet<CheckpointName> {
    let last = names.len().saturating_sub(settings.keep_last);
    let mut kept: BTreeSet<_> = names[last..].iter().copied().collect();
    kept.extend(names.iter().filter(|name| match name {
        CheckpointName::Supervised(_) => false,
        CheckpointName::Step(step) => {
            let every = |every| *step > 0 && step.is_multiple_of(every);
            settings.keep_every.is_some_and(every) || best == Some(*step)
        }
    }));
    kept
}

/// Removes the checkpoints that the settings do not keep.
pub(super) fn prune(
    checkpoints: &Path,
    settings: &SaveConfig,
    best: Option<usize>,
) -> Result<(), CheckpointError> {
    let names = names(checkpoints)?;
    let kept = kept(&names, settings, best);
    for name in names.iter().filter(|name| !kept.contains(name)) {
        let folder = checkpoints.join(name.to_string());
        // Out of sight at once: half a removed checkpoint must not look like one.
        let removed = beside(&folder, "removed");
        remove_folder(&removed)?;
        rename(&folder, &removed)?;
        remove_folder(&removed)?;
    }
    Ok(())
}

/// Removes what a killed process left half-written or half-removed.
pub(crate) fn clear_leftovers(checkpoints: &Path) -> Result<(), CheckpointError> {
    let Ok(entries) = fs::read_dir(checkpoints) else {
        return Ok(());
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') && (name.contains(".partial") || name.ends_with(".removed")) {
            let path = entry.path();
            let removed = match path.is_dir() {
                true => fs::remove_dir_all(&path),
                false => fs::remove_file(&path),
            };
            removed.map_err(|source| failed(&path, source))?;
        }
    }
    Ok(())
}

/// Takes checkpoints after `from` out of the way of a run that goes on from there, as
/// `superseded_<name>`; returns how many.
pub(crate) fn set_later_aside(
    checkpoints: &Path,
    from: CheckpointName,
) -> Result<usize, CheckpointError> {
    let names = names(checkpoints)?;
    let later: Vec<_> = names.into_iter().filter(|name| *name > from).collect();
    for name in &later {
        let aside = checkpoints.join(format!("superseded_{name}"));
        remove_folder(&aside)?;
        rename(&checkpoints.join(name.to_string()), &aside)?;
    }
    Ok(later.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use CheckpointName::{Step, Supervised};

    fn settings(keep_last: usize, keep_every: Option<usize>) -> SaveConfig {
        SaveConfig {
            keep_last,
            keep_every,
            ..SaveConfig::default()
        }
    }

    #[test]
    fn the_last_ones_every_so_many_and_the_best_stay() {
        let names: Vec<_> = std::iter::once(Supervised(5))
            .chain((0..=9).map(Step))
            .collect();
        let kept = |last, every, best| -> Vec<CheckpointName> {
            super::kept(&names, &settings(last, every), best)
                .into_iter()
                .collect()
        };
        assert_eq!(kept(2, None, None), [Step(8), Step(9)]);
        assert_eq!(kept(1, Some(4), None), [Step(4), Step(8), Step(9)]);
        assert_eq!(kept(1, None, Some(3)), [Step(3), Step(9)]);
        assert_eq!(kept(100, None, None).len(), 11);
    }

    #[test]
    fn pruning_leaves_what_is_no_checkpoint_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        for name in [
            "step_1",
            "step_2",
            "notes",
            ".step_3.partial",
            "superseded_step_9",
        ] {
            fs::create_dir(path.join(name)).unwrap();
            fs::write(path.join(name).join("file"), "x").unwrap();
        }
        prune(path, &settings(1, None), None).unwrap();
        let there = |name: &str| path.join(name).exists();
        assert!(!there("step_1") && there("step_2") && there("notes"));
        assert!(there("superseded_step_9") && there(".step_3.partial"));
        clear_leftovers(path).unwrap();
        assert!(!there(".step_3.partial") && there("step_2"));
    }

    #[test]
    fn later_checkpoints_are_set_aside_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        for name in [
            "sft_step_4",
            "step_2",
            "step_4",
            "step_6",
            "superseded_step_6",
        ] {
            fs::create_dir(path.join(name)).unwrap();
        }
        fs::write(path.join("step_6/file"), "x").unwrap();
        assert_eq!(set_later_aside(path, Step(2)).unwrap(), 2);
        assert_eq!(names(path).unwrap(), [Supervised(4), Step(2)]);
        assert!(path.join("superseded_step_6/file").exists());
        assert!(path.join("superseded_step_4").exists());
    }
}
