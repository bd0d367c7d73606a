mod pool;
#[cfg(feature = "cuda")]
mod short_of_memory;

use super::*;
use crate::engine::Finish;
use seele_policy::config::{Family, ModelConfig};
use seele_policy::decoder::{TreeBranch, TreeGroup};
use seele_policy::parameters::Parameters;
use seele_random::Key;
use std::collections::{BTreeMap, HashMap};

fn config() -> ModelConfig {
    ModelConfig {
        family: Family::Llama,
        vocab_size: 97,
        hidden_size: 32,
        intermediate_size: 48,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        head_dim: 8,
        rms_norm_eps: 1e-5,
        rope_theta: 10_000.0,
        rope_scaling: None,
        max_position_embeddings: 128,
        tied: true,
        qkv_bias: false,
        qk_norm: false,
        bos_token_id: None,
        eos_token_ids: vec![1],
    }
}

/// Weights large enough that contexts give clearly different distributions.
fn parameters() -> Parameters {
    let mut parameters = Parameters::random(&config(), Key::new(3));
    for value in &mut parameters.values {
        if *value != 1.0 {
            *value *= 8.0;
        }
    }
    parameters
}

fn sampling(temperature: f32) -> Sampling {
    Sampling {
        temperature,
        max_new_tokens: 12,
        stop_tokens: vec![1, 2, 3, 4, 5],
        ..Sampling::default()
    }
}

/// Trunk of the `n`-th problem.
fn trunk_tokens(n: u64) -> Vec<u32> {
    (0..9 + n)
        .map(|i| Key::new(n).with(i).below(97) as u32)
        .collect()
}

/// Four problems, seven branches each, in an order that mixes the problems.
fn requests() -> Vec<(u64, usize, u64)> {
    (0..28)
        .map(|tag| (tag % 4, 1 + (tag as usize * 5) % 9, tag))
        .collect()
}

fn run(
    decoder: &Decoder,
    sampling: &Sampling,
    capacity: usize,
    requests: &[(u64, usize, u64)],
) -> (HashMap<u64, FinishedBranch>, RolloutStatistics) {
    let mut engine = LocalEngine::new(decoder, sampling.clone(), capacity).unwrap();
    let trunks: Vec<_> = (0..4)
        .map(|n| engine.add_trunk(trunk_tokens(n)).unwrap())
        .collect();
    for &(problem, fork, tag) in requests {
        let trunk = trunks[problem as usize];
        let key = Key::new(77).with(tag);
        engine
            .submit(BranchRequest {
                trunk,
                fork,
                key,
                expected_tokens: 0,
                tag,
            })
            .unwrap();
    }
    let mut finished = HashMap::new();
    while engine.pending() > 0 {
        assert!(engine.active.len() <= capacity);
        for mut branch in engine.step().unwrap() {
            assert_eq!(branch.trunk, trunks[(branch.tag % 4) as usize]);
            branch.trunk = TrunkId(0);
            assert!(finished.insert(branch.tag, branch).is_none());
        }
        assert!(engine.active.is_sorted_by_key(|branch| branch.trunk));
    }
    assert_eq!(finished.len(), requests.len());
    (finished, engine.statistics())
}

#[test]
fn a_branch_is_the_same_alone_and_among_many() {
    let decoder = Decoder::new(&config(), &parameters());
    for temperature in [0.0, 1.0] {
        let settings = sampling(temperature);
        let (together, _) = run(&decoder, &settings, 28, &requests());
        let (squeezed, _) = run(&decoder, &settings, 3, &requests());
        assert_eq!(together, squeezed);
        for request in requests() {
            let (alone, _) = run(&decoder, &settings, 1, &[request]);
            assert_eq!(alone[&request.2], together[&request.2]);
        }
    }
}

