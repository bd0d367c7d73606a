//! Answers in OpenAI's form, whole and in chunks.

use crate::request::Kind;
use crate::text::{Piece, TokenInfo};
use seele_policy::tokenizer::Tokenizer;
use seele_rollout::{Draw, Finish};
use serde_json::{Map, Value, json};

/// What every object of an answer repeats.
pub(crate) struct Envelope {
    pub(crate) kind: Kind,
    pub(crate) id: String,
    pub(crate) created: u64,
    pub(crate) model: String,
    pub(crate) logprobs: bool,
    pub(crate) tokenizer: Tokenizer,
}

/// One choice, complete.
#[derive(Default)]
pub(crate) struct WholeChoice {
    pub(crate) piece: Piece,
    pub(crate) finish: Option<Finish>,
}

impl Envelope {
    fn object(&self, name: &str, choices: Vec<Value>) -> Value {
        json!({
            "id": self.id, "object": name, "created": self.created, "model": self.model,
            "choices": choices,
        })
    }

    /// The answer to a request that is no stream.
    pub(crate) fn whole(&self, choices: &[WholeChoice], usage: Value) -> Value {
        let choices = choices.iter().enumerate().map(|(index, choice)| {
            let WholeChoice { piece, finish } = choice;
            let (finish, logprobs) = (finish_reason(*finish), self.logprobs(&piece.tokens));
            match self.kind {
                Kind::Completion => json!({
                    "index": index, "text": piece.text, "logprobs": logprobs, "finish_reason": finish,
                }),
                Kind::Chat => json!({
                    "index": index,
                    "message": { "role": "assistant", "content": piece.text, "refusal": null },
                    "logprobs": logprobs, "finish_reason": finish,
                }),
            }
        });
        let name = match self.kind {
            Kind::Completion => "text_completion",
            Kind::Chat => "chat.completion",
        };
        let mut answer = self.object(name, choices.collect());
        answer["usage"] = usage;
        answer
    }

    /// The first chunk of a chat's choice, which names the role.
    pub(crate) fn opening(&self, choice: usize) -> Option<Value> {
        let delta = json!({ "role": "assistant", "content": "" });
        (self.kind == Kind::Chat).then(|| self.chunk_of(choice, delta, Value::Null, Value::Null))
    }

    /// A piece of a choice.
    pub(crate) fn chunk(&self, choice: usize, piece: &Piece, finish: Option<Finish>) -> Value {
        let (finish, logprobs) = (finish_reason(finish), self.logprobs(&piece.tokens));
        match self.kind {
            Kind::Completion => self.object(
                "text_completion",
                vec![json!({
                    "index": choice, "text": piece.text, "logprobs": logprobs, "finish_reason": finish,
                })],
            ),
            Kind::Chat => {
                let delta = match piece.text.is_empty() {
                    true => json!({}),
                    false => json!({ "content": piece.text }),
                };
                self.chunk_of(choice, delta, logprobs, finish)
            }
        }
    }

    fn chunk_of(&self, choice: usize, delta: Value, logprobs: Value, finish: Value) -> Value {
        let choice = json!({
            "index": choice, "delta": delta, "logprobs": logprobs, "finish_reason": finish,
        });
        self.object("chat.completion.chunk", vec![choice])
    }

    /// The last chunk of a stream that was asked to tell its usage.
    pub(crate) fn usage_chunk(&self, usage: Value) -> Value {
        let name = match self.kind {
            Kind::Completion => "text_completion",
            Kind::Chat => "chat.completion.chunk",
        };
        let mut chunk = self.object(name, Vec::new());
        chunk["usage"] = usage;
        chunk
    }

    fn logprobs(&self, tokens: &[TokenInfo]) -> Value {
        match (self.logprobs, self.kind) {
            (false, _) => Value::Null,
            (true, Kind::Completion) => self.completion_logprobs(tokens),
            (true, Kind::Chat) => {
                let entry = |token: &TokenInfo| {
                    let mut entry = self.entry(&token.draw);
                    let others = token
                        .alternatives
                        .iter()
                        .map(|other| self.entry(other).into());
                    entry.insert("top_logprobs".into(), Value::Array(others.collect()));
                    Value::Object(entry)
                };
                json!({ "content": tokens.iter().map(entry).collect::<Vec<_>>(), "refusal": null })
            }
        }
    }

    fn completion_logprobs(&self, tokens: &[TokenInfo]) -> Value {
        let top = tokens.iter().map(|token| {
            let others = token.alternatives.iter();
            let others: Map<String, Value> = others
                .map(|other| (self.token_text(other.token), other.logprob.into()))
                .collect();
            others
        });
        json!({
            "tokens": tokens.iter().map(|token| self.token_text(token.draw.token)).collect::<Vec<_>>(),
            "token_logprobs": tokens.iter().map(|token| token.draw.logprob).collect::<Vec<_>>(),
            "top_logprobs": top.collect::<Vec<_>>(),
            "text_offset": tokens.iter().map(|token| token.offset).collect::<Vec<_>>(),
        })
    }

    fn entry(&self, draw: &Draw) -> Map<String, Value> {
        let text = self.token_text(draw.token);
        // Part of a character is no text; its bytes are not known here.
        let bytes = (!text.contains('\u{FFFD}')).then(|| text.as_bytes().to_vec());
        let mut entry = Map::new();
        entry.insert("token".into(), text.into());
        entry.insert("logprob".into(), draw.logprob.into());
        entry.insert("bytes".into(), bytes.into());
        entry
    }

    fn token_text(&self, token: u32) -> String {
        // An id that no token has gives no text.
        self.tokenizer.decode(&[token], false).unwrap_or_default()
    }
}

/// Tokens of a request.
pub(crate) fn usage(prompt_tokens: usize, completion_tokens: usize) -> Value {
    json!({
        "prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    })
}

fn finish_reason(finish: Option<Finish>) -> Value {
    match finish {
        None => Value::Null,
        Some(Finish::Stop) => "stop".into(),
        Some(Finish::Length) => "length".into(),
    }
}
