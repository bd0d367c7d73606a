//! One question to a server, and what its answer means.

use crate::error::AnnotateError;
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;
use ureq::Agent;

/// The largest answer that is read, bytes.
const MAX_REPLY_BYTES: u64 = 16 << 20;
/// Longest wait that a server may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// Whom to ask.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// Where the interface begins, for example `http://127.0.0.1:8000/v1`.
    pub endpoint: String,
    /// Name of the model there.
    pub model: String,
    /// Sent as a bearer token.
    pub api_key: Option<String>,
    /// Temperature of the answers; tries of one problem differ only above 0.
    pub temperature: f64,
    /// Longest time for one answer.
    pub timeout: Duration,
    /// Questions under way at a time, at least 1.
    pub concurrency: usize,
    /// Wait after the first failure of a question; it doubles with each further one.
    pub first_wait: Duration,
    /// Failures of one question in a row until it is left for another run, at least 1.
    pub patience: u32,
}

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Reply {
    pub(crate) text: String,
    pub(crate) finish_reason: Option<String>,
    pub(crate) prompt_tokens: Option<usize>,
    pub(crate) completion_tokens: Option<usize>,
}

/// No answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// May go better next time: no connection, a time-out, 429, 5xx, an answer that was cut or is none.
    Passing {
        reason: String,
        retry_after: Option<Duration>,
    },
    /// This question will never be answered.
    Refused { status: u16, message: String },
    /// No question will.
    Hopeless { status: u16, message: String },
}

#[derive(Deserialize)]
struct Completion {
    choices: Vec<Choice>,
    #[serde(default)]
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Choice {
    message: Message,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    content: Option<String>,
}

#[derive(Deserialize)]
struct Usage {
    #[serde(default)]
    prompt_tokens: Option<usize>,
    #[serde(default)]
    completion_tokens: Option<usize>,
}

/// Connections to a server.
pub(crate) struct Client<'a> {
    server: &'a Server,
    url: String,
    agent: Agent,
    max_tokens: usize,
}

impl<'a> Client<'a> {
    pub(crate) fn new(server: &'a Server, max_tokens: usize) -> Result<Self, AnnotateError> {
        let setting = |setting, expected| Err(AnnotateError::Setting { setting, expected });
        let scheme = ["http://", "https://"];
        if !scheme
            .iter()
            .any(|scheme| server.endpoint.starts_with(scheme))
        {
            return setting("endpoint", "a URL such as `http://127.0.0.1:8000/v1`");
        }
        if cfg!(not(feature = "tls")) && server.endpoint.starts_with("https://") {
            return Err(AnnotateError::NoTls);
        }
        if server.concurrency == 0 {
            return setting("concurrency", "at least 1");
        }
        if server.patience == 0 {
            return setting("patience", "at least 1");
        }
        if !(0.0..=2.0).contains(&server.temperature) {
            return setting("temperature", "0 to 2");
        }
        let agent = Agent::config_builder()
            .timeout_global(Some(server.timeout))
            .max_idle_connections_per_host(server.concurrency)
            .max_idle_connections(server.concurrency)
            .http_status_as_error(false)
            .build()
            .into();
        let base = server.endpoint.trim_end_matches('/');
        let url = match base.ends_with("/chat/completions") {
            true => base.to_owned(),
            false => format!("{base}/chat/completions"),
        };
        Ok(Self {
            server,
            url,
            agent,
            max_tokens,
        })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Asks once.
    pub(crate) fn ask(&self, message: &str) -> Result<Reply, Failure> {
        let passing = |reason: String| Failure::Passing {
            reason,
            retry_after: None,
        };
        let body = json!({
            "model": self.server.model,
            "messages": [{ "role": "user", "content": message }],
            "temperature": self.server.temperature,
            "max_tokens": self.max_tokens,
        });
        let mut request = self.agent.post(&self.url).content_type("application/json");
        if let Some(key) = &self.server.api_key {
            request = request.header("Authorization", format!("Bearer {key}"));
        }
        let answer = request.send(body.to_string());
        let mut answer = answer.map_err(|error| passing(error.to_string()))?;
        let status = answer.status().as_u16();
        let retry_after = answer
            .headers()
            .get("retry-after")
            .and_then(|value| value.to_str().ok()?.trim().parse::<f64>().ok())
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            .map(|wait| wait.min(LONGEST_WAIT));
        let text = answer
            .body_mut()
            .with_config()
            .limit(MAX_REPLY_BYTES)
            .read_to_string();
        match status {
            200..=299 => {
                let text = text.map_err(|error| passing(error.to_string()))?;
                read(&text).map_err(|reason| passing(format!("no completion: {reason}")))
            }
            408 | 409 | 425 | 429 | 500..=599 => Err(Failure::Passing {
                reason: format!("status {status}"),
                retry_after,
            }),
            401 | 403 | 404 | 405 => Err(Failure::Hopeless {
                status,
                message: said(&text.unwrap_or_default()),
            }),
            _ => Err(Failure::Refused {
                status,
                message: said(&text.unwrap_or_default()),
            }),
        }
    }
}

fn read(text: &str) -> Result<Reply, String> {
    let completion: Completion = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let usage = completion.usage;
    let choice = completion.choices.into_iter().next();
    let choice = choice.ok_or("it has no choice")?;
    Ok(Reply {
        text: choice.message.content.ok_or("its message has no content")?,
        finish_reason: choice.finish_reason,
        prompt_tokens: usage.as_ref().and_then(|usage| usage.prompt_tokens),
        completion_tokens: usage.as_ref().and_then(|usage| usage.completion_tokens),
    })
}

/// What an error body says.
fn said(text: &str) -> String {
    let value: Option<Value> = serde_json::from_str(text).ok();
    let message = value.as_ref().and_then(|value| {
        let error = value.get("error").unwrap_or(value);
        error.get("message").unwrap_or(error).as_str()
    });
    message.unwrap_or(text).trim().chars().take(500).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_whether_or_not_they_count_tokens() {
        let text = r#"{"choices": [{"message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 3, "completion_tokens": 1}}"#;
        let reply = read(text).unwrap();
        assert_eq!(
            (reply.text.as_str(), reply.completion_tokens),
            ("x", Some(1))
        );
        let bare = read(r#"{"choices": [{"message": {"content": "x"}}]}"#).unwrap();
        assert_eq!((bare.finish_reason, bare.completion_tokens), (None, None));
        for bad in [
            &text[..40],
            "",
            "{}",
            r#"{"choices": []}"#,
            r#"{"choices": [{"message": {"content": null}}]}"#,
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn error_bodies_are_quoted_in_whatever_form_they_come() {
        assert_eq!(said(r#"{"error": {"message": "no key"}}"#), "no key");
        assert_eq!(said(r#"{"message": "no key"}"#), "no key");
        assert_eq!(said(r#"{"error": "no key"}"#), "no key");
        assert_eq!(said(" <html> "), "<html>");
    }
}
