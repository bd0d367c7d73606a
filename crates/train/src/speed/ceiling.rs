//! What the machine can do: products with a model's weights by themselves, and reading memory.

use super::Need;
use super::peak::{Peak, PeakSource};
use rayon::prelude::*;
use seele_policy::decoder::Decoder;
use serde::Serialize;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Time for each ceiling, at least; the fastest try counts.
const PATIENCE: Duration = Duration::from_millis(300);
/// Tries for each ceiling, at least.
const TRIES: usize = 3;
/// Numbers that the memory is read for: 256 MiB, more than a core's own caches hold.
const READ: usize = 1 << 25;

/// The model's products with weights, one projection after the other.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ProductCeiling {
    /// Rows that meet each weight.
    pub rows: usize,
    /// Multiplications and additions, 10^9 a second.
    pub gflops: f64,
}

/// Ceilings of one process.
pub(super) struct Ceilings {
    pub(super) products: Vec<ProductCeiling>,
    pub(super) read_gb_per_second: f64,
}

impl Ceilings {
    /// Measures the products for each of `rows` rows.
    pub(super) fn measure(decoder: &Decoder, mut rows: Vec<usize>) -> Self {
        rows.sort_unstable();
        rows.dedup();
        let products = rows.into_iter().map(|rows| {
            let operations = decoder.product_operations(rows, rows);
            ProductCeiling {
                rows,
                gflops: operations / fastest(|| decoder.run_products(rows)) / 1e9,
            }
        });
        let products = products.collect();
        let memory = vec![1u64; READ];
        let read = || {
            let parts = memory.par_chunks(1 << 16);
            let sum: u64 = parts.map(|part| part.iter().sum::<u64>()).sum();
            black_box(sum);
        };
        let bytes = size_of_val(memory.as_slice()) as f64;
        let read_gb_per_second = bytes / fastest(read) / 1e9;
        #[cfg(feature = "cuda")]
        let read_gb_per_second = match decoder.on_device() {
            // An error shows where the next pass is asked for.
            Some(device) => device.copy_rate().map_or(f64::NAN, |rate| rate / 1e9),
            None => read_gb_per_second,
        };
        Self {
            products,
            read_gb_per_second,
        }
    }

    /// The best of the products, and the memory's rate.
    pub(super) fn peak(&self) -> Peak {
        let gflops = self.products.iter().map(|ceiling| ceiling.gflops);
        Peak {
            tflops: gflops.fold(0.0, f64::max) / 1e3,
            gb_per_second: self.read_gb_per_second,
            source: PeakSource::Measured,
        }
    }

    /// Seconds of so many operations in products with so many rows.
    pub(super) fn product_seconds(&self, operations: f64, rows: usize) -> f64 {
        let ceiling = self.products.iter().find(|ceiling| ceiling.rows == rows);
        ceiling.map_or(0.0, |ceiling| operations / ceiling.gflops / 1e9)
    }

    /// Seconds that work takes at least.
    pub(super) fn floor(&self, need: &Need) -> f64 {
        let moving = need.bytes / self.read_gb_per_second / 1e9;
        self.product_seconds(need.operations, need.rows).max(moving)
    }
}

/// Seconds of the fastest try.
fn fastest(work: impl Fn()) -> f64 {
    work();
    let begun = Instant::now();
    let (mut best, mut tries) = (f64::INFINITY, 0);
    while tries < TRIES || begun.elapsed() < PATIENCE {
        let start = Instant::now();
        work();
        best = start.elapsed().as_secs_f64().min(best);
        tries += 1;
    }
    best
}
