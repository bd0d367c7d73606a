//! Recipes from file to plan and back, and what people get to read when one is wrong.
#![expect(clippy::unwrap_used, reason = "a test may stop where its set-up fails")]

use seele_train::recipe::{Budget, Length, ModelSource, ProblemSource, Recipe, methods};
use std::fs;
use std::path::{Path, PathBuf};

const SMALL: &str = "\
steps = 3
[model]
path = \"model\"
[data]
path = \"train.jsonl\"
";

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }
}

fn load(text: &str, overrides: &[&str]) -> Result<Recipe, String> {
    let folder = Folder::new();
    let path = folder.write("r.toml", text);
    let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
    let start = format!("{}/", folder.0.path().display());
    Recipe::load(&path, &overrides).map_err(|error| error.to_string().replace(&start, ""))
}

fn reload(recipe: &Recipe) -> Recipe {
    let folder = Folder::new();
    let path = folder.write("elsewhere/recipe.toml", &recipe.to_toml());
    Recipe::load(&path, &[]).unwrap_or_else(|error| panic!("{error}\n{}", recipe.to_toml()))
}

#[test]
fn the_resolved_recipe_of_every_method_loads_to_the_same_plan() {
    for method in methods() {
        let recipe = load(SMALL, &[&format!("method={method}")]).unwrap();
        let again = reload(&recipe);
        assert_eq!(again, recipe, "{method}\n{}", recipe.to_toml());
        assert_eq!(again.objective, recipe.objective, "{method}");
        assert_eq!(again.hint, recipe.hint, "{method}");
        // Values are the same; only where they came from differs.
        let values = |recipe: &Recipe| -> Vec<String> {
            recipe
                .to_toml()
                .lines()
                .map(|line| line.split(" # ").next().unwrap_or("").trim_end().into())
                .collect()
        };
        assert_eq!(values(&again), values(&recipe), "{method}");
    }
}

#[test]
fn every_recipe_of_the_repository_resolves_and_loads_again() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes");
    let mut count = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            let recipe = Recipe::load(&path, &[]).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(reload(&recipe), recipe, "{}", path.display());
            count += 1;
        }
    }
    assert!(count >= 2);
}

#[test]
fn every_part_of_an_objective_can_be_chosen_by_name_over_any_preset_that_it_fits() {
    let parts: &[(&str, &[&str])] = &[
        (
            "advantage.kind",
            &[
                "grpo",
                "dr-grpo",
                "rloo",
                "split",
                "split-centred",
                "hybrid",
                "batch",
            ],
        ),
        ("policy_loss.kind", &["token", "clip"]),
        ("policy_loss.dual_clip", &["3", "off"]),
        ("policy_loss.clip_high", &["0.28", "off"]),
        (
            "policy_loss.trace_shape",
            &["identity", "ratio", "log", "power"],
        ),
        (
            "aggregation.mode",
            &[
                "token-mean",
                "seq-mean-token-mean",
                "seq-mean-token-sum",
                "sum-const",
                "sum-over-len",
            ],
        ),
        ("kl.kind", &["k1", "k2", "k3", "k3+"]),
        ("kl.clamp", &["true", "false"]),
        ("kl.placement", &["loss", "reward"]),
        (
            "imitation.mode",
            &["token-mean", "seq-mean-token-mean", "sum-const"],
        ),
        ("imitation.which_hint", &["own", "last-round", "longest"]),
        ("entropy.coef", &["0.001"]),
        ("dynamic_sampling.drop_uniform", &["true"]),
        ("overlong.buffer", &["128", "off"]),
        ("overlong.mask_truncated", &["true"]),
    ];
    for method in ["seele", "luffy", "uft", "prefix-rft", "dapo"] {
        let fits = |key: &str| match key {
            "policy_loss.trace_shape" => method == "luffy",
            "imitation.mode" | "imitation.which_hint" => matches!(method, "seele" | "uft"),
            _ => true,
        };
        for (key, values) in parts.iter().filter(|(key, _)| fits(key)) {
            for value in *values {
                let overrides = [
                    format!("method={method}"),
                    "kl.coef=0.01".into(),
                    format!("{key}={value}"),
                ];
                let overrides = overrides.each_ref().map(String::as_str);
                let recipe = load(SMALL, &overrides)
                    .unwrap_or_else(|error| panic!("{overrides:?}: {error}"));
                let text = recipe.to_toml();
                let short = key.rsplit('.').next().unwrap();
                let written = text.lines().any(|line| {
                    line.starts_with(&format!("{short} = ")) && line.ends_with("# --set")
                });
                assert!(written, "{overrides:?}\n{text}");
            }
        }
    }
    let by_sequence = load(SMALL, &["method=gspo", "policy_loss.kind=sequence"]).unwrap();
    assert_eq!(
        by_sequence.objective,
        load(SMALL, &["method=gspo"]).unwrap().objective
    );
}

