//! Settings that are read by nothing, because others switch off what they belong to.
//!
//! Whoever writes a setting expects something of it, so one without effect is refused. That holds for what was
//! written and differs from the method's preset only: a preset may be overridden in part, and a resolved recipe,
//! in which every value is written, loads again. What is switched off by hand is no setting without effect.

use super::Checks;
use crate::advantage::{AdvantageKind, TraceMembership};
use crate::objective::{
    AggregationMode, ImitationKind, ImitationTokens, PolicyLossKind, TraceShape,
};
use crate::recipe::error::RecipeError;
use crate::recipe::node::{Node, Origin, Value};
use crate::recipe::preset::{layer_of, preset_layer};
use crate::recipe::written::Written;
use seele_hint::HintUse;

/// A reason for which settings have no effect.
struct Idle {
    keys: &'static [&'static str],
    /// Whether it applies.
    holds: fn(&Written) -> bool,
    /// Continues "has no effect", with the remedy.
    why: &'static str,
    /// A coefficient that was written, if only as 0, keeps the settings of its term quiet: taking a term away by
    /// its coefficient, as in a series of values, is no slip.
    unless_written: Option<&'static str>,
}

const fn idle(
    keys: &'static [&'static str],
    holds: fn(&Written) -> bool,
    why: &'static str,
) -> Idle {
    Idle {
        keys,
        holds,
        why,
        unless_written: None,
    }
}

const fn idle_term(
    coef: &'static str,
    keys: &'static [&'static str],
    holds: fn(&Written) -> bool,
    why: &'static str,
) -> Idle {
    Idle {
        unless_written: Some(coef),
        ..idle(keys, holds, why)
    }
}

/// Settings that switch something on; switched off they have their effect wherever they stand.
const SWITCHES: [&str; 6] = [
    "hint.schedule",
    "imitation.coef",
    "policy_loss.on_hint",
    "overlong.buffer",
    "overlong.mask_truncated",
    "dynamic_sampling.drop_uniform",
];

fn is_off(value: &Value) -> bool {
    match value {
        Value::Boolean(on) => !on,
        Value::Float(number) => *number == 0.0,
        Value::Text(word) => matches!(word.as_str(), "off" | "none"),
        _ => false,
    }
}

