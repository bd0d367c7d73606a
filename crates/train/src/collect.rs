//! Rollouts of a step's problems. No problem waits for another: as soon as a round of one is verified,
//! its next round joins the batch of the engine.

use crate::error::TrainError;
use crate::evaluate::{Grader, is_correct};
use crate::group::Rollout;
use crate::progress::{Observer, Phase};
use crate::recipe::EncodedData;
use rayon::prelude::*;
use seele_data::{Draw, EncodedProblem, Problem};
use seele_hint::{ForkResult, Grouping, HintController, HintUse, RoundPlan, Visit, VisitContext};
use seele_random::Key;
use seele_rollout::{BranchRequest, Finish, FinishedBranch, RolloutEngine, TrunkId};
use std::time::{Duration, Instant};

const ROLLOUT: u64 = u64::from_be_bytes(*b"rollout ");

/// What a step's sampling came to.
pub(crate) struct Collected {
    /// `[problems]` in the order of the draws: the rollouts of each, in order of round, fork and index.
    pub(crate) problems: Vec<Vec<Rollout>>,
    /// Rollouts of rounds that a later round replaced; measured, not trained on.
    pub(crate) replaced: Vec<Rollout>,
    /// `[problems]`: the visits, over.
    pub(crate) visits: Vec<Visit>,
    /// Seconds of verification.
    pub(crate) reward_time: Duration,
    /// Tokens that were sampled.
    pub(crate) tokens: u64,
}

/// What all problems of a step share.
pub(crate) struct Collection<'a> {
    pub(crate) data: &'a EncodedData,
    pub(crate) hints: &'a HintController,
    pub(crate) grader: &'a Grader<'a>,
    pub(crate) end_token: u32,
    pub(crate) seed: u64,
    /// Training step, from 1.
    pub(crate) step: usize,
    pub(crate) total_steps: usize,
}

/// A problem on its way through its rounds.
struct InFlight<'a> {
    problem: &'a Problem,
    encoded: &'a EncodedProblem,
    key: Key,
    trunk: TrunkId,
    visit: Visit,
    plan: Option<RoundPlan>,
    round: usize,
    /// Fork of each rollout of the round, and the rollout once it is verified.
    slots: Vec<(usize, Option<Rollout>)>,
    waiting: usize,
    rollouts: Vec<Rollout>,
    replaced: Vec<Rollout>,
}

