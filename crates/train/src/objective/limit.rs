//! A number that a recipe can also switch off.

use std::fmt;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A threshold that can be absent: a number, or the word `"off"`.
///
/// TOML has no null, so an overlay could not take a threshold back that a preset sets. Here it writes
/// `dual_clip = "off"`, and the resolved recipe shows `"off"` instead of leaving the key out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limit {
    /// No threshold.
    Off,
    /// The threshold, in the unit of the field that holds it.
    At(f64),
}

impl Limit {
    /// The threshold, or `None` when it is off.
    pub fn value(self) -> Option<f64> {
        match self {
            Limit::Off => None,
            Limit::At(value) => Some(value),
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Limit::Off => f.write_str("off"),
            Limit::At(value) => write!(f, "{value}"),
        }
    }
}

impl Serialize for Limit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Limit::Off => serializer.serialize_str("off"),
            Limit::At(value) => serializer.serialize_f64(*value),
        }
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct LimitVisitor;

        impl Visitor<'_> for LimitVisitor {
            type Value = Limit;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number or `\"off\"`")
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Limit, E> {
                Ok(Limit::At(value))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Limit, E> {
                Ok(Limit::At(value as f64))
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Limit, E> {
                Ok(Limit::At(value as f64))
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Limit, E> {
                match value {
                    "off" => Ok(Limit::Off),
                    other => Err(E::invalid_value(de::Unexpected::Str(other), &self)),
                }
            }
        }

        deserializer.deserialize_any(LimitVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_integer_and_off_are_read_and_written_back() {
        for (text, expected) in [
            ("0.2", Limit::At(0.2)),
            ("3", Limit::At(3.0)),
            ("\"off\"", Limit::Off),
        ] {
            let limit: Limit = serde_json::from_str(text).unwrap();
            assert_eq!(limit, expected);
            let written = serde_json::to_string(&limit).unwrap();
            assert_eq!(serde_json::from_str::<Limit>(&written).unwrap(), expected);
        }
    }

    #[test]
    fn another_word_is_refused_with_the_allowed_forms() {
        let message = serde_json::from_str::<Limit>("\"none\"")
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("a number or `\"off\"`"),
            "unexpected message: {message}"
        );
    }
}
