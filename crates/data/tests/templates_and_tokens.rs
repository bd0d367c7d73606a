//! Prompts, and solutions as tokens.
#![expect(clippy::unwrap_used, reason = "test helpers fail by panicking")]

use std::path::Path;

use proptest::prelude::*;
use seele_data::{
    BoxError, EncodeError, EncodedText, Encoder, Layout, LengthLimits, Message, Place, Problem,
    PromptTemplate, Row, TemplateError, join_encoded,
};
use serde_json::{Value, json};

fn problem(row: Value) -> Problem {
    let Value::Object(fields) = row else {
        panic!("an object")
    };
    let place = Place::Line {
        file: Path::new("p.jsonl").into(),
        line: 3,
    };
    Layout::Seele.problem(Row { place, fields }).unwrap()
}

fn two_steps() -> Problem {
    problem(json!({
        "id": "p", "problem": "What is {{answer}} + 1?", "answer": "4", "steps": ["3+1\n", "\\boxed{4}"], "level": 2
    }))
}

/// Tokens of up to `width` bytes that do not care for characters or steps.
fn chunks(width: usize) -> impl Fn(&str) -> Result<EncodedText, BoxError> {
    move |text: &str| {
        let starts = (0..text.len()).step_by(width);
        let spans: Vec<_> = starts.map(|at| at..text.len().min(at + width)).collect();
        let ids = spans.iter().map(|s| {
            text.as_bytes()[s.clone()]
                .iter()
                .fold(0, |id, &b| id * 256 + u32::from(b))
        });
        Ok(EncodedText {
            ids: ids.collect(),
            spans,
        })
    }
}

fn chat_markup(messages: &[Message]) -> Result<String, BoxError> {
    let turns = messages
        .iter()
        .map(|m| format!("<{}>{}\n", m.role, m.content));
    Ok(turns.collect::<String>() + "<assistant>")
}

const WIDE: LengthLimits = LengthLimits {
    context_tokens: 10_000,
    response_tokens: 10,
};

#[test]
fn every_template_of_the_crate_reads_bears_its_name_and_survives_toml() {
    for name in PromptTemplate::names() {
        let template = PromptTemplate::named(name).unwrap();
        assert_eq!(template.name(), name);
        assert!(!template.description().is_empty());
        assert_eq!(
            PromptTemplate::from_toml(&template.to_toml()).unwrap(),
            template
        );
    }
}

#[test]
fn r1_zero_opens_the_assistant_turn_and_wraps_the_solution() {
    let template = PromptTemplate::named("r1-zero").unwrap();
    let prompt = template.prompt(&two_steps(), None).unwrap();
    assert!(
        prompt.ends_with("\nUser: What is {{answer}} + 1?\nAssistant:"),
        "{prompt}"
    );
    let solution = template.solution(&two_steps()).unwrap().unwrap();
    assert_eq!(
        solution.text,
        " <think>\n3+1\n\\boxed{4}\n</think>\n<answer> \\boxed{4} </answer>"
    );
    assert!(solution.text[solution.solution_start..].starts_with("3+1"));
}

#[test]
fn a_solution_with_tags_of_its_own_is_not_wrapped_again() {
    let template = PromptTemplate::named("r1-zero").unwrap();
    let tagged =
        problem(json!({"problem": "x", "answer": "4", "solution": "<think>\nhm\n</think>\n4"}));
    let solution = template.solution(&tagged).unwrap().unwrap();
    assert_eq!(
        (solution.text.as_str(), solution.solution_start),
        ("<think>\nhm\n</think>\n4", 0)
    );
}

#[test]
fn plain_cuts_a_response_at_the_next_question() {
    let template = PromptTemplate::named("plain").unwrap();
    assert_eq!(
        template.prompt(&two_steps(), None).unwrap(),
        "Question: What is {{answer}} + 1?\nAnswer: "
    );
    assert_eq!(template.cut("It is 4.\nQuestion: And 5?"), "It is 4.");
    assert_eq!(template.cut("It is 4."), "It is 4.");
}

#[test]
fn chat_templates_send_messages_and_need_a_chat_template() {
    let template = PromptTemplate::named("qwen-boxed").unwrap();
    let prompt = template.prompt(&two_steps(), Some(&chat_markup)).unwrap();
    assert_eq!(
        prompt,
        "<system>You are a helpful assistant.\n<user>What is {{answer}} + 1?\nPlease reason step by step, and put your \
         final answer within \\boxed{}.\n<assistant>"
    );
    assert!(matches!(
        template.prompt(&two_steps(), None),
        Err(TemplateError::NoChatTemplate { .. })
    ));
    let chat = PromptTemplate::named("chat").unwrap();
    let with_system = chat.with_system(Some("Be brief.")).unwrap();
    assert!(
        with_system
            .prompt(&two_steps(), Some(&chat_markup))
            .unwrap()
            .starts_with("<system>Be brief.\n<user>")
    );
    assert_eq!(with_system.with_system(None).unwrap(), chat);
    assert!(
        PromptTemplate::named("plain")
            .unwrap()
            .with_system(Some("x"))
            .is_err()
    );
}

