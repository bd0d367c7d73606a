//! Refusals before the first answer: by a server that refuses one question, and by one that refuses all.
#![allow(clippy::unwrap_used, reason = "test helpers fail by panicking")]

use seele_client::{ClientError, Outcome, Prompt, Question, Reply, Server, Survey, ask_all};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

/// How a server treats the question of a number.
type Manner = fn(usize, &Gate) -> &'static str;

const YES: &str = r#"{"choices":[{"text":"yes","finish_reason":"stop"}]}"#;

/// Opens once the refusal is on its way.
#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }

    fn pass(&self) {
        let open = self.open.lock().unwrap();
        drop(self.opened.wait_while(open, |open| !*open).unwrap());
    }
}

/// Serves until the test ends; counts the questions.
fn server(manner: Manner) -> (Server, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut server = Server::new(format!("http://{}/v1", listener.local_addr().unwrap()), "m");
    server.concurrency = 2;
    let (gate, asked) = (Arc::new(Gate::default()), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (gate, counted) = (Arc::clone(&gate), Arc::clone(&counted));
            std::thread::spawn(move || {
                while let Some(number) = question(&stream) {
                    counted.fetch_add(1, Ordering::SeqCst);
                    let status = manner(number, &gate);
                    let length = YES.len();
                    let answer =
                        format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{YES}");
                    if (&stream).write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    (server, asked)
}

/// The number that a question consists of.
fn question(stream: &TcpStream) -> Option<usize> {
    let mut reader = BufReader::new(stream);
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
    let body: serde_json::Value = serde_json::from_slice(&body).ok()?;
    body["prompt"].as_str()?.parse().ok()
}

/// Two questions an item: what became of each.
struct Pairs(Mutex<Vec<Vec<Result<String, String>>>>);

impl Pairs {
    fn new(items: usize) -> Self {
        Self(Mutex::new(vec![Vec::new(); items]))
    }
}

impl Survey for Pairs {
    type Error = ClientError;

    fn question(&self, index: usize) -> Option<Question> {
        let open = self.0.lock().unwrap()[index].len() < 2;
        open.then(|| Question::new(Prompt::Text(index.to_string()), 4))
    }

    fn answered(&self, index: usize, reply: Reply) -> Result<(), ClientError> {
        self.0.lock().unwrap()[index].push(Ok(reply.text));
        Ok(())
    }

    fn refused(&self, index: usize, reason: String) -> Result<(), ClientError> {
        self.0.lock().unwrap()[index].push(Err(reason));
        Ok(())
    }
}

#[test]
fn a_refusal_before_the_first_answer_is_one_of_that_question_alone() {
    // The other answer is held back until the refusal has been sent, and a little longer.
    let (server, asked) = server(|number, gate| match number {
        0 => {
            gate.open();
            "400 Bad"
        }
        _ => {
            gate.pass();
            std::thread::sleep(std::time::Duration::from_millis(100));
            "200 OK"
        }
    });
    let pairs = Pairs::new(6);
    let outcome = ask_all(&server, 6, &pairs, &AtomicBool::new(false));
    assert_eq!(outcome.unwrap(), Outcome::Finished);
    assert_eq!(asked.load(Ordering::SeqCst), 12);
    for (index, said) in pairs.0.into_inner().unwrap().into_iter().enumerate() {
        assert_eq!(said.len(), 2, "{index}: {said:?}");
        assert!(
            said.iter().all(|one| one.is_err() == (index == 0)),
            "{said:?}"
        );
    }
}

#[test]
fn a_server_that_refuses_all_ends_the_survey_soon() {
    for (items, most) in [(1, 1), (3, 3), (1000, 5)] {
        let (server, asked) = server(|_, _| "400 Bad");
        let pairs = Pairs::new(items);
        let error = ask_all(&server, items, &pairs, &AtomicBool::new(false)).unwrap_err();
        let refused = matches!(error, ClientError::Refused { status: 400, .. });
        assert!(refused, "{error}");
        let asked = asked.load(Ordering::SeqCst);
        assert!(asked <= most, "{asked} questions of {items}");
        let nothing = pairs.0.into_inner().unwrap().iter().all(Vec::is_empty);
        assert!(
            nothing,
            "what the server refuses as a whole is not one item's doing"
        );
    }
}
