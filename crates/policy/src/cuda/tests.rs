//! The device's decoder against the CPU's: on a GPU where there is one, else on its kernels' emulation.
#![allow(
    clippy::unwrap_used,
    reason = "a test may stop at what it did not expect"
)]

use super::backend::{Shape, Tiles};
use super::driver::{Driver, Gpu};
use super::emulation::{EmulatedMemory, Emulation};
use super::{
    DecodeInput, Device, DeviceDecoder, DeviceError, DevicePages, Footprint, TokenRequest,
};
use crate::adamw::{AdamW, AdamWSettings, global_norm};
use crate::config::{Family, ModelConfig};
use crate::decoder::{
    BranchCache, Compute, DecodeRow, Decoder, DecoderOptions, Recompute, ScoreGradients,
    TreeBranch, TreeGroup, TrunkCache, tiny_config,
};
use crate::device::DecodingCalls;
use crate::kernels::softmax::log_sum_exp;
use crate::parameters::{Layout, Parameters};
use seele_random::Key;
use std::sync::atomic::{AtomicBool, Ordering};

fn config() -> ModelConfig {
    ModelConfig {
        max_position_embeddings: 256,
        ..tiny_config()
    }
}

/// Configurations that between them use every path: biases, head norms, an output projection of its own, heads
/// that share keys and heads that do not, widths that fill no whole tile.
fn configurations() -> Vec<ModelConfig> {
    let plain = ModelConfig {
        family: Family::Llama,
        qkv_bias: false,
        qk_norm: false,
        tied: false,
        heads: 3,
        kv_heads: 3,
        head_dim: 12,
        ..config()
    };
    vec![config(), plain]
}

/// Weights large enough that attention and norms matter.
fn parameters(config: &ModelConfig) -> Parameters {
    let mut parameters = Parameters::random(config, Key::new(1));
    for (i, value) in parameters.values.iter_mut().enumerate() {
        *value = *value * 3.0 + 0.05 * Key::new(2).with(i as u64).normal() as f32;
    }
    parameters
}

fn tokens(len: usize, key: u64) -> Vec<u32> {
    let token = |i: usize| Key::new(key).with(i as u64).below(50) as u32;
    (0..len).map(token).collect()
}

fn options(compute: Compute, recompute: Recompute) -> DecoderOptions {
    DecoderOptions { compute, recompute }
}

/// A GPU that is there is used, or tests fail.
fn device() -> Device {
    match Device::count() {
        0 => Device::emulated(),
        _ => Device::open(0).unwrap(),
    }
}

/// A decoder on the device; none where the emulation cannot be compiled for want of a compiler.
fn on_device(
    config: &ModelConfig,
    parameters: &Parameters,
    options: DecoderOptions,
) -> Option<DeviceDecoder> {
    match DeviceDecoder::new(&device(), config, parameters, options, true) {
        Ok(decoder) => Some(decoder),
        Err(error @ DeviceError::MissingLibrary { .. }) => {
            eprintln!("skipped: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// Within `bound` of the largest number.
fn assert_close(what: &str, ours: &[f32], theirs: &[f32], bound: f32) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    let largest = theirs.iter().fold(0.0f32, |most, x| most.max(x.abs()));
    for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
        assert!(
            (a - b).abs() <= bound * largest,
            "{what}: {a} at {i}, expected {b}, largest {largest}"
        );
    }
}

/// L2 norm of a difference.
fn distance(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let squares = a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2));
    squares.sum::<f64>().sqrt()
}

/// In float32, the CPU's numbers up to other orders of sums, which saturated attention magnifies; in bfloat16, no further from the CPU's float32 than
/// twice what the CPU's bfloat16 is (which way a factor rounds is chance).
fn assert_as_good(what: &str, ours: &[f32], cpu: &[f32], exact: &[f32]) {
    let size = distance(exact, &vec![0.0; exact.len()]);
    let bound = 2.0 * distance(cpu, exact) + 5e-4 * size;
    let error = distance(ours, exact);
    assert!(
        error <= bound,
        "{what}: off by {error:e}, allowed {bound:e}, size {size:e}"
    );
}

