//! Typed access to the settings of one JSON object, with errors that name file and key.

use crate::error::LoadError;
use serde_json::{Map, Value};
use std::path::Path;

/// Sizes above this are taken for damage rather than for a model.
const LARGEST_SIZE: u64 = 1 << 31;

/// The settings in one file.
pub(crate) struct Keys<'a> {
    path: &'a Path,
    map: Map<String, Value>,
    prefix: &'static str,
}

impl<'a> Keys<'a> {
    /// Parses `text`, which came from `path`.
    pub(crate) fn parse(text: &str, path: &'a Path) -> Result<Self, LoadError> {
        let map = serde_json::from_str(text).map_err(|source| LoadError::Json {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            path,
            map,
            prefix: "",
        })
    }

    /// All settings.
    pub(crate) fn into_map(self) -> Map<String, Value> {
        self.map
    }

    /// The object under `key`; `prefix` (`key.`) goes before the names in its errors.
    pub(crate) fn object(
        &self,
        key: &str,
        prefix: &'static str,
    ) -> Result<Option<Self>, LoadError> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(Self {
                path: self.path,
                map: map.clone(),
                prefix,
            })),
            Some(_) => Err(self.invalid(key, "an object or null")),
        }
    }

    /// The value under `key`; null counts as absent, as in the Python that writes these files.
    pub(crate) fn value(&self, key: &str) -> Option<&Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// Whether the file mentions `key`, be it as null.
    pub(crate) fn mentions(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    /// A count of at least 1.
    pub(crate) fn size(&self, key: &str) -> Result<Option<usize>, LoadError> {
        let Some(value) = self.value(key) else {
            return Ok(None);
        };
        match value.as_u64() {
            Some(size @ 1..=LARGEST_SIZE) => Ok(Some(size as usize)),
            _ => Err(self.invalid(key, "a positive whole number of at most 2^31")),
        }
    }

    /// A count of at least 1 that has no default.
    pub(crate) fn required_size(
        &self,
        key: &str,
        meaning: &'static str,
    ) -> Result<usize, LoadError> {
        self.size(key)?.ok_or_else(|| self.missing(key, meaning))
    }

    /// A finite number above zero.
    pub(crate) fn positive(&self, key: &str) -> Result<Option<f64>, LoadError> {
        let Some(value) = self.value(key) else {
            return Ok(None);
        };
        match value.as_f64() {
            Some(number) if number > 0.0 && number.is_finite() => Ok(Some(number)),
            _ => Err(self.invalid(key, "a number above 0")),
        }
    }

    /// A finite number above zero that has no default.
    pub(crate) fn required_positive(
        &self,
        key: &str,
        meaning: &'static str,
    ) -> Result<f64, LoadError> {
        self.positive(key)?
            .ok_or_else(|| self.missing(key, meaning))
    }

    /// true or false.
    pub(crate) fn flag(&self, key: &str) -> Result<Option<bool>, LoadError> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(self.invalid(key, "true or false")),
        }
    }

    /// A string.
    pub(crate) fn text(&self, key: &str) -> Result<Option<&str>, LoadError> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.invalid(key, "a string")),
        }
    }

    /// One token id or a list of them.
    pub(crate) fn token_ids(&self, key: &str) -> Result<Option<Vec<u32>>, LoadError> {
        let one = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
        let ids = match self.value(key) {
            None => return Ok(None),
            Some(Value::Array(values)) => values.iter().map(one).collect(),
            Some(value) => one(value).map(|id| vec![id]),
        };
        ids.map(Some)
            .ok_or_else(|| self.invalid(key, "a token id or a list of token ids"))
    }

    /// The setting is absent.
    pub(crate) fn missing(&self, key: &str, meaning: &'static str) -> LoadError {
        LoadError::MissingKey {
            path: self.path.to_owned(),
            key: self.named(key),
            meaning,
        }
    }

    /// The setting cannot be right.
    pub(crate) fn invalid(&self, key: &str, expected: impl Into<String>) -> LoadError {
        LoadError::InvalidKey {
            path: self.path.to_owned(),
            key: self.named(key),
            found: self.found(key),
            expected: expected.into(),
        }
    }

    /// The setting asks for something that is not computed here.
    pub(crate) fn unsupported(&self, key: &str, supported: impl Into<String>) -> LoadError {
        LoadError::Unsupported {
            path: self.path.to_owned(),
            key: self.named(key),
            found: self.found(key),
            supported: supported.into(),
        }
    }

    fn named(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// The value as it stands in the file, cut to one readable line.
    fn found(&self, key: &str) -> String {
        let text = self
            .map
            .get(key)
            .map_or_else(|| "absent".to_owned(), Value::to_string);
        match text.char_indices().nth(120) {
            Some((cut, _)) => format!("{}…", &text[..cut]),
            None => text,
        }
    }
}
