//! Truncation, format and length on top of a reward.
use super::config::{OverlongConfig, TruncatedPolicy};
use super::format::FormatReward;
use super::length::overlong_penalty;
use super::{Reward, RewardFailures, RewardRequest, RewardUnavailable, Score, UnusableGold};
use crate::verdict::Verdict;

/// A reward with the shaping of its configuration. The verdict stays that of the inner reward.
pub(super) struct ShapedReward {
    pub(super) inner: Box<dyn Reward>,
    pub(super) wrong_value: f64,
    pub(super) truncated: TruncatedPolicy,
    /// Weight and check; absent with weight 0.
    pub(super) format: Option<(f64, FormatReward)>,
    pub(super) overlong: Option<OverlongConfig>,
}

impl Reward for ShapedReward {
    fn score(&self, request: &RewardRequest<'_>) -> Score {
        let mut score = match self.truncated {
            TruncatedPolicy::LeaveOut if request.truncated => return Score::left_out("truncated"),
            TruncatedPolicy::Wrong if request.truncated => Score {
                value: Some(self.wrong_value),
                verdict: Some(Verdict::Wrong),
                detail: Some("truncated".to_owned()),
            },
            _ => self.inner.score(request),
        };
        if let Some(value) = &mut score.value {
            if let Some((weight, format)) = &self.format {
                *value += weight * format.score(request).value.unwrap_or_default();
            }
            if let Some(overlong) = &self.overlong {
                *value += overlong_penalty(
                    request.response_tokens,
                    request.max_response_tokens,
                    overlong.buffer_tokens,
                    overlong.factor,
                );
            }
        }
        score
    }

    fn check_gold(
        &self,
        ground_truth: &str,
        extra: &serde_json::Map<String, serde_json::Value>,
    ) -> Result<(), UnusableGold> {
        self.inner.check_gold(ground_truth, extra)
    }

    fn check_available(&self, request: &RewardRequest<'_>) -> Result<(), RewardUnavailable> {
        self.inner.check_available(request)
    }

    fn failures(&self) -> RewardFailures {
        self.inner.failures()
    }
}
