//! Logits, log-probs, entropies, greedy continuations and every gradient of the golden models.
#![allow(
    clippy::unwrap_used,
    reason = "a test may stop at what it did not expect"
)]

#[path = "../../../tests/reference.rs"]
mod reference;

use reference::golden;
use seele_policy::decoder::{
    BranchCache, Compute, DecodeRow, Decoder, DecoderOptions, ScoreGradients, TreeBranch,
    TreeGroup, TrunkCache,
};
use seele_policy::model::Model;
use serde_json::Value;
use std::path::{Path, PathBuf};

fn ids(value: &Value) -> Vec<u32> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_u64().unwrap() as u32)
        .collect()
}

fn numbers(value: &Value) -> Vec<f64> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_f64().unwrap())
        .collect()
}

fn assert_close(what: &str, ours: &[f32], theirs: &[f64], bound: f64) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    for (i, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
        let off = (f64::from(*ours) - theirs).abs();
        // Not-a-number is off by more than any bound.
        assert!(
            off <= bound,
            "{what}, number {i}: {ours} for {theirs}, off by {off:e}, allowed {bound:e}"
        );
    }
}

/// Float32 tensors of a safetensors file.
fn tensors(path: &Path) -> std::collections::HashMap<String, Vec<f64>> {
    let bytes = std::fs::read(path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let floats = |data: &[u8]| {
        data.chunks_exact(4)
            .map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap())))
            .collect()
    };
    file.tensors()
        .into_iter()
        .map(|(name, view)| (name, floats(view.data())))
        .collect()
}

/// How far numbers may be from the reference, which is float64.
struct Bounds {
    logits: f64,
    /// Log-probs and entropies.
    logprobs: f64,
    /// Relative.
    loss: f64,
}

impl Bounds {
    /// Float32: round-off of sums of a few hundred products, with room for another order of them.
    /// Bfloat16: three times what rounding did to another implementation (`hf_noise` in the fixture),
    /// because which way a factor rounds is chance.
    fn of(compute: Compute, fixture: &Value) -> Self {
        let noise = |key: &str| fixture["hf_noise"]["bf16"][key].as_f64().unwrap();
        match compute {
            Compute::F32 => Self {
                logits: 2e-4,
                logprobs: 1e-4,
                loss: 1e-5,
            },
            Compute::Bf16 => Self {
                logits: 3.0 * noise("logits_max_abs"),
                logprobs: 3.0 * noise("logprob_max_abs"),
                loss: 3.0 * noise("loss_rel") + 0.01,
            },
        }
    }
}

/// A tensor's gradient is within 1e-4 of its largest entry in float32; in bfloat16 within three times
/// the noise of another implementation in L2 norm.
fn assert_gradient_close(
    what: &str,
    compute: Compute,
    fixture: &Value,
    ours: &[f32],
    theirs: &[f64],
) {
    if compute == Compute::F32 {
        let largest = theirs.iter().fold(0.0f64, |m, g| m.max(g.abs()));
        assert!(largest > 0.0);
        return assert_close(what, ours, theirs, 1e-4 * largest);
    }
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    let error = norm(&mut ours.iter().zip(theirs).map(|(a, b)| f64::from(*a) - b));
    let size = norm(&mut theirs.iter().copied());
    let bound = 3.0 * fixture["hf_noise"]["bf16"]["grad_rel_l2"].as_f64().unwrap();
    assert!(
        error <= bound * size,
        "{what}: off by {:e} of its norm, allowed {bound:e}",
        error / size
    );
}

fn each_model(compute: Compute, check: impl Fn(&str, &Model, &Decoder, &Value, &Path)) {
    let Some(models) = golden("models") else {
        return;
    };
    let mut seen = 0;
    for entry in std::fs::read_dir(models).unwrap() {
        let path = entry.unwrap().path();
        if !path.is_dir() {
            continue;
        }
        let model = Model::load(&path).unwrap();
        let options = DecoderOptions {
            compute,
            ..DecoderOptions::default()
        };
        let decoder = Decoder::with_options(&model.config, &model.parameters, options);
        let fixture =
            serde_json::from_str(&std::fs::read_to_string(path.join("fixture.json")).unwrap())
                .unwrap();
        check(
            &format!("{} in {compute:?}", path.display()),
            &model,
            &decoder,
            &fixture,
            &path,
        );
        seen += 1;
    }
    assert!(seen > 0, "the folder of golden models is empty");
}

