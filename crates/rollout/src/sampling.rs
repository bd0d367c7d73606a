//! Drawing a token from logits.

use crate::RolloutError;
use seele_policy::kernels::softmax::{
    NOTED, exp, extremes, log_sum_exp_with_notes, scale_by_temperature,
};
use seele_random::Key;

/// Likeliest tokens that a top-p search looks at first; few sets are larger.
const FIRST_CANDIDATES: usize = 64;

/// How tokens are drawn and when a branch ends.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Divisor of the logits, finite, 0 or more; 0 takes the likeliest token (of equals the lowest id).
    pub temperature: f32,
    /// Draw from the smallest set of likeliest tokens that has at least this probability, above 0, at
    /// most 1; 1 keeps all. Applied after `top_k`, to the probabilities renormalised over its tokens.
    pub top_p: f32,
    /// Draw from so many likeliest tokens; 0 keeps all.
    pub top_k: usize,
    /// Tokens of a branch at most, at least 1, the stop token included.
    pub max_new_tokens: usize,
    /// Tokens that end a branch.
    pub stop_tokens: Vec<u32>,
}

impl Default for Sampling {
    /// The model's own distribution, at most 1024 tokens, no stop token.
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            max_new_tokens: 1024,
            stop_tokens: Vec::new(),
        }
    }
}

impl Sampling {
    /// Checks every range.
    ///
    /// # Errors
    /// [`RolloutError::InvalidSetting`] for the first one outside.
    pub fn check(&self) -> Result<(), RolloutError> {
        let invalid = |setting, found: String, expected| {
            Err(RolloutError::InvalidSetting {
                setting,
                found,
                expected,
            })
        };
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            let found = self.temperature.to_string();
            return invalid("temperature", found, "a number, 0 or more");
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            let found = self.top_p.to_string();
            return invalid("top_p", found, "above 0 and at most 1");
        }
        if self.max_new_tokens == 0 {
            return invalid("max_new_tokens", "0".into(), "at least 1");
        }
        Ok(())
    }
}

/// A drawn token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Draw {
    /// The token.
    pub token: u32,
    /// Its natural-log probability under the whole temperature-scaled distribution (temperature 1
    /// for greedy), computed by the functions the trainer uses.
    pub logprob: f32,
}

/// Draws tokens one row at a time; holds scratch memory, so keep one a thread.
#[derive(Clone, Debug, Default)]
pub struct Sampler {
    /// Token ids, the likeliest first as far as they have been sorted.
    candidates: Vec<u32>,
    /// Sums of exponentials up to every block of logits.
    notes: Vec<f32>,
}

impl Sampler {
    /// Draws one token. `logits`, `[vocab]`, are divided by the temperature in place.
    ///
    /// As [`Self::draw_between`].
    pub fn draw(&mut self, logits: &mut [f32], sampling: &Sampling, key: Key) -> Option<Draw> {
        let found = extremes(logits);
        self.draw_between(found, logits, sampling, key)
    }

    /// Draws one token from logits whose smallest and largest are known. `logits`, `[vocab]`, are divided
    /// by the temperature in place.
    ///
    /// The draw is the inverse of the cumulative distribution at `key.uniform()`, in the order of token
    /// ids without truncation, else the likeliest first (of equals the lowest id). Without truncation the
    /// row is read once, for the sums, and a block of it again to find the token: sums up to a block are float32, as in the log-prob, and those within it float64.
    ///
    /// Returns `None` if a logit is not finite or there is none.
    pub fn draw_between(
        &mut self,
        mut extremes: [f32; 2],
        logits: &mut [f32],
        sampling: &Sampling,
        key: Key,
    ) -> Option<Draw> {
        let greedy = sampling.temperature == 0.0;
        if !greedy {
            scale_by_temperature(logits, sampling.temperature);
            // Rounding keeps the order, so these stay the extremes.
            scale_by_temperature(&mut extremes, sampling.temperature);
        }
        let [smallest, largest] = extremes;
        if logits.is_empty() || !smallest.is_finite() || !largest.is_finite() {
            return None;
        }
        // NaN is no extreme, but makes the sum NaN.
        let log_sum = log_sum_exp_with_notes(logits, largest, &mut self.notes);
        if !log_sum.is_finite() {
            return None;
        }
        let token = if greedy || sampling.top_k == 1 {
            likeliest(logits, largest)
        } else if (sampling.top_k == 0 || sampling.top_k >= logits.len()) && sampling.top_p >= 1.0 {
            invert_blocks(logits, largest, &self.notes, key.uniform())
        } else {
            let kept = self.truncate(logits, log_sum, sampling);
            let mass = mass(logits, log_sum, kept);
            invert(logits, log_sum, kept.iter().copied(), key.uniform() * mass)
        };
        Some(Draw {
            token,
            logprob: logits[token as usize] - log_sum,
        })
    }

