//! A tree of branches computes what its sequences compute alone, and gradients are derivatives.
#![allow(
    clippy::unwrap_used,
    reason = "a test may stop at what it did not expect"
)]

use proptest::prelude::*;
use seele_policy::config::{Family, ModelConfig};
use seele_policy::decoder::{
    BranchCache, Compute, DecodeRow, Decoder, DecoderOptions, Recompute, ScoreGradients,
    TreeBranch, TreeGroup, TrunkCache,
};
use seele_policy::parameters::Parameters;
use seele_random::Key;

fn config() -> ModelConfig {
    ModelConfig {
        family: Family::Qwen3,
        vocab_size: 40,
        hidden_size: 24,
        intermediate_size: 40,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        head_dim: 8,
        rms_norm_eps: 1e-6,
        rope_theta: 10_000.0,
        rope_scaling: None,
        max_position_embeddings: 256,
        tied: true,
        qkv_bias: true,
        qk_norm: true,
        bos_token_id: None,
        eos_token_ids: vec![1],
    }
}

/// Weights large enough that attention and norms matter.
fn parameters(config: &ModelConfig) -> Parameters {
    let mut parameters = Parameters::random(config, Key::new(1));
    for (i, value) in parameters.values.iter_mut().enumerate() {
        *value = *value * 8.0 + 0.05 * Key::new(2).with(i as u64).normal() as f32;
    }
    parameters
}

fn tokens(len: usize, key: u64) -> Vec<u32> {
    tokens_below(40, len, key)
}

fn tokens_below(vocab_size: u64, len: usize, key: u64) -> Vec<u32> {
    (0..len)
        .map(|i| Key::new(key).with(i as u64).below(vocab_size) as u32)
        .collect()
}

/// Prompt of 5, solution of 9; forks at the prompt's end, inside and at the trunk's end; an empty branch.
fn branches() -> Vec<(usize, Vec<u32>)> {
    vec![
        (5, tokens(6, 11)),
        (9, tokens(1, 12)),
        (9, tokens(7, 13)),
        (14, tokens(3, 14)),
        (11, vec![]),
        (5, tokens(2, 15)),
    ]
}

/// A weight for each slot's log-prob and entropy, so that every gradient is exercised.
fn weights(slots: usize) -> ScoreGradients {
    let draw = |key| {
        (0..slots)
            .map(|i| Key::new(key).with(i as u64).normal() as f32)
            .collect()
    };
    ScoreGradients {
        logprobs: draw(21),
        entropies: draw(22),
    }
}

fn decoder(config: &ModelConfig, parameters: &Parameters, compute: Compute) -> Decoder {
    let options = DecoderOptions {
        compute,
        ..DecoderOptions::default()
    };
    Decoder::with_options(config, parameters, options)
}

/// A trunk, how much of it is prompt, and branches by fork and tokens.
#[derive(Clone, Debug)]
struct Shape {
    trunk: Vec<u32>,
    prompt: usize,
    branches: Vec<(usize, Vec<u32>)>,
}

impl Shape {
    fn group(&self) -> TreeGroup<'_> {
        let branches = self.branches.iter();
        TreeGroup {
            trunk: &self.trunk,
            prompt_tokens: self.prompt,
            branches: branches
                .map(|(fork, tokens)| TreeBranch {
                    fork: *fork,
                    tokens,
                })
                .collect(),
        }
    }
}

/// Float32 round-off of other sums; in bfloat16 a trunk row's gradient is rounded once, or once for each
/// branch, by up to 2^-9 of it at each of a dozen products.
const TOLERANCES: [(Compute, f32); 2] = [(Compute::F32, 2e-5), (Compute::Bf16, 4e-2)];

#[test]
fn a_tree_equals_its_sequences_alone() {
    let shape = Shape {
        trunk: tokens(14, 10),
        prompt: 5,
        branches: branches(),
    };
    // So many rows that a trunk's gradient is summed in several shares.
    let large = Shape {
        trunk: tokens(70, 18),
        prompt: 20,
        branches: (0..40)
            .map(|i| (20 + i * 50 / 39, tokens(40, 100 + i as u64)))
            .collect(),
    };
    for (compute, tolerance) in TOLERANCES {
        check_trees(&config(), std::slice::from_ref(&shape), compute, tolerance);
        let both = [shape.clone(), large.clone()];
        check_trees(&config(), &both, compute, tolerance);
    }
}

