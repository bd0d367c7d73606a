//! The operations as one writes them with candle's tensors.

use candle_core::backprop::GradStore;
use candle_core::{D, Device, Result, Shape, Tensor, Var};
use candle_nn::ops::{log_softmax, softmax};
use candle_nn::{AdamW, Optimizer};

pub(crate) fn tensor(values: &[f32], shape: impl Into<Shape>) -> Result<Tensor> {
    Tensor::from_slice(values, shape, &Device::Cpu)
}

pub(crate) fn variable(values: &[f32], shape: impl Into<Shape>) -> Result<Var> {
    Var::from_slice(values, shape, &Device::Cpu)
}

/// Gradient of `sum(y * dy)` by each variable.
pub(crate) fn gradients(y: &Tensor, dy: &Tensor, by: &[&Var]) -> Result<Vec<Tensor>> {
    gradients_of((y * dy)?.sum_all()?, by)
}

/// Gradient of a loss by each variable.
pub(crate) fn gradients_of(loss: Tensor, by: &[&Var]) -> Result<Vec<Tensor>> {
    let mut store = loss.backward()?;
    by.iter()
        .map(|var| {
            let gradient = store.remove(var.as_tensor());
            gradient.ok_or_else(|| candle_core::Error::msg("no gradient of a variable"))
        })
        .collect()
}

pub(crate) fn rms_norm(x: &Tensor, weight: &Tensor, epsilon: f64) -> Result<Tensor> {
    let mean_square = x.sqr()?.mean_keepdim(D::Minus1)?;
    x.broadcast_div(&(mean_square + epsilon)?.sqrt()?)?
        .broadcast_mul(weight)
}

/// `x` is `[rows, heads, width]`, the tables are `[rows, 1, width / 2]`.
pub(crate) fn rotary(x: &Tensor, cosines: &Tensor, sines: &Tensor) -> Result<Tensor> {
    let half = x.dim(2)? / 2;
    let (low, high) = (x.narrow(2, 0, half)?, x.narrow(2, half, half)?);
    let first = (low.broadcast_mul(cosines)? - high.broadcast_mul(sines)?)?;
    let second = (high.broadcast_mul(cosines)? + low.broadcast_mul(sines)?)?;
    Tensor::cat(&[first, second], 2)
}

/// `gate_up` is `[rows, 2 * width]`.
pub(crate) fn swiglu(gate_up: &Tensor, width: usize) -> Result<Tensor> {
    let (gate, up) = (
        gate_up.narrow(1, 0, width)?,
        gate_up.narrow(1, width, width)?,
    );
    gate.silu()? * up
}

/// Causal attention: `qkv` is `[sequences, tokens, heads + 2 * kv_heads, width]`, `mask` `[tokens, tokens]` of
/// 0 and minus infinity.
pub(crate) fn attention(qkv: &Tensor, kv_heads: usize, mask: &Tensor) -> Result<Tensor> {
    let (sequences, tokens, all, width) = qkv.dims4()?;
    let heads = all - 2 * kv_heads;
    let qkv = qkv.transpose(1, 2)?;
    // Each key-value head once for every query head that reads it.
    let repeated = |first: usize| {
        qkv.narrow(1, first, kv_heads)?
            .unsqueeze(2)?
            .expand((sequences, kv_heads, heads / kv_heads, tokens, width))?
            .reshape((sequences, heads, tokens, width))
    };
    let queries = qkv.narrow(1, 0, heads)?.contiguous()?;
    let (keys, values) = (repeated(heads)?, repeated(heads + kv_heads)?);
    let scores = (queries.matmul(&keys.t()?)? / (width as f64).sqrt())?;
    let weights = softmax(&scores.broadcast_add(mask)?, D::Minus1)?;
    weights
        .matmul(&values)?
        .transpose(1, 2)?
        .reshape((sequences * tokens, heads * width))
}

/// Log-probs of `targets` (`[rows]`) and entropies, each `[rows]`, from `[rows, hidden]` states and the
/// `[vocabulary, hidden]` output projection.
pub(crate) fn logprobs(
    hidden: &Tensor,
    projection: &Tensor,
    targets: &Tensor,
) -> Result<[Tensor; 2]> {
    let all = log_softmax(&hidden.matmul(&projection.t()?)?, D::Minus1)?;
    let chosen = all.gather(&targets.unsqueeze(1)?, 1)?.squeeze(1)?;
    let entropies = (all.exp()? * &all)?.sum(D::Minus1)?.neg()?;
    Ok([chosen, entropies])
}

/// Scales gradients to a global norm of at most 1 and updates: one optimizer for matrices, which decay,
/// one for vectors.
pub(crate) struct ClippedAdamW {
    pub(crate) variables: Vec<Var>,
    pub(crate) optimizers: [AdamW; 2],
    pub(crate) store: GradStore,
}

impl ClippedAdamW {
    pub(crate) fn step(&mut self, gradients: &[Tensor]) -> Result<()> {
        let mut squares = 0.0;
        for gradient in gradients {
            squares += f64::from(gradient.sqr()?.sum_all()?.to_scalar::<f32>()?);
        }
        let scale = (1.0 / squares.sqrt()).min(1.0);
        for (variable, gradient) in self.variables.iter().zip(gradients) {
            self.store.insert(variable, (gradient * scale)?);
        }
        self.optimizers
            .iter_mut()
            .try_for_each(|optimizer| optimizer.step(&self.store))
    }
}
