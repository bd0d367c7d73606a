//! Rollouts of a step's problems. No problem waits for another: as soon as a round of one is verified,
//! its next round is planned and joins the batch of the engine. Verdicts and plans (which fit curves) are
//! made beside decoding.

use crate::error::TrainError;
use crate::evaluate::{Grader, is_correct};
use crate::group::Rollout;
use crate::progress::{Observer, Phase};
use crate::recipe::{EncodedData, Rounds};
use crate::verification::{Grading, beside};
use seele_data::{Draw, EncodedProblem, Problem};
use seele_hint::{ForkResult, Grouping, HintController, HintUse, RoundPlan, Visit, VisitContext};
use seele_random::Key;
use seele_rollout::{
    BranchRequest, Finish, FinishedBranch, RolloutEngine, RolloutStatistics, TrunkId,
};
use std::time::Duration;

const ROLLOUT: u64 = u64::from_be_bytes(*b"rollout ");

/// What a step's sampling came to.
pub(crate) struct Collected {
    /// `[problems]` in the order of the draws: the rollouts of each, in order of round, fork and index.
    pub(crate) problems: Vec<Vec<Rollout>>,
    /// Rollouts of rounds that a later round replaced; measured, not trained on.
    pub(crate) replaced: Vec<Rollout>,
    /// `[problems]`: the visits, over.
    pub(crate) visits: Vec<Visit>,
    /// Time in which nothing could be decoded because verdicts or plans were missing.
    pub(crate) reward_time: Duration,
    /// What the engine did.
    pub(crate) engine: RolloutStatistics,
}

/// What all problems of a step share.
pub(crate) struct Collection<'a> {
    pub(crate) data: &'a EncodedData,
    pub(crate) hints: &'a HintController,
    pub(crate) grader: &'a Grader<'a>,
    pub(crate) grading_threads: usize,
    pub(crate) rounds: Rounds,
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
    /// None while the next round is being planned.
    visit: Option<Visit>,
    plan: Option<RoundPlan>,
    round: usize,
    /// Fork of each rollout of the round, and the rollout once it is verified.
    slots: Vec<(usize, Option<Rollout>)>,
    waiting: usize,
    rollouts: Vec<Rollout>,
    replaced: Vec<Rollout>,
}

/// What is done beside decoding.
enum Job<'a> {
    Grade(Text<'a>),
    Plan(Planning),
}

/// What comes of it.
enum Done {
    Verified(Verified),
    /// A visit with its next round, if there is one.
    Planned(Planning, Option<RoundPlan>),
}

/// A visit whose next round is to be planned.
struct Planning {
    /// Index of the problem in the step.
    index: usize,
    visit: Visit,
    /// What came of the round before; none before the first.
    results: Option<Vec<ForkResult>>,
}

/// A text to be graded.
struct Text<'a> {
    problem: &'a Problem,
    encoded: &'a EncodedProblem,
    /// Index of the problem in the step, and of the rollout in its round.
    place: (usize, usize),
    /// Round, from 1.
    round: usize,
    hint_use: HintUse,
    /// None: the reference solution as a member of the group.
    sampled: Option<FinishedBranch>,
}

/// A graded rollout and the slot it belongs to.
struct Verified {
    place: (usize, usize),
    rollout: Rollout,
}

