//! What is fitted: rounds averaged by rate, margins added (SEELE App. B, Alg. 1).

use crate::HintError;
use serde::{Deserialize, Serialize};

/// One finished round: all its rollouts started from the same hint.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// Hint rate, in `[0, 1]`.
    pub rate: f64,
    /// Mean correctness of the round's rollouts, in `[0, 1]`.
    pub accuracy: f64,
    /// Number of rollouts, at least 1.
    pub rollouts: u32,
}

/// How much each distinct rate counts in the sum of squares of Eq. 13.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weighting {
    /// The number of rounds at that rate: Eq. 13 sums over rounds.
    #[default]
    Rounds,
    /// 1, if the points of Eq. 13 are read as a set.
    Distinct,
    /// `n / max(a (1 - a), 1 / (4 n))` with `n` rollouts and accuracy `a` at that rate.
    Binomial,
    /// The number of rollouts at that rate.
    Samples,
}

/// A point of the weighted least-squares problem.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Hint rate, in `[0, 1]`.
    pub rate: f64,
    /// Mean accuracy at that rate, in `[0, 1]`.
    pub accuracy: f64,
    /// Weight in the sum of squares, from 1e-6 to 1e12.
    pub weight: f64,
}

/// Points in order of rate, every rate once, margins `(0, 0)` and `(1, 1)` included where that rate was not
/// observed.
#[derive(Debug, Clone, PartialEq)]
pub struct FitSet {
    points: Vec<Point>,
}

/// How a [`FitSet`] is built.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FitSetOptions {
    /// Weight of an observed rate.
    pub weight: Weighting,
    /// Weight of each margin, from 1e-6 to 1e12; 1 in the paper.
    pub margin_weight: f64,
}

impl Default for FitSetOptions {
    fn default() -> Self {
        Self {
            weight: Weighting::Rounds,
            margin_weight: 1.0,
        }
    }
}

impl FitSet {
    /// Averages observations of the same rate and adds the margins. The result does not depend on the order
    /// of `observations`, to the last bit.
    ///
    /// * `anchors`: further points taken as they are (rate, accuracy, weight); they do not count as observed,
    ///   so a margin stays beside an anchor at the same end.
    ///
    /// # Errors
    /// [`HintError::Observation`] for a value that is not finite or outside its range; anchors are numbered
    /// after the observations.
    pub fn new(
        observations: &[Observation],
        anchors: &[Point],
        options: FitSetOptions,
    ) -> Result<Self, HintError> {
        check_weight("margin_weight", options.margin_weight)?;
        check_observations(observations)?;
        for (index, anchor) in anchors.iter().enumerate() {
            check_point(observations.len() + index, *anchor)?;
        }

        // Adding 0 turns -0 into 0, so that both are the same rate.
        let mut rounds: Vec<Observation> = observations
            .iter()
            .map(|o| Observation {
                rate: o.rate + 0.0,
                ..*o
            })
            .collect();
        // A total order of whole observations: sums below are then the same for every order of arrival.
        rounds.sort_unstable_by(|x, y| {
            x.rate
                .total_cmp(&y.rate)
                .then(x.accuracy.total_cmp(&y.accuracy))
                .then(x.rollouts.cmp(&y.rollouts))
        });

        let mut points = Vec::with_capacity(rounds.len() + anchors.len() + 2);
        if rounds.first().is_none_or(|o| o.rate != 0.0) {
            points.push(Point {
                rate: 0.0,
                accuracy: 0.0,
                weight: options.margin_weight,
            });
        }
        for same_rate in rounds.chunk_by(|x, y| x.rate == y.rate) {
            points.push(average(same_rate, options.weight));
        }
        if rounds.last().is_none_or(|o| o.rate != 1.0) {
            points.push(Point {
                rate: 1.0,
                accuracy: 1.0,
                weight: options.margin_weight,
            });
        }
        for anchor in anchors {
            insert(&mut points, *anchor);
        }
        Ok(Self { points })
    }

