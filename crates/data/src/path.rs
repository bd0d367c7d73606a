//! Dotted paths into a row: `reward_model.ground_truth`, `prompt.-1.content`.

use std::fmt;

use serde_json::{Map, Value};

/// A way to a value inside a row: field names and list positions. A negative position counts from
/// the end of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FieldPath(Vec<String>);

impl FieldPath {
    /// `None` if a part is empty.
    pub(crate) fn parse(path: &str) -> Option<Self> {
        let parts: Vec<String> = path.split('.').map(str::to_owned).collect();
        (!parts.iter().any(String::is_empty)).then_some(Self(parts))
    }

    /// The value, if the whole way is there. A field whose own name is the dotted path (as flattened
    /// tables have) is found too.
    pub(crate) fn find<'a>(&self, row: &'a Map<String, Value>) -> Option<&'a Value> {
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
        let find = |path: &str| FieldPath::parse(path).unwrap().find(&row).cloned();
        assert_eq!(find("prompt.-1.content"), Some(json!("b")));
        assert_eq!(find("prompt.0.content"), Some(json!("a")));
        assert_eq!(find("prompt.-3.content"), None);
        assert_eq!(find("x.y"), Some(json!(5)));
        assert_eq!(find("n.m"), Some(Value::Null));
        assert!(FieldPath::parse("a..b").is_none());
    }
}
