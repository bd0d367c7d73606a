//! What two recipes would do differently.

use super::node::{Node, Origin, Table, Value};
use super::plan::Recipe;
use super::preset::layer_of;
use super::write::value_text;
use std::collections::BTreeMap;
use std::fmt;

/// A setting that differs between two recipes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Dotted key.
    pub key: String,
    /// Value in the first recipe, as TOML; `None` where it has none.
    pub before: Option<String>,
    /// Value in the second.
    pub now: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "absent".into());
        let (before, now) = (text(&self.before), text(&self.now));
        write!(f, "{}: {before} -> {now}", self.key)
    }
}

impl Difference {
    /// Whether it lies at the dotted key, or below it.
    pub fn is_at(&self, key: &str) -> bool {
        let key = key.replace('-', "_");
        self.key
            .strip_prefix(&key)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }
}

impl Recipe {
    /// The settings in which `now` differs from this recipe, by key. The name of the run counts for
    /// nothing: it changes no number.
    pub fn differences(&self, now: &Self) -> Vec<Difference> {
        let (before, now) = (self.settings(), now.settings());
        let keys: std::collections::BTreeSet<_> = before.keys().chain(now.keys()).collect();
        keys.into_iter()
            .filter(|key| before.get(*key) != now.get(*key) && *key != "name")
            .map(|key| Difference {
                key: key.clone(),
                before: before.get(key).cloned(),
                now: now.get(key).cloned(),
            })
            .collect()
    }

    /// Every setting by dotted key, as TOML.
    fn settings(&self) -> BTreeMap<String, String> {
        let mut settings = BTreeMap::new();
        if let Value::Table(table) = layer_of(&self.resolved, &Origin::Default).value {
            flatten(&table, "", &mut settings);
        }
        settings
    }
}

fn flatten(table: &Table, above: &str, settings: &mut BTreeMap<String, String>) {
    for (key, Node { value, .. }) in table.iter() {
        let key = match above {
            "" => key.to_owned(),
            above => format!("{above}.{key}"),
        };
        match value {
            Value::Table(inner) => flatten(inner, &key, settings),
            value => {
                settings.insert(key, value_text(value));
            }
        }
    }
}
