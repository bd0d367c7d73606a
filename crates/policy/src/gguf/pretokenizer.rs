//! How byte-level tokenizers part a text before merging, by the name that a GGUF file gives it.

use super::metadata::Metadata;
use crate::error::LoadError;
use serde_json::{Value, json};

/// Parts at contractions, words with one leading character that is no letter, numbers of `{1,3}`
/// digits, punctuation with the line ends after it, line ends, and white space.
const LLAMA_3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// As [`LLAMA_3`], each digit on its own.
const QWEN_2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// What distinguishes byte-level tokenizers besides their vocabulary.
pub(super) struct PreTokenizer {
    /// `normalizer` of a `tokenizer.json`.
    pub(super) normalizer: Value,
    /// `pre_tokenizer` of a `tokenizer.json`.
    pub(super) pre_tokenizer: Value,
    /// A part that is a token as it stands is not merged from its bytes.
    pub(super) ignore_merges: bool,
    /// Whether a text begins with the beginning-of-sequence token where the file does not say.
    pub(super) add_bos: bool,
}

impl PreTokenizer {
    /// The one that `tokenizer.ggml.pre` names.
    pub(super) fn of(metadata: &Metadata) -> Result<Self, LoadError> {
        let key = "tokenizer.ggml.pre";
        let plain = |pre_tokenizer| Self {
            normalizer: Value::Null,
            pre_tokenizer,
            ignore_merges: false,
            add_bos: false,
        };
        Ok(match metadata.text(key)?.unwrap_or("default") {
            // Files from before the key existed, and converters that do not know better.
            "default" | "gpt-2" => plain(byte_level(true)),
            // Every digit is parted off before the expression of GPT-2 sees the text: a space
            // before a digit stays alone.
            "smollm" => plain(json!({
                "type": "Sequence",
                "pretokenizers": [{ "type": "Digits", "individual_digits": true }, byte_level(true)],
            })),
            "llama-bpe" | "llama3" | "llama-v3" => Self {
                ignore_merges: true,
                add_bos: true,
                ..plain(split_then_bytes(LLAMA_3))
            },
            "qwen2" => Self {
                normalizer: json!({ "type": "NFC" }),
                ..plain(split_then_bytes(QWEN_2))
            },
            "deepseek-r1-qwen" => plain(split_then_bytes(QWEN_2)),
            _ => {
                return Err(metadata.unsupported(
                    key,
                    "default, gpt-2, smollm, llama-bpe, qwen2, deepseek-r1-qwen",
                ));
            }
        })
    }
}

fn split_then_bytes(expression: &str) -> Value {
    let split = json!({
        "type": "Split", "pattern": { "Regex": expression }, "behavior": "Isolated", "invert": false,
    });
    json!({ "type": "Sequence", "pretokenizers": [split, byte_level(false)] })
}

/// Bytes as printable characters; with `use_regex` after parting by the expression of GPT-2.
pub(super) fn byte_level(use_regex: bool) -> Value {
    json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": use_regex })
}
