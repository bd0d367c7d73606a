//! `rollout.cache_memory`: how much memory the keys and values of rollouts may take.

use seele_rollout::host_cache_memory;
use serde::de::{Deserializer, Error, Unexpected, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;

/// The word for a bound by what the machine has.
const AUTO: &str = "auto";

/// Bound on the memory for keys and values while sampling.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheMemory {
    /// Half of the memory that is free when sampling begins; no bound where the system does not say.
    #[default]
    Auto,
    /// So many MiB, at least 1.
    Mebibytes(u64),
}

impl CacheMemory {
    /// The bound now.
    pub fn bytes(self) -> usize {
        match self {
            Self::Auto => host_cache_memory(),
            Self::Mebibytes(mebibytes) => {
                usize::try_from(mebibytes.saturating_mul(1 << 20)).unwrap_or(usize::MAX)
            }
        }
    }
}

impl Serialize for CacheMemory {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str(AUTO),
            Self::Mebibytes(mebibytes) => serializer.serialize_u64(*mebibytes),
        }
    }
}

impl<'de> Deserialize<'de> for CacheMemory {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bound;

        impl Visitor<'_> for Bound {
            type Value = CacheMemory;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of MiB, 1 or more, or \"auto\"")
            }

            fn visit_u64<E: Error>(self, mebibytes: u64) -> Result<CacheMemory, E> {
                match mebibytes {
                    0 => Err(E::invalid_value(Unexpected::Unsigned(0), &self)),
                    _ => Ok(CacheMemory::Mebibytes(mebibytes)),
                }
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<CacheMemory, E> {
                match text {
                    AUTO => Ok(CacheMemory::Auto),
                    _ => Err(E::invalid_value(Unexpected::Str(text), &self)),
                }
            }
        }

        deserializer.deserialize_any(Bound)
    }
}
