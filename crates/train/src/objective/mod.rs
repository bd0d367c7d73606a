//! Objectives of all methods as pure functions over tokens.

mod config;
mod error;
mod limit;
pub mod presets;
mod validate;

pub use config::{
    AggregationConfig, AggregationMode, DynamicSamplingConfig, EmptySequences, EntropyConfig,
    EntropyFilterConfig, EntropyFilterScope, ImitationConfig, ImitationKind, ImitationTokens,
    KlConfig, KlKind, KlPlacement, KlTokens, ObjectiveConfig, OverlongConfig, PolicyLossConfig,
    PolicyLossKind, PrefixOld, TraceShape, WhichHint,
};
pub use error::ObjectiveError;
pub use limit::Limit;
