//! Prompt templates: how a problem is put to the model and how its solution would answer.
//!
//! A template is data: TOML with named slots. `{{question}}` in a text is a slot; every other brace
//! is itself, so LaTeX needs no escaping (`\boxed{{{answer}}}` is the answer in a box).
//!
//! | slot | stands for |
//! | --- | --- |
//! | `{{question}}` | the statement, and for multiple choice an empty line and the lettered options |
//! | `{{problem}}` | the statement alone |
//! | `{{choices}}` | the lettered options, one a line |
//! | `{{row.PATH}}` | any other field of the row (`{{row.level}}`, `{{row.extra_info.split}}`) |
//! | `{{solution}}`, `{{answer}}` | in `solution` only: the reference solution, the gold answer |
//!
//! Either `prompt` is the whole prompt as plain text, or `messages` go through the model's own chat
//! template and `prefill` opens the assistant's turn. What the policy writes, and a hint, begins
//! after the last character of the prompt.

mod pattern;

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::BoxError;
use crate::problem::Problem;
use pattern::Pattern;

/// A template that cannot be used, or a problem that does not fit it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// No template of this name.
    #[error("no prompt template `{name}`{}; there are {}, or give the path of a `.toml` file", nearest.map_or(String::new(), |n| format!(", did you mean `{n}`?")), PromptTemplate::names().collect::<Vec<_>>().join(", "))]
    UnknownName {
        /// The name as given.
        name: String,
        /// The most similar known name.
        nearest: Option<&'static str>,
    },
    /// The file cannot be read.
    #[error("cannot read prompt template `{}`: {source}", path.display())]
    File {
        /// The file as the user named it.
        path: std::path::PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// The text is not the TOML of a template.
    #[error("prompt template {origin}: {source}")]
    Toml {
        /// File or name.
        origin: String,
        /// The parser's message, with line and column.
        source: Box<toml::de::Error>,
    },
    /// The parts of a template do not go together.
    #[error("prompt template `{name}`: {reason}")]
    Invalid {
        /// The template.
        name: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A slot names a field that the row does not have.
    #[error("{place}: no field `{field}`, which prompt template `{template}` asks for")]
    MissingField {
        /// The row.
        place: crate::Place,
        /// Dotted path of the field.
        field: String,
        /// The template.
        template: String,
    },
    /// The template needs the model's chat template and the model has none.
    #[error(
        "prompt template `{name}` sends chat messages, but the model has no chat template; use `r1-zero`, `plain` or another text template"
    )]
    NoChatTemplate {
        /// The template.
        name: String,
    },
    /// The model's chat template refused the messages.
    #[error("{place}: the model's chat template failed on prompt template `{name}`: {source}")]
    Chat {
        /// The row.
        place: crate::Place,
        /// The template.
        name: String,
        /// Its message.
        source: BoxError,
    },
}

/// One chat message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// The text, with slots while it is part of a template.
    pub content: String,
}

/// The model's own chat template.
pub trait ChatTemplate {
    /// The text of a conversation up to and including the opening of the assistant's next turn,
    /// special tokens written out.
    ///
    /// # Errors
    /// Whatever the template raises, for example on a system message that it does not know.
    fn render(&self, messages: &[Message]) -> Result<String, BoxError>;
}

impl<F: Fn(&[Message]) -> Result<String, BoxError>> ChatTemplate for F {
    fn render(&self, messages: &[Message]) -> Result<String, BoxError> {
        self(messages)
    }
}

/// The TOML of a template.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TemplateFile {
    name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    description: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    prompt: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    messages: Vec<Message>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    prefill: String,
    #[serde(default = "bare_solution")]
    solution: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    stop: Vec<String>,
}

fn bare_solution() -> String {
    "{{solution}}".to_owned()
}

/// A prompt template; see the [module](self) for its parts.
///
/// ```
/// use seele_data::PromptTemplate;
/// let template = PromptTemplate::from_toml(r#"
///     name = "short"
///     prompt = "Q: {{question}}\nA:"
///     solution = " {{solution}} So \\boxed{{{answer}}}."
/// "#)?;
/// assert_eq!(template.name(), "short");
/// assert!(PromptTemplate::named("r1-zero")?.wraps_solution());
/// # Ok::<(), seele_data::TemplateError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "TemplateFile", into = "TemplateFile")]
pub struct PromptTemplate {
    file: TemplateFile,
    body: Body,
    solution: Pattern,
}

