//! Rewards as a recipe builds them, user programs that hang, crash and babble included.
#![allow(
    clippy::unwrap_used,
    reason = "a test may stop at what it did not expect"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;

use seele_verify::reward::{
    Reward, RewardConfig, RewardConfigError, RewardRequest, Score, UnusableGold,
};
use seele_verify::{GoldError, Verdict};
use serde_json::{Map, Value, json};

fn reward(toml: &str) -> Box<dyn Reward> {
    toml::from_str::<RewardConfig>(toml)
        .unwrap()
        .build()
        .unwrap()
}

/// Scores one response.
fn score(
    reward: &dyn Reward,
    id: &str,
    response: &str,
    ground_truth: &str,
    extra: &Value,
) -> Score {
    let empty = Map::new();
    reward.score(&RewardRequest {
        id,
        problem: "What is it?",
        response,
        completion: response,
        ground_truth,
        extra: extra.as_object().unwrap_or(&empty),
        response_tokens: 90,
        max_response_tokens: 100,
        truncated: false,
    })
}

#[test]
fn an_empty_table_is_the_reward_of_the_paper() {
    let reward = reward("");
    let right = score(
        &*reward,
        "a",
        r"\boxed{\frac{2}{4}}",
        r"\frac{1}{2}",
        &Value::Null,
    );
    assert_eq!((right.value, right.correct()), (Some(1.0), Some(true)));
    let wrong = score(&*reward, "a", r"\boxed{3}", "4", &Value::Null);
    assert_eq!(
        (wrong.value, wrong.verdict),
        (Some(0.0), Some(Verdict::Wrong))
    );
    let none = score(&*reward, "a", "4", "4", &Value::Null);
    assert_eq!(
        (none.value, none.verdict),
        (Some(0.0), Some(Verdict::NoAnswer))
    );
    let failures = reward.failures();
    assert_eq!((failures.no_answer, failures.gold_unreadable), (1, 0));
}

#[test]
fn strict_mode_tells_forms_apart() {
    let reward = reward("mode = \"strict\"");
    for (answer, right) in [
        (r"\frac12", true),
        ("1/2", true),
        (r"\frac24", false),
        ("0.5", true),
    ] {
        let score = score(
            &*reward,
            "a",
            &format!(r"\boxed{{{answer}}}"),
            r"\frac{1}{2}",
            &Value::Null,
        );
        assert_eq!(score.correct(), Some(right), "{answer}");
    }
}

#[test]
fn numeric_choice_and_exact_look_at_what_they_should() {
    let numeric = reward("kind = \"numeric\"\nrelative_tolerance = 0.01");
    assert_eq!(
        score(&*numeric, "a", r"\boxed{100.9}", "100", &Value::Null).correct(),
        Some(true)
    );
    assert_eq!(
        score(&*numeric, "a", r"\boxed{101.1}", "100", &Value::Null).correct(),
        Some(false)
    );
    let choice = reward("kind = \"choice\"");
    let extra = json!({"choices": ["iron", "gold", "tin"]});
    assert_eq!(
        score(&*choice, "a", r"It is \boxed{\text{gold}}.", "B", &extra).correct(),
        Some(true)
    );
    assert_eq!(
        score(&*choice, "a", "The answer is (D).", "B", &extra).verdict,
        Some(Verdict::NoAnswer)
    );
    let exact = reward("kind = \"exact\"");
    assert_eq!(
        score(&*exact, "a", r"\boxed{0.50}", "0.5", &Value::Null).correct(),
        Some(false)
    );
}

#[test]
fn puzzles_read_their_columns() {
    let countdown = reward("kind = \"countdown\"");
    let extra = json!({"numbers": [76, 47, 55, 60], "target": 24});
    assert_eq!(
        score(
            &*countdown,
            "a",
            "<answer>76 - 47 + 55 - 60 = 24</answer>",
            "",
            &extra
        )
        .correct(),
        Some(true)
    );
    assert_eq!(
        score(&*countdown, "a", "<answer>24</answer>", "", &extra).correct(),
        Some(false)
    );
    assert_eq!(
        score(&*countdown, "a", "<answer>24</answer>", "", &Value::Null).value,
        None
    );
    assert_eq!(countdown.failures().missing_columns, 1);
    let knights = reward("kind = \"knights-and-knaves\"");
    let extra = json!({"names": ["Amelia", "Bo"], "roles": [true, false]});
    let answer = "<answer>(1) Amelia is a knight\n(2) Bo is a knave</answer>";
    assert_eq!(
        score(&*knights, "a", answer, "", &extra).correct(),
        Some(true)
    );
    assert_eq!(
        score(
            &*knights,
            "a",
            "<answer>(1) Amelia is a knight</answer>",
            "",
            &extra
        )
        .correct(),
        Some(false)
    );
}

