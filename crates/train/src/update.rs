//! Optimizer steps on a batch of groups.

use crate::error::TrainError;
use crate::group::{Group, GroupPart, by_part, micro_batches, trees};
use crate::metrics::PolicyMetrics;
use crate::objective::{
    ImitationKind, KlPlacement, KlTokens, Objective, ObjectiveConfig, ObjectiveError, PrefixOld,
    Statistics, Terms,
};
#[cfg(feature = "cuda")]
use crate::on_device::fitting;
use crate::recipe::OptimizerConfig;
use seele_policy::adamw::{AdamW, AdamWSettings, global_norm};
use seele_policy::decoder::{Decoder, ScoreGradients, TokenScores, TreeGroup};
use seele_policy::parameters::Parameters;

/// The policy that is trained, with its optimizer.
pub(crate) struct Learner {
    pub(crate) parameters: Parameters,
    pub(crate) decoder: Decoder,
    pub(crate) optimizer: AdamW,
    pub(crate) gradient: Vec<f32>,
    settings: AdamWSettings,
    max_grad_norm: Option<f64>,
    /// Whether the device has newer weights and moments than these.
    #[cfg(feature = "cuda")]
    pub(crate) is_behind: bool,
}

impl Learner {
    pub(crate) fn new(decoder: Decoder, parameters: Parameters, config: &OptimizerConfig) -> Self {
        let len = parameters.values.len();
        let gradient = vec![0.0; len];
        // A decoder on a device has its own.
        #[cfg(feature = "cuda")]
        let gradient = match decoder.on_device() {
            Some(_) => Vec::new(),
            None => gradient,
        };
        Self {
            parameters,
            decoder,
            optimizer: AdamW::new(len),
            gradient,
            settings: AdamWSettings {
                beta1: config.beta1,
                beta2: config.beta2,
                epsilon: config.epsilon,
                weight_decay: config.weight_decay,
            },
            max_grad_norm: config.max_grad_norm,
            #[cfg(feature = "cuda")]
            is_behind: false,
        }
    }

    /// The learner of a checkpoint: its weights and moments.
    pub(crate) fn resume(
        decoder: Decoder,
        parameters: Parameters,
        optimizer: AdamW,
        config: &OptimizerConfig,
    ) -> Self {
        Self {
            optimizer,
            ..Self::new(decoder, parameters, config)
        }
    }

    /// Forgets the moments, for a stage with another loss.
    pub(crate) fn reset_optimizer(&mut self) {
        self.optimizer = AdamW::new(self.parameters.values.len());
    }

    /// Clips the gathered gradient, takes the optimizer step and clears the gradient; returns the norm
    /// before clipping. A norm that is not finite leaves the policy as it is.
    pub(crate) fn apply(&mut self, learning_rate: f64) -> f64 {
        #[cfg(feature = "cuda")]
        if let Some(norm) = self.apply_on_device(learning_rate) {
            return norm;
        }
        let norm = global_norm(&self.gradient);
        if norm.is_finite() {
            let scale = match self.max_grad_norm {
                Some(most) if norm > most => most / norm,
                _ => 1.0,
            };
            self.optimizer.step(
                &self.settings,
                learning_rate,
                scale,
                &mut self.parameters,
                &mut self.gradient,
            );
            self.decoder.update(&self.parameters);
        } else {
            self.gradient.fill(0.0);
        }
        norm
    }

    /// Forgets the gathered gradient.
    pub(crate) fn clear_gradient(&mut self) {
        self.gradient.fill(0.0);
        #[cfg(feature = "cuda")]
        self.decoder.clear_gradient_on_device();
    }

    #[cfg(feature = "cuda")]
    fn apply_on_device(&mut self, learning_rate: f64) -> Option<f64> {
        let Self {
            decoder, optimizer, ..
        } = self;
        let steps = &mut optimizer.steps;
        let (settings, most) = (&self.settings, self.max_grad_norm);
        let norm = decoder.apply_on_device(settings, learning_rate, most, steps)?;
        self.is_behind = true;
        Some(norm)
    }
}

