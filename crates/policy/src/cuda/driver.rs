//! A GPU behind the driver's own interface, NVRTC and cuBLAS.

use super::backend::{Argument, Backend, KERNELS, Matrix, Product, Recording, SUM_SQUARES, Shape};
use super::staging::Staging;
use crate::device::DeviceError;
use crate::kernels::matmul::Compute;
use cudarc::cublas::sys as blas;
use cudarc::driver::result::{self as cuda, DriverError};
use cudarc::driver::sys;
use cudarc::nvrtc::{result as compiler, sys as compiler_sys};
use std::collections::HashMap;
use std::ffi::{CString, c_char, c_void};
use std::sync::Arc;

/// Work memory of the products' library, which graph capture must not allocate.
const WORKSPACE: usize = 32 << 20;
/// Oldest architecture: the first with bfloat16 products.
const OLDEST: i32 = 80;

pub(super) fn failed(what: &'static str) -> impl Fn(DriverError) -> DeviceError {
    move |error| DeviceError::Failed {
        what,
        reason: format!("{error:?}"),
    }
}

/// What a machine needs beside the program, and where it comes from. Each is looked for under its plain name and
/// with the numbers of CUDA's versions behind it, where the system's loader looks.
const LIBRARIES: [(&str, &str); 3] = [
    ("the NVIDIA driver (`libcuda.so.1`)", INSTALL_DRIVER),
    ("NVRTC (`libnvrtc.so.13`)", FETCH),
    ("cuBLAS (`libcublas.so.13`)", FETCH),
];
const INSTALL_DRIVER: &str = "install it, or use the CPU";
const FETCH: &str = "`scripts/cuda.sh --run` fetches it and prints the folder to put into `LD_LIBRARY_PATH`; the CUDA toolkit has it too";

fn check_libraries(present: [bool; 3]) -> Result<(), DeviceError> {
    match LIBRARIES.iter().zip(present).find(|(_, present)| !present) {
        None => Ok(()),
        Some((&(library, remedy), _)) => Err(DeviceError::MissingLibrary { library, remedy }),
    }
}

/// Refuses to go on without NVRTC.
pub(super) fn check_compiler() -> Result<(), DeviceError> {
    // SAFETY: looks for a file.
    check_libraries([true, unsafe { compiler_sys::is_culib_present() }, true])
}

/// A device's primary context, and what is known of it.
pub(super) struct Gpu {
    device: sys::CUdevice,
    context: sys::CUcontext,
    pub(super) name: String,
    /// Compute capability: 90 is 9.0.
    capability: i32,
    /// Bytes that a block can have at most.
    pub(super) shared_memory: usize,
}

// SAFETY: a context may be used from any thread that makes it current, which every use does.
unsafe impl Send for Gpu {}
// SAFETY: as above.
unsafe impl Sync for Gpu {}

impl Gpu {
    /// Devices that the driver shows; 0 without a driver.
    pub(super) fn count() -> usize {
        // SAFETY: looks for a file.
        if !unsafe { sys::is_culib_present() } || cuda::init().is_err() {
            return 0;
        }
        cuda::device::get_count().map_or(0, |count| count.max(0) as usize)
    }

