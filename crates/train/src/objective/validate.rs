//! Ranges of the settings, and the combinations that have no meaning.

use super::ObjectiveError;
use super::config::{
    AggregationMode, ImitationKind, ImitationTokens, KlPlacement, ObjectiveConfig, PolicyLossKind,
};
use crate::advantage::{AdvantageKind, AdvantageScope};

impl AggregationMode {
    /// Whether the mode divides by `L_max`.
    pub fn needs_l_max(self) -> bool {
        matches!(self, Self::SumConst | Self::SumOverLen)
    }

    /// Whether the mode is a mean over sequences.
    pub fn is_sequence_mean(self) -> bool {
        matches!(self, Self::SeqMeanTokenMean | Self::SeqMeanTokenSum)
    }
}

impl ObjectiveConfig {
    /// Fills `aggregation.l_max` from the recipe's longest response where the recipe left it out.
    pub fn with_longest_response(mut self, tokens: usize) -> Self {
        self.aggregation.l_max.get_or_insert(tokens);
        self
    }

    /// Aggregation of the KL term.
    pub fn kl_mode(&self) -> AggregationMode {
        self.kl.mode.unwrap_or(self.aggregation.mode)
    }

    /// Whether reference log-probs are used.
    pub fn needs_reference(&self) -> bool {
        self.kl.coef > 0.0
    }

    /// Whether any term reads rollouts. Without a policy, KL and entropy term, and with nothing but whole
    /// solutions to imitate, training needs no sample (SFT).
    pub fn needs_rollouts(&self) -> bool {
        let imitates_others =
            self.imitation.coef > 0.0 && self.imitation.tokens != ImitationTokens::Solution;
        self.policy_loss.kind != PolicyLossKind::None
            || self.kl.coef > 0.0
            || self.entropy.coef != 0.0
            || imitates_others
    }

    /// Whether the KL term is part of the loss.
    pub fn has_kl_loss(&self) -> bool {
        self.kl.coef > 0.0 && self.kl.placement == KlPlacement::Loss
    }

    /// Whether the old log-probs of generated tokens are used.
    pub fn needs_old_logprobs(&self) -> bool {
        self.policy_loss.kind != PolicyLossKind::None || self.has_kl_reward()
    }

    pub(super) fn has_kl_reward(&self) -> bool {
        self.kl.coef > 0.0 && self.kl.placement == KlPlacement::Reward
    }

    /// Checks ranges and combinations.
    ///
    /// # Errors
    /// [`ObjectiveError::Config`] with the dotted key, what is wrong and what to do.
    pub fn validate(&self) -> Result<(), ObjectiveError> {
        self.validate_advantage()?;
        self.validate_policy()?;
        self.validate_aggregation()?;
        self.validate_terms()?;
        self.validate_shaping()
    }

    fn validate_advantage(&self) -> Result<(), ObjectiveError> {
        let advantage = &self.advantage;
        at_least("advantage.eps", advantage.eps, 0.0)?;
        at_least("advantage.trace_weight", advantage.trace_weight, 0.0)?;
        if (advantage.kind.splits_prefix() || advantage.kind == AdvantageKind::Hybrid)
            && advantage.scope == AdvantageScope::Round
        {
            return Err(refuse(
                "advantage.scope",
                "must be `problem` with a Prefix-RFT advantage, which compares prefixed with unprefixed \
                 rollouts of a problem",
            ));
        }
        Ok(())
    }

    fn validate_policy(&self) -> Result<(), ObjectiveError> {
        let policy = &self.policy_loss;
        if let Some(low) = policy.clip_low.value() {
            within("policy_loss.clip_low", low, 0.0, 1.0)?;
        }
        if let Some(high) = policy.clip_high.value() {
            at_least("policy_loss.clip_high", high, 0.0)?;
        }
        if let Some(cap) = policy.dual_clip.value() {
            above("policy_loss.dual_clip", cap, 1.0)?;
        }
        if let Some(clamp) = policy.log_ratio_clamp.value() {
            above("policy_loss.log_ratio_clamp", clamp, 0.0)?;
        }
        above("policy_loss.shape_gamma", policy.shape_gamma, 0.0)?;
        above("policy_loss.shape_power", policy.shape_power, 0.0)?;

        if self.has_sequence_ratio() {
            if !self.aggregation.mode.is_sequence_mean() {
                return Err(refuse(
                    "aggregation.mode",
                    "must be `seq-mean-token-mean` or `seq-mean-token-sum` with one ratio a sequence \
                     (`policy_loss.kind` `gspo` or `sequence-ratio`): each sequence has one value, and the \
                     term is its mean",
                ));
            }
            if policy.on_hint {
                return Err(refuse(
                    "policy_loss.on_hint",
                    "needs `policy_loss.kind = \"clip\"`: a hint has no ratio of its own in a ratio over the \
                     sequence",
                ));
            }
        }
        Ok(())
    }

