//! Threads that stay awake for the length of a pass.
//!
//! A pass over a model is hundreds of short parallel parts, each of which needs the results of the one
//! before. Waking a sleeping thread for every part takes as long as the smaller products do. So for the
//! length of a pass ([`together`]) the pool's other threads wait for the next part ([`each`]) spinning,
//! and start on it within a microsecond. Each thread begins with its own run of a part's tasks, the same
//! in every part with as many, because their rows are in its cache; then it helps with the runs of the
//! others, so that nobody waits for a thread that is busy elsewhere.

use std::cell::{Cell, UnsafeCell};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// Looks at the gate, each followed by a pause of the processor, before a thread lets others run. About
/// 0.1 ms: longer than most of what the leader does alone.
const PATIENCE: u32 = 2000;

/// Set while the part may be entered.
const OPEN: u64 = 1 << 32;
/// One part, above the bit [`OPEN`]; below it is the number of threads inside.
const PART: u64 = 1 << 33;
const INSIDE: u64 = OPEN - 1;

/// Called with the number of a thread in its team; the leader's is 0.
type Part = dyn Fn(usize) + Sync;

/// What the threads of a pass share.
struct Team {
    /// The leader included.
    threads: usize,
    /// Number of the part, whether it is open, how many threads are inside.
    gate: AtomicU64,
    /// Written by the leader while the gate is closed and nobody is inside.
    part: UnsafeCell<Option<&'static Part>>,
    dismissed: AtomicBool,
}

// SAFETY: `part` is written only while nobody is inside, and read only by those who entered after that.
unsafe impl Sync for Team {}

/// What a thread is to its parallel parts.
#[derive(Clone, Copy)]
enum Role {
    /// In no pass.
    Outside,
    /// It leads this team.
    Leader(*const Team),
    /// It works on a task.
    Worker,
}

thread_local! {
    static ROLE: Cell<Role> = const { Cell::new(Role::Outside) };
}

/// Gives the thread a role, and the one it had back on drop.
struct Acting(Role);

impl Acting {
    fn new(role: Role) -> Self {
        Self(ROLE.replace(role))
    }
}

impl Drop for Acting {
    fn drop(&mut self) {
        ROLE.set(self.0);
    }
}

/// Waits a moment, the longer it has waited the more patiently.
#[derive(Default)]
struct Wait(u32);

impl Wait {
    fn moment(&mut self) {
        if self.0 < PATIENCE {
            self.0 += 1;
            std::hint::spin_loop();
        } else {
            std::thread::yield_now();
        }
    }
}

impl Team {
    /// Runs `part` on this thread and on those that wait for it.
    fn run(&self, part: &(dyn Fn(usize) + Sync)) {
        /// Closes the gate and waits until the part is no longer used, after a panic too.
        struct Closing<'a>(&'a Team);
        impl Drop for Closing<'_> {
            fn drop(&mut self) {
                self.0.gate.fetch_and(!OPEN, Ordering::Relaxed);
                let mut wait = Wait::default();
                while self.0.gate.load(Ordering::Acquire) & INSIDE > 0 {
                    wait.moment();
                }
            }
        }
        // SAFETY: the gate is closed and nobody is inside: only the leader opens it, and it waits.
        // The part outlives its use, because `Closing` waits for everybody inside.
        unsafe {
            *self.part.get() =
                Some(std::mem::transmute::<&(dyn Fn(usize) + Sync), &'static Part>(part));
        }
        self.gate.fetch_add(PART | OPEN, Ordering::Release);
        let _closing = Closing(self);
        let _acting = Acting::new(Role::Worker);
        part(0);
    }

    /// Joins in every part until the team is dismissed, as its thread `number`.
    fn follow(&self, number: usize) {
        struct Leaving<'a>(&'a Team);
        impl Drop for Leaving<'_> {
            fn drop(&mut self) {
                self.0.gate.fetch_sub(1, Ordering::Release);
            }
        }
        let _acting = Acting::new(Role::Worker);
        let (mut done, mut wait) = (0, Wait::default());
        while !self.dismissed.load(Ordering::Relaxed) {
            let gate = self.gate.load(Ordering::Relaxed);
            let entered = gate & OPEN > 0
                && gate / PART != done
                && self
                    .gate
                    .compare_exchange(gate, gate + 1, Ordering::Acquire, Ordering::Relaxed)
                    .is_ok();
            if !entered {
                wait.moment();
                continue;
            }
            let _leaving = Leaving(self);
            done = gate / PART;
            // SAFETY: the leader wrote it before it opened the gate, and leaves it while we are inside.
            if let Some(part) = unsafe { *self.part.get() } {
                part(number);
            }
            wait = Wait::default();
        }
    }
}

