//! `uft`, `uft-stage`, `r3`: one hint for all rollouts of a visit, drawn by a global schedule over slices of
//! the solution (UFT and its variants; R3).

use super::{
    Fork, HintUse, RoundPlan, Schedule, VisitState, cosine_decay, require, require_rate,
    require_rollouts,
};
use crate::HintError;
use crate::length::{Cut, slice_end};
use serde::{Deserialize, Serialize};

/// Every slice of the solution is revealed with a probability that falls along a cosine; the hint is the
/// first `j` slices, `j` the number revealed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Uft {
    /// Rollouts a visit. Default 4.
    pub rollouts: u32,
    /// Most slices a solution is cut into. Default 5.
    pub slices: u32,
    /// Share of the run with hints, in `[0, 1]`. Default 0.6.
    pub hint_share: f64,
    /// Probability of revealing a slice at the end of that share, in `[0, 1]`. Default 0.05.
    pub lowest_probability: f64,
    /// Probability at the start of the run, in `[0, 1]`. Default 0.95.
    pub highest_probability: f64,
    /// What the hint tokens are for. Default `imitation`.
    pub hint_use: HintUse,
    /// Units the slices are made of. Default `step`.
    pub cut: Cut,
}

impl Default for Uft {
    fn default() -> Self {
        Self {
            rollouts: 4,
            slices: 5,
            hint_share: 0.6,
            lowest_probability: 0.05,
            highest_probability: 0.95,
            hint_use: HintUse::Imitation,
            cut: Cut::Step,
        }
    }
}

impl Uft {
    /// Probability of revealing a slice in `step` (from 0) of a run of `total_steps`:
    /// `cosine_decay(highest, lowest, t / T)` for `t = step + 1` up to the last of the `T` hinted steps, then 0.
    pub fn probability(&self, step: u64, total_steps: u64) -> f64 {
        let hinted = hinted_steps(total_steps, self.hint_share);
        if step >= hinted {
            return 0.0;
        }
        let share = (step + 1) as f64 / hinted as f64;
        cosine_decay(self.highest_probability, self.lowest_probability, share)
    }
}

impl Schedule for Uft {
    fn plan(&self, visit: &VisitState) -> Option<RoundPlan> {
        visit.rounds().is_empty().then(|| {
            let slices = slices_of(visit, self.slices, self.cut);
            let probability = self.probability(visit.context().step, visit.context().total_steps);
            let revealed = (0..slices)
                .filter(|&slice| visit.key().with(slice as u64).uniform() < probability)
                .count();
            slice_round(
                visit,
                (revealed, slices),
                self.rollouts,
                self.hint_use,
                self.cut,
            )
        })
    }

    fn max_rounds(&self) -> usize {
        1
    }

    fn max_rollouts(&self) -> u32 {
        self.rollouts
    }

    fn hint_use(&self) -> Option<HintUse> {
        Some(self.hint_use)
    }

    fn validate(&self) -> Result<(), HintError> {
        require_rollouts(self.rollouts)?;
        require_slices(self.slices)?;
        require_rate("hint_share", self.hint_share)?;
        require_rate("lowest_probability", self.lowest_probability)?;
        require_rate("highest_probability", self.highest_probability)
    }
}

/// A staircase from all slices at the start down to none at the end of the hinted share of the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UftStage {
    /// Rollouts a visit. Default 4.
    pub rollouts: u32,
    /// Most slices a solution is cut into. Default 5.
    pub slices: u32,
    /// Share of the run with hints, in `[0, 1]`. Default 0.6.
    pub hint_share: f64,
    /// What the hint tokens are for. Default `imitation`.
    pub hint_use: HintUse,
    /// Units the slices are made of. Default `step`.
    pub cut: Cut,
}

impl Default for UftStage {
    fn default() -> Self {
        Self {
            rollouts: 4,
            slices: 5,
            hint_share: 0.6,
            hint_use: HintUse::Imitation,
            cut: Cut::Step,
        }
    }
}

