//! The objective of one update batch.

use std::ops::Range;

use super::ObjectiveError;
use super::assemble::Normalisers;
use super::batch::{Trunk, check};
use super::config::{ImitationKind, ObjectiveConfig};
use super::coverage::{BatchTotals, Coverage, members};
use super::evaluation::Evaluation;
use super::segment::Segment;
use crate::advantage::{Advantage, advantages};

/// The loss of one update batch, built once from what the batch is, then evaluated in pieces of any size.
///
/// Every token that can carry a loss has a *slot*: trunk by trunk, first the solution tokens, then the tokens of
/// its branches. A hint token that many sequences share is one slot; its log-prob is computed once.
///
/// Advantages, old and reference log-probs are constants. All arithmetic is float64. The derivative of a token
/// does not depend on how the batch is cut into pieces, bit for bit; term values are sums of the pieces' values
/// up to the rounding of that sum.
#[derive(Debug, Clone)]
pub struct Objective {
    pub(super) config: ObjectiveConfig,
    pub(super) segments: Vec<Segment>,
    pub(super) sequences: Vec<Sequence>,
    /// Segment of each trunk's solution; its branches follow.
    pub(super) trunk_segments: Vec<usize>,
    totals: BatchTotals,
    pub(super) prepared: bool,
}

/// What is known of one sequence.
#[derive(Debug, Clone)]
pub(super) struct Sequence {
    pub(super) solution_segment: usize,
    pub(super) branch_segment: usize,
    pub(super) hint_tokens: usize,
    pub(super) coverage: Coverage,
    pub(super) advantage: Advantage,
    /// Weight of one token in the policy term.
    pub(super) policy_weight: f64,
    /// By hint token, whether the entropy filter took its advantage; empty: none.
    pub(super) dropped: Vec<bool>,
}

impl Objective {
    /// Objective of a batch that is whole in this process.
    ///
    /// # Errors
    /// A setting out of range ([`ObjectiveError::Config`]), lists of the wrong length, numbers that are not
    /// finite, or a trace under a loss with one ratio a sequence.
    pub fn new(config: ObjectiveConfig, trunks: Vec<Trunk>) -> Result<Self, ObjectiveError> {
        let totals = BatchTotals::of(&config, &trunks)?;
        Self::with_totals(config, trunks, totals)
    }