    /// The `count` likeliest tokens of `logits`, `[vocab]`, the likeliest first (of equals the lowest
    /// id), with their log-probabilities. Call it after [`Self::draw`] on the same logits, which
    /// has divided them by the temperature.
    pub fn likeliest(&mut self, logits: &[f32], count: usize) -> Vec<Draw> {
        let count = count.min(logits.len());
        if count == 0 {
            return Vec::new();
        }
        let [_, largest] = extremes(logits);
        let log_sum = log_sum_exp_with_notes(logits, largest, &mut self.notes);
        let all = Sampling {
            top_k: count,
            ..Sampling::default()
        };
        let tokens = self.truncate(logits, log_sum, &all).iter();
        tokens
            .map(|&token| Draw {
                token,
                logprob: logits[token as usize] - log_sum,
            })
            .collect()
    }

    /// The tokens that top-k and top-p leave, the likeliest first; at least one.
    fn truncate(&mut self, logits: &[f32], log_sum: f32, sampling: &Sampling) -> &[u32] {
        let vocab = logits.len();
        let limit = match sampling.top_k {
            0 => vocab,
            top_k => top_k.min(vocab),
        };
        let by_rank = |&left: &u32, &right: &u32| {
            logits[right as usize]
                .total_cmp(&logits[left as usize])
                .then(left.cmp(&right))
        };
        self.candidates.clear();
        self.candidates.extend(0..vocab as u32);
        // The total is known beforehand except under top-k, which needs all its tokens anyway.
        let mut sorted = if sampling.top_k == 0 {
            FIRST_CANDIDATES.min(limit)
        } else {
            limit
        };
        loop {
            if sorted < vocab {
                self.candidates.select_nth_unstable_by(sorted, by_rank);
            }
            self.candidates[..sorted].sort_unstable_by(by_rank);
            if sampling.top_p >= 1.0 {
                return &self.candidates[..sorted];
            }
            let total = if sampling.top_k == 0 {
                1.0
            } else {
                mass(logits, log_sum, &self.candidates[..sorted])
            };
            let wanted = f64::from(sampling.top_p) * total;
            let mut reached = 0.0;
            let last = self.candidates[..sorted].iter().position(|&token| {
                reached += probability(logits, log_sum, token);
                reached >= wanted
            });
            match last {
                Some(last) => return &self.candidates[..=last],
                None if sorted == limit => return &self.candidates[..limit],
                None => sorted = (sorted * 8).min(limit),
            }
        }
    }
}

fn probability(logits: &[f32], log_sum: f32, token: u32) -> f64 {
    f64::from(exp(logits[token as usize] - log_sum))
}

fn mass(logits: &[f32], log_sum: f32, tokens: &[u32]) -> f64 {
    tokens
        .iter()
        .map(|&token| probability(logits, log_sum, token))
        .sum()
}

/// The first of the largest.
fn likeliest(logits: &[f32], largest: f32) -> u32 {
    let first = logits.iter().position(|&logit| logit == largest);
    first.unwrap_or(0) as u32
}

/// The first token at which the cumulative probability exceeds `uniform`, in `[0, 1)`, of its block if
/// rounding leaves the block's own sum just below the noted one: then the block's last token with any
/// probability.
fn invert_blocks(logits: &[f32], largest: f32, notes: &[f32], uniform: f64) -> u32 {
    let whole = notes.last().copied().map_or(0.0, f64::from);
    let target = uniform * whole;
    // The note behind a block is the one before the next.
    let blocks = notes.partition_point(|&note| f64::from(note) <= target);
    let block = blocks.saturating_sub(1);
    let first = block * NOTED;
    let mut reached = notes.get(block).copied().map_or(0.0, f64::from);
    let mut last = first;
    for (token, &logit) in logits.iter().enumerate().skip(first).take(NOTED) {
        let weight = f64::from(exp(logit - largest));
        if weight > 0.0 {
            reached += weight;
            last = token;
            if reached > target {
                break;
            }
        }
    }
    last as u32
}

/// The first token at which the cumulative probability exceeds `target`. Rounding can leave the sum
/// just below: then the last token with any probability.
fn invert(logits: &[f32], log_sum: f32, tokens: impl Iterator<Item = u32>, target: f64) -> u32 {
    let mut reached = 0.0;
    let mut last = 0;
    for token in tokens {
        let probability = probability(logits, log_sum, token);
        if probability > 0.0 {
            reached += probability;
            last = token;
            if reached > target {
                break;
            }
        }
    }
    last
}

#[cfg(test)]
mod tests;