#[test]
fn log_probs_are_those_the_trainer_computes() {
    let decoder = Decoder::new(&config(), &parameters());
    for (sampled_at, trained_at) in [(1.0, 1.0), (0.7, 0.7), (0.0, 1.0)] {
        let (finished, _) = run(&decoder, &sampling(sampled_at), 8, &requests());
        for (&tag, branch) in &finished {
            let trunk = trunk_tokens(tag % 4);
            let group = TreeGroup {
                trunk: &trunk[..branch.fork],
                prompt_tokens: branch.fork,
                branches: vec![TreeBranch {
                    fork: branch.fork,
                    tokens: &branch.tokens,
                }],
            };
            let scores = decoder.evaluate(&[group], trained_at);
            assert_eq!(
                scores.logprobs, branch.logprobs,
                "branch {tag} at {sampled_at}"
            );
        }
    }
}

#[test]
fn greedy_takes_the_likeliest_token_of_the_whole_sequence() {
    let decoder = Decoder::new(&config(), &parameters());
    let (finished, _) = run(&decoder, &sampling(0.0), 28, &requests());
    for (&tag, branch) in &finished {
        let mut sequence = trunk_tokens(tag % 4)[..branch.fork].to_vec();
        for &token in &branch.tokens {
            let mut cache = TrunkCache::new(decoder.config());
            decoder.extend_trunk(&mut cache, &sequence);
            let mut logits = Vec::new();
            decoder.logits(cache.hidden(sequence.len() - 1), &mut logits);
            let likeliest = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
            assert_eq!(likeliest, Some(token as usize));
            sequence.push(token);
        }
    }
}

#[test]
fn branches_end_at_a_stop_token_or_at_the_limit() {
    let decoder = Decoder::new(&config(), &parameters());
    let settings = sampling(1.0);
    let (finished, _) = run(&decoder, &settings, 8, &requests());
    let mut seen = [0, 0];
    for branch in finished.values() {
        let (last, before) = branch.tokens.split_last().unwrap();
        assert!(
            before
                .iter()
                .all(|token| !settings.stop_tokens.contains(token))
        );
        assert_eq!(branch.logprobs.len(), branch.tokens.len());
        match branch.finish {
            Finish::Stop => assert!(settings.stop_tokens.contains(last)),
            Finish::Length => {
                assert_eq!(branch.tokens.len(), 12);
                assert!(!settings.stop_tokens.contains(last));
            }
        }
        seen[usize::from(branch.finish == Finish::Stop)] += 1;
    }
    assert!(seen[0] > 0 && seen[1] > 0, "{seen:?}");
}

#[test]
fn statistics_count_the_work() {
    let decoder = Decoder::new(&config(), &parameters());
    let (finished, statistics) = run(&decoder, &sampling(1.0), 5, &requests());
    let tokens: usize = finished.values().map(|branch| branch.tokens.len()).sum();
    let forks: usize = requests().iter().map(|request| request.1).sum();
    let furthest: usize = (0..4)
        .map(|n| {
            let of_problem = requests().into_iter().filter(|request| request.0 == n);
            of_problem.map(|request| request.1).max().unwrap()
        })
        .sum();
    assert_eq!(statistics.decoded_tokens, tokens as u64);
    assert_eq!(statistics.forked_tokens, forks as u64);
    assert_eq!(statistics.prefilled_tokens, furthest as u64);
    assert_eq!(statistics.prefill_saved_tokens(), (forks - furthest) as u64);
    assert_eq!(statistics.finished_branches, 28);
    assert_eq!(statistics.capacity, 5);
    // Slots are refilled at once, so only the end of the run is thin.
    assert!(
        statistics.utilisation() > 0.8 && statistics.utilisation() <= 1.0,
        "{statistics:?}"
    );
}

