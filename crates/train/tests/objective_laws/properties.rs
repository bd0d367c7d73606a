//! Laws that hold for every objective and every batch.

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use seele_train::advantage::{AdvantageConfig, AdvantageScope, Member, RewardTotals, advantages};
use seele_train::objective::presets::{PRESET_NAMES, preset};
use seele_train::objective::{
    BatchTotals, Branch, EntropyFilterScope, Evaluation, HintRole, ImitationTokens, KlKind,
    KlPlacement, Objective, ObjectiveConfig, ObjectiveError, PolicyLossConfig, Trunk, WhichHint,
};

use crate::support::{
    Batch, GROUP_ESTIMATORS, SEQUENCE_RATIO, SOLUTION, TOKEN_RATIO, TrunkCase, batch, config, near,
    terms_near,
};

fn any_config_and_batch() -> impl Strategy<Value = (ObjectiveConfig, Batch)> {
    prop_oneof![
        3 => (config(TOKEN_RATIO), batch(0..4)),
        1 => (config(SEQUENCE_RATIO), batch(0..4).prop_map(Batch::without_traces)),
    ]
}

fn cases(count: u32) -> ProptestConfig {
    ProptestConfig {
        cases: count,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(1),
        ..ProptestConfig::default()
    }
}

/// Trunks in another order, and the branches of each reversed.
fn reordered(batch: &Batch) -> Batch {
    let mut trunks: Vec<TrunkCase> = batch.trunks.iter().rev().cloned().collect();
    for case in &mut trunks {
        case.trunk.branches.reverse();
        case.branches.reverse();
    }
    Batch { trunks }
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn pieces_add_up_and_leave_every_gradient_bit_for_bit(
        (config, batch) in any_config_and_batch(),
        cuts in prop::collection::vec(1..6usize, 60),
    ) {
        let (objective, whole) = batch.evaluate(&config);
        let (logprobs, entropies) = (batch.logprobs(), batch.entropies());
        let mut sum = Evaluation::default();
        let mut first = 0;
        for cut in cuts {
            let end = (first + cut).min(logprobs.len());
            let part = objective
                .evaluate(first, &logprobs[first..end], Some(&entropies[first..end]))
                .unwrap();
            sum.loss += part.loss;
            sum.terms += part.terms;
            sum.statistics += part.statistics;
            sum.grad_logprobs.extend(part.grad_logprobs);
            sum.grad_entropies.extend(part.grad_entropies);
            first = end;
        }
        let rest = objective.evaluate(first, &logprobs[first..], Some(&entropies[first..])).unwrap();
        sum.loss += rest.loss;
        sum.terms += rest.terms;
        sum.statistics += rest.statistics;
        sum.grad_logprobs.extend(rest.grad_logprobs);
        sum.grad_entropies.extend(rest.grad_entropies);

        prop_assert_eq!(&sum.grad_logprobs, &whole.grad_logprobs);
        prop_assert_eq!(&sum.grad_entropies, &whole.grad_entropies);
        prop_assert!(terms_near(&sum.terms, &whole.terms));
        prop_assert!(near(sum.loss, whole.loss));
        prop_assert_eq!(sum.statistics.ratio_tokens, whole.statistics.ratio_tokens);
        prop_assert_eq!(sum.statistics.clipped_tokens, whole.statistics.clipped_tokens);
    }

    #[test]
    fn order_of_trunks_and_branches_does_not_matter((mut config, batch) in any_config_and_batch()) {
        // Over the batch, sequences with the same hint have equal entropies, and order breaks the tie.
        config.entropy_filter.scope = EntropyFilterScope::Sequence;
        let (objective, straight) = batch.evaluate(&config);
        let (mirrored, reversed) = reordered(&batch).evaluate(&config);
        prop_assert!(terms_near(&straight.terms, &reversed.terms));
        for (trunk, case) in batch.trunks.iter().enumerate() {
            let other_trunk = batch.trunks.len() - 1 - trunk;
            let pair = |a: std::ops::Range<usize>, b: std::ops::Range<usize>| {
                a.zip(b).all(|(a, b)| near(straight.grad_logprobs[a], reversed.grad_logprobs[b]))
            };
            prop_assert!(pair(objective.solution_slots(trunk), mirrored.solution_slots(other_trunk)));
            for branch in 0..case.branches.len() {
                let other = case.branches.len() - 1 - branch;
                prop_assert!(pair(
                    objective.branch_slots(trunk, branch),
                    mirrored.branch_slots(other_trunk, other),
                ));
            }
        }
    }

    #[test]
    fn solution_tokens_behind_every_hint_change_nothing(
        (mut config, batch) in any_config_and_batch(),
        padding in 1..4usize,
    ) {
        config.imitation.tokens = ImitationTokens::Hint;
        let mut padded = batch.clone();
        for case in &mut padded.trunks {
            case.trunk.solution_tokens += padding;
            // Not even a number: nothing may read them.
            case.solution.logprobs.extend(vec![f64::NAN; padding]);
            case.solution.entropies.extend(vec![f64::NAN; padding]);
        }
        let (plain_objective, plain) = batch.evaluate(&config);
        let (objective, found) = padded.evaluate(&config);
        prop_assert_eq!(plain.terms, found.terms);
        for (trunk, case) in batch.trunks.iter().enumerate() {
            let slots = objective.solution_slots(trunk);
            let padding_slots = slots.start + SOLUTION..slots.end;
            prop_assert!(found.grad_logprobs[padding_slots].iter().all(|g| *g == 0.0));
            for branch in 0..case.branches.len() {
                prop_assert_eq!(
                    &found.grad_logprobs[objective.branch_slots(trunk, branch)],
                    &plain.grad_logprobs[plain_objective.branch_slots(trunk, branch)]
                );
            }
        }
    }

    #[test]
    fn ranks_with_summed_totals_add_up_to_the_whole_batch(
        (mut config, batch) in any_config_and_batch(),
    ) {
        config.entropy_filter.scope = EntropyFilterScope::Sequence;
        let (_, whole) = batch.evaluate(&config);
        let middle = batch.trunks.len() / 2;
        let ranks = [&batch.trunks[..middle], &batch.trunks[middle..]]
            .map(|trunks| Batch { trunks: trunks.to_vec() });
        let mut sums = [0.0; BatchTotals::LENGTH];
        for rank in &ranks {
            let totals = BatchTotals::of(&config, &rank.trunks()).unwrap().to_array();
            sums.iter_mut().zip(totals).for_each(|(sum, total)| *sum += total);
        }
        let mut found = Evaluation::default();
        for rank in &ranks {
            let totals = BatchTotals::from_array(sums);
            let mut objective =
                Objective::with_totals(config.clone(), rank.trunks(), totals).unwrap();
            let (logprobs, entropies) = (rank.logprobs(), rank.entropies());
            objective.prepare(&logprobs, Some(&entropies)).unwrap();
            let part = objective.evaluate(0, &logprobs, Some(&entropies)).unwrap();
            found.terms += part.terms;
            found.grad_logprobs.extend(part.grad_logprobs);
        }
        prop_assert!(terms_near(&found.terms, &whole.terms));
        prop_assert!(
            found.grad_logprobs.iter().zip(&whole.grad_logprobs).all(|(a, b)| near(*a, *b))
        );
    }

    #[test]
    fn a_shared_hint_token_has_the_sum_of_its_sequences(
        (mut config, batch) in any_config_and_batch(),
    ) {
        // Apart, each sequence has its own trunk, where `solution` and `longest` mean something else.
        config.imitation.tokens = ImitationTokens::Hint;
        config.imitation.which_hint = WhichHint::Own;
        let mut apart = Batch { trunks: Vec::new() };
        for case in &batch.trunks {
            for (branch, current) in case.trunk.branches.iter().zip(&case.branches) {
                apart.trunks.push(TrunkCase {
                    trunk: Trunk { branches: vec![branch.clone()], ..case.trunk.clone() },
                    solution: case.solution.clone(),
                    branches: vec![current.clone()],
                });
            }
        }
        let (objective, shared) = batch.evaluate(&config);
        let (apart_objective, separate) = apart.evaluate(&config);
        prop_assert!(terms_near(&shared.terms, &separate.terms));
        prop_assert_eq!(shared.statistics.ratio_tokens, separate.statistics.ratio_tokens);
        prop_assert_eq!(shared.statistics.clipped_tokens, separate.statistics.clipped_tokens);
        let mut next = 0;
        for (trunk, case) in batch.trunks.iter().enumerate() {
            let mut sums = [0.0; SOLUTION];
            for branch in 0..case.branches.len() {
                let slots = apart_objective.solution_slots(next);
                sums.iter_mut().zip(slots).for_each(|(s, slot)| *s += separate.grad_logprobs[slot]);
                let own = objective.branch_slots(trunk, branch);
                let other = apart_objective.branch_slots(next, 0);
                let equal = own.zip(other).all(|(a, b)| {
                    near(shared.grad_logprobs[a], separate.grad_logprobs[b])
                });
                prop_assert!(equal);
                next += 1;
            }
            let slots = objective.solution_slots(trunk);
            prop_assert!(slots.zip(sums).all(|(slot, sum)| near(shared.grad_logprobs[slot], sum)));
        }
    }

    #[test]
    fn equal_rewards_give_no_policy_gradient(
        (mut config, mut batch) in any_config_and_batch(),
        estimator in prop::sample::select(GROUP_ESTIMATORS.to_vec()),
        reward in -1.0..1.0f64,
    ) {
        config.advantage.kind = estimator;
        config.kl.coef = 0.0;
        config.imitation.coef = 0.0;
        for case in &mut batch.trunks {
            case.trunk.branches.iter_mut().for_each(|branch| branch.reward = reward);
        }
        let (objective, found) = batch.evaluate(&config);
        prop_assert_eq!(found.terms.policy, 0.0);
        prop_assert!(found.grad_logprobs.iter().all(|gradient| *gradient == 0.0));
        if config.entropy.coef == 0.0 {
            for (trunk, case) in batch.trunks.iter().enumerate() {
                prop_assert_eq!(objective.trained_solution_tokens(trunk), 0);
                for branch in 0..case.branches.len() {
                    prop_assert!(!objective.branch_is_trained(trunk, branch));
                }
            }
        }
    }

    #[test]
    fn what_is_called_untrained_has_no_gradient((config, batch) in any_config_and_batch()) {
        let (objective, found) = batch.evaluate(&config);
        for (trunk, case) in batch.trunks.iter().enumerate() {
            let slots = objective.solution_slots(trunk);
            let untrained = slots.start + objective.trained_solution_tokens(trunk)..slots.end;
            prop_assert!(found.grad_logprobs[untrained].iter().all(|g| *g == 0.0));
            for branch in 0..case.branches.len() {
                let slots = objective.branch_slots(trunk, branch);
                if !objective.branch_is_trained(trunk, branch) {
                    prop_assert!(found.grad_logprobs[slots].iter().all(|g| *g == 0.0));
                }
            }
        }
    }

    #[test]
    fn group_advantages_sum_to_zero(
        estimator in prop::sample::select(GROUP_ESTIMATORS.to_vec()),
        by_round in any::<bool>(),
        rewards in prop::collection::vec((0..3u64, 0..2u32, -2.0..2.0f64), 0..20),
    ) {
        let config = AdvantageConfig {
            kind: estimator,
            scope: if by_round { AdvantageScope::Round } else { AdvantageScope::Problem },
            ..AdvantageConfig::default()
        };
        let members: Vec<Member> = rewards
            .iter()
            .map(|&(group, round, reward)| Member {
                group, round, reward, ..Member::default()
            })
            .collect();
        let values = advantages(&config, &members, RewardTotals::of(&config, &members));
        for group in 0..3 {
            let sum: f64 = members
                .iter()
                .zip(&values)
                .filter(|(member, _)| member.group == group)
                .map(|(_, advantage)| advantage.generated)
                .sum();
            prop_assert!(sum.abs() < 1e-9, "{estimator:?}: {sum}");
        }
    }

    #[test]
    fn hints_off_every_hinted_method_is_its_group_relative_core(batch in batch(1..4)) {
        let batch = batch.without_hints().without_traces();
        let at = |name: &str| preset(name).unwrap().with_longest_response(8);

        // UFT: GRPO with its own clip and an entropy bonus.
        let uft = at("uft");
        let grpo = ObjectiveConfig {
            policy_loss: uft.policy_loss,
            entropy: uft.entropy,
            ..at("grpo")
        };
        prop_assert_eq!(batch.evaluate(&uft).1, batch.evaluate(&grpo).1);

        // SEELE: Dr.GRPO with a KL term. Prefix-RFT and LUFFY: Dr.GRPO with another normaliser.
        for name in ["seele", "seele-bayes", "prefix-rft", "luffy"] {
            let hinted = at(name);
            let plain = ObjectiveConfig {
                policy_loss: PolicyLossConfig {
                    clip_low: hinted.policy_loss.clip_low,
                    clip_high: hinted.policy_loss.clip_high,
                    dual_clip: hinted.policy_loss.dual_clip,
                    ..at("dr-grpo").policy_loss
                },
                aggregation: hinted.aggregation,
                kl: hinted.kl,
                entropy: hinted.entropy,
                ..at("dr-grpo")
            };
            let (_, found) = batch.evaluate(&hinted);
            let (_, expected) = batch.evaluate(&plain);
            prop_assert!(terms_near(&found.terms, &expected.terms), "{name}");
            prop_assert!(
                found.grad_logprobs.iter().zip(&expected.grad_logprobs).all(|(a, b)| near(*a, *b)),
                "{name}"
            );
        }
    }

    #[test]
    fn a_kl_in_the_reward_equals_rewards_lowered_by_hand(batch in batch(1..4)) {
        let mut in_reward = preset("grpo").unwrap();
        in_reward.kl.placement = KlPlacement::Reward;
        in_reward.kl.kind = KlKind::K1;
        in_reward.kl.clamp = false;
        in_reward.kl.coef = 0.1;
        let mut plain = in_reward.clone();
        plain.kl.coef = 0.0;
        let mut lowered = batch.clone();
        for case in &mut lowered.trunks {
            for branch in case.trunk.branches.iter_mut().filter(|branch| !branch.trace) {
                let pairs = branch.old_logprobs.iter().zip(&branch.ref_logprobs);
                branch.reward -= 0.1 * pairs.map(|(old, reference)| old - reference).sum::<f64>();
            }
        }
        let (_, found) = batch.evaluate(&in_reward);
        let (_, expected) = lowered.evaluate(&plain);
        prop_assert!(near(found.terms.policy, expected.terms.policy));
        prop_assert_eq!(found.terms.kl, 0.0);
    }
}

