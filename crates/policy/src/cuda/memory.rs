//! Memory of a device: what lasts, and the work memory of a pass.

use super::backend::{Backend, Shape};
use crate::device::DeviceError;
use std::sync::Arc;

/// Where buffers begin: on multiples of this.
const ALIGNMENT: usize = 256;

/// Memory that lasts until it is dropped.
pub(super) struct Memory {
    backend: Arc<dyn Backend>,
    pub(super) at: u64,
    pub(super) bytes: usize,
}

impl Memory {
    pub(super) fn new(backend: &Arc<dyn Backend>, bytes: usize) -> Result<Self, DeviceError> {
        Ok(Self {
            at: backend.allocate(bytes.max(1))?,
            bytes,
            backend: Arc::clone(backend),
        })
    }

    pub(super) fn zeros(backend: &Arc<dyn Backend>, bytes: usize) -> Result<Self, DeviceError> {
        let memory = Self::new(backend, bytes)?;
        backend.clear(memory.at, bytes)?;
        Ok(memory)
    }

    pub(super) fn of<T: Plain>(
        backend: &Arc<dyn Backend>,
        values: &[T],
    ) -> Result<Self, DeviceError> {
        let memory = Self::new(backend, size_of_val(values))?;
        backend.upload(memory.at, bytes_of(values))?;
        Ok(memory)
    }

    /// Refuses a copy of another size than the whole.
    ///
    /// # Errors
    /// [`DeviceError::InvalidInput`].
    pub(super) fn check_size<T: Plain>(&self, values: &[T]) -> Result<(), DeviceError> {
        let given = size_of_val(values);
        if given == self.bytes {
            return Ok(());
        }
        Err(DeviceError::InvalidInput {
            what: format!(
                "{given} bytes were given for {} on the device: they are another model's",
                self.bytes
            ),
        })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.backend.release(self.at, self.bytes.max(1));
    }
}

/// Numbers that are their bytes: no padding, any bits are a value.
///
/// # Safety
/// As it says.
pub(super) unsafe trait Plain: Copy {}

// SAFETY: primitive numbers.
unsafe impl Plain for f32 {}
// SAFETY: as above.
unsafe impl Plain for f64 {}
// SAFETY: as above.
unsafe impl Plain for i32 {}
// SAFETY: as above.
unsafe impl Plain for u64 {}

pub(super) fn bytes_of<T: Plain>(values: &[T]) -> &[u8] {
    // SAFETY: `T` is plain, so its bytes are initialised; the slice covers exactly them.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}

pub(super) fn bytes_of_mut<T: Plain>(values: &mut [T]) -> &mut [u8] {
    // SAFETY: as above, and any bytes are values of `T`.
    unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), size_of_val(values)) }
}

/// Work memory of a pass: buffers are taken one behind the other and given back all together.
pub(super) struct Arena {
    first: u64,
    size: usize,
    taken: usize,
    most: usize,
}

impl Arena {
    pub(super) fn new(memory: &Memory) -> Self {
        Self {
            first: memory.at,
            size: memory.bytes,
            taken: 0,
            most: 0,
        }
    }

    /// No memory, and so no room for anything.
    pub(super) fn none() -> Self {
        Self {
            first: 0,
            size: 0,
            taken: 0,
            most: 0,
        }
    }

    /// As much as there is to ask for, for a rehearsal.
    pub(super) fn endless() -> Self {
        Self {
            first: 0,
            size: usize::MAX / 2,
            taken: 0,
            most: 0,
        }
    }

    /// Bytes that were taken at a time.
    pub(super) fn most(&self) -> usize {
        self.most
    }
}

/// A device at work on one pass.
pub(super) struct Work<'a> {
    pub(super) backend: &'a dyn Backend,
    pub(super) arena: Arena,
}

impl Work<'_> {
    pub(super) fn shape(&self) -> Shape {
        self.backend.shape()
    }

    /// A buffer with whatever is in it.
    pub(super) fn take(&mut self, bytes: usize) -> Result<u64, DeviceError> {
        let arena = &mut self.arena;
        let bytes = bytes.next_multiple_of(ALIGNMENT);
        if bytes > arena.size - arena.taken {
            let free = arena.size - arena.taken;
            return Err(DeviceError::out_of_memory(bytes, free, arena.size));
        }
        let at = arena.first + arena.taken as u64;
        arena.taken += bytes;
        arena.most = arena.most.max(arena.taken);
        Ok(at)
    }

    pub(super) fn floats(&mut self, count: usize) -> Result<u64, DeviceError> {
        self.take(count * size_of::<f32>())
    }

    pub(super) fn numbers(&mut self, count: usize) -> Result<u64, DeviceError> {
        self.take(count * self.shape().number())
    }

    /// A buffer with these values.
    pub(super) fn put<T: Plain>(&mut self, values: &[T]) -> Result<u64, DeviceError> {
        let at = self.take(size_of_val(values))?;
        self.backend.upload(at, bytes_of(values))?;
        Ok(at)
    }

    /// Where the next buffer will begin.
    pub(super) fn mark(&self) -> usize {
        self.arena.taken
    }

    /// Gives back what was taken since.
    pub(super) fn reset(&mut self, mark: usize) {
        self.arena.taken = mark;
    }
}

#[cfg(test)]
mod tests {
    use super::super::backend::{Rehearsal, Tiles};
    use super::*;
    use crate::kernels::matmul::Compute;

    #[test]
    fn where_there_is_no_memory_there_is_no_room() {
        let backend = Rehearsal::new(Shape {
            compute: Compute::F32,
            head: 8,
            tiles: Tiles::Large,
        });
        let arena = Arena::none();
        let mut work = Work {
            backend: &backend,
            arena,
        };
        assert!(matches!(work.take(1), Err(DeviceError::OutOfMemory { .. })));
    }
}
