//! What a request asks for, read and checked before anything is queued.

use crate::engine::Job;
use crate::error::ApiError;
use crate::fields::Fields;
use seele_policy::chat::{ChatTemplate, Message};
use seele_policy::tokenizer::Tokenizer;
use seele_random::Key;
use seele_rollout::{BranchSettings, Sampling};
use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;

/// Choices of one request at most, over all its prompts.
const MAX_CHOICES: usize = 128;
/// Stop texts at most.
const MAX_STOPS: usize = 16;
/// Likeliest tokens at most, as OpenAI has it.
const MAX_ALTERNATIVES: usize = 20;
/// Completion tokens of `/v1/completions` without `max_tokens`, as OpenAI has it.
const DEFAULT_COMPLETION_TOKENS: usize = 16;
/// Temperatures between 0 and this would make logits overflow.
const LEAST_TEMPERATURE: f32 = 1e-5;

/// The two ways of asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Completion,
    Chat,
}

/// What a request needs of the model to be read.
pub(crate) struct Reader<'a> {
    pub(crate) name: &'a str,
    pub(crate) tokenizer: &'a Tokenizer,
    pub(crate) chat_template: Option<&'a ChatTemplate>,
    pub(crate) vocab_size: usize,
    pub(crate) context_tokens: usize,
    pub(crate) stop_tokens: &'a [u32],
    /// Draws of a request without a seed.
    pub(crate) unseeded: Key,
}

/// A request that can be answered.
pub(crate) struct Request {
    pub(crate) jobs: Vec<Job>,
    pub(crate) prompt_tokens: usize,
    pub(crate) choices: usize,
    pub(crate) stops: Vec<String>,
    pub(crate) stop_tokens: Vec<u32>,
    /// Log-probs are wanted, with so many likeliest tokens.
    pub(crate) logprobs: Option<usize>,
    pub(crate) stream: bool,
    pub(crate) stream_usage: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Prompt {
    Text(String),
    Texts(Vec<String>),
    Ids(Vec<u32>),
    ManyIds(Vec<Vec<u32>>),
}

#[derive(Deserialize)]
struct ChatMessage {
    role: String,
    content: Content,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Deserialize)]
struct Part {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    text: String,
}

#[derive(Default, Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(on) => !on,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Null => true,
    }
}

fn is_plain_text(value: &Value) -> bool {
    value["type"] == "text"
}

fn is_none(value: &Value) -> bool {
    value == "none" || is_empty(value)
}