#[test]
fn shaping_changes_the_value_and_not_the_verdict() {
    let shaped =
        reward("wrong_value = -1.0\n[overlong]\nbuffer_tokens = 20\n[format]\nweight = 0.25");
    let response = r"<think>so</think><answer>\boxed{4}</answer>";
    let right = score(&*shaped, "a", response, "4", &Value::Null);
    assert_eq!(
        (right.value, right.correct()),
        (Some(1.0 + 0.25 - 0.5), Some(true))
    );
    let wrong = score(&*shaped, "a", r"\boxed{5}", "4", &Value::Null);
    assert_eq!((wrong.value, wrong.correct()), (Some(-1.5), Some(false)));
}

#[test]
fn sums_weigh_their_terms() {
    let sum = reward(
        "kind = \"sum\"\n[[terms]]\nkind = \"math\"\n[[terms]]\nkind = \"format\"\nweight = 0.5",
    );
    let both = score(
        &*sum,
        "a",
        r"<think>so</think><answer>\boxed{4}</answer>",
        "4",
        &Value::Null,
    );
    assert_eq!((both.value, both.correct()), (Some(1.5), Some(true)));
    assert_eq!(
        score(&*sum, "a", r"\boxed{4}", "4", &Value::Null).value,
        Some(1.0)
    );
}

#[test]
fn configurations_that_make_no_sense_are_refused() {
    let error = |toml: &str| {
        toml::from_str::<RewardConfig>(toml)
            .unwrap()
            .build()
            .err()
            .unwrap()
    };
    assert_eq!(
        error("kind = \"command\""),
        RewardConfigError::MissingKey {
            key: "command",
            kind: "command"
        }
    );
    assert_eq!(
        error("relative_tolerance = 0.1"),
        RewardConfigError::UnusedKey {
            key: "relative_tolerance",
            kind: "math"
        }
    );
    assert!(matches!(
        error("kind = \"numeric\"\nrelative_tolerance = 2.0"),
        RewardConfigError::OutOfRange {
            key: "relative_tolerance",
            ..
        }
    ));
    assert!(matches!(
        error("kind = \"http\"\n[http]\nurl = \"https://x\""),
        RewardConfigError::OutOfRange {
            key: "http.url",
            ..
        }
    ));
    assert!(matches!(
        error("kind = \"sum\"\n[[terms]]\nkind = \"http\""),
        RewardConfigError::InTerm { index: 0, .. }
    ));
    assert!(toml::from_str::<RewardConfig>("knid = \"math\"").is_err());
}

/// A program that answers, hangs, crashes or babbles, as the problem's answer asks it to.
#[cfg(unix)]
const PROGRAM: &str = r#"
import json, sys, time
for line in sys.stdin:
    request = json.loads(line)
    what = request["ground_truth"]
    if what == "hang":
        time.sleep(3600)
    if what == "crash":
        sys.exit(3)
    if what == "babble":
        print("this is no reply", flush=True)
        continue
    score = None if what == "skip" else float(request["extra"]["worth"])
    print(json.dumps({"id": request["id"], "score": score, "detail": "seen " + request["response"]}), flush=True)
"#;

#[cfg(unix)]
#[test]
fn a_program_that_hangs_or_crashes_is_replaced_and_counted() {
    if std::process::Command::new("python3")
        .arg("--version")
        .output()
        .is_err()
    {
        eprintln!("skipped: python3 is not there");
        return;
    }
    let config = RewardConfig {
        kind: seele_verify::reward::RewardKind::Command,
        command: Some(seele_verify::reward::CommandConfig {
            command: vec!["python3".into(), "-c".into(), PROGRAM.into()],
            processes: 2,
            timeout_secs: 1.0,
            start_timeout_secs: 20.0,
        }),
        ..RewardConfig::default()
    };
    let reward = config.build().unwrap();
    let extra = json!({"worth": 0.75});
    // Warm both processes up, so that the hanging one has no start-up time to use.
    std::thread::scope(|scope| {
        for id in ["w1", "w2", "w3", "w4"] {
            let (reward, extra) = (&reward, &extra);
            scope.spawn(move || {
                assert_eq!(score(&**reward, id, "r", "go", extra).value, Some(0.75))
            });
        }
    });
    let kinds = ["go", "hang", "go", "crash", "skip", "babble", "go", "go"];
    let scores: Vec<Score> = std::thread::scope(|scope| {
        let handles: Vec<_> = kinds
            .iter()
            .enumerate()
            .map(|(at, kind)| {
                let (reward, extra) = (&reward, &extra);
                scope.spawn(move || score(&**reward, &format!("r{at}"), "text", kind, extra))
            })
            .collect();
        handles
            .into_iter()
            .map(|handle| handle.join().unwrap())
            .collect()
    });
    for (kind, score) in kinds.iter().zip(&scores) {
        let expected = if *kind == "go" { Some(0.75) } else { None };
        assert_eq!(score.value, expected, "{kind}: {score:?}");
    }
    let failures = reward.failures();
    assert_eq!(
        (
            failures.command_timeouts,
            failures.command_crashes,
            failures.command_bad_replies,
            failures.null_scores
        ),
        (1, 1, 1, 1)
    );
    assert_eq!(
        score(&*reward, "after", "text", "go", &extra).value,
        Some(0.75),
        "the pool recovers"
    );
}

