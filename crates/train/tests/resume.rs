//! Runs that are stopped and go on end like runs that were not, to the bit.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop where its set-up fails"
)]

use seele_train::checkpoint::{CHECKPOINTS, CheckpointError, CheckpointName, Found, Stage, find};
use seele_train::error::TrainError;
use seele_train::metrics::{
    METRICS_FILE, SFT_METRICS_FILE, SftStepMetrics, StepMetrics, depends_on_machine,
};
use seele_train::progress::Observer;
use seele_train::recipe::Recipe;
use seele_train::trainer::{MODEL, Outcome, run};
use serde_json::{Map, Value};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// 11 problems, 4 a step: epochs end inside steps.
const RECIPE: &str = r#"
method = "seele"
steps = 6
threads = 2
[model.new]
hidden_size = 16
layers = 1
heads = 2
intermediate_size = 16
max_position_embeddings = 96
[data]
template = "bare"
arithmetic = { operations = { min = 2, max = 3 }, count = 11 }
[sft]
steps = 3
sequences_per_step = 4
problems_per_sequence = 2
learning_rate = { peak = 1e-3 }
[sft.data]
template = "bare"
arithmetic = { operations = { min = 1, max = 2 }, count = 5 }
[rollout]
problems_per_step = 4
rollouts_per_problem = 4
max_new_tokens = 8
[hint]
rounds = 2
[reward]
extraction = "fallback"
# A model this small is never right; rewards differ by length.
[overlong]
buffer = 8
[update]
problems_per_update = 2
passes = 2
[learning_rate]
peak = 1e-2
[eval]
every_steps = 4
[eval.sets.easy]
arithmetic = { operations = { min = 1, max = 1 }, count = 4 }
[save]
every_steps = 1
keep_last = 100
"#;

/// Lines of a log.
type Log = Vec<Map<String, Value>>;

/// A run folder with its recipe.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn recipe(&self, overrides: &[&str]) -> Recipe {
        let file = self.path().join("given.toml");
        fs::write(&file, RECIPE).unwrap();
        let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
        Recipe::load(&file, &overrides).unwrap()
    }

    fn train(
        &self,
        overrides: &[&str],
        mut observer: impl Observer,
    ) -> Result<Outcome, TrainError> {
        self.go(overrides, &mut observer, &AtomicBool::new(false), None)
    }

    fn go(
        &self,
        overrides: &[&str],
        observer: &mut dyn Observer,
        stop: &AtomicBool,
        resume: Option<&Path>,
    ) -> Result<Outcome, TrainError> {
        let recipe = self.recipe(overrides);
        let materials = recipe.open().unwrap();
        let found = resume.map(find).transpose()?;
        let checkpoint = found.as_ref().map(|found| &found.checkpoint);
        run(&recipe, materials, observer, stop, self.path(), checkpoint)
    }

    /// Goes on from the newest checkpoint.
    fn resume(&self, overrides: &[&str]) -> Result<Outcome, TrainError> {
        self.go(
            overrides,
            &mut (),
            &AtomicBool::new(false),
            Some(self.path()),
        )
    }

    fn newest(&self) -> Found {
        find(self.path()).unwrap()
    }

    fn checkpoint(&self, name: &str) -> PathBuf {
        self.path().join(CHECKPOINTS).join(name)
    }

    fn checkpoints(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.path().join(CHECKPOINTS))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| CheckpointName::parse(name).is_some())
            .collect();
        names.sort();
        names
    }

    /// All that a run leaves behind and that does not depend on clock and machine.
    fn result(&self) -> (Vec<u8>, Log, Log) {
        let model = fs::read(self.path().join(MODEL).join("model.safetensors")).unwrap();
        let log = |name: &str| without_times(&self.path().join(name));
        (model, log(METRICS_FILE), log(SFT_METRICS_FILE))
    }
}

fn without_times(log: &Path) -> Log {
    let line = |line: &str| {
        let mut map: Map<String, Value> = serde_json::from_str(line).unwrap();
        map.retain(|key, _| !depends_on_machine(key));
        map
    };
    // A run without supervised fine-tuning has no log of it.
    let text = fs::read_to_string(log).unwrap_or_default();
    text.lines().map(line).collect()
}

/// Asks for a stop after a number of steps of either stage.
struct StopAfter<'a> {
    steps: usize,
    stop: &'a AtomicBool,
}

impl StopAfter<'_> {
    fn count(&mut self) {
        self.steps = self.steps.saturating_sub(1);
        if self.steps == 0 {
            self.stop.store(true, Ordering::SeqCst);
        }
    }
}