impl Reader<'_> {
    /// Reads a body.
    ///
    /// # Errors
    /// What is wrong, with the parameter's name.
    pub(crate) fn read(&self, kind: Kind, body: &[u8]) -> Result<Request, ApiError> {
        let fields = Fields::parse(body)?;
        let model: String = fields.required("model")?;
        if model != self.name {
            return Err(unknown_model(&model, self.name));
        }
        fields.refuse(&[
            ("presence_penalty", is_empty),
            ("frequency_penalty", is_empty),
            ("logit_bias", is_empty),
            ("suffix", is_empty),
            ("echo", is_empty),
            ("tools", is_empty),
            ("functions", is_empty),
            ("tool_choice", is_none),
            ("response_format", is_plain_text),
        ])?;
        let n = fields
            .within("n", 1..=MAX_CHOICES, "1 to 128")?
            .unwrap_or(1);
        if let Some(best_of) = fields.get::<usize>("best_of")?
            && best_of != n
        {
            let message = "`best_of` other than `n` is not supported here; leave it out";
            return Err(ApiError::bad(Some("best_of"), message));
        }
        let prompts = match kind {
            Kind::Completion => self.prompts(&fields)?,
            Kind::Chat => vec![self.conversation(&fields)?],
        };
        let choices = n * prompts.len();
        if choices > MAX_CHOICES {
            let message = format!("{choices} choices in one request, {MAX_CHOICES} are allowed");
            return Err(ApiError::bad(Some("n"), message));
        }
        let logprobs = match kind {
            Kind::Completion => fields.within("logprobs", 0..=MAX_ALTERNATIVES, "0 to 20")?,
            Kind::Chat => chat_logprobs(&fields)?,
        };
        let longest = prompts.iter().map(Vec::len).max().unwrap_or(0);
        let sampling = Arc::new(self.sampling(kind, &fields, longest)?);
        let key = match fields.get::<i64>("seed")? {
            // Any 64 bits, negative ones included.
            Some(seed) => Key::new(seed as u64),
            None => self.unseeded,
        };
        let settings = BranchSettings {
            sampling,
            alternatives: logprobs.unwrap_or(0),
        };
        let prompt_tokens = prompts.iter().map(Vec::len).sum();
        let jobs = prompts
            .into_iter()
            .enumerate()
            .map(|(index, prompt_ids)| Job {
                prompt_ids,
                first_choice: index * n,
                keys: (0..n as u64)
                    .map(|choice| key.with(index as u64).with(choice))
                    .collect(),
                settings: settings.clone(),
            });
        Ok(Request {
            jobs: jobs.collect(),
            prompt_tokens,
            choices,
            stops: stops(&fields)?,
            stop_tokens: self.stop_tokens.to_vec(),
            logprobs,
            stream: fields.get("stream")?.unwrap_or(false),
            stream_usage: fields
                .get::<StreamOptions>("stream_options")?
                .unwrap_or_default()
                .include_usage,
        })
    }

    fn sampling(
        &self,
        kind: Kind,
        fields: &Fields,
        longest_prompt: usize,
    ) -> Result<Sampling, ApiError> {
        let temperature = fields.within("temperature", 0.0..=2.0, "0 to 2")?;
        let temperature: f32 = temperature.unwrap_or(1.0);
        if temperature > 0.0 && temperature < LEAST_TEMPERATURE {
            let message =
                format!("`temperature` is {temperature}, but must be 0, or from 1e-5 to 2");
            return Err(ApiError::bad(Some("temperature"), message));
        }
        let top_p: f32 = fields
            .within("top_p", 0.0..=1.0, "above 0 and at most 1")?
            .unwrap_or(1.0);
        if top_p <= 0.0 {
            let message = "`top_p` is 0, but must be above 0 and at most 1";
            return Err(ApiError::bad(Some("top_p"), message));
        }
        // An extension that other servers have too; -1 and 0 keep all.
        let top_k = fields
            .within("top_k", -1..=i64::MAX, "-1 or more")?
            .unwrap_or(0);
        let room = self.context_tokens.saturating_sub(longest_prompt);
        let wanted = match kind {
            Kind::Chat => match fields.within("max_completion_tokens", 1.., "1 or more")? {
                Some(tokens) => Some(tokens),
                None => fields.within("max_tokens", 1.., "1 or more")?,
            },
            Kind::Completion => fields.within("max_tokens", 1.., "1 or more")?,
        };
        let max_new_tokens: usize = match (wanted, kind) {
            (Some(tokens), _) => tokens,
            (None, Kind::Chat) => room,
            (None, Kind::Completion) => room.min(DEFAULT_COMPLETION_TOKENS),
        };
        if room == 0 || max_new_tokens > room {
            return Err(ApiError {
                code: Some("context_length_exceeded"),
                ..ApiError::bad(
                    Some(if kind == Kind::Chat {
                        "messages"
                    } else {
                        "prompt"
                    }),
                    format!(
                        "the prompt has {longest_prompt} tokens and {max_new_tokens} more may follow, but the model has room for {}; shorten the prompt or lower `max_tokens`",
                        self.context_tokens
                    ),
                )
            });
        }
        Ok(Sampling {
            temperature,
            top_p,
            top_k: usize::try_from(top_k).unwrap_or(0),
            max_new_tokens,
            stop_tokens: self.stop_tokens.to_vec(),
        })
    }

    fn prompts(&self, fields: &Fields) -> Result<Vec<Vec<u32>>, ApiError> {
        let bad = |message: String| ApiError::bad(Some("prompt"), message);
        let prompt: Prompt = fields.required("prompt").map_err(|error| ApiError {
            message: format!(
                "{error}; give a text, a list of texts, token ids, or a list of lists of token ids"
            ),
            ..error
        })?;
        let texts = |texts: Vec<String>| -> Result<Vec<Vec<u32>>, ApiError> {
            let encode = |text: &String| {
                let ids = self.tokenizer.encode(text, true);
                ids.map_err(|error| bad(format!("cannot encode the prompt: {error}")))
            };
            texts.iter().map(encode).collect()
        };
        let prompts = match prompt {
            Prompt::Text(text) => texts(vec![text])?,
            Prompt::Texts(many) if !many.is_empty() => texts(many)?,
            Prompt::Ids(ids) => vec![ids],
            Prompt::ManyIds(many) => many,
            Prompt::Texts(_) => return Err(bad("`prompt` is empty".into())),
        };
        for ids in &prompts {
            if ids.is_empty() {
                return Err(bad(
                    "`prompt` has no tokens; a prompt needs at least one".into()
                ));
            }
            if let Some(id) = ids.iter().find(|id| **id as usize >= self.vocab_size) {
                return Err(bad(format!(
                    "token {id} is outside the vocabulary of {}",
                    self.vocab_size
                )));
            }
        }
        Ok(prompts)
    }

    fn conversation(&self, fields: &Fields) -> Result<Vec<u32>, ApiError> {
        let bad = |message: String| ApiError::bad(Some("messages"), message);
        let messages: Vec<ChatMessage> = fields.required("messages")?;
        let template = self
            .chat_template
            .ok_or_else(|| bad("the model has no chat template; use `/v1/completions`".into()))?;
        if messages.is_empty() {
            return Err(bad("`messages` is empty".into()));
        }
        let turns = messages.into_iter().map(|message| {
            let content = match message.content {
                Content::Text(text) => text,
                Content::Parts(parts) => match parts.iter().find(|part| part.kind != "text") {
                    Some(part) => {
                        return Err(bad(format!(
                            "a content part of type `{}` is not supported here; give `text`",
                            part.kind
                        )));
                    }
                    None => parts.into_iter().map(|part| part.text).collect(),
                },
            };
            Ok(Message::new(message.role, content))
        });
        let turns = turns.collect::<Result<Vec<_>, ApiError>>()?;
        let text = template
            .render(&turns, true)
            .map_err(|error| bad(error.to_string()))?;
        let ids = self.tokenizer.encode(&text, false);
        let ids = ids.map_err(|error| bad(format!("cannot encode the conversation: {error}")))?;
        match ids.is_empty() {
            true => Err(bad("the conversation has no tokens".into())),
            false => Ok(ids),
        }
    }
}

