//! The key-value part of a GGUF file.

use super::reader::Reader;
use crate::error::LoadError;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Arrays together may not have more elements than this; a vocabulary has some 10^5.
const MOST_ELEMENTS: usize = 1 << 26;

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Integer(i128),
    Float(f64),
    Bool(bool),
    Text(String),
    Integers(Vec<i64>),
    Floats(Vec<f32>),
    Texts(Vec<String>),
    /// Stepped over: arrays of arrays or of other types that no setting here has.
    Other,
}

/// Types of values, by their number in the file.
mod kind {
    pub(super) const U8: u32 = 0;
    pub(super) const I8: u32 = 1;
    pub(super) const U16: u32 = 2;
    pub(super) const I16: u32 = 3;
    pub(super) const U32: u32 = 4;
    pub(super) const I32: u32 = 5;
    pub(super) const F32: u32 = 6;
    pub(super) const BOOL: u32 = 7;
    pub(super) const STRING: u32 = 8;
    pub(super) const ARRAY: u32 = 9;
    pub(super) const U64: u32 = 10;
    pub(super) const I64: u32 = 11;
    pub(super) const F64: u32 = 12;
}

/// All settings, with typed access whose errors name file and key.
#[derive(Clone, Debug)]
pub(super) struct Metadata {
    path: PathBuf,
    values: HashMap<String, Value>,
}

impl Metadata {
    /// Reads `count` pairs.
    pub(super) fn read(reader: &mut Reader, count: usize) -> Result<Self, LoadError> {
        let mut values = HashMap::new();
        let mut elements_left = MOST_ELEMENTS;
        for index in 0..count {
            let key = reader.string(&format!("the name of metadata entry {index}"))?;
            let what = format!("`{key}`");
            let kind = reader.u32(&what)?;
            let value = read_value(reader, kind, &what, &mut elements_left, 0)?;
            if values.insert(key, value).is_some() {
                return Err(reader.damaged(format!("it gives {what} twice")));
            }
        }
        Ok(Self {
            path: reader.path().to_owned(),
            values,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key)
    }

    /// A count of at least 1.
    pub(super) fn size(&self, key: &str) -> Result<Option<usize>, LoadError> {
        match self.get(key) {
            None => Ok(None),
            Some(&Value::Integer(size @ 1..=0x8000_0000)) => Ok(Some(size as usize)),
            Some(_) => Err(self.invalid(key, "a positive whole number of at most 2^31")),
        }
    }

    pub(super) fn required_size(
        &self,
        key: &str,
        meaning: &'static str,
    ) -> Result<usize, LoadError> {
        self.size(key)?.ok_or_else(|| self.missing(key, meaning))
    }

    /// A finite number above zero. Single precision is read as the shortest decimal that stands for
    /// it (0.00001 rather than 0.0000099999997...), which is what the number was before.
    pub(super) fn positive(&self, key: &str) -> Result<Option<f64>, LoadError> {
        match self.get(key) {
            None => Ok(None),
            Some(&Value::Float(number)) if number > 0.0 && number.is_finite() => Ok(Some(number)),
            Some(_) => Err(self.invalid(key, "a number above 0")),
        }
    }

    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>, LoadError> {
        match self.get(key) {
            None => Ok(None),
            Some(&Value::Bool(flag)) => Ok(Some(flag)),
            Some(_) => Err(self.invalid(key, "true or false")),
        }
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<&str>, LoadError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(_) => Err(self.invalid(key, "a string")),
        }
    }

    pub(super) fn texts(&self, key: &str, meaning: &'static str) -> Result<&[String], LoadError> {
        match self.get(key) {
            None => Err(self.missing(key, meaning)),
            Some(Value::Texts(texts)) => Ok(texts),
            Some(_) => Err(self.invalid(key, "a list of strings")),
        }
    }

    pub(super) fn floats(&self, key: &str, meaning: &'static str) -> Result<&[f32], LoadError> {
        match self.get(key) {
            None => Err(self.missing(key, meaning)),
            Some(Value::Floats(floats)) => Ok(floats),
            Some(_) => Err(self.invalid(key, "a list of float32 numbers")),
        }
    }

