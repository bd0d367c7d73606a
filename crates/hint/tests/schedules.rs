//! What each schedule plans, by its settings.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use seele_hint::{
    Fork, ForkResult, Grouping, HintConfig, HintController, HintError, HintUse, RoundPlan,
    VisitContext,
};

const STEP_ENDS: [usize; 5] = [20, 40, 60, 80, 100];

fn controller(text: &str) -> HintController {
    HintController::new(&toml::from_str(text).unwrap()).unwrap()
}

fn at(step: u64) -> VisitContext {
    VisitContext {
        seed: 3,
        step,
        total_steps: 100,
        epoch: 0,
    }
}

/// Rounds of a visit of a problem with 100 tokens in five steps; `accuracy` says how many of the rollouts after
/// a hint of that many tokens succeed.
fn visit(
    controller: &mut HintController,
    problem: u64,
    context: VisitContext,
    accuracy: impl Fn(usize) -> f64,
) -> Vec<RoundPlan> {
    let mut visit = controller
        .start_visit(problem, 100, &STEP_ENDS, context)
        .unwrap();
    let mut rounds = Vec::new();
    while let Some(plan) = visit.next_round() {
        let result = |fork: &Fork| ForkResult {
            successes: (accuracy(fork.hint_tokens) * f64::from(fork.rollouts)).round() as u32,
            rollouts: fork.rollouts,
        };
        visit
            .observe(&plan.forks.iter().map(result).collect::<Vec<_>>())
            .unwrap();
        rounds.push(plan);
    }
    controller.finish_step(vec![visit]);
    rounds
}

/// `(hint tokens, rollouts)` of each fork of each round.
fn shape(rounds: &[RoundPlan]) -> Vec<Vec<(usize, u32)>> {
    rounds
        .iter()
        .map(|round| {
            round
                .forks
                .iter()
                .map(|fork| (fork.hint_tokens, fork.rollouts))
                .collect()
        })
        .collect()
}

fn single(text: &str, context: VisitContext) -> Fork {
    let rounds = visit(&mut controller(text), 1, context, |_| 0.5);
    assert_eq!((rounds.len(), rounds[0].forks.len()), (1, 1), "{text}");
    rounds[0].forks[0]
}

#[test]
fn none_rolls_out_the_plain_problem_once() {
    let fork = single("schedule = 'none'\nrollouts = 5", at(0));
    assert_eq!(
        (fork.hint_tokens, fork.rollouts, fork.hint_use),
        (0, 5, HintUse::Context)
    );
}

#[test]
fn fixed_gives_everyone_the_same_share_cut_where_asked() {
    assert_eq!(
        single("schedule = 'fixed'\nrate = 0.33", at(0)).hint_tokens,
        33
    );
    assert_eq!(
        single("schedule = 'fixed'\nrate = 0.33\ncut = 'step'", at(0)).hint_tokens,
        40
    );
    assert_eq!(
        single("schedule = 'fixed'\nrate = 1.0", at(0)).hint_tokens,
        99
    );
    assert_eq!(
        single("schedule = 'fixed'\nhint_use = 'policy'", at(0)).hint_use,
        HintUse::Policy
    );
}

#[test]
fn uft_reveals_slices_less_and_less_often_and_then_none() {
    let mean = |step: u64| {
        let controller = controller("schedule = 'uft'");
        let lengths = (0..2000).map(|problem| {
            let mut visit = controller
                .start_visit(problem, 100, &STEP_ENDS, at(step))
                .unwrap();
            let fork = visit.next_round().unwrap().forks[0];
            assert!(
                fork.hint_tokens == 99 || fork.hint_tokens.is_multiple_of(20),
                "{fork:?}"
            );
            assert_eq!((fork.rollouts, fork.hint_use), (4, HintUse::Imitation));
            fork.rate
        });
        lengths.sum::<f64>() / 2000.0
    };
    // Step t = step + 1 of 60: 0.05 + 0.45 (1 + cos(pi t / 60)).
    for (step, expected) in [(0, 0.9494), (29, 0.5), (44, 0.1818), (59, 0.05)] {
        assert!(
            (mean(step) - expected).abs() < 0.015,
            "step {step}: {} {expected}",
            mean(step)
        );
    }
    assert_eq!(mean(60), 0.0);
}

