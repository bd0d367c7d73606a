//! Paths, answers on the wire, and the end of the server.

use crate::answer::{Envelope, WholeChoice, usage};
use crate::engine::EngineHandle;
use crate::error::{ApiError, ServeError};
use crate::generation::Generation;
use crate::request::{Kind, Reader, Request, unknown_model};
use seele_policy::chat::ChatTemplate;
use seele_policy::config::ModelConfig;
use seele_policy::decoder::Decoder;
use seele_policy::tokenizer::Tokenizer;
use seele_random::Key;
use serde_json::{Value, json};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tiny_http::{HTTPVersion, Header, Method, Response};

/// Largest body that is read, bytes.
const MAX_BODY_BYTES: u64 = 16 << 20;
/// Requests that are answered at a time.
const MAX_REQUESTS: usize = 1024;
/// Time between two connections of [`keep_connections_moving`].
const NUDGE: Duration = Duration::from_millis(100);

/// An address that is listened on.
pub struct Listener {
    http: tiny_http::Server,
    address: SocketAddr,
}

impl Listener {
    /// Begins to listen; port 0 takes a free one. Requests wait until [`Server::run`].
    ///
    /// # Errors
    /// [`ServeError::Bind`].
    pub fn bind(address: SocketAddr) -> Result<Self, ServeError> {
        let bound = tiny_http::Server::http(address).ok();
        let found = bound.and_then(|http| Some((http.server_addr().to_ip()?, http)));
        match found {
            Some((address, http)) => Ok(Self { http, address }),
            None => Err(ServeError::Bind {
                address,
                // The library's error does not say more than this would.
                reason: match std::net::TcpListener::bind(address) {
                    Ok(_) => "it was in use a moment ago".into(),
                    Err(error) => error.to_string(),
                },
            }),
        }
    }

    /// The address, with the port that was taken.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends [`Server::run`] when what has been begun is answered.
    pub fn stop(&self) {
        self.http.unblock();
    }
}

/// Settings of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerConfig {
    /// Name of the model in requests and answers.
    pub name: String,
    /// Completions that are written at a time, at least 1.
    pub max_active_branches: usize,
    /// Source of the draws of requests that bring no `seed`: the same requests in the same order get
    /// the same answers.
    pub seed: u64,
}

/// A model with the interface around it.
pub struct Server {
    config: ServerConfig,
    model: ModelConfig,
    tokenizer: Tokenizer,
    chat_template: Option<ChatTemplate>,
    engine: EngineHandle,
    started: u64,
    requests: AtomicU64,
    answering: AtomicUsize,
}

impl Server {
    /// Starts the engine on a thread of its own; it ends with the server.
    ///
    /// # Errors
    /// [`ServeError::Thread`].
    pub fn new(
        config: ServerConfig,
        decoder: Decoder,
        tokenizer: Tokenizer,
        chat_template: Option<ChatTemplate>,
    ) -> Result<Self, ServeError> {
        let model = decoder.config().clone();
        let engine = EngineHandle::start(decoder, config.max_active_branches.max(1))?;
        Ok(Self {
            config,
            model,
            tokenizer,
            chat_template,
            engine,
            started: now(),
            requests: AtomicU64::new(0),
            answering: AtomicUsize::new(0),
        })
    }

