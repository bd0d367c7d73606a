//! Servers behind HTTPS whose certificate is their own: whom the commands trust, and what they say if not.
#![expect(clippy::unwrap_used, reason = "a test may stop where its set-up fails")]

#[path = "../../hub/tests/imitation/mod.rs"]
mod imitation;

use imitation::Imitation;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

const TLS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tls");
const ROW: &str = r#"{"id": "a", "problem": "3+4=", "answer": "7", "solution": "3+4=7, for one adds four times one to three"}"#;

/// Puts HTTPS in front of a server of HTTP; returns the new address.
fn https(plain: &str) -> String {
    let plain = plain.strip_prefix("http://").unwrap().to_owned();
    let certificate = CertificateDer::from_pem_file(format!("{TLS}/certificate.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(format!("{TLS}/key.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("https://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let plain = TcpStream::connect(&plain).unwrap();
            let tls = StreamOwned::new(connection, stream);
            std::thread::spawn(move || forward(tls, plain));
        }
    });
    address
}

/// Requests one way, answers the other, until one side ends.
fn forward(mut tls: StreamOwned<ServerConnection, TcpStream>, plain: TcpStream) -> Option<()> {
    let mut answers = BufReader::new(plain.try_clone().ok()?);
    let mut plain = plain;
    loop {
        let (request, first) = message(&mut BufReader::with_capacity(1, &mut tls), true)?;
        plain.write_all(&request).ok()?;
        let (answer, _) = message(&mut answers, !first.starts_with("HEAD"))?;
        tls.write_all(&answer).ok()?;
    }
}

/// A message with its body, if it has one, and its first line.
fn message(from: &mut impl BufRead, body: bool) -> Option<(Vec<u8>, String)> {
    let (mut bytes, mut first, mut length) = (Vec::new(), String::new(), 0);
    loop {
        let mut line = String::new();
        if from.read_line(&mut line).ok()? == 0 {
            return None;
        }
        bytes.extend_from_slice(line.as_bytes());
        if first.is_empty() {
            first = line.clone();
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line == "\r\n" {
            break;
        }
    }
    let head = bytes.len();
    if body {
        bytes.resize(head + length, 0);
        from.read_exact(&mut bytes[head..]).ok()?;
    }
    Some((bytes, first))
}

/// A server that knows one answer.
fn annotator() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut stream = stream;
                while message(&mut reader, true).is_some() {
                    let body = r#"{"choices": [{"message": {"content": "1. Add: 3 + 4 = 7.\n2. So \\boxed{7}."}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 9, "completion_tokens": 20}}"#;
                    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                    let _ = stream.write_all((head + body).as_bytes());
                }
            });
        }
    });
    address
}

fn seele(place: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_seele"));
    command
        .current_dir(place)
        .args(arguments)
        .env_remove("SSL_CERT_FILE");
    let output = command
        .env("HF_HOME", place.join("hf"))
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[test]
fn a_server_with_a_certificate_of_its_own_is_asked_once_it_is_trusted() {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("rows.jsonl"), ROW).unwrap();
    let endpoint = format!("{}/v1", https(&annotator()));
    let arguments = [
        "data",
        "annotate",
        "rows.jsonl",
        "--model",
        "m",
        "--out",
        "out",
        "--endpoint",
    ];
    let arguments = [&arguments[..], &[&endpoint]].concat();
    let (code, _, stderr) = seele(place.path(), &arguments, &[]);
    assert_eq!(code, 2, "{stderr}");
    assert!(
        stderr.contains("is not trusted") && stderr.contains("SSL_CERT_FILE"),
        "{stderr}"
    );
    let nowhere = [("SSL_CERT_FILE", "/nowhere.pem")];
    let (code, _, stderr) = seele(place.path(), &arguments, &nowhere);
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("cannot read `/nowhere.pem`"), "{stderr}");
    let certificate = format!("{TLS}/certificate.pem");
    let trusted = [("SSL_CERT_FILE", certificate.as_str())];
    let (code, stdout, stderr) = seele(place.path(), &arguments, &trusted);
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("annotated         1"), "{stdout}");
}

#[test]
fn a_mirror_with_a_certificate_of_its_own_is_one_once_it_is_trusted() {
    let place = tempfile::tempdir().unwrap();
    let hub = Imitation::start();
    let commit = "1234567890123456789012345678901234567890";
    hub.commit(
        "datasets/owner/rows",
        commit,
        &[("rows.jsonl", ROW.as_bytes())],
    );
    let endpoint = https(&hub.endpoint);
    let arguments = ["data", "inspect", "hf://owner/rows"];
    let variables = [("HF_ENDPOINT", endpoint.as_str())];
    let (code, _, stderr) = seele(place.path(), &arguments, &variables);
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("SSL_CERT_FILE"), "{stderr}");
    let certificate = format!("{TLS}/certificate.pem");
    let variables = [variables[0], ("SSL_CERT_FILE", certificate.as_str())];
    let (code, stdout, stderr) = seele(place.path(), &arguments, &variables);
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("problems"), "{stdout}");
}