#[test]
fn a_run_lasts_steps_or_epochs() {
    let epochs = load(&SMALL.replace("steps = 3", "epochs = 2"), &[]).unwrap();
    assert_eq!((epochs.steps(256), epochs.steps(300)), (2, 3));
    assert_eq!(reload(&epochs), epochs);
    // The later layer replaces the other way of saying it.
    assert_eq!(load(SMALL, &["epochs=4"]).unwrap().steps(256), 4);
    let both = SMALL.replace("steps = 3", "steps = 3\nepochs = 1");
    assert_eq!(
        load(&both, &[]).unwrap_err(),
        "r.toml:2: `epochs`: `steps` is given too; keep one of them"
    );
    let sft = format!("{SMALL}[sft]\nepochs = 5\n");
    assert_eq!(
        load(&sft, &[]).unwrap().sft.unwrap().length,
        Length::Epochs(5)
    );
    assert_eq!(load(&sft, &["steps=0"]).unwrap().steps(256), 0);
    let watched = format!("{sft}eval_every_steps = 2\n");
    let message = load(&watched, &[]).unwrap_err();
    assert!(
        message.contains("`sft.eval_every_steps`: there is no held-out set"),
        "{message}"
    );
}

#[test]
fn fine_tuning_on_solutions_refuses_what_only_rollouts_could_use() {
    let message = |setting: &str| load(SMALL, &["method=sft", setting]).unwrap_err();
    for (setting, key) in [
        ("hint.schedule=seele", "hint.schedule"),
        (
            "dynamic_sampling.drop_uniform=true",
            "dynamic_sampling.drop_uniform",
        ),
    ] {
        let message = message(setting);
        assert!(
            message.contains(&format!("`{key}`: has no effect")),
            "{message}"
        );
    }
}

