//! Which tokens each term covers, and the counts over the batch that normalise it.

use super::ObjectiveError;
use super::aggregation::TermCount;
use super::batch::{Branch, HintRole, Trunk, check};
use super::config::{ImitationTokens, KlTokens, ObjectiveConfig, PolicyLossKind, WhichHint};
use super::reward_shaping::kl_penalty_of_sequence;
use crate::advantage::{Member, RewardTotals};

/// Tokens of one sequence that a term covers: the first `hint` hint tokens and the first `own` tokens of the
/// branch (all or none of them).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Span {
    pub(super) hint: usize,
    pub(super) own: usize,
}

impl Span {
    pub(super) fn tokens(self) -> usize {
        self.hint + self.own
    }
}

/// The spans of one sequence, a term each.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Coverage {
    pub(super) policy: Span,
    /// The hint under `policy` is an off-policy trace.
    pub(super) off_policy_hint: bool,
    pub(super) kl: Span,
    pub(super) imitation: Span,
    pub(super) entropy: Span,
}

impl Coverage {
    pub(super) fn of(config: &ObjectiveConfig, trunk: &Trunk, branch: &Branch) -> Self {
        let member = config.advantage.counts(branch.is_off_policy());
        // A truncated rollout leaves the terms on what it sampled; its hint is still a hint.
        let masked = branch.truncated && config.overlong.mask_truncated;
        Self {
            policy: policy(config, branch, member && !masked),
            off_policy_hint: branch.hint_role == HintRole::OffPolicy,
            kl: kl(config, branch, member && !masked),
            imitation: imitation(config, trunk, branch),
            entropy: Span {
                hint: 0,
                own: if config.entropy.coef != 0.0 && !branch.trace && !masked {
                    branch.tokens
                } else {
                    0
                },
            },
        }
    }
}

fn policy(config: &ObjectiveConfig, branch: &Branch, trained: bool) -> Span {
    if !trained || config.policy_loss.kind == PolicyLossKind::None {
        return Span::default();
    }
    Span {
        hint: match branch.hint_role {
            HintRole::OffPolicy => branch.hint_tokens,
            role if config.policy_loss.on_hint && role.is_policy() => branch.hint_tokens,
            _ => 0,
        },
        own: branch.tokens,
    }
}

fn kl(config: &ObjectiveConfig, branch: &Branch, trained: bool) -> Span {
    if !trained || !config.has_kl_loss() {
        return Span::default();
    }
    match config.kl.tokens {
        KlTokens::Generated if branch.trace => Span::default(),
        KlTokens::Generated => Span {
            hint: 0,
            own: branch.tokens,
        },
        KlTokens::All => Span {
            hint: branch.hint_tokens,
            own: branch.tokens,
        },
    }
}

fn imitation(config: &ObjectiveConfig, trunk: &Trunk, branch: &Branch) -> Span {
    if config.imitation.coef == 0.0 {
        return Span::default();
    }
    match (config.imitation.tokens, branch.trace) {
        (ImitationTokens::Hint, false) if branch.hint_role.is_imitated() => Span {
            hint: imitated_hint(config.imitation.which_hint, trunk, branch),
            own: 0,
        },
        (ImitationTokens::Generated, false) | (ImitationTokens::Trace, true) => Span {
            hint: 0,
            own: branch.tokens,
        },
        (ImitationTokens::Trace, false) if branch.hint_role == HintRole::OffPolicy => Span {
            hint: branch.hint_tokens,
            own: 0,
        },
        _ => Span::default(),
    }
}

fn imitated_hint(which: WhichHint, trunk: &Trunk, branch: &Branch) -> usize {
    let imitated = |other: &&Branch| !other.trace && other.hint_role.is_imitated();
    let rollouts = || trunk.branches.iter().filter(imitated);
    let longest = |round: Option<u32>| {
        rollouts()
            .filter(|other| round.is_none_or(|round| other.round == round))
            .map(|other| other.hint_tokens)
            .max()
            .unwrap_or(0)
    };
    match which {
        WhichHint::Own => branch.hint_tokens,
        WhichHint::LastRound => longest(rollouts().map(|other| other.round).max()),
        WhichHint::Longest => longest(None),
    }
}

