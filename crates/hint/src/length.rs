//! Hint lengths in tokens: rounding of a rate, and cuts at ends of solution steps (algorithms of Sec. 4.2, Alg. 1).

use serde::{Deserialize, Serialize};

/// Where a hint may end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cut {
    /// After any token, as in the paper.
    #[default]
    Token,
    /// Only after a whole step of the solution (or nowhere): a length goes to the nearest step end, the
    /// shorter of two equally near. A solution without inner step ends is cut at tokens.
    Step,
}

/// Length in tokens of a hint of `rate`: `floor(rate * solution_tokens + 0.5)`, at most
/// `solution_tokens - 1` so that one token is left to generate.
///
/// A rate that is not a number or below 0 gives 0. An empty solution gives 0.
pub fn hint_tokens(rate: f64, solution_tokens: usize) -> usize {
    // `as` saturates and turns NaN into 0, which is what is wanted here.
    let rounded = (rate * solution_tokens as f64 + 0.5).floor() as usize;
    rounded.min(solution_tokens.saturating_sub(1))
}

/// Length in tokens of a Prefix-RFT prefix: `floor(rate * solution_tokens)`, at least `min_tokens` unless `rate`
/// is 0, at most `solution_tokens - 1`.
///
/// Prefix-RFT rounds down where SEELE rounds half up. A rate that is not a number or not above 0 gives 0.
pub fn prefix_tokens(rate: f64, solution_tokens: usize, min_tokens: usize) -> usize {
    if rate.is_nan() || rate <= 0.0 {
        return 0;
    }
    // `as` rounds down and saturates.
    let length = ((rate * solution_tokens as f64) as usize).max(min_tokens);
    length.min(solution_tokens.saturating_sub(1))
}

/// Units in the first `index` of `slices` equal slices of a solution of `units` units (UFT):
/// `round(index * units / slices)`, half to even, at most `units`. No slices give 0.
pub fn slice_end(index: usize, units: usize, slices: usize) -> usize {
    // 0 / 0 is not a number, which `as` turns into 0.
    let end = (index.min(slices) as f64 * units as f64 / slices as f64).round_ties_even();
    (end as usize).min(units)
}

/// The rate a hint of `hint_tokens` really has: `hint_tokens / solution_tokens`, 0 for an empty solution.
pub fn effective_rate(hint_tokens: usize, solution_tokens: usize) -> f64 {
    if solution_tokens == 0 {
        0.0
    } else {
        hint_tokens as f64 / solution_tokens as f64
    }
}

/// A reference solution as the schedules see it: its length and where its steps end, no tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Solution {
    tokens: usize,
    /// Inner step ends: ascending, in `1..tokens`.
    step_ends: Vec<usize>,
}

impl Solution {
    /// * `tokens`: length of the solution in tokens, without end-of-sequence.
    /// * `step_ends`: token offsets behind each step, ascending; offsets at 0, repeated or at and beyond
    ///   `tokens` mark no inner cut and are left out.
    ///
    /// # Errors
    /// If the solution is empty or `step_ends` descends.
    pub fn new(tokens: usize, step_ends: &[usize]) -> Result<Self, String> {
        if tokens == 0 {
            return Err(
                "the solution has no tokens; drop the problem or give it a solution".into(),
            );
        }
        if let Some(pair) = step_ends.windows(2).find(|pair| pair[0] > pair[1]) {
            return Err(format!(
                "step ends must ascend, found {} before {}",
                pair[0], pair[1]
            ));
        }
        let mut step_ends: Vec<usize> = step_ends
            .iter()
            .copied()
            .filter(|&end| end > 0 && end < tokens)
            .collect();
        step_ends.dedup();
        Ok(Self { tokens, step_ends })
    }

    /// Length in tokens, at least 1.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Token offsets of the step ends strictly inside the solution, ascending.
    pub fn inner_step_ends(&self) -> &[usize] {
        &self.step_ends
    }

