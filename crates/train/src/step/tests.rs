//! Steps of a tiny model under rewards made for the test.

mod update_laws;

use super::*;
use crate::evaluate::{EvalLimits, evaluate};
use crate::recipe::Materials;
use seele_policy::decoder::Decoder;
use seele_random::Key;
use seele_verify::Verdict;
use seele_verify::reward::{Reward, RewardRequest, Score};
use std::time::Duration;

const RECIPE: &str = r#"
steps = 4
[model.new]
hidden_size = 16
layers = 2
heads = 2
intermediate_size = 32
max_position_embeddings = 96
[data]
template = "bare"
arithmetic = { operations = { min = 2, max = 3 }, count = 24 }
[rollout]
problems_per_step = 4
rollouts_per_problem = 6
max_new_tokens = 12
max_active_branches = 7
"#;

/// Draws verdicts from the text itself.
struct Drawn {
    /// Whether a problem's rollouts differ in their verdicts.
    varies: fn(&str) -> bool,
    /// Whether a rollout gets no reward.
    is_left_out: fn(&str) -> bool,
    /// Longest time to a verdict.
    delay: Duration,
}

const PLAIN: Drawn = Drawn {
    varies: |_| true,
    is_left_out: |_| false,
    delay: Duration::ZERO,
};

fn draw(text: &str) -> Key {
    text.bytes()
        .fold(Key::new(3), |key, byte| key.with(u64::from(byte)))
}

impl Reward for Drawn {
    fn score(&self, request: &RewardRequest<'_>) -> Score {
        std::thread::sleep(self.delay.mul_f64(draw(request.id).uniform()));
        let correct = (self.varies)(request.problem) && draw(request.completion).uniform() < 0.4;
        let mut score = score(correct);
        if (self.is_left_out)(request.completion) {
            score.value = None;
        }
        score
    }
}

fn score(correct: bool) -> Score {
    Score {
        value: Some(f64::from(u8::from(correct))),
        verdict: Some(if correct {
            Verdict::Correct
        } else {
            Verdict::Wrong
        }),
        detail: None,
    }
}

struct Bench {
    recipe: Recipe,
    materials: Materials,
    stop_tokens: Vec<u32>,
}

fn recipe(overrides: &[&str]) -> Recipe {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("recipe.toml");
    std::fs::write(&file, RECIPE).unwrap();
    let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
    Recipe::load(&file, &overrides).unwrap()
}

impl Bench {
    fn new(overrides: &[&str]) -> Self {
        let recipe = recipe(overrides);
        let materials = recipe.open().unwrap();
        let stop_tokens = materials.config.eos_token_ids.clone();
        Self {
            recipe,
            materials,
            stop_tokens,
        }
    }

    fn run<'a>(&'a self, reward: &'a dyn Reward) -> Run<'a> {
        let (recipe, materials) = (&self.recipe, &self.materials);
        let model = materials.read_model(Key::new(5)).unwrap();
        let options = recipe.decoder_options();
        let decoder = Decoder::with_options(&model.config, &model.parameters, options);
        let reference = Decoder::with_options(&model.config, &model.parameters, options);
        Run {
            recipe,
            data: &materials.train,
            grader: Grader {
                tokenizer: &materials.tokenizer,
                reward,
                stop_tokens: &self.stop_tokens,
                max_new_tokens: recipe.rollout.max_new_tokens,
            },
            end_token: self.stop_tokens[0],
            learner: Learner::new(decoder, model.parameters, &recipe.optimizer),
            reference: recipe.objective.needs_reference().then_some(reference),
            hints: HintController::new(&recipe.hint).unwrap(),
            sampler: EpochSampler::new(
                materials.train.problems.len(),
                recipe.rollout.problems_per_step,
                Key::new(6),
            )
            .unwrap(),
            updates: 0,
            skipped_in_a_row: 0,
        }
    }
}

fn sample(run: &mut Run<'_>, step: usize) -> Sampled {
    run.sample(step, &mut (), &mut StepTimes::default())
        .unwrap()
}

