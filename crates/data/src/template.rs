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
//! Either `prompt` is the whole prompt as plain text; or `messages` go through the model's own chat
//! template and `prefill` opens the assistant's turn; or `messages_field` names the field of the row
//! that holds the messages, as verl's files do. What the policy writes, and a hint, begins after the
//! last character of the prompt.

mod definition;
mod error;
mod pattern;

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::BoxError;
use crate::problem::Problem;
use definition::{Body, Messages, TemplateFile, bare_solution};
pub use error::TemplateError;
use pattern::Pattern;

/// One chat message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// The text, with slots while it is part of a template.
    pub content: String,
}

/// A message as rows carry it, perhaps with more fields.
#[derive(Deserialize)]
struct RowMessage {
    role: String,
    content: String,
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

/// What a template makes of a problem before the model's own markup: for servers that add it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// The whole prompt as plain text.
    Text(String),
    /// Messages for the model's chat template.
    Chat {
        /// The conversation so far.
        messages: Vec<Message>,
        /// How the assistant's turn is opened; often empty.
        prefill: String,
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

const BUILT_IN: [(&str, &str); 9] = [
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
    ("row-chat", include_str!("../templates/row-chat.toml")),
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
    /// [`TemplateError::Invalid`] for a template without messages of its own, or an unknown slot.
    pub fn with_system(&self, system: Option<&str>) -> Result<Self, TemplateError> {
        let mut file = self.file.clone();
        if file.messages.is_empty() {
            return Err(TemplateError::Invalid {
                name: file.name,
                reason: "only a template with `messages` takes a system message; write it into `prompt` or into the rows".into(),
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
    /// [`TemplateError::NoChatTemplate`], [`TemplateError::Chat`], [`TemplateError::MissingField`],
    /// [`TemplateError::NotMessages`].
    pub fn prompt(
        &self,
        problem: &Problem,
        chat: Option<&dyn ChatTemplate>,
    ) -> Result<String, TemplateError> {
        let (messages, prefill) = match self.question(problem)? {
            Question::Text(text) => return Ok(text),
            Question::Chat { messages, prefill } => (messages, prefill),
        };
        let name = || self.name().to_owned();
        let chat = chat.ok_or_else(|| TemplateError::NoChatTemplate { name: name() })?;
        let text = chat
            .render(&messages)
            .map_err(|source| TemplateError::Chat {
                place: problem.place.clone(),
                name: name(),
                source,
            })?;
        Ok(text + &prefill)
    }

    /// The prompt of a problem before the model's chat template.
    ///
    /// # Errors
    /// [`TemplateError::MissingField`], [`TemplateError::NotMessages`].
    pub fn question(&self, problem: &Problem) -> Result<Question, TemplateError> {
        Ok(match &self.body {
            Body::Text(pattern) => Question::Text(pattern.fill(problem, self.name())?),
            Body::Chat { messages, prefill } => Question::Chat {
                messages: self.messages(messages, problem)?,
                prefill: prefill.fill(problem, self.name())?,
            },
        })
    }

    fn messages(
        &self,
        messages: &Messages,
        problem: &Problem,
    ) -> Result<Vec<Message>, TemplateError> {
        match messages {
            Messages::Written(messages) => messages
                .iter()
                .map(|(role, content)| {
                    let role = role.clone();
                    let content = content.fill(problem, self.name())?;
                    Ok(Message { role, content })
                })
                .collect(),
            Messages::OfTheRow(field) => {
                let found =
                    field
                        .find(&problem.extra)
                        .ok_or_else(|| TemplateError::MissingField {
                            place: problem.place.clone(),
                            field: field.to_string(),
                            template: self.name().to_owned(),
                        })?;
                let messages = Vec::<RowMessage>::deserialize(found)
                    .ok()
                    .filter(|list| !list.is_empty());
                let messages = messages.ok_or_else(|| TemplateError::NotMessages {
                    place: problem.place.clone(),
                    field: field.to_string(),
                })?;
                let message = |RowMessage { role, content }| Message { role, content };
                Ok(messages.into_iter().map(message).collect())
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
