//! Attention of blocks of queries over a trunk's prefix and their own branch, forward and backward.
//!
//! A query sees a list of keys: first `trunk[..fork]`, then its own branch up to itself. Keys and values
//! of one head lie in blocks of 32 positions ([`Blocks`]), in a cache or packed from a micro-batch; the
//! queries of several rows and of all heads that share the key-value head are multiplied with a block at
//! once. A query's numbers come from its own list alone: scores are sums over the head's width in order,
//! the exponentials are summed in 16 lanes by place in the list, and the weighted values are added in
//! the order of the list. So the bits depend neither on the company nor on where the list is cut into
//! trunk and branch. Memory is one block of queries times the keys they see, never tokens x tokens.

mod backward;
mod float;
mod forward;
mod groups;
mod pairs;

pub(crate) use forward::{BranchQueries, branches, sequence};
pub use groups::{causal, causal_backward};
pub(crate) use groups::{groups, groups_backward};

use super::buffers::{Aligned, Buffer, words_mut};
use super::elementwise::scale;
use super::matmul::{Compute, bfloat16};
use super::multiversion;
use super::softmax::{exp, total};
use crate::config::ModelConfig;

/// Positions in a block.
pub(crate) const BLOCK: usize = 32;
/// Queries that one task multiplies with the keys: four tiles of 12.
const QUERIES: usize = 48;

/// Widths that attention works with; none is 0.
#[derive(Clone, Copy, Debug)]
pub struct Heads {
    /// Key-value heads.
    pub kv_heads: usize,
    /// Query heads for each of them: query head h reads key-value head h / `per_kv`.
    pub per_kv: usize,
    /// Width of a head.
    pub width: usize,
    /// Number type of keys and values, and of what they are multiplied with.
    pub compute: Compute,
}

impl Heads {
    pub(crate) fn of(config: &ModelConfig, compute: Compute) -> Self {
        Self {
            kv_heads: config.kv_heads,
            per_kv: config.queries_per_kv(),
            width: config.head_dim,
            compute,
        }
    }

    /// Words of a block of keys and values.
    pub(crate) fn block_words(&self) -> usize {
        2 * match self.compute {
            Compute::F32 => BLOCK * self.width,
            Compute::Bf16 => pairs::half_words(self.width),
        }
    }

    /// Where a block's values begin.
    fn values(&self) -> usize {
        self.block_words() / 2
    }

    /// Elements of a row of queries.
    pub fn query_width(&self) -> usize {
        self.kv_heads * self.per_kv * self.width
    }

    /// Elements of a row of queries, keys and values.
    pub fn row_width(&self) -> usize {
        self.query_width() + 2 * self.kv_heads * self.width
    }

    /// First element of a key-value head's queries, key and value within such a row.
    fn offsets(&self, kv_head: usize) -> [usize; 3] {
        let keys = self.query_width() + kv_head * self.width;
        [
            kv_head * self.per_kv * self.width,
            keys,
            keys + self.kv_heads * self.width,
        ]
    }

    /// Rows whose queries make up one task.
    pub(crate) fn rows_per_task(&self) -> usize {
        (QUERIES / self.per_kv).max(1)
    }

    /// What multiplies.
    fn unit(&self) -> bfloat16::Unit {
        match self.compute {
            // Float32 tiles need no matrix registers.
            Compute::F32 => bfloat16::Unit::Wide,
            Compute::Bf16 => bfloat16::unit(),
        }
    }

    fn scale(&self) -> f32 {
        1.0 / (self.width as f32).sqrt()
    }
}

/// Keys and values of one head in blocks of 32 positions.
#[derive(Clone, Copy)]
pub(crate) enum Blocks<'a> {
    /// Block after block, so many words apart.
    Run(&'a [f32], usize),
    /// Block i in the first of so many pieces of page i, from the given word on.
    Pages(&'a [Aligned], usize, usize),
}

impl<'a> Blocks<'a> {
    #[inline]
    fn block(&self, index: usize) -> &'a [f32] {
        match self {
            Blocks::Run(words, stride) => &words[index * stride..],
            Blocks::Pages(pieces, stride, offset) => &pieces[index * stride].floats()[*offset..],
        }
    }
}

