//! Contracts of visits, controllers and memories, for all schedules.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use seele_hint::length::Cut;
use seele_hint::{ForkResult, HintConfig, HintController, HintUse, Memory, Visit, VisitContext};
use seele_random::Key;

const PROBLEMS: u64 = 6;

fn context(step: u64) -> VisitContext {
    VisitContext {
        seed: 9,
        step,
        total_steps: 12,
        epoch: step / 2,
    }
}

fn tokens(problem: u64) -> usize {
    40 + 13 * problem as usize
}

/// Results that depend on problem, step, round and fork only.
fn advance(visit: &mut Visit) -> bool {
    let Some(plan) = visit.next_round() else {
        return false;
    };
    let state = visit.state();
    let key = Key::new(1)
        .with(state.problem())
        .with(state.context().step)
        .with(state.rounds().len() as u64);
    let results = plan.forks.iter().enumerate().map(|(index, fork)| {
        let share = (fork.hint_tokens as f64 / state.solution().tokens() as f64
            + key.with(index as u64).uniform()
            - 0.5)
            .clamp(0.0, 1.0);
        ForkResult {
            successes: (share * f64::from(fork.rollouts)) as u32,
            rollouts: fork.rollouts,
        }
    });
    let results: Vec<_> = results.collect();
    visit.observe(&results).unwrap();
    true
}

fn start(controller: &HintController, step: u64) -> Vec<Visit> {
    (0..PROBLEMS)
        .map(|problem| {
            controller
                .start_visit(problem, tokens(problem), &[7, 19, 30], context(step))
                .unwrap()
        })
        .collect()
}

/// One step, problem after problem.
fn step(controller: &mut HintController, step: u64) -> Vec<Visit> {
    let mut visits = start(controller, step);
    for visit in &mut visits {
        while advance(visit) {}
    }
    controller.finish_step(visits.clone());
    visits
}

fn plans(visits: &[Visit]) -> Vec<String> {
    visits
        .iter()
        .map(|visit| format!("{:?}", visit.state().rounds()))
        .collect()
}

fn every_schedule() -> impl Iterator<Item = HintController> {
    HintConfig::NAMES
        .iter()
        .map(|name| HintController::new(&HintConfig::preset(name).unwrap()).unwrap())
}

#[test]
fn visits_may_advance_in_any_order() {
    for controller in every_schedule() {
        let (mut one, mut other) = (controller.clone(), controller);
        for number in 0..6 {
            let expected = step(&mut one, number);
            // Last problem first, a round at a time.
            let mut visits = start(&other, number);
            while visits
                .iter_mut()
                .rev()
                .map(advance)
                .fold(false, |any, more| any | more)
            {}
            assert_eq!(plans(&visits), plans(&expected));
            other.finish_step(visits);
            assert_eq!(one.memory(), other.memory());
        }
    }
}

#[test]
fn a_restored_memory_continues_exactly() {
    for mut controller in every_schedule() {
        for number in 0..3 {
            step(&mut controller, number);
        }
        let text = serde_json::to_string(controller.memory()).unwrap();
        let name = controller.memory().schedule().to_string();
        let mut restored = HintController::new(&HintConfig::preset(&name).unwrap()).unwrap();
        restored
            .restore(serde_json::from_str(&text).unwrap())
            .unwrap();
        for number in 3..6 {
            assert_eq!(
                plans(&step(&mut controller, number)),
                plans(&step(&mut restored, number)),
                "{name}"
            );
        }
        assert_eq!(controller.memory(), restored.memory());
    }
}

#[test]
fn a_memory_of_another_schedule_or_format_is_refused() {
    let mut seele = HintController::new(&HintConfig::default()).unwrap();
    let message = seele.restore(Memory::new("luffy")).unwrap_err().to_string();
    assert!(
        message.contains("`luffy`") && message.contains("`seele`"),
        "{message}"
    );
    // Another format need not have the same fields; what is said is the format all the same.
    let text = serde_json::to_string(seele.memory())
        .unwrap()
        .replace("memory/2", "memory/9")
        .replace("\"problems\"", "\"tasks\"");
    let message = serde_json::from_str::<Memory>(&text)
        .unwrap_err()
        .to_string();
    assert!(message.contains("`seele-hint-memory/9`"), "{message}");
}

#[test]
fn a_damaged_memory_is_refused() {
    let mut bayes = HintController::new(&HintConfig::preset("seele-bayes").unwrap()).unwrap();
    step(&mut bayes, 0);
    let mut memory = serde_json::to_value(bayes.memory()).unwrap();
    assert!(serde_json::from_value::<Memory>(memory.clone()).is_ok());
    memory["problems"]["0"]["belief"] = "AAAA".into();
    assert!(
        serde_json::from_value::<Memory>(memory)
            .unwrap_err()
            .to_string()
            .contains("belief")
    );
    let mut memory = serde_json::to_value(bayes.memory()).unwrap();
    memory["population"]["mass"][0] = (-1.0).into();
    assert!(
        serde_json::from_value::<Memory>(memory)
            .unwrap_err()
            .to_string()
            .contains("population")
    );
    let mut seele = HintController::new(&HintConfig::default()).unwrap();
    step(&mut seele, 0);
    let mut memory = serde_json::to_value(seele.memory()).unwrap();
    memory["problems"]["0"]["rate"] = 7.0.into();
    let read = serde_json::from_value::<Memory>(memory).unwrap();
    assert!(
        seele
            .restore(read)
            .unwrap_err()
            .to_string()
            .contains("problem 0")
    );
}