#[test]
fn uft_cuts_slices_of_many_units_after_the_rounded_share() {
    // 7 steps in 5 slices: cuts after round(1.4), round(2.8), round(4.2), round(5.6) steps.
    let ends: Vec<usize> = (1..=7).map(|step| 10 * step).collect();
    let controller = controller("schedule = 'r3'");
    let mut lengths: Vec<usize> = (0..200)
        .map(|problem| {
            controller
                .start_visit(problem, 70, &ends, at(0))
                .unwrap()
                .next_round()
                .unwrap()
                .forks[0]
                .hint_tokens
        })
        .collect();
    lengths.sort_unstable();
    lengths.dedup();
    assert_eq!(lengths, [0, 10, 30, 40, 60, 69]);
}

#[test]
fn uft_stage_is_a_staircase_to_nothing() {
    let lengths = [0, 11, 12, 24, 36, 48, 59, 60, 99]
        .map(|step| single("schedule = 'uft-stage'", at(step)).hint_tokens);
    assert_eq!(lengths, [99, 99, 80, 60, 40, 20, 20, 0, 0]);
}

#[test]
fn r3_draws_every_number_of_slices_equally_often_throughout() {
    let controller = controller("schedule = 'r3'");
    for step in [0, 99] {
        let mut counts = [0; 6];
        for problem in 0..3000 {
            let mut visit = controller
                .start_visit(problem, 100, &STEP_ENDS, at(step))
                .unwrap();
            let fork = visit.next_round().unwrap().forks[0];
            assert_eq!(fork.hint_use, HintUse::Context);
            counts[(fork.rate * 5.0).round() as usize] += 1;
        }
        assert!(
            counts.iter().all(|&count| (420..580).contains(&count)),
            "{counts:?}"
        );
    }
}

#[test]
fn prefix_rft_continues_one_prefix_of_a_falling_lower_bound() {
    let rates = |step: u64| {
        let controller = controller("schedule = 'prefix-rft'");
        let mut rates: Vec<f64> = (0..1000)
            .map(|problem| {
                let plan = controller
                    .start_visit(problem, 1000, &[], at(step))
                    .unwrap()
                    .next_round()
                    .unwrap();
                let [plain, prefix] = plan.forks[..] else {
                    panic!("{plan:?}")
                };
                assert_eq!(
                    (plain.hint_tokens, plain.rollouts, prefix.rollouts),
                    (0, 7, 1)
                );
                assert_eq!(prefix.hint_use, HintUse::Policy);
                assert_eq!(prefix.hint_tokens, (prefix.rate * 1000.0).floor() as usize);
                prefix.rate
            })
            .collect();
        rates.sort_unstable_by(f64::total_cmp);
        (rates[0], rates[999])
    };
    for (step, low) in [(0, 0.9498), (49, 0.5), (99, 0.05)] {
        let (least, most) = rates(step);
        assert!(
            least >= low - 1e-3 && least < low + 0.02 && most <= 0.95 && most > 0.94,
            "{step}: {least} {most}"
        );
    }
    // The least length holds for every rate but 0, which asks for no prefix.
    for (rate, tokens) in [("0.001", 98), ("0", 0)] {
        let settings = format!(
            "schedule = 'prefix-rft'\nrollouts = 1\nmin_prefix_tokens = 98\nlowest_rate = {rate}\nhighest_rate = {rate}"
        );
        assert_eq!(single(&settings, at(99)).hint_tokens, tokens);
    }
}

#[test]
fn luffy_adds_the_whole_solution_as_an_off_policy_member() {
    let rounds = visit(&mut controller("schedule = 'luffy'"), 1, at(0), |_| 0.5);
    assert_eq!(shape(&rounds), [[(0, 7), (100, 1)]]);
    assert_eq!(
        rounds[0]
            .forks
            .iter()
            .map(|f| f.hint_use)
            .collect::<Vec<_>>(),
        [HintUse::Context, HintUse::OffPolicy]
    );
    let decaying = |step| {
        shape(&visit(
            &mut controller("schedule = 'luffy'\ntrace = 'decaying'"),
            1,
            at(step),
            |_| 0.5,
        ))
    };
    assert_eq!(
        (decaying(0), decaying(75)),
        (vec![vec![(0, 7), (99, 1)]], vec![vec![(0, 7), (25, 1)]])
    );
    let random = shape(&visit(
        &mut controller("schedule = 'luffy'\ntrace = 'random'\ntraces = 2"),
        1,
        at(0),
        |_| 0.5,
    ));
    assert_eq!(random[0][0], (0, 6));
    assert!(random[0][1].0 < 100 && random[0][1].1 == 2);
}