/// What will be read after a product: where it begins, or nothing. Blocks lie in pages all over memory,
/// where the processor does not foresee them.
#[derive(Clone, Copy)]
struct Ahead(*const f32);

impl Ahead {
    const NOTHING: Self = Self(std::ptr::null());

    /// Words from `first` on of the first of these blocks, if there are any.
    fn of(blocks: Option<Blocks<'_>>, first: usize) -> Self {
        blocks.map_or(Self::NOTHING, |blocks| {
            Self(blocks.block(0)[first..].as_ptr())
        })
    }
}

/// Writes the key and value of position `at` into its block.
pub(crate) fn store(heads: Heads, block: &mut [f32], at: usize, key: &[f32], value: &[f32]) {
    match heads.compute {
        Compute::F32 => float::store(block, at, key, value),
        Compute::Bf16 => pairs::store(words_mut(block), at, key, value),
    }
}

/// Packs keys and values of one head of `count` rows of q, k and v.
pub(crate) fn pack(heads: Heads, kv_head: usize, rows: &[f32], count: usize, out: &mut [f32]) {
    if count == 0 {
        return;
    }
    let [_, key, value] = heads.offsets(kv_head);
    let (keys, values) = (&rows[key..], &rows[value..]);
    match heads.compute {
        Compute::F32 => float::pack(heads, keys, values, count, out),
        Compute::Bf16 => pairs::pack(heads, keys, values, count, words_mut(out)),
    }
}

/// Collects one key-value head's queries of rows, or the gradients of their outputs, multiplied by
/// `scale`: `[rows * per_kv, width]` from `[count, stride]`.
fn gather(
    heads: Heads,
    kv_head: usize,
    rows: &[f32],
    stride: usize,
    count: usize,
    scale: f32,
    out: &mut Buffer,
) {
    let own = heads.per_kv * heads.width;
    out.reset(count * own);
    for (i, out) in out.chunks_exact_mut(own).enumerate() {
        let row = &rows[i * stride + kv_head * own..][..own];
        for (out, x) in out.iter_mut().zip(row) {
            *out = x * scale;
        }
    }
}

/// Rows that are multiplied with keys or values.
#[derive(Clone, Copy)]
enum Left<'a> {
    /// Float32, so many words apart.
    Floats(&'a [f32], usize),
    /// Rounded to bfloat16.
    Pairs(bfloat16::Left),
}

impl<'a> Left<'a> {
    /// `rows` rows of `width` values, `stride` apart, as `heads` wants them; rounded ones lie in `rounded`.
    fn of(
        heads: Heads,
        values: &'a [f32],
        stride: usize,
        rows: usize,
        width: usize,
        rounded: &'a mut Buffer,
    ) -> Self {
        match heads.compute {
            Compute::F32 => Left::Floats(values, stride),
            Compute::Bf16 => Left::Pairs(pairs::left(values, stride, rows, width, rounded)),
        }
    }

    /// The rows from `first` on.
    fn at_row(self, first: usize) -> Self {
        match self {
            Left::Floats(values, stride) => Left::Floats(&values[first * stride..], stride),
            Left::Pairs(left) => Left::Pairs(left.at_row(first)),
        }
    }
}

/// `out[i][j] = left[i] . keys[j]` for `rows` rows and the first `count` keys; `next` will be read
/// afterwards. Rows of `out` are `stride` apart.
#[expect(
    clippy::too_many_arguments,
    reason = "three matrices with their strides"
)]
fn scores(
    left: Left<'_>,
    rows: usize,
    width: usize,
    blocks: Blocks<'_>,
    count: usize,
    next: Ahead,
    out: &mut [f32],
    stride: usize,
) {
    match left {
        Left::Floats(left, _) => {
            let left = &left[..rows * width];
            float::scores(left, width, blocks, 0, count, next, out, stride);
        }
        Left::Pairs(left) => pairs::scores(left, rows, width, blocks, count, next, out, stride),
    }
}

