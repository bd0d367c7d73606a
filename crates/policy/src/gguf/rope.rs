//! Scaling of the rotary frequencies.

use super::header::{Header, TensorInfo};
use super::metadata::Value;
use crate::config::Llama3RopeScaling;
use crate::encoding::Encoding;
use crate::error::LoadError;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

/// Holds, for each rotary pair, what its frequency is divided by.
pub(super) const FACTORS: &str = "rope_freqs.weight";

/// Relative difference that float32 rounding on the way may leave.
const TOLERANCE: f64 = 1e-4;

/// The scaling that the file asks for. Llama 3 files do not say how their divisors came about, only
/// what they are; they are matched with the published rule, and refused if they do not follow it.
pub(super) fn scaling(
    header: &Header,
    rope_theta: f64,
    head_dim: usize,
) -> Result<Option<Llama3RopeScaling>, LoadError> {
    refuse_other_kinds(header)?;
    let Some(tensor) = header.tensors.get(FACTORS) else {
        return Ok(None);
    };
    let factors = read_factors(header, tensor, head_dim)?;
    let Some(factor) = factors.iter().copied().max_by(f32::total_cmp) else {
        return Ok(None);
    };
    if factors.iter().all(|factor| *factor == 1.0) {
        return Ok(None);
    }
    // All published models of the kind share these three; only the divisor differs.
    let scaling = Llama3RopeScaling {
        factor: f64::from(factor),
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 8192,
    };
    let follows_rule = factors.iter().enumerate().all(|(pair, factor)| {
        let frequency = 1.0 / rope_theta.powf(2.0 * pair as f64 / head_dim as f64);
        let expected = frequency / f64::from(scaling.scale(frequency as f32));
        (f64::from(*factor) / expected - 1.0).abs() < TOLERANCE
    });
    if follows_rule {
        return Ok(Some(scaling));
    }
    Err(LoadError::Unsupported {
        path: header.path().to_owned(),
        key: FACTORS.to_owned(),
        found: format!("divisors of the rotary frequencies up to {factor}"),
        supported: "those of Llama 3.1 and later (low_freq_factor 1, high_freq_factor 4, \
                    original_max_position_embeddings 8192); load the Hugging Face folder instead"
            .to_owned(),
    })
}

/// Linear, YaRN and other scalings are announced in the metadata.
fn refuse_other_kinds(header: &Header) -> Result<(), LoadError> {
    let metadata = &header.metadata;
    let architecture = metadata.text("general.architecture")?.unwrap_or_default();
    let key = format!("{architecture}.rope.scaling.type");
    let factor_key = format!("{architecture}.rope.scaling.factor");
    let no_factor = matches!(metadata.get(&factor_key), None | Some(&Value::Float(1.0)));
    match metadata.text(&key)? {
        None | Some("none") => {}
        Some("linear") if no_factor => {}
        Some(_) => {
            return Err(metadata.unsupported(&key, "none, or the divisors of Llama 3.1 and later"));
        }
    }
    let key = format!("{architecture}.rope.scale_linear");
    match metadata.get(&key) {
        None | Some(&Value::Float(1.0)) => Ok(()),
        Some(_) => Err(metadata.unsupported(&key, "1")),
    }
}

fn read_factors(
    header: &Header,
    tensor: &TensorInfo,
    head_dim: usize,
) -> Result<Vec<f32>, LoadError> {
    let path = header.path().to_owned();
    if tensor.encoding != Ok(Encoding::F32) {
        let found = tensor
            .encoding
            .clone()
            .map_or_else(|name| name, |encoding| format!("{encoding:?}"));
        return Err(LoadError::TensorType {
            path,
            tensor: FACTORS.to_owned(),
            found,
            supported: "F32",
        });
    }
    if tensor.shape != [head_dim / 2] {
        return Err(LoadError::TensorShape {
            path,
            tensor: FACTORS.to_owned(),
            expected: vec![head_dim / 2],
            found: tensor.shape.clone(),
        });
    }
    let mut bytes = vec![0; 4 * (head_dim / 2)];
    File::open(&path)
        .and_then(|mut file| {
            file.seek(SeekFrom::Start(tensor.offset))?;
            file.read_exact(&mut bytes)
        })
        .map_err(|source| LoadError::Read { path, source })?;
    let mut factors = vec![0.0; head_dim / 2];
    Encoding::F32.decode(&bytes, &mut factors);
    Ok(factors)
}
