//! `seele serve` as clients meet it: the real binary on a port of its own, a model made on the spot.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test may stop where its set-up fails")]

#[path = "../../policy/tests/samples/mod.rs"]
mod samples;

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

struct Served {
    place: tempfile::TempDir,
    child: Child,
    url: String,
    agent: ureq::Agent,
}

impl Drop for Served {
    fn drop(&mut self) {
        // Already over where the test has ended it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn model_in(place: &Path) {
    let options = seele_policy::huggingface::SaveOptions::default();
    samples::llama()
        .save(&place.join("tiny"), &options)
        .unwrap();
}

fn serve() -> Served {
    let place = tempfile::tempdir().unwrap();
    model_in(place.path());
    let mut child = Command::new(env!("CARGO_BIN_EXE_seele"))
        .current_dir(place.path())
        .args(["serve", "tiny", "--port", "0", "--max-active", "3"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut url = String::new();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut url).unwrap();
    let agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .build();
    Served {
        place,
        child,
        url: url.trim().to_owned(),
        agent: agent.into(),
    }
}

impl Served {
    /// Status and text.
    fn post(&self, path: &str, body: &Value) -> (u16, String) {
        let url = format!("{}/{path}", self.url);
        let mut answer = self.agent.post(&url).send(body.to_string()).unwrap();
        (
            answer.status().as_u16(),
            answer.body_mut().read_to_string().unwrap(),
        )
    }

    fn get(&self, path: &str) -> (u16, Value) {
        let url = format!("{}/{path}", self.url);
        let mut answer = self.agent.get(&url).call().unwrap();
        let text = answer.body_mut().read_to_string().unwrap();
        (
            answer.status().as_u16(),
            serde_json::from_str(&text).unwrap(),
        )
    }

    fn json(&self, path: &str, body: &Value) -> Value {
        let (status, text) = self.post(path, body);
        assert_eq!(status, 200, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    /// The objects of a stream, which must end as OpenAI's do.
    fn stream(&self, path: &str, body: &Value) -> Vec<Value> {
        let mut body = body.clone();
        body["stream"] = true.into();
        let (status, text) = self.post(path, &body);
        assert_eq!(status, 200, "{text}");
        let mut events: Vec<&str> = text
            .split_terminator("\n\n")
            .map(|event| event.strip_prefix("data: ").unwrap())
            .collect();
        assert_eq!(events.pop(), Some("[DONE]"));
        events
            .iter()
            .map(|event| serde_json::from_str(event).unwrap())
            .collect()
    }
}

fn completion(more: Value) -> Value {
    let mut body = json!({ "model": "tiny", "prompt": "in the", "max_tokens": 12 });
    for (key, value) in more.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

fn texts(answer: &Value) -> Vec<String> {
    let choices = answer["choices"].as_array().unwrap();
    choices
        .iter()
        .map(|choice| choice["text"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn greedy_completions_are_those_of_the_generate_command_whole_and_streamed() {
    let served = serve();
    let body = completion(json!({ "temperature": 0, "logprobs": 2 }));
    let answer = served.json("completions", &body);
    let generate = [
        "generate",
        "tiny",
        "--prompt",
        "in the",
        "--max-new-tokens",
        "12",
        "--json",
    ];
    let output = Command::new(env!("CARGO_BIN_EXE_seele"))
        .current_dir(served.place.path())
        .args(generate)
        .output()
        .unwrap();
    let generated: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(texts(&answer)[0], generated["text"].as_str().unwrap());
    let logprobs = &answer["choices"][0]["logprobs"];
    assert_eq!(logprobs["token_logprobs"], generated["logprobs"]);
    let tops = logprobs["top_logprobs"].as_array().unwrap();
    assert!(
        tops.iter()
            .all(|top| (1..=2).contains(&top.as_object().unwrap().len()))
    );
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    assert_eq!(answer["usage"]["completion_tokens"], 12);

    let mut body = body.clone();
    body["stream_options"] = json!({ "include_usage": true });
    let mut chunks = served.stream("completions", &body);
    assert_eq!(chunks.pop().unwrap()["usage"], answer["usage"]);
    let text: String = chunks.iter().map(|chunk| texts(chunk)[0].clone()).collect();
    assert_eq!(text, texts(&answer)[0]);
    let tokens: usize = chunks
        .iter()
        .map(|chunk| {
            chunk["choices"][0]["logprobs"]["tokens"]
                .as_array()
                .unwrap()
                .len()
        })
        .sum();
    assert_eq!(tokens, 12);
    let last = chunks.last().unwrap();
    assert_eq!(last["choices"][0]["finish_reason"], "length");
}

#[test]
fn a_seed_gives_the_same_choices_whatever_else_is_being_answered() {
    let served = serve();
    let body = completion(json!({ "temperature": 1.0, "seed": -5, "n": 4 }));
    let alone = texts(&served.json("completions", &body));
    assert_eq!(alone.len(), 4);
    assert!(alone.iter().any(|text| *text != alone[0]), "{alone:?}");
    std::thread::scope(|scope| {
        // Eight requests of four on three places, each of other length and heat.
        let others: Vec<_> = (0..8)
            .map(|i| {
                let served = &served;
                let body = match i % 2 {
                    0 => body.clone(),
                    _ => completion(json!({ "temperature": 0.3, "n": 4, "max_tokens": 3 + i })),
                };
                scope.spawn(move || texts(&served.json("completions", &body)))
            })
            .collect();
        for (i, other) in others.into_iter().enumerate() {
            let texts = other.join().unwrap();
            assert!(
                texts.len() == 4 && (i % 2 == 1 || texts == alone),
                "{i}: {texts:?}"
            );
        }
    });
    let mut chunks = vec![String::new(); 4];
    for chunk in served.stream("completions", &body) {
        let index = chunk["choices"][0]["index"].as_u64().unwrap() as usize;
        chunks[index].push_str(&texts(&chunk)[0]);
    }
    assert_eq!(chunks, alone);
    // Without a seed no two requests draw the same.
    let body = completion(json!({ "temperature": 1.0 }));
    let draws: Vec<_> = (0..3)
        .map(|_| texts(&served.json("completions", &body)))
        .collect();
    assert!(draws.iter().any(|draw| *draw != draws[0]), "{draws:?}");
}

#[test]
fn chats_stop_texts_and_several_prompts_are_answered_in_openai_s_form() {
    let served = serve();
    let chat = json!({
        "model": "tiny", "temperature": 0, "max_completion_tokens": 8,
        "messages": [{ "role": "user", "content": [{ "type": "text", "text": "hi" }] }],
        "logprobs": true, "top_logprobs": 2,
    });
    let answer = served.json("chat/completions", &chat);
    let choice = &answer["choices"][0];
    assert_eq!(answer["object"], "chat.completion");
    assert_eq!(choice["message"]["role"], "assistant");
    let entries = choice["logprobs"]["content"].as_array().unwrap();
    assert_eq!(entries.len(), 8);
    for entry in entries {
        let top = entry["top_logprobs"].as_array().unwrap();
        assert_eq!((top.len(), &top[0]["token"]), (2, &entry["token"]));
        assert_eq!(top[0]["logprob"], entry["logprob"]);
    }
    let chunks = served.stream("chat/completions", &chat);
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    let text: String = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert_eq!(text, choice["message"]["content"].as_str().unwrap());

    let two = completion(json!({ "prompt": ["in", "the"], "temperature": 0, "n": 2 }));
    let answer = served.json("completions", &two);
    let together = texts(&answer);
    assert_eq!((together.len(), &together[0]), (4, &together[1]));
    let alone = completion(json!({ "prompt": "the", "temperature": 0 }));
    assert_eq!(texts(&served.json("completions", &alone))[0], together[2]);

    let whole = &together[2];
    let middle = whole
        .chars()
        .nth(whole.chars().count() / 2)
        .unwrap()
        .to_string();
    let stopped = completion(json!({ "prompt": "the", "temperature": 0, "stop": middle }));
    let answer = served.json("completions", &stopped);
    assert_eq!(texts(&answer)[0], whole.split(&middle).next().unwrap());
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
}

#[test]
fn wrong_requests_get_openai_s_errors_and_leave_the_server_at_work() {
    let served = serve();
    let ids = |id: u32| completion(json!({ "prompt": [1, id] }));
    let cases = [
        (
            "completions",
            completion(json!({ "model": "other" })),
            404,
            "model",
        ),
        (
            "completions",
            completion(json!({ "temperature": 2.5 })),
            400,
            "temperature",
        ),
        (
            "completions",
            completion(json!({ "temperature": 1e-9 })),
            400,
            "temperature",
        ),
        (
            "completions",
            completion(json!({ "temperature": "hot" })),
            400,
            "temperature",
        ),
        (
            "completions",
            completion(json!({ "top_p": 0 })),
            400,
            "top_p",
        ),
        (
            "completions",
            completion(json!({ "max_tokens": 600 })),
            400,
            "prompt",
        ),
        ("completions", completion(json!({ "n": 0 })), 400, "n"),
        (
            "completions",
            completion(json!({ "stop": [""] })),
            400,
            "stop",
        ),
        (
            "completions",
            completion(json!({ "echo": true })),
            400,
            "echo",
        ),
        (
            "completions",
            completion(json!({ "prompt": [] })),
            400,
            "prompt",
        ),
        ("completions", ids(264), 400, "prompt"),
        (
            "chat/completions",
            json!({ "model": "tiny" }),
            400,
            "messages",
        ),
        (
            "chat/completions",
            json!({ "model": "tiny", "messages": [] }),
            400,
            "messages",
        ),
    ];
    for (path, body, status, param) in cases {
        let (found, text) = served.post(path, &body);
        let error: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(found, status, "{body}: {text}");
        assert_eq!(error["error"]["param"], param, "{body}: {text}");
        assert_eq!(error["error"]["type"], "invalid_request_error", "{text}");
        assert!(!error["error"]["message"].as_str().unwrap().is_empty());
    }
    let (status, text) = served.post("completions", &json!("no object"));
    assert_eq!(status, 400, "{text}");
    for (path, expected) in [("nothing", 404), ("completions", 405)] {
        let (status, error) = served.get(path);
        assert_eq!(status, expected);
        assert!(error["error"]["message"].is_string(), "{error}");
    }
    let (status, models) = served.get("models");
    assert_eq!((status, &models["data"][0]["id"]), (200, &json!("tiny")));
    assert_eq!(served.get("models/tiny").0, 200);
    assert_eq!(served.get("models/other").0, 404);
    served.json("completions", &ids(263));
}

#[test]
fn ctrl_c_lets_what_has_begun_end_and_exits_cleanly() {
    let mut served = serve();
    let body = completion(json!({ "max_tokens": 400, "temperature": 1, "n": 8, "seed": 1 }));
    let expected = texts(&served.json("completions", &body));
    let id = served.child.id().to_string();
    let (url, agent) = (served.url.clone(), served.agent.clone());
    let asking = std::thread::spawn(move || {
        let url = format!("{url}/completions");
        let mut answer = agent.post(&url).send(body.to_string()).unwrap();
        answer.body_mut().read_to_string().unwrap()
    });
    std::thread::sleep(std::time::Duration::from_millis(30));
    assert!(
        Command::new("kill")
            .args(["-INT", &id])
            .status()
            .unwrap()
            .success()
    );
    // Begun before the signal or turned away with it: never half an answer.
    if let Ok(text) = asking.join() {
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(texts(&answer), expected);
    }
    assert_eq!(served.child.wait().unwrap().code(), Some(0));
}

#[test]
fn connections_that_come_together_and_stay_open_are_all_answered() {
    let served = serve();
    let address = served.url.trim_start_matches("http://");
    let address = address.split('/').next().unwrap();
    let request = format!("GET /v1/models HTTP/1.1\r\nHost: {address}\r\n\r\n");
    let connect = |_| TcpStream::connect(address).unwrap();
    let mut connections: Vec<TcpStream> = (0..40).map(connect).collect();
    for connection in &mut connections {
        let patience = Duration::from_secs(30);
        connection.set_read_timeout(Some(patience)).unwrap();
        connection.write_all(request.as_bytes()).unwrap();
    }
    for (index, connection) in connections.iter_mut().enumerate() {
        let mut head = [0; 12];
        let read = connection.read_exact(&mut head);
        assert!(read.is_ok(), "connection {index}: {read:?}");
        assert_eq!(&head, b"HTTP/1.1 200");
    }
}