#[test]
fn a_written_setting_that_nothing_reads_is_refused() {
    let cases: &[(&[&str], &str)] = &[
        (&["method=luffy", "imitation.coef=0.5"], "imitation.coef"),
        (&["method=grpo", "imitation.coef=0.5"], "imitation.coef"),
        (&["imitation.where=trace"], "imitation.where"),
        (
            &["method=grpo", "imitation.mode=sum-const"],
            "imitation.mode",
        ),
        (
            &["imitation.where=generated", "imitation.which_hint=longest"],
            "imitation.which_hint",
        ),
        (
            &["policy_loss.prefix_old=current"],
            "policy_loss.prefix_old",
        ),
        (
            &["method=luffy", "policy_loss.shape_power=2"],
            "policy_loss.shape_power",
        ),
        (
            &[
                "method=luffy",
                "policy_loss.trace_shape=log",
                "policy_loss.shape_gamma=0.2",
            ],
            "policy_loss.shape_gamma",
        ),
        (&["policy_loss.trace_shape=log"], "policy_loss.trace_shape"),
        (&["policy_loss.shape_gamma=0.2"], "policy_loss.shape_gamma"),
        (&["advantage.trace_weight=2"], "advantage.trace_weight"),
        (&["advantage.traces=apart"], "advantage.traces"),
        (
            &["method=rl-with-sft-loss", "advantage.trace_weight=2"],
            "advantage.trace_weight",
        ),
        (
            &["dynamic_sampling.max_rollout_batches=5"],
            "dynamic_sampling.max_rollout_batches",
        ),
        (&["overlong.factor=2"], "overlong.factor"),
        (
            &["method=dapo", "overlong.buffer=off", "overlong.factor=2"],
            "overlong.factor",
        ),
        (&["entropy_filter.scope=batch"], "entropy_filter.scope"),
        (
            &[
                "method=prefix-rft",
                "entropy_filter.drop=0",
                "entropy_filter.scope=batch",
            ],
            "entropy_filter.scope",
        ),
        (
            &["method=prefix-rft", "advantage.singleton=raw"],
            "advantage.singleton",
        ),
        (&["advantage.eps=0.1"], "advantage.eps"),
        (
            &["method=grpo", "policy_loss.on_hint=true"],
            "policy_loss.on_hint",
        ),
        (&["method=dr-grpo", "kl.kind=k2"], "kl.kind"),
        (&["method=grpo", "entropy.mode=sum-const"], "entropy.mode"),
        (
            &["method=grpo", "aggregation.empty=count"],
            "aggregation.empty",
        ),
        (
            &["method=sft", "policy_loss.clip_low=0.1"],
            "policy_loss.clip_low",
        ),
        (
            &["method=sft", "aggregation.mode=sum-const"],
            "aggregation.mode",
        ),
        (
            &["method=sft", "overlong.mask_truncated=true"],
            "overlong.mask_truncated",
        ),
    ];
    for (overrides, key) in cases {
        let message = load(SMALL, overrides).unwrap_err();
        assert!(
            message.contains(&format!("--set {key}="))
                && message.contains(&format!("`{key}`: has no effect")),
            "{overrides:?}: {message}"
        );
    }
}

#[test]
fn what_a_preset_brings_along_may_lie_idle_and_so_may_a_term_that_was_taken_away() {
    let cases: [&[&str]; 10] = [
        &["hint.schedule=none"],
        &["method=uft", "hint.schedule=luffy"],
        &["method=luffy", "hint.schedule=none"],
        &["method=prefix-rft", "hint.schedule=none"],
        &["method=rl-with-sft-loss", "imitation.coef=0"],
        &["method=grpo", "kl.coef=0", "kl.kind=k2"],
        &["imitation.coef=0", "imitation.mode=sum-const"],
        &["hint.schedule=none", "imitation.coef=0"],
        &[
            "method=prefix-rft",
            "hint.schedule=none",
            "policy_loss.on_hint=false",
            "entropy_filter.drop=0",
        ],
        &["policy_loss.shape_gamma=0.1", "overlong.factor=1"],
    ];
    for overrides in cases {
        let recipe =
            load(SMALL, overrides).unwrap_or_else(|error| panic!("{overrides:?}: {error}"));
        assert_eq!(reload(&recipe), recipe, "{overrides:?}");
    }
    // Another method takes the sections of the old one away.
    let text = format!("method = \"luffy\"\n{SMALL}[policy_loss]\nshape_gamma = 0.2\n");
    assert!(load(&text, &["method=grpo"]).is_ok());
}

#[test]
fn the_schedules_of_other_methods_are_methods_on_the_objective_they_came_with() {
    let plan = |method: &str| load(SMALL, &[&format!("method={method}")]).unwrap();
    for method in [
        "fixed",
        "quest-a",
        "hint-on-failure",
        "multi-level",
        "escalate",
    ] {
        let recipe = plan(method);
        assert_eq!(recipe.hint.name(), method);
        assert_eq!(recipe.objective, plan("grpo").objective, "{method}");
    }
    assert_eq!(plan("uft-stage").objective, plan("uft").objective);
    let mut without_imitation = plan("uft").objective;
    without_imitation.imitation.coef = 0.0;
    assert_eq!(plan("r3").objective, without_imitation);
    assert_eq!(
        (plan("uft-stage").hint.name(), plan("r3").hint.name()),
        ("uft-stage", "r3")
    );
}