    pub(super) fn open(ordinal: usize) -> Result<Arc<Self>, DeviceError> {
        // SAFETY: each looks for a file.
        let present = unsafe {
            [
                sys::is_culib_present(),
                compiler_sys::is_culib_present(),
                blas::is_culib_present(),
            ]
        };
        check_libraries(present)?;
        cuda::init().map_err(failed("starting the driver"))?;
        let count = Self::count();
        if ordinal >= count {
            return Err(DeviceError::NoDevice { ordinal, count });
        }
        let device = cuda::device::get(ordinal as i32).map_err(failed("asking for the device"))?;
        use sys::CUdevice_attribute::{
            CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR as MAJOR,
            CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR as MINOR,
            CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN as SHARED,
        };
        // SAFETY: the device is one that the driver gave.
        let (major, minor, shared, context) = unsafe {
            let attribute = |which| cuda::device::get_attribute(device, which);
            let asked = failed("asking for the device's capability");
            (
                attribute(MAJOR).map_err(&asked)?,
                attribute(MINOR).map_err(&asked)?,
                attribute(SHARED).map_err(&asked)?,
                cuda::primary_ctx::retain(device).map_err(failed("making a context"))?,
            )
        };
        let gpu = Self {
            device,
            context,
            name: cuda::device::get_name(device).map_err(failed("asking for the device's name"))?,
            capability: 10 * major + minor,
            shared_memory: shared.max(0) as usize,
        };
        if gpu.capability < OLDEST {
            return Err(DeviceError::Unsupported {
                what: format!(
                    "{} has compute capability {major}.{minor}, 8.0 is needed",
                    gpu.name
                ),
                remedy: "use another GPU, or the CPU",
            });
        }
        Ok(Arc::new(gpu))
    }

    /// Bytes that are free, and all there are.
    pub(super) fn free_and_total_memory(&self) -> Option<(usize, usize)> {
        self.make_current().ok()?;
        cuda::mem_get_info().ok()
    }

    fn make_current(&self) -> Result<(), DeviceError> {
        // SAFETY: the context is retained as long as `self` lives.
        unsafe { cuda::ctx::set_current(self.context) }.map_err(failed("entering the context"))
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        // SAFETY: retained once, in `open`. A driver that is shutting down has nothing left to release.
        unsafe { cuda::primary_ctx::release(self.device) }.ok();
    }
}

/// Machine code of the kernels for a compute capability; needs no GPU.
pub(super) fn compile(shape: Shape, capability: i32) -> Result<Vec<c_char>, DeviceError> {
    let target = format!("sm_{capability}");
    let source = shape.source(include_str!("kernels/device.h"), "");
    let refused = |log: String| DeviceError::Compile {
        target: target.clone(),
        log,
    };
    let source = CString::new(source).map_err(|error| refused(error.to_string()))?;
    let program = compiler::create_program(&source, Some(c"kernels.cu"))
        .map_err(|error| refused(error.to_string()))?;
    let options = [
        format!("--gpu-architecture={target}"),
        "--std=c++17".to_owned(),
        "-default-device".to_owned(),
    ];
    // SAFETY: the program was just made; the buffer has the size that the library asks for.
    unsafe {
        let outcome = compiler::compile_program(program, &options);
        let code = outcome.and_then(|()| {
            let mut size = 0;
            compiler_sys::nvrtcGetCUBINSize(program, &raw mut size).result()?;
            let mut code: Vec<c_char> = vec![0; size];
            compiler_sys::nvrtcGetCUBIN(program, code.as_mut_ptr()).result()?;
            Ok(code)
        });
        let code = code.map_err(|error| {
            let log = compiler::get_program_log(program).unwrap_or_default();
            let log: Vec<u8> = log.into_iter().map(|c| c as u8).collect();
            refused(format!("{error}\n{}", String::from_utf8_lossy(&log)))
        });
        compiler::destroy_program(program).ok();
        code
    }
}

/// Kernels of one shape on a GPU, with an order of work of their own.
pub(super) struct Driver {
    /// Goes before the context does.
    staging: Staging,
    gpu: Arc<Gpu>,
    shape: Shape,
    module: sys::CUmodule,
    kernels: HashMap<&'static str, sys::CUfunction>,
    stream: sys::CUstream,
    blas: blas::cublasHandle_t,
    workspace: u64,
}

// SAFETY: the driver's handles may be used from any thread that has the context, and every use makes it
// current. The products' handle has state, but all work of a decoder happens under its lock.
unsafe impl Send for Driver {}
// SAFETY: as above.
unsafe impl Sync for Driver {}

