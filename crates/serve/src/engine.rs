//! The thread that owns the rollout engine, and how requests reach it.

use seele_policy::decoder::Decoder;
use seele_policy::device::Shortages;
use seele_random::Key;
use seele_rollout::{
    Alternative, BranchRequest, BranchSettings, Draw, Finish, LocalEngine, RolloutEngine,
    RolloutError, Sampling, TrunkId,
};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

/// Completions that may wait for a place in the batch; beyond it requests are turned away.
const MAX_OPEN: usize = 4096;

/// What becomes of a completion, step by step.
#[derive(Debug)]
pub(crate) enum Event {
    /// A token was drawn.
    Token {
        choice: usize,
        draw: Draw,
        alternatives: Vec<Alternative>,
    },
    /// The token before was the last.
    Finished { choice: usize, finish: Finish },
    /// The engine broke down.
    Failed(String),
}

/// Completions of one prompt that are wanted.
pub(crate) struct Job {
    pub(crate) prompt_ids: Vec<u32>,
    /// Index of its first choice among those of the request.
    pub(crate) first_choice: usize,
    /// One for each choice.
    pub(crate) keys: Vec<Key>,
    pub(crate) settings: BranchSettings,
}

enum Command {
    Start {
        job: Job,
        first_tag: u64,
        events: Sender<Event>,
    },
    Cancel {
        tag: u64,
    },
}

/// The way to the engine. The thread ends when the last of these is dropped and nothing runs.
#[derive(Clone)]
pub(crate) struct EngineHandle {
    commands: Sender<Command>,
    next_tag: Arc<AtomicU64>,
    open: Arc<AtomicUsize>,
}

/// The events of one request. Dropping it cancels what still runs.
pub(crate) struct Events {
    pub(crate) receiver: Receiver<Event>,
    commands: Sender<Command>,
    /// Tags by choice.
    tags: Vec<u64>,
}

/// The engine has more waiting than it should promise to answer.
pub(crate) struct Full;

impl EngineHandle {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the operating system has no thread to give.
    pub(crate) fn start(decoder: Decoder, max_active_branches: usize) -> std::io::Result<Self> {
        let (commands, queue) = channel();
        let open = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&open);
        // Ends by itself when the queue closes, so nobody needs to wait for it.
        std::thread::Builder::new()
            .name("engine".into())
            .spawn(move || Worker::new(&decoder, max_active_branches, counter).run(&queue))?;
        Ok(Self {
            commands,
            next_tag: Arc::new(AtomicU64::new(0)),
            open,
        })
    }

    /// Queues the jobs of a request; choices are numbered through them in order.
    pub(crate) fn submit(&self, jobs: Vec<Job>) -> Result<Events, Full> {
        let wanted: usize = jobs.iter().map(|job| job.keys.len()).sum();
        if self.open.load(Ordering::Relaxed) + wanted > MAX_OPEN {
            return Err(Full);
        }
        let (events, receiver) = channel();
        let mut tags = Vec::with_capacity(wanted);
        for job in jobs {
            let choices = job.keys.len();
            let first_tag = self.next_tag.fetch_add(choices as u64, Ordering::Relaxed);
            tags.extend((0..choices as u64).map(|choice| first_tag + choice));
            self.open.fetch_add(choices, Ordering::Relaxed);
            let events = events.clone();
            let start = Command::Start {
                job,
                first_tag,
                events,
            };
            // A thread that has ended drops its end of the events, which the request then sees.
            let _ = self.commands.send(start);
        }
        Ok(Events {
            receiver,
            commands: self.commands.clone(),
            tags,
        })
    }
}

impl Events {
    /// Ends a choice whose text is complete.
    pub(crate) fn cancel(&self, choice: usize) {
        if let Some(&tag) = self.tags.get(choice) {
            let _ = self.commands.send(Command::Cancel { tag });
        }
    }
}

/// Whom a branch's tokens go to.
struct Listener {
    choice: usize,
    trunk: TrunkId,
    events: Sender<Event>,
    /// Tokens that have been told.
    told: usize,
}

struct Worker<'a> {
    decoder: &'a Decoder,
    capacity: usize,
    engine: Option<LocalEngine<'a>>,
    listeners: HashMap<u64, Listener>,
    /// Branches that a trunk still has.
    trunks: HashMap<TrunkId, usize>,
    open: Arc<AtomicUsize>,
    /// What the device has been short of so far; each kind is told once.
    shortages: Shortages,
}

impl<'a> Worker<'a> {
    fn new(decoder: &'a Decoder, capacity: usize, open: Arc<AtomicUsize>) -> Self {
        Self {
            decoder,
            capacity,
            engine: None,
            listeners: HashMap::new(),
            trunks: HashMap::new(),
            open,
            shortages: Shortages::default(),
        }
    }

