//! Hugging Face folders: golden models, saving and loading back, and what is wrong with a folder.
#![allow(clippy::unwrap_used, reason = "test helpers fail by panicking")]

mod fixtures;

use fixtures::{golden_models, json};
use seele_policy::huggingface::{SaveOptions, WeightType};
use seele_policy::model::{Model, ModelFiles};
use seele_policy::parameters::Parameters;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn golden_folders_load_with_the_recorded_number_of_parameters() {
    for folder in golden_models() {
        let fixture = json(&folder.join("fixture.json"));
        let model = Model::load(&folder).unwrap();
        assert_eq!(
            model.parameters.layout().len() as u64,
            fixture["parameters"].as_u64().unwrap()
        );
        assert!(model.parameters.values.iter().any(|value| *value != 0.0));
    }
}

/// Values by hand, straight from the bytes of the file.
#[test]
fn tensors_land_under_their_names() {
    for folder in golden_models() {
        let model = Model::load(&folder).unwrap();
        for file in ModelFiles::open(&folder).unwrap().weight_files() {
            let bytes = fs::read(file).unwrap();
            let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
            for (name, view) in tensors.tensors() {
                let expected: Vec<f32> = match view.dtype() {
                    safetensors::Dtype::F32 => view
                        .data()
                        .chunks(4)
                        .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
                        .collect(),
                    safetensors::Dtype::BF16 => view
                        .data()
                        .chunks(2)
                        .map(|b| {
                            f32::from_bits(
                                u32::from(u16::from_le_bytes(b.try_into().unwrap())) << 16,
                            )
                        })
                        .collect(),
                    other => panic!("{other:?}"),
                };
                assert_eq!(
                    model.parameters.get(&name).unwrap(),
                    expected,
                    "{} {name}",
                    folder.display()
                );
            }
        }
    }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_saved_model_loads_bit_for_bit() {
    for folder in golden_models() {
        let model = Model::load(&folder).unwrap();
        let scratch = tempfile::tempdir().unwrap();
        for (name, max_shard_bytes) in [("whole", usize::MAX), ("sharded", 30_000)] {
            let target = scratch.path().join("runs").join(name);
            model
                .save(
                    &target,
                    &SaveOptions {
                        max_shard_bytes,
                        ..SaveOptions::default()
                    },
                )
                .unwrap();
            let loaded = Model::load(&target).unwrap();
            assert_eq!(loaded.config, model.config);
            let bits = |parameters: &Parameters| {
                parameters
                    .values
                    .iter()
                    .map(|v| v.to_bits())
                    .collect::<Vec<_>>()
            };
            assert_eq!(bits(&loaded.parameters), bits(&model.parameters));
            assert_eq!(
                loaded.tokenizer.to_json().unwrap(),
                model.tokenizer.to_json().unwrap()
            );
            assert_eq!(loaded.tokenizer.settings(), model.tokenizer.settings());
            assert_eq!(
                loaded
                    .chat_template
                    .as_ref()
                    .map(|template| template.source()),
                model
                    .chat_template
                    .as_ref()
                    .map(|template| template.source()),
            );
        }
        assert_eq!(
            names(&scratch.path().join("runs")),
            ["sharded", "whole"],
            "nothing else is left"
        );
        assert_eq!(
            names(&scratch.path().join("runs/whole")),
            [
                "config.json",
                "generation_config.json",
                "model.safetensors",
                "tokenizer.json",
                "tokenizer_config.json"
            ],
        );
        let sharded = scratch.path().join("runs/sharded");
        let shards: Vec<String> = names(&sharded)
            .into_iter()
            .filter(|name| name.ends_with(".safetensors"))
            .collect();
        let count = shards.len();
        assert!(count > 3);
        assert_eq!(shards[1], format!("model-00002-of-{count:05}.safetensors"));
        let index = json(&sharded.join("model.safetensors.index.json"));
        assert_eq!(
            index["metadata"]["total_size"],
            json!(4 * model.parameters.layout().len())
        );
        for shard in shards {
            let bytes = fs::read(sharded.join(&shard)).unwrap();
            let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
            assert!(
                tensors
                    .tensors()
                    .iter()
                    .all(|(name, _)| index["weight_map"][name] == json!(shard))
            );
            let data: usize = tensors
                .tensors()
                .iter()
                .map(|(_, view)| view.data().len())
                .sum();
            assert!(
                data <= 30_000 || tensors.len() == 1,
                "{shard} holds {data} bytes"
            );
        }
    }
}

#[test]
fn bfloat16_weights_are_rounded_to_nearest() {
    for folder in golden_models() {
        let model = Model::load(&folder).unwrap();
        let scratch = tempfile::tempdir().unwrap();
        let target = scratch.path().join("model");
        model
            .save(
                &target,
                &SaveOptions {
                    weights: WeightType::Bf16,
                    ..SaveOptions::default()
                },
            )
            .unwrap();
        assert_eq!(json(&target.join("config.json"))["torch_dtype"], "bfloat16");
        let loaded = Model::load(&target).unwrap();
        let rounded: Vec<f32> = model
            .parameters
            .values
            .iter()
            .map(|value| half::bf16::from_f32(*value).to_f32())
            .collect();
        assert_eq!(loaded.parameters.values, rounded);
    }
}

/// A copy of the golden model of that name to be damaged.
fn copy(name: &str) -> Option<(tempfile::TempDir, PathBuf)> {
    let source = golden_models()
        .into_iter()
        .find(|folder| folder.ends_with(name))?;
    let scratch = tempfile::tempdir().unwrap();
    let target = scratch.path().to_path_buf();
    for name in names(&source) {
        if !name.starts_with("fixture") {
            fs::copy(source.join(&name), target.join(&name)).unwrap();
        }
    }
    Some((scratch, target))
}

fn edit(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut value = json(path);
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
fn an_existing_target_is_left_alone() {
    let Some((_scratch, folder)) = copy("qwen2-tied") else {
        return;
    };
    let model = Model::load(&folder).unwrap();
    let before = names(&folder);
    let error = model
        .save(&folder, &SaveOptions::default())
        .unwrap_err()
        .to_string();
    assert!(
        error.ends_with("exists already; choose another folder or move it away"),
        "{error}"
    );
    assert_eq!(names(&folder), before);
    let empty = tempfile::tempdir().unwrap();
    model.save(empty.path(), &SaveOptions::default()).unwrap();
    Model::load(empty.path()).unwrap();
}

#[test]
fn a_save_that_fails_leaves_nothing() {
    let Some((scratch, folder)) = copy("qwen2-tied") else {
        return;
    };
    let model = Model::load(&folder).unwrap();
    let other = Model::load(
        &golden_models()
            .into_iter()
            .find(|folder| folder.ends_with("llama-plain"))
            .unwrap(),
    )
    .unwrap();
    let mixed = Model {
        parameters: other.parameters,
        ..model.clone()
    };
    let target = scratch.path().join("target");
    let error = mixed
        .save(&target, &SaveOptions::default())
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("the parameters are laid out for another configuration"),
        "{error}"
    );
    assert!(!target.exists());
    let file = scratch.path().join("config.json");
    let error = model
        .save(&file.join("model"), &SaveOptions::default())
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("cannot write `"), "{error}");
}

