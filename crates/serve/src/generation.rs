//! A request under way: events of the engine to pieces of the answers.

use crate::engine::{Event, Events};
use crate::error::ApiError;
use crate::request::Request;
use crate::text::{ChoiceText, Piece};
use seele_policy::tokenizer::Tokenizer;
use seele_rollout::Finish;

/// The choices of a request while they grow.
pub(crate) struct Generation {
    events: Events,
    tokenizer: Tokenizer,
    stop_tokens: Vec<u32>,
    choices: Vec<ChoiceText>,
    open: usize,
}

/// What one event added to a choice.
#[derive(Debug)]
pub(crate) struct Progress {
    pub(crate) choice: usize,
    pub(crate) piece: Piece,
    /// The choice ended with it.
    pub(crate) finish: Option<Finish>,
}

impl Generation {
    pub(crate) fn new(request: &Request, events: Events, tokenizer: Tokenizer) -> Self {
        let choice = || ChoiceText::new(request.stops.clone(), request.logprobs.is_some());
        Self {
            events,
            tokenizer,
            stop_tokens: request.stop_tokens.clone(),
            choices: (0..request.choices).map(|_| choice()).collect(),
            open: request.choices,
        }
    }

    /// Waits for what comes next for any choice; `None` once all have ended.
    ///
    /// # Errors
    /// If the engine or the tokenizer fails.
    pub(crate) fn next(&mut self) -> Result<Option<Progress>, ApiError> {
        while self.open > 0 {
            let event = self.events.receiver.recv();
            let event = event.map_err(|_| ApiError::failed("the engine has stopped"))?;
            let progress = match event {
                Event::Failed(message) => return Err(ApiError::failed(message)),
                Event::Token {
                    choice,
                    draw,
                    alternatives,
                } => self.choices.get_mut(choice).and_then(|text| {
                    if text.finish.is_some() {
                        return None;
                    }
                    if self.stop_tokens.contains(&draw.token) {
                        // It ends the answer and is no part of it.
                        text.drawn += 1;
                        return None;
                    }
                    Some((choice, text.push(&self.tokenizer, draw, alternatives)))
                }),
                Event::Finished { choice, finish } => self
                    .choices
                    .get_mut(choice)
                    .filter(|text| text.finish.is_none())
                    .map(|text| (choice, text.finish(&self.tokenizer, finish))),
            };
            let Some((choice, piece)) = progress else {
                continue;
            };
            let piece = piece?;
            let finish = self.choices.get(choice).and_then(|text| text.finish);
            if finish.is_some() {
                self.open -= 1;
                self.events.cancel(choice);
            }
            if finish.is_some() || piece != Piece::default() {
                return Ok(Some(Progress {
                    choice,
                    piece,
                    finish,
                }));
            }
        }
        Ok(None)
    }

    /// Tokens drawn for all choices.
    pub(crate) fn completion_tokens(&self) -> usize {
        self.choices.iter().map(|choice| choice.drawn).sum()
    }
}
