//! Putting a benchmark to a model behind a server.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard};

use seele_client::{Outcome, Prompt, Question, Reply, Server, Survey, ask_all};
use seele_data::template;
use seele_random::Key;

use crate::benchmark::Benchmark;
use crate::error::EvalError;
use crate::evaluation::Progress;
use crate::problems::ProblemSet;
use crate::record::{Header, ModelIdentity, Record, RecordWriter, Response};
use crate::sheet::{Answer, Sheet};

/// A benchmark ready to be put to a server of OpenAI's interface.
///
/// A template with messages goes to `/chat/completions`, where the server puts them through the model's
/// chat template; any other goes to `/completions` as text. The record is that of an
/// [`Evaluation`](crate::Evaluation), but for the model, which is known by its name alone.
pub struct ServedEvaluation {
    sheet: Sheet,
    model: String,
    /// Of each problem.
    prompts: Vec<Prompt>,
}

/// What came of asking.
#[derive(Clone, Debug, PartialEq)]
pub enum Served {
    /// Every response is there.
    Whole(Box<Record>),
    /// Some are not, and the same call asks for those; how the asking ended.
    Partial(Outcome),
}

impl ServedEvaluation {
    /// Writes the prompts and fixes the settings; `model` is its name at the server.
    ///
    /// # Errors
    /// A setting outside its range, a template that does not fit the rows, a row whose tolerance is no
    /// number; [`EvalError::NotForServers`] for what the interface has no field for.
    pub fn new(
        benchmark: &Benchmark,
        set: ProblemSet,
        model: &str,
        seed: u64,
    ) -> Result<Self, EvalError> {
        let identity = ModelIdentity {
            name: model.into(),
            fingerprint: format!("served as {model}"),
            compute: "server".into(),
        };
        if benchmark.top_k > 0 {
            return Err(EvalError::NotForServers {
                what: "`top_k`".into(),
            });
        }
        let sheet = Sheet::new(benchmark, set, &identity, seed)?;
        let prompts = sheet.problems.iter();
        let prompts = prompts.map(|problem| match sheet.template.question(problem)? {
            template::Question::Text(text) => Ok(Prompt::Text(text)),
            template::Question::Chat { messages, prefill } if prefill.is_empty() => {
                let messages = messages.into_iter();
                let pair = |message: seele_data::Message| (message.role, message.content);
                Ok(Prompt::Chat(messages.map(pair).collect()))
            }
            template::Question::Chat { .. } => Err(EvalError::NotForServers {
                what: format!("the `prefill` of template `{}`", sheet.template.name()),
            }),
        });
        Ok(Self {
            prompts: prompts.collect::<Result<_, _>>()?,
            model: model.into(),
            sheet,
        })
    }

    /// What the record will say at its beginning.
    pub fn header(&self) -> &Header {
        &self.sheet.header
    }

    /// Asks `server` for every response that the record at `path` does not have yet, and finishes it once
    /// all are there. Each is written down before its thread asks on. Every question has a seed of its own,
    /// which follows from the evaluation's, the problem and the sample.
    ///
    /// # Errors
    /// [`EvalError::OtherSettings`] if the record was made otherwise; [`EvalError::Client`] if the server
    /// cannot be asked at all; a failure of the disk. A repeated call goes on.
    pub fn run(
        &self,
        server: &Server,
        path: &Path,
        stop: &AtomicBool,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Served, EvalError> {
        let server = Server {
            model: self.model.clone(),
            ..server.clone()
        };
        let (writer, responses) = self.sheet.open(path)?;
        let at = Progress {
            done: responses.iter().flatten().count(),
            total: responses.len(),
            tokens: 0,
        };
        progress(at);
        let asked = Asked {
            evaluation: self,
            state: Mutex::new(State {
                writer,
                responses,
                at,
                progress,
            }),
        };
        let outcome = ask_all(&server, at.total, &asked, stop)?;
        let state = asked.state.into_inner();
        let State {
            writer, responses, ..
        } = state.unwrap_or_else(|poisoned| poisoned.into_inner());
        match outcome {
            Outcome::Finished => Ok(Served::Whole(Box::new(
                self.sheet.finish(writer, responses)?,
            ))),
            outcome => Ok(Served::Partial(outcome)),
        }
    }
}

struct Asked<'a> {
    evaluation: &'a ServedEvaluation,
    state: Mutex<State<'a>>,
}

struct State<'a> {
    writer: RecordWriter,
    responses: Vec<Option<Response>>,
    at: Progress,
    progress: &'a mut (dyn FnMut(Progress) + Send),
}

impl<'a> Asked<'a> {
    fn locked(&self) -> MutexGuard<'_, State<'a>> {
        // A thread that panicked while it held the lock has written a whole line or none.
        self.state
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn keep(&self, place: usize, response: Response) -> Result<(), EvalError> {
        let mut state = self.locked();
        state.writer.append(&response)?;
        state.at.done += 1;
        state.at.tokens += response.tokens as u64;
        state.responses[place] = Some(response);
        let at = state.at;
        (state.progress)(at);
        Ok(())
    }
}

impl Survey for Asked<'_> {
    type Error = EvalError;

    fn question(&self, place: usize) -> Option<Question> {
        if self.locked().responses[place].is_some() {
            return None;
        }
        let Sheet {
            header, template, ..
        } = &self.evaluation.sheet;
        let (index, sample) = self.evaluation.sheet.at(place);
        let key = Key::new(header.seed).with(index as u64).with(sample as u64);
        Some(Question {
            temperature: header.temperature,
            top_p: header.top_p,
            // Positive in 32 bits, which every server takes.
            seed: Some(key.below(1 << 31)),
            stop: template.stop().to_vec(),
            ..Question::new(
                self.evaluation.prompts[index].clone(),
                header.max_new_tokens,
            )
        })
    }

    fn answered(&self, place: usize, reply: Reply) -> Result<(), EvalError> {
        let answer = Answer {
            text: &reply.text,
            tokens: reply.completion_tokens.unwrap_or(0),
            stopped: reply.finish_reason.as_deref() != Some("length"),
        };
        self.keep(place, self.evaluation.sheet.judged(place, &answer))
    }

    fn refused(&self, place: usize, reason: String) -> Result<(), EvalError> {
        self.keep(place, self.evaluation.sheet.refused(place, reason))
    }

    fn has_answers(&self) -> bool {
        let state = self.locked();
        let mut answered = state.responses.iter().flatten();
        answered.any(|response| !response.refused)
    }
}
