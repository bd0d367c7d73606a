//! Nodes to typed settings, with errors that name the key, its place and the nearest known key.
//!
//! A serde deserializer of our own rather than TOML's, because after merging there is no single
//! text to point into: each value carries its origin, and each struct tells its known keys.

mod error;

use super::error::RecipeError;
use super::node::{Node, Origin, Table, Value, same_key};
use error::{ReadError, list};
use serde::de::value::{StrDeserializer, StringDeserializer};
use serde::de::{self, DeserializeSeed, Deserializer, IntoDeserializer, Visitor};

/// Reads `T` from `node`, whose dotted key is `key` (empty for the whole recipe).
///
/// # Errors
/// Unknown keys, missing keys and values of the wrong kind.
pub(crate) fn read<'de, T: de::Deserialize<'de>>(
    node: &'de Node,
    key: &str,
) -> Result<T, RecipeError> {
    T::deserialize(Reader { node }).map_err(|error| error.inside(key, node).into())
}

/// The value that turns an optional setting off; TOML has no null.
pub(crate) const OFF: &str = "off";

#[derive(Clone, Copy)]
struct Reader<'de> {
    node: &'de Node,
}

impl<'de> Reader<'de> {
    /// A single value given with `--set` where text is wanted: its letters as typed (`--set name=7`).
    fn typed_text(&self) -> Option<&'de str> {
        match (&self.node.origin, &self.node.value) {
            (Origin::Set { argument }, Value::Integer(_) | Value::Float(_) | Value::Boolean(_)) => {
                argument.split_once('=').map(|(_, text)| text.trim())
            }
            _ => None,
        }
    }

    fn check_keys(
        &self,
        table: &'de Table,
        known: &'static [&'static str],
    ) -> Result<(), ReadError> {
        match table
            .iter()
            .find(|(key, _)| !known.iter().any(|known| same_key(known, key)))
        {
            None => Ok(()),
            Some((key, node)) => {
                let mut error = <ReadError as de::Error>::unknown_field(key, known);
                error.origin = Some(node.origin.clone());
                Err(error)
            }
        }
    }
}

impl<'de> Deserializer<'de> for Reader<'de> {
    type Error = ReadError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match &self.node.value {
            Value::Boolean(value) => visitor.visit_bool(*value),
            Value::Integer(value) => match u64::try_from(*value) {
                Ok(value) => visitor.visit_u64(value),
                Err(_) => visitor.visit_i64(*value),
            },
            Value::Float(value) => visitor.visit_f64(*value),
            Value::Text(value) => visitor.visit_borrowed_str(value),
            Value::Array(items) => visitor.visit_seq(Items {
                items: items.iter().enumerate(),
            }),
            Value::Table(table) => visitor.visit_map(Entries {
                entries: table.iter(),
                value: None,
                keys: Keys::OfChoice,
            }),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match &self.node.value {
            Value::Table(table) => visitor.visit_map(Entries {
                entries: table.iter(),
                value: None,
                keys: Keys::Free,
            }),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match &self.node.value {
            Value::Text(text) if text == OFF => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.typed_text() {
            Some(text) => visitor.visit_borrowed_str(text),
            None => self.deserialize_any(visitor),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        match &self.node.value {
            Value::Table(table) => {
                self.check_keys(table, fields)?;
                visitor.visit_map(Entries {
                    entries: table.iter(),
                    value: None,
                    keys: Keys::Known(fields),
                })
            }
            other => Err(de::Error::custom(format!(
                "expected a table, found {}",
                other.kind()
            ))),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        match &self.node.value {
            Value::Text(text) => visitor.visit_enum(text.as_str().into_deserializer()),
            Value::Table(table) => {
                let mut entries = table.iter();
                match (entries.next(), entries.next()) {
                    (Some((variant, node)), None) => visitor.visit_enum(Variant { variant, node }),
                    _ => Err(de::Error::custom(format!(
                        "expected a table with one key, one of {}",
                        list(&words(variants))
                    ))),
                }
            }
            other => Err(de::Error::custom(format!(
                "expected one of {}, found {}",
                list(&words(variants)),
                other.kind()
            ))),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        visitor.visit_newtype_struct(self)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf
        unit unit_struct seq tuple tuple_struct identifier ignored_any
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| word.to_string()).collect()
}

struct Items<'de> {
    items: std::iter::Enumerate<std::slice::Iter<'de, Node>>,
}

impl<'de> de::SeqAccess<'de> for Items<'de> {
    type Error = ReadError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, ReadError> {
        let Some((index, node)) = self.items.next() else {
            return Ok(None);
        };
        seed.deserialize(Reader { node })
            .map(Some)
            .map_err(|error| error.inside(&index.to_string(), node))
    }
}

struct Entries<'de> {
    entries: std::slice::Iter<'de, (String, Node)>,
    value: Option<&'de (String, Node)>,
    keys: Keys,
}

/// What the keys of a table are.
#[derive(Clone, Copy)]
enum Keys {
    /// Fields of a struct, in its spelling.
    Known(&'static [&'static str]),
    /// Fields of a tagged enum, whose variant is not known yet. serde buffers its values and would
    /// take `off` for text, so those entries are left to their default, which is absence.
    OfChoice,
    /// Names that a person chose.
    Free,
}

