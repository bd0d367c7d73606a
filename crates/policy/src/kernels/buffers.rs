//! Work memory that outlives the call that needed it.
//!
//! A pass over a micro-batch takes and returns the same sizes block after block and step after step.
//! Asking the system each time would fault every page in again, which costs more than the arithmetic of
//! the elementwise passes. Buffers are aligned to cache lines, so that no vector straddles two.

use std::ops::{Deref, DerefMut};
use std::sync::Mutex;

/// One cache line.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([u32; 16]);

/// Zeroed memory on cache-line boundaries, as float32 or as pairs of bfloat16.
#[derive(Clone, Debug, Default)]
pub(crate) struct Aligned {
    lines: Vec<Line>,
}

impl Aligned {
    /// At least `words` zeroed words of 32 bits.
    pub(crate) fn zeroed(words: usize) -> Self {
        Self {
            lines: vec![Line([0; 16]); words.div_ceil(16)],
        }
    }

    fn words(&self) -> usize {
        self.lines.len() * 16
    }

    pub(crate) fn floats(&self) -> &[f32] {
        // SAFETY: lines are contiguous words without padding, and every bit pattern is a float32.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.words()) }
    }

    pub(crate) fn floats_mut(&mut self) -> &mut [f32] {
        // SAFETY: as in `floats`; the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.words()) }
    }

    pub(crate) fn pairs(&self) -> &[u32] {
        // SAFETY: lines are contiguous words without padding.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.words()) }
    }

    pub(crate) fn pairs_mut(&mut self) -> &mut [u32] {
        // SAFETY: as in `pairs`; the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.words()) }
    }
}

/// Buffers at rest, with the number of [`trim`]s they have rested for.
static POOL: Mutex<Vec<(Aligned, usize)>> = Mutex::new(Vec::new());

/// Rounds of [`trim`] after which a buffer nobody took is given back to the system.
const PATIENCE: usize = 4;

/// A float32 buffer from the pool; returns to it when dropped.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    memory: Aligned,
    len: usize,
}

impl Buffer {
    /// `len` float32 of unspecified content.
    pub(crate) fn take(len: usize) -> Self {
        Self {
            memory: take(len),
            len,
        }
    }

    /// `len` zeros.
    pub(crate) fn zeros(len: usize) -> Self {
        let mut buffer = Self::take(len);
        buffer.fill(0.0);
        buffer
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.memory.floats()[..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.memory.floats_mut()[..self.len]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        give_back(std::mem::take(&mut self.memory));
    }
}

fn pool() -> std::sync::MutexGuard<'static, Vec<(Aligned, usize)>> {
    // A panic elsewhere leaves the list whole: every change to it is one push or one removal.
    POOL.lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Memory of at least `words` words with unspecified content.
pub(crate) fn take(words: usize) -> Aligned {
    if words == 0 {
        return Aligned::default();
    }
    let found = {
        let mut pool = pool();
        // The smallest that fits without wasting more than half of it.
        let fits = |memory: &Aligned| (words..=2 * words + 4096).contains(&memory.words());
        let best = (0..pool.len())
            .filter(|&i| fits(&pool[i].0))
            .min_by_key(|&i| pool[i].0.words());
        best.map(|i| pool.swap_remove(i).0)
    };
    found.unwrap_or_else(|| Aligned::zeroed(words))
}

/// Returns memory to the pool.
pub(crate) fn give_back(memory: Aligned) {
    if memory.words() > 0 {
        pool().push((memory, 0));
    }
}

/// Marks the end of a pass: buffers that several passes in a row did not need are freed.
pub(crate) fn trim() {
    pool().retain_mut(|(_, rests)| {
        *rests += 1;
        *rests <= PATIENCE
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_returned_buffer_is_taken_again_on_a_line_boundary() {
        // A size no other test asks for.
        let len = 1_234_567;
        let mut first = Buffer::zeros(len);
        first[len - 1] = 7.0;
        let address = first.as_ptr();
        drop(first);
        let second = Buffer::take(len - 5);
        assert_eq!(second.as_ptr(), address);
        assert_eq!(second.len(), len - 5);
        assert_eq!(address as usize % 64, 0);
    }
}
