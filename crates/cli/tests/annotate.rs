//! `seele data annotate` against a local server that fails, stalls, truncates and lies.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test may stop where its set-up fails")]

#[path = "support/processes.rs"]
mod processes;

use processes::{end, rows};
use seele_random::Key;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

const CONCURRENCY: usize = 24;

/// What was asked of the server.
#[derive(Default)]
struct Asked {
    /// Requests by problem.
    requests: BTreeMap<usize, usize>,
    /// Whole answers by problem.
    answers: BTreeMap<usize, usize>,
    /// Problems asked about since the list was last taken.
    recent: BTreeSet<usize>,
    /// When problem 7 was turned away, and when it came back.
    turned_away: Option<Instant>,
    came_back: Option<Instant>,
}

/// What the server does to a request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Manner {
    Answer,
    TooMany,
    Broken,
    Stall,
    HangUp,
    CutBody,
    NoJson,
}

/// Every fourth request goes wrong, in one of six ways.
fn manner(problem: usize, request: usize) -> Manner {
    let ways = [
        Manner::TooMany,
        Manner::Broken,
        Manner::Stall,
        Manner::HangUp,
        Manner::CutBody,
        Manner::NoJson,
    ];
    let key = Key::new(5).with(problem as u64).with(request as u64);
    let wrong = key.below(24) as usize;
    // Few stall: each costs a time-out.
    match ways.get(wrong) {
        Some(Manner::Stall) if key.with(1).below(4) > 0 => Manner::Answer,
        Some(way) => *way,
        None => Manner::Answer,
    }
}

/// Problems that no answer will ever do for, and those for which the third does.
fn is_hopeless(problem: usize) -> bool {
    problem.is_multiple_of(5)
}

fn needs_three(problem: usize) -> bool {
    problem % 5 == 1
}

/// A lie, another for each answer.
fn lie(problem: usize, answer: usize) -> (String, &'static str, usize) {
    let right = problem + 2;
    match (problem / 5 + answer) % 6 {
        0 => (
            format!("1. Add.\n2. So \\boxed{{{}}}.", right + 1),
            "stop",
            30,
        ),
        1 => (format!("1. Add.\n2. So {right}."), "stop", 30),
        2 => (format!("So \\boxed{{{right}}}."), "stop", 30),
        3 => (format!("1. Add.\n2. So \\boxed{{{right}}}."), "length", 30),
        4 => (format!("1. So \\boxed{{{right}}}."), "stop", 3),
        _ => {
            let steps = (1..=6).map(|step| format!("{step}. So \\boxed{{{right}}}.\n"));
            (steps.collect(), "stop", 60)
        }
    }
}

struct Server {
    url: String,
    asked: Arc<Mutex<Asked>>,
}

fn server() -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Asked::default()));
    let shared = Arc::clone(&asked);
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let asked = Arc::clone(&shared);
            // The client may end at any moment; then so does its connection.
            std::thread::spawn(move || while converse(&connection, &asked).is_some() {});
        }
    });
    Server { url, asked }
}

/// One request and what becomes of it; `None` when the connection is over.
fn converse(connection: &TcpStream, asked: &Mutex<Asked>) -> Option<()> {
    let mut reader = BufReader::new(connection);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body: Value = serde_json::from_slice(&body).ok()?;
    let text = body["messages"][0]["content"].as_str()?;
    let problem = text
        .split("What is ")
        .nth(1)?
        .split(' ')
        .next()?
        .parse()
        .ok()?;
    let (request, answer) = {
        let mut asked = asked.lock().ok()?;
        asked.recent.insert(problem);
        if problem == 7 && asked.turned_away.is_some() && asked.came_back.is_none() {
            asked.came_back = Some(Instant::now());
        }
        let requests = asked.requests.entry(problem).or_default();
        *requests += 1;
        let request = *requests;
        (request, asked.answers.get(&problem).copied().unwrap_or(0))
    };
    sleep(Duration::from_millis(
        Key::new(9).with(problem as u64).below(12),
    ));
    let mut out = connection;
    let mut send = |status: &str, headers: &str, body: &str| {
        let length = body.len();
        let head = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\n\r\n");
        out.write_all(format!("{head}{body}").as_bytes()).ok()
    };
    if problem == 7 && request == 1 {
        asked.lock().ok()?.turned_away = Some(Instant::now());
        return send("429 Too Many Requests", "Retry-After: 1\r\n", "{}");
    }
    let good = format!(
        "1. Put both together: {problem} + 2.\n2. That is \\boxed{{{}}}.",
        problem + 2
    );
    let (content, finish, tokens) = match problem {
        problem if is_hopeless(problem) => lie(problem, answer),
        problem if needs_three(problem) && answer < 2 => lie(problem, answer),
        _ => (good, "stop", 30),
    };
    let completion = json!({
        "choices": [{ "index": 0, "message": { "role": "assistant", "content": content }, "finish_reason": finish }],
        "usage": { "prompt_tokens": 100, "completion_tokens": tokens },
    });
    let completion = completion.to_string();
    match manner(problem, request) {
        Manner::TooMany => send("429 Too Many Requests", "Retry-After: 0\r\n", "{}"),
        Manner::Broken => send("502 Bad Gateway", "", "<html>"),
        Manner::Stall => {
            sleep(Duration::from_secs(3));
            None
        }
        Manner::HangUp => None,
        Manner::CutBody => {
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
                completion.len()
            );
            let half = &completion[..completion.len() / 2];
            out.write_all(format!("{head}{half}").as_bytes()).ok()?;
            None
        }
        Manner::NoJson => send("200 OK", "", &completion[..completion.len() / 2]),
        Manner::Answer => {
            *asked.lock().ok()?.answers.entry(problem).or_default() += 1;
            send("200 OK", "Content-Type: application/json\r\n", &completion)
        }
    }
}

