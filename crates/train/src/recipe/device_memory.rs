//! How much of a device's memory a plan takes, before anything is read.

#[cfg(feature = "cuda")]
use super::cache_memory::CacheMemory;
#[cfg(feature = "cuda")]
use super::plan::Recipe;
#[cfg(feature = "cuda")]
use seele_policy::config::ModelConfig;
#[cfg(feature = "cuda")]
use seele_policy::cuda::{Device, Footprint};
#[cfg(feature = "cuda")]
use seele_policy::decoder::{DecoderOptions, Recompute, TreeBranch, TreeGroup};
#[cfg(feature = "cuda")]
use seele_policy::device::DeviceError;
#[cfg(feature = "cuda")]
use seele_rollout::EngineLoad;

/// Memory of a device by purpose, bytes. Weights, gradient, moments and work memory are exact, the latter for the
/// longest problem and the longest rollout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceMemory {
    /// What can be had on the device now; `None` on an emulated one without a bound.
    pub free: Option<u64>,
    /// Weights of the policy: float32, and a rounded copy in bfloat16.
    pub weights: u64,
    /// Gradient and both moments of AdamW.
    pub learning: u64,
    /// Reference policy, if there is one.
    pub reference: u64,
    /// Keys and values while sampling.
    pub key_value_cache: u64,
    /// Work memory while sampling.
    pub sampling: u64,
    /// Work memory of a micro-batch.
    pub training: u64,
}

impl DeviceMemory {
    /// All together: sampling and training take turns, and what one holds the other can have.
    pub fn total(&self) -> u64 {
        let lasting = self.weights + self.learning + self.reference;
        lasting + (self.key_value_cache + self.sampling).max(self.training)
    }

    /// Whether it is more than can be had.
    pub fn is_too_much(&self) -> bool {
        self.free.is_some_and(|free| self.total() > free)
    }
}

/// What a run does at a time.
#[cfg(feature = "cuda")]
pub(super) struct Extent<'a> {
    /// Rows of the largest micro-batch, and of the longest trunk and rollout in it.
    pub(super) rows: usize,
    pub(super) trunk: usize,
    pub(super) rollout: usize,
    pub(super) loads: &'a [EngineLoad],
}

#[cfg(feature = "cuda")]
impl Recipe {
    /// Memory of a run on the recipe's device; `None` on the CPU.
    pub(super) fn device_memory(
        &self,
        config: &ModelConfig,
        extent: &Extent<'_>,
    ) -> Option<DeviceMemory> {
        // A device that cannot be had, or a model that it cannot have, is refused elsewhere.
        let device = self.device.open().ok()??;
        self.device_footprint(&device, config, extent).ok()
    }

    fn device_footprint(
        &self,
        device: &Device,
        config: &ModelConfig,
        extent: &Extent<'_>,
    ) -> Result<DeviceMemory, DeviceError> {
        let free = device.free_and_total_memory().map(|(free, _)| free);
        let options = self.decoder_options();
        let bare = Footprint::of(config, options, false)?;
        let weights = bare.decoder_bytes();
        let lasting = Footprint::of(config, options, true)?.decoder_bytes();
        // As the decoder does when it is made.
        let recompute = match (options.recompute, free) {
            (Recompute::Auto { .. }, Some(free)) => Recompute::Auto {
                bytes: free.saturating_sub(lasting) / 5 * 2,
            },
            (recompute, _) => recompute,
        };
        let options = DecoderOptions {
            recompute,
            ..options
        };
        let trunk = vec![0; extent.trunk.clamp(1, extent.rows.max(1))];
        let rollout = vec![0; extent.rollout.max(1)];
        let branches = (extent.rows - trunk.len().min(extent.rows)) / rollout.len();
        let branch = TreeBranch {
            fork: trunk.len(),
            tokens: &rollout,
        };
        let group = TreeGroup {
            trunk: &trunk,
            prompt_tokens: 1,
            branches: vec![branch; branches],
        };
        let training = Footprint::of(config, options, true)?.training_bytes(&[group])?;
        let (mut sampling, mut cache) = (0, 0);
        for load in extent.loads {
            let own = bare.sampling_bytes(load.trunk_tokens, load.branches.max(1))?;
            sampling = sampling.max(own);
            cache = cache.max(load.pages() * bare.page_bytes());
        }
        let bound = match (self.rollout.cache_memory, free) {
            (CacheMemory::Auto, Some(free)) => free.saturating_sub(lasting) / 2,
            (CacheMemory::Auto, None) => usize::MAX,
            (setting, _) => setting.bytes(),
        };
        Ok(DeviceMemory {
            free: free.map(|free| free as u64),
            weights: weights as u64,
            learning: (lasting - weights) as u64,
            reference: match self.objective.needs_reference() {
                true => weights as u64,
                false => 0,
            },
            key_value_cache: cache.min(bound) as u64,
            sampling: sampling as u64,
            training: training as u64,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sampling_and_training_take_turns() {
        let memory = DeviceMemory {
            free: Some(160),
            weights: 60,
            learning: 40,
            reference: 30,
            key_value_cache: 15,
            sampling: 5,
            training: 30,
        };
        assert_eq!(memory.total(), 160);
        assert!(!memory.is_too_much());
        let longer = DeviceMemory {
            key_value_cache: 26,
            ..memory
        };
        assert!(longer.is_too_much());
        let unknown = DeviceMemory {
            free: None,
            ..longer
        };
        assert!(!unknown.is_too_much());
    }
}
