//! Devices, and the decoder on one.

use super::backend::{Backend, Shape, Tiles};
use super::cache::{PagePool, lock_pool, page_bytes};
use super::decoding::DecodingStates;
use super::driver::{Driver, Gpu};
use super::emulation::{EmulatedMemory, Emulation};
use super::memory::Memory;
use super::scores::rows_at_a_time;
use super::state::{Learning, Limits, State};
use super::weights::Weights;
use crate::config::ModelConfig;
use crate::decoder::{DecoderOptions, Recompute};
use crate::device::{DeviceError, Shortages};
use crate::kernels::matmul::Compute;
use crate::parameters::{Layout, Parameters};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Widest attention head that the kernels divide their registers for.
const WIDEST_HEAD: usize = 128;
/// Largest vocabulary that a draw has places for.
const LARGEST_VOCABULARY: usize = 512 * 1024;

/// Bytes of a copy that measures the memory, more than caches hold, and how many there are.
const COPIED: usize = 512 << 20;
const LEAST_COPIED: usize = 64 << 10;
const COPIES: usize = 8;

/// Where a decoder's numbers are.
#[derive(Clone)]
pub struct Device(Kind);

#[derive(Clone)]
enum Kind {
    Gpu(Arc<Gpu>),
    Emulated(Arc<EmulatedMemory>),
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
        Self(Kind::Emulated(EmulatedMemory::new(None)))
    }

    /// As [`Device::emulated`], a device of so many bytes of memory: the same one for every call with this size.
    pub fn emulated_of(bytes: usize) -> Self {
        Self(Kind::Emulated(EmulatedMemory::shared(bytes)))
    }

    /// Bytes that are free on it, and all there are; `None` on an emulated device without a bound.
    pub fn free_and_total_memory(&self) -> Option<(usize, usize)> {
        match &self.0 {
            Kind::Gpu(gpu) => gpu.free_and_total_memory(),
            Kind::Emulated(memory) => memory.free_and_total(),
        }
    }

    /// What the driver calls it.
    pub fn name(&self) -> &str {
        match &self.0 {
            Kind::Gpu(gpu) => &gpu.name,
            Kind::Emulated(_) => "emulation",
        }
    }

    fn backend(&self, compute: Compute, head: usize) -> Result<Arc<dyn Backend>, DeviceError> {
        match &self.0 {
            Kind::Gpu(gpu) => Driver::of(gpu, Shape::fitting(compute, head, gpu.shared_memory)?),
            Kind::Emulated(memory) => {
                let tiles = Tiles::Large;
                let shape = Shape {
                    compute,
                    head,
                    tiles,
                };
                Emulation::of(shape, memory)
            }
        }
    }

    /// Compiles the kernels for a compute capability (90 is 9.0), with tiles for much shared memory and for little,
    /// which needs NVRTC and no GPU.
    ///
    /// # Errors
    /// [`DeviceError::MissingLibrary`] without NVRTC, [`DeviceError::Compile`] with what it said.
    pub fn check_kernels(
        options: DecoderOptions,
        head_dim: usize,
        capability: usize,
    ) -> Result<(), DeviceError> {
        super::driver::check_compiler()?;
        for tiles in [Tiles::Large, Tiles::Small] {
            let shape = Shape {
                compute: options.compute,
                head: head_dim,
                tiles,
            };
            super::driver::compile(shape, capability as i32)?;
        }
        Ok(())
    }
}

/// A model's weights on a device, with what passes over it need; as [`crate::decoder::Decoder`] on the CPU.
///
/// One thread works with it at a time, others wait.
pub struct DeviceDecoder {
    name: String,
    pub(super) config: ModelConfig,
    pub(super) options: DecoderOptions,
    state: Mutex<State>,
}

impl DeviceDecoder {
    /// Copies a model's weights to a device. With `trains` it holds a gradient and the optimizer's moments too,
    /// all zero. [`Recompute::Auto`] keeps what fits into two fifths of what is free on the device then (keys and
    /// values get half), not into what it says.
    ///
    /// # Errors
    /// [`DeviceError`] if the kernels are not made for the model, the parameters are another model's, or the device
    /// has no room.
    pub fn new(
        device: &Device,
        config: &ModelConfig,
        parameters: &Parameters,
        options: DecoderOptions,
        trains: bool,
    ) -> Result<Self, DeviceError> {
        check(config)?;
        if **parameters.layout() != Layout::of(config) {
            return Err(DeviceError::InvalidInput {
                what: "the parameters are those of another model than the configuration".to_owned(),
            });
        }
        let backend = device.backend(options.compute, config.head_dim)?;
        let decoder = Self::on(
            device.name(),
            backend,
            config,
            parameters.layout(),
            options,
            trains,
        )?;
        decoder.update(parameters)?;
        Ok(decoder)
    }

