//! Groups, advantages, objectives, optimiser and the training step of `seele`.
#![forbid(unsafe_code)]

pub mod advantage;
pub mod metrics;
pub mod objective;
pub mod optimizer_schedule;
pub mod progress;
pub mod recipe;
