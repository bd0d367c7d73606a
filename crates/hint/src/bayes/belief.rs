//! A probability for every curve of the grid: observing, predicting, choosing a rate.

use super::grid::{self, CELLS, GRID, PADDED_RATES, RATES};
use serde::{Deserialize, Serialize};

/// Weights over the curves of the grid, normalised.
#[derive(Debug, Clone, PartialEq)]
pub struct Belief {
    weights: Vec<f32>,
}

/// Mean and variance of the accuracy at every rate, under a belief.
#[derive(Debug, Clone)]
pub struct Prediction {
    mean: [f32; PADDED_RATES],
    mean_square: [f32; PADDED_RATES],
}

impl Belief {
    /// The belief before anything is known.
    pub fn initial() -> Self {
        Self::from_weights(&GRID.initial)
    }

    /// Normalises; `weights` are non-negative and not all 0.
    pub(super) fn from_weights(weights: &[f64]) -> Self {
        let sum: f64 = weights.iter().sum();
        Self {
            weights: weights.iter().map(|weight| (weight / sum) as f32).collect(),
        }
    }

    /// One weight for each of the [`CELLS`] curves.
    pub(super) fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// The belief after rounds of `(row of the rate, successes, failures)`; successes and failures may be
    /// fractions.
    ///
    /// `weight <- weight * F^successes (1 - F)^failures`, in `f64` from `f32` tables.
    pub fn observe(&self, rounds: impl IntoIterator<Item = (usize, f64, f64)>) -> Self {
        let mut log_likelihood = [0.0f64; CELLS];
        for (row, successes, failures) in rounds {
            let row = row.min(RATES - 1);
            let tables = GRID.ln_success[row].iter().zip(&GRID.ln_failure[row]);
            for (sum, (&success, &failure)) in log_likelihood.iter_mut().zip(tables) {
                *sum += successes * f64::from(success) + failures * f64::from(failure);
            }
        }
        let largest = log_likelihood
            .iter()
            .fold(f64::NEG_INFINITY, |largest, &l| largest.max(l));
        let mut weights = [0.0; CELLS];
        for ((weight, &prior), &l) in weights.iter_mut().zip(&self.weights).zip(&log_likelihood) {
            *weight = f64::from(prior) * (l - largest).exp();
        }
        // A prior that leaves out the likely curves could underflow everything; then nothing is learned.
        if weights.iter().sum::<f64>() > 0.0 {
            Self::from_weights(&weights)
        } else {
            self.clone()
        }
    }

    /// Mean and mean square of the accuracy at every rate; summed in a fixed order.
    pub fn predict(&self) -> Prediction {
        let mut mean = [0.0f32; PADDED_RATES];
        let mut mean_square = [0.0f32; PADDED_RATES];
        // Four curves at a time: the sums are loaded and stored a quarter as often.
        for (weights, curves) in self
            .weights
            .chunks_exact(4)
            .zip(GRID.accuracy.chunks_exact(4))
        {
            let [w0, w1, w2, w3] = [weights[0], weights[1], weights[2], weights[3]];
            // Below the precision of the sums, which many curves are after a few rounds.
            if w0.max(w1).max(w2.max(w3)) < 1e-10 {
                continue;
            }
            for rate in 0..PADDED_RATES {
                let [f0, f1, f2, f3] = [
                    curves[0][rate],
                    curves[1][rate],
                    curves[2][rate],
                    curves[3][rate],
                ];
                let (x0, x1, x2, x3) = (w0 * f0, w1 * f1, w2 * f2, w3 * f3);
                mean[rate] += (x0 + x1) + (x2 + x3);
                mean_square[rate] += (x0 * f0 + x1 * f1) + (x2 * f2 + x3 * f3);
            }
        }
        Prediction { mean, mean_square }
    }

    /// Mean of `c`, the rate halfway up the curve.
    pub fn mean_center(&self) -> f64 {
        let weighted = self.weights.iter().enumerate();
        weighted
            .map(|(cell, &w)| f64::from(w) * GRID.c[grid::c_index(cell)])
            .sum()
    }

