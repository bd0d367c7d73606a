//! The tokenizer of a GGUF file, rebuilt from its metadata as a `tokenizer.json`.

use super::metadata::Metadata;
use super::pretokenizer::{PreTokenizer, byte_level};
use crate::error::LoadError;
use crate::tokenizer::{Tokenizer, TokenizerError};
use serde_json::{Map, Value, json};
use std::collections::HashMap;

/// Stands for a space in SentencePiece vocabularies.
const SPACE: &str = "\u{2581}";

/// Bytes of a token above which it is taken for damage.
const LONGEST_TOKEN: usize = 4096;

/// What `tokenizer.ggml.token_type` says of a token.
mod token_type {
    pub(super) const UNKNOWN: i64 = 2;
    pub(super) const CONTROL: i64 = 3;
    pub(super) const USER_DEFINED: i64 = 4;
}

/// Builds the tokenizer.
pub(super) fn tokenizer(metadata: &Metadata) -> Result<Tokenizer, LoadError> {
    let key = "tokenizer.ggml.model";
    let model = metadata
        .text(key)?
        .ok_or_else(|| metadata.missing(key, "the kind of tokenizer"))?;
    let vocabulary = Vocabulary::of(metadata)?;
    let description = match model {
        "gpt2" => byte_level_description(metadata, &vocabulary)?,
        "llama" => sentencepiece_description(metadata, &vocabulary)?,
        _ => return Err(metadata.unsupported(key, "gpt2, llama")),
    };
    let mut settings = Map::new();
    settings.insert(
        "tokenizer_class".to_owned(),
        json!("PreTrainedTokenizerFast"),
    );
    settings.insert("clean_up_tokenization_spaces".to_owned(), json!(false));
    for (name, key) in [
        ("bos_token", "tokenizer.ggml.bos_token_id"),
        ("eos_token", "tokenizer.ggml.eos_token_id"),
        ("unk_token", "tokenizer.ggml.unknown_token_id"),
        ("pad_token", "tokenizer.ggml.padding_token_id"),
    ] {
        if let Some(token) = vocabulary.special(metadata, key)? {
            settings.insert(name.to_owned(), json!(token));
        }
    }
    Tokenizer::from_json(description.to_string().as_bytes(), settings)
        .map_err(|source| error(metadata, source))
}

fn error(metadata: &Metadata, source: TokenizerError) -> LoadError {
    LoadError::Tokenizer {
        path: metadata.path().to_owned(),
        source,
    }
}

fn contradiction(metadata: &Metadata, problem: String) -> LoadError {
    error(metadata, TokenizerError::Description(problem))
}

/// Tokens by id, and ids by token.
struct Vocabulary<'a> {
    tokens: &'a [String],
    ids: HashMap<&'a str, usize>,
    /// Kind of each token, or nothing where the file does not say.
    types: &'a [i64],
}

impl<'a> Vocabulary<'a> {
    fn of(metadata: &'a Metadata) -> Result<Self, LoadError> {
        let tokens = metadata.texts("tokenizer.ggml.tokens", "the vocabulary")?;
        let mut ids = HashMap::with_capacity(tokens.len());
        for (id, token) in tokens.iter().enumerate() {
            if token.len() > LONGEST_TOKEN {
                return Err(contradiction(
                    metadata,
                    format!("token {id} has {} bytes", token.len()),
                ));
            }
            if let Some(first) = ids.insert(token.as_str(), id) {
                return Err(contradiction(
                    metadata,
                    format!("tokens {first} and {id} are both {token:?}"),
                ));
            }
        }
        let key = "tokenizer.ggml.token_type";
        let types = metadata.integers(key)?.unwrap_or_default();
        if !types.is_empty() && types.len() != tokens.len() {
            return Err(metadata.invalid(
                key,
                format!("a list with one entry for each of {} tokens", tokens.len()),
            ));
        }
        Ok(Self { tokens, ids, types })
    }

    /// The token whose id is under `key`.
    fn special(&self, metadata: &Metadata, key: &str) -> Result<Option<&'a str>, LoadError> {
        let Some(id) = metadata.token_id(key)? else {
            return Ok(None);
        };
        match self.tokens.get(id as usize) {
            Some(token) => Ok(Some(token)),
            None => Err(metadata.invalid(
                key,
                format!("below the number of tokens, {}", self.tokens.len()),
            )),
        }
    }

    /// `vocab` of a `tokenizer.json`.
    fn to_json(&self) -> Value {
        self.tokens
            .iter()
            .enumerate()
            .map(|(id, token)| (token.clone(), json!(id)))
            .collect::<Map<_, _>>()
            .into()
    }

    /// `added_tokens` of a `tokenizer.json`: those that text may spell out, control tokens marked
    /// as special.
    fn added_tokens(&self) -> Vec<Value> {
        let added = |(id, kind): (usize, &i64)| {
            let special = match *kind {
                token_type::CONTROL | token_type::UNKNOWN => true,
                token_type::USER_DEFINED => false,
                _ => return None,
            };
            Some(json!({
                "id": id, "content": self.tokens[id], "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": special,
            }))
        };
        self.types.iter().enumerate().filter_map(added).collect()
    }
}