/// Greedy tokens and their log-probs after each prompt, as many as asked for, with the cache; all prompts
/// advance together.
fn greedy(decoder: &Decoder, prompts: &[(Vec<u32>, usize)]) -> Vec<(Vec<u32>, Vec<f32>)> {
    let trunks: Vec<TrunkCache> = prompts
        .iter()
        .map(|(prompt, _)| {
            let mut trunk = TrunkCache::new(decoder.config());
            decoder.extend_trunk(&mut trunk, prompt);
            trunk
        })
        .collect();
    let mut branches: Vec<BranchCache> = prompts
        .iter()
        .map(|(prompt, _)| BranchCache::new(prompt.len()))
        .collect();
    let last = |(trunk, (prompt, _)): (&TrunkCache, &(Vec<u32>, usize))| {
        trunk.hidden(prompt.len() - 1).to_vec()
    };
    let mut hidden: Vec<f32> = trunks.iter().zip(prompts).flat_map(last).collect();
    let mut out = vec![(Vec::new(), Vec::new()); prompts.len()];
    let mut logits = Vec::new();
    while prompts
        .iter()
        .zip(&out)
        .any(|((_, n), (tokens, _))| tokens.len() < *n)
    {
        decoder.logits(&hidden, &mut logits);
        let vocab = decoder.config().vocab_size;
        let mut rows = Vec::new();
        for (i, logits) in logits.chunks_exact(vocab).enumerate() {
            let best = (0..vocab)
                .max_by(|&a, &b| logits[a].total_cmp(&logits[b]))
                .unwrap();
            out[i].0.push(best as u32);
            out[i]
                .1
                .push(logits[best] - seele_policy::kernels::softmax::log_sum_exp(logits));
        }
        for ((trunk, branch), (tokens, _)) in trunks.iter().zip(&mut branches).zip(&out) {
            rows.push(DecodeRow {
                trunk,
                branch,
                token: *tokens.last().unwrap(),
            });
        }
        decoder.decode(&mut rows, &mut hidden);
    }
    for ((tokens, logprobs), (_, n)) in out.iter_mut().zip(prompts) {
        tokens.truncate(*n);
        logprobs.truncate(*n);
    }
    out
}

#[test]
fn logits_with_and_without_cache_equal_the_reference() {
    check_logits(Compute::F32);
    check_logits(Compute::Bf16);
}

fn check_logits(compute: Compute) {
    each_model(compute, |name, _, decoder, fixture, path| {
        let bounds = Bounds::of(compute, fixture);
        let reference = tensors(&path.join("fixture.safetensors"));
        for (i, sequence) in fixture["sequences"].as_array().unwrap().iter().enumerate() {
            let ids = ids(&sequence["ids"]);
            let expected = &reference[&format!("logits.{i}")];
            let (mut whole, mut logits) = (TrunkCache::new(decoder.config()), Vec::new());
            decoder.extend_trunk(&mut whole, &ids);
            let hidden: Vec<f32> = (0..ids.len())
                .flat_map(|t| whole.hidden(t).to_vec())
                .collect();
            decoder.logits(&hidden, &mut logits);
            assert_close(
                &format!("{name} logits.{i}"),
                &logits,
                expected,
                bounds.logits,
            );

            let states = |trunk: &TrunkCache| -> Vec<f32> {
                (0..ids.len())
                    .flat_map(|t| trunk.hidden(t).to_vec())
                    .collect()
            };
            let whole = states(&whole);
            let mut trunk = TrunkCache::new(decoder.config());
            for token in &ids {
                decoder.extend_trunk(&mut trunk, std::slice::from_ref(token));
            }
            let message = "one token at a time has the same bits as one pass";
            assert_eq!(states(&trunk), whole, "{name}: {message}");

            let mut branch = BranchCache::new(1);
            let (mut stepwise, mut hidden) = (trunk.hidden(0).to_vec(), Vec::new());
            for &token in &ids[1..] {
                let mut rows = [DecodeRow {
                    trunk: &trunk,
                    branch: &mut branch,
                    token,
                }];
                decoder.decode(&mut rows, &mut hidden);
                stepwise.extend_from_slice(&hidden);
            }
            if compute == Compute::F32 {
                assert_eq!(stepwise, whole, "{name}: a branch has the bits of one pass");
            }
            // In bfloat16 a branch sums its values by blocks of its own.
            decoder.logits(&stepwise, &mut logits);
            let what = format!("{name} logits.{i} of a branch");
            assert_close(&what, &logits, expected, bounds.logits);
        }
    });
}

