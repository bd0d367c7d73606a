//! Chat templates as `transformers` renders them.
#![allow(clippy::unwrap_used, reason = "test helpers fail by panicking")]

mod fixtures;

use fixtures::json;
use seele_policy::chat::{ChatTemplate, ChatTemplateError, Message};
use seele_policy::tokenizer::Tokenizer;
use std::path::Path;

fn template(source: &str) -> Result<ChatTemplate, ChatTemplateError> {
    ChatTemplate::new(source, &Tokenizer::characters("ab").unwrap())
}

/// `data/chat_templates.json`: templates written for this test, rendered by the `transformers`
/// template compiler (versions in the file) with the special tokens `<bos>`, `<eos>`, `<pad>`.
#[test]
fn templates_render_as_in_transformers() {
    let cases = json(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/chat_templates.json"));
    let mut wrong = Vec::new();
    for case in cases["cases"].as_array().unwrap() {
        let messages: Vec<Message> = serde_json::from_value(case["messages"].clone()).unwrap();
        let rendered = template(case["template"].as_str().unwrap()).and_then(|template| {
            template.render(&messages, case["add_generation_prompt"].as_bool().unwrap())
        });
        let right = match (&rendered, case["text"].as_str(), case["refused"].as_str()) {
            (Ok(text), Some(expected), _) => text == expected,
            (Err(ChatTemplateError::Refused(message)), None, Some(expected)) => message == expected,
            _ => false,
        };
        if !right {
            wrong.push(format!(
                "{}\n  {rendered:?}\n  {} {}",
                case["name"], case["text"], case["refused"]
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn generation_blocks_are_transparent() {
    let source = "{% for m in messages %}\n{%- generation -%} {{ m.content }} {%- endgeneration %}\n{% endfor %}{% generation %}\nx{% endgeneration %}";
    let text = template(source)
        .unwrap()
        .render(&[Message::user("a"), Message::user("b")], false)
        .unwrap();
    assert_eq!(text, "abx");
}

#[test]
fn a_broken_template_names_its_line() {
    let error = template("a\n{% for m in messages %}\n{{ m.content }")
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("the chat template does not compile: ") && error.contains("line 3"),
        "{error}"
    );
    let error = template("\n{{ messages[0].content.frobnicate() }}")
        .unwrap()
        .render(&[Message::user("a")], true);
    let error = error.unwrap_err().to_string();
    assert!(
        error.starts_with("the chat template cannot be rendered: ") && error.contains("line 2"),
        "{error}"
    );
}

#[test]
fn a_template_cannot_run_forever() {
    let source = "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}{% endfor %}{% endfor %}{% endfor %}";
    let error = template(source).unwrap().render(&[], true).unwrap_err();
    assert!(matches!(error, ChatTemplateError::Render(_)), "{error}");
}