    /// A set of points as given, for callers with their own rules: finite, rates in `[0, 1]`, ascending.
    ///
    /// # Errors
    /// [`HintError::Observation`] for a value outside its range or a rate that does not ascend.
    pub fn from_points(points: Vec<Point>) -> Result<Self, HintError> {
        for (index, point) in points.iter().enumerate() {
            check_point(index, *point)?;
            if index > 0 && points[index - 1].rate >= point.rate {
                let value = point.rate;
                let expected = "a rate above the one before";
                return Err(HintError::Observation {
                    index,
                    field: "rate",
                    value,
                    expected,
                });
            }
        }
        Ok(Self { points })
    }

    /// The points, ascending in rate.
    pub fn points(&self) -> &[Point] {
        &self.points
    }

    /// Weighted sum of squared differences between `predict(rate)` and the accuracies.
    pub fn sum_of_squares(&self, predict: impl Fn(f64) -> f64) -> f64 {
        self.points
            .iter()
            .map(|point| point.weight * (predict(point.rate) - point.accuracy).powi(2))
            .sum()
    }
}

/// Weights between these keep every sum of a fit far from overflow and underflow.
const SMALLEST_WEIGHT: f64 = 1e-6;
pub(crate) const LARGEST_WEIGHT: f64 = 1e12;
const WEIGHTS: &str = "a number from 1e-6 to 1e12";

/// Refuses a weight that is set.
pub(crate) fn check_weight(key: &'static str, weight: f64) -> Result<(), HintError> {
    if (SMALLEST_WEIGHT..=LARGEST_WEIGHT).contains(&weight) {
        return Ok(());
    }
    Err(HintError::Setting {
        key,
        value: weight.to_string(),
        expected: WEIGHTS,
    })
}

/// Refuses a point that cannot be fitted.
pub(crate) fn check_point(index: usize, point: Point) -> Result<(), HintError> {
    check(index, point.rate, point.accuracy)?;
    if (SMALLEST_WEIGHT..=LARGEST_WEIGHT).contains(&point.weight) {
        return Ok(());
    }
    Err(HintError::Observation {
        index,
        field: "weight",
        value: point.weight,
        expected: WEIGHTS,
    })
}

/// Refuses observations no round can have produced.
pub(crate) fn check_observations(observations: &[Observation]) -> Result<(), HintError> {
    for (index, observation) in observations.iter().enumerate() {
        check(index, observation.rate, observation.accuracy)?;
        if observation.rollouts == 0 {
            let expected = "at least 1";
            return Err(HintError::Observation {
                index,
                field: "rollouts",
                value: 0.0,
                expected,
            });
        }
    }
    Ok(())
}

fn check(index: usize, rate: f64, accuracy: f64) -> Result<(), HintError> {
    for (field, value) in [("rate", rate), ("accuracy", accuracy)] {
        if !(0.0..=1.0).contains(&value) {
            return Err(HintError::Observation {
                index,
                field,
                value,
                expected: "a number in [0, 1]",
            });
        }
    }
    Ok(())
}

fn average(rounds: &[Observation], weighting: Weighting) -> Point {
    let count = rounds.len() as f64;
    let rollouts: f64 = rounds.iter().map(|o| f64::from(o.rollouts)).sum();
    let mean_of_rounds = rounds.iter().map(|o| o.accuracy).sum::<f64>() / count;
    let mean_of_rollouts = rounds
        .iter()
        .map(|o| o.accuracy * f64::from(o.rollouts))
        .sum::<f64>()
        / rollouts;
    let (accuracy, weight) = match weighting {
        Weighting::Rounds => (mean_of_rounds, count),
        Weighting::Distinct => (mean_of_rounds, 1.0),
        Weighting::Binomial => {
            let variance = mean_of_rollouts * (1.0 - mean_of_rollouts);
            (mean_of_rollouts, rollouts / variance.max(0.25 / rollouts))
        }
        Weighting::Samples => (mean_of_rollouts, rollouts),
    };
    // Rounding of a mean of ones may step over 1 by one unit in the last place.
    Point {
        rate: rounds[0].rate,
        accuracy: accuracy.clamp(0.0, 1.0),
        weight,
    }
}