impl Driver {
    pub(super) fn of(gpu: &Arc<Gpu>, shape: Shape) -> Result<Arc<dyn Backend>, DeviceError> {
        gpu.make_current()?;
        let staging = Staging::new()?;
        let code = compile(shape, gpu.capability)?;
        // SAFETY: the code is a whole module for this device; names and attributes are those of its kernels.
        let (module, kernels) = unsafe {
            let load = failed("loading the kernels");
            let module = cuda::module::load_data(code.as_ptr().cast()).map_err(&load)?;
            let mut kernels = HashMap::new();
            for name in KERNELS.into_iter().chain([SUM_SQUARES]) {
                let symbol = CString::new(name).map_err(|error| DeviceError::Failed {
                    what: "loading the kernels",
                    reason: error.to_string(),
                })?;
                let kernel = cuda::module::get_function(module, symbol).map_err(&load)?;
                let shared = shape.shared(name) as i32;
                if shared > 0 {
                    let most =
                        sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
                    cuda::function::set_function_attribute(kernel, most, shared).map_err(&load)?;
                }
                kernels.insert(name, kernel);
            }
            (module, kernels)
        };
        let stream = cuda::stream::create(cuda::stream::StreamKind::NonBlocking)
            .map_err(failed("making a stream"))?;
        let mut driver = Self {
            staging,
            gpu: Arc::clone(gpu),
            shape,
            module,
            kernels,
            stream,
            blas: std::ptr::null_mut(),
            workspace: 0,
        };
        driver.workspace = driver.allocate(WORKSPACE)?;
        let refused = |error: cudarc::cublas::result::CublasError| DeviceError::Failed {
            what: "starting cuBLAS",
            reason: format!("{error:?}"),
        };
        driver.blas = cudarc::cublas::result::create_handle().map_err(refused)?;
        // SAFETY: handle, stream and workspace live as long as `driver`. The default mode never rounds float32
        // factors to TF32.
        unsafe {
            cudarc::cublas::result::set_stream(driver.blas, driver.stream.cast())
                .map_err(refused)?;
            let workspace = driver.workspace as *mut c_void;
            blas::cublasSetWorkspace_v2(driver.blas, workspace, WORKSPACE)
                .result()
                .map_err(refused)?;
            blas::cublasSetMathMode(driver.blas, blas::cublasMath_t::CUBLAS_DEFAULT_MATH)
                .result()
                .map_err(refused)?;
        }
        Ok(Arc::new(driver))
    }

    fn number(&self) -> blas::cudaDataType_t {
        match self.shape.compute {
            Compute::F32 => blas::cudaDataType_t::CUDA_R_32F,
            Compute::Bf16 => blas::cudaDataType_t::CUDA_R_16BF,
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // SAFETY: all were made in `of`; what was not yet is null or 0.
        unsafe {
            if self.gpu.make_current().is_err() {
                return;
            }
            // Copies from host memory may be under way. An error is an earlier one.
            cuda::stream::synchronize(self.stream).ok();
            if !self.blas.is_null() {
                cudarc::cublas::result::destroy_handle(self.blas).ok();
            }
            if self.workspace != 0 {
                cuda::free_sync(self.workspace).ok();
            }
            cuda::stream::destroy(self.stream).ok();
            cuda::module::unload(self.module).ok();
        }
    }
}

impl Backend for Driver {
    fn shape(&self) -> Shape {
        self.shape
    }

    fn allocate(&self, bytes: usize) -> Result<u64, DeviceError> {
        self.gpu.make_current()?;
        // SAFETY: the memory is written before it is read.
        unsafe { cuda::malloc_sync(bytes) }.map_err(|error| {
            if error.0 != sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY {
                return failed("allocating")(error);
            }
            let (free, total) = cuda::mem_get_info().unwrap_or((0, 0));
            DeviceError::out_of_memory(bytes, free, total)
        })
    }