    /// A decoder on a device with whatever weights are in its memory.
    pub(super) fn on(
        name: &str,
        backend: Arc<dyn Backend>,
        config: &ModelConfig,
        layout: &Layout,
        options: DecoderOptions,
        trains: bool,
    ) -> Result<Self, DeviceError> {
        let weights = Weights::new(&backend, config, layout)?;
        let learning = match trains {
            false => None,
            true => {
                let zeros = || Memory::zeros(&backend, layout.len() * size_of::<f32>());
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
        let pool = Arc::new(Mutex::new(PagePool::new(&backend, config)));
        Ok(Self {
            state: Mutex::new(State {
                backend,
                weights,
                learning,
                work: None,
                decoding: DecodingStates::default(),
                pool,
                limits: Limits {
                    prefill: usize::MAX,
                    decoding: usize::MAX,
                    logits: rows_at_a_time(config.vocab_size),
                },
                shortages: Shortages::default(),
            }),
            name: name.to_owned(),
            config: config.clone(),
            options: DecoderOptions {
                recompute,
                ..options
            },
        })
    }

    /// Half of what keys and values could take, those of before included; `None` on an emulated device without a
    /// bound. Work memory of before goes back to the device.
    pub fn cache_memory(&self) -> Option<usize> {
        let mut state = self.lock();
        state.work = None;
        let free = state.backend.free()?;
        Some((free + lock_pool(&state.pool).bytes()) / 2)
    }

    /// Bytes a second that the device's memory reads and writes in copies of 512 MiB, or of what there is room for.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`], [`DeviceError::Failed`].
    pub fn copy_rate(&self) -> Result<f64, DeviceError> {
        let state = self.lock();
        let backend = &state.backend;
        let mut bytes = COPIED;
        let both = |bytes| Ok([state.allocate(bytes)?, state.allocate(bytes)?]);
        let [from, to] = loop {
            match both(bytes) {
                Err(DeviceError::OutOfMemory { .. }) if bytes > LEAST_COPIED => bytes /= 2,
                made => break made?,
            }
        };
        backend.clear(from.at, bytes)?;
        backend.clear(to.at, bytes)?;
        backend.download(to.at, &mut [])?;
        let begun = Instant::now();
        for _ in 0..COPIES {
            backend.copy(from.at, to.at, bytes)?;
        }
        backend.download(to.at, &mut [])?;
        Ok((2 * COPIES * bytes) as f64 / begun.elapsed().as_secs_f64())
    }

    /// What the driver calls its device.
    pub fn device_name(&self) -> &str {
        &self.name
    }

    /// Counts what a caller does for want of room.
    pub(crate) fn note(&self, shortage: Shortages) {
        self.lock().shortages += shortage;
    }

    /// How often the device had no room since it was last asked.
    pub fn take_shortages(&self) -> Shortages {
        std::mem::take(&mut self.lock().shortages)
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
    /// [`DeviceError::InvalidInput`] if they are another model's, [`DeviceError::Failed`].
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

/// Refuses a model that the kernels are not made for.
pub(super) fn check(config: &ModelConfig) -> Result<(), DeviceError> {
    if config.head_dim > WIDEST_HEAD {
        return Err(DeviceError::Unsupported {
            what: format!(
                "the model's attention heads have a width of {}, but the kernels are made for at most \
                 {WIDEST_HEAD}",
                config.head_dim
            ),
            remedy: "use another model, or the CPU",
        });
    }
    if config.vocab_size > LARGEST_VOCABULARY {
        return Err(DeviceError::Unsupported {
            what: format!(
                "the model's vocabulary has {} tokens, but the kernels are made for at most \
                 {LARGEST_VOCABULARY}",
                config.vocab_size
            ),
            remedy: "use another model, or the CPU",
        });
    }
    Ok(())
}
