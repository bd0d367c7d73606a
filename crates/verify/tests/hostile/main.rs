//! Hostile answers get a verdict within the work limit and within little memory.
//!
//! Work is counted in steps, so nothing here depends on the machine; `cargo bench -p seele-verify` tells
//! how long the steps take.
mod answers;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use answers::{GOLDS, answers};
use seele_verify::{Extraction, Mode, Options, Verdict, check_gold, compare_answers, verify};

/// The most that one verdict may hold beyond its texts.
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

/// What `work` held at most, in bytes.
fn held(work: impl FnOnce()) -> usize {
    let before = LIVE.load(Relaxed);
    PEAK.store(before, Relaxed);
    work();
    PEAK.load(Relaxed).saturating_sub(before)
}

// One test: others in parallel would be counted, too.
#[test]
fn hostile_answers_end_within_their_limits() {
    let (mut most_steps, mut most_bytes) = (0, 0);
    for answer in &answers() {
        let shown: String = answer.chars().take(60).collect();
        for gold in GOLDS {
            for mode in [Mode::Math, Mode::Strict, Mode::Numeric] {
                let options = Options::with_mode(mode);
                let bytes = held(|| {
                    for (one, other) in [(gold, answer.as_str()), (answer.as_str(), gold)] {
                        let comparison = compare_answers(one, other, &options);
                        assert!(
                            comparison.verdict != Verdict::Correct,
                            "{one:.60} equals {other:.60}"
                        );
                        assert!(comparison.steps <= options.fuel);
                        most_steps = most_steps.max(comparison.steps);
                    }
                });
                assert!(bytes < MEMORY_LIMIT_BYTES, "{bytes} bytes for {shown}");
                most_bytes = most_bytes.max(bytes);
            }
        }
        let response = format!("\\boxed{{{answer}}} {answer}");
        let bytes = held(|| {
            for extraction in [
                Extraction::Boxed,
                Extraction::Fallback,
                Extraction::Choice,
                Extraction::AnswerTag,
            ] {
                let options = Options {
                    extraction,
                    ..Options::default()
                };
                let _ = verify(&response, "42", &options);
            }
            let _ = check_gold(answer, &Options::default());
        });
        assert!(bytes < MEMORY_LIMIT_BYTES, "{bytes} bytes for {shown}");
        most_bytes = most_bytes.max(bytes);
    }
    println!("at most {most_steps} steps and {most_bytes} bytes");
}
