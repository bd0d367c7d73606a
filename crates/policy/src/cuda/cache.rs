//! Keys and values on a device, in pages of 32 positions with all layers.

use super::backend::Backend;
use super::memory::Memory;
use crate::config::ModelConfig;
use crate::decoder::cache::PAGE_TOKENS;
use crate::device::DeviceError;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes that a pool asks the device for at a time, in whole pages.
const SLAB: usize = 64 << 20;

/// A slab is at most one part in so many of what is free.
const SHARE: usize = 8;

/// Bytes of a page, its numbers so many each.
pub(super) fn page_bytes(config: &ModelConfig, number: usize) -> usize {
    config.layers * config.kv_heads * 2 * PAGE_TOKENS * config.head_dim * number
}

/// Pages of one decoder; those of dropped sequences are used again.
pub(super) struct PagePool {
    backend: Arc<dyn Backend>,
    page_bytes: usize,
    slabs: Vec<Memory>,
    free: Vec<u64>,
}

impl PagePool {
    pub(super) fn new(backend: &Arc<dyn Backend>, config: &ModelConfig) -> Self {
        Self {
            backend: Arc::clone(backend),
            page_bytes: page_bytes(config, backend.shape().number()),
            slabs: Vec::new(),
            free: Vec::new(),
        }
    }

    /// Bytes held, used or not.
    pub(super) fn bytes(&self) -> usize {
        self.slabs.iter().map(|slab| slab.bytes).sum()
    }

    fn take(&mut self) -> Result<u64, DeviceError> {
        if self.free.is_empty() {
            // Where memory gets short, slabs get small, so that they come free again as sequences end.
            let share = self.backend.free().map_or(SLAB, |free| free / SHARE);
            let mut pages = (SLAB.min(share) / self.page_bytes).max(1);
            // Where there is no room for many, there may be for fewer.
            let slab = loop {
                match Memory::new(&self.backend, pages * self.page_bytes) {
                    Err(DeviceError::OutOfMemory { .. }) if pages > 1 => pages /= 2,
                    made => break made?,
                }
            };
            let at = |page: usize| slab.at + (page * self.page_bytes) as u64;
            self.free.extend((0..pages).rev().map(at));
            self.slabs.push(slab);
        }
        Ok(self.free.pop().expect("a slab has at least one page"))
    }

    /// Gives slabs back of which no sequence has a page.
    pub(super) fn release_idle(&mut self) {
        let Self {
            slabs,
            free,
            page_bytes,
            ..
        } = self;
        slabs.retain(|slab| {
            let inside = |page: &u64| (slab.at..slab.at + slab.bytes as u64).contains(page);
            let idle = free.iter().filter(|page| inside(page)).count();
            let is_used = idle * *page_bytes < slab.bytes;
            if !is_used {
                free.retain(|page| !inside(page));
            }
            is_used
        });
    }
}

pub(super) fn lock_pool(pool: &Mutex<PagePool>) -> MutexGuard<'_, PagePool> {
    pool.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Pages of one sequence on a device; empty until its decoder writes to it.
#[derive(Default)]
pub struct DevicePages {
    pub(super) pages: Vec<u64>,
    pool: Option<Arc<Mutex<PagePool>>>,
}

impl std::fmt::Debug for DevicePages {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "DevicePages({})", self.pages.len())
    }
}

impl DevicePages {
    /// Pages held, of 32 positions each.
    pub fn count(&self) -> usize {
        self.pages.len()
    }

    /// Refuses to look for the first `tokens` positions in pages that are too few or another decoder's.
    ///
    /// # Errors
    /// [`DeviceError::InvalidInput`].
    pub(super) fn check(
        &self,
        pool: &Arc<Mutex<PagePool>>,
        tokens: usize,
    ) -> Result<(), DeviceError> {
        let room = self.pages.len() * PAGE_TOKENS;
        let of_others = |own: &Arc<_>| !Arc::ptr_eq(own, pool);
        let what = if self.pool.as_ref().is_some_and(of_others) {
            "keys and values are in pages of another decoder".to_owned()
        } else if tokens > room {
            format!("keys and values of {tokens} positions were asked for, but there are {room}")
        } else {
            return Ok(());
        };
        Err(DeviceError::InvalidInput { what })
    }

    /// Makes room for `tokens` positions.
    pub(super) fn reserve(
        &mut self,
        pool: &Arc<Mutex<PagePool>>,
        tokens: usize,
    ) -> Result<(), DeviceError> {
        while self.pages.len() * PAGE_TOKENS < tokens {
            let page = lock_pool(pool).take()?;
            self.pages.push(page);
            self.pool.get_or_insert_with(|| Arc::clone(pool));
        }
        Ok(())
    }
}

impl Drop for DevicePages {
    fn drop(&mut self) {
        if let Some(pool) = &self.pool {
            lock_pool(pool).free.append(&mut self.pages);
        }
    }
}
