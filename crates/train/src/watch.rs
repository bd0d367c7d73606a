//! Signs that a run goes wrong, each with what it means and what to try.

use crate::metrics::StepMetrics;
use crate::recipe::Compute;
use seele_policy::device::Shortages;
use std::fmt;

/// Steps that a condition must last before it is worth a word; one odd step says nothing.
const PATIENCE: usize = 3;
/// Steps that it must have been gone for before it is worth another: what comes and goes is one condition.
const REST: usize = 20;
/// Sampler and trainer compute the same policy to well within this, nats.
const LOGPROB_GAP: f64 = 1e-3;
/// With factors rounded to bfloat16, sums in another order can round to a neighbour, 1 in 256 away.
const LOGPROB_GAP_BF16: f64 = 0.1;
/// Groups without variance from which a step teaches next to nothing.
const FEW_GROUPS_TEACH: f64 = 0.9;
/// Entropy has collapsed below this share of its first value and this many nats.
const COLLAPSED_ENTROPY: (f64, f64) = (0.1, 0.1);

/// Something a person should look at.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Warning {
    /// Updates were left out because a loss or gradient was not finite.
    SkippedUpdates {
        /// In this step.
        skipped: usize,
        /// Optimizer steps of the step.
        updates: usize,
    },
    /// Sampling and training disagree about log-probabilities.
    LogprobGap {
        /// Largest difference, nats.
        gap: f64,
    },
    /// The policy has become nearly deterministic.
    EntropyCollapse {
        /// Now, nats a token.
        entropy: f64,
        /// In the first step, nats a token.
        first: f64,
    },
    /// Nearly all groups have rewards that are all equal.
    NoVariance {
        /// Share of such groups.
        share: f64,
    },
    /// Dynamic sampling has thrown away more problems than it could replace.
    UnfilledBatch {
        /// Problems that the step trained on.
        problems: usize,
        /// Problems of a full step.
        wanted: usize,
    },
    /// The device had less room than the recipe allows to be used.
    ShortOfMemory(Shortages),
    /// Every rollout fails.
    AlwaysWrong,
    /// Every rollout succeeds.
    AlwaysRight,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::SkippedUpdates { skipped, updates } => write!(
                f,
                "{skipped} of {updates} updates skipped: a loss or gradient was not finite. The policy is as before them; if it goes on, lower `learning_rate.peak` or raise `kl.coef`"
            ),
            Self::LogprobGap { gap } => write!(
                f,
                "log-probs of sampling and training differ by up to {gap:.1e} nats: the ratio of the first update is not 1. Report this with the model's name; until then do not trust `policy/clip_fraction`"
            ),
            Self::EntropyCollapse { entropy, first } => write!(
                f,
                "entropy fell from {first:.2} to {entropy:.3} nats: rollouts of a problem are nearly the same text, so there is little left to learn from. Try a higher `entropy.coef` or `policy_loss.clip_high`, or a lower learning rate"
            ),
            Self::NoVariance { share } => write!(
                f,
                "in {:.0} % of the groups all rewards are equal: they carry no policy gradient. Choose problems nearer to the model's ability, more rollouts a problem, or hints (`method = \"seele\"`)",
                100.0 * share
            ),
            Self::UnfilledBatch { problems, wanted } => write!(
                f,
                "dynamic sampling found {problems} of {wanted} problems whose rollouts differ: the step is smaller by as much, and so is its weight beside others. Raise `dynamic_sampling.max_rollout_batches`, or choose problems nearer to the model's ability"
            ),
            Self::ShortOfMemory(shortages) => {
                write!(f, "{shortages}.")?;
                if shortages.microbatches + shortages.parts > 0 {
                    f.write_str(" Lower `update.tokens_per_microbatch`, or set `model.recompute = \"block\"`.")?;
                }
                if shortages.pages > 0 {
                    f.write_str(" Lower `rollout.cache_memory`, or set it to \"auto\".")?;
                }
                Ok(())
            }
            Self::AlwaysWrong => f.write_str(
                "no rollout has been right for some steps. Look at some with `seele generate`: is the answer where `reward.extraction` looks, does `rollout.max_new_tokens` leave room for it, does the template suit the model?",
            ),
            Self::AlwaysRight => f.write_str(
                "every rollout has been right for some steps: there is nothing left to learn. Choose harder problems",
            ),
        }
    }
}

