//! The engine that runs in this process.

use crate::engine::{Alternative, BranchRequest, Finish, FinishedBranch, RolloutEngine, TrunkId};
use crate::sampling::{Draw, Sampler, Sampling};
use crate::{RolloutError, RolloutStatistics};
use rayon::prelude::*;
use seele_policy::decoder::{BranchCache, DecodeRow, Decoder, TrunkCache};
use seele_random::Key;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Rows whose logits exist at a time: `[64, vocab]` float32 is 40 MB for a vocabulary of 150,000,
/// and so many rows make up for reading the output projection again.
const LOGIT_ROWS: usize = 64;

/// Continuous batching over one [`Decoder`].
///
/// Waiting branches are admitted first come, first served, up to the capacity; a branch's tokens and
/// log-probs do not depend on what else runs, on the capacity, or on the number of threads. Memory
/// is the keys and values of the trunks that have not been dropped and of the running branches.
pub struct LocalEngine<'a> {
    decoder: &'a Decoder,
    settings: BranchSettings,
    /// By id; `None` once dropped.
    trunks: Vec<Option<Trunk>>,
    waiting: VecDeque<(BranchRequest, BranchSettings)>,
    /// Ordered by trunk: the decoder reads a trunk's cache once for adjacent rows.
    active: Vec<Branch>,
    statistics: RolloutStatistics,
    /// `[rows, hidden_size]` and `[rows, vocab]`, kept between steps.
    hidden: Vec<f32>,
    logits: Vec<f32>,
}

struct Trunk {
    tokens: Vec<u32>,
    /// Covers the first `cache.len()` tokens.
    cache: TrunkCache,
}

/// How one branch is drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct BranchSettings {
    /// How its tokens are drawn and when it ends.
    pub sampling: Arc<Sampling>,
    /// Likeliest tokens that are recorded at each place.
    pub alternatives: usize,
}

/// A branch that has not ended, as far as it has come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RunningBranch<'a> {
    /// The request's tag.
    pub tag: u64,
    /// As in [`FinishedBranch::tokens`].
    pub tokens: &'a [u32],
    /// As in [`FinishedBranch::logprobs`].
    pub logprobs: &'a [f32],
    /// As in [`FinishedBranch::alternatives`].
    pub alternatives: &'a [Vec<Alternative>],
}

struct Branch {
    settings: BranchSettings,
    alternatives: Vec<Vec<Alternative>>,
    trunk: TrunkId,
    fork: usize,
    key: Key,
    tag: u64,
    cache: BranchCache,
    tokens: Vec<u32>,
    logprobs: Vec<f32>,
}

impl<'a> LocalEngine<'a> {
    /// An engine without work that runs at most `max_active_branches` at a time.
    ///
    /// # Errors
    /// [`RolloutError::InvalidSetting`] if a sampling setting is outside its range or no branch may run.
    pub fn new(
        decoder: &'a Decoder,
        sampling: Sampling,
        max_active_branches: usize,
    ) -> Result<Self, RolloutError> {
        sampling.check()?;
        if max_active_branches == 0 {
            return Err(RolloutError::InvalidSetting {
                setting: "max_active_branches",
                found: "0".into(),
                expected: "at least 1",
            });
        }
        Ok(Self {
            decoder,
            settings: BranchSettings {
                sampling: Arc::new(sampling),
                alternatives: 0,
            },
            trunks: Vec::new(),
            waiting: VecDeque::new(),
            active: Vec::new(),
            statistics: RolloutStatistics {
                capacity: max_active_branches,
                ..RolloutStatistics::default()
            },
            hidden: Vec::new(),
            logits: Vec::new(),
        })
    }

    /// Queues a branch with settings of its own instead of the engine's.
    ///
    /// # Errors
    /// As [`RolloutEngine::submit`], and [`RolloutError::InvalidSetting`]; nothing is queued.
    pub fn submit_with(
        &mut self,
        request: BranchRequest,
        settings: BranchSettings,
    ) -> Result<(), RolloutError> {
        settings.sampling.check()?;
        let trunk_tokens = self.trunk(request.trunk)?.tokens.len();
        if request.fork == 0 || request.fork > trunk_tokens {
            return Err(RolloutError::ForkOutsideTrunk {
                fork: request.fork,
                trunk_tokens,
            });
        }
        self.waiting.push_back((request, settings));
        Ok(())
    }

