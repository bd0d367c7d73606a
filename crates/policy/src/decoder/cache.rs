//! Keys and values of trunks and branches, in pages of 32 positions.
//!
//! A page holds all layers: for each layer and key-value head the keys, so laid out that a block of
//! queries meets 32 keys in one product, then the values, in the number type of the decoder's products.
//! Pages return to a pool when a cache is dropped.

use crate::config::ModelConfig;
#[cfg(feature = "cuda")]
use crate::cuda::DevicePages;
use crate::kernels::attention::{BLOCK, Blocks, Heads, store};
use crate::kernels::buffers::{self, Aligned};
use crate::kernels::matmul::Compute;

/// Positions in a page.
pub const PAGE_TOKENS: usize = BLOCK;

/// Bytes of a page of this model: a cache of n tokens holds `n.div_ceil(PAGE_TOKENS)` of them.
pub fn page_bytes(config: &ModelConfig, compute: Compute) -> usize {
    page_words(Heads::of(config, compute), config.layers) * size_of::<f32>()
}

fn page_words(heads: Heads, layers: usize) -> usize {
    layers * heads.kv_heads * heads.block_words()
}

/// Pages of one sequence.
#[derive(Debug, Default)]
pub(crate) struct Pages {
    pages: Vec<Aligned>,
    /// Those of a decoder on a device, which has none of the others.
    #[cfg(feature = "cuda")]
    pub(crate) on_device: DevicePages,
}

impl Pages {
    /// Pages held.
    fn count(&self) -> usize {
        #[cfg(feature = "cuda")]
        if self.pages.is_empty() {
            return self.on_device.count();
        }
        self.pages.len()
    }

    /// Makes room for `tokens` positions.
    pub(crate) fn reserve(&mut self, heads: Heads, layers: usize, tokens: usize) {
        while self.pages.len() * BLOCK < tokens {
            let mut page = buffers::take(page_words(heads, layers));
            // Values that are not there yet are multiplied with weights of 0.
            page.floats_mut().fill(0.0);
            self.pages.push(page);
        }
    }

    /// Blocks of one layer and key-value head.
    pub(crate) fn blocks(&self, heads: Heads, layer: usize, kv_head: usize) -> Blocks<'_> {
        let offset = (layer * heads.kv_heads + kv_head) * heads.block_words();
        Blocks::Pages(&self.pages, offset)
    }

    /// Writes one layer's keys and values (`[kv_heads * width]` each) of a position there is room for.
    pub(crate) fn write(
        &mut self,
        heads: Heads,
        layer: usize,
        position: usize,
        keys: &[f32],
        values: &[f32],
    ) {
        let page = self.pages[position / BLOCK].floats_mut();
        let first = layer * heads.kv_heads * heads.block_words();
        let blocks = page[first..].chunks_exact_mut(heads.block_words());
        let keys = keys.chunks_exact(heads.width);
        let values = values.chunks_exact(heads.width);
        for (block, (key, value)) in blocks.zip(keys.zip(values)) {
            store(heads, block, position % BLOCK, key, value);
        }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        self.pages.drain(..).for_each(buffers::give_back);
    }
}

/// A trunk's keys and values, computed once for all its branches and rounds.
#[derive(Debug)]
pub struct TrunkCache {
    pub(crate) pages: Pages,
    pub(crate) hidden: Vec<f32>,
    width: usize,
    pub(crate) len: usize,
}

impl TrunkCache {
    /// An empty trunk.
    pub fn new(config: &ModelConfig) -> Self {
        Self {
            pages: Pages::default(),
            hidden: Vec::new(),
            width: config.hidden_size,
            len: 0,
        }
    }

    /// Tokens computed so far.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is computed yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Pages of [`page_bytes`] that it holds.
    pub fn pages(&self) -> usize {
        self.pages.count()
    }

    /// Final normalised hidden state at `position` (below `len()`), `[hidden_size]`: it predicts the token
    /// after it, so a branch that forks at f starts from `hidden(f - 1)`.
    pub fn hidden(&self, position: usize) -> &[f32] {
        &self.hidden[position * self.width..(position + 1) * self.width]
    }
}

/// A branch's own keys and values.
#[derive(Debug)]
pub struct BranchCache {
    pub(crate) pages: Pages,
    pub(crate) fork: usize,
    pub(crate) len: usize,
}

impl BranchCache {
    /// A branch without tokens that forks from its trunk at `fork`.
    pub fn new(fork: usize) -> Self {
        Self {
            pages: Pages::default(),
            fork,
            len: 0,
        }
    }

    /// Own tokens in the cache.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no own token is in the cache.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Pages of [`page_bytes`] that it holds.
    pub fn pages(&self) -> usize {
        self.pages.count()
    }

    /// Trunk tokens in front of it.
    pub fn fork(&self) -> usize {
        self.fork
    }
}
