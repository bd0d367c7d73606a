//! Keys and values of trunks and branches, in pages of 32 positions.
//!
//! A page holds all layers: for each layer and key-value head the keys, so laid out that a block of
//! queries meets 32 keys in one product, then the values, in the number type of the decoder's products.
//! The pieces of pages return to a pool when a cache is dropped.

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
    let page = Page::of(Heads::of(config, compute), config.layers);
    page.pieces * page.piece_words * size_of::<f32>()
}

/// How a page is laid out: in pieces of the size that everything kept for long has, so that what rollouts leave behind
/// serves the update that follows.
#[derive(Clone, Copy, Debug, Default)]
struct Page {
    pieces: usize,
    piece_words: usize,
    /// Blocks of one layer and key-value head each that a piece holds.
    blocks: usize,
    block_words: usize,
}

impl Page {
    fn of(heads: Heads, layers: usize) -> Self {
        let (all, block_words) = (layers * heads.kv_heads, heads.block_words());
        let blocks = (buffers::BLOCK / block_words).clamp(1, all.max(1));
        let pieces = all.div_ceil(blocks);
        Self {
            pieces,
            piece_words: match pieces {
                1 => blocks * block_words,
                _ => block_words.max(buffers::BLOCK),
            },
            blocks,
            block_words,
        }
    }

    /// Piece that holds this block, and where the block begins in it.
    fn place(&self, block: usize) -> (usize, usize) {
        // A cache that is still empty has no layout.
        let blocks = self.blocks.max(1);
        (block / blocks, block % blocks * self.block_words)
    }
}

/// Pages of one sequence.
#[derive(Debug, Default)]
pub(crate) struct Pages {
    /// Piece after piece, page after page.
    pieces: Vec<Aligned>,
    page: Page,
    /// Those of a decoder on a device, which has none of the others.
    #[cfg(feature = "cuda")]
    pub(crate) on_device: DevicePages,
}

impl Pages {
    /// Pages held.
    fn count(&self) -> usize {
        #[cfg(feature = "cuda")]
        if self.pieces.is_empty() {
            return self.on_device.count();
        }
        self.pieces.len() / self.page.pieces.max(1)
    }

    /// Makes room for `tokens` positions.
    pub(crate) fn reserve(&mut self, heads: Heads, layers: usize, tokens: usize) {
        self.page = Page::of(heads, layers);
        let pieces = tokens.div_ceil(PAGE_TOKENS) * self.page.pieces;
        while self.pieces.len() < pieces {
            let mut piece = buffers::take(self.page.piece_words);
            // Values that are not there yet are multiplied with weights of 0.
            piece.floats_mut().fill(0.0);
            self.pieces.push(piece);
        }
    }

    /// Blocks of one layer and key-value head.
    pub(crate) fn blocks(&self, heads: Heads, layer: usize, kv_head: usize) -> Blocks<'_> {
        let (piece, offset) = self.page.place(layer * heads.kv_heads + kv_head);
        let pieces = self.pieces.get(piece..).unwrap_or_default();
        Blocks::Pages(pieces, self.page.pieces, offset)
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
        let first_piece = position / PAGE_TOKENS * self.page.pieces;
        let keys = keys.chunks_exact(heads.width);
        let values = values.chunks_exact(heads.width);
        for (kv_head, (key, value)) in keys.zip(values).enumerate() {
            let (piece, offset) = self.page.place(layer * heads.kv_heads + kv_head);
            let block = &mut self.pieces[first_piece + piece].floats_mut()[offset..];
            let block = &mut block[..self.page.block_words];
            store(heads, block, position % PAGE_TOKENS, key, value);
        }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        self.pieces.drain(..).for_each(buffers::give_back);
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
