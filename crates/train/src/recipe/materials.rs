//! Everything a plan names, opened and checked before any weight is read.

use super::cache_memory::CacheMemory;
use super::golds::{UnusableRows, check_available};
use super::plan::{DataPlan, ModelSource, Recipe};
use super::problems::{EncodedData, ProblemsError, Solutions};
use super::sections::{ModelFamily, NewModel, NewTokenizer};
use super::text::{ModelChat, ModelText};
use crate::benchmarks::Examinee;
use crate::objective::ImitationTokens;
use crate::supervised;
use seele_data::{BoxError, EncodedProblem, LengthLimits, Message};
use seele_eval::{Benchmark, EvalError, Evaluation, ProblemSet};
use seele_hint::HintConfig;
use seele_policy::chat::{ChatTemplate, ChatTemplateError};
use seele_policy::config::{Family, ModelConfig};
use seele_policy::decoder::cache::{PAGE_TOKENS, page_bytes};
use seele_policy::error::LoadError;
use seele_policy::model::{Model, ModelFiles};
use seele_policy::parameters::Parameters;
use seele_policy::tokenizer::{Tokenizer, TokenizerError};
use seele_random::Key;
use seele_verify::reward::{RewardConfigError, RewardUnavailable};
use std::collections::BTreeSet;

