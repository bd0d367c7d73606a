//! What an update batch consists of: trunks and their branches.

use super::ObjectiveError;
use super::config::{KlTokens, ObjectiveConfig, PolicyLossKind, PrefixOld};

/// Prompt and reference solution of one problem with the sequences that fork from them.
///
/// Only solution tokens are listed: prompt tokens carry no loss. A hint is the first `hint_tokens` of the
/// solution, shared by every branch whose fork lies beyond. Per-token lists hold natural-log probabilities of
/// the token at that position.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Trunk {
    /// Problem identity. Trunks with the same identity form one advantage group.
    pub group: u64,
    /// Solution tokens on the trunk, EOS included where it is trained; 0 without a solution.
    pub solution_tokens: usize,
    /// Log-probs of solution tokens under the policy that sampled; at least as many as the longest hint, and
    /// only with `policy_loss.on_hint` and `prefix_old = "sampling"` (or a KL reward on all tokens).
    pub old_logprobs: Vec<f64>,
    /// The same under the reference policy; only with a KL on all tokens.
    pub ref_logprobs: Vec<f64>,
    /// Sequences.
    pub branches: Vec<Branch>,
}

/// What the hint tokens in front of a sequence are for. The configuration says what is switched on
/// (`imitation`, `policy_loss.on_hint`); the role says which of it concerns this sequence.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HintRole {
    /// Whatever the configuration switches on for hints.
    #[default]
    Configured,
    /// Part of the prompt: nothing is trained.
    Context,
    /// Targets of the imitation term, where it covers hints.
    Imitated,
    /// Under the policy loss, where it covers hints (Prefix-RFT).
    Policy,
    /// An off-policy trace that the policy continues (LUFFY with partial traces): under the policy loss with
    /// `-A f(pi)`, like the tokens of a whole trace.
    OffPolicy,
}

impl HintRole {
    pub(super) fn is_imitated(self) -> bool {
        matches!(self, Self::Configured | Self::Imitated)
    }

    pub(super) fn is_policy(self) -> bool {
        matches!(self, Self::Configured | Self::Policy)
    }
}

/// One sequence: a rollout, or an off-policy trace.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Branch {
    /// Sampling round inside the problem, from 0.
    pub round: u32,
    /// Hint tokens in front of it: its fork, counted from the end of the prompt.
    pub hint_tokens: usize,
    /// What these tokens are for.
    pub hint_role: HintRole,
    /// Shaped reward, finite; a KL placed in the reward is subtracted here, not by the caller.
    pub reward: f64,
    /// Whether the tokens are a reference solution instead of samples.
    pub trace: bool,
    /// Whether the rollout hit the length limit.
    pub truncated: bool,
    /// Generated (or trace) tokens, EOS included.
    pub tokens: usize,
    /// `[tokens]`: log-probs under the policy that sampled; not used on a trace.
    pub old_logprobs: Vec<f64>,
    /// `[tokens]`: log-probs under the reference policy; only with a KL.
    pub ref_logprobs: Vec<f64>,
}

impl Branch {
    /// Whether some of its tokens were not sampled: a whole trace, or one that the policy continues.
    pub fn is_off_policy(&self) -> bool {
        self.trace || (self.hint_role == HintRole::OffPolicy && self.hint_tokens > 0)
    }
}

/// Which per-token lists an objective reads.
pub(super) struct Needs {
    old: bool,
    reference: bool,
    hint_old: bool,
    hint_reference: bool,
    trace_reference: bool,
}

impl Needs {
    fn of(config: &ObjectiveConfig) -> Self {
        let policy = &config.policy_loss;
        let kl_on_all = config.needs_reference() && config.kl.tokens == KlTokens::All;
        Self {
            old: config.needs_old_logprobs(),
            reference: config.needs_reference(),
            hint_old: (policy.kind != PolicyLossKind::None
                && policy.on_hint
                && policy.prefix_old == PrefixOld::Sampling)
                || (config.has_kl_reward() && kl_on_all),
            hint_reference: kl_on_all,
            trace_reference: kl_on_all && config.has_kl_loss(),
        }
    }
}

/// Checks that lists have the length that the objective needs and that numbers are finite.
pub(super) fn check(config: &ObjectiveConfig, trunks: &[Trunk]) -> Result<(), ObjectiveError> {
    let needs = Needs::of(config);
    for (trunk_index, trunk) in trunks.iter().enumerate() {
        check_solution(&needs, trunk_index, trunk)?;
        for (branch_index, branch) in trunk.branches.iter().enumerate() {
            if branch.is_off_policy()
                && config.has_sequence_ratio()
                && config.advantage.counts(true)
            {
                return Err(ObjectiveError::TraceWithSequenceRatio {
                    trunk: trunk_index,
                    branch: branch_index,
                });
            }
            check_branch(&needs, trunk_index, branch_index, branch)?;
        }
    }
    Ok(())
}

fn check_solution(needs: &Needs, index: usize, trunk: &Trunk) -> Result<(), ObjectiveError> {
    let mut longest = 0;
    for (branch_index, branch) in trunk.branches.iter().enumerate() {
        if branch.hint_tokens > trunk.solution_tokens {
            return Err(ObjectiveError::HintTooLong {
                trunk: index,
                branch: branch_index,
                hint_tokens: branch.hint_tokens,
                solution_tokens: trunk.solution_tokens,
            });
        }
        longest = longest.max(branch.hint_tokens);
    }
    for (needed, list, what) in [
        (
            needs.hint_old,
            &trunk.old_logprobs,
            "old log-probs of hint tokens",
        ),
        (
            needs.hint_reference,
            &trunk.ref_logprobs,
            "reference log-probs of hint tokens",
        ),
    ] {
        if needed && list.len() < longest {
            return Err(ObjectiveError::Length {
                trunk: index,
                branch: None,
                what,
                expected: longest,
                found: list.len(),
            });
        }
        check_finite(index, None, what, list)?;
    }
    Ok(())
}

fn check_branch(
    needs: &Needs,
    trunk: usize,
    index: usize,
    branch: &Branch,
) -> Result<(), ObjectiveError> {
    check_finite(trunk, Some(index), "reward", &[branch.reward])?;
    let reference = needs.reference && (!branch.trace || needs.trace_reference);
    for (needed, list, what) in [
        (
            needs.old && !branch.trace,
            &branch.old_logprobs,
            "old log-probs",
        ),
        (reference, &branch.ref_logprobs, "reference log-probs"),
    ] {
        if needed && list.len() != branch.tokens {
            return Err(ObjectiveError::Length {
                trunk,
                branch: Some(index),
                what,
                expected: branch.tokens,
                found: list.len(),
            });
        }
        if needed {
            check_finite(trunk, Some(index), what, list)?;
        }
    }
    Ok(())
}

fn check_finite(
    trunk: usize,
    branch: Option<usize>,
    what: &'static str,
    values: &[f64],
) -> Result<(), ObjectiveError> {
    match values.iter().find(|value| !value.is_finite()) {
        Some(&value) => Err(ObjectiveError::NotFinite {
            trunk,
            branch,
            what,
            value,
        }),
        None => Ok(()),
    }
}
