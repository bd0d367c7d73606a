//! The device's emulation: the kernels' own sources compiled for the CPU, so that tests hold them, and the
//! whole decoder on them, to the CPU's decoder.

use super::backend::{Argument, Backend, KERNELS, Product, Recording, SUM_SQUARES, Shape};
use crate::device::DeviceError;
use libloading::Library;
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::collections::HashMap;
use std::ffi::c_void;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Where memory begins: on multiples of this, as on a device.
const ALIGNMENT: usize = 256;
/// What fresh memory is full of: no number.
const POISON: u8 = 0xff;

type Kernel = unsafe extern "C" fn(*const u32, u32, u32, *mut *mut c_void);
type Multiply = unsafe extern "C" fn(
    i32,
    i32,
    i32,
    *const c_void,
    i32,
    i32,
    *const c_void,
    i32,
    i32,
    f32,
    *mut c_void,
    i32,
    i32,
);

/// An emulated device's memory: the host's, with a bound where there is one.
pub(super) struct EmulatedMemory {
    /// Bytes there are.
    total: Option<usize>,
    used: AtomicUsize,
}

impl EmulatedMemory {
    pub(super) fn new(total: Option<usize>) -> Arc<Self> {
        Arc::new(Self {
            total,
            used: AtomicUsize::new(0),
        })
    }

    /// One memory of this size for the whole process, as a GPU has one.
    pub(super) fn shared(total: usize) -> Arc<Self> {
        static SHARED: Mutex<Vec<Arc<EmulatedMemory>>> = Mutex::new(Vec::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        let found = shared.iter().find(|memory| memory.total == Some(total));
        let memory = found.map_or_else(|| Self::new(Some(total)), Arc::clone);
        if found.is_none() {
            shared.push(Arc::clone(&memory));
        }
        memory
    }

    /// Bytes that could be allocated, and all there are; `None` without a bound.
    pub(super) fn free_and_total(&self) -> Option<(usize, usize)> {
        let total = self.total?;
        Some((total - self.used.load(Ordering::Relaxed).min(total), total))
    }

    fn take(&self, bytes: usize) -> Result<(), DeviceError> {
        let total = self.total.unwrap_or(usize::MAX);
        let add = |used: usize| used.checked_add(bytes).filter(|&used| used <= total);
        let taken = self
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        taken
            .map(drop)
            .map_err(|used| DeviceError::out_of_memory(bytes, total - used, total))
    }
}

/// Kernels for the CPU, of one shape, on an emulated device.
pub(super) struct Emulation {
    code: Arc<Code>,
    memory: Arc<EmulatedMemory>,
}

impl Emulation {
    /// The kernels of this shape, compiled once a process.
    pub(super) fn of(
        shape: Shape,
        memory: &Arc<EmulatedMemory>,
    ) -> Result<Arc<dyn Backend>, DeviceError> {
        static COMPILED: Mutex<Vec<Arc<Code>>> = Mutex::new(Vec::new());
        let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
        let found = compiled.iter().find(|found| found.shape == shape).cloned();
        let code = match found {
            Some(found) => found,
            None => {
                let made = Arc::new(Code::compile(shape)?);
                compiled.push(Arc::clone(&made));
                made
            }
        };
        Ok(Arc::new(Self {
            code,
            memory: Arc::clone(memory),
        }))
    }
}

/// Compiled kernels of one shape.
struct Code {
    shape: Shape,
    kernels: HashMap<&'static str, Kernel>,
    multiply: Multiply,
    /// Keeps the code loaded; its file is gone.
    _library: Library,
}

impl Code {
    fn compile(shape: Shape) -> Result<Self, DeviceError> {
        let failed = |reason: String| DeviceError::Failed {
            what: "compiling kernels for the CPU",
            reason,
        };
        let source = shape.source(
            include_str!("kernels/emulation.h"),
            include_str!("kernels/product.cpp"),
        );
        // Of our own, new, under a name that nobody else knows beforehand: code is loaded from it.
        let folder = tempfile::Builder::new().prefix("seele-kernels-").tempdir();
        let folder = folder.map_err(|error| failed(error.to_string()))?;
        let (code, library) = (
            folder.path().join("kernels.cpp"),
            folder.path().join("kernels.so"),
        );
        let compiler = std::env::var_os("CXX").unwrap_or_else(|| "c++".into());
        std::fs::write(&code, source).map_err(|error| failed(error.to_string()))?;
        let output = Command::new(compiler)
            .args(["-std=c++17", "-O2", "-shared", "-fPIC", "-o"])
            .args([&library, &code])
            .output()
            .map_err(|_| DeviceError::MissingLibrary {
                library: "a C++ compiler (`c++`, or what `CXX` names)",
                remedy: "install one",
            })?;
        if !output.status.success() {
            return Err(DeviceError::Compile {
                target: "the CPU".to_owned(),
                log: String::from_utf8_lossy(&output.stderr).into_owned(),
            });
        }
        // SAFETY: the library was made from our sources and runs nothing when it is loaded.
        let loaded =
            unsafe { Library::new(&library) }.map_err(|error| failed(error.to_string()))?;
        let mut kernels = HashMap::new();
        for name in KERNELS.into_iter().chain([SUM_SQUARES]) {
            let symbol = format!("emulated_{name}");
            // SAFETY: `EXPORT` in `emulation.h` gives every kernel this signature.
            let kernel = unsafe { loaded.get::<Kernel>(symbol.as_bytes()) };
            kernels.insert(name, *kernel.map_err(|error| failed(error.to_string()))?);
        }
        // SAFETY: the signature is that in `product.cpp`.
        let multiply = unsafe { loaded.get::<Multiply>(b"emulated_product") };
        Ok(Self {
            shape,
            kernels,
            multiply: *multiply.map_err(|error| failed(error.to_string()))?,
            _library: loaded,
        })
    }
}

fn layout(bytes: usize) -> Layout {
    Layout::from_size_align(bytes, ALIGNMENT).expect("sizes of tests are far from the largest")
}

impl Backend for Emulation {
    fn shape(&self) -> Shape {
        self.code.shape
    }

