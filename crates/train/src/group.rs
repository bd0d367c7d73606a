//! The rollouts of one problem, ready to be trained on.

use crate::objective::{Branch, HintRole, ImitationTokens, ObjectiveConfig, Trunk};
use seele_data::EncodedProblem;
use seele_hint::HintUse;
use seele_policy::decoder::{TokenScores, TreeBranch, TreeGroup};
use std::ops::Range;

/// One verified rollout, or a reference solution in its place.
#[derive(Clone, Debug)]
pub(crate) struct Rollout {
    /// Sampling round, from 0.
    pub(crate) round: usize,
    /// Leading solution tokens that it continued.
    pub(crate) hint_tokens: usize,
    /// Share of the solution that was revealed, `0..=1`.
    pub(crate) hint_rate: f64,
    /// What training does with the hint tokens.
    pub(crate) hint_use: HintUse,
    /// Generated (or reference) tokens, EOS included.
    pub(crate) tokens: Vec<u32>,
    /// `[tokens]`: as recorded while sampling; empty for a trace.
    pub(crate) logprobs: Vec<f32>,
    /// Reward as verified; `None` leaves it out of the group.
    pub(crate) reward: Option<f64>,
    /// Added to the reward for training, `-factor..=0` (DAPO's over-long shaping).
    pub(crate) length_penalty: f64,
    /// Whether the answer is right.
    pub(crate) correct: bool,
    /// Whether it hit the length limit.
    pub(crate) truncated: bool,
    /// Whether the tokens are the reference solution instead of samples.
    pub(crate) trace: bool,
}

/// A problem with its rollouts in order of round, fork and index.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    /// Tokens of the prompt.
    pub(crate) prompt_tokens: usize,
    /// Prompt and as much of the solution as training reads.
    pub(crate) trunk: Vec<u32>,
    /// All have a reward; none where training reads reference solutions only.
    pub(crate) rollouts: Vec<Rollout>,
    /// `[trunk - prompt]` log-probs under the policy that sampled; empty where not needed.
    pub(crate) old_solution: Vec<f64>,
    /// `[slots]` log-probs under the reference policy; empty without one.
    pub(crate) reference: Vec<f64>,
}

impl Group {
    /// The group of the rollouts that have a reward; `None` if there is none.
    pub(crate) fn new(
        problem: &EncodedProblem,
        rollouts: Vec<Rollout>,
        objective: &ObjectiveConfig,
        end_token: u32,
    ) -> Option<Self> {
        let mut rollouts = rollouts;
        rollouts.retain(|rollout| rollout.reward.is_some());
        let longest = rollouts.iter().map(|rollout| rollout.hint_tokens).max()?;
        let imitation = &objective.imitation;
        if imitation.coef > 0.0 && imitation.tokens == ImitationTokens::Solution {
            return Some(Self {
                rollouts,
                ..Self::of_solution(problem, end_token)
            });
        }
        let mut trunk = problem.prompt_ids.clone();
        trunk.extend(problem.solution_ids.iter().take(longest));
        Some(Self {
            prompt_tokens: problem.prompt_ids.len(),
            trunk,
            rollouts,
            old_solution: Vec::new(),
            reference: Vec::new(),
        })
    }

    /// The prompt with the whole reference solution and the end token: a trunk without branches.
    pub(crate) fn of_solution(problem: &EncodedProblem, end_token: u32) -> Self {
        let mut trunk = problem.prompt_ids.clone();
        trunk.extend(&problem.solution_ids);
        trunk.push(end_token);
        Self {
            prompt_tokens: problem.prompt_ids.len(),
            trunk,
            rollouts: Vec::new(),
            old_solution: Vec::new(),
            reference: Vec::new(),
        }
    }

    /// Solution tokens on the trunk.
    pub(crate) fn solution_tokens(&self) -> usize {
        self.trunk.len() - self.prompt_tokens
    }

    /// Slots of each rollout inside the group.
    pub(crate) fn rollout_slots(&self) -> impl Iterator<Item = (&Rollout, Range<usize>)> {
        let mut next = self.solution_tokens();
        self.rollouts.iter().map(move |rollout| {
            let first = next;
            next += rollout.tokens.len();
            (rollout, first..next)
        })
    }