#[test]
fn dropping_a_trunk_ends_its_branches_only() {
    let decoder = Decoder::new(&config(), &parameters());
    let mut engine = LocalEngine::new(&decoder, sampling(1.0), 2).unwrap();
    let kept = engine.add_trunk(trunk_tokens(0)).unwrap();
    let dropped = engine.add_trunk(trunk_tokens(1)).unwrap();
    for tag in 0..6 {
        let trunk = if tag % 2 == 0 { kept } else { dropped };
        let key = Key::new(77).with(tag);
        engine
            .submit(BranchRequest {
                trunk,
                fork: 4,
                key,
                expected_tokens: 0,
                tag,
            })
            .unwrap();
    }
    let mut finished = engine.step().unwrap();
    finished.retain(|branch| branch.trunk == kept);
    engine.drop_trunk(dropped);
    while engine.pending() > 0 {
        finished.extend(engine.step().unwrap());
    }
    let mut tags: Vec<_> = finished.iter().map(|branch| branch.tag).collect();
    tags.sort_unstable();
    assert_eq!(tags, [0, 2, 4]);
    let again = BranchRequest {
        trunk: dropped,
        fork: 1,
        key: Key::new(0),
        expected_tokens: 0,
        tag: 9,
    };
    assert_eq!(
        engine.submit(again),
        Err(RolloutError::UnknownTrunk { trunk: dropped })
    );
    assert_eq!(engine.step(), Ok(Vec::new()));
}

#[test]
fn an_engine_that_lives_long_keeps_nothing_of_trunks_that_were_dropped() {
    let decoder = Decoder::new(&config(), &parameters());
    let mut engine = LocalEngine::new(&decoder, sampling(1.0), 2).unwrap();
    let mut last = None;
    for tag in 0..300 {
        let trunk = engine.add_trunk(trunk_tokens(tag % 4)).unwrap();
        assert!(last < Some(trunk), "ids are not reused");
        last = Some(trunk);
        engine
            .submit(BranchRequest {
                trunk,
                fork: 4,
                key: Key::new(77).with(tag),
                expected_tokens: 0,
                tag,
            })
            .unwrap();
        engine.step().unwrap();
        engine.drop_trunk(trunk);
        assert!(engine.trunks.is_empty() && engine.pending() == 0);
        assert_eq!(engine.pages_in_use(), 0);
    }
}

#[test]
fn impossible_requests_are_refused() {
    let decoder = Decoder::new(&config(), &parameters());
    assert!(LocalEngine::new(&decoder, sampling(1.0), 0).is_err());
    assert!(LocalEngine::new(&decoder, sampling(-1.0), 1).is_err());
    let mut engine = LocalEngine::new(&decoder, sampling(1.0), 1).unwrap();
    assert_eq!(engine.add_trunk(Vec::new()), Err(RolloutError::EmptyTrunk));
    assert_eq!(
        engine.add_trunk(vec![3, 97]),
        Err(RolloutError::UnknownToken {
            position: 1,
            token: 97,
            vocab_size: 97
        })
    );
    let trunk = engine.add_trunk(vec![3, 4]).unwrap();
    for fork in [0, 3] {
        assert_eq!(
            engine.submit(BranchRequest {
                trunk,
                fork,
                key: Key::new(0),
                expected_tokens: 0,
                tag: 0
            }),
            Err(RolloutError::ForkOutsideTrunk {
                fork,
                trunk_tokens: 2
            })
        );
    }
    assert_eq!(engine.pending(), 0);
}

#[test]
fn a_branch_may_reach_the_end_of_the_context_and_not_beyond() {
    let decoder = Decoder::new(&config(), &parameters());
    let mut engine = LocalEngine::new(&decoder, sampling(1.0), 1).unwrap();
    let trunk = engine.add_trunk(vec![7; 120]).unwrap();
    let request = |fork| BranchRequest {
        trunk,
        fork,
        key: Key::new(5),
        expected_tokens: 0,
        tag: 0,
    };
    // No token is one at which it could end early; the last of twelve is never an input.
    let settings = BranchSettings {
        sampling: Arc::new(Sampling {
            stop_tokens: Vec::new(),
            ..sampling(1.0)
        }),
        alternatives: 0,
    };
    assert_eq!(
        engine.submit_with(request(118), settings.clone()),
        Err(RolloutError::BeyondContext {
            fork: 118,
            max_new_tokens: 12,
            context_tokens: 128
        })
    );
    engine.submit_with(request(117), settings).unwrap();
    let mut finished = Vec::new();
    while engine.pending() > 0 {
        finished.extend(engine.step().unwrap());
    }
    assert_eq!(finished[0].tokens.len(), 12);
}

