//! Settings that make a method: hints, reward and objective have to agree.

use super::Checks;
use crate::objective::{
    ImitationTokens, Limit, ObjectiveConfig, ObjectiveError, OverlongConfig, PolicyLossKind,
};
use crate::recipe::error::RecipeError;
use crate::recipe::node::{Origin, Value};
use crate::recipe::preset::layer_of;
use crate::recipe::written::Written;
use seele_hint::{HintConfig, HintError};
use seele_verify::reward::RewardConfig;

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
                recipe.hint = (1..=wanted)
                    .filter_map(|rollouts| with_rollouts(&recipe.hint, rollouts))
                    .find(|hint| most_rollouts(hint) == Some(wanted))
                    .ok_or_else(|| {
                        let name = recipe.hint.name();
                        let problem = format!("{wanted} rollouts cannot be shared out evenly by hint schedule `{name}`; choose a multiple of its rounds or levels");
                        self.bad(key, problem)
                    })?;
            }
        }
        let schedule = recipe
            .hint
            .schedule()
            .map_err(|error| self.hint_error(error))?;
        recipe.rollout.rollouts_per_problem = Some(schedule.max_rollouts() as usize);
        Ok(())
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
    /// tokens must be wanted.
    pub(super) fn hint_use(&self, recipe: &Written) -> Result<(), RecipeError> {
        let settings = layer_of(&recipe.hint, &Origin::Default);
        let hint_use = match settings.find("hint_use").map(|node| &node.value) {
            Some(Value::Text(hint_use)) => hint_use.as_str(),
            _ => "",
        };
        let schedule = recipe.hint.name();
        if !recipe.objective().needs_rollouts() {
            let unused = [
                (schedule != "none", "hint.schedule"),
                (
                    recipe.dynamic_sampling.drop_uniform,
                    "dynamic_sampling.drop_uniform",
                ),
            ];
            return match unused.into_iter().find(|(is_on, _)| *is_on) {
                None => Ok(()),
                Some((_, key)) => Err(self.bad(
                    key,
                    "has no effect: the objective reads reference solutions only, so nothing is sampled; leave it out, or choose a method that samples",
                )),
            };
        }
        let policy = recipe.policy_loss;
        if hint_use == "policy" && policy.kind != PolicyLossKind::None && !policy.on_hint {
            return Err(self.bad(
                "hint.hint_use",
                "`policy` has no effect without `policy_loss.on_hint = true`",
            ));
        }
        if policy.on_hint && hint_use != "policy" {
            return Err(self.bad(
                "policy_loss.on_hint",
                format!("hint schedule `{schedule}` gives no hint tokens to the policy loss; set `hint.hint_use = \"policy\"` if it has that setting, or leave `on_hint` out"),
            ));
        }
        let imitation = recipe.imitation;
        let imitates_hints = imitation.coef > 0.0 && imitation.tokens == ImitationTokens::Hint;
        if imitates_hints && !matches!(hint_use, "imitation" | "") {
            return Err(self.bad(
                "imitation.coef",
                format!("{} has no effect: hint schedule `{schedule}` uses its hints as `{hint_use}`; set `hint.hint_use = \"imitation\"`, or `imitation.coef = 0`", imitation.coef),
            ));
        }
        Ok(())
    }

    pub(super) fn objective(&self, objective: &ObjectiveConfig) -> Result<(), RecipeError> {
        objective.validate().map_err(|error| match error {
            ObjectiveError::Config { key, problem } => self.bad(&key.replace('-', "_"), problem),
            other => self.bad("method", other.to_string()),
        })
    }
}

fn most_rollouts(hint: &HintConfig) -> Option<usize> {
    hint.schedule()
        .ok()
        .map(|schedule| schedule.max_rollouts() as usize)
}

/// The schedule with another number of rollouts a round or level.
fn with_rollouts(hint: &HintConfig, rollouts: usize) -> Option<HintConfig> {
    let mut settings = serde_json::to_value(hint).ok()?;
    settings
        .as_object_mut()?
        .insert("rollouts".into(), rollouts.into());
    serde_json::from_value(settings).ok()
}