#[test]
fn empty_batches_and_empty_sequences_cost_nothing() {
    let empty = Trunk {
        branches: vec![Default::default(), Default::default()],
        ..Trunk::default()
    };
    for name in PRESET_NAMES {
        for trunks in [vec![], vec![Trunk::default()], vec![empty.clone(); 2]] {
            let config = preset(name).unwrap().with_longest_response(8);
            let mut objective = Objective::new(config, trunks).unwrap();
            let nothing: [f32; 0] = [];
            objective.prepare(&nothing, Some(&nothing)).unwrap();
            let found = objective.evaluate(0, &nothing, Some(&nothing)).unwrap();
            assert_eq!(found, Evaluation::default(), "{name}");
        }
    }
}

#[test]
fn truncated_rollouts_leave_the_loss_but_not_the_baseline() {
    let branch = |reward, truncated| Branch {
        hint_tokens: 1,
        reward,
        truncated,
        tokens: 1,
        old_logprobs: vec![-1.0],
        ref_logprobs: vec![-1.0],
        ..Default::default()
    };
    let trunk = Trunk {
        solution_tokens: 2,
        branches: vec![branch(1.0, false), branch(0.0, true)],
        ..Trunk::default()
    };
    let mut config = preset("seele").unwrap().with_longest_response(4);
    config.overlong.mask_truncated = true;
    let objective = Objective::new(config, vec![trunk]).unwrap();
    let found = objective.evaluate(0, &[-1.0; 4], None).unwrap();
    // Both hints are imitated; the first rollout has advantage 0.5 over 2 sequences of 4 tokens.
    assert_eq!(found.grad_logprobs, [-0.001, 0.0, -0.5 / 8.0, 0.0]);
    assert!(!objective.branch_is_trained(0, 1));
    assert_eq!(objective.token_advantages(0, 0), [0.0, 0.5]);
    assert_eq!(objective.token_advantages(0, 1), [0.0, 0.0]);
}

