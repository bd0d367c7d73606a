//! `seele`: hint lengths from the fitted accuracy-hint curve (SEELE Sec. 4.2, Alg. 1) with `irt-lsq`.

use super::{
    Fork, HintUse, RoundPlan, Schedule, VisitState, require, require_rate, require_rollouts,
};
use crate::fit_set::check_weight;
use crate::length::Cut;
use crate::memory::Memory;
use crate::{FitSet, HintError, LeastSquares, Point, Weighting};
use serde::{Deserialize, Serialize};

/// Which rate a visit leaves for the next one; the paper can be read both ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StoredRate {
    /// The curve is fitted once more with the last round (Sec. 4.2, 5.3).
    #[default]
    Refit,
    /// The rate asked for in the last round (Alg. 1 as printed).
    #[serde(alias = "last_used")]
    LastUsed,
}

/// Which rate a round is recorded with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecordedRate {
    /// Hint tokens divided by solution tokens.
    #[default]
    Effective,
    /// The rate asked for, before rounding.
    Predicted,
}

/// The paper's controller. Round 1 uses the stored rate (first visit: `cold_start_rate`); every later round
/// fits the curve to the rounds of this visit and asks for the rate whose predicted accuracy is the target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Seele {
    /// Rounds a visit, `m`. Default 4.
    pub rounds: u32,
    /// Rollouts a round, `n`. Default 8.
    pub rollouts: u32,
    /// Accuracy every round aims at, in `(0, 1)`. Default 0.5.
    pub target_accuracy: f64,
    /// Rate of the first round of the first visit, in `[0, 1]`. Default 1: all but the last token.
    pub cold_start_rate: f64,
    /// Rate a visit leaves for the next one: `refit` or `last-used`. Default `refit`.
    pub memory: StoredRate,
    /// Rate a round is recorded with: `effective` or `predicted`. Default `effective`.
    pub record: RecordedRate,
    /// Weight of an observed rate in the fit: `rounds`, `distinct`, `binomial` or `samples`. Default `rounds`.
    pub weight: Weighting,
    /// Weight of each margin point, from 1e-6 to 1e12. Default 1.
    pub margin_weight: f64,
    /// Strength of the penalty toward the start values of the fit, at least 0. Default 0, off.
    pub prior: f64,
    /// From the second visit on, weight of a further point (stored rate, target), from 1e-6 to 1e12. Default none.
    pub anchor: Option<f64>,
    /// Averages the rate over all curves that fit as well up to this tolerance, at least 0. Default none.
    pub plateau: Option<f64>,
    /// Keeps the points of earlier visits; their weight is multiplied by this at each visit, in `(0, 1]`.
    /// Default none: every visit starts with an empty set.
    pub carry_points: Option<f64>,
    /// What the hint tokens are for. Default `imitation`.
    pub hint_use: HintUse,
    /// Where a hint may end. Default `token`.
    pub cut: Cut,
}

/// Carried points below this weight are dropped, which bounds the memory of a problem.
const LEAST_CARRIED_WEIGHT: f64 = 0.01;
/// Carried points kept at most, newest first (a decay of 1 never drops one).
const MOST_CARRIED_POINTS: usize = 64;

impl Default for Seele {
    fn default() -> Self {
        let fit = LeastSquares::default();
        Self {
            rounds: 4,
            rollouts: 8,
            target_accuracy: 0.5,
            cold_start_rate: 1.0,
            memory: StoredRate::Refit,
            record: RecordedRate::Effective,
            weight: fit.weight,
            margin_weight: fit.margin_weight,
            prior: fit.prior,
            anchor: None,
            plateau: fit.plateau,
            carry_points: None,
            hint_use: HintUse::Imitation,
            cut: Cut::Token,
        }
    }
}

impl Seele {
    /// The estimator with this schedule's options.
    pub fn estimator(&self) -> LeastSquares {
        LeastSquares {
            weight: self.weight,
            margin_weight: self.margin_weight,
            prior: self.prior,
            plateau: self.plateau,
        }
    }