impl Observer for StopAfter<'_> {
    fn sft_step_finished(&mut self, _: &SftStepMetrics) {
        self.count();
    }

    fn step_finished(&mut self, _: &StepMetrics) {
        self.count();
    }
}

#[test]
fn a_run_stopped_after_any_step_goes_on_to_the_same_bits() {
    let whole = Place::new();
    assert_eq!(whole.train(&[], ()).unwrap(), Outcome::Finished);
    let expected = whole.result();
    assert_eq!((expected.1.len(), expected.2.len()), (7, 3));
    let rates = |row: &Map<String, Value>| row["hint/round_1/rate"].as_f64();
    assert_ne!(rates(&expected.1[1]), rates(&expected.1[6]));
    let clipped = |row: &Map<String, Value>| row["policy/clip_fraction"].as_f64() > Some(0.0);
    assert!(expected.1[1..].iter().any(clipped));

    for steps in 1..=8 {
        let place = Place::new();
        let stop = AtomicBool::new(false);
        let mut observer = StopAfter { steps, stop: &stop };
        let outcome = place.go(&[], &mut observer, &stop, None).unwrap();
        let Outcome::Stopped { checkpoint } = outcome else {
            panic!("not stopped after {steps}")
        };
        assert_eq!(place.newest().checkpoint.folder(), checkpoint);
        assert!(!place.path().join(MODEL).exists());
        assert_eq!(place.resume(&[]).unwrap(), Outcome::Finished);
        assert!(place.result() == expected, "stopped after {steps} steps");
    }
}

#[test]
fn a_run_cut_at_every_step_in_a_row_ends_the_same() {
    let whole = Place::new();
    whole.train(&["save.dtype=bf16"], ()).unwrap();
    let place = Place::new();
    let mut resume: Option<PathBuf> = None;
    let mut cuts = 0;
    loop {
        let stop = AtomicBool::new(false);
        let mut observer = StopAfter {
            steps: 1,
            stop: &stop,
        };
        let outcome = place.go(
            &["save.dtype=bf16"],
            &mut observer,
            &stop,
            resume.as_deref(),
        );
        match outcome.unwrap() {
            Outcome::Finished => break,
            Outcome::Stopped { checkpoint } => resume = Some(checkpoint),
        }
        cuts += 1;
    }
    assert_eq!(cuts, 8);
    assert!(place.result() == whole.result());
}

#[test]
fn every_checkpoint_leads_to_the_same_end_and_later_ones_are_set_aside() {
    let place = Place::new();
    place.train(&["save.beside_training=false"], ()).unwrap();
    let expected = place.result();
    let names = [
        "sft_step_1",
        "sft_step_2",
        "step_0",
        "step_1",
        "step_2",
        "step_3",
        "step_4",
        "step_5",
        "step_6",
    ];
    assert_eq!(place.checkpoints(), names);
    for name in ["step_5", "step_2", "step_0", "sft_step_1"] {
        let path = place.checkpoint(name);
        let mut nobody = ();
        let stop = AtomicBool::new(false);
        let overrides = ["save.beside_training=false"];
        place
            .go(&overrides, &mut nobody, &stop, Some(&path))
            .unwrap();
        assert!(place.result() == expected, "{name}");
        assert_eq!(place.checkpoints(), names);
        assert!(place.checkpoint("superseded_step_6").exists());
    }
}

#[test]
fn a_stop_before_the_first_step_is_a_checkpoint_too() {
    for overrides in [&["sft=off"][..], &[]] {
        let overrides: Vec<&str> = overrides.to_vec();
        let place = Place::new();
        let stop = AtomicBool::new(true);
        let outcome = place.go(&overrides, &mut (), &stop, None).unwrap();
        assert!(matches!(outcome, Outcome::Stopped { .. }));
        place.resume(&overrides).unwrap();
        let whole = Place::new();
        whole.train(&overrides, ()).unwrap();
        let (model, metrics) = (place.result().0, place.result().1);
        assert!(model == whole.result().0 && metrics == whole.result().1);
    }
}

