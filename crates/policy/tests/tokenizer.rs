//! Tokenizers and chat templates against recorded cases.
#![allow(clippy::unwrap_used, reason = "test helpers fail by panicking")]

mod fixtures;
mod samples;

use fixtures::{golden, golden_models, ids, json, smollm2};
use proptest::prelude::*;
use seele_policy::chat::{ChatTemplate, Message};
use seele_policy::model::ModelFiles;
use seele_policy::tokenizer::{DecodeStream, Tokenizer, TokenizerError};
use serde_json::Value;
use std::path::Path;
use std::sync::LazyLock;

fn messages(value: &Value) -> Vec<Message> {
    serde_json::from_value(value.clone()).unwrap()
}

/// All pieces of a stream, put together.
fn streamed(tokenizer: &Tokenizer, ids: &[u32]) -> String {
    let mut stream = DecodeStream::new(false);
    let mut text = String::new();
    for &id in ids {
        text += &stream.push(tokenizer, id).unwrap();
    }
    text + &stream.finish(tokenizer).unwrap()
}

#[test]
fn golden_tokenizers_give_the_recorded_ids() {
    for folder in golden_models() {
        let fixture = json(&folder.join("fixture.json"));
        let tokenizer = Tokenizer::from_folder(&folder).unwrap();
        let cases = fixture["tokenizer"].as_array().unwrap();
        assert!(!cases.is_empty());
        for case in cases {
            let text = case["text"].as_str().unwrap();
            let plain = tokenizer.encode(text, false).unwrap();
            assert_eq!(
                plain,
                ids(&case["ids_no_special"]),
                "{}: {text:?}",
                folder.display()
            );
            assert_eq!(
                tokenizer.encode(text, true).unwrap(),
                ids(&case["ids"]),
                "{}: {text:?}",
                folder.display()
            );
            // The normaliser may have changed the text, so what counts is decoding at once.
            assert_eq!(
                streamed(&tokenizer, &plain),
                tokenizer.decode(&plain, false).unwrap()
            );
        }
    }
}

#[test]
fn golden_chat_templates_give_the_recorded_text() {
    for folder in golden_models() {
        let fixture = json(&folder.join("fixture.json"));
        let model = ModelFiles::open(&folder).unwrap();
        let chat = &fixture["chat"];
        let template = model.chat_template().unwrap();
        let add_generation_prompt = chat["add_generation_prompt"].as_bool().unwrap();
        let text = template
            .render(&messages(&chat["messages"]), add_generation_prompt)
            .unwrap();
        assert_eq!(text, chat["text"].as_str().unwrap(), "{}", folder.display());
        assert_eq!(
            model.tokenizer().encode(&text, false).unwrap(),
            ids(&chat["ids"]),
            "{}",
            folder.display()
        );
    }
}

