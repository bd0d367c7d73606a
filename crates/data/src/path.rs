//! Dotted paths into a row: `reward_model.ground_truth`, `prompt.-1.content`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A way to a value inside a row: field names and list positions, separated by dots. A negative
/// position counts from the end of the list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FieldPath(Vec<String>);

/// A text that is no [`FieldPath`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a field path; write names and list positions with single dots between them, as in `reward_model.ground_truth` or `prompt.-1.content`"
)]
pub struct FieldPathError(String);

impl FromStr for FieldPath {
    type Err = FieldPathError;

    fn from_str(path: &str) -> Result<Self, FieldPathError> {
        let parts: Vec<String> = path.split('.').map(str::to_owned).collect();
        if parts.iter().any(String::is_empty) {
            return Err(FieldPathError(path.to_owned()));
        }
        Ok(Self(parts))
    }
}

impl TryFrom<String> for FieldPath {
    type Error = FieldPathError;

    fn try_from(path: String) -> Result<Self, FieldPathError> {
        path.parse()
    }
}

impl From<FieldPath> for String {
    fn from(path: FieldPath) -> Self {
        path.to_string()
    }
}

impl FieldPath {
    /// The field of the row itself, if the path goes no deeper.
    pub(crate) fn top_level(&self) -> Option<&str> {
        match self.0.as_slice() {
            [field] => Some(field),
            _ => None,
        }
    }

    /// The value, if the whole way is there. A field whose own name is the dotted path (as flattened
    /// tables have) is found too.
    pub fn find<'a>(&self, row: &'a Map<String, Value>) -> Option<&'a Value> {
        let (first, rest) = self.0.split_first()?;
        let nested = row.get(first).and_then(|start| {
            rest.iter().try_fold(start, |value, part| match value {
                Value::Object(fields) => fields.get(part),
                Value::Array(items) => {
                    let position: i64 = part.parse().ok()?;
                    let from_start = if position < 0 {
                        items.len() as i64 + position
                    } else {
                        position
                    };
                    items.get(usize::try_from(from_start).ok()?)
                }
                _ => None,
            })
        });
        nested.or_else(|| row.get(&self.to_string()))
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_reach_into_objects_and_lists() {
        let Value::Object(row) = json!({
            "prompt": [{"content": "a"}, {"content": "b"}], "x.y": 5, "n": {"m": null}
        }) else {
            unreachable!()
        };
        let find = |path: &str| path.parse::<FieldPath>().unwrap().find(&row).cloned();
        assert_eq!(find("prompt.-1.content"), Some(json!("b")));
        assert_eq!(find("prompt.0.content"), Some(json!("a")));
        assert_eq!(find("prompt.-3.content"), None);
        assert_eq!(find("x.y"), Some(json!(5)));
        assert_eq!(find("n.m"), Some(Value::Null));
        assert!("a..b".parse::<FieldPath>().is_err());
    }
}
