//! Log-probs and entropies of given tokens from hidden states, and their gradient, so that a tokens x vocabulary matrix
//! never exists: forward some rows over the whole vocabulary, whose sum each row needs; backward all rows over some
//! entries of it, so that a micro-batch adds to the output projection's gradient once.

use super::host::HostDecoder;
use crate::kernels::buffers::Buffer;
use crate::kernels::elementwise::add;
use crate::kernels::matmul::Packed;
use crate::kernels::softmax::{log_sum_exp_and_entropy, logits_gradient, scale_by_temperature};
use crate::kernels::team;

/// Logits that exist at one time (16 MiB), unless the least rows or entries are more.
const LOGITS: usize = 1 << 22;
/// Rows that make up for reading the output projection.
const LEAST_ROWS: usize = 128;
/// Entries of the vocabulary that make up for reading the rows; whole panels.
const LEAST_ENTRIES: usize = 1024;

/// Rows whose logits exist at one time in a forward pass.
pub(super) fn rows_at_a_time(vocab_size: usize) -> usize {
    (LOGITS / vocab_size.max(1)).max(LEAST_ROWS)
}

/// Entries of the vocabulary whose logits exist at one time in a backward pass over so many rows.
pub(super) fn entries_at_a_time(rows: usize) -> usize {
    (LOGITS / rows.max(1) / LEAST_ENTRIES).max(1) * LEAST_ENTRIES
}

/// The rows that predict something, and what they found.
#[derive(Default)]
pub(super) struct Predictions {
    /// The rows, ascending.
    rows: Vec<usize>,
    /// First target of each.
    starts: Vec<usize>,
    log_sum_exps: Vec<f32>,
    entropies: Vec<f32>,
}

impl Predictions {
    /// The rows that `targets` (sorted by row) name.
    fn of(targets: &[(usize, u32, usize)]) -> Self {
        let starts: Vec<usize> = (0..targets.len())
            .filter(|&i| i == 0 || targets[i].0 != targets[i - 1].0)
            .collect();
        Self {
            rows: starts.iter().map(|&start| targets[start].0).collect(),
            starts,
            ..Self::default()
        }
    }

    /// The targets of the row at this place.
    fn targets<'a>(
        &self,
        at: usize,
        targets: &'a [(usize, u32, usize)],
    ) -> &'a [(usize, u32, usize)] {
        let end = self.starts.get(at + 1).copied().unwrap_or(targets.len());
        &targets[self.starts[at]..end]
    }
}

impl HostDecoder {
    /// Runs the output projection over the rows that `targets` (sorted by row) name.
    ///
    /// `hidden` is final-normed `[rows, hidden_size]`; calls `visit(slot, log-prob, entropy)` and returns what the
    /// backward pass needs.
    pub(super) fn score(
        &self,
        hidden: &[f32],
        targets: &[(usize, u32, usize)],
        temperature: f32,
        mut visit: impl FnMut(usize, f32, f32),
    ) -> Predictions {
        let (width, vocab) = (self.config.hidden_size, self.config.vocab_size);
        let mut predictions = Predictions::of(targets);
        let most = rows_at_a_time(vocab);
        for first in (0..predictions.rows.len()).step_by(most) {
            let end = (first + most).min(predictions.rows.len());
            let inputs = gather(hidden, &predictions.rows[first..end], width);
            let mut logits = Buffer::take((end - first) * vocab);
            self.weights.head.apply(&inputs, &mut logits);
            let found = team::collect_chunks(
                &mut logits,
                vocab,
                || (),
                |(), _, logits| {
                    scale_by_temperature(logits, temperature);
                    log_sum_exp_and_entropy(logits)
                },
            );
            for (at, (logits, (log_sum_exp, entropy))) in
                logits.chunks_exact(vocab).zip(found).enumerate()
            {
                predictions.log_sum_exps.push(log_sum_exp);
                predictions.entropies.push(entropy);
                for &(_, token, slot) in predictions.targets(first + at, targets) {
                    visit(slot, logits[token as usize] - log_sum_exp, entropy);
                }
            }
        }
        predictions
    }

    /// Gradient of the scores that made these predictions: adds to the gradient of `hidden` and of the output
    /// projection.
    #[expect(
        clippy::too_many_arguments,
        reason = "what a pass knows of its scores, and two gradients"
    )]
    pub(super) fn score_backward(
        &self,
        hidden: &[f32],
        targets: &[(usize, u32, usize)],
        predictions: &Predictions,
        temperature: f32,
        (dlogprobs, dentropies): (&[f32], &[f32]),
        dhidden: &mut [f32],
        gradient: &mut [f32],
    ) {
        let (width, vocab) = (self.config.hidden_size, self.config.vocab_size);
        let (head, rows) = (&self.weights.head, predictions.rows.len());
        if rows == 0 {
            return;
        }
        let inputs = gather(hidden, &predictions.rows, width);
        let packed = Packed::plain(&inputs, rows, width, self.options.compute);
        let mut dinputs = Buffer::zeros(inputs.len());
        let most = entries_at_a_time(rows).min(vocab);
        for first in (0..vocab).step_by(most.max(1)) {
            let entries = first..(first + most).min(vocab);
            let mut logits = Buffer::take(rows * entries.len());
            head.apply_some(&inputs, entries.clone(), &mut logits);
            team::each_chunk(&mut logits, entries.len(), |at, logits| {
                let own = predictions.targets(at, targets);
                let slopes = |of: &[f32]| -> f32 {
                    let own = own.iter().filter_map(|&(_, _, slot)| of.get(slot));
                    own.sum()
                };
                scale_by_temperature(logits, temperature);
                logits_gradient(
                    logits,
                    predictions.log_sum_exps[at],
                    slopes(dlogprobs),
                    predictions.entropies[at],
                    slopes(dentropies),
                );
                for &(_, token, slot) in own {
                    let place = (token as usize).checked_sub(entries.start);
                    if let Some(logit) = place.and_then(|place| logits.get_mut(place)) {
                        *logit += dlogprobs[slot];
                    }
                }
                scale_by_temperature(logits, temperature);
            });
            head.backward_some(&logits, entries, &packed, gradient, &mut dinputs);
        }
        packed.give_back();
        for (&row, d) in predictions.rows.iter().zip(dinputs.chunks_exact(width)) {
            add(&mut dhidden[row * width..(row + 1) * width], d);
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