/// What one optimizer step did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct UpdateReport {
    pub(crate) loss: f64,
    pub(crate) terms: Terms,
    pub(crate) statistics: Statistics,
    pub(crate) grad_norm: f64,
    /// Sum and number behind the KL to the reference policy.
    pub(crate) kl_sum: f64,
    pub(crate) kl_tokens: f64,
    /// Largest difference to the log-probs recorded while sampling.
    pub(crate) logprob_gap: f64,
    /// Rows that went forward and backward.
    pub(crate) tokens: u64,
    /// Whether a number that is not finite kept the optimizer from stepping.
    pub(crate) skipped: bool,
}

/// Optimizer steps of a training step, added up.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct UpdateTotals {
    pub(crate) updates: usize,
    pub(crate) skipped: usize,
    pub(crate) tokens: u64,
    loss: f64,
    imitation: f64,
    grad_norm: f64,
    statistics: Statistics,
    kl_sum: f64,
    kl_tokens: f64,
}

impl UpdateTotals {
    pub(crate) fn add(&mut self, report: &UpdateReport) {
        self.updates += 1;
        self.tokens += report.tokens;
        if report.skipped {
            self.skipped += 1;
            return;
        }
        self.loss += report.loss;
        self.imitation += report.terms.imitation;
        self.grad_norm += report.grad_norm;
        self.statistics += report.statistics;
        self.kl_sum += report.kl_sum;
        self.kl_tokens += report.kl_tokens;
    }

    /// Means over optimizer steps for what belongs to a step, over tokens for what belongs to a token: an
    /// update with more tokens weighs more in the second kind.
    pub(crate) fn metrics(&self, config: &ObjectiveConfig, learning_rate: f64) -> PolicyMetrics {
        let taken = (self.updates - self.skipped) as f64;
        let entropy = self.statistics.mean_entropy();
        PolicyMetrics {
            loss: self.loss / taken,
            kl: config
                .needs_reference()
                .then(|| self.kl_sum / self.kl_tokens),
            entropy: entropy.unwrap_or(f64::NAN),
            imitation: imitates(config).then(|| self.imitation / taken),
            clip_fraction: self.statistics.clip_fraction().unwrap_or(0.0),
            grad_norm: self.grad_norm / taken,
            learning_rate,
            logprob_gap_max: 0.0,
            updates: self.updates,
            skipped_updates: self.skipped,
        }
    }
}

/// One optimizer step on the objective over whole problems. `first` numbers the batch's first problem.
pub(crate) fn update(
    learner: &mut Learner,
    config: &ObjectiveConfig,
    groups: &[Group],
    first: usize,
    budget: Budget,
    learning_rate: f64,
) -> Result<UpdateReport, TrainError> {
    let numbered = groups.iter().enumerate();
    let trunks = numbered.map(|(index, group)| group.objective_trunk((first + index) as u64));
    let mut objective = Objective::new(config.clone(), trunks.collect())?;
    let batches = micro_batches(groups, budget.tokens_per_microbatch);
    #[cfg(feature = "cuda")]
    let batches = fitting(&learner.decoder, batches)?;
    if objective.needs_all_logprobs_first() {
        let mut all = TokenScores::default();
        for batch in &batches {
            let scores = learner.decoder.evaluate(&trees(batch), budget.temperature);
            all.logprobs.extend(scores.logprobs);
            all.entropies.extend(scores.entropies);
        }
        objective.prepare(&all.logprobs, Some(&all.entropies))?;
    }

    let mut report = UpdateReport::default();
    let mut first_slot = 0;
    for batch in batches {
        let trees = trees(&batch);
        report.tokens += trees.iter().map(|tree| tree.rows() as u64).sum::<u64>();
        let outcome = learner.decoder.train(
            &trees,
            budget.temperature,
            &mut learner.gradient,
            |scores| {
                let evaluation =
                    objective.evaluate(first_slot, &scores.logprobs, Some(&scores.entropies))?;
                report.loss += evaluation.loss;
                report.terms += evaluation.terms;
                report.statistics += evaluation.statistics;
                let narrow = |wide: Vec<f64>| wide.into_iter().map(|x| x as f32).collect();
                Ok(ScoreGradients {
                    logprobs: narrow(evaluation.grad_logprobs),
                    entropies: narrow(evaluation.grad_entropies),
                })
            },
        );
        #[cfg(feature = "cuda")]
        learner.decoder.check()?;
        match outcome {
            Ok(scores) => report.compare(&batch, &scores),
            Err(ObjectiveError::NotFinite { .. }) => return Ok(report.skip(learner)),
            Err(error) => return Err(error.into()),
        }
        first_slot += trees.iter().map(TreeGroup::slots).sum::<usize>();
    }
    if !report.loss.is_finite() {
        return Ok(report.skip(learner));
    }
    report.grad_norm = learner.apply(learning_rate);
    #[cfg(feature = "cuda")]
    learner.decoder.check()?;
    report.skipped = !report.grad_norm.is_finite();
    Ok(report)
}