    pub(super) fn integers(&self, key: &str) -> Result<Option<&[i64]>, LoadError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Integers(integers)) => Ok(Some(integers)),
            Some(_) => Err(self.invalid(key, "a list of whole numbers")),
        }
    }

    pub(super) fn token_id(&self, key: &str) -> Result<Option<u32>, LoadError> {
        match self.get(key) {
            None => Ok(None),
            Some(&Value::Integer(id)) if u32::try_from(id).is_ok() => Ok(u32::try_from(id).ok()),
            Some(_) => Err(self.invalid(key, "a token id")),
        }
    }

    pub(super) fn missing(&self, key: &str, meaning: &'static str) -> LoadError {
        LoadError::MissingKey {
            path: self.path.clone(),
            key: key.to_owned(),
            meaning,
        }
    }

    pub(super) fn invalid(&self, key: &str, expected: impl Into<String>) -> LoadError {
        LoadError::InvalidKey {
            path: self.path.clone(),
            key: key.to_owned(),
            found: self.found(key),
            expected: expected.into(),
        }
    }

    pub(super) fn unsupported(&self, key: &str, supported: impl Into<String>) -> LoadError {
        LoadError::Unsupported {
            path: self.path.clone(),
            key: key.to_owned(),
            found: self.found(key),
            supported: supported.into(),
        }
    }

    fn found(&self, key: &str) -> String {
        match self.get(key) {
            None => "absent".to_owned(),
            Some(Value::Integer(number)) => number.to_string(),
            Some(Value::Float(number)) => number.to_string(),
            Some(Value::Bool(flag)) => flag.to_string(),
            Some(Value::Text(text)) => format!("{:?}", text.chars().take(120).collect::<String>()),
            Some(Value::Integers(list)) => format!("a list of {} whole numbers", list.len()),
            Some(Value::Floats(list)) => format!("a list of {} numbers", list.len()),
            Some(Value::Texts(list)) => format!("a list of {} strings", list.len()),
            Some(Value::Other) => "a list of another type".to_owned(),
        }
    }
}

fn read_value(
    reader: &mut Reader,
    kind: u32,
    what: &str,
    elements_left: &mut usize,
    depth: usize,
) -> Result<Value, LoadError> {
    Ok(match kind {
        kind::U8
        | kind::I8
        | kind::U16
        | kind::I16
        | kind::U32
        | kind::I32
        | kind::U64
        | kind::I64 => Value::Integer(integer(reader, kind, what)?),
        kind::F32 => Value::Float(shortest(f32::from_le_bytes(reader.bytes(what)?))),
        kind::F64 => Value::Float(f64::from_le_bytes(reader.bytes(what)?)),
        kind::BOOL => Value::Bool(reader.bytes::<1>(what)? != [0]),
        kind::STRING => Value::Text(reader.string(what)?),
        kind::ARRAY => read_array(reader, what, elements_left, depth)?,
        _ => return Err(reader.damaged(format!("{what} has type {kind}, which does not exist"))),
    })
}

fn read_array(
    reader: &mut Reader,
    what: &str,
    elements_left: &mut usize,
    depth: usize,
) -> Result<Value, LoadError> {
    let kind = reader.u32(what)?;
    let smallest = match kind {
        kind::STRING => 8,
        kind::ARRAY => 12,
        _ => 1,
    };
    let count = reader.count(smallest, &format!("the length of {what}"))?;
    *elements_left = elements_left
        .checked_sub(count)
        .filter(|_| depth < 4)
        .ok_or_else(|| reader.damaged(format!("{what} is larger or deeper than any model's")))?;
    // Capacity grows with what is really read: a count alone takes no memory.
    Ok(match kind {
        kind::STRING => {
            let mut texts = Vec::new();
            for index in 0..count {
                texts.push(reader.string(&format!("{what}[{index}]"))?);
            }
            Value::Texts(texts)
        }
        kind::F32 => {
            let mut floats = Vec::new();
            for _ in 0..count {
                floats.push(f32::from_le_bytes(reader.bytes(what)?));
            }
            Value::Floats(floats)
        }
        kind::U8 | kind::I8 | kind::U16 | kind::I16 | kind::U32 | kind::I32 | kind::I64 => {
            let mut integers = Vec::new();
            for _ in 0..count {
                integers.push(integer(reader, kind, what)? as i64);
            }
            Value::Integers(integers)
        }
        kind => {
            for _ in 0..count {
                read_value(reader, kind, what, elements_left, depth + 1)?;
            }
            Value::Other
        }
    })
}

fn integer(reader: &mut Reader, kind: u32, what: &str) -> Result<i128, LoadError> {
    Ok(match kind {
        kind::U8 => reader.bytes::<1>(what)?[0].into(),
        kind::I8 => reader.bytes::<1>(what)?[0].cast_signed().into(),
        kind::U16 => u16::from_le_bytes(reader.bytes(what)?).into(),
        kind::I16 => i16::from_le_bytes(reader.bytes(what)?).into(),
        kind::U32 => reader.u32(what)?.into(),
        kind::I32 => i32::from_le_bytes(reader.bytes(what)?).into(),
        kind::U64 => reader.u64(what)?.into(),
        _ => i64::from_le_bytes(reader.bytes(what)?).into(),
    })
}

/// The double that is nearest to the shortest decimal of a single.
fn shortest(number: f32) -> f64 {
    number
        .to_string()
        .parse()
        .unwrap_or_else(|_| f64::from(number))
}
