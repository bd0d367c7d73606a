//! How long a step takes, before the first one.

use super::budget::{Budget, recomputes};
use super::machine::free_memory;
use super::plan::Recipe;
use seele_policy::config::ModelConfig;
use seele_policy::kernels::matmul::{Compute, Packed, matmul};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Time for the products that one rate is taken from.
const MEASURED: Duration = Duration::from_millis(60);
/// Multiplications of one such product, at most: a fraction of a second on any machine.
const MOST_PRODUCTS: usize = 1 << 29;
/// Columns of the factor that is measured, at most: more are not faster.
const MOST_COLUMNS: usize = 2048;

/// Time of a training step, estimated: the multiplications that it needs at most, in the time that this
/// machine took for products of the model's size just now. Verification, evaluation and checkpoints come
/// on top; rollouts that end early and whatever else the machine does take it away or add to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Sampling: prompts and solutions once, then token by token.
    pub rollout: Duration,
    /// Going forward and backward, the reference policy included.
    pub update: Duration,
}

impl Pace {
    /// Measures for a fifth of a second on as many threads as the recipe has; `None` where those cannot be
    /// had.
    pub fn estimate(recipe: &Recipe, config: &ModelConfig, budget: &Budget) -> Option<Self> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(recipe.threads)
            .build()
            .ok()?;
        let rate = |rows: u64| pool.install(|| seconds_of_product(config, recipe, rows as usize));
        let rollout = &recipe.rollout;
        let decoded_rows = budget
            .rollouts_per_step
            .min(rollout.max_active_branches as u64);
        let trained = budget.trained_tokens_per_step;
        let trained_rows = trained.min(recipe.update.tokens_per_microbatch as u64);
        let (decoding, training) = (rate(decoded_rows), rate(trained_rows));

        let trunk = (budget.longest_prompt + budget.longest_solution) as u64;
        let work = Work::of(config);
        let trunks = rollout.problems_per_step as u64 * trunk;
        let response = rollout.max_new_tokens as u64;
        let sampling = match budget.generated_tokens_per_step {
            0 => 0.0,
            tokens => {
                decoding * work.forward(tokens, trunk + response / 2)
                    + training * work.forward(trunks, trunk / 2)
            }
        };

        // Backward takes two products for each of forward; what was not kept goes forward again.
        let again = recomputes(recipe, config, trained as usize, free_memory());
        let passes = 3.0 + if again { 1.0 } else { 0.0 };
        let reference = match recipe.objective.needs_reference() {
            true => 1.0 / recipe.update.passes as f64,
            false => 0.0,
        };
        let update =
            training * work.forward(trained, (trunk + response) / 2) * (passes + reference);
        Some(Self {
            rollout: Duration::try_from_secs_f64(sampling).ok()?,
            update: Duration::try_from_secs_f64(update).ok()?,
        })
    }

    /// Both together.
    pub fn step(&self) -> Duration {
        self.rollout.saturating_add(self.update)
    }
}

/// Multiplications that a model needs.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Work {
    /// With weights, a token.
    weights: f64,
    /// With keys and values, a token and a token that it attends to.
    attention: f64,
}

impl Work {
    fn of(config: &ModelConfig) -> Self {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let (queries, keys) = (
            config.heads * config.head_dim,
            config.kv_heads * config.head_dim,
        );
        let block = hidden * (2 * queries + 2 * keys + 3 * inner);
        Self {
            weights: (config.layers * block + config.vocab_size * hidden) as f64,
            attention: (2 * config.layers * queries) as f64,
        }
    }

    /// Of `tokens` that attend to `context` tokens each on average.
    fn forward(&self, tokens: u64, context: u64) -> f64 {
        tokens as f64 * (self.weights + self.attention * context as f64)
    }
}

/// Seconds of one multiplication in products of `rows` rows with a matrix of the feed-forward layer.
fn seconds_of_product(config: &ModelConfig, recipe: &Recipe, rows: usize) -> f64 {
    let compute: Compute = recipe.decoder_options().compute;
    let depth = config.hidden_size.max(1);
    let columns = config.intermediate_size.clamp(1, MOST_COLUMNS);
    let rows = rows.clamp(1, (MOST_PRODUCTS / (depth * columns)).max(1));
    let weight = vec![0.5; depth * columns];
    let packed = Packed::transposed(&weight, columns, depth, compute);
    let (left, mut out) = (vec![0.5; rows * depth], vec![0.0; rows * columns]);
    // The first one is for caches and threads.
    matmul(&left, &packed, &mut out);
    let begun = Instant::now();
    let mut products = 0;
    while products == 0 || begun.elapsed() < MEASURED {
        matmul(black_box(&left), &packed, &mut out);
        black_box(&mut out);
        products += 1;
    }
    begun.elapsed().as_secs_f64() / (products * rows * depth * columns) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::Recipe;
    use std::fs;

    const RECIPE: &str = r#"
method = "grpo"
steps = 3
threads = 1
[model.new]
hidden_size = 16
layers = 2
heads = 2
intermediate_size = 32
max_position_embeddings = 64
[data]
template = "bare"
arithmetic = { operations = { min = 1, max = 2 }, count = 6 }
[rollout]
problems_per_step = 2
rollouts_per_problem = 4
max_new_tokens = 8
"#;

    #[test]
    fn every_weight_but_the_embedding_multiplies_every_token_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("r.toml");
        fs::write(&file, RECIPE).unwrap();
        let recipe = Recipe::load(&file, &["model.new.tied=true".into()]).unwrap();
        let config = recipe.open().unwrap().config;
        let work = Work::of(&config);
        // Tied, the embedding is the output projection too; norms multiply as well, but are few.
        let norms = (2 * config.layers + 1) * config.hidden_size;
        let weights = seele_policy::parameters::Layout::of(&config).len() - norms;
        assert_eq!(work.weights, weights as f64);
        assert_eq!(work.attention, (2 * 2 * 16) as f64);
        assert_eq!(work.forward(10, 5), 10.0 * (weights as f64 + 5.0 * 64.0));
    }

    #[test]
    fn a_step_of_any_recipe_takes_some_time() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("r.toml");
        fs::write(&file, RECIPE).unwrap();
        let recipe = Recipe::load(&file, &[]).unwrap();
        let materials = recipe.open().unwrap();
        let budget = Budget::of(&recipe, &materials);
        let pace = Pace::estimate(&recipe, &materials.config, &budget).unwrap();
        assert!(pace.rollout > Duration::ZERO && pace.update > Duration::ZERO);
        assert_eq!(pace.step(), pace.rollout + pace.update);
    }
}
