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
        let branch = |rollout: &'_ Rollout| self.prompt_tokens + rollout.hint_tokens;
        TreeGroup {
            trunk: &self.trunk,
            prompt_tokens: self.prompt_tokens,
            branches: self
                .rollouts
                .iter()
                .map(|rollout| TreeBranch {
                    fork: branch(rollout),
                    tokens: &rollout.tokens,
                })
                .collect(),
        }
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

/// Runs of groups with at most `tokens` rows together; a group is never split, and one that is larger
/// goes alone.
pub(crate) fn micro_batches(groups: &[Group], tokens: usize) -> Vec<&[Group]> {
    let mut batches = Vec::new();
    let (mut first, mut rows) = (0, 0);
    for (index, group) in groups.iter().enumerate() {
        let more = group.tree().rows();
        if index > first && rows + more > tokens {
            batches.push(&groups[first..index]);
            (first, rows) = (index, 0);
        }
        rows += more;
    }
    if first < groups.len() {
        batches.push(&groups[first..]);
    }
    batches
}

/// Cuts the scores of a micro-batch into those of its groups.
pub(crate) fn by_group<'a>(
    groups: &'a [Group],
    scores: &'a TokenScores,
) -> impl Iterator<Item = (&'a Group, &'a [f32])> {
    let mut next = 0;
    groups.iter().map(move |group| {
        let first = next;
        next += group.tree().slots();
        (group, &scores.logprobs[first..next])
    })
}
