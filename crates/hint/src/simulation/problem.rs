//! Simulated problems: how accurate the policy is on each, at every hint length and in every epoch.

use seele_random::Key;
use serde::{Deserialize, Serialize};

/// Problems of a population.
pub const PROBLEMS: u64 = 1024;
/// Coordinates below the seed: properties of problems, rewards, jitter, draws of baselines.
const PROPERTIES: u64 = 1;
const REWARDS: u64 = 2;
const JITTER: u64 = 3;
pub(super) const BASELINES: u64 = 4;

/// Which population is simulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PopulationKind {
    /// Mostly logistic curves that move to the left between epochs.
    #[default]
    Standard,
    /// Curves that do not move.
    Still,
    /// Twice the drift, three times the jitter.
    Volatile,
    /// Accuracy rises at step ends only.
    Stairs,
    /// Curves 0.3 further left.
    Easy,
    /// Guessing floors of 0.2 to 0.45.
    Guess,
}

impl PopulationKind {
    /// All kinds.
    pub const ALL: [Self; 6] = [
        Self::Standard,
        Self::Still,
        Self::Volatile,
        Self::Stairs,
        Self::Easy,
        Self::Guess,
    ];

    /// Name of the kind in commands.
    pub fn name(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Still => "still",
            Self::Volatile => "volatile",
            Self::Stairs => "stairs",
            Self::Easy => "easy",
            Self::Guess => "guess",
        }
    }
}

/// Shape of a problem's accuracy over the hint rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// The three-parameter logistic curve.
    Logistic,
    /// Mostly constant between step ends.
    Stair,
    /// A logistic curve with a bump or a dent.
    Bump,
    /// A slow curve that does not reach 1.
    Flat,
    /// A sharp rise close to the end.
    Late,
}

/// A simulated problem.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    index: u64,
    /// Solution tokens.
    pub tokens: usize,
    /// Shape of its curve.
    pub shape: Shape,
    /// Slope of the logistic part.
    pub k: f64,
    /// Rate halfway up before the first epoch.
    pub center: f64,
    /// Accuracy without help.
    pub floor: f64,
    /// Accuracy approached with all help.
    pub top: f64,
    /// Decrease of the center from epoch to epoch.
    drift: f64,
    jitter: f64,
    /// Height and rate of the bump.
    bump: Option<(f64, f64)>,
    /// Token offsets of the inner step ends.
    pub step_ends: Vec<usize>,
}

impl Problem {
    /// Problem `index` of the population with this seed.
    pub fn new(seed: u64, index: u64, population: PopulationKind) -> Self {
        let u = |property: u64| {
            Key::new(seed)
                .with(PROPERTIES)
                .with(index)
                .with(property)
                .uniform()
        };
        let tokens = (20.0 * (u(0) * 20f64.ln()).exp() + 0.5).floor();
        let draw = match population {
            PopulationKind::Stairs => 0.60 + 0.20 * u(2),
            _ => u(2),
        };
        let shape = match draw {
            d if d < 0.60 => Shape::Logistic,
            d if d < 0.80 => Shape::Stair,
            d if d < 0.88 => Shape::Bump,
            d if d < 0.95 => Shape::Flat,
            _ => Shape::Late,
        };
        let k = match shape {
            Shape::Flat => 2.0 + 6.0 * u(3),
            Shape::Late => 50.0,
            _ => 4.0 * (u(3) * 12.5f64.ln()).exp(),
        };
        let center = if shape == Shape::Late {
            0.97
        } else {
            0.40 + 0.275 * (u(4) + u(5))
        };
        let floor = match population {
            PopulationKind::Guess => 0.20 + 0.25 * u(7),
            _ if u(6) < 0.7 => 0.02 * u(7),
            _ => 0.45 * u(7),
        };
        let drift = (0.02 + 0.08 * u(9)) * if shape == Shape::Late { 0.2 } else { 1.0 };
        let (drift_factor, jitter) = match population {
            PopulationKind::Still => (0.0, 0.0),
            PopulationKind::Volatile => (2.0, 0.12),
            _ => (1.0, 0.04),
        };
        let bump = (shape == Shape::Bump).then(|| {
            let sign = if u(10) < 0.5 { -1.0 } else { 1.0 };
            (sign * (0.1 + 0.3 * u(11)), 0.3 + 0.6 * u(12))
        });

        let steps = 2 + (4.0 * u(13)).floor() as u64;
        let widths: Vec<f64> = (0..steps).map(|step| 0.5 + u(14 + step)).collect();
        let total: f64 = widths.iter().sum();
        let mut passed = 0.0;
        let step_ends = widths[..widths.len() - 1]
            .iter()
            .map(|width| {
                passed += width;
                (tokens * (passed / total) + 0.5).floor() as usize
            })
            .collect();

        Self {
            index,
            tokens: tokens as usize,
            shape,
            k,
            center: center
                - if population == PopulationKind::Easy {
                    0.30
                } else {
                    0.0
                },
            floor,
            top: if shape == Shape::Flat {
                0.55 + 0.35 * u(8)
            } else {
                1.0
            },
            drift: drift * drift_factor,
            jitter,
            bump,
            step_ends,
        }
    }

