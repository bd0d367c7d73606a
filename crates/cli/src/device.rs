//! `--device` of the commands that read a model.

use crate::exit::Unusable;
use seele_policy::config::ModelConfig;
use seele_policy::decoder::{Decoder, DecoderOptions};
use seele_policy::device::DeviceChoice;
use seele_policy::parameters::Parameters;

/// Where a model computes.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct DeviceArg {
    /// Where the model computes: cpu, cuda, cuda:<number>, or auto (a GPU if there is one).
    #[arg(long, value_name = "DEVICE", default_value_t = DeviceChoice::Cpu)]
    pub(crate) device: DeviceChoice,
}

impl DeviceArg {
    /// Refuses a device that cannot be had, before anything is read.
    pub(crate) fn check(self) -> anyhow::Result<()> {
        check(self.device, "--device")
    }

    /// A decoder there, to read from.
    pub(crate) fn decoder(
        self,
        config: &ModelConfig,
        parameters: &Parameters,
    ) -> anyhow::Result<Decoder> {
        let made = self
            .device
            .decoder(config, parameters, DecoderOptions::default(), false);
        made.map_err(|error| Unusable(format!("`--device {}`: {error}", self.device)).into())
    }
}

/// Says how short of memory a decoder's device was, if it was.
pub(crate) fn tell_shortages(decoder: &Decoder) {
    let shortages = decoder.take_shortages();
    if shortages.is_any() {
        tracing::warn!("{shortages}");
    }
}

/// Refuses a device that cannot be had; `setting` is what asked for it.
pub(crate) fn check(device: DeviceChoice, setting: &str) -> anyhow::Result<()> {
    let checked = device.check();
    checked.map_err(|error| Unusable(format!("`{setting}` = {device}: {error}")).into())
}
