//! The engine that runs in this process.

mod branch;
mod memory;
#[cfg(feature = "cuda")]
mod on_device;

pub use memory::{EngineLoad, host_cache_memory};

use crate::engine::{Alternative, BranchRequest, FinishedBranch, RolloutEngine, TrunkId};
use crate::sampling::{Draw, Sampler, Sampling};
use crate::{RolloutError, RolloutStatistics};
use branch::{Branch, Waiting};
use seele_policy::decoder::{DecodeRow, Decoder, TrunkCache};
use seele_policy::kernels::team;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// Rows whose logits exist at a time: `[128, vocab]` float32 is 78 MB for a vocabulary of 150,000, and
/// so many rows make up for reading the output projection again.
const LOGIT_ROWS: usize = 128;

/// Continuous batching over one [`Decoder`].
///
/// Waiting branches are admitted as long as there are fewer than the capacity and their keys and values
/// are expected to fit into the pool of pages ([`with_cache_memory`](Self::with_cache_memory)). Where the
/// expectation was wrong, trunks that no running branch reads lose their pages, then the least urgent
/// branches do; both are computed again later. So it goes too where a device has less room than the pool was
/// given. A branch's tokens and log-probs do not depend on what else runs, on capacity and pool, on the order of
/// admission, or on the number of threads.
pub struct LocalEngine<'a> {
    decoder: &'a Decoder,
    settings: BranchSettings,
    trunks: BTreeMap<TrunkId, Trunk>,
    next_trunk: TrunkId,
    waiting: Waiting,
    /// Ordered by trunk: the decoder reads a trunk's cache once for adjacent rows.
    active: Vec<Branch>,
    /// Pages of keys and values that may be held at a time.
    most_pages: usize,
    /// Pages that the device had room for when it was asked for more.
    #[cfg(feature = "cuda")]
    pages_with_room: usize,
    /// Tokens of the branches that have ended.
    finished_tokens: u64,
    /// Most tokens drawn in one step.
    fullest_step: usize,
    statistics: RolloutStatistics,
    /// `[rows, hidden_size]` and `[rows, vocab]`, kept between steps.
    hidden: Vec<f32>,
    logits: Vec<f32>,
    /// Smallest and largest logit of each row.
    extremes: Vec<[f32; 2]>,
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

