//! What outlasts a visit: a record of each problem, and the population the problems are drawn from.

use crate::bayes::{PackedBelief, Population};
use crate::fit_set::check_point;
use crate::{HintError, Point};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Format of a saved memory; changes when old memories can no longer be read as they are.
pub const MEMORY_FORMAT: &str = "seele-hint-memory/2";

/// What earlier visits of a problem left behind.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProblemRecord {
    /// Visits with results so far.
    pub visits: u32,
    /// Hint rate the next visit starts with, in `[0, 1]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// Points of earlier visits with their decayed weights; empty unless `carry_points` is set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub points: Vec<Point>,
    /// Belief over curves after the last visit (`seele-bayes`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub belief: Option<PackedBelief>,
    /// Visits whose hinted rollouts all failed (`hint-on-failure`).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failed_visits: u32,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature serde asks for"
)]
fn is_zero(value: &u32) -> bool {
    *value == 0
}

/// The mark of [`MEMORY_FORMAT`]. Any other is refused where it is read, before what it would misread.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
struct Format;

impl From<Format> for &'static str {
    fn from(Format: Format) -> Self {
        MEMORY_FORMAT
    }
}

impl TryFrom<String> for Format {
    type Error = String;

    fn try_from(found: String) -> Result<Self, String> {
        match found == MEMORY_FORMAT {
            true => Ok(Self),
            false => Err(format!(
                "hint memory: format `{found}` is not known, expected `{MEMORY_FORMAT}`"
            )),
        }
    }
}

/// Records of all visited problems. Serialising and reading back gives an equal memory, to the last bit (with
/// serde_json: under its feature `float_roundtrip`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    format: Format,
    schedule: String,
    problems: BTreeMap<u64, ProblemRecord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    population: Option<Population>,
}

impl Memory {
    /// An empty memory for the schedule of that name.
    pub fn new(schedule: &str) -> Self {
        Self {
            format: Format,
            schedule: schedule.into(),
            problems: BTreeMap::new(),
            population: None,
        }
    }

    /// Name of the schedule that keeps this memory.
    pub fn schedule(&self) -> &str {
        &self.schedule
    }

    /// The record of a problem, if it was visited.
    pub fn record(&self, problem: u64) -> Option<&ProblemRecord> {
        self.problems.get(&problem)
    }

    /// All records in order of problem key.
    pub fn records(&self) -> impl Iterator<Item = (u64, &ProblemRecord)> {
        self.problems
            .iter()
            .map(|(&problem, record)| (problem, record))
    }

    /// What the problems together say about others (`seele-bayes`).
    pub fn population(&self) -> Option<&Population> {
        self.population.as_ref()
    }

    pub(crate) fn set_population(&mut self, population: Population) {
        self.population = Some(population);
    }

    pub(crate) fn set_record(&mut self, problem: u64, record: ProblemRecord) {
        self.problems.insert(problem, record);
    }

    pub(crate) fn check(&self, schedule: &str) -> Result<(), HintError> {
        if self.schedule != schedule {
            return Err(HintError::Memory(format!(
                "saved by the schedule `{}`, the recipe uses `{schedule}`; start without it or change `schedule`",
                self.schedule
            )));
        }
        for (problem, record) in &self.problems {
            let damaged = |what: String| {
                Err(HintError::Memory(format!(
                    "problem {problem}: {what}; the file is damaged"
                )))
            };
            if let Some(rate) = record.rate.filter(|rate| !(0.0..=1.0).contains(rate)) {
                return damaged(format!("`rate` is {rate}, expected a number in [0, 1]"));
            }
            for (index, point) in record.points.iter().enumerate() {
                if let Err(error) = check_point(index, *point) {
                    return damaged(format!("`points`: {error}"));
                }
            }
        }
        Ok(())
    }
}
