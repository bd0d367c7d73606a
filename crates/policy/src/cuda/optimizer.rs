//! The optimizer on a device: the gradient's norm, AdamW in one pass over memory, and what goes to and from
//! checkpoints.

use super::backend::Argument::{At, Float, Long};
use super::backend::SUM_SQUARES;
use super::device::DeviceDecoder;
use super::memory::{Memory, bytes_of, bytes_of_mut};
use super::state::{Learning, State};
use crate::adamw::{AdamW, AdamWSettings};
use crate::device::DeviceError;
use crate::parameters::Parameters;

/// Partial sums of the gradient's norm.
const PARTS: usize = 1024;

impl State {
    fn learning(&self) -> &Learning {
        self.learning
            .as_ref()
            .expect("only a decoder that trains is asked for its gradient")
    }
}

/// Asking a decoder that was not made to be trained for any of these is a mistake of the caller's and panics.
impl DeviceDecoder {
    /// Euclidean norm of the gradient, in double precision.
    ///
    /// # Errors
    /// [`DeviceError::Failed`].
    pub fn gradient_norm(&self) -> Result<f64, DeviceError> {
        let state = self.lock();
        let gradient = &state.learning().gradient;
        let parts = Memory::new(&state.backend, PARTS * size_of::<f64>())?;
        let count = gradient.bytes / size_of::<f32>();
        let arguments = [At(gradient.at), Long(count as i64), At(parts.at)];
        state
            .backend
            .launch(SUM_SQUARES, [PARTS, 1], 256, &arguments)?;
        let mut sums = vec![0.0f64; PARTS];
        state.backend.download(parts.at, bytes_of_mut(&mut sums))?;
        Ok(sums.iter().sum::<f64>().sqrt())
    }

    /// Forgets the gradient.
    ///
    /// # Errors
    /// [`DeviceError::Failed`].
    pub fn clear_gradient(&self) -> Result<(), DeviceError> {
        let state = self.lock();
        let gradient = &state.learning().gradient;
        state.backend.clear(gradient.at, gradient.bytes)
    }

    /// One AdamW update with the gradient, as [`AdamW::step`]; `steps` counts updates, this one included.
    ///
    /// # Errors
    /// [`DeviceError::Failed`].
    pub fn step(
        &self,
        settings: &AdamWSettings,
        learning_rate: f64,
        gradient_scale: f64,
        steps: u64,
    ) -> Result<(), DeviceError> {
        let state = self.lock();
        let learning = state.learning();
        let steps = steps.min(i32::MAX as u64) as i32;
        let step = learning_rate / (1.0 - settings.beta1.powi(steps));
        let root = 1.0 / (1.0 - settings.beta2.powi(steps)).sqrt();
        for tensor in &state.weights.tensors {
            let keep = match tensor.decays {
                true => 1.0 - learning_rate * settings.weight_decay,
                false => 1.0,
            };
            let (count, place) = (tensor.range.len(), 4 * tensor.range.start as u64);
            let constants = [
                settings.beta1,
                settings.beta2,
                settings.epsilon,
                keep,
                step,
                root,
            ];
            let mut arguments = vec![
                At(state.weights.masters.at + place),
                At(learning.first_moment.at + place),
                At(learning.second_moment.at + place),
                At(learning.gradient.at + place),
                Long(count as i64),
                Float(gradient_scale as f32),
            ];
            arguments.extend(constants.map(|constant| Float(constant as f32)));
            arguments.push(At(tensor.copy));
            state
                .backend
                .launch("adamw", [count.div_ceil(256), 1], 256, &arguments)?;
        }
        Ok(())
    }

    /// Copies the weights to the host.
    ///
    /// # Errors
    /// [`DeviceError::InvalidInput`] if they are another model's, [`DeviceError::Failed`].
    pub fn read_parameters(&self, parameters: &mut Parameters) -> Result<(), DeviceError> {
        let state = self.lock();
        let masters = &state.weights.masters;
        masters.check_size(&parameters.values)?;
        state
            .backend
            .download(masters.at, bytes_of_mut(&mut parameters.values))
    }

    /// The gradient, as the flat buffer of parameters is laid out.
    ///
    /// # Errors
    /// [`DeviceError::Failed`].
    pub fn gradient(&self) -> Result<Vec<f32>, DeviceError> {
        let state = self.lock();
        let gradient = &state.learning().gradient;
        let mut values = vec![0.0f32; gradient.bytes / size_of::<f32>()];
        state
            .backend
            .download(gradient.at, bytes_of_mut(&mut values))?;
        Ok(values)
    }

    /// Copies the moments to the host's optimizer; its count of steps stays.
    ///
    /// # Errors
    /// [`DeviceError::InvalidInput`] if they are another model's, [`DeviceError::Failed`].
    pub fn read_moments(&self, optimizer: &mut AdamW) -> Result<(), DeviceError> {
        let state = self.lock();
        let learning = state.learning();
        let moments = [
            (&learning.first_moment, &mut optimizer.first_moment),
            (&learning.second_moment, &mut optimizer.second_moment),
        ];
        for (from, to) in moments {
            from.check_size(to)?;
            state.backend.download(from.at, bytes_of_mut(to))?;
        }
        Ok(())
    }

    /// Takes over the moments of the host's optimizer.
    ///
    /// # Errors
    /// [`DeviceError::InvalidInput`] if they are another model's, [`DeviceError::Failed`].
    pub fn write_moments(&self, optimizer: &AdamW) -> Result<(), DeviceError> {
        let state = self.lock();
        let learning = state.learning();
        let moments = [
            (&learning.first_moment, &optimizer.first_moment),
            (&learning.second_moment, &optimizer.second_moment),
        ];
        for (to, from) in moments {
            to.check_size(from)?;
            state.backend.upload(to.at, bytes_of(from))?;
        }
        Ok(())
    }
}
