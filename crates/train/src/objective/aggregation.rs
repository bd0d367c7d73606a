//! From a token set to the weight of each of its tokens.

use super::config::{AggregationConfig, AggregationMode, EmptySequences};

/// Tokens and sequences that a term covers in the whole update batch. Whole numbers, held as f64 so that they
/// can be summed over ranks.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct TermCount {
    /// Tokens, a shared hint token once for every sequence that it belongs to.
    pub tokens: f64,
    /// Sequences with at least one token.
    pub sequences: f64,
}

impl TermCount {
    pub(super) fn add(&mut self, tokens: usize) {
        self.tokens += tokens as f64;
        self.sequences += if tokens > 0 { 1.0 } else { 0.0 };
    }
}

/// Turns an aggregation mode and the batch's counts into token weights: the term is the sum of
/// `weight * token value`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Normaliser {
    mode: AggregationMode,
    /// Divisor that does not depend on the sequence.
    divisor: f64,
}

impl Normaliser {
    /// `all_sequences`: `N`, with the sequences that the term does not touch.
    pub(super) fn new(
        mode: AggregationMode,
        config: &AggregationConfig,
        count: TermCount,
        all_sequences: f64,
    ) -> Self {
        let l_max = config.l_max.unwrap_or(1) as f64;
        let divisor = match mode {
            AggregationMode::TokenMean => count.tokens,
            AggregationMode::SeqMeanTokenMean | AggregationMode::SeqMeanTokenSum => {
                match config.empty {
                    EmptySequences::Exclude => count.sequences,
                    EmptySequences::Count => all_sequences,
                }
            }
            AggregationMode::SumConst => all_sequences * l_max,
            AggregationMode::SumOverLen => l_max,
        };
        Self { mode, divisor }
    }

    /// Weight of one token of a sequence with `tokens` tokens in the term; 0 for a sequence without any.
    pub(super) fn weight(&self, tokens: usize) -> f64 {
        if tokens == 0 {
            return 0.0;
        }
        match self.mode {
            AggregationMode::SeqMeanTokenMean => 1.0 / (self.divisor * tokens as f64),
            _ => 1.0 / self.divisor,
        }
    }

    /// Weight of one of `tokens` equal shares of a sequence's value, in a mean over sequences.
    pub(super) fn sequence_share(&self, tokens: usize) -> f64 {
        if tokens == 0 {
            return 0.0;
        }
        1.0 / (self.divisor * tokens as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sequences of 3, 1 and 0 tokens, every token worth 2.
    fn term(mode: AggregationMode, empty: EmptySequences) -> f64 {
        let lengths = [3, 1, 0];
        let mut count = TermCount::default();
        lengths.iter().for_each(|&length| count.add(length));
        let config = AggregationConfig {
            mode,
            l_max: Some(4),
            empty,
        };
        let normaliser = Normaliser::new(mode, &config, count, 3.0);
        lengths
            .iter()
            .map(|&n| n as f64 * 2.0 * normaliser.weight(n))
            .sum()
    }

    #[test]
    fn each_mode_normalises_as_its_name_says() {
        use AggregationMode::*;
        let exclude = EmptySequences::Exclude;
        for (mode, expected) in [
            (TokenMean, 8.0 / 4.0),
            (SeqMeanTokenMean, (2.0 + 2.0) / 2.0),
            (SeqMeanTokenSum, (6.0 + 2.0) / 2.0),
            (SumConst, 8.0 / (3.0 * 4.0)),
            (SumOverLen, 8.0 / 4.0),
        ] {
            assert!((term(mode, exclude) - expected).abs() < 1e-15, "{mode:?}");
        }
    }

    #[test]
    fn empty_sequences_can_count_in_a_mean_over_sequences() {
        let count = EmptySequences::Count;
        let mean = term(AggregationMode::SeqMeanTokenMean, count);
        assert!((mean - 4.0 / 3.0).abs() < 1e-15);
        let sum = term(AggregationMode::SeqMeanTokenSum, count);
        assert!((sum - 8.0 / 3.0).abs() < 1e-15);
    }

    #[test]
    fn nothing_has_weight_zero_even_in_an_empty_batch() {
        let config = AggregationConfig::default();
        for mode in [
            AggregationMode::TokenMean,
            AggregationMode::SeqMeanTokenMean,
        ] {
            let normaliser = Normaliser::new(mode, &config, TermCount::default(), 0.0);
            assert_eq!(normaliser.weight(0), 0.0);
        }
    }
}