/// Forks at the prompt's end, inside, beyond a tile of the trunk and at its end; a branch without tokens, one of a
/// single token, and one longer than a tile.
fn branches() -> Vec<(usize, Vec<u32>)> {
    let forks = [(5, 3), (70, 9), (70, 1), (88, 75), (30, 0), (5, 34)];
    let branch = |(i, (fork, len)): (usize, (usize, usize))| (fork, tokens(len, 20 + i as u64));
    forks.into_iter().enumerate().map(branch).collect()
}

fn groups<'a>(trunk: &'a [u32], branches: &'a [(usize, Vec<u32>)]) -> Vec<TreeGroup<'a>> {
    let branch = |(fork, tokens): &'a (usize, Vec<u32>)| TreeBranch {
        fork: *fork,
        tokens,
    };
    let whole = TreeGroup {
        trunk,
        prompt_tokens: 5,
        branches: branches.iter().map(branch).collect(),
    };
    let short = TreeGroup {
        trunk: &trunk[..7],
        prompt_tokens: 3,
        branches: Vec::new(),
    };
    vec![short, whole]
}

#[test]
fn scores_and_gradients_on_trees_are_those_of_the_cpu() {
    for config in configurations() {
        for compute in [Compute::F32, Compute::Bf16] {
            for recompute in [Recompute::None, Recompute::Block] {
                if compute == Compute::Bf16 && recompute == Recompute::Block {
                    continue;
                }
                let parameters = parameters(&config);
                let options = options(compute, recompute);
                let Some(device) = on_device(&config, &parameters, options) else {
                    return;
                };
                compare_training(&device, &parameters);
            }
        }
    }
}

/// A decoder on the CPU, and one in float32.
fn references(device: &DeviceDecoder, parameters: &Parameters) -> [Decoder; 2] {
    let exact = options(Compute::F32, Recompute::None);
    [device.options(), exact]
        .map(|options| Decoder::with_options(device.config(), parameters, options))
}

fn compare_training(device: &DeviceDecoder, parameters: &Parameters) {
    let (trunk, branches) = (tokens(88, 10), branches());
    let groups = groups(&trunk, &branches);
    let slots: usize = groups.iter().map(TreeGroup::slots).sum();
    let draw = |key: u64| -> Vec<f32> {
        (0..slots)
            .map(|i| Key::new(key).with(i as u64).normal() as f32)
            .collect()
    };
    let slopes = ScoreGradients {
        logprobs: draw(31),
        entropies: draw(32),
    };
    let [cpu, exact] = references(device, parameters).map(|decoder| {
        let mut gradient = vec![0.0; parameters.values.len()];
        let scores = decoder
            .train(&groups, 0.8, &mut gradient, |_| Ok::<_, ()>(slopes.clone()))
            .unwrap();
        (scores, gradient)
    });
    let ours = device
        .train(&groups, 0.8, |_| Ok::<_, DeviceError>(slopes.clone()))
        .unwrap();
    let only = device.evaluate(&groups, 0.8).unwrap();
    assert_eq!(only, ours, "a forward pass alone gives the same scores");
    let gradient = device.gradient().unwrap();
    let what = |part: &str| {
        format!(
            "{part} of {:?}, {:?}",
            device.config().family,
            device.options()
        )
    };
    assert_as_good(
        &what("log-probs"),
        &ours.logprobs,
        &cpu.0.logprobs,
        &exact.0.logprobs,
    );
    assert_as_good(
        &what("entropies"),
        &ours.entropies,
        &cpu.0.entropies,
        &exact.0.entropies,
    );
    for spec in parameters.layout().tensors() {
        let [ours, cpu, exact] =
            [&gradient, &cpu.1, &exact.1].map(|gradient| &gradient[spec.range()]);
        assert_as_good(&what(&spec.name), ours, cpu, exact);
    }
    let norm = device.gradient_norm().unwrap();
    assert!((norm / global_norm(&gradient) - 1.0).abs() < 1e-6);
    device.clear_gradient().unwrap();
    assert_eq!(device.gradient_norm().unwrap(), 0.0);
}

