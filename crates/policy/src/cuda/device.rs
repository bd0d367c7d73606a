//! Devices, and the decoder on one.

use super::backend::{Backend, Rehearsal, Shape};
use super::cache::{PagePool, page_bytes};
use super::decoding::DecodingStates;
use super::driver::{Driver, Gpu};
use super::emulation::Emulation;
use super::memory::{Arena, Memory, Work};
use super::weights::Weights;
use crate::config::ModelConfig;
use crate::decoder::{DecoderOptions, Recompute};
use crate::device::DeviceError;
use crate::parameters::Parameters;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Widest attention head that the kernels divide their registers for.
const WIDEST_HEAD: usize = 128;
/// Largest vocabulary that a draw has places for.
const LARGEST_VOCABULARY: usize = 512 * 1024;

/// Bytes of a copy that measures the memory, more than caches hold, and how many there are.
const COPIED: usize = 512 << 20;
const COPIES: usize = 8;

/// Where a decoder's numbers are.
#[derive(Clone)]
pub struct Device(Kind);

#[derive(Clone)]
enum Kind {
    Gpu(Arc<Gpu>),
    Emulated,
}

impl Device {
    /// How many GPUs the driver shows; 0 without a driver.
    pub fn count() -> usize {
        Gpu::count()
    }

    /// The driver's device of this number, from 0.
    ///
    /// # Errors
    /// [`DeviceError`] if driver, NVRTC or cuBLAS is not found, or there is no such device, or it is older than
    /// compute capability 8.0.
    pub fn open(ordinal: usize) -> Result<Self, DeviceError> {
        Ok(Self(Kind::Gpu(Gpu::open(ordinal)?)))
    }

    /// The kernels on the CPU, thousands of times slower: for tests. Needs a C++ compiler.
    pub fn emulated() -> Self {
        Self(Kind::Emulated)
    }

    /// What it is called.
    pub fn name(&self) -> String {
        match &self.0 {
            Kind::Gpu(gpu) => format!("{} (cuda:{})", gpu.name, gpu.ordinal()),
            Kind::Emulated => "emulation".to_owned(),
        }
    }

    fn backend(&self, shape: Shape) -> Result<Arc<dyn Backend>, DeviceError> {
        match &self.0 {
            Kind::Gpu(gpu) => Driver::of(gpu, shape),
            Kind::Emulated => Emulation::of(shape),
        }
    }

    /// Compiles the kernels for a compute capability (90 is 9.0), which needs NVRTC and no GPU.
    ///
    /// # Errors
    /// [`DeviceError::MissingLibrary`] without NVRTC, [`DeviceError::Compile`] with what it said.
    pub fn check_kernels(
        options: DecoderOptions,
        head_dim: usize,
        capability: usize,
    ) -> Result<(), DeviceError> {
        let shape = Shape {
            compute: options.compute,
            head: head_dim,
        };
        // SAFETY: looks for a file.
        if !unsafe { cudarc::nvrtc::sys::is_culib_present() } {
            return Err(DeviceError::MissingLibrary {
                library: "NVRTC (`libnvrtc.so`)",
            });
        }
        super::driver::compile(shape, capability as i32).map(drop)
    }
}

/// A model's weights on a device, with what passes over it need; as [`crate::decoder::Decoder`] on the CPU.
///
/// One thread works with it at a time, others wait.
pub struct DeviceDecoder {
    pub(super) config: ModelConfig,
    pub(super) options: DecoderOptions,
    pub(super) pool: Arc<Mutex<PagePool>>,
    state: Mutex<State>,
}

/// What changes, and the device itself.
pub(super) struct State {
    pub(super) backend: Arc<dyn Backend>,
    pub(super) weights: Weights,
    /// Of a decoder that is trained: the gradient, and the optimizer's moments.
    pub(super) learning: Option<Learning>,
    /// Work memory, as much as the largest pass so far needed.
    work: Option<Memory>,
    pub(super) decoding: DecodingStates,
}

/// What training needs beside weights, laid out like the flat buffer of parameters.
pub(super) struct Learning {
    pub(super) gradient: Memory,
    pub(super) first_moment: Memory,
    pub(super) second_moment: Memory,
}

