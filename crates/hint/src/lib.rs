//! Keep every problem at a target accuracy. (documentation follows)
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
