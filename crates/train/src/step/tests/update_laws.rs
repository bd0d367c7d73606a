//! Laws of the objective, held to on the path that training takes: groups through the decoder to weights.

use super::*;
use crate::group::micro_batches;

/// With so large an epsilon, AdamW's first step is proportional to the gradient, as no sign is drawn from
/// rounding errors.
const LINEAR: [&str; 5] = [
    "rollout.rollouts_per_problem=8",
    "optimizer.epsilon=1e4",
    "optimizer.weight_decay=0",
    "optimizer.max_grad_norm=off",
    "model.compute=f32",
];
const LEARNING_RATE: f64 = 1e4;

/// The change of the weights by one update on `groups` in micro-batches of `tokens`, which is minus the
/// gradient, and the loss.
fn change(bench: &Bench, groups: &[Group], tokens: usize) -> (Vec<f32>, f64) {
    let mut run = bench.run(&PLAIN);
    let before = run.learner.parameters.values.clone();
    let budget = Budget {
        tokens_per_microbatch: tokens,
        temperature: 1.0,
    };
    let objective = &bench.recipe.objective;
    let report = update(
        &mut run.learner,
        objective,
        groups,
        0,
        budget,
        LEARNING_RATE,
    )
    .unwrap();
    let after = &run.learner.parameters.values;
    let change = after
        .iter()
        .zip(&before)
        .map(|(after, before)| after - before);
    (change.collect(), report.loss)
}

fn bench(overrides: &[&str]) -> Bench {
    Bench::new(&[&LINEAR, overrides].concat())
}

/// Groups of one sampled step, scored as training does.
fn groups(bench: &Bench) -> Vec<Group> {
    let mut run = bench.run(&PLAIN);
    let mut groups = sample(&mut run, 1).groups;
    let (objective, budget) = (&bench.recipe.objective, run.budget());
    score_hints(&run.learner.decoder, objective, &mut groups, budget);
    if let Some(reference) = &run.reference {
        score_reference(reference, &mut groups, budget);
    }
    groups
}

fn assert_near(a: &[f32], b: &[f32], what: &str) {
    let largest = a.iter().fold(0.0f32, |most, x| most.max(x.abs()));
    assert!(largest > 0.0, "{what}: nothing has changed");
    for (a, b) in a.iter().zip(b) {
        assert!(
            (a - b).abs() <= 2e-3 * largest,
            "{what}: {a} and {b}, largest {largest}"
        );
    }
}

const METHODS: [&str; 9] = [
    "method=seele",
    "method=grpo",
    "method=gspo",
    "method=rloo",
    "method=luffy",
    "method=uft",
    "method=prefix-rft",
    "method=rl-with-sft-loss",
    "method=sft",
];

#[test]
fn an_update_does_not_depend_on_micro_batches() {
    for method in METHODS {
        let bench = bench(&[method]);
        let groups = groups(&bench);
        assert!(micro_batches(&groups, 1).len() >= 4 && micro_batches(&groups, 100_000).len() == 1);
        let (whole, loss) = change(&bench, &groups, 100_000);
        let (apart, loss_apart) = change(&bench, &groups, 1);
        assert_near(&whole, &apart, method);
        assert!(
            (loss - loss_apart).abs() <= 1e-5 * (1.0 + loss.abs()),
            "{method}"
        );
    }
}

#[test]
fn an_update_does_not_depend_on_the_order_of_problems_and_rollouts() {
    for method in METHODS {
        let bench = bench(&[method]);
        let groups = groups(&bench);
        // Rows of scores follow the rollouts, so groups are reordered before they are scored.
        let mut reordered: Vec<Group> = groups.iter().rev().cloned().collect();
        for group in &mut reordered {
            group.rollouts.reverse();
        }
        let mut run = bench.run(&PLAIN);
        let (objective, budget) = (&bench.recipe.objective, run.budget());
        score_hints(&run.learner.decoder, objective, &mut reordered, budget);
        if let Some(reference) = run.reference.take() {
            score_reference(&reference, &mut reordered, budget);
        }
        let (straight, _) = change(&bench, &groups, 100_000);
        let (mirrored, _) = change(&bench, &reordered, 100_000);
        assert_near(&straight, &mirrored, method);
    }
}

#[test]
fn equal_rewards_leave_the_policy_as_it_is_bit_for_bit() {
    for method in [
        "method=dr-grpo",
        "method=grpo",
        "method=gspo",
        "method=rloo",
        "method=seele",
        "method=luffy",
    ] {
        let plain = ["kl.coef=0", "imitation.coef=0", "entropy.coef=0"];
        let bench = bench(&[&[method], &plain[..]].concat());
        let mut groups = groups(&bench);
        for rollout in groups.iter_mut().flat_map(|group| &mut group.rollouts) {
            rollout.reward = Some(1.0);
        }
        let (change, loss) = change(&bench, &groups, 100_000);
        assert!(change.iter().all(|change| *change == 0.0), "{method}");
        assert_eq!(loss, 0.0, "{method}");
    }
}

#[test]
fn a_hinted_method_without_its_hints_trains_as_its_group_relative_core_bit_for_bit() {
    let trained = |overrides: &[&str]| {
        let bench = Bench::new(&[&["rollout.rollouts_per_problem=8"], overrides].concat());
        let mut run = bench.run(&PLAIN);
        for step in 1..=2 {
            run.step(step, &mut ()).unwrap();
        }
        run.learner.parameters.values
    };
    let pairs: [(&[&str], &[&str]); 4] = [
        (
            &["method=uft", "hint.schedule=none"],
            &[
                "method=grpo",
                "policy_loss.dual_clip=off",
                "entropy.coef=0.001",
            ],
        ),
        (
            &["method=seele", "hint.schedule=none"],
            &[
                "method=dr-grpo",
                "policy_loss.dual_clip=off",
                "kl.coef=0.001",
            ],
        ),
        (
            &["method=luffy", "hint.schedule=none"],
            &[
                "method=dr-grpo",
                "policy_loss.dual_clip=off",
                "policy_loss.clip_low=off",
                "policy_loss.clip_high=off",
                "aggregation.mode=sum-over-len",
                "entropy.coef=0.001",
            ],
        ),
        (
            &[
                "method=prefix-rft",
                "hint.schedule=none",
                "policy_loss.on_hint=false",
                "entropy_filter.drop=0",
            ],
            &["method=dr-grpo", "aggregation.mode=sum-over-len"],
        ),
    ];
    for (hinted, core) in pairs {
        assert!(trained(hinted) == trained(core), "{hinted:?}");
    }
    assert!(trained(&["method=seele"]) != trained(pairs[1].1));
}

#[test]
fn fine_tuning_on_solutions_samples_nothing_and_lowers_their_loss() {
    let bench = Bench::new(&["method=sft", "learning_rate.peak=3e-3"]);
    let never = Drawn {
        varies: |_| unreachable!("nothing is graded"),
        ..PLAIN
    };
    let mut run = bench.run(&never);
    let mut losses = Vec::new();
    for step in 1..=12 {
        let metrics = run.step(step, &mut ()).unwrap();
        assert_eq!((metrics.rollouts, metrics.tokens_rollout), (0, 0));
        assert_eq!(metrics.policy.imitation, Some(metrics.policy.loss));
        losses.push(metrics.policy.loss);
    }
    // 24 problems, 4 a step: each is met twice, in an order of its own each time.
    assert!(
        losses[6..].iter().sum::<f64>() < 0.9 * losses[..6].iter().sum::<f64>(),
        "{losses:?}"
    );
}
