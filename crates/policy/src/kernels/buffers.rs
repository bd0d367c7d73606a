//! Work memory that outlives the call that needed it.
//!
//! A pass over a micro-batch takes and returns the same sizes block after block and step after step.
//! Asking the system each time would fault every page in again, which costs more than the arithmetic of
//! the elementwise passes. Buffers are aligned to cache lines, so that no vector straddles two.

use std::collections::BTreeMap;
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
        let count = words.div_ceil(16);
        let mut lines = Vec::with_capacity(count);
        prefer_huge_pages(lines.spare_capacity_mut());
        lines.resize(count, Line([0; 16]));
        Self { lines }
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

/// The words of float32.
pub(crate) fn words(floats: &[f32]) -> &[u32] {
    // SAFETY: float32 and u32 have the same size and alignment, and every bit pattern is valid for both.
    unsafe { std::slice::from_raw_parts(floats.as_ptr().cast(), floats.len()) }
}

/// As [`words`], to be written.
pub(crate) fn words_mut(floats: &mut [f32]) -> &mut [u32] {
    // SAFETY: as in `words`; the borrow is exclusive.
    unsafe { std::slice::from_raw_parts_mut(floats.as_mut_ptr().cast(), floats.len()) }
}

/// Asks the system to back memory that has not been touched yet by large pages: it is then faulted in
/// by 2 MiB instead of 4 KiB. Without them everything works, more slowly.
pub(crate) fn prefer_huge_pages<T>(memory: &mut [T]) {
    #[cfg(target_os = "linux")]
    {
        const PAGE: usize = 4096;
        const WORTH_IT: usize = 2 << 20;
        let (first, bytes) = (memory.as_mut_ptr() as usize, size_of_val(memory));
        let (start, end) = (first.next_multiple_of(PAGE), (first + bytes) / PAGE * PAGE);
        if bytes >= WORTH_IT {
            // SAFETY: the whole pages of `memory`; the advice changes neither content nor validity. A
            // refusal costs nothing but speed.
            let _ = unsafe {
                let offset = start - first;
                rustix::mm::madvise(
                    memory.as_mut_ptr().cast::<u8>().add(offset).cast(),
                    end - start,
                    rustix::mm::Advice::LinuxHugepage,
                )
            };
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = memory;
}

/// Words of the blocks (64 KiB) that hold what is kept for long: they pass from one use to the other whatever the sizes
/// of what is kept.
pub(crate) const BLOCK: usize = 1 << 14;

/// Buffers at rest by their words, with the number of [`trim`]s they have rested for.
static POOL: Mutex<Pool> = Mutex::new(BTreeMap::new());

type Pool = BTreeMap<usize, Vec<(Aligned, usize)>>;

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

    /// Changes the length; the content is unspecified afterwards.
    pub(crate) fn reset(&mut self, len: usize) {
        if self.memory.words() < len {
            *self = Self::take(len);
        }
        self.len = len;
    }

    /// Changes the length and fills with zeros.
    pub(crate) fn reset_to_zeros(&mut self, len: usize) {
        self.reset(len);
        self.fill(0.0);
    }

    /// The elements as pairs of bfloat16.
    pub(crate) fn pairs(&self) -> &[u32] {
        &self.memory.pairs()[..self.len]
    }

    /// As [`Buffer::pairs`], to be written.
    pub(crate) fn pairs_mut(&mut self) -> &mut [u32] {
        &mut self.memory.pairs_mut()[..self.len]
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

fn pool() -> std::sync::MutexGuard<'static, Pool> {
    // A panic elsewhere leaves the lists whole: every change to them is one push or one removal.
    POOL.lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Memory of at least `words` words with unspecified content.
pub(crate) fn take(words: usize) -> Aligned {
    if words == 0 {
        return Aligned::default();
    }
    let mut pool = pool();
    // The smallest that fits without wasting more than a fifth of it. A wider choice lets micro-batches of unlike
    // sizes share a set of buffers, but then what a process holds wanders by a tenth over a long run.
    let mut fitting = pool.range_mut(words..=words + words / 4 + 4096);
    if let Some((memory, _)) = fitting.find_map(|(_, resting)| resting.pop()) {
        return memory;
    }
    // One that is a little too small gives way to its successor: else micro-batches that grow from step to step
    // would leave generations of buffers behind.
    let mut outgrown = pool.range_mut(words / 2..words).rev();
    let outgrown = outgrown.find_map(|(_, resting)| resting.pop());
    // Freed before the next one is taken, and not under the lock.
    drop(pool);
    drop(outgrown);
    Aligned::zeroed(words)
}

/// Returns memory to the pool.
pub(crate) fn give_back(memory: Aligned) {
    let words = memory.words();
    if words > 0 {
        pool().entry(words).or_default().push((memory, 0));
    }
}

/// Marks the end of a pass: buffers that several passes in a row did not need are freed.
pub(crate) fn trim() {
    let mut freed = Vec::new();
    pool().retain(|_, resting| {
        for (_, rests) in resting.iter_mut() {
            *rests += 1;
        }
        freed.extend(resting.extract_if(.., |(_, rests)| *rests > PATIENCE));
        !resting.is_empty()
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

    #[test]
    fn buffers_that_grow_leave_none_behind() {
        // Sizes no other test asks for.
        for len in (9_000_000..9_004_000).step_by(1000) {
            drop(Buffer::take(len));
        }
        let resting = pool();
        let near = resting.range(8_900_000..9_100_000);
        assert_eq!(near.map(|(_, resting)| resting.len()).sum::<usize>(), 1);
    }
}