/// Something that a plan names cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MaterialsError {
    /// The model cannot be loaded.
    #[error("[model]: {0}")]
    Model(#[from] LoadError),
    /// Problems cannot be read, made or encoded.
    #[error("[{section}]: {source}")]
    Problems {
        /// Section of the recipe.
        section: String,
        /// What is wrong.
        source: Box<ProblemsError>,
    },
    /// The reward cannot judge a single row of a section.
    #[error("{0}\nset [reward] to what these rows are made for")]
    Rows(UnusableRows),
    /// The program or service that judges does not answer.
    #[error(
        "[reward]: {0}\nnot one rollout would have a reward; correct the command or address, or start the service"
    )]
    Unavailable(#[from] RewardUnavailable),
    /// A benchmark's problems are not there, or do not fit its protocol or the model.
    #[error("[eval.benchmarks]: {0}")]
    Benchmarks(#[from] EvalError),
    /// Not even one rollout of the longest problem fits into the memory for keys and values.
    #[error(
        "[rollout]: `cache_memory` is {found} MiB, but the longest trunk ({trunk_tokens} tokens) with a rollout of {max_new_tokens} takes {needed} MiB; raise it, or lower `rollout.max_new_tokens`"
    )]
    CacheTooSmall {
        /// Prompt and solution of the longest problem, tokens.
        trunk_tokens: usize,
        /// Longest rollout, tokens.
        max_new_tokens: usize,
        /// Memory of both, MiB, rounded up.
        needed: u64,
        /// The bound, MiB.
        found: u64,
    },
    /// A loss on held-out solutions is asked for, and there are none.
    #[error(
        "[sft]: `eval_every_steps` wants the loss on held-out solutions, and no set of [eval.sets] has any that fit the model; add solutions, or leave the setting out"
    )]
    NoHeldOutSolutions,
    /// The reward cannot be built.
    #[error("[reward]: {0}")]
    Reward(#[from] RewardConfigError),
    /// The tokenizer of a fresh model cannot be built, or one cannot encode a line break.
    #[error("[model]: {0}")]
    Tokenizer(#[from] TokenizerError),
    /// The chat template of a fresh model cannot be built.
    #[error("[model]: {0}")]
    Chat(#[from] ChatTemplateError),
}

/// The model and the problems of a plan. The weights are not read yet.
#[derive(Debug)]
pub struct Materials {
    /// Shape of the model.
    pub config: ModelConfig,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// Its chat template, if it has one.
    pub chat_template: Option<ChatTemplate>,
    /// Training problems.
    pub train: EncodedData,
    /// Problems of the supervised stage, if there is one; all have solutions.
    pub sft: Option<EncodedData>,
    /// Held-out problems by name of the set, in the recipe's order; with their solutions only where a loss
    /// is measured on them.
    pub eval: Vec<(String, EncodedData)>,
    /// Benchmarks with their problems; every prompt fits the model.
    pub benchmarks: Vec<(Benchmark, ProblemSet)>,
    /// Sections with rows that the reward cannot judge, a few of many.
    pub unusable_rows: Vec<UnusableRows>,
    /// Weight files; a fresh model has none.
    files: Option<ModelFiles>,
}

impl Recipe {
    /// Opens the model and encodes all problems, which checks every row against template, tokenizer
    /// and context length. Takes seconds for large files and reads no weight.
    ///
    /// # Errors
    /// [`MaterialsError`], which names the section and what is wrong in it.
    pub fn open(&self) -> Result<Materials, MaterialsError> {
        let (files, config, tokenizer, chat_template) = match &self.model.source {
            ModelSource::Path(path) => {
                let files = ModelFiles::open(path)?;
                let (config, tokenizer) = (files.config().clone(), files.tokenizer().clone());
                let chat_template = files.chat_template().cloned();
                (Some(files), config, tokenizer, chat_template)
            }
            ModelSource::New(new) => {
                let NewTokenizer::Characters = new.tokenizer;
                let alphabet = match &new.alphabet {
                    Some(alphabet) => alphabet.clone(),
                    None => self.alphabet()?,
                };
                let tokenizer = Tokenizer::characters(&alphabet)?;
                let chat_template = ChatTemplate::characters(&tokenizer)?;
                (None, new.config(&tokenizer), tokenizer, Some(chat_template))
            }
        };
        let text = ModelText::new(&tokenizer)?;
        let chat = chat_template.clone().map(ModelChat);
        let context_tokens = config.max_position_embeddings;
        let encode =
            |data: &DataPlan, section: String, response_tokens: usize, solutions: Solutions| {
                let chat = chat
                    .as_ref()
                    .map(|chat| chat as &dyn seele_data::ChatTemplate);
                let limits = LengthLimits {
                    context_tokens,
                    response_tokens,
                };
                data.encode(&text, chat, limits, solutions)
                    .map_err(|source| problems_error(section, source))
            };
        let solutions = if self.needs_solutions() {
            Solutions::Required
        } else {
            Solutions::Optional
        };
        // Without rollouts, the end token is all that follows a solution.
        let response_tokens = match self.objective.needs_rollouts() {
            true => self.rollout.max_new_tokens,
            false => 1,
        };
        let train = encode(&self.data, "data".into(), response_tokens, solutions)?;
        if self.objective.needs_rollouts() {
            self.check_cache_memory(&config, &train)?;
        }
        let sft = match &self.sft {
            None => None,
            Some(sft) => Some(encode(
                &sft.data,
                "sft.data".into(),
                1,
                Solutions::Required,
            )?),
        };
        let held_out_solutions = match self.measures_held_out_loss() {
            true => Solutions::Optional,
            false => Solutions::Ignored,
        };
        let sets = self.eval.sets.iter().map(|set| {
            let data = encode(
                &set.data,
                format!("eval.sets.{}", set.name),
                self.eval.max_new_tokens,
                held_out_solutions,
            )?;
            Ok((set.name.clone(), data))
        });
        let eval = sets.collect::<Result<Vec<_>, MaterialsError>>()?;
        let has_solution = |(_, data): &(String, EncodedData)| data.has_solutions();
        let measures = self.sft.iter().any(|sft| sft.eval_every_steps.is_some());
        if measures && !eval.iter().any(has_solution) {
            return Err(MaterialsError::NoHeldOutSolutions);
        }
        let mut benchmarks = Vec::new();
        if let Some(plan) = &self.eval.benchmarks {
            let name = self.name.clone();
            let examinee = Examinee::new(name, &config, &tokenizer, chat_template.as_ref())?;
            for benchmark in &plan.benchmarks {
                let set = ProblemSet::load(benchmark, &plan.data, plan.limit)?;
                // Encodes every prompt; what does not fit is found here.
                Evaluation::new(benchmark, set.clone(), examinee.subject(), self.seed)?;
                benchmarks.push((benchmark.clone(), set));
            }
        }
        let sections = eval
            .iter()
            .map(|(name, data)| (format!("eval.sets.{name}"), data));
        let reward = self.reward.build()?;
        let unusable_rows: Vec<UnusableRows> = std::iter::once(("data".into(), &train))
            .chain(sections)
            .filter_map(|(section, data)| UnusableRows::find(reward.as_ref(), &section, data))
            .collect();
        if self.objective.needs_rollouts() {
            check_available(reward.as_ref(), &train, self.rollout.max_new_tokens)?;
        }
        let hopeless = |rows: &&UnusableRows| rows.unusable == rows.problems;
        if let Some(rows) = unusable_rows.iter().find(hopeless) {
            return Err(MaterialsError::Rows(rows.clone()));
        }
        Ok(Materials {
            config,
            tokenizer,
            chat_template,
            train,
            sft,
            eval,
            benchmarks,
            unusable_rows,
            files,
        })
    }

    /// Refuses a bound on the memory for keys and values that the longest problem alone exceeds.
    fn check_cache_memory(
        &self,
        config: &ModelConfig,
        train: &EncodedData,
    ) -> Result<(), MaterialsError> {
        let CacheMemory::Mebibytes(found) = self.rollout.cache_memory else {
            return Ok(());
        };
        let trunk =
            |encoded: &EncodedProblem| encoded.prompt_ids.len() + encoded.solution_ids.len();
        let trunks = train.problems.iter().map(|(_, encoded)| trunk(encoded));
        let trunk_tokens = trunks.max().unwrap_or(0);
        let max_new_tokens = self.rollout.max_new_tokens;
        let pages = trunk_tokens.div_ceil(PAGE_TOKENS) + max_new_tokens.div_ceil(PAGE_TOKENS);
        let needed =
            (pages * page_bytes(config, self.decoder_options().compute)).div_ceil(1 << 20) as u64;
        if needed <= found {
            return Ok(());
        }
        Err(MaterialsError::CacheTooSmall {
            trunk_tokens,
            max_new_tokens,
            needed,
            found,
        })
    }

    /// Whether training uses reference solutions.
    pub fn needs_solutions(&self) -> bool {
        let imitation = &self.objective.imitation;
        let imitates_solutions =
            imitation.coef > 0.0 && imitation.tokens == ImitationTokens::Solution;
        imitates_solutions || !matches!(self.hint, HintConfig::None(_))
    }

    /// Whether a loss is measured on the solutions of held-out problems.
    fn measures_held_out_loss(&self) -> bool {
        let in_stage = self.sft.iter().any(|sft| sft.eval_every_steps.is_some());
        in_stage || !self.objective.needs_rollouts()
    }

    /// Every character of the prompts and solutions of all problems, in order.
    fn alphabet(&self) -> Result<String, MaterialsError> {
        // A fresh model's chat template adds nothing to the contents but special tokens and line breaks.
        let contents = |messages: &[Message]| -> Result<String, BoxError> {
            Ok(messages
                .iter()
                .map(|message| message.content.as_str())
                .collect())
        };
        let mut alphabet = BTreeSet::new();
        let sft = self
            .sft
            .iter()
            .map(|sft| ("sft.data".to_string(), &sft.data));
        let sets = self
            .eval
            .sets
            .iter()
            .map(|set| (format!("eval.sets.{}", set.name), &set.data));
        for (section, data) in std::iter::once(("data".to_string(), &self.data))
            .chain(sft)
            .chain(sets)
        {
            let in_section = |source: ProblemsError| problems_error(section.clone(), source);
            let in_template =
                |error: seele_data::TemplateError| in_section(ProblemsError::Encode(error.into()));
            for problem in data.problems().map_err(in_section)? {
                alphabet.extend(
                    data.template
                        .prompt(&problem, Some(&contents))
                        .map_err(in_template)?
                        .chars(),
                );
                if let Some(solution) = data.template.solution(&problem).map_err(in_template)? {
                    alphabet.extend(solution.text.chars());
                }
            }
        }
        Ok(alphabet.into_iter().collect())
    }
}

impl Materials {
    /// Training steps of the plan.
    pub fn steps(&self, recipe: &Recipe) -> usize {
        recipe.steps(self.train.problems.len())
    }

    /// Steps of the plan's supervised stage; 0 without one.
    pub fn sft_steps(&self, recipe: &Recipe) -> usize {
        let context = self.config.max_position_embeddings;
        match (&recipe.sft, &self.sft) {
            (Some(plan), Some(data)) => supervised::steps(plan, data, recipe.seed, context),
            _ => 0,
        }
    }

    /// Reads the weights, or draws those of a fresh model.
    ///
    /// # Errors
    /// [`LoadError`] if the files have changed or hold numbers that are not finite.
    pub fn read_model(&self, key: Key) -> Result<Model, LoadError> {
        match &self.files {
            Some(files) => files.clone().read(),
            None => Ok(Model {
                config: self.config.clone(),
                parameters: Parameters::random(&self.config, key),
                tokenizer: self.tokenizer.clone(),
                chat_template: self.chat_template.clone(),
            }),
        }
    }
}

fn problems_error(section: String, source: ProblemsError) -> MaterialsError {
    MaterialsError::Problems {
        section,
        source: Box::new(source),
    }
}

impl NewModel {
    /// The shape with everything filled in, for a vocabulary.
    pub fn config(&self, tokenizer: &Tokenizer) -> ModelConfig {
        let family = match self.family {
            ModelFamily::Llama => Family::Llama,
            ModelFamily::Qwen2 => Family::Qwen2,
            ModelFamily::Qwen3 => Family::Qwen3,
            ModelFamily::Mistral => Family::Mistral,
        };
        ModelConfig {
            family,
            vocab_size: tokenizer.vocab_size(),
            hidden_size: self.hidden_size,
            intermediate_size: self.intermediate_size,
            layers: self.layers,
            heads: self.heads,
            kv_heads: self.kv_heads.unwrap_or(self.heads),
            head_dim: self.head_dim.unwrap_or(self.hidden_size / self.heads),
            rms_norm_eps: 1e-6,
            rope_theta: self.rope_theta,
            rope_scaling: None,
            max_position_embeddings: self.max_position_embeddings,
            tied: self.tied,
            qkv_bias: family == Family::Qwen2,
            qk_norm: family == Family::Qwen3,
            bos_token_id: tokenizer.bos_token_id(),
            eos_token_ids: tokenizer.eos_token_id().into_iter().collect(),
        }
    }
}