#[test]
fn smollm2_gives_the_recorded_ids() {
    let (Some(golden), Some(file)) = (golden("smollm2.json"), smollm2()) else {
        return;
    };
    let reference = json(&golden);
    let model = ModelFiles::open(&file).unwrap();
    let tokenizer = model.tokenizer();
    let mut wrong = Vec::new();
    let cases = reference["tokenizer_cases"].as_array().unwrap();
    for case in cases {
        let text = case["text"].as_str().unwrap();
        let found = tokenizer.encode(text, false).unwrap();
        let back = tokenizer.decode(&found, false).unwrap();
        if found != ids(&case["ids"]) || back != text || streamed(tokenizer, &found) != text {
            wrong.push((text, found, back));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {} cases: {wrong:?}",
        wrong.len(),
        cases.len()
    );

    for prompt in reference["prompts"].as_array().unwrap() {
        let text = prompt["text"].as_str().unwrap();
        assert_eq!(
            tokenizer.encode(text, false).unwrap(),
            ids(&prompt["ids"]),
            "{text:?}"
        );
        let continuation = prompt["continuation"].as_str().unwrap();
        assert_eq!(
            tokenizer.encode(continuation, false).unwrap(),
            ids(&prompt["continuation_ids"])
        );
        let greedy = ids(&prompt["greedy_ids"]);
        assert_eq!(
            tokenizer.decode(&greedy, false).unwrap(),
            prompt["greedy_text"].as_str().unwrap()
        );
        if prompt["kind"] == "chat" {
            let message = Message::user(prompt["prompt"].as_str().unwrap());
            assert_eq!(
                model
                    .chat_template()
                    .unwrap()
                    .render(&[message], true)
                    .unwrap(),
                text
            );
        }
    }
}

#[test]
fn smollm2_offsets_cover_the_text_in_order() {
    let (Some(golden), Some(file)) = (golden("smollm2.json"), smollm2()) else {
        return;
    };
    let model = ModelFiles::open(&file).unwrap();
    for case in json(&golden)["tokenizer_cases"].as_array().unwrap() {
        let text = case["text"].as_str().unwrap();
        let encoded = model.tokenizer().encode_with_offsets(text, false).unwrap();
        assert_eq!(encoded.ids, ids(&case["ids"]));
        let mut end = 0;
        for range in &encoded.offsets {
            assert!(
                range.start <= end && range.end >= end,
                "{text:?}: {range:?} after {end}"
            );
            end = range.end;
        }
        assert_eq!(end, text.len(), "{text:?}");
    }
}

#[test]
fn characters_are_tokens_in_the_order_of_the_alphabet() {
    let tokenizer = Tokenizer::characters("ab<>=é").unwrap();
    assert_eq!(tokenizer.vocab_size(), 3 + 6 + 1);
    assert_eq!(
        (
            tokenizer.pad_token_id(),
            tokenizer.bos_token_id(),
            tokenizer.eos_token_id()
        ),
        (Some(0), Some(1), Some(2)),
    );
    let text = "a<b>\né=\n\n<eos>a";
    let encoded = tokenizer.encode_with_offsets(text, true).unwrap();
    assert_eq!(encoded.ids, [1, 3, 5, 4, 6, 9, 8, 7, 9, 9, 2, 3]);
    assert_eq!(encoded.offsets[6], 5..7, "é takes two bytes");
    assert_eq!(tokenizer.decode(&encoded.ids[1..], false).unwrap(), text);
    assert_eq!(
        tokenizer.decode(&encoded.ids, true).unwrap(),
        text.replace("<eos>", "")
    );
    assert!(tokenizer.is_special(2) && !tokenizer.is_special(3));
}

#[test]
fn a_character_outside_the_alphabet_is_named_with_its_place() {
    let tokenizer = Tokenizer::characters("0123é").unwrap();
    let error = tokenizer.encode("é1<eos>4", false).unwrap_err();
    assert!(
        matches!(
            error,
            TokenizerError::UnknownCharacter {
                character: '4',
                position: 8
            }
        ),
        "{error}"
    );
    assert_eq!(
        error.to_string(),
        "the tokenizer has no token for '4' (U+0034) at byte 8; take another tokenizer or change the text",
    );
    let error = Tokenizer::characters("0120").unwrap_err();
    assert_eq!(error.to_string(), "the alphabet names '0' twice");
}

#[test]
fn the_template_for_characters_needs_no_role_names() {
    let tokenizer = Tokenizer::characters("12+=3").unwrap();
    let template = ChatTemplate::characters(&tokenizer).unwrap();
    let turns = [
        Message::user("1+2="),
        Message::new("assistant", "3"),
        Message::user("1+1="),
    ];
    assert_eq!(
        template.render(&turns, true).unwrap(),
        "<bos>1+2=\n3<eos>1+1=\n"
    );
}

#[test]
fn a_special_token_that_does_not_exist_is_refused() {
    let json = Tokenizer::characters("ab").unwrap().to_json().unwrap();
    let settings =
        serde_json::from_str(r#"{"eos_token": {"content": "</s>", "special": true}}"#).unwrap();
    let error = Tokenizer::from_json(json.as_bytes(), settings).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`eos_token` is `</s>`, but the tokenizer has no such token; add it to the tokenizer or change the setting",
    );
}

/// Byte-level ones, whose tokens are often parts of characters, and in the golden folders also one
/// with byte fallback.
static TOKENIZERS: LazyLock<Vec<Tokenizer>> = LazyLock::new(|| {
    let golden = golden_models()
        .into_iter()
        .map(|folder| Tokenizer::from_folder(&folder).unwrap());
    [samples::llama().tokenizer]
        .into_iter()
        .chain(golden)
        .collect()
});

#[test]
fn a_stream_holds_back_half_a_character() {
    let tokenizer = samples::llama().tokenizer;
    let ids = tokenizer.encode("a😀", false).unwrap();
    let mut stream = DecodeStream::new(false);
    let pieces: Vec<String> = ids
        .iter()
        .map(|&id| stream.push(&tokenizer, id).unwrap())
        .collect();
    assert_eq!(pieces.first().map(String::as_str), Some("a"));
    assert_eq!(pieces.last().map(String::as_str), Some("😀"));
    assert_eq!(stream.finish(&tokenizer).unwrap(), "");
    // Cut in the middle of the character, the rest comes out as the replacement at the end.
    for &id in &ids[..ids.len() - 1] {
        stream.push(&tokenizer, id).unwrap();
    }
    assert_eq!(stream.finish(&tokenizer).unwrap(), "\u{FFFD}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn decoding_a_stream_is_decoding_at_once(text in "\\PC{0,40}|[ \\n\\ta-c0-9é你😀]{0,40}") {
        for tokenizer in TOKENIZERS.iter() {
            let ids = tokenizer.encode(&text, true).unwrap();
            prop_assert_eq!(streamed(tokenizer, &ids), tokenizer.decode(&ids, false).unwrap());
        }
    }

    #[test]
    fn any_ids_can_be_streamed(ids in proptest::collection::vec(0_u32..330, 0..60)) {
        let (byte_level, others) = TOKENIZERS.split_first().unwrap();
        prop_assert_eq!(streamed(byte_level, &ids), byte_level.decode(&ids, false).unwrap());
        for tokenizer in others {
            streamed(tokenizer, &ids);
        }
    }

    #[test]
    fn decoding_characters_gives_the_text_back(text in "[0-9+*=;\\n]{0,60}") {
        let tokenizer = Tokenizer::characters("0123456789+*=;").unwrap();
        let ids = tokenizer.encode(&text, false).unwrap();
        prop_assert_eq!(ids.len(), text.len());
        prop_assert_eq!(tokenizer.decode(&ids, false).unwrap(), text);
    }
}

#[test]
fn a_folder_without_tokenizer_says_what_to_do() {
    let error = Tokenizer::from_folder(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("`tokenizer.json` is missing; save the fast tokenizer"),
        "{error}"
    );
}
