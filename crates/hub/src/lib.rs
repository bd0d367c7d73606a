//! Models and data sets by their name on the Hugging Face hub.
//!
//! `hf://owner/name` is a repository: of models where a model is wanted, of data sets where problems are.
//! `@revision` behind the name is a branch, tag or commit (`main` without one), and what follows a further
//! `/` is a file or folder in it:
//!
//! ```
//! use seele_hub::{HubPath, Kind};
//! let place = HubPath::parse(Kind::DataSet, "hf://openai/gsm8k@main/main/train-00000-of-00001.parquet")?;
//! assert_eq!((place.repository.as_str(), place.revision.as_deref()), ("openai/gsm8k", Some("main")));
//! assert_eq!(place.inside.as_deref(), Some("main/train-00000-of-00001.parquet"));
//! # Ok::<(), seele_hub::HubError>(())
//! ```
//!
//! [`Hub::fetch`] brings what is wanted of it to the cache and says where it lies. The cache is laid out
//! as Python's `huggingface_hub` lays it out (`hf-hub` knows the layout), so neither fetches what the other
//! has; environment variables have the meaning that they have there ([`Settings`]).
//!
//! Transfers are made here and not by `hf-hub`, whose blocking client (0.5) knows no time-outs, checks no
//! sum, goes on with a partial file whatever the server sends, and hands the token to whichever host a
//! request is sent on to. Here a stalled or cut transfer is taken up where it was, what arrives is held
//! to its size and, for large files, to its SHA-256, and the token goes to the hub alone.
#![forbid(unsafe_code)]

mod cache;
mod error;
mod fetch;
mod http;
mod place;
mod select;
mod settings;
mod transfer;

pub use error::HubError;
pub use fetch::{Fetched, Hub, Watch};
pub use place::{HubPath, Kind, SCHEME};
pub use settings::Settings;
pub use transfer::Progress;
