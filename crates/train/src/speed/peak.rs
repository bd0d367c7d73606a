//! What a chip can do by its maker's data sheet, to put a measurement beside: what papers and trainers call
//! utilisation is a share of that. Where there is no entry, the ceilings measured in the same run take its place.

use seele_policy::decoder::Compute;
use serde::Serialize;

/// Where a peak comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PeakSource {
    /// The maker's data sheet: dense products, no sparsity.
    Published,
    /// The ceilings of the same run.
    Measured,
}

/// The most that the machine does.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Peak {
    /// Multiplications and additions, 10^12 a second, in the number type of the products.
    pub tflops: f64,
    /// Bytes read from or written to its memory, 10^9 a second.
    pub gb_per_second: f64,
    /// Where both come from.
    pub source: PeakSource,
}

/// Name as the driver has it; 10^12 operations a second in bfloat16 with float32 sums (tensor cores, dense) and in
/// float32 (without TF32); memory bandwidth, 10^9 bytes a second. From NVIDIA's data sheets of the H200, H100 and
/// A100, where figures with sparsity are halved. No other devices: names of some are shared by boards that differ.
const PUBLISHED: [(&str, f64, f64, f64); 7] = [
    ("NVIDIA H200", 989.5, 67.0, 4800.0),
    ("NVIDIA H100 80GB HBM3", 989.5, 67.0, 3350.0),
    ("NVIDIA H100 PCIe", 756.5, 51.0, 2000.0),
    ("NVIDIA A100-SXM4-40GB", 312.0, 19.5, 1555.0),
    ("NVIDIA A100-SXM4-80GB", 312.0, 19.5, 2039.0),
    ("NVIDIA A100-PCIE-40GB", 312.0, 19.5, 1555.0),
    ("NVIDIA A100 80GB PCIe", 312.0, 19.5, 1935.0),
];

impl Peak {
    /// By data sheet, of the chip that the driver calls `name`.
    pub(super) fn published(name: &str, compute: Compute) -> Option<Self> {
        let found = PUBLISHED.iter().find(|(known, ..)| *known == name)?;
        let &(_, bfloat16, float32, gb_per_second) = found;
        Some(Self {
            tflops: match compute {
                Compute::F32 => float32,
                Compute::Bf16 => bfloat16,
            },
            gb_per_second,
            source: PeakSource::Published,
        })
    }

    /// Share of the operations a second, `0..=1`.
    pub(super) fn flop_utilisation(&self, operations: f64, seconds: f64) -> f64 {
        operations / seconds / (self.tflops * 1e12)
    }

    /// Share of the bytes a second, `0..=1`.
    pub(super) fn bandwidth_share(&self, bytes: f64, seconds: f64) -> f64 {
        bytes / seconds / (self.gb_per_second * 1e9)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_the_chip_in_its_number_type() {
        let half = Peak::published("NVIDIA H200", Compute::Bf16).unwrap();
        assert_eq!(half.flop_utilisation(989.5e12, 2.0), 0.5);
        assert_eq!(half.bandwidth_share(1.2e12, 1.0), 0.25);
        let full = Peak::published("NVIDIA H200", Compute::F32).unwrap();
        assert_eq!(full.tflops, 67.0);
        // A board of another kind has other figures.
        assert_eq!(Peak::published("NVIDIA H200 NVL", Compute::Bf16), None);
    }
}
