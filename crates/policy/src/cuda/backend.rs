//! What the passes ask of a device.

use crate::device::DeviceError;
use crate::kernels::matmul::Compute;
use std::any::Any;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Every kernel, as `kernels/` names it.
pub(super) const KERNELS: [&str; 22] = [
    "embed",
    "rms_norm",
    "rms_norm_backward",
    "sum_rows",
    "add_parts",
    "shape_qkv",
    "unshape_qkv",
    "swiglu",
    "swiglu_backward",
    "gather_rows",
    "scatter_rows",
    "embed_backward",
    "attend",
    "attend_backward_queries",
    "attend_backward_keys",
    "sum_heads",
    "attend_decoding",
    "score_rows",
    "logits_gradient",
    "draw",
    "adamw",
    "round_weights",
];

/// The kernel of the gradient's norm, which works in double precision.
pub(super) const SUM_SQUARES: &str = "sum_squares";

/// Sources of the kernels behind the header of the compiler they are for, in order.
pub(super) const SOURCES: [&str; 6] = [
    include_str!("kernels/numbers.h"),
    include_str!("kernels/rows.cu"),
    include_str!("kernels/tiles.h"),
    include_str!("kernels/attention.cu"),
    include_str!("kernels/scores.cu"),
    include_str!("kernels/optimizer.cu"),
];

/// Tiles of keys and queries that a block of attention has in shared memory at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Tiles {
    Large,
    /// For float32 heads wider than 64 on devices with 99 KiB of shared memory a block.
    Small,
}

/// What the kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Shape {
    pub(super) compute: Compute,
    /// Width of an attention head.
    pub(super) head: usize,
    pub(super) tiles: Tiles,
}

impl Shape {
    /// That with the largest tiles for which `shared_memory` bytes a block are enough.
    ///
    /// # Errors
    /// [`DeviceError::Unsupported`] where no tiles are small enough.
    pub(super) fn fitting(
        compute: Compute,
        head: usize,
        shared_memory: usize,
    ) -> Result<Self, DeviceError> {
        let shapes = [Tiles::Large, Tiles::Small].map(|tiles| Self {
            compute,
            head,
            tiles,
        });
        let fits = |shape: &Self| shape.most_shared() as usize <= shared_memory;
        shapes
            .into_iter()
            .find(fits)
            .ok_or_else(|| DeviceError::Unsupported {
                what: format!(
                    "attention heads of width {head} in this number type need more than the {} KiB of shared \
                     memory that a block has on this device",
                    shared_memory >> 10
                ),
                remedy: "use `model.compute = \"bf16\"`, or the CPU",
            })
    }

    /// Bytes of a number.
    pub(super) fn number(self) -> usize {
        match self.compute {
            Compute::F32 => 4,
            Compute::Bf16 => 2,
        }
    }

    /// The whole source, `first` being the header for the compiler.
    pub(super) fn source(self, first: &str, last: &str) -> String {
        let number = usize::from(self.compute == Compute::Bf16);
        let small = usize::from(self.tiles == Tiles::Small);
        let settings = format!(
            "#define NUMBER {number}\n#define HEAD {}\n#define SMALL {small}\n",
            self.head
        );
        let parts = [settings.as_str(), first]
            .into_iter()
            .chain(SOURCES)
            .chain([last]);
        parts.collect::<Vec<_>>().concat()
    }

    /// Bytes of shared memory that a kernel asks for at its launch, as its source divides them.
    pub(super) fn shared(self, kernel: &str) -> u32 {
        let width = self.head.next_multiple_of(16);
        let more = 16 / self.number();
        let (pitch, rows) = (width + more, 64);
        let (keys, keys_backward, queries) = match self.tiles {
            Tiles::Large => (64, 64, 32),
            Tiles::Small => (32, 16, 16),
        };
        let numbers = match kernel {
            "attend" => (rows + 2 * keys) * pitch + rows * (keys + more),
            "attend_backward_queries" => {
                2 * (rows + keys_backward) * pitch + rows * (keys_backward + more)
            }
            "attend_backward_keys" => 2 * (rows + queries) * pitch + 2 * rows * (queries + more),
            _ => 0,
        };
        (numbers * self.number()) as u32
    }

    /// The most that any kernel asks for.
    fn most_shared(self) -> u32 {
        let all = KERNELS.into_iter().map(|kernel| self.shared(kernel));
        all.max().unwrap_or(0)
    }
}

/// One argument of a kernel, exactly as wide as its parameter.
#[derive(Clone, Copy, Debug)]
pub(super) enum Argument {
    /// An address; 0 is none.
    At(u64),
    Int(i32),
    Long(i64),
    Float(f32),
}

impl Argument {
    /// Its bytes, at the beginning of eight.
    pub(super) fn slot(self) -> u64 {
        match self {
            Self::At(address) => address,
            Self::Int(value) => u64::from(value as u32),
            Self::Long(value) => value as u64,
            Self::Float(value) => u64::from(value.to_bits()),
        }
    }
}

/// A matrix in a device's memory, row-major.
#[derive(Clone, Copy, Debug)]
pub(super) struct Matrix {
    pub(super) at: u64,
    /// Elements from row to row.
    pub(super) stride: usize,
    /// Whether it is meant the other way round.
    pub(super) transposed: bool,
}

/// `c[m x n] = a[m x k] * b[k x n] + beta * c`; factors are numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Product {
    pub(super) m: usize,
    pub(super) n: usize,
    pub(super) k: usize,
    pub(super) a: Matrix,
    pub(super) b: Matrix,
    /// 0 or 1.
    pub(super) beta: f32,
    pub(super) c: u64,
    pub(super) c_stride: usize,
    /// Whether `c` holds floats; else numbers.
    pub(super) c_floats: bool,
}