#[test]
fn seele_starts_with_all_but_the_last_token_and_closes_in_on_the_target() {
    let mut seele = controller("schedule = 'seele'");
    let accuracy = |tokens: usize| 1.0 / (1.0 + (-0.2 * (tokens as f64 - 62.0)).exp());
    let first = visit(&mut seele, 1, at(0), accuracy);
    let lengths: Vec<usize> = first
        .iter()
        .map(|round| round.forks[0].hint_tokens)
        .collect();
    assert_eq!((lengths.len(), lengths[0]), (4, 99));
    assert!(lengths[3].abs_diff(62) <= 8, "{lengths:?}");
    assert_eq!(
        (first[0].forks[0].rollouts, first[0].forks[0].hint_use),
        (8, HintUse::Imitation)
    );
    let second = visit(&mut seele, 1, at(50), accuracy);
    assert!(
        second[0].forks[0].hint_tokens.abs_diff(62) <= 6,
        "{second:?}"
    );
    assert_eq!(seele.memory().record(1).unwrap().visits, 2);
    // Another problem knows nothing of it.
    assert_eq!(
        visit(&mut seele, 2, at(50), accuracy)[0].forks[0].hint_tokens,
        99
    );
}

#[test]
fn seele_cuts_at_step_ends_and_records_what_it_cut() {
    let mut seele = controller("schedule = 'seele'\ncut = 'step'");
    let rounds = visit(
        &mut seele,
        1,
        at(0),
        |tokens| if tokens >= 60 { 1.0 } else { 0.0 },
    );
    assert!(
        rounds
            .iter()
            .all(|round| round.forks[0].hint_tokens % 20 == 0),
        "{rounds:?}"
    );
    assert_eq!(rounds[0].forks[0].hint_tokens, 80);
    // Accuracy jumps between 40 and 60 tokens: the fit must end up there.
    assert!((0.4..=0.6).contains(&seele.memory().record(1).unwrap().rate.unwrap()));
}

#[test]
fn last_used_stores_the_rate_of_the_last_round_and_refit_a_new_one() {
    let accuracy = |tokens: usize| if tokens >= 50 { 1.0 } else { 0.0 };
    let run = |memory: &str| {
        let mut seele = controller(&format!(
            "schedule = 'seele'\nrounds = 2\nmemory = '{memory}'"
        ));
        let rounds = visit(&mut seele, 1, at(0), accuracy);
        (
            rounds[1].forks[0].rate,
            seele.memory().record(1).unwrap().rate.unwrap(),
        )
    };
    for name in ["last-used", "last_used"] {
        let (last, stored) = run(name);
        assert_eq!(last, stored);
    }
    let (last, stored) = run("refit");
    assert!(last != stored, "{last} {stored}");
}

#[test]
fn anchors_and_carried_points_remember_more_than_the_rate() {
    // The first visit learns that the curve lies near 30; the second sees one misleading round.
    let second_round = |options: &str| {
        let mut seele = controller(&format!("schedule = 'seele'\n{options}"));
        visit(
            &mut seele,
            1,
            at(0),
            |tokens| if tokens > 30 { 1.0 } else { 0.0 },
        );
        let points = seele.memory().record(1).unwrap().points.len();
        let mut second = seele.start_visit(1, 100, &[], at(1)).unwrap();
        second.next_round().unwrap();
        second
            .observe(&[ForkResult {
                successes: 0,
                rollouts: 8,
            }])
            .unwrap();
        (second.next_round().unwrap().forks[0].rate, points)
    };
    let (plain, none) = second_round("");
    let (anchored, _) = second_round("anchor = 5.0");
    let (carried, points) = second_round("carry_points = 0.5");
    assert!(plain > 0.4, "{plain}");
    assert!(
        anchored < plain && carried < plain,
        "{plain} {anchored} {carried}"
    );
    assert_eq!((none, points), (0, 4));
}

#[test]
fn carried_points_fade_and_are_bounded() {
    let mut seele = controller("schedule = 'seele'\ncarry_points = 0.5");
    for step in 0..12 {
        visit(&mut seele, 1, at(step), |_| 0.5);
    }
    let points = &seele.memory().record(1).unwrap().points;
    // 0.5^6 > 0.01 > 0.5^7: six visits of four rounds.
    assert_eq!(points.len(), 24);
    assert_eq!(points.last().unwrap().weight, 0.5);
}

#[test]
fn the_recorded_rate_is_the_cut_one_unless_asked_otherwise() {
    // With the predicted rate, cuts at steps go unnoticed: the first observation is at rate 1.
    let second = |record: &str| {
        let mut seele = controller(&format!(
            "schedule = 'seele'\ncut = 'step'\nrecord = '{record}'"
        ));
        visit(&mut seele, 1, at(0), |_| 0.0)[1].forks[0].rate
    };
    assert!(second("effective") >= 0.8);
    assert!(second("predicted") != second("effective"));
}

