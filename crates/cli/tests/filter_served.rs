//! `seele data filter --endpoint`: by `seele serve`, and by a server that fails and refuses.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test may stop where its set-up fails")]

#[path = "support/processes.rs"]
mod processes;
#[path = "../../policy/tests/samples/mod.rs"]
mod samples;

use processes::{end, rows};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

const PROBLEMS: usize = 20;

fn place() -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    // Any number with the digit counts: the model writes at random, and some of it is right.
    let row = |i: usize| json!({ "id": format!("p{i}"), "problem": format!("pick {i}: "), "answer": (i % 10).to_string() });
    let rows: String = (0..PROBLEMS).map(|i| format!("{}\n", row(i))).collect();
    fs::write(place.path().join("rows.jsonl"), rows).unwrap();
    place
}

fn start(place: &Path, url: &str, template: &str, arguments: &[&str]) -> Child {
    let fixed = [
        "data",
        "filter",
        "rows.jsonl",
        "--model",
        "tiny",
        "--endpoint",
        url,
    ];
    let more = [
        "--template",
        template,
        "--extraction",
        "fallback",
        "--temperature",
        "1",
    ];
    Command::new(env!("CARGO_BIN_EXE_seele"))
        .current_dir(place)
        .args([&fixed[..], &more, arguments].concat())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// `seele serve` with a small model.
struct Served(Child, String);

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn serve(place: &Path) -> Served {
    let options = seele_policy::huggingface::SaveOptions::default();
    samples::llama()
        .save(&place.join("tiny"), &options)
        .unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_seele"))
        .current_dir(place)
        .args(["serve", "tiny", "--port", "0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut url = String::new();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut url).unwrap();
    Served(child, url.trim().to_owned())
}

#[test]
fn seele_serve_filters_and_a_kill_loses_nothing() {
    let place = place();
    let server = serve(place.path());
    for template in ["bare", "chat"] {
        let arguments = |out: &'static str| {
            let fixed = ["--samples", "4", "--max-new-tokens", "60", "--seed", "2"];
            [&fixed[..], &["--keep", "1..4", "--out", out]].concat()
        };
        let (code, expected, stderr) = end(start(
            place.path(),
            &server.1,
            template,
            &arguments("whole"),
        ));
        assert_eq!(code, 0, "{stderr}");
        let counted = rows(&place.path().join("whole/counted.jsonl"));
        assert_eq!(counted.len(), PROBLEMS);
        let right: u64 = counted
            .iter()
            .map(|row| row["pass_count"].as_u64().unwrap())
            .sum();
        assert!(right > 0 && right < 4 * PROBLEMS as u64, "{right}");

        let mut child = start(place.path(), &server.1, template, &arguments("killed"));
        let path = place.path().join("killed/responses.jsonl");
        let begun = Instant::now();
        while rows(&path).len() < 10 {
            assert!(begun.elapsed() < Duration::from_secs(60), "no responses");
            sleep(Duration::from_millis(2));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let (code, stdout, stderr) = end(start(
            place.path(),
            &server.1,
            template,
            &arguments("killed"),
        ));
        assert_eq!(code, 0, "{stderr}");
        assert_eq!(stdout.replace("killed", "whole"), expected);
        for file in ["responses.jsonl", "counted.jsonl", "kept.jsonl"] {
            let read = |folder: &str| fs::read(place.path().join(folder).join(file)).unwrap();
            assert_eq!(read("killed"), read("whole"), "{template}: {file}");
        }
        for folder in ["whole", "killed"] {
            fs::remove_dir_all(place.path().join(folder)).unwrap();
        }
    }
}

/// Answers with the problem's digit, refuses problem 7, and fails on every third request.
fn moody() -> (String, Arc<Mutex<Vec<Value>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let shared = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let asked = Arc::clone(&shared);
            std::thread::spawn(move || while converse(&stream, &asked).is_some() {});
        }
    });
    (url, asked)
}

