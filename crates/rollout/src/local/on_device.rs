//! Drawing on the device that the decoder is on.

use super::LocalEngine;
use super::branch::Branch;
use crate::RolloutError;
use seele_policy::cuda::TokenRequest;
use std::time::Instant;

impl LocalEngine<'_> {
    /// Draws the next token of every branch that has caught up with itself, where the decoder is on a device and
    /// no draw needs more than the distribution as it is; returns how many those are, `None` if logits have to
    /// come to the host.
    pub(super) fn draw_on_device(&mut self) -> Result<Option<usize>, RolloutError> {
        let vocab = self.decoder.config().vocab_size;
        let drawing = self.active.iter_mut().filter(|b| b.is_caught_up());
        let mut drawing: Vec<&mut Branch> = drawing.collect();
        let requests = drawing.iter().map(|branch| request(branch, vocab));
        let Some(requests) = requests.collect::<Option<Vec<_>>>() else {
            return Ok(None);
        };
        let begun = Instant::now();
        let Some(drawn) = self.decoder.draw_on_device(&self.hidden, &requests) else {
            return Ok(None);
        };
        self.decoder.check()?;
        for (branch, drawn) in drawing.iter_mut().zip(drawn) {
            if !drawn.logprob.is_finite() {
                return Err(RolloutError::NonFiniteLogits {
                    tag: branch.tag,
                    position: branch.tokens.len(),
                });
            }
            branch.tokens.push(drawn.token);
            branch.logprobs.push(drawn.logprob);
        }
        let drawn = drawing.len();
        self.statistics.time.draw += begun.elapsed();
        self.statistics.decoded_tokens += drawn as u64;
        self.statistics.steps += u64::from(drawn > 0);
        Ok(Some(drawn))
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