    fn allocate(&self, bytes: usize) -> Result<u64, DeviceError> {
        self.memory.take(bytes)?;
        // SAFETY: `bytes` is at least 1; the range is the fresh allocation.
        unsafe {
            let at = alloc(layout(bytes));
            if at.is_null() {
                handle_alloc_error(layout(bytes));
            }
            at.write_bytes(POISON, bytes);
            Ok(at as u64)
        }
    }

    fn release(&self, at: u64, bytes: usize) {
        // SAFETY: `allocate` gave it with this layout.
        unsafe { dealloc(at as *mut u8, layout(bytes)) }
        self.memory.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn free(&self) -> Option<usize> {
        self.memory.free_and_total().map(|(free, _)| free)
    }

    fn upload(&self, to: u64, bytes: &[u8]) -> Result<(), DeviceError> {
        // SAFETY: the range lies in an allocation, which Rust code does not see otherwise.
        unsafe { (to as *mut u8).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) }
        Ok(())
    }

    fn download(&self, from: u64, bytes: &mut [u8]) -> Result<(), DeviceError> {
        // SAFETY: as above.
        unsafe { (from as *const u8).copy_to_nonoverlapping(bytes.as_mut_ptr(), bytes.len()) }
        Ok(())
    }

    fn copy(&self, from: u64, to: u64, bytes: usize) -> Result<(), DeviceError> {
        // SAFETY: both ranges lie in allocations.
        unsafe { (from as *const u8).copy_to(to as *mut u8, bytes) }
        Ok(())
    }

    fn clear(&self, at: u64, bytes: usize) -> Result<(), DeviceError> {
        // SAFETY: the range lies in an allocation.
        unsafe { (at as *mut u8).write_bytes(0, bytes) }
        Ok(())
    }

    fn launch(
        &self,
        kernel: &'static str,
        grid: [usize; 2],
        threads: u32,
        arguments: &[Argument],
    ) -> Result<(), DeviceError> {
        let mut slots: Vec<u64> = arguments.iter().map(|argument| argument.slot()).collect();
        let mut places: Vec<*mut c_void> = slots
            .iter_mut()
            .map(|slot| std::ptr::from_mut(slot).cast())
            .collect();
        let grid = [grid[0] as u32, grid[1] as u32, 1];
        let shared = self.code.shape.shared(kernel);
        // SAFETY: the arguments are of the kernel's types, by the caller's promise.
        unsafe { self.code.kernels[kernel](grid.as_ptr(), threads, shared, places.as_mut_ptr()) }
        Ok(())
    }

    fn product(&self, product: &Product) -> Result<(), DeviceError> {
        let Product { a, b, .. } = product;
        // SAFETY: the matrices lie in allocations, by the caller's promise.
        unsafe {
            (self.code.multiply)(
                product.m as i32,
                product.n as i32,
                product.k as i32,
                a.at as *const c_void,
                a.stride as i32,
                i32::from(a.transposed),
                b.at as *const c_void,
                b.stride as i32,
                i32::from(b.transposed),
                product.beta,
                product.c as *mut c_void,
                product.c_stride as i32,
                i32::from(product.c_floats),
            );
        }
        Ok(())
    }

    fn replay(
        &self,
        _: &mut Recording,
        work: &mut dyn FnMut() -> Result<(), DeviceError>,
    ) -> Result<(), DeviceError> {
        work()
    }
}