    /// The group as the decoder wants it.
    pub(crate) fn tree(&self) -> TreeGroup<'_> {
        GroupPart::whole(self).tree()
    }

    /// The group as the objective wants it.
    pub(crate) fn objective_trunk(&self, identity: u64) -> Trunk {
        let reference = |slots: Range<usize>| {
            self.reference
                .get(slots)
                .map(<[f64]>::to_vec)
                .unwrap_or_default()
        };
        Trunk {
            group: identity,
            solution_tokens: self.solution_tokens(),
            old_logprobs: self.old_solution.clone(),
            ref_logprobs: reference(0..self.solution_tokens()),
            branches: self
                .rollout_slots()
                .map(|(rollout, slots)| Branch {
                    round: rollout.round as u32,
                    hint_tokens: rollout.hint_tokens,
                    hint_role: hint_role(rollout.hint_use),
                    reward: rollout.reward.unwrap_or(0.0) + rollout.length_penalty,
                    trace: rollout.trace,
                    truncated: rollout.truncated,
                    tokens: rollout.tokens.len(),
                    old_logprobs: rollout.logprobs.iter().map(|&x| f64::from(x)).collect(),
                    ref_logprobs: reference(slots),
                })
                .collect(),
        }
    }
}

fn hint_role(hint_use: HintUse) -> HintRole {
    match hint_use {
        HintUse::Context => HintRole::Context,
        HintUse::Imitation => HintRole::Imitated,
        HintUse::Policy => HintRole::Policy,
        HintUse::OffPolicy => HintRole::OffPolicy,
    }
}

/// What goes through the model together of a group: the trunk and a run of its rollouts. The first part of a group
/// predicts the trunk's tokens too.
#[derive(Clone, Debug)]
pub(crate) struct GroupPart<'a> {
    group: &'a Group,
    rollouts: Range<usize>,
}

impl<'a> GroupPart<'a> {
    pub(crate) fn whole(group: &'a Group) -> Self {
        let rollouts = 0..group.rollouts.len();
        Self { group, rollouts }
    }

    /// The group in as few parts of at most `tokens` rows as its order allows, each with a rollout at least, and the
    /// largest of them as small as that many parts can be.
    fn split(group: &'a Group, tokens: usize) -> Vec<Self> {
        let fewest = Self::fill(group, tokens).len();
        let (mut least, mut most) = (0, tokens);
        while least < most {
            let middle = least + (most - least) / 2;
            match Self::fill(group, middle).len() > fewest {
                true => least = middle + 1,
                false => most = middle,
            }
        }
        Self::fill(group, most)
    }

    /// Parts with as many rollouts as fit in `tokens` rows, one after the other.
    fn fill(group: &'a Group, tokens: usize) -> Vec<Self> {
        let mut parts = Vec::new();
        let (mut first, mut rows) = (0, group.trunk.len());
        for (index, rollout) in group.rollouts.iter().enumerate() {
            let more = rollout.tokens.len().saturating_sub(1);
            if index > first && rows + more > tokens {
                let rollouts = first..index;
                parts.push(Self { group, rollouts });
                (first, rows) = (index, group.trunk.len());
            }
            rows += more;
        }
        let rollouts = first..group.rollouts.len();
        parts.push(Self { group, rollouts });
        parts
    }

    /// Two parts with half of the rollouts each; `None` if there is but one.
    #[cfg(feature = "cuda")]
    pub(crate) fn halves(&self) -> Option<[Self; 2]> {
        let Range { start, end } = self.rollouts;
        let middle = start + self.rollouts.len() / 2;
        let part = |rollouts| Self {
            group: self.group,
            rollouts,
        };
        (middle > start).then(|| [part(start..middle), part(middle..end)])
    }

    pub(crate) fn group(&self) -> &'a Group {
        self.group
    }

    /// Whether it begins its group.
    pub(crate) fn is_first(&self) -> bool {
        self.rollouts.start == 0
    }

    /// First of its slots inside the group.
    pub(crate) fn first_slot(&self) -> usize {
        match self.is_first() {
            true => 0,
            false => self
                .rollout_slots()
                .next()
                .map_or(0, |(_, slots)| slots.start),
        }
    }

    /// Its rollouts and their slots inside the group.
    pub(crate) fn rollout_slots(&self) -> impl Iterator<Item = (&'a Rollout, Range<usize>)> {
        let all = self.group.rollout_slots();
        all.skip(self.rollouts.start).take(self.rollouts.len())
    }

    /// The part as the decoder wants it.
    pub(crate) fn tree(&self) -> TreeGroup<'a> {
        let (group, rollouts) = (self.group, &self.group.rollouts[self.rollouts.clone()]);
        let fork = |rollout: &Rollout| group.prompt_tokens + rollout.hint_tokens;
        let (reach, unpredicted) = if self.is_first() {
            (group.trunk.len(), group.prompt_tokens)
        } else {
            let reach = rollouts.iter().map(fork).max().unwrap_or(0);
            (reach, reach)
        };
        TreeGroup {
            trunk: &group.trunk[..reach],
            prompt_tokens: unpredicted,
            branches: rollouts
                .iter()
                .map(|rollout| TreeBranch {
                    fork: fork(rollout),
                    tokens: &rollout.tokens,
                })
                .collect(),
        }
    }
}

