//! Prefill of trunks, and one token a branch.

use super::cache::{BranchCache, TrunkCache};
use super::host::HostDecoder;
use super::{Decoder, Place};
use crate::kernels::Shared;
use crate::kernels::attention::{self, BranchQueries, Sight};
use crate::kernels::buffers::Buffer;
use crate::kernels::matmul::matmul_with_extremes;
use crate::kernels::team::{self, together};

/// Parameters of a model whose layers are so small that rows are shared out between threads once a
/// step instead of once a product.
const SMALL_MODEL: usize = 1 << 22;
/// Rows of a thread from which on the same is worth it for any model: so many make up for each thread
/// reading all weights.
const MANY_ROWS: usize = 48;
/// Tokens of a prompt that go through the model together: enough for products at full speed, few enough that a
/// long prompt needs no more work memory than a micro-batch.
const PREFILL_ROWS: usize = 2048;
/// Rows whose keys and values one task writes.
const ROWS_WRITTEN: usize = 4;

/// One branch's next input.
pub struct DecodeRow<'a> {
    /// The trunk, computed at least up to the branch's fork.
    pub trunk: &'a TrunkCache,
    /// The branch; its cache grows by the token.
    pub branch: &'a mut BranchCache,
    /// The token sampled last.
    pub token: u32,
}

impl Decoder {
    /// Appends `tokens` to a trunk (prefill).
    pub fn extend_trunk(&self, trunk: &mut TrunkCache, tokens: &[u32]) {
        match &self.place {
            Place::Host(host) => host.extend_trunk(trunk, tokens),
            #[cfg(feature = "cuda")]
            Place::Device(device) => device.extend_trunk(trunk, tokens),
        }
    }

    /// Runs one token of each branch; `hidden` becomes `[rows, hidden_size]`, final-normed: the states
    /// that predict each branch's next token.
    pub fn decode(&self, rows: &mut [DecodeRow<'_>], hidden: &mut Vec<f32>) {
        match &self.place {
            Place::Host(host) => host.decode(rows, hidden),
            #[cfg(feature = "cuda")]
            Place::Device(device) => device.decode(rows, hidden),
        }
    }

    /// Logits of final-normed hidden states: `[rows, hidden_size]` to `[rows, vocab_size]`.
    pub fn logits(&self, hidden: &[f32], logits: &mut Vec<f32>) {
        self.logits_with_extremes(hidden, logits, &mut Vec::new());
    }

    /// As [`Decoder::logits`]; `extremes` becomes the smallest and the largest logit of each row (NaN is
    /// neither).
    pub fn logits_with_extremes(
        &self,
        hidden: &[f32],
        logits: &mut Vec<f32>,
        extremes: &mut Vec<[f32; 2]>,
    ) {
        match &self.place {
            Place::Host(host) => host.logits_with_extremes(hidden, logits, extremes),
            #[cfg(feature = "cuda")]
            Place::Device(device) => device.logits_with_extremes(hidden, logits, extremes),
        }
    }
}

impl HostDecoder {
    /// Appends `tokens` to a trunk (prefill).
    pub(super) fn extend_trunk(&self, trunk: &mut TrunkCache, tokens: &[u32]) {
        for tokens in tokens.chunks(PREFILL_ROWS) {
            together(|| self.prefill(trunk, tokens));
        }
    }

    fn prefill(&self, trunk: &mut TrunkCache, tokens: &[u32]) {
        let heads = self.heads();
        let (stride, first) = (heads.row_width(), trunk.len);
        let positions: Vec<usize> = (first..first + tokens.len()).collect();
        trunk
            .pages
            .reserve(heads, self.config.layers, first + tokens.len());
        let mut hidden = self.embed(tokens);
        for (layer, weights) in self.weights.blocks.iter().enumerate() {
            let (qkv, _) = self.project(weights, &hidden, &positions);
            for (&position, row) in positions.iter().zip(qkv.chunks_exact(stride)) {
                let (keys, values) = keys_and_values(row, heads.query_width());
                trunk.pages.write(heads, layer, position, keys, values);
            }
            let mut attended = Buffer::take(tokens.len() * heads.query_width());
            let shared = Shared(attended.as_mut_ptr());
            let runs = tokens.len().div_ceil(heads.rows_per_task());
            team::each_with(runs * heads.kv_heads, Default::default, |scratch, index| {
                let (run, kv_head) = (index / heads.kv_heads, index % heads.kv_heads);
                let row = run * heads.rows_per_task();
                let count = heads.rows_per_task().min(tokens.len() - row);
                let blocks = trunk.pages.blocks(heads, layer, kv_head);
                let sight = Sight {
                    trunk: blocks,
                    fork: 0,
                    own: blocks,
                    before: first + row,
                };
                // SAFETY: each task writes one head of its own rows.
                unsafe {
                    let out = Shared(shared.at(row * heads.query_width()));
                    let queries = &qkv[row * stride..];
                    attention::sequence(heads, kv_head, queries, count, sight, scratch, out);
                }
            });
            let middle = self.after_attention(weights, &hidden, &attended);
            let gate_up = self.gate_up(weights, &middle);
            hidden = self.feed_forward(weights, &middle, &gate_up);
        }
        let normed = self.normalise(&hidden, &self.weights.final_norm);
        trunk.hidden.extend_from_slice(&normed);
        trunk.len += tokens.len();
    }

