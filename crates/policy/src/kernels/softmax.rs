//! Exponentials, log-sum-exp and entropy with fixed order of summation.

use super::{multiversion, prefetch};

/// Independent partial sums; part of the definition of every sum here.
const LANES: usize = 16;

/// e^x in float32 within 2 units in the last place for x in [-87, 88], written without branches so that
/// it vectorises; below it gives 0, above it grows without overflow to infinity being exact.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    let clamped = x.clamp(-87.0, 88.0);
    // Adding 1.5 * 2^23 rounds to an integer, whose bits are then the low ones of the sum.
    let shifted = clamped * std::f32::consts::LOG2_E + 12_582_912.0;
    let power = shifted - 12_582_912.0;
    // ln 2 in two parts, so that the remainder is exact.
    let r = (clamped - power * 0.693_359_4) - power * -2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    let value = p * r * r + r + 1.0;
    let scale = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    if x < -87.0 { 0.0 } else { value * scale }
}

/// The sum of the lanes, halves onto halves: a fixed order with a short chain of additions.
#[inline(always)]
pub(crate) fn total(mut lanes: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
        half /= 2;
    }
    lanes[0]
}

multiversion! {
    /// Largest element; `-inf` for none.
    pub fn maximum(values: &[f32]) -> f32 {
        let mut lanes = [f32::NEG_INFINITY; LANES];
        let chunks = values.chunks_exact(LANES);
        let rest = chunks.remainder();
        for chunk in chunks {
            for (lane, &v) in lanes.iter_mut().zip(chunk) {
                *lane = if v > *lane { v } else { *lane };
            }
        }
        lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |m, &v| if v > m { v } else { m })
    }
}

multiversion! {
    /// Smallest and largest element; infinities the wrong way round for none. NaN counts as neither.
    pub fn extremes(values: &[f32]) -> [f32; 2] {
        let (mut low, mut high) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
        let (chunks, rest) = values.as_chunks::<LANES>();
        let mut last = [f32::NAN; LANES];
        last[..rest.len()].copy_from_slice(rest);
        for chunk in chunks.iter().chain([&last]) {
            for ((low, high), &v) in low.iter_mut().zip(&mut high).zip(chunk) {
                *low = if v < *low { v } else { *low };
                *high = if v > *high { v } else { *high };
            }
        }
        let (mut smallest, mut largest) = (f32::INFINITY, f32::NEG_INFINITY);
        for (&low, &high) in low.iter().zip(&high) {
            smallest = if low < smallest { low } else { smallest };
            largest = if high > largest { high } else { largest };
        }
        [smallest, largest]
    }
}

/// Elements that are asked for ahead of those in work. A row of logits was written in part by other cores, in
/// whose caches it still lies; such a line takes longer to arrive than the processor looks ahead by itself.
const AHEAD: usize = 768;

/// Elements between two notes of [`log_sum_exp_with_notes`].
pub const NOTED: usize = 1024;

multiversion! {
    /// [`log_sum_exp`] of values whose largest is `maximum`, with the same bits; `notes` becomes the sum of
    /// `e^(v - maximum)` before each block of [`NOTED`] values, ascending, with the whole sum behind the last.
    pub fn log_sum_exp_with_notes(values: &[f32], maximum: f32, notes: &mut Vec<f32>) -> f32 {
        notes.clear();
        let mut lanes = [0.0f32; LANES];
        for block in values.chunks(NOTED) {
            notes.push(total(lanes));
            let (chunks, rest) = block.as_chunks::<LANES>();
            for chunk in chunks {
                prefetch(chunk.as_ptr().wrapping_add(AHEAD));
                for (lane, &v) in lanes.iter_mut().zip(chunk) {
                    *lane += exp(v - maximum);
                }
            }
            if !rest.is_empty() {
                let sum = total(lanes) + rest.iter().map(|&v| exp(v - maximum)).sum::<f32>();
                notes.push(sum);
                return maximum + sum.ln();
            }
        }
        let sum = total(lanes);
        notes.push(sum);
        maximum + sum.ln()
    }
}

multiversion! {
    fn sum_exp(values: &[f32], maximum: f32) -> f32 {
        let mut lanes = [0.0f32; LANES];
        let chunks = values.chunks_exact(LANES);
        let rest = chunks.remainder();
        for chunk in chunks {
            for (lane, &v) in lanes.iter_mut().zip(chunk) {
                *lane += exp(v - maximum);
            }
        }
        total(lanes) + rest.iter().map(|&v| exp(v - maximum)).sum::<f32>()
    }
}

