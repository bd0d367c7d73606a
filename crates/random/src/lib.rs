//! Keyed random numbers: every draw is a pure function of what it is for.
//!
//! A training run draws numbers for many purposes (which problem comes next, which token a rollout
//! samples, how a weight starts) and in an order that depends on scheduling: rollouts finish when
//! they finish. A generator with hidden state would make results depend on that order. Here a draw
//! is addressed instead: `Key::new(seed).with(purpose).with(step).with(problem)...`, so the same
//! address gives the same number whatever else has been drawn, on any number of threads.
//!
//! ```
//! use seele_random::Key;
//! let rollout = Key::new(7).with(3).with(12);
//! assert_eq!(rollout.with(0).uniform(), rollout.with(0).uniform());
//! assert_ne!(rollout.with(0).uniform(), rollout.with(1).uniform());
//! ```
//!
//! The mixing function is SplitMix64's finaliser (Steele, Lea, Flood: "Fast splittable pseudorandom
//! number generators", OOPSLA 2014), chained over the parts of the key.
#![forbid(unsafe_code)]

/// SplitMix64: adds the golden-ratio increment and mixes, a bijection on `u64`.
#[inline]
pub const fn mix(z: u64) -> u64 {
    let z = z.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The address of a random draw: a seed and any number of coordinates.
///
/// Copy it freely; it has no state. Two keys with the same coordinates in the same order are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key(u64);

impl Key {
    /// The root key of a run.
    #[inline]
    pub const fn new(seed: u64) -> Self {
        Self(mix(seed))
    }

    /// The key one coordinate further down.
    #[inline]
    #[must_use]
    pub const fn with(self, coordinate: u64) -> Self {
        Self(mix(self.0 ^ coordinate))
    }

    /// 64 uniform bits.
    #[inline]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// A uniform number in `[0, 1)` with 53 random bits.
    #[inline]
    pub fn uniform(self) -> f64 {
        (self.0 >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// A uniform integer in `0..n`; 0 if `n` is 0.
    ///
    /// Multiply-shift; the bias is below `n / 2^64`.
    #[inline]
    pub const fn below(self, n: u64) -> u64 {
        ((self.0 as u128 * n as u128) >> 64) as u64
    }

    /// A standard normal number (Box-Muller on two coordinates below this key).
    pub fn normal(self) -> f64 {
        let radius = (-2.0 * (1.0 - self.with(0).uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.with(1).uniform()).cos()
    }

    /// A uniformly drawn order of `0..n` (Fisher-Yates on the coordinates below this key).
    pub fn permutation(self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        for i in (1..n).rev() {
            order.swap(i, self.with(i as u64).below(i as u64 + 1) as usize);
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_values_of_the_simulation_protocol() {
        assert_eq!(mix(0), 0xe220_a839_7b1d_cdaf);
        assert_eq!(mix(11), 0x50f5_647d_2380_309d);
        let uni = |seed, rest: &[u64]| {
            rest.iter()
                .fold(Key::new(seed), |k, &v| k.with(v))
                .uniform()
        };
        assert_eq!(uni(1, &[1, 0, 0]), 0.7867101553239042);
        assert_eq!(uni(11, &[2, 5, 3, 7]), 0.8135717143830625);
    }

    #[test]
    fn permutation_holds_every_index_once_and_depends_on_the_key() {
        let mut order = Key::new(3).permutation(100);
        assert_ne!(order, Key::new(4).permutation(100));
        order.sort_unstable();
        assert_eq!(order, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn below_stays_below_and_covers() {
        let mut seen = [false; 7];
        for i in 0..1000 {
            seen[Key::new(1).with(i).below(7) as usize] = true;
        }
        assert_eq!(seen, [true; 7]);
        assert_eq!(Key::new(1).below(0), 0);
    }

    #[test]
    fn normal_has_mean_zero_and_variance_one() {
        let n = 20_000;
        let draws: Vec<f64> = (0..n).map(|i| Key::new(5).with(i).normal()).collect();
        let mean = draws.iter().sum::<f64>() / n as f64;
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n as f64;
        assert!(
            mean.abs() < 0.03 && (variance - 1.0).abs() < 0.05,
            "{mean} {variance}"
        );
    }
}
