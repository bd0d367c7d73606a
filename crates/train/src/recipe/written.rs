//! The recipe as people write it: every section and key, nothing checked beyond its kind.

use super::cache_memory::CacheMemory;
use super::sections::{
    Compute, NewModel, OldLogprobs, OptimizerConfig, Recompute, Rounds, SaveConfig, TooLong,
};
use crate::advantage::AdvantageConfig;
use crate::objective::{
    AggregationConfig, DynamicSamplingConfig, EntropyConfig, EntropyFilterConfig, ImitationConfig,
    KlConfig, OverlongConfig, PolicyLossConfig,
};
use crate::optimizer_schedule::LearningRateConfig;
use seele_data::Layout;
use seele_data::arithmetic::ArithmeticConfig;
use seele_hint::HintConfig;
use seele_policy::device::DeviceChoice;
use seele_verify::reward::RewardConfig;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The top level of a recipe file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Written {
    /// Name of the run folder; default: the file's name.
    #[serde(default)]
    pub(crate) name: Option<String>,
    /// Preset for everything that tells one method from another.
    #[serde(default = "default_method")]
    pub(crate) method: String,
    /// Source of every random draw.
    #[serde(default)]
    pub(crate) seed: u64,
    /// Training steps; 0 ends the run after the supervised stage.
    #[serde(default)]
    pub(crate) steps: Option<usize>,
    /// Instead of `steps`: times that the training problems are gone through.
    #[serde(default)]
    pub(crate) epochs: Option<usize>,
    /// Worker threads; default: one a core.
    #[serde(default)]
    pub(crate) threads: Option<usize>,
    /// Where the model computes.
    #[serde(default)]
    pub(crate) device: DeviceChoice,
    pub(crate) model: ModelSection,
    pub(crate) data: DataSection,
    #[serde(default)]
    pub(crate) rollout: RolloutSection,
    #[serde(default)]
    pub(crate) hint: HintConfig,
    #[serde(default)]
    pub(crate) reward: RewardConfig,
    #[serde(default)]
    pub(crate) advantage: AdvantageConfig,
    #[serde(default)]
    pub(crate) policy_loss: PolicyLossConfig,
    #[serde(default)]
    pub(crate) aggregation: AggregationConfig,
    #[serde(default)]
    pub(crate) kl: KlConfig,
    #[serde(default)]
    pub(crate) imitation: ImitationConfig,
    #[serde(default)]
    pub(crate) entropy: EntropyConfig,
    #[serde(default)]
    pub(crate) entropy_filter: EntropyFilterConfig,
    #[serde(default)]
    pub(crate) overlong: OverlongConfig,
    #[serde(default)]
    pub(crate) dynamic_sampling: DynamicSamplingConfig,
    #[serde(default)]
    pub(crate) optimizer: OptimizerConfig,
    #[serde(default)]
    pub(crate) learning_rate: LearningRateConfig,
    #[serde(default)]
    pub(crate) update: UpdateSection,
    #[serde(default)]
    pub(crate) sft: Option<SftSection>,
    #[serde(default)]
    pub(crate) eval: EvalSection,
    #[serde(default)]
    pub(crate) save: SaveConfig,
}

/// The method of a recipe that names none.
pub(crate) const DEFAULT_METHOD: &str = "seele";