#[test]
fn verdicts_in_any_order_give_the_same_step() {
    let slow = Drawn {
        delay: Duration::from_millis(3),
        ..PLAIN
    };
    let steps = |compute: &str, threads: &str, reward: &Drawn| {
        let bench = Bench::new(&["hint.rounds=3", compute, threads]);
        let mut run = bench.run(reward);
        let steps: Vec<_> = (1..=2)
            .map(|step| run.step(step, &mut ()).unwrap())
            .collect();
        let rewards: Vec<f64> = steps.iter().map(|step| step.reward_mean).collect();
        assert!(rewards.iter().all(|&mean| 0.0 < mean && mean < 1.0));
        let rates = |step: &StepMetrics| {
            let rounds = step.rounds.iter();
            rounds
                .map(|round| round.hint_rate.to_bits())
                .collect::<Vec<_>>()
        };
        let rates: Vec<_> = steps.iter().map(rates).collect();
        (rewards, rates, run.learner.parameters.values)
    };
    for compute in ["model.compute=f32", "model.compute=bf16"] {
        let at_once = steps(compute, "threads=1", &PLAIN);
        assert!(steps(compute, "threads=4", &slow) == at_once, "{compute}");
        assert!(steps(compute, "threads=1", &slow) == at_once, "{compute}");
    }
}

#[test]
fn rounds_in_lock_step_and_scored_again_give_the_same_step() {
    let step = |overrides: &[&str]| {
        let bench = Bench::new(overrides);
        let mut run = bench.run(&PLAIN);
        let metrics = run.step(1, &mut ()).unwrap();
        (metrics, run.learner.parameters.values)
    };
    for compute in ["model.compute=f32", "model.compute=bf16"] {
        let (independent, weights) = step(&["hint.rounds=3", compute]);
        let lock_step = ["hint.rounds=3", compute, "rollout.rounds=lock-step"];
        let (waited, same) = step(&lock_step);
        assert!(same == weights, "{compute}");
        for metrics in [&independent, &waited] {
            assert!(0.0 < metrics.utilisation && metrics.utilisation <= 1.0);
            assert!(metrics.prefill_saved > 0 && metrics.time.rollout_tail >= 0.0);
        }
        assert_eq!((independent.repeated, waited.repeated), (0, 0));
        let again = ["hint.rounds=3", compute, "update.old_logprobs=recomputed"];
        let (scored, same) = step(&again);
        assert!(same == weights, "{compute}");
        assert_eq!(scored.policy.logprob_gap_max, 0.0, "{compute}");
        assert_eq!(independent.policy.logprob_gap_max, 0.0, "{compute}");
    }
}

#[test]
fn a_bounded_cache_changes_no_rollout() {
    let sampled = |overrides: &[&str]| {
        let bench = Bench::new(overrides);
        let sampled = sample(&mut bench.run(&PLAIN), 1);
        let rollouts = sampled.rollouts.iter();
        let tokens: Vec<_> = rollouts.map(|rollout| rollout.tokens.clone()).collect();
        (tokens, sampled.engine.prefill_saved)
    };
    let wide = ["hint.rounds=3", "model.new.hidden_size=512"];
    let (tokens, saved) = sampled(&wide);
    // A page takes 256 KiB: there is room for one trunk of two pages and two branches of one.
    let (narrow, less) = sampled(&[wide[0], wide[1], "rollout.cache_memory=1"]);
    assert!(narrow == tokens);
    let wider = "model.new.hidden_size=2048";
    let refused = recipe(&[wide[0], wider, "rollout.cache_memory=1"])
        .open()
        .unwrap_err()
        .to_string();
    assert!(
        refused.starts_with("[rollout]: `cache_memory` is 1 MiB, but the longest trunk"),
        "{refused}"
    );
    assert!(less < saved, "{less} {saved}");
}

#[test]
fn decoding_goes_on_while_verdicts_are_awaited() {
    let bench = Bench::new(&["hint.rounds=2", "threads=8"]);
    let slow = Drawn {
        delay: Duration::from_millis(100),
        ..PLAIN
    };
    let mut run = bench.run(&slow);
    let mut time = StepTimes::default();
    run.sample(1, &mut (), &mut time).unwrap();
    // 24 verdicts of 50 ms on average in a row would be 1.2 seconds; 8 graders need an eighth.
    assert!(
        time.reward > 0.0 && time.reward + time.rollout < 0.9,
        "{time:?}"
    );
}

