//! Text of a generation while it grows.

use super::{Tokenizer, TokenizerError};

/// What decoders put for bytes that are no UTF-8, be it only because the rest is yet to come.
const REPLACEMENT: char = '\u{FFFD}';

/// Turns tokens into text one at a time, without cutting a character in two: text is handed out
/// only once later tokens cannot change it. The pieces together are what [`Tokenizer::decode`]
/// gives for all ids, whenever that is valid UTF-8.
#[derive(Clone, Debug, Default)]
pub struct DecodeStream {
    /// The latest tokens; those before have no influence any more.
    window: Vec<u32>,
    /// Text of the window that has been handed out.
    handed_out: String,
    /// Length of the window when last all its text was handed out.
    complete: usize,
    skip_special_tokens: bool,
}

impl DecodeStream {
    /// A stream at its beginning.
    pub fn new(skip_special_tokens: bool) -> Self {
        Self {
            skip_special_tokens,
            ..Self::default()
        }
    }

    /// Adds a token; returns the text that has become final with it, often empty.
    ///
    /// # Errors
    /// As [`Tokenizer::decode`].
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> Result<String, TokenizerError> {
        self.window.push(id);
        let text = tokenizer.decode(&self.window, self.skip_special_tokens)?;
        // An incomplete character can look like several replacement characters, and can make the
        // complete ones before it look so too; then nothing new is final.
        let last = text
            .trim_end_matches(REPLACEMENT)
            .strip_prefix(self.handed_out.as_str())
            .unwrap_or_default();
        let last = last.to_owned();
        self.handed_out.push_str(&last);
        if self.handed_out == text {
            // The window begins where all text was complete once before: the tokens kept give the
            // next one its surroundings, for decoders that treat the first token differently.
            self.window.drain(..self.complete);
            self.complete = self.window.len();
            self.handed_out = tokenizer.decode(&self.window, self.skip_special_tokens)?;
        }
        Ok(last)
    }

    /// The text that was still held back. The stream is at its beginning again.
    ///
    /// # Errors
    /// As [`Tokenizer::decode`].
    pub fn finish(&mut self, tokenizer: &Tokenizer) -> Result<String, TokenizerError> {
        let stream = std::mem::replace(self, Self::new(self.skip_special_tokens));
        let text = tokenizer.decode(&stream.window, stream.skip_special_tokens)?;
        Ok(match text.strip_prefix(stream.handed_out.as_str()) {
            Some(rest) => rest.to_owned(),
            None => REPLACEMENT.to_string(),
        })
    }
}