#[test]
fn a_checkpoint_is_a_model_folder_with_card() {
    let place = Place::new();
    place.train(&[], ()).unwrap();
    let folder = place.checkpoint("step_4");
    let model = seele_policy::model::Model::load(&folder).unwrap();
    assert!(
        model
            .parameters
            .values
            .iter()
            .all(|value| value.is_finite())
    );
    for (name, expected) in [
        ("step_4", "checkpoint `step_4` of 6 steps"),
        // The evaluation before stays known.
        ("step_5", "| accuracy without hints on `easy` | 4 | "),
        ("sft_step_2", "None measured yet"),
        ("sft_step_2", "\nhidden_size = 16\n"),
    ] {
        let card = fs::read_to_string(place.checkpoint(name).join("README.md")).unwrap();
        assert!(card.contains(expected), "{card}");
        assert!(!card.contains(place.path().to_str().unwrap()), "{card}");
    }
    let last = fs::read(place.checkpoint("step_6").join("model.safetensors")).unwrap();
    assert_eq!(last, place.result().0);
}

#[test]
fn retention_keeps_the_last_every_so_many_and_the_best() {
    let place = Place::new();
    let overrides = [
        "save.keep_last=1",
        "save.keep_every=3",
        "save.keep_best=eval/easy/accuracy",
    ];
    place.train(&overrides, ()).unwrap();
    // The accuracy is 0 throughout, so the first evaluation of a step, the fourth, stays the best.
    assert_eq!(place.checkpoints(), ["step_3", "step_4", "step_6"]);
    assert_eq!(
        place.newest().checkpoint.state().best.map(|best| best.step),
        Some(4)
    );
    let folder = fs::read_dir(place.path().join(CHECKPOINTS)).unwrap();
    let hidden = folder.filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        name.to_string_lossy().starts_with('.')
    });
    assert_eq!(hidden.count(), 0);
}

#[test]
fn checkpoints_come_every_so_many_steps_and_evaluations_too() {
    let place = Place::new();
    place
        .train(&["sft=off", "save.every_steps=4", "eval.every_steps=3"], ())
        .unwrap();
    assert_eq!(place.checkpoints(), ["step_4", "step_6"]);
    let evaluated: Vec<u64> = without_times(&place.path().join(METRICS_FILE))
        .iter()
        .filter(|row| row.contains_key("eval/easy/accuracy"))
        .map(|row| row["step"].as_u64().unwrap())
        .collect();
    assert_eq!(evaluated, [0, 3, 6]);

    let place = Place::new();
    let overrides = [
        "sft=off",
        "save.every_steps=off",
        "save.keep_last=1",
        "save.keep_best=eval/easy/accuracy",
    ];
    place.train(&overrides, ()).unwrap();
    assert_eq!(place.checkpoints(), ["step_4", "step_6"]);

    let place = Place::new();
    let overrides = ["sft=off", "save.every_steps=off", "eval.every_steps=off"];
    place.train(&overrides, ()).unwrap();
    assert_eq!(place.checkpoints(), ["step_6"]);
}

#[test]
fn damaged_checkpoints_are_named_and_passed_over() {
    let place = Place::new();
    place.train(&[], ()).unwrap();
    let flip = |path: PathBuf| {
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::remove_file(&path).unwrap();
        fs::write(&path, bytes).unwrap();
    };
    flip(
        place
            .checkpoint("step_6")
            .join("trainer/first_moment.safetensors"),
    );
    let shard = place.checkpoint("step_5").join("model.safetensors");
    fs::write(&shard, &fs::read(&shard).unwrap()[..1000]).unwrap();
    fs::remove_file(place.checkpoint("step_4").join("trainer/state.json")).unwrap();
    fs::remove_file(place.checkpoint("step_3").join("trainer/manifest.json")).unwrap();
    let manifest = place.checkpoint("step_2").join("trainer/manifest.json");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(
        &manifest,
        text.replacen("\"format\": 1", "\"format\": 7", 1),
    )
    .unwrap();

    let found = place.newest();
    assert_eq!(found.checkpoint.folder(), place.checkpoint("step_1"));
    let why: Vec<String> = found.passed_over.iter().map(ToString::to_string).collect();
    for (message, expected) in why.iter().zip([
        "first_moment.safetensors` does not have the SHA-256",
        "model.safetensors` has 1000 bytes",
        "state.json` is missing",
        "step_3` is not a complete checkpoint",
        "step_2` has format 7, this program reads format 1",
    ]) {
        assert!(message.contains(expected), "{message}");
    }
    assert_eq!(why.len(), 5);
    for name in ["step_2", "step_3", "step_4", "step_5", "step_6"] {
        assert!(find(&place.checkpoint(name)).is_err(), "{name}");
    }
    let none = find(Place::new().path()).unwrap_err();
    assert!(matches!(none, CheckpointError::None { .. }), "{none}");
}