#[test]
fn a_loss_that_refuses_leaves_the_gradient_alone() {
    let config = tiny_config();
    let options = options(Compute::F32, Recompute::None);
    let Some(device) = on_device(&config, &parameters(&config), options) else {
        return;
    };
    let trunk = tokens(12, 3);
    let group = [TreeGroup {
        trunk: &trunk,
        prompt_tokens: 4,
        branches: Vec::new(),
    }];
    let refusal = DeviceError::Unsupported {
        what: "no".to_owned(),
        remedy: "none",
    };
    assert!(device.train(&group, 1.0, |_| Err(refusal)).is_err());
    assert_eq!(device.gradient_norm().unwrap(), 0.0);
}

#[test]
fn decoding_over_pages_is_that_of_the_cpu() {
    for config in configurations() {
        for compute in [Compute::F32, Compute::Bf16] {
            let parameters = parameters(&config);
            let options = options(compute, Recompute::None);
            let Some(device) = on_device(&config, &parameters, options) else {
                return;
            };
            compare_decoding(&device, &references(&device, &parameters));
        }
    }
}

/// Two trunks, one of them computed in two parts, and branches of both that run past a page.
fn compare_decoding(device: &DeviceDecoder, references: &[Decoder; 2]) {
    let prompts = [(tokens(75, 1), 0), (tokens(40, 2), 33)];
    let forks = [(0, 75), (0, 64), (0, 1), (1, 40), (1, 32)];
    let steps: Vec<Vec<u32>> = (0..35)
        .map(|step| tokens(forks.len(), 100 + step))
        .collect();
    let [cpu, exact] = references
        .each_ref()
        .map(|decoder| on_cpu(decoder, &prompts, &forks, &steps));

    let (mut trunks, mut states) = (Vec::new(), Vec::new());
    for (prompt, cut) in &prompts {
        let (mut pages, mut hidden) = (DevicePages::default(), Vec::new());
        device
            .prefill(&mut pages, 0, &prompt[..*cut], &mut hidden)
            .unwrap();
        device
            .prefill(&mut pages, *cut, &prompt[*cut..], &mut hidden)
            .unwrap();
        trunks.push(pages);
        states.push(hidden);
    }
    let mut own: Vec<DevicePages> = forks.iter().map(|_| DevicePages::default()).collect();
    for (len, inputs) in steps.iter().enumerate() {
        let rows = own.iter_mut().zip(&forks).zip(inputs);
        let row = |((own, &(trunk, fork)), &token)| DecodeInput {
            trunk: &trunks[trunk],
            fork,
            own,
            len,
            token,
        };
        let mut rows: Vec<DecodeInput<'_>> = rows.map(row).collect();
        let mut hidden = Vec::new();
        device.decode(&mut rows, &mut hidden).unwrap();
        states.push(hidden);
    }
    assert_eq!(own[0].count(), 2);
    for part in [0..prompts.len(), prompts.len()..states.len()] {
        let what = format!("states {part:?}, {:?}", device.options());
        let [ours, cpu, exact] = [&states, &cpu, &exact].map(|all| all[part.clone()].concat());
        assert_as_good(&what, &ours, &cpu, &exact);
    }
    let last = &states[states.len() - 1];
    let [mut cpu, mut exact, mut ours] = [const { Vec::new() }; 3];
    references[0].logits(last, &mut cpu);
    references[1].logits(last, &mut exact);
    device.logits(last, &mut ours).unwrap();
    assert_as_good("logits", &ours, &cpu, &exact);
    check_draws(device, last, &ours);
}

