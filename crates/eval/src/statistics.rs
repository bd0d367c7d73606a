//! Estimates from samples, and how sure they are.

use seele_random::Key;

/// Resamples of a bootstrap and sign flips of a permutation test: enough for two digits of a
/// 95 % interval and of p-values near 0.05.
pub const RESAMPLES: u64 = 4000;

/// Probability that at least one of `k` samples is right, from `n` samples with `c` right
/// (Chen et al. 2021, arXiv 2107.03374, eq. 1): `1 - C(n-c, k) / C(n, k)`, as a product that does
/// not overflow.
///
/// Unbiased for `1 <= k <= n` and `c <= n`; `k` above `n` counts as `n`.
pub fn pass_at_k(n: usize, c: usize, k: usize) -> f64 {
    let k = k.min(n);
    let wrong = n.saturating_sub(c);
    if wrong < k {
        return 1.0;
    }
    let all_wrong: f64 = (wrong + 1..=n).map(|i| 1.0 - k as f64 / i as f64).product();
    1.0 - all_wrong
}

/// Mean; 0 of nothing.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// Standard error of the mean, from the sample variance (n - 1); `None` below two values.
pub fn standard_error(values: &[f64]) -> Option<f64> {
    if values.len() < 2 {
        return None;
    }
    let (n, mean) = (values.len() as f64, mean(values));
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    Some((squares / (n - 1.0) / n).sqrt())
}

/// Standard error of the mean over problems when the problems are fixed and only the samples drawn
/// anew: `sqrt(sum_i p_i (1 - p_i) / (k - 1)) / problems`, unbiased in the variance.
///
/// `accuracies`: share of right samples of each problem; `samples`: samples `k` of each; `None` for
/// a single sample, which says nothing of its own spread.
pub fn sampling_error(accuracies: &[f64], samples: usize) -> Option<f64> {
    if samples < 2 || accuracies.is_empty() {
        return None;
    }
    let spread: f64 = accuracies.iter().map(|p| p * (1.0 - p)).sum();
    Some((spread / (samples as f64 - 1.0)).sqrt() / accuracies.len() as f64)
}

/// The 95 % interval of the mean by the percentile bootstrap over `values` (Efron 1979), drawn
/// from `key`; `(0, 0)` of nothing.
pub fn bootstrap_interval(values: &[f64], key: Key) -> (f64, f64) {
    if values.is_empty() {
        return (0.0, 0.0);
    }
    let n = values.len() as u64;
    let mut means: Vec<f64> = (0..RESAMPLES)
        .map(|resample| {
            let key = key.with(resample);
            let drawn = (0..n).filter_map(|i| values.get(key.with(i).below(n) as usize));
            drawn.sum::<f64>() / n as f64
        })
        .collect();
    means.sort_by(f64::total_cmp);
    (quantile(&means, 0.025), quantile(&means, 0.975))
}

/// Quantile of sorted values with linear interpolation between neighbours; at least one value.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let (low, high) = (place.floor() as usize, place.ceil() as usize);
    sorted[low] + (sorted[high] - sorted[low]) * (place - place.floor())
}

/// McNemar's exact test: the two-sided p-value of `only_a` against `only_b` discordant pairs under
/// a fair coin.
pub fn mcnemar(only_a: usize, only_b: usize) -> f64 {
    let n = (only_a + only_b) as f64;
    // Term i of the binomial, in logarithms: 2^-n underflows for large n.
    let mut log_term = -n * std::f64::consts::LN_2;
    let mut tail = 0.0;
    for i in 0..=only_a.min(only_b) {
        tail += log_term.exp();
        log_term += ((n - i as f64) / (i as f64 + 1.0)).ln();
    }
    f64::min(1.0, 2.0 * tail)
}