    /// The allowed hint length nearest to `tokens`; see [`Cut`].
    pub fn snap(&self, tokens: usize, cut: Cut) -> usize {
        let tokens = tokens.min(self.tokens - 1);
        if cut == Cut::Token || self.step_ends.is_empty() {
            return tokens;
        }
        let next = self.step_ends.partition_point(|&end| end < tokens);
        let below = next.checked_sub(1).map_or(0, |i| self.step_ends[i]);
        match self.step_ends.get(next) {
            Some(&above) if above - tokens < tokens - below => above,
            _ => below,
        }
    }

    /// The hint length for `rate`: [`hint_tokens`], then [`Solution::snap`].
    pub fn hint_tokens(&self, rate: f64, cut: Cut) -> usize {
        self.snap(hint_tokens(rate, self.tokens), cut)
    }

    /// [`effective_rate`] of a length.
    pub fn rate_of(&self, hint_tokens: usize) -> f64 {
        effective_rate(hint_tokens, self.tokens)
    }

    /// Number of units of the solution: steps, or tokens if the cut is at tokens or there are no inner step
    /// ends.
    pub(crate) fn units(&self, cut: Cut) -> usize {
        if cut == Cut::Token || self.step_ends.is_empty() {
            self.tokens
        } else {
            self.step_ends.len() + 1
        }
    }

    /// Tokens of the first `units` units, at most `tokens - 1`.
    pub(crate) fn tokens_of_units(&self, units: usize, cut: Cut) -> usize {
        if cut == Cut::Token || self.step_ends.is_empty() {
            return units.min(self.tokens - 1);
        }
        match units {
            0 => 0,
            n => self
                .step_ends
                .get(n - 1)
                .copied()
                .unwrap_or(self.tokens - 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_half_up_and_leaves_one_token() {
        assert_eq!(hint_tokens(0.5, 5), 3);
        assert_eq!(hint_tokens(0.49, 5), 2);
        assert_eq!(hint_tokens(1.0, 5), 4);
        assert_eq!(hint_tokens(0.0, 5), 0);
        assert_eq!(hint_tokens(1.0, 1), 0);
        assert_eq!(hint_tokens(0.7, 0), 0);
    }

    #[test]
    fn hostile_rates_stay_in_range() {
        for rate in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -3.0, 1e300] {
            assert!(hint_tokens(rate, 7) < 7);
        }
    }

    #[test]
    fn step_cuts_take_the_nearest_end_and_never_the_whole() {
        let solution = Solution::new(20, &[5, 9, 15, 20]).unwrap();
        let at = |tokens| solution.snap(tokens, Cut::Step);
        assert_eq!(
            [at(0), at(2), at(3), at(7), at(8), at(12), at(13), at(19)],
            [0, 0, 5, 5, 9, 9, 15, 15]
        );
        assert_eq!(solution.snap(12, Cut::Token), 12);
        assert_eq!(Solution::new(20, &[20]).unwrap().snap(12, Cut::Step), 12);
    }

    #[test]
    fn step_ends_must_ascend_and_a_solution_have_tokens() {
        assert!(Solution::new(0, &[]).is_err());
        assert!(
            Solution::new(9, &[4, 3])
                .unwrap_err()
                .contains("4 before 3")
        );
        assert_eq!(
            Solution::new(9, &[0, 3, 3, 9, 12])
                .unwrap()
                .inner_step_ends(),
            [3]
        );
    }

    #[test]
    fn units_are_steps_or_tokens() {
        let solution = Solution::new(20, &[5, 9]).unwrap();
        assert_eq!(
            (solution.units(Cut::Step), solution.units(Cut::Token)),
            (3, 20)
        );
        let ends = [0, 1, 2, 3].map(|n| solution.tokens_of_units(n, Cut::Step));
        assert_eq!(ends, [0, 5, 9, 19]);
        assert_eq!(solution.tokens_of_units(20, Cut::Token), 19);
    }
}