/// A sequence of launches that a device has taken down to run it again.
#[derive(Default)]
pub(super) struct Recording(pub(super) Option<Box<dyn Any + Send>>);

/// Memory, kernels and products of a device, one order of work.
///
/// Addresses are the device's own: the callers in this module hand in only what `allocate` gave, with ranges that
/// lie inside, and kernels with the parameters of their sources.
pub(super) trait Backend: Send + Sync {
    fn shape(&self) -> Shape;
    fn allocate(&self, bytes: usize) -> Result<u64, DeviceError>;
    fn release(&self, at: u64, bytes: usize);
    /// Bytes that could be allocated; `None` where that is the host's affair.
    fn free(&self) -> Option<usize>;
    /// Returns when the bytes may be changed.
    fn upload(&self, to: u64, bytes: &[u8]) -> Result<(), DeviceError>;
    /// Waits for all work before it.
    fn download(&self, from: u64, bytes: &mut [u8]) -> Result<(), DeviceError>;
    fn copy(&self, from: u64, to: u64, bytes: usize) -> Result<(), DeviceError>;
    fn clear(&self, at: u64, bytes: usize) -> Result<(), DeviceError>;
    fn launch(
        &self,
        kernel: &'static str,
        grid: [usize; 2],
        threads: u32,
        arguments: &[Argument],
    ) -> Result<(), DeviceError>;
    fn product(&self, product: &Product) -> Result<(), DeviceError>;
    /// Does `work`, which launches the same with the same arguments every time; a device that can takes it down
    /// the first time and repeats it from there.
    fn replay(
        &self,
        recording: &mut Recording,
        work: &mut dyn FnMut() -> Result<(), DeviceError>,
    ) -> Result<(), DeviceError>;
}

/// Goes through passes without doing them, to find what memory they need and how many calls they make.
pub(super) struct Rehearsal {
    shape: Shape,
    /// Bytes that are allocated.
    held: AtomicUsize,
    calls: Mutex<Calls>,
}

/// Calls to a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Calls {
    /// Kernels of this crate.
    pub(super) launches: usize,
    /// Products, by cuBLAS.
    pub(super) products: usize,
    /// Copies to the device, from it, and on it, clearing included.
    pub(super) copies: usize,
    /// Repetitions of what was taken down, each one call, and the calls that it was taken down from.
    pub(super) replays: usize,
    pub(super) recorded: usize,
}

impl Rehearsal {
    pub(super) fn new(shape: Shape) -> Self {
        Self {
            shape,
            held: AtomicUsize::new(0),
            calls: Mutex::default(),
        }
    }

    /// Bytes that are allocated.
    pub(super) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Calls since it was last asked.
    pub(super) fn take_calls(&self) -> Calls {
        std::mem::take(&mut self.calls())
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Backend for Rehearsal {
    fn shape(&self) -> Shape {
        self.shape
    }

    fn allocate(&self, bytes: usize) -> Result<u64, DeviceError> {
        self.held.fetch_add(bytes, Ordering::Relaxed);
        Ok(0)
    }

    fn release(&self, _: u64, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn free(&self) -> Option<usize> {
        None
    }

    fn upload(&self, _: u64, _: &[u8]) -> Result<(), DeviceError> {
        self.calls().copies += 1;
        Ok(())
    }

    fn download(&self, _: u64, _: &mut [u8]) -> Result<(), DeviceError> {
        self.calls().copies += 1;
        Ok(())
    }

    fn copy(&self, _: u64, _: u64, _: usize) -> Result<(), DeviceError> {
        self.calls().copies += 1;
        Ok(())
    }

    fn clear(&self, _: u64, _: usize) -> Result<(), DeviceError> {
        self.calls().copies += 1;
        Ok(())
    }

    fn launch(
        &self,
        _: &'static str,
        _: [usize; 2],
        _: u32,
        _: &[Argument],
    ) -> Result<(), DeviceError> {
        self.calls().launches += 1;
        Ok(())
    }

    fn product(&self, _: &Product) -> Result<(), DeviceError> {
        self.calls().products += 1;
        Ok(())
    }

    fn replay(
        &self,
        _: &mut Recording,
        work: &mut dyn FnMut() -> Result<(), DeviceError>,
    ) -> Result<(), DeviceError> {
        let before = self.take_calls();
        work()?;
        let inside = self.take_calls();
        *self.calls() = Calls {
            replays: before.replays + 1,
            recorded: before.recorded + inside.launches + inside.products + inside.copies,
            ..before
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shared memory of a block on compute capability 8.6, 8.9 and 12.x, the least there is from 8.0 on, and on 8.0.
    const LEAST: usize = 99 << 10;
    const AMPERE: usize = 163 << 10;

    #[test]
    fn heads_of_every_width_fit_into_the_shared_memory_of_every_device() {
        for head in (2..=128).step_by(2) {
            let tiles = |compute, memory| Shape::fitting(compute, head, memory).unwrap().tiles;
            assert_eq!(tiles(Compute::Bf16, LEAST), Tiles::Large, "{head}");
            assert_eq!(tiles(Compute::F32, AMPERE), Tiles::Large, "{head}");
            let small = tiles(Compute::F32, LEAST) == Tiles::Small;
            assert_eq!(small, head > 64, "{head}");
        }
        let refused = Shape::fitting(Compute::F32, 128, 48 << 10).unwrap_err();
        assert!(
            refused.to_string().contains("`model.compute = \"bf16\"`"),
            "{refused}"
        );
    }
}
