//! The `[hint]` section of a recipe: a schedule by name, with its own settings.

use crate::HintError;
use crate::schedule::{
    Escalate, FixedRate, HintOnFailure, HintUse, Luffy, MultiLevel, NoHint, PrefixRft, QuestA, R3,
    Schedule, Seele, SeeleBayes, Uft, UftStage,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

macro_rules! schedules {
    ($($(#[$doc:meta])* $name:literal => $variant:ident($settings:ty),)*) => {
        /// A schedule and its settings. The key `schedule` names it; all other keys belong to it and have
        /// defaults, and a key it does not know is an error.
        ///
        /// ```
        /// use seele_hint::{HintConfig, schedule::Seele};
        /// let config: HintConfig = toml::from_str("schedule = \"seele\"\nrounds = 2").unwrap();
        /// assert_eq!(config, HintConfig::Seele(Seele { rounds: 2, ..Seele::default() }));
        /// ```
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "schedule")]
        pub enum HintConfig {
            $($(#[$doc])* #[serde(rename = $name)] $variant($settings),)*
        }

        impl HintConfig {
            /// Names of all schedules.
            pub const NAMES: &'static [&'static str] = &[$($name),*];

            /// The schedule of that name with its default settings.
            ///
            /// # Errors
            /// [`HintError::UnknownSchedule`], listing the names.
            pub fn preset(name: &str) -> Result<Self, HintError> {
                match name {
                    $($name => Ok(Self::$variant(Default::default())),)*
                    _ => Err(HintError::UnknownSchedule { name: name.into(), known: Self::NAMES.join(", ") }),
                }
            }

            /// Name of the schedule.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => $name,)*
                }
            }

            fn settings(&self) -> &dyn Schedule {
                match self {
                    $(Self::$variant(settings) => settings,)*
                }
            }

            /// The schedule with `most` rollouts a visit at most ([`Schedule::max_rollouts`]), off-policy members
            /// included, shared out evenly over its rounds or levels. None if they cannot be.
            ///
            /// ```
            /// use seele_hint::{HintConfig, schedule::Seele};
            /// let config = HintConfig::preset("seele")?.with_max_rollouts(16);
            /// assert_eq!(config, Some(HintConfig::Seele(Seele { rollouts: 4, ..Seele::default() })));
            /// assert_eq!(HintConfig::preset("seele")?.with_max_rollouts(15), None);
            /// # Ok::<(), seele_hint::HintError>(())
            /// ```
            pub fn with_max_rollouts(&self, most: u32) -> Option<Self> {
                match self {
                    $(Self::$variant(settings) => {
                        let with = |rollouts| {
                            let mut settings = settings.clone();
                            settings.rollouts = rollouts;
                            settings
                        };
                        // What one rollout a round or level comes to is their number.
                        let shares = with(1).max_rollouts();
                        let rollouts = most.checked_div(shares)?;
                        (rollouts >= 1 && most.is_multiple_of(shares))
                            .then(|| Self::$variant(with(rollouts)))
                    })*
                }
            }

            /// The settings as a schedule.
            ///
            /// # Errors
            /// [`HintError::Setting`] if a setting is out of range.
            pub fn schedule(&self) -> Result<Arc<dyn Schedule>, HintError> {
                let schedule: Arc<dyn Schedule> = match self {
                    $(Self::$variant(settings) => Arc::new(settings.clone()),)*
                };
                schedule.validate()?;
                Ok(schedule)
            }
        }
    };
}

schedules! {
    /// No hints.
    "none" => None(NoHint),
    /// The same share of every solution.
    "fixed" => Fixed(FixedRate),
    /// UFT: slices revealed with a falling probability.
    "uft" => Uft(Uft),
    /// UFT's staircase.
    "uft-stage" => UftStage(UftStage),
    /// R3: a uniform number of slices.
    "r3" => R3(R3),
    /// Prefix-RFT: one rollout of the group continues a prefix.
    "prefix-rft" => PrefixRft(PrefixRft),
    /// LUFFY: the solution is an off-policy member of the group.
    "luffy" => Luffy(Luffy),
    /// SEELE: the fitted curve, by least squares as in the paper.
    "seele" => Seele(Seele),
    /// SEELE with a posterior over curves and a learned population.
    "seele-bayes" => SeeleBayes(SeeleBayes),
    /// A hint only if all rollouts fail (GHPO-like).
    "hint-on-failure" => HintOnFailure(HintOnFailure),
    /// Several hint levels in one group (StepHint-like).
    "multi-level" => MultiLevel(MultiLevel),
    /// QuestA: a fixed share, smaller later.
    "quest-a" => QuestA(QuestA),
    /// More help as long as all rollouts fail (Scaf-GRPO, SAGE).
    "escalate" => Escalate(Escalate),
}

impl HintConfig {
    /// What training does with the tokens of the schedule's hints; none for a schedule without hints.
    pub fn hint_use(&self) -> Option<HintUse> {
        self.settings().hint_use()
    }

    /// The accuracy that every round aims at, in `(0, 1)`; none for a schedule without one.
    pub fn target_accuracy(&self) -> Option<f64> {
        self.settings().target_accuracy()
    }
}

impl Default for HintConfig {
    /// The paper's method.
    fn default() -> Self {
        Self::Seele(Seele::default())
    }
}
