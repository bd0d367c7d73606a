//! Chat templates: how a model wants a conversation written.
//!
//! Templates are Jinja, stored with the tokenizer, and rendered as `transformers` does: blocks
//! trimmed, Python's string methods and `True`/`None` spellings, `raise_exception`, `tojson`
//! without HTML escapes, loop controls, and `generation` blocks, which are transparent. One
//! difference on purpose: `strftime_now` is not defined, so that a prompt does not depend on the
//! day; templates that ask whether it exists fall back to their fixed date.

mod json;

use crate::tokenizer::Tokenizer;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value, context};
use minijinja_contrib::pycompat::unknown_method_callback;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Name of the one template in its environment.
const NAME: &str = "chat_template";

/// Instructions a rendering may take; a template from elsewhere cannot hang the program.
const WORK_LIMIT: u64 = 20_000_000;

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user` or `assistant`; some templates know more.
    pub role: String,
    /// What was said.
    pub content: String,
}

impl Message {
    /// A turn of the given role.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self {
            role: role.into(),
            content: content.into(),
        }
    }

    /// A turn of the user.
    pub fn user(content: impl Into<String>) -> Self {
        Self::new("user", content)
    }
}

/// Why a chat template does not compile or render.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChatTemplateError {
    /// The template is not valid, or uses a tag that is not known.
    #[error("the chat template does not compile: {0}")]
    Syntax(String),
    /// The template refuses the conversation (`raise_exception`).
    #[error("the chat template refuses the conversation: {0}")]
    Refused(String),
    /// Rendering failed.
    #[error("the chat template cannot be rendered: {0}")]
    Render(String),
}

/// A compiled chat template. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    source: Arc<str>,
    environment: Arc<Environment<'static>>,
    special_tokens: BTreeMap<String, String>,
}

impl ChatTemplate {
    /// Compiles a template that may use the special tokens of `tokenizer` by their names
    /// (`bos_token`, `eos_token`, ...).
    ///
    /// # Errors
    /// [`ChatTemplateError::Syntax`].
    pub fn new(source: &str, tokenizer: &Tokenizer) -> Result<Self, ChatTemplateError> {
        let mut environment = Environment::new();
        let whitespace = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build();
        environment.set_syntax(
            whitespace.map_err(|error| ChatTemplateError::Syntax(in_one_line(&error)))?,
        );
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment.set_formatter(|out, state, value| match python_spelling(value) {
            Some(text) => out.write_str(text).map_err(Error::from),
            None => minijinja::escape_formatter(out, state, value),
        });
        environment.set_unknown_method_callback(python_method);
        environment.set_fuel(Some(WORK_LIMIT));
        environment.add_function(
            "raise_exception",
            |message: String| -> Result<Value, Error> {
                Err(Error::new(
                    ErrorKind::InvalidOperation,
                    "the template raised an exception",
                )
                .with_source(Raised(message)))
            },
        );
        environment.add_filter("tojson", tojson);
        environment
            .add_template_owned(NAME, without_generation_tags(source))
            .map_err(|error| ChatTemplateError::Syntax(in_one_line(&error)))?;
        let special_tokens = tokenizer
            .special_tokens()
            .into_iter()
            .map(|(name, token)| (name.to_owned(), token.to_owned()))
            .collect();
        Ok(Self {
            source: source.into(),
            environment: Arc::new(environment),
            special_tokens,
        })
    }

    /// A template for [`Tokenizer::characters`]: turns separated by line ends, an answer ended by
    /// `<eos>`, nothing else, since an alphabet need not spell role names.
    pub fn characters(tokenizer: &Tokenizer) -> Result<Self, ChatTemplateError> {
        Self::new(
            "{{ bos_token }}{% for message in messages %}{{ message['content'] }}\
             {% if message['role'] == 'assistant' %}{{ eos_token }}{% else %}{{ '\\n' }}{% endif %}{% endfor %}",
            tokenizer,
        )
    }

    /// The template as it was written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The conversation as the model wants to read it, special tokens spelled out: encode it
    /// without adding special tokens. With `add_generation_prompt` it ends where the assistant's
    /// next turn begins.
    ///
    /// # Errors
    /// [`ChatTemplateError::Refused`] if the template rejects the conversation,
    /// [`ChatTemplateError::Render`] for anything else.
    pub fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<String, ChatTemplateError> {
        let turn = |message: &Message| {
            Value::from_pairs([
                ("role", message.role.as_str()),
                ("content", message.content.as_str()),
            ])
        };
        let variables = context! {
            messages => messages.iter().map(turn).collect::<Vec<_>>(),
            add_generation_prompt => add_generation_prompt,
            tools => (),
            documents => (),
            ..Value::from_pairs(self.special_tokens.iter().map(|(name, token)| (name.as_str(), token.as_str())))
        };
        let render = || self.environment.get_template(NAME)?.render(variables);
        render().map_err(|error: Error| match raised(&error) {
            Some(message) => ChatTemplateError::Refused(message.to_owned()),
            None => ChatTemplateError::Render(in_one_line(&error)),
        })
    }
}

/// The message of a `raise_exception`.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Raised(String);

/// Finds the message of a `raise_exception` below an error.
fn raised(error: &Error) -> Option<&str> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(error);
    while let Some(inner) = cause {
        if let Some(Raised(message)) = inner.downcast_ref() {
            return Some(message);
        }
        cause = inner.source();
    }
    None
}

/// Line and reason, without the excerpt that the library would print below.
fn in_one_line(error: &Error) -> String {
    let mut text = error.kind().to_string();
    if let Some(detail) = error.detail() {
        text = format!("{text}: {detail}");
    }
    if let Some(line) = error.line() {
        text = format!("{text} (line {line} of the template)");
    }
    text
}

/// How Python prints the values that Jinja in Rust spells differently.
fn python_spelling(value: &Value) -> Option<&'static str> {
    match value.kind() {
        ValueKind::None => Some("None"),
        ValueKind::Bool => Some(if value.is_true() { "True" } else { "False" }),
        _ => None,
    }
}

/// Python's methods of strings, lists and dictionaries.
fn python_method(
    state: &mut State,
    value: &Value,
    method: &str,
    arguments: &[Value],
) -> Result<Value, Error> {
    match (value.as_str(), method, arguments) {
        // The library capitalises words between spaces only.
        (Some(text), "title", []) => Ok(title_case(text).into()),
        _ => unknown_method_callback(state, value, method, arguments),
    }
}

/// `str.title`: a letter after anything but a letter in upper case, all others in lower case.
fn title_case(text: &str) -> String {
    let mut in_word = false;
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if in_word {
            out.extend(character.to_lowercase());
        } else {
            out.extend(character.to_uppercase());
        }
        in_word = character.is_alphabetic();
    }
    out
}

/// `json.dumps(value, ensure_ascii=False, indent=indent)`, as `transformers` defines the filter.
fn tojson(value: &Value, arguments: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = arguments.get("indent")?;
    // `ensure_ascii=False` is what is done anyway.
    let ascii: Option<bool> = arguments.get("ensure_ascii")?;
    arguments.assert_all_used()?;
    if ascii == Some(true) {
        return Err(Error::new(
            ErrorKind::InvalidOperation,
            "`tojson` with `ensure_ascii` is not supported",
        ));
    }
    json::dumps(value, indent).map_err(|source| {
        Error::new(
            ErrorKind::BadSerialization,
            "value cannot be written as JSON",
        )
        .with_source(source)
    })
}

/// Makes `{% generation %}` blocks, which only mark the assistant's tokens, plain conditionals.
fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start + 2);
        out.push_str(before);
        let Some(end) = tag.find("%}") else {
            rest = tag;
            break;
        };
        let inner = &tag[..end];
        let word = inner.trim_matches(|c: char| c.is_whitespace() || c == '-' || c == '+');
        match word {
            "generation" => out.push_str(&inner.replace(word, "if true")),
            "endgeneration" => out.push_str(&inner.replace(word, "endif")),
            _ => out.push_str(inner),
        }
        rest = &tag[end..];
    }
    out.push_str(rest);
    out
}
