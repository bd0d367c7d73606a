//! Where a model computes.

use crate::config::ModelConfig;
use crate::decoder::{Decoder, DecoderOptions};
use crate::parameters::Parameters;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::AddAssign;
use std::str::FromStr;

/// Where a model is to compute: `cpu`, `cuda` (the first GPU), `cuda:1` (the second), or `auto`: the first GPU if
/// this build can use one and there is one, else the CPU, with a warning if there is one that cannot be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DeviceChoice {
    /// The processor.
    #[default]
    Cpu,
    /// The driver's GPU of this number, from 0.
    Cuda(usize),
    /// A GPU if there is one.
    Auto,
    /// The GPU's kernels on the CPU, thousands of times slower: for tests. Written `emulated`, or `emulated:64`
    /// for a device of so many MiB.
    #[cfg(feature = "cuda")]
    Emulated {
        /// Memory of the device; as much as the host has where none is given.
        mebibytes: Option<usize>,
    },
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |ordinal: &str| ordinal.parse().ok().map(Self::Cuda);
        #[cfg(feature = "cuda")]
        if let Some(size) = text.strip_prefix("emulated:")
            && let Ok(mebibytes @ 1..) = size.parse()
        {
            let mebibytes = Some(mebibytes);
            return Ok(Self::Emulated { mebibytes });
        }
        let choice = match text {
            "cpu" => Some(Self::Cpu),
            "auto" => Some(Self::Auto),
            "cuda" => Some(Self::Cuda(0)),
            #[cfg(feature = "cuda")]
            "emulated" => Some(Self::Emulated { mebibytes: None }),
            _ => text.strip_prefix("cuda:").and_then(number),
        };
        choice.ok_or_else(|| {
            format!("`{text}` is no device; use \"cpu\", \"cuda\", \"cuda:<number>\" or \"auto\"")
        })
    }
}

impl TryFrom<String> for DeviceChoice {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => out.write_str("cpu"),
            Self::Cuda(0) => out.write_str("cuda"),
            Self::Cuda(ordinal) => write!(out, "cuda:{ordinal}"),
            Self::Auto => out.write_str("auto"),
            #[cfg(feature = "cuda")]
            Self::Emulated { mebibytes: None } => out.write_str("emulated"),
            #[cfg(feature = "cuda")]
            Self::Emulated {
                mebibytes: Some(size),
            } => write!(out, "emulated:{size}"),
        }
    }
}

impl From<DeviceChoice> for String {
    fn from(choice: DeviceChoice) -> Self {
        choice.to_string()
    }
}

impl DeviceChoice {
    /// What it comes to on this machine, its libraries looked for; `None` is the CPU. Loads no weight.
    ///
    /// # Errors
    /// [`DeviceError`] if a GPU was asked for that this build or machine does not have.
    #[cfg(feature = "cuda")]
    pub fn open(self) -> Result<Option<crate::cuda::Device>, DeviceError> {
        use crate::cuda::Device;
        match self {
            Self::Cpu => Ok(None),
            Self::Auto if Device::count() == 0 => Ok(None),
            Self::Auto => or_cpu(Device::open(0)),
            Self::Cuda(ordinal) => Device::open(ordinal).map(Some),
            Self::Emulated { mebibytes: None } => Ok(Some(Device::emulated())),
            Self::Emulated {
                mebibytes: Some(size),
            } => Ok(Some(Device::emulated_of(size.saturating_mul(1 << 20)))),
        }
    }

    /// Whether it can be had on this machine. Loads no weight.
    ///
    /// # Errors
    /// [`DeviceError`] if a GPU was asked for that this build or machine does not have.
    pub fn check(self) -> Result<(), DeviceError> {
        #[cfg(feature = "cuda")]
        return self.open().map(drop);
        #[cfg(not(feature = "cuda"))]
        match self {
            Self::Cpu | Self::Auto => Ok(()),
            Self::Cuda(_) => Err(DeviceError::NotBuilt),
        }
    }

