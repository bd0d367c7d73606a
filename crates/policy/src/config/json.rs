//! `config.json` and `generation_config.json`, read and written.

use super::keys::Keys;
use super::{Family, Llama3RopeScaling, ModelConfig};
use crate::error::LoadError;
use crate::huggingface::WeightType;
use serde_json::{Map, Value, json};
use std::path::Path;

/// What `transformers` assumes for Mistral when the key is absent.
const MISTRAL_SLIDING_WINDOW: usize = 4096;

impl Family {
    const ALL: [Self; 4] = [Self::Llama, Self::Qwen2, Self::Qwen3, Self::Mistral];

    /// `model_type` in `config.json`.
    pub fn model_type(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::Mistral => "mistral",
        }
    }

    /// Class in `transformers`, as `architectures` in `config.json` names it.
    pub fn architecture(self) -> &'static str {
        match self {
            Self::Llama => "LlamaForCausalLM",
            Self::Qwen2 => "Qwen2ForCausalLM",
            Self::Qwen3 => "Qwen3ForCausalLM",
            Self::Mistral => "MistralForCausalLM",
        }
    }
}

impl ModelConfig {
    /// Reads `config.json` (both the older spelling with `rope_theta` and the newer with
    /// `rope_parameters`). `origin` is the file the text came from, for messages.
    ///
    /// # Errors
    /// [`LoadError::Unsupported`] for an architecture or setting that is not computed here,
    /// [`LoadError::MissingKey`] and [`LoadError::InvalidKey`] for a file that is not right.
    pub fn from_json_str(text: &str, origin: &Path) -> Result<Self, LoadError> {
        let keys = Keys::parse(text, origin)?;
        let family = family(&keys)?;
        refuse_what_is_not_computed(&keys, family)?;

        let hidden_size = keys.required_size("hidden_size", "the width of the residual stream")?;
        let heads = keys.required_size("num_attention_heads", "the number of query heads")?;
        let kv_heads = match (keys.size("num_key_value_heads")?, family) {
            (Some(kv_heads), _) => kv_heads,
            (None, Family::Llama) => heads,
            (None, _) => {
                return Err(keys.missing("num_key_value_heads", "the number of key-value heads"));
            }
        };
        let head_dim = match (keys.size("head_dim")?, family) {
            (Some(head_dim), _) => head_dim,
            (None, Family::Qwen3) => {
                return Err(keys.missing("head_dim", "the width of one attention head"));
            }
            (None, _) if hidden_size % heads == 0 => hidden_size / heads,
            (None, _) => {
                let expected = format!(
                    "a multiple of `num_attention_heads` = {heads} where `head_dim` is not given"
                );
                return Err(keys.invalid("hidden_size", expected));
            }
        };
        if head_dim % 2 != 0 {
            let key = if keys.mentions("head_dim") {
                "head_dim"
            } else {
                "hidden_size"
            };
            return Err(keys.invalid(
                key,
                format!("such that the head width {head_dim} is even, for the rotary embedding"),
            ));
        }
        if heads % kv_heads != 0 {
            return Err(keys.invalid(
                "num_key_value_heads",
                format!("a divisor of `num_attention_heads` = {heads}"),
            ));
        }
        let max_position_embeddings = keys.required_size(
            "max_position_embeddings",
            "the longest position the model was made for",
        )?;
        refuse_sliding_window(&keys, family, max_position_embeddings)?;
        let (rope_theta, rope_scaling) = rope(&keys)?;

        let config = Self {
            family,
            vocab_size: keys.required_size("vocab_size", "the number of rows of the embedding")?,
            hidden_size,
            intermediate_size: keys
                .required_size("intermediate_size", "the width of the feed-forward layer")?,
            layers: keys.required_size("num_hidden_layers", "the number of blocks")?,
            heads,
            kv_heads,
            head_dim,
            rms_norm_eps: keys.positive("rms_norm_eps")?.unwrap_or(1e-6),
            rope_theta,
            rope_scaling,
            max_position_embeddings,
            tied: keys.flag("tie_word_embeddings")?.unwrap_or(false),
            qkv_bias: family == Family::Qwen2,
            qk_norm: family == Family::Qwen3,
            bos_token_id: keys
                .token_ids("bos_token_id")?
                .and_then(|ids| ids.first().copied()),
            eos_token_ids: keys.token_ids("eos_token_id")?.unwrap_or_default(),
        };
        config.check_sizes(origin)?;
        config.check_token_ids(origin)?;
        Ok(config)
    }

