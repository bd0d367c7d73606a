//! Memory that a decoder and its passes hold, told from the shape of a model before anything is read.

use super::head::{entries_at_a_time, rows_at_a_time};
use super::options::{Compute, Recompute};
use crate::config::ModelConfig;
use crate::kernels::matmul::{Packed, rounded_words};

/// Bytes of a number as the passes hold it.
const F32: usize = size_of::<f32>();

/// Bytes of a [`Decoder`](super::Decoder): projections packed in whole panels, the embedding where it is not
/// the output projection, and the tables of the rotary embedding. One that `trains` has one of each of a block's
/// projections packed for the gradient too.
pub fn decoder_bytes(config: &ModelConfig, compute: Compute, trains: bool) -> usize {
    let forward = |[out, depth]: [usize; 2]| Packed::bytes_of(depth, out, compute);
    let backward = |[out, depth]: [usize; 2]| Packed::bytes_of(out, depth, compute);
    let block = |bytes: &dyn Fn([usize; 2]) -> usize| -> usize {
        block_shapes(config).into_iter().map(bytes).sum()
    };
    let head = forward([config.vocab_size, config.hidden_size]);
    let embedding = match config.tied {
        true => 0,
        false => config.vocab_size * config.hidden_size * F32,
    };
    let rotary = config.max_position_embeddings * config.head_dim * F32;
    let backward = match trains {
        true => block(&backward),
        false => 0,
    };
    config.layers * block(&forward) + head + backward + embedding + rotary
}

/// Bytes that a forward and backward pass over `rows` rows holds beside the decoder and the gradient, with so
/// many bytes allowed for kept intermediates by [`Recompute::Auto`]. A forward pass alone holds less.
///
/// Buffers of one size are used again, so this is a sum over kinds of buffers, each as often as it is needed at a
/// time, and not the most that is in use at one moment.
pub fn pass_bytes(
    config: &ModelConfig,
    compute: Compute,
    recompute: Recompute,
    rows: usize,
) -> usize {
    let Widths {
        hidden,
        queries,
        row,
        inner,
        ..
    } = Widths::of(config);
    let tape = tape_bytes(config, compute, rows);
    let kept = recompute.kept(config.layers, tape);
    let inputs = (config.layers - kept) * rows * hidden * F32;
    // A block that was not kept is rebuilt when its turn comes.
    let tapes = kept + usize::from(kept < config.layers);
    // The last hidden states, normed and not, and their gradients; in a block's backward pass the gradients
    // of its norms' outputs, of its products' outputs and of its attention, and the factors of the products.
    let beside = 4 * hidden + 4 * hidden + 2 * inner + queries + row + 2 * (row - queries);
    let scratch = match compute {
        Compute::F32 => inner + hidden,
        // One tape that is not at rest, and rounded factors: of gate and up, of their gradients, of hidden states.
        Compute::Bf16 => of_products(config) + rounded_words(3 * inner + 2 * hidden),
    };
    let logits = {
        let vocab = config.vocab_size;
        let forward = rows.min(rows_at_a_time(vocab)) * (vocab + hidden);
        let entries = entries_at_a_time(rows).min(vocab);
        // Logits of some entries of the vocabulary, their weights, rounded factors.
        let backward = match compute {
            Compute::F32 => rows * entries + entries * hidden,
            Compute::Bf16 => rows * entries * 3 / 2 + entries * hidden / 2,
        };
        forward + backward + 3 * rows * hidden
    };
    tapes * tape + inputs + (rows * (beside + scratch) + logits) * F32
}

/// Bytes of what one block keeps of a forward pass over `rows` rows for its backward pass.
pub fn tape_bytes(config: &ModelConfig, compute: Compute, rows: usize) -> usize {
    let widths = Widths::of(config);
    let number = match compute {
        Compute::F32 => F32,
        Compute::Bf16 => F32 / 2,
    };
    rows * (2 * widths.hidden * F32 + of_products(config) * number)
}

/// Elements of a row that a tape holds of what products made or will read.
fn of_products(config: &ModelConfig) -> usize {
    let widths = Widths::of(config);
    let raw = if config.qk_norm { widths.row } else { 0 };
    widths.row + raw + widths.queries + 2 * widths.inner
}

/// Elements of a row of each kind.
struct Widths {
    hidden: usize,
    queries: usize,
    /// Queries, keys and values.
    row: usize,
    inner: usize,
}

impl Widths {
    fn of(config: &ModelConfig) -> Self {
        let queries = config.heads * config.head_dim;
        Self {
            hidden: config.hidden_size,
            queries,
            row: queries + 2 * config.kv_heads * config.head_dim,
            inner: config.intermediate_size,
        }
    }
}

/// `[out, depth]` of the four projections of a block.
pub(super) fn block_shapes(config: &ModelConfig) -> [[usize; 2]; 4] {
    let Widths {
        hidden,
        queries,
        row,
        inner,
    } = Widths::of(config);
    [
        [row, hidden],
        [hidden, queries],
        [2 * inner, hidden],
        [hidden, inner],
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decoder::{Decoder, DecoderOptions, tiny_config};
    use crate::parameters::Parameters;
    use seele_random::Key;

    #[test]
    fn a_decoder_holds_what_was_told() {
        for (compute, tied) in [(Compute::F32, true), (Compute::Bf16, false)] {
            let config = ModelConfig {
                tied,
                ..tiny_config()
            };
            let parameters = Parameters::random(&config, Key::new(1));
            let options = DecoderOptions {
                compute,
                ..DecoderOptions::default()
            };
            let decoder = Decoder::with_options(&config, &parameters, options);
            let rotary = 2 * 128 * 4 * F32;
            let embedding = if tied { 0 } else { 50 * 32 * F32 };
            assert_eq!(
                decoder_bytes(&config, compute, false),
                decoder.projection_bytes() + embedding + rotary
            );
        }
    }

    #[test]
    fn weights_for_the_gradient_are_those_of_one_block() {
        let bytes = |layers, trains| {
            let config = ModelConfig {
                layers,
                ..tiny_config()
            };
            decoder_bytes(&config, Compute::F32, trains)
                - decoder_bytes(&config, Compute::F32, false)
        };
        let block = block_shapes(&tiny_config()).into_iter();
        let block: usize = block
            .map(|[out, depth]| Packed::bytes_of(out, depth, Compute::F32))
            .sum();
        assert_eq!([bytes(1, true), bytes(7, true)], [block; 2]);
    }

    #[test]
    fn what_is_not_kept_costs_its_input() {
        let config = tiny_config();
        let bytes = |recompute| pass_bytes(&config, Compute::F32, recompute, 100);
        let saved = bytes(Recompute::None) - bytes(Recompute::Block);
        // Of two blocks one tape stays, and both inputs.
        assert_eq!(
            saved,
            tape_bytes(&config, Compute::F32, 100) - 2 * 100 * 32 * F32
        );
        let room = Recompute::Auto {
            bytes: tape_bytes(&config, Compute::F32, 100),
        };
        assert_eq!(bytes(room), bytes(Recompute::None) + 100 * 32 * F32);
    }
}