/// The hidden states of the trunks, then those of every step.
fn on_cpu(
    decoder: &Decoder,
    prompts: &[(Vec<u32>, usize)],
    forks: &[(usize, usize)],
    steps: &[Vec<u32>],
) -> Vec<Vec<f32>> {
    let mut trunks: Vec<TrunkCache> = Vec::new();
    for (prompt, _) in prompts {
        let mut trunk = TrunkCache::new(decoder.config());
        decoder.extend_trunk(&mut trunk, prompt);
        trunks.push(trunk);
    }
    let states = |trunk: &TrunkCache| -> Vec<f32> {
        (0..trunk.len())
            .flat_map(|t| trunk.hidden(t).to_vec())
            .collect()
    };
    let mut found: Vec<Vec<f32>> = trunks.iter().map(states).collect();
    let branch = |&(_, fork): &(usize, usize)| BranchCache::new(fork);
    let mut branches: Vec<BranchCache> = forks.iter().map(branch).collect();
    for inputs in steps {
        let rows = branches.iter_mut().zip(forks).zip(inputs);
        let row = |((branch, &(trunk, _)), &token)| DecodeRow {
            trunk: &trunks[trunk],
            branch,
            token,
        };
        let mut rows: Vec<DecodeRow<'_>> = rows.map(row).collect();
        let mut hidden = Vec::new();
        decoder.decode(&mut rows, &mut hidden);
        found.push(hidden);
    }
    found
}

/// Draws from the logits of these hidden states.
fn check_draws(device: &DeviceDecoder, hidden: &[f32], logits: &[f32]) {
    let vocab = device.config().vocab_size;
    for (uniform, temperature) in [
        (None, 1.0),
        (Some(0.0), 1.0),
        (Some(0.37), 0.7),
        (Some(1.0 - 1e-12), 1.0),
    ] {
        let requests = vec![
            TokenRequest {
                temperature,
                uniform,
            };
            hidden.len() / device.config().hidden_size
        ];
        let drawn = device.draw(hidden, &requests).unwrap();
        for (drawn, logits) in drawn.iter().zip(logits.chunks_exact(vocab)) {
            let scaled: Vec<f32> = logits.iter().map(|l| l / temperature).collect();
            let log_sum = log_sum_exp(&scaled);
            let token = drawn.token as usize;
            assert!((drawn.logprob - (scaled[token] - log_sum)).abs() < 1e-4);
            let before: f32 = scaled[..token].iter().map(|l| (l - log_sum).exp()).sum();
            let here = (scaled[token] - log_sum).exp();
            match uniform {
                None => {
                    let largest = scaled
                        .iter()
                        .fold(f32::NEG_INFINITY, |most, &l| most.max(l));
                    assert_eq!(scaled[token], largest);
                }
                // The cumulative distribution reaches the number at this token.
                Some(uniform) => assert!(
                    before <= uniform as f32 + 1e-5 && before + here >= uniform as f32 - 1e-5,
                    "{uniform} is not in {before}..{}",
                    before + here
                ),
            }
        }
    }
}

