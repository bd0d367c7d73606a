//! Which branches and trunks may hold pages of keys and values.

use super::branch::Branch;
use super::{LOGIT_ROWS, LocalEngine, TrunkId};
use crate::RolloutError;
use seele_policy::config::ModelConfig;
use seele_policy::decoder::cache::{PAGE_TOKENS, page_bytes};
use seele_policy::decoder::{Compute, Decoder, TrunkCache};
use seele_policy::machine::free_memory;
use std::collections::BTreeMap;

fn pages(tokens: usize) -> usize {
    tokens.div_ceil(PAGE_TOKENS)
}

/// Bytes that keys and values may take where no bound is given and the model is on the CPU: half of the memory that
/// is free now; no bound where the system does not say.
pub fn host_cache_memory() -> usize {
    let half = free_memory().map_or(u64::MAX, |bytes| bytes / 2);
    usize::try_from(half).unwrap_or(usize::MAX)
}

/// Pages that an engine may hold where it is given no bound.
pub(super) fn most_pages(decoder: &Decoder) -> usize {
    let page = decoder.page_bytes().max(1);
    #[cfg(feature = "cuda")]
    if let Some(bytes) = decoder.on_device().and_then(|device| device.cache_memory()) {
        return bytes / page;
    }
    host_cache_memory() / page
}

/// What an engine has to hold at a time, at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineLoad {
    /// Trunks.
    pub trunks: usize,
    /// Tokens of each.
    pub trunk_tokens: usize,
    /// Branches that run.
    pub branches: usize,
    /// Tokens that each may draw.
    pub new_tokens: usize,
}

impl EngineLoad {
    /// Bytes of the pages of keys and values, before any bound by
    /// [`LocalEngine::with_cache_memory`].
    pub fn cache_bytes(&self, config: &ModelConfig, compute: Compute) -> usize {
        self.pages() * page_bytes(config, compute)
    }

    /// Pages of keys and values, before any bound.
    pub fn pages(&self) -> usize {
        let trunks = self.trunks * pages(self.trunk_tokens);
        // The last token is never an input.
        let branches = self.branches * pages(self.new_tokens.saturating_sub(1)).max(1);
        trunks + branches
    }

    /// Bytes of the hidden states that trunks keep, and of the logits that exist at a time.
    pub fn state_bytes(&self, config: &ModelConfig) -> usize {
        let hidden = (self.trunks * self.trunk_tokens + self.branches) * config.hidden_size;
        let logits = self.branches.min(LOGIT_ROWS) * config.vocab_size;
        (hidden + logits) * size_of::<f32>()
    }
}

/// Pages that the admitted branches and their trunks are expected to hold.
pub(super) struct PagePlan {
    pages: usize,
    /// Tokens that a branch is expected to have at its end; none before one has ended.
    expected_tokens: Option<usize>,
    /// How far trunks with an admitted branch are computed, or will be.
    reach: BTreeMap<TrunkId, usize>,
    /// How far all others are.
    idle: BTreeMap<TrunkId, usize>,
}

impl PagePlan {
    /// Pages that a branch would add: its own, and those that its trunk lacks.
    pub(super) fn room_for(&self, branch: &Branch) -> usize {
        let reach = self.reach.get(&branch.trunk);
        let reach = reach.or(self.idle.get(&branch.trunk)).copied().unwrap_or(0);
        let trunk = pages(branch.fork).saturating_sub(pages(reach));
        trunk + self.own_pages(branch)
    }

    /// Pages of a branch at its end: as long as others were, at first as long as it may become, and longer
    /// than it is.
    fn own_pages(&self, branch: &Branch) -> usize {
        let most = branch.settings.sampling.max_new_tokens;
        let expected = self.expected_tokens.unwrap_or(most).min(most);
        // The last token is never an input.
        let cached = expected.saturating_sub(1);
        pages(cached.max(branch.tokens.len() + 1)).max(1)
    }

    pub(super) fn admit(&mut self, trunk: TrunkId, fork: usize, room: usize) {
        self.pages += room;
        let computed = self.idle.remove(&trunk).unwrap_or(0);
        let reach = self.reach.entry(trunk).or_insert(computed);
        *reach = fork.max(*reach);
    }

    pub(super) fn forget(&mut self, trunk: TrunkId, freed: usize) {
        self.pages -= freed;
        self.idle.remove(&trunk);
    }

    /// How far each trunk of an admitted branch has to be computed.
    pub(super) fn reaches(self) -> BTreeMap<TrunkId, usize> {
        self.reach
    }
}

