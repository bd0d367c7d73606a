//! Advantages: how much better a sequence did than the sequences it is compared with.
//!
//! ```
//! use seele_train::advantage::{AdvantageConfig, Member, RewardTotals, advantages};
//!
//! // One problem, two rounds of two rollouts; SEELE compares all four (Eq. 2).
//! let members = [(0, 1.0), (0, 1.0), (1, 0.0), (1, 1.0)]
//!     .map(|(round, reward)| Member { group: 7, round, reward, ..Member::default() });
//! let totals = RewardTotals::of(&AdvantageConfig::default(), &members);
//! let result = advantages(&AdvantageConfig::default(), &members, totals);
//! assert_eq!(result[2].generated, -0.75);
//! ```

mod config;
mod group;
mod prefix;

use std::collections::HashMap;
use std::hash::Hash;

pub use config::{AdvantageConfig, AdvantageKind, AdvantageScope, Singleton, TraceMembership};

/// One sequence as the estimators see it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Member {
    /// Problem that the sequence answers.
    pub group: u64,
    /// Sampling round inside the problem, from 0.
    pub round: u32,
    /// Shaped reward, finite.
    pub reward: f64,
    /// Length of the hint in front of it, in tokens; 0: unprefixed.
    pub hint_tokens: usize,
    /// Whether it is an off-policy trace (a whole reference solution) instead of a rollout.
    pub trace: bool,
    /// Whether it is a rollout that continues an off-policy trace.
    pub off_policy_hint: bool,
}

/// Advantage of one sequence, the same for all its tokens of one role.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Advantage {
    /// Of its hint tokens, where the policy loss covers them.
    pub hint: f64,
    /// Of its generated (or trace) tokens.
    pub generated: f64,
}

impl Advantage {
    fn uniform(value: f64) -> Self {
        Self {
            hint: value,
            generated: value,
        }
    }
}

/// Count, sum and sum of squares of the rewards of an update batch: all that the `batch` estimator needs from
/// other data-parallel ranks.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct RewardTotals {
    /// Number of rewards.
    pub count: f64,
    /// Their sum.
    pub sum: f64,
    /// Sum of their squares.
    pub sum_of_squares: f64,
}

impl RewardTotals {
    /// Totals over the members that belong to groups under `config`.
    pub fn of(config: &AdvantageConfig, members: &[Member]) -> Self {
        members
            .iter()
            .filter(|member| config.counts(member.is_off_policy()))
            .fold(Self::default(), |totals, member| Self {
                count: totals.count + 1.0,
                sum: totals.sum + member.reward,
                sum_of_squares: totals.sum_of_squares + member.reward * member.reward,
            })
    }

    /// Sample standard deviation (`count - 1`); 0 for fewer than two rewards.
    pub fn standard_deviation(&self) -> f64 {
        if self.count < 2.0 {
            return 0.0;
        }
        let mean = self.sum / self.count;
        let variance = (self.sum_of_squares - self.sum * mean) / (self.count - 1.0);
        variance.max(0.0).sqrt()
    }
}

impl Member {
    /// Whether some of its tokens were not sampled.
    pub fn is_off_policy(&self) -> bool {
        self.trace || self.off_policy_hint
    }
}

impl AdvantageConfig {
    /// Whether a sequence belongs to its group and to the policy loss; `off_policy`: it is a trace or
    /// continues one.
    pub fn counts(&self, off_policy: bool) -> bool {
        !off_policy || self.traces == TraceMembership::Member
    }
}

/// Advantages of all sequences of an update batch (formulas: [`AdvantageKind`]).
///
/// * `members`: `[sequences]`; a group is compared within this slice, so a problem must not be divided over
///   calls. Order does not matter beyond the rounding of sums.
/// * `batch`: rewards of the whole update batch over all ranks, used by [`AdvantageKind::Batch`] only.
/// * returns `[sequences]`, f64.
///
/// A group whose rewards are all equal gets exactly 0 from the group estimators. Traces kept
/// [apart](TraceMembership::Apart) get 0 and count nowhere.
pub fn advantages(
    config: &AdvantageConfig,
    members: &[Member],
    batch: RewardTotals,
) -> Vec<Advantage> {
    let mut result = vec![Advantage::default(); members.len()];
    let counted = |index: &usize| config.counts(members[*index].is_off_policy());
    let indices = (0..members.len()).filter(counted);

    match config.kind {
        AdvantageKind::None => {}
        AdvantageKind::Split | AdvantageKind::SplitCentred | AdvantageKind::SplitV2 => {
            for group in partition(indices, |i| members[i].group) {
                prefix::split_advantages(config.kind, members, &group, &mut result);
            }
        }
        _ => {
            let by_round = config.scope == AdvantageScope::Round;
            let key = |i: usize| {
                (
                    members[i].group,
                    if by_round { members[i].round } else { 0 },
                )
            };
            for group in partition(indices, key) {
                let rewards: Vec<f64> = group.iter().map(|&i| members[i].reward).collect();
                let values = group::group_advantages(config, &rewards, batch);
                for (&index, value) in group.iter().zip(values) {
                    result[index] = Advantage::uniform(value);
                }
            }
        }
    }

    for (advantage, member) in result.iter_mut().zip(members) {
        if member.trace {
            advantage.generated *= config.trace_weight;
        } else if member.off_policy_hint {
            advantage.hint *= config.trace_weight;
        }
    }
    result
}

