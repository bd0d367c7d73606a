//! How a decoder computes.

pub use crate::kernels::matmul::Compute;

/// Which intermediates of the forward pass are kept for the backward pass; results do not depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Recompute {
    /// Keep what every block needs: fastest, most memory.
    None,
    /// Keep each block's input only and rebuild the rest, about a fifth more arithmetic.
    Block,
    /// Keep what fits in so many bytes, rebuild the other blocks.
    Auto {
        /// Bytes for kept intermediates of one call.
        bytes: usize,
    },
}

impl Default for Recompute {
    /// [`Recompute::Auto`] with 2 GiB.
    fn default() -> Self {
        Self::Auto { bytes: 2 << 30 }
    }
}

impl Recompute {
    /// How many of `blocks` blocks keep intermediates of `block_bytes` each.
    pub(crate) fn kept(self, blocks: usize, block_bytes: usize) -> usize {
        match self {
            Self::None => blocks,
            Self::Block => 0,
            Self::Auto { bytes } => (bytes / block_bytes.max(1)).min(blocks),
        }
    }
}

/// Settings of a [`Decoder`](super::Decoder).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct DecoderOptions {
    /// Number type of the factors of products with weights.
    pub compute: Compute,
    /// What the backward pass rebuilds.
    pub recompute: Recompute,
}
