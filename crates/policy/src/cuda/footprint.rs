//! What a model will hold on a device, and how many calls its passes make, found by going through them without one.

use super::backend::{Rehearsal, Shape, Tiles};
use super::cache::{DevicePages, lock_pool};
use super::decoding::{DecodeInput, TokenRequest};
use super::device::{DeviceDecoder, check};
use crate::config::ModelConfig;
use crate::decoder::{DecoderOptions, TreeGroup};
use crate::device::{DecodingCalls, DeviceError};
use crate::parameters::Layout;
use std::sync::Arc;

/// A decoder on no device.
pub struct Footprint {
    decoder: DeviceDecoder,
    rehearsal: Arc<Rehearsal>,
    /// Bytes of weights, gradient and moments.
    lasting: usize,
}

impl Footprint {
    /// That of a model with these options; with `trains`, with a gradient and moments.
    ///
    /// # Errors
    /// [`DeviceError::Unsupported`] if the kernels are not made for the model.
    pub fn of(
        config: &ModelConfig,
        options: DecoderOptions,
        trains: bool,
    ) -> Result<Self, DeviceError> {
        check(config)?;
        let rehearsal = Arc::new(Rehearsal::new(Shape {
            compute: options.compute,
            head: config.head_dim,
            // Shared memory is not counted.
            tiles: Tiles::Large,
        }));
        let layout = Layout::of(config);
        let backend = Arc::clone(&rehearsal);
        let decoder = DeviceDecoder::on("", backend, config, &layout, options, trains)?;
        Ok(Self {
            decoder,
            lasting: rehearsal.held(),
            rehearsal,
        })
    }

    /// Bytes that are held as long as the decoder: weights, gradient and moments.
    pub fn decoder_bytes(&self) -> usize {
        self.lasting
    }

    /// Bytes of a page of keys and values.
    pub fn page_bytes(&self) -> usize {
        self.decoder.page_bytes()
    }

    /// Bytes of the work memory of a forward and backward pass over these groups.
    ///
    /// # Errors
    /// [`DeviceError::Unsupported`] if they do not fit the model's context.
    pub fn training_bytes(&self, groups: &[TreeGroup<'_>]) -> Result<usize, DeviceError> {
        self.decoder.reserve(groups)?;
        let bytes = self.rehearsal.held() - self.lasting;
        self.decoder.release_work();
        Ok(bytes)
    }

    /// Bytes of the work memory of so many branches of trunks of so many tokens, keys and values left out.
    ///
    /// # Errors
    /// As [`training_bytes`](Self::training_bytes).
    pub fn sampling_bytes(
        &self,
        trunk_tokens: usize,
        branches: usize,
    ) -> Result<usize, DeviceError> {
        let mut trunk = DevicePages::default();
        self.decode(&mut trunk, trunk_tokens, branches)?;
        let bytes = self.rehearsal.held() - self.lasting - self.decoder.pool_bytes();
        drop(trunk);
        self.decoder.release_work();
        Ok(bytes)
    }

    /// Calls for the next token of so many branches, when the pass has been taken down.
    ///
    /// # Errors
    /// As [`training_bytes`](Self::training_bytes).
    pub fn decoding_calls(&self, branches: usize) -> Result<DecodingCalls, DeviceError> {
        let mut trunk = DevicePages::default();
        self.decode(&mut trunk, 1, branches)?;
        self.rehearsal.take_calls();
        let mut own = none(branches);
        let hidden = self.decode_rows(&trunk, 1, &mut own)?;
        self.draw(&hidden, branches)?;
        let calls = self.rehearsal.take_calls();
        Ok(DecodingCalls {
            recorded: calls.recorded,
            made: calls.replays + calls.launches + calls.products + calls.copies,
        })
    }

    /// Prefill of one trunk, then a token of every branch.
    fn decode(
        &self,
        trunk: &mut DevicePages,
        tokens: usize,
        branches: usize,
    ) -> Result<(), DeviceError> {
        let tokens = tokens.max(1);
        let mut hidden = Vec::new();
        self.decoder
            .prefill(trunk, 0, &vec![0; tokens], &mut hidden)?;
        let mut own = none(branches);
        let hidden = self.decode_rows(trunk, tokens, &mut own)?;
        self.draw(&hidden, branches)
    }

    fn decode_rows(
        &self,
        trunk: &DevicePages,
        fork: usize,
        own: &mut [DevicePages],
    ) -> Result<Vec<f32>, DeviceError> {
        let row = |own| DecodeInput {
            trunk,
            fork,
            own,
            len: 0,
            token: 0,
        };
        let mut rows: Vec<DecodeInput<'_>> = own.iter_mut().map(row).collect();
        let mut hidden = Vec::new();
        self.decoder.decode(&mut rows, &mut hidden)?;
        Ok(hidden)
    }

    fn draw(&self, hidden: &[f32], branches: usize) -> Result<(), DeviceError> {
        let request = TokenRequest {
            temperature: 1.0,
            uniform: Some(0.5),
        };
        self.decoder
            .draw(hidden, &vec![request; branches])
            .map(drop)
    }
}

fn none(branches: usize) -> Vec<DevicePages> {
    (0..branches).map(|_| DevicePages::default()).collect()
}

impl DeviceDecoder {
    /// Gives all work memory back, and pages that no sequence has.
    fn release_work(&self) {
        let mut state = self.lock();
        state.work = None;
        state.decoding = Default::default();
        lock_pool(&state.pool).release_idle();
    }

    /// Bytes of the pool of pages.
    fn pool_bytes(&self) -> usize {
        lock_pool(&self.lock().pool).bytes()
    }
}
