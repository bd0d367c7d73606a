//! Scoring of completions, and accuracy without hints on held-out problems.

use crate::error::TrainError;
use crate::group::Group;
use crate::metrics::{EvalAccuracy, HeldOutLoss};
use crate::progress::{Observer, Phase};
use crate::recipe::{EncodedData, EvalSetPlan};
use crate::update::{Budget, mean_solution_loss};
use crate::verification::beside;
use seele_data::Problem;
use seele_policy::decoder::Decoder;
use seele_policy::tokenizer::Tokenizer;
use seele_random::Key;
use seele_rollout::{Completion, Finish, FinishedBranch, LocalEngine, Sampling, complete};
use seele_verify::reward::{Reward, RewardRequest, Score};
use serde_json::{Map, Value};

/// Turns token ids into scores.
#[derive(Clone, Copy)]
pub(crate) struct Grader<'a> {
    pub(crate) tokenizer: &'a Tokenizer,
    pub(crate) reward: &'a dyn Reward,
    pub(crate) stop_tokens: &'a [u32],
    pub(crate) max_new_tokens: usize,
}

impl Grader<'_> {
    /// Scores the tokens that follow `hint`.
    pub(crate) fn grade(
        &self,
        id: &str,
        problem: &Problem,
        hint: &str,
        tokens: &[u32],
        truncated: bool,
    ) -> Result<Score, TrainError> {
        let text = match tokens.split_last() {
            Some((last, rest)) if self.stop_tokens.contains(last) => rest,
            _ => tokens,
        };
        let completion = self.tokenizer.decode(text, true)?;
        Ok(self.score(id, problem, hint, &completion, tokens.len(), truncated))
    }

    /// Scores a text that follows `hint`.
    pub(crate) fn score(
        &self,
        id: &str,
        problem: &Problem,
        hint: &str,
        completion: &str,
        response_tokens: usize,
        truncated: bool,
    ) -> Score {
        self.reward.score(&RewardRequest {
            id,
            problem: &problem.problem,
            response: &format!("{hint}{completion}"),
            completion,
            ground_truth: &problem.answer,
            extra: &columns(problem),
            response_tokens,
            max_response_tokens: self.max_new_tokens,
            truncated,
        })
    }
}

/// Whether a score counts as right; a reward without a verdict says so by a value above 0.
pub(crate) fn is_correct(score: &Score) -> bool {
    let positive = || score.value.is_some_and(|value| value > 0.0);
    score.correct().unwrap_or_else(positive)
}

/// The row's other columns with the options among them.
pub(crate) fn columns(problem: &Problem) -> Map<String, Value> {
    let mut columns = problem.extra.clone();
    if !problem.choices.is_empty() {
        columns.insert("choices".into(), problem.choices.clone().into());
    }
    columns
}

/// Separates the draws of held-out answers from all other draws of a run.
const HELD_OUT: u64 = u64::from_be_bytes(*b"held-out");

/// How held-out sets are answered, and how much is done at a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EvalLimits<'a> {
    /// The sets, in the order of their problems.
    pub(crate) plans: &'a [EvalSetPlan],
    /// Seed of the run.
    pub(crate) seed: u64,
    pub(crate) max_active_branches: usize,
    pub(crate) grading_threads: usize,
}

/// Accuracy on every set: the share of right answers, one greedy answer to a problem or several sampled ones. A
/// loss is for others to add.
pub(crate) fn evaluate(
    decoder: &Decoder,
    sets: &[(String, EncodedData)],
    grader: &Grader<'_>,
    limits: EvalLimits<'_>,
    step: usize,
    observer: &mut dyn Observer,
) -> Result<Vec<EvalAccuracy>, TrainError> {
    let mut results = Vec::with_capacity(sets.len());
    for ((name, data), plan) in sets.iter().zip(limits.plans) {
        observer.phase(step, Phase::Eval { set: name.clone() });
        let key = Key::new(limits.seed).with(HELD_OUT).with(step as u64);
        let key = name
            .bytes()
            .fold(key, |key, byte| key.with(u64::from(byte)));
        let correct = correct_answers(decoder, data, (plan, key), grader, limits, observer)
            .map_err(|error| error.at_step(step))?;
        results.push(EvalAccuracy {
            name: name.clone(),
            accuracy: correct as f64 / (data.problems.len() * plan.samples) as f64,
            problems: data.problems.len(),
            loss: None,
        });
    }
    Ok(results)
}

/// Minus the mean log-likelihood of a token of the reference solutions, end token included, of every set that
/// has solutions, nats.
pub(crate) fn solution_losses(
    decoder: &Decoder,
    sets: &[(String, EncodedData)],
    end_token: u32,
    budget: Budget,
) -> Vec<HeldOutLoss> {
    let with_solutions = sets.iter().filter(|(_, data)| data.has_solutions());
    let loss = |(name, data): &(String, EncodedData)| {
        let problems = data.problems.iter().map(|(_, problem)| problem);
        let groups: Vec<Group> = problems
            .filter(|problem| !problem.solution_ids.is_empty())
            .map(|problem| Group::of_solution(problem, end_token))
            .collect();
        HeldOutLoss {
            name: name.clone(),
            loss: mean_solution_loss(decoder, &groups, budget),
        }
    };
    with_solutions.map(loss).collect()
}

/// Right answers to the problems of a set, drawn with keys under `key`.
fn correct_answers(
    decoder: &Decoder,
    data: &EncodedData,
    (plan, key): (&EvalSetPlan, Key),
    grader: &Grader<'_>,
    limits: EvalLimits<'_>,
    observer: &mut dyn Observer,
) -> Result<usize, TrainError> {
    let sampling = Sampling {
        temperature: plan.temperature as f32,
        max_new_tokens: grader.max_new_tokens,
        stop_tokens: grader.stop_tokens.to_vec(),
        ..Sampling::default()
    };
    let mut engine = LocalEngine::new(decoder, sampling, limits.max_active_branches)?;
    let problems = data.problems.iter().enumerate();
    let wanted = problems.flat_map(|(index, (_, encoded))| {
        (0..plan.samples as u64).map(move |sample| Completion {
            prompt: index,
            prompt_ids: &encoded.prompt_ids,
            key: key.with(index as u64).with(sample),
            tag: index as u64,
        })
    });
    let answers = data.problems.len() * plan.samples;
    let grade = |branch: FinishedBranch| {
        let (problem, _) = &data.problems[branch.tag as usize];
        let truncated = branch.finish == Finish::Length;
        let score = grader.grade(&problem.id, problem, "", &branch.tokens, truncated)?;
        Ok(usize::from(is_correct(&score)))
    };
    beside(limits.grading_threads, grade, |grading| {
        let (mut done, mut correct) = (0, 0);
        complete(&mut engine, wanted, |finished, statistics| {
            done += finished.len();
            finished
                .into_iter()
                .for_each(|branch| grading.submit(branch));
            while let Some(verdict) = grading.ready()? {
                correct += verdict;
            }
            observer.tick(done, answers, statistics.decoded_tokens);
            Ok::<(), TrainError>(())
        })?;
        while let Some(verdict) = grading.wait()? {
            correct += verdict;
        }
        Ok(correct)
    })
}
