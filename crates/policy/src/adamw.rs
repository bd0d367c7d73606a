//! AdamW with decoupled weight decay, in float32 with double-precision step constants.

use crate::kernels::buffers::prefer_huge_pages;
use crate::kernels::multiversion;
use crate::parameters::Parameters;
use rayon::prelude::*;

/// Elements one task updates at a time.
const BLOCK: usize = 1 << 14;

/// Constants of the update (Loshchilov and Hutter, arXiv 1711.05101).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWSettings {
    /// Decay of the first moment, in `[0, 1)`.
    pub beta1: f64,
    /// Decay of the second moment, in `[0, 1)`.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Share of a weight taken off per unit of learning rate; matrices only, not norms and biases.
    pub weight_decay: f64,
}

/// Moments of every parameter.
#[derive(Clone, Debug)]
pub struct AdamW {
    /// Running mean of gradients, laid out like the parameters.
    pub first_moment: Vec<f32>,
    /// Running mean of squared gradients.
    pub second_moment: Vec<f32>,
    /// Updates made.
    pub steps: u64,
}

impl AdamW {
    /// Zero moments for `len` parameters.
    pub fn new(len: usize) -> Self {
        let zeros = || {
            let mut zeros = vec![0.0; len];
            prefer_huge_pages(&mut zeros);
            zeros
        };
        Self {
            first_moment: zeros(),
            second_moment: zeros(),
            steps: 0,
        }
    }

    /// One update in one pass over memory, which leaves the gradient zero for the next; `gradient_scale`
    /// multiplies the gradient (norm clipping).
    pub fn step(
        &mut self,
        settings: &AdamWSettings,
        learning_rate: f64,
        gradient_scale: f64,
        parameters: &mut Parameters,
        gradient: &mut [f32],
    ) {
        self.steps += 1;
        let steps = self.steps.min(i32::MAX as u64) as i32;
        let correction1 = 1.0 - settings.beta1.powi(steps);
        let correction2 = 1.0 - settings.beta2.powi(steps);
        let mut constants = Constants {
            betas: [settings.beta1 as f32, settings.beta2 as f32],
            step: (learning_rate / correction1) as f32,
            root: (1.0 / correction2.sqrt()) as f32,
            epsilon: settings.epsilon as f32,
            scale: gradient_scale as f32,
            keep: 1.0,
        };
        let layout = parameters.layout().clone();
        for spec in layout.tensors() {
            let range = spec.range();
            let decays = spec.shape.len() > 1;
            constants.keep = if decays {
                (1.0 - learning_rate * settings.weight_decay) as f32
            } else {
                1.0
            };
            let weights = parameters.values[range.clone()].par_chunks_mut(BLOCK);
            let firsts = self.first_moment[range.clone()].par_chunks_mut(BLOCK);
            let seconds = self.second_moment[range.clone()].par_chunks_mut(BLOCK);
            let gradients = gradient[range].par_chunks_mut(BLOCK);
            weights
                .zip(firsts)
                .zip(seconds)
                .zip(gradients)
                .for_each(|(((w, m), v), g)| update(constants, w, m, v, g));
        }
    }
}

/// What an update does to every element.
#[derive(Clone, Copy)]
struct Constants {
    betas: [f32; 2],
    step: f32,
    root: f32,
    epsilon: f32,
    scale: f32,
    /// Share of a weight that decay leaves.
    keep: f32,
}

multiversion! {
    fn update(constants: Constants, weights: &mut [f32], firsts: &mut [f32], seconds: &mut [f32], gradient: &mut [f32]) {
        let Constants { betas: [b1, b2], step, root, epsilon, scale, keep } = constants;
        for (((w, m), v), g) in weights.iter_mut().zip(firsts).zip(seconds).zip(gradient) {
            let scaled = *g * scale;
            *m = b1 * *m + (1.0 - b1) * scaled;
            *v = b2 * *v + (1.0 - b2) * scaled * scaled;
            *w = *w * keep - step * *m / (v.sqrt() * root + epsilon);
            *g = 0.0;
        }
    }
}

/// Euclidean norm of a gradient, in double precision; the same for any number of threads.
pub fn global_norm(gradient: &[f32]) -> f64 {
    let blocks: Vec<f64> = gradient.par_chunks(BLOCK).map(sum_of_squares).collect();
    blocks.iter().sum::<f64>().sqrt()
}

multiversion! {
    /// In 16 partial sums.
    fn sum_of_squares(values: &[f32]) -> f64 {
        let mut lanes = [0.0f64; 16];
        for chunk in values.chunks(16) {
            for (lane, &v) in lanes.iter_mut().zip(chunk) {
                *lane += f64::from(v) * f64::from(v);
            }
        }
        lanes.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameters::Layout;
    use std::sync::Arc;

    #[test]
    fn first_step_moves_each_weight_by_the_learning_rate_and_decays_matrices_only() {
        let config = crate::decoder::tiny_config();
        let mut parameters = Parameters::zeros(Arc::new(Layout::of(&config)));
        parameters.values.fill(1.0);
        let mut gradient = vec![0.5; parameters.values.len()];
        let settings = AdamWSettings {
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.1,
        };
        let mut optimizer = AdamW::new(gradient.len());
        optimizer.step(&settings, 0.01, 1.0, &mut parameters, &mut gradient);
        assert!(gradient.iter().all(|&g| g == 0.0));
        let norm = parameters.get("model.norm.weight").unwrap()[0];
        let matrix = parameters.get("model.embed_tokens.weight").unwrap()[0];
        assert!(
            (norm - 0.99).abs() < 1e-6 && (matrix - 0.989).abs() < 1e-6,
            "{norm} {matrix}"
        );
    }

    #[test]
    fn norm_of_ones_is_the_root_of_their_number() {
        assert_eq!(global_norm(&vec![1.0; 40_000]), 200.0);
    }
}
