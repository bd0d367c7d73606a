//! One training step (SEELE Alg. 1): sample problems, collect rollouts, compare them, improve the policy.

use crate::collect::{Collected, Collection};
use crate::error::TrainError;
use crate::evaluate::Grader;
use crate::group::{Group, Rollout};
use crate::metrics::{PolicyMetrics, RoundMetrics, StepMetrics, StepTimes};
use crate::objective::dynamic_sampling_keep;
use crate::progress::{Observer, Phase};
use crate::recipe::{EncodedData, Recipe};
use crate::update::{
    Budget, Learner, UpdateReport, imitates, score_hints, score_reference, update,
};
use seele_data::EpochSampler;
use seele_hint::{HintController, Visit};
use seele_policy::decoder::Decoder;
use seele_rollout::{LocalEngine, Sampling};
use std::time::Instant;

/// What lasts from step to step.
pub(crate) struct Run<'a> {
    pub(crate) recipe: &'a Recipe,
    pub(crate) data: &'a EncodedData,
    pub(crate) grader: Grader<'a>,
    pub(crate) end_token: u32,
    pub(crate) learner: Learner,
    pub(crate) reference: Option<Decoder>,
    pub(crate) hints: HintController,
    pub(crate) sampler: EpochSampler,
    /// Optimizer steps so far.
    pub(crate) updates: usize,
    /// Optimizer steps that a number that is not finite has cost so far.
    pub(crate) skipped: usize,
}

impl Run<'_> {
    /// Step `step`, from 1.
    pub(crate) fn step(
        &mut self,
        step: usize,
        observer: &mut dyn Observer,
    ) -> Result<StepMetrics, TrainError> {
        let begun = Instant::now();
        let mut time = StepTimes::default();

        let mut sampled = self.sample(step, observer, &mut time)?;
        let mut groups = std::mem::take(&mut sampled.groups);
        self.hints.finish_step(std::mem::take(&mut sampled.visits));

        observer.phase(step, Phase::LogProbs);
        let scoring = Instant::now();
        let (objective, budget) = (&self.recipe.objective, self.budget());
        score_hints(&self.learner.decoder, objective, &mut groups, budget);
        if let Some(reference) = &self.reference {
            score_reference(reference, &mut groups, budget);
        }
        time.logprobs = scoring.elapsed().as_secs_f64();

        observer.phase(step, Phase::Update);
        let updating = Instant::now();
        let (policy, tokens_train) = self.improve(&groups, observer)?;
        time.update = updating.elapsed().as_secs_f64();

        time.step = begun.elapsed().as_secs_f64();
        Ok(StepMetrics {
            step,
            policy,
            time,
            tokens_rollout: sampled.tokens,
            tokens_train,
            ..sampled.metrics(self.hints.max_rounds())
        })
    }

    /// Rollouts until the step has its groups: one batch of problems, or more where dynamic sampling
    /// drops those whose rollouts all agree.
    fn sample(
        &mut self,
        step: usize,
        observer: &mut dyn Observer,
        time: &mut StepTimes,
    ) -> Result<Sampled, TrainError> {
        let recipe = self.recipe;
        let dynamic = recipe.objective.dynamic_sampling;
        let wanted = recipe.rollout.problems_per_step;
        let sampling = Sampling {
            temperature: recipe.rollout.temperature as f32,
            top_p: recipe.rollout.top_p as f32,
            top_k: recipe.rollout.top_k.unwrap_or(0),
            max_new_tokens: recipe.rollout.max_new_tokens,
            stop_tokens: self.grader.stop_tokens.to_vec(),
        };
        let collection = Collection {
            data: self.data,
            hints: &self.hints,
            grader: &self.grader,
            end_token: self.end_token,
            seed: recipe.seed,
            step,
            total_steps: recipe.steps,
        };
        let batches = if dynamic.drop_uniform {
            dynamic.max_rollout_batches
        } else {
            1
        };
        let mut sampled = Sampled::default();
        for _ in 0..batches {
            let draws = self.sampler.next_batch();
            let begun = Instant::now();
            let active = recipe.rollout.max_active_branches;
            let mut engine = LocalEngine::new(&self.learner.decoder, sampling.clone(), active)?;
            let collected = collection.collect(&draws, &mut engine, observer);
            let collected = collected.map_err(|error| error.at_step(step))?;
            let reward = collected.reward_time.as_secs_f64();
            time.reward += reward;
            time.rollout += begun.elapsed().as_secs_f64() - reward;
            let problems = draws.iter().map(|draw| &self.data.problems[draw.problem].1);
            let Collected {
                problems: rollouts,
                replaced,
                visits,
                tokens,
                ..
            } = collected;
            sampled.tokens += tokens;
            sampled.visits.extend(visits);
            sampled.rollouts.extend(replaced);
            for (problem, mut rollouts) in problems.zip(rollouts) {
                sampled.rollouts.extend(rollouts.iter().cloned());
                for rollout in &mut rollouts {
                    let penalty = recipe
                        .objective
                        .overlong
                        .penalty(rollout.tokens.len(), recipe.rollout.max_new_tokens);
                    if !rollout.trace {
                        rollout.reward = rollout.reward.map(|reward| reward + penalty);
                    }
                }
                let group = Group::new(problem, rollouts, &recipe.objective, self.end_token);
                let Some(group) = group else { continue };
                sampled.seen_groups += 1;
                let rewards: Vec<f64> = group.rollouts.iter().filter_map(|r| r.reward).collect();
                sampled.uniform_groups += usize::from(!dynamic_sampling_keep(&rewards));
                let correct: Vec<f64> = group
                    .rollouts
                    .iter()
                    .map(|r| f64::from(u8::from(r.correct)))
                    .collect();
                if !dynamic.drop_uniform || dynamic_sampling_keep(&correct) {
                    sampled.groups.push(group);
                }
            }
            if sampled.groups.len() >= wanted {
                break;
            }
        }
        sampled.groups.truncate(wanted);
        Ok(sampled)
    }

    /// All passes over the groups, one optimizer step for every `problems_per_update` of them.
    fn improve(
        &mut self,
        groups: &[Group],
        observer: &mut dyn Observer,
    ) -> Result<(PolicyMetrics, u64), TrainError> {
        let (recipe, budget) = (self.recipe, self.budget());
        let size = recipe.update.problems_per_update;
        let total = groups.len().div_ceil(size) * recipe.update.passes;
        let mut reports = Vec::with_capacity(total);
        let (mut learning_rate, mut tokens) = (0.0, 0);
        for _ in 0..recipe.update.passes {
            for (index, batch) in groups.chunks(size).enumerate() {
                learning_rate = recipe
                    .learning_rate
                    .learning_rate(self.updates as u64, recipe.optimizer_steps() as u64);
                let first = index * size;
                let objective = &recipe.objective;
                let report = update(
                    &mut self.learner,
                    objective,
                    batch,
                    first,
                    budget,
                    learning_rate,
                )?;
                self.updates += 1;
                self.skipped += usize::from(report.skipped);
                tokens += report.tokens;
                reports.push(report);
                observer.tick(reports.len(), total, tokens);
            }
        }
        Ok((self.policy_metrics(&reports, learning_rate), tokens))
    }

    fn policy_metrics(&self, reports: &[UpdateReport], learning_rate: f64) -> PolicyMetrics {
        let mean = |value: fn(&UpdateReport) -> f64| {
            reports.iter().map(value).sum::<f64>() / reports.len().max(1) as f64
        };
        PolicyMetrics {
            loss: mean(|report| report.loss),
            kl: self
                .reference
                .is_some()
                .then(|| mean(|report| report.kl_sum / report.kl_tokens.max(1.0))),
            entropy: mean(|report| report.statistics.mean_entropy().unwrap_or(0.0)),
            imitation: imitates(&self.recipe.objective).then(|| mean(|r| r.terms.imitation)),
            clip_fraction: mean(|report| report.statistics.clip_fraction().unwrap_or(0.0)),
            grad_norm: mean(|report| report.grad_norm),
            learning_rate,
            logprob_gap_max: reports.first().map_or(0.0, |report| report.logprob_gap),
        }
    }

    fn budget(&self) -> Budget {
        Budget {
            tokens_per_microbatch: self.recipe.update.tokens_per_microbatch,
            temperature: self.recipe.rollout.temperature as f32,
        }
    }
}

