//! Text to token ids and back.
//!
//! A wrapper over the `tokenizers` crate that holds what belongs together: the tokenizer itself
//! (`tokenizer.json`) and the settings beside it (`tokenizer_config.json`), which name the special
//! tokens. Built from a Hugging Face folder, from GGUF metadata, or from an alphabet.

mod characters;
mod stream;

pub use stream::DecodeStream;

use crate::config::keys::Keys;
use crate::error::LoadError;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Why a text could not be tokenised, ids not decoded, or a tokenizer not built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// The tokenizer has no token for a character.
    #[error("the tokenizer has no token for {character:?} (U+{:04X}) at byte {position}; take another tokenizer or change the text", *character as u32)]
    UnknownCharacter {
        /// The character.
        character: char,
        /// Byte position in the text.
        position: usize,
    },
    /// The `tokenizers` library refused.
    #[error("{0}")]
    Library(String),
    /// An alphabet names a character twice.
    #[error("the alphabet names {character:?} twice")]
    RepeatedCharacter {
        /// The character.
        character: char,
    },
    /// The description of the tokenizer contradicts itself.
    #[error("{0}")]
    Description(String),
}

impl TokenizerError {
    fn library(error: tokenizers::Error) -> Self {
        Self::Library(error.to_string())
    }
}

/// The part of a `tokenizer.json` that the library does not take at its word.
#[derive(Deserialize)]
struct AddedTokens {
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
}

#[derive(Deserialize)]
struct AddedToken {
    id: u32,
    content: String,
}

/// Token ids and the part of the text that each stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// Token ids, `[tokens]`.
    pub ids: Vec<u32>,
    /// Byte range in the text of each token, `[tokens]`; empty for tokens that were added. Tokens
    /// that share a character of several bytes all have the range of the whole character.
    pub offsets: Vec<Range<usize>>,
}

/// A tokenizer with its special tokens. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: Arc<tokenizers::Tokenizer>,
    /// `tokenizer_config.json` without its chat template.
    settings: Map<String, Value>,
    last_token: (String, u32),
    special_ids: Arc<HashSet<u32>>,
}

