//! What can go wrong with a device.

/// Why a device cannot be used, or stopped.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// A library that is looked for at run time is not there.
    #[error(
        "cannot find {library}; install it or put its folder into `LD_LIBRARY_PATH` (`scripts/cuda.sh` prints one)"
    )]
    MissingLibrary {
        /// What it is and what its file is called.
        library: &'static str,
    },
    /// The driver has no device of that number.
    #[error(
        "there is no device {ordinal}: the driver shows {count}; choose another or use the CPU"
    )]
    NoDevice {
        /// Number that was asked for.
        ordinal: usize,
        /// Devices there are.
        count: usize,
    },
    /// The device or the model is of a kind that the kernels are not made for.
    #[error("{what}")]
    Unsupported {
        /// What is not supported, and what is.
        what: String,
    },
    /// A kernel does not compile.
    #[error("the kernels do not compile for {target}: {log}")]
    Compile {
        /// Architecture.
        target: String,
        /// What the compiler said.
        log: String,
    },
    /// The device has no room.
    #[error("the device has no room for {needed} MiB more ({free} of {total} MiB are free)")]
    OutOfMemory {
        /// What was asked for, MiB.
        needed: usize,
        /// What is free, MiB.
        free: usize,
        /// All there is, MiB.
        total: usize,
    },
    /// The driver or a library refused or failed.
    #[error("{what} failed on the device: {reason}")]
    Failed {
        /// What was done.
        what: &'static str,
        /// What the library said.
        reason: String,
    },
}
