//! Where the shards of a checkpoint lie.

use crate::error::LoadError;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// In the folder of an experiment: the step of the newest checkpoint.
const LATEST: &str = "latest_checkpointed_iteration.txt";
/// Of the models that are trained together, the policy.
const POLICY: &str = "actor";
/// Configuration and tokenizer, beside the shards.
const IDENTITY: &str = "huggingface";

/// Shards that belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ShardFolder {
    /// By rank, all there.
    pub(crate) files: Vec<PathBuf>,
    /// The folder with configuration and tokenizer.
    pub(crate) identity: PathBuf,
}

/// The shards that `path` stands for, if it stands for any: a folder with shards, that of a step (its
/// `actor/`), or that of an experiment (its newest checkpoint, as its tracker file names it).
pub(crate) fn locate(path: &Path) -> Result<Option<ShardFolder>, LoadError> {
    if let Some(shards) = shards_in(path)? {
        return Ok(Some(shards));
    }
    let tracker = path.join(LATEST);
    let step = match tracker.is_file() {
        true => path.join(format!("global_step_{}", latest_step(&tracker)?)),
        false => path.to_owned(),
    };
    if step != path {
        if !step.is_dir() {
            return Err(LoadError::NotAModel {
                path: step,
                problem: format!(
                    "`{}` names it as the newest checkpoint, but there is no such folder; name another one",
                    tracker.display()
                ),
            });
        }
        if let Some(shards) = shards_in(&step)? {
            return Ok(Some(shards));
        }
    }
    let policy = step.join(POLICY);
    if policy.is_dir()
        && let Some(shards) = shards_in(&policy)?
    {
        return Ok(Some(shards));
    }
    if step != path || policy.is_dir() {
        let folder = if policy.is_dir() { policy } else { step };
        return Err(LoadError::NotAModel {
            path: folder,
            problem: "it has no shard `model_world_size_<n>_rank_<r>.pt`; of other kinds of checkpoints only Hugging Face folders and `.gguf` files can be read".to_owned(),
        });
    }
    Ok(None)
}

fn latest_step(tracker: &Path) -> Result<u64, LoadError> {
    let text = std::fs::read_to_string(tracker).map_err(|source| LoadError::Read {
        path: tracker.to_owned(),
        source,
    })?;
    text.trim().parse().map_err(|_| LoadError::Damaged {
        path: tracker.to_owned(),
        problem: format!(
            "expected the number of a step, found `{}`",
            first_line(&text)
        ),
    })
}

fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or("");
    line.chars().take(40).collect()
}

/// The shards that lie in a folder itself.
fn shards_in(folder: &Path) -> Result<Option<ShardFolder>, LoadError> {
    let mut worlds: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
    let read_error = |source| LoadError::Read {
        path: folder.to_owned(),
        source,
    };
    for entry in std::fs::read_dir(folder).map_err(read_error)? {
        let name = entry.map_err(read_error)?.file_name();
        if let Some((world, rank)) = name.to_str().and_then(parse_name) {
            worlds.entry(world).or_default().insert(rank);
        }
    }
    let not_a_model = |problem: String| LoadError::NotAModel {
        path: folder.to_owned(),
        problem,
    };
    let Some((&world, ranks)) = worlds.first_key_value() else {
        return Ok(None);
    };
    if worlds.len() > 1 {
        let sizes: Vec<String> = worlds.keys().map(ToString::to_string).collect();
        return Err(not_a_model(format!(
            "it has shards of runs with {} processes; move all but one of them away",
            sizes.join(" and ")
        )));
    }
    if let Some(missing) = (0..world).find(|rank| !ranks.contains(rank)) {
        return Err(not_a_model(format!(
            "`model_world_size_{world}_rank_{missing}.pt` is missing, one of {world}; copy it from the machine that wrote it"
        )));
    }
    let identity = [folder.join(IDENTITY), folder.to_owned()]
        .into_iter()
        .find(|folder| folder.join("config.json").is_file())
        .ok_or_else(|| {
            not_a_model(format!(
                "it has shards, but no `{IDENTITY}/config.json` beside them; copy configuration and tokenizer of the model there"
            ))
        })?;
    let file = |rank| folder.join(format!("model_world_size_{world}_rank_{rank}.pt"));
    Ok(Some(ShardFolder {
        files: (0..world).map(file).collect(),
        identity,
    }))
}

/// Number of processes and rank of a shard; `None` for the name of anything else.
fn parse_name(name: &str) -> Option<(usize, usize)> {
    let (world, rank) = name
        .strip_prefix("model_world_size_")?
        .strip_suffix(".pt")?
        .split_once("_rank_")?;
    let (world, rank) = (world.parse().ok()?, rank.parse().ok()?);
    (rank < world).then_some((world, rank))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn touch(path: &Path) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }

    fn checkpoint(step: &Path, world: usize) {
        for rank in 0..world {
            touch(&step.join(format!("actor/model_world_size_{world}_rank_{rank}.pt")));
        }
        touch(&step.join("actor/huggingface/config.json"));
    }

    #[test]
    fn an_experiment_stands_for_its_newest_checkpoint_and_a_step_for_its_policy() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path();
        checkpoint(&path.join("global_step_9"), 2);
        checkpoint(&path.join("global_step_10"), 2);
        touch(&path.join("global_step_10/critic/model_world_size_2_rank_0.pt"));
        assert_eq!(locate(path).unwrap(), None);
        fs::write(path.join(LATEST), "9\n").unwrap();
        let actor = path.join("global_step_9/actor");
        let expected = ShardFolder {
            files: vec![
                actor.join("model_world_size_2_rank_0.pt"),
                actor.join("model_world_size_2_rank_1.pt"),
            ],
            identity: actor.join("huggingface"),
        };
        for start in [path, &path.join("global_step_9"), &actor] {
            assert_eq!(locate(start).unwrap().as_ref(), Some(&expected));
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let refusal = |change: &dyn Fn(&Path)| {
            let place = tempfile::tempdir().unwrap();
            checkpoint(&place.path().join("global_step_3"), 4);
            fs::write(place.path().join(LATEST), "3").unwrap();
            change(place.path());
            locate(place.path()).unwrap_err().to_string()
        };
        let actor = |path: &Path| path.join("global_step_3/actor");
        for (change, expected) in [
            (
                &(|path: &Path| {
                    fs::remove_file(actor(path).join("model_world_size_4_rank_2.pt")).unwrap()
                }) as &dyn Fn(&Path),
                "`model_world_size_4_rank_2.pt` is missing, one of 4",
            ),
            (
                &|path| touch(&actor(path).join("model_world_size_2_rank_0.pt")),
                "runs with 2 and 4 processes",
            ),
            (
                &|path| fs::remove_dir_all(actor(path).join("huggingface")).unwrap(),
                "no `huggingface/config.json`",
            ),
            (
                &|path| fs::write(path.join(LATEST), "7").unwrap(),
                "there is no such folder",
            ),
            (
                &|path| fs::write(path.join(LATEST), "newest").unwrap(),
                "expected the number of a step, found `newest`",
            ),
            (
                &|path| fs::rename(actor(path), path.join("global_step_3/critic")).unwrap(),
                "it has no shard",
            ),
        ] {
            let message = refusal(change);
            assert!(message.contains(expected), "{message}");
        }
    }
}
