//! A decoder on a device, behind the interface of the CPU's.
//!
//! A device reports errors late, so they wait here until [`Decoder::check`] tells the first; a pass that fails
//! gives zeros. One that the device has no room for leaves caches as they were, so that it can be tried again.

use super::cache::{BranchCache, TrunkCache};
use super::decoding::DecodeRow;
use super::options::DecoderOptions;
use super::training::{ScoreGradients, TokenScores};
use super::tree::TreeGroup;
use super::{Decoder, Place};
use crate::adamw::AdamWSettings;
use crate::config::ModelConfig;
use crate::cuda::{DecodeInput, Device, DeviceDecoder, DrawnToken, TokenRequest};
use crate::device::{DeviceError, Shortages};
use crate::kernels::softmax::extremes as extremes_of;
use crate::parameters::Parameters;
use std::sync::{Mutex, PoisonError};

/// A decoder on a device, and its first error.
pub(super) struct OnDevice {
    decoder: DeviceDecoder,
    failure: Mutex<Option<DeviceError>>,
}

/// What [`Decoder::draw_on_device`] gives: a token for every request, or nothing where the decoder is on the CPU.
pub type Draws = Option<Vec<DrawnToken>>;

impl Decoder {
    /// Copies a model's weights to a device. With `trains` it has a gradient and the optimizer's moments there,
    /// and [`Decoder::train`] leaves the gradient it is given alone.
    ///
    /// # Errors
    /// As [`DeviceDecoder::new`].
    pub fn on(
        device: &Device,
        config: &ModelConfig,
        parameters: &Parameters,
        options: DecoderOptions,
        trains: bool,
    ) -> Result<Self, DeviceError> {
        let decoder = DeviceDecoder::new(device, config, parameters, options, trains)?;
        Ok(Self {
            place: Place::Device(OnDevice {
                decoder,
                failure: Mutex::new(None),
            }),
        })
    }

    /// The decoder on a device, if it is on one.
    pub fn on_device(&self) -> Option<&DeviceDecoder> {
        match &self.place {
            Place::Host(_) => None,
            Place::Device(device) => Some(&device.decoder),
        }
    }

    /// The first error since it was last asked for; what passes gave since is worth nothing.
    ///
    /// # Errors
    /// That error.
    pub fn check(&self) -> Result<(), DeviceError> {
        match &self.place {
            Place::Host(_) => Ok(()),
            Place::Device(device) => device.failure().take().map_or(Ok(()), Err),
        }
    }

    /// Sees to it that [`Decoder::train`] will have the work memory for these groups. Whether it has; if not,
    /// train on fewer groups or branches at a time.
    ///
    /// # Errors
    /// [`DeviceError`]; [`DeviceError::OutOfMemory`] where there is no room for a single trunk with one branch.
    pub fn has_room(&self, groups: &[TreeGroup<'_>]) -> Result<bool, DeviceError> {
        let Some(device) = self.on_device() else {
            return Ok(true);
        };
        let sequences = groups.iter().map(|group| group.branches.len().max(1));
        let divisible = sequences.sum::<usize>() > 1;
        match device.reserve(groups) {
            Err(DeviceError::OutOfMemory { .. }) if divisible => {
                device.note(Shortages {
                    microbatches: 1,
                    ..Shortages::default()
                });
                Ok(false)
            }
            reserved => reserved.map(|()| true),
        }
    }

    /// Clips the gathered gradient on the device, takes an optimizer step there, the `steps`-th, and clears the
    /// gradient; returns the norm before clipping, `None` where the decoder is on the CPU. A norm that is not
    /// finite leaves the policy as it is, and `steps` too.
    pub fn apply_on_device(
        &self,
        settings: &AdamWSettings,
        learning_rate: f64,
        max_norm: Option<f64>,
        steps: &mut u64,
    ) -> Option<f64> {
        let Place::Device(device) = &self.place else {
            return None;
        };
        let on = &device.decoder;
        let mut apply = || {
            let norm = on.gradient_norm()?;
            if norm.is_finite() {
                let scale = match max_norm {
                    Some(most) if norm > most => most / norm,
                    _ => 1.0,
                };
                *steps += 1;
                on.step(settings, learning_rate, scale, *steps)?;
            }
            on.clear_gradient()?;
            Ok(norm)
        };
        Some(apply().unwrap_or_else(|error| {
            device.is_done(Err(error));
            f64::NAN
        }))
    }

    /// Forgets the gradient on the device, if there is one.
    pub fn clear_gradient_on_device(&self) {
        if let Place::Device(device) = &self.place {
            device.is_done(device.decoder.clear_gradient());
        }
    }

    /// Draws a token for each of final-normed hidden states, `[rows, hidden_size]`, without moving logits.
    pub fn draw_on_device(&self, hidden: &[f32], requests: &[TokenRequest]) -> Draws {
        match &self.place {
            Place::Host(_) => None,
            Place::Device(device) => Some(device.draw(hidden, requests)),
        }
    }
}

impl OnDevice {
    pub(super) fn decoder(&self) -> &DeviceDecoder {
        &self.decoder
    }