/// All reasons; the first that applies to a key is the one reported.
const IDLE: [Idle; 24] = [
    idle(
        &[
            "hint.schedule",
            "dynamic_sampling.drop_uniform",
            "overlong.buffer",
            "overlong.mask_truncated",
        ],
        |recipe| !samples(recipe),
        ": the objective reads reference solutions only, so nothing is sampled; leave it out, or choose a method that samples",
    ),
    idle(
        &["imitation.coef"],
        |recipe| recipe.imitation.tokens == ImitationTokens::Hint && !has_hints(recipe),
        ": the hint schedule gives no hint tokens to imitate; choose another `hint.schedule`, or leave it out",
    ),
    idle(
        &["imitation.coef", "imitation.where"],
        |recipe| recipe.imitation.tokens == ImitationTokens::Trace && !has_traces(recipe),
        ": the hint schedule gives no traces to imitate; set `hint.schedule = \"luffy\"`, or leave it out",
    ),
    idle_term(
        "imitation.coef",
        &[
            "imitation.kind",
            "imitation.where",
            "imitation.mode",
            "imitation.which_hint",
        ],
        |recipe| recipe.imitation.coef == 0.0,
        " while `imitation.coef` is 0; set it too, or leave this out",
    ),
    idle(
        &["imitation.which_hint"],
        |recipe| recipe.imitation.tokens != ImitationTokens::Hint,
        " unless `imitation.where = \"hint\"`; leave it out",
    ),
    idle(
        &["imitation.mode"],
        |recipe| recipe.imitation.kind == ImitationKind::Probability,
        " with `imitation.kind = \"probability\"`, which is always a mean over sequences; leave it out",
    ),
    idle_term(
        "kl.coef",
        &["kl.kind", "kl.clamp", "kl.where", "kl.placement", "kl.mode"],
        |recipe| recipe.kl.coef == 0.0,
        " while `kl.coef` is 0; set it too, or leave this out",
    ),
    idle_term(
        "entropy.coef",
        &["entropy.mode"],
        |recipe| recipe.entropy.coef == 0.0,
        " while `entropy.coef` is 0; set it too, or leave this out",
    ),
    idle(
        &[
            "policy_loss.clip_low",
            "policy_loss.clip_high",
            "policy_loss.dual_clip",
            "policy_loss.log_ratio_clamp",
            "policy_loss.on_hint",
            "policy_loss.prefix_old",
            "policy_loss.trace_shape",
            "policy_loss.shape_gamma",
            "policy_loss.shape_power",
            "advantage.kind",
            "advantage.scope",
            "advantage.eps",
            "advantage.singleton",
            "advantage.traces",
            "advantage.trace_weight",
        ],
        |recipe| recipe.policy_loss.kind == PolicyLossKind::None,
        " with `policy_loss.kind = \"none\"`; leave it out, or choose another kind",
    ),
    idle(
        &["policy_loss.on_hint"],
        |recipe| !has_hints(recipe),
        ": the hint schedule gives no hint tokens to the policy loss; choose another `hint.schedule`, or leave it out",
    ),
    idle(
        &["policy_loss.prefix_old"],
        |recipe| !recipe.policy_loss.on_hint,
        " without `policy_loss.on_hint = true`; set it too, or leave this out",
    ),
    idle(
        &[
            "policy_loss.trace_shape",
            "policy_loss.shape_gamma",
            "policy_loss.shape_power",
            "advantage.traces",
            "advantage.trace_weight",
        ],
        |recipe| !has_traces(recipe),
        " without traces; set `hint.schedule = \"luffy\"`, or leave it out",
    ),
    idle(
        &[
            "policy_loss.trace_shape",
            "policy_loss.shape_gamma",
            "policy_loss.shape_power",
            "advantage.trace_weight",
        ],
        |recipe| recipe.advantage.traces == TraceMembership::Apart,
        " with `advantage.traces = \"apart\"`: the policy loss does not see traces; leave it out",
    ),
    idle(
        &["policy_loss.shape_gamma"],
        |recipe| recipe.policy_loss.trace_shape != TraceShape::Ratio,
        " unless `policy_loss.trace_shape = \"ratio\"`; leave it out",
    ),
    idle(
        &["policy_loss.shape_power"],
        |recipe| recipe.policy_loss.trace_shape != TraceShape::Power,
        " unless `policy_loss.trace_shape = \"power\"`; leave it out",
    ),
    idle(
        &[
            "advantage.scope",
            "advantage.eps",
            "advantage.singleton",
            "advantage.traces",
            "advantage.trace_weight",
        ],
        |recipe| recipe.advantage.kind == AdvantageKind::None,
        " with `advantage.kind = \"none\"`; leave it out, or choose another kind",
    ),
    idle(
        &["advantage.singleton"],
        |recipe| recipe.advantage.kind.splits_prefix(),
        " with a `split` advantage, which compares prefixed with unprefixed rollouts whatever their number; leave it out",
    ),
    idle(
        &["advantage.eps"],
        |recipe| {
            !matches!(
                recipe.advantage.kind,
                AdvantageKind::Grpo | AdvantageKind::GrpoPopulationStd | AdvantageKind::Batch
            )
        },
        ": this `advantage.kind` divides by no standard deviation; leave it out",
    ),
    idle(
        &["entropy_filter.scope"],
        |recipe| recipe.entropy_filter.drop == 0.0,
        " while `entropy_filter.drop` is 0; set it too, or leave this out",
    ),
    idle(
        &["overlong.factor"],
        |recipe| recipe.overlong.buffer.value().is_none(),
        " while `overlong.buffer` is off; set it too, or leave this out",
    ),
    idle(
        &["dynamic_sampling.max_rollout_batches"],
        |recipe| !recipe.dynamic_sampling.drop_uniform,
        " without `dynamic_sampling.drop_uniform = true`; set it too, or leave this out",
    ),
    idle(
        &["dynamic_sampling.max_rollout_batches"],
        |recipe| !samples(recipe),
        ": the objective reads reference solutions only, so nothing is sampled; leave it out",
    ),
    idle(
        &["aggregation.mode"],
        |recipe| !modes(recipe).any(|(follows, _)| follows),
        ": no term that is switched on follows it; leave it out, or set the `mode` of the term",
    ),
    idle(
        &["aggregation.empty"],
        |recipe| !modes(recipe).any(|(_, mode)| mode.is_sequence_mean()),
        ": no term that is switched on is a mean over sequences; leave it out",
    ),
];

