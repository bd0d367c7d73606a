//! Files cut short or changed at any byte: an error, never a panic, never a wrong model in silence.
#![allow(clippy::unwrap_used, reason = "test helpers fail by panicking")]

mod gguf_writer;
mod samples;

use gguf_writer::export;
use proptest::prelude::*;
use seele_policy::error::LoadError;
use seele_policy::model::Model;
use seele_policy::parameters::Layout;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// A small model as a folder and as a GGUF file.
struct Samples {
    _scratch: tempfile::TempDir,
    folder: PathBuf,
    safetensors: Vec<u8>,
    gguf: Vec<u8>,
    model: Model,
}

static SAMPLES: LazyLock<Samples> = LazyLock::new(|| {
    let model = samples::llama();
    let (scratch, folder) = samples::saved(&model);
    Samples {
        _scratch: scratch,
        safetensors: fs::read(folder.join("model.safetensors")).unwrap(),
        folder,
        gguf: export(&model).bytes(3, 32),
        model,
    }
});

/// Loads a folder whose weights are `bytes`.
fn load_safetensors(samples: &Samples, bytes: &[u8]) -> Result<Model, LoadError> {
    let folder = tempfile::tempdir().unwrap();
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        fs::hard_link(samples.folder.join(name), folder.path().join(name)).unwrap();
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

/// Refused, or with all parameters that its configuration calls for, none of them NaN.
fn fits(model: Result<Model, LoadError>) -> bool {
    model.map_or(true, |model| {
        *model.parameters.layout().as_ref() == Layout::of(&model.config)
            && model.parameters.values.len() == model.parameters.layout().len()
            && model
                .parameters
                .values
                .iter()
                .all(|value| value.is_finite())
    })
}

#[test]
fn the_samples_are_whole() {
    let samples = &*SAMPLES;
    let loaded = load_safetensors(samples, &samples.safetensors).unwrap();
    assert_eq!(loaded.parameters.values, samples.model.parameters.values);
    assert_eq!(
        load_gguf(&samples.gguf).unwrap().parameters.values,
        samples.model.parameters.values
    );
}

#[test]
fn a_file_cut_anywhere_near_its_start_or_end_is_damaged() {
    let samples = &*SAMPLES;
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
    let samples = &*SAMPLES;
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
        let samples = &*SAMPLES;
        let cut = |bytes: &[u8]| (bytes.len() as f64 * share) as usize;
        let bytes = &samples.safetensors[..cut(&samples.safetensors)];
        prop_assert!(is_damage(&load_safetensors(samples, bytes), "model.safetensors"));
        let bytes = &samples.gguf[..cut(&samples.gguf)];
        prop_assert!(is_damage(&load_gguf(bytes), "model.gguf"));
    }

    /// The JSON files beside the weights: cut short they are refused by name.
    #[test]
    fn a_cut_json_file_is_named(
        share in 0.0..1.0_f64,
        name in prop::sample::select(vec!["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"]),
    ) {
        let folder = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(&SAMPLES.folder).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
        }
        let path = folder.path().join(name);
        let bytes = fs::read(&path).unwrap();
        // The last byte may be a line end, which is not missed.
        fs::write(&path, &bytes[..((bytes.len() - 1) as f64 * share) as usize]).unwrap();
        match Model::load(folder.path()) {
            Ok(_) => prop_assert!(false, "{} of {name} was enough", share),
            Err(error) => prop_assert!(error.to_string().contains(name), "{error}"),
        }
    }

    /// A change that hits a weight goes unnoticed, as it must; one in the tables in front gives an
    /// error or a model that fits its configuration.
    #[test]
    fn changed_bytes_never_panic(changes in prop::collection::vec((0..20_000_usize, any::<u8>()), 1..4)) {
        let samples = &*SAMPLES;
        let change = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            for &(place, byte) in &changes {
                let place = place % bytes.len();
                bytes[place] = byte;
            }
            bytes
        };
        for model in [load_safetensors(samples, &change(&samples.safetensors)), load_gguf(&change(&samples.gguf))] {
            prop_assert!(fits(model));
        }
    }

    /// Sizes and offsets made huge, eight bytes at a time.
    #[test]
    fn huge_numbers_never_panic(
        place in 0..12_000_usize,
        huge in prop::sample::select(vec![u64::MAX, 1 << 63, 1 << 40, 1 << 32, 0]),
    ) {
        let samples = &*SAMPLES;
        let change = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            bytes[place..place + 8].copy_from_slice(&huge.to_le_bytes());
            bytes
        };
        for model in [load_safetensors(samples, &change(&samples.safetensors)), load_gguf(&change(&samples.gguf))] {
            prop_assert!(fits(model));
        }
    }
}