#[test]
fn wrong_tensors_are_named_with_the_remedy() {
    let Some((_scratch, folder)) = copy("qwen2-untied") else {
        return;
    };
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
fn half_precision_weights_are_widened() {
    let Some((_scratch, folder)) = copy("qwen2-tied") else {
        return;
    };
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
fn a_stored_copy_of_a_tied_embedding_must_equal_it() {
    let Some((_scratch, folder)) = copy("qwen2-tied") else {
        return;
    };
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
    let Some((_scratch, folder)) = copy("qwen2-bf16-sharded") else {
        return;
    };
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
    let Some((_scratch, folder)) = copy("llama-plain") else {
        return;
    };
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
    let Some((_scratch, folder)) = copy("llama-plain") else {
        return;
    };
    let path = folder.join("tokenizer.json");
    let original = fs::read(&path).unwrap();
    edit(&path, |tokenizer| {
        let vocabulary = tokenizer["model"]["vocab"].as_object_mut().unwrap();
        for (id, token) in [
            "<|begin_of_text|>",
            "<|end_of_text|>",
            "<|start_header_id|>",
            "<|end_header_id|>",
            "<|eot_id|>",
            "extra",
        ]
        .iter()
        .enumerate()
        {
            vocabulary.insert((*token).to_owned(), json!(315 + id));
        }
    });
    assert_eq!(
        refusal(&folder),
        "`DIR/tokenizer.json`: token `extra` has id 320, but the model's vocabulary has 320 rows; tokenizer and \
         weights belong to different models",
    );
    fs::write(&path, original).unwrap();
    edit(&path, |tokenizer| {
        tokenizer["model"]["vocab"]["extra"] = json!(320)
    });
    let message = refusal(&folder);
    assert!(
        message.starts_with("`DIR/tokenizer.json`: the added token `<|begin_of_text|>` should have id 315, but gets 316"),
        "{message}"
    );
    fs::write(folder.join("tokenizer.json"), "{\"version\": \"1.0\"}").unwrap();
    assert!(refusal(&folder).starts_with("`DIR/tokenizer.json`: "));
}

#[test]
fn generation_settings_name_the_tokens_that_end() {
    let Some((_scratch, folder)) = copy("qwen2-tied") else {
        return;
    };
    let path = folder.join("generation_config.json");
    edit(&path, |settings| {
        settings["eos_token_id"] = json!([319, 317])
    });
    assert_eq!(
        ModelFiles::open(&folder).unwrap().config().eos_token_ids,
        [319, 317]
    );
    edit(&path, |settings| {
        settings["eos_token_id"] = json!([319, 999])
    });
    let message = refusal(&folder);
    assert_eq!(
        message,
        "`DIR/generation_config.json`: `eos_token_id` is 999, but must be below `vocab_size` = 320"
    );
    // Without any, the tokenizer's own end-of-sequence token serves.
    fs::remove_file(&path).unwrap();
    edit(&folder.join("config.json"), |config| {
        config["eos_token_id"] = Value::Null
    });
    assert_eq!(
        ModelFiles::open(&folder).unwrap().config().eos_token_ids,
        [319]
    );
}

#[test]
fn chat_templates_are_found_wherever_they_are_kept() {
    let Some((_scratch, folder)) = copy("qwen2-tied") else {
        return;
    };
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
        Some(319)
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