/// Byte-level byte-pair encoding: GPT-2, Llama 3, Qwen, SmolLM.
fn byte_level_description(
    metadata: &Metadata,
    vocabulary: &Vocabulary<'_>,
) -> Result<Value, LoadError> {
    let pre = PreTokenizer::of(metadata)?;
    let mut merges = Vec::new();
    for merge in metadata.texts("tokenizer.ggml.merges", "the merges of the tokenizer")? {
        let pair = merge
            .split_once(' ')
            .filter(|(left, right)| !left.is_empty() && !right.is_empty());
        let Some((left, right)) = pair else {
            return Err(contradiction(
                metadata,
                format!("merge {merge:?} does not name two tokens"),
            ));
        };
        merges.push(json!([left, right]));
    }
    Ok(json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": vocabulary.added_tokens(),
        "normalizer": pre.normalizer,
        "pre_tokenizer": pre.pre_tokenizer,
        "post_processor": post_processor(metadata, vocabulary, pre.add_bos, Some(byte_level(false)))?,
        "decoder": byte_level(true),
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": pre.ignore_merges,
            "vocab": vocabulary.to_json(),
            "merges": merges,
        },
    }))
}

/// SentencePiece byte-pair encoding with byte fallback: Llama 2, Mistral. A space stands before the
/// text, and after every special token, unless the file says otherwise.
fn sentencepiece_description(
    metadata: &Metadata,
    vocabulary: &Vocabulary<'_>,
) -> Result<Value, LoadError> {
    let key = "tokenizer.ggml.scores";
    let scores = metadata.floats(key, "the scores of the tokens")?;
    if scores.len() != vocabulary.tokens.len() {
        let expected = format!(
            "a list with one entry for each of {} tokens",
            vocabulary.tokens.len()
        );
        return Err(metadata.invalid(key, expected));
    }
    let unknown = match vocabulary.special(metadata, "tokenizer.ggml.unknown_token_id")? {
        Some(token) => Some(token),
        None => vocabulary
            .types
            .iter()
            .position(|kind| *kind == token_type::UNKNOWN)
            .map(|id| vocabulary.tokens[id].as_str()),
    };
    let space_first = metadata
        .flag("tokenizer.ggml.add_space_prefix")?
        .unwrap_or(true);
    let to_mark = json!({ "type": "Replace", "pattern": { "String": " " }, "content": SPACE });
    let from_mark = json!({ "type": "Replace", "pattern": { "String": SPACE }, "content": " " });
    let mut normalizers = vec![to_mark];
    let mut decoders = vec![
        from_mark,
        json!({ "type": "ByteFallback" }),
        json!({ "type": "Fuse" }),
    ];
    if space_first {
        normalizers.insert(0, json!({ "type": "Prepend", "prepend": SPACE }));
        decoders.push(json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 }));
    }
    Ok(json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": vocabulary.added_tokens(),
        "normalizer": { "type": "Sequence", "normalizers": normalizers },
        "pre_tokenizer": null,
        "post_processor": post_processor(metadata, vocabulary, true, None)?,
        "decoder": { "type": "Sequence", "decoders": decoders },
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": unknown,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": true,
            "byte_fallback": true,
            "ignore_merges": false,
            "vocab": vocabulary.to_json(),
            "merges": merges_by_score(vocabulary, scores),
        },
    }))
}

/// SentencePiece merges whichever two neighbours make the token with the best score: so every way
/// to part a token in two tokens is a merge, those of the best token first.
fn merges_by_score(vocabulary: &Vocabulary<'_>, scores: &[f32]) -> Vec<Value> {
    let mut merges = Vec::new();
    for (id, token) in vocabulary.tokens.iter().enumerate() {
        for (cut, _) in token.char_indices().skip(1) {
            let (left, right) = token.split_at(cut);
            if vocabulary.ids.contains_key(left) && vocabulary.ids.contains_key(right) {
                merges.push((scores[id], id, left, right));
            }
        }
    }
    // Stable: equal scores stay in the order of ids and cuts.
    merges.sort_by(|a, b| b.0.total_cmp(&a.0));
    merges
        .into_iter()
        .map(|(_, _, left, right)| json!([left, right]))
        .collect()
}

/// `post_processor` of a `tokenizer.json`: `first` if given, then the tokens around the text that
/// the file asks for.
fn post_processor(
    metadata: &Metadata,
    vocabulary: &Vocabulary<'_>,
    add_bos_by_default: bool,
    first: Option<Value>,
) -> Result<Value, LoadError> {
    let wanted = |flag: &str, default: bool, id: &str| -> Result<Option<&str>, LoadError> {
        if !metadata.flag(flag)?.unwrap_or(default) {
            return Ok(None);
        }
        vocabulary.special(metadata, id)
    };
    let bos = wanted(
        "tokenizer.ggml.add_bos_token",
        add_bos_by_default,
        "tokenizer.ggml.bos_token_id",
    )?;
    let eos = wanted(
        "tokenizer.ggml.add_eos_token",
        false,
        "tokenizer.ggml.eos_token_id",
    )?;
    if bos.is_none() && eos.is_none() {
        return Ok(first.unwrap_or(Value::Null));
    }
    let around = |name: &str| {
        let token = |token: &str| json!({ "SpecialToken": { "id": token, "type_id": 0 } });
        let text = json!({ "Sequence": { "id": name, "type_id": 0 } });
        bos.map(token)
            .into_iter()
            .chain([text])
            .chain(eos.map(token))
            .collect::<Vec<_>>()
    };
    let special_tokens: Map<String, Value> = bos
        .into_iter()
        .chain(eos)
        .map(|token| {
            (
                token.to_owned(),
                json!({ "id": token, "ids": [vocabulary.ids[token]], "tokens": [token] }),
            )
        })
        .collect();
    let template = json!({
        "type": "TemplateProcessing",
        "single": around("A"),
        "pair": around("A").into_iter().chain(around("B")).collect::<Vec<_>>(),
        "special_tokens": special_tokens,
    });
    Ok(match first {
        None => template,
        Some(first) => json!({ "type": "Sequence", "processors": [first, template] }),
    })
}