    fn validate_aggregation(&self) -> Result<(), ObjectiveError> {
        let used = [
            (
                self.policy_loss.kind != PolicyLossKind::None,
                self.aggregation.mode,
            ),
            (self.has_kl_loss(), self.kl_mode()),
            (self.imitation.coef > 0.0, self.imitation.mode),
            (self.entropy.coef != 0.0, self.entropy.mode),
        ];
        let needs = used
            .iter()
            .any(|(active, mode)| *active && mode.needs_l_max());
        match self.aggregation.l_max {
            Some(0) => Err(refuse(
                "aggregation.l_max",
                "is 0 tokens; give the longest response of the run",
            )),
            None if needs => Err(refuse(
                "aggregation.l_max",
                "is missing; `sum-const` and `sum-over-len` divide by it, give the longest response of the \
                 run in tokens",
            )),
            _ => Ok(()),
        }
    }

    fn validate_terms(&self) -> Result<(), ObjectiveError> {
        at_least("kl.coef", self.kl.coef, 0.0)?;
        at_least("imitation.coef", self.imitation.coef, 0.0)?;
        if !self.entropy.coef.is_finite() {
            return Err(out_of_range(
                "entropy.coef",
                self.entropy.coef,
                "a finite number",
            ));
        }
        within("entropy_filter.drop", self.entropy_filter.drop, 0.0, 1.0)?;
        if self.kl.placement == KlPlacement::Reward && self.kl.mode.is_some() {
            return Err(refuse(
                "kl.mode",
                "has no effect with `kl.placement = \"reward\"`, where the KL of a sequence is a sum; remove it",
            ));
        }
        if self.imitation.kind == ImitationKind::Probability
            && self.imitation.tokens != ImitationTokens::Hint
        {
            return Err(refuse(
                "imitation.where",
                "must be `hint` with `imitation.kind = \"probability\"`, the probability of a whole hint",
            ));
        }
        if self.entropy_filter.drop > 0.0 && !self.policy_loss.on_hint {
            return Err(refuse(
                "entropy_filter.drop",
                "has no effect without `policy_loss.on_hint = true`: prefix tokens carry no advantage then",
            ));
        }
        Ok(())
    }

    fn validate_shaping(&self) -> Result<(), ObjectiveError> {
        if let Some(buffer) = self.overlong.buffer.value() {
            above("overlong.buffer", buffer, 0.0)?;
        }
        at_least("overlong.factor", self.overlong.factor, 0.0)?;
        if self.dynamic_sampling.max_rollout_batches == 0 {
            return Err(refuse(
                "dynamic_sampling.max_rollout_batches",
                "is 0; at least one rollout batch is needed",
            ));
        }
        Ok(())
    }

    pub(super) fn has_sequence_ratio(&self) -> bool {
        matches!(
            self.policy_loss.kind,
            PolicyLossKind::Gspo | PolicyLossKind::SequenceRatio
        )
    }
}

fn refuse(key: &'static str, problem: &str) -> ObjectiveError {
    ObjectiveError::Config {
        key,
        problem: problem.to_owned(),
    }
}

fn out_of_range(key: &'static str, value: f64, range: &str) -> ObjectiveError {
    ObjectiveError::Config {
        key,
        problem: format!("is {value}, it must be {range}"),
    }
}

fn at_least(key: &'static str, value: f64, low: f64) -> Result<(), ObjectiveError> {
    if value.is_finite() && value >= low {
        Ok(())
    } else {
        Err(out_of_range(
            key,
            value,
            &format!("a finite number, at least {low}"),
        ))
    }
}

fn above(key: &'static str, value: f64, low: f64) -> Result<(), ObjectiveError> {
    if value.is_finite() && value > low {
        Ok(())
    } else {
        Err(out_of_range(
            key,
            value,
            &format!("a finite number above {low}"),
        ))
    }
}

fn within(key: &'static str, value: f64, low: f64, high: f64) -> Result<(), ObjectiveError> {
    if (low..=high).contains(&value) {
        Ok(())
    } else {
        Err(out_of_range(
            key,
            value,
            &format!("between {low} and {high}"),
        ))
    }
}
