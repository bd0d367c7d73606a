//! Tokens to text while they come, up to a stop text.

use crate::error::ApiError;
use seele_policy::tokenizer::{DecodeStream, Tokenizer};
use seele_rollout::{Alternative, Draw, Finish};

/// A token of the answer as `logprobs` shows it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TokenInfo {
    pub(crate) draw: Draw,
    pub(crate) alternatives: Vec<Alternative>,
    /// Characters of the answer in front of its text.
    pub(crate) offset: usize,
}

/// Something that can be handed to the client.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Piece {
    pub(crate) text: String,
    /// Tokens whose text has begun with this piece.
    pub(crate) tokens: Vec<TokenInfo>,
}

/// The text of one choice.
pub(crate) struct ChoiceText {
    stream: DecodeStream,
    stops: Vec<String>,
    /// Text that may turn out to begin a stop text.
    held: String,
    /// Characters handed out.
    handed_out: usize,
    /// Characters decoded, held ones included.
    decoded: usize,
    pending: Vec<TokenInfo>,
    keeps_tokens: bool,
    /// Tokens drawn.
    pub(crate) drawn: usize,
    pub(crate) finish: Option<Finish>,
}

impl ChoiceText {
    /// An empty answer. Tokens are kept for `logprobs` only if `keeps_tokens`.
    pub(crate) fn new(stops: Vec<String>, keeps_tokens: bool) -> Self {
        Self {
            stream: DecodeStream::new(true),
            stops,
            held: String::new(),
            handed_out: 0,
            decoded: 0,
            pending: Vec::new(),
            keeps_tokens,
            drawn: 0,
            finish: None,
        }
    }

    /// Adds a token that does not end the answer. If a stop text is complete with it, the choice is
    /// finished.
    pub(crate) fn push(
        &mut self,
        tokenizer: &Tokenizer,
        draw: Draw,
        alternatives: Vec<Alternative>,
    ) -> Result<Piece, ApiError> {
        self.drawn += 1;
        if self.keeps_tokens {
            self.pending.push(TokenInfo {
                draw,
                alternatives,
                offset: self.decoded,
            });
        }
        let text = self.stream.push(tokenizer, draw.token);
        let text = text.map_err(|error| ApiError::failed(error.to_string()))?;
        Ok(self.take(&text, false))
    }

    /// The end: what was held back is no stop text.
    pub(crate) fn finish(
        &mut self,
        tokenizer: &Tokenizer,
        finish: Finish,
    ) -> Result<Piece, ApiError> {
        let rest = self.stream.finish(tokenizer);
        let rest = rest.map_err(|error| ApiError::failed(error.to_string()))?;
        self.finish = Some(finish);
        Ok(self.take(&rest, true))
    }

    fn take(&mut self, text: &str, is_end: bool) -> Piece {
        self.decoded += text.chars().count();
        self.held.push_str(text);
        let stops = self.stops.iter();
        if let Some(place) = stops.filter_map(|stop| self.held.find(stop)).min() {
            self.held.truncate(place);
            self.finish = Some(Finish::Stop);
            return self.hand_out(place, false);
        }
        let keep = match is_end {
            true => 0,
            false => longest_beginning(&self.held, &self.stops),
        };
        self.hand_out(self.held.len() - keep, is_end)
    }

    /// Hands out the first `bytes` of what is held; `all` tokens, or those whose text begins in it.
    fn hand_out(&mut self, bytes: usize, all: bool) -> Piece {
        let text: String = self.held.drain(..bytes).collect();
        self.handed_out += text.chars().count();
        let reached = self
            .pending
            .iter()
            .take_while(|token| all || token.offset < self.handed_out);
        let count = reached.count();
        Piece {
            tokens: self.pending.drain(..count).collect(),
            text,
        }
    }
}

/// Bytes at the end of `text` that some stop text begins with.
fn longest_beginning(text: &str, stops: &[String]) -> usize {
    let overlap = |stop: &String| {
        let ends = stop.char_indices().map(|(end, _)| end).skip(1);
        ends.filter(|&end| text.ends_with(&stop[..end])).max()
    };
    stops.iter().filter_map(overlap).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &str, stops: &[&str]) -> (Vec<String>, Option<Finish>) {
        let tokenizer = Tokenizer::characters("abcSTOP\u{e9} ").unwrap();
        let ids = tokenizer.encode(text, false).unwrap();
        let mut choice = ChoiceText::new(stops.iter().map(|stop| stop.to_string()).collect(), true);
        let mut pieces = Vec::new();
        for token in ids {
            let draw = Draw {
                token,
                logprob: -1.0,
            };
            let piece = choice.push(&tokenizer, draw, Vec::new()).unwrap();
            assert!(piece.tokens.len() <= piece.text.chars().count());
            pieces.push(piece.text);
            if choice.finish.is_some() {
                return (pieces, choice.finish);
            }
        }
        let piece = choice.finish(&tokenizer, Finish::Length).unwrap();
        pieces.push(piece.text);
        (pieces, choice.finish)
    }

    #[test]
    fn text_that_may_begin_a_stop_text_is_held_back_until_it_is_clear() {
        let (pieces, finish) = answer("abSTaSTOPc", &["STOP"]);
        assert_eq!(pieces, ["a", "b", "", "", "STa", "", "", "", ""]);
        assert_eq!(finish, Some(Finish::Stop));
        let (pieces, finish) = answer("aST", &["STOP"]);
        assert_eq!(pieces.concat(), "aST");
        assert_eq!(
            (pieces.last().unwrap().as_str(), finish),
            ("ST", Some(Finish::Length))
        );
    }

    #[test]
    fn the_first_of_several_stop_texts_ends_the_answer() {
        let (pieces, finish) = answer("aOPbSTOP", &["STOP", "OP", "Pb"]);
        assert_eq!((pieces.concat(), finish), ("a".into(), Some(Finish::Stop)));
        let (pieces, _) = answer("\u{e9}a \u{e9}", &[]);
        assert_eq!(pieces.concat(), "\u{e9}a \u{e9}");
    }
}