    /// A decoder there. With `trains`, one on a GPU has its gradient and the optimizer's moments there.
    ///
    /// # Errors
    /// [`DeviceError`] if there is no such device, or no room on it.
    pub fn decoder(
        self,
        config: &ModelConfig,
        parameters: &Parameters,
        options: DecoderOptions,
        trains: bool,
    ) -> Result<Decoder, DeviceError> {
        #[cfg(feature = "cuda")]
        if let Some(device) = self.open()? {
            return Decoder::on(&device, config, parameters, options, trains);
        }
        self.check()?;
        let _ = trains;
        Ok(Decoder::with_options(config, parameters, options))
    }
}

/// A GPU, or the CPU (`None`) with a warning where this machine or the GPU lacks what the kernels need.
#[cfg(feature = "cuda")]
fn or_cpu<D>(opened: Result<D, DeviceError>) -> Result<Option<D>, DeviceError> {
    /// A run asks more than once.
    static TOLD: std::sync::Once = std::sync::Once::new();
    match opened {
        Err(
            error @ (DeviceError::MissingLibrary { .. }
            | DeviceError::Unsupported { .. }
            | DeviceError::NoDevice { .. }),
        ) => {
            TOLD.call_once(|| tracing::warn!("the GPU is not used, the CPU is: {error}"));
            Ok(None)
        }
        opened => opened.map(Some),
    }
}

/// What the next token of every running branch takes on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct DecodingCalls {
    /// Kernels and products of the model's pass, which were taken down once and are repeated with one call.
    pub recorded: usize,
    /// Calls that the host makes, that one among them: copies, and what draws the tokens.
    pub made: usize,
}

/// How often a device had no room, and what was done about it. Results are those of a device with room, up to the
/// rounding of products with other numbers of rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Shortages {
    /// Micro-batches that went forward and backward in halves.
    pub microbatches: u64,
    /// Other passes that were done in smaller parts.
    pub parts: u64,
    /// Pages of keys and values that could not be had, so that a branch waited.
    pub pages: u64,
}

impl Shortages {
    /// Whether there were any.
    pub fn is_any(&self) -> bool {
        *self != Self::default()
    }

    /// Whether there were some of a kind of which `before` has none.
    pub fn has_kinds_beside(&self, before: &Self) -> bool {
        let kinds = |of: &Self| [of.microbatches, of.parts, of.pages];
        let mut pairs = kinds(self).into_iter().zip(kinds(before));
        pairs.any(|(now, before)| now > 0 && before == 0)
    }
}

impl AddAssign for Shortages {
    fn add_assign(&mut self, other: Self) {
        self.microbatches += other.microbatches;
        self.parts += other.parts;
        self.pages += other.pages;
    }
}

impl fmt::Display for Shortages {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = [
            (self.microbatches, "micro-batches went through in halves"),
            (self.parts, "other passes were done in smaller parts"),
            (
                self.pages,
                "branches waited for room for their keys and values",
            ),
        ];
        let parts = kinds.iter().filter(|(count, _)| *count > 0);
        let parts: Vec<String> = parts
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        let parts = parts.join(", ");
        write!(
            out,
            "the device was short of memory: {parts}; results are the same, but speed is lost"
        )
    }
}