    /// Geometric mean of `k` and mean of `b`.
    pub(super) fn mean_shape(&self) -> (f64, f64) {
        let (mut ln_k, mut floor) = (0.0, 0.0);
        for (cell, &weight) in self.weights.iter().enumerate() {
            let (k, b) = grid::k_and_b(cell);
            ln_k += f64::from(weight) * k.ln();
            floor += f64::from(weight) * b;
        }
        (ln_k.exp(), floor)
    }
}

impl Prediction {
    /// Expected accuracy at a row of the table, a hundredth of the rate.
    pub fn mean(&self, row: usize) -> f64 {
        f64::from(self.mean[row.min(RATES - 1)])
    }

    /// Variance of the accuracy at a row: how little is known about it.
    pub fn variance(&self, row: usize) -> f64 {
        let mean = self.mean(row);
        (f64::from(self.mean_square[row.min(RATES - 1)]) - mean * mean).max(0.0)
    }

    /// The first of `rows` with the least `(mean - target)^2 + caution * variance`; 0 without rows.
    ///
    /// At target 0.5, `caution` 1 maximises the expected `a (1 - a)`: `E[a(1-a)] = 1/4 - (E[a] - 1/2)^2 - V[a]`.
    pub fn best_row(
        &self,
        rows: impl IntoIterator<Item = usize>,
        target: f64,
        caution: f64,
    ) -> usize {
        let cost = |row| (self.mean(row) - target).powi(2) + caution * self.variance(row);
        let best = rows.into_iter().map(|row| (row, cost(row)));
        best.reduce(|best, next| if next.1 < best.1 { next } else { best })
            .map_or(0, |(row, _)| row)
    }
}

/// A belief as it is stored: half floats relative to the largest weight, 3.2 KiB.
///
/// Serialises as a string in base64 (RFC 4648) of the little-endian numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct PackedBelief(Vec<half::f16>);

impl PackedBelief {
    /// Rounds to half precision.
    pub fn pack(belief: &Belief) -> Self {
        let largest = belief
            .weights
            .iter()
            .fold(0.0f32, |largest, &w| largest.max(w));
        Self(
            belief
                .weights
                .iter()
                .map(|&weight| half::f16::from_f32(weight / largest))
                .collect(),
        )
    }

    /// The normalised belief.
    pub fn unpack(&self) -> Belief {
        let weights: Vec<f64> = self.0.iter().map(|weight| weight.to_f64()).collect();
        Belief::from_weights(&weights)
    }
}

impl Serialize for PackedBelief {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes: Vec<u8> = self
            .0
            .iter()
            .flat_map(|weight| weight.to_le_bytes())
            .collect();
        serializer.serialize_str(&base64::encode(&bytes))
    }
}

impl<'de> Deserialize<'de> for PackedBelief {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let refuse = |reason: &str| Err(serde::de::Error::custom(format!("belief: {reason}")));
        let Some(bytes) = base64::decode(&text) else {
            return refuse("not base64");
        };
        if bytes.len() != 2 * CELLS {
            return refuse(&format!("{} bytes, expected {}", bytes.len(), 2 * CELLS));
        }
        let weights: Vec<half::f16> = bytes
            .chunks_exact(2)
            .map(|pair| half::f16::from_le_bytes([pair[0], pair[1]]))
            .collect();
        let valid = |weight: &half::f16| weight.to_f32() >= 0.0 && weight.is_finite();
        if !weights.iter().all(valid) || weights.iter().all(|weight| weight.to_f32() == 0.0) {
            return refuse("weights must be finite, not negative and not all 0");
        }
        Ok(Self(weights))
    }
}