#[test]
fn hint_on_failure_helps_only_where_all_fail_and_more_at_the_next_visit() {
    let text = "schedule = 'hint-on-failure'\nrates = [0.25, 0.5]";
    let mut schedule = controller(text);
    assert_eq!(
        shape(&visit(&mut schedule, 1, at(0), |_| 0.125)),
        [[(0, 8)]]
    );
    let failing = visit(&mut schedule, 2, at(0), |_| 0.0);
    assert_eq!(shape(&failing), [[(0, 8)], [(25, 8)]]);
    assert_eq!(
        (failing[0].grouping, failing[1].grouping),
        (Grouping::Join, Grouping::Replace)
    );
    assert_eq!(
        shape(&visit(
            &mut schedule,
            2,
            at(1),
            |tokens| (tokens > 30) as u8 as f64
        )),
        [[(0, 8)], [(50, 8)]]
    );
    assert_eq!(
        shape(&visit(&mut schedule, 2, at(2), |_| 0.0)),
        [[(0, 8)], [(50, 8)]]
    );
    let mut late = controller(&format!("{text}\nstart_share = 0.5\ngrouping = 'join'"));
    assert_eq!(visit(&mut late, 2, at(49), |_| 0.0).len(), 1);
    assert_eq!(
        visit(&mut late, 2, at(50), |_| 0.0)[1].grouping,
        Grouping::Join
    );
}

#[test]
fn multi_level_puts_all_levels_in_one_group() {
    let rounds = visit(
        &mut controller("schedule = 'multi-level'"),
        1,
        at(0),
        |_| 0.5,
    );
    assert_eq!(shape(&rounds), [[(0, 2), (20, 2), (40, 2), (80, 2)]]);
    let merged = visit(
        &mut controller("schedule = 'multi-level'\nrates = [0.0, 0.05, 0.5]"),
        1,
        at(0),
        |_| 0.5,
    );
    assert_eq!(shape(&merged), [[(0, 4), (40, 2)]]);
}

#[test]
fn quest_a_lowers_its_share_in_equal_phases() {
    let lengths =
        [0, 49, 50, 99, 100].map(|step| single("schedule = 'quest-a'", at(step)).hint_tokens);
    assert_eq!(lengths, [50, 50, 25, 25, 25]);
}

#[test]
fn escalate_adds_help_until_a_rollout_succeeds() {
    let run = |enough: usize| {
        shape(&visit(
            &mut controller("schedule = 'escalate'"),
            1,
            at(0),
            |t| (t >= enough) as u8 as f64,
        ))
    };
    assert_eq!(run(0), [[(0, 8)]]);
    assert_eq!(run(40), [[(0, 8)], [(25, 8)], [(50, 8)]]);
    assert_eq!(run(100), [[(0, 8)], [(25, 8)], [(50, 8)], [(75, 8)]]);
    let late = "schedule = 'escalate'\nstart_share = 0.2";
    assert_eq!(visit(&mut controller(late), 1, at(19), |_| 0.0).len(), 1);
}

#[test]
fn seele_bayes_uses_lengths_that_can_be_cut() {
    let mut bayes = controller("schedule = 'seele-bayes'\ncut = 'step'");
    let accuracy = |tokens: usize| match tokens {
        0..60 => 0.0,
        60..80 => 0.5,
        _ => 1.0,
    };
    let rounds = visit(&mut bayes, 1, at(0), accuracy);
    assert!(
        rounds
            .iter()
            .all(|round| round.forks[0].hint_tokens % 20 == 0),
        "{rounds:?}"
    );
    assert_eq!(rounds[3].forks[0].hint_tokens, 60);
    let paper = visit(
        &mut controller("schedule = 'seele-bayes'\ncold_start = 'paper'"),
        1,
        at(0),
        |_| 1.0,
    );
    assert_eq!(paper[0].forks[0].hint_tokens, 99);
}