#[test]
fn an_update_is_that_of_the_cpu_and_reaches_the_products() {
    let config = tiny_config();
    let mut theirs = parameters(&config);
    let options = options(Compute::Bf16, Recompute::None);
    let Some(device) = on_device(&config, &theirs, options) else {
        return;
    };
    let trunk = tokens(20, 5);
    let group = [TreeGroup {
        trunk: &trunk,
        prompt_tokens: 4,
        branches: Vec::new(),
    }];
    let settings = AdamWSettings {
        beta1: 0.9,
        beta2: 0.99,
        epsilon: 1e-8,
        weight_decay: 0.1,
    };
    let mut optimizer = AdamW::new(theirs.values.len());
    for step in 1..=3 {
        device
            .train(&group, 1.0, |scores| {
                Ok::<_, DeviceError>(ScoreGradients {
                    logprobs: vec![-1.0; scores.logprobs.len()],
                    entropies: Vec::new(),
                })
            })
            .unwrap();
        let mut gradient = device.gradient().unwrap();
        optimizer.step(&settings, 0.01, 0.5, &mut theirs, &mut gradient);
        device.step(&settings, 0.01, 0.5, step).unwrap();
        device.clear_gradient().unwrap();
    }
    let mut ours = theirs.clone();
    ours.values.fill(0.0);
    device.read_parameters(&mut ours).unwrap();
    assert_close("weights", &ours.values, &theirs.values, 1e-6);
    let mut moments = AdamW::new(theirs.values.len());
    device.read_moments(&mut moments).unwrap();
    assert_close(
        "first moments",
        &moments.first_moment,
        &optimizer.first_moment,
        1e-6,
    );
    assert_close(
        "second moments",
        &moments.second_moment,
        &optimizer.second_moment,
        1e-6,
    );
    // What products read has moved with the masters.
    let Some(fresh) = on_device(&config, &ours, options) else {
        return;
    };
    let scores = device.evaluate(&group, 1.0).unwrap();
    assert_eq!(fresh.evaluate(&group, 1.0).unwrap(), scores);
    fresh.write_moments(&moments).unwrap();
    let mut again = AdamW::new(theirs.values.len());
    fresh.read_moments(&mut again).unwrap();
    assert_eq!(again.second_moment, moments.second_moment);
}

/// A model of the size of those that people train: SmolLM2-135M, and Qwen2.5-1.5B.
fn real_configurations() -> [ModelConfig; 2] {
    let smollm2 = ModelConfig {
        family: Family::Llama,
        vocab_size: 49_152,
        hidden_size: 576,
        intermediate_size: 1536,
        layers: 30,
        heads: 9,
        kv_heads: 3,
        head_dim: 64,
        max_position_embeddings: 8192,
        tied: true,
        qkv_bias: false,
        qk_norm: false,
        ..tiny_config()
    };
    let qwen = ModelConfig {
        family: Family::Qwen2,
        vocab_size: 151_936,
        hidden_size: 1536,
        intermediate_size: 8960,
        layers: 28,
        heads: 12,
        kv_heads: 2,
        head_dim: 128,
        max_position_embeddings: 32_768,
        qkv_bias: true,
        ..smollm2.clone()
    };
    [smollm2, qwen]
}

/// The figures of docs/gpu.md.
#[test]
fn a_token_takes_few_calls() {
    let expected = [(30 * 9 + 2, 8), (28 * 9 + 2, 8)];
    for (config, (recorded, made)) in real_configurations().into_iter().zip(expected) {
        let bfloat16 = options(Compute::Bf16, Recompute::Block);
        let footprint = Footprint::of(&config, bfloat16, false).unwrap();
        for branches in [1, 32, 256] {
            let calls = footprint.decoding_calls(branches).unwrap();
            assert_eq!(calls, DecodingCalls { recorded, made }, "{branches}");
        }
        let layout = Layout::of(&config);
        // Masters, rounded copies and the tables of the rotary embedding.
        let tables = config.max_position_embeddings * config.head_dim * 4;
        let held = footprint.decoder_bytes() - tables;
        assert!(
            (6 * layout.len() / 1000 * 999..=6 * layout.len() + (1 << 20)).contains(&held),
            "{held}"
        );
    }
}

/// What is told of memory is what a device of that size has room for, and no less has.
#[test]
fn a_footprint_is_what_a_device_needs() {
    let config = config();
    let parameters = parameters(&config);
    let options = options(Compute::Bf16, Recompute::None);
    let footprint = Footprint::of(&config, options, true).unwrap();
    let trunk = tokens(60, 3);
    let group = [TreeGroup {
        trunk: &trunk,
        prompt_tokens: 4,
        branches: Vec::new(),
    }];
    let training = footprint.training_bytes(&group).unwrap();
    assert_eq!(training, footprint.training_bytes(&group).unwrap());
    let total = footprint.decoder_bytes() + training;
    for (bytes, fits) in [(total, true), (total - 1, false)] {
        let device = Device::emulated_of(bytes);
        let made = DeviceDecoder::new(&device, &config, &parameters, options, true);
        let decoder = match made {
            Err(error @ DeviceError::MissingLibrary { .. }) => {
                eprintln!("skipped: {error}");
                return;
            }
            made => made.unwrap(),
        };
        let reserved = decoder.reserve(&group);
        assert_eq!(reserved.is_ok(), fits, "{reserved:?}");
    }
    let sampling = footprint.sampling_bytes(60, 20).unwrap();
    assert!(sampling > 0 && sampling < training, "{sampling}");
}