#[test]
fn what_a_preset_gives_can_be_taken_back_and_stays_off() {
    let recipe = load(
        SMALL,
        &[
            "method=grpo",
            "policy-loss.dual-clip=off",
            "optimizer.max_grad_norm=off",
        ],
    )
    .unwrap();
    assert_eq!(recipe.objective.policy_loss.dual_clip.value(), None);
    assert_eq!(recipe.optimizer.max_grad_norm, None);
    assert_eq!(reload(&recipe), recipe);
}

#[test]
fn the_resolved_recipe_says_where_values_came_from() {
    let folder = Folder::new();
    folder.write("base.toml", "[rollout]\nproblems_per_step = 8\n");
    let path = folder.write("top.toml", &format!("extends = \"base.toml\"\n{SMALL}"));
    let text = Recipe::load(&path, &["seed=4".into()]).unwrap().to_toml();
    let comment = |start: &str| {
        let line = text
            .lines()
            .find(|line| line.starts_with(start))
            .unwrap_or_else(|| panic!("{start} in\n{text}"));
        line.split(" # ").nth(1).unwrap().to_string()
    };
    assert_eq!(comment("problems_per_step = 8"), "base base.toml:2");
    assert_eq!(comment("steps = 3"), "top.toml:2");
    assert_eq!(comment("seed = 4"), "--set");
    assert_eq!(comment("schedule = \"seele\""), "preset seele");
    assert_eq!(comment("beta1 = 0.9"), "default");
    assert_eq!(comment("l_max = 2048"), "from rollout.max_new_tokens");
    assert_eq!(comment("rollouts = 8"), "preset seele");
    assert_eq!(comment("rollouts_per_problem = 32"), "from hint.rollouts");
}

#[test]
fn the_paper_s_numbers_are_what_an_almost_empty_recipe_runs() {
    let recipe = load(SMALL, &[]).unwrap();
    assert_eq!(
        (recipe.method.as_str(), recipe.name.as_str()),
        ("seele", "r")
    );
    assert_eq!(
        (
            recipe.rollout.problems_per_step,
            recipe.rollout.rollouts_per_problem
        ),
        (256, 32)
    );
    assert_eq!(
        (recipe.update.problems_per_update, recipe.update.passes),
        (64, 1)
    );
    assert_eq!(
        (recipe.rollout.max_new_tokens, recipe.rollout.temperature),
        (2048, 1.0)
    );
    assert_eq!(
        (recipe.objective.kl.coef, recipe.objective.imitation.coef),
        (0.001, 0.001)
    );
    assert_eq!(recipe.objective.aggregation.l_max, Some(2048));
    assert_eq!(recipe.learning_rate.peak, 1e-6);
    assert_eq!(recipe.target_accuracy(), Some(0.5));
    assert_eq!(recipe.optimizer_steps(1000), 3 * 4);
    assert_eq!(recipe.hint.schedule().unwrap().max_rounds(), 4);
}

#[test]
fn the_budget_of_rollouts_holds_for_every_method() {
    for method in methods() {
        let recipe = load(
            SMALL,
            &[
                &format!("method={method}"),
                "rollout.rollouts_per_problem=16",
            ],
        )
        .unwrap();
        assert_eq!(recipe.rollout.rollouts_per_problem, 16, "{method}");
        assert_eq!(
            recipe.hint.schedule().unwrap().max_rollouts(),
            16,
            "{method}"
        );
    }
    let message = load(SMALL, &["rollout.rollouts_per_problem=30"]).unwrap_err();
    assert!(
        message.contains("30 rollouts cannot be shared out evenly"),
        "{message}"
    );
    let message = load(
        SMALL,
        &["rollout.rollouts_per_problem=32", "hint.rollouts=2"],
    )
    .unwrap_err();
    assert!(
        message.contains("disagrees with `hint.rollouts`"),
        "{message}"
    );
}