    /// Objective of one rank's part of a batch. `totals` are summed over ranks; the losses and derivatives of
    /// all ranks then add up to those of the batch. A problem must not be divided over ranks.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_totals(
        config: ObjectiveConfig,
        trunks: Vec<Trunk>,
        totals: BatchTotals,
    ) -> Result<Self, ObjectiveError> {
        config.validate()?;
        check(&config, &trunks)?;
        let advantages = advantages(
            &config.advantage,
            &members(&config, &trunks),
            totals.rewards,
        );
        let normalisers = Normalisers::new(&config, &totals);

        let mut objective = Self {
            segments: Vec::new(),
            sequences: Vec::with_capacity(advantages.len()),
            trunk_segments: Vec::with_capacity(trunks.len()),
            totals,
            prepared: false,
            config,
        };
        let mut advantages = advantages.into_iter();
        for trunk in trunks {
            objective.push_trunk(trunk, &mut advantages, &normalisers);
        }
        objective.weigh_hint_policy();
        Ok(objective)
    }

    /// The configuration that it was built with.
    pub fn config(&self) -> &ObjectiveConfig {
        &self.config
    }

    /// The batch's sums behind the normalisers.
    pub fn totals(&self) -> &BatchTotals {
        &self.totals
    }

    /// Number of slots.
    pub fn slots(&self) -> usize {
        self.segments.last().map_or(0, |segment| segment.slots.end)
    }

    /// Slots of a trunk's solution tokens.
    ///
    /// # Panics
    /// If there is no such trunk.
    pub fn solution_slots(&self, trunk: usize) -> Range<usize> {
        self.segments[self.trunk_segments[trunk]].slots.clone()
    }

    /// Slots of a branch's tokens.
    ///
    /// # Panics
    /// If there is no such branch.
    pub fn branch_slots(&self, trunk: usize, branch: usize) -> Range<usize> {
        self.segments[self.branch_segment(trunk, branch)]
            .slots
            .clone()
    }

    /// Solution tokens up to the last one that can have a gradient: what a forward pass needs of the trunk for
    /// its own sake, beyond the longest fork.
    ///
    /// # Panics
    /// If there is no such trunk.
    pub fn trained_solution_tokens(&self, trunk: usize) -> usize {
        let segment = &self.segments[self.trunk_segments[trunk]];
        (0..segment.slots.len())
            .rev()
            .find(|&offset| segment.weights(offset).is_trained())
            .map_or(0, |offset| offset + 1)
    }

    /// Whether any token of a branch can have a gradient. A branch without may be left out of the backward pass
    /// (with advantage 0 and no KL, for instance).
    ///
    /// # Panics
    /// If there is no such branch.
    pub fn branch_is_trained(&self, trunk: usize, branch: usize) -> bool {
        let segment = &self.segments[self.branch_segment(trunk, branch)];
        !segment.slots.is_empty() && segment.weights(0).is_trained()
    }

    /// Advantage of a branch.
    ///
    /// # Panics
    /// If there is no such branch.
    pub fn advantage(&self, trunk: usize, branch: usize) -> Advantage {
        self.sequence(trunk, branch).advantage
    }

    /// Advantage of each token of a sequence, its hint tokens first: 0 on tokens outside the policy loss, and
    /// on those that the entropy filter dropped (after [`prepare`](Self::prepare)).
    ///
    /// # Panics
    /// If there is no such branch.
    pub fn token_advantages(&self, trunk: usize, branch: usize) -> Vec<f64> {
        let sequence = self.sequence(trunk, branch);
        let span = sequence.coverage.policy;
        let hint = (0..sequence.hint_tokens).map(|offset| {
            if offset < span.hint {
                sequence.hint_advantage(offset)
            } else {
                0.0
            }
        });
        let tokens = self.segments[sequence.branch_segment].slots.len();
        let own = if span.own > 0 {
            sequence.advantage.generated
        } else {
            0.0
        };
        hint.chain(std::iter::repeat_n(own, tokens)).collect()
    }

    /// Whether derivatives depend on log-probs or entropies of other tokens, so that a forward pass over the
    /// batch and [`prepare`](Self::prepare) must come before [`evaluate`](Self::evaluate).
    pub fn needs_all_logprobs_first(&self) -> bool {
        self.config.has_sequence_ratio()
            || self.config.entropy_filter.drop > 0.0
            || (self.config.imitation.coef > 0.0
                && self.config.imitation.kind == ImitationKind::Probability)
    }

    /// Whether entropies are used: by the bonus in [`evaluate`](Self::evaluate), by the filter in
    /// [`prepare`](Self::prepare).
    pub fn needs_entropies(&self) -> bool {
        self.config.entropy.coef != 0.0 || self.config.entropy_filter.drop > 0.0
    }

    /// Terms, statistics and derivatives of a run of slots.
    ///
    /// * `first_slot`: slot of the first token
    /// * `logprobs`: `[tokens]`, current log-probs (nats), f32 or f64
    /// * `entropies`: `[tokens]`, current entropies (nats) of the distributions that predict these tokens;
    ///   needed by the entropy bonus, else for the statistics only
    ///
    /// # Errors
    /// [`ObjectiveError::NotPrepared`], [`ObjectiveError::EntropiesMissing`], [`ObjectiveError::Slots`] for
    /// lists that do not fit, [`ObjectiveError::NotFinite`] for a trained token whose log-prob is not finite.
    pub fn evaluate<T: Copy + Into<f64>>(
        &self,
        first_slot: usize,
        logprobs: &[T],
        entropies: Option<&[T]>,
    ) -> Result<Evaluation, ObjectiveError> {
        if self.needs_all_logprobs_first() && !self.prepared {
            return Err(ObjectiveError::NotPrepared);
        }
        self.check_slots("log-probs", first_slot, logprobs.len())?;
        if let Some(entropies) = entropies
            && entropies.len() != logprobs.len()
        {
            return Err(self.slots_error("entropies", first_slot, entropies.len()));
        }

        let has_bonus = self.config.entropy.coef != 0.0;
        let mut result = Evaluation {
            grad_logprobs: Vec::with_capacity(logprobs.len()),
            grad_entropies: Vec::with_capacity(if has_bonus { logprobs.len() } else { 0 }),
            ..Evaluation::default()
        };
        let first_segment = self
            .segments
            .partition_point(|segment| segment.slots.end <= first_slot);
        let end = first_slot + logprobs.len();
        for segment in &self.segments[first_segment..] {
            if segment.slots.start >= end {
                break;
            }
            for slot in segment.slots.start.max(first_slot)..segment.slots.end.min(end) {
                let (by_logprob, by_entropy) = segment.evaluate_token(
                    &self.config,
                    slot - segment.slots.start,
                    logprobs[slot - first_slot].into(),
                    entropies.map(|entropies| entropies[slot - first_slot].into()),
                    &mut result,
                )?;
                result.grad_logprobs.push(by_logprob);
                if has_bonus {
                    result.grad_entropies.push(by_entropy);
                }
            }
        }
        let terms = result.terms;
        result.loss = terms.policy
            + self.config.kl.coef * terms.kl
            + self.config.imitation.coef * terms.imitation
            - self.config.entropy.coef * terms.entropy;
        Ok(result)
    }

    pub(super) fn check_slots(
        &self,
        what: &'static str,
        first: usize,
        found: usize,
    ) -> Result<(), ObjectiveError> {
        match first.checked_add(found) {
            Some(end) if end <= self.slots() => Ok(()),
            _ => Err(self.slots_error(what, first, found)),
        }
    }

    pub(super) fn slots_error(
        &self,
        what: &'static str,
        first: usize,
        found: usize,
    ) -> ObjectiveError {
        ObjectiveError::Slots {
            what,
            first,
            found,
            slots: self.slots(),
        }
    }

    fn branch_segment(&self, trunk: usize, branch: usize) -> usize {
        self.sequence(trunk, branch).branch_segment
    }

    fn sequence(&self, trunk: usize, branch: usize) -> &Sequence {
        // Each trunk before this one put one segment more than it has sequences.
        let first = self.trunk_segments[trunk];
        let sequence = &self.sequences[first - trunk + branch];
        assert_eq!(
            sequence.solution_segment, first,
            "trunk {trunk} has no branch {branch}"
        );
        sequence
    }
}

impl Sequence {
    /// Advantage of the hint token at `offset`, after the entropy filter.
    pub(super) fn hint_advantage(&self, offset: usize) -> f64 {
        match self.dropped.get(offset) {
            Some(true) => 0.0,
            _ => self.advantage.hint,
        }
    }
}
