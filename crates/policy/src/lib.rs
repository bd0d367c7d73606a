//! The decoder family that `seele` trains and samples from.
#![warn(missing_docs)]

pub mod adamw;
pub mod chat;
pub mod config;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod decoder;
pub mod device;
pub mod encoding;
pub mod error;
mod fsdp;
mod gguf;
pub mod huggingface;
pub mod kernels;
pub mod machine;
pub mod model;
pub mod parameters;
pub mod tokenizer;
mod weights;
