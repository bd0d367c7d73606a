//! The JSON that user rewards speak, over pipes and over HTTP alike.
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::failures::{FailureCounters, count};
use super::{RewardRequest, Score};
use crate::verdict::Verdict;

/// What a user's reward receives: one JSON object, on one line through a pipe.
#[derive(Debug, Serialize)]
pub struct WireRequest<'a> {
    /// Comes back in the reply.
    pub id: &'a str,
    /// The problem statement.
    pub problem: &'a str,
    /// Hint and completion.
    pub response: &'a str,
    /// What the policy wrote.
    pub completion: &'a str,
    /// The reference answer.
    pub ground_truth: &'a str,
    /// Length of the completion, tokens.
    pub response_tokens: usize,
    /// The generation limit, tokens.
    pub max_response_tokens: usize,
    /// The completion was cut at the limit.
    pub truncated: bool,
    /// All other columns of the problem's row.
    pub extra: &'a serde_json::Map<String, Value>,
}

impl<'a> From<&RewardRequest<'a>> for WireRequest<'a> {
    fn from(request: &RewardRequest<'a>) -> Self {
        Self {
            id: request.id,
            problem: request.problem,
            response: request.response,
            completion: request.completion,
            ground_truth: request.ground_truth,
            response_tokens: request.response_tokens,
            max_response_tokens: request.max_response_tokens,
            truncated: request.truncated,
            extra: request.extra,
        }
    }
}

/// What a user's reward answers. Other fields are ignored.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct RewardReply {
    /// The id of the request.
    pub id: String,
    /// A number, or `null` to leave the rollout out of its group. The key must be there.
    pub score: Value,
    /// Whether the answer is right. Without it a positive score counts as right.
    #[serde(default)]
    pub correct: Option<bool>,
    /// Why, for logs.
    #[serde(default)]
    pub detail: Option<Value>,
}

impl RewardReply {
    /// Parses a reply to the request `id` and turns it into a score.
    ///
    /// # Errors
    /// What is wrong with the reply, for people.
    pub(super) fn read(text: &str, id: &str, counters: &FailureCounters) -> Result<Score, String> {
        let reply: Self = serde_json::from_str(text)
            .map_err(|error| format!("{error} in `{}`", shorten(text)))?;
        if reply.id != id {
            return Err(format!(
                "the reply is for `{}`, the request was `{id}`",
                shorten(&reply.id)
            ));
        }
        let detail = reply.detail.map(|detail| match detail {
            Value::String(text) => text,
            other => other.to_string(),
        });
        let value = match &reply.score {
            Value::Null => {
                count(&counters.null_scores);
                return Ok(Score {
                    value: None,
                    verdict: None,
                    detail,
                });
            }
            score => score
                .as_f64()
                .ok_or_else(|| format!("`score` must be a number or null, not `{score}`"))?,
        };
        let correct = reply.correct.unwrap_or(value > 0.0);
        let verdict = if correct {
            Verdict::Correct
        } else {
            Verdict::Wrong
        };
        Ok(Score {
            value: Some(value),
            verdict: Some(verdict),
            detail,
        })
    }
}

/// The beginning of a text, for messages.
pub(super) fn shorten(text: &str) -> &str {
    text.char_indices()
        .nth(100)
        .map_or(text, |(cut, _)| &text[..cut])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_read_strictly() {
        let counters = FailureCounters::default();
        let read = |text: &str| RewardReply::read(text, "a", &counters);
        assert_eq!(
            read(r#"{"id":"a","score":0.5,"detail":"half"}"#).map(|s| (s.value, s.detail)),
            Ok((Some(0.5), Some("half".into())))
        );
        assert_eq!(
            read(r#"{"id":"a","score":1,"correct":false}"#).map(|s| s.verdict),
            Ok(Some(Verdict::Wrong))
        );
        assert_eq!(
            read(r#"{"id":"a","score":null}"#).map(|s| s.value),
            Ok(None)
        );
        assert_eq!(counters.snapshot().null_scores, 1);
        for bad in [
            r#"{"id":"b","score":1}"#,
            r#"{"id":"a"}"#,
            r#"{"id":"a","score":"1"}"#,
            "noise",
            "",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
