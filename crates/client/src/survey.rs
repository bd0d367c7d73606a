//! Many questions to one server.

use crate::ask::{Client, Failure, Question, Reply};
use crate::error::ClientError;
use crate::server::Server;
use seele_random::Key;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Longest wait between two tries to reach the server, unless it asks for more.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(60);
/// A waiting thread looks this often whether it should stop.
const LOOK: Duration = Duration::from_millis(50);
/// Items in a row that cannot be answered until the server counts as gone, or, before any answer, that are
/// refused until it counts as refusing all; at least as many as are asked at a time.
const GIVEN_UP_IN_A_ROW: usize = 4;

/// What is asked, item by item, and what becomes of the answers. Called from many threads at once, but for
/// one item only from one.
pub trait Survey: Sync {
    /// What ends the survey.
    type Error: From<ClientError> + Send;

    /// The next question about item `index`; `None` when there is none left.
    fn question(&self, index: usize) -> Option<Question>;

    /// Takes an answer to the last question about item `index`.
    ///
    /// # Errors
    /// What ends the survey, for example that the answer cannot be written down.
    fn answered(&self, index: usize, reply: Reply) -> Result<(), Self::Error>;

    /// The server will never answer the last question about item `index`.
    ///
    /// # Errors
    /// What ends the survey.
    fn refused(&self, index: usize, reason: String) -> Result<(), Self::Error>;

    /// A question failed in a way that may pass.
    fn failed(&self) {}

    /// Whether the server has answered in an earlier run. One that has answered anything refuses single
    /// questions. Until then a refusal is set aside: the first answer makes it one of a single question;
    /// several in a row, or no answer at all, mean that the server refuses all, and that ends the survey.
    fn has_answers(&self) -> bool {
        false
    }
}

/// How a survey ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// No item has a question left.
    Finished,
    /// Some items could not be answered; another run asks for them again.
    Unanswered,
    /// It was told to stop.
    Stopped,
}

/// A refusal before any answer.
struct SetAside {
    index: usize,
    url: String,
    status: u16,
    message: String,
}

impl From<SetAside> for ClientError {
    fn from(refusal: SetAside) -> Self {
        let SetAside {
            url,
            status,
            message,
            ..
        } = refusal;
        Self::Refused {
            url,
            status,
            message,
        }
    }
}

struct Asking<'a, S: Survey> {
    server: &'a Server,
    client: Client<'a>,
    survey: &'a S,
    items: usize,
    /// Set from outside to stop; questions under way are waited for.
    stop: &'a AtomicBool,
    next: AtomicUsize,
    /// Whether the server has answered anything.
    answers: AtomicBool,
    /// What waits for the first answer.
    set_aside: Mutex<Vec<SetAside>>,
    /// Items given up since the last answer.
    given_up: AtomicUsize,
    unanswered: AtomicBool,
    /// Set with the first error, after which all threads end.
    over: AtomicBool,
    error: Mutex<Option<S::Error>>,
}

/// Asks about items `0..items` until none has a question left, [`Server::concurrency`] at a time. Setting
/// `stop` ends it when the questions under way are answered.
///
/// # Errors
/// [`ClientError::Refused`] and [`ClientError::Gone`] if the server cannot be asked at all;
/// [`ClientError::Setting`] and [`ClientError::Trust`]; what the survey raises.
pub fn ask_all<S: Survey>(
    server: &Server,
    items: usize,
    survey: &S,
    stop: &AtomicBool,
) -> Result<Outcome, S::Error> {
    let asking = Asking {
        server,
        client: Client::new(server)?,
        survey,
        items,
        stop,
        next: AtomicUsize::new(0),
        answers: AtomicBool::new(survey.has_answers()),
        set_aside: Mutex::new(Vec::new()),
        given_up: AtomicUsize::new(0),
        unanswered: AtomicBool::new(false),
        over: AtomicBool::new(false),
        error: Mutex::new(None),
    };
    let threads = server.concurrency.min(items);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let started = std::thread::Builder::new().spawn_scoped(scope, || asking.work());
            if let Err(source) = started {
                asking.fail(ClientError::Threads { threads, source }.into());
            }
        }
    });
    let refusal = asking.set_aside().pop();
    let error = asking.error.into_inner();
    match error.unwrap_or_else(|poisoned| poisoned.into_inner()) {
        Some(error) => Err(error),
        None if stop.load(Ordering::SeqCst) => Ok(Outcome::Stopped),
        None if let Some(refusal) = refusal => Err(ClientError::from(refusal).into()),
        None if asking.unanswered.into_inner() => Ok(Outcome::Unanswered),
        None => Ok(Outcome::Finished),
    }
}

