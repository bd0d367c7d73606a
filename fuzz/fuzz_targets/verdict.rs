//! Any response and any gold get a verdict: no panic, no run-away, at most 64 MiB of live memory, and the
//! same verdict twice.
//!
//! The first byte chooses mode, extraction and what else is called, the first line break ends the gold, the rest is the response.
//!
//! From the repository's root, with `cargo install cargo-fuzz`:
//! `RUSTC_BOOTSTRAP=1 cargo fuzz run -s none verdict -- -max_len=1024 -timeout=10 -runs=10000000`.
#![no_main]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use libfuzzer_sys::fuzz_target;
use seele_verify::{
    Extraction, Mode, Options, check_gold, compare_answers, explain, verify_choice,
};

/// The most that one input may hold at a time.
const MEMORY_LIMIT_BYTES: usize = 64 << 20;

/// Live bytes of the process and their highest count since the last reset.
static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator with a count of live bytes.
struct Counting;

// SAFETY: every call goes to `System` with its arguments unchanged; the counters do not touch memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(live, Relaxed);
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: `pointer` came from `System` with this `layout`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const MODES: [Mode; 4] = [Mode::Math, Mode::Strict, Mode::Numeric, Mode::Choice];
const EXTRACTIONS: [Extraction; 4] = [
    Extraction::Boxed,
    Extraction::Fallback,
    Extraction::Choice,
    Extraction::AnswerTag,
];
const CHOICES: [&str; 3] = ["iron", "2 m", "x^2"];

fuzz_target!(|data: &[u8]| {
    let Some((&settings, text)) = data.split_first() else {
        return;
    };
    let text = String::from_utf8_lossy(text);
    let (gold, response) = text.split_once('\n').unwrap_or((&text, &text));
    let mode = MODES[usize::from(settings & 3)];
    let extraction = EXTRACTIONS[usize::from(settings >> 2 & 3)];
    let options = Options {
        extraction,
        relative_tolerance: (settings & 16 != 0).then_some(1e-3),
        ..Options::with_mode(mode)
    };

    let before = LIVE.load(Relaxed);
    PEAK.store(before, Relaxed);
    let grade = verify_choice(response, gold, &CHOICES, &options);
    // The rest now and then: it costs as much again.
    match settings >> 5 {
        0 => assert_eq!(
            grade,
            verify_choice(response, gold, &CHOICES, &options),
            "the verdict depends on something else than the texts"
        ),
        1 => drop(explain(response, gold, &CHOICES, &options)),
        2 => drop(check_gold(gold, &options)),
        _ => drop(compare_answers(response, gold, &options)),
    }
    let held = PEAK.load(Relaxed).saturating_sub(before);
    assert!(held <= MEMORY_LIMIT_BYTES, "one input held {held} bytes");
});