    /// Reads a `config.json`.
    ///
    /// # Errors
    /// As [`Self::from_json_str`], and [`LoadError::Read`].
    pub fn from_file(path: &Path) -> Result<Self, LoadError> {
        let text = std::fs::read_to_string(path).map_err(|source| LoadError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::from_json_str(&text, path)
    }

    /// The configuration as `transformers` reads it, in the older spelling, which its old and new
    /// releases understand. `weights` is the number format of the weights beside it.
    pub fn to_json(&self, weights: WeightType) -> Value {
        let mut map = Map::new();
        let mut set = |key: &str, value: Value| map.insert(key.to_owned(), value);
        set("architectures", json!([self.family.architecture()]));
        set("model_type", json!(self.family.model_type()));
        set("vocab_size", json!(self.vocab_size));
        set("hidden_size", json!(self.hidden_size));
        set("intermediate_size", json!(self.intermediate_size));
        set("num_hidden_layers", json!(self.layers));
        set("num_attention_heads", json!(self.heads));
        set("num_key_value_heads", json!(self.kv_heads));
        set("head_dim", json!(self.head_dim));
        set("hidden_act", json!("silu"));
        set("rms_norm_eps", json!(self.rms_norm_eps));
        set("rope_theta", json!(self.rope_theta));
        set(
            "rope_scaling",
            self.rope_scaling
                .map_or(Value::Null, |scaling| scaling.to_json()),
        );
        set(
            "max_position_embeddings",
            json!(self.max_position_embeddings),
        );
        set("tie_word_embeddings", json!(self.tied));
        match self.family {
            Family::Llama => {
                set("attention_bias", json!(false));
                set("mlp_bias", json!(false));
            }
            Family::Qwen2 => {
                set("use_sliding_window", json!(false));
            }
            Family::Qwen3 => {
                set("attention_bias", json!(false));
                set("use_sliding_window", json!(false));
            }
            Family::Mistral => {
                set("sliding_window", Value::Null);
            }
        }
        set("bos_token_id", json!(self.bos_token_id));
        set("eos_token_id", ids_to_json(&self.eos_token_ids));
        set("torch_dtype", json!(weights.torch_name()));
        set("use_cache", json!(true));
        Value::Object(map)
    }

    /// `generation_config.json`: the tokens that end a generation.
    pub fn generation_json(&self) -> Value {
        json!({ "bos_token_id": self.bos_token_id, "eos_token_id": ids_to_json(&self.eos_token_ids) })
    }

    /// Takes over the end-of-sequence tokens of a `generation_config.json`, which `transformers`
    /// prefers to those of `config.json` (chat models often end on more than one).
    pub(crate) fn apply_generation_json(
        &mut self,
        text: &str,
        origin: &Path,
    ) -> Result<(), LoadError> {
        let keys = Keys::parse(text, origin)?;
        if let Some(ids) = keys.token_ids("eos_token_id")? {
            self.eos_token_ids = ids;
        }
        self.check_token_ids(origin)
    }

    /// Refuses end-of-sequence and beginning-of-sequence ids that no token can have.
    pub(crate) fn check_token_ids(&self, origin: &Path) -> Result<(), LoadError> {
        let beyond = |id: &u32| *id as usize >= self.vocab_size;
        let wrong = [
            (
                "eos_token_id",
                self.eos_token_ids.iter().copied().find(beyond),
            ),
            ("bos_token_id", self.bos_token_id.filter(beyond)),
        ];
        for (key, id) in wrong {
            if let Some(id) = id {
                return Err(LoadError::InvalidKey {
                    path: origin.to_owned(),
                    key: key.to_owned(),
                    found: id.to_string(),
                    expected: format!("below `vocab_size` = {}", self.vocab_size),
                });
            }
        }
        Ok(())
    }
}

impl Llama3RopeScaling {
    fn from_keys(keys: &Keys<'_>) -> Result<Self, LoadError> {
        let scaling = Self {
            factor: keys.required_positive("factor", "the divisor of low rotary frequencies")?,
            low_freq_factor: keys
                .required_positive("low_freq_factor", "where full division begins")?,
            high_freq_factor: keys
                .required_positive("high_freq_factor", "where frequencies stay as they are")?,
            original_max_position_embeddings: keys.required_size(
                "original_max_position_embeddings",
                "the context length before scaling",
            )?,
        };
        if scaling.high_freq_factor <= scaling.low_freq_factor {
            let expected = format!("above `low_freq_factor` = {}", scaling.low_freq_factor);
            return Err(keys.invalid("high_freq_factor", expected));
        }
        Ok(scaling)
    }

