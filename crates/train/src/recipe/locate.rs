//! Names in a recipe that stand for something elsewhere: a run, a repository on a hub.
//!
//! This crate reads files. Whoever loads a recipe brings what it names to this machine and says where it
//! lies; the recipe keeps the name, so that it says the same on another machine.

use super::plan::{DataPlan, ModelSource, ProblemSource, Recipe};
use std::path::{Path, PathBuf};

/// What a path of a recipe is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A model.
    Model,
    /// A file or folder of problems.
    Problems,
}

/// Where something lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// What the recipe calls it from now on.
    pub name: PathBuf,
    /// The file or folder on this machine.
    pub path: PathBuf,
}

/// Whether a path is the name of something that is not on this machine: an address with a scheme.
pub(super) fn is_elsewhere(path: &Path) -> bool {
    path.to_str().is_some_and(|text| text.contains("://"))
}

impl Recipe {
    /// Asks `locate` for each path, by its key, and puts what it finds in its place; `None` leaves it.
    ///
    /// # Errors
    /// Those of `locate`.
    pub fn locate<E>(
        &mut self,
        mut locate: impl FnMut(&str, Wanted, &Path) -> Result<Option<Located>, E>,
    ) -> Result<(), E> {
        let located = &mut self.located;
        let mut look =
            |key: &str, wanted: Wanted, path: &mut PathBuf, name: &mut Option<PathBuf>| {
                if let Some(found) = locate(key, wanted, path)? {
                    if found.name != found.path {
                        located.insert(found.path.clone(), found.name.clone());
                    }
                    *name = Some(found.name);
                    *path = found.path;
                }
                Ok(())
            };
        if let ModelSource::Path(path) = &mut self.model.source {
            look(
                "model.path",
                Wanted::Model,
                path,
                &mut self.resolved.model.path,
            )?;
        }
        let mut problems =
            |key: &str, data: &mut DataPlan, name: &mut Option<PathBuf>| match &mut data.source {
                ProblemSource::File { path, .. } => look(key, Wanted::Problems, path, name),
                ProblemSource::Arithmetic { .. } => Ok(()),
            };
        problems("data.path", &mut self.data, &mut self.resolved.data.path)?;
        if let (Some(plan), Some(section)) = (&mut self.sft, &mut self.resolved.sft) {
            match &mut section.data {
                Some(section) => problems("sft.data.path", &mut plan.data, &mut section.path)?,
                None => plan.data.source = self.data.source.clone(),
            }
        }
        for (plan, (name, section)) in self
            .eval
            .sets
            .iter_mut()
            .zip(&mut self.resolved.eval.sets.0)
        {
            let key = format!("eval.sets.{name}.path");
            problems(&key, &mut plan.data, &mut section.path)?;
        }
        Ok(())
    }

    /// What a file or folder of the plan is called, if that is another name than its path.
    pub(crate) fn name_of(&self, path: &Path) -> Option<&Path> {
        self.located.get(path).map(PathBuf::as_path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECIPE: &str = r#"
        steps = 1
        model.path = "hf://o/model"
        data.path = "hf://o/rows/train.jsonl"
        eval.sets.own.path = "rows.jsonl"
        eval.sets.far.path = "hf://o/rows/test.jsonl"
        [sft]
        steps = 1
    "#;

    #[test]
    fn what_a_name_stands_for_is_read_and_the_name_is_kept() {
        let mut recipe = Recipe::from_text(RECIPE, "x").unwrap();
        let mut asked = Vec::new();
        let found = recipe.locate(|key, wanted, path| {
            asked.push((key.to_owned(), wanted));
            let name = path.to_str().unwrap_or_default();
            Ok::<_, ()>(name.strip_prefix("hf://o/").map(|rest| Located {
                name: format!("hf://o@7/{rest}").into(),
                path: Path::new("/cache").join(rest),
            }))
        });
        found.unwrap();
        let keys: Vec<&str> = asked.iter().map(|(key, _)| key.as_str()).collect();
        let sets = ["eval.sets.own.path", "eval.sets.far.path"];
        assert_eq!(keys, [&["model.path", "data.path"], &sets[..]].concat());
        assert!(
            asked
                .iter()
                .all(|(key, wanted)| (*wanted == Wanted::Model) == (key == "model.path"))
        );

        let path = |data: &DataPlan| match &data.source {
            ProblemSource::File { path, .. } => path.display().to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!(
            recipe.model.source,
            ModelSource::Path("/cache/model".into())
        );
        assert_eq!(path(&recipe.data), "/cache/rows/train.jsonl");
        assert_eq!(
            path(&recipe.sft.as_ref().unwrap().data),
            "/cache/rows/train.jsonl"
        );
        assert_eq!(path(&recipe.eval.sets[1].data), "/cache/rows/test.jsonl");
        assert!(path(&recipe.eval.sets[0].data).ends_with("rows.jsonl"));
        assert_eq!(
            recipe.name_of(Path::new("/cache/model")),
            Some(Path::new("hf://o@7/model"))
        );

        let text = recipe.to_toml();
        assert!(!text.contains("/cache"), "{text}");
        let again = Recipe::from_text(&text, "x").unwrap();
        assert_eq!(
            again.model.source,
            ModelSource::Path("hf://o@7/model".into())
        );
        assert!(recipe.differences(&again).is_empty());
    }
}