    fn failure(&self) -> std::sync::MutexGuard<'_, Option<DeviceError>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it worked; if not, the error waits to be asked for.
    fn is_done(&self, outcome: Result<(), DeviceError>) -> bool {
        match outcome {
            Ok(()) => true,
            Err(error) => {
                self.failure().get_or_insert(error);
                false
            }
        }
    }

    pub(super) fn update(&self, parameters: &Parameters) {
        self.is_done(self.decoder.update(parameters));
    }

    pub(super) fn extend_trunk(&self, trunk: &mut TrunkCache, tokens: &[u32]) {
        let (before, width) = (trunk.len, self.decoder.config().hidden_size);
        let pages = &mut trunk.pages.on_device;
        let outcome = self
            .decoder
            .prefill(pages, before, tokens, &mut trunk.hidden);
        if !is_out_of_memory(&outcome) {
            trunk.len += tokens.len();
        }
        self.is_done(outcome);
        trunk.hidden.resize(trunk.len * width, 0.0);
    }

    pub(super) fn decode(&self, rows: &mut [DecodeRow<'_>], hidden: &mut Vec<f32>) {
        let mut inputs: Vec<DecodeInput<'_>> = rows
            .iter_mut()
            .map(|row| {
                let BranchCache { pages, fork, len } = &mut *row.branch;
                DecodeInput {
                    trunk: &row.trunk.pages.on_device,
                    fork: *fork,
                    own: &mut pages.on_device,
                    len: *len,
                    token: row.token,
                }
            })
            .collect();
        let outcome = self.decoder.decode(&mut inputs, hidden);
        drop(inputs);
        if !is_out_of_memory(&outcome) {
            rows.iter_mut().for_each(|row| row.branch.len += 1);
        }
        self.is_done(outcome);
        hidden.resize(rows.len() * self.decoder.config().hidden_size, 0.0);
    }

    pub(super) fn logits_with_extremes(
        &self,
        hidden: &[f32],
        logits: &mut Vec<f32>,
        extremes: &mut Vec<[f32; 2]>,
    ) {
        let config = self.decoder.config();
        self.is_done(self.decoder.logits(hidden, logits));
        logits.resize(hidden.len() / config.hidden_size * config.vocab_size, 0.0);
        extremes.clear();
        extremes.extend(logits.chunks_exact(config.vocab_size).map(extremes_of));
    }

    fn draw(&self, hidden: &[f32], requests: &[TokenRequest]) -> Vec<DrawnToken> {
        let mut drawn = Vec::new();
        let outcome = self.decoder.draw(hidden, requests);
        self.is_done(outcome.map(|found| drawn = found));
        let nothing = DrawnToken {
            token: 0,
            logprob: 0.0,
        };
        drawn.resize(requests.len(), nothing);
        drawn
    }

    /// Halves of the groups where the device has no room for all.
    pub(super) fn evaluate(&self, groups: &[TreeGroup<'_>], temperature: f32) -> TokenScores {
        match self.decoder.evaluate(groups, temperature) {
            Ok(scores) => scores,
            Err(DeviceError::OutOfMemory { .. }) if groups.len() > 1 => {
                self.decoder.note(Shortages {
                    parts: 1,
                    ..Shortages::default()
                });
                let (first, second) = groups.split_at(groups.len() / 2);
                let mut scores = self.evaluate(first, temperature);
                let second = self.evaluate(second, temperature);
                scores.logprobs.extend(second.logprobs);
                scores.entropies.extend(second.entropies);
                scores
            }
            Err(error) => {
                self.is_done(Err(error));
                nothing(groups)
            }
        }
    }

    pub(super) fn train<E>(
        &self,
        groups: &[TreeGroup<'_>],
        temperature: f32,
        loss: impl FnOnce(&TokenScores) -> Result<ScoreGradients, E>,
    ) -> Result<TokenScores, E> {
        match self.decoder.train(groups, temperature, |scores| {
            loss(scores).map_err(Stop::Loss)
        }) {
            Ok(scores) => Ok(scores),
            Err(Stop::Loss(error)) => Err(error),
            Err(Stop::Device(error)) => {
                self.is_done(Err(error));
                Ok(nothing(groups))
            }
        }
    }

    pub(super) fn projection_bytes(&self) -> usize {
        let config = self.decoder.config();
        let shapes = super::footprint::block_shapes(config).into_iter();
        let block: usize = shapes.map(|[out, depth]| out * depth).sum();
        let numbers = config.layers * block + config.vocab_size * config.hidden_size;
        numbers * self.decoder.number_bytes()
    }

    pub(super) fn run_products(&self, rows: usize) {
        self.is_done(self.decoder.run_products(rows));
    }
}

fn is_out_of_memory(outcome: &Result<(), DeviceError>) -> bool {
    matches!(outcome, Err(DeviceError::OutOfMemory { .. }))
}

/// Why a training pass ended early.
enum Stop<E> {
    Loss(E),
    Device(DeviceError),
}

impl<E> From<DeviceError> for Stop<E> {
    fn from(error: DeviceError) -> Self {
        Self::Device(error)
    }
}

/// Scores of the right length.
fn nothing(groups: &[TreeGroup<'_>]) -> TokenScores {
    let slots = groups.iter().map(TreeGroup::slots).sum();
    TokenScores {
        logprobs: vec![0.0; slots],
        entropies: vec![0.0; slots],
    }
}
