//! What is wrong with a folder is said with file, place and remedy.
#![allow(clippy::unwrap_used, reason = "test helpers fail by panicking")]

mod samples;

use samples::{SPECIAL, saved, sharded};
use seele_policy::model::{Model, ModelFiles};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

fn edit(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

/// Rewrites the weights with one tensor list changed.
fn rewrite_weights(
    folder: &Path,
    change: impl FnOnce(&mut Vec<(String, safetensors::Dtype, Vec<usize>, Vec<u8>)>),
) {
    let path = folder.join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let mut tensors: Vec<_> = safetensors::SafeTensors::deserialize(&bytes)
        .unwrap()
        .tensors()
        .into_iter()
        .map(|(name, view)| {
            (
                name,
                view.dtype(),
                view.shape().to_vec(),
                view.data().to_vec(),
            )
        })
        .collect();
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    change(&mut tensors);
    let views = tensors.iter().map(|(name, dtype, shape, data)| {
        (
            name,
            safetensors::tensor::TensorView::new(*dtype, shape.clone(), data).unwrap(),
        )
    });
    fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
}

fn refusal(folder: &Path) -> String {
    let message = Model::load(folder).unwrap_err().to_string();
    message.replace(&*folder.to_string_lossy(), "DIR")
}

#[test]
fn wrong_tensors_are_named_with_the_remedy() {
    let (_scratch, folder) = saved(&samples::llama());
    let norm = "model.norm.weight";
    rewrite_weights(&folder, |tensors| tensors.retain(|(name, ..)| name != norm));
    assert_eq!(
        refusal(&folder),
        "`DIR/model.safetensors` does not hold tensor `model.norm.weight` of shape [48], which the configuration \
         calls for; the weights are incomplete or belong to another configuration",
    );
    rewrite_weights(&folder, |tensors| {
        tensors.push((norm.into(), safetensors::Dtype::F32, vec![24], vec![0; 96]))
    });
    assert_eq!(
        refusal(&folder),
        "`DIR/model.safetensors`: tensor `model.norm.weight` has shape [24], but the configuration calls for [48]; \
         weights and configuration belong to different models",
    );
    rewrite_weights(&folder, |tensors| {
        tensors.retain(|(name, ..)| name != norm);
        tensors.push((norm.into(), safetensors::Dtype::I32, vec![48], vec![0; 192]));
    });
    assert_eq!(
        refusal(&folder),
        "`DIR/model.safetensors`: tensor `model.norm.weight` is stored as I32, which is not supported; supported: F32, F16, BF16",
    );
    let infinite = [f32::INFINITY.to_le_bytes(); 48].concat();
    rewrite_weights(&folder, |tensors| {
        tensors.retain(|(name, ..)| name != norm);
        tensors.push((norm.into(), safetensors::Dtype::F32, vec![48], infinite));
    });
    assert!(
        refusal(&folder)
            .starts_with("`DIR/model.safetensors`: element 0 of tensor `model.norm.weight` is inf")
    );
    rewrite_weights(&folder, |tensors| {
        tensors.retain(|(name, ..)| name != norm);
        tensors.push((norm.into(), safetensors::Dtype::F32, vec![48], vec![0; 192]));
        tensors.push((
            "model.layers.0.self_attn.rotary_emb.inv_freq".into(),
            safetensors::Dtype::F32,
            vec![6],
            vec![0; 24],
        ));
    });
    Model::load(&folder).expect("rotary frequencies of old checkpoints are ignored");
    rewrite_weights(&folder, |tensors| {
        tensors.push((
            "score.weight".into(),
            safetensors::Dtype::F32,
            vec![1],
            vec![0; 4],
        ))
    });
    assert_eq!(
        refusal(&folder),
        "`DIR/model.safetensors` holds tensor `score.weight`, which the configuration has no place for; loading \
         without it would change what the model computes",
    );
}

#[test]
fn a_stored_copy_of_a_tied_embedding_must_equal_it() {
    let (_scratch, folder) = saved(&samples::qwen2());
    rewrite_weights(&folder, |tensors| {
        let (_, dtype, shape, data) = tensors
            .iter()
            .find(|(name, ..)| name == "model.embed_tokens.weight")
            .unwrap()
            .clone();
        tensors.push(("lm_head.weight".into(), dtype, shape, data));
    });
    Model::load(&folder).unwrap();
    rewrite_weights(&folder, |tensors| {
        let (.., data) = tensors
            .iter_mut()
            .find(|(name, ..)| name == "lm_head.weight")
            .unwrap();
        data[400] ^= 1;
    });
    assert!(
        refusal(&folder)
            .starts_with("`DIR/model.safetensors`: `lm_head.weight` differs from the embedding")
    );
}

#[test]
fn shards_must_be_there_and_in_the_folder() {
    let (_scratch, folder) = sharded(&samples::llama());
    fs::rename(
        folder.join("model-00002-of-00002.safetensors"),
        folder.join("away"),
    )
    .unwrap();
    let message = refusal(&folder);
    assert!(
        message.starts_with("`DIR/model.safetensors.index.json` places tensor `"),
        "{message}"
    );
    assert!(message.ends_with(
        "` in `model-00002-of-00002.safetensors`, which is not in the folder; copy the missing file"
    ));
    let index = folder.join("model.safetensors.index.json");
    edit(&index, |index| {
        index["weight_map"]["lm_head.weight"] = json!("../away")
    });
    assert!(
        refusal(&folder)
            .contains("`weight_map.lm_head.weight` is \"../away\", but must be the name of a file")
    );
    edit(&index, |index| {
        drop(index.as_object_mut().unwrap().remove("weight_map"))
    });
    assert!(refusal(&folder).ends_with("does not give `weight_map`, the place of each tensor"));
}

#[test]
fn missing_files_are_named() {
    let (_scratch, folder) = saved(&samples::llama());
    fs::rename(
        folder.join("model.safetensors"),
        folder.join("pytorch_model.bin"),
    )
    .unwrap();
    assert_eq!(
        refusal(&folder),
        "no model in `DIR`: neither `model.safetensors` nor `model.safetensors.index.json` is there; it has \
         `pytorch_model.bin`: load that with `transformers` and save it with `save_pretrained`",
    );
    fs::remove_file(folder.join("tokenizer.json")).unwrap();
    assert!(refusal(&folder).starts_with("no model in `DIR`: `tokenizer.json` is missing"));
    fs::remove_file(folder.join("config.json")).unwrap();
    assert_eq!(
        refusal(&folder),
        "no model in `DIR`: it has neither a `config.json` nor a `.gguf` file"
    );
    assert_eq!(
        refusal(&folder.join("nowhere")),
        "no model in `DIR`: there is no such file or folder; give a Hugging Face folder or a `.gguf` file",
    );
    assert_eq!(
        refusal(&folder.join("pytorch_model.bin")),
        "no model in `DIR`: it is a file, but not a `.gguf` file; give the folder with `config.json`",
    );
}

#[test]
fn a_tokenizer_of_another_model_is_refused() {
    let (_scratch, folder) = saved(&samples::llama());
    let path = folder.join("tokenizer.json");
    let original = fs::read(&path).unwrap();
    edit(&path, |tokenizer| {
        let vocabulary = tokenizer["model"]["vocab"].as_object_mut().unwrap();
        for (id, token) in (259..).zip(SPECIAL.into_iter().chain(["extra"])) {
            vocabulary.insert(token.to_owned(), json!(id));
        }
    });
    assert_eq!(
        refusal(&folder),
        "`DIR/tokenizer.json`: token `extra` has id 264, but the model's vocabulary has 264 rows; tokenizer and \
         weights belong to different models",
    );
    fs::write(&path, original).unwrap();
    edit(&path, |tokenizer| {
        tokenizer["model"]["vocab"]["extra"] = json!(264)
    });
    let message = refusal(&folder);
    assert!(
        message.starts_with("`DIR/tokenizer.json`: the added token `<|begin_of_text|>` should have id 259, but gets 260"),
        "{message}"
    );
    fs::write(folder.join("tokenizer.json"), "{\"version\": \"1.0\"}").unwrap();
    assert!(refusal(&folder).starts_with("`DIR/tokenizer.json`: "));
}

#[test]
fn half_precision_weights_are_widened() {
    let (_scratch, folder) = saved(&samples::qwen2());
    let halves: Vec<u8> = (0..64)
        .flat_map(|i| half::f16::from_f32(i as f32 / 8.0).to_le_bytes())
        .collect();
    rewrite_weights(&folder, |tensors| {
        tensors.retain(|(name, ..)| name != "model.norm.weight");
        tensors.push((
            "model.norm.weight".into(),
            safetensors::Dtype::F16,
            vec![64],
            halves,
        ));
    });
    let expected: Vec<f32> = (0..64).map(|i| i as f32 / 8.0).collect();
    assert_eq!(
        Model::load(&folder)
            .unwrap()
            .parameters
            .get("model.norm.weight")
            .unwrap(),
        expected
    );
}

#[test]
fn generation_settings_name_the_tokens_that_end() {
    let (_scratch, folder) = saved(&samples::qwen2());
    let path = folder.join("generation_config.json");
    edit(&path, |settings| {
        settings["eos_token_id"] = json!([262, 260])
    });
    assert_eq!(
        ModelFiles::open(&folder).unwrap().config().eos_token_ids,
        [262, 260]
    );
    edit(&path, |settings| {
        settings["eos_token_id"] = json!([262, 999])
    });
    let message = refusal(&folder);
    assert_eq!(
        message,
        "`DIR/generation_config.json`: `eos_token_id` is 999, but must be below `vocab_size` = 264"
    );
    // Without any, the tokenizer's own end-of-sequence token serves.
    fs::remove_file(&path).unwrap();
    edit(&folder.join("config.json"), |config| {
        config["eos_token_id"] = Value::Null
    });
    assert_eq!(
        ModelFiles::open(&folder).unwrap().config().eos_token_ids,
        [262]
    );
}

#[test]
fn chat_templates_are_found_wherever_they_are_kept() {
    let (_scratch, folder) = saved(&samples::qwen2());
    let source = || {
        ModelFiles::open(&folder)
            .unwrap()
            .chat_template()
            .map(|template| template.source().to_owned())
    };
    let settings = folder.join("tokenizer_config.json");
    edit(&settings, |settings| {
        settings["chat_template"] = json!([{ "name": "tool_use", "template": "T" }, { "name": "default", "template": "D" }]);
        settings["eos_token"] = json!({ "content": "<|im_end|>", "special": true });
    });
    assert_eq!(source().as_deref(), Some("D"));
    assert_eq!(
        ModelFiles::open(&folder)
            .unwrap()
            .tokenizer()
            .eos_token_id(),
        Some(262)
    );
    fs::write(folder.join("chat_template.jinja"), "{{ eos_token }}J").unwrap();
    assert_eq!(source().as_deref(), Some("{{ eos_token }}J"));
    let template = ModelFiles::open(&folder)
        .unwrap()
        .chat_template()
        .unwrap()
        .clone();
    assert_eq!(template.render(&[], true).unwrap(), "<|im_end|>J");
    fs::write(folder.join("chat_template.jinja"), "{% if %}").unwrap();
    assert!(
        refusal(&folder)
            .starts_with("`DIR/chat_template.jinja`: the chat template does not compile")
    );
    fs::remove_file(folder.join("chat_template.jinja")).unwrap();
    edit(&settings, |settings| {
        settings["chat_template"] = json!([{ "name": "tool_use", "template": "T" }])
    });
    assert!(refusal(&folder).contains("but must be a list with an entry of `name` \"default\""));
    edit(&settings, |settings| {
        settings["chat_template"] = Value::Null
    });
    assert_eq!(source(), None);
}
