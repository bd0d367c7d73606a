//! Whom to ask, and how patiently.

use crate::error::ClientError;
use std::time::Duration;

/// A server that speaks OpenAI's interface.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// Where the interface begins, for example `http://127.0.0.1:8000/v1`.
    pub endpoint: String,
    /// Name of the model there.
    pub model: String,
    /// Sent as a bearer token.
    pub api_key: Option<String>,
    /// Longest time for one answer.
    pub timeout: Duration,
    /// Questions under way at a time, at least 1.
    pub concurrency: usize,
    /// Wait after the first failure of a question; it doubles with each further one.
    pub first_wait: Duration,
    /// Failures of one question in a row until it is left for another run, at least 1.
    pub patience: u32,
}

impl Server {
    /// A server without a key, asked 16 questions at a time, five minutes each, up to 8 times.
    pub fn new(endpoint: impl Into<String>, model: impl Into<String>) -> Self {
        Self {
            endpoint: endpoint.into(),
            model: model.into(),
            api_key: None,
            timeout: Duration::from_secs(300),
            concurrency: 16,
            first_wait: Duration::from_secs(1),
            patience: 8,
        }
    }

    /// Checks every range.
    ///
    /// # Errors
    /// [`ClientError::Setting`] for the first one outside.
    pub fn check(&self) -> Result<(), ClientError> {
        let setting = |setting, expected| Err(ClientError::Setting { setting, expected });
        let schemes = ["http://", "https://"];
        let mut schemes = schemes.iter();
        if !schemes.any(|scheme| self.endpoint.starts_with(scheme)) {
            return setting("endpoint", "a URL such as `http://127.0.0.1:8000/v1`");
        }
        if self.concurrency == 0 {
            return setting("concurrency", "at least 1");
        }
        if self.patience == 0 {
            return setting("patience", "at least 1");
        }
        Ok(())
    }

    /// Where the interface begins, also if one of its addresses was given.
    pub(crate) fn base(&self) -> &str {
        let given = self.endpoint.trim_end_matches('/');
        let base = given.strip_suffix("/completions").unwrap_or(given);
        base.strip_suffix("/chat").unwrap_or(base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_address_of_the_interface_names_it() {
        for given in ["/v1", "/v1/", "/v1/completions", "/v1/chat/completions"] {
            let server = Server::new(format!("http://a:1{given}"), "m");
            assert_eq!(server.base(), "http://a:1/v1");
            server.check().unwrap();
        }
        assert!(Server::new("a:1/v1", "m").check().is_err());
        let hasty = Server {
            patience: 0,
            ..Server::new("https://a", "m")
        };
        assert!(hasty.check().unwrap_err().to_string().contains("patience"));
    }
}