    fn release(&self, at: u64, _: usize) {
        if self.gpu.make_current().is_ok() {
            // SAFETY: `allocate` gave it; `free_sync` waits for work on it. An error here is an earlier one,
            // which the next call reports.
            unsafe { cuda::free_sync(at) }.ok();
        }
    }

    fn free(&self) -> Option<usize> {
        self.gpu.free_and_total_memory().map(|(free, _)| free)
    }

    fn upload(&self, to: u64, bytes: &[u8]) -> Result<(), DeviceError> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.gpu.make_current()?;
        // SAFETY: the range lies in an allocation; what is read stays until the stream has been waited for, in
        // `staging` or by the call below.
        let copy = |from: &[u8]| {
            unsafe { cuda::memcpy_htod_async(to, from, self.stream) }
                .map_err(failed("copying to the device"))
        };
        if self.staging.copy(bytes, copy, || self.wait())? {
            return Ok(());
        }
        copy(bytes)?;
        self.staging.wait(|| self.wait())
    }

    fn download(&self, from: u64, bytes: &mut [u8]) -> Result<(), DeviceError> {
        self.gpu.make_current()?;
        // SAFETY: the range lies in an allocation; `bytes` stays borrowed until the stream is through.
        unsafe {
            if !bytes.is_empty() {
                cuda::memcpy_dtoh_async(bytes, from, self.stream)
                    .map_err(failed("copying from the device"))?;
            }
        }
        self.staging.wait(|| self.wait())
    }

    fn copy(&self, from: u64, to: u64, bytes: usize) -> Result<(), DeviceError> {
        self.gpu.make_current()?;
        // SAFETY: both ranges lie in allocations.
        unsafe { cuda::memcpy_dtod_async(to, from, bytes, self.stream) }.map_err(failed("copying"))
    }

    fn clear(&self, at: u64, bytes: usize) -> Result<(), DeviceError> {
        if bytes == 0 {
            return Ok(());
        }
        self.gpu.make_current()?;
        // SAFETY: the range lies in an allocation.
        unsafe { cuda::memset_d8_async(at, 0, bytes, self.stream) }.map_err(failed("clearing"))
    }

    fn launch(
        &self,
        kernel: &'static str,
        grid: [usize; 2],
        threads: u32,
        arguments: &[Argument],
    ) -> Result<(), DeviceError> {
        if grid.contains(&0) {
            return Ok(());
        }
        self.gpu.make_current()?;
        let mut slots: Vec<u64> = arguments.iter().map(|argument| argument.slot()).collect();
        let mut places: Vec<*mut c_void> = slots
            .iter_mut()
            .map(|slot| std::ptr::from_mut(slot).cast())
            .collect();
        let grid = (grid[0] as u32, grid[1] as u32, 1);
        let shared = self.shape.shared(kernel);
        // SAFETY: the arguments are of the kernel's types, by the caller's promise; the driver copies them.
        unsafe {
            cuda::launch_kernel(
                self.kernels[kernel],
                grid,
                (threads, 1, 1),
                shared,
                self.stream,
                &mut places,
            )
        }
        .map_err(failed(kernel))
    }

    fn product(&self, product: &Product) -> Result<(), DeviceError> {
        if product.m == 0 || product.n == 0 {
            return Ok(());
        }
        self.gpu.make_current()?;
        let operation = |matrix: &Matrix| match matrix.transposed {
            true => blas::cublasOperation_t::CUBLAS_OP_T,
            false => blas::cublasOperation_t::CUBLAS_OP_N,
        };
        let Product { a, b, .. } = product;
        let alpha = 1.0f32;
        let c_type = match product.c_floats {
            true => blas::cudaDataType_t::CUDA_R_32F,
            false => self.number(),
        };
        // Rows are columns to the library: it computes the transposed product, from the transposed factors.
        // SAFETY: the matrices lie in allocations, by the caller's promise.
        unsafe {
            cudarc::cublas::result::gemm_ex(
                self.blas,
                operation(b),
                operation(a),
                product.n as i32,
                product.m as i32,
                product.k as i32,
                (&raw const alpha).cast(),
                b.at as *const c_void,
                self.number(),
                b.stride as i32,
                a.at as *const c_void,
                self.number(),
                a.stride as i32,
                (&raw const product.beta).cast(),
                product.c as *mut c_void,
                c_type,
                product.c_stride as i32,
                blas::cublasComputeType_t::CUBLAS_COMPUTE_32F,
                blas::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
            )
        }
        .map_err(|error| DeviceError::Failed {
            what: "a product",
            reason: format!("{error:?}"),
        })
    }