#[derive(Clone, Debug, PartialEq)]
enum Body {
    Text(Pattern),
    Chat {
        messages: Vec<(String, Pattern)>,
        prefill: Pattern,
    },
}

/// The reference solution as the assistant would write it under a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenderedSolution {
    /// The whole text, tags and all.
    pub text: String,
    /// Byte offset in `text` where the problem's own solution begins.
    pub solution_start: usize,
}

const BUILT_IN: [(&str, &str); 8] = [
    ("r1-zero", include_str!("../templates/r1-zero.toml")),
    ("plain", include_str!("../templates/plain.toml")),
    ("bare", include_str!("../templates/bare.toml")),
    ("chat", include_str!("../templates/chat.toml")),
    ("chat-boxed", include_str!("../templates/chat-boxed.toml")),
    ("qwen-boxed", include_str!("../templates/qwen-boxed.toml")),
    (
        "qwen25-math-cot",
        include_str!("../templates/qwen25-math-cot.toml"),
    ),
    ("verl-gsm8k", include_str!("../templates/verl-gsm8k.toml")),
];

impl PromptTemplate {
    /// The names of the templates that come with the crate.
    pub fn names() -> impl Iterator<Item = &'static str> {
        BUILT_IN.iter().map(|(name, _)| *name)
    }

    /// A template that comes with the crate.
    ///
    /// # Errors
    /// [`TemplateError::UnknownName`], naming the nearest one.
    pub fn named(name: &str) -> Result<Self, TemplateError> {
        match BUILT_IN.iter().find(|(known, _)| *known == name) {
            Some((_, text)) => Self::parse(text, format!("`{name}`")),
            None => Err(TemplateError::UnknownName {
                name: name.to_owned(),
                nearest: Self::names()
                    .map(|known| (strsim::jaro_winkler(known, name), known))
                    .filter(|(similarity, _)| *similarity > 0.7)
                    .max_by(|a, b| a.0.total_cmp(&b.0))
                    .map(|(_, known)| known),
            }),
        }
    }

    /// Reads a template file.
    ///
    /// # Errors
    /// [`TemplateError::File`], [`TemplateError::Toml`] (which holds the reason also for parts that
    /// do not go together).
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, TemplateError> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(|source| TemplateError::File {
            path: path.to_path_buf(),
            source,
        })?;
        Self::parse(&text, format!("`{}`", path.display()))
    }

    /// Reads a template from TOML text.
    ///
    /// # Errors
    /// [`TemplateError::Toml`].
    pub fn from_toml(text: &str) -> Result<Self, TemplateError> {
        Self::parse(text, "given inline".to_owned())
    }

    fn parse(text: &str, origin: String) -> Result<Self, TemplateError> {
        toml::from_str(text).map_err(|source| TemplateError::Toml {
            origin,
            source: Box::new(source),
        })
    }

    /// The same template with another system message, put in front if it has none; `None` removes it.
    ///
    /// # Errors
    /// [`TemplateError::Invalid`] for a text template, which has no messages, or an unknown slot.
    pub fn with_system(&self, system: Option<&str>) -> Result<Self, TemplateError> {
        let mut file = self.file.clone();
        if file.prompt.is_some() {
            return Err(TemplateError::Invalid {
                name: file.name,
                reason: "a text template has no system message; write the text into `prompt`"
                    .into(),
            });
        }
        file.messages.retain(|message| message.role != "system");
        if let Some(content) = system {
            let message = Message {
                role: "system".into(),
                content: content.to_owned(),
            };
            file.messages.insert(0, message);
        }
        Self::try_from(file)
    }

    /// The template's name.
    pub fn name(&self) -> &str {
        &self.file.name
    }

    /// What the template is for, in a sentence.
    pub fn description(&self) -> &str {
        &self.file.description
    }

    /// Whether the prompt goes through the model's chat template.
    pub fn is_chat(&self) -> bool {
        matches!(self.body, Body::Chat { .. })
    }

    /// Whether the solution gets text around it, such as think and answer tags.
    pub fn wraps_solution(&self) -> bool {
        self.file.solution != bare_solution()
    }

    /// Texts that begin something new, such as a next question: see [`cut`](Self::cut).
    pub fn stop(&self) -> &[String] {
        &self.file.stop
    }

    /// A response up to the first stop text. A base model under `plain` goes on to ask itself the
    /// next question; what it answers there must not count.
    pub fn cut<'a>(&self, response: &'a str) -> &'a str {
        let stops = self.file.stop.iter();
        let end = stops.filter_map(|stop| response.find(stop.as_str())).min();
        end.map_or(response, |end| &response[..end])
    }

    /// The template as TOML, to be kept with a run: [`from_toml`](Self::from_toml) gives it back.
    pub fn to_toml(&self) -> String {
        toml::to_string(&self.file).expect("strings and lists of strings are always TOML")
    }

    /// The prompt of a problem as text, up to where the policy or a hint goes on.
    ///
    /// `chat` is the model's chat template, needed if [`is_chat`](Self::is_chat).
    ///
    /// # Errors
    /// [`TemplateError::NoChatTemplate`], [`TemplateError::Chat`], [`TemplateError::MissingField`].
    pub fn prompt(
        &self,
        problem: &Problem,
        chat: Option<&dyn ChatTemplate>,
    ) -> Result<String, TemplateError> {
        match &self.body {
            Body::Text(pattern) => pattern.fill(problem, self.name()),
            Body::Chat { messages, prefill } => {
                let name = || self.name().to_owned();
                let chat = chat.ok_or_else(|| TemplateError::NoChatTemplate { name: name() })?;
                let messages = messages
                    .iter()
                    .map(|(role, content)| {
                        let role = role.clone();
                        let content = content.fill(problem, self.name())?;
                        Ok(Message { role, content })
                    })
                    .collect::<Result<Vec<_>, TemplateError>>()?;
                let mut text = chat
                    .render(&messages)
                    .map_err(|source| TemplateError::Chat {
                        place: problem.place.clone(),
                        name: name(),
                        source,
                    })?;
                text.push_str(&prefill.fill(problem, self.name())?);
                Ok(text)
            }
        }
    }

    /// The reference solution as the assistant would write it; `None` if the problem has none.
    ///
    /// A solution that already begins with the template's opening tag is taken as it is.
    ///
    /// # Errors
    /// [`TemplateError::MissingField`].
    pub fn solution(&self, problem: &Problem) -> Result<Option<RenderedSolution>, TemplateError> {
        let Some(solution) = &problem.solution else {
            return Ok(None);
        };
        let (before, after) = self.solution.split_at_solution();
        let opening = before.fill(problem, self.name())?;
        let tag = opening.trim();
        if !tag.is_empty() && solution.trim_start().starts_with(tag) {
            return Ok(Some(RenderedSolution {
                text: solution.clone(),
                solution_start: 0,
            }));
        }
        let solution_start = opening.len();
        let text = opening + solution + &after.fill(problem, self.name())?;
        Ok(Some(RenderedSolution {
            text,
            solution_start,
        }))
    }
}

