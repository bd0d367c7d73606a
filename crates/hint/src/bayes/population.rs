//! What the problems seen so far say about the next one: the prior of a first visit, and how far curves drift
//! between visits.

use super::belief::Belief;
use super::grid::{C_COUNT, CELLS, GRID, K_COUNT, SHAPES};
use serde::{Deserialize, Serialize};

/// Mass the prior starts each epoch with, in problems.
const PRIOR_MASS: f64 = 128.0;
/// Deviation in `c` by which each problem's belief is spread before it counts for others.
const SPREAD: f64 = 0.04;
/// Deviation of a curve's drift between two visits.
const DRIFT_DEVIATION: f64 = 0.05;
/// Drift before any is observed.
const INITIAL_DRIFT: f64 = 0.03;
/// Revisits that the drift so far is worth beside those of a step: a step of 256 gives it 0.8 of its new value. A
/// count that began at 256 and grew, as in the first design, would remember the fast first epochs for ever, and
/// later visits would start with too short a hint.
const DRIFT_COUNT: f64 = 64.0;
/// Share of the population prior in the belief a later visit starts from.
const POPULATION_SHARE: f64 = 0.05;
/// No curve is ever ruled out.
const LEAST_WEIGHT: f64 = 1e-12;

/// Population prior `W` and mean drift `delta`, learned online.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct Population {
    /// Accumulated mass `A`, `[cell]`; `W = A / sum A`.
    mass: Vec<f64>,
    /// Decrease of `c` from one visit to the next.
    drift: f64,
    /// Epoch the mass was last renewed in; none before the first batch.
    epoch: Option<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    mass: Vec<f64>,
    drift: f64,
    epoch: Option<u64>,
}

impl From<Population> for Stored {
    fn from(Population { mass, drift, epoch }: Population) -> Self {
        Self { mass, drift, epoch }
    }
}

impl TryFrom<Stored> for Population {
    type Error = String;

    fn try_from(Stored { mass, drift, epoch }: Stored) -> Result<Self, String> {
        if mass.len() != CELLS {
            return Err(format!(
                "population: {} masses, expected {CELLS}",
                mass.len()
            ));
        }
        let sum: f64 = mass.iter().sum();
        let valid = mass.iter().all(|&m| m >= 0.0) && sum > 0.0 && sum.is_finite();
        if !(valid && drift.is_finite()) {
            return Err(
                "population: masses and `drift` must be finite, masses not negative and not all 0"
                    .into(),
            );
        }
        Ok(Self { mass, drift, epoch })
    }
}

/// The beliefs of one visit.
pub(crate) struct FinishedVisit {
    /// Before the first round.
    pub(crate) before: Belief,
    /// After the last round.
    pub(crate) after: Belief,
    /// Whether the problem had been visited before.
    pub(crate) revisited: bool,
}

impl Default for Population {
    fn default() -> Self {
        let mass = GRID
            .initial
            .iter()
            .map(|weight| PRIOR_MASS * weight)
            .collect();
        Self {
            mass,
            drift: INITIAL_DRIFT,
            epoch: None,
        }
    }
}

impl Population {
    /// The belief a problem's first visit starts from.
    pub fn prior(&self) -> Belief {
        Belief::from_weights(&self.mass)
    }

    /// The belief a later visit starts from: drifted, mixed with the prior, nothing ruled out.
    pub fn revisit(&self, after_last_visit: &Belief) -> Belief {
        let weights: Vec<f64> = after_last_visit
            .weights()
            .iter()
            .map(|&w| f64::from(w))
            .collect();
        let total: f64 = self.mass.iter().sum();
        let mut mixed = self.drifted(&weights);
        for (weight, mass) in mixed.iter_mut().zip(&self.mass) {
            let own = (1.0 - POPULATION_SHARE) * *weight;
            *weight = (own + POPULATION_SHARE * mass / total).max(LEAST_WEIGHT);
        }
        Belief::from_weights(&mixed)
    }

    /// Learned decrease of `c` from one visit of a problem to the next.
    pub fn drift(&self) -> f64 {
        self.drift
    }

    /// Learns from the visits of one step, in the order given.
    pub(crate) fn learn(&mut self, epoch: u64, visits: &[FinishedVisit]) {
        if visits.is_empty() {
            return;
        }
        if self.epoch != Some(epoch) {
            self.renew();
            self.epoch = Some(epoch);
        }
        // Spreading is linear, so it is done once for the sum.
        let mut sum = vec![0.0; CELLS];
        for visit in visits {
            for (sum, &weight) in sum.iter_mut().zip(visit.after.weights()) {
                *sum += f64::from(weight);
            }
        }
        for (mass, spread) in self.mass.iter_mut().zip(move_centers(&sum, 0.0, SPREAD)) {
            *mass += spread;
        }

        let revisited = visits.iter().filter(|visit| visit.revisited);
        let shifts = revisited.map(|visit| visit.before.mean_center() - visit.after.mean_center());
        let (count, total) =
            shifts.fold((0.0, 0.0), |(count, sum), shift| (count + 1.0, sum + shift));
        if count > 0.0 {
            // The step `r B / (N + B)` with mean shift `r` of `B` problems.
            self.drift += total / (DRIFT_COUNT + count);
        }
    }