    fn replay(
        &self,
        recording: &mut Recording,
        work: &mut dyn FnMut() -> Result<(), DeviceError>,
    ) -> Result<(), DeviceError> {
        self.gpu.make_current()?;
        let graph = match recording.0.take().map(|graph| graph.downcast::<Graph>()) {
            Some(Ok(graph)) => graph,
            _ => {
                // Once without, so that whatever the library sets up at a product of new shape is there.
                work()?;
                let graph = Box::new(self.capture(work)?);
                recording.0 = Some(graph);
                return Ok(());
            }
        };
        // SAFETY: the graph was made on this context, and what it works on lives as long as the recording.
        unsafe { cuda::graph::launch(graph.0, self.stream) }
            .map_err(failed("repeating launches"))?;
        recording.0 = Some(graph);
        Ok(())
    }
}

impl Driver {
    /// Until all work so far is done.
    fn wait(&self) -> Result<(), DeviceError> {
        // SAFETY: the stream is ours.
        unsafe { cuda::stream::synchronize(self.stream) }.map_err(failed("work before a copy"))
    }

    /// Takes down what `work` launches, without running it.
    fn capture(
        &self,
        work: &mut dyn FnMut() -> Result<(), DeviceError>,
    ) -> Result<Graph, DeviceError> {
        use sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL as THREAD;
        // SAFETY: the stream is ours; the graph is destroyed once, after it has been made executable or not.
        unsafe {
            cuda::stream::begin_capture(self.stream, THREAD)
                .map_err(failed("taking down launches"))?;
            let done = work();
            let graph = cuda::stream::end_capture(self.stream);
            let made = done.and_then(|()| {
                let graph = graph.map_err(failed("taking down launches"))?;
                let flags = sys::CUgraphInstantiate_flags(0);
                cuda::graph::instantiate(graph, flags).map_err(failed("preparing launches"))
            });
            // Also what was taken down before `work` failed; a capture that was broken off leaves none.
            if let Some(graph) = graph.ok().filter(|graph| !graph.is_null()) {
                cuda::graph::destroy(graph).ok();
            }
            Ok(Graph(made?, Arc::clone(&self.gpu)))
        }
    }
}

/// Launches that were taken down.
struct Graph(sys::CUgraphExec, Arc<Gpu>);

// SAFETY: as for `Driver`.
unsafe impl Send for Graph {}

impl Drop for Graph {
    fn drop(&mut self) {
        if self.1.make_current().is_ok() {
            // SAFETY: made in `capture`, destroyed once.
            unsafe { cuda::graph::exec_destroy(self.0) }.ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_where_to_get_it() {
        assert_eq!(check_libraries([true; 3]), Ok(()));
        let text = |present| check_libraries(present).unwrap_err().to_string();
        let driver = text([false, false, true]);
        assert!(driver.contains("libcuda.so.1") && !driver.contains("scripts/cuda.sh"));
        for (present, file) in [
            ([true, false, false], "libnvrtc.so.13"),
            ([true, true, false], "libcublas.so.13"),
        ] {
            let text = text(present);
            assert!(text.contains(file), "{text}");
            assert!(text.contains("scripts/cuda.sh --run") && text.contains("LD_LIBRARY_PATH"));
        }
    }
}
