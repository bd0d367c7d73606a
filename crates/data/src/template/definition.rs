//! The TOML of a template and what makes it valid.

use serde::{Deserialize, Serialize};

use super::pattern::Pattern;
use super::{Message, PromptTemplate, TemplateError};
use crate::path::FieldPath;

/// A template as written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TemplateFile {
    pub(super) name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) description: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    prompt: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) messages: Vec<Message>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    messages_field: Option<FieldPath>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    prefill: String,
    #[serde(default = "bare_solution")]
    pub(super) solution: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) stop: Vec<String>,
}

pub(super) fn bare_solution() -> String {
    "{{solution}}".to_owned()
}

/// A prompt with its slots found.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Body {
    Text(Pattern),
    Chat {
        messages: Messages,
        prefill: Pattern,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Messages {
    Written(Vec<(String, Pattern)>),
    OfTheRow(FieldPath),
}

impl TemplateFile {
    fn invalid(&self, reason: impl Into<String>) -> TemplateError {
        TemplateError::Invalid {
            name: self.name.clone(),
            reason: reason.into(),
        }
    }

    /// A text of the prompt, where the answer must not appear.
    fn asking(&self, text: &str) -> Result<Pattern, TemplateError> {
        let pattern = Pattern::parse(text).map_err(|reason| self.invalid(reason))?;
        match pattern.gives_away() {
            None => Ok(pattern),
            Some(slot) => Err(self.invalid(format!(
                "`{{{{{slot}}}}}` in the prompt would give the answer away; it belongs into `solution`"
            ))),
        }
    }

    fn body(&self) -> Result<Body, TemplateError> {
        let written = (!self.messages.is_empty()).then_some(&self.messages);
        let (body, asks) = match (&self.prompt, written, &self.messages_field) {
            (Some(_), None, None) if !self.prefill.is_empty() => {
                return Err(self.invalid(
                    "`prefill` opens the assistant's turn of `messages`; with `prompt`, write it at the end of the prompt",
                ));
            }
            (Some(prompt), None, None) => {
                let prompt = self.asking(prompt)?;
                let asks = prompt.asks();
                (Body::Text(prompt), asks)
            }
            (None, Some(messages), None) => {
                let patterns = messages
                    .iter()
                    .map(|m| Ok((m.role.clone(), self.asking(&m.content)?)));
                let patterns = patterns.collect::<Result<Vec<_>, TemplateError>>()?;
                let asks = patterns.iter().any(|(_, content)| content.asks());
                let messages = Messages::Written(patterns);
                let prefill = self.asking(&self.prefill)?;
                (Body::Chat { messages, prefill }, asks)
            }
            (None, None, Some(field)) => {
                let messages = Messages::OfTheRow(field.clone());
                let prefill = self.asking(&self.prefill)?;
                (Body::Chat { messages, prefill }, true)
            }
            _ => {
                return Err(self.invalid(
                    "give one of `prompt` (plain text), `messages` (chat) and `messages_field` (chat messages of the row)",
                ));
            }
        };
        match asks {
            true => Ok(body),
            false => Err(self.invalid("the prompt has no `{{question}}` or `{{problem}}` slot")),
        }
    }
}

impl TryFrom<TemplateFile> for PromptTemplate {
    type Error = TemplateError;

    fn try_from(file: TemplateFile) -> Result<Self, TemplateError> {
        let body = file.body()?;
        let solution = Pattern::parse(&file.solution).map_err(|reason| file.invalid(reason))?;
        if solution.solutions() != 1 {
            return Err(file.invalid("`solution` must have the slot `{{solution}}` exactly once"));
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