/// The error for any model but the one that is served.
pub(crate) fn unknown_model(asked: &str, served: &str) -> ApiError {
    ApiError {
        status: 404,
        code: Some("model_not_found"),
        ..ApiError::bad(
            Some("model"),
            format!("there is no model `{asked}` here; `{served}` is served"),
        )
    }
}

fn chat_logprobs(fields: &Fields) -> Result<Option<usize>, ApiError> {
    let wanted: bool = fields.get("logprobs")?.unwrap_or(false);
    let alternatives = fields.within("top_logprobs", 0..=MAX_ALTERNATIVES, "0 to 20")?;
    match (wanted, alternatives) {
        (true, alternatives) => Ok(Some(alternatives.unwrap_or(0))),
        (false, None | Some(0)) => Ok(None),
        (false, Some(_)) => Err(ApiError::bad(
            Some("top_logprobs"),
            "`top_logprobs` needs `logprobs: true`",
        )),
    }
}

fn stops(fields: &Fields) -> Result<Vec<String>, ApiError> {
    let stops = match fields.get("stop")? {
        None => Vec::new(),
        Some(OneOrMany::One(stop)) => vec![stop],
        Some(OneOrMany::Many(stops)) => stops,
    };
    if stops.len() > MAX_STOPS || stops.iter().any(String::is_empty) {
        let message = format!("`stop` must be at most {MAX_STOPS} texts that are not empty");
        return Err(ApiError::bad(Some("stop"), message));
    }
    Ok(stops)
}
