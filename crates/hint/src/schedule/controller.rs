//! A schedule with its memory, as a training loop uses it.

use super::Schedule;
use super::visit::{Visit, VisitContext};
use crate::length::Solution;
use crate::memory::Memory;
use crate::{HintConfig, HintError};
use std::sync::Arc;

/// Drives a schedule through a run.
///
/// In every step: [`start_visit`](Self::start_visit) for each problem, then for each visit, independently of
/// the others, [`Visit::next_round`] and [`Visit::observe`] until there is no further round, then
/// [`finish_step`](Self::finish_step) once with all visits in problem order. Nothing that happens within a
/// step changes another visit of that step, so results do not depend on the order in which rollouts finish.
#[derive(Debug, Clone)]
pub struct HintController {
    schedule: Arc<dyn Schedule>,
    memory: Memory,
}

impl HintController {
    /// A controller with an empty memory.
    ///
    /// # Errors
    /// [`HintError::Setting`] if a setting is out of range.
    pub fn new(config: &HintConfig) -> Result<Self, HintError> {
        Self::with_schedule(config.name(), config.schedule()?)
    }

    /// A controller of a schedule of the caller's; `name` marks its memory.
    ///
    /// # Errors
    /// [`HintError::Setting`] if the schedule refuses its settings.
    pub fn with_schedule(name: &str, schedule: Arc<dyn Schedule>) -> Result<Self, HintError> {
        schedule.validate()?;
        Ok(Self {
            schedule,
            memory: Memory::new(name),
        })
    }

    /// Continues from a memory saved by a controller of the same schedule.
    ///
    /// # Errors
    /// [`HintError::Memory`] if it is of another schedule or damaged.
    pub fn restore(&mut self, memory: Memory) -> Result<(), HintError> {
        memory.check(self.memory.schedule())?;
        self.memory = memory;
        Ok(())
    }

    /// What is known about the problems; save it between steps (it is all the state there is).
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Most rounds a visit can have.
    pub fn max_rounds(&self) -> usize {
        self.schedule.max_rounds()
    }

    /// Most rollouts a visit can have, off-policy members included.
    pub fn max_rollouts(&self) -> u32 {
        self.schedule.max_rollouts()
    }

    /// Starts a visit.
    ///
    /// * `problem`: key of the problem, the same in every epoch.
    /// * `solution_tokens`: length of its reference solution without end-of-sequence, at least 1.
    /// * `step_ends`: ascending token offsets behind the solution's steps; may be empty.
    ///
    /// # Errors
    /// [`HintError::Solution`] if the solution is empty or its step ends descend.
    pub fn start_visit(
        &self,
        problem: u64,
        solution_tokens: usize,
        step_ends: &[usize],
        context: VisitContext,
    ) -> Result<Visit, HintError> {
        let solution = Solution::new(solution_tokens, step_ends)
            .map_err(|reason| HintError::Solution { problem, reason })?;
        let start = self.schedule.start(problem, &self.memory);
        Ok(Visit::new(
            Arc::clone(&self.schedule),
            (problem, solution, context),
            start,
        ))
    }

    /// Ends the visits of a step and updates the memory. Pass them in problem order: population statistics
    /// are summed in the order given. A visit without results leaves its problem as it was.
    pub fn finish_step(&mut self, visits: Vec<Visit>) {
        let states: Vec<_> = visits.into_iter().map(Visit::into_state).collect();
        self.schedule.finish(&states, &mut self.memory);
    }
}