/// How a batch goes through the model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    pub(crate) tokens_per_microbatch: usize,
    pub(crate) temperature: f32,
}

impl UpdateReport {
    fn skip(mut self, learner: &mut Learner) -> Self {
        learner.clear_gradient();
        self.skipped = true;
        self
    }

    /// Takes in how the trainer's log-probs differ from the recorded ones and the reference's (k3).
    fn compare(&mut self, parts: &[GroupPart<'_>], scores: &TokenScores) {
        for (part, logprobs) in by_part(parts, scores) {
            let first = part.first_slot();
            for (rollout, slots) in part.rollout_slots().filter(|(r, _)| !r.trace) {
                let current = &logprobs[slots.start - first..slots.end - first];
                for (&now, &recorded) in current.iter().zip(&rollout.logprobs) {
                    let gap = (f64::from(now) - f64::from(recorded)).abs();
                    self.logprob_gap = self.logprob_gap.max(gap);
                }
                let reference = part.group().reference.get(slots).unwrap_or_default();
                for (&now, &reference) in current.iter().zip(reference) {
                    let difference = reference - f64::from(now);
                    self.kl_sum += difference.exp_m1() - difference;
                    self.kl_tokens += 1.0;
                }
            }
        }
    }
}

/// Log-probs under the reference policy for every token of every group.
pub(crate) fn score_reference(reference: &Decoder, groups: &mut [Group], budget: Budget) {
    score(reference, groups, budget, |group, logprobs| {
        group.reference = logprobs;
    });
}

/// Scores the rollouts under the policy that sampled them and puts that in place of what was recorded while
/// sampling; returns the largest difference, which on a CPU is 0.
pub(crate) fn recompute_logprobs(decoder: &Decoder, groups: &mut [Group], budget: Budget) -> f64 {
    let mut gap = 0.0f64;
    score(decoder, groups, budget, |group, logprobs| {
        let slots: Vec<_> = group.rollout_slots().map(|(_, slots)| slots).collect();
        for (rollout, slots) in group.rollouts.iter_mut().zip(slots) {
            // A trace has none.
            for (recorded, &now) in rollout.logprobs.iter_mut().zip(&logprobs[slots]) {
                gap = gap.max((now - f64::from(*recorded)).abs());
                *recorded = now as f32;
            }
        }
    });
    gap
}

/// Log-probs of the hints under the policy that sampled, where the objective reads them.
pub(crate) fn score_hints(
    decoder: &Decoder,
    config: &ObjectiveConfig,
    groups: &mut [Group],
    budget: Budget,
) {
    let policy = &config.policy_loss;
    let in_reward = config.needs_reference()
        && config.kl.placement == KlPlacement::Reward
        && config.kl.tokens == KlTokens::All;
    if (policy.on_hint && policy.prefix_old == PrefixOld::Sampling) || in_reward {
        score(decoder, groups, budget, |group, mut logprobs| {
            logprobs.truncate(group.solution_tokens());
            group.old_solution = logprobs;
        });
    }
}

/// Minus the mean log-likelihood of all solution tokens on the trunks of `groups`, nats.
pub(crate) fn mean_solution_loss(decoder: &Decoder, groups: &[Group], budget: Budget) -> f64 {
    let (mut sum, mut tokens) = (0.0, 0);
    for batch in micro_batches(groups, budget.tokens_per_microbatch) {
        let scores = decoder.evaluate(&trees(&batch), budget.temperature);
        for (part, logprobs) in by_part(&batch, &scores).filter(|(part, _)| part.is_first()) {
            let solution = &logprobs[..part.group().solution_tokens()];
            sum -= solution.iter().map(|&x| f64::from(x)).sum::<f64>();
            tokens += solution.len();
        }
    }
    sum / tokens as f64
}

fn score(
    decoder: &Decoder,
    groups: &mut [Group],
    budget: Budget,
    mut store: impl FnMut(&mut Group, Vec<f64>),
) {
    let mut found: Vec<Vec<f64>> = Vec::with_capacity(groups.len());
    for batch in micro_batches(groups, budget.tokens_per_microbatch) {
        let scores = decoder.evaluate(&trees(&batch), budget.temperature);
        for (part, logprobs) in by_part(&batch, &scores) {
            let logprobs = logprobs.iter().map(|&x| f64::from(x));
            match found.last_mut() {
                Some(group) if !part.is_first() => group.extend(logprobs),
                _ => found.push(logprobs.collect()),
            }
        }
    }
    for (group, logprobs) in groups.iter_mut().zip(found) {
        store(group, logprobs);
    }
}

/// Whether the imitation term is minus a mean log-likelihood.
fn imitates(config: &ObjectiveConfig) -> bool {
    config.imitation.coef > 0.0 && config.imitation.kind != ImitationKind::Probability
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_weigh_alike_whatever_the_size_of_their_update() {
        let report = |tokens: f64, clipped: f64, kl_sum: f64, loss: f64| UpdateReport {
            loss,
            statistics: Statistics {
                ratio_tokens: tokens,
                clipped_tokens: clipped,
                sampled_tokens: tokens,
                entropy_sum: 2.0 * clipped,
                ..Statistics::default()
            },
            kl_sum,
            kl_tokens: tokens,
            ..UpdateReport::default()
        };
        let mut totals = UpdateTotals::default();
        totals.add(&report(30.0, 0.0, 0.0, 1.0));
        totals.add(&report(10.0, 10.0, 4.0, 3.0));
        let skipped = UpdateReport {
            loss: f64::NAN,
            skipped: true,
            ..UpdateReport::default()
        };
        totals.add(&skipped);
        let mut config = ObjectiveConfig::default();
        config.kl.coef = 0.1;
        let metrics = totals.metrics(&config, 1e-6);
        assert_eq!((metrics.clip_fraction, metrics.kl), (0.25, Some(0.1)));
        assert_eq!((metrics.entropy, metrics.loss), (0.5, 2.0));
        assert_eq!((metrics.updates, metrics.skipped_updates), (3, 1));
    }

    #[test]
    fn a_step_of_skipped_updates_has_no_loss() {
        let mut totals = UpdateTotals::default();
        totals.add(&UpdateReport {
            skipped: true,
            ..UpdateReport::default()
        });
        let metrics = totals.metrics(&ObjectiveConfig::default(), 1e-6);
        assert!(metrics.loss.is_nan() && metrics.grad_norm.is_nan());
        assert_eq!(metrics.skipped_updates, 1);
    }
}
