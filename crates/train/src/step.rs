//! One training step (SEELE Alg. 1): sample problems, collect rollouts, compare them, improve the policy.

use crate::collect::{Collected, Collection};
use crate::error::TrainError;
use crate::evaluate::Grader;
use crate::group::{Group, Rollout};
use crate::metrics::{PolicyMetrics, ResidentMemory, RoundMetrics, StepMetrics, StepTimes};
use crate::objective::dynamic_sampling_keep;
#[cfg(feature = "cuda")]
use crate::on_device::cache_memory;
use crate::progress::{Observer, Phase};
use crate::recipe::{EncodedData, OldLogprobs, Recipe};
use crate::update::{
    Budget, Learner, UpdateTotals, recompute_logprobs, score_hints, score_reference, update,
};
use seele_data::{Draw, EncodedProblem, EpochSampler};
use seele_hint::{HintController, Visit};
use seele_policy::decoder::Decoder;
use seele_rollout::{LocalEngine, RolloutStatistics, Sampling};
use seele_verify::reward::RewardFailures;
use std::collections::HashSet;
use std::time::{Duration, Instant};

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
    /// Optimizer steps in a row, up to now, that a number that is not finite has cost.
    pub(crate) skipped_in_a_row: usize,
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
        let (found, wanted) = (groups.len(), self.recipe.rollout.problems_per_step);
        let refills = self.recipe.objective.dynamic_sampling.drop_uniform;
        self.hints.finish_step(std::mem::take(&mut sampled.visits));

        observer.phase(step, Phase::LogProbs);
        let scoring = Instant::now();
        let (objective, budget) = (&self.recipe.objective, self.budget());
        let recomputed_gap = match self.recipe.update.old_logprobs {
            OldLogprobs::Recorded => 0.0,
            OldLogprobs::Recomputed => {
                recompute_logprobs(&self.learner.decoder, &mut groups, budget)
            }
        };
        score_hints(&self.learner.decoder, objective, &mut groups, budget);
        #[cfg(feature = "cuda")]
        self.learner.decoder.check()?;
        if let Some(reference) = &self.reference {
            score_reference(reference, &mut groups, budget);
            #[cfg(feature = "cuda")]
            reference.check()?;
        }
        time.logprobs = scoring.elapsed().as_secs_f64();

        observer.phase(step, Phase::Update);
        let updating = Instant::now();
        let (mut policy, tokens_train) = self.improve(&groups, observer)?;
        policy.logprob_gap_max = recomputed_gap.max(policy.logprob_gap_max);
        time.update = updating.elapsed().as_secs_f64();

        time.rollout_tail = sampled.engine.tail.as_secs_f64();
        time.step = begun.elapsed().as_secs_f64();
        Ok(StepMetrics {
            step,
            policy,
            time,
            tokens_train,
            unfilled: (refills && found < wanted).then_some((found, wanted)),
            memory: ResidentMemory::read(),
            ..sampled.metrics(self.hints.max_rounds(), self.recipe.target_accuracy())
        })
    }

    /// The sampling phase of a step by itself, and what it took; the hint memory does not hear of it.
    pub(crate) fn only_sample(&mut self, step: usize) -> Result<StepMetrics, TrainError> {
        let mut time = StepTimes::default();
        let sampled = self.sample(step, &mut (), &mut time)?;
        time.rollout_tail = sampled.engine.tail.as_secs_f64();
        let target = self.recipe.target_accuracy();
        Ok(StepMetrics {
            step,
            time,
            ..sampled.metrics(self.hints.max_rounds(), target)
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
        if !recipe.objective.needs_rollouts() {
            return Ok(self.solutions());
        }
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
            grading_threads: recipe.grading_threads(),
            rounds: recipe.rollout.rounds,
            end_token: self.end_token,
            seed: recipe.seed,
            step,
            total_steps: recipe.steps(self.data.problems.len()),
        };
        let batches = if dynamic.drop_uniform {
            dynamic.max_rollout_batches
        } else {
            1
        };
        let failures = self.grader.reward.failures();
        let mut sampled = Sampled::default();
        let mut drawn = HashSet::new();
        for _ in 0..batches {
            let mut draws = self.sampler.next_batch();
            // Refilling can run into the next epoch; no problem is seen twice in one step.
            draws.retain(|draw| drawn.insert(draw.problem));
            let begun = Instant::now();
            let active = recipe.rollout.max_active_branches;
            let memory = recipe.rollout.cache_memory.bytes();
            #[cfg(feature = "cuda")]
            let memory = match self.learner.decoder.on_device() {
                Some(_) => cache_memory(&self.learner.decoder, recipe.rollout.cache_memory),
                None => memory,
            };
            let mut engine = LocalEngine::new(&self.learner.decoder, sampling.clone(), active)?
                .with_cache_memory(memory);
            let collected = collection.collect(&draws, &mut engine, observer);
            let mut collected = collected.map_err(|error| error.at_step(step))?;
            let reward = collected.reward_time.as_secs_f64();
            time.reward += reward;
            time.rollout += begun.elapsed().as_secs_f64() - reward;
            let rollouts = std::mem::take(&mut collected.problems);
            sampled.add(collected);
            for (draw, rollouts) in draws.iter().zip(rollouts) {
                let problem = &self.data.problems[draw.problem].1;
                sampled.add_group(problem, rollouts, recipe, self.end_token);
            }
            if sampled.groups.len() >= wanted {
                break;
            }
        }
        sampled.groups.truncate(wanted);
        sampled.failures = new_failures(failures, self.grader.reward.failures());
        Ok(sampled)
    }

    /// The next problems with nothing but their reference solutions.
    fn solutions(&mut self) -> Sampled {
        let group = |draw: Draw| {
            let problem = &self.data.problems[draw.problem].1;
            Group::of_solution(problem, self.end_token)
        };
        let draws = self.sampler.next_batch();
        Sampled {
            groups: draws.into_iter().map(group).collect(),
            ..Sampled::default()
        }
    }

    /// All passes over the groups, one optimizer step for every `problems_per_update` of them.
    fn improve(
        &mut self,
        groups: &[Group],
        observer: &mut dyn Observer,
    ) -> Result<(PolicyMetrics, u64), TrainError> {
        let (recipe, budget) = (self.recipe, self.budget());
        let optimizer_steps = recipe.optimizer_steps(self.data.problems.len()) as u64;
        let size = recipe.update.problems_per_update;
        let total = groups.len().div_ceil(size) * recipe.update.passes;
        let mut totals = UpdateTotals::default();
        let (mut learning_rate, mut logprob_gap_max) = (0.0, 0.0);
        for _ in 0..recipe.update.passes {
            for (index, batch) in groups.chunks(size).enumerate() {
                learning_rate = recipe
                    .learning_rate
                    .learning_rate(self.updates as u64, optimizer_steps);
                let report = update(
                    &mut self.learner,
                    &recipe.objective,
                    batch,
                    index * size,
                    budget,
                    learning_rate,
                )?;
                if totals.updates == 0 {
                    // Later updates meet a policy that has moved.
                    logprob_gap_max = report.logprob_gap;
                }
                self.updates += 1;
                self.skipped_in_a_row = match report.skipped {
                    true => self.skipped_in_a_row + 1,
                    false => 0,
                };
                totals.add(&report);
                observer.tick(totals.updates, total, totals.tokens);
            }
        }
        let metrics = PolicyMetrics {
            logprob_gap_max,
            ..totals.metrics(&recipe.objective, learning_rate)
        };
        Ok((metrics, totals.tokens))
    }

    /// How batches go through the model. Log-probs are those of the distribution that was sampled from; where
    /// nothing is sampled they are the model's own, as in the supervised stage.
    pub(crate) fn budget(&self) -> Budget {
        let temperature = match self.recipe.objective.needs_rollouts() {
            true => self.recipe.rollout.temperature as f32,
            false => 1.0,
        };
        Budget {
            tokens_per_microbatch: self.recipe.update.tokens_per_microbatch,
            temperature,
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
    solved_groups: usize,
    /// Of those, groups with rollouts that had no hint.
    solved_unhinted_groups: usize,
    /// Of each round, problems tried and those whose tries all ended alike.
    rounds: Vec<RoundCounts>,
    failures: Vec<(&'static str, u64)>,
    /// Of all batches together.
    engine: EngineTotals,
}

/// What the engines of a step did.
#[derive(Default)]
struct EngineTotals {
    tokens: u64,
    /// Tokens that full batches would have had.
    room: u64,
    prefill_saved: u64,
    repeated: u64,
    tail: Duration,
}

impl EngineTotals {
    fn add(&mut self, engine: RolloutStatistics) {
        self.tokens += engine.decoded_tokens;
        self.room += engine.steps * engine.capacity as u64;
        self.prefill_saved += engine.prefill_saved_tokens();
        self.repeated += engine.repeated_tokens;
        self.tail += engine.time.tail;
    }
}

#[derive(Clone, Copy, Default)]
struct RoundCounts {
    problems: usize,
    uniform: usize,
    /// Sum of what the problems' accuracies miss the target by.
    deviation: f64,
}

impl Sampled {
    fn add(&mut self, collected: Collected) {
        self.engine.add(collected.engine);
        self.visits.extend(collected.visits);
        self.rollouts.extend(collected.replaced);
    }

    /// Shapes the rewards of a problem's rollouts and makes them a group, unless dynamic sampling drops it.
    fn add_group(
        &mut self,
        problem: &EncodedProblem,
        mut rollouts: Vec<Rollout>,
        recipe: &Recipe,
        end_token: u32,
    ) {
        self.rollouts.extend(rollouts.iter().cloned());
        let objective = &recipe.objective;
        for rollout in rollouts.iter_mut().filter(|rollout| !rollout.trace) {
            let (tokens, longest) = (rollout.tokens.len(), recipe.rollout.max_new_tokens);
            rollout.length_penalty = objective.overlong.penalty(tokens, longest);
        }
        let Some(group) = Group::new(problem, rollouts, objective, end_token) else {
            return;
        };
        let members = || group.rollouts.iter();
        let rewards: Vec<f64> = members().filter_map(|rollout| rollout.reward).collect();
        let correct: Vec<f64> = members().map(|r| f64::from(u8::from(r.correct))).collect();
        self.seen_groups += 1;
        // Before shaping by length, which would hide that all answers are worth the same.
        self.uniform_groups += usize::from(!dynamic_sampling_keep(&rewards));
        let solved = members().all(|rollout| rollout.correct);
        let unhinted = members().any(|rollout| !rollout.trace && rollout.hint_tokens == 0);
        self.solved_groups += usize::from(solved);
        self.solved_unhinted_groups += usize::from(solved && unhinted);
        self.count_rounds(&group, recipe.target_accuracy());
        if !objective.dynamic_sampling.drop_uniform || dynamic_sampling_keep(&correct) {
            self.groups.push(group);
        }
    }

    fn count_rounds(&mut self, group: &Group, target_accuracy: Option<f64>) {
        let mut right_and_tried: Vec<(usize, usize)> = Vec::new();
        for rollout in group.rollouts.iter().filter(|rollout| !rollout.trace) {
            if right_and_tried.len() <= rollout.round {
                right_and_tried.resize(rollout.round + 1, (0, 0));
            }
            let (right, tried) = &mut right_and_tried[rollout.round];
            *right += usize::from(rollout.correct);
            *tried += 1;
        }
        if self.rounds.len() < right_and_tried.len() {
            self.rounds
                .resize(right_and_tried.len(), RoundCounts::default());
        }
        for (counts, (right, tried)) in self.rounds.iter_mut().zip(right_and_tried) {
            if tried == 0 {
                continue;
            }
            counts.problems += 1;
            counts.uniform += usize::from(right == 0 || right == tried);
            let accuracy = right as f64 / tried as f64;
            counts.deviation += target_accuracy.map_or(0.0, |target| (accuracy - target).abs());
        }
    }

    fn share_of_groups(&self, groups: usize) -> f64 {
        groups as f64 / self.seen_groups.max(1) as f64
    }

    fn metrics(&self, max_rounds: usize, target_accuracy: Option<f64>) -> StepMetrics {
        let all = || self.rollouts.iter();
        let generated = || all().filter(|rollout| !rollout.trace);
        let scored = || generated().filter(|rollout| rollout.reward.is_some());
        let rounds = (0..max_rounds).map_while(|round| {
            let of_round = || scored().filter(move |rollout| rollout.round == round);
            of_round().next()?;
            let counts = self.rounds.get(round).copied().unwrap_or_default();
            Some(RoundMetrics {
                accuracy: mean(of_round().map(|r| f64::from(u8::from(r.correct)))),
                hint_rate: mean(of_round().map(|r| r.hint_rate)),
                zero_variance: counts.uniform as f64 / counts.problems.max(1) as f64,
                deviation: target_accuracy
                    .map(|_| counts.deviation / counts.problems.max(1) as f64),
            })
        });
        StepMetrics {
            rollouts: generated().count(),
            reward_mean: mean(generated().filter_map(|rollout| rollout.reward)),
            reward_missing: all().filter(|rollout| rollout.reward.is_none()).count(),
            reward_failures: self.failures.clone(),
            hint_rate_mean: mean(all().map(|rollout| rollout.hint_rate)),
            rounds: rounds.collect(),
            group_zero_variance: self.share_of_groups(self.uniform_groups),
            group_all_correct: self.share_of_groups(self.solved_groups),
            group_all_correct_unhinted: self.share_of_groups(self.solved_unhinted_groups),
            response_length_mean: mean(generated().map(|r| r.tokens.len() as f64)),
            truncated: mean(generated().map(|r| f64::from(u8::from(r.truncated)))),
            tokens_rollout: self.engine.tokens,
            utilisation: self.engine.tokens as f64 / self.engine.room.max(1) as f64,
            prefill_saved: self.engine.prefill_saved,
            repeated: self.engine.repeated,
            ..StepMetrics::default()
        }
    }
}

/// 0 of nothing.
fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    if count > 0.0 { sum / count } else { 0.0 }
}

/// What went wrong between two counts, kinds without any left out.
fn new_failures(before: RewardFailures, after: RewardFailures) -> Vec<(&'static str, u64)> {
    let kinds = after.named().into_iter().zip(before.named());
    kinds
        .map(|((kind, after), (_, before))| (kind, after - before))
        .filter(|(_, count)| *count > 0)
        .collect()
}

#[cfg(test)]
mod tests;
