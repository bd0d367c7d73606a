//! The decoder on an NVIDIA GPU: the same passes as [`crate::decoder`], on a device's memory.
//!
//! Kernels are CUDA C++ (`kernels/`), compiled when a [`Device`] is first used with a model's number type and
//! head width, by NVRTC; products are cuBLAS's. The driver, NVRTC and cuBLAS are found at run time, so that a
//! build needs none of them.
//!
//! * [`Device`]: a GPU, or its emulation: the same kernels compiled for the CPU, where every thread of a block
//!   is a fiber, so that tests can hold the whole decoder to the CPU's without a GPU;
//! * [`DeviceDecoder`]: weights, gradient and moments on a device, and the passes over them;
//! * [`Footprint`]: what all that will take, without a device;
//! * `backend`: what the passes ask of either; `memory` and `state`: how they share memory, and what they do
//!   where there is too little.
//!
//! Hidden states, sums, norms and softmax are float32; what goes into products is the decoder's number type.
//! Sums have one order, so that results do not depend on how a device schedules its blocks.

mod backend;
mod blocks;
mod cache;
mod decoding;
mod device;
mod driver;
mod emulation;
mod footprint;
mod gradients;
mod memory;
mod optimizer;
mod scores;
mod staging;
mod state;
mod training;
mod weights;

pub use crate::device::DeviceError;
pub use cache::DevicePages;
pub use decoding::{DecodeInput, DrawnToken, TokenRequest};
pub use device::{Device, DeviceDecoder};
pub use footprint::Footprint;

#[cfg(test)]
mod tests;