impl<'a> Collection<'a> {
    /// Samples and verifies all rounds of all `draws`. What is sampled does not depend on the order in
    /// which verdicts come: every draw is keyed by its place.
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
        let reward_time = beside(
            self.grading_threads,
            |job| match job {
                Job::Grade(text) => self.grade(text).map(Done::Verified),
                Job::Plan(planning) => plan(planning),
            },
            |grading| self.advance_all(&mut problems, grading, engine, observer),
        )?;
        let mut collected = Collected {
            problems: Vec::new(),
            replaced: Vec::new(),
            visits: Vec::new(),
            reward_time,
            engine: engine.statistics(),
        };
        for problem in problems {
            engine.drop_trunk(problem.trunk);
            collected.problems.push(problem.rollouts);
            collected.replaced.extend(problem.replaced);
            collected.visits.extend(problem.visit);
        }
        Ok(collected)
    }

    /// Decodes and takes verdicts until every visit is over; returns the time spent waiting for verdicts
    /// and plans.
    fn advance_all(
        &self,
        problems: &mut [InFlight<'a>],
        beside: &mut Grading<Job<'a>, Done>,
        engine: &mut dyn RolloutEngine,
        observer: &mut dyn Observer,
    ) -> Result<Duration, TrainError> {
        for (index, problem) in problems.iter_mut().enumerate() {
            problem.plan_next(index, None, beside);
        }
        let rounds = self.hints.max_rounds();
        let (mut shown, mut done) = (None, 0);
        let mut show = |phase: Phase, observer: &mut dyn Observer| {
            if shown.as_ref() != Some(&phase) {
                observer.phase(self.step, phase.clone());
                shown = Some(phase);
            }
        };
        // Planned rounds that wait for those of other problems.
        let mut held = Vec::new();
        loop {
            while let Some(one) = beside.ready()? {
                self.accept(one, problems, &mut held, engine, beside)?;
            }
            if engine.pending() > 0 {
                let earliest = problems.iter().filter(|problem| problem.waiting > 0);
                let round = earliest.map(|problem| problem.round).min().unwrap_or(1);
                show(Phase::Round { round, rounds }, observer);
                let finished = engine.step()?;
                done += finished.len();
                for branch in finished {
                    beside.submit(Job::Grade(text_of(problems, branch)));
                }
            } else if beside.open() > 0 {
                // Before the first rounds are planned there is nothing to verify.
                let first = Phase::Round { round: 1, rounds };
                show(if done > 0 { Phase::Reward } else { first }, observer);
                if let Some(one) = beside.wait()? {
                    self.accept(one, problems, &mut held, engine, beside)?;
                }
            } else if held.is_empty() {
                return Ok(beside.waited());
            } else {
                for (index, plan) in held.drain(..) {
                    self.submit_round(&mut problems[index], index, plan, engine, beside)?;
                }
            }
            let total = done + engine.pending();
            observer.tick(done, total, engine.statistics().decoded_tokens);
        }
    }

    fn begin(
        &self,
        draw: Draw,
        engine: &mut dyn RolloutEngine,
    ) -> Result<InFlight<'a>, TrainError> {
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
            visit: Some(visit),
            plan: None,
            round: 0,
            slots: Vec::new(),
            waiting: 0,
            rollouts: Vec::new(),
            replaced: Vec::new(),
        })
    }

    /// Submits a planned round of a problem. Reference solutions need no decoding and go to the graders at
    /// once.
    fn submit_round(
        &self,
        problem: &mut InFlight<'a>,
        index: usize,
        plan: RoundPlan,
        engine: &mut dyn RolloutEngine,
        beside: &mut Grading<Job<'a>, Done>,
    ) -> Result<(), TrainError> {
        problem.round += 1;
        let round_key = problem.key.with(problem.round as u64);
        let rounds_to_come = self.hints.max_rounds().saturating_sub(problem.round);
        for (fork_index, fork) in plan.forks.iter().enumerate() {
            let is_solution = fork.hint_use == HintUse::OffPolicy
                && fork.hint_tokens >= problem.encoded.solution_ids.len();
            let length = problem.expected_length(fork.hint_tokens, self.grader.max_new_tokens);
            for _ in 0..fork.rollouts {
                let slot = problem.slots.len();
                if is_solution {
                    beside.submit(Job::Grade(Text {
                        problem: problem.problem,
                        encoded: problem.encoded,
                        place: (index, slot),
                        round: problem.round,
                        hint_use: fork.hint_use,
                        sampled: None,
                    }));
                } else {
                    engine.submit(BranchRequest {
                        trunk: problem.trunk,
                        fork: problem.encoded.prompt_ids.len() + fork.hint_tokens,
                        key: round_key.with(slot as u64),
                        // The rounds to come wait for this one, each for its longest rollout, which as a
                        // rule has as many tokens as it may.
                        expected_tokens: rounds_to_come * self.grader.max_new_tokens + length,
                        tag: (index as u64) << 32 | slot as u64,
                    })?;
                }
                problem.waiting += 1;
                problem.slots.push((fork_index, None));
            }
        }
        problem.plan = Some(plan);
        if problem.waiting == 0 {
            problem.finish_round(index, beside);
        }
        Ok(())
    }

    /// Takes a verdict, the last of which brings the planning of the problem's next round, or a plan.
    fn accept(
        &self,
        done: Done,
        problems: &mut [InFlight<'a>],
        held: &mut Vec<(usize, RoundPlan)>,
        engine: &mut dyn RolloutEngine,
        beside: &mut Grading<Job<'a>, Done>,
    ) -> Result<(), TrainError> {
        match done {
            Done::Verified(verified) => {
                let (index, slot) = verified.place;
                let problem = &mut problems[index];
                problem.slots[slot].1 = Some(verified.rollout);
                problem.waiting -= 1;
                if problem.waiting == 0 {
                    problem.finish_round(index, beside);
                }
            }
            Done::Planned(planning, plan) => {
                let index = planning.index;
                let problem = &mut problems[index];
                problem.visit = Some(planning.visit);
                match (plan, self.rounds) {
                    (None, _) => {}
                    (Some(plan), Rounds::Independent) => {
                        self.submit_round(problem, index, plan, engine, beside)?;
                    }
                    (Some(plan), Rounds::LockStep) => held.push((index, plan)),
                }
            }
        }
        Ok(())
    }

    fn grade(&self, job: Text<'a>) -> Result<Verified, TrainError> {
        let (encoded, (_, slot)) = (job.encoded, job.place);
        let id = format!(
            "{}-step{}-round{}-{slot}",
            job.problem.id, self.step, job.round
        );
        let share = |tokens: usize| tokens as f64 / encoded.solution_ids.len().max(1) as f64;
        let rollout = match job.sampled {
            Some(branch) => {
                let hint_tokens = branch.fork - encoded.prompt_ids.len();
                let truncated = branch.finish == Finish::Length;
                let hint = encoded.hint_text(hint_tokens);
                let grader = self.grader;
                let score = grader.grade(&id, job.problem, hint, &branch.tokens, truncated)?;
                Rollout {
                    round: job.round - 1,
                    hint_tokens,
                    hint_rate: share(hint_tokens),
                    hint_use: job.hint_use,
                    tokens: branch.tokens,
                    logprobs: branch.logprobs,
                    reward: score.value,
                    length_penalty: 0.0,
                    correct: is_correct(&score),
                    truncated,
                    trace: false,
                }
            }
            None => {
                let mut tokens = encoded.solution_ids.clone();
                tokens.push(self.end_token);
                let solution = &encoded.solution;
                let score = self
                    .grader
                    .score(&id, job.problem, "", solution, tokens.len(), false);
                Rollout {
                    round: job.round - 1,
                    hint_tokens: 0,
                    hint_rate: 1.0,
                    hint_use: job.hint_use,
                    tokens,
                    logprobs: Vec::new(),
                    reward: score.value,
                    length_penalty: 0.0,
                    correct: is_correct(&score),
                    truncated: false,
                    trace: true,
                }
            }
        };
        Ok(Verified {
            place: job.place,
            rollout,
        })
    }
}