#[test]
fn waiting_for_verdicts_is_a_phase_of_its_own() {
    struct Phases(Vec<Phase>);
    impl Observer for Phases {
        fn phase(&mut self, _: usize, phase: Phase) {
            self.0.push(phase);
        }
    }
    let bench = Bench::new(&["hint.rounds=2", "threads=1"]);
    let slow = Drawn {
        delay: Duration::from_millis(5),
        ..PLAIN
    };
    let mut phases = Phases(Vec::new());
    bench.run(&slow).step(1, &mut phases).unwrap();
    let first = Phase::Round {
        round: 1,
        rounds: 2,
    };
    assert_eq!(phases.0[0], first);
    assert!(phases.0.contains(&Phase::Reward));
    assert_eq!(
        phases.0[phases.0.len() - 2..],
        [Phase::LogProbs, Phase::Update]
    );
}

#[test]
fn dynamic_sampling_refills_until_the_step_is_full_and_cuts_it_to_size() {
    let reward = Drawn {
        varies: |problem| draw(problem).uniform() < 0.5,
        ..PLAIN
    };
    let bench = Bench::new(&["method=dapo"]);
    let mut run = bench.run(&reward);
    let sampled = sample(&mut run, 1);
    assert_eq!(sampled.groups.len(), 4);
    assert!(sampled.seen_groups > 4, "{}", sampled.seen_groups);
    assert_eq!(sampled.visits.len(), sampled.seen_groups);
    assert!(sampled.groups.iter().all(|group| {
        let mut rollouts = group.rollouts.iter();
        rollouts.any(|rollout| rollout.correct) && group.rollouts.iter().any(|r| !r.correct)
    }));

    let bench = Bench::new(&["method=dapo", "dynamic_sampling.max_rollout_batches=1"]);
    let sampled = sample(&mut bench.run(&reward), 1);
    assert!(sampled.groups.len() < 4 && sampled.seen_groups == 4);
}

#[test]
fn refilling_never_draws_a_problem_twice_in_a_step() {
    let hopeless = Drawn {
        varies: |_| false,
        ..PLAIN
    };
    // 24 problems, at most 10 batches of 4: the sampler runs into its second epoch.
    let bench = Bench::new(&["method=dapo"]);
    let mut run = bench.run(&hopeless);
    let sampled = sample(&mut run, 1);
    assert_eq!((sampled.seen_groups, sampled.groups.len()), (24, 0));
    let metrics = run.step(2, &mut ()).unwrap();
    assert_eq!(
        (metrics.group_zero_variance, metrics.policy.updates),
        (1.0, 0)
    );
    assert!(metrics.policy.loss.is_nan());
    assert_eq!(metrics.unfilled, Some((0, 4)));
}

#[test]
fn rollouts_without_a_reward_are_counted_and_left_out() {
    let reward = Drawn {
        is_left_out: |completion| completion.len().is_multiple_of(2),
        ..PLAIN
    };
    let bench = Bench::new(&["method=grpo"]);
    let mut run = bench.run(&reward);
    let sampled = sample(&mut run, 1);
    let scored: Vec<&Rollout> = sampled
        .rollouts
        .iter()
        .filter(|rollout| rollout.reward.is_some())
        .collect();
    let metrics = sampled.metrics(1, None);
    assert!(!scored.is_empty() && scored.len() < 24);
    assert_eq!(metrics.reward_missing, 24 - scored.len());
    let right = scored.iter().filter(|rollout| rollout.correct).count();
    let accuracy = right as f64 / scored.len() as f64;
    assert_eq!(metrics.rounds[0].accuracy, accuracy);
    assert_eq!(metrics.reward_mean, accuracy);
    let members: usize = sampled
        .groups
        .iter()
        .map(|group| group.rollouts.len())
        .sum();
    assert_eq!(members, scored.len());
}

#[test]
fn zero_variance_is_that_of_the_rewards_before_shaping_by_length() {
    let bench = Bench::new(&["method=dapo", "overlong.buffer=12"]);
    let hopeless = Drawn {
        varies: |_| false,
        ..PLAIN
    };
    let sampled = sample(&mut bench.run(&hopeless), 1);
    assert_eq!(sampled.metrics(1, None).group_zero_variance, 1.0);
    let bench = Bench::new(&[
        "method=dapo",
        "overlong.buffer=12",
        "dynamic_sampling.drop_uniform=false",
    ]);
    let sampled = sample(&mut bench.run(&hopeless), 1);
    let penalties: Vec<f64> = sampled.groups[0]
        .rollouts
        .iter()
        .map(|rollout| rollout.length_penalty)
        .collect();
    assert!(
        penalties
            .iter()
            .all(|penalty| (-1.0..0.0).contains(penalty))
    );
    let shaped = sampled.groups[0].objective_trunk(0).branches;
    for (branch, penalty) in shaped.iter().zip(penalties) {
        assert_eq!(branch.reward, penalty);
    }
}

