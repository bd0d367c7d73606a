//! What a run holds, counted to the byte by the allocator: it does not grow with the steps, and a checkpoint
//! costs one copy of the run or none.
#![expect(clippy::unwrap_used, reason = "a test may stop where its set-up fails")]

use seele_train::metrics::StepMetrics;
use seele_train::progress::Observer;
use seele_train::recipe::Recipe;
use seele_train::trainer::run;
use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

/// Live bytes of the process and their highest count since it was last set back.
static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
/// Live allocations.
static BLOCKS: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator with a count of what is live.
struct Counting;

// SAFETY: every call goes to `System` with its arguments unchanged; the counters do not touch memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BLOCKS.fetch_add(1, Relaxed);
        let live = LIVE.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(live, Relaxed);
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        BLOCKS.fetch_sub(1, Relaxed);
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: `pointer` came from `System` with this `layout`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The counts are those of the process, so one run at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

const RECIPE: &str = r#"
method = "seele"
threads = 1
[model.new]
hidden_size = 64
layers = 2
heads = 2
intermediate_size = 128
max_position_embeddings = 64
[data]
template = "bare"
arithmetic = { operations = { min = 1, max = 2 }, count = 10 }
[rollout]
problems_per_step = 2
rollouts_per_problem = 4
max_new_tokens = 8
[hint]
rounds = 2
[overlong]
buffer = 8
[reward]
extraction = "fallback"
# The policy stays what it is, so that rollouts do not grow and shrink and the work buffers with them.
[learning_rate]
peak = 1e-9
[eval.sets.held_out]
arithmetic = { operations = { min = 1, max = 1 }, count = 5 }
"#;

fn train(overrides: &[String], observer: &mut dyn Observer) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("recipe.toml");
    fs::write(&file, RECIPE).unwrap();
    let recipe = Recipe::load(&file, overrides).unwrap();
    let materials = recipe.open().unwrap();
    let stop = AtomicBool::new(false);
    run(&recipe, materials, observer, &stop, folder.path(), None).unwrap();
}

/// Live bytes and allocations at the end of every step.
struct Held {
    bytes: Vec<usize>,
    blocks: Vec<usize>,
}

impl Observer for Held {
    fn step_finished(&mut self, _: &StepMetrics) {
        self.bytes.push(LIVE.load(Relaxed));
        self.blocks.push(BLOCKS.load(Relaxed));
    }
}

/// Means of `parts` equal parts of the steps after a tenth, which is for warming up: weights and problems are
/// there from the beginning, hint memory fills with the first visits.
fn means(held: &[usize], parts: usize) -> Vec<f64> {
    let after = &held[held.len() / 10..];
    let mean = |part: &[usize]| part.iter().sum::<usize>() as f64 / part.len() as f64;
    after.chunks_exact(after.len() / parts).map(mean).collect()
}

fn assert_flat(what: &str, means: &[f64]) {
    let least = means.iter().copied().fold(f64::MAX, f64::min);
    let most = means.iter().copied().fold(0.0, f64::max);
    let apart = 100.0 * (most / least - 1.0);
    eprintln!("{what}: {least:.0} to {most:.0}, {apart:.2} % apart");
    assert!(most <= 1.02 * least, "{what}: {means:.0?}");
}

fn assert_flat_over(steps: usize, parts: usize) {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let overrides = [
        format!("steps={steps}"),
        format!("save.every_steps={}", steps / 40),
        format!("eval.every_steps={}", steps / 40),
        // On a busy machine the copy that is written beside training would last for many steps.
        "save.beside_training=false".into(),
    ];
    let mut held = Held {
        // No growth of its own.
        bytes: Vec::with_capacity(steps),
        blocks: Vec::with_capacity(steps),
    };
    train(&overrides, &mut held);
    assert_eq!(held.bytes.len(), steps);
    assert_flat("live bytes", &means(&held.bytes, parts));
    assert_flat("live allocations", &means(&held.blocks, parts));
}

#[test]
fn live_memory_is_flat_within_two_percent() {
    assert_flat_over(2_000, 3);
}

#[test]
#[ignore = "many seconds: cargo test --release -p seele-train --test memory -- --ignored"]
fn live_memory_is_flat_within_two_percent_over_20_000_steps() {
    assert_flat_over(20_000, 9);
}

/// Most live bytes of a run of a larger model with checkpoints as `overrides` say.
fn peak(overrides: &[&str]) -> usize {
    let larger = [
        "steps=4",
        "model.new.hidden_size=128",
        "model.new.intermediate_size=512",
    ];
    let overrides = larger.iter().chain(overrides);
    let overrides: Vec<String> = overrides.map(ToString::to_string).collect();
    PEAK.store(LIVE.load(Relaxed), Relaxed);
    train(&overrides, &mut ());
    PEAK.load(Relaxed)
}

#[test]
fn a_checkpoint_costs_one_copy_of_the_run_or_none() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    // Weights and both moments of some 530,000 parameters, and room for what is written around them.
    let (copy, around) = (3 * 4 * 530_000, 1 << 20);
    let without = peak(&["save.every_steps=off"]);
    let waiting = peak(&["save.every_steps=1", "save.beside_training=false"]);
    let beside = peak(&["save.every_steps=1"]);
    assert!(waiting < without + around, "{without} {waiting}");
    assert!(beside < without + copy + around, "{without} {beside}");
}
