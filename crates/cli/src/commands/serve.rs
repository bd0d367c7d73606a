//! `seele serve`: a model for any client of OpenAI's interface.

use crate::device::DeviceArg;
use crate::exit::{self, Unusable};
use crate::interrupt;
use crate::model_place;
use crate::output::{Output, print};
use crate::sampling::ACTIVE_BRANCHES;
use anyhow::Context;
use seele_hub::SCHEME;
use seele_policy::model::Model;
use seele_serve::{Listener, Server, ServerConfig};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Answer OpenAI's HTTP interface with a model.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  seele serve models/smollm2
  seele serve quickstart --port 8001 --name sums
  curl http://127.0.0.1:8000/v1/completions -d '{\"model\": \"smollm2\", \"prompt\": \"Once\", \"max_tokens\": 20}'

Answers /v1/completions, /v1/chat/completions and /v1/models: stream, n, temperature, top_p, top_k, max_tokens,
stop, seed, logprobs. What would change the text and is not supported is refused. The address is printed
once it is ready. Ctrl-C ends the server when what it is answering is answered; twice ends it at once.
There is no access control: keep --host at an address that only those reach who may use the model.")]
pub(crate) struct Args {
    #[arg(help = model_place::HELP)]
    model: PathBuf,
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1")]
    host: IpAddr,
    /// Port to listen on; 0 takes a free one.
    #[arg(long, default_value_t = 8000)]
    port: u16,
    /// Name of the model in requests [default: that of its folder or file].
    #[arg(long)]
    name: Option<String>,
    /// Completions that are written at a time; more take more memory, the others wait.
    #[arg(long, default_value_t = NonZeroUsize::new(ACTIVE_BRANCHES).unwrap_or(NonZeroUsize::MIN))]
    max_active: NonZeroUsize,
    /// Source of the draws of requests without a seed.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    device: DeviceArg,
}

/// Runs the command.
///
/// # Errors
/// A model that cannot be loaded, or an address that cannot be listened on.
pub(crate) fn run(args: &Args, output: &Output) -> anyhow::Result<u8> {
    args.device.check()?;
    let address = SocketAddr::new(args.host, args.port);
    // An address in use is told before the weights are read.
    let listener = Listener::bind(address).map_err(|error| Unusable(error.to_string()))?;
    let listener = Arc::new(listener);
    let (path, name) = model_place::find_named(&args.model, output)?;
    let model = Model::load(&path)?;
    let decoder = args.device.decoder(&model.config, &model.parameters)?;
    drop(model.parameters);
    let config = ServerConfig {
        name: args.name.clone().unwrap_or_else(|| name_of(&name)),
        max_active_branches: args.max_active.get(),
        seed: args.seed,
    };
    let name = config.name.clone();
    let server = Server::new(config, decoder, model.tokenizer, model.chat_template)?;
    let stopping = Arc::clone(&listener);
    interrupt::listen(move || {
        tracing::warn!("ending when all requests are answered; press Ctrl-C again to end at once");
        stopping.stop();
    })
    .context("cannot listen for Ctrl-C")?;
    print(&format!("http://{}/v1\n", listener.address()))?;
    tracing::info!("serving `{name}`; Ctrl-C ends it");
    server.run(&listener);
    Ok(exit::DONE)
}

/// The folder's or file's name, on this machine or the hub; for what a run wrote, the run's.
fn name_of(path: &str) -> String {
    let mut parts = Path::new(path).iter().filter_map(|part| part.to_str());
    let of_run =
        |part: &&str| *part != "model" && *part != "checkpoints" && !part.starts_with("step_");
    let name = parts.rfind(of_run).unwrap_or("model");
    let name = match name.split_once('@') {
        Some((name, _)) if path.starts_with(SCHEME) => name,
        _ => name,
    };
    name.strip_suffix(".gguf").unwrap_or(name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_named_after_its_folder_file_or_run() {
        let named = name_of;
        assert_eq!(named("models/smollm2"), "smollm2");
        assert_eq!(named("models/small.gguf"), "small");
        assert_eq!(named("runs/sums-1/checkpoints/step_20"), "sums-1");
        assert_eq!(named("runs/sums-1/model"), "sums-1");
        assert_eq!(named("model"), "model");
        assert_eq!(named("hf://owner/small@1234567"), "small");
        assert_eq!(named("hf://owner/small@1234567/small-q8.gguf"), "small-q8");
    }
}