    /// Rate halfway up in an epoch.
    pub fn center_in(&self, seed: u64, epoch: u64) -> f64 {
        let jitter = 2.0
            * Key::new(seed)
                .with(JITTER)
                .with(self.index)
                .with(epoch)
                .uniform()
            - 1.0;
        self.center - self.drift * epoch as f64 + self.jitter * jitter
    }

    /// True accuracy after a hint of `hint_tokens`, with the curve's `center` of the epoch.
    pub fn accuracy(&self, center: f64, hint_tokens: usize) -> f64 {
        let tokens = self.tokens as f64;
        let rate = hint_tokens as f64 / tokens;
        let helpful = if self.shape == Shape::Stair {
            let passed = self.step_ends.iter().rev().find(|&&end| end <= hint_tokens);
            let step = passed.map_or(0.0, |&end| end as f64) / tokens;
            step + 0.2 * (rate - step)
        } else {
            rate
        };
        let logistic = 1.0 / (1.0 + (-self.k * (helpful - center)).exp());
        let bump = self.bump.map_or(0.0, |(height, at)| {
            height * (-((rate - at) / 0.05).powi(2)).exp()
        });
        (self.floor + (self.top - self.floor) * logistic + bump).clamp(0.002, 0.998)
    }

    /// The length whose true accuracy is nearest to `target`, the shortest of several.
    pub fn best_hint_tokens(&self, center: f64, target: f64) -> usize {
        let distance = |tokens| (self.accuracy(center, tokens) - target).abs();
        let lengths = (0..self.tokens).map(|tokens| (tokens, distance(tokens)));
        lengths
            .reduce(|best, next| if next.1 < best.1 { next } else { best })
            .map_or(0, |best| best.0)
    }

    /// Whether rollout `slot` of the visit in `epoch` succeeds at `accuracy`.
    pub fn reward(&self, seed: u64, epoch: u64, slot: u64, accuracy: f64) -> bool {
        let key = Key::new(seed).with(REWARDS).with(self.index);
        key.with(epoch).with(slot).uniform() < accuracy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(index: u64) -> Problem {
        Problem::new(11, index, PopulationKind::Standard)
    }

    fn close(x: f64, y: f64, tolerance: f64) {
        assert!((x - y).abs() < tolerance, "{x} is not {y}");
    }

    #[test]
    fn shapes_have_the_documented_counts() {
        let mut counts = [0; 5];
        for index in 0..PROBLEMS {
            counts[problem(index).shape as usize] += 1;
        }
        assert_eq!(counts, [621, 218, 71, 64, 50]);
    }

    #[test]
    fn problem_0_has_the_documented_values() {
        let p = problem(0);
        assert_eq!(
            (p.shape, p.tokens, p.step_ends.as_slice()),
            (Shape::Bump, 140, &[53, 112][..])
        );
        close(p.k, 20.91739219488722, 1e-13);
        close(p.center, 0.5903543388463983, 1e-15);
        close(p.floor, 0.008500968421333983, 1e-15);
        let center = p.center_in(11, 2);
        close(center, 0.47371748201144076, 1e-15);
        for (tokens, accuracy) in [(0, 0.008550272), (70, 0.63718636), (139, 0.998)] {
            close(p.accuracy(center, tokens), accuracy, 1e-8);
        }
        let rewards: Vec<bool> = (0..8).map(|slot| p.reward(11, 0, slot, 0.5)).collect();
        assert_eq!(
            rewards,
            [true, false, true, false, true, false, true, false]
        );
    }

    #[test]
    fn problem_3_has_the_documented_values() {
        let p = problem(3);
        assert_eq!((p.shape, p.tokens), (Shape::Stair, 72));
        assert_eq!(p.step_ends, [14, 33, 44, 55]);
        let center = p.center_in(11, 1);
        close(center, 0.5158334430049824, 1e-15);
        for (tokens, accuracy) in [(0, 0.435097627), (36, 0.507382385), (71, 0.998)] {
            close(p.accuracy(center, tokens), accuracy, 1e-9);
        }
    }

    #[test]
    fn the_best_lengths_are_the_documented_ones() {
        for (epoch, lengths) in [
            (0, [81, 210, 173, 43, 170, 21]),
            (4, [47, 134, 30, 20, 108, 21]),
        ] {
            let best = [0, 1, 2, 3, 4, 5].map(|index| {
                let p = problem(index);
                p.best_hint_tokens(p.center_in(11, epoch), 0.5)
            });
            assert_eq!(best, lengths, "epoch {epoch}");
        }
    }
}