impl TryFrom<TemplateFile> for PromptTemplate {
    type Error = TemplateError;

    fn try_from(file: TemplateFile) -> Result<Self, TemplateError> {
        let invalid = |reason: String| TemplateError::Invalid {
            name: file.name.clone(),
            reason,
        };
        let question = |text: &str| {
            let pattern = Pattern::parse(text).map_err(&invalid)?;
            match pattern.gives_away() {
                Some(slot) => Err(invalid(format!(
                    "`{{{{{slot}}}}}` in the prompt would give the answer away; it belongs into `solution`"
                ))),
                None => Ok(pattern),
            }
        };
        let body = match (&file.prompt, file.messages.is_empty()) {
            (Some(prompt), true) if file.prefill.is_empty() => Body::Text(question(prompt)?),
            (Some(_), true) => return Err(invalid("`prefill` opens the assistant's turn of `messages`; with `prompt`, write it at the end of the prompt".into())),
            (None, false) => Body::Chat {
                messages: file.messages.iter().map(|m| Ok((m.role.clone(), question(&m.content)?))).collect::<Result<_, TemplateError>>()?,
                prefill: question(&file.prefill)?,
            },
            _ => return Err(invalid("give either `prompt` (plain text) or `messages` (chat)".into())),
        };
        let asks = match &body {
            Body::Text(prompt) => prompt.asks(),
            Body::Chat { messages, .. } => messages.iter().any(|(_, content)| content.asks()),
        };
        if !asks {
            return Err(invalid(
                "the prompt has no `{{question}}` or `{{problem}}` slot".into(),
            ));
        }
        let solution = Pattern::parse(&file.solution).map_err(&invalid)?;
        if solution.solutions() != 1 {
            return Err(invalid(
                "`solution` must have the slot `{{solution}}` exactly once".into(),
            ));
        }
        Ok(Self {
            body,
            solution,
            file,
        })
    }
}

impl From<PromptTemplate> for TemplateFile {
    fn from(template: PromptTemplate) -> Self {
        template.file
    }
}