    /// Runs one token of each branch; `hidden` becomes `[rows, hidden_size]`, final-normed: the states
    /// that predict each branch's next token.
    pub(super) fn decode(&self, rows: &mut [DecodeRow<'_>], hidden: &mut Vec<f32>) {
        let width = self.config.hidden_size;
        hidden.resize(rows.len() * width, 0.0);
        let share = rows.len().div_ceil(rayon::current_num_threads()).max(1);
        let small = self.weights.parameters() <= SMALL_MODEL;
        if !small && share < MANY_ROWS {
            together(|| self.decode_rows(rows, hidden));
        } else {
            // A row's bits do not depend on its company, so any cut will do.
            let hidden = Shared(hidden.as_mut_ptr());
            team::each_chunk(rows, share, |chunk, rows| {
                // SAFETY: each task writes the states of its own rows.
                let hidden = unsafe { hidden.slice(chunk * share * width, rows.len() * width) };
                self.decode_rows(rows, hidden);
            });
        }
    }

    fn decode_rows(&self, rows: &mut [DecodeRow<'_>], hidden: &mut [f32]) {
        let heads = self.heads();
        let stride = heads.row_width();
        let tokens: Vec<u32> = rows.iter().map(|row| row.token).collect();
        let positions: Vec<usize> = rows
            .iter_mut()
            .map(|row| {
                let pages = &mut row.branch.pages;
                pages.reserve(heads, self.config.layers, row.branch.len + 1);
                row.branch.fork + row.branch.len
            })
            .collect();
        let runs = runs(rows, heads.rows_per_task());
        let mut state = self.embed(&tokens);
        for (layer, weights) in self.weights.blocks.iter().enumerate() {
            let (qkv, _) = self.project(weights, &state, &positions);
            team::each_chunk(rows, ROWS_WRITTEN, |chunk, rows| {
                let qkv = qkv[chunk * ROWS_WRITTEN * stride..].chunks_exact(stride);
                for (row, qkv) in rows.iter_mut().zip(qkv) {
                    let (keys, values) = keys_and_values(qkv, heads.query_width());
                    let at = row.branch.len;
                    row.branch.pages.write(heads, layer, at, keys, values);
                }
            });
            let mut attended = Buffer::take(rows.len() * heads.query_width());
            let shared = Shared(attended.as_mut_ptr());
            let rows = &*rows;
            team::each_with(
                runs.len() * heads.kv_heads,
                Default::default,
                |scratch, index| {
                    let (run, kv_head) = (&runs[index / heads.kv_heads], index % heads.kv_heads);
                    let seen: Vec<BranchQueries<'_>> = rows[run.clone()]
                        .iter()
                        .map(|row| BranchQueries {
                            fork: row.branch.fork,
                            own: row.branch.pages.blocks(heads, layer, kv_head),
                            len: row.branch.len + 1,
                        })
                        .collect();
                    let trunk = rows[run.start].trunk.pages.blocks(heads, layer, kv_head);
                    let queries = &qkv[run.start * stride..];
                    // SAFETY: each task writes one head of its own rows.
                    unsafe {
                        let out = Shared(shared.at(run.start * heads.query_width()));
                        attention::branches(heads, kv_head, queries, trunk, &seen, scratch, out);
                    }
                },
            );
            let middle = self.after_attention(weights, &state, &attended);
            let gate_up = self.gate_up(weights, &middle);
            state = self.feed_forward(weights, &middle, &gate_up);
        }
        for row in rows {
            row.branch.len += 1;
        }
        hidden.copy_from_slice(&self.normalise(&state, &self.weights.final_norm));
    }

    /// As [`Decoder::logits`]; `extremes` becomes the smallest and the largest logit of each row (NaN is
    /// neither).
    pub(super) fn logits_with_extremes(
        &self,
        hidden: &[f32],
        logits: &mut Vec<f32>,
        extremes: &mut Vec<[f32; 2]>,
    ) {
        let rows = hidden.len() / self.config.hidden_size;
        logits.resize(rows * self.config.vocab_size, 0.0);
        matmul_with_extremes(hidden, self.weights.head.packed(), logits, extremes);
    }
}

/// The keys and the values in a row of q, k and v.
fn keys_and_values(row: &[f32], query_width: usize) -> (&[f32], &[f32]) {
    let rest = &row[query_width..];
    rest.split_at(rest.len() / 2)
}

/// Neighbours of one trunk, at most `most` together.
fn runs(rows: &[DecodeRow<'_>], most: usize) -> Vec<std::ops::Range<usize>> {
    let mut runs = Vec::new();
    let mut first = 0;
    for chunk in rows.chunk_by(|a, b| std::ptr::eq(a.trunk, b.trunk)) {
        let end = first + chunk.len();
        runs.extend(
            (first..end)
                .step_by(most)
                .map(|start| start..end.min(start + most)),
        );
        first = end;
    }
    runs
}