multiversion! {
    /// Divides logits by the sampling temperature; 1 leaves every bit as it is.
    pub fn scale_by_temperature(logits: &mut [f32], temperature: f32) {
        if temperature != 1.0 {
            let inverse = 1.0 / temperature;
            for logit in logits {
                *logit *= inverse;
            }
        }
    }
}

/// ln of the sum of e^logit; the log-prob of token v is `logits[v] - log_sum_exp(logits)`.
pub fn log_sum_exp(logits: &[f32]) -> f32 {
    let maximum = maximum(logits);
    maximum + sum_exp(logits, maximum).ln()
}

multiversion! {
    /// Sum of e^(v - maximum), in the order of [`log_sum_exp`], and the sum of the same terms times their
    /// exponents.
    fn sums_exp(values: &[f32], maximum: f32) -> [f32; 2] {
        let (mut lanes, mut moments) = ([0.0f32; LANES], [0.0f32; LANES]);
        let chunks = values.chunks_exact(LANES);
        let rest = chunks.remainder();
        for chunk in chunks {
            for ((lane, moment), &v) in lanes.iter_mut().zip(&mut moments).zip(chunk) {
                let e = exp(v - maximum);
                *lane += e;
                *moment += e * (v - maximum).max(-100.0);
            }
        }
        let tail: f32 = rest.iter().map(|&v| exp(v - maximum) * (v - maximum).max(-100.0)).sum();
        [
            total(lanes) + rest.iter().map(|&v| exp(v - maximum)).sum::<f32>(),
            total(moments) + tail,
        ]
    }
}

/// [`log_sum_exp`], with the same bits, and the entropy in nats of the distribution.
pub fn log_sum_exp_and_entropy(logits: &[f32]) -> (f32, f32) {
    let maximum = maximum(logits);
    let [sum, moment] = sums_exp(logits, maximum);
    // -sum p ln p with ln p = v - maximum - ln sum.
    (maximum + sum.ln(), sum.ln() - moment / sum)
}

multiversion! {
    /// Turns one row of logits into the gradient of `sum_s g_s logprob(token_s) + e * entropy`:
    /// `probability * (-total - e * (logprob + entropy))`; the caller adds each `g_s` at its token.
    pub fn logits_gradient(logits: &mut [f32], log_sum_exp: f32, total: f32, entropy: f32, entropy_gradient: f32) {
        for logit in logits {
            let logprob = (*logit - log_sum_exp).max(-100.0);
            *logit = exp(logprob) * (-total - entropy_gradient * (logprob + entropy));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_two_units_in_the_last_place() {
        for i in -8600..8700 {
            let x = i as f32 * 0.01;
            let exact = f64::from(x).exp();
            assert!((f64::from(exp(x)) / exact - 1.0).abs() < 2.5e-7, "{x}");
        }
        assert_eq!(exp(-1000.0), 0.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(0.0), 1.0);
    }

    #[test]
    fn notes_and_extremes_are_those_of_the_row() {
        for len in [1usize, 15, 16, 1000, 1024, 1030, 5000] {
            let row: Vec<f32> = (0..len)
                .map(|i| ((i * 37) % 101) as f32 * 0.1 - 5.0)
                .collect();
            let (mut low, mut high) = (f32::INFINITY, f32::NEG_INFINITY);
            row.iter()
                .for_each(|&v| (low, high) = (low.min(v), high.max(v)));
            assert_eq!(extremes(&row), [low, high]);
            assert_eq!(maximum(&row), high);
            let mut notes = Vec::new();
            let sum = log_sum_exp_with_notes(&row, high, &mut notes);
            assert_eq!(sum, log_sum_exp(&row));
            assert_eq!(notes.len(), len.div_ceil(NOTED) + 1);
            for (block, &note) in notes.iter().enumerate() {
                let before = &row[..(block * NOTED).min(len)];
                let exact: f64 = before.iter().map(|&v| f64::from(v - high).exp()).sum();
                assert!(
                    (f64::from(note) - exact).abs() <= 1e-6 * exact,
                    "{len} {block}"
                );
            }
        }
        assert_eq!(extremes(&[f32::NAN, 1.0]), [1.0, 1.0]);
        assert_eq!(extremes(&[]), [f32::INFINITY, f32::NEG_INFINITY]);
    }

    #[test]
    fn log_sum_exp_and_entropy_of_a_uniform_row() {
        let row = vec![3.0f32; 1000];
        let (lse, entropy) = log_sum_exp_and_entropy(&row);
        assert_eq!(lse, log_sum_exp(&row));
        assert!((lse - 3.0 - 1000f32.ln()).abs() < 1e-5);
        assert!((entropy - 1000f32.ln()).abs() < 1e-4);
    }
}