    /// Answers until [`Listener::stop`], then what has been begun.
    pub fn run(&self, listener: &Listener) {
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| keep_connections_moving(listener.address, &over));
            for request in listener.http.incoming_requests() {
                if self.answering.fetch_add(1, Ordering::SeqCst) >= MAX_REQUESTS {
                    self.answering.fetch_sub(1, Ordering::SeqCst);
                    refuse(request, &ApiError::busy());
                    continue;
                }
                // A request without a thread is dropped, which answers it with status 500.
                let started = std::thread::Builder::new().spawn_scoped(scope, || {
                    self.answer(request);
                    self.answering.fetch_sub(1, Ordering::SeqCst);
                });
                if let Err(error) = started {
                    self.answering.fetch_sub(1, Ordering::SeqCst);
                    tracing::error!("cannot start a thread for a request: {error}");
                }
            }
            over.store(true, Ordering::SeqCst);
        });
    }

    fn answer(&self, mut request: tiny_http::Request) {
        let path = request
            .url()
            .split('?')
            .next()
            .unwrap_or_default()
            .to_owned();
        tracing::debug!("{} {path}", request.method());
        let kind = match path.as_str() {
            "/v1/completions" => Some(Kind::Completion),
            "/v1/chat/completions" => Some(Kind::Chat),
            _ => None,
        };
        let method = request.method().clone();
        let outcome = match (kind, method) {
            (Some(kind), Method::Post) => match self.begin(kind, &mut request) {
                Ok((envelope, generation, asked)) if asked.stream => {
                    let stream = Stream {
                        envelope,
                        generation,
                        asked,
                    };
                    // A client that is gone needs no answer; dropping the generation ends it.
                    if let Err(error) = stream.write(request) {
                        tracing::debug!("a stream ended early: {error}");
                    }
                    return;
                }
                Ok((envelope, generation, asked)) => whole(&envelope, generation, &asked),
                Err(error) => Err(error),
            },
            (None, Method::Get) => self.describe(&path),
            (Some(_), _) => Err(not_allowed("ask for completions with POST")),
            (None, _) if path.starts_with("/v1/models") => {
                Err(not_allowed("ask for models with GET"))
            }
            (None, _) => Err(nothing_here()),
        };
        match outcome {
            Ok(value) => respond(request, 200, &value),
            Err(error) => refuse(request, &error),
        }
    }

    /// What is to be told about models.
    fn describe(&self, path: &str) -> Result<Value, ApiError> {
        let card = json!({
            "id": self.config.name, "object": "model", "created": self.started, "owned_by": "seele",
            "max_model_len": self.model.max_position_embeddings,
        });
        match path.strip_prefix("/v1/models") {
            Some("" | "/") => Ok(json!({ "object": "list", "data": [card] })),
            Some(name) if name.strip_prefix('/') == Some(&self.config.name) => Ok(card),
            Some(name) => Err(unknown_model(
                name.trim_start_matches('/'),
                &self.config.name,
            )),
            None => Err(nothing_here()),
        }
    }

    /// Reads a request and puts it to the engine.
    fn begin(
        &self,
        kind: Kind,
        request: &mut tiny_http::Request,
    ) -> Result<(Envelope, Generation, Request), ApiError> {
        let mut body = Vec::new();
        let read = request
            .as_reader()
            .take(MAX_BODY_BYTES + 1)
            .read_to_end(&mut body);
        read.map_err(|error| ApiError::bad(None, format!("the body could not be read: {error}")))?;
        if body.len() as u64 > MAX_BODY_BYTES {
            return Err(ApiError {
                status: 413,
                ..ApiError::bad(
                    None,
                    format!("the body is larger than {MAX_BODY_BYTES} bytes"),
                )
            });
        }
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let reader = Reader {
            name: &self.config.name,
            tokenizer: &self.tokenizer,
            chat_template: self.chat_template.as_ref(),
            vocab_size: self.model.vocab_size,
            context_tokens: self.model.max_position_embeddings,
            stop_tokens: &self.model.eos_token_ids,
            unseeded: Key::new(self.config.seed).with(number),
        };
        let mut asked = reader.read(kind, &body)?;
        let jobs = std::mem::take(&mut asked.jobs);
        let events = self.engine.submit(jobs).map_err(|_| ApiError::busy())?;
        let created = now();
        let prefix = match kind {
            Kind::Completion => "cmpl",
            Kind::Chat => "chatcmpl",
        };
        let envelope = Envelope {
            kind,
            id: format!(
                "{prefix}-{:016x}",
                Key::new(self.started).with(number).bits()
            ),
            created,
            model: self.config.name.clone(),
            logprobs: asked.logprobs.is_some(),
            tokenizer: self.tokenizer.clone(),
        };
        let generation = Generation::new(&asked, events, self.tokenizer.clone());
        Ok((envelope, generation, asked))
    }
}

fn not_allowed(message: &str) -> ApiError {
    ApiError {
        status: 405,
        ..ApiError::bad(None, message)
    }
}

fn nothing_here() -> ApiError {
    ApiError {
        status: 404,
        ..ApiError::bad(
            None,
            "there is nothing here; ask `/v1/completions`, `/v1/chat/completions` or `/v1/models`",
        )
    }
}

