//! Groups, advantages, objectives, optimiser and the training step of `seele`.
#![forbid(unsafe_code)]

pub mod advantage;
pub mod benchmarks;
pub mod checkpoint;
mod collect;
pub mod error;
mod evaluate;
mod group;
pub mod metrics;
pub mod objective;
#[cfg(feature = "cuda")]
mod on_device;
pub mod optimizer_schedule;
pub mod progress;
pub mod recipe;
pub mod speed;
mod step;
mod supervised;
pub mod trainer;
mod update;
mod verification;
pub mod watch;