/// Base64 with padding (RFC 4648, section 4).
mod base64 {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    pub(super) fn encode(bytes: &[u8]) -> String {
        let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
        for chunk in bytes.chunks(3) {
            let group = [0, 1, 2].map(|i| u32::from(chunk.get(i).copied().unwrap_or(0)));
            let bits = group[0] << 16 | group[1] << 8 | group[2];
            for i in 0..4 {
                let index = (bits >> (18 - 6 * i) & 63) as usize;
                text.push(if i <= chunk.len() {
                    char::from(ALPHABET[index])
                } else {
                    '='
                });
            }
        }
        text
    }

    pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
        let text = text.as_bytes();
        if !text.len().is_multiple_of(4) {
            return None;
        }
        let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
        for (index, group) in text.chunks(4).enumerate() {
            let last = index + 1 == text.len() / 4;
            let padding = group.iter().rev().take_while(|&&c| c == b'=').count();
            if padding > 2 || (padding > 0 && !last) {
                return None;
            }
            let mut bits = 0;
            for &symbol in &group[..4 - padding] {
                let value = ALPHABET.iter().position(|&letter| letter == symbol)?;
                bits = bits << 6 | u32::try_from(value).ok()?;
            }
            bits <<= 6 * padding;
            bytes.extend_from_slice(&bits.to_be_bytes()[1..4 - padding]);
        }
        Some(bytes)
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn agrees_with_the_examples_of_the_standard() {
            let pairs = [
                ("", ""),
                ("f", "Zg=="),
                ("fo", "Zm8="),
                ("foo", "Zm9v"),
                ("foob", "Zm9vYg=="),
            ];
            for (plain, coded) in pairs {
                assert_eq!(encode(plain.as_bytes()), coded);
                assert_eq!(decode(coded).as_deref(), Some(plain.as_bytes()));
            }
            for bad in ["Z", "Zg=", "Z===", "Zg==Zg==", "Z g=", "Zm9%"] {
                assert_eq!(decode(bad), None, "{bad}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn successes_move_the_curve_to_the_left_and_failures_to_the_right() {
        let belief = Belief::initial();
        let center = belief.mean_center();
        assert!(belief.observe([(50, 8.0, 0.0)]).mean_center() < center - 0.05);
        assert!(belief.observe([(50, 0.0, 8.0)]).mean_center() > center + 0.05);
    }

    #[test]
    fn no_caution_goes_for_the_mean_and_caution_lowers_the_variance() {
        let prediction = Belief::initial().observe([(60, 3.0, 5.0)]).predict();
        let plain = prediction.best_row(0..RATES, 0.5, 0.0);
        assert!((prediction.mean(plain) - 0.5).abs() < 0.03);
        let cautious = prediction.best_row(0..RATES, 0.5, 1.0);
        assert!(prediction.variance(cautious) <= prediction.variance(plain));
    }

    #[test]
    fn prediction_agrees_with_a_plain_sum() {
        let belief = Belief::initial().observe([(30, 1.0, 7.0), (55, 4.0, 4.0)]);
        let prediction = belief.predict();
        for row in [0, 17, 55, 100] {
            let terms = belief.weights.iter().zip(&GRID.accuracy);
            let mean: f64 = terms
                .map(|(&w, curve)| f64::from(w) * f64::from(curve[row]))
                .sum();
            assert!((prediction.mean(row) - mean).abs() < 1e-5);
        }
    }

    #[test]
    fn a_packed_belief_is_close_and_survives_text_exactly() {
        let belief = Belief::initial().observe([(30, 1.0, 7.0)]);
        let packed = PackedBelief::pack(&belief);
        let differences = packed.unpack().weights.into_iter().zip(&belief.weights);
        let total: f32 = differences.map(|(x, y)| (x - y).abs()).sum();
        assert!(total < 1e-3, "{total}");
        let text = serde_json::to_string(&packed).unwrap();
        assert_eq!(serde_json::from_str::<PackedBelief>(&text).unwrap(), packed);
        assert!(
            serde_json::from_str::<PackedBelief>("\"AAAA\"")
                .unwrap_err()
                .to_string()
                .contains("3 bytes")
        );
    }
}