    /// Starts an epoch: what is known so far, drifted once, weighs as much as a few problems.
    fn renew(&mut self) {
        if self.epoch.is_none() {
            // The initial mass is the initial prior already.
            return;
        }
        let moved = self.drifted(&self.mass);
        let sum: f64 = moved.iter().sum();
        self.mass = moved
            .into_iter()
            .map(|weight| PRIOR_MASS * weight / sum)
            .collect();
    }

    fn drifted(&self, weights: &[f64]) -> Vec<f64> {
        move_centers(weights, -self.drift, DRIFT_DEVIATION)
    }
}

/// Moves every curve's `c` by a normal step of mean `shift`: each column of the transition is normalised over
/// the `c` it leads to, so mass stays on the grid and in its `k`, `b`, `top`.
fn move_centers(weights: &[f64], shift: f64, deviation: f64) -> Vec<f64> {
    let c = &GRID.c;
    let mut transition = [[0.0; C_COUNT]; C_COUNT];
    for (from, column) in transition.iter_mut().enumerate() {
        for (to, probability) in column.iter_mut().enumerate() {
            *probability = (-0.5 * ((c[to] - c[from] - shift) / deviation).powi(2)).exp();
        }
        let sum: f64 = column.iter().sum();
        if sum > 0.0 {
            column
                .iter_mut()
                .for_each(|probability| *probability /= sum);
        } else {
            // A drift far beyond the grid ends at its edge.
            column[if shift < 0.0 { 0 } else { C_COUNT - 1 }] = 1.0;
        }
    }
    let mut moved = vec![0.0; CELLS];
    for k_index in 0..K_COUNT {
        let rows = k_index * C_COUNT * SHAPES..(k_index + 1) * C_COUNT * SHAPES;
        let (from_rows, to_rows) = (&weights[rows.clone()], &mut moved[rows]);
        for (from, column) in from_rows.chunks_exact(SHAPES).zip(&transition) {
            for (to, &probability) in to_rows.chunks_exact_mut(SHAPES).zip(column) {
                for (to, from) in to.iter_mut().zip(from) {
                    *to += probability * from;
                }
            }
        }
    }
    moved
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moving_keeps_the_mass_and_shifts_the_center() {
        let mut weights = vec![0.0; CELLS];
        weights[20 * SHAPES + 3] = 1.0;
        let moved = move_centers(&weights, -0.1, 0.05);
        assert!((moved.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        let centers = moved.chunks_exact(SHAPES).take(C_COUNT).zip(&GRID.c);
        let center: f64 = centers.map(|(shapes, c)| shapes[3] * c).sum();
        assert!((center - (GRID.c[20] - 0.1)).abs() < 1e-3, "{center}");
        let gone = move_centers(&weights, -1e6, 0.05);
        assert_eq!(gone[3], 1.0);
    }

    #[test]
    fn the_prior_moves_towards_the_problems_seen() {
        let mut population = Population::default();
        let before = population.prior();
        let after = before.observe([(80, 0.0, 8.0)]);
        let visits: Vec<_> = (0..64)
            .map(|_| FinishedVisit {
                before: before.clone(),
                after: after.clone(),
                revisited: false,
            })
            .collect();
        population.learn(0, &visits);
        assert!(population.prior().mean_center() > before.mean_center() + 0.1);
        assert_eq!(population.drift(), INITIAL_DRIFT);
    }

    #[test]
    fn drift_is_learned_from_revisits_with_the_weight_of_their_count() {
        let mut population = Population::default();
        let before = population.prior();
        let after = before.observe([(50, 8.0, 0.0)]);
        let shift = before.mean_center() - after.mean_center();
        population.learn(
            1,
            &[FinishedVisit {
                before,
                after,
                revisited: true,
            }],
        );
        assert!((population.drift() - (INITIAL_DRIFT + shift / (DRIFT_COUNT + 1.0))).abs() < 1e-12);
    }

    #[test]
    fn a_drift_that_has_stopped_is_soon_forgotten() {
        // 32 problems a step whose curves jump between two visits by `shift`, and nothing is unclear.
        let visited = |population: &mut Population, epoch, shift: f64| {
            let at = |row| Belief::initial().observe([(row, 400.0, 400.0)]);
            let before = population.revisit(&at(70));
            let after = at(70 - (100.0 * shift) as usize);
            let visit = || FinishedVisit {
                before: before.clone(),
                after: after.clone(),
                revisited: true,
            };
            population.learn(epoch, &[(); 32].map(|()| visit()));
        };
        let mut population = Population::default();
        for _ in 0..40 {
            visited(&mut population, 1, 0.2);
        }
        let fast = population.drift();
        for _ in 0..10 {
            visited(&mut population, 2, 0.0);
        }
        let left = population.drift();
        assert!(fast > 0.1 && left < 0.1 * fast, "{fast}, then {left}");
    }

    #[test]
    fn a_saved_population_is_checked_when_read() {
        let population = Population::default();
        let text = serde_json::to_string(&population).unwrap();
        assert_eq!(
            serde_json::from_str::<Population>(&text).unwrap(),
            population
        );
        let bad = text.replacen("[", "[1.0,", 1);
        assert!(
            serde_json::from_str::<Population>(&bad)
                .unwrap_err()
                .to_string()
                .contains("1641 masses")
        );
    }
}
