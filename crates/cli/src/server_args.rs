//! How a server that speaks OpenAI's interface is asked: options of every command that asks one.

use seele_client::{ClientError, Server};
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Asking the server")]
pub(crate) struct ServerArgs {
    /// Questions under way at a time.
    #[arg(long, default_value = "16", requires = "endpoint")]
    concurrency: NonZeroUsize,
    /// Longest time for one answer, seconds.
    #[arg(long, default_value_t = 300.0, value_parser = seconds, requires = "endpoint")]
    timeout_secs: f64,
    /// Wait after the first failure of a question, seconds; it doubles with each further one.
    #[arg(long, default_value_t = 1.0, value_parser = seconds, requires = "endpoint")]
    first_wait_secs: f64,
    /// Failures of one question in a row until it is left for the next run.
    #[arg(long, default_value = "8", requires = "endpoint")]
    patience: NonZeroU32,
    /// Environment variable with the server's key.
    #[arg(
        long,
        default_value = "OPENAI_API_KEY",
        value_name = "NAME",
        requires = "endpoint"
    )]
    key_from: String,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value < 1e6 => Ok(value),
        _ => Err("expected a number of seconds above 0".into()),
    }
}

impl ServerArgs {
    /// The server at an endpoint, whose settings are in range.
    ///
    /// # Errors
    /// [`ClientError::Setting`] for an endpoint that is no URL.
    pub(crate) fn server(&self, endpoint: &str, model: &str) -> Result<Server, ClientError> {
        let key = std::env::var(&self.key_from).ok();
        let server = Server {
            api_key: key.filter(|key| !key.is_empty()),
            timeout: Duration::from_secs_f64(self.timeout_secs),
            concurrency: self.concurrency.get(),
            first_wait: Duration::from_secs_f64(self.first_wait_secs),
            patience: self.patience.get(),
            ..Server::new(endpoint, model)
        };
        server.check()?;
        Ok(server)
    }
}