#[test]
fn a_plan_is_repeated_until_it_is_answered_and_bad_answers_change_nothing() {
    let controller = HintController::new(&HintConfig::default()).unwrap();
    let mut visit = controller.start_visit(5, 100, &[], context(0)).unwrap();
    let answer = |successes, rollouts| ForkResult {
        successes,
        rollouts,
    };
    assert!(
        visit
            .observe(&[answer(1, 8)])
            .unwrap_err()
            .to_string()
            .contains("next_round")
    );
    let plan = visit.next_round();
    for bad in [
        &[][..],
        &[answer(9, 8)],
        &[answer(5, 4)],
        &[answer(0, 9)],
        &[answer(0, 8), answer(0, 8)],
    ] {
        assert!(
            visit
                .observe(bad)
                .unwrap_err()
                .to_string()
                .contains("problem 5")
        );
    }
    assert_eq!(visit.next_round(), plan);
    visit.observe(&[answer(3, 5)]).unwrap();
    assert_ne!(visit.next_round(), plan);
}

#[test]
fn rounds_without_results_are_no_observations() {
    for name in ["seele", "seele-bayes"] {
        let mut controller = HintController::new(&HintConfig::preset(name).unwrap()).unwrap();
        let mut visit = controller.start_visit(5, 100, &[], context(0)).unwrap();
        let first = visit.next_round().unwrap();
        visit
            .observe(&[ForkResult {
                successes: 0,
                rollouts: 0,
            }])
            .unwrap();
        assert_eq!(
            visit.next_round().unwrap().forks[0]
                .hint_tokens
                .abs_diff(first.forks[0].hint_tokens),
            0,
            "{name}"
        );
        controller.finish_step(vec![visit]);
        assert!(controller.memory().record(5).is_none());
    }
}

#[test]
fn solutions_that_cannot_be_cut_are_refused() {
    let controller = HintController::new(&HintConfig::default()).unwrap();
    let message = controller
        .start_visit(4, 0, &[], context(0))
        .unwrap_err()
        .to_string();
    assert!(
        message.starts_with("problem 4: the solution has no tokens"),
        "{message}"
    );
    assert!(controller.start_visit(4, 9, &[5, 2], context(0)).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, rng_seed: RngSeed::Fixed(2), ..ProptestConfig::default() })]

    #[test]
    fn plans_stay_within_the_solution_and_the_budget(
        name in prop::sample::select(HintConfig::NAMES), length in 1usize..300, ends in prop::collection::vec(1usize..300, 0..8),
        number in 0u64..40, outcomes in prop::collection::vec(0.0..=1.0f64, 16), step_cut in any::<bool>(),
    ) {
        let mut ends = ends;
        ends.sort_unstable();
        let mut settings = serde_json::to_value(HintConfig::preset(name).unwrap()).unwrap();
        let cut = if step_cut { Cut::Step } else { Cut::Token };
        let has_cut = settings.get("cut").is_some();
        if has_cut {
            settings["cut"] = serde_json::to_value(cut).unwrap();
        }
        let mut controller = HintController::new(&serde_json::from_value(settings).unwrap()).unwrap();
        for visit_number in 0..2 {
            let mut visit = controller.start_visit(1, length, &ends, context(number + visit_number)).unwrap();
            let (mut rounds, mut rollouts) = (0, 0);
            while let Some(plan) = visit.next_round() {
                rounds += 1;
                rollouts += plan.rollouts();
                prop_assert!(!plan.forks.is_empty());
                let mut results = Vec::new();
                for (fork, outcome) in plan.forks.iter().zip(outcomes.iter().cycle().skip(rounds)) {
                    let most = if fork.hint_use == HintUse::OffPolicy { length } else { length - 1 };
                    prop_assert!(fork.hint_tokens <= most && fork.rollouts > 0);
                    prop_assert!((0.0..=1.0).contains(&fork.rate));
                    let inner = ends.iter().any(|&end| end < length);
                    if has_cut && step_cut && inner {
                        let whole = fork.hint_tokens == length - 1 && name.starts_with(['u', 'r']);
                        prop_assert!(fork.hint_tokens == 0 || whole || ends.contains(&fork.hint_tokens), "{fork:?}");
                    }
                    let successes = (outcome * f64::from(fork.rollouts)).round() as u32;
                    results.push(ForkResult { successes, rollouts: fork.rollouts });
                }
                visit.observe(&results).unwrap();
            }
            prop_assert!(rounds >= 1 && rounds <= controller.max_rounds() && rollouts <= controller.max_rollouts());
            controller.finish_step(vec![visit]);
        }
    }
}
