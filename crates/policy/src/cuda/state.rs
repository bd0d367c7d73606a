//! What of a device decoder changes, and how its passes get the memory that they work in.

use super::backend::{Backend, Rehearsal};
use super::cache::{DevicePages, PagePool, lock_pool};
use super::decoding::DecodingStates;
use super::memory::{Arena, Memory, Work};
use super::weights::Weights;
use crate::config::ModelConfig;
use crate::decoder::Recompute;
use crate::device::{DeviceError, Shortages};
use std::ops::Range;
use std::sync::{Arc, Mutex};

/// What changes, and the device itself.
pub(super) struct State {
    pub(super) backend: Arc<dyn Backend>,
    pub(super) weights: Weights,
    /// Of a decoder that is trained: the gradient, and the optimizer's moments.
    pub(super) learning: Option<Learning>,
    /// Work memory, as much as the largest pass so far needed.
    pub(super) work: Option<Memory>,
    pub(super) decoding: DecodingStates,
    pub(super) pool: Arc<Mutex<PagePool>>,
    pub(super) limits: Limits,
    pub(super) shortages: Shortages,
}

/// Rows that a pass goes through at a time; fewer where the device once had no room for more.
pub(super) struct Limits {
    pub(super) prefill: usize,
    pub(super) decoding: usize,
    /// Rows whose logits exist at a time.
    pub(super) logits: usize,
}

impl Limits {
    pub(super) fn prefill(&mut self) -> &mut usize {
        &mut self.prefill
    }

    pub(super) fn decoding(&mut self) -> &mut usize {
        &mut self.decoding
    }

    pub(super) fn logits(&mut self) -> &mut usize {
        &mut self.logits
    }
}

/// What training needs beside weights, laid out like the flat buffer of parameters.
pub(super) struct Learning {
    pub(super) gradient: Memory,
    pub(super) first_moment: Memory,
    pub(super) second_moment: Memory,
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

    /// The device at work in the memory that a rehearsal has seen to; without one there is no room for anything.
    pub(super) fn work(&self) -> Work<'_> {
        Work {
            backend: self.backend.as_ref(),
            arena: self.work.as_ref().map_or_else(Arena::none, Arena::new),
        }
    }

    /// Sees to it that there is the work memory that `pass` needs.
    pub(super) fn rehearse(
        &mut self,
        config: &ModelConfig,
        recompute: Recompute,
        mut pass: impl FnMut(&Pass<'_>, &mut Work<'_>) -> Result<(), DeviceError>,
    ) -> Result<(), DeviceError> {
        let rehearsal = Rehearsal::new(self.backend.shape());
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
            self.work = Some(self.allocate(needed)?);
        }
        Ok(())
    }

    /// Memory of this size, if need be in place of pages that no sequence has.
    pub(super) fn allocate(&self, bytes: usize) -> Result<Memory, DeviceError> {
        match Memory::new(&self.backend, bytes) {
            Err(DeviceError::OutOfMemory { .. }) => {
                lock_pool(&self.pool).release_idle();
                Memory::new(&self.backend, bytes)
            }
            made => made,
        }
    }

    /// Does so many rows in parts of as many as the limit allows; where the device has no room for a part of more
    /// than `least` rows, the limit becomes half of it.
    pub(super) fn in_parts(
        &mut self,
        rows: usize,
        limit: fn(&mut Limits) -> &mut usize,
        least: usize,
        mut part: impl FnMut(&mut Self, Range<usize>) -> Result<(), DeviceError>,
    ) -> Result<(), DeviceError> {
        let mut first = 0;
        while first < rows {
            let most = *limit(&mut self.limits);
            let end = rows.min(first.saturating_add(most));
            let count = end - first;
            match part(self, first..end) {
                Ok(()) => first = end,
                Err(DeviceError::OutOfMemory { .. }) if count > least => {
                    *limit(&mut self.limits) = count.div_ceil(2).next_multiple_of(least);
                    self.shortages.parts += 1;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Makes room for `tokens` positions of a sequence.
    pub(super) fn reserve_pages(
        &mut self,
        pages: &mut DevicePages,
        tokens: usize,
    ) -> Result<(), DeviceError> {
        let reserved = pages.reserve(&self.pool, tokens);
        if matches!(reserved, Err(DeviceError::OutOfMemory { .. })) {
            self.shortages.pages += 1;
        }
        reserved
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