impl Tokenizer {
    /// Reads a `tokenizer.json` alone; no special tokens are named then.
    ///
    /// # Errors
    /// [`LoadError::Read`] and [`LoadError::Tokenizer`].
    pub fn from_file(path: &Path) -> Result<Self, LoadError> {
        let bytes = std::fs::read(path).map_err(|source| LoadError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::from_json(&bytes, Map::new()).map_err(|source| LoadError::Tokenizer {
            path: path.to_owned(),
            source,
        })
    }

    /// Builds a tokenizer from the text of a `tokenizer.json` and the settings of a
    /// `tokenizer_config.json`.
    ///
    /// # Errors
    /// [`TokenizerError::Library`] if the description is not understood,
    /// [`TokenizerError::Description`] if the settings name a special token that does not exist.
    pub fn from_json(
        json: &[u8],
        mut settings: Map<String, Value>,
    ) -> Result<Self, TokenizerError> {
        // The library unwraps inside its own readers; what is not JSON must not get that far.
        let whole: Result<serde::de::IgnoredAny, _> = serde_json::from_slice(json);
        whole.map_err(|error| TokenizerError::Description(error.to_string()))?;
        let mut inner = tokenizers::Tokenizer::from_bytes(json).map_err(TokenizerError::library)?;
        // A `tokenizer.json` may carry the truncation or padding of some earlier use; texts here
        // are neither cut nor filled without being asked.
        inner
            .with_truncation(None)
            .map_err(TokenizerError::library)?;
        inner.with_padding(None);
        let last_token = inner
            .get_vocab(true)
            .into_iter()
            .max_by_key(|(_, id)| *id)
            .ok_or_else(|| TokenizerError::Description("the tokenizer has no token".to_owned()))?;
        let added: AddedTokens = serde_json::from_slice(json)
            .map_err(|error| TokenizerError::Library(error.to_string()))?;
        for AddedToken { id, content } in added.added_tokens {
            // The library numbers added tokens itself, from the size of the vocabulary on.
            let found = inner.token_to_id(&content);
            if found != Some(id) {
                let found = found.map_or("none".to_owned(), |id| id.to_string());
                return Err(TokenizerError::Description(format!(
                    "the added token `{content}` should have id {id}, but gets {found}, because the ids of the \
                     vocabulary have gaps or repeat; save the tokenizer again with the program that made it"
                )));
            }
        }
        settings.remove("chat_template");
        let special = inner
            .get_added_tokens_decoder()
            .into_iter()
            .filter(|(_, token)| token.special);
        let special_ids = Arc::new(special.map(|(id, _)| id).collect());
        let tokenizer = Self {
            inner: Arc::new(inner),
            settings,
            last_token,
            special_ids,
        };
        for (name, token) in tokenizer.special_tokens() {
            if tokenizer.token_to_id(token).is_none() {
                return Err(TokenizerError::Description(format!(
                    "`{name}` is `{token}`, but the tokenizer has no such token; add it to the tokenizer or change the setting"
                )));
            }
        }
        Ok(tokenizer)
    }

    /// Reads `tokenizer.json` and, where present, `tokenizer_config.json` of a folder.
    ///
    /// # Errors
    /// [`LoadError::NotAModel`] without a `tokenizer.json`; [`LoadError::Read`],
    /// [`LoadError::Json`] and [`LoadError::Tokenizer`] for files that are not right.
    pub fn from_folder(folder: &Path) -> Result<Self, LoadError> {
        let path = folder.join("tokenizer.json");
        if !path.is_file() {
            return Err(LoadError::NotAModel {
                path: folder.to_owned(),
                problem: "`tokenizer.json` is missing; save the fast tokenizer of the model into the folder \
                          (`AutoTokenizer.from_pretrained(...).save_pretrained(...)`)"
                    .to_owned(),
            });
        }
        let settings = Self::settings_in(folder)?;
        let bytes = std::fs::read(&path).map_err(|source| LoadError::Read {
            path: path.clone(),
            source,
        })?;
        Self::from_json(&bytes, settings).map_err(|source| LoadError::Tokenizer { path, source })
    }

    /// `tokenizer_config.json`, or nothing; special tokens it lacks come from
    /// `special_tokens_map.json`, where older folders keep them.
    pub(crate) fn settings_in(folder: &Path) -> Result<Map<String, Value>, LoadError> {
        let mut settings = Map::new();
        for name in ["special_tokens_map.json", "tokenizer_config.json"] {
            let path = folder.join(name);
            if path.is_file() {
                let text = std::fs::read_to_string(&path).map_err(|source| LoadError::Read {
                    path: path.clone(),
                    source,
                })?;
                settings.append(&mut Keys::parse(&text, &path)?.into_map());
            }
        }
        Ok(settings)
    }

    /// Token ids of `text`. Text that spells a special token becomes that token. With
    /// `add_special_tokens` the tokens that the model expects around a text (usually the
    /// beginning-of-sequence token) are added.
    ///
    /// # Errors
    /// [`TokenizerError::UnknownCharacter`] if no token covers a character.
    pub fn encode(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>, TokenizerError> {
        let encoding = self
            .inner
            .encode_fast(text, add_special_tokens)
            .map_err(|error| self.explain(text, error))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// As [`Self::encode`], with the byte range of each token in `text`.
    ///
    /// # Errors
    /// [`TokenizerError::UnknownCharacter`] if no token covers a character.
    pub fn encode_with_offsets(
        &self,
        text: &str,
        add_special_tokens: bool,
    ) -> Result<Encoded, TokenizerError> {
        let encoding = self
            .inner
            .encode(text, add_special_tokens)
            .map_err(|error| self.explain(text, error))?;
        let offsets = encoding
            .get_offsets()
            .iter()
            .map(|&(start, end)| start..end)
            .collect();
        Ok(Encoded {
            ids: encoding.get_ids().to_vec(),
            offsets,
        })
    }

    /// The text of `ids`; special tokens are left out with `skip_special_tokens`. Ids without a
    /// token give nothing; bytes that are no UTF-8 give the replacement character.
    ///
    /// # Errors
    /// [`TokenizerError::Library`] if the decoder refuses.
    pub fn decode(&self, ids: &[u32], skip_special_tokens: bool) -> Result<String, TokenizerError> {
        self.inner
            .decode(ids, skip_special_tokens)
            .map_err(TokenizerError::library)
    }

    /// One more than the largest token id; the model's vocabulary may be larger, never smaller.
    pub fn vocab_size(&self) -> usize {
        self.last_token.1 as usize + 1
    }

    /// Refuses a model whose embedding lacks a row for some token.
    pub(crate) fn check_vocabulary(&self, path: &Path, vocab_size: usize) -> Result<(), LoadError> {
        let (token, id) = &self.last_token;
        if self.vocab_size() <= vocab_size {
            return Ok(());
        }
        Err(LoadError::TokenBeyondVocabulary {
            path: path.to_owned(),
            token: token.clone(),
            id: *id,
            vocab_size,
        })
    }

    /// Id of a token by its spelling in the vocabulary (byte-level spelling where that is used).
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// Spelling in the vocabulary of a token.
    pub fn id_to_token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// Whether the id is a special token, which [`Self::decode`] can leave out.
    pub fn is_special(&self, id: u32) -> bool {
        self.special_ids.contains(&id)
    }

    /// The special tokens that the settings name (`bos_token`, `eos_token`, `pad_token`, ...).
    pub fn special_tokens(&self) -> BTreeMap<&str, &str> {
        self.settings
            .iter()
            .filter(|(name, _)| name.ends_with("_token") && !name.starts_with("add_"))
            .filter_map(|(name, value)| {
                let text = value.as_str().or_else(|| value.get("content")?.as_str())?;
                Some((name.as_str(), text))
            })
            .collect()
    }

    fn special_id(&self, name: &str) -> Option<u32> {
        self.token_to_id(self.special_tokens().get(name)?)
    }

    /// Beginning-of-sequence token, if the settings name one.
    pub fn bos_token_id(&self) -> Option<u32> {
        self.special_id("bos_token")
    }

    /// End-of-sequence token, if the settings name one. A model may stop on more:
    /// see [`crate::config::ModelConfig::eos_token_ids`].
    pub fn eos_token_id(&self) -> Option<u32> {
        self.special_id("eos_token")
    }

    /// Padding token, if the settings name one.
    pub fn pad_token_id(&self) -> Option<u32> {
        self.special_id("pad_token")
    }

    /// Text of a `tokenizer.json` that builds this tokenizer.
    ///
    /// # Errors
    /// [`TokenizerError::Library`] if the library cannot write it.
    pub fn to_json(&self) -> Result<String, TokenizerError> {
        self.inner.to_string(true).map_err(TokenizerError::library)
    }

    /// Settings for a `tokenizer_config.json`, without a chat template.
    pub fn settings(&self) -> &Map<String, Value> {
        &self.settings
    }

    /// Names the character behind a refusal, if one alone is refused too.
    fn explain(&self, text: &str, error: tokenizers::Error) -> TokenizerError {
        let added = self.inner.get_added_tokens_decoder();
        let mut position = 0;
        while let Some(character) = text[position..].chars().next() {
            let rest = &text[position..];
            let spelled_out = added
                .values()
                .map(|token| token.content.as_str())
                .filter(|token| rest.starts_with(token));
            match spelled_out.map(str::len).max() {
                Some(length @ 1..) => position += length,
                _ if self
                    .inner
                    .encode_fast(&rest[..character.len_utf8()], false)
                    .is_err() =>
                {
                    return TokenizerError::UnknownCharacter {
                        character,
                        position,
                    };
                }
                _ => position += character.len_utf8(),
            }
        }
        TokenizerError::library(error)
    }
}
