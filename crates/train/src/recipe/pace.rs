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

/// Time of a training step, estimated: the multiplications that it needs, in the time that this machine took for
/// products of the model's size just now. Verification, evaluation and checkpoints come on top; whatever else
/// the machine does takes some of it away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// With rollouts as long as the reference solutions; `None` where there are no solutions.
    pub likely: Option<StepTime>,
    /// With rollouts that are never cut short and problems all as long as the longest.
    pub most: StepTime,
}

/// Where the time of a step goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepTime {
    /// Sampling: prompts and solutions once, then token by token.
    pub rollout: Duration,
    /// Going forward and backward, the reference policy included.
    pub update: Duration,
}

impl StepTime {
    /// Both together.
    pub fn total(&self) -> Duration {
        self.rollout.saturating_add(self.update)
    }
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
        let at_a_time = recipe.rollout.max_active_branches as u64;
        let trained = budget.trained_tokens_per_step;
        let speed = Speed {
            recipe,
            work: Work::of(config),
            decoding: rate(budget.rollouts_per_step.min(at_a_time)),
            training: rate(trained.min(recipe.update.tokens_per_microbatch as u64)),
            again: recomputes(recipe, config, trained as usize, free_memory()),
            rollouts: budget.rollouts_per_step,
        };
        let longest = recipe.rollout.max_new_tokens as f64;
        let likely = budget.mean_solution.and_then(|solution| {
            // With the end token.
            let response = longest.min(solution + 1.0);
            speed.step(budget.mean_prompt + solution, response)
        });
        let trunk = (budget.longest_prompt + budget.longest_solution) as f64;
        Some(Self {
            likely,
            most: speed.step(trunk, longest)?,
        })
    }
}

/// What a step's time follows from.
struct Speed<'a> {
    recipe: &'a Recipe,
    work: Work,
    /// Seconds of a multiplication, of as many rows as decode and train at a time.
    decoding: f64,
    training: f64,
    /// Whether the backward pass computes parts of the forward pass again.
    again: bool,
    /// Of a step.
    rollouts: u64,
}

impl Speed<'_> {
    /// The time of a step whose trunks and responses have so many tokens each; `None` if it is beyond all bounds.
    fn step(&self, trunk: f64, response: f64) -> Option<StepTime> {
        let Self {
            recipe,
            work,
            decoding,
            training,
            ..
        } = self;
        let trunks = recipe.rollout.problems_per_step as f64 * trunk;
        let generated = self.rollouts as f64 * response;
        let sampling = match self.rollouts {
            0 => 0.0,
            _ => {
                decoding * work.forward(generated, trunk + response / 2.0)
                    + training * work.forward(trunks, trunk / 2.0)
            }
        };
        // Backward takes two products for each of forward; what was not kept goes forward again.
        let again = if self.again { 1.0 } else { 0.0 };
        let reference = match recipe.objective.needs_reference() {
            true => 1.0,
            false => 0.0,
        };
        let passes = recipe.update.passes as f64 * (3.0 + again) + reference;
        let pass = work.forward(generated + trunks, (trunk + response) / 2.0);
        Some(StepTime {
            rollout: Duration::try_from_secs_f64(sampling).ok()?,
            update: Duration::try_from_secs_f64(training * pass * passes).ok()?,
        })
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
    fn forward(&self, tokens: f64, context: f64) -> f64 {
        tokens * (self.weights + self.attention * context)
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
        assert_eq!(
            work.forward(10.0, 5.0),
            10.0 * (weights as f64 + 5.0 * 64.0)
        );
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
        let (likely, most) = (pace.likely.unwrap(), pace.most);
        for time in [likely, most] {
            assert!(time.rollout > Duration::ZERO && time.update > Duration::ZERO);
            assert_eq!(time.total(), time.rollout + time.update);
        }
        assert!(likely.rollout < most.rollout && likely.update < most.update);
    }
}
