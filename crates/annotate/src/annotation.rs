//! Asking for everything that is missing, many questions at a time.

use crate::error::AnnotateError;
use crate::journal::{Journal, Try, Verdict};
use crate::prompt::message;
use crate::rules::{CountTokens, Rules};
use seele_client::{Outcome, Prompt, Question, Reply, Server, Survey, ask_all};
use seele_data::Problem;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

/// How far an annotation is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Problems with an annotation that is kept.
    pub annotated: usize,
    /// Problems whose tries are used up, or refused by the server.
    pub rejected: usize,
    /// Problems in all.
    pub problems: usize,
    /// Answers so far, earlier runs included.
    pub answers: usize,
    /// Failures of this run: no connection, time-outs, 429, 5xx, answers that were none.
    pub failures: usize,
    /// Tokens of the questions that were answered, as the server counts, earlier runs included.
    pub prompt_tokens: u64,
    /// Tokens of the answers, likewise.
    pub completion_tokens: u64,
}

/// What a run is made of.
pub struct Annotation<'a> {
    /// The problems; ids are unique.
    pub problems: &'a [Problem],
    /// Whom to ask.
    pub server: &'a Server,
    /// Temperature of the answers, 0 to 2; tries of one problem differ only above 0.
    pub temperature: f64,
    /// What is kept.
    pub rules: Rules,
    /// Counts tokens of solutions; `None` takes the server's word.
    pub count: Option<CountTokens<'a>>,
    /// Set from outside to stop; questions under way are waited for.
    pub stop: &'a AtomicBool,
}

/// What the threads share.
struct Shared<'a> {
    annotation: &'a Annotation<'a>,
    state: Mutex<State<'a>>,
}

struct State<'a> {
    journal: &'a mut Journal,
    progress: Progress,
    report: &'a mut (dyn FnMut(Progress) + Send),
}

impl Annotation<'_> {
    /// Asks until every problem has an accepted answer or no try left. Every answer is in the journal
    /// before the next question about its problem. `report` is told after every answer and failure.
    ///
    /// # Errors
    /// [`AnnotateError::Client`] if the server cannot be asked at all; [`AnnotateError::File`] if the
    /// journal cannot be written; [`AnnotateError::Setting`].
    pub fn run(
        &self,
        journal: &mut Journal,
        report: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Outcome, AnnotateError> {
        let setting = |setting, expected| Err(AnnotateError::Setting { setting, expected });
        if self.rules.tries == 0 {
            return setting("tries", "at least 1");
        }
        if !(0.0..=2.0).contains(&self.temperature) {
            return setting("temperature", "0 to 2");
        }
        let progress = self.progress(journal);
        report(progress);
        let shared = Shared {
            annotation: self,
            state: Mutex::new(State {
                journal,
                progress,
                report,
            }),
        };
        ask_all(self.server, self.problems.len(), &shared, self.stop)
    }

    /// Where the journal stands.
    fn progress(&self, journal: &Journal) -> Progress {
        let mut progress = Progress {
            problems: self.problems.len(),
            ..Progress::default()
        };
        for problem in self.problems {
            for found in journal.tries_of(&problem.id) {
                progress.add(found);
            }
            if journal.is_settled(&problem.id) {
                let last = journal.tries_of(&problem.id).last();
                progress.settle(last.map(|last| &last.verdict));
            }
        }
        progress
    }
}

impl Progress {
    fn add(&mut self, found: &Try) {
        self.answers += 1;
        self.prompt_tokens += found.prompt_tokens.unwrap_or(0) as u64;
        self.completion_tokens += found.completion_tokens.unwrap_or(0) as u64;
    }

    fn settle(&mut self, verdict: Option<&Verdict>) {
        match verdict {
            Some(Verdict::Accepted { .. }) => self.annotated += 1,
            _ => self.rejected += 1,
        }
    }
}

impl Shared<'_> {
    fn locked<T>(&self, work: impl FnOnce(&mut State<'_>) -> T) -> T {
        // A thread that panicked while it held the lock has written a whole line or none.
        let mut state = self
            .state
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        work(&mut state)
    }

    fn record(&self, found: Try) -> Result<(), AnnotateError> {
        self.locked(|state| {
            let id = found.id.clone();
            let verdict = found.verdict.clone();
            state.progress.add(&found);
            state.journal.append(found)?;
            if state.journal.is_settled(&id) {
                state.progress.settle(Some(&verdict));
            }
            (state.report)(state.progress);
            Ok(())
        })
    }

    /// Which answer to a problem comes next, from 1.
    fn number(&self, problem: &Problem) -> usize {
        1 + self.locked(|state| state.journal.tries_of(&problem.id).len())
    }
}

impl Survey for Shared<'_> {
    type Error = AnnotateError;

    fn question(&self, index: usize) -> Option<Question> {
        let problem = self.annotation.problems.get(index)?;
        let settled = self.locked(|state| state.journal.is_settled(&problem.id));
        (!settled).then(|| Question {
            temperature: self.annotation.temperature,
            ..Question::new(
                Prompt::user(message(problem)),
                self.annotation.rules.max_tokens,
            )
        })
    }

    fn answered(&self, index: usize, reply: Reply) -> Result<(), AnnotateError> {
        let annotation = self.annotation;
        let Some(problem) = annotation.problems.get(index) else {
            return Ok(());
        };
        self.record(Try {
            id: problem.id.clone(),
            number: self.number(problem),
            verdict: annotation.rules.judge(problem, &reply, annotation.count),
            prompt_tokens: reply.prompt_tokens,
            completion_tokens: reply.completion_tokens,
            response: reply.text,
        })
    }

    fn refused(&self, index: usize, reason: String) -> Result<(), AnnotateError> {
        let Some(problem) = self.annotation.problems.get(index) else {
            return Ok(());
        };
        self.record(Try {
            id: problem.id.clone(),
            number: self.number(problem),
            verdict: Verdict::Refused { reason },
            prompt_tokens: None,
            completion_tokens: None,
            response: String::new(),
        })
    }

    fn failed(&self) {
        self.locked(|state| {
            state.progress.failures += 1;
            (state.report)(state.progress);
        });
    }

    fn has_answers(&self) -> bool {
        self.locked(|state| state.progress.answers > 0)
    }
}