/// An answer that is sent at once.
fn whole(
    envelope: &Envelope,
    mut generation: Generation,
    asked: &Request,
) -> Result<Value, ApiError> {
    let mut choices: Vec<WholeChoice> = Vec::new();
    choices.resize_with(asked.choices, WholeChoice::default);
    while let Some(progress) = generation.next()? {
        if let Some(choice) = choices.get_mut(progress.choice) {
            choice.piece.text.push_str(&progress.piece.text);
            choice.piece.tokens.extend(progress.piece.tokens);
            choice.finish = progress.finish;
        }
    }
    let usage = usage(asked.prompt_tokens, generation.completion_tokens());
    Ok(envelope.whole(&choices, usage))
}

/// An answer in server-sent events.
struct Stream {
    envelope: Envelope,
    generation: Generation,
    asked: Request,
}

impl Stream {
    /// Sends every piece as soon as it is there.
    fn write(mut self, request: tiny_http::Request) -> io::Result<()> {
        // The library would hold pieces back to fill its buffer, so the answer is written here.
        let mut out = EventWriter {
            chunked: *request.http_version() >= HTTPVersion(1, 1),
            out: request.into_writer(),
        };
        out.begin()?;
        for choice in 0..self.asked.choices {
            if let Some(opening) = self.envelope.opening(choice) {
                out.event(&opening.to_string())?;
            }
        }
        loop {
            match self.generation.next() {
                Ok(Some(progress)) => {
                    let (choice, finish) = (progress.choice, progress.finish);
                    let chunk = self.envelope.chunk(choice, &progress.piece, finish);
                    out.event(&chunk.to_string())?;
                }
                Ok(None) => break,
                Err(error) => {
                    // The status has been sent; the error is the last event.
                    out.event(&error.to_json().to_string())?;
                    return out.end();
                }
            }
        }
        if self.asked.stream_usage {
            let tokens = self.generation.completion_tokens();
            let usage = usage(self.asked.prompt_tokens, tokens);
            out.event(&self.envelope.usage_chunk(usage).to_string())?;
        }
        out.event("[DONE]")?;
        out.end()
    }
}

/// Server-sent events on a connection.
struct EventWriter {
    out: Box<dyn Write + Send>,
    /// HTTP/1.0 knows no chunks: there the end of the connection is the end of the answer.
    chunked: bool,
}

impl EventWriter {
    fn begin(&mut self) -> io::Result<()> {
        let length = match self.chunked {
            true => "Transfer-Encoding: chunked",
            false => "Connection: close",
        };
        write!(
            self.out,
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache\r\n{length}\r\n\r\n"
        )?;
        self.out.flush()
    }

    fn event(&mut self, data: &str) -> io::Result<()> {
        let event = format!("data: {data}\n\n");
        match self.chunked {
            true => write!(self.out, "{:x}\r\n{event}\r\n", event.len())?,
            false => self.out.write_all(event.as_bytes())?,
        }
        self.out.flush()
    }

    fn end(mut self) -> io::Result<()> {
        if self.chunked {
            self.out.write_all(b"0\r\n\r\n")?;
        }
        self.out.flush()
    }
}

/// Connects to the server from time to time, without a request. Of connections that come together, the
/// library can leave one in its queue although threads are idle, until the next connection wakes one of
/// them; a client that keeps its other connections open would wait for ever.
fn keep_connections_moving(address: SocketAddr, over: &AtomicBool) {
    let mut address = address;
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    while !over.load(Ordering::SeqCst) {
        std::thread::sleep(NUDGE);
        // A server that cannot be reached has nothing in its queue either.
        let _ = TcpStream::connect_timeout(&address, NUDGE);
    }
}

fn refuse(request: tiny_http::Request, error: &ApiError) {
    respond(request, error.status, &error.to_json());
}

fn respond(request: tiny_http::Request, status: u16, value: &Value) {
    let mut response = Response::from_string(value.to_string()).with_status_code(status);
    let json = ("Content-Type", "application/json");
    let retry = (status == 503).then_some(("Retry-After", "1"));
    for (name, value) in [Some(json), retry].into_iter().flatten() {
        if let Ok(header) = Header::from_bytes(name, value) {
            response.add_header(header);
        }
    }
    // A client that is gone needs no answer.
    if let Err(error) = request.respond(response) {
        tracing::debug!("an answer was not taken: {error}");
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