#[test]
fn a_checkpoint_of_another_run_is_refused_and_changes_nothing() {
    let place = Place::new();
    place.train(&[], ()).unwrap();
    let before = (place.checkpoints(), place.result());
    for (overrides, expected) in [
        (&["data.arithmetic.seed=9"][..], "other training problems"),
        (&["model.new.hidden_size=32"], "a model of another shape"),
        (
            &["model.new.alphabet=0123456789+-*()=;xyz"],
            "another tokenizer",
        ),
        (&["hint.schedule=seele-bayes"], "schedule"),
    ] {
        let overrides: Vec<&str> = [overrides, &["steps=9"]].concat();
        let message = place.resume(&overrides).unwrap_err().to_string();
        // A changed alphabet changes the tokens of the problems too.
        let other = expected == "another tokenizer" && message.contains("other training problems");
        assert!(message.contains(expected) || other, "{message}");
    }
    assert!((place.checkpoints(), place.result()) == before);
}

#[test]
fn a_run_that_reached_its_goals_is_over_until_they_change() {
    let whole = Place::new();
    whole.train(&[], ()).unwrap();
    let place = Place::new();
    let goal = |accuracy: f64| format!("eval.stop_at.easy={accuracy:?}");
    place.train(&[&goal(0.0)], ()).unwrap();
    let message = place.resume(&[&goal(0.0)]).unwrap_err().to_string();
    assert!(
        message.contains("nothing to do") && message.contains("step 4"),
        "{message}"
    );
    place.resume(&[&goal(1.0)]).unwrap();
    assert!(place.result() == whole.result());
}

#[test]
fn a_finished_run_has_nothing_to_do_until_its_steps_are_raised() {
    let place = Place::new();
    place.train(&[], ()).unwrap();
    let message = place.resume(&[]).unwrap_err().to_string();
    assert!(
        message.contains("nothing to do") && message.contains("step 6"),
        "{message}"
    );
    place.resume(&["steps=8"]).unwrap();
    let steps: Vec<u64> = without_times(&place.path().join(METRICS_FILE))
        .iter()
        .map(|row| row["step"].as_u64().unwrap())
        .collect();
    assert_eq!(steps, [0, 1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(place.newest().checkpoint.state().step, 8);
    // Killed between the last checkpoint and the model, a run still has the model to write.
    fs::remove_dir_all(place.path().join(MODEL)).unwrap();
    place.resume(&["steps=8"]).unwrap();
    assert!(place.path().join(MODEL).join("config.json").exists());
}

#[test]
fn a_log_that_was_cut_is_refused() {
    let place = Place::new();
    let stop = AtomicBool::new(false);
    let mut observer = StopAfter {
        steps: 5,
        stop: &stop,
    };
    place.go(&[], &mut observer, &stop, None).unwrap();
    let log = place.path().join(METRICS_FILE);
    fs::write(&log, "").unwrap();
    let message = place.resume(&[]).unwrap_err().to_string();
    assert!(
        message.contains("metrics.jsonl` has 0 bytes, but had"),
        "{message}"
    );
}

#[test]
fn a_run_that_diverges_stops_with_a_checkpoint() {
    let place = Place::new();
    let overrides = [
        "sft=off",
        "imitation.coef=1e308",
        "optimizer.max_skipped_updates=6",
    ];
    let error = place.train(&overrides, ()).unwrap_err();
    let TrainError::Diverged {
        step,
        updates,
        checkpoint,
    } = &error
    else {
        panic!("{error}")
    };
    // Four updates a step, all skipped.
    assert_eq!((*step, *updates), (2, 8));
    assert_eq!(checkpoint, &place.checkpoint("step_2"));
    assert_eq!(place.newest().checkpoint.state().stage, Stage::Training);
    assert!(error.to_string().contains("learning_rate.peak"), "{error}");
}

#[test]
fn recipes_are_compared_key_by_key() {
    let place = Place::new();
    let before = place.recipe(&[]);
    assert!(
        before
            .differences(&place.recipe(&["name=other"]))
            .is_empty()
    );
    let now = place.recipe(&["steps=9", "sft=off", "hint.target_accuracy=0.25"]);
    let found = before.differences(&now);
    let texts: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert!(texts.contains(&"steps: 6 -> 9".into()), "{texts:?}");
    assert!(
        texts.contains(&"hint.target_accuracy: 0.5 -> 0.25".into()),
        "{texts:?}"
    );
    assert!(found.iter().any(|difference| difference.is_at("sft")));
    let of_hint: Vec<_> = found
        .iter()
        .filter(|difference| difference.is_at("hint"))
        .collect();
    assert_eq!(of_hint.len(), 1);
}
