//! Files cut short or changed at any byte: an error, never a panic, never a wrong model in silence.
#![allow(clippy::unwrap_used, reason = "test helpers fail by panicking")]

mod fixtures;
mod gguf_writer;

use fixtures::{golden_models, json};
use gguf_writer::export;
use proptest::prelude::*;
use seele_policy::error::LoadError;
use seele_policy::model::Model;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// A small model as a folder and as a GGUF file, both in a temporary place.
struct Samples {
    folder: tempfile::TempDir,
    safetensors: Vec<u8>,
    gguf: Vec<u8>,
    model: Model,
}

static SAMPLES: LazyLock<Option<Samples>> = LazyLock::new(|| {
    let source = golden_models()
        .into_iter()
        .find(|folder| folder.ends_with("llama-plain"))?;
    let folder = tempfile::tempdir().unwrap();
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        fs::copy(source.join(name), folder.path().join(name)).unwrap();
    }
    let model = Model::load(&source).unwrap();
    let gguf = export(&model, &json(&source.join("tokenizer.json"))).bytes(3, 32);
    Some(Samples {
        folder,
        safetensors: fs::read(source.join("model.safetensors")).unwrap(),
        gguf,
        model,
    })
});

/// Loads a folder whose weights are `bytes`.
fn load_safetensors(samples: &Samples, bytes: &[u8]) -> Result<Model, LoadError> {
    let folder = tempfile::tempdir_in(samples.folder.path()).unwrap();
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        fs::hard_link(samples.folder.path().join(name), folder.path().join(name)).unwrap();
    }
    fs::write(folder.path().join("model.safetensors"), bytes).unwrap();
    Model::load(folder.path())
}

fn load_gguf(bytes: &[u8]) -> Result<Model, LoadError> {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("model.gguf");
    fs::write(&path, bytes).unwrap();
    Model::load(&path)
}

fn is_damage(result: &Result<Model, LoadError>, file: &str) -> bool {
    match result {
        Err(LoadError::Damaged { path, .. }) => path.ends_with(Path::new(file)),
        _ => false,
    }
}

#[test]
fn the_samples_are_whole() {
    let Some(samples) = SAMPLES.as_ref() else {
        return;
    };
    let loaded = load_safetensors(samples, &samples.safetensors).unwrap();
    assert_eq!(loaded.parameters.values, samples.model.parameters.values);
    assert_eq!(
        load_gguf(&samples.gguf).unwrap().parameters.values,
        samples.model.parameters.values
    );
}

#[test]
fn a_file_cut_anywhere_near_its_start_or_end_is_damaged() {
    let Some(samples) = SAMPLES.as_ref() else {
        return;
    };
    let places = |len: usize| (0..300).chain(len - 100..len);
    for cut in places(samples.safetensors.len()) {
        let result = load_safetensors(samples, &samples.safetensors[..cut]);
        assert!(
            is_damage(&result, "model.safetensors"),
            "{cut}: {:?}",
            result.err()
        );
    }
    for cut in places(samples.gguf.len()) {
        let result = load_gguf(&samples.gguf[..cut]);
        assert!(
            is_damage(&result, "model.gguf"),
            "{cut}: {:?}",
            result.err()
        );
    }
}

#[test]
fn the_message_names_the_byte() {
    let Some(samples) = SAMPLES.as_ref() else {
        return;
    };
    let message = load_gguf(&samples.gguf[..samples.gguf.len() - 1])
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("ends beyond the") && message.ends_with("copy or download the file again"),
        "{message}"
    );
    let message = load_gguf(&samples.gguf[..100]).unwrap_err().to_string();
    assert!(
        message.contains("it ends at byte 100") || message.contains("more than the"),
        "{message}"
    );
    let len = samples.safetensors.len();
    let message = load_safetensors(samples, &samples.safetensors[..len - 1])
        .unwrap_err()
        .to_string();
    assert!(
        message.contains(&format!(
            "its tensors end at byte {len}, but the file has {} bytes",
            len - 1
        )),
        "{message}"
    );
    let longer = [&samples.safetensors[..], &[0]].concat();
    assert!(is_damage(
        &load_safetensors(samples, &longer),
        "model.safetensors"
    ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn a_cut_is_always_damage(share in 0.0..1.0_f64) {
        if let Some(samples) = SAMPLES.as_ref() {
            let cut = |bytes: &[u8]| (bytes.len() as f64 * share) as usize;
            let bytes = &samples.safetensors[..cut(&samples.safetensors)];
            prop_assert!(is_damage(&load_safetensors(samples, bytes), "model.safetensors"));
            let bytes = &samples.gguf[..cut(&samples.gguf)];
            prop_assert!(is_damage(&load_gguf(bytes), "model.gguf"));
        }
    }

    /// Most changes hit a weight and go unnoticed, as they must; those in the tables in front give
    /// an error or a model of the size that was asked for.
    #[test]
    fn changed_bytes_never_panic(changes in prop::collection::vec((0..20_000_usize, any::<u8>()), 1..4)) {
        if let Some(samples) = SAMPLES.as_ref() {
            let change = |bytes: &[u8]| {
                let mut bytes = bytes.to_vec();
                for &(place, byte) in &changes {
                    let place = place % bytes.len();
                    bytes[place] = byte;
                }
                bytes
            };
            if let Ok(model) = load_safetensors(samples, &change(&samples.safetensors)) {
                prop_assert_eq!(model.parameters.values.len(), samples.model.parameters.values.len());
            }
            if let Ok(model) = load_gguf(&change(&samples.gguf)) {
                prop_assert_eq!(model.parameters.values.len(), model.parameters.layout().len());
            }
        }
    }

    /// Sizes and offsets made huge, one field of eight bytes at a time.
    #[test]
    fn huge_numbers_never_panic(place in 0..12_000_usize, huge in prop::sample::select(vec![u64::MAX, 1 << 63, 1 << 40, 1 << 32, 0])) {
        if let Some(samples) = SAMPLES.as_ref() {
            for (bytes, gguf) in [(&samples.gguf, true), (&samples.safetensors, false)] {
                let mut bytes = bytes.clone();
                bytes[place..place + 8].copy_from_slice(&huge.to_le_bytes());
                if let Ok(model) = if gguf { load_gguf(&bytes) } else { load_safetensors(samples, &bytes) } {
                    prop_assert_eq!(model.parameters.values.len(), model.parameters.layout().len());
                }
            }
        }
    }
}
