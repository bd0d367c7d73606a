//! The whole pass over a micro-batch of groups: scores of every predicted token, and gradients.

use super::Decoder;
use super::tree::{Rows, TreeGroup};
use crate::kernels::elementwise::{add, rms_norm_backward};

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

impl Decoder {
    /// Log-probs and entropies of every slot, forward only.
    pub fn evaluate(&self, groups: &[TreeGroup<'_>], temperature: f32) -> TokenScores {
        let rows = Rows::of(groups);
        let mut hidden = self.embed(&rows.tokens);
        for block in 0..self.blocks.len() {
            hidden = self.block_forward(block, &rows, hidden).0;
        }
        self.scores(&rows, &self.normalise(&hidden), temperature)
    }

    /// Forward, `loss` (given the scores, returns their gradients), backward: adds the gradient of the
    /// loss by every parameter to `gradient` (`[parameters]`). Each block's intermediates are rebuilt
    /// from its input in the backward pass, so memory grows with layers x rows x hidden size.
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
        let rows = Rows::of(groups);
        let mut inputs = Vec::with_capacity(self.blocks.len());
        let mut hidden = self.embed(&rows.tokens);
        for block in 0..self.blocks.len() {
            let output = self.block_forward(block, &rows, hidden.clone()).0;
            inputs.push(std::mem::replace(&mut hidden, output));
        }
        let normed = self.normalise(&hidden);
        let scores = self.scores(&rows, &normed, temperature);
        let slopes = loss(&scores)?;

        let mut dnormed = vec![0.0; hidden.len()];
        let slot_gradients = (slopes.logprobs.as_slice(), slopes.entropies.as_slice());
        self.score_backward(
            &normed,
            &rows.targets,
            temperature,
            slot_gradients,
            &mut dnormed,
            gradient,
        );
        let mut dhidden = vec![0.0; hidden.len()];
        let norm = &self.values[self.final_norm.clone()];
        let dnorm = &mut gradient[self.final_norm.clone()];
        rms_norm_backward(&hidden, norm, self.epsilon(), &dnormed, &mut dhidden, dnorm);
        for (block, input) in inputs.into_iter().enumerate().rev() {
            let tape = self.block_forward(block, &rows, input).1;
            dhidden = self.block_backward(block, &rows, tape, dhidden, gradient);
        }
        let width = self.config.hidden_size;
        let table = &mut gradient[self.embedding.clone()];
        for (&token, d) in rows.tokens.iter().zip(dhidden.chunks_exact(width)) {
            let row = token as usize;
            if row < self.config.vocab_size {
                add(&mut table[row * width..(row + 1) * width], d);
            }
        }
        Ok(scores)
    }

    fn scores(&self, rows: &Rows, normed: &[f32], temperature: f32) -> TokenScores {
        let mut scores = TokenScores {
            logprobs: vec![0.0; rows.slots],
            entropies: vec![0.0; rows.slots],
        };
        self.score(
            normed,
            &rows.targets,
            temperature,
            |slot, logprob, entropy| {
                scores.logprobs[slot] = logprob;
                scores.entropies[slot] = entropy;
            },
        );
        scores
    }
}