#[test]
fn greedy_continuations_equal_the_reference() {
    each_model(Compute::F32, |name, _, decoder, fixture, _| {
        let sequences = fixture["sequences"].as_array().unwrap();
        let prompts: Vec<(Vec<u32>, usize)> = sequences
            .iter()
            .map(|s| (ids(&s["ids"]), ids(&s["greedy_ids"]).len()))
            .collect();
        for (sequence, (tokens, logprobs)) in sequences.iter().zip(greedy(decoder, &prompts)) {
            assert_eq!(tokens, ids(&sequence["greedy_ids"]), "{name}");
            assert_close(
                &format!("{name} greedy"),
                &logprobs,
                &numbers(&sequence["greedy_logprobs"]),
                1e-4,
            );
        }
    });
}

#[test]
fn scores_and_every_gradient_equal_the_reference() {
    check_gradients(Compute::F32);
    check_gradients(Compute::Bf16);
}

fn check_gradients(compute: Compute) {
    each_model(compute, |name, model, decoder, fixture, path| {
        let bounds = Bounds::of(compute, fixture);
        let reference = tensors(&path.join("fixture.safetensors"));
        let sequences = fixture["sequences"].as_array().unwrap();
        let tokens: Vec<Vec<u32>> = sequences.iter().map(|s| ids(&s["ids"])).collect();
        let masks: Vec<f32> = sequences
            .iter()
            .flat_map(|s| numbers(&s["mask"]))
            .map(|m| m as f32)
            .collect();
        let expected: Vec<f64> = sequences
            .iter()
            .flat_map(|s| numbers(&s["logprobs"]))
            .collect();
        // As trunks alone, and as a one-token trunk with the rest on a branch.
        for branched in [false, true] {
            let groups: Vec<TreeGroup<'_>> = tokens
                .iter()
                .map(|ids| TreeGroup {
                    trunk: if branched { &ids[..1] } else { ids },
                    prompt_tokens: 1,
                    branches: if branched {
                        vec![TreeBranch {
                            fork: 1,
                            tokens: &ids[1..],
                        }]
                    } else {
                        vec![]
                    },
                })
                .collect();
            let mut gradient = vec![0.0; model.parameters.values.len()];
            let scores = decoder
                .train(&groups, 1.0, &mut gradient, |_| {
                    let logprobs = masks.iter().map(|m| -m).collect();
                    Ok::<_, ()>(ScoreGradients {
                        logprobs,
                        entropies: vec![],
                    })
                })
                .unwrap();
            assert_close(
                &format!("{name} log-probs"),
                &scores.logprobs,
                &expected,
                bounds.logprobs,
            );
            let entropies: Vec<f64> = sequences
                .iter()
                .flat_map(|s| {
                    let e = numbers(&s["entropy"]);
                    e[..e.len() - 1].to_vec()
                })
                .collect();
            assert_close(
                &format!("{name} entropies"),
                &scores.entropies,
                &entropies,
                bounds.logprobs,
            );
            let loss: f64 = scores
                .logprobs
                .iter()
                .zip(&masks)
                .map(|(l, m)| -f64::from(l * m))
                .sum();
            let expected_loss = fixture["sft_loss"].as_f64().unwrap();
            assert!(
                (loss / expected_loss - 1.0).abs() < bounds.loss,
                "{name}: loss {loss}, expected {expected_loss}"
            );
            for spec in model.parameters.layout().tensors() {
                let expected = &reference[&format!("grad.{}", spec.name)];
                assert_gradient_close(
                    &format!("{name} {}", spec.name),
                    compute,
                    fixture,
                    &gradient[spec.range()],
                    expected,
                );
            }
        }
        let cool: Vec<f64> = sequences
            .iter()
            .flat_map(|s| numbers(&s["logprobs_temperature_0_7"]))
            .collect();
        let groups: Vec<TreeGroup<'_>> = tokens
            .iter()
            .map(|ids| TreeGroup {
                trunk: ids,
                prompt_tokens: 1,
                branches: vec![],
            })
            .collect();
        assert_close(
            &format!("{name} at 0.7"),
            &decoder.evaluate(&groups, 0.7).logprobs,
            &cool,
            // The temperature magnifies differences.
            bounds.logprobs * 1.5,
        );
    });
}