    fn to_json(self) -> Value {
        json!({
            "rope_type": "llama3",
            "factor": self.factor,
            "low_freq_factor": self.low_freq_factor,
            "high_freq_factor": self.high_freq_factor,
            "original_max_position_embeddings": self.original_max_position_embeddings,
        })
    }
}

/// One id stands alone, several in a list, none is null.
fn ids_to_json(ids: &[u32]) -> Value {
    match ids {
        [] => Value::Null,
        [id] => json!(id),
        ids => json!(ids),
    }
}

fn family(keys: &Keys<'_>) -> Result<Family, LoadError> {
    let supported = || Family::ALL.map(Family::model_type).join(", ");
    let model_type = keys
        .text("model_type")?
        .ok_or_else(|| keys.missing("model_type", "the architecture"))?;
    let family = Family::ALL
        .into_iter()
        .find(|family| family.model_type() == model_type)
        .ok_or_else(|| keys.unsupported("model_type", supported()))?;
    // A classifier or embedding model of the same family has other heads on top.
    if let Some(architectures) = keys.value("architectures") {
        let names = architectures
            .as_array()
            .ok_or_else(|| keys.invalid("architectures", "a list of names"))?;
        if !names.is_empty() && !names.iter().any(|name| name == family.architecture()) {
            return Err(keys.unsupported("architectures", family.architecture()));
        }
    }
    Ok(family)
}

fn refuse_what_is_not_computed(keys: &Keys<'_>, family: Family) -> Result<(), LoadError> {
    if keys
        .text("hidden_act")?
        .is_some_and(|activation| activation != "silu")
    {
        return Err(keys.unsupported("hidden_act", "silu"));
    }
    if keys.value("quantization_config").is_some() {
        return Err(keys.unsupported(
            "quantization_config",
            "weights in float32, float16 or bfloat16, or a GGUF file",
        ));
    }
    for key in ["attention_bias", "mlp_bias"] {
        // Qwen2 has its bias on q, k and v whatever these keys say; `transformers` does not read them.
        if family != Family::Qwen2 && keys.flag(key)? == Some(true) {
            return Err(keys.unsupported(key, "false"));
        }
    }
    if let Some(factor) = keys.positive("partial_rotary_factor")?
        && factor != 1.0
    {
        return Err(keys.unsupported("partial_rotary_factor", "1"));
    }
    if let Some(types) = keys.value("layer_types") {
        let names = types
            .as_array()
            .ok_or_else(|| keys.invalid("layer_types", "a list of names"))?;
        if names.iter().any(|name| name != "full_attention") {
            return Err(keys.unsupported("layer_types", "full_attention in every layer"));
        }
    }
    Ok(())
}

/// A window that can cut off a token changes attention; one that never does is let through.
fn refuse_sliding_window(
    keys: &Keys<'_>,
    family: Family,
    max_position_embeddings: usize,
) -> Result<(), LoadError> {
    match family {
        Family::Llama => Ok(()),
        Family::Qwen2 | Family::Qwen3 => match keys.flag("use_sliding_window")? {
            Some(true) => Err(keys.unsupported("use_sliding_window", "false")),
            _ => Ok(()),
        },
        Family::Mistral => {
            let window = match keys.size("sliding_window")? {
                None if keys.mentions("sliding_window") => return Ok(()),
                None => MISTRAL_SLIDING_WINDOW,
                Some(window) => window,
            };
            if window >= max_position_embeddings {
                return Ok(());
            }
            let supported = format!(
                "null, or at least `max_position_embeddings` = {max_position_embeddings} \
                 (an absent key means {MISTRAL_SLIDING_WINDOW})"
            );
            Err(keys.unsupported("sliding_window", supported))
        }
    }
}

/// Base and scaling of the rotary frequencies, from either spelling.
fn rope(keys: &Keys<'_>) -> Result<(f64, Option<Llama3RopeScaling>), LoadError> {
    let old = keys.object("rope_scaling", "rope_scaling.")?;
    let new = keys.object("rope_parameters", "rope_parameters.")?;
    let mut theta = keys.positive("rope_theta")?;
    let old_scaling = old.as_ref().map(rope_scaling).transpose()?;
    let new_scaling = new.as_ref().map(rope_scaling).transpose()?;
    if let Some(parameters) = &new {
        theta = parameters.positive("rope_theta")?.or(theta);
    }
    let scaling = match (old_scaling, new_scaling) {
        (Some(old), Some(new)) if old != new => {
            return Err(keys.invalid(
                "rope_scaling",
                "the same as in `rope_parameters` where both are given",
            ));
        }
        (_, Some(scaling)) | (Some(scaling), None) => scaling,
        (None, None) => None,
    };
    Ok((theta.unwrap_or(10_000.0), scaling))
}

fn rope_scaling(keys: &Keys<'_>) -> Result<Option<Llama3RopeScaling>, LoadError> {
    if let Some(factor) = keys.positive("partial_rotary_factor")?
        && factor != 1.0
    {
        return Err(keys.unsupported("partial_rotary_factor", "1"));
    }
    let key = if keys.value("rope_type").is_some() {
        "rope_type"
    } else {
        "type"
    };
    match keys.text(key)? {
        Some("default") => Ok(None),
        Some("llama3") => Llama3RopeScaling::from_keys(keys).map(Some),
        Some(_) => Err(keys.unsupported(key, "default, llama3")),
        None if keys.mentions("factor") => {
            Err(keys.missing("rope_type", "the kind of rotary frequency scaling"))
        }
        None => Ok(None),
    }
}