/// Runs of groups with at most `tokens` rows together. A group with more goes in parts, which all run its trunk;
/// only a single rollout with its trunk may have more.
pub(crate) fn micro_batches(groups: &[Group], tokens: usize) -> Vec<Vec<GroupPart<'_>>> {
    let mut batches = Vec::new();
    let (mut batch, mut rows) = (Vec::new(), 0);
    for part in groups
        .iter()
        .flat_map(|group| GroupPart::split(group, tokens))
    {
        let more = part.tree().rows();
        if !batch.is_empty() && rows + more > tokens {
            batches.push(std::mem::take(&mut batch));
            rows = 0;
        }
        rows += more;
        batch.push(part);
    }
    if !batch.is_empty() {
        batches.push(batch);
    }
    batches
}

/// The parts of a micro-batch as the decoder wants them.
pub(crate) fn trees<'a>(parts: &[GroupPart<'a>]) -> Vec<TreeGroup<'a>> {
    parts.iter().map(GroupPart::tree).collect()
}

/// Cuts the scores of a micro-batch into those of its parts.
pub(crate) fn by_part<'a, 'p>(
    parts: &'a [GroupPart<'p>],
    scores: &'a TokenScores,
) -> impl Iterator<Item = (&'a GroupPart<'p>, &'a [f32])> {
    let mut next = 0;
    parts.iter().map(move |part| {
        let first = next;
        next += part.tree().slots();
        (part, &scores.logprobs[first..next])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rollout(hint_tokens: usize, tokens: usize) -> Rollout {
        Rollout {
            round: 0,
            hint_tokens,
            hint_rate: 0.0,
            hint_use: HintUse::Imitation,
            tokens: vec![1; tokens],
            logprobs: Vec::new(),
            reward: Some(0.0),
            length_penalty: 0.0,
            correct: false,
            truncated: false,
            trace: false,
        }
    }

    fn group(rollouts: Vec<Rollout>) -> Group {
        Group {
            prompt_tokens: 3,
            trunk: vec![2; 8],
            rollouts,
            old_solution: Vec::new(),
            reference: Vec::new(),
        }
    }

    #[test]
    fn a_group_is_cut_evenly() {
        // Seven rows of each rollout and the eight of the trunk: of 30 rows, three rollouts take 29.
        let group = group((0..8).map(|_| rollout(5, 8)).collect());
        let parts = |tokens| {
            let parts = GroupPart::split(&group, tokens);
            parts
                .iter()
                .map(|part| part.rollouts.len())
                .collect::<Vec<_>>()
        };
        assert_eq!(parts(1000), [8]);
        assert_eq!(parts(50), [4, 4]);
        assert_eq!(parts(30), [3, 3, 2]);
        assert_eq!(parts(0), [1; 8]);
    }

    #[test]
    fn micro_batches_hold_every_slot_once_and_keep_to_their_tokens() {
        let groups = [
            group(vec![
                rollout(0, 6),
                rollout(5, 9),
                rollout(2, 1),
                rollout(1, 12),
            ]),
            group(Vec::new()),
            group(vec![rollout(4, 30)]),
            group(vec![rollout(0, 2), rollout(1, 2)]),
        ];
        for tokens in [1, 10, 16, 20, 40, 1000] {
            let batches = micro_batches(&groups, tokens);
            let mut slots = Vec::new();
            for batch in &batches {
                let rows: usize = trees(batch).iter().map(TreeGroup::rows).sum();
                let is_least = batch.len() == 1 && batch[0].rollouts.len() <= 1;
                assert!(rows <= tokens || is_least, "{rows} rows of {tokens}");
                for part in batch {
                    let first = part.first_slot();
                    slots.push((std::ptr::from_ref(part.group()), first, part.tree().slots()));
                    assert!(
                        part.tree()
                            .branches
                            .iter()
                            .all(|b| b.fork <= part.tree().trunk.len())
                    );
                }
            }
            // Part behind part, group behind group.
            let mut expected = groups.iter();
            let (mut at, mut own) = (0, &groups[0]);
            for (group, first, count) in slots {
                if first == 0 {
                    own = expected.next().unwrap();
                    at = 0;
                }
                assert!(std::ptr::eq(group, own) && first == at);
                at += count;
                if at == own.tree().slots() {
                    at = 0;
                }
            }
            assert!(expected.next().is_none());
        }
        assert_eq!(micro_batches(&groups, 1000).len(), 1);
        assert_eq!(micro_batches(&groups, 1).len(), 4 + 1 + 1 + 2);
    }
}
