//! Errors in OpenAI's form: `{"error": {"message", "type", "param", "code"}}`.

use serde_json::{Value, json};
use std::io;
use std::net::SocketAddr;

/// Why a server could not begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {reason}; choose another address or port")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The operating system's reason.
        reason: String,
    },
    /// The thread of the engine cannot be started.
    #[error("cannot start a thread for the engine: {0}")]
    Thread(#[from] io::Error),
}

/// What is wrong with a request, or what failed while answering it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct ApiError {
    /// HTTP status.
    pub(crate) status: u16,
    pub(crate) message: String,
    /// The parameter that is wrong.
    pub(crate) param: Option<String>,
    pub(crate) code: Option<&'static str>,
}

impl ApiError {
    /// A request that cannot be answered as it is.
    pub(crate) fn bad(param: Option<&str>, message: impl Into<String>) -> Self {
        Self {
            status: 400,
            message: message.into(),
            param: param.map(String::from),
            code: None,
        }
    }

    /// A failure on this side.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self {
            status: 500,
            ..Self::bad(None, message)
        }
    }

    /// More has been asked for than can be promised.
    pub(crate) fn busy() -> Self {
        Self {
            status: 503,
            ..Self::bad(None, "too many completions wait already; ask again later")
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        let kind = match self.status {
            500.. => "server_error",
            _ => "invalid_request_error",
        };
        json!({ "error": {
            "message": self.message, "type": kind, "param": self.param, "code": self.code,
        } })
    }
}