fn place(problems: usize) -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    let rows: String = (0..problems)
        .map(|i| {
            let row = json!({
                "id": format!("p{i}"), "problem": format!("What is {i} + 2?"), "answer": format!("{}", i + 2),
                "solution": format!("It is {}.", i + 2), "level": i % 3,
            });
            format!("{row}\n")
        })
        .collect();
    fs::write(place.path().join("rows.jsonl"), rows).unwrap();
    place
}

fn start(place: &Path, url: &str, more: &[&str]) -> Child {
    let concurrency = match more.contains(&"--concurrency") {
        true => Vec::new(),
        false => vec!["--concurrency".to_owned(), CONCURRENCY.to_string()],
    };
    let fixed = [
        "data",
        "annotate",
        "rows.jsonl",
        "--endpoint",
        url,
        "--model",
        "liar",
        "--out",
        "out",
    ];
    let patience = ["--timeout-secs", "1.5", "--first-wait-secs", "0.01"];
    Command::new(env!("CARGO_BIN_EXE_seele"))
        .current_dir(place)
        .env("NO_PROXY", "*")
        .args([&fixed[..], &patience, more].concat())
        .args(concurrency)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn number(row: &Value) -> usize {
    row["id"].as_str().unwrap()[1..].parse().unwrap()
}

/// Problems about which the journal has said the last word.
fn settled(journal: &Path) -> BTreeSet<usize> {
    let mut tries: BTreeMap<usize, usize> = BTreeMap::new();
    let mut settled = BTreeSet::new();
    for row in rows(journal).iter().skip(1) {
        let tries = tries.entry(number(row)).or_default();
        *tries += 1;
        if row["verdict"] == "accepted" || *tries == 3 {
            settled.insert(number(row));
        }
    }
    settled
}

#[test]
fn a_thousand_problems_end_once_each_in_the_right_file_though_killed_twice() {
    const PROBLEMS: usize = 1000;
    let place = place(PROBLEMS);
    let server = server();
    let journal = place.path().join("out/journal.jsonl");
    for lines in [400, 1000] {
        let mut child = start(place.path(), &server.url, &["--patience", "30"]);
        let begun = Instant::now();
        while rows(&journal).len() < lines {
            assert!(begun.elapsed() < Duration::from_secs(100), "no answers");
            sleep(Duration::from_millis(10));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // Whatever the killed process had asked has reached the server by now.
        sleep(Duration::from_millis(300));
        server.asked.lock().unwrap().recent.clear();
    }
    let before = settled(&journal);
    assert!(
        (100..900).contains(&before.len()),
        "killed in the middle: {}",
        before.len()
    );
    let (code, stdout, stderr) = end(start(place.path(), &server.url, &["--patience", "30"]));
    assert_eq!(code, 0, "{stderr}");
    assert!(
        stdout.contains("tokens asked") && stdout.contains("answers not kept"),
        "{stdout}"
    );

    let annotated = rows(&place.path().join("out/annotated.jsonl"));
    let rejected = rows(&place.path().join("out/rejected.jsonl"));
    let ids = |rows: &[Value]| rows.iter().map(number).collect::<Vec<_>>();
    let expected = |hopeless: bool| (0..PROBLEMS).filter(move |i| is_hopeless(*i) == hopeless);
    assert_eq!(ids(&annotated), expected(false).collect::<Vec<_>>());
    assert_eq!(ids(&rejected), expected(true).collect::<Vec<_>>());
    for row in &annotated {
        let steps: Vec<&str> = row["steps"]
            .as_array()
            .unwrap()
            .iter()
            .map(|s| s.as_str().unwrap())
            .collect();
        assert!((1..=5).contains(&steps.len()), "{row}");
        assert_eq!(steps.concat(), row["solution"].as_str().unwrap());
        assert_eq!(
            row["reference_solution"],
            format!("It is {}.", number(row) + 2)
        );
        assert_eq!(
            (&row["annotation"]["tokens"], &row["level"]),
            (&json!(30), &json!(number(row) % 3))
        );
    }
    for row in &rejected {
        assert_eq!(
            row["annotation"]["reasons"].as_array().unwrap().len(),
            3,
            "{row}"
        );
    }
    // Nothing that was settled was asked about again, and nothing twice but what two kills cut off.
    let asked = server.asked.lock().unwrap();
    assert!(
        asked.recent.is_disjoint(&before),
        "asked again after a restart"
    );
    let answers: usize = asked.answers.values().sum();
    let kept = rows(&journal).len() - 1;
    assert!(
        answers <= kept + 2 * CONCURRENCY,
        "{answers} answers, {kept} in the journal"
    );
}

#[test]
fn a_server_that_asks_to_wait_is_waited_for() {
    let place = place(10);
    let server = server();
    let (code, _, stderr) = end(start(place.path(), &server.url, &["--patience", "30"]));
    assert_eq!(code, 0, "{stderr}");
    let asked = server.asked.lock().unwrap();
    let waited = asked.came_back.unwrap() - asked.turned_away.unwrap();
    assert!(waited >= Duration::from_secs(1), "{waited:?}");
}

#[test]
fn ctrl_c_keeps_every_answer_and_writes_the_results_so_far() {
    let place = place(400);
    let server = server();
    let child = start(place.path(), &server.url, &["--concurrency", "4"]);
    let journal = place.path().join("out/journal.jsonl");
    let begun = Instant::now();
    while rows(&journal).len() < 60 {
        assert!(begun.elapsed() < Duration::from_secs(60), "no answers");
        sleep(Duration::from_millis(5));
    }
    let id = child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-INT", &id])
            .status()
            .unwrap()
            .success()
    );
    let (code, stdout, stderr) = end(child);
    assert_eq!(code, 130, "{stderr}");
    assert!(stdout.contains("open "), "{stdout}");
    let files = ["annotated.jsonl", "rejected.jsonl"]
        .map(|file| rows(&place.path().join("out").join(file)));
    let in_files: BTreeSet<usize> = files.iter().flatten().map(number).collect();
    assert_eq!(in_files, settled(&journal));
    assert!(in_files.len() < 400);
    let (code, _, stderr) = end(start(place.path(), &server.url, &["--temperature", "0.9"]));
    assert_eq!(code, 2);
    assert!(stderr.contains("`temperature`: 0.9 and 0.6"), "{stderr}");
}

/// A server that gives every request the same answer, counted.
fn one_answer(answer: &'static str) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let requests = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&requests);
    std::thread::spawn(move || {
        for mut connection in listener.incoming().flatten() {
            counter.fetch_add(1, Ordering::SeqCst);
            // The whole question first, or the client would see a broken connection.
            let mut buffer = [0; 65536];
            let mut read = Vec::new();
            while !String::from_utf8_lossy(&read).contains("max_tokens") {
                match connection.read(&mut buffer) {
                    Ok(count @ 1..) => read.extend_from_slice(&buffer[..count]),
                    _ => break,
                }
            }
            let _ = connection.write_all(answer.as_bytes());
        }
    });
    (url, requests)
}

#[test]
fn a_server_that_cannot_be_asked_is_named_with_what_it_says() {
    let place = place(50);
    let (url, requests) = one_answer(
        "HTTP/1.1 401 Unauthorized\r\nConnection: close\r\nContent-Length: 33\r\n\r\n{\"error\": {\"message\": \"no key\"}} ",
    );
    let (code, _, stderr) = end(start(place.path(), &url, &["--concurrency", "1"]));
    assert_eq!(code, 2, "{stderr}");
    assert!(
        stderr.contains("status 401: no key") && stderr.contains(&url),
        "{stderr}"
    );
    assert_eq!(requests.load(Ordering::SeqCst), 1);

    let (url, _) =
        one_answer("HTTP/1.1 503 Busy\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    let impatient = ["--patience", "2", "--concurrency", "2"];
    let (code, _, stderr) = end(start(place.path(), &url, &impatient));
    assert_eq!(code, 1, "{stderr}");
    assert!(
        stderr.contains("did not answer") && stderr.contains("status 503"),
        "{stderr}"
    );
    let (code, _, stderr) = end(start(place.path(), "localhost:80", &[]));
    assert_eq!(code, 2);
    assert!(stderr.contains("`endpoint` must be a URL"), "{stderr}");
}
