//! Asking other machines: servers that speak OpenAI's interface, over HTTP and HTTPS.
//!
//! Servers fail, stall and turn callers away. [`ask_all`] puts many questions to one, a bounded number at
//! a time, waits out what passes (no connection, time-outs, 429, 5xx, answers that were cut), and tells
//! whoever asked what came of each; it keeps nothing itself, so a caller that writes every answer down
//! before it asks on can be killed at any moment.
//!
//! ```no_run
//! use seele_client::{Prompt, Question, Reply, Server, Survey, ask_all};
//! use std::sync::{Mutex, atomic::AtomicBool};
//!
//! /// Asks each word once.
//! struct Words(Mutex<Vec<Option<String>>>);
//!
//! impl Survey for Words {
//!     type Error = seele_client::ClientError;
//!     fn question(&self, index: usize) -> Option<Question> {
//!         let asked = self.0.lock().unwrap()[index].is_none();
//!         asked.then(|| Question::new(Prompt::user(format!("define word {index}")), 64))
//!     }
//!     fn answered(&self, index: usize, reply: Reply) -> Result<(), Self::Error> {
//!         self.0.lock().unwrap()[index] = Some(reply.text);
//!         Ok(())
//!     }
//!     fn refused(&self, index: usize, reason: String) -> Result<(), Self::Error> {
//!         self.0.lock().unwrap()[index] = Some(reason);
//!         Ok(())
//!     }
//! }
//!
//! let server = Server::new("http://127.0.0.1:8000/v1", "smollm2");
//! let words = Words(Mutex::new(vec![None; 100]));
//! ask_all(&server, 100, &words, &AtomicBool::new(false))?;
//! # Ok::<(), seele_client::ClientError>(())
//! ```
//!
//! - [`https`]: the agent that every part of this workspace speaks through, and whom it trusts.
#![forbid(unsafe_code)]

mod ask;
mod error;
pub mod https;
mod server;
mod survey;

pub use ask::{Prompt, Question, Reply};
pub use error::ClientError;
pub use server::Server;
pub use survey::{Outcome, Survey, ask_all};
