//! Weighted sums of rewards.
use super::{Reward, RewardFailures, RewardRequest, RewardUnavailable, Score, UnusableGold};

/// The weighted sum of the terms' values; the verdict of the first term that gives one.
///
/// A term without a value leaves the whole rollout out: a sum with a hole is not a smaller sum.
pub(super) struct SumReward {
    pub(super) terms: Vec<(f64, Box<dyn Reward>)>,
}

impl Reward for SumReward {
    fn score(&self, request: &RewardRequest<'_>) -> Score {
        let mut total = Score {
            value: Some(0.0),
            verdict: None,
            detail: None,
        };
        let mut details = Vec::new();
        for (weight, term) in &self.terms {
            let score = term.score(request);
            total.value = total
                .value
                .zip(score.value)
                .map(|(sum, value)| sum + weight * value);
            total.verdict = total.verdict.or(score.verdict);
            details.extend(score.detail);
        }
        total.detail = Some(details.join("; "));
        total
    }

    fn check_gold(
        &self,
        ground_truth: &str,
        extra: &serde_json::Map<String, serde_json::Value>,
    ) -> Result<(), UnusableGold> {
        self.terms
            .iter()
            .try_for_each(|(_, term)| term.check_gold(ground_truth, extra))
    }

    fn check_available(&self, request: &RewardRequest<'_>) -> Result<(), RewardUnavailable> {
        self.terms
            .iter()
            .try_for_each(|(_, term)| term.check_available(request))
    }

    fn failures(&self) -> RewardFailures {
        let mut sum = RewardFailures::default();
        for (_, term) in &self.terms {
            sum += term.failures();
        }
        sum
    }
}