#[test]
fn a_vocabulary_that_goes_backward_in_parts_equals_one_that_goes_at_once() {
    let config = ModelConfig {
        vocab_size: 2100,
        ..config()
    };
    // Together so many rows that their logits do not exist at one time.
    let shapes: Vec<Shape> = (0..30)
        .map(|i| Shape {
            trunk: tokens_below(2100, 70, 200 + i),
            prompt: 1,
            branches: vec![(40, tokens_below(2100, 9, 300 + i))],
        })
        .collect();
    for (compute, tolerance) in TOLERANCES {
        check_trees(&config, &shapes, compute, tolerance);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Trunks of one to four blocks of attention, forks without a hint, inside it and at its end, branches that
    /// are empty, a group without any.
    #[test]
    fn random_groups_equal_their_sequences_alone(shapes in prop::collection::vec(any_shape(), 1..4)) {
        for (compute, tolerance) in TOLERANCES {
            check_trees(&config(), &shapes, compute, tolerance);
        }
    }
}

fn any_shape() -> impl Strategy<Value = Shape> {
    let branch = || (0.0..=1.0f64, prop_oneof![Just(0usize), Just(1), 2..70usize]);
    let branches = prop::collection::vec(branch(), 0..7);
    (1..60usize, 0..60usize, branches, any::<u64>()).prop_map(|(prompt, hint, branches, key)| {
        let fork = |share: f64| prompt + (share * (hint as f64 + 1.0)) as usize;
        let branches = branches.into_iter().enumerate();
        Shape {
            trunk: tokens(prompt + hint, key),
            prompt,
            branches: branches
                .map(|(i, (share, len))| {
                    let fork = fork(share).min(prompt + hint);
                    (fork, tokens(len, key.wrapping_add(i as u64 + 1)))
                })
                .collect(),
        }
    })
}

/// Scores of the groups together have the bits of each sequence alone, and gradients are their sum.
fn check_trees(config: &ModelConfig, shapes: &[Shape], compute: Compute, tolerance: f32) {
    let parameters = parameters(config);
    let decoder = decoder(config, &parameters, compute);
    let trees: Vec<TreeGroup<'_>> = shapes.iter().map(Shape::group).collect();
    let slopes = weights(trees.iter().map(TreeGroup::slots).sum());
    let mut gradient = vec![0.0; parameters.values.len()];
    let scores = decoder
        .train(&trees, 0.8, &mut gradient, |_| Ok::<_, ()>(slopes.clone()))
        .unwrap();

    // Each part alone: a trunk's own tokens, then each branch as a sequence without company.
    let mut expected = vec![0.0; gradient.len()];
    let mut slot = 0;
    let mut alone = |group: TreeGroup<'_>| {
        let range = slot..slot + group.slots();
        slot = range.end;
        let part = decoder
            .train(&[group], 0.8, &mut expected, |_| {
                Ok::<_, ()>(ScoreGradients {
                    logprobs: slopes.logprobs[range.clone()].to_vec(),
                    entropies: slopes.entropies[range.clone()].to_vec(),
                })
            })
            .unwrap();
        assert_eq!(
            part.logprobs,
            scores.logprobs[range.clone()],
            "the same bits"
        );
        assert_eq!(part.entropies, scores.entropies[range]);
    };
    for shape in shapes {
        alone(TreeGroup {
            trunk: &shape.trunk,
            prompt_tokens: shape.prompt,
            branches: vec![],
        });
        for (fork, tokens) in &shape.branches {
            let branch = TreeBranch {
                fork: *fork,
                tokens,
            };
            alone(TreeGroup {
                trunk: &shape.trunk[..*fork],
                prompt_tokens: *fork,
                branches: vec![branch],
            });
        }
    }
    assert_eq!(slot, scores.logprobs.len());
    let largest = expected.iter().fold(0.0f32, |m, g| m.max(g.abs()));
    for (ours, theirs) in gradient.iter().zip(&expected) {
        assert!(
            (ours - theirs).abs() <= tolerance * largest,
            "{compute:?}: {ours} {theirs}"
        );
    }
}

