//! The work limit: counted in steps, so that a verdict is the same on every machine.
use std::cell::Cell;

/// Why a computation was given up. Never a statement about equality.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The work limit is reached: the whole comparison ends.
    OutOfFuel,
    /// A value is too large to hold, or the operation is not defined or not supported: this way of
    /// deciding ends, another may be tried.
    Unsupported,
}

/// A counter that runs down.
#[derive(Debug)]
pub(crate) struct Fuel {
    limit: u32,
    left: Cell<u32>,
}

impl Fuel {
    pub(crate) fn new(steps: u32) -> Self {
        Self {
            limit: steps,
            left: Cell::new(steps),
        }
    }

    /// Takes `steps`, or fails for good when fewer are left.
    #[inline]
    pub(crate) fn spend(&self, steps: usize) -> Result<(), Stop> {
        match u32::try_from(steps)
            .ok()
            .and_then(|steps| self.left.get().checked_sub(steps))
        {
            Some(left) => {
                self.left.set(left);
                Ok(())
            }
            None => {
                self.left.set(0);
                Err(Stop::OutOfFuel)
            }
        }
    }

    /// True when nothing is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.left.get() == 0
    }

    /// Steps taken so far; all of them once a request was refused.
    pub(crate) fn spent(&self) -> u32 {
        self.limit - self.left.get()
    }
}