impl<'de> de::MapAccess<'de> for Entries<'de> {
    type Error = ReadError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, ReadError> {
        self.value = match self.keys {
            Keys::OfChoice => self
                .entries
                .find(|(_, node)| node.value != Value::Text(OFF.into())),
            Keys::Known(_) | Keys::Free => self.entries.next(),
        };
        let Some((key, _)) = self.value else {
            return Ok(None);
        };
        let spelling = match self.keys {
            Keys::Known(known) => known
                .iter()
                .find(|known| same_key(known, key))
                .copied()
                .unwrap_or(key)
                .into(),
            Keys::OfChoice => key.replace('-', "_"),
            Keys::Free => key.clone(),
        };
        seed.deserialize(StringDeserializer::<ReadError>::new(spelling))
            .map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, ReadError> {
        let (key, node) = self.value.take().ok_or_else(|| {
            <ReadError as de::Error>::custom("a value was asked for before its key")
        })?;
        seed.deserialize(Reader { node })
            .map_err(|error| error.inside(key, node))
    }
}

struct Variant<'de> {
    variant: &'de str,
    node: &'de Node,
}

impl<'de> de::EnumAccess<'de> for Variant<'de> {
    type Error = ReadError;
    type Variant = Reader<'de>;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Reader<'de>), ReadError> {
        let variant: StrDeserializer<'de, ReadError> = self.variant.into_deserializer();
        Ok((seed.deserialize(variant)?, Reader { node: self.node }))
    }
}

impl<'de> de::VariantAccess<'de> for Reader<'de> {
    type Error = ReadError;

    fn unit_variant(self) -> Result<(), ReadError> {
        Err(de::Error::custom("expected a name without a table"))
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, ReadError> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(
        self,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        self.deserialize_any(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        self.deserialize_struct("", fields, visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse::{parse_file, parse_override};
    use super::*;
    use serde::Deserialize;
    use std::path::Path;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default)]
    struct Outer {
        seed: u64,
        name: String,
        limit: Option<usize>,
        inner: Inner,
        schedule: Schedule,
        choice: Choice,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    struct Inner {
        learning_rate: f64,
        #[serde(default)]
        widths: Vec<u32>,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Schedule {
        #[default]
        Constant,
        Cosine {
            steps: u64,
        },
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
    enum Choice {
        #[default]
        Off,
        On {
            rate: f64,
        },
    }

    fn outer(text: &str) -> Result<Outer, String> {
        let node =
            parse_file(text, Path::new("r.toml"), false).map_err(|error| error.to_string())?;
        read(&node, "").map_err(|error| error.to_string())
    }

    fn message(text: &str) -> String {
        outer(text).unwrap_err()
    }

    #[test]
    fn reads_every_kind_of_value() {
        let text = "seed = 3\nname = \"x\"\nlimit = 4\nschedule = { cosine = { steps = 9 } }\n\
                    [inner]\nlearning_rate = 1\nwidths = [1, 2]\n[choice]\nkind = \"on\"\nrate = 0.5\n";
        let read = outer(text).unwrap();
        assert_eq!(
            read.inner,
            Inner {
                learning_rate: 1.0,
                widths: vec![1, 2]
            }
        );
        assert_eq!(
            (read.seed, read.name.as_str(), read.limit),
            (3, "x", Some(4))
        );
        assert_eq!(
            (read.schedule, read.choice),
            (Schedule::Cosine { steps: 9 }, Choice::On { rate: 0.5 })
        );
        assert_eq!(outer("limit = \"off\"").unwrap().limit, None);
        assert_eq!(
            outer("schedule = \"constant\"").unwrap().schedule,
            Schedule::Constant
        );
    }

    #[test]
    fn unknown_key_names_place_and_nearest_key() {
        assert_eq!(
            message("seed = 1\n[inner]\nlearning_rate = 1.0\nlearning_rat = 2.0\n"),
            "r.toml:4: unknown key `inner.learning_rat`; did you mean `inner.learning_rate`?"
        );
        assert_eq!(
            message("banana = 1\n"),
            "r.toml:1: unknown key `banana`; known keys here: `seed`, `name`, `limit`, `inner`, `schedule`, `choice`"
        );
    }

    #[test]
    fn unknown_key_of_a_tagged_choice_names_its_own_line() {
        assert_eq!(
            message("[choice]\nkind = \"on\"\nrate = 0.5\nratio = 1\n"),
            "r.toml:4: unknown key `choice.ratio`; did you mean `choice.rate`?"
        );
    }

    #[test]
    fn wrong_kinds_name_the_key_and_what_is_allowed() {
        assert_eq!(
            message("seed = -1"),
            "r.toml:1: `seed`: expected a whole number, 0 or more, found `-1`"
        );
        assert_eq!(
            message("seed = \"a\""),
            "r.toml:1: `seed`: expected a whole number, 0 or more, found `\"a\"`"
        );
        assert_eq!(
            message("name = 3"),
            "r.toml:1: `name`: expected text in quotes, found `3`"
        );
        assert_eq!(
            message("inner = 3"),
            "r.toml:1: `inner`: expected a table, found an integer"
        );
        assert_eq!(
            message("[inner]\nlearning_rate = 1.0\nwidths = [1,\n  true]"),
            "r.toml:4: `inner.widths.1`: expected a whole number, 0 or more, found `true`"
        );
        assert_eq!(
            message("schedule = \"cosin\""),
            "r.toml:1: `schedule`: unknown value `cosin`; did you mean `cosine`? (known: `constant`, `cosine`)"
        );
        assert_eq!(
            message("[inner]\n"),
            "`inner.learning_rate` is missing (table at r.toml:1); write `learning_rate = ...` in [inner]"
        );
    }

    #[test]
    fn override_of_a_text_key_needs_no_quotes_even_for_numbers() {
        let node = parse_override("name=007").unwrap();
        assert_eq!(read::<Outer>(&node, "").unwrap().name, "007");
        let node = parse_override("seed=x").unwrap();
        let message = read::<Outer>(&node, "").unwrap_err().to_string();
        assert_eq!(
            message,
            "--set seed=x: `seed`: expected a whole number, 0 or more, found `\"x\"`"
        );
    }
}
