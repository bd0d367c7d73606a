//! Parameters of a request, one at a time, so that an error can name the one that is wrong.

use crate::error::ApiError;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::fmt::Display;
use std::ops::RangeBounds;

/// Whether a value of a parameter leaves the text as it would be without it.
pub(crate) type ChangesNothing = fn(&Value) -> bool;

/// The JSON object of a request.
pub(crate) struct Fields(Map<String, Value>);

impl Fields {
    pub(crate) fn parse(body: &[u8]) -> Result<Self, ApiError> {
        match serde_json::from_slice(body) {
            Ok(Value::Object(fields)) => Ok(Self(fields)),
            Ok(_) => Err(ApiError::bad(None, "the body must be a JSON object")),
            Err(error) => Err(ApiError::bad(
                None,
                format!("the body is not JSON: {error}"),
            )),
        }
    }

    /// A parameter; `null` is as good as none.
    pub(crate) fn get<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, ApiError> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => serde_json::from_value(value.clone())
                .map(Some)
                .map_err(|error| ApiError::bad(Some(name), format!("`{name}`: {error}"))),
        }
    }

    /// A parameter that must be there.
    pub(crate) fn required<T: DeserializeOwned>(&self, name: &str) -> Result<T, ApiError> {
        let found = self.get(name)?;
        found.ok_or_else(|| ApiError::bad(Some(name), format!("`{name}` is missing")))
    }

    /// A parameter within a range.
    pub(crate) fn within<T: DeserializeOwned + PartialOrd + Display>(
        &self,
        name: &str,
        range: impl RangeBounds<T>,
        expected: &str,
    ) -> Result<Option<T>, ApiError> {
        match self.get(name)? {
            Some(value) if !range.contains(&value) => Err(ApiError::bad(
                Some(name),
                format!("`{name}` is {value}, but must be {expected}"),
            )),
            value => Ok(value),
        }
    }

    /// Refuses parameters that would change the text and are not supported here, unless they have
    /// the value that changes nothing.
    pub(crate) fn refuse(&self, unsupported: &[(&str, ChangesNothing)]) -> Result<(), ApiError> {
        for (name, changes_nothing) in unsupported {
            match self.0.get(*name) {
                None | Some(Value::Null) => {}
                Some(value) if changes_nothing(value) => {}
                Some(_) => {
                    let message = format!("`{name}` is not supported here; leave it out");
                    return Err(ApiError::bad(Some(name), message));
                }
            }
        }
        Ok(())
    }
}
