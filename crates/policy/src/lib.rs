//! The decoder family that `seele` trains and samples from.
#![warn(missing_docs)]

pub mod chat;
pub mod config;
pub mod error;
pub mod huggingface;
pub mod parameters;
pub mod tokenizer;