    /// The branches that run, each with at least one token after a step.
    pub fn running(&self) -> impl Iterator<Item = RunningBranch<'_>> {
        self.active.iter().map(|branch| RunningBranch {
            tag: branch.tag,
            tokens: &branch.tokens,
            logprobs: &branch.logprobs,
            alternatives: &branch.alternatives,
        })
    }

    /// Ends the branches with a tag, waiting or running, without a result.
    pub fn cancel(&mut self, tag: u64) {
        self.waiting.retain(|(request, _)| request.tag != tag);
        self.active.retain(|branch| branch.tag != tag);
    }

    fn trunk(&self, id: TrunkId) -> Result<&Trunk, RolloutError> {
        self.trunks
            .get(id.0)
            .and_then(Option::as_ref)
            .ok_or(RolloutError::UnknownTrunk { trunk: id })
    }

    /// Moves branches from the queue into the batch and prefills their trunks as far as they fork.
    fn admit(&mut self) {
        let room = self.statistics.capacity - self.active.len();
        let admitted: Vec<_> = self.waiting.drain(..room.min(self.waiting.len())).collect();
        let mut furthest = BTreeMap::new();
        for (request, settings) in admitted {
            let reach = furthest.entry(request.trunk).or_insert(0);
            *reach = request.fork.max(*reach);
            self.statistics.forked_tokens += request.fork as u64;
            let place = self
                .active
                .partition_point(|branch| branch.trunk <= request.trunk);
            let branch = Branch {
                settings,
                alternatives: Vec::new(),
                trunk: request.trunk,
                fork: request.fork,
                key: request.key,
                tag: request.tag,
                cache: BranchCache::new(self.decoder.config(), request.fork),
                tokens: Vec::new(),
                logprobs: Vec::new(),
            };
            self.active.insert(place, branch);
        }
        for (id, reach) in furthest {
            // A dropped trunk has no branch in the queue.
            let Some(trunk) = self.trunks[id.0].as_mut() else {
                continue;
            };
            let done = trunk.cache.len();
            if done < reach {
                self.decoder
                    .extend_trunk(&mut trunk.cache, &trunk.tokens[done..reach]);
                self.statistics.prefilled_tokens += (reach - done) as u64;
            }
        }
    }

    /// The hidden state that predicts each running branch's next token, `[active, hidden_size]`: the
    /// trunk's for a branch without tokens, else that of its last token.
    fn forward(&mut self) -> Result<(), RolloutError> {
        let width = self.decoder.config().hidden_size;
        let trunks = &self.trunks;
        let cache_of = |id: TrunkId| {
            trunks[id.0]
                .as_ref()
                .map(|trunk| &trunk.cache)
                .ok_or(RolloutError::UnknownTrunk { trunk: id })
        };
        let mut rows = Vec::with_capacity(self.active.len());
        for branch in &mut self.active {
            if let Some(&token) = branch.tokens.last() {
                rows.push(DecodeRow {
                    trunk: cache_of(branch.trunk)?,
                    branch: &mut branch.cache,
                    token,
                });
            }
        }
        let mut decoded = Vec::new();
        if !rows.is_empty() {
            self.decoder.decode(&mut rows, &mut decoded);
        }
        drop(rows);
        let mut decoded = decoded.chunks_exact(width);
        self.hidden.clear();
        for branch in &self.active {
            let row = if branch.tokens.is_empty() {
                Some(cache_of(branch.trunk)?.hidden(branch.fork - 1))
            } else {
                decoded.next()
            };
            self.hidden
                .extend_from_slice(row.expect("one decoded row a branch that has tokens"));
        }
        Ok(())
    }

    /// Draws the next token of every running branch.
    fn draw(&mut self) -> Result<(), RolloutError> {
        let config = self.decoder.config();
        let (width, vocab) = (config.hidden_size, config.vocab_size);
        let branches = self.active.chunks_mut(LOGIT_ROWS);
        for (hidden, branches) in self.hidden.chunks(LOGIT_ROWS * width).zip(branches) {
            self.decoder.logits(hidden, &mut self.logits);
            self.logits
                .par_chunks_mut(vocab)
                .zip(branches)
                .try_for_each_init(Sampler::default, |sampler, (logits, branch)| {
                    let position = branch.tokens.len();
                    let BranchSettings {
                        sampling,
                        alternatives,
                    } = &branch.settings;
                    let Draw { token, logprob } = sampler
                        .draw(logits, sampling, branch.key.with(position as u64))
                        .ok_or(RolloutError::NonFiniteLogits {
                            tag: branch.tag,
                            position,
                        })?;
                    if *alternatives > 0 {
                        let likeliest = sampler.likeliest(logits, *alternatives);
                        branch.alternatives.push(likeliest);
                    }
                    branch.tokens.push(token);
                    branch.logprobs.push(logprob);
                    Ok(())
                })?;
        }
        self.statistics.decoded_tokens += self.active.len() as u64;
        self.statistics.steps += 1;
        Ok(())
    }

    /// Takes the branches that ended out of the batch.
    fn retire(&mut self) -> Vec<FinishedBranch> {
        let finished: Vec<_> = self
            .active
            .extract_if(.., |branch| branch.finish().is_some())
            .filter_map(|branch| {
                Some(FinishedBranch {
                    finish: branch.finish()?,
                    trunk: branch.trunk,
                    tag: branch.tag,
                    fork: branch.fork,
                    tokens: branch.tokens,
                    logprobs: branch.logprobs,
                    alternatives: branch.alternatives,
                })
            })
            .collect();
        self.statistics.finished_branches += finished.len() as u64;
        finished
    }
}