#[test]
fn every_name_is_a_preset_and_is_written_as_it_is_read() {
    let names = [
        "none",
        "fixed",
        "uft",
        "uft-stage",
        "r3",
        "prefix-rft",
        "luffy",
        "seele",
        "seele-bayes",
        "hint-on-failure",
        "multi-level",
        "quest-a",
        "escalate",
    ];
    for name in names {
        assert!(HintConfig::NAMES.contains(&name), "{name}");
        let preset = HintConfig::preset(name).unwrap();
        assert_eq!(preset.name(), name);
        let text = toml::to_string(&preset).unwrap();
        assert!(
            text.starts_with(&format!("schedule = \"{name}\"")),
            "{text}"
        );
        assert_eq!(toml::from_str::<HintConfig>(&text).unwrap(), preset);
        assert_eq!(
            toml::from_str::<HintConfig>(&format!("schedule = '{name}'")).unwrap(),
            preset
        );
    }
    assert_eq!(names.len(), HintConfig::NAMES.len());
    assert_eq!(HintConfig::default().name(), "seele");
    let message = HintConfig::preset("sele").unwrap_err().to_string();
    assert!(
        message.contains("`sele`") && message.contains("seele-bayes"),
        "{message}"
    );
}

#[test]
fn a_key_of_another_schedule_is_an_error() {
    let read = |text: &str| toml::from_str::<HintConfig>(text).map_err(|error| error.to_string());
    assert!(
        read("schedule = 'none'\nrounds = 4")
            .unwrap_err()
            .contains("rounds")
    );
    assert!(
        read("schedule = 'seele'\ntarget = 0.5")
            .unwrap_err()
            .contains("target_accuracy")
    );
    assert!(read("schedule = 'uft'\ncut = 'word'").is_err());
}

#[test]
fn settings_out_of_range_name_their_key() {
    let cases = [
        ("none", "rollouts = 0", "rollouts"),
        ("fixed", "rate = 1.5", "rate"),
        ("uft", "slices = 0", "slices"),
        ("uft", "hint_share = 2.0", "hint_share"),
        ("prefix-rft", "prefix_rollouts = 9", "prefix_rollouts"),
        ("prefix-rft", "lowest_rate = 0.99", "lowest_rate"),
        ("luffy", "traces = 8", "traces"),
        ("seele", "rounds = 0", "rounds"),
        ("seele", "target_accuracy = 1.0", "target_accuracy"),
        ("seele", "anchor = 0.0", "anchor"),
        ("seele", "carry_points = 1.5", "carry_points"),
        ("seele", "plateau = -1.0", "plateau"),
        ("seele", "margin_weight = 0.0", "margin_weight"),
        ("seele", "prior = nan", "prior"),
        ("seele-bayes", "target_accuracy = 0.0", "target_accuracy"),
        ("hint-on-failure", "start_share = -0.5", "start_share"),
        ("multi-level", "rates = []", "rates"),
        ("quest-a", "rates = [0.5, nan]", "rates"),
        ("escalate", "rollouts = 1000000", "rollouts"),
    ];
    for (name, setting, expected) in cases {
        let config: HintConfig =
            toml::from_str(&format!("schedule = '{name}'\n{setting}")).unwrap();
        match HintController::new(&config) {
            Err(HintError::Setting { key, .. }) => assert_eq!(key, expected),
            other => panic!("{name} {setting}: {other:?}"),
        }
    }
}

#[test]
fn a_budget_of_rollouts_is_shared_out_over_rounds_and_levels_or_refused() {
    for name in HintConfig::NAMES {
        let config = HintConfig::preset(name).unwrap();
        let budget = config.with_max_rollouts(48).unwrap();
        assert_eq!(budget.schedule().unwrap().max_rollouts(), 48, "{name}");
        assert_eq!(config.with_max_rollouts(0), None, "{name}");
        let most = config.schedule().unwrap().max_rollouts();
        assert_eq!(config.with_max_rollouts(most), Some(config), "{name}");
    }
    let escalate = HintConfig::preset("escalate").unwrap();
    assert_eq!(escalate.with_max_rollouts(30), None);
    let no_rounds: HintConfig = toml::from_str("schedule = \"seele\"\nrounds = 0").unwrap();
    assert_eq!(no_rounds.with_max_rollouts(8), None);
}

#[test]
fn a_schedule_says_what_its_hints_are_for_and_what_it_aims_at() {
    let of = |text: &str| -> HintConfig { toml::from_str(text).unwrap() };
    assert_eq!(of("schedule = \"none\"").hint_use(), None);
    assert_eq!(
        of("schedule = \"luffy\"").hint_use(),
        Some(HintUse::OffPolicy)
    );
    assert_eq!(
        of("schedule = \"uft\"").hint_use(),
        Some(HintUse::Imitation)
    );
    let policy = of("schedule = \"fixed\"\nhint_use = \"policy\"");
    assert_eq!(policy.hint_use(), Some(HintUse::Policy));
    assert_eq!(policy.target_accuracy(), None);
    let target = of("schedule = \"seele-bayes\"\ntarget_accuracy = 0.25").target_accuracy();
    assert_eq!(target, Some(0.25));
}