/// As much memory as weights and 20 pages take, and little more: a prefill goes through in parts, and what was
/// held by sequences that are gone makes room for other work.
#[test]
fn passes_go_through_in_parts_where_the_device_is_short() {
    let config = config();
    let parameters = parameters(&config);
    let options = options(Compute::F32, Recompute::None);
    let prompt = tokens(90, 4);
    let footprint = Footprint::of(&config, options, false).unwrap();
    let room = footprint.sampling_bytes(90, 1).unwrap() / 2 + 3 * footprint.page_bytes();
    let small = Device::emulated_of(footprint.decoder_bytes() + room);
    let prefilled = |device: &Device| {
        let decoder = DeviceDecoder::new(device, &config, &parameters, options, false)?;
        let (mut pages, mut hidden) = (DevicePages::default(), Vec::new());
        decoder.prefill(&mut pages, 0, &prompt, &mut hidden)?;
        Ok::<_, DeviceError>((hidden, decoder.take_shortages()))
    };
    match prefilled(&Device::emulated()) {
        Err(error @ DeviceError::MissingLibrary { .. }) => eprintln!("skipped: {error}"),
        Err(error) => panic!("{error}"),
        Ok((expected, none)) => {
            assert!(!none.is_any());
            let (hidden, shortages) = prefilled(&small).unwrap();
            assert_eq!(hidden, expected);
            assert!(shortages.parts > 0, "{shortages:?}");
            let none = Device::emulated_of(footprint.decoder_bytes());
            assert!(matches!(
                prefilled(&none),
                Err(DeviceError::OutOfMemory { .. })
            ));
        }
    }
}

#[test]
fn what_the_kernels_are_not_made_for_is_refused() {
    let wide = ModelConfig {
        head_dim: 256,
        ..tiny_config()
    };
    let parameters = Parameters::zeros(std::sync::Arc::new(crate::parameters::Layout::of(&wide)));
    let options = options(Compute::F32, Recompute::None);
    let made = DeviceDecoder::new(&Device::emulated(), &wide, &parameters, options, false);
    assert!(made.is_err_and(|error| error.to_string().contains("a width of 256")));
}

/// The tiles of devices with little shared memory, for the heads that need them and for some that do not.
#[test]
fn small_tiles_compute_the_same() {
    let wide = ModelConfig {
        heads: 2,
        kv_heads: 1,
        head_dim: 72,
        ..config()
    };
    for config in [config(), wide] {
        let parameters = parameters(&config);
        let shape = Shape {
            compute: Compute::F32,
            head: config.head_dim,
            tiles: Tiles::Small,
        };
        let backend = match Device::count() {
            0 => Emulation::of(shape, &EmulatedMemory::new(None)),
            _ => Driver::of(&Gpu::open(0).unwrap(), shape),
        };
        let backend = match backend {
            Err(error @ DeviceError::MissingLibrary { .. }) => {
                eprintln!("skipped: {error}");
                return;
            }
            made => made.unwrap(),
        };
        let options = options(Compute::F32, Recompute::None);
        let device = DeviceDecoder::on("", backend, &config, parameters.layout(), options, true);
        let device = device.unwrap();
        device.update(&parameters).unwrap();
        compare_training(&device, &parameters);
        compare_decoding(&device, &references(&device, &parameters));
    }
}

