//! Sections whose written form is also the form that runs.

use serde::{Deserialize, Serialize};

/// Number type of the factors of matrix products. Sums, activations, master weights and moments are always
/// float32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compute {
    /// 32-bit.
    #[default]
    F32,
    /// bfloat16 with float32 accumulation.
    Bf16,
}

/// Number type of a saved model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SaveType {
    /// 32-bit: loads back exactly.
    #[default]
    F32,
    /// bfloat16: half the size.
    Bf16,
}

/// What the backward pass keeps and what it computes again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Recompute {
    /// Keep every intermediate that the backward pass reads: fastest, most memory.
    None,
    /// Keep the input of each block and compute the block again: about a fifth more arithmetic.
    Block,
    /// Keep the intermediates of as many blocks as fit in half of the memory that is free.
    #[default]
    Auto,
}

/// How the rounds of a step's problems follow each other; results do not depend on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rounds {
    /// Each problem's next round starts when its own round is verified.
    #[default]
    Independent,
    /// A round starts when all problems have finished theirs: for comparison.
    LockStep,
}

/// Where the log-probs of the policy that sampled come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OldLogprobs {
    /// Those recorded while sampling; on a CPU they have the trainer's bits.
    #[default]
    Recorded,
    /// A forward pass of the trainer before the first update.
    Recomputed,
}

/// What becomes of a problem that does not fit the model's context or `max_prompt_tokens`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TooLong {
    /// The run does not start.
    #[default]
    Refuse,
    /// It is left out, and counted.
    Skip,
}

/// Architecture of a fresh model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModelFamily {
    /// Llama 2 and 3.
    #[default]
    Llama,
    /// Qwen2 and 2.5: bias on q, k and v.
    Qwen2,
    /// Qwen3: norm on each head of q and k.
    Qwen3,
    /// Mistral.
    Mistral,
}

/// Tokenizer of a fresh model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NewTokenizer {
    /// One token a character of `alphabet`.
    #[default]
    Characters,
}

/// `[model.new]`: a model with random weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NewModel {
    /// Architecture.
    #[serde(default)]
    pub family: ModelFamily,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key-value heads; divides `heads`. Default: `heads`.
    #[serde(default)]
    pub kv_heads: Option<usize>,
    /// Width of one head, even. Default: `hidden_size / heads`.
    #[serde(default)]
    pub head_dim: Option<usize>,
    /// Width of the feed-forward layer.
    pub intermediate_size: usize,
    /// Longest sequence, tokens.
    pub max_position_embeddings: usize,
    /// The output projection is the embedding.
    #[serde(default = "yes")]
    pub tied: bool,
    /// Base of the rotary frequencies.
    #[serde(default = "ten_thousand")]
    pub rope_theta: f64,
    /// Tokenizer.
    #[serde(default)]
    pub tokenizer: NewTokenizer,
    /// Characters the tokenizer knows. Default: all that the prompts and solutions of the recipe's
    /// problems hold.
    #[serde(default)]
    pub alphabet: Option<String>,
}

fn yes() -> bool {
    true
}

fn ten_thousand() -> f64 {
    10_000.0
}

/// `[optimizer]`: AdamW with decoupled weight decay. The learning rate has a section of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct OptimizerConfig {
    /// Decay of the first moment, `0..1`.
    pub beta1: f64,
    /// Decay of the second moment, `0..1`.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Decoupled decay per unit of learning rate; norms and biases are not decayed.
    pub weight_decay: f64,
    /// Gradients with a larger global L2 norm are scaled down to it; `off` turns clipping off.
    pub max_grad_norm: Option<f64>,
    /// Updates in a row that may be left out because a loss or gradient is not finite; then the run ends.
    pub max_skipped_updates: usize,
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.01,
            max_grad_norm: Some(1.0),
            max_skipped_updates: 10,
        }
    }
}

/// `[save]`: checkpoints and models.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SaveConfig {
    /// Write a checkpoint every so many steps of either stage; `off`: only at the end and when stopped.
    pub every_steps: Option<usize>,
    /// Number type of the weights in Hugging Face layout. A run goes on from float32 weights either way.
    pub dtype: SaveType,
    /// Newest checkpoints that stay.
    pub keep_last: usize,
    /// Checkpoints of every so many steps stay too.
    pub keep_every: Option<usize>,
    /// Write a checkpoint whenever this metric is higher than ever before, and keep it until it is beaten:
    /// `reward/mean` or `eval/<set>/accuracy`.
    pub keep_best: Option<String>,
    /// Write from a copy in memory while training goes on; `false` saves that memory and waits.
    pub beside_training: bool,
}

impl Default for SaveConfig {
    fn default() -> Self {
        Self {
            every_steps: None,
            dtype: SaveType::default(),
            keep_last: 3,
            keep_every: None,
            keep_best: None,
            beside_training: true,
        }
    }
}
