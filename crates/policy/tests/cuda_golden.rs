//! The golden models on the device's kernels, on a GPU where there is one, else emulated: float32 within four times what the CPU is held to,
//! bfloat16 within its own bounds (three times the noise of another implementation).
#![cfg(feature = "cuda")]
#![allow(
    clippy::unwrap_used,
    reason = "a test may stop at what it did not expect"
)]

#[path = "../../../tests/reference.rs"]
mod reference;

use reference::golden;
use seele_policy::cuda::{
    DecodeInput, Device, DeviceDecoder, DeviceError, DevicePages, TokenRequest,
};
use seele_policy::decoder::{Compute, DecoderOptions, ScoreGradients, TreeBranch, TreeGroup};
use seele_policy::model::Model;
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;

fn ids(value: &Value) -> Vec<u32> {
    numbers(value).into_iter().map(|id| id as u32).collect()
}

fn numbers(value: &Value) -> Vec<f64> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_f64().unwrap())
        .collect()
}

/// Float32 tensors of a safetensors file.
fn tensors(path: &Path) -> HashMap<String, Vec<f64>> {
    let bytes = std::fs::read(path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let float = |b: &[u8]| f64::from(f32::from_le_bytes(b.try_into().unwrap()));
    let floats = |data: &[u8]| data.chunks_exact(4).map(float).collect();
    file.tensors()
        .into_iter()
        .map(|(name, view)| (name, floats(view.data())))
        .collect()
}

fn assert_close(what: &str, ours: &[f32], theirs: &[f64], bound: f64) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    let worst = ours
        .iter()
        .zip(theirs)
        .map(|(a, b)| (f64::from(*a) - b).abs());
    let worst = worst.fold(
        0.0,
        |most: f64, x| if x > most || x.is_nan() { x } else { most },
    );
    assert!(
        worst <= bound,
        "{what}: off by {worst:e}, allowed {bound:e}"
    );
}

/// One golden model on the device.
struct Case {
    name: String,
    compute: Compute,
    model: Model,
    decoder: DeviceDecoder,
    fixture: Value,
    reference: HashMap<String, Vec<f64>>,
}

impl Case {
    fn noise(&self, key: &str) -> f64 {
        self.fixture["hf_noise"]["bf16"][key].as_f64().unwrap()
    }

    fn sequences(&self) -> &[Value] {
        self.fixture["sequences"].as_array().unwrap()
    }

    fn logits_bound(&self) -> f64 {
        match self.compute {
            Compute::F32 => 4.0 * 2e-4,
            Compute::Bf16 => 3.0 * self.noise("logits_max_abs"),
        }
    }

    fn logprobs_bound(&self) -> f64 {
        match self.compute {
            Compute::F32 => 4.0 * 1e-4,
            Compute::Bf16 => 3.0 * self.noise("logprob_max_abs"),
        }
    }
}

fn each_model(compute: Compute, check: impl Fn(&Case)) {
    let Some(models) = golden("models") else {
        return;
    };
    let entries = std::fs::read_dir(models).unwrap();
    // A GPU that is there is used, or the test fails.
    let device = match Device::count() {
        0 => Device::emulated(),
        _ => Device::open(0).unwrap(),
    };
    eprintln!("golden models in {compute:?} on: {}", device.name());
    let mut seen = 0;
    for path in entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
    {
        let model = Model::load(&path).unwrap();
        let options = DecoderOptions {
            compute,
            ..DecoderOptions::default()
        };
        let decoder = DeviceDecoder::new(&device, &model.config, &model.parameters, options, true);
        let decoder = match decoder {
            Err(error @ DeviceError::MissingLibrary { .. }) => {
                eprintln!("skipped: {error}");
                return;
            }
            other => other.unwrap(),
        };
        let fixture = std::fs::read_to_string(path.join("fixture.json")).unwrap();
        check(&Case {
            name: format!("{} in {compute:?}", path.display()),
            compute,
            model,
            decoder,
            fixture: serde_json::from_str(&fixture).unwrap(),
            reference: tensors(&path.join("fixture.safetensors")),
        });
        seen += 1;
    }
    assert!(seen > 0, "the folder of golden models is empty");
}

#[test]
fn logits_by_prefill_and_by_decoding_equal_the_reference() {
    each_model(Compute::F32, check_logits);
    each_model(Compute::Bf16, check_logits);
}

fn check_logits(case: &Case) {
    let decoder = &case.decoder;
    for (i, sequence) in case.sequences().iter().enumerate() {
        let ids = ids(&sequence["ids"]);
        let expected = &case.reference[&format!("logits.{i}")];
        let (mut pages, mut hidden, mut logits) = (DevicePages::default(), Vec::new(), Vec::new());
        decoder.prefill(&mut pages, 0, &ids, &mut hidden).unwrap();
        decoder.logits(&hidden, &mut logits).unwrap();
        let what = format!("{} logits.{i}", case.name);
        assert_close(&what, &logits, expected, case.logits_bound());

        let (mut own, mut state) = (DevicePages::default(), Vec::new());
        let mut stepwise = hidden[..decoder.config().hidden_size].to_vec();
        for (len, &token) in ids[1..].iter().enumerate() {
            let mut rows = [DecodeInput {
                trunk: &pages,
                fork: 1,
                own: &mut own,
                len,
                token,
            }];
            decoder.decode(&mut rows, &mut state).unwrap();
            stepwise.extend_from_slice(&state);
        }
        decoder.logits(&stepwise, &mut logits).unwrap();
        let what = format!("{what} of a branch");
        assert_close(&what, &logits, expected, case.logits_bound());
    }
}

