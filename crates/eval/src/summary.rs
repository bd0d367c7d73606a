//! What a record shows.

use std::collections::BTreeMap;

use seele_random::Key;
use seele_verify::{Options, Verdict, equal};
use serde::Serialize;

use crate::record::{Header, Record, Response};
use crate::statistics;

/// Key coordinate of the bootstrap of accuracies.
const BOOTSTRAP: u64 = 1;

/// The result of a model on a benchmark.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// What it depends on.
    pub header: Header,
    /// `pass@1`, or `avg@k` of several samples.
    pub measure: String,
    /// Share of right samples, averaged over problems, 0..=1.
    pub accuracy: f64,
    /// 95 % bootstrap interval over problems.
    pub interval: (f64, f64),
    /// Standard error over problems; none of a single problem.
    pub standard_error: Option<f64>,
    /// Standard error over samples, the problems being fixed; none of a single sample.
    pub sampling_error: Option<f64>,
    /// pass@k for k = 1, 2, 4, ... and the number of samples; empty for a single sample.
    pub pass_at: BTreeMap<usize, f64>,
    /// Share of problems whose most frequent answer is right (equal answers vote together, the first
    /// of equally frequent ones counts); none of a single sample.
    pub majority: Option<f64>,
    /// Responses.
    pub responses: usize,
    /// Right ones.
    pub correct: usize,
    /// Ones cut at the token limit, which count as wrong.
    pub truncated: usize,
    /// Ones without an answer.
    pub no_answer: usize,
    /// Ones whose gold cannot be read, or whose comparison was too much work.
    pub undecided: usize,
    /// Mean length of the responses, tokens.
    pub mean_tokens: f64,
    /// Accuracy by the values of the benchmark's columns.
    pub groups: BTreeMap<String, BTreeMap<String, GroupAccuracy>>,
}

/// Accuracy on some of the problems.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct GroupAccuracy {
    /// Problems.
    pub problems: usize,
    /// Mean accuracy over them, 0..=1.
    pub accuracy: f64,
}

impl Summary {
    /// Summarises a finished record.
    pub fn new(record: &Record) -> Self {
        let Record { header, responses } = record;
        let samples = header.samples;
        let problems = by_problem(record);
        let accuracies: Vec<f64> = problems.iter().map(|(_, of)| accuracy(of)).collect();
        let pass_at = pass_at_ks(samples)
            .map(|k| {
                let of_problem = |(_, of): &(&str, Vec<&Response>)| {
                    statistics::pass_at_k(of.len(), correct(of), k)
                };
                let each: Vec<f64> = problems.iter().map(of_problem).collect();
                (k, statistics::mean(&each))
            })
            .collect();
        let options = header.grader.options();
        let majority = (samples > 1).then(|| {
            let voted = problems
                .iter()
                .filter(|(_, of)| majority_is_right(of, &options));
            voted.count() as f64 / problems.len().max(1) as f64
        });
        let count = |what: &dyn Fn(&Response) -> bool| responses.iter().filter(|r| what(r)).count();
        let undecided =
            |r: &Response| matches!(r.verdict, Verdict::GoldUnreadable | Verdict::OverBudget);
        let tokens: usize = responses.iter().map(|response| response.tokens).sum();
        Self {
            measure: match samples {
                1 => "pass@1".into(),
                samples => format!("avg@{samples}"),
            },
            accuracy: statistics::mean(&accuracies),
            interval: statistics::bootstrap_interval(
                &accuracies,
                Key::new(header.seed).with(BOOTSTRAP),
            ),
            standard_error: statistics::standard_error(&accuracies),
            sampling_error: statistics::sampling_error(&accuracies, samples),
            pass_at,
            majority,
            responses: responses.len(),
            correct: count(&|response| response.correct),
            truncated: count(&|response| response.truncated),
            no_answer: count(&|response| response.verdict == Verdict::NoAnswer),
            undecided: count(&undecided),
            mean_tokens: tokens as f64 / responses.len().max(1) as f64,
            groups: groups(&problems),
            header: header.clone(),
        }
    }
}

/// The responses of each problem, problems by id and responses by sample: a record that was stopped
/// between its last response and being put in order says the same as one in order.
pub(crate) fn by_problem(record: &Record) -> Vec<(&str, Vec<&Response>)> {
    let mut problems: BTreeMap<&str, Vec<&Response>> = BTreeMap::new();
    for response in &record.responses {
        problems.entry(&response.id).or_default().push(response);
    }
    for responses in problems.values_mut() {
        responses.sort_by_key(|response| response.sample);
    }
    problems.into_iter().collect()
}

fn correct(responses: &[&Response]) -> usize {
    responses.iter().filter(|response| response.correct).count()
}

/// Share of right responses.
pub(crate) fn accuracy(responses: &[&Response]) -> f64 {
    correct(responses) as f64 / responses.len().max(1) as f64
}

/// 1, 2, 4, ... below the number of samples, and that number; nothing for one sample.
fn pass_at_ks(samples: usize) -> impl Iterator<Item = usize> {
    let powers = std::iter::successors(Some(1usize), |k| k.checked_mul(2));
    let last = (samples > 1).then_some(samples);
    powers.take_while(move |&k| k < samples).chain(last)
}

fn majority_is_right(responses: &[&Response], options: &Options) -> bool {
    // Votes, the first response with the answer.
    let mut answers: Vec<(usize, &Response)> = Vec::new();
    for response in responses {
        let Some(answer) = response
            .extracted
            .as_deref()
            .filter(|_| !response.truncated)
        else {
            continue;
        };
        let same = |(_, first): &&mut (usize, &Response)| {
            let known = first.extracted.as_deref().unwrap_or_default();
            known == answer || equal(known, answer, options)
        };
        match answers.iter_mut().find(same) {
            Some((votes, _)) => *votes += 1,
            None => answers.push((1, response)),
        }
    }
    let most = answers.iter().map(|(votes, _)| *votes).max();
    let elected = answers.iter().find(|(votes, _)| Some(*votes) == most);
    elected.is_some_and(|(_, response)| response.correct)
}

fn groups(
    problems: &[(&str, Vec<&Response>)],
) -> BTreeMap<String, BTreeMap<String, GroupAccuracy>> {
    let mut groups: BTreeMap<String, BTreeMap<String, GroupAccuracy>> = BTreeMap::new();
    for (_, responses) in problems {
        for (column, value) in responses.iter().take(1).flat_map(|first| &first.groups) {
            let values = groups.entry(column.clone()).or_default();
            let group = values.entry(value.clone()).or_default();
            group.problems += 1;
            group.accuracy += (accuracy(responses) - group.accuracy) / group.problems as f64;
        }
    }
    groups
}