#[test]
fn what_would_be_looked_for_outside_the_buffers_is_refused() {
    let config = tiny_config();
    let parameters = parameters(&config);
    let options = options(Compute::F32, Recompute::None);
    let (Some(device), Some(other)) = (
        on_device(&config, &parameters, options),
        on_device(&config, &parameters, options),
    ) else {
        return;
    };
    let refused = |what: &str, outcome: Result<(), DeviceError>| match outcome {
        Err(DeviceError::InvalidInput { what: found }) if found.contains(what) => {}
        other => panic!("{what}: {other:?}"),
    };
    let trunk = tokens(8, 3);
    for (prompt_tokens, fork, token, what) in [
        (0, 8, 1, "has a prompt of 0"),
        (9, 8, 1, "has a prompt of 9"),
        (4, 9, 1, "forks after 9 tokens of a trunk of 8"),
        (4, 0, 1, "forks after 0 tokens"),
        (4, 8, 50, "token 50 is outside the vocabulary of 50"),
    ] {
        let sampled = [3, token];
        let group = [TreeGroup {
            trunk: &trunk,
            prompt_tokens,
            branches: vec![TreeBranch {
                fork,
                tokens: &sampled,
            }],
        }];
        refused(what, device.evaluate(&group, 1.0).map(drop));
        refused(what, device.reserve(&group));
    }
    let (mut pages, mut own, mut hidden) =
        (DevicePages::default(), DevicePages::default(), Vec::new());
    device.prefill(&mut pages, 0, &trunk, &mut hidden).unwrap();
    let mut decode = |device: &DeviceDecoder, fork: usize, len: usize| {
        let row = DecodeInput {
            trunk: &pages,
            fork,
            own: &mut own,
            len,
            token: 1,
        };
        device.decode(&mut [row], &mut hidden)
    };
    decode(&device, 8, 0).unwrap();
    refused("33 positions", decode(&device, 33, 1));
    refused("33 positions", decode(&device, 8, 33));
    refused("another decoder", decode(&other, 8, 1));
    let prefilled = device.prefill(&mut pages, 33, &trunk, &mut hidden);
    refused("33 positions", prefilled);
    let larger = ModelConfig {
        vocab_size: 60,
        ..config
    };
    let mut larger = Parameters::random(&larger, Key::new(1));
    refused("another model", device.update(&larger));
    refused("another model", device.read_parameters(&mut larger));
    let mut moments = AdamW::new(larger.values.len());
    refused("another model", device.write_moments(&moments));
    refused("another model", device.read_moments(&mut moments));
}

/// Whoever asks for the room that is free takes the work memory away, which a pass must not notice.
#[test]
fn work_memory_stays_while_a_pass_uses_it() {
    let config = tiny_config();
    let options = options(Compute::F32, Recompute::None);
    let Some(device) = on_device(&config, &parameters(&config), options) else {
        return;
    };
    let trunk = tokens(9, 3);
    let group = [TreeGroup {
        trunk: &trunk,
        prompt_tokens: 4,
        branches: Vec::new(),
    }];
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                device.cache_memory();
                std::thread::yield_now();
            }
        });
        let passes = (0..20).map(|_| {
            device.train(&group, 1.0, |_| {
                Ok::<_, DeviceError>(ScoreGradients::default())
            })
        });
        let all: Result<Vec<_>, _> = passes.collect();
        is_done.store(true, Ordering::Relaxed);
        let all = all.unwrap();
        assert!(all.iter().all(|scores| *scores == all[0]));
    });
}

#[test]
fn every_kernel_compiles_for_hopper_and_ampere() {
    for compute in [Compute::F32, Compute::Bf16] {
        for (head_dim, capability) in [(64, 90), (128, 90), (64, 80), (24, 90), (128, 86)] {
            let options = options(compute, Recompute::None);
            match Device::check_kernels(options, head_dim, capability) {
                Err(error @ DeviceError::MissingLibrary { .. }) => {
                    eprintln!("skipped: {error}");
                    return;
                }
                other => other.unwrap(),
            }
        }
    }
}