/// Hands the results of a round to the schedule and asks it for the next.
fn plan(mut planning: Planning) -> Result<Done, TrainError> {
    if let Some(results) = planning.results.take() {
        planning.visit.observe(&results)?;
    }
    let plan = planning.visit.next_round();
    Ok(Done::Planned(planning, plan))
}

/// The finished branch with all that its verdict depends on.
fn text_of<'a>(problems: &[InFlight<'a>], branch: FinishedBranch) -> Text<'a> {
    let place = place_of(branch.tag);
    let problem = &problems[place.0];
    let fork = problem.slots[place.1].0;
    let plan = problem.plan.as_ref();
    Text {
        problem: problem.problem,
        encoded: problem.encoded,
        place,
        round: problem.round,
        hint_use: plan.map_or(HintUse::Context, |plan| plan.forks[fork].hint_use),
        sampled: Some(branch),
    }
}

impl<'a> InFlight<'a> {
    /// Has the next round planned, given what came of the one before.
    fn plan_next(
        &mut self,
        index: usize,
        results: Option<Vec<ForkResult>>,
        beside: &mut Grading<Job<'a>, Done>,
    ) {
        if let Some(visit) = self.visit.take() {
            beside.submit(Job::Plan(Planning {
                index,
                visit,
                results,
            }));
        }
    }

    /// Hands the round to the group and to the schedule.
    fn finish_round(&mut self, index: usize, beside: &mut Grading<Job<'a>, Done>) {
        let Some(plan) = self.plan.take() else {
            return;
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
        self.plan_next(index, Some(results), beside);
    }

    /// Tokens that a rollout after so many hint tokens will have: as many as the solution still has, in
    /// the proportion that this visit's rollouts have shown so far.
    fn expected_length(&self, hint_tokens: usize, most: usize) -> usize {
        let solution = self.encoded.solution_ids.len();
        // With the end token.
        let rest = |hint_tokens: usize| solution.saturating_sub(hint_tokens) + 1;
        let seen = self.rollouts.iter().chain(&self.replaced);
        let seen = seen.filter(|rollout| !rollout.trace);
        let (tokens, rests) = seen.fold((0, 0), |(tokens, rests), rollout| {
            (
                tokens + rollout.tokens.len(),
                rests + rest(rollout.hint_tokens),
            )
        });
        let expected = match (rests, solution) {
            (0, 0) => most,
            (0, _) => rest(hint_tokens),
            _ => (rest(hint_tokens) * tokens).div_ceil(rests),
        };
        expected.clamp(1, most.max(1))
    }
}

/// Index of the problem in the step, and of the rollout in its round.
fn place_of(tag: u64) -> (usize, usize) {
    ((tag >> 32) as usize, (tag & u64::from(u32::MAX)) as usize)
}
