//! A local server that imitates the hub, and a second one that imitates where it keeps large files.
#![allow(dead_code, reason = "each test file uses its part")]

use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// The bearer that the imitation lets into gated repositories.
pub(crate) const TOKEN: &str = "hf_secret";

/// What the keeper of large files does to a request, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Ends the connection after so many bytes.
    Cut(usize),
    /// Falls silent after so many bytes.
    Stall(usize),
    /// Sends all from the beginning, whatever part is asked for.
    Whole,
    /// Sends another part than is asked for.
    Shifted,
    /// Changes a byte.
    Damage,
    /// Answers with a status.
    Status(u16),
}

/// A repository.
#[derive(Clone, Debug, Default)]
pub(crate) struct Repository {
    /// Commits by branch.
    pub(crate) branches: BTreeMap<String, String>,
    /// Files by commit and name.
    pub(crate) commits: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    /// Files of so many bytes and more are kept elsewhere.
    pub(crate) large: usize,
    /// Only for those with the token.
    pub(crate) gated: bool,
}

/// A request, as it came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) range: Option<String>,
    pub(crate) token: Option<String>,
    /// At the keeper of large files rather than the hub.
    pub(crate) elsewhere: bool,
}

#[derive(Default)]
pub(crate) struct State {
    /// By address: `models/owner/name`, `datasets/owner/name`.
    pub(crate) repositories: BTreeMap<String, Repository>,
    /// Old addresses of repositories.
    pub(crate) renamed: BTreeMap<String, String>,
    /// Requests so far.
    pub(crate) requests: Vec<Request>,
    /// What becomes of the next transfers of large files.
    pub(crate) faults: VecDeque<Fault>,
}

pub(crate) struct Imitation {
    pub(crate) endpoint: String,
    state: Arc<Mutex<State>>,
}

impl Imitation {
    pub(crate) fn start() -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let keeper = listen(
            &state,
            |stream, request, state, _| keep(stream, request, state),
            "",
        );
        let endpoint = listen(&state, answer, &keeper);
        Self { endpoint, state }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Adds a commit to a repository's branch `main`; files of 100 bytes and more are kept elsewhere.
    pub(crate) fn commit(&self, address: &str, commit: &str, files: &[(&str, &[u8])]) {
        let files = files
            .iter()
            .map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec()));
        let mut state = self.state();
        let repository = state.repositories.entry(address.to_owned()).or_default();
        repository.large = 100;
        repository.branches.insert("main".into(), commit.into());
        repository.commits.insert(commit.into(), files.collect());
    }

    /// The requests since the last call.
    pub(crate) fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.state().requests)
    }
}

type Answer = fn(&mut TcpStream, &Request, &Mutex<State>, &str) -> Option<()>;

fn listen(state: &Arc<Mutex<State>>, answer: Answer, keeper: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (state, keeper) = (Arc::clone(state), keeper.to_owned());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (state, keeper) = (Arc::clone(&state), keeper.clone());
            std::thread::spawn(
                move || while converse(&stream, &state, answer, &keeper).is_some() {},
            );
        }
    });
    address
}

/// One request; `None` when the connection is over.
fn converse(stream: &TcpStream, state: &Mutex<State>, answer: Answer, keeper: &str) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split(' ');
    let mut request = Request {
        method: words.next()?.to_owned(),
        path: words.next()?.to_owned(),
        elsewhere: keeper.is_empty(),
        ..Request::default()
    };
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim_end().split_once(": ") else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "range" => request.range = Some(value.to_owned()),
            "authorization" => request.token = value.strip_prefix("Bearer ").map(str::to_owned),
            _ => {}
        }
    }
    state.lock().ok()?.requests.push(request.clone());
    let mut stream = stream.try_clone().ok()?;
    answer(&mut stream, &request, state, keeper)
}

