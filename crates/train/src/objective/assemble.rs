//! From trunks to segments: what every token counts in every term.

use std::ops::Range;

use super::aggregation::Normaliser;
use super::batch::{Branch, Trunk};
use super::batch_objective::{Objective, Sequence};
use super::config::{ObjectiveConfig, PolicyLossKind, PrefixOld};
use super::coverage::{BatchTotals, Coverage, Span, imitated_solution};
use super::segment::{PolicyMass, RatioSource, Segment, TokenWeights, Weights};
use crate::advantage::Advantage;

/// The normalisers of the whole update batch.
pub(super) struct Normalisers {
    policy: Normaliser,
    kl: Normaliser,
    imitation: Normaliser,
    entropy: Normaliser,
}

impl Objective {
    /// Appends a trunk; `advantages` yields those of its branches.
    pub(super) fn push_trunk(
        &mut self,
        mut trunk: Trunk,
        advantages: &mut impl Iterator<Item = Advantage>,
        normalisers: &Normalisers,
    ) {
        let trunk_index = self.trunk_segments.len();
        let solution_segment = self.segments.len();
        self.trunk_segments.push(solution_segment);
        let imitated = imitated_solution(&self.config, &trunk);
        let mut weights = vec![TokenWeights::default(); trunk.solution_tokens];
        for token in &mut weights[..imitated] {
            token.imitation = normalisers.imitation.weight(imitated);
        }
        self.segments.push(Segment {
            trunk: trunk_index,
            branch: None,
            slots: self.next_slots(trunk.solution_tokens),
            ratio: match self.config.policy_loss.prefix_old {
                PrefixOld::Sampling => RatioSource::Token,
                PrefixOld::Current => RatioSource::Detached,
            },
            sampled: false,
            weights: Weights::Each(Vec::new()),
            old_logprobs: std::mem::take(&mut trunk.old_logprobs),
            ref_logprobs: std::mem::take(&mut trunk.ref_logprobs),
            sequence_log_ratio: 0.0,
            hint_probability: Vec::new(),
        });

        let coverages: Vec<Coverage> = trunk
            .branches
            .iter()
            .map(|branch| Coverage::of(&self.config, &trunk, branch))
            .collect();
        let branches = trunk.branches.into_iter().zip(coverages).zip(advantages);
        for (branch_index, ((branch, coverage), advantage)) in branches.enumerate() {
            normalisers.weigh_hint(&coverage, &mut weights);
            let policy_weight = self.policy_weight(&coverage, normalisers);
            self.sequences.push(Sequence {
                solution_segment,
                branch_segment: self.segments.len(),
                hint_tokens: branch.hint_tokens,
                coverage,
                advantage,
                policy_weight,
                dropped: Vec::new(),
            });
            let own = normalisers.own_weights(&coverage, advantage, policy_weight);
            self.push_branch(trunk_index, branch_index, branch, own);
        }
        self.segments[solution_segment].weights = Weights::Each(weights);
    }

    fn push_branch(&mut self, trunk: usize, index: usize, branch: Branch, weights: TokenWeights) {
        self.segments.push(Segment {
            trunk,
            branch: Some(index),
            slots: self.next_slots(branch.tokens),
            ratio: match self.config.policy_loss.kind {
                _ if branch.trace => RatioSource::Trace,
                PolicyLossKind::Gspo | PolicyLossKind::SequenceRatio => RatioSource::Sequence,
                PolicyLossKind::Clip | PolicyLossKind::None => RatioSource::Token,
            },
            sampled: !branch.trace,
            weights: Weights::Alike(weights),
            old_logprobs: branch.old_logprobs,
            ref_logprobs: branch.ref_logprobs,
            sequence_log_ratio: 0.0,
            hint_probability: Vec::new(),
        });
    }

    fn policy_weight(&self, coverage: &Coverage, normalisers: &Normalisers) -> f64 {
        let tokens = coverage.policy.tokens();
        if self.config.has_sequence_ratio() {
            normalisers.policy.sequence_share(tokens)
        } else {
            normalisers.policy.weight(tokens)
        }
    }

    fn next_slots(&self, tokens: usize) -> Range<usize> {
        let first = self.slots();
        first..first + tokens
    }

    /// Sets the policy masses of the hint tokens anew, with the entropy filter's choice.
    pub(super) fn weigh_hint_policy(&mut self) {
        for segment in &mut self.segments {
            if let Weights::Each(weights) = &mut segment.weights {
                for token in weights {
                    token.policy = PolicyMass::default();
                    token.off_policy = PolicyMass::default();
                }
            }
        }
        for sequence in &self.sequences {
            let segment = &mut self.segments[sequence.solution_segment];
            let Weights::Each(weights) = &mut segment.weights else {
                continue;
            };
            for (offset, token) in weights[..sequence.coverage.policy.hint]
                .iter_mut()
                .enumerate()
            {
                let advantage = sequence.hint_advantage(offset);
                let mass = match sequence.coverage.off_policy_hint {
                    true => &mut token.off_policy,
                    false => &mut token.policy,
                };
                mass.add(advantage, sequence.policy_weight);
            }
        }
    }
}

impl Normalisers {
    pub(super) fn new(config: &ObjectiveConfig, totals: &BatchTotals) -> Self {
        let normaliser = |mode, count, all| Normaliser::new(mode, &config.aggregation, count, all);
        Self {
            policy: normaliser(config.aggregation.mode, totals.policy, totals.sequences),
            kl: normaliser(config.kl_mode(), totals.kl, totals.sequences),
            imitation: normaliser(
                config.imitation.mode,
                totals.imitation,
                totals.imitation_sequences(config),
            ),
            entropy: normaliser(config.entropy.mode, totals.entropy, totals.sequences),
        }
    }

    /// Adds what a sequence's hint counts in the KL and imitation terms.
    fn weigh_hint(&self, coverage: &Coverage, solution: &mut [TokenWeights]) {
        for token in &mut solution[..coverage.kl.hint] {
            token.kl += self.kl.weight(coverage.kl.tokens());
        }
        for token in &mut solution[..coverage.imitation.hint] {
            token.imitation += self.imitation.weight(coverage.imitation.tokens());
        }
    }

    /// Weights of a sequence's own tokens.
    fn own_weights(
        &self,
        coverage: &Coverage,
        advantage: Advantage,
        policy_weight: f64,
    ) -> TokenWeights {
        let weight = |normaliser: &Normaliser, span: Span| {
            if span.own > 0 {
                normaliser.weight(span.tokens())
            } else {
                0.0
            }
        };
        let mut weights = TokenWeights {
            kl: weight(&self.kl, coverage.kl),
            imitation: weight(&self.imitation, coverage.imitation),
            entropy: weight(&self.entropy, coverage.entropy),
            ..TokenWeights::default()
        };
        if coverage.policy.own > 0 {
            weights.policy.add(advantage.generated, policy_weight);
        }
        weights
    }
}