    /// The rate the rounds so far ask for. Without an observation: the rate stored by earlier visits, else the
    /// cold-start rate, without a fit.
    fn rate(&self, visit: &VisitState) -> f64 {
        let record = visit.record();
        let start = record.rate.unwrap_or(self.cold_start_rate);
        let observations =
            visit.observations(|rate, tokens| self.recorded_rate(visit, rate, tokens));
        if observations.is_empty() {
            return start;
        }
        let mut anchors = record.points.clone();
        if let (Some(weight), Some(rate)) = (self.anchor, record.rate) {
            anchors.push(Point {
                rate,
                accuracy: self.target_accuracy,
                weight,
            });
        }
        let estimator = self.estimator();
        // Observations are ratios of counts and anchors were checked when they were stored or set, so the fit
        // set is always valid; if it were not, the last good rate would be the safe answer.
        FitSet::new(&observations, &anchors, estimator.fit_set_options()).map_or(start, |set| {
            estimator.fit_and_rate(&set, self.target_accuracy).1
        })
    }

    fn recorded_rate(&self, visit: &VisitState, rate: f64, hint_tokens: usize) -> f64 {
        match self.record {
            RecordedRate::Effective => visit.solution().rate_of(hint_tokens),
            RecordedRate::Predicted => rate,
        }
    }

    fn carried(&self, visit: &VisitState) -> Vec<Point> {
        let Some(decay) = self.carry_points else {
            return Vec::new();
        };
        let fresh = visit.observations(|rate, tokens| self.recorded_rate(visit, rate, tokens));
        let fresh = fresh.into_iter().map(|o| Point {
            rate: o.rate,
            accuracy: o.accuracy,
            weight: 1.0,
        });
        let mut points: Vec<Point> = visit.record().points.iter().copied().chain(fresh).collect();
        for point in &mut points {
            point.weight *= decay;
        }
        points.retain(|point| point.weight >= LEAST_CARRIED_WEIGHT);
        points.drain(..points.len().saturating_sub(MOST_CARRIED_POINTS));
        points
    }
}

impl Schedule for Seele {
    fn plan(&self, visit: &VisitState) -> Option<RoundPlan> {
        if visit.rounds().len() >= self.rounds as usize {
            return None;
        }
        let rate = self.rate(visit);
        let hint_tokens = visit.solution().hint_tokens(rate, self.cut);
        let (rollouts, hint_use) = (self.rollouts, self.hint_use);
        Some(RoundPlan::single(Fork {
            rate,
            hint_tokens,
            rollouts,
            hint_use,
        }))
    }

    fn max_rounds(&self) -> usize {
        self.rounds as usize
    }

    fn max_rollouts(&self) -> u32 {
        self.rounds * self.rollouts
    }

    fn hint_use(&self) -> Option<HintUse> {
        Some(self.hint_use)
    }

    fn target_accuracy(&self) -> Option<f64> {
        Some(self.target_accuracy)
    }

    fn validate(&self) -> Result<(), HintError> {
        require_rounds(self.rounds)?;
        require_rollouts(self.rollouts)?;
        require_target(self.target_accuracy)?;
        require_rate("cold_start_rate", self.cold_start_rate)?;
        self.estimator().validate()?;
        check_weight("anchor", self.anchor.unwrap_or(1.0))?;
        let decay = self.carry_points.unwrap_or(1.0);
        require(
            decay > 0.0 && decay <= 1.0,
            "carry_points",
            decay,
            "a number in (0, 1]",
        )
    }

    fn finish(&self, visits: &[VisitState], memory: &mut Memory) {
        for visit in visits {
            let Some((last_rate, ..)) = visit
                .outcomes()
                .filter(|(.., result)| result.rollouts > 0)
                .last()
            else {
                continue;
            };
            let rate = match self.memory {
                StoredRate::Refit => self.rate(visit),
                StoredRate::LastUsed => last_rate,
            };
            let mut record = visit.record().clone();
            record.visits = record.visits.saturating_add(1);
            record.rate = Some(rate);
            record.points = self.carried(visit);
            memory.set_record(visit.problem(), record);
        }
    }
}

pub(super) fn require_rounds(rounds: u32) -> Result<(), HintError> {
    require((1..=1024).contains(&rounds), "rounds", rounds, "1 to 1024")
}

pub(super) fn require_target(target: f64) -> Result<(), HintError> {
    require(
        target > 0.0 && target < 1.0,
        "target_accuracy",
        target,
        "a number between 0 and 1",
    )
}