/// `out[i] += sum over j of weights[i][j] * values[j]` for the first `count` values of a head of this
/// width, `out` being `[rows, width]`; `next` will be read afterwards.
fn mix(
    weights: Left<'_>,
    width: usize,
    blocks: Blocks<'_>,
    count: usize,
    next: Ahead,
    out: &mut [f32],
) {
    match weights {
        Left::Floats(weights, stride) => {
            let first = BLOCK * width;
            float::mix(weights, stride, blocks, first, count, next, width, out);
        }
        Left::Pairs(weights) => {
            pairs::mix(weights, out.len() / width, width, blocks, count, next, out);
        }
    }
}

multiversion! {
    /// Exponentials, in place, of a row that is held in two parts, less its largest element; returns the
    /// inverse of their sum, the factor that makes them a softmax.
    ///
    /// The sum runs in 16 lanes by place in the whole row, so the bits are those of the same row held in
    /// one part.
    fn exponentials_of_parts(first: &mut [f32], second: &mut [f32]) -> f32 {
        let largest = largest_of(second, largest_of(first, f32::NEG_INFINITY));
        let mut sum = [0.0f32; 16];
        let (first_whole, first_rest) = first.as_chunks_mut::<16>();
        add_exponentials(first_whole, largest, &mut sum);
        // The lanes that the first part leaves open are the start of the second part.
        let taken = first_rest.len();
        let split = if taken == 0 { 0 } else { second.len().min(16 - taken) };
        let (second_start, second) = second.split_at_mut(split);
        let mut joint = [f32::NEG_INFINITY; 16];
        joint[..taken].copy_from_slice(first_rest);
        joint[taken..taken + split].copy_from_slice(second_start);
        add_exponentials(std::slice::from_mut(&mut joint), largest, &mut sum);
        first_rest.copy_from_slice(&joint[..taken]);
        second_start.copy_from_slice(&joint[taken..taken + split]);
        let (second_whole, second_rest) = second.as_chunks_mut::<16>();
        add_exponentials(second_whole, largest, &mut sum);
        let mut last = [f32::NEG_INFINITY; 16];
        last[..second_rest.len()].copy_from_slice(second_rest);
        add_exponentials(std::slice::from_mut(&mut last), largest, &mut sum);
        second_rest.copy_from_slice(&last[..second_rest.len()]);
        1.0 / total(sum)
    }
}

/// Softmax in place over a row that is held in two parts.
fn softmax_of_parts(first: &mut [f32], second: &mut [f32]) {
    let inverse = exponentials_of_parts(first, second);
    scale(first, inverse);
    scale(second, inverse);
}

/// Multiplies each row of `results`, `[rows, width]`, with its factor, if there are factors.
fn scale_rows(results: &mut [f32], width: usize, factors: &[f32]) {
    for (row, &factor) in results.chunks_exact_mut(width).zip(factors) {
        scale(row, factor);
    }
}

/// The largest of the values and `start`.
#[inline(always)]
fn largest_of(values: &[f32], start: f32) -> f32 {
    let (chunks, rest) = values.as_chunks::<16>();
    let mut lanes = [start; 16];
    for chunk in chunks {
        for (lane, &v) in lanes.iter_mut().zip(chunk) {
            *lane = if v > *lane { v } else { *lane };
        }
    }
    let mut largest = start;
    for &v in lanes.iter().chain(rest) {
        largest = if v > largest { v } else { largest };
    }
    largest
}