/// Looks at every step; says a thing once, and again only after it had gone away for a while.
#[derive(Debug)]
pub struct Watch {
    largest_gap: f64,
    first_entropy: Option<f64>,
    unfilled: Sign,
    gap: Sign,
    entropy: Sign,
    variance: Sign,
    wrong: Sign,
    right: Sign,
}

/// How long a condition has lasted, or been gone.
#[derive(Debug, Default)]
struct Sign {
    steps: usize,
    /// Steps without it since it was said; `None` before that.
    gone: Option<usize>,
}

impl Sign {
    /// Whether the condition has just lasted for `patience` steps and is news.
    fn fires(&mut self, holds: bool, patience: usize) -> bool {
        if !holds {
            self.steps = 0;
            self.gone = self.gone.map(|gone| gone + 1);
            return false;
        }
        self.steps += 1;
        let is_news = self.gone.is_none_or(|gone| gone >= REST);
        if self.steps < patience {
            return false;
        }
        self.gone = Some(0);
        self.steps == patience && is_news
    }
}

impl Watch {
    /// Before the first step of a run that computes in a number type.
    pub fn new(compute: Compute) -> Self {
        Self {
            largest_gap: match compute {
                Compute::F32 => LOGPROB_GAP,
                Compute::Bf16 => LOGPROB_GAP_BF16,
            },
            first_entropy: None,
            unfilled: Sign::default(),
            gap: Sign::default(),
            entropy: Sign::default(),
            variance: Sign::default(),
            wrong: Sign::default(),
            right: Sign::default(),
        }
    }

