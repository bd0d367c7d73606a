//! Hugging Face folders: golden models, and saving and loading back.
#![allow(clippy::unwrap_used, reason = "test helpers fail by panicking")]

mod fixtures;
mod samples;

use fixtures::{golden_models, json};
use samples::{names, saved};
use seele_policy::huggingface::{SaveOptions, WeightType};
use seele_policy::model::{Model, ModelFiles};
use seele_policy::parameters::Parameters;
use serde_json::json;
use std::fs;
use std::path::Path;

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

/// The golden models and the made ones.
fn all_models() -> Vec<Model> {
    let golden = golden_models()
        .into_iter()
        .map(|folder| Model::load(&folder).unwrap());
    golden
        .chain([samples::llama(), samples::qwen2(), samples::qwen3()])
        .collect()
}

fn bits(parameters: &Parameters) -> Vec<u32> {
    parameters
        .values
        .iter()
        .map(|value| value.to_bits())
        .collect()
}

#[test]
fn a_saved_model_loads_bit_for_bit() {
    for model in all_models() {
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
            assert_eq!(bits(&loaded.parameters), bits(&model.parameters));
            assert_eq!(
                loaded.tokenizer.to_json().unwrap(),
                model.tokenizer.to_json().unwrap()
            );
            assert_eq!(loaded.tokenizer.settings(), model.tokenizer.settings());
            let source = |model: &Model| {
                model
                    .chat_template
                    .as_ref()
                    .map(|template| template.source().to_owned())
            };
            assert_eq!(source(&loaded), source(&model));
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
        check_shards(
            &scratch.path().join("runs/sharded"),
            30_000,
            model.parameters.layout().len(),
        );
    }
}

/// Names, index and sizes of the shards.
fn check_shards(folder: &Path, max_shard_bytes: usize, parameters: usize) {
    let shards: Vec<String> = names(folder)
        .into_iter()
        .filter(|name| name.ends_with(".safetensors"))
        .collect();
    let count = shards.len();
    assert!(count > 1);
    assert_eq!(shards[1], format!("model-00002-of-{count:05}.safetensors"));
    let index = json(&folder.join("model.safetensors.index.json"));
    assert_eq!(index["metadata"]["total_size"], json!(4 * parameters));
    for shard in shards {
        let bytes = fs::read(folder.join(&shard)).unwrap();
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
            data <= max_shard_bytes || tensors.len() == 1,
            "{shard} holds {data} bytes"
        );
    }
}

#[test]
fn bfloat16_weights_are_rounded_to_nearest() {
    for model in all_models() {
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

#[test]
fn an_existing_target_is_left_alone() {
    let model = samples::qwen2();
    let (_scratch, folder) = saved(&model);
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
    let scratch = tempfile::tempdir().unwrap();
    let model = samples::qwen2();
    let mixed = Model {
        parameters: samples::llama().parameters,
        ..model.clone()
    };
    let error = mixed
        .save(&scratch.path().join("model"), &SaveOptions::default())
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("the parameters are laid out for another configuration"),
        "{error}"
    );
    assert!(names(scratch.path()).is_empty());
    let file = scratch.path().join("file");
    fs::write(&file, "").unwrap();
    let error = model
        .save(&file.join("model"), &SaveOptions::default())
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("cannot write `"), "{error}");
    assert_eq!(names(scratch.path()), ["file"]);
}
