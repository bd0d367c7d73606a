//! Advantages: how much better a sequence did than the sequences it is compared with.

mod config;

pub use config::{AdvantageConfig, AdvantageKind, AdvantageScope, Singleton, TraceMembership};
