//! Host memory that a device copies from while the program goes on.

use super::driver::failed;
use crate::device::DeviceError;
use cudarc::driver::result as cuda;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes of it: more than the inputs and hidden states of a token of 1,000 branches of a model of width 2,048.
const BYTES: usize = 16 << 20;
/// Where copies begin: on multiples of this.
const ALIGNMENT: usize = 256;

/// Page-locked memory, which a device reads by itself. What is to be copied stays here, so that a copy reads nothing
/// of the caller's once the call has returned: the driver does not promise that of other memory.
pub(super) struct Staging {
    at: *mut u8,
    taken: Mutex<Taken>,
}

// SAFETY: the memory is written only under the lock, and only where no copy reads.
unsafe impl Send for Staging {}
// SAFETY: as above.
unsafe impl Sync for Staging {}

/// Bytes from the beginning that copies under way may read.
#[derive(Default)]
struct Taken(usize);

impl Taken {
    /// Room for a copy, if there is some.
    fn place(&mut self, bytes: usize) -> Option<Range<usize>> {
        let first = self.0.next_multiple_of(ALIGNMENT);
        let end = first.checked_add(bytes).filter(|&end| end <= BYTES)?;
        self.0 = end;
        Some(first..end)
    }
}

impl Staging {
    /// The device's context must be the current one, here and at the drop.
    pub(super) fn new() -> Result<Self, DeviceError> {
        // SAFETY: what is read of the memory has been written before.
        let at = unsafe { cuda::malloc_host(BYTES, 0) };
        Ok(Self {
            at: at.map_err(failed("allocating page-locked memory"))?.cast(),
            taken: Mutex::default(),
        })
    }

    /// Begins a copy of `bytes` by `copy`, which is given them as they are here; by the end of `wait`, all copies
    /// that were begun have ended. `false`, with nothing done, where there never is room for so many.
    pub(super) fn copy(
        &self,
        bytes: &[u8],
        copy: impl FnOnce(&[u8]) -> Result<(), DeviceError>,
        wait: impl FnOnce() -> Result<(), DeviceError>,
    ) -> Result<bool, DeviceError> {
        let mut taken = self.taken();
        let place = match taken.place(bytes.len()) {
            Some(place) => place,
            None if bytes.len() > BYTES => return Ok(false),
            None => {
                wait()?;
                *taken = Taken(bytes.len());
                0..bytes.len()
            }
        };
        // SAFETY: the range lies inside, and no copy reads it: none took it since all had ended. The lock is held, so
        // nobody else has a reference to it.
        let here = unsafe {
            let here = std::slice::from_raw_parts_mut(self.at.add(place.start), place.len());
            here.copy_from_slice(bytes);
            &*here
        };
        copy(here).map(|()| true)
    }

    /// Does `wait`, by the end of which all copies have ended; none begins meanwhile.
    pub(super) fn wait(
        &self,
        wait: impl FnOnce() -> Result<(), DeviceError>,
    ) -> Result<(), DeviceError> {
        let mut taken = self.taken();
        wait()?;
        *taken = Taken::default();
        Ok(())
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // SAFETY: `malloc_host` gave it, and whoever drops it has waited for the copies.
        unsafe { cuda::free_host(self.at.cast()) }.ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_under_way_do_not_overlap_and_stay_inside() {
        let mut taken = Taken::default();
        let mut end = 0;
        for bytes in [1, 255, 256, 0, 4097, 1 << 20] {
            let place = taken.place(bytes).unwrap();
            assert!(place.start >= end && place.start % ALIGNMENT == 0 && place.len() == bytes);
            end = place.end;
        }
        assert_eq!(taken.place(BYTES), None);
        assert_eq!(taken.place(usize::MAX), None);
        assert!(taken.place(BYTES - (2 << 20)).is_some());
        assert_eq!(Taken::default().place(BYTES), Some(0..BYTES));
    }
}