/// Two-sided p-value of paired differences under random signs (Fisher's randomisation test by
/// Monte Carlo), drawn from `key`.
pub fn sign_flip_test(differences: &[f64], key: Key) -> f64 {
    let differing: Vec<f64> = differences.iter().copied().filter(|d| *d != 0.0).collect();
    let observed = differing.iter().sum::<f64>().abs();
    // Sums of the same numbers in another order may differ in the last bits.
    let threshold = observed - 1e-9;
    let as_far = (0..RESAMPLES)
        .filter(|flip| {
            let key = key.with(*flip);
            let signed = differing.iter().enumerate().map(|(i, difference)| {
                let positive = key.with(i as u64).bits() >> 63 == 0;
                if positive { *difference } else { -difference }
            });
            signed.sum::<f64>().abs() >= threshold
        })
        .count();
    (as_far as f64 + 1.0) / (RESAMPLES as f64 + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-12
    }

    #[test]
    fn pass_at_k_is_the_share_of_draws_with_a_right_sample() {
        // C(3,2) = 3 of C(5,2) = 10 pairs are wrong throughout.
        assert!(close(pass_at_k(5, 2, 2), 0.7));
        // C(7,3) = 35 of C(10,3) = 120.
        assert!(close(pass_at_k(10, 3, 3), 1.0 - 35.0 / 120.0));
        assert!(close(pass_at_k(32, 8, 1), 0.25));
        assert_eq!(
            [pass_at_k(4, 0, 4), pass_at_k(4, 1, 4), pass_at_k(4, 3, 2)],
            [0.0, 1.0, 1.0]
        );
        assert_eq!(pass_at_k(2, 1, 9), 1.0);
    }

    #[test]
    fn pass_at_k_agrees_with_counting_subsets() {
        for n in 1..=7usize {
            for c in 0..=n {
                for k in 1..=n {
                    let subsets = (0u32..1 << n).filter(|set| set.count_ones() as usize == k);
                    let (mut all, mut hit) = (0, 0);
                    for set in subsets {
                        all += 1;
                        hit += i32::from(set & ((1 << c) - 1) != 0);
                    }
                    assert!(close(pass_at_k(n, c, k), f64::from(hit) / f64::from(all)));
                }
            }
        }
    }

    #[test]
    fn errors_of_the_mean_have_their_hand_computed_values() {
        // Variance of (0, 1, 1, 0) is 1/3; over 4 values: sqrt(1/12).
        assert!(close(
            standard_error(&[0.0, 1.0, 1.0, 0.0]).unwrap(),
            (1.0f64 / 12.0).sqrt()
        ));
        assert_eq!(standard_error(&[1.0]), None);
        // p = 1/2 and 1/4 from 4 samples: sqrt((1/4 + 3/16) / 3) / 2.
        let error = sampling_error(&[0.5, 0.25], 4).unwrap();
        assert!(close(error, (0.4375f64 / 3.0).sqrt() / 2.0));
        assert_eq!(
            (sampling_error(&[0.0, 1.0], 8), sampling_error(&[0.5], 1)),
            (Some(0.0), None)
        );
    }

    #[test]
    fn the_bootstrap_interval_is_about_two_standard_errors_and_repeats() {
        let values: Vec<f64> = (0..400).map(|i| f64::from(u8::from(i % 4 == 0))).collect();
        let (low, high) = bootstrap_interval(&values, Key::new(3));
        assert_eq!((low, high), bootstrap_interval(&values, Key::new(3)));
        let half = 1.96 * standard_error(&values).unwrap();
        assert!((low - (0.25 - half)).abs() < 0.006 && (high - (0.25 + half)).abs() < 0.006);
        assert_eq!(bootstrap_interval(&[1.0; 5], Key::new(0)), (1.0, 1.0));
        assert_eq!(bootstrap_interval(&[], Key::new(0)), (0.0, 0.0));
    }

    #[test]
    fn mcnemar_is_the_exact_binomial() {
        // 1 of 6: 2 (1 + 6) / 64.
        assert!(close(mcnemar(1, 5), 14.0 / 64.0) && close(mcnemar(5, 1), 14.0 / 64.0));
        assert_eq!((mcnemar(0, 0), mcnemar(3, 3)), (1.0, 1.0));
        assert!(close(mcnemar(0, 10), 2.0 / 1024.0));
        let large = mcnemar(5000, 5400);
        assert!(large > 1e-5 && large < 1e-4, "{large}");
    }

    #[test]
    fn random_signs_agree_with_the_exact_test_on_plain_verdicts() {
        let differences: Vec<f64> = [vec![1.0; 5], vec![-1.0], vec![0.0; 30]].concat();
        let p = sign_flip_test(&differences, Key::new(1));
        assert!((p - mcnemar(5, 1)).abs() < 0.02, "{p}");
        assert_eq!(sign_flip_test(&[0.0; 4], Key::new(1)), 1.0);
    }
}