fn samples(recipe: &Written) -> bool {
    recipe.objective().needs_rollouts()
}

/// Whether rollouts can have hint tokens that are not off-policy.
fn has_hints(recipe: &Written) -> bool {
    samples(recipe) && !matches!(recipe.hint.hint_use(), None | Some(HintUse::OffPolicy))
}

fn has_traces(recipe: &Written) -> bool {
    samples(recipe) && recipe.hint.hint_use() == Some(HintUse::OffPolicy)
}

/// Of every term that is switched on, whether it follows `aggregation.mode`, and its mode.
fn modes(recipe: &Written) -> impl Iterator<Item = (bool, AggregationMode)> {
    let objective = recipe.objective();
    let has_policy = objective.policy_loss.kind != PolicyLossKind::None;
    [
        has_policy.then_some((true, objective.aggregation.mode)),
        objective
            .has_kl_loss()
            .then_some((objective.kl.mode.is_none(), objective.kl_mode())),
        (objective.imitation.coef > 0.0).then_some((false, objective.imitation.mode)),
        (objective.entropy.coef != 0.0).then_some((false, objective.entropy.mode)),
    ]
    .into_iter()
    .flatten()
}

impl Checks<'_> {
    /// Refuses settings of the method's sections that were written and change nothing.
    pub(super) fn no_idle_settings(&self, recipe: &Written) -> Result<(), RecipeError> {
        let preset = preset_layer(&recipe.method, &Origin::Default)?;
        let resolved = layer_of(recipe, &Origin::Default);
        let is_written = |key: &str| {
            let node = self.layers.find(key);
            node.is_some_and(|node| node.origin.rank() > 1)
        };
        let asks_for_more = |key: &str| {
            let value = |layer: &Node| layer.find(key).map(|node| node.value.clone());
            let (before, now) = (value(&preset), value(&resolved));
            let is_switched_off = SWITCHES.contains(&key) && now.as_ref().is_some_and(is_off);
            before != now && !is_switched_off
        };
        for reason in IDLE.iter().filter(|reason| (reason.holds)(recipe)) {
            if reason.unless_written.is_some_and(is_written) {
                continue;
            }
            let mut keys = reason.keys.iter();
            if let Some(key) = keys.find(|key| is_written(key) && asks_for_more(key)) {
                return Err(self.bad(key, format!("has no effect{}", reason.why)));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::plan::Recipe;

    const SMALL: &str = "steps = 3\n[model]\npath = \"model\"\n[data]\npath = \"train.jsonl\"\n";

    #[test]
    fn every_reason_names_settings_that_exist() {
        let recipe = Recipe::from_text(SMALL, "r").unwrap();
        let mut written = recipe.resolved.clone();
        // Left out of a recipe while it is not set.
        written.kl.mode = Some(AggregationMode::TokenMean);
        let all = layer_of(&written, &Origin::Default);
        for key in IDLE
            .iter()
            .flat_map(|reason| reason.keys.iter().chain(&reason.unless_written))
            .chain(&SWITCHES)
        {
            assert!(all.find(key).is_some(), "{key}");
        }
    }
}