impl Branch {
    /// Why it is over, if it is.
    fn finish(&self) -> Option<Finish> {
        let sampling = &self.settings.sampling;
        let last = self.tokens.last()?;
        if sampling.stop_tokens.contains(last) {
            Some(Finish::Stop)
        } else if self.tokens.len() >= sampling.max_new_tokens {
            Some(Finish::Length)
        } else {
            None
        }
    }
}

impl RolloutEngine for LocalEngine<'_> {
    fn add_trunk(&mut self, tokens: Vec<u32>) -> Result<TrunkId, RolloutError> {
        if tokens.is_empty() {
            return Err(RolloutError::EmptyTrunk);
        }
        let config = self.decoder.config();
        let unknown = |&token: &u32| token as usize >= config.vocab_size;
        if let Some(position) = tokens.iter().position(unknown) {
            return Err(RolloutError::UnknownToken {
                position,
                token: tokens[position],
                vocab_size: config.vocab_size,
            });
        }
        let id = TrunkId(self.trunks.len());
        self.trunks.push(Some(Trunk {
            tokens,
            cache: TrunkCache::new(config),
        }));
        Ok(id)
    }

    fn drop_trunk(&mut self, trunk: TrunkId) {
        if let Some(slot) = self.trunks.get_mut(trunk.0) {
            *slot = None;
            self.waiting.retain(|(request, _)| request.trunk != trunk);
            self.active.retain(|branch| branch.trunk != trunk);
        }
    }

    fn submit(&mut self, request: BranchRequest) -> Result<(), RolloutError> {
        let settings = self.settings.clone();
        self.submit_with(request, settings)
    }

    fn step(&mut self) -> Result<Vec<FinishedBranch>, RolloutError> {
        self.admit();
        if self.active.is_empty() {
            return Ok(Vec::new());
        }
        self.forward()?;
        self.draw()?;
        Ok(self.retire())
    }

    fn pending(&self) -> usize {
        self.waiting.len() + self.active.len()
    }

    fn statistics(&self) -> RolloutStatistics {
        self.statistics
    }
}

#[cfg(test)]
mod tests;