/// Sums over an update batch that its normalisers need. With several data-parallel ranks each computes its own,
/// the arrays are summed, and every rank builds its [`Objective`](super::Objective) with the sums.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct BatchTotals {
    /// Sequences that belong to a group: `N`.
    pub sequences: f64,
    /// Off-policy traces, whole or continued, members of groups or not.
    pub traces: f64,
    /// Trunks.
    pub trunks: f64,
    /// Tokens under the policy loss.
    pub policy: TermCount,
    /// Tokens under the KL term.
    pub kl: TermCount,
    /// Tokens under the imitation term.
    pub imitation: TermCount,
    /// Tokens under the entropy bonus.
    pub entropy: TermCount,
    /// Shaped rewards, a KL in the reward subtracted.
    pub rewards: RewardTotals,
}

impl BatchTotals {
    /// Entries of [`to_array`](Self::to_array).
    pub const LENGTH: usize = 14;

    /// Totals of the local part of an update batch.
    ///
    /// # Errors
    /// Whatever makes [`Objective::new`](super::Objective::new) fail.
    pub fn of(config: &ObjectiveConfig, trunks: &[Trunk]) -> Result<Self, ObjectiveError> {
        config.validate()?;
        check(config, trunks)?;
        let mut totals = Self {
            rewards: RewardTotals::of(&config.advantage, &members(config, trunks)),
            ..Self::default()
        };
        for trunk in trunks {
            totals.trunks += 1.0;
            for branch in &trunk.branches {
                let off_policy = branch.is_off_policy();
                totals.traces += f64::from(u8::from(off_policy));
                totals.sequences += f64::from(u8::from(config.advantage.counts(off_policy)));
                let coverage = Coverage::of(config, trunk, branch);
                totals.policy.add(coverage.policy.tokens());
                totals.kl.add(coverage.kl.tokens());
                totals.imitation.add(coverage.imitation.tokens());
                totals.entropy.add(coverage.entropy.tokens());
            }
            totals.imitation.add(imitated_solution(config, trunk));
        }
        Ok(totals)
    }

    /// All sums in a fixed order, to be added up over ranks.
    pub fn to_array(&self) -> [f64; Self::LENGTH] {
        [
            self.sequences,
            self.traces,
            self.trunks,
            self.policy.tokens,
            self.policy.sequences,
            self.kl.tokens,
            self.kl.sequences,
            self.imitation.tokens,
            self.imitation.sequences,
            self.entropy.tokens,
            self.entropy.sequences,
            self.rewards.count,
            self.rewards.sum,
            self.rewards.sum_of_squares,
        ]
    }

    /// Reads what [`to_array`](Self::to_array) wrote.
    pub fn from_array(array: [f64; Self::LENGTH]) -> Self {
        let [
            sequences,
            traces,
            trunks,
            policy_tokens,
            policy_sequences,
            kl_tokens,
            kl_sequences,
            imitation_tokens,
            imitation_sequences,
            entropy_tokens,
            entropy_sequences,
            count,
            sum,
            sum_of_squares,
        ] = array;
        let term = |tokens, sequences| TermCount { tokens, sequences };
        Self {
            sequences,
            traces,
            trunks,
            policy: term(policy_tokens, policy_sequences),
            kl: term(kl_tokens, kl_sequences),
            imitation: term(imitation_tokens, imitation_sequences),
            entropy: term(entropy_tokens, entropy_sequences),
            rewards: RewardTotals {
                count,
                sum,
                sum_of_squares,
            },
        }
    }

    /// Number of sequences that the imitation term is a mean over, empty ones included.
    pub(super) fn imitation_sequences(&self, config: &ObjectiveConfig) -> f64 {
        match config.imitation.tokens {
            ImitationTokens::Hint | ImitationTokens::Generated => self.sequences,
            ImitationTokens::Trace => self.traces,
            ImitationTokens::Solution => self.trunks,
        }
    }
}

/// Solution tokens of a trunk that are imitated for their own sake.
pub(super) fn imitated_solution(config: &ObjectiveConfig, trunk: &Trunk) -> usize {
    if config.imitation.coef > 0.0 && config.imitation.tokens == ImitationTokens::Solution {
        trunk.solution_tokens
    } else {
        0
    }
}

/// The batch's sequences as the advantage estimators see them, a KL in the reward subtracted.
pub(super) fn members(config: &ObjectiveConfig, trunks: &[Trunk]) -> Vec<Member> {
    trunks
        .iter()
        .flat_map(|trunk| {
            trunk.branches.iter().map(|branch| Member {
                group: trunk.group,
                round: branch.round,
                reward: branch.reward - kl_penalty_of_sequence(config, trunk, branch),
                hint_tokens: branch.hint_tokens,
                trace: branch.trace,
                off_policy_hint: branch.is_off_policy() && !branch.trace,
            })
        })
        .collect()
}