#[test]
fn messages_of_the_row_go_to_the_chat_template_unchanged() {
    let template = PromptTemplate::named("row-chat").unwrap();
    let messages = json!([{"content": "Be {{brief}}.", "role": "system"}, {"content": "1+1?", "role": "user", "n": 1}]);
    let row = problem(json!({"problem": "p", "answer": "2", "prompt": messages}));
    let prompt = template.prompt(&row, Some(&chat_markup)).unwrap();
    assert_eq!(prompt, "<system>Be {{brief}}.\n<user>1+1?\n<assistant>");
    for (row, message) in [
        (json!({"problem": "p", "answer": "2"}), "no field `prompt`"),
        (
            json!({"problem": "p", "answer": "2", "prompt": "1+1?"}),
            "`prompt` is not a list of messages",
        ),
    ] {
        let error = template
            .prompt(&problem(row), Some(&chat_markup))
            .unwrap_err()
            .to_string();
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn multiple_choice_shows_lettered_options() {
    let choice = problem(json!({"problem": "Pick.", "choices": ["one", "two"], "answer_index": 1}));
    assert_eq!(choice.answer, "B");
    let prompt = PromptTemplate::named("bare")
        .unwrap()
        .prompt(&choice, None)
        .unwrap();
    assert_eq!(prompt, "Pick.\n\nA) one\nB) two");
}

#[test]
fn fields_of_the_row_are_slots() {
    let own =
        |prompt: &str| PromptTemplate::from_toml(&format!("name = \"t\"\nprompt = '{prompt}'"));
    let level = own("{{problem}} (level {{row.level}})").unwrap();
    assert_eq!(
        level.prompt(&two_steps(), None).unwrap(),
        "What is {{answer}} + 1? (level 2)"
    );
    let message = own("{{problem}}{{row.subject}}")
        .unwrap()
        .prompt(&two_steps(), None)
        .unwrap_err()
        .to_string();
    assert_eq!(
        message,
        "`p.jsonl`, line 3: no field `subject`, which prompt template `t` asks for"
    );
}

#[test]
fn unusable_templates_say_why() {
    for (toml, reason) in [
        ("prompt = 'x'", "missing field `name`"),
        ("name = 't'\nprompt = 'no slot'", "no `{{question}}`"),
        (
            "name = 't'\nprompt = '{{question}} {{answer}}'",
            "give the answer away",
        ),
        (
            "name = 't'\nprompt = '{{question}}'\nsolution = 'x'",
            "exactly once",
        ),
        (
            "name = 't'\nprompt = '{{question}}'\nprefil = 'x'",
            "unknown field `prefil`",
        ),
        (
            "name = 't'\nprompt = '{{question}}'\nprefill = 'x'",
            "`prefill` opens",
        ),
        ("name = 't'", "give one of `prompt`"),
        (
            "name = 't'\nprompt = '{{qestion}}'",
            "no slot is called `qestion`",
        ),
    ] {
        let message = PromptTemplate::from_toml(toml).unwrap_err().to_string();
        assert!(message.contains(reason), "{toml}: {message}");
    }
    let message = PromptTemplate::named("r1_zero").unwrap_err().to_string();
    assert!(message.contains("did you mean `r1-zero`?"), "{message}");
}

#[test]
fn a_token_across_a_border_belongs_to_the_step_whose_words_it_needs() {
    let template = PromptTemplate::named("bare").unwrap();
    let encoder = chunks(3);
    let encoded = Encoder::new(&template, &encoder, WIDE)
        .encode(&two_steps())
        .unwrap();
    // `3+1` `\n\b` `oxe` `d{4` `}`: the second token would give away how the next step begins.
    assert_eq!(encoded.step_ends, [1, 5]);
    let wide = Encoder::new(&template, &chunks(2), WIDE)
        .encode(&two_steps())
        .unwrap();
    // `3+` `1\n` `\b` ...
    assert_eq!(wide.step_ends, [2, 7]);
    let row = problem(json!({"problem": "p", "answer": "1", "steps": ["a b", "\n", "c"]}));
    let wider = Encoder::new(&template, &chunks(2), WIDE)
        .encode(&row)
        .unwrap();
    // `a ` `b\n` `c`: the word `b` needs the token, the step of white space adds none.
    assert_eq!(wider.step_ends, [2, 2, 3]);
    assert_eq!(encoded.hint_text(1), "3+1");
    assert_eq!(encoded.hint_text(99), "3+1\n\\boxed{4}");
    assert_eq!(
        encoded.solution_ids,
        encoder(&encoded.solution).unwrap().ids
    );
}

#[test]
fn hint_text_ends_with_a_whole_character() {
    let template = PromptTemplate::named("bare").unwrap();
    let row = problem(json!({"problem": "p", "answer": "1", "solution": "a→b"}));
    let encoded = Encoder::new(&template, &chunks(1), WIDE)
        .encode(&row)
        .unwrap();
    assert_eq!(
        ["", "a", "a", "a", "a→", "a→b"],
        [0, 1, 2, 3, 4, 5].map(|l| encoded.hint_text(l))
    );
}

#[test]
fn what_does_not_fit_names_the_problem_and_the_numbers() {
    let template = PromptTemplate::named("bare").unwrap();
    let limits = |context_tokens| LengthLimits {
        context_tokens,
        response_tokens: 10,
    };
    // 23 prompt, 13 solution and 10 response tokens.
    assert!(
        Encoder::new(&template, &chunks(1), limits(46))
            .encode(&two_steps())
            .is_ok()
    );
    let error = Encoder::new(&template, &chunks(1), limits(45))
        .encode(&two_steps())
        .unwrap_err();
    let message = error.to_string();
    assert!(
        message
            .contains("line 3: problem `p` does not fit the context: 23 prompt + 13 solution + 10"),
        "{message}"
    );
    let bare = problem(json!({"problem": "p", "answer": "1"}));
    let encoder = chunks(1);
    let encoder = Encoder::new(&template, &encoder, WIDE);
    assert!(encoder.encode(&bare).unwrap().solution_ids.is_empty());
    assert!(matches!(
        encoder.require_solution().encode(&bare),
        Err(EncodeError::NoSolution { .. })
    ));
}

#[test]
fn spans_that_do_not_fit_the_text_are_refused() {
    let template = PromptTemplate::named("bare").unwrap();
    let broken = |text: &str| -> Result<EncodedText, BoxError> {
        Ok(EncodedText {
            ids: vec![1],
            spans: std::iter::once(0..text.len() + 1).collect(),
        })
    };
    assert!(matches!(
        Encoder::new(&template, &broken, WIDE).encode(&two_steps()),
        Err(EncodeError::Spans { .. })
    ));
}

#[test]
fn joined_problems_learn_solutions_and_ends() {
    let template = PromptTemplate::named("bare").unwrap();
    let row = problem(json!({"problem": "pq", "answer": "1", "solution": "s"}));
    let encoded = Encoder::new(&template, &chunks(1), WIDE)
        .encode(&row)
        .unwrap();
    let joined = join_encoded([&encoded, &encoded], 0);
    assert_eq!(
        joined.ids,
        [b'p', b'q', b's', 0, b'p', b'q', b's', 0].map(u32::from)
    );
    assert_eq!(
        joined.is_target,
        [false, false, true, true, false, false, true, true]
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

    #[test]
    fn step_ends_rise_and_cover_their_steps(
        steps in prop::collection::vec("[a-zé→\n ]{0,8}x[\n ]{0,3}", 1..6),
        width in 1usize..5,
        template in prop::sample::select(vec!["r1-zero", "bare"]),
    ) {
        let row = problem(json!({"problem": "p", "answer": "1", "steps": steps}));
        let template = PromptTemplate::named(template).unwrap();
        let encoded = Encoder::new(&template, &chunks(width), WIDE).encode(&row).unwrap();
        let start = template.solution(&row).unwrap().unwrap().solution_start;
        prop_assert_eq!(encoded.step_ends.len(), steps.len());
        let mut end = start;
        for (step, &tokens) in steps.iter().zip(&encoded.step_ends) {
            let words_end = end + step.trim_end().len();
            end += step.len();
            // Its words are there, its last token begins before its end, and no token more would fit.
            prop_assert!(tokens * width >= words_end.min(encoded.solution.len()));
            prop_assert!((tokens - 1) * width < end);
            prop_assert!(tokens == encoded.solution_ids.len() || encoded.hint_text(tokens + 1).len() + 2 >= end);
        }
        prop_assert!(encoded.step_ends.is_sorted());
        prop_assert!(*encoded.step_ends.last().unwrap() <= encoded.solution_ids.len());
        // A hint of l tokens is the encoder's own first l tokens, and its text grows with l.
        for l in 0..=encoded.solution_ids.len() {
            prop_assert!(encoded.solution.starts_with(encoded.hint_text(l)));
            prop_assert!(encoded.hint_text(l).len() + 2 >= (l * width).min(encoded.solution.len()));
        }
    }
}