#[test]
fn rounds_and_groups_that_end_alike_are_counted() {
    let reward = Drawn {
        varies: |problem| draw(problem).uniform() < 0.5,
        ..PLAIN
    };
    let bench = Bench::new(&["method=seele", "hint.rounds=3"]);
    let sampled = sample(&mut bench.run(&reward), 1);
    let metrics = sampled.metrics(3, Some(0.5));
    for (round, metrics) in metrics.rounds.iter().enumerate() {
        let missed = sampled.groups.iter().map(|group| {
            let of_round = || group.rollouts.iter().filter(|r| r.round == round);
            let right = of_round().filter(|rollout| rollout.correct).count();
            (right as f64 / of_round().count() as f64 - 0.5).abs()
        });
        assert_eq!(metrics.deviation, Some(missed.sum::<f64>() / 4.0));
        let alike = sampled.groups.iter().filter(|group| {
            let mut verdicts = group.rollouts.iter().filter(|r| r.round == round);
            let first = verdicts.next().map(|rollout| rollout.correct);
            verdicts.all(|rollout| Some(rollout.correct) == first)
        });
        assert_eq!(metrics.zero_variance, alike.count() as f64 / 4.0);
    }
    assert!(metrics.rounds.iter().any(|round| round.zero_variance > 0.0));
    let all_wrong = metrics.group_zero_variance - metrics.group_all_correct;
    let wrong = |group: &&Group| group.rollouts.iter().all(|rollout| !rollout.correct);
    assert_eq!(
        all_wrong,
        sampled.groups.iter().filter(wrong).count() as f64 / 4.0
    );
}

#[test]
fn groups_solved_without_a_hint_are_told_from_those_with_too_long_ones() {
    /// Every answer to the problems that a draw picks is right.
    struct Solved;
    impl Reward for Solved {
        fn score(&self, request: &RewardRequest<'_>) -> Score {
            score(draw(request.problem).uniform() < 0.5)
        }
    }
    let counts = |overrides: &[&str]| {
        let sampled = sample(&mut Bench::new(overrides).run(&Solved), 1);
        let metrics = sampled.metrics(4, Some(0.5));
        assert_eq!(metrics.group_zero_variance, 1.0);
        let hintless = sampled.groups.iter().filter(|group| {
            let mut rollouts = group.rollouts.iter();
            group.rollouts.iter().all(|rollout| rollout.correct)
                && rollouts.any(|rollout| rollout.hint_tokens == 0)
        });
        assert_eq!(
            metrics.group_all_correct_unhinted,
            hintless.count() as f64 / 4.0
        );
        (
            metrics.group_all_correct,
            metrics.group_all_correct_unhinted,
        )
    };
    let (all, unhinted) = counts(&["method=grpo"]);
    assert!(all > 0.0 && all < 1.0 && unhinted == all);
    assert_eq!(counts(&["method=seele", "hint.rounds=1"]), (all, 0.0));
    // One rollout of a group has a hint, the others have none.
    assert_eq!(counts(&["method=prefix-rft"]), (all, all));
}

#[test]
fn held_out_sets_are_answered_once_greedily_or_often_by_chance() {
    /// Notes what it is asked; every other answer, by its text, is right.
    #[derive(Default)]
    struct Notes(std::sync::Mutex<Vec<String>>);
    impl Reward for Notes {
        fn score(&self, request: &RewardRequest<'_>) -> Score {
            let mut seen = self.0.lock().unwrap();
            seen.push(format!("{} {}", request.id, request.completion));
            score(draw(request.completion).uniform() < 0.5)
        }
    }
    let answers = |overrides: &[&str], active: usize| {
        let set = ["method=grpo", "eval.sets.held_out.arithmetic.count=5"];
        let bench = Bench::new(&[&set, overrides].concat());
        let notes = Notes::default();
        let run = bench.run(&notes);
        let limits = EvalLimits {
            plans: &bench.recipe.eval.sets,
            seed: 1,
            max_active_branches: active,
            grading_threads: 1,
        };
        let (decoder, sets) = (&run.learner.decoder, &bench.materials.eval);
        let results = evaluate(decoder, sets, &run.grader, limits, 3, &mut ()).unwrap();
        drop(run);
        let mut seen = notes.0.into_inner().unwrap();
        seen.sort();
        (results[0].accuracy, results[0].problems, seen)
    };
    let greedy = answers(&[], 7);
    assert_eq!((greedy.1, greedy.2.len()), (5, 5));
    let often = [
        "eval.sets.held_out.samples=4",
        "eval.sets.held_out.temperature=1",
    ];
    let sampled = answers(&often, 7);
    assert_eq!((sampled.1, sampled.2.len()), (5, 20));
    let texts: HashSet<&String> = sampled.2.iter().collect();
    assert!(texts.len() > 10, "{texts:?}");
    let of_text = |seen: &String| seen.split_once(' ').map(|(_, text)| draw(text).uniform());
    let right = sampled.2.iter().filter_map(of_text).filter(|u| *u < 0.5);
    assert_eq!(sampled.0, right.count() as f64 / 20.0);
    // How many are decoded at a time changes no draw.
    assert_eq!(answers(&often, 3), sampled);
}