fn default_method() -> String {
    DEFAULT_METHOD.into()
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ModelSection {
    /// Hugging Face folder or GGUF file.
    #[serde(default)]
    pub(crate) path: Option<PathBuf>,
    /// A fresh model.
    #[serde(default)]
    pub(crate) new: Option<NewModel>,
    #[serde(default)]
    pub(crate) compute: Compute,
    #[serde(default)]
    pub(crate) recompute: Recompute,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct DataSection {
    /// File of problems.
    #[serde(default)]
    pub(crate) path: Option<PathBuf>,
    /// Generated problems, of the training side.
    #[serde(default)]
    pub(crate) arithmetic: Option<ArithmeticConfig>,
    /// Columns of the file; default: told by its first row.
    #[serde(default)]
    pub(crate) layout: Option<Layout>,
    /// Name of a prompt template, or a `.toml` file.
    #[serde(default = "default_template")]
    pub(crate) template: String,
    /// System message of a chat template.
    #[serde(default)]
    pub(crate) system_message: Option<String>,
    /// Use only the first problems.
    #[serde(default)]
    pub(crate) limit: Option<usize>,
    /// Longest prompt, tokens; default: what the model has room for.
    #[serde(default)]
    pub(crate) max_prompt_tokens: Option<usize>,
    #[serde(default)]
    pub(crate) too_long: TooLong,
}

fn default_template() -> String {
    "r1-zero".into()
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct RolloutSection {
    pub(crate) problems_per_step: usize,
    /// Rollouts of a problem over all its rounds; sets `hint.rollouts`.
    pub(crate) rollouts_per_problem: Option<usize>,
    pub(crate) temperature: f64,
    pub(crate) top_p: f64,
    pub(crate) top_k: Option<usize>,
    pub(crate) max_new_tokens: usize,
    pub(crate) max_active_branches: usize,
    pub(crate) cache_memory: CacheMemory,
    pub(crate) rounds: Rounds,
}

impl Default for RolloutSection {
    fn default() -> Self {
        Self {
            problems_per_step: 256,
            rollouts_per_problem: None,
            temperature: 1.0,
            top_p: 1.0,
            top_k: None,
            max_new_tokens: 2048,
            max_active_branches: 256,
            cache_memory: CacheMemory::default(),
            rounds: Rounds::default(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct UpdateSection {
    /// Problems of one optimizer step; default: all of the step, at most 64.
    pub(crate) problems_per_update: Option<usize>,
    /// Times that the rollouts of a step are gone through.
    pub(crate) passes: usize,
    /// Most tokens that go forward and backward together; a larger group goes in parts, which all run its trunk.
    pub(crate) tokens_per_microbatch: usize,
    pub(crate) old_logprobs: OldLogprobs,
}

impl Default for UpdateSection {
    fn default() -> Self {
        Self {
            problems_per_update: None,
            passes: 1,
            tokens_per_microbatch: 8192,
            old_logprobs: OldLogprobs::default(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SftSection {
    #[serde(default)]
    pub(crate) steps: Option<usize>,
    /// Instead of `steps`: times that the problems are gone through.
    #[serde(default)]
    pub(crate) epochs: Option<usize>,
    #[serde(default = "default_sequences")]
    pub(crate) sequences_per_step: usize,
    /// Problems joined to one sequence.
    #[serde(default = "one")]
    pub(crate) problems_per_sequence: usize,
    #[serde(default)]
    pub(crate) learning_rate: LearningRateConfig,
    /// Measure the loss on the held-out sets' solutions every so many steps and after the last; default:
    /// never.
    #[serde(default)]
    pub(crate) eval_every_steps: Option<usize>,
    /// Default: the training problems.
    #[serde(default)]
    pub(crate) data: Option<DataSection>,
}

fn default_sequences() -> usize {
    128
}

fn one() -> usize {
    1
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct EvalSection {
    /// Evaluate every so many steps; default: before the first and after the last only.
    pub(crate) every_steps: Option<usize>,
    /// End the run once every set named here has reached its accuracy.
    pub(crate) stop_at: BTreeMap<String, f64>,
    /// Default: as in training.
    pub(crate) max_new_tokens: Option<usize>,
    pub(crate) sets: NamedSets,
    pub(crate) benchmarks: Option<BenchmarksSection>,
}

/// Benchmarks by their own protocols, as `seele eval --suite` puts them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct BenchmarksSection {
    /// Suites, names and `.toml` files, separated by commas.
    pub(crate) suite: String,
    /// Folder of the benchmarks' files.
    pub(crate) data: PathBuf,
    /// Only the first problems of each.
    #[serde(default)]
    pub(crate) limit: Option<usize>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct EvalSetSection {
    #[serde(default)]
    pub(crate) path: Option<PathBuf>,
    /// Generated problems, of the held-out side.
    #[serde(default)]
    pub(crate) arithmetic: Option<ArithmeticConfig>,
    #[serde(default)]
    pub(crate) layout: Option<Layout>,
    /// Default: the training template.
    #[serde(default)]
    pub(crate) template: Option<String>,
    #[serde(default)]
    pub(crate) limit: Option<usize>,
    /// Answers to a problem.
    #[serde(default = "one")]
    pub(crate) samples: usize,
    /// Divisor of the logits; 0: the likeliest token each time.
    #[serde(default)]
    pub(crate) temperature: f64,
}

/// `[eval.sets.<name>]` tables in the order they were written.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct NamedSets(pub(crate) Vec<(String, EvalSetSection)>);

impl Serialize for NamedSets {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, set)| (name, set)))
    }
}

impl<'de> Deserialize<'de> for NamedSets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Sets;

        impl<'de> serde::de::Visitor<'de> for Sets {
            type Value = NamedSets;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("tables `[eval.sets.<name>]`")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<NamedSets, A::Error> {
                let mut sets = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    sets.push(entry);
                }
                Ok(NamedSets(sets))
            }
        }

        deserializer.deserialize_map(Sets)
    }
}
