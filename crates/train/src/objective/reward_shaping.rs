//! What happens to rewards and groups before advantages.

use super::batch::{Branch, Trunk};
use super::config::{KlTokens, ObjectiveConfig, OverlongConfig};

/// Soft over-long penalty (DAPO), to be added to a reward:
/// `min(0, -(length - (longest - buffer)) / buffer * factor)`.
///
/// * `length`: generated tokens of the rollout
/// * `longest`: longest response of the run, in tokens
/// * `buffer`: tokens in front of `longest` where the penalty grows, above 0
/// * `factor`: penalty at `longest`, reward units
/// * returns a value in [-factor, 0] for lengths up to `longest`
pub fn overlong_penalty(length: usize, longest: usize, buffer: f64, factor: f64) -> f64 {
    let over = length as f64 - (longest as f64 - buffer);
    if over > 0.0 {
        -over / buffer * factor
    } else {
        0.0
    }
}

impl OverlongConfig {
    /// Penalty of a rollout of `length` generated tokens in a run whose longest response is `longest`; 0 when
    /// the buffer is off.
    pub fn penalty(&self, length: usize, longest: usize) -> f64 {
        self.buffer.value().map_or(0.0, |buffer| {
            overlong_penalty(length, longest, buffer, self.factor)
        })
    }
}

/// Whether dynamic sampling keeps a group (DAPO): its correctness values are not all equal.
///
/// * `accuracies`: `[rollouts]`, correctness of each, before any shaping of the reward
///
/// A group of one is dropped: it cannot disagree with itself.
pub fn dynamic_sampling_keep(accuracies: &[f64]) -> bool {
    accuracies.windows(2).any(|pair| pair[0] != pair[1])
}

/// `coef * sum over tokens of the estimator at log pi_old - log pi_ref`, 0 unless the KL is in the reward.
/// A trace was not sampled, so it has no such penalty.
pub(super) fn kl_penalty_of_sequence(
    config: &ObjectiveConfig,
    trunk: &Trunk,
    branch: &Branch,
) -> f64 {
    if !config.has_kl_reward() || branch.trace {
        return 0.0;
    }
    let sum = |old: &[f64], reference: &[f64]| -> f64 {
        old.iter()
            .zip(reference)
            .map(|(old, reference)| config.kl.estimate(old - reference).0)
            .sum()
    };
    let hint_tokens = match config.kl.tokens {
        KlTokens::Generated => 0,
        KlTokens::All => branch.hint_tokens,
    };
    let hint = sum(
        trunk.old_logprobs.get(..hint_tokens).unwrap_or_default(),
        trunk.ref_logprobs.get(..hint_tokens).unwrap_or_default(),
    );
    config.kl.coef * (hint + sum(&branch.old_logprobs, &branch.ref_logprobs))
}

#[cfg(test)]
mod tests {
    use super::super::config::{KlConfig, KlKind, KlPlacement};
    use super::*;

    #[test]
    fn penalty_grows_linearly_inside_the_buffer() {
        assert_eq!(overlong_penalty(80, 100, 20.0, 1.0), 0.0);
        assert_eq!(overlong_penalty(90, 100, 20.0, 0.5), -0.25);
        assert_eq!(overlong_penalty(100, 100, 20.0, 1.0), -1.0);
        assert_eq!(OverlongConfig::default().penalty(100, 100), 0.0);
    }

    #[test]
    fn only_disagreeing_groups_are_kept() {
        assert!(dynamic_sampling_keep(&[0.0, 0.0, 1.0]));
        assert!(!dynamic_sampling_keep(&[1.0, 1.0]));
        assert!(!dynamic_sampling_keep(&[1.0]));
        assert!(!dynamic_sampling_keep(&[]));
    }

    #[test]
    fn kl_in_the_reward_sums_over_the_sequence() {
        let branch = Branch {
            hint_tokens: 1,
            tokens: 2,
            old_logprobs: vec![-1.0, -2.0],
            ref_logprobs: vec![-1.5, -1.0],
            ..Default::default()
        };
        let trunk = Trunk {
            solution_tokens: 2,
            old_logprobs: vec![-1.0],
            ref_logprobs: vec![-3.0],
            ..Default::default()
        };
        let mut config = ObjectiveConfig {
            kl: KlConfig {
                coef: 0.1,
                kind: KlKind::K1,
                placement: KlPlacement::Reward,
                ..Default::default()
            },
            ..Default::default()
        };
        let penalty = |config: &ObjectiveConfig| kl_penalty_of_sequence(config, &trunk, &branch);
        assert!((penalty(&config) - 0.1 * (0.5 - 1.0)).abs() < 1e-15);
        config.kl.tokens = KlTokens::All;
        assert!((penalty(&config) - 0.1 * (2.0 + 0.5 - 1.0)).abs() < 1e-15);
        config.kl.placement = KlPlacement::Loss;
        assert_eq!(penalty(&config), 0.0);
    }
}
