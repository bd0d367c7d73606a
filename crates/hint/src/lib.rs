//! Keep every problem at a target accuracy, by revealing just enough of its solution.
//!
//! Reinforcement learning from verifiable rewards learns nothing from a problem that the policy always or never
//! solves: the loss descent of a step is bounded by the variance `a (1 - a)` of the reward, largest at accuracy
//! `a = 0.5`. SEELE (arXiv 2509.06923) therefore starts rollouts after a prefix of the reference solution, a
//! *hint*, and chooses its length so that about half of them succeed. This crate is that choice, and the
//! choices of related methods, for any trainer. It knows lengths and counts only: no tensors, no text, no
//! tokens, no files.
//!
//! # How much of the solution?
//!
//! Accuracy rises with the hint rate `p` (hint tokens divided by solution tokens) along a three-parameter
//! logistic [`Curve`] (Eq. 12):
//!
//! ```text
//! f(p) = b + (1 - b) / (1 + exp(-k (p + mu)))
//! ```
//!
//! A visit samples `m` rounds of `n` rollouts. After each round, the curve is fitted to the rounds so far, with
//! the margins (0, 0) and (1, 1) added where those rates were not observed, by least squares (Eq. 13), and the
//! next round uses the rate with `f(p) = target`:
//!
//! ```text
//! p* = -mu + ln((target - b) / (1 - target)) / k
//! ```
//!
//! ```
//! use seele_hint::{Estimator, LeastSquares, Observation};
//!
//! // 8 of 8 succeeded after 98 % of the solution, 1 of 8 after half of it.
//! let rounds = [
//!     Observation { rate: 0.98, accuracy: 1.0, rollouts: 8 },
//!     Observation { rate: 0.50, accuracy: 0.125, rollouts: 8 },
//! ];
//! let estimate = LeastSquares::default().estimate(&rounds, 0.5)?;
//! assert!(0.5 < estimate.rate && estimate.rate < 0.9);
//! assert!((estimate.predicted - 0.5).abs() < 1e-9);
//! # Ok::<(), seele_hint::HintError>(())
//! ```
//!
//! Two estimators implement [`Estimator`]: [`LeastSquares`] (`irt-lsq`, the paper's objective, always at its
//! global minimum) and [`Bayes`] (`irt-bayes`, a posterior over curves that knows how little eight rollouts
//! say, remembers earlier visits and learns what the population looks like).
//!
//! # In a training loop
//!
//! A [`HintController`] holds a schedule and its [`Memory`]. Problems advance independently of each other:
//!
//! ```
//! use seele_hint::{ForkResult, HintConfig, HintController, VisitContext};
//!
//! let mut controller = HintController::new(&HintConfig::preset("seele")?)?;
//! let context = VisitContext { seed: 7, step: 0, total_steps: 400, epoch: 0 };
//! let mut visits = Vec::new();
//! for problem in 0..4 {
//!     // A solution of 120 tokens with steps that end after 30, 70 and 120.
//!     let mut visit = controller.start_visit(problem, 120, &[30, 70, 120], context)?;
//!     while let Some(round) = visit.next_round() {
//!         let sample = |fork: &seele_hint::Fork| {
//!             // Here rollouts start after `fork.hint_tokens` tokens of the solution and are verified.
//!             let successes = if fork.hint_tokens > 60 { fork.rollouts } else { 0 };
//!             ForkResult { successes, rollouts: fork.rollouts }
//!         };
//!         let results: Vec<_> = round.forks.iter().map(sample).collect();
//!         visit.observe(&results)?;
//!     }
//!     visits.push(visit);
//! }
//! controller.finish_step(visits);
//! // The next visit of a problem starts near where its accuracy changes.
//! let stored = controller.memory().record(0).and_then(|record| record.rate);
//! assert!(stored.is_some_and(|rate| (0.45..0.6).contains(&rate)));
//! # Ok::<(), seele_hint::HintError>(())
//! ```
//!
//! A round is a list of [forks](Fork): rollouts, the hint they start from, and whether the hint tokens are
//! context, imitation targets or policy tokens ([`HintUse`]). That covers the schedules of related methods,
//! which [`HintConfig`] names: `none`, `fixed`, `uft`, `uft-stage`, `r3`, `prefix-rft`, `luffy`, `seele`,
//! `seele-bayes`, `hint-on-failure`, `multi-level`, `quest-a`, `escalate`. [`Memory`] serialises; saving it
//! between steps and [restoring](HintController::restore) it continues a run exactly.
//!
//! # What to expect
//!
//! 1024 simulated problems with known curves, some of which no logistic fits, move as if a policy learned
//! ([`simulation`]); 4 rounds of 8 rollouts, target 0.5, mean of seeds 11 to 15, last three of five epochs.
//! *Efficiency* is the mean of `a (1 - a) / 0.25`, *deviation* the mean of `|a - 0.5|` with the true accuracy `a`,
//! *useless rounds* are those whose rewards are all equal. The oracle knows the curves.
//!
//! | schedule | efficiency | first epoch | deviation | useless rounds |
//! | --- | --- | --- | --- | --- |
//! | `none` | 0.295 | 0.250 | 0.399 | 61.1 % |
//! | `fixed` (half of the solution) | 0.597 | 0.520 | 0.272 | 31.2 % |
//! | `seele` | 0.811 | 0.622 | 0.167 | 12.7 % |
//! | `seele-bayes` | 0.890 | 0.758 | 0.121 | 6.7 % |
//! | oracle | 0.962 | 0.952 | 0.044 | 3.0 % |
//!
//! (`seele hint simulate --seeds 11,12,13,14,15`.) A least-squares fit of five points takes about 3 µs and a decision
//! of `seele-bayes` about 70 µs on one core of a shared Xeon (`cargo bench -p seele-hint`); the former is more than
//! 2,000 times as fast as the library of the paper on the same machine (`scripts/compare_lmfit.py`). A problem costs
//! some bytes of memory with `seele` and 3.2 KiB with `seele-bayes`.
//!
//! # Map
//!
//! | module | concept |
//! | --- | --- |
//! | [`curve`] | the curve, its inverse, bounds and start values of fits |
//! | [`length`] | hint lengths: rounding, step ends |
//! | [`bayes`] | beliefs over curves, the population prior |
//! | [`schedule`] | rounds, visits, one file for each method |
//! | [`memory`] | what outlasts a visit |
//! | [`simulation`] | all of it on problems with known curves |
#![forbid(unsafe_code)]

pub mod bayes;
mod config;
pub mod curve;
mod error;
mod estimator;
mod fit_set;
mod least_squares;
pub mod length;
pub mod memory;
pub mod schedule;
pub mod simulation;

pub use bayes::Bayes;
pub use config::HintConfig;
pub use curve::Curve;
pub use error::HintError;
pub use estimator::{Estimate, Estimator};
pub use fit_set::{FitSet, FitSetOptions, Observation, Point, Weighting};
pub use least_squares::{Fit, LeastSquares};
pub use memory::Memory;
pub use schedule::{
    Fork, ForkResult, Grouping, HintController, HintUse, RoundPlan, Schedule, Visit, VisitContext,
};