impl DeviceDecoder {
    /// Copies a model's weights to a device. With `trains` it holds a gradient and the optimizer's moments too,
    /// all zero. [`Recompute::Auto`] keeps what fits into two fifths of what is free on the device then (keys and
    /// values get half), not into what it says.
    ///
    /// # Errors
    /// [`DeviceError`] if the kernels are not made for the model, or the device has no room.
    pub fn new(
        device: &Device,
        config: &ModelConfig,
        parameters: &Parameters,
        options: DecoderOptions,
        trains: bool,
    ) -> Result<Self, DeviceError> {
        if config.head_dim > WIDEST_HEAD {
            return Err(DeviceError::Unsupported {
                what: format!(
                    "the model's attention heads have a width of {}, but the kernels are made for at most \
                     {WIDEST_HEAD}",
                    config.head_dim
                ),
            });
        }
        if config.vocab_size > LARGEST_VOCABULARY {
            return Err(DeviceError::Unsupported {
                what: format!(
                    "the model's vocabulary has {} tokens, but the kernels are made for at most \
                     {LARGEST_VOCABULARY}",
                    config.vocab_size
                ),
            });
        }
        let backend = device.backend(Shape {
            compute: options.compute,
            head: config.head_dim,
        })?;
        let weights = Weights::new(&backend, config, parameters)?;
        let learning = match trains {
            false => None,
            true => {
                let zeros = || Memory::zeros(&backend, size_of_val(parameters.values.as_slice()));
                Some(Learning {
                    gradient: zeros()?,
                    first_moment: zeros()?,
                    second_moment: zeros()?,
                })
            }
        };
        let recompute = match (options.recompute, backend.free()) {
            (Recompute::Auto { .. }, Some(free)) => Recompute::Auto {
                bytes: free / 5 * 2,
            },
            (recompute, _) => recompute,
        };
        Ok(Self {
            pool: Arc::new(Mutex::new(PagePool::new(&backend, config))),
            state: Mutex::new(State {
                backend,
                weights,
                learning,
                work: None,
                decoding: DecodingStates::default(),
            }),
            config: config.clone(),
            options: DecoderOptions {
                recompute,
                ..options
            },
        })
    }

    /// Half of what keys and values could take, those of before included; `None` on the emulation.
    pub fn cache_memory(&self) -> Option<usize> {
        let free = self.lock().backend.free()?;
        let pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        Some((free + pool.bytes()) / 2)
    }

    /// Bytes a second that the device's memory reads and writes in copies of 512 MiB.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`], [`DeviceError::Failed`].
    pub fn copy_rate(&self) -> Result<f64, DeviceError> {
        let state = self.lock();
        let backend = &state.backend;
        let [from, to] = [
            Memory::zeros(backend, COPIED)?,
            Memory::zeros(backend, COPIED)?,
        ];
        backend.download(to.at, &mut [])?;
        let begun = Instant::now();
        for _ in 0..COPIES {
            backend.copy(from.at, to.at, COPIED)?;
        }
        backend.download(to.at, &mut [])?;
        Ok((2 * COPIES * COPIED) as f64 / begun.elapsed().as_secs_f64())
    }

    /// Shape and settings.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// How it computes.
    pub fn options(&self) -> DecoderOptions {
        self.options
    }

    /// Bytes of a number as products read it.
    pub fn number_bytes(&self) -> usize {
        self.lock().backend.shape().number()
    }

    /// Bytes of a page of keys and values.
    pub fn page_bytes(&self) -> usize {
        page_bytes(&self.config, self.number_bytes())
    }

    /// Takes over new weights.
    ///
    /// # Errors
    /// [`DeviceError::Failed`].
    pub fn update(&self, parameters: &Parameters) -> Result<(), DeviceError> {
        let mut state = self.lock();
        let State {
            backend, weights, ..
        } = &mut *state;
        weights.update(backend.as_ref(), &parameters.values)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Goes through `pass` without a device to find the work memory it needs, sees to it that there is so much,
    /// and does it.
    pub(super) fn run<T>(
        &mut self,
        config: &ModelConfig,
        recompute: Recompute,
        mut pass: impl FnMut(&Pass<'_>, &mut Work<'_>) -> Result<T, DeviceError>,
    ) -> Result<T, DeviceError> {
        self.rehearse(config, recompute, |on, work| pass(on, work).map(drop))?;
        pass(&self.pass(config, recompute), &mut self.work())
    }

    /// The device at work in the memory that a rehearsal has seen to.
    pub(super) fn work(&self) -> Work<'_> {
        Work {
            backend: self.backend.as_ref(),
            arena: self.work.as_ref().map_or_else(Arena::endless, Arena::new),
        }
    }

    /// Sees to it that there is the work memory that `pass` needs.
    pub(super) fn rehearse(
        &mut self,
        config: &ModelConfig,
        recompute: Recompute,
        mut pass: impl FnMut(&Pass<'_>, &mut Work<'_>) -> Result<(), DeviceError>,
    ) -> Result<(), DeviceError> {
        let rehearsal = Rehearsal(self.backend.shape());
        let mut work = Work {
            backend: &rehearsal,
            arena: Arena::endless(),
        };
        pass(&self.pass(config, recompute), &mut work)?;
        let needed = work.arena.most();
        if self
            .work
            .as_ref()
            .is_none_or(|memory| memory.bytes < needed)
        {
            // Before there is more, what there is makes room.
            self.work = None;
            self.work = Some(Memory::new(&self.backend, needed)?);
        }
        Ok(())
    }

    pub(super) fn pass<'a>(&'a self, config: &'a ModelConfig, recompute: Recompute) -> Pass<'a> {
        Pass {
            config,
            recompute,
            weights: &self.weights,
            gradient: self
                .learning
                .as_ref()
                .map_or(0, |learning| learning.gradient.at),
        }
    }
}

/// What a pass works with.
pub(super) struct Pass<'a> {
    pub(super) config: &'a ModelConfig,
    pub(super) recompute: Recompute,
    pub(super) weights: &'a Weights,
    /// The flat gradient; 0 where nothing is trained.
    pub(super) gradient: u64,
}