#[test]
fn gradients_are_derivatives() {
    let (config, trunk) = (config(), tokens(14, 10));
    let mut parameters = parameters(&config);
    let branches = branches();
    let tree = [TreeGroup {
        trunk: &trunk,
        prompt_tokens: 5,
        branches: branches
            .iter()
            .map(|(fork, tokens)| TreeBranch {
                fork: *fork,
                tokens,
            })
            .collect(),
    }];
    let slopes = weights(tree[0].slots());
    let loss = |parameters: &Parameters| -> f64 {
        let scores = Decoder::new(&config, parameters).evaluate(&tree, 0.8);
        let sum = |values: &[f32], slopes: &[f32]| -> f64 {
            values
                .iter()
                .zip(slopes)
                .map(|(v, s)| f64::from(*v) * f64::from(*s))
                .sum()
        };
        sum(&scores.logprobs, &slopes.logprobs) + sum(&scores.entropies, &slopes.entropies)
    };
    let mut gradient = vec![0.0; parameters.values.len()];
    Decoder::new(&config, &parameters)
        .train(&tree, 0.8, &mut gradient, |_| Ok::<_, ()>(slopes.clone()))
        .unwrap();
    for spec in parameters.layout().clone().tensors() {
        // Along the gradient of one tensor the loss must rise by its squared norm.
        let range = spec.range();
        let norm = gradient[range.clone()]
            .iter()
            .map(|g| f64::from(*g).powi(2))
            .sum::<f64>()
            .sqrt();
        assert!(norm > 1e-4, "{} has no gradient", spec.name);
        let start = parameters.values[range.clone()].to_vec();
        // Small enough for the cubic term, large enough for float32.
        let step = (0.3 / norm).min(4e-3);
        let mut at = |sign: f64| {
            for (i, value) in start.iter().enumerate() {
                parameters.values[spec.offset + i] =
                    value + (sign * step * f64::from(gradient[spec.offset + i]) / norm) as f32;
            }
            loss(&parameters)
        };
        let slope = (at(1.0) - at(-1.0)) / (2.0 * step);
        parameters.values[range].copy_from_slice(&start);
        assert!(
            (slope / norm - 1.0).abs() < 0.02,
            "{}: slope {slope}, norm {norm}",
            spec.name
        );
    }
}

#[test]
fn gradients_do_not_depend_on_what_is_recomputed_or_on_earlier_passes() {
    let (config, trunk) = (config(), tokens(14, 10));
    let parameters = parameters(&config);
    let branches = branches();
    let tree = [TreeGroup {
        trunk: &trunk,
        prompt_tokens: 5,
        branches: branches
            .iter()
            .map(|(fork, tokens)| TreeBranch {
                fork: *fork,
                tokens,
            })
            .collect(),
    }];
    let slopes = weights(tree[0].slots());
    for (compute, bytes) in [(Compute::F32, 40_000), (Compute::Bf16, 25_000)] {
        // Enough for one of two blocks.
        let one = Recompute::Auto { bytes };
        let gradients = [Recompute::None, one, Recompute::Block].map(|recompute| {
            let options = DecoderOptions { compute, recompute };
            let mut decoder = Decoder::with_options(&config, &parameters, options);
            let mut gradient = vec![0.0; parameters.values.len()];
            for pass in 0..2 {
                gradient.fill(0.0);
                decoder
                    .train(&tree, 0.8, &mut gradient, |_| Ok::<_, ()>(slopes.clone()))
                    .unwrap();
                // The second pass runs with weights packed again.
                assert!(pass == 1 || gradient.iter().any(|g| *g != 0.0));
                decoder.update(&parameters);
            }
            gradient
        });
        assert_eq!(gradients[0], gradients[1], "{compute:?}");
        assert_eq!(gradients[0], gradients[2], "{compute:?}");
    }
}