impl<'a> LocalEngine<'a> {
    /// An engine without work that runs at most `max_active_branches` at a time. Their keys and values may take
    /// half of the memory that is free now, of the device's where the decoder is on one.
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
            trunks: BTreeMap::new(),
            next_trunk: TrunkId(0),
            waiting: Waiting::default(),
            active: Vec::new(),
            most_pages: memory::most_pages(decoder),
            #[cfg(feature = "cuda")]
            pages_with_room: usize::MAX,
            finished_tokens: 0,
            fullest_step: 0,
            statistics: RolloutStatistics {
                capacity: max_active_branches,
                ..RolloutStatistics::default()
            },
            hidden: Vec::new(),
            logits: Vec::new(),
            extremes: Vec::new(),
        })
    }

    /// Bounds the memory for keys and values, in whole pages of
    /// [`Decoder::page_bytes`].
    #[must_use]
    pub fn with_cache_memory(mut self, bytes: usize) -> Self {
        self.most_pages = bytes / self.decoder.page_bytes().max(1);
        self
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
        self.check_context(request.fork, settings.sampling.max_new_tokens)?;
        self.check_fits_alone(trunk_tokens, settings.sampling.max_new_tokens)?;
        self.waiting.submit(request, settings);
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
        self.waiting.retain(|branch| branch.tag != tag);
        self.active.retain(|branch| branch.tag != tag);
    }

    fn trunk(&self, id: TrunkId) -> Result<&Trunk, RolloutError> {
        self.trunks
            .get(&id)
            .ok_or(RolloutError::UnknownTrunk { trunk: id })
    }

    /// Refuses a branch that could get past the last position the model has.
    fn check_context(&self, fork: usize, max_new_tokens: usize) -> Result<(), RolloutError> {
        let context_tokens = self.decoder.config().max_position_embeddings;
        // The last token is never an input.
        if fork.saturating_add(max_new_tokens - 1) <= context_tokens {
            return Ok(());
        }
        Err(RolloutError::BeyondContext {
            fork,
            max_new_tokens,
            context_tokens,
        })
    }

    /// Moves branches from the queue into the batch and prefills their trunks as far as they fork.
    fn admit(&mut self) -> Result<(), RolloutError> {
        if self.waiting.len() == 0 || self.active.len() >= self.statistics.capacity {
            return Ok(());
        }
        let mut plan = self.page_plan();
        while self.active.len() < self.statistics.capacity
            && let Some(next) = self.waiting.first()
        {
            let (trunk, fork) = (next.trunk, next.fork);
            let room = plan.room_for(next);
            if !self.has_room(&plan, room) {
                if let Some(idle) = self.idle_trunk(&plan, trunk) {
                    plan.forget(idle, self.empty_trunk(idle));
                    continue;
                }
                if !self.active.is_empty() {
                    break;
                }
                // Alone it fits: `submit` has seen to that.
            }
            plan.admit(trunk, fork, room);
            if let Some(branch) = self.waiting.take_first() {
                if branch.tokens.is_empty() {
                    self.statistics.forked_tokens += fork as u64;
                }
                let place = self.active.partition_point(|other| other.trunk <= trunk);
                self.active.insert(place, branch);
            }
        }
        let begun = Instant::now();
        for (id, reach) in plan.reaches() {
            self.prefill(id, reach);
            #[cfg(feature = "cuda")]
            while !self.had_room()? {
                self.prefill(id, reach);
            }
        }
        self.statistics.time.prefill += begun.elapsed();
        Ok(())
    }

    /// Computes a trunk's first `reach` tokens, unless all its branches have given way meanwhile.
    fn prefill(&mut self, id: TrunkId, reach: usize) {
        // A dropped trunk has no branch in the queue.
        let Some(trunk) = self.trunks.get_mut(&id) else {
            return;
        };
        let done = trunk.cache.len();
        if done < reach && self.active.iter().any(|branch| branch.trunk == id) {
            self.decoder
                .extend_trunk(&mut trunk.cache, &trunk.tokens[done..reach]);
            self.statistics.prefilled_tokens += (trunk.cache.len() - done) as u64;
        }
    }

    /// Runs the next token of every branch that has one, and collects the hidden states that predict the
    /// next token of those that draw, `[drawing, hidden_size]`: the trunk's for a branch without tokens,
    /// else that of its last token.
    fn forward(&mut self) -> Result<(), RolloutError> {
        let width = self.decoder.config().hidden_size;
        let trunks = &self.trunks;
        let cache_of = |id: TrunkId| {
            trunks
                .get(&id)
                .map(|trunk| &trunk.cache)
                .ok_or(RolloutError::UnknownTrunk { trunk: id })
        };
        let fresh: Vec<bool> = self.active.iter().map(|b| b.input().is_none()).collect();
        let mut rows = Vec::with_capacity(self.active.len());
        for branch in &mut self.active {
            if let Some(token) = branch.input() {
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
        for (branch, fresh) in self.active.iter().zip(fresh) {
            let row = if fresh {
                Some(cache_of(branch.trunk)?.hidden(branch.fork - 1))
            } else {
                decoded.next()
            };
            if branch.is_caught_up() {
                self.hidden
                    .extend_from_slice(row.expect("one decoded row a branch with an input"));
            }
        }
        Ok(())
    }

    /// Draws the next tokens of the first branches that have caught up with themselves, from the hidden states
    /// that [`forward`](Self::forward) collected, which are used up; returns how many. None only where a device
    /// had no room and a branch has given way.
    fn draw(&mut self) -> Result<usize, RolloutError> {
        #[cfg(feature = "cuda")]
        if let Some(drawn) = self.draw_on_device()? {
            return Ok(drawn);
        }
        let config = self.decoder.config();
        let (width, vocab) = (config.hidden_size, config.vocab_size);
        let rows = LOGIT_ROWS.min(self.hidden.len() / width);
        let begun = Instant::now();
        let hidden = &self.hidden[..rows * width];
        self.decoder
            .logits_with_extremes(hidden, &mut self.logits, &mut self.extremes);
        #[cfg(feature = "cuda")]
        if !self.had_room_to_draw()? {
            return Ok(0);
        }
        self.statistics.time.decode += begun.elapsed();
        let begun = Instant::now();
        let drawing = self.active.iter_mut().filter(|b| b.is_caught_up());
        let mut drawing: Vec<&mut Branch> = drawing.take(rows).collect();
        let extremes = &self.extremes;
        let draw = |sampler: &mut Sampler, row: usize, logits: &mut [f32]| {
            let branch = &drawing[row];
            let key = branch.key.with(branch.tokens.len() as u64);
            let settings = &branch.settings;
            let draw = sampler.draw_between(extremes[row], logits, &settings.sampling, key)?;
            let alternatives = (settings.alternatives > 0)
                .then(|| sampler.likeliest(logits, settings.alternatives));
            Some((draw, alternatives))
        };
        let draws = team::collect_chunks(&mut self.logits, vocab, Sampler::default, draw);
        for (branch, drawn) in drawing.iter_mut().zip(draws) {
            let position = branch.tokens.len();
            let (Draw { token, logprob }, alternatives) =
                drawn.ok_or(RolloutError::NonFiniteLogits {
                    tag: branch.tag,
                    position,
                })?;
            branch.alternatives.extend(alternatives);
            branch.tokens.push(token);
            branch.logprobs.push(logprob);
        }
        self.hidden.drain(..rows * width);
        self.statistics.time.draw += begun.elapsed();
        Ok(rows)
    }

    /// One step, as [`RolloutEngine::step`].
    fn advance(&mut self) -> Result<Vec<FinishedBranch>, RolloutError> {
        let begun = Instant::now();
        self.admit()?;
        if self.active.is_empty() {
            return Ok(Vec::new());
        }
        self.make_room();
        let decoding = Instant::now();
        self.forward()?;
        #[cfg(feature = "cuda")]
        while !self.had_room()? {
            self.forward()?;
        }
        self.statistics.time.decode += decoding.elapsed();
        self.note_peak();
        let mut drawn = 0;
        while !self.hidden.is_empty() {
            drawn += self.draw()?;
        }
        self.statistics.decoded_tokens += drawn as u64;
        self.statistics.steps += u64::from(drawn > 0);
        let finished = self.retire();
        self.fullest_step = self.fullest_step.max(drawn);
        if self.waiting.len() == 0 && 2 * drawn < self.fullest_step {
            self.statistics.time.tail += begun.elapsed();
        }
        Ok(finished)
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
        let tokens = finished.iter().map(|branch| branch.tokens.len() as u64);
        self.finished_tokens += tokens.sum::<u64>();
        finished
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
        let id = self.next_trunk;
        self.next_trunk = TrunkId(id.0 + 1);
        let cache = TrunkCache::new(config);
        self.trunks.insert(id, Trunk { tokens, cache });
        Ok(id)
    }

    fn drop_trunk(&mut self, trunk: TrunkId) {
        if self.trunks.remove(&trunk).is_some() {
            self.waiting.retain(|branch| branch.trunk != trunk);
            self.active.retain(|branch| branch.trunk != trunk);
        }
    }

    fn submit(&mut self, request: BranchRequest) -> Result<(), RolloutError> {
        let settings = self.settings.clone();
        self.submit_with(request, settings)
    }

    fn step(&mut self) -> Result<Vec<FinishedBranch>, RolloutError> {
        // Threads that stay awake would wait for the device with nothing to do.
        #[cfg(feature = "cuda")]
        if self.decoder.on_device().is_some() {
            return self.advance();
        }
        team::together(|| self.advance())
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
