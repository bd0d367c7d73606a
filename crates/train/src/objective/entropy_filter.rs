//! Prefix-RFT: which prefix tokens lose their advantage.

use super::config::{EntropyFilterConfig, EntropyFilterScope};

impl EntropyFilterConfig {
    /// Marks the `floor(drop * count)` prefix tokens with the lowest entropy.
    ///
    /// * `prefixes`: entropies (nats, finite) of the prefix tokens of each prefixed sequence, in batch order
    /// * returns, for each of them, whether the token is dropped; of equal entropies the earlier token first
    pub fn dropped(&self, prefixes: &[&[f64]]) -> Vec<Vec<bool>> {
        let mut dropped: Vec<Vec<bool>> = prefixes.iter().map(|p| vec![false; p.len()]).collect();
        match self.scope {
            EntropyFilterScope::Sequence => {
                for sequence in 0..prefixes.len() {
                    self.mark(prefixes, sequence..sequence + 1, &mut dropped);
                }
            }
            EntropyFilterScope::Batch => self.mark(prefixes, 0..prefixes.len(), &mut dropped),
        }
        dropped
    }

    fn mark(
        &self,
        prefixes: &[&[f64]],
        sequences: std::ops::Range<usize>,
        dropped: &mut [Vec<bool>],
    ) {
        let mut ranked: Vec<(f64, usize, usize)> = sequences
            .flat_map(|sequence| {
                let entropies = prefixes[sequence].iter().enumerate();
                entropies.map(move |(token, &entropy)| (entropy, sequence, token))
            })
            .collect();
        ranked.sort_by(|a, b| a.0.total_cmp(&b.0));
        let count = (self.drop * ranked.len() as f64).floor() as usize;
        for &(_, sequence, token) in ranked.iter().take(count) {
            dropped[sequence][token] = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(drop: f64, scope: EntropyFilterScope) -> EntropyFilterConfig {
        EntropyFilterConfig { drop, scope }
    }

    const FIRST: &[f64] = &[0.5, 2.0, 0.1, 1.0];
    const SECOND: &[f64] = &[0.2, 0.3];

    #[test]
    fn each_sequence_is_ranked_alone() {
        let dropped = filter(0.5, EntropyFilterScope::Sequence).dropped(&[FIRST, SECOND]);
        assert_eq!(dropped[0], [true, false, true, false]);
        assert_eq!(dropped[1], [true, false]);
    }

    #[test]
    fn the_batch_is_ranked_together() {
        let dropped = filter(0.5, EntropyFilterScope::Batch).dropped(&[FIRST, SECOND]);
        assert_eq!(dropped[0], [false, false, true, false]);
        assert_eq!(dropped[1], [true, true]);
    }

    #[test]
    fn of_equal_entropies_the_earlier_token_is_dropped() {
        let dropped = filter(0.5, EntropyFilterScope::Sequence).dropped(&[&[1.0; 4]]);
        assert_eq!(dropped[0], [true, true, false, false]);
    }

    #[test]
    fn nothing_and_everything() {
        let none = filter(0.0, EntropyFilterScope::Batch).dropped(&[FIRST, &[]]);
        assert_eq!(none, [vec![false; 4], vec![]]);
        let all = filter(1.0, EntropyFilterScope::Batch).dropped(&[FIRST]);
        assert_eq!(all, [vec![true; 4]]);
    }
}