impl Schedule for UftStage {
    fn plan(&self, visit: &VisitState) -> Option<RoundPlan> {
        visit.rounds().is_empty().then(|| {
            let slices = slices_of(visit, self.slices, self.cut);
            let steps = hinted_steps(visit.context().total_steps, self.hint_share);
            // Exact integers: the stairs must not shift by rounding.
            let passed =
                u128::from(visit.context().step) * slices as u128 / u128::from(steps.max(1));
            let revealed =
                slices - usize::try_from(passed).map_or(slices, |passed| passed.min(slices));
            let revealed = if steps == 0 { 0 } else { revealed };
            slice_round(
                visit,
                (revealed, slices),
                self.rollouts,
                self.hint_use,
                self.cut,
            )
        })
    }

    fn max_rounds(&self) -> usize {
        1
    }

    fn max_rollouts(&self) -> u32 {
        self.rollouts
    }

    fn hint_use(&self) -> Option<HintUse> {
        Some(self.hint_use)
    }

    fn validate(&self) -> Result<(), HintError> {
        require_rollouts(self.rollouts)?;
        require_slices(self.slices)?;
        require_rate("hint_share", self.hint_share)
    }
}

/// A uniformly drawn number of slices, none and all included, throughout the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct R3 {
    /// Rollouts a visit. Default 4.
    pub rollouts: u32,
    /// Most slices a solution is cut into. Default 5.
    pub slices: u32,
    /// What the hint tokens are for. Default `context`.
    pub hint_use: HintUse,
    /// Units the slices are made of. Default `step`.
    pub cut: Cut,
}

impl Default for R3 {
    fn default() -> Self {
        Self {
            rollouts: 4,
            slices: 5,
            hint_use: HintUse::Context,
            cut: Cut::Step,
        }
    }
}

impl Schedule for R3 {
    fn plan(&self, visit: &VisitState) -> Option<RoundPlan> {
        visit.rounds().is_empty().then(|| {
            let slices = slices_of(visit, self.slices, self.cut);
            // At most `slices`, so the cast is exact.
            let revealed = visit.key().below(slices as u64 + 1) as usize;
            slice_round(
                visit,
                (revealed, slices),
                self.rollouts,
                self.hint_use,
                self.cut,
            )
        })
    }

    fn max_rounds(&self) -> usize {
        1
    }

    fn max_rollouts(&self) -> u32 {
        self.rollouts
    }

    fn hint_use(&self) -> Option<HintUse> {
        Some(self.hint_use)
    }

    fn validate(&self) -> Result<(), HintError> {
        require_rollouts(self.rollouts)?;
        require_slices(self.slices)
    }
}

fn require_slices(slices: u32) -> Result<(), HintError> {
    require((1..=1000).contains(&slices), "slices", slices, "1 to 1000")
}

/// Number of slices of the solution: at most one for each unit.
fn slices_of(visit: &VisitState, slices: u32, cut: Cut) -> usize {
    (slices as usize).min(visit.solution().units(cut))
}

/// Steps of the run with hints.
fn hinted_steps(total_steps: u64, share: f64) -> u64 {
    (total_steps as f64 * share).round() as u64
}

/// A round from the first `revealed` of `slices` slices, cut after unit `round(j U / K)` (half to even).
fn slice_round(
    visit: &VisitState,
    (revealed, slices): (usize, usize),
    rollouts: u32,
    hint_use: HintUse,
    cut: Cut,
) -> RoundPlan {
    let solution = visit.solution();
    let share = revealed as f64 / slices as f64;
    let units = slice_end(revealed, solution.units(cut), slices);
    let hint_tokens = solution.tokens_of_units(units, cut);
    RoundPlan::single(Fork {
        rate: share,
        hint_tokens,
        rollouts,
        hint_use,
    })
}
