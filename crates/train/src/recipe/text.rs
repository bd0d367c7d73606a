//! A model's tokenizer and chat template as the data crate wants to see them.

use seele_data::{BoxError, EncodedText, Message, TextEncoder};
use seele_policy::chat::{self, ChatTemplate};
use seele_policy::tokenizer::{Tokenizer, TokenizerError};

/// A tokenizer that encodes prompts and solutions.
#[derive(Clone, Debug)]
pub struct ModelText {
    tokenizer: Tokenizer,
    start: Vec<u32>,
}

impl ModelText {
    /// For the tokenizer of a model.
    ///
    /// # Errors
    /// If the tokenizer cannot encode a line break.
    pub fn new(tokenizer: &Tokenizer) -> Result<Self, TokenizerError> {
        // What stands in front of a text does not depend on the text; added tokens cover none of it.
        let probe = tokenizer.encode_with_offsets("\n", true)?;
        let added = probe
            .offsets
            .iter()
            .take_while(|range| range.is_empty())
            .count();
        let start = probe.ids.into_iter().take(added).collect();
        Ok(Self {
            tokenizer: tokenizer.clone(),
            start,
        })
    }
}

impl TextEncoder for ModelText {
    fn encode(&self, text: &str) -> Result<EncodedText, BoxError> {
        let encoded = self.tokenizer.encode_with_offsets(text, false)?;
        Ok(EncodedText {
            ids: encoded.ids,
            spans: encoded.offsets,
        })
    }

    fn text_start(&self) -> &[u32] {
        &self.start
    }
}

/// A model's chat template that writes prompts.
#[derive(Clone, Debug)]
pub struct ModelChat(pub ChatTemplate);

impl seele_data::ChatTemplate for ModelChat {
    fn render(&self, messages: &[Message]) -> Result<String, BoxError> {
        let turns: Vec<chat::Message> = messages
            .iter()
            .map(|message| chat::Message::new(&message.role, &message.content))
            .collect();
        Ok(self.0.render(&turns, true)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_text_starts_with_what_the_tokenizer_adds_and_its_parts_with_nothing() {
        let tokenizer = Tokenizer::characters("ab").unwrap();
        let text = ModelText::new(&tokenizer).unwrap();
        assert_eq!(text.text_start(), [tokenizer.bos_token_id().unwrap()]);
        let encoded = text.encode("ab\n").unwrap();
        assert_eq!(encoded.spans, [0..1, 1..2, 2..3]);
        assert!(encoded.ids.iter().all(|&id| !tokenizer.is_special(id)));
    }
}