/// Indices by key, groups in order of first appearance, so that sums do not depend on a hash seed.
fn partition<K: Eq + Hash>(
    indices: impl Iterator<Item = usize>,
    key: impl Fn(usize) -> K,
) -> Vec<Vec<usize>> {
    let mut position = HashMap::new();
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for index in indices {
        let at = *position.entry(key(index)).or_insert_with(|| {
            groups.push(Vec::new());
            groups.len() - 1
        });
        groups[at].push(index);
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(group: u64, round: u32, reward: f64, hint_tokens: usize) -> Member {
        Member {
            group,
            round,
            reward,
            hint_tokens,
            ..Member::default()
        }
    }

    fn trace(group: u64, reward: f64) -> Member {
        Member {
            trace: true,
            ..member(group, 0, reward, 0)
        }
    }

    fn generated(config: &AdvantageConfig, members: &[Member]) -> Vec<f64> {
        advantages(config, members, RewardTotals::of(config, members))
            .iter()
            .map(|a| a.generated)
            .collect()
    }

    #[test]
    fn groups_may_be_interleaved() {
        let members = [
            member(1, 0, 1.0, 0),
            member(2, 0, 5.0, 0),
            member(1, 0, 0.0, 0),
            member(2, 0, 7.0, 0),
        ];
        let config = AdvantageConfig::default();
        assert_eq!(generated(&config, &members), [0.5, -1.0, -0.5, 1.0]);
    }

    #[test]
    fn round_scope_compares_within_a_round() {
        let members = [
            member(1, 0, 1.0, 9),
            member(1, 0, 1.0, 9),
            member(1, 1, 0.0, 2),
            member(1, 1, 1.0, 2),
        ];
        let config = AdvantageConfig {
            scope: AdvantageScope::Round,
            ..Default::default()
        };
        assert_eq!(generated(&config, &members), [0.0, 0.0, -0.5, 0.5]);
    }

    #[test]
    fn a_trace_counts_in_the_mean_unless_it_is_kept_apart() {
        let members = [trace(1, 1.0), member(1, 0, 0.0, 0), member(1, 0, 0.5, 0)];
        let mut config = AdvantageConfig::default();
        assert_eq!(generated(&config, &members), [0.5, -0.5, 0.0]);
        config.trace_weight = 2.0;
        assert_eq!(generated(&config, &members), [1.0, -0.5, 0.0]);
        config.traces = TraceMembership::Apart;
        assert_eq!(generated(&config, &members), [0.0, -0.25, 0.25]);
    }

    #[test]
    fn batch_divides_by_the_deviation_of_the_whole_batch() {
        let members = [
            member(1, 0, 0.0, 0),
            member(1, 0, 2.0, 0),
            member(2, 0, 4.0, 0),
            member(2, 0, 6.0, 0),
        ];
        let config = AdvantageConfig {
            kind: AdvantageKind::Batch,
            eps: 0.0,
            ..Default::default()
        };
        // Rewards 0, 2, 4, 6: sample variance 20 / 3.
        let expected = 1.0 / (20.0f64 / 3.0).sqrt();
        for (value, sign) in generated(&config, &members)
            .iter()
            .zip([-1.0, 1.0, -1.0, 1.0])
        {
            assert!((value - sign * expected).abs() < 1e-15);
        }
    }

    #[test]
    fn no_sequences_give_no_advantages() {
        assert!(generated(&AdvantageConfig::default(), &[]).is_empty());
        assert_eq!(RewardTotals::default().standard_deviation(), 0.0);
    }
}