/// Runs `work`, the parallel parts of which ([`each`]) find the threads of the current pool awake.
///
/// `work` must not wait for tasks of the pool in other ways (parallel iterators, joins): its threads are
/// busy waiting for `work`.
pub fn together<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    /// Sends the followers home, after a panic too.
    struct Dismissing<'a>(&'a Team);
    impl Drop for Dismissing<'_> {
        fn drop(&mut self) {
            self.0.dismissed.store(true, Ordering::Relaxed);
        }
    }
    let outside = matches!(ROLE.get(), Role::Outside);
    let threads = rayon::current_num_threads();
    if !outside || threads == 1 {
        return work();
    }
    let team = Team {
        threads,
        gate: AtomicU64::new(0),
        part: UnsafeCell::new(None),
        dismissed: AtomicBool::new(false),
    };
    let team = &team;
    rayon::scope(|scope| {
        for number in 1..threads {
            scope.spawn(move |_| team.follow(number));
        }
        let _dismissing = Dismissing(team);
        let _acting = Acting::new(Role::Leader(team));
        work()
    })
}

/// Calls `work(index)` for every index below `count`, on all threads of the pass.
pub fn each(count: usize, work: impl Fn(usize) + Sync) {
    each_with(count, || (), |(), index| work(index));
}

/// As [`each`]; every thread that takes part makes itself a `state` first.
pub fn each_with<S>(
    count: usize,
    state: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, usize) + Sync,
) {
    match ROLE.get() {
        // SAFETY: the role ends before the team does.
        Role::Leader(team) if count > 1 => spread(unsafe { &*team }, count, &state, &work),
        Role::Outside if count > 1 && rayon::current_num_threads() > 1 => {
            together(|| match ROLE.get() {
                // SAFETY: as above.
                Role::Leader(team) => spread(unsafe { &*team }, count, &state, &work),
                _ => work_on(0..count, &state, &work),
            });
        }
        _ => work_on(0..count, &state, &work),
    }
}

fn work_on<S>(
    mut tasks: impl Iterator<Item = usize>,
    state: &impl Fn() -> S,
    work: &impl Fn(&mut S, usize),
) {
    if let Some(first) = tasks.next() {
        let mut state = state();
        work(&mut state, first);
        tasks.for_each(|index| work(&mut state, index));
    }
}

/// Tasks that one thread begins with, up to `end`; on a cache line of its own.
#[repr(align(64))]
struct Run {
    next: AtomicUsize,
    end: usize,
}

impl Run {
    /// The tasks that nobody has taken, each taken as it is named.
    fn tasks(&self) -> impl Iterator<Item = usize> {
        std::iter::from_fn(|| {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            (index < self.end).then_some(index)
        })
    }
}

fn spread<S>(
    team: &Team,
    count: usize,
    state: &(impl Fn() -> S + Sync),
    work: &(impl Fn(&mut S, usize) + Sync),
) {
    let threads = team.threads;
    let runs = (0..threads).map(|thread| Run {
        next: AtomicUsize::new(count * thread / threads),
        end: count * (thread + 1) / threads,
    });
    let runs: Vec<Run> = runs.collect();
    team.run(&|number| {
        let (others, own) = runs.split_at(number);
        work_on(own.iter().chain(others).flat_map(Run::tasks), state, work);
    });
}

