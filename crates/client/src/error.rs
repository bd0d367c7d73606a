//! What can stop the asking.

use crate::https::{self, TrustError};
use std::io;

/// Why a server cannot be asked, or not on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// A setting outside its range.
    #[error("`{setting}` must be {expected}")]
    Setting {
        /// The setting.
        setting: &'static str,
        /// What it may be.
        expected: &'static str,
    },
    /// The trusted certificates cannot be used.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The server refuses all requests alike.
    #[error("`{url}` refuses the request with status {status}: {message}")]
    Refused {
        /// Where was asked.
        url: String,
        /// HTTP status.
        status: u16,
        /// What it says.
        message: String,
    },
    /// The server's certificate leads to none that is trusted.
    #[error("{}", https::distrusted(url, reason))]
    Distrusted {
        /// Where was asked.
        url: String,
        /// What is wrong with the certificate.
        reason: String,
    },
    /// The server does not answer.
    #[error(
        "`{url}` did not answer question after question; the last failure: {reason}. What it had answered is kept; repeat the command when it is back"
    )]
    Gone {
        /// Where was asked.
        url: String,
        /// The last failure.
        reason: String,
    },
    /// Threads cannot be started.
    #[error("cannot start {threads} threads: {source}; lower the concurrency")]
    Threads {
        /// How many.
        threads: usize,
        /// The operating system's reason.
        source: io::Error,
    },
}

impl ClientError {
    /// Whether the server or the machine is to blame, and not what was asked for.
    pub fn is_failure(&self) -> bool {
        matches!(self, Self::Gone { .. } | Self::Threads { .. })
    }
}
