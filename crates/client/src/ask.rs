//! One question to a server, and what its answer means.

use crate::error::ClientError;
use crate::https;
use crate::server::Server;
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;
use ureq::Agent;

/// The largest answer that is read, bytes.
const MAX_REPLY_BYTES: u64 = 16 << 20;
/// Longest wait that a server may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(600);
/// Stop texts that OpenAI's interface takes at most.
const MOST_STOPS: usize = 4;

/// What is put in front of the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prompt {
    /// A text to go on with: `/completions`.
    Text(String),
    /// Roles and contents, which the server puts through the model's chat template: `/chat/completions`.
    Chat(Vec<(String, String)>),
}

impl Prompt {
    /// A chat of one message.
    pub fn user(content: impl Into<String>) -> Self {
        Self::Chat(vec![("user".into(), content.into())])
    }
}

/// A question.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// What is put in front of the model.
    pub prompt: Prompt,
    /// Tokens of the answer at most.
    pub max_tokens: usize,
    /// Divisor of the logits, 0 to 2.
    pub temperature: f64,
    /// Smallest set of tokens with this probability is drawn from, `(0, 1]`.
    pub top_p: f64,
    /// Source of the draws, for servers that heed it.
    pub seed: Option<u64>,
    /// Texts before which an answer ends; the interface takes the first four.
    pub stop: Vec<String>,
}

impl Question {
    /// A question at temperature 1.
    pub fn new(prompt: Prompt, max_tokens: usize) -> Self {
        Self {
            prompt,
            max_tokens,
            temperature: 1.0,
            top_p: 1.0,
            seed: None,
            stop: Vec::new(),
        }
    }

    /// The request's body; what is as by default is left out, since not every server knows every field.
    fn body(&self, model: &str) -> Value {
        let mut body = json!({
            "model": model,
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
        });
        match &self.prompt {
            Prompt::Text(text) => body["prompt"] = text.as_str().into(),
            Prompt::Chat(messages) => {
                let messages = messages.iter();
                let messages =
                    messages.map(|(role, content)| json!({ "role": role, "content": content }));
                body["messages"] = messages.collect();
            }
        }
        if self.top_p < 1.0 {
            body["top_p"] = self.top_p.into();
        }
        if let Some(seed) = self.seed {
            body["seed"] = seed.into();
        }
        if !self.stop.is_empty() {
            body["stop"] = self.stop.iter().take(MOST_STOPS).cloned().collect();
        }
        body
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// What the model wrote.
    pub text: String,
    /// Why it ended: `stop`, `length`, or what the server calls it.
    pub finish_reason: Option<String>,
    /// Tokens of the question, by the server.
    pub prompt_tokens: Option<usize>,
    /// Tokens of the answer, by the server.
    pub completion_tokens: Option<usize>,
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
    /// The server is not who it says, as far as this machine can tell.
    Distrusted { reason: String },
}

#[derive(Deserialize)]
struct Completion {
    choices: Vec<Choice>,
    #[serde(default)]
    usage: Option<Usage>,
}

/// A choice of either address: `message` of chats, `text` of completions.
#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    message: Option<Message>,
    #[serde(default)]
    text: Option<String>,
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
    agent: Agent,
}

impl<'a> Client<'a> {
    pub(crate) fn new(server: &'a Server) -> Result<Self, ClientError> {
        server.check()?;
        let agent = https::config()?
            .timeout_global(Some(server.timeout))
            .max_idle_connections_per_host(server.concurrency)
            .max_idle_connections(server.concurrency)
            .build()
            .into();
        Ok(Self { server, agent })
    }

    /// Where a question is put.
    pub(crate) fn url(&self, prompt: &Prompt) -> String {
        let address = match prompt {
            Prompt::Text(_) => "completions",
            Prompt::Chat(_) => "chat/completions",
        };
        format!("{}/{address}", self.server.base())
    }

    /// Asks once.
    pub(crate) fn ask(&self, question: &Question) -> Result<Reply, Failure> {
        let passing = |reason: String| Failure::Passing {
            reason,
            retry_after: None,
        };
        let url = self.url(&question.prompt);
        let mut request = self.agent.post(&url).content_type("application/json");
        if let Some(key) = &self.server.api_key {
            request = request.header("Authorization", format!("Bearer {key}"));
        }
        let answer = request.send(question.body(&self.server.model).to_string());
        let mut answer = answer.map_err(|error| match https::distrust(&error) {
            Some(reason) => Failure::Distrusted { reason },
            None => passing(error.to_string()),
        })?;
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
    let text = match choice.message {
        Some(message) => message.content,
        None => choice.text,
    };
    Ok(Reply {
        text: text.ok_or("its choice has no text")?,
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
        let completion =
            read(r#"{"choices": [{"text": "y", "finish_reason": "length"}]}"#).unwrap();
        assert_eq!(completion.text, "y");
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

    #[test]
    fn a_request_says_what_differs_from_the_default_and_no_more() {
        let plain = Question::new(Prompt::user("x"), 5);
        let expected = json!({
            "model": "m", "temperature": 1.0, "max_tokens": 5,
            "messages": [{ "role": "user", "content": "x" }],
        });
        assert_eq!(plain.body("m"), expected);
        let stops = ["a", "b", "c", "d", "e"].map(String::from);
        let full = Question {
            prompt: Prompt::Text("p".into()),
            top_p: 0.5,
            seed: Some(7),
            stop: stops.to_vec(),
            ..plain
        };
        let expected = json!({
            "model": "m", "temperature": 1.0, "max_tokens": 5, "prompt": "p", "top_p": 0.5, "seed": 7,
            "stop": ["a", "b", "c", "d"],
        });
        assert_eq!(full.body("m"), expected);
    }
}
