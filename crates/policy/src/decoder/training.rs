//! The whole pass over a micro-batch of groups: scores of every predicted token, and gradients.

use super::block::RestingTape;
use super::footprint::tape_bytes;
use super::head::Predictions;
use super::host::HostDecoder;
use super::tree::{Rows, TreeGroup};
use super::{Decoder, Place};
use crate::kernels::buffers::{self, Buffer};
use crate::kernels::elementwise::{add, rms_norm_backward};
use crate::kernels::matmul::Compute;
use crate::kernels::resting::Resting;
use crate::kernels::team::together;

/// Log-prob and entropy of every slot: group by group, the trunk's tokens beyond the prompt, then the
/// branches' tokens in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TokenScores {
    /// ln of the token's probability at the temperature, `[slots]`.
    pub logprobs: Vec<f32>,
    /// Entropy in nats of the distribution it was drawn from, `[slots]`.
    pub entropies: Vec<f32>,
}

/// Derivative of a loss by [`TokenScores`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ScoreGradients {
    /// By each log-prob, `[slots]`.
    pub logprobs: Vec<f32>,
    /// By each entropy, `[slots]`; empty when the loss does not use entropies.
    pub entropies: Vec<f32>,
}

/// What a block leaves for its backward pass.
enum Kept {
    Input(Resting),
    Tape(RestingTape),
}

/// A forward pass up to the scores.
struct Forward {
    rows: Rows,
    kept: Vec<Kept>,
    hidden: Buffer,
    normed: Buffer,
    scores: TokenScores,
    predictions: Predictions,
}

impl Decoder {
    /// Log-probs and entropies of every slot, forward only.
    pub fn evaluate(&self, groups: &[TreeGroup<'_>], temperature: f32) -> TokenScores {
        match &self.place {
            Place::Host(host) => host.evaluate(groups, temperature),
            #[cfg(feature = "cuda")]
            Place::Device(device) => device.evaluate(groups, temperature),
        }
    }

    /// Forward, `loss` (given the scores, returns their gradients), backward: adds the gradient of the
    /// loss by every parameter to `gradient` (`[parameters]`).
    ///
    /// Of each block the pass keeps its input, and for as many blocks as
    /// [`Recompute`](super::Recompute) allows also what its backward pass needs (rows x 2 hidden
    /// widths of float32 and rows x (2 query + 2 key-value + 2 intermediate widths) of the number type of its products);
    /// the others run forward twice.
    ///
    /// # Errors
    /// Whatever `loss` returns; nothing has been added to `gradient` then.
    pub fn train<E>(
        &self,
        groups: &[TreeGroup<'_>],
        temperature: f32,
        gradient: &mut [f32],
        loss: impl FnOnce(&TokenScores) -> Result<ScoreGradients, E>,
    ) -> Result<TokenScores, E> {
        match &self.place {
            Place::Host(host) => host.train(groups, temperature, gradient, loss),
            #[cfg(feature = "cuda")]
            Place::Device(device) => device.train(groups, temperature, loss),
        }
    }
}

impl HostDecoder {
    /// Log-probs and entropies of every slot, forward only.
    fn evaluate(&self, groups: &[TreeGroup<'_>], temperature: f32) -> TokenScores {
        let scores = together(|| {
            let rows = Rows::of(groups);
            let mut hidden = self.embed(&rows.tokens);
            for block in 0..self.weights.blocks.len() {
                let tape = self.block_tape(block, &rows, hidden);
                hidden = self.block_output(block, &tape);
            }
            let normed = self.normalise(&hidden, &self.weights.final_norm);
            self.scores(&rows, &normed, temperature).0
        });
        buffers::trim();
        scores
    }

    /// As [`Decoder::train`].
    fn train<E>(
        &self,
        groups: &[TreeGroup<'_>],
        temperature: f32,
        gradient: &mut [f32],
        loss: impl FnOnce(&TokenScores) -> Result<ScoreGradients, E>,
    ) -> Result<TokenScores, E> {
        // A fresh gradient has not been touched yet.
        buffers::prefer_huge_pages(gradient);
        let mut forward = together(|| self.forward(groups, temperature));
        let scores = std::mem::take(&mut forward.scores);
        let slopes = loss(&scores)?;
        together(|| self.backward(forward, &slopes, temperature, gradient));
        buffers::trim();
        Ok(scores)
    }

    fn forward(&self, groups: &[TreeGroup<'_>], temperature: f32) -> Forward {
        let rows = Rows::of(groups);
        let blocks = self.weights.blocks.len();
        let compute = self.options.compute;
        let bytes = tape_bytes(&self.config, compute, rows.tokens.len());
        // The last blocks keep, because their intermediates are freed first.
        let first_kept = blocks - self.options.recompute.kept(blocks, bytes);
        let mut kept = Vec::with_capacity(blocks);
        let mut hidden = self.embed(&rows.tokens);
        for block in 0..blocks {
            let tape = self.block_tape(block, &rows, hidden);
            hidden = self.block_output(block, &tape);
            kept.push(if block < first_kept {
                Kept::Input(Resting::new(&tape.into_input(), Compute::F32))
            } else {
                Kept::Tape(tape.rest(compute))
            });
        }
        let normed = self.normalise(&hidden, &self.weights.final_norm);
        let (scores, predictions) = self.scores(&rows, &normed, temperature);
        Forward {
            rows,
            kept,
            hidden,
            normed,
            scores,
            predictions,
        }
    }

    fn backward(
        &self,
        forward: Forward,
        slopes: &ScoreGradients,
        temperature: f32,
        gradient: &mut [f32],
    ) {
        let Forward {
            rows,
            kept,
            hidden,
            normed,
            predictions,
            ..
        } = forward;
        let mut dnormed = Buffer::zeros(hidden.len());
        let slot_gradients = (slopes.logprobs.as_slice(), slopes.entropies.as_slice());
        self.score_backward(
            &normed,
            &rows.targets,
            &predictions,
            temperature,
            slot_gradients,
            &mut dnormed,
            gradient,
        );
        let mut dhidden = Buffer::zeros(hidden.len());
        let norm = &self.weights.final_norm;
        let dnorm = &mut gradient[norm.range.clone()];
        rms_norm_backward(
            &hidden,
            &norm.values,
            self.epsilon(),
            &dnormed,
            &mut dhidden,
            dnorm,
        );
        let compute = self.options.compute;
        for (block, kept) in kept.into_iter().enumerate().rev() {
            let tape = match kept {
                // Rounded as if it had been kept: results do not depend on it.
                Kept::Input(input) => {
                    let tape = self.block_tape(block, &rows, input.wake());
                    tape.rounded(compute)
                }
                Kept::Tape(tape) => tape.wake(),
            };
            dhidden = self.block_backward(block, &rows, tape, dhidden, gradient);
        }
        let width = self.config.hidden_size;
        let table = &mut gradient[self.weights.embedding_range.clone()];
        for (&token, d) in rows.tokens.iter().zip(dhidden.chunks_exact(width)) {
            let row = token as usize;
            if row < self.config.vocab_size {
                add(&mut table[row * width..(row + 1) * width], d);
            }
        }
    }

    fn scores(&self, rows: &Rows, normed: &[f32], temperature: f32) -> (TokenScores, Predictions) {
        let mut scores = TokenScores {
            logprobs: vec![0.0; rows.slots],
            entropies: vec![0.0; rows.slots],
        };
        let predictions = self.score(
            normed,
            &rows.targets,
            temperature,
            |slot, logprob, entropy| {
                scores.logprobs[slot] = logprob;
                scores.entropies[slot] = entropy;
            },
        );
        (scores, predictions)
    }
}