fn send(
    stream: &mut TcpStream,
    request: &Request,
    status: &str,
    headers: &str,
    body: &[u8],
) -> Option<()> {
    let length = match headers.to_ascii_lowercase().contains("content-length") {
        true => String::new(),
        false => format!("Content-Length: {}\r\n", body.len()),
    };
    let head = format!("HTTP/1.1 {status}\r\n{headers}{length}\r\n");
    stream.write_all(head.as_bytes()).ok()?;
    match request.method.as_str() {
        "HEAD" => Some(()),
        _ => stream.write_all(body).ok(),
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The hub.
fn answer(
    stream: &mut TcpStream,
    request: &Request,
    state: &Mutex<State>,
    keeper: &str,
) -> Option<()> {
    let refuse = |stream: &mut TcpStream, status: &str, code: &str| {
        let headers = format!("X-Error-Code: {code}\r\nX-Error-Message: no {code}\r\n");
        send(stream, request, status, &headers, b"{}")
    };
    let path = request.path.trim_start_matches('/').to_owned();
    let state = state.lock().ok()?;
    for (old, new) in &state.renamed {
        let (old, new) = (
            old.trim_start_matches("models/"),
            new.trim_start_matches("models/"),
        );
        if path.contains(&format!("{old}/")) {
            let headers = format!("Location: /{}\r\n", path.replace(old, new));
            return send(stream, request, "307 Temporary Redirect", &headers, b"");
        }
    }
    let token = request.token.as_deref();
    if token.is_some_and(|token| token != TOKEN) {
        return refuse(stream, "401 Unauthorized", "BadToken");
    }
    if let Some(rest) = path.strip_prefix("api/") {
        let (address, revision) = rest.split_once("/revision/")?;
        let revision = revision.replace("%2F", "/");
        let Some(repository) = state.repositories.get(address) else {
            return refuse(stream, "401 Unauthorized", "RepoNotFound");
        };
        let commit = repository.branches.get(&revision).unwrap_or(&revision);
        let Some(files) = repository.commits.get(commit) else {
            return refuse(stream, "404 Not Found", "RevisionNotFound");
        };
        let names = files
            .keys()
            .map(|name| format!("{{\"rfilename\":{name:?}}}"));
        let names = names.collect::<Vec<_>>().join(",");
        let body = format!("{{\"id\":\"x\",\"sha\":\"{commit}\",\"siblings\":[{names}]}}");
        return send(stream, request, "200 OK", "", body.as_bytes());
    }
    let (address, rest) = path.split_once("/resolve/")?;
    let (commit, file) = rest.split_once('/')?;
    let address = match address.strip_prefix("datasets/") {
        Some(_) => address.to_owned(),
        None => format!("models/{address}"),
    };
    let repository = state.repositories.get(&address)?;
    if repository.gated && token.is_none() {
        return refuse(stream, "401 Unauthorized", "GatedRepo");
    }
    let Some(bytes) = repository
        .commits
        .get(commit)?
        .get(&file.replace("%20", " "))
    else {
        return refuse(stream, "404 Not Found", "EntryNotFound");
    };
    let common = format!("X-Repo-Commit: {commit}\r\n");
    if bytes.len() < repository.large {
        let headers = format!("{common}ETag: \"{}\"\r\n", &sha256(bytes)[..40]);
        return send(stream, request, "200 OK", &headers, bytes);
    }
    let sum = sha256(bytes);
    let headers = format!(
        "{common}X-Linked-Etag: \"{sum}\"\r\nX-Linked-Size: {}\r\nLocation: {keeper}/{address}/{commit}/{file}?signature=1\r\n",
        bytes.len()
    );
    send(stream, request, "302 Found", &headers, b"")
}

/// The keeper of large files.
fn keep(stream: &mut TcpStream, request: &Request, state: &Mutex<State>) -> Option<()> {
    let (bytes, fault) = {
        let mut state = state.lock().ok()?;
        let path = request.path.trim_start_matches('/').split('?').next()?;
        let parts: Vec<&str> = path.splitn(5, '/').collect();
        let [kind, owner, name, commit, file] = parts.as_slice() else {
            return None;
        };
        let repository = state.repositories.get(&format!("{kind}/{owner}/{name}"))?;
        let bytes = repository.commits.get(*commit)?.get(*file)?.clone();
        (bytes, state.faults.pop_front())
    };
    let from = request.range.as_ref().and_then(|range| {
        let from = range.strip_prefix("bytes=")?.strip_suffix('-')?;
        from.parse::<usize>().ok()
    });
    let (mut from, mut status) = (from.unwrap_or(0), if from.is_some() { 206 } else { 200 });
    let mut bytes = bytes;
    match fault {
        Some(Fault::Status(code)) => {
            return send(stream, request, &format!("{code} X"), "", b"<xml>");
        }
        Some(Fault::Whole) => (from, status) = (0, 200),
        Some(Fault::Shifted) => from = from.saturating_sub(1),
        Some(Fault::Damage) => *bytes.last_mut()? ^= 1,
        _ => {}
    }
    let body = bytes.get(from..).unwrap_or_default();
    let mut headers = format!("Content-Length: {}\r\n", body.len());
    if status == 206 {
        headers.push_str(&format!(
            "Content-Range: bytes {from}-{}/{}\r\n",
            bytes.len() - 1,
            bytes.len()
        ));
    }
    let status = format!("{status} X");
    match fault {
        Some(Fault::Cut(count) | Fault::Stall(count)) => {
            let count = count.min(body.len());
            send(stream, request, &status, &headers, &body[..count])?;
            if matches!(fault, Some(Fault::Stall(_))) {
                std::thread::sleep(Duration::from_secs(2));
            }
            let _ = stream.shutdown(std::net::Shutdown::Both);
            None
        }
        _ => send(stream, request, &status, &headers, body),
    }
}
