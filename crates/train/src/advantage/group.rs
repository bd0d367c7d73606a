//! Estimators that compare a reward with its whole group.

use super::{AdvantageConfig, AdvantageKind, RewardTotals, Singleton};

/// Advantages of one non-empty group of rewards.
pub(super) fn group_advantages(
    config: &AdvantageConfig,
    rewards: &[f64],
    batch: RewardTotals,
) -> Vec<f64> {
    if let [reward] = rewards {
        return vec![match config.singleton {
            Singleton::Zero => 0.0,
            Singleton::Raw => *reward,
        }];
    }
    // Said outright: the rounding of the mean, divided by a deviation near 0, would not be 0.
    if rewards.iter().all(|reward| *reward == rewards[0]) {
        return vec![0.0; rewards.len()];
    }

    let size = rewards.len() as f64;
    let mean = rewards.iter().sum::<f64>() / size;
    let squares: f64 = rewards.iter().map(|r| (r - mean) * (r - mean)).sum();
    let scale = match config.kind {
        AdvantageKind::Grpo => 1.0 / ((squares / (size - 1.0)).sqrt() + config.eps),
        AdvantageKind::GrpoPopulationStd => 1.0 / ((squares / size).sqrt() + config.eps),
        AdvantageKind::Batch => 1.0 / (batch.standard_deviation() + config.eps),
        AdvantageKind::Rloo => size / (size - 1.0),
        // Hybrid is Dr.GRPO with the prefixed rollouts in the group; the others do not come here.
        AdvantageKind::DrGrpo
        | AdvantageKind::Hybrid
        | AdvantageKind::Split
        | AdvantageKind::SplitCentred
        | AdvantageKind::SplitV2 => 1.0,
        AdvantageKind::None => 0.0,
    };
    rewards.iter().map(|r| (r - mean) * scale).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP_KINDS: [AdvantageKind; 6] = [
        AdvantageKind::Grpo,
        AdvantageKind::GrpoPopulationStd,
        AdvantageKind::DrGrpo,
        AdvantageKind::Rloo,
        AdvantageKind::Batch,
        AdvantageKind::Hybrid,
    ];

    fn estimate(kind: AdvantageKind, singleton: Singleton, rewards: &[f64]) -> Vec<f64> {
        let config = AdvantageConfig {
            kind,
            singleton,
            eps: 0.0,
            ..Default::default()
        };
        let batch = RewardTotals {
            count: rewards.len() as f64,
            sum: rewards.iter().sum(),
            sum_of_squares: rewards.iter().map(|r| r * r).sum(),
        };
        group_advantages(&config, rewards, batch)
    }

    #[test]
    fn formulas_on_a_group_worked_by_hand() {
        // Mean 1, squared deviations 1 + 0 + 1.
        let rewards = [0.0, 1.0, 2.0];
        let population = (2.0f64 / 3.0).sqrt();
        for (kind, expected) in [
            (AdvantageKind::DrGrpo, 1.0),
            (AdvantageKind::Grpo, 1.0),
            (AdvantageKind::GrpoPopulationStd, 1.0 / population),
            (AdvantageKind::Rloo, 1.5),
        ] {
            let values = estimate(kind, Singleton::Zero, &rewards);
            assert!((values[2] - expected).abs() < 1e-15, "{kind:?}");
            assert_eq!(values[1], 0.0, "{kind:?}");
            assert_eq!(values[0], -values[2], "{kind:?}");
        }
    }

    #[test]
    fn leave_one_out_is_the_reward_minus_the_mean_of_the_others() {
        let values = estimate(AdvantageKind::Rloo, Singleton::Zero, &[3.0, 1.0, 0.5, 0.0]);
        assert!((values[0] - (3.0 - 0.5)).abs() < 1e-15);
        assert!((values[3] - (0.0 - 1.5)).abs() < 1e-15);
    }

    #[test]
    fn equal_rewards_give_exactly_zero_even_where_their_mean_rounds() {
        for kind in GROUP_KINDS {
            assert_eq!(
                estimate(kind, Singleton::Raw, &[0.1; 3]),
                [0.0; 3],
                "{kind:?}"
            );
        }
    }

    #[test]
    fn a_group_of_one_is_zero_or_its_reward() {
        for kind in GROUP_KINDS {
            assert_eq!(estimate(kind, Singleton::Zero, &[0.7]), [0.0]);
            assert_eq!(estimate(kind, Singleton::Raw, &[0.7]), [0.7]);
        }
    }
}