impl Collection<'_> {
    /// Samples and verifies all rounds of all `draws`.
    pub(crate) fn collect(
        &self,
        draws: &[Draw],
        engine: &mut dyn RolloutEngine,
        observer: &mut dyn Observer,
    ) -> Result<Collected, TrainError> {
        let mut problems = Vec::with_capacity(draws.len());
        for draw in draws {
            problems.push(self.begin(*draw, engine)?);
        }
        let mut reward_time = Duration::ZERO;
        for (index, problem) in problems.iter_mut().enumerate() {
            self.advance(problem, index, engine)?;
        }
        let rounds = self.hints.max_rounds();
        let (mut shown, mut done) = (None, 0);
        while engine.pending() > 0 {
            let earliest = problems.iter().filter(|problem| problem.waiting > 0);
            let round = earliest.map(|problem| problem.round).min().unwrap_or(1);
            if shown != Some(round) {
                observer.phase(self.step, Phase::Round { round, rounds });
                shown = Some(round);
            }
            let finished = engine.step()?;
            let begun = Instant::now();
            let verified: Vec<Rollout> = finished
                .par_iter()
                .map(|branch| self.verify(&problems[problem_of(branch.tag)], branch))
                .collect::<Result<_, _>>()?;
            reward_time += begun.elapsed();
            done += finished.len();
            for (branch, rollout) in finished.iter().zip(verified) {
                let index = problem_of(branch.tag);
                let problem = &mut problems[index];
                problem.slots[slot_of(branch.tag)].1 = Some(rollout);
                problem.waiting -= 1;
                if problem.waiting == 0 {
                    problem.finish_round()?;
                    self.advance(problem, index, engine)?;
                }
            }
            let tokens = engine.statistics().decoded_tokens;
            observer.tick(done, done + engine.pending(), tokens);
        }
        let tokens = engine.statistics().decoded_tokens;
        let mut collected = Collected {
            problems: Vec::new(),
            replaced: Vec::new(),
            visits: Vec::new(),
            reward_time,
            tokens,
        };
        for problem in problems {
            engine.drop_trunk(problem.trunk);
            collected.problems.push(problem.rollouts);
            collected.replaced.extend(problem.replaced);
            collected.visits.push(problem.visit);
        }
        Ok(collected)
    }

    fn begin(
        &self,
        draw: Draw,
        engine: &mut dyn RolloutEngine,
    ) -> Result<InFlight<'_>, TrainError> {
        let (problem, encoded) = &self.data.problems[draw.problem];
        let context = VisitContext {
            seed: self.seed,
            step: self.step as u64 - 1,
            total_steps: self.total_steps as u64,
            epoch: draw.epoch,
        };
        // Without a solution only schedules without hints get here; they do not look at its length.
        let visit = self.hints.start_visit(
            draw.problem as u64,
            encoded.solution_ids.len().max(1),
            &encoded.step_ends,
            context,
        )?;
        let mut trunk = encoded.prompt_ids.clone();
        trunk.extend(&encoded.solution_ids);
        Ok(InFlight {
            problem,
            encoded,
            key: Key::new(self.seed)
                .with(ROLLOUT)
                .with(self.step as u64)
                .with(draw.epoch)
                .with(draw.problem as u64),
            trunk: engine.add_trunk(trunk)?,
            visit,
            plan: None,
            round: 0,
            slots: Vec::new(),
            waiting: 0,
            rollouts: Vec::new(),
            replaced: Vec::new(),
        })
    }

    /// Submits the next round of a problem, if there is one. A round of nothing but reference solutions
    /// is over at once.
    fn advance(
        &self,
        problem: &mut InFlight<'_>,
        index: usize,
        engine: &mut dyn RolloutEngine,
    ) -> Result<(), TrainError> {
        while let Some(plan) = problem.visit.next_round() {
            problem.round += 1;
            let round_key = problem.key.with(problem.round as u64);
            for (fork_index, fork) in plan.forks.iter().enumerate() {
                let is_trace = fork.hint_use == HintUse::OffPolicy
                    && fork.hint_tokens >= problem.encoded.solution_ids.len();
                for _ in 0..fork.rollouts {
                    let slot = problem.slots.len();
                    let trace = is_trace.then(|| self.trace(problem));
                    if trace.is_none() {
                        engine.submit(BranchRequest {
                            trunk: problem.trunk,
                            fork: problem.encoded.prompt_ids.len() + fork.hint_tokens,
                            key: round_key.with(slot as u64),
                            tag: (index as u64) << 32 | slot as u64,
                        })?;
                        problem.waiting += 1;
                    }
                    problem.slots.push((fork_index, trace));
                }
            }
            problem.plan = Some(plan);
            if problem.waiting > 0 {
                break;
            }
            problem.finish_round()?;
        }
        Ok(())
    }

    /// The reference solution as a member of the group.
    fn trace(&self, problem: &InFlight<'_>) -> Rollout {
        let mut tokens = problem.encoded.solution_ids.clone();
        tokens.push(self.end_token);
        let id = format!("{}-trace", problem.problem.id);
        let solution = &problem.encoded.solution;
        let score = self
            .grader
            .score(&id, problem.problem, "", solution, tokens.len(), false);
        Rollout {
            round: problem.round - 1,
            hint_tokens: 0,
            hint_rate: 1.0,
            tokens,
            logprobs: Vec::new(),
            reward: score.value,
            correct: is_correct(&score),
            truncated: false,
            trace: true,
        }
    }

    fn verify(
        &self,
        problem: &InFlight<'_>,
        branch: &FinishedBranch,
    ) -> Result<Rollout, TrainError> {
        let hint_tokens = branch.fork - problem.encoded.prompt_ids.len();
        let id = format!(
            "{}-step{}-round{}-{}",
            problem.problem.id,
            self.step,
            problem.round,
            slot_of(branch.tag)
        );
        let truncated = branch.finish == Finish::Length;
        let hint = problem.encoded.hint_text(hint_tokens);
        let score = self
            .grader
            .grade(&id, problem.problem, hint, &branch.tokens, truncated)?;
        Ok(Rollout {
            round: problem.round - 1,
            hint_tokens,
            hint_rate: hint_tokens as f64 / problem.encoded.solution_ids.len().max(1) as f64,
            tokens: branch.tokens.clone(),
            logprobs: branch.logprobs.clone(),
            reward: score.value,
            correct: is_correct(&score),
            truncated,
            trace: false,
        })
    }
}

impl InFlight<'_> {
    /// Hands the round to the schedule and to the group.
    fn finish_round(&mut self) -> Result<(), TrainError> {
        let Some(plan) = self.plan.take() else {
            return Ok(());
        };
        let nothing = ForkResult {
            successes: 0,
            rollouts: 0,
        };
        let mut results = vec![nothing; plan.forks.len()];
        if plan.grouping == Grouping::Replace {
            self.replaced.append(&mut self.rollouts);
        }
        for (fork, rollout) in self.slots.drain(..) {
            let Some(rollout) = rollout else { continue };
            if rollout.reward.is_some() {
                results[fork].rollouts += 1;
                results[fork].successes += u32::from(rollout.correct);
            }
            self.rollouts.push(rollout);
        }
        self.visit.observe(&results)?;
        Ok(())
    }
}

fn problem_of(tag: u64) -> usize {
    (tag >> 32) as usize
}

fn slot_of(tag: u64) -> usize {
    (tag & u64::from(u32::MAX)) as usize
}