/// Replaces each value by its exponential below `largest` and adds it to its lane.
#[inline(always)]
fn add_exponentials(chunks: &mut [[f32; 16]], largest: f32, sum: &mut [f32; 16]) {
    for chunk in chunks {
        for (lane, v) in sum.iter_mut().zip(chunk) {
            *v = exp(*v - largest);
            *lane += *v;
        }
    }
}

/// Attention weights of a block of queries of one sequence: trunk part and own part.
#[derive(Default)]
struct Weights {
    trunk: Buffer,
    own: Buffer,
    /// What the weighted values of each row are to be multiplied with, where weights are to be rounded:
    /// exponentials of scores, of which the largest is 1 and loses nothing. Otherwise empty.
    factors: Vec<f32>,
}

/// A run of rows that follow each other: a trunk, or a branch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    /// First row.
    pub(crate) first: usize,
    /// Rows.
    pub(crate) rows: usize,
    /// Trunk rows it sees; 0 for a trunk itself.
    pub(crate) fork: usize,
}

/// What the rows of one sequence see.
#[derive(Clone, Copy)]
pub(crate) struct Sight<'a> {
    /// The trunk's blocks, of which the first `fork` positions are seen.
    pub(crate) trunk: Blocks<'a>,
    pub(crate) fork: usize,
    /// The sequence's own blocks; row i sees its positions up to `before + i`.
    pub(crate) own: Blocks<'a>,
    pub(crate) before: usize,
}

impl Sight<'_> {
    /// Own positions that the last of `rows` rows sees.
    fn reach(&self, rows: usize) -> usize {
        self.before + rows
    }
}

impl Weights {
    /// Turns a row's scores in two parts into weights.
    fn weigh(rounded: bool, factors: &mut Vec<f32>, first: &mut [f32], second: &mut [f32]) {
        if rounded {
            factors.push(exponentials_of_parts(first, second));
        } else {
            softmax_of_parts(first, second);
        }
    }

    /// Scores and softmax of `queries` (`[rows * per_kv, width]`, scaled); weights of positions that a
    /// query does not see are 0.
    fn compute(&mut self, heads: Heads, queries: Left<'_>, rows: usize, sight: Sight<'_>) {
        let (fork, reach) = (sight.fork, sight.reach(rows));
        self.trunk.reset(rows * heads.per_kv * fork);
        self.own.reset(rows * heads.per_kv * reach);
        let count = rows * heads.per_kv;
        scores(
            queries,
            count,
            heads.width,
            sight.trunk,
            fork,
            Ahead::NOTHING,
            &mut self.trunk,
            fork,
        );
        scores(
            queries,
            count,
            heads.width,
            sight.own,
            reach,
            Ahead::NOTHING,
            &mut self.own,
            reach,
        );
        let rounded = matches!(queries, Left::Pairs(_));
        self.factors.clear();
        for i in 0..count {
            let own = &mut self.own[i * reach..(i + 1) * reach];
            let (seen, hidden) = own.split_at_mut(sight.before + i / heads.per_kv + 1);
            let trunk = &mut self.trunk[i * fork..(i + 1) * fork];
            Self::weigh(rounded, &mut self.factors, trunk, seen);
            hidden.fill(0.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn softmax_has_the_same_bits_wherever_the_row_is_cut() {
        let row: Vec<f32> = (0..75)
            .map(|i| ((i * 37) % 50) as f32 * 0.17 - 3.0)
            .collect();
        for len in [1, 5, 16, 40, 75] {
            let mut whole = row[..len].to_vec();
            softmax_of_parts(&mut [], &mut whole);
            assert!((whole.iter().sum::<f32>() - 1.0).abs() < 1e-6);
            for cut in 0..=len {
                let (mut first, mut second) = (row[..cut].to_vec(), row[cut..len].to_vec());
                softmax_of_parts(&mut first, &mut second);
                assert_eq!([first, second].concat(), whole, "{len} cut at {cut}");
            }
        }
    }
}
