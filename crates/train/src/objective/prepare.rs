//! What depends on the log-probs or entropies of more than one token.

use super::ObjectiveError;
use super::batch_objective::Objective;
use super::config::{ImitationKind, PolicyLossKind};
use super::segment::{RatioSource, Weights};

impl Objective {
    /// Takes in the current log-probs (and entropies, for the entropy filter) of the whole batch, or of this
    /// rank's part of it: one ratio a sequence, the probability of whole hints, the filter's choice. To be
    /// repeated whenever the policy has changed; free of effect where
    /// [`needs_all_logprobs_first`](Self::needs_all_logprobs_first) is false.
    ///
    /// * `logprobs`, `entropies`: `[slots]`, nats; values in untrained slots are not read
    ///
    /// # Errors
    /// [`ObjectiveError::Slots`] for lists that are not `[slots]`, [`ObjectiveError::EntropiesMissing`],
    /// [`ObjectiveError::NotFinite`].
    pub fn prepare<T: Copy + Into<f64>>(
        &mut self,
        logprobs: &[T],
        entropies: Option<&[T]>,
    ) -> Result<(), ObjectiveError> {
        self.require_all("log-probs", logprobs.len())?;
        if let Some(entropies) = entropies {
            self.require_all("entropies", entropies.len())?;
        }
        if self.config.has_sequence_ratio() {
            self.take_sequence_ratios(logprobs)?;
        }
        if self.config.imitation.coef > 0.0
            && self.config.imitation.kind == ImitationKind::Probability
        {
            self.take_hint_probabilities(logprobs)?;
        }
        if self.config.entropy_filter.drop > 0.0 {
            self.filter_by_entropy(entropies.ok_or(ObjectiveError::EntropiesMissing)?)?;
        }
        self.prepared = true;
        Ok(())
    }

    fn require_all(&self, what: &'static str, found: usize) -> Result<(), ObjectiveError> {
        if found == self.slots() {
            Ok(())
        } else {
            Err(self.slots_error(what, 0, found))
        }
    }

    /// `log s`: mean (GSPO) or sum of the log-ratios of a branch.
    fn take_sequence_ratios<T: Copy + Into<f64>>(
        &mut self,
        logprobs: &[T],
    ) -> Result<(), ObjectiveError> {
        let is_mean = self.config.policy_loss.kind == PolicyLossKind::Gspo;
        for sequence in &self.sequences {
            if sequence.coverage.policy.own == 0 {
                continue;
            }
            let segment = &mut self.segments[sequence.branch_segment];
            if segment.ratio != RatioSource::Sequence {
                continue;
            }
            let mut sum = 0.0;
            for (current, old) in logprobs[segment.slots.clone()]
                .iter()
                .zip(&segment.old_logprobs)
            {
                sum += segment.require_finite("current log-prob", (*current).into())? - old;
            }
            segment.sequence_log_ratio = if is_mean {
                sum / segment.slots.len() as f64
            } else {
                sum
            };
        }
        Ok(())
    }

    /// Minus the mean over all sequences of the probability of the whole hint. A sequence's value is spread
    /// evenly over its hint tokens, so that pieces add up; each token has the whole as derivative.
    fn take_hint_probabilities<T: Copy + Into<f64>>(
        &mut self,
        logprobs: &[T],
    ) -> Result<(), ObjectiveError> {
        for segment in &mut self.segments {
            if let Weights::Each(weights) = &segment.weights {
                segment.hint_probability = vec![(0.0, 0.0); weights.len()];
            }
        }
        let share = 1.0 / self.totals().sequences;
        for sequence in &self.sequences {
            let hint = sequence.coverage.imitation.hint;
            if hint == 0 {
                continue;
            }
            let segment = &mut self.segments[sequence.solution_segment];
            let first = segment.slots.start;
            let mut log_probability = 0.0;
            for &logprob in &logprobs[first..first + hint] {
                log_probability += segment.require_finite("current log-prob", logprob.into())?;
            }
            let value = -share * log_probability.exp();
            for (token_value, slope) in &mut segment.hint_probability[..hint] {
                *token_value += value / hint as f64;
                *slope += value;
            }
        }
        Ok(())
    }

    fn filter_by_entropy<T: Copy + Into<f64>>(
        &mut self,
        entropies: &[T],
    ) -> Result<(), ObjectiveError> {
        let mut prefixes: Vec<Vec<f64>> = Vec::new();
        for sequence in &self.sequences {
            let segment = &self.segments[sequence.solution_segment];
            let first = segment.slots.start;
            // The filter chooses among prefix tokens; an off-policy trace is trained whole.
            let prefix = match sequence.coverage.off_policy_hint {
                true => 0,
                false => sequence.coverage.policy.hint,
            };
            prefixes.push(
                entropies[first..first + prefix]
                    .iter()
                    .map(|&entropy| segment.require_finite("entropy", entropy.into()))
                    .collect::<Result<_, _>>()?,
            );
        }
        let slices: Vec<&[f64]> = prefixes.iter().map(Vec::as_slice).collect();
        let dropped = self.config.entropy_filter.dropped(&slices);
        for (sequence, dropped) in self.sequences.iter_mut().zip(dropped) {
            sequence.dropped = dropped;
        }
        self.weigh_hint_policy();
        Ok(())
    }
}