#[test]
fn the_mean_reward_is_that_of_what_was_sampled() {
    /// Solutions end in a box, which a model of random weights does not write.
    struct OnlyTraces;
    impl Reward for OnlyTraces {
        fn score(&self, request: &RewardRequest<'_>) -> Score {
            score(request.response.contains(request.ground_truth))
        }
    }
    let bench = Bench::new(&["method=luffy", "hint.traces=3"]);
    let mut run = bench.run(&OnlyTraces);
    let sampled = sample(&mut run, 1);
    let right = |trace: bool| {
        let of_kind = sampled.rollouts.iter().filter(|r| r.trace == trace);
        mean(of_kind.map(|rollout| f64::from(u8::from(rollout.correct))))
    };
    assert!(right(true) > right(false));
    assert_eq!(sampled.metrics(1, None).reward_mean, right(false));
}

#[test]
fn fine_tuning_on_solutions_does_not_depend_on_the_temperature_of_rollouts() {
    let loss = |temperature: &str| {
        let bench = Bench::new(&["method=sft", temperature]);
        let policy = bench.run(&PLAIN).step(1, &mut ()).unwrap().policy;
        (policy.loss, policy.grad_norm)
    };
    let (cold, hot) = (
        loss("rollout.temperature=0.5"),
        loss("rollout.temperature=2"),
    );
    assert!(cold.0 > 0.0);
    assert_eq!(cold, hot);
}

#[test]
fn partial_traces_are_trained_off_policy_and_continued_on_policy() {
    for trace in ["random", "decaying"] {
        let bench = Bench::new(&[
            "method=luffy",
            "hint.traces=3",
            &format!("hint.trace={trace}"),
        ]);
        let mut run = bench.run(&PLAIN);
        let sampled = sample(&mut run, 2);
        let continued = |rollout: &&Rollout| {
            rollout.hint_use == seele_hint::HintUse::OffPolicy && !rollout.trace
        };
        for group in &sampled.groups {
            assert!(
                group.rollouts.iter().filter(continued).count() == 3,
                "{trace}"
            );
            for rollout in group.rollouts.iter().filter(continued) {
                assert_eq!(rollout.logprobs.len(), rollout.tokens.len());
            }
        }
        let longest = sampled.groups.iter().map(Group::solution_tokens).max();
        assert!(longest > Some(0), "{trace}");
        let metrics = bench.run(&PLAIN).step(2, &mut ()).unwrap();
        assert_eq!(metrics.policy.skipped_updates, 0, "{trace}");
        assert!(metrics.policy.logprob_gap_max < 1e-3, "{trace}");
        assert!(metrics.policy.grad_norm > 0.0, "{trace}");
    }
}

#[test]
fn an_update_on_numbers_that_are_not_finite_leaves_the_policy_as_it_is() {
    let bench = Bench::new(&["method=seele", "hint.rounds=2", "imitation.coef=1e308"]);
    let mut run = bench.run(&PLAIN);
    let before = run.learner.parameters.values.clone();
    let metrics = run.step(1, &mut ()).unwrap();
    assert_eq!(
        (metrics.policy.updates, metrics.policy.skipped_updates),
        (1, 1)
    );
    assert_eq!(run.learner.parameters.values, before);
    assert_eq!((run.updates, run.skipped_in_a_row), (1, 1));
    assert!(run.learner.gradient.iter().all(|&slope| slope == 0.0));
}