#[test]
fn a_branch_decodes_to_the_same_bits_alone_and_among_others() {
    let (config, trunks) = (config(), [tokens(14, 10), tokens(40, 17)]);
    let parameters = parameters(&config);
    for compute in [Compute::F32, Compute::Bf16] {
        let decoder = decoder(&config, &parameters, compute);
        let caches = trunks.each_ref().map(|trunk| {
            let mut cache = TrunkCache::new(&config);
            decoder.extend_trunk(&mut cache, trunk);
            cache
        });
        // Many forks of two trunks, so that runs of rows mix them.
        let places: Vec<(usize, usize)> = (0..45).map(|i| (i / 25, 5 + i * 3 % 9)).collect();
        let fresh = |&(_, fork): &(usize, usize)| BranchCache::new(fork);
        let mut together: Vec<BranchCache> = places.iter().map(fresh).collect();
        let mut alone: Vec<BranchCache> = places.iter().map(fresh).collect();
        let (mut hidden, mut own) = (Vec::new(), Vec::new());
        for step in 0..36 {
            let row = |i: usize| (&caches[places[i].0], ((i * 7 + step) % 40) as u32);
            let mut rows: Vec<DecodeRow<'_>> = together
                .iter_mut()
                .enumerate()
                .map(|(i, branch)| DecodeRow {
                    trunk: row(i).0,
                    branch,
                    token: row(i).1,
                })
                .collect();
            decoder.decode(&mut rows, &mut hidden);
            for (i, branch) in alone.iter_mut().enumerate() {
                let (trunk, token) = row(i);
                let mut one = [DecodeRow {
                    trunk,
                    branch,
                    token,
                }];
                decoder.decode(&mut one, &mut own);
                let joint = &hidden[i * config.hidden_size..(i + 1) * config.hidden_size];
                assert_eq!(own, joint, "{compute:?}, branch {i}, step {step}");
            }
        }
    }
}

#[test]
fn decoding_one_token_at_a_time_gives_the_trainers_bits() {
    for compute in [Compute::F32, Compute::Bf16] {
        check_decoding(&config(), compute);
        // Keys and values of many blocks lie in several pieces of memory.
        let layers = 100;
        check_decoding(&ModelConfig { layers, ..config() }, compute);
    }
}

fn check_decoding(config: &ModelConfig, compute: Compute) {
    let trunk = tokens(40, 10);
    let decoder = decoder(config, &parameters(config), compute);
    let mut cache = TrunkCache::new(config);
    decoder.extend_trunk(&mut cache, &trunk[..9]);
    decoder.extend_trunk(&mut cache, &trunk[9..]);
    // The last one sees two pages of the trunk.
    for (fork, tokens) in branches().into_iter().chain([(36, tokens(3, 16))]) {
        let tree = TreeGroup {
            trunk: &trunk,
            prompt_tokens: trunk.len(),
            branches: vec![],
        };
        assert_eq!(tree.slots(), 0);
        let branch = TreeBranch {
            fork,
            tokens: &tokens,
        };
        let scores = decoder.evaluate(
            &[TreeGroup {
                trunk: &trunk,
                prompt_tokens: 5,
                branches: vec![branch],
            }],
            1.0,
        );
        let trained = &scores.logprobs[trunk.len() - 5..];
        let (mut own, mut hidden, mut logits) = (
            BranchCache::new(fork),
            cache.hidden(fork - 1).to_vec(),
            vec![],
        );
        for (t, &token) in tokens.iter().enumerate() {
            decoder.logits(&hidden, &mut logits);
            let logprob =
                logits[token as usize] - seele_policy::kernels::softmax::log_sum_exp(&logits);
            assert_eq!(logprob, trained[t], "fork {fork}, token {t}");
            decoder.decode(
                &mut [DecodeRow {
                    trunk: &cache,
                    branch: &mut own,
                    token,
                }],
                &mut hidden,
            );
        }
    }
}