#[test]
fn smollm2_gives_the_recorded_numbers() {
    let Some(recorded) = golden("smollm2.json") else {
        return;
    };
    let file = std::env::var_os("SEELE_SMOLLM2").map_or_else(
        || {
            concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/../../models/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
            )
            .into()
        },
        PathBuf::from,
    );
    if !file.is_file() {
        eprintln!(
            "skipped: no {} (scripts/smollm2.sh fetches it)",
            file.display()
        );
        return;
    }
    let model = Model::load(&file).unwrap();
    let cases: Value = serde_json::from_str(&std::fs::read_to_string(recorded).unwrap()).unwrap();
    // A prompt holds a plain and a chat case, or is one of them.
    let cases: Vec<&Value> = cases["prompts"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|prompt| {
            let both: Vec<&Value> = ["plain", "chat"]
                .iter()
                .filter_map(|kind| prompt.get(*kind).filter(|case| case.is_object()))
                .collect();
            if both.is_empty() { vec![prompt] } else { both }
        })
        .collect();
    // Log-prob, logit and, in float32, the log-prob of a whole continuation.
    check_smollm2(&model, &cases, Compute::F32, [5e-4, 1e-3], Some(2e-3));
    check_smollm2(&model, &cases, Compute::Bf16, [0.8, 2.0], None);
}

fn check_smollm2(
    model: &Model,
    cases: &[&Value],
    compute: Compute,
    [logprob, logit]: [f64; 2],
    sum_logprob: Option<f64>,
) {
    let options = DecoderOptions {
        compute,
        ..DecoderOptions::default()
    };
    let decoder = Decoder::with_options(&model.config, &model.parameters, options);
    if compute == Compute::F32 {
        let safe = |case: &Value| case["greedy_safe_tokens"].as_u64().unwrap() as usize;
        let prompts: Vec<(Vec<u32>, usize)> = cases
            .iter()
            .map(|case| (ids(&case["ids"]), safe(case)))
            .collect();
        for (case, (tokens, _)) in cases.iter().zip(greedy(&decoder, &prompts)) {
            assert_eq!(tokens, ids(&case["greedy_ids"])[..safe(case)]);
        }
    }
    for case in cases {
        let prompt = ids(&case["ids"]);
        let continuation = ids(&case["continuation_ids"]);
        let group = TreeGroup {
            trunk: &prompt,
            prompt_tokens: prompt.len(),
            branches: vec![TreeBranch {
                fork: prompt.len(),
                tokens: &continuation,
            }],
        };
        let scores = decoder.evaluate(&[group], 1.0);
        let expected = numbers(&case["continuation_logprobs"]);
        assert_close("continuation", &scores.logprobs, &expected, logprob);
        if let Some(bound) = sum_logprob {
            let sum: f64 = scores.logprobs.iter().map(|&l| f64::from(l)).sum();
            let expected = case["continuation_sum_logprob"].as_f64().unwrap();
            assert!((sum - expected).abs() < bound);
        }
        let mut trunk = TrunkCache::new(&model.config);
        decoder.extend_trunk(&mut trunk, &prompt);
        let mut logits = Vec::new();
        decoder.logits(trunk.hidden(prompt.len() - 1), &mut logits);
        let top: Vec<f32> = ids(&case["top5_ids"])
            .iter()
            .map(|&i| logits[i as usize])
            .collect();
        assert_close("top logits", &top, &numbers(&case["top5_logits"]), logit);
    }
}
