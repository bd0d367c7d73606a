//! Log-probs and entropies of given tokens from hidden states, and their gradient, in chunks of rows, so
//! that a tokens x vocabulary matrix never exists.

use super::host::HostDecoder;
use crate::kernels::buffers::Buffer;
use crate::kernels::elementwise::add;
use crate::kernels::softmax::{log_sum_exp_and_entropy, logits_gradient, scale_by_temperature};
use crate::kernels::team;

/// Logits that exist at one time (64 MiB); whole rows, at least [`LEAST_ROWS`].
const LOGITS: usize = 1 << 24;
/// Rows that make up for reading the output projection.
const LEAST_ROWS: usize = 64;

/// Rows whose logits exist at one time.
pub(super) fn rows_at_a_time(vocab_size: usize) -> usize {
    (LOGITS / vocab_size.max(1)).max(LEAST_ROWS)
}

/// What one predicting row knows.
#[derive(Default)]
struct RowScore {
    log_sum_exp: f32,
    entropy: f32,
}

impl HostDecoder {
    /// Runs the output projection over the rows that `targets` (sorted by row) name.
    ///
    /// `hidden` is final-normed `[rows, hidden_size]`; calls `visit(slot, log-prob, entropy)`.
    pub(super) fn score(
        &self,
        hidden: &[f32],
        targets: &[(usize, u32, usize)],
        temperature: f32,
        mut visit: impl FnMut(usize, f32, f32),
    ) {
        self.chunks(
            hidden,
            targets,
            temperature,
            |_, targets, logits, scores| {
                let mut at = 0;
                for (i, &(row, token, slot)) in targets.iter().enumerate() {
                    if i > 0 && row != targets[i - 1].0 {
                        at += 1;
                    }
                    let logit = logits[at * self.config.vocab_size + token as usize];
                    visit(slot, logit - scores[at].log_sum_exp, scores[at].entropy);
                }
            },
        );
    }

    /// Gradient of the scores: adds to the gradient of `hidden` and of the output projection.
    pub(super) fn score_backward(
        &self,
        hidden: &[f32],
        targets: &[(usize, u32, usize)],
        temperature: f32,
        slot_gradients: (&[f32], &[f32]),
        dhidden: &mut [f32],
        gradient: &mut [f32],
    ) {
        let (width, vocab) = (self.config.hidden_size, self.config.vocab_size);
        let (dlogprobs, dentropies) = slot_gradients;
        self.chunks(
            hidden,
            targets,
            temperature,
            |rows, targets, logits, scores| {
                let starts: Vec<usize> = (0..targets.len())
                    .filter(|&i| i == 0 || targets[i].0 != targets[i - 1].0)
                    .collect();
                team::each_chunk(logits, vocab, |at, logits| {
                    let end = starts.get(at + 1).copied().unwrap_or(targets.len());
                    let own = &targets[starts[at]..end];
                    let total = own.iter().map(|&(_, _, slot)| dlogprobs[slot]).sum();
                    let slope = own
                        .iter()
                        .map(|&(_, _, slot)| dentropies.get(slot).copied().unwrap_or(0.0))
                        .sum();
                    logits_gradient(
                        logits,
                        scores[at].log_sum_exp,
                        total,
                        scores[at].entropy,
                        slope,
                    );
                    for &(_, token, slot) in own {
                        logits[token as usize] += dlogprobs[slot];
                    }
                    scale_by_temperature(logits, temperature);
                });
                let inputs = gather(hidden, rows, width);
                let mut dinputs = Buffer::take(inputs.len());
                let head = &self.weights.head;
                head.backward(logits, &inputs, gradient, &mut dinputs);
                for (&row, d) in rows.iter().zip(dinputs.chunks_exact(width)) {
                    add(&mut dhidden[row * width..(row + 1) * width], d);
                }
            },
        );
    }

    /// Calls `work(rows, their targets, logits, scores)` for each chunk of predicting rows.
    fn chunks(
        &self,
        hidden: &[f32],
        targets: &[(usize, u32, usize)],
        temperature: f32,
        mut work: impl FnMut(&[usize], &[(usize, u32, usize)], &mut [f32], &[RowScore]),
    ) {
        let (width, vocab) = (self.config.hidden_size, self.config.vocab_size);
        let mut first = 0;
        let most = rows_at_a_time(vocab);
        while first < targets.len() {
            let mut rows: Vec<usize> = Vec::new();
            let mut end = first;
            while end < targets.len() && (rows.len() < most || rows.last() == Some(&targets[end].0))
            {
                if rows.last() != Some(&targets[end].0) {
                    rows.push(targets[end].0);
                }
                end += 1;
            }
            let inputs = gather(hidden, &rows, width);
            let mut logits = Buffer::take(rows.len() * vocab);
            self.weights.head.apply(&inputs, &mut logits);
            let scores: Vec<RowScore> = team::collect_chunks(
                &mut logits,
                vocab,
                || (),
                |(), _, logits| {
                    scale_by_temperature(logits, temperature);
                    let (log_sum_exp, entropy) = log_sum_exp_and_entropy(logits);
                    RowScore {
                        log_sum_exp,
                        entropy,
                    }
                },
            );
            work(&rows, &targets[first..end], &mut logits, &scores);
            first = end;
        }
    }
}

fn gather(hidden: &[f32], rows: &[usize], width: usize) -> Buffer {
    let mut out = Buffer::take(rows.len() * width);
    for (&row, out) in rows.iter().zip(out.chunks_exact_mut(width)) {
        out.copy_from_slice(&hidden[row * width..(row + 1) * width]);
    }
    out
}