#[cfg(target_os = "linux")]
#[test]
fn an_engine_without_a_bound_takes_half_of_what_is_free_at_most() {
    let decoder = Decoder::new(&config(), &parameters());
    let engine = LocalEngine::new(&decoder, sampling(1.0), 1).unwrap();
    // What is free changes meanwhile, but does not double.
    let free = seele_policy::machine::free_memory().unwrap() as usize;
    assert!((1..free / decoder.page_bytes()).contains(&engine.most_pages));
}

#[test]
fn diverged_weights_stop_the_engine() {
    let mut broken = parameters();
    broken.values.fill(f32::NAN);
    let decoder = Decoder::new(&config(), &broken);
    let mut engine = LocalEngine::new(&decoder, sampling(1.0), 1).unwrap();
    let trunk = engine.add_trunk(vec![3, 4]).unwrap();
    engine
        .submit(BranchRequest {
            trunk,
            fork: 2,
            key: Key::new(0),
            expected_tokens: 0,
            tag: 6,
        })
        .unwrap();
    assert_eq!(
        engine.step(),
        Err(RolloutError::NonFiniteLogits {
            tag: 6,
            position: 0
        })
    );
}

#[test]
fn branches_with_settings_of_their_own_run_beside_each_other_and_can_be_watched_and_cancelled() {
    let decoder = Decoder::new(&config(), &parameters());
    let requests = requests();
    // What each request gives alone, in an engine of its settings.
    let settings = |index: usize| sampling([0.0, 0.7, 1.0][index % 3]);
    let alone: Vec<FinishedBranch> = (0..3)
        .map(|index| {
            let (mut finished, _) = run(&decoder, &settings(index), 1, &requests);
            finished.remove(&requests[index].2).unwrap()
        })
        .collect();
    let mut engine = LocalEngine::new(&decoder, sampling(1.0), 8).unwrap();
    for (index, &(problem, fork, tag)) in requests.iter().take(4).enumerate() {
        let trunk = engine.add_trunk(trunk_tokens(problem)).unwrap();
        let key = Key::new(77).with(tag);
        let request = BranchRequest {
            trunk,
            fork,
            key,
            expected_tokens: 0,
            tag,
        };
        let settings = BranchSettings {
            sampling: Arc::new(settings(index)),
            alternatives: 3,
        };
        engine.submit_with(request, settings).unwrap();
    }
    let mut seen: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
    let mut finished = Vec::new();
    while engine.pending() > 0 {
        finished.extend(engine.step().unwrap());
        for branch in engine.running() {
            assert_eq!(branch.alternatives.len(), branch.tokens.len());
            let before = seen.insert(branch.tag, branch.tokens.to_vec());
            let before = before.unwrap_or_default();
            assert_eq!(branch.tokens[..before.len()], before);
            assert_eq!(branch.tokens.len(), before.len() + 1);
        }
        engine.cancel(requests[3].2);
    }
    assert_eq!(finished.len(), 3, "the fourth was cancelled");
    for expected in alone {
        let branch = finished.iter().find(|branch| branch.tag == expected.tag);
        let branch = branch.unwrap();
        assert_eq!(branch.tokens, expected.tokens);
        assert_eq!(branch.logprobs, expected.logprobs);
        for (place, likeliest) in branch.alternatives.iter().enumerate() {
            assert_eq!(likeliest.len(), 3);
            assert!(likeliest.is_sorted_by(|a, b| a.logprob >= b.logprob));
            let drawn = likeliest.iter().find(|a| a.token == branch.tokens[place]);
            assert!(drawn.is_none_or(|a| a.logprob == branch.logprobs[place]));
            assert!(likeliest[0].logprob >= branch.logprobs[place]);
        }
    }
}