/// Why a device cannot be used, or stopped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// A GPU was asked for, and this build uses none.
    #[cfg(not(feature = "cuda"))]
    #[error(
        "this build of seele uses no GPU; make one with `cargo build --release --features cuda` (see docs/gpu.md), or use \"cpu\""
    )]
    NotBuilt,
    #[cfg(feature = "cuda")]
    /// A library that is looked for at run time is not there.
    #[error("cannot find {library}; {remedy}")]
    MissingLibrary {
        /// What it is and what its file is called.
        library: &'static str,
        /// What to do about it.
        remedy: &'static str,
    },
    #[cfg(feature = "cuda")]
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
    #[cfg(feature = "cuda")]
    /// The device or the model is of a kind that the kernels are not made for.
    #[error("{what}; {remedy}")]
    Unsupported {
        /// What is not supported, and what is.
        what: String,
        /// What to do about it.
        remedy: &'static str,
    },
    #[cfg(feature = "cuda")]
    /// What a pass was given does not fit the model or its own parts; nothing has been computed.
    #[error("{what}")]
    InvalidInput {
        /// What does not fit.
        what: String,
    },
    #[cfg(feature = "cuda")]
    /// A kernel does not compile.
    #[error(
        "the kernels do not compile for {target}; use the libraries that `scripts/cuda.sh --run` fetches, or the CPU: {log}"
    )]
    Compile {
        /// Architecture.
        target: String,
        /// What the compiler said.
        log: String,
    },
    #[cfg(feature = "cuda")]
    /// The device has no room.
    #[error(
        "the device has no room for {needed} MiB more ({free} of {total} MiB are free); end what else runs on it, or take shorter sequences, a smaller model or bfloat16"
    )]
    OutOfMemory {
        /// What was asked for, MiB, rounded up.
        needed: usize,
        /// What is free, MiB.
        free: usize,
        /// All there is, MiB.
        total: usize,
    },
    #[cfg(feature = "cuda")]
    /// The driver or a library refused or failed.
    #[error(
        "{what} failed on the device: {reason}; start again (`--resume` goes on from the last checkpoint), and if it fails again see whether `nvidia-smi` shows a healthy GPU, or use the CPU"
    )]
    Failed {
        /// What was done.
        what: &'static str,
        /// What the library said.
        reason: String,
    },
}

#[cfg(feature = "cuda")]
impl DeviceError {
    /// [`DeviceError::OutOfMemory`] of bytes.
    pub(crate) fn out_of_memory(needed: usize, free: usize, total: usize) -> Self {
        Self::OutOfMemory {
            needed: needed.div_ceil(1 << 20),
            free: free >> 20,
            total: total >> 20,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_as_they_are_written() {
        for text in ["cpu", "auto", "cuda", "cuda:3"] {
            assert_eq!(text.parse::<DeviceChoice>().unwrap().to_string(), text);
        }
        assert_eq!("cuda:0".parse(), Ok(DeviceChoice::Cuda(0)));
        for text in ["gpu", "cuda:", "cuda:x", "CPU", ""] {
            assert!(text.parse::<DeviceChoice>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_was_short_is_told_by_kind() {
        let mut short = Shortages::default();
        assert!(!short.is_any());
        for (microbatches, pages) in [(2, 0), (1, 4)] {
            short += Shortages {
                microbatches,
                parts: 0,
                pages,
            };
        }
        assert!(short.has_kinds_beside(&Shortages {
            pages: 1,
            ..Shortages::default()
        }));
        assert!(!short.has_kinds_beside(&short));
        let text = short.to_string();
        assert!(
            text.contains("3 micro-batches went through in halves, 4 branches waited"),
            "{text}"
        );
        assert!(!text.contains("smaller parts"), "{text}");
    }

    #[cfg(feature = "cuda")]
    #[test]
    fn an_emulated_device_can_be_small() {
        for text in ["emulated", "emulated:64"] {
            assert_eq!(text.parse::<DeviceChoice>().unwrap().to_string(), text);
        }
        for text in ["emulated:", "emulated:0", "emulated:-1"] {
            assert!(text.parse::<DeviceChoice>().is_err(), "{text}");
        }
    }

    #[cfg(feature = "cuda")]
    #[test]
    fn auto_takes_the_cpu_where_the_gpu_lacks_something_but_not_where_it_fails() {
        let missing = DeviceError::MissingLibrary {
            library: "NVRTC",
            remedy: "fetch it",
        };
        let old = DeviceError::Unsupported {
            what: "capability 7.5".to_owned(),
            remedy: "use the CPU",
        };
        for error in [missing, old] {
            assert_eq!(or_cpu::<()>(Err(error)), Ok(None));
        }
        let failed = DeviceError::Failed {
            what: "making a context",
            reason: "an error".to_owned(),
        };
        assert_eq!(or_cpu::<()>(Err(failed.clone())), Err(failed));
        assert_eq!(or_cpu(Ok(3)), Ok(Some(3)));
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_build_without_gpus_says_which_one_has_them() {
        assert!(DeviceChoice::Auto.check().is_ok());
        let error = DeviceChoice::Cuda(0).check().unwrap_err().to_string();
        assert!(error.contains("--features cuda"), "{error}");
    }
}