/// What a step has sampled.
#[derive(Default)]
struct Sampled {
    groups: Vec<Group>,
    visits: Vec<Visit>,
    /// All rollouts, for the measurements.
    rollouts: Vec<Rollout>,
    seen_groups: usize,
    uniform_groups: usize,
    tokens: u64,
}

impl Sampled {
    fn metrics(&self, max_rounds: usize) -> StepMetrics {
        let all = || self.rollouts.iter();
        let generated = || all().filter(|rollout| !rollout.trace);
        let rounds = (0..max_rounds).map_while(|round| {
            let of_round = || generated().filter(move |rollout| rollout.round == round);
            of_round().next()?;
            Some(RoundMetrics {
                accuracy: mean(of_round().map(|r| f64::from(u8::from(r.correct)))),
                hint_rate: mean(of_round().map(|r| r.hint_rate)),
            })
        });
        StepMetrics {
            reward_mean: mean(all().filter_map(|rollout| rollout.reward)),
            hint_rate_mean: mean(all().map(|rollout| rollout.hint_rate)),
            rounds: rounds.collect(),
            group_zero_variance: self.uniform_groups as f64 / self.seen_groups.max(1) as f64,
            response_length_mean: mean(generated().map(|r| r.tokens.len() as f64)),
            truncated: mean(generated().map(|r| f64::from(u8::from(r.truncated)))),
            ..StepMetrics::default()
        }
    }
}

/// 0 of nothing.
fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    if count > 0.0 { sum / count } else { 0.0 }
}
