//! What is otherwise where the decoder is on a device: drawing there, and running out of memory.

use super::LocalEngine;
use super::branch::Branch;
use crate::RolloutError;
use seele_policy::cuda::TokenRequest;
use seele_policy::device::DeviceError;
use std::time::Instant;

impl LocalEngine<'_> {
    /// Whether the device had room for what the decoder was just asked. If not, the engine holds no more pages
    /// from here on than it does now, and a trunk or a branch has given its own back: ask again.
    ///
    /// # Errors
    /// [`RolloutError::Device`]: it had no room for a single branch, or has failed.
    pub(super) fn had_room(&mut self) -> Result<bool, RolloutError> {
        let Err(error) = self.decoder.check() else {
            return Ok(true);
        };
        self.pages_with_room = self.pages_in_use().min(self.pages_with_room);
        let is_short = matches!(error, DeviceError::OutOfMemory { .. });
        match is_short && self.give_pages_back() {
            true => Ok(false),
            false => Err(error.into()),
        }
    }

    /// As [`had_room`](Self::had_room) after a draw: the hidden states of a branch that has given way go with it.
    pub(super) fn had_room_to_draw(&mut self) -> Result<bool, RolloutError> {
        let drawing = |engine: &Self| -> Vec<u64> {
            let drawing = engine.active.iter().filter(|b| b.is_caught_up());
            drawing.map(Branch::arrival).collect()
        };
        let before = drawing(self);
        if self.had_room()? {
            return Ok(true);
        }
        let (after, width) = (drawing(self), self.decoder.config().hidden_size);
        let rows = before.iter().zip(self.hidden.chunks_exact(width));
        let kept = rows.filter(|(arrival, _)| after.contains(arrival));
        self.hidden = kept.flat_map(|(_, hidden)| hidden.to_vec()).collect();
        Ok(false)
    }

    /// Draws the next token of every branch that has caught up with itself, where the decoder is on a device and
    /// no draw needs more than the distribution as it is; returns as [`draw`](Self::draw), `None` if logits have
    /// to come to the host.
    pub(super) fn draw_on_device(&mut self) -> Result<Option<usize>, RolloutError> {
        let vocab = self.decoder.config().vocab_size;
        let drawing = self.active.iter().filter(|b| b.is_caught_up());
        let requests = drawing.map(|branch| request(branch, vocab));
        let Some(requests) = requests.collect::<Option<Vec<_>>>() else {
            return Ok(None);
        };
        let begun = Instant::now();
        let Some(drawn) = self.decoder.draw_on_device(&self.hidden, &requests) else {
            return Ok(None);
        };
        if !self.had_room_to_draw()? {
            return Ok(Some(0));
        }
        let drawing = self.active.iter_mut().filter(|b| b.is_caught_up());
        for (branch, drawn) in drawing.zip(&drawn) {
            if !drawn.logprob.is_finite() {
                return Err(RolloutError::NonFiniteLogits {
                    tag: branch.tag,
                    position: branch.tokens.len(),
                });
            }
            branch.tokens.push(drawn.token);
            branch.logprobs.push(drawn.logprob);
        }
        self.hidden.clear();
        self.statistics.time.draw += begun.elapsed();
        Ok(Some(drawn.len()))
    }
}

/// What the device has to know to draw a branch's next token; none if it cannot.
fn request(branch: &Branch, vocab: usize) -> Option<TokenRequest> {
    let sampling = &branch.settings.sampling;
    let key = branch.key.with(branch.tokens.len() as u64);
    let greedy = sampling.temperature == 0.0;
    let whole = (sampling.top_k == 0 || sampling.top_k >= vocab) && sampling.top_p >= 1.0;
    if branch.settings.alternatives > 0 || !(greedy || sampling.top_k == 1 || whole) {
        return None;
    }
    Some(TokenRequest {
        temperature: if greedy { 1.0 } else { sampling.temperature },
        uniform: (!greedy && sampling.top_k != 1).then(|| key.uniform()),
    })
}