#[test]
fn imitation_can_follow_the_longest_or_the_last_hint() {
    let branch = |round, hint_tokens| Branch {
        round,
        hint_tokens,
        ..Default::default()
    };
    let trunk = Trunk {
        solution_tokens: 4,
        branches: vec![branch(0, 3), branch(1, 1)],
        ..Trunk::default()
    };
    for (which, expected) in [
        (WhichHint::Own, [-0.5, -0.25, -0.25, 0.0]),
        (
            WhichHint::Longest,
            [-1.0 / 3.0, -1.0 / 3.0, -1.0 / 3.0, 0.0],
        ),
        (WhichHint::LastRound, [-1.0, 0.0, 0.0, 0.0]),
    ] {
        let mut config = ObjectiveConfig::default().with_longest_response(4);
        config.imitation.coef = 1.0;
        config.imitation.which_hint = which;
        let objective = Objective::new(config, vec![trunk.clone()]).unwrap();
        let found = objective.evaluate(0, &[-1.0; 4], None).unwrap();
        assert_eq!(found.grad_logprobs, expected, "{which:?}");
    }
}

#[test]
fn statistics_are_means_over_what_was_generated() {
    let config = ObjectiveConfig::default().with_longest_response(4);
    let branch = |reward| Branch {
        reward,
        tokens: 2,
        old_logprobs: vec![-1.0, -1.0],
        ..Default::default()
    };
    let trunk = Trunk {
        branches: vec![branch(1.0), branch(0.0)],
        ..Trunk::default()
    };
    let objective = Objective::new(config, vec![trunk]).unwrap();
    let up = -1.0 + 1.5f64.ln();
    let found = objective
        .evaluate(0, &[up, -1.0, up, -1.0], Some(&[1.0, 2.0, 3.0, 6.0]))
        .unwrap();
    // Ratio 1.5 is clipped where the advantage is positive, not where it is negative.
    assert_eq!(found.statistics.clip_fraction(), Some(0.25));
    assert!((found.statistics.mean_ratio().unwrap() - 1.25).abs() < 1e-12);
    assert_eq!(found.statistics.mean_entropy(), Some(3.0));
    assert!((found.statistics.max_abs_log_ratio - 1.5f64.ln()).abs() < 1e-12);
    assert!(found.grad_entropies.is_empty());
}

