//! Products of bfloat16 tiles in AMX matrix registers (x86-64 Linux).
//!
//! Written in assembly because the compiler's intrinsics for these registers are not stable.

use super::bfloat16::{Pairs, Strip, Unit};

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
pub(crate) use other::{Session, request, run};
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub(crate) use x86::{Session, request, run};

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod x86 {
    use super::{Pairs, Strip, Unit};
    use crate::kernels::matmul::bfloat16::{PANEL, TILE_ROWS};
    use std::arch::asm;
    use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
    use std::mem::MaybeUninit;

    /// Whether the processor has the registers and the system lets this process use them; asks for them.
    pub(crate) fn request() -> bool {
        const ARCH_PRCTL: u64 = 158;
        const REQUEST_PERMISSION: u64 = 0x1023;
        const TILE_DATA: u64 = 18;
        /// AMX-BF16 and AMX-TILE in EDX of leaf 7.
        const FEATURES: u32 = 1 << 22 | 1 << 24;
        const OSXSAVE: u32 = 1 << 27;
        /// Tile configuration and tile data in XCR0.
        const STATES: u64 = 1 << 17 | 1 << 18;
        #[allow(unused_unsafe, reason = "safe from Rust 1.92 on")]
        // SAFETY: every x86-64 processor has the instruction; leaf 7 is read only if it exists.
        let has = unsafe {
            __cpuid(0).eax >= 7
                && __cpuid_count(7, 0).edx & FEATURES == FEATURES
                && __cpuid(1).ecx & OSXSAVE != 0
        };
        // SAFETY: OSXSAVE says that the instruction exists.
        if !has || unsafe { enabled_states() } & STATES != STATES {
            return false;
        }
        let outcome: i64;
        // SAFETY: a system call that touches no memory of ours; it grants the process (all its
        // threads) the use of tile data.
        unsafe {
            asm!(
                "syscall",
                inlateout("rax") ARCH_PRCTL => outcome,
                in("rdi") REQUEST_PERMISSION,
                in("rsi") TILE_DATA,
                lateout("rcx") _,
                lateout("r11") _,
                options(nostack),
            );
        }
        outcome == 0
    }

    /// # Safety
    /// The system has enabled XSAVE.
    #[target_feature(enable = "xsave")]
    unsafe fn enabled_states() -> u64 {
        // SAFETY: the caller's promise.
        unsafe { _xgetbv(0) }
    }

    #[repr(C, align(64))]
    struct Configuration {
        palette: u8,
        start_row: u8,
        reserved: [u8; 14],
        bytes_per_row: [u16; 16],
        rows: [u8; 16],
    }

    /// The registers are configured on this thread while it lives.
    pub(crate) struct Session {
        open: bool,
    }

    impl Session {
        /// Configures the registers if `unit` uses them: eight tiles of 16 rows and 64 bytes.
        pub(crate) fn open(unit: Unit) -> Self {
            let open = unit == Unit::Matrix;
            if open {
                let mut configuration = Configuration {
                    palette: 1,
                    start_row: 0,
                    reserved: [0; 14],
                    bytes_per_row: [0; 16],
                    rows: [0; 16],
                };
                configuration.bytes_per_row[..8].fill(64);
                configuration.rows[..8].fill(16);
                // SAFETY: `unit` says Matrix only after `request` succeeded.
                unsafe {
                    asm!("ldtilecfg [{}]", in(reg) &configuration, options(nostack, readonly));
                }
            }
            Self { open }
        }
    }

    impl Drop for Session {
        fn drop(&mut self) {
            if self.open {
                // SAFETY: the registers were configured by `open`; nobody reads them any more.
                unsafe { asm!("tilerelease", options(nostack, nomem)) };
            }
        }
    }

    /// # Safety
    /// As [`Strip::run`] with a session open.
    pub(crate) unsafe fn run(strip: Strip, left: Pairs) {
        let mut edge = [const { MaybeUninit::<f32>::uninit() }; 2 * TILE_ROWS * PANEL];
        let edge: *mut f32 = edge.as_mut_ptr().cast();
        // Each pass over the panel asks for its share of the next one, which follows it in memory.
        let lines = (16 * PANEL / 16).div_ceil(strip.rows.div_ceil(2 * TILE_ROWS));
        let mut ahead = strip.ahead;
        for first in (0..strip.rows).step_by(2 * TILE_ROWS) {
            let rows = (2 * TILE_ROWS).min(strip.rows - first);
            let left = left.at_row(first);
            let c = strip.c.wrapping_add(first * strip.c_stride);
            let part = Strip { ahead, ..strip };
            ahead = ahead.wrapping_add(strip.blocks * lines * 16);
            let whole = rows.is_multiple_of(TILE_ROWS) && strip.columns == PANEL;
            // SAFETY: whole tiles lie inside `c`; others go through `edge`.
            unsafe {
                if whole {
                    tiles(part, left, rows > TILE_ROWS, lines, c, strip.c_stride);
                    continue;
                }
                // Rows that are not copied here are computed from what they happen to hold, and dropped.
                let at = |i: usize| c.wrapping_add(i * strip.c_stride);
                for i in 0..if strip.accumulate { rows } else { 0 } {
                    edge.add(i * PANEL)
                        .copy_from_nonoverlapping(at(i), strip.columns);
                }
                tiles(part, left, rows > TILE_ROWS, lines, edge, PANEL);
                for i in 0..rows {
                    at(i).copy_from_nonoverlapping(edge.add(i * PANEL), strip.columns);
                }
            }
        }
    }

    /// One or two row tiles times a panel of two column tiles; sums stay in registers 0 to 3.
    ///
    /// # Safety
    /// As [`run`]; `c` has 16 or 32 rows of 32 elements.
    unsafe fn tiles(
        strip: Strip,
        left: Pairs,
        two: bool,
        lines: usize,
        c: *mut f32,
        c_stride: usize,
    ) {
        const PANEL_BYTES: usize = PANEL * 4;
        let (row_bytes, block_bytes) = (left.row_stride * 4, left.block_stride * 4);
        let c_bytes = c_stride * 4;
        let lower = c.wrapping_add(TILE_ROWS * c_stride);
        // SAFETY: the caller's promise; each instruction reads or writes one whole tile inside it.
        unsafe {
            if strip.accumulate {
                asm!(
                    "tileloadd tmm0, [{c} + {s}]",
                    "tileloadd tmm1, [{c} + {s} + 64]",
                    c = in(reg) c, s = in(reg) c_bytes, options(nostack, readonly),
                );
                if two {
                    asm!(
                        "tileloadd tmm2, [{c} + {s}]",
                        "tileloadd tmm3, [{c} + {s} + 64]",
                        c = in(reg) lower, s = in(reg) c_bytes, options(nostack, readonly),
                    );
                }
            } else {
                asm!(
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "tilezero tmm2",
                    "tilezero tmm3",
                    options(nostack, nomem),
                );
            }
            if two {
                asm!(
                    "2:",
                    "tileloadd tmm6, [{b} + {bs}]",
                    "tileloadd tmm4, [{a} + {as_}]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tileloadd tmm7, [{b} + {bs} + 64]",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "tileloadd tmm5, [{a2} + {as_}]",
                    "tdpbf16ps tmm2, tmm5, tmm6",
                    "tdpbf16ps tmm3, tmm5, tmm7",
                    "mov {l}, {lines}",
                    "3:",
                    "prefetcht1 [{ahead}]",
                    "add {ahead}, 64",
                    "dec {l}",
                    "jnz 3b",
                    "add {a}, {step}",
                    "add {a2}, {step}",
                    "add {b}, {bstep}",
                    "dec {n}",
                    "jnz 2b",
                    a = inout(reg) left.words => _,
                    a2 = inout(reg) left.words.wrapping_add(left.tile_stride) => _,
                    b = inout(reg) strip.panel => _,
                    n = inout(reg) strip.blocks => _,
                    ahead = inout(reg) strip.ahead => _,
                    lines = in(reg) lines,
                    l = out(reg) _,
                    as_ = in(reg) row_bytes,
                    bs = in(reg) PANEL_BYTES,
                    step = in(reg) block_bytes,
                    bstep = const 16 * PANEL_BYTES,
                    options(nostack, readonly),
                );
                asm!(
                    "tilestored [{c} + {s}], tmm2",
                    "tilestored [{c} + {s} + 64], tmm3",
                    c = in(reg) lower, s = in(reg) c_bytes, options(nostack),
                );
            } else {
                asm!(
                    "2:",
                    "tileloadd tmm6, [{b} + {bs}]",
                    "tileloadd tmm4, [{a} + {as_}]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tileloadd tmm7, [{b} + {bs} + 64]",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "mov {l}, {lines}",
                    "3:",
                    "prefetcht1 [{ahead}]",
                    "add {ahead}, 64",
                    "dec {l}",
                    "jnz 3b",
                    "add {a}, {step}",
                    "add {b}, {bstep}",
                    "dec {n}",
                    "jnz 2b",
                    a = inout(reg) left.words => _,
                    b = inout(reg) strip.panel => _,
                    n = inout(reg) strip.blocks => _,
                    ahead = inout(reg) strip.ahead => _,
                    lines = in(reg) lines,
                    l = out(reg) _,
                    as_ = in(reg) row_bytes,
                    bs = in(reg) PANEL_BYTES,
                    step = in(reg) block_bytes,
                    bstep = const 16 * PANEL_BYTES,
                    options(nostack, readonly),
                );
            }
            asm!(
                "tilestored [{c} + {s}], tmm0",
                "tilestored [{c} + {s} + 64], tmm1",
                c = in(reg) c, s = in(reg) c_bytes, options(nostack),
            );
        }
    }
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
mod other {
    use super::{Pairs, Strip, Unit};

    pub(crate) fn request() -> bool {
        false
    }

    pub(crate) struct Session;

    impl Session {
        pub(crate) fn open(_: Unit) -> Self {
            Self
        }
    }

    /// # Safety
    /// Never called: `request` says that there are no matrix registers.
    pub(crate) unsafe fn run(_: Strip, _: Pairs) {}
}