    /// What is to be said after a step.
    pub fn look(&mut self, metrics: &StepMetrics) -> Vec<Warning> {
        let policy = &metrics.policy;
        let mut warnings = Vec::new();
        if policy.skipped_updates > 0 {
            warnings.push(Warning::SkippedUpdates {
                skipped: policy.skipped_updates,
                updates: policy.updates,
            });
        }
        let unfilled = metrics.unfilled.filter(|_| metrics.rollouts > 0);
        if self.unfilled.fires(unfilled.is_some(), 1)
            && let Some((problems, wanted)) = unfilled
        {
            warnings.push(Warning::UnfilledBatch { problems, wanted });
        }
        let gap = policy.logprob_gap_max;
        if self.gap.fires(gap > self.largest_gap, 1) {
            warnings.push(Warning::LogprobGap { gap });
        }
        let entropy = policy.entropy;
        if entropy.is_finite() {
            let first = *self.first_entropy.get_or_insert(entropy);
            let (share, nats) = COLLAPSED_ENTROPY;
            let collapsed = entropy < share * first && entropy < nats;
            if self.entropy.fires(collapsed, PATIENCE) {
                warnings.push(Warning::EntropyCollapse { entropy, first });
            }
        }
        let every_round = |value: f64| {
            let mut rounds = metrics.rounds.iter();
            !metrics.rounds.is_empty() && rounds.all(|round| round.accuracy == value)
        };
        let (wrong, right) = (every_round(0.0), every_round(1.0));
        if self.wrong.fires(wrong, PATIENCE) {
            warnings.push(Warning::AlwaysWrong);
        }
        if self.right.fires(right, PATIENCE) {
            warnings.push(Warning::AlwaysRight);
        }
        let share = metrics.group_zero_variance;
        // Rewards that are all 0 or all 1 have a warning of their own.
        let uniform = share >= FEW_GROUPS_TEACH && !wrong && !right;
        if self.variance.fires(uniform, PATIENCE) {
            warnings.push(Warning::NoVariance { share });
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{PolicyMetrics, RoundMetrics};

    fn step(accuracy: f64, entropy: f64) -> StepMetrics {
        StepMetrics {
            rounds: vec![RoundMetrics {
                accuracy,
                hint_rate: 0.5,
                ..Default::default()
            }],
            policy: PolicyMetrics {
                entropy,
                updates: 4,
                ..PolicyMetrics::default()
            },
            ..StepMetrics::default()
        }
    }

    #[test]
    fn a_healthy_run_is_left_alone() {
        let mut watch = Watch::new(Compute::F32);
        assert!((0..10).all(|_| watch.look(&step(0.5, 1.0)).is_empty()));
    }

    #[test]
    fn what_lasts_is_said_once_and_again_after_it_had_gone_for_a_while() {
        let mut watch = Watch::new(Compute::F32);
        let mut said = |accuracy| watch.look(&step(accuracy, 1.0));
        assert!(said(0.0).is_empty() && said(0.0).is_empty());
        assert_eq!(said(0.0), [Warning::AlwaysWrong]);
        assert!(said(0.0).is_empty());
        // What comes and goes is not said each time.
        for _ in 0..50 {
            assert!(said(0.5).is_empty());
            assert!((0..4).all(|_| said(0.0).is_empty()));
        }
        assert!((0..REST).all(|_| said(0.5).is_empty()));
        assert!(said(0.0).is_empty() && said(0.0).is_empty());
        assert_eq!(said(0.0), [Warning::AlwaysWrong]);
    }

    #[test]
    fn skipped_updates_are_said_every_time() {
        let mut watch = Watch::new(Compute::F32);
        let mut metrics = step(0.5, f64::NAN);
        metrics.policy.skipped_updates = 2;
        for _ in 0..2 {
            let expected = Warning::SkippedUpdates {
                skipped: 2,
                updates: 4,
            };
            assert_eq!(watch.look(&metrics), [expected]);
        }
    }

    #[test]
    fn a_batch_that_was_not_filled_is_said_at_once_and_not_at_every_step() {
        let mut watch = Watch::new(Compute::F32);
        let mut metrics = step(0.5, 1.0);
        (metrics.rollouts, metrics.unfilled) = (24, Some((3, 4)));
        let expected = Warning::UnfilledBatch {
            problems: 3,
            wanted: 4,
        };
        assert_eq!(watch.look(&metrics), [expected]);
        assert!(watch.look(&metrics).is_empty());
        assert!(expected.to_string().contains("3 of 4 problems"));
    }

    #[test]
    fn a_collapse_is_measured_against_the_first_step() {
        let mut watch = Watch::new(Compute::F32);
        watch.look(&step(0.5, 2.0));
        let said: Vec<Warning> = (0..5).flat_map(|_| watch.look(&step(0.5, 0.05))).collect();
        let expected = Warning::EntropyCollapse {
            entropy: 0.05,
            first: 2.0,
        };
        assert_eq!(said, [expected]);
        let mut calm = Watch::new(Compute::F32);
        assert!((0..5).all(|_| calm.look(&step(0.5, 0.05)).is_empty()));
    }

    #[test]
    fn gap_and_variance_have_their_bounds() {
        let mut watch = Watch::new(Compute::F32);
        let mut metrics = step(0.5, 1.0);
        metrics.policy.logprob_gap_max = 0.01;
        metrics.group_zero_variance = 0.95;
        assert_eq!(watch.look(&metrics), [Warning::LogprobGap { gap: 0.01 }]);
        watch.look(&metrics);
        assert_eq!(watch.look(&metrics), [Warning::NoVariance { share: 0.95 }]);
        let mut rounded = Watch::new(Compute::Bf16);
        assert!(rounded.look(&metrics).is_empty());
    }
}