/// What goes wrong says where.
#[test]
fn bad_input_is_refused_with_its_place() {
    let branch = Branch {
        tokens: 2,
        old_logprobs: vec![-1.0; 2],
        ref_logprobs: vec![-1.0; 2],
        ..Default::default()
    };
    let trunk = |change: &dyn Fn(&mut Branch)| {
        let mut branch = branch.clone();
        change(&mut branch);
        Trunk {
            solution_tokens: 1,
            branches: vec![Default::default(), branch],
            ..Trunk::default()
        }
    };
    let config = |name: &str| preset(name).unwrap().with_longest_response(8);
    let refuse = |name: &str, change: &dyn Fn(&mut Branch)| {
        Objective::new(config(name), vec![trunk(change)]).unwrap_err()
    };
    let short = refuse("grpo", &|branch| branch.old_logprobs = vec![-1.0]);
    assert_eq!(
        short.to_string(),
        "trunk 0, branch 1: 1 old log-probs for 2 tokens"
    );
    assert!(matches!(
        refuse("grpo", &|branch| branch.ref_logprobs.clear()),
        ObjectiveError::Length {
            branch: Some(1),
            ..
        }
    ));
    assert!(matches!(
        refuse("dr-grpo", &|branch| branch.hint_tokens = 2),
        ObjectiveError::HintTooLong {
            solution_tokens: 1,
            ..
        }
    ));
    assert!(matches!(
        refuse("dr-grpo", &|branch| branch.reward = f64::NAN),
        ObjectiveError::NotFinite { what: "reward", .. }
    ));
    assert!(matches!(
        refuse("prefix-rft", &|branch| branch.hint_tokens = 1),
        ObjectiveError::Length { branch: None, .. }
    ));
    assert!(matches!(
        refuse("gspo", &|branch| branch.trace = true),
        ObjectiveError::TraceWithSequenceRatio {
            trunk: 0,
            branch: 1
        }
    ));

    let gspo = Objective::new(config("gspo"), vec![trunk(&|_| ())]).unwrap();
    assert_eq!(
        gspo.evaluate(0, &[-1.0; 3], None),
        Err(ObjectiveError::NotPrepared)
    );
    let uft = Objective::new(config("uft"), vec![trunk(&|_| ())]).unwrap();
    assert_eq!(
        uft.evaluate(0, &[-1.0; 3], None),
        Err(ObjectiveError::EntropiesMissing)
    );
    let grpo = Objective::new(config("grpo"), vec![trunk(&|_| ())]).unwrap();
    assert!(matches!(
        grpo.evaluate(2, &[-1.0; 2], None),
        Err(ObjectiveError::Slots {
            first: 2,
            found: 2,
            slots: 3,
            ..
        })
    ));
    assert!(matches!(
        grpo.evaluate(0, &[-1.0, f64::NEG_INFINITY, -1.0], None),
        Err(ObjectiveError::NotFinite {
            trunk: 0,
            branch: Some(1),
            ..
        })
    ));
}