impl LocalEngine<'_> {
    /// Refuses a branch that the pool could not hold alone.
    pub(super) fn check_fits_alone(
        &self,
        trunk_tokens: usize,
        max_new_tokens: usize,
    ) -> Result<(), RolloutError> {
        let needed = pages(trunk_tokens) + pages(max_new_tokens.saturating_sub(1)).max(1);
        if needed <= self.most_pages {
            return Ok(());
        }
        let mebibytes = |pages: usize| pages * self.decoder.page_bytes() / (1 << 20);
        Err(RolloutError::PoolTooSmall {
            trunk_tokens,
            max_new_tokens,
            needed: mebibytes(needed) + 1,
            pool: mebibytes(self.most_pages),
        })
    }

    /// What the running branches are expected to hold at their ends, and what all trunks hold.
    pub(super) fn page_plan(&self) -> PagePlan {
        let finished = self.statistics.finished_branches;
        let mut plan = PagePlan {
            pages: 0,
            expected_tokens: match finished {
                0 => None,
                _ => Some(self.finished_tokens.div_ceil(finished) as usize),
            },
            reach: BTreeMap::new(),
            idle: BTreeMap::new(),
        };
        for branch in &self.active {
            plan.pages += plan.own_pages(branch);
            plan.reach.insert(branch.trunk, 0);
        }
        for (&id, trunk) in &self.trunks {
            if trunk.cache.is_empty() {
                continue;
            }
            plan.pages += trunk.cache.pages();
            match plan.reach.get_mut(&id) {
                Some(reach) => *reach = trunk.cache.len(),
                None => {
                    plan.idle.insert(id, trunk.cache.len());
                }
            }
        }
        plan
    }

    pub(super) fn has_room(&self, plan: &PagePlan, more: usize) -> bool {
        plan.pages.saturating_add(more) <= self.page_bound()
    }

    /// The trunk with most pages of those that no admitted branch reads, besides `wanted`.
    pub(super) fn idle_trunk(&self, plan: &PagePlan, wanted: TrunkId) -> Option<TrunkId> {
        let idle = plan.idle.iter().filter(|&(&id, _)| id != wanted);
        idle.max_by_key(|&(_, &len)| len).map(|(&id, _)| id)
    }

    /// Gives a trunk's pages back; returns how many.
    pub(super) fn empty_trunk(&mut self, id: TrunkId) -> usize {
        let config = self.decoder.config();
        self.trunks.get_mut(&id).map_or(0, |trunk| {
            let pages = trunk.cache.pages();
            trunk.cache = TrunkCache::new(config);
            pages
        })
    }

    /// Pages that may be held: as many as the engine was given, or the device turned out to have room for.
    fn page_bound(&self) -> usize {
        #[cfg(feature = "cuda")]
        return self.most_pages.min(self.pages_with_room);
        #[cfg(not(feature = "cuda"))]
        self.most_pages
    }

    /// Pages held now.
    pub(super) fn pages_in_use(&self) -> usize {
        let trunks = self.trunks.values();
        let trunks = trunks.map(|trunk| trunk.cache.pages()).sum::<usize>();
        let branches = self.active.iter().map(|branch| branch.cache.pages());
        trunks + branches.sum::<usize>()
    }

    pub(super) fn note_peak(&mut self) {
        let now = self.pages_in_use();
        self.statistics.peak_pages = now.max(self.statistics.peak_pages);
    }

    /// Sees to it that the pages which the next tokens need are there: branches can get longer than
    /// expected.
    pub(super) fn make_room(&mut self) {
        loop {
            let needed = self.active.iter().filter(|b| b.needs_page()).count();
            if self.pages_in_use().saturating_add(needed) <= self.page_bound() {
                return;
            }
            if !self.give_pages_back() {
                return;
            }
        }
    }

    /// Gives the pages of a trunk back that no running branch reads, or those of the least urgent branch, which
    /// waits again; whether there was one. The most urgent branch never gives way, so that it comes to its end.
    pub(super) fn give_pages_back(&mut self) -> bool {
        let plan = self.page_plan();
        if let Some((&idle, _)) = plan.idle.iter().max_by_key(|&(_, &len)| len) {
            self.empty_trunk(idle);
            return true;
        }
        let least = (0..self.active.len()).min_by_key(|&index| self.active[index].urgency());
        let Some(least) = least.filter(|_| self.active.len() > 1) else {
            return false;
        };
        let mut branch = self.active.remove(least);
        let repeated = branch.give_way();
        self.statistics.repeated_tokens += repeated as u64;
        self.waiting.put_back(branch);
        true
    }
}