#[test]
fn paths_start_from_the_file_they_stand_in() {
    let folder = Folder::new();
    folder.write("models/base.toml", "[model]\npath = \"weights\"\n");
    let path = folder.write(
        "runs/top.toml",
        "extends = \"../models/base.toml\"\nsteps = 1\n[data]\npath = \"x.jsonl\"\n",
    );
    let recipe = Recipe::load(&path, &[]).unwrap();
    let root = folder.0.path().canonicalize().unwrap();
    assert_eq!(
        recipe.model.source,
        ModelSource::Path(root.join("models/weights"))
    );
    assert!(
        matches!(recipe.data.source, ProblemSource::File { path, .. } if path == root.join("runs/x.jsonl"))
    );
    let here = std::env::current_dir().unwrap().join("y.jsonl");
    let recipe = Recipe::load(&path, &["data.path=y.jsonl".into()]).unwrap();
    assert!(matches!(recipe.data.source, ProblemSource::File { path, .. } if path == here));
}

#[test]
fn a_missing_file_names_key_and_line() {
    let folder = Folder::new();
    let path = folder.write("r.toml", SMALL);
    let message = Recipe::load(&path, &[])
        .unwrap()
        .check_files()
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("r.toml:3: `model.path`") && message.contains("does not exist"),
        "{message}"
    );
    folder.write("model/config.json", "{}");
    let message = Recipe::load(&path, &[])
        .unwrap()
        .check_files()
        .unwrap_err()
        .to_string();
    assert!(message.contains("r.toml:5: `data.path`"), "{message}");
}

#[test]
fn wrong_recipes_are_answered_with_place_and_remedy() {
    let cases: &[(&str, &[&str], &str)] = &[
        (
            "[model]\npath = \"m\"\n[data]\npath = \"d\"\n",
            &[],
            "`steps` is missing (table at r.toml:1); write `steps = ...`, or `epochs = ...` for passes over the problems",
        ),
        (
            "steps = 1\n[model]\ncompute = \"f32\"\n[data]\npath = \"d\"\n",
            &[],
            "`model.path` is missing (table at r.toml:2); name a Hugging Face folder or a GGUF file, or describe a fresh model in [model.new]",
        ),
        (
            SMALL,
            &["optimiser.beta1=0.5"],
            "--set optimiser.beta1=0.5: unknown key `optimiser`; did you mean `optimizer`?",
        ),
        (
            SMALL,
            &["hint.target=0.5"],
            "--set hint.target=0.5: unknown key `hint.target`; did you mean `hint.target_accuracy`?",
        ),
        (
            SMALL,
            &["hint.target_accuracy=1.5"],
            "--set hint.target_accuracy=1.5: `hint.target_accuracy`: expected a number between 0 and 1, found 1.5",
        ),
        (
            SMALL,
            &["hint.schedule=sele"],
            "--set hint.schedule=sele: `hint.schedule`: unknown value `sele`; did you mean `seele`?",
        ),
        (
            SMALL,
            &["method=ppo"],
            "--set method=ppo: `method`: unknown method `ppo`; known methods: seele, seele-bayes, grpo",
        ),
        (
            SMALL,
            &["steps=0"],
            "--set steps=0: `steps`: expected a whole number, 1 or more (0 only after a supervised stage, [sft]), found 0",
        ),
        (
            SMALL,
            &["steps=many"],
            "--set steps=many: `steps`: expected a whole number, 0 or more, found `\"many\"`",
        ),
        (
            SMALL,
            &["rollout.temperature=0"],
            "`rollout.temperature`: expected a number above 0, found 0",
        ),
        (
            SMALL,
            &["update.problems_per_update=300"],
            "expected 1 to rollout.problems_per_step (256), found 300",
        ),
        (SMALL, &["policy_loss.clip_low=2"], "`policy_loss.clip_low`"),
        (
            SMALL,
            &["learning_rate.peak=-1"],
            "`learning_rate.peak`: expected a finite number above 0, found -1",
        ),
        (
            SMALL,
            &["reward.extraction=box"],
            "`reward.extraction`: unknown value `box`; did you mean `boxed`?",
        ),
        (SMALL, &["data.template=r1zero"], "did you mean `r1-zero`?"),
        (
            SMALL,
            &["eval.sets.hard.limit=3"],
            "`eval.sets.hard.path` is missing",
        ),
        (
            SMALL,
            &["eval.sets.a.path=x", "eval.sets.a.limt=3"],
            "unknown key `eval.sets.a.limt`; did you mean `eval.sets.a.limit`?",
        ),
        (
            SMALL,
            &["data.arithmetic.count=0"],
            "`data.arithmetic.count`: expected at least 1, found 0",
        ),
        (
            SMALL,
            &["model.new.layers=2"],
            "`model.new.hidden_size` is missing",
        ),
        (
            SMALL,
            &["method=dapo", "overlong.buffer=4096"],
            "--set overlong.buffer=4096: `overlong.buffer`: expected at most rollout.max_new_tokens (2048), found 4096",
        ),
        (
            SMALL,
            &["reward.overlong.buffer_tokens=100"],
            "`reward.overlong`: in training, rewards are shaped by length in [overlong]",
        ),
        (
            SMALL,
            &["hint.hint_use=policy"],
            "--set hint.hint_use=policy: `hint.hint_use`: `policy` has no effect without `policy_loss.on_hint = true`",
        ),
        (
            SMALL,
            &["policy_loss.on_hint=true"],
            "--set policy_loss.on_hint=true: `policy_loss.on_hint`: hint schedule `seele` gives no hint tokens to the policy loss",
        ),
        (
            SMALL,
            &["hint.schedule=fixed"],
            "`imitation.coef`: 0.001 has no effect: hint schedule `fixed` uses its hints as `context`",
        ),
        (
            SMALL,
            &["optimizer.max_skipped_updates=0"],
            "`optimizer.max_skipped_updates`: expected a whole number, 1 or more, found 0",
        ),
        (
            SMALL,
            &["save.keep_best=eval/hard/accuracy"],
            "`save.keep_best`: expected one of reward/mean, found `eval/hard/accuracy`",
        ),
        (
            SMALL,
            &["eval.sets.a.path=a.jsonl", "eval.sets.a.samples=4"],
            "--set eval.sets.a.samples=4: `eval.sets.a.samples`: expected 1 for greedy answers, which are all the same; set `temperature` for more, found 4",
        ),
        (
            SMALL,
            &["eval.sets.a.path=a.jsonl", "eval.sets.a.temperature=-1"],
            "`eval.sets.a.temperature`: expected 0 (greedy) or a number above 0, found -1",
        ),
        (
            SMALL,
            &["save.keep_last=0"],
            "`save.keep_last`: expected a whole number, 1 or more, found 0",
        ),
        (
            SMALL,
            &["name=a/b"],
            "`name`: expected text that can name a folder",
        ),
    ];
    for (text, overrides, expected) in cases {
        let message = load(text, overrides).expect_err(expected);
        assert!(
            message.contains(expected),
            "{overrides:?}\n  found:    {message}\n  expected: {expected}"
        );
    }
}