impl<S: Survey> Asking<'_, S> {
    /// One thread: item after item.
    fn work(&self) {
        while !self.is_over() {
            let settled = match self.refused_before_answers() {
                Some(refusal) => self
                    .refuse(&refusal)
                    .and_then(|()| self.settle(refusal.index)),
                None => {
                    let index = self.next.fetch_add(1, Ordering::Relaxed);
                    if index >= self.items {
                        return;
                    }
                    self.settle(index)
                }
            };
            if let Err(error) = settled {
                self.fail(error);
            }
        }
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst) || self.stop.load(Ordering::SeqCst)
    }

    /// Keeps the first error; all threads end after it.
    fn fail(&self, error: S::Error) {
        self.over.store(true, Ordering::SeqCst);
        let kept = self.error.lock();
        let mut kept = kept.unwrap_or_else(|poisoned| poisoned.into_inner());
        kept.get_or_insert(error);
    }

    /// Asks about one item until it has no question left, the server cannot be reached, or all is over.
    fn settle(&self, index: usize) -> Result<(), S::Error> {
        let mut failures = 0;
        while !self.is_over()
            && let Some(question) = self.survey.question(index)
        {
            let failure = match self.client.ask(&question) {
                Ok(reply) => {
                    failures = 0;
                    self.given_up.store(0, Ordering::SeqCst);
                    self.answers.store(true, Ordering::SeqCst);
                    self.survey.answered(index, reply)?;
                    continue;
                }
                Err(failure) => failure,
            };
            self.survey.failed();
            let url = self.client.url(&question.prompt);
            match failure {
                Failure::Hopeless { status, message } => {
                    let refused = ClientError::Refused {
                        url,
                        status,
                        message,
                    };
                    return Err(refused.into());
                }
                Failure::Distrusted { reason } => {
                    return Err(ClientError::Distrusted { url, reason }.into());
                }
                Failure::Refused { status, message } => {
                    let refusal = SetAside {
                        index,
                        url,
                        status,
                        message,
                    };
                    match self.set_aside_unless_answers(refusal)? {
                        Some(refusal) => self.refuse(&refusal)?,
                        None => return Ok(()),
                    }
                }
                Failure::Passing {
                    reason,
                    retry_after,
                } => {
                    failures += 1;
                    if failures >= self.server.patience {
                        return self.give_up(url, reason);
                    }
                    let jitter = Key::new(index as u64).with(failures.into()).uniform();
                    let wait = self.back_off(failures, jitter);
                    self.wait(wait.max(retry_after.unwrap_or_default()));
                }
            }
        }
        Ok(())
    }

    fn set_aside(&self) -> MutexGuard<'_, Vec<SetAside>> {
        let set_aside = self.set_aside.lock();
        set_aside.unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Gives the refusal back if the server has answered something and so refuses this question alone.
    fn set_aside_unless_answers(&self, refusal: SetAside) -> Result<Option<SetAside>, S::Error> {
        // Looked at under the lock: whoever gets the first answer empties the list after it.
        let mut set_aside = self.set_aside();
        if self.answers.load(Ordering::SeqCst) {
            return Ok(Some(refusal));
        }
        if set_aside.len() + 1 >= self.in_a_row() {
            return Err(ClientError::from(refusal).into());
        }
        set_aside.push(refusal);
        Ok(None)
    }

    /// A refusal that an answer has made one of a single question.
    fn refused_before_answers(&self) -> Option<SetAside> {
        let answers = self.answers.load(Ordering::SeqCst);
        answers.then(|| self.set_aside().pop()).flatten()
    }

    fn refuse(&self, refusal: &SetAside) -> Result<(), S::Error> {
        let reason = format!("status {}: {}", refusal.status, refusal.message);
        self.survey.refused(refusal.index, reason)
    }

    fn in_a_row(&self) -> usize {
        GIVEN_UP_IN_A_ROW.max(self.server.concurrency)
    }

    /// Doubles from failure to failure, spread by half so that not all come back at once.
    fn back_off(&self, failures: u32, jitter: f64) -> Duration {
        let doubled = 2u32.saturating_pow(failures - 1);
        let wait = self.server.first_wait.saturating_mul(doubled);
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

    /// Leaves an item for another run.
    fn give_up(&self, url: String, reason: String) -> Result<(), S::Error> {
        self.unanswered.store(true, Ordering::SeqCst);
        let in_a_row = 1 + self.given_up.fetch_add(1, Ordering::SeqCst);
        match in_a_row >= self.in_a_row() {
            true => Err(ClientError::Gone { url, reason }.into()),
            false => Ok(()),
        }
    }
}
