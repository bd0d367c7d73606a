//! Methods by name: which hint schedule and which objective they are.

use super::error::{RecipeError, nearest};
use super::node::{Node, Origin, Table, Value};
use super::write::node_of;
use crate::objective::presets::{PRESET_NAMES, preset};
use seele_hint::HintConfig;
use serde::Serialize;

/// All methods that a recipe can name: those with an objective and a hint schedule.
pub fn methods() -> impl Iterator<Item = &'static str> {
    PRESET_NAMES
        .into_iter()
        .filter(|method| HintConfig::NAMES.contains(&hint_schedule(method)))
}

/// The hint schedule of a method; the objective's name where there is a schedule of that name.
fn hint_schedule(method: &str) -> &str {
    match method {
        "grpo" | "dr-grpo" | "dapo" | "gspo" | "rloo" | "sft" => "none",
        "rl-with-sft-loss" => "luffy",
        other => other,
    }
}

/// The layer under all others: the sections that the method sets.
///
/// # Errors
/// [`RecipeError::BadValue`] for a name that is no method; `at` is where it was written.
pub(crate) fn preset_layer(method: &str, at: &Origin) -> Result<Node, RecipeError> {
    let unknown = || {
        let remedy = nearest(method, methods()).map(|near| format!("did you mean `{near}`? "));
        RecipeError::BadValue {
            at: at.clone(),
            key: "method".into(),
            problem: format!(
                "unknown method `{method}`; {}known methods: {}",
                remedy.unwrap_or_default(),
                methods().collect::<Vec<_>>().join(", ")
            ),
        }
    };
    let objective = preset(method).map_err(|_| unknown())?;
    let hint = HintConfig::preset(hint_schedule(method)).map_err(|_| unknown())?;
    let origin = Origin::Preset {
        method: method.into(),
    };
    let mut layer = layer_of(&objective, &origin);
    if let Value::Table(table) = &mut layer.value {
        table.insert("hint", layer_of(&hint, &origin));
    }
    Ok(layer)
}

/// Settings as a layer of that origin.
pub(crate) fn layer_of(settings: &impl Serialize, origin: &Origin) -> Node {
    // Settings are structs of numbers, words and lists with text keys, which JSON always holds.
    serde_json::to_value(settings)
        .map(|value| node_of(&value, origin))
        .unwrap_or(Node {
            value: Value::Table(Table::default()),
            origin: origin.clone(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_has_a_schedule_and_an_objective() {
        for method in methods() {
            let layer = preset_layer(method, &Origin::Default).unwrap();
            assert!(
                layer.find("hint.schedule").is_some() && layer.find("policy_loss.kind").is_some(),
                "{method}"
            );
        }
    }

    #[test]
    fn a_slip_in_the_method_is_answered_with_the_nearest_one() {
        let message = preset_layer("sele", &Origin::Default)
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("did you mean `seele`?") && message.contains("prefix-rft"),
            "{message}"
        );
    }
}
