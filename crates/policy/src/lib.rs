//! The decoder family that `seele` trains and samples from.
#![warn(missing_docs)]

pub mod config;
pub mod parameters;
