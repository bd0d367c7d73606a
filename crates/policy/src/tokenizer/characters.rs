//! A tokenizer with one token per character, for small models on synthetic tasks.

use super::{Tokenizer, TokenizerError};
use serde_json::{Map, Value, json};

/// Special tokens of a character-level tokenizer; their ids are 0, 1 and 2.
const SPECIAL_TOKENS: [&str; 3] = ["<pad>", "<bos>", "<eos>"];

impl Tokenizer {
    /// One token for each character of `alphabet`, which must not repeat any; the newline is added
    /// where it is not named. Ids: `<pad>` 0, `<bos>` 1, `<eos>` 2, then the alphabet in order.
    /// Encoding with special tokens puts `<bos>` first; a character outside the alphabet is an
    /// error. The result saves to a `tokenizer.json` that `transformers` loads.
    ///
    /// ```
    /// let tokenizer = seele_policy::tokenizer::Tokenizer::characters("0123456789+=").unwrap();
    /// assert_eq!(tokenizer.encode("1+2=3<eos>", true).unwrap(), [1, 4, 13, 5, 14, 6, 2]);
    /// assert_eq!(tokenizer.decode(&[4, 13, 5, 2], true).unwrap(), "1+2");
    /// ```
    ///
    /// # Errors
    /// [`TokenizerError::RepeatedCharacter`].
    pub fn characters(alphabet: &str) -> Result<Self, TokenizerError> {
        let mut vocabulary = Map::new();
        for token in SPECIAL_TOKENS {
            vocabulary.insert(token.to_owned(), json!(vocabulary.len()));
        }
        let newline = (!alphabet.contains('\n')).then_some('\n');
        for character in alphabet.chars().chain(newline) {
            if vocabulary
                .insert(character.to_string(), json!(vocabulary.len()))
                .is_some()
            {
                return Err(TokenizerError::RepeatedCharacter { character });
            }
        }
        let added: Vec<Value> = SPECIAL_TOKENS
            .iter()
            .enumerate()
            .map(|(id, content)| {
                json!({
                    "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": false, "special": true,
                })
            })
            .collect();
        let [_, bos, _] = SPECIAL_TOKENS;
        let bos_piece = json!({ "SpecialToken": { "id": bos, "type_id": 0 } });
        let sequence = |name: &str| json!({ "Sequence": { "id": name, "type_id": 0 } });
        let description = json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": added,
            "normalizer": null,
            // Any one character, line ends included: `.` leaves them out, in a way that differs
            // between regex dialects.
            "pre_tokenizer": { "type": "Split", "pattern": { "Regex": "[\\s\\S]" }, "behavior": "Isolated", "invert": false },
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [bos_piece, sequence("A")],
                "pair": [bos_piece, sequence("A"), sequence("B")],
                "special_tokens": { bos: { "id": bos, "ids": [vocabulary[bos]], "tokens": [bos] } },
            },
            "decoder": { "type": "Fuse" },
            // The unknown token is not in the vocabulary, so that an unknown character is refused.
            "model": { "type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>" },
        });
        let settings = [
            ("tokenizer_class", json!("PreTrainedTokenizerFast")),
            ("pad_token", json!(SPECIAL_TOKENS[0])),
            ("bos_token", json!(bos)),
            ("eos_token", json!(SPECIAL_TOKENS[2])),
            ("clean_up_tokenization_spaces", json!(false)),
        ];
        let settings = settings
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        Self::from_json(description.to_string().as_bytes(), settings)
    }
}
