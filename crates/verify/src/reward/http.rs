//! A reward computed by a service: one POST a rollout.
use std::time::Duration;

use ureq::Agent;

use super::config::HttpConfig;
use super::failures::{FailureCounters, count};
use super::wire::{RewardReply, WireRequest};
use super::{Reward, RewardFailures, RewardRequest, RewardUnavailable, Score};

/// The largest reply body that is read.
const MAX_REPLY_BYTES: u64 = 1 << 20;

/// Posts [`WireRequest`] as JSON and reads [`RewardReply`] from the body. Connections are kept open.
pub(super) struct HttpReward {
    url: String,
    agent: Agent,
    counters: FailureCounters,
}

impl HttpReward {
    pub(super) fn new(config: HttpConfig) -> Self {
        let agent = Agent::config_builder()
            .timeout_global(Some(Duration::from_secs_f64(config.timeout_secs)))
            .max_idle_connections_per_host(config.connections)
            .http_status_as_error(false)
            .build()
            .into();
        Self {
            url: config.url,
            agent,
            counters: FailureCounters::default(),
        }
    }

    /// The body of the service's answer.
    fn post(&self, request: &RewardRequest<'_>) -> Result<String, String> {
        let body = serde_json::to_string(&WireRequest::from(request))
            .map_err(|error| error.to_string())?;
        let answer = self
            .agent
            .post(&self.url)
            .content_type("application/json")
            .send(body);
        let mut answer = answer.map_err(|error| self.transport_problem(&error))?;
        let status = answer.status();
        if !status.is_success() {
            count(&self.counters.http_bad_statuses);
            return Err(format!("status {status}"));
        }
        let text = answer
            .body_mut()
            .with_config()
            .limit(MAX_REPLY_BYTES)
            .read_to_string();
        text.map_err(|error| self.transport_problem(&error))
    }

    fn transport_problem(&self, error: &ureq::Error) -> String {
        count(match error {
            ureq::Error::Timeout(_) => &self.counters.http_timeouts,
            _ => &self.counters.http_transport_errors,
        });
        error.to_string()
    }

    /// The service's score, or why there is none.
    fn ask(&self, request: &RewardRequest<'_>) -> Result<Score, String> {
        let reply = self.post(request).and_then(|text| {
            RewardReply::read(&text, request.id, &self.counters).map_err(|problem| {
                count(&self.counters.http_bad_replies);
                format!("not a reply: {problem}")
            })
        });
        reply.map_err(|problem| format!("`{}`: {problem}", self.url))
    }
}

impl Reward for HttpReward {
    fn score(&self, request: &RewardRequest<'_>) -> Score {
        self.ask(request).unwrap_or_else(Score::left_out)
    }

    fn check_available(&self, request: &RewardRequest<'_>) -> Result<(), RewardUnavailable> {
        self.ask(request).map(drop).map_err(RewardUnavailable)
    }

    fn failures(&self) -> RewardFailures {
        self.counters.snapshot()
    }
}