fn converse(stream: &TcpStream, asked: &Mutex<Vec<Value>>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let (mut length, mut path) = (0, String::new());
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if path.is_empty() {
            path = line.split(' ').nth(1)?.to_owned();
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
    let mut body: Value = serde_json::from_slice(&body).ok()?;
    body["path"] = path.into();
    let prompt = body["prompt"].as_str()?.to_owned();
    let count = {
        let mut asked = asked.lock().ok()?;
        asked.push(body);
        asked.len()
    };
    let number: usize = prompt
        .split(' ')
        .nth(1)?
        .trim_end_matches(':')
        .parse()
        .ok()?;
    let (status, answer) = match (number, count % 3) {
        (_, 0) => ("503 Busy", json!({})),
        (7, _) => ("400 Bad", json!({ "error": { "message": "not this one" } })),
        _ => {
            let text = format!("{}", number % 10);
            let choice = json!({ "text": text, "finish_reason": "stop", "index": 0 });
            (
                "200 OK",
                json!({ "choices": [choice], "usage": { "completion_tokens": 1 } }),
            )
        }
    };
    let answer = answer.to_string();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n",
        answer.len()
    );
    let mut stream = stream;
    stream.write_all((head + &answer).as_bytes()).ok()
}

#[test]
fn what_a_server_refuses_is_in_no_file_and_what_it_fails_at_is_asked_again() {
    let place = place();
    let (url, asked) = moody();
    let arguments = [
        "--samples",
        "2",
        "--keep",
        "2..2",
        "--out",
        "out",
        "--first-wait-secs",
        "0.001",
    ];
    // One at a time, so that no question meets the server's third request twice in a row.
    let arguments = [&arguments[..], &["--concurrency", "1", "--top-p", "0.9"]].concat();
    let (code, stdout, stderr) = end(start(place.path(), &url, "bare", &arguments));
    assert_eq!(code, 0, "{stderr}");
    assert!(
        stderr.contains("`p7`") && stderr.contains("not this one"),
        "{stderr}"
    );
    for file in ["counted.jsonl", "kept.jsonl"] {
        let rows = rows(&place.path().join("out").join(file));
        assert_eq!(rows.len(), PROBLEMS - 1, "{file}: {stdout}");
        assert!(
            rows.iter()
                .all(|row| row["id"] != "p7" && row["pass_count"] == 2)
        );
    }
    let asked = asked.lock().unwrap();
    assert!(
        asked
            .iter()
            .all(|body| body["path"] == "/v1/completions" && body["top_p"] == 0.9)
    );
    let mut seeds: Vec<u64> = asked
        .iter()
        .map(|body| body["seed"].as_u64().unwrap())
        .collect();
    seeds.sort_unstable();
    seeds.dedup();
    assert_eq!(
        seeds.len(),
        2 * PROBLEMS,
        "each question has a seed of its own"
    );
}

#[test]
fn a_server_that_is_away_is_named_and_the_command_goes_on_when_it_is_back() {
    let place = place();
    let away = [
        "--out",
        "out",
        "--samples",
        "1",
        "--patience",
        "1",
        "--concurrency",
        "2",
    ];
    let (code, _, stderr) = end(start(place.path(), "http://127.0.0.1:9/v1", "bare", &away));
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("127.0.0.1:9/v1/completions"), "{stderr}");
    let (url, _) = moody();
    // Sixteen at a time, of which the refused one may be the first to come back.
    let patient = ["--first-wait-secs", "0.001", "--patience", "100"];
    let back = [&away[..4], &patient].concat();
    let (code, _, stderr) = end(start(place.path(), &url, "bare", &back));
    assert_eq!(code, 0, "{stderr}");
    let (code, _, stderr) = end(start(place.path(), "gpu:8000", "bare", &["--out", "x"]));
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("`endpoint` must be a URL"), "{stderr}");
}
