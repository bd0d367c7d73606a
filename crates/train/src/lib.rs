//! Groups, advantages, objectives, optimiser and the training step of `seele`.
#![forbid(unsafe_code)]

pub mod metrics;
pub mod progress;
pub mod recipe;
