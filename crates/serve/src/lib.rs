//! A model behind the HTTP interface that OpenAI's clients speak.
//!
//! `/v1/completions`, `/v1/chat/completions` (both also as streams) and `/v1/models`, answered by the
//! rollout engine that training samples with: requests of any number of clients share its batch, and
//! each enters and leaves it at any step. A completion depends on its request and its seed alone, not
//! on what else is being answered.
//!
//! ```no_run
//! use seele_policy::{decoder::Decoder, model::Model};
//! use seele_serve::{Listener, Server, ServerConfig};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let listener = Listener::bind("127.0.0.1:8000".parse()?)?;
//! let model = Model::load("models/smollm2".as_ref())?;
//! let decoder = Decoder::new(&model.config, &model.parameters);
//! let config = ServerConfig { name: "smollm2".into(), max_active_branches: 64, seed: 0 };
//! let server = Server::new(config, decoder, model.tokenizer, model.chat_template)?;
//! server.run(&listener); // until `listener.stop()`, from another thread
//! # Ok(())
//! # }
//! ```
//!
//! The engine is one thread and every request that is being answered another, which waits for the
//! engine's tokens; there are far fewer requests at a time than would need anything else.
//!
//! Log-probabilities are those of the distribution at the request's temperature (at temperature 0, of
//! the model's own), before `top_p` and `top_k` restrict the draw. A parameter of OpenAI's interface
//! that would change the text and is not supported is refused, never ignored.
//!
//! There is no access control: bind to an address that only those can reach who may use the model.
#![forbid(unsafe_code)]

mod answer;
mod engine;
mod error;
mod fields;
mod generation;
mod request;
mod server;
mod text;

pub use error::ServeError;
pub use server::{Listener, Server, ServerConfig};
