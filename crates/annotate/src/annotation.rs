//! Asking for everything that is missing, many questions at a time.

use crate::client::{Client, Failure, Server};
use crate::error::AnnotateError;
use crate::journal::{Journal, Try, Verdict};
use crate::prompt::message;
use crate::rules::{CountTokens, Rules};
use seele_data::Problem;
use seele_random::Key;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Longest wait between two tries to reach the server, unless it asks for more.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(60);
/// A waiting thread looks this often whether it should stop.
const LOOK: Duration = Duration::from_millis(50);
/// Problems in a row that cannot be answered until the server counts as gone; at least as many as are
/// asked at a time.
const GIVEN_UP_IN_A_ROW: usize = 4;

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

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every problem is settled.
    Finished,
    /// Some problems could not be answered; another run asks for them again.
    Unanswered,
    /// It was told to stop.
    Stopped,
}

/// What a run is made of.
pub struct Annotation<'a> {
    /// The problems; ids are unique.
    pub problems: &'a [Problem],
    /// Whom to ask.
    pub server: &'a Server,
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
    client: Client<'a>,
    /// Index of the next problem.
    next: AtomicUsize,
    /// Problems given up since the last answer.
    given_up: AtomicUsize,
    unanswered: AtomicBool,
    /// An error that ends everything.
    over: AtomicBool,
    state: Mutex<State<'a>>,
}

struct State<'a> {
    journal: &'a mut Journal,
    progress: Progress,
    report: &'a mut (dyn FnMut(Progress) + Send),
    error: Option<AnnotateError>,
}

impl Annotation<'_> {
    /// Asks until every problem has an accepted answer or no try left. Every answer is in the journal
    /// before the next question about its problem. `report` is told after every answer and failure.
    ///
    /// # Errors
    /// [`AnnotateError::Refused`] and [`AnnotateError::Gone`] if the server cannot be asked at all;
    /// [`AnnotateError::File`] if the journal cannot be written; [`AnnotateError::Setting`].
    pub fn run(
        &self,
        journal: &mut Journal,
        report: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Outcome, AnnotateError> {
        if self.rules.tries == 0 {
            return Err(AnnotateError::Setting {
                setting: "tries",
                expected: "at least 1",
            });
        }
        let client = Client::new(self.server, self.rules.max_tokens)?;
        let progress = self.progress(journal);
        report(progress);
        let open = progress.problems - progress.annotated - progress.rejected;
        let shared = Shared {
            annotation: self,
            client,
            next: AtomicUsize::new(0),
            given_up: AtomicUsize::new(0),
            unanswered: AtomicBool::new(false),
            over: AtomicBool::new(false),
            state: Mutex::new(State {
                journal,
                progress,
                report,
                error: None,
            }),
        };
        let threads = self.server.concurrency.min(open);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                let started = std::thread::Builder::new().spawn_scoped(scope, || shared.work());
                if let Err(source) = started {
                    shared.fail(AnnotateError::Threads { threads, source });
                }
            }
        });
        let error = shared.state.into_inner().ok().and_then(|state| state.error);
        match error {
            Some(error) => Err(error),
            None if self.stop.load(Ordering::SeqCst) => Ok(Outcome::Stopped),
            None if shared.unanswered.into_inner() => Ok(Outcome::Unanswered),
            None => Ok(Outcome::Finished),
        }
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
    /// One thread: problem after problem.
    fn work(&self) {
        while !self.is_over() {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(problem) = self.annotation.problems.get(index) else {
                return;
            };
            if let Err(error) = self.settle(index, problem) {
                self.fail(error);
            }
        }
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst) || self.annotation.stop.load(Ordering::SeqCst)
    }

    /// Keeps the first error; all threads end after it.
    fn fail(&self, error: AnnotateError) {
        self.over.store(true, Ordering::SeqCst);
        self.locked(|state| {
            state.error.get_or_insert(error);
        });
    }

    fn locked<T>(&self, work: impl FnOnce(&mut State<'_>) -> T) -> T {
        // A thread that panicked while it held the lock has written a whole line or none.
        let mut state = self
            .state
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        work(&mut state)
    }

    /// Asks about one problem until it is settled, the server cannot be reached, or all is over.
    fn settle(&self, index: usize, problem: &Problem) -> Result<(), AnnotateError> {
        let mut failures = 0;
        loop {
            let (settled, made) = self.locked(|state| {
                let made = state.journal.tries_of(&problem.id).len();
                (state.journal.is_settled(&problem.id), made)
            });
            if settled || self.is_over() {
                return Ok(());
            }
            let number = made + 1;
            let failure = match self.client.ask(&message(problem)) {
                Ok(reply) => {
                    failures = 0;
                    self.given_up.store(0, Ordering::SeqCst);
                    let annotation = self.annotation;
                    self.record(Try {
                        id: problem.id.clone(),
                        number,
                        verdict: annotation.rules.judge(problem, &reply, annotation.count),
                        prompt_tokens: reply.prompt_tokens,
                        completion_tokens: reply.completion_tokens,
                        response: reply.text,
                    })?;
                    continue;
                }
                Err(failure) => failure,
            };
            self.locked(|state| {
                state.progress.failures += 1;
                (state.report)(state.progress);
            });
            match failure {
                Failure::Hopeless { status, message } => return Err(self.refused(status, message)),
                Failure::Refused { status, message } => {
                    // A server that has answered something refuses this question alone.
                    if self.locked(|state| state.progress.answers) == 0 {
                        return Err(self.refused(status, message));
                    }
                    self.record(Try {
                        id: problem.id.clone(),
                        number,
                        verdict: Verdict::Refused {
                            reason: format!("status {status}: {message}"),
                        },
                        prompt_tokens: None,
                        completion_tokens: None,
                        response: String::new(),
                    })?;
                }
                Failure::Passing {
                    reason,
                    retry_after,
                } => {
                    failures += 1;
                    if failures >= self.annotation.server.patience {
                        return self.give_up(reason);
                    }
                    let jitter = Key::new(index as u64).with(failures.into()).uniform();
                    let wait = self.back_off(failures, jitter);
                    self.wait(wait.max(retry_after.unwrap_or_default()));
                }
            }
        }
    }

    /// Doubles from failure to failure, spread by half so that not all come back at once.
    fn back_off(&self, failures: u32, jitter: f64) -> Duration {
        let doubled = 2u32.saturating_pow(failures - 1);
        let wait = self.annotation.server.first_wait.saturating_mul(doubled);
        wait.min(LONGEST_BACK_OFF).mul_f64(0.5 + jitter)
    }

    fn wait(&self, wait: Duration) {
        let end = Instant::now() + wait;
        while !self.is_over() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(LOOK));
        }
    }

    /// Leaves a problem for another run.
    fn give_up(&self, reason: String) -> Result<(), AnnotateError> {
        self.unanswered.store(true, Ordering::SeqCst);
        let in_a_row = 1 + self.given_up.fetch_add(1, Ordering::SeqCst);
        let limit = GIVEN_UP_IN_A_ROW.max(self.annotation.server.concurrency);
        match in_a_row >= limit {
            true => Err(AnnotateError::Gone {
                url: self.client.url().to_owned(),
                reason,
            }),
            false => Ok(()),
        }
    }

    fn refused(&self, status: u16, message: String) -> AnnotateError {
        AnnotateError::Refused {
            url: self.client.url().to_owned(),
            status,
            message,
        }
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
}