#[test]
fn greedy_continuations_equal_the_reference() {
    each_model(Compute::F32, |case| {
        let (decoder, sequences) = (&case.decoder, case.sequences());
        let prompts: Vec<Vec<u32>> = sequences.iter().map(|s| ids(&s["ids"])).collect();
        let width = decoder.config().hidden_size;
        let (mut trunks, mut states) = (Vec::new(), Vec::new());
        for prompt in &prompts {
            let (mut pages, mut hidden) = (DevicePages::default(), Vec::new());
            decoder.prefill(&mut pages, 0, prompt, &mut hidden).unwrap();
            states.extend_from_slice(&hidden[(prompt.len() - 1) * width..]);
            trunks.push(pages);
        }
        let mut own: Vec<DevicePages> = prompts.iter().map(|_| DevicePages::default()).collect();
        let likeliest = TokenRequest {
            temperature: 1.0,
            uniform: None,
        };
        for step in 0..16 {
            let drawn = decoder
                .draw(&states, &vec![likeliest; prompts.len()])
                .unwrap();
            for (sequence, drawn) in sequences.iter().zip(&drawn) {
                let (tokens, logprobs) = (
                    ids(&sequence["greedy_ids"]),
                    numbers(&sequence["greedy_logprobs"]),
                );
                assert_eq!(drawn.token, tokens[step], "{}, step {step}", case.name);
                let what = format!("{} greedy", case.name);
                assert_close(
                    &what,
                    &[drawn.logprob],
                    &[logprobs[step]],
                    case.logprobs_bound(),
                );
            }
            let rows = trunks.iter().zip(&mut own).zip(&prompts).zip(&drawn);
            let mut rows: Vec<DecodeInput<'_>> = rows
                .map(|(((trunk, own), prompt), drawn)| DecodeInput {
                    trunk,
                    fork: prompt.len(),
                    own,
                    len: step,
                    token: drawn.token,
                })
                .collect();
            decoder.decode(&mut rows, &mut states).unwrap();
        }
    });
}

#[test]
fn scores_and_every_gradient_equal_the_reference() {
    each_model(Compute::F32, check_gradients);
    each_model(Compute::Bf16, check_gradients);
}

fn group(ids: &[u32], branched: bool) -> TreeGroup<'_> {
    let (trunk, rest) = ids.split_at(if branched { 1 } else { ids.len() });
    let branch = TreeBranch {
        fork: 1,
        tokens: rest,
    };
    TreeGroup {
        trunk,
        prompt_tokens: 1,
        branches: if branched { vec![branch] } else { Vec::new() },
    }
}

fn check_gradients(case: &Case) {
    let (decoder, sequences) = (&case.decoder, case.sequences());
    let tokens: Vec<Vec<u32>> = sequences.iter().map(|s| ids(&s["ids"])).collect();
    let every =
        |key: &str| -> Vec<f64> { sequences.iter().flat_map(|s| numbers(&s[key])).collect() };
    let masks: Vec<f32> = every("mask").into_iter().map(|mask| mask as f32).collect();
    // As trunks alone, and as a one-token trunk with the rest on a branch.
    for branched in [false, true] {
        let groups: Vec<TreeGroup<'_>> = tokens.iter().map(|ids| group(ids, branched)).collect();
        let scores = decoder
            .train(&groups, 1.0, |_| {
                Ok::<_, DeviceError>(ScoreGradients {
                    logprobs: masks.iter().map(|m| -m).collect(),
                    entropies: Vec::new(),
                })
            })
            .unwrap();
        let what = |part: &str| format!("{} {part}, branched {branched}", case.name);
        let bound = case.logprobs_bound();
        assert_close(
            &what("log-probs"),
            &scores.logprobs,
            &every("logprobs"),
            bound,
        );
        let entropy = |s: &Value| numbers(&s["entropy"]);
        let entropies: Vec<f64> = sequences
            .iter()
            .flat_map(|s| entropy(s)[..entropy(s).len() - 1].to_vec())
            .collect();
        assert_close(&what("entropies"), &scores.entropies, &entropies, bound);
        let gradient = decoder.gradient().unwrap();
        decoder.clear_gradient().unwrap();
        for spec in case.model.parameters.layout().tensors() {
            let theirs = &case.reference[&format!("grad.{}", spec.name)];
            let ours = &gradient[spec.range()];
            check_gradient(case, &what(&spec.name), ours, theirs);
        }
        let cool = decoder.evaluate(&groups, 0.7).unwrap();
        let expected = every("logprobs_temperature_0_7");
        assert_close(&what("at 0.7"), &cool.logprobs, &expected, 1.5 * bound);
    }
}

fn check_gradient(case: &Case, what: &str, ours: &[f32], theirs: &[f64]) {
    if case.compute == Compute::F32 {
        let largest = theirs.iter().fold(0.0f64, |m, g| m.max(g.abs()));
        return assert_close(what, ours, theirs, 4.0 * 1e-4 * largest);
    }
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    let error = norm(&mut ours.iter().zip(theirs).map(|(a, b)| f64::from(*a) - b));
    let bound = 3.0 * case.noise("grad_rel_l2") * norm(&mut theirs.iter().copied());
    assert!(
        error <= bound,
        "{what}: off by {error:e}, allowed {bound:e}"
    );
}