/// As [`each`], for the chunks of `values` of `len` elements, the last of which may be shorter.
pub(crate) fn each_chunk<T: Send>(
    values: &mut [T],
    len: usize,
    work: impl Fn(usize, &mut [T]) + Sync,
) {
    collect_chunks(values, len, || (), |(), index, chunk| work(index, chunk));
}

/// The results of `work` for the chunks of `values` of `len` elements (the last may be shorter), in order;
/// otherwise as [`each_with`].
pub fn collect_chunks<T: Send, R: Send + Default, S>(
    values: &mut [T],
    len: usize,
    state: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, usize, &mut [T]) -> R + Sync,
) -> Vec<R> {
    let (shared, total) = (super::Shared(values.as_mut_ptr()), values.len());
    collect(total.div_ceil(len.max(1)), state, |state, index| {
        let first = index * len;
        // SAFETY: chunks do not overlap, and each goes to one task.
        let chunk = unsafe { shared.slice(first, len.min(total - first)) };
        work(state, index, chunk)
    })
}

/// The results of `work` for every index below `count`, in order; otherwise as [`each_with`].
pub(crate) fn collect<R: Send + Default, S>(
    count: usize,
    state: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, usize) -> R + Sync,
) -> Vec<R> {
    let mut results: Vec<R> = (0..count).map(|_| R::default()).collect();
    let shared = super::Shared(results.as_mut_ptr());
    each_with(count, state, |state, index| {
        let result = work(state, index);
        // SAFETY: each task writes its own result, over an initialised one.
        unsafe { *shared.at(index) = result };
    });
    results
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    fn with_threads<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> R {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build().expect("threads can be started").install(work)
    }

    /// Sum over the indices of each of many parts, every task counted once.
    fn parts() -> Vec<usize> {
        let sum = AtomicUsize::new(0);
        let part = |count: usize| {
            sum.store(0, Ordering::Relaxed);
            each(count, |index| {
                sum.fetch_add(index + 1, Ordering::Relaxed);
            });
            sum.load(Ordering::Relaxed)
        };
        (0..500).map(|i| part(i % 7)).collect()
    }

    #[test]
    fn every_task_of_every_part_is_done_once() {
        let expected: Vec<usize> = (0..500).map(|i| (i % 7) * (i % 7 + 1) / 2).collect();
        for threads in [1, 2, 3, 8] {
            assert_eq!(with_threads(threads, || together(parts)), expected);
        }
        // Outside a pass, every part is one of its own.
        assert_eq!(with_threads(2, parts), expected);
    }

    #[test]
    fn parts_within_tasks_run_where_they_are() {
        let done = AtomicUsize::new(0);
        with_threads(4, || {
            together(|| {
                each(10, |_| {
                    together(|| {
                        each(10, |_| {
                            done.fetch_add(1, Ordering::Relaxed);
                        });
                    });
                });
            });
        });
        assert_eq!(done.into_inner(), 100);
    }

    #[test]
    fn results_come_in_order_and_states_stay_with_their_thread() {
        with_threads(3, || {
            together(|| {
                let squares = collect(100, || (), |(), i| i * i);
                assert!(squares.iter().enumerate().all(|(i, &s)| s == i * i));
                each_with(100, std::thread::current, |thread, _| {
                    assert_eq!(thread.id(), std::thread::current().id());
                });
                let mut values = vec![0; 10];
                each_chunk(&mut values, 4, |index, chunk| {
                    chunk.fill(10 * index + chunk.len());
                });
                assert_eq!(values, [4, 4, 4, 4, 14, 14, 14, 14, 22, 22]);
            });
        });
    }

    #[test]
    fn a_panic_in_a_task_reaches_the_caller_and_frees_the_threads() {
        with_threads(3, || {
            for wanted in 0..6 {
                let panicking = || together(|| each(6, |index| assert_ne!(index, wanted)));
                assert!(catch_unwind(AssertUnwindSafe(panicking)).is_err());
            }
            assert_eq!(together(|| collect(4, || (), |(), i| i)), [0, 1, 2, 3]);
        });
    }
}