    fn run(mut self, queue: &Receiver<Command>) {
        loop {
            if self.listeners.is_empty() {
                match queue.recv() {
                    Ok(command) => self.obey(command),
                    Err(_) => return,
                }
            }
            while let Ok(command) = queue.try_recv() {
                self.obey(command);
            }
            if let Err(error) = self.step() {
                self.fail(&error);
            }
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Cancel { tag } => self.end(tag),
            Command::Start {
                job,
                first_tag,
                events,
            } => {
                let choices = job.keys.len();
                if let Err(error) = self.start(job, first_tag, &events) {
                    let _ = events.send(Event::Failed(error.to_string()));
                    for tag in (first_tag..).take(choices) {
                        if self.listeners.contains_key(&tag) {
                            self.end(tag);
                        } else {
                            self.open.fetch_sub(1, Ordering::Relaxed);
                        }
                    }
                }
            }
        }
    }

    fn start(
        &mut self,
        job: Job,
        first_tag: u64,
        events: &Sender<Event>,
    ) -> Result<(), RolloutError> {
        let engine = match &mut self.engine {
            Some(engine) => engine,
            None => {
                let engine = LocalEngine::new(self.decoder, Sampling::default(), self.capacity)?;
                self.engine.insert(engine)
            }
        };
        let fork = job.prompt_ids.len();
        let trunk = engine.add_trunk(job.prompt_ids)?;
        for (index, key) in job.keys.into_iter().enumerate() {
            let tag = first_tag + index as u64;
            let request = BranchRequest {
                trunk,
                fork,
                key,
                // First come, first served.
                expected_tokens: 0,
                tag,
            };
            engine.submit_with(request, job.settings.clone())?;
            let listener = Listener {
                choice: job.first_choice + index,
                trunk,
                events: events.clone(),
                told: 0,
            };
            self.listeners.insert(tag, listener);
            *self.trunks.entry(trunk).or_insert(0) += 1;
        }
        Ok(())
    }

    /// One token for every running branch.
    fn step(&mut self) -> Result<(), RolloutError> {
        let Some(engine) = &mut self.engine else {
            return Ok(());
        };
        let finished = engine.step()?;
        let shortages = self.decoder.take_shortages();
        if shortages.has_kinds_beside(&self.shortages) {
            tracing::warn!("{shortages}");
        }
        self.shortages += shortages;
        let mut gone = Vec::new();
        for branch in engine.running() {
            let listener = self.listeners.get_mut(&branch.tag);
            let drawn = (branch.tokens, branch.logprobs, branch.alternatives);
            if !listener.is_some_and(|listener| listener.tell(drawn)) {
                gone.push(branch.tag);
            }
        }
        for branch in finished {
            if let Some(listener) = self.listeners.get_mut(&branch.tag) {
                // Whoever is gone needs not be told the end either.
                listener.tell((&branch.tokens, &branch.logprobs, &branch.alternatives));
                let _ = listener.events.send(Event::Finished {
                    choice: listener.choice,
                    finish: branch.finish,
                });
            }
            gone.push(branch.tag);
        }
        gone.into_iter().for_each(|tag| self.end(tag));
        Ok(())
    }

    /// Forgets a branch, wherever it is, and its trunk with the last one.
    fn end(&mut self, tag: u64) {
        let Some(Listener { trunk, .. }) = self.listeners.remove(&tag) else {
            return;
        };
        self.open.fetch_sub(1, Ordering::Relaxed);
        let Some(engine) = &mut self.engine else {
            return;
        };
        engine.cancel(tag);
        if let Some(branches) = self.trunks.get_mut(&trunk) {
            *branches -= 1;
            if *branches == 0 {
                self.trunks.remove(&trunk);
                engine.drop_trunk(trunk);
            }
        }
    }

    /// An engine that has failed is replaced; all who waited for it are told.
    fn fail(&mut self, error: &RolloutError) {
        tracing::error!("the engine failed: {error}");
        self.engine = None;
        self.trunks.clear();
        for (_, listener) in self.listeners.drain() {
            self.open.fetch_sub(1, Ordering::Relaxed);
            let _ = listener.events.send(Event::Failed(error.to_string()));
        }
    }
}

impl Listener {
    /// Tells what has been drawn (tokens, log-probs, alternatives) since the last time; whether
    /// somebody still listens.
    fn tell(&mut self, drawn: (&[u32], &[f32], &[Vec<Alternative>])) -> bool {
        let (tokens, logprobs, alternatives) = drawn;
        let new = tokens.iter().zip(logprobs).enumerate().skip(self.told);
        for (place, (&token, &logprob)) in new {
            let event = Event::Token {
                choice: self.choice,
                draw: Draw { token, logprob },
                alternatives: alternatives.get(place).cloned().unwrap_or_default(),
            };
            if self.events.send(event).is_err() {
                return false;
            }
            self.told = place + 1;
        }
        true
    }
}
