//! Settings that make a method: hints, reward and objective have to agree.

use super::Checks;
use crate::objective::{
    ImitationTokens, Limit, ObjectiveConfig, ObjectiveError, OverlongConfig, PolicyLossKind,
};
use crate::recipe::error::RecipeError;
use crate::recipe::written::Written;
use seele_hint::{HintConfig, HintError, HintUse, Schedule};
use seele_verify::reward::RewardConfig;
use std::sync::Arc;

/// DAPO's over-long zone as a share of its longest response: 4096 of 20480 tokens.
const OVERLONG_SHARE: f64 = 0.2;

impl Checks<'_> {
    /// Makes `rollout.rollouts_per_problem` and `hint.rollouts` agree.
    ///
    /// The first is the budget of a problem, whatever the method; the second is per round or per
    /// level, as the schedule says.
    pub(super) fn rollouts_per_problem(&self, recipe: &mut Written) -> Result<(), RecipeError> {
        let key = "rollout.rollouts_per_problem";
        if let Some(wanted) = recipe.rollout.rollouts_per_problem {
            self.at_least_one(wanted, key)?;
            let written_too = self
                .layers
                .find("hint.rollouts")
                .filter(|node| node.origin.rank() > 1);
            if most_rollouts(&recipe.hint) != Some(wanted) {
                if let Some(node) = written_too {
                    let problem = format!(
                        "disagrees with `hint.rollouts` at {}; keep one of them",
                        node.origin
                    );
                    return Err(self.bad(key, problem));
                }
                let most = u32::try_from(wanted).ok();
                if let Some(hint) = most.and_then(|most| recipe.hint.with_max_rollouts(most)) {
                    recipe.hint = hint;
                } else {
                    // A schedule that is wrong in itself is told first.
                    self.schedule(recipe)?;
                    let name = recipe.hint.name();
                    let problem = format!(
                        "{wanted} rollouts cannot be shared out evenly by hint schedule `{name}`; choose a multiple of its rounds or levels"
                    );
                    return Err(self.bad(key, problem));
                }
            }
        }
        let schedule = self.schedule(recipe)?;
        recipe.rollout.rollouts_per_problem = Some(schedule.max_rollouts() as usize);
        Ok(())
    }

    fn schedule(&self, recipe: &Written) -> Result<Arc<dyn Schedule>, RecipeError> {
        let schedule = recipe.hint.schedule();
        schedule.map_err(|error| self.hint_error(error))
    }

    fn hint_error(&self, error: HintError) -> RecipeError {
        match error {
            HintError::Setting {
                key,
                value,
                expected,
            } => self.bad(
                &format!("hint.{key}"),
                format!("expected {expected}, found {value}"),
            ),
            other => self.bad("hint", other.to_string()),
        }
    }

    /// Scales the over-long zone of a preset, which belongs to responses as long as in its paper, to the
    /// recipe's longest response; one that was written must fit.
    pub(super) fn fill_overlong(
        &self,
        overlong: &mut OverlongConfig,
        max_new_tokens: usize,
    ) -> Result<(), RecipeError> {
        let (key, longest) = ("overlong.buffer", max_new_tokens as f64);
        let Some(buffer) = overlong.buffer.value() else {
            return Ok(());
        };
        let written = self.layers.find(key);
        if written.is_some_and(|node| node.origin.rank() > 1) {
            let range = format!("at most rollout.max_new_tokens ({max_new_tokens})");
            return self.require(buffer <= longest, key, buffer, &range);
        }
        let share = (OVERLONG_SHARE * longest).floor().max(1.0);
        overlong.buffer = Limit::At(buffer.min(share));
        Ok(())
    }

    /// Rewards are shaped by length in one place: where the objective's presets do it.
    pub(super) fn shaped_once(&self, reward: &RewardConfig) -> Result<(), RecipeError> {
        let in_terms = reward.terms.iter().any(|term| term.overlong.is_some());
        if reward.overlong.is_none() && !in_terms {
            return Ok(());
        }
        let key = if in_terms {
            "reward.terms"
        } else {
            "reward.overlong"
        };
        Err(self.bad(
            key,
            "in training, rewards are shaped by length in [overlong]; write `buffer` and `factor` there instead of here",
        ))
    }

    /// What the schedule wants with its hint tokens must be switched on, and what is switched on for hint
    /// tokens must be wanted. A schedule without such tokens leaves both idle.
    pub(super) fn hint_use(&self, recipe: &Written) -> Result<(), RecipeError> {
        let hint_use = match recipe.hint.hint_use() {
            Some(hint_use) if recipe.objective().needs_rollouts() => hint_use,
            _ => return Ok(()),
        };
        let name = match hint_use {
            HintUse::Context => "context",
            HintUse::Imitation => "imitation",
            HintUse::Policy => "policy",
            HintUse::OffPolicy => return Ok(()),
        };
        let schedule = recipe.hint.name();
        let policy = recipe.policy_loss;
        if hint_use == HintUse::Policy && policy.kind != PolicyLossKind::None && !policy.on_hint {
            return Err(self.bad(
                "hint.hint_use",
                "`policy` has no effect without `policy_loss.on_hint = true`",
            ));
        }
        if policy.on_hint && hint_use != HintUse::Policy {
            return Err(self.bad(
                "policy_loss.on_hint",
                format!("hint schedule `{schedule}` gives no hint tokens to the policy loss; set `hint.hint_use = \"policy\"`, or leave `on_hint` out"),
            ));
        }
        let imitation = recipe.imitation;
        let imitates_hints = imitation.coef > 0.0 && imitation.tokens == ImitationTokens::Hint;
        if imitates_hints && hint_use != HintUse::Imitation {
            return Err(self.bad(
                "imitation.coef",
                format!("{} has no effect: hint schedule `{schedule}` uses its hints as `{name}`; set `hint.hint_use = \"imitation\"`, or `imitation.coef = 0`", imitation.coef),
            ));
        }
        Ok(())
    }

    pub(super) fn objective(&self, objective: &ObjectiveConfig) -> Result<(), RecipeError> {
        objective.validate().map_err(|error| match error {
            ObjectiveError::Config { key, problem } => self.bad(key, problem),
            other => self.bad("method", other.to_string()),
        })
    }
}

fn most_rollouts(hint: &HintConfig) -> Option<usize> {
    hint.schedule()
        .ok()
        .map(|schedule| schedule.max_rollouts() as usize)
}