#[test]
fn sft_has_defaults_of_its_own() {
    let recipe = load(
        &format!("{SMALL}[sft]\nsteps = 7\nlearning_rate = {{ warmup_steps = 2 }}\n"),
        &[],
    )
    .unwrap();
    let sft = recipe.sft.as_ref().unwrap();
    assert_eq!(
        (
            sft.learning_rate.peak,
            sft.learning_rate.warmup_steps,
            sft.learning_rate.warmup_share
        ),
        (1e-5, 2, 0.0)
    );
    assert_eq!(sft.data, recipe.data);
    assert_eq!(reload(&recipe), recipe);
}

#[test]
fn the_quickstart_opens_and_adds_up() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes/quickstart.toml");
    let recipe = Recipe::load(
        &path,
        &[
            "rollout.problems_per_step=8".into(),
            "update.problems_per_update=3".into(),
        ],
    )
    .unwrap();
    let materials = recipe.open().unwrap();
    let problems = recipe.data.problems().unwrap();
    assert_eq!(materials.train.problems.len(), problems.len());
    assert!(materials.eval.iter().all(|(_, data)| {
        data.problems
            .iter()
            .all(|(_, encoded)| encoded.solution_ids.is_empty())
    }));
    let first = &materials.train.problems[0];
    let text = materials
        .tokenizer
        .decode(&first.1.solution_ids, false)
        .unwrap();
    assert_eq!(Some(text), problems[0].solution);

    let budget = Budget::of(&recipe, &materials);
    let model = materials.read_model(seele_random::Key::new(0)).unwrap();
    assert_eq!(budget.parameters, model.parameters.values.len() as u64);
    assert_eq!(budget.updates_per_step, 3);
    assert_eq!(
        budget.rollouts_per_step,
        8 * recipe.rollout.rollouts_per_problem as u64
    );
    assert_eq!(budget.memory.moments, 2 * budget.memory.weights);
    assert!(budget.memory.total() > 5 * budget.memory.weights);
}

