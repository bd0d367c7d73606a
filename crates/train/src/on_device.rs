//! What a run does otherwise where its policy is on a device.

use crate::error::TrainError;
use crate::group::{GroupPart, trees};
use crate::recipe::CacheMemory;
use crate::update::Learner;
use seele_policy::decoder::Decoder;

impl Learner {
    /// Takes weights and moments from the device, unless those here are as new.
    pub(crate) fn read_back(&mut self) -> Result<(), TrainError> {
        self.decoder.check()?;
        if let Some(device) = self.decoder.on_device().filter(|_| self.is_behind) {
            device.read_parameters(&mut self.parameters)?;
            device.read_moments(&mut self.optimizer)?;
            self.is_behind = false;
        }
        Ok(())
    }

    /// Gives the moments here to the device.
    pub(crate) fn with_moments(self) -> Result<Self, TrainError> {
        self.write_moments()?;
        Ok(self)
    }

    /// Gives the moments here to the device.
    pub(crate) fn write_moments(&self) -> Result<(), TrainError> {
        if let Some(device) = self.decoder.on_device() {
            device.write_moments(&self.optimizer)?;
        }
        Ok(())
    }
}

/// Micro-batches that the device has room for: halves, as often as needed, of those it has not.
///
/// # Errors
/// [`TrainError::Device`] if a rollout alone has no room.
pub(crate) fn fitting<'a>(
    decoder: &Decoder,
    batches: Vec<Vec<GroupPart<'a>>>,
) -> Result<Vec<Vec<GroupPart<'a>>>, TrainError> {
    let mut fitting = Vec::with_capacity(batches.len());
    let mut rest = batches;
    rest.reverse();
    while let Some(batch) = rest.pop() {
        if decoder.has_room(&trees(&batch))? {
            fitting.push(batch);
        } else if let [part] = batch.as_slice() {
            let halves = part.halves().into_iter().flatten();
            rest.extend(halves.rev().map(|half| vec![half]));
        } else {
            let (first, second) = batch.split_at(batch.len() / 2);
            rest.extend([second.to_vec(), first.to_vec()]);
        }
    }
    Ok(fitting)
}

/// Bytes for keys and values while sampling.
pub(crate) fn cache_memory(decoder: &Decoder, setting: CacheMemory) -> usize {
    let on_device = decoder.on_device().and_then(|device| device.cache_memory());
    match (setting, on_device) {
        (CacheMemory::Auto, Some(bytes)) => bytes,
        _ => setting.bytes(),
    }
}
