//! Laws of the objectives: properties over random batches, and derivatives against finite differences.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod gradients;
mod properties;
mod support;
