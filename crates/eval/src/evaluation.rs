//! Putting a benchmark to a model.

use std::path::Path;

use seele_data::{BoxError, ChatTemplate, Encoder, LengthLimits, TextEncoder};
use seele_random::Key;
use seele_rollout::{Completion, Finish, FinishedBranch, RolloutEngine, Sampling, complete};

use crate::benchmark::Benchmark;
use crate::error::EvalError;
use crate::problems::ProblemSet;
use crate::record::{Header, ModelIdentity, Record, Response};
use crate::sheet::{Answer, Sheet};

/// A model as far as an evaluation needs to know it besides the engine.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// What it is, for the record.
    pub model: &'a ModelIdentity,
    /// Text to token ids.
    pub text: &'a dyn TextEncoder,
    /// Its chat template, if it has one.
    pub chat: Option<&'a dyn ChatTemplate>,
    /// Token ids to text, special tokens left out.
    pub decode: &'a dyn Fn(&[u32]) -> Result<String, BoxError>,
    /// Tokens that end a response.
    pub stop_tokens: &'a [u32],
    /// Tokens of prompt and response together at most.
    pub context_tokens: usize,
}

/// How far an evaluation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Responses that there are, those found in the record included.
    pub done: usize,
    /// Responses in all.
    pub total: usize,
    /// Tokens that the engine has written since it was made.
    pub tokens: u64,
}

/// A benchmark ready to be put to a model: prompts encoded, settings fixed.
pub struct Evaluation<'a> {
    subject: Subject<'a>,
    sheet: Sheet,
    /// Of each problem.
    prompt_ids: Vec<Vec<u32>>,
}

impl<'a> Evaluation<'a> {
    /// Encodes the prompts and fixes the settings.
    ///
    /// Every response has the same limit: the protocol's, or, if that is less, the room that the
    /// longest prompt leaves in the model's context ([`Header::max_new_tokens`]).
    ///
    /// # Errors
    /// A setting outside its range, a template that does not fit the model, a prompt that does not
    /// fit the context, a row whose tolerance is no number.
    pub fn new(
        benchmark: &Benchmark,
        set: ProblemSet,
        subject: Subject<'a>,
        seed: u64,
    ) -> Result<Self, EvalError> {
        let mut sheet = Sheet::new(benchmark, set, subject.model, seed)?;
        let limits = LengthLimits {
            context_tokens: subject.context_tokens,
            response_tokens: 1,
        };
        let mut encoder = Encoder::new(&sheet.template, subject.text, limits);
        if let Some(chat) = subject.chat {
            encoder = encoder.with_chat(chat);
        }
        let mut prompt_ids = Vec::with_capacity(sheet.problems.len());
        for problem in &sheet.problems {
            prompt_ids.push(encoder.encode(problem)?.prompt_ids);
        }
        let longest = prompt_ids.iter().map(Vec::len).max();
        let room = subject.context_tokens.saturating_sub(longest.unwrap_or(0));
        sheet.header.max_new_tokens = sheet.header.max_new_tokens.min(room);
        sheet.header.stop_tokens = subject.stop_tokens.to_vec();
        Ok(Self {
            subject,
            sheet,
            prompt_ids,
        })
    }

    /// What the record will say at its beginning.
    pub fn header(&self) -> &Header {
        &self.sheet.header
    }

    /// What the engine must be made with.
    pub fn sampling(&self) -> Sampling {
        let header = &self.sheet.header;
        Sampling {
            temperature: header.temperature as f32,
            top_p: header.top_p as f32,
            top_k: header.top_k,
            max_new_tokens: header.max_new_tokens,
            stop_tokens: header.stop_tokens.clone(),
        }
    }

    /// Asks for every response that the record at `path` does not have yet, and finishes it.
    ///
    /// `engine` must be made with [`Self::sampling`] and have nothing pending. Sample `s` of problem
    /// `p` is drawn with `Key::new(seed).with(p).with(s)`, so it does not matter what ran before or
    /// beside it, nor where the evaluation was stopped. `progress` is told after every engine step.
    ///
    /// # Errors
    /// [`EvalError::OtherSettings`] if the record was made otherwise; a failure of the engine or the
    /// disk, after which a repeated call goes on.
    pub fn run(
        &self,
        engine: &mut dyn RolloutEngine,
        path: &Path,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Record, EvalError> {
        let (mut writer, mut responses) = self.sheet.open(path)?;
        let (mut done, total) = (responses.iter().flatten().count(), responses.len());
        progress(Progress {
            done,
            total,
            tokens: 0,
        });

        let key = Key::new(self.sheet.header.seed);
        let missing: Vec<usize> = (0..total)
            .filter(|&slot| responses[slot].is_none())
            .collect();
        let wanted = missing.into_iter().map(|slot| {
            let (index, sample) = self.sheet.at(slot);
            Completion {
                prompt: index,
                prompt_ids: &self.prompt_ids[index],
                key: key.with(index as u64).with(sample as u64),
                tag: slot as u64,
            }
        });
        complete(engine, wanted, |finished, statistics| {
            for branch in finished {
                let slot = branch.tag as usize;
                let response = self.judged(slot, &branch)?;
                writer.append(&response)?;
                responses[slot] = Some(response);
                done += 1;
            }
            progress(Progress {
                done,
                total,
                tokens: statistics.decoded_tokens,
            });
            Ok::<(), EvalError>(())
        })?;
        self.sheet.finish(writer, responses)
    }

    fn judged(&self, slot: usize, branch: &FinishedBranch) -> Result<Response, EvalError> {
        let written = (self.subject.decode)(&branch.tokens);
        let written = written.map_err(|source| EvalError::Decode {
            id: self.sheet.problems[self.sheet.at(slot).0].id.clone(),
            source,
        })?;
        let answer = Answer {
            text: &written,
            tokens: branch.tokens.len(),
            stopped: branch.finish == Finish::Stop,
        };
        Ok(self.sheet.judged(slot, &answer))
    }
}
