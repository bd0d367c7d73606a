//! A branch on its way, and the order in which branches wait.

use super::BranchSettings;
use crate::engine::{Alternative, BranchRequest, Finish, TrunkId};
use seele_policy::decoder::BranchCache;
use seele_policy::decoder::cache::PAGE_TOKENS;
use seele_random::Key;
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// A branch that waits or runs.
pub(super) struct Branch {
    pub(super) settings: BranchSettings,
    pub(super) trunk: TrunkId,
    pub(super) fork: usize,
    pub(super) key: Key,
    pub(super) tag: u64,
    /// Covers the first `cache.len()` tokens: all but the last of a branch that draws, fewer of one that
    /// has given way and catches up.
    pub(super) cache: BranchCache,
    pub(super) tokens: Vec<u32>,
    pub(super) logprobs: Vec<f32>,
    pub(super) alternatives: Vec<Vec<Alternative>>,
    expected_tokens: usize,
    arrival: u64,
}

impl Branch {
    /// The token that goes through the model next; none for a branch without tokens, whose first is drawn
    /// from the trunk's hidden state.
    pub(super) fn input(&self) -> Option<u32> {
        self.tokens.get(self.cache.len()).copied()
    }

    /// Whether all its tokens are in the cache, so that the next can be drawn.
    pub(super) fn is_caught_up(&self) -> bool {
        self.cache.len() == self.tokens.len()
    }

    /// Whether its next token needs a new page.
    pub(super) fn needs_page(&self) -> bool {
        self.input().is_some() && self.cache.len() == self.cache.pages() * PAGE_TOKENS
    }

    /// Gives its pages back; its tokens will go through the model again. Returns how many.
    pub(super) fn give_way(&mut self) -> usize {
        let tokens = self.cache.len();
        self.cache = BranchCache::new(self.fork);
        tokens
    }

    /// Why it is over, if it is.
    pub(super) fn finish(&self) -> Option<Finish> {
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

    /// No other branch of the engine has it.
    #[cfg(feature = "cuda")]
    pub(super) fn arrival(&self) -> u64 {
        self.arrival
    }

    /// Larger goes first: most tokens expected, of equals the one that came first.
    pub(super) fn urgency(&self) -> (usize, Reverse<u64>) {
        (self.expected_tokens, Reverse(self.arrival))
    }
}

impl PartialEq for Branch {
    fn eq(&self, other: &Self) -> bool {
        self.urgency() == other.urgency()
    }
}

impl Eq for Branch {}

impl PartialOrd for Branch {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Branch {
    fn cmp(&self, other: &Self) -> Ordering {
        self.urgency().cmp(&other.urgency())
    }
}

/// Branches that wait, the most urgent first.
#[derive(Default)]
pub(super) struct Waiting {
    branches: BinaryHeap<Branch>,
    arrivals: u64,
}

impl Waiting {
    /// Queues a branch without tokens.
    pub(super) fn submit(&mut self, request: BranchRequest, settings: BranchSettings) {
        self.arrivals += 1;
        self.branches.push(Branch {
            settings,
            trunk: request.trunk,
            fork: request.fork,
            key: request.key,
            tag: request.tag,
            cache: BranchCache::new(request.fork),
            tokens: Vec::new(),
            logprobs: Vec::new(),
            alternatives: Vec::new(),
            expected_tokens: request.expected_tokens,
            arrival: self.arrivals,
        });
    }

    /// Queues a branch that gave way, in its old place.
    pub(super) fn put_back(&mut self, branch: Branch) {
        self.branches.push(branch);
    }

    pub(super) fn first(&self) -> Option<&Branch> {
        self.branches.peek()
    }

    pub(super) fn take_first(&mut self) -> Option<Branch> {
        self.branches.pop()
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&Branch) -> bool) {
        self.branches.retain(keep);
    }

    pub(super) fn len(&self) -> usize {
        self.branches.len()
    }
}
