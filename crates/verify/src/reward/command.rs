//! A reward computed by a program of the user's that speaks JSON lines on its standard input and output.
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel, sync_channel};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::config::CommandConfig;
use super::failures::{FailureCounters, count};
use super::wire::{RewardReply, WireRequest};
use super::{Reward, RewardFailures, RewardRequest, RewardUnavailable, Score};

/// The longest reply line that is read.
const MAX_REPLY_BYTES: u64 = 1 << 20;

/// A pool of child processes, each serving one request at a time.
///
/// A process that exceeds the time limit, ends, or writes something else than the reply is killed with
/// its whole process group; the next request that needs it starts another. The rollout concerned is
/// left out of its group and counted.
pub(super) struct CommandReward {
    config: CommandConfig,
    pool: Mutex<Pool>,
    returned: Condvar,
    counters: FailureCounters,
}

#[derive(Default)]
struct Pool {
    idle: Vec<Worker>,
    /// Processes alive or being started, idle ones included.
    live: usize,
}

impl CommandReward {
    /// A pool that starts its processes as they are needed.
    pub(super) fn new(config: CommandConfig) -> Self {
        Self {
            config,
            pool: Mutex::default(),
            returned: Condvar::new(),
            counters: FailureCounters::default(),
        }
    }

    /// An idle process, a new one, or the next that comes back.
    fn check_out(&self) -> std::io::Result<Worker> {
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(worker) = pool.idle.pop() {
                return Ok(worker);
            }
            if pool.live < self.config.processes {
                pool.live += 1;
                drop(pool);
                return Worker::start(&self.config).inspect_err(|_| self.give_up());
            }
            pool = self
                .returned
                .wait(pool)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn check_in(&self, worker: Worker) {
        self.pool
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .idle
            .push(worker);
        self.returned.notify_one();
    }

    /// A process is gone: there is room for another.
    fn give_up(&self) {
        self.pool
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .live -= 1;
        self.returned.notify_one();
    }

    /// A process's score, or why there is none; the process is then gone.
    fn ask(&self, request: &RewardRequest<'_>) -> Result<Score, String> {
        let mut worker = self.check_out().map_err(|error| {
            count(&self.counters.command_start_failures);
            format!("cannot start `{}`: {error}", self.config.program())
        })?;
        let problem = match worker.ask(request, &self.config) {
            Ok(line) => match RewardReply::read(&line, request.id, &self.counters) {
                Ok(score) => {
                    self.check_in(worker);
                    return Ok(score);
                }
                Err(problem) => {
                    count(&self.counters.command_bad_replies);
                    format!("not a reply: {problem}")
                }
            },
            Err(Unanswered::TimedOut) => {
                count(&self.counters.command_timeouts);
                format!("no reply within {} s", self.config.timeout_secs)
            }
            Err(Unanswered::Ended) => {
                count(&self.counters.command_crashes);
                "the process ended without a reply".to_owned()
            }
        };
        drop(worker);
        self.give_up();
        Err(format!("`{}`: {problem}", self.config.program()))
    }
}

impl Reward for CommandReward {
    fn score(&self, request: &RewardRequest<'_>) -> Score {
        self.ask(request).unwrap_or_else(Score::left_out)
    }

    fn check_available(&self, request: &RewardRequest<'_>) -> Result<(), RewardUnavailable> {
        self.ask(request).map(drop).map_err(RewardUnavailable)
    }

    fn failures(&self) -> RewardFailures {
        self.counters.snapshot()
    }
}

/// Why a request got no reply line.
enum Unanswered {
    TimedOut,
    Ended,
}

/// A child process with one thread that writes to it and one that reads from it, so that neither a
/// full pipe nor a silent child can hold up the caller beyond its time limit.
struct Worker {
    child: Child,
    requests: Option<Sender<String>>,
    replies: Receiver<String>,
    /// Has answered before, so its start-up is over.
    warm: bool,
}

impl Worker {
    fn start(config: &CommandConfig) -> std::io::Result<Self> {
        let mut command = Command::new(config.program());
        command
            .args(config.command.iter().skip(1))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn()?;
        let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(std::io::Error::other("the pipes of the child are missing"));
        };
        let (requests, to_write) = channel::<String>();
        // Two lines of room: a child that floods its output blocks instead of filling our memory.
        let (from_child, replies) = sync_channel::<String>(2);
        std::thread::Builder::new()
            .name("reward-writer".to_owned())
            .spawn(move || {
                for line in to_write {
                    if input
                        .write_all(line.as_bytes())
                        .and_then(|()| input.flush())
                        .is_err()
                    {
                        return;
                    }
                }
            })?;
        std::thread::Builder::new()
            .name("reward-reader".to_owned())
            .spawn(move || {
                let mut output = BufReader::new(output);
                let mut line = Vec::new();
                loop {
                    line.clear();
                    match output
                        .by_ref()
                        .take(MAX_REPLY_BYTES)
                        .read_until(b'\n', &mut line)
                    {
                        Ok(read) if read > 0 && line.ends_with(b"\n") => {
                            if from_child
                                .send(String::from_utf8_lossy(&line).into_owned())
                                .is_err()
                            {
                                return;
                            }
                        }
                        _ => return,
                    }
                }
            })?;
        Ok(Self {
            child,
            requests: Some(requests),
            replies,
            warm: false,
        })
    }

    /// Sends a request and waits for one line.
    fn ask(
        &mut self,
        request: &RewardRequest<'_>,
        config: &CommandConfig,
    ) -> Result<String, Unanswered> {
        let mut line =
            serde_json::to_string(&WireRequest::from(request)).map_err(|_| Unanswered::Ended)?;
        line.push('\n');
        let sent = self
            .requests
            .as_ref()
            .is_some_and(|requests| requests.send(line).is_ok());
        if !sent {
            return Err(Unanswered::Ended);
        }
        let start_up = if self.warm {
            0.0
        } else {
            config.start_timeout_secs
        };
        let limit = Duration::from_secs_f64(config.timeout_secs + start_up);
        match self.replies.recv_timeout(limit) {
            Ok(line) => {
                self.warm = true;
                Ok(line)
            }
            Err(RecvTimeoutError::Timeout) => Err(Unanswered::TimedOut),
            Err(RecvTimeoutError::Disconnected) => Err(Unanswered::Ended),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.requests = None;
        // The whole group: a shell wrapper must not leave its own child behind. Errors mean it is gone.
        #[cfg(unix)]
        if let Some(group) = rustix::process::Pid::from_raw(self.child.id().cast_signed()) {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