#[test]
fn rows_that_cannot_be_judged_are_found_before_a_run() {
    let empty = serde_json::Map::new();
    let columns = |value: Value| value.as_object().unwrap().clone();
    let math = reward("[overlong]\nbuffer_tokens = 10");
    assert_eq!(math.check_gold(r"\frac{1}{2}", &empty), Ok(()));
    assert_eq!(
        math.check_gold(r"\frac{1}{", &empty),
        Err(UnusableGold::Gold(GoldError::Unreadable))
    );
    assert_eq!(
        math.check_gold(" ", &empty),
        Err(UnusableGold::Gold(GoldError::Empty))
    );
    let choice = reward("kind = \"choice\"");
    let options = columns(json!({"choices": ["iron", "gold"]}));
    assert_eq!(choice.check_gold("B", &options), Ok(()));
    assert!(choice.check_gold("C", &options).is_err(), "there is no C");
    let countdown = reward("kind = \"countdown\"");
    let row = columns(json!({"numbers": [1, 2], "target": 3}));
    assert_eq!(countdown.check_gold("", &row), Ok(()));
    assert!(matches!(
        countdown.check_gold("", &empty),
        Err(UnusableGold::Columns(_))
    ));
    let knights = reward("kind = \"knights-and-knaves\"");
    assert!(knights.check_gold("", &row).is_err());
    let sum = reward("kind = \"sum\"\n[[terms]]\n[[terms]]\nkind = \"countdown\"");
    assert_eq!(sum.check_gold("1", &row), Ok(()));
    assert!(sum.check_gold("1", &empty).is_err() && sum.check_gold("", &row).is_err());
}

#[test]
fn a_program_that_does_not_exist_is_counted() {
    let reward = reward("kind = \"command\"\n[command]\ncommand = [\"/nonexistent/reward\"]");
    assert_eq!(score(&*reward, "a", "r", "1", &Value::Null).value, None);
    assert_eq!(reward.failures().command_start_failures, 1);
}

#[test]
fn a_service_is_asked_and_its_failures_are_counted() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/score", listener.local_addr().unwrap());
    // Answers every connection once: the first well, the second with an error, the third with nonsense.
    let server = std::thread::spawn(move || {
        for (at, stream) in listener.incoming().take(3).enumerate() {
            let stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut length, mut line) = (0usize, String::new());
            while reader.read_line(&mut line).unwrap() > 2 {
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                line.clear();
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            let request: Value = serde_json::from_slice(&body).unwrap();
            let (status, reply) = match at {
                0 => (
                    "200 OK",
                    json!({"id": request["id"], "score": 0.5}).to_string(),
                ),
                1 => ("500 Internal Server Error", String::new()),
                _ => ("200 OK", "nonsense".to_owned()),
            };
            let mut stream = stream;
            write!(
                stream,
                "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{reply}",
                reply.len()
            )
            .unwrap();
        }
    });
    let reward = reward(&format!(
        "kind = \"http\"\n[http]\nurl = \"{url}\"\ntimeout_secs = 5.0"
    ));
    assert_eq!(
        score(&*reward, "a", "r", "1", &Value::Null).value,
        Some(0.5)
    );
    assert_eq!(score(&*reward, "b", "r", "1", &Value::Null).value, None);
    assert_eq!(score(&*reward, "c", "r", "1", &Value::Null).value, None);
    server.join().unwrap();
    assert_eq!(
        score(&*reward, "d", "r", "1", &Value::Null).value,
        None,
        "nobody listens any more"
    );
    let failures = reward.failures();
    assert_eq!(
        (
            failures.http_bad_statuses,
            failures.http_bad_replies,
            failures.http_transport_errors
        ),
        (1, 1, 1)
    );
}
