//! Key-value caches of trunks and branches, and one token a branch.

use super::Decoder;
use crate::config::ModelConfig;
use crate::kernels::Shared;
use crate::kernels::attention::{HeadRows, attend};
use crate::kernels::elementwise::{add, rms_norm};
use crate::kernels::matmul::matmul;
use rayon::prelude::*;

/// Keys and values of one layer, row-major `[positions, kv_heads * head_dim]`.
#[derive(Clone, Debug, Default)]
struct LayerCache {
    keys: Vec<f32>,
    values: Vec<f32>,
}

/// A trunk's keys and values, computed once for all its branches and rounds.
#[derive(Clone, Debug)]
pub struct TrunkCache {
    layers: Vec<LayerCache>,
    hidden: Vec<f32>,
    width: usize,
    len: usize,
}

impl TrunkCache {
    /// An empty trunk.
    pub fn new(config: &ModelConfig) -> Self {
        Self {
            layers: vec![LayerCache::default(); config.layers],
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

    /// Final normalised hidden state at `position` (below `len()`), `[hidden_size]`: it predicts the token
    /// after it, so a branch that forks at f starts from `hidden(f - 1)`.
    pub fn hidden(&self, position: usize) -> &[f32] {
        &self.hidden[position * self.width..(position + 1) * self.width]
    }
}

/// A branch's own keys and values.
#[derive(Clone, Debug)]
pub struct BranchCache {
    layers: Vec<LayerCache>,
    fork: usize,
    len: usize,
}

impl BranchCache {
    /// A branch without tokens that forks from its trunk at `fork`.
    pub fn new(config: &ModelConfig, fork: usize) -> Self {
        Self {
            layers: vec![LayerCache::default(); config.layers],
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

    /// Trunk tokens in front of it.
    pub fn fork(&self) -> usize {
        self.fork
    }
}

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
        if tokens.is_empty() {
            return;
        }
        let (heads, d, per_kv) = (
            self.config.heads,
            self.config.head_dim,
            self.config.queries_per_kv(),
        );
        let stride = self.config.kv_heads * d;
        let positions: Vec<usize> = (trunk.len..trunk.len + tokens.len()).collect();
        let mut hidden = self.embed(tokens);
        for (weights, cache) in self.blocks.iter().zip(&mut trunk.layers) {
            let mut normed = vec![0.0; hidden.len()];
            rms_norm(
                &hidden,
                &self.values[weights.input_norm.clone()],
                self.epsilon(),
                &mut normed,
            );
            let (query, key, value, _) = self.project(weights, &normed, &positions);
            cache.keys.extend_from_slice(&key);
            cache.values.extend_from_slice(&value);
            let mut attended = vec![0.0; query.len()];
            attended
                .par_chunks_mut(d)
                .enumerate()
                .with_min_len(heads)
                .for_each_init(Vec::new, |scratch, (i, out)| {
                    let (row, head) = (i / heads, i % heads);
                    let offset = head / per_kv * d;
                    let rows = |rows| {
                        [
                            HeadRows {
                                rows,
                                first: 0,
                                count: 0,
                                stride,
                                offset,
                            },
                            HeadRows {
                                rows,
                                first: 0,
                                count: positions[row] + 1,
                                stride,
                                offset,
                            },
                        ]
                    };
                    attend(
                        &query[i * d..(i + 1) * d],
                        rows(&cache.keys),
                        rows(&cache.values),
                        scratch,
                        out,
                    );
                });
            self.finish_block(weights, &attended, &mut hidden);
        }
        trunk.hidden.extend_from_slice(&self.normalise(&hidden));
        trunk.len += tokens.len();
    }

    /// Runs one token of each branch; `hidden` becomes `[rows, hidden_size]`, final-normed: the states
    /// that predict each branch's next token.
    pub fn decode(&self, rows: &mut [DecodeRow<'_>], hidden: &mut Vec<f32>) {
        let (heads, d, per_kv) = (
            self.config.heads,
            self.config.head_dim,
            self.config.queries_per_kv(),
        );
        let stride = self.config.kv_heads * d;
        let tokens: Vec<u32> = rows.iter().map(|row| row.token).collect();
        let positions: Vec<usize> = rows
            .iter()
            .map(|row| row.branch.fork + row.branch.len)
            .collect();
        let mut state = self.embed(&tokens);
        for (layer, weights) in self.blocks.iter().enumerate() {
            let mut normed = vec![0.0; state.len()];
            rms_norm(
                &state,
                &self.values[weights.input_norm.clone()],
                self.epsilon(),
                &mut normed,
            );
            let (query, key, value, _) = self.project(weights, &normed, &positions);
            let mut attended = vec![0.0; query.len()];
            let shared = Shared(attended.as_mut_ptr());
            rows.par_iter_mut()
                .enumerate()
                .with_min_len(4)
                .for_each_init(Vec::new, |scratch, (i, row)| {
                    let own = &mut row.branch.layers[layer];
                    own.keys
                        .extend_from_slice(&key[i * stride..(i + 1) * stride]);
                    own.values
                        .extend_from_slice(&value[i * stride..(i + 1) * stride]);
                    let trunk = &row.trunk.layers[layer];
                    for head in 0..heads {
                        let offset = head / per_kv * d;
                        let part = |rows, count| HeadRows {
                            rows,
                            first: 0,
                            count,
                            stride,
                            offset,
                        };
                        let (fork, len) = (row.branch.fork, row.branch.len + 1);
                        let at = (i * heads + head) * d;
                        // SAFETY: each (row, head) is written by one task.
                        let out = unsafe { shared.slice(at, d) };
                        let keys = [part(&trunk.keys[..], fork), part(&own.keys[..], len)];
                        let values = [part(&trunk.values[..], fork), part(&own.values[..], len)];
                        attend(&query[at..at + d], keys, values, scratch, out);
                    }
                });
            self.finish_block(weights, &attended, &mut state);
        }
        for row in rows {
            row.branch.len += 1;
        }
        *hidden = self.normalise(&state);
    }

    /// Logits of final-normed hidden states: `[rows, hidden_size]` to `[rows, vocab_size]`.
    pub fn logits(&self, hidden: &[f32], logits: &mut Vec<f32>) {
        let rows = hidden.len() / self.config.hidden_size;
        logits.clear();
        logits.resize(rows * self.config.vocab_size, 0.0);
        matmul(hidden, self.head.forward(), logits);
    }

    /// Output projection, residual, feed-forward.
    fn finish_block(&self, weights: &super::BlockWeights, attended: &[f32], state: &mut [f32]) {
        let mut projected = vec![0.0; state.len()];
        matmul(attended, weights.output.forward(), &mut projected);
        add(state, &projected);
        self.feed_forward(weights, state);
    }
}
