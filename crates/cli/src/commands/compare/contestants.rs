//! What is compared: methods, each perhaps under several values of one setting.

use crate::exit::Unusable;
use seele_train::recipe::{methods, nearest};

/// An override of the command line.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Setting {
    /// The method that it belongs to; `None`: all.
    pub(super) method: Option<String>,
    /// `key=value`.
    pub(super) text: String,
}

impl Setting {
    /// Reads `[METHOD:]KEY=VALUE`; what is wrong with `KEY=VALUE` is found with the recipe.
    pub(super) fn parse(text: &str) -> Self {
        let key = text.split('=').next().unwrap_or(text);
        match key.split_once(':') {
            Some((method, _)) => Self {
                method: Some(method.trim().into()),
                text: text[method.len() + 1..].into(),
            },
            None => Self {
                method: None,
                text: text.into(),
            },
        }
    }
}

/// One line of the table.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Contestant {
    /// The method, with the value of the setting that varies.
    pub(super) label: String,
    /// The method.
    pub(super) method: String,
    /// Overrides besides those for all.
    pub(super) overrides: Vec<String>,
}

impl Contestant {
    /// Name of its runs' folders.
    pub(super) fn folder(&self) -> String {
        self.label.replace(['/', '\\', ' '], "-")
    }
}

/// All contestants, method by method.
///
/// # Errors
/// An unknown method, one that is named twice, a setting for a method that is not compared, or `vary` that
/// is not `KEY=VALUE,VALUE,...`.
pub(super) fn contestants(
    names: &[String],
    settings: &[Setting],
    vary: Option<&str>,
) -> Result<Vec<Contestant>, Unusable> {
    for (index, name) in names.iter().enumerate() {
        if !methods().any(|method| method == name) {
            let near = nearest(name, methods());
            let remedy = near.map_or_else(
                || {
                    format!(
                        "known methods: {}",
                        methods().collect::<Vec<_>>().join(", ")
                    )
                },
                |near| format!("did you mean `{near}`?"),
            );
            return Err(Unusable(format!(
                "--methods: unknown method `{name}`; {remedy}"
            )));
        }
        if names[..index].contains(name) {
            return Err(Unusable(format!("--methods: `{name}` is named twice")));
        }
    }
    let stranger = settings.iter().find_map(|setting| {
        let method = setting.method.as_ref()?;
        (!names.contains(method)).then_some((method, &setting.text))
    });
    if let Some((method, text)) = stranger {
        return Err(Unusable(format!(
            "--set {method}:{text}: `{method}` is not among --methods ({})",
            names.join(", ")
        )));
    }
    let variants = match vary {
        None => vec![None],
        Some(text) => variants(text)?.into_iter().map(Some).collect(),
    };
    let mut all = Vec::new();
    for method in names {
        for variant in &variants {
            let mut overrides = vec![format!("method={method}")];
            let own = settings
                .iter()
                .filter(|setting| setting.method.as_ref() == Some(method));
            overrides.extend(own.map(|setting| setting.text.clone()));
            let mut label = method.clone();
            if let Some(variant) = variant {
                overrides.push(variant.clone());
                let short = variant
                    .split('=')
                    .next()
                    .and_then(|key| key.rsplit('.').next());
                let value = variant.split_once('=').map_or("", |(_, value)| value);
                label = format!("{method} {}={value}", short.unwrap_or_default());
            }
            all.push(Contestant {
                label,
                method: method.clone(),
                overrides,
            });
        }
    }
    Ok(all)
}

/// `KEY=A,B` as `KEY=A` and `KEY=B`.
fn variants(text: &str) -> Result<Vec<String>, Unusable> {
    let values = text.split_once('=').map(|(key, values)| {
        let values = values.split(',').map(str::trim);
        let settings = values.map(|value| format!("{}={value}", key.trim()));
        settings.collect::<Vec<_>>()
    });
    match values {
        Some(settings) if settings.iter().all(|setting| !setting.ends_with('=')) => Ok(settings),
        _ => Err(Unusable(format!(
            "--vary {text}: expected a key and its values, for example `--vary hint.target_accuracy=0.25,0.5`"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_setting_for_one_method_is_told_from_one_for_all() {
        let one = Setting::parse("seele:hint.rounds=2");
        assert_eq!(
            (one.method.as_deref(), one.text.as_str()),
            (Some("seele"), "hint.rounds=2")
        );
        let all = Setting::parse("data.path=C:/x");
        assert_eq!((all.method, all.text.as_str()), (None, "data.path=C:/x"));
    }

    #[test]
    fn methods_and_values_are_multiplied() {
        let settings = [Setting::parse("grpo:kl.coef=0"), Setting::parse("steps=2")];
        let all = contestants(
            &names(&["grpo", "seele"]),
            &settings,
            Some("rollout.top_p=0.5, 1"),
        )
        .unwrap();
        let labels: Vec<&str> = all.iter().map(|one| one.label.as_str()).collect();
        assert_eq!(
            labels,
            [
                "grpo top_p=0.5",
                "grpo top_p=1",
                "seele top_p=0.5",
                "seele top_p=1"
            ]
        );
        assert_eq!(
            all[1].overrides,
            ["method=grpo", "kl.coef=0", "rollout.top_p=1"]
        );
        assert_eq!(all[3].folder(), "seele-top_p=1");
    }

    #[test]
    fn slips_are_answered_with_a_remedy() {
        let message = |names_given: &[&str], set: &[&str], vary| {
            let settings: Vec<Setting> = set.iter().map(|text| Setting::parse(text)).collect();
            contestants(&names(names_given), &settings, vary)
                .unwrap_err()
                .to_string()
        };
        assert!(message(&["sele"], &[], None).contains("did you mean `seele`?"));
        assert!(message(&["grpo", "grpo"], &[], None).contains("named twice"));
        assert!(
            message(&["grpo"], &["uft:kl.coef=0"], None).contains("not among --methods (grpo)")
        );
        assert!(message(&["grpo"], &[], Some("steps")).contains("--vary steps: expected"));
        assert!(message(&["grpo"], &[], Some("steps=1,")).contains("expected a key"));
    }
}