#[test]
fn a_continued_trace_trains_its_hint_like_a_trace_and_the_rest_like_a_rollout() {
    let config = ObjectiveConfig {
        kl: Default::default(),
        entropy: Default::default(),
        ..preset("luffy").unwrap().with_longest_response(4)
    };
    let rollout = |reward| Branch {
        reward,
        tokens: 1,
        old_logprobs: vec![-1.0],
        ..Branch::default()
    };
    let trunk = |branch: Branch| Trunk {
        solution_tokens: 2,
        branches: vec![rollout(0.0), branch],
        ..Trunk::default()
    };
    let continued = Branch {
        hint_tokens: 2,
        hint_role: HintRole::OffPolicy,
        ..rollout(1.0)
    };
    let objective = Objective::new(config.clone(), vec![trunk(continued.clone())]).unwrap();
    // Slots: two solution tokens, the plain rollout's, the continuation's.
    let found = objective
        .evaluate(0, &[-0.3, -2.0, -1.0, -1.5], None)
        .unwrap();

    let trace = Branch {
        trace: true,
        tokens: 2,
        old_logprobs: Vec::new(),
        ..rollout(1.0)
    };
    let whole = Objective::new(config.clone(), vec![trunk(trace)]).unwrap();
    let traced = whole.evaluate(3, &[-0.3, -2.0], None).unwrap();
    assert_eq!(found.grad_logprobs[..2], traced.grad_logprobs);
    assert!(found.grad_logprobs[..2].iter().all(|&slope| slope < 0.0));
    // Advantage 0.5, ratio e^-0.5, longest response 4.
    assert!(near(found.grad_logprobs[3], -0.5 * (-0.5f64).exp() / 4.0));

    // As context, the same hint is left alone.
    let context = Branch {
        hint_role: HintRole::Context,
        ..continued.clone()
    };
    let objective = Objective::new(config, vec![trunk(context)]).unwrap();
    let found = objective
        .evaluate(0, &[-0.3, -2.0, -1.0, -1.5], None)
        .unwrap();
    assert_eq!(found.grad_logprobs[..2], [0.0, 0.0]);

    // Apart from the group, the trace is imitated and the continuation is not trained.
    let config = ObjectiveConfig {
        entropy: Default::default(),
        ..preset("rl-with-sft-loss").unwrap().with_longest_response(4)
    };
    let objective = Objective::new(config, vec![trunk(continued)]).unwrap();
    let found = objective
        .evaluate(0, &[-0.3, -2.0, -1.0, -1.5], None)
        .unwrap();
    assert_eq!(found.grad_logprobs, [-0.5, -0.5, 0.0, 0.0]);
}

#[test]
fn roles_choose_among_what_the_configuration_switches_on() {
    let mut config = preset("uft").unwrap().with_longest_response(4);
    config.policy_loss.on_hint = true;
    config.entropy = Default::default();
    let slopes = |role| {
        let branch = |reward, hint_role| Branch {
            hint_tokens: 1,
            hint_role,
            reward,
            tokens: 1,
            old_logprobs: vec![-1.0],
            ref_logprobs: vec![-1.0],
            ..Branch::default()
        };
        let trunk = Trunk {
            solution_tokens: 1,
            old_logprobs: vec![-0.5],
            branches: vec![branch(1.0, role), branch(0.0, HintRole::Context)],
            ..Trunk::default()
        };
        let objective = Objective::new(config.clone(), vec![trunk]).unwrap();
        objective
            .evaluate(0, &[-0.5, -1.0, -1.0], None)
            .unwrap()
            .grad_logprobs[0]
    };
    let (imitated, policy) = (slopes(HintRole::Imitated), slopes(HintRole::Policy));
    assert_eq!(slopes(HintRole::Context), 0.0);
    assert_eq!(imitated, -0.001);
    assert!(policy < -0.1);
    assert!(near(slopes(HintRole::Configured), imitated + policy));
}
