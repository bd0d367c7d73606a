//! What a data set holds: sizes, lengths, fields, how far the verifier can use it.

use std::collections::BTreeMap;

use seele_random::Key;
use serde::Serialize;

use crate::error::{BoxError, DataError};
use crate::problem::{Place, Problem};
use crate::read::ProblemReader;

/// Number of sample problems.
const SAMPLES: usize = 5;

/// How to look at problems; the crate itself knows neither tokenizers nor verifiers.
pub struct Measures<'a> {
    /// What [`length`](Self::length) counts: `tokens`, `characters`.
    pub unit: &'static str,
    /// The length of a text in that unit.
    pub length: &'a dyn Fn(&str) -> Result<usize, BoxError>,
    /// What the verifier makes of a problem's gold.
    pub gold: &'a dyn Fn(&Problem) -> GoldCheck,
}

/// What a verifier makes of a gold answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GoldCheck {
    /// Whether it can read the gold at all.
    pub readable: bool,
    /// Whether the answer it finds in the reference solution is the gold; `None` without a solution.
    pub solution_agrees: Option<bool>,
}

/// What a data set holds. Serialises as the report of `seele data inspect --json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Inspection {
    /// Names of the layouts of its files.
    pub layouts: Vec<&'static str>,
    /// Number of problems.
    pub rows: usize,
    /// Problems with a reference solution.
    pub with_solution: usize,
    /// Problems whose solution is cut into steps.
    pub with_steps: usize,
    /// Multiple-choice problems.
    pub with_choices: usize,
    /// What the lengths count.
    pub unit: &'static str,
    /// Lengths of the statements.
    pub problem_length: Option<Spread>,
    /// Lengths of the solutions, where there is one.
    pub solution_length: Option<Spread>,
    /// Numbers of steps, where there are any.
    pub steps: Option<Spread>,
    /// Problems whose gold the verifier can read.
    pub gold_readable: usize,
    /// Problems whose solution ends in the gold, by the verifier.
    pub solution_agrees: usize,
    /// How many rows carry each further field (not null).
    pub fields: BTreeMap<String, usize>,
    /// Up to five problems drawn evenly from all, in the order of the data; always the same ones.
    #[serde(serialize_with = "rows")]
    pub samples: Vec<Problem>,
}

/// A distribution of whole numbers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// Smallest.
    pub min: usize,
    /// Middle value (the upper of two).
    pub median: usize,
    /// 95 of 100 are at most this.
    pub p95: usize,
    /// Largest.
    pub max: usize,
    /// Arithmetic mean.
    pub mean: f64,
}

impl Spread {
    /// `None` of nothing.
    fn of(mut values: Vec<usize>) -> Option<Self> {
        values.sort_unstable();
        let count = values.len();
        let at_share = |share: usize| {
            values
                .get((count * share / 100).min(count.saturating_sub(1)))
                .copied()
        };
        Some(Self {
            min: *values.first()?,
            median: at_share(50)?,
            p95: at_share(95)?,
            max: *values.last()?,
            mean: values.iter().sum::<usize>() as f64 / count as f64,
        })
    }
}

/// A data set that cannot be inspected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    /// It cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The length of a text could not be told.
    #[error("{place}: cannot measure problem `{id}`: {source}")]
    Length {
        /// The row.
        place: Place,
        /// The problem.
        id: String,
        /// Why not.
        source: BoxError,
    },
}

impl Inspection {
    /// Reads all problems once, keeping two lengths each.
    ///
    /// # Errors
    /// [`InspectError`], at the first problem that cannot be read or measured.
    pub fn of(mut problems: ProblemReader, measures: &Measures) -> Result<Self, InspectError> {
        let mut found = Self {
            layouts: Vec::new(),
            rows: 0,
            with_solution: 0,
            with_steps: 0,
            with_choices: 0,
            unit: measures.unit,
            problem_length: None,
            solution_length: None,
            steps: None,
            gold_readable: 0,
            solution_agrees: 0,
            fields: BTreeMap::new(),
            samples: Vec::new(),
        };
        let (mut problem_lengths, mut solution_lengths, mut steps) =
            (Vec::new(), Vec::new(), Vec::new());
        let mut samples: Vec<(usize, Problem)> = Vec::new();
        while let Some(problem) = problems.next().transpose()? {
            let length = |text: &str| {
                (measures.length)(text).map_err(|source| InspectError::Length {
                    place: problem.place.clone(),
                    id: problem.id.clone(),
                    source,
                })
            };
            problem_lengths.push(length(&problem.problem)?);
            if let Some(solution) = &problem.solution {
                solution_lengths.push(length(solution)?);
            }
            if !problem.steps.is_empty() {
                steps.push(problem.steps.len());
            }
            found.with_choices += usize::from(!problem.choices.is_empty());
            let gold = (measures.gold)(&problem);
            found.gold_readable += usize::from(gold.readable);
            found.solution_agrees += usize::from(gold.solution_agrees == Some(true));
            for (name, _) in problem.extra.iter().filter(|(_, value)| !value.is_null()) {
                *found.fields.entry(name.clone()).or_default() += 1;
            }
            if let Some(name) = problems.layout().map(|layout| layout.name())
                && !found.layouts.contains(&name)
            {
                found.layouts.push(name);
            }
            keep_sample(&mut samples, found.rows, problem);
            found.rows += 1;
        }
        samples.sort_by_key(|(row, _)| *row);
        found.samples = samples.into_iter().map(|(_, problem)| problem).collect();
        found.with_solution = solution_lengths.len();
        found.with_steps = steps.len();
        found.problem_length = Spread::of(problem_lengths);
        found.solution_length = Spread::of(solution_lengths);
        found.steps = Spread::of(steps);
        Ok(found)
    }
}

/// Reservoir sampling: each row so far is kept with the same probability.
fn keep_sample(samples: &mut Vec<(usize, Problem)>, row: usize, problem: Problem) {
    if samples.len() < SAMPLES {
        samples.push((row, problem));
        return;
    }
    let slot = Key::new(0).with(row as u64).below(row as u64 + 1) as usize;
    if let Some(sample) = samples.get_mut(slot) {
        *sample = (row, problem);
    }
}

fn rows<S: serde::Serializer>(samples: &[Problem], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(samples.iter().map(Problem::to_row))
}