/// Adds a point; at a rate that is already there the two become their weighted mean, which leaves the
/// minimiser where it is.
fn insert(points: &mut Vec<Point>, point: Point) {
    match points.binary_search_by(|other| other.rate.total_cmp(&(point.rate + 0.0))) {
        Ok(at) => {
            let other = &mut points[at];
            let weight = other.weight + point.weight;
            other.accuracy =
                (other.accuracy * other.weight + point.accuracy * point.weight) / weight;
            other.weight = weight;
        }
        Err(at) => points.insert(at, point),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(rate: f64, accuracy: f64) -> Observation {
        Observation {
            rate,
            accuracy,
            rollouts: 8,
        }
    }

    fn set(observations: &[Observation], weight: Weighting) -> Vec<Point> {
        let options = FitSetOptions {
            weight,
            ..FitSetOptions::default()
        };
        FitSet::new(observations, &[], options)
            .unwrap()
            .points()
            .to_vec()
    }

    #[test]
    fn equal_rates_are_averaged_and_margins_added() {
        let points = set(
            &[seen(0.5, 1.0), seen(0.25, 0.5), seen(0.5, 0.5)],
            Weighting::Rounds,
        );
        let as_tuples: Vec<_> = points
            .iter()
            .map(|p| (p.rate, p.accuracy, p.weight))
            .collect();
        assert_eq!(
            as_tuples,
            [
                (0.0, 0.0, 1.0),
                (0.25, 0.5, 1.0),
                (0.5, 0.75, 2.0),
                (1.0, 1.0, 1.0)
            ]
        );
    }

    #[test]
    fn an_observed_end_replaces_its_margin_each_by_itself() {
        let points = set(&[seen(-0.0, 0.25)], Weighting::Rounds);
        assert_eq!(
            points
                .iter()
                .map(|p| (p.rate, p.accuracy))
                .collect::<Vec<_>>(),
            [(0.0, 0.25), (1.0, 1.0)]
        );
        let points = set(&[seen(1.0, 0.5)], Weighting::Rounds);
        assert_eq!(
            points
                .iter()
                .map(|p| (p.rate, p.accuracy))
                .collect::<Vec<_>>(),
            [(0.0, 0.0), (1.0, 0.5)]
        );
    }

    #[test]
    fn weightings_follow_their_formulas() {
        let rounds = [
            seen(0.5, 1.0),
            Observation {
                rate: 0.5,
                accuracy: 0.0,
                rollouts: 24,
            },
        ];
        let weight = |weighting| {
            (
                set(&rounds, weighting)[1].accuracy,
                set(&rounds, weighting)[1].weight,
            )
        };
        assert_eq!(weight(Weighting::Rounds), (0.5, 2.0));
        assert_eq!(weight(Weighting::Distinct), (0.5, 1.0));
        assert_eq!(weight(Weighting::Samples), (0.25, 32.0));
        assert_eq!(weight(Weighting::Binomial), (0.25, 32.0 / 0.1875));
        let certain = set(&[seen(0.5, 1.0)], Weighting::Binomial);
        assert_eq!(certain[1].weight, 8.0 * 32.0);
    }

    #[test]
    fn an_anchor_merges_into_an_observed_rate() {
        let anchor = Point {
            rate: 0.5,
            accuracy: 0.5,
            weight: 1.0,
        };
        let points = FitSet::new(&[seen(0.5, 1.0)], &[anchor], FitSetOptions::default()).unwrap();
        assert_eq!(
            points.points()[1],
            Point {
                rate: 0.5,
                accuracy: 0.75,
                weight: 2.0
            }
        );
        let points = FitSet::new(&[seen(0.25, 1.0)], &[anchor], FitSetOptions::default()).unwrap();
        assert_eq!(points.points()[2], anchor);
    }

    #[test]
    fn bad_values_are_named() {
        let bad = |o| {
            FitSet::new(&[seen(0.1, 0.1), o], &[], FitSetOptions::default())
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            bad(seen(f64::NAN, 0.5)),
            "observation 1: `rate` is NaN, expected a number in [0, 1]"
        );
        assert_eq!(
            bad(seen(0.5, 1.5)),
            "observation 1: `accuracy` is 1.5, expected a number in [0, 1]"
        );
        let none = Observation {
            rollouts: 0,
            ..seen(0.5, 0.5)
        };
        assert_eq!(
            bad(none),
            "observation 1: `rollouts` is 0, expected at least 1"
        );
    }
}