#[test]
fn a_broken_row_names_section_file_and_line() {
    let folder = Folder::new();
    folder.write("train.jsonl", "{\"problem\": \"1+1=\", \"answer\": \"2\", \"solution\": \"2\"}\n{\"problem\": \"1+2=\"}\n");
    let shape =
        "hidden_size=8\nlayers=1\nheads=2\nintermediate_size=8\nmax_position_embeddings=4096\n";
    let path = folder.write(
        "r.toml",
        &format!("steps=1\n[data]\npath=\"train.jsonl\"\n[model.new]\n{shape}"),
    );
    let recipe = Recipe::load(&path, &[]).unwrap();
    let message = recipe.open().unwrap_err().to_string();
    assert!(
        message.starts_with("[data]: ") && message.contains("train.jsonl`, line 2"),
        "{message}"
    );
}

#[test]
fn the_overlong_zone_of_dapo_is_a_fifth_of_the_longest_response() {
    let buffer = |overrides: &[&str]| {
        let recipe = load(SMALL, overrides).unwrap();
        assert_eq!(reload(&recipe), recipe);
        recipe.objective.overlong.buffer.value()
    };
    assert_eq!(buffer(&["method=dapo"]), Some(409.0));
    let long = ["method=dapo", "rollout.max_new_tokens=20480"];
    assert_eq!(buffer(&long), Some(4096.0));
    assert_eq!(
        buffer(&["method=dapo", "overlong.buffer=2048"]),
        Some(2048.0)
    );
    assert_eq!(buffer(&["method=seele"]), None);
}

#[test]
fn reference_answers_that_cannot_be_read_are_found_before_training() {
    let rows = |golds: &[&str]| -> String {
        let row = |(index, gold): (usize, &&str)| {
            serde_json::json!({"id": format!("p{index}"), "problem": "1+1=", "answer": gold, "solution": "2"})
                .to_string()
                + "\n"
        };
        golds.iter().enumerate().map(row).collect()
    };
    let open = |golds: &[&str], more: &str| {
        let folder = Folder::new();
        folder.write("train.jsonl", &rows(golds));
        let shape =
            "hidden_size=8\nlayers=1\nheads=2\nintermediate_size=8\nmax_position_embeddings=4096\n";
        let path = folder.write(
            "r.toml",
            &format!("steps=1\n{more}\n[data]\npath=\"train.jsonl\"\n[model.new]\n{shape}"),
        );
        let overrides = ["rollout.problems_per_step=1".to_string()];
        Recipe::load(&path, &overrides).unwrap().open()
    };
    let broken = "\\frac{1}{";
    let materials = open(&["2", broken, "3", broken], "").unwrap();
    let [golds] = materials.unusable_rows.as_slice() else {
        panic!("one section")
    };
    assert_eq!((golds.unusable, golds.problems), (2, 4));
    let message = golds.to_string();
    assert!(
        message.contains("[data]: the reward cannot judge 2 of 4 rows")
            && message.contains("`p1`")
            && message.contains("line 2")
            && message.contains("cannot be read"),
        "{message}"
    );
    assert!(open(&["2", "3"], "").unwrap().unusable_rows.is_empty());
    let message = open(&[broken, broken], "").unwrap_err().to_string();
    assert!(
        message.contains("2 of 2") && message.contains("[reward]"),
        "{message}"
    );
    let exact = "reward = { kind = \"exact\" }";
    assert!(open(&[broken], exact).unwrap().unusable_rows.is_empty());
}
