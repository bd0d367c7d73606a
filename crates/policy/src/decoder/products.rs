//! The products with weights by themselves: what a pass cannot do without, to measure passes against.

use super::cache::{PAGE_TOKENS, page_bytes};
use super::footprint::block_shapes;
use super::head::rows_at_a_time;
use super::host::HostDecoder;
use super::weights::Linear;
use super::{Decoder, Place};
use crate::kernels::buffers::Buffer;
use crate::kernels::team::together;

impl Decoder {
    /// Multiplications and additions of the products with weights in a forward pass over `rows` rows, of
    /// which `scored` go through the output projection. A backward pass has twice as many.
    pub fn product_operations(&self, rows: usize, scored: usize) -> f64 {
        let config = self.config();
        let of = |[out, depth]: [usize; 2]| 2.0 * (out * depth) as f64;
        let block: f64 = block_shapes(config).into_iter().map(of).sum();
        let head = of([config.vocab_size, config.hidden_size]);
        (config.layers as f64 * block) * rows as f64 + head * scored as f64
    }

    /// Multiplications and additions of attention for a row that sees `seen` positions, itself included.
    pub fn attention_operations(&self, seen: f64) -> f64 {
        let config = self.config();
        4.0 * (config.layers * config.heads * config.head_dim) as f64 * seen
    }

    /// Bytes of the packed projections that a forward pass reads, the output projection included.
    pub fn projection_bytes(&self) -> usize {
        match &self.place {
            Place::Host(host) => host.projection_bytes(),
            #[cfg(feature = "cuda")]
            Place::Device(device) => device.projection_bytes(),
        }
    }

    /// Bytes of a page of keys and values.
    pub fn page_bytes(&self) -> usize {
        match &self.place {
            Place::Host(host) => page_bytes(&host.config, host.options.compute),
            #[cfg(feature = "cuda")]
            Place::Device(device) => device.decoder().page_bytes(),
        }
    }

    /// Bytes of the keys and values of one position.
    pub fn key_value_bytes(&self) -> usize {
        self.page_bytes() / PAGE_TOKENS
    }

    /// Runs the products of a forward pass over `rows` rows, one projection after the other, and nothing
    /// else. The rows are made up, the results are dropped.
    pub fn run_products(&self, rows: usize) {
        match &self.place {
            Place::Host(host) => host.run_products(rows),
            #[cfg(feature = "cuda")]
            Place::Device(device) => device.run_products(rows),
        }
    }
}

impl HostDecoder {
    fn projection_bytes(&self) -> usize {
        let linears = self.block_linears().chain([&self.weights.head]);
        linears.map(|linear| linear.packed().bytes()).sum()
    }

    fn run_products(&self, rows: usize) {
        let most = rows.min(rows_at_a_time(self.config.vocab_size));
        let linears = || self.block_linears().chain([&self.weights.head]);
        let widest = |of: fn(&Linear) -> usize| linears().map(of).max().unwrap_or(0);
        let blocks_out = self.block_linears().map(|linear| linear.out).max();
        let mut x = Buffer::take(rows * widest(|linear| linear.depth));
        x.fill(0.5);
        let wide = (most * self.weights.head.out).max(rows * blocks_out.unwrap_or(0));
        let mut y = Buffer::take(wide);
        together(|| {
            for linear in self.block_linears() {
                linear.apply(&x[..rows * linear.depth], &mut y[..rows * linear.out]);
            }
            let head = &self.weights.head;
            for first in (0..rows).step_by(most.max(1)) {
                let rows = most.min(rows - first);
                head.apply(&x[..rows * head.depth], &mut y[..rows * head.out]);
            }
        });
    }

    fn block_linears(&self) -> impl Iterator<Item = &Linear> {
        let blocks = self.weights.blocks.iter();
        blocks.flat_map(|block| [&block.qkv, &block.output, &block.gate_up, &block.down])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decoder::{Compute, DecoderOptions, tiny_config};
    use crate::parameters::Parameters;
    use seele_random::Key;

    #[test]
    fn operations_and_bytes_follow_from_the_shapes() {
        let config = tiny_config();
        let parameters = Parameters::random(&config, Key::new(1));
        let options = DecoderOptions {
            compute: Compute::F32,
            ..DecoderOptions::default()
        };
        let decoder = Decoder::with_options(&config, &parameters, options);
        // Two blocks of q, k, v (64 x 32), output (32 x 32), gate and up (96 x 32), down (32 x 48); 50 words.
        let block = 64 * 32 + 32 * 32 + 96 * 32 + 32 * 48;
        let expected = 2 * (3 * 2 * block + 2 * 50 * 32);
        assert_eq!(decoder.product_operations(3, 2), expected as f64);
        // Scores and weighted values of 32 query elements in two blocks.
        assert_eq!(decoder.attention_operations(10.0), (2 * 4 * 32 * 10) as f64);
        // The vocabulary is padded to whole panels of 32.
        assert_eq!(decoder.projection_bytes(), 4 * (2 * block + 64 * 32));
        assert_eq!(decoder.key_value_bytes(), 2 * 2 * 2 * 8 * 4);
        decoder.run_products(5);
    }
}
