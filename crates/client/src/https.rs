//! One way to speak HTTP and HTTPS: proxies and trusted certificates as the machine is set up.
//!
//! A server's certificate must lead to one of Mozilla's roots, which are compiled in, or, if
//! `SSL_CERT_FILE` names a PEM file, to one of the certificates in it: for a server with a certificate of
//! its own, and behind a proxy that opens connections. Proxies are taken from `HTTPS_PROXY`, `HTTP_PROXY`,
//! `ALL_PROXY` and `NO_PROXY`.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use ureq::Agent;
use ureq::config::ConfigBuilder;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::typestate::AgentScope;

/// The variable with the file of trusted certificates.
pub const TRUSTED: &str = "SSL_CERT_FILE";

/// The file of trusted certificates cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// It cannot be read.
    #[error("cannot read `{}`, which `{TRUSTED}` names: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// It holds no certificate, or a broken one.
    #[error("`{}`, which `{TRUSTED}` names, is no file of PEM certificates: {reason}", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// A configuration that trusts as this machine says, to be given time-outs by the caller.
/// Statuses are no errors.
///
/// # Errors
/// [`TrustError`] if `SSL_CERT_FILE` is set and cannot be used.
pub fn config() -> Result<ConfigBuilder<AgentScope>, TrustError> {
    trusting(std::env::var_os(TRUSTED).as_deref())
}

/// Why a server's certificate is not trusted, if that is what an error says.
pub fn distrust(error: &ureq::Error) -> Option<String> {
    let text = error.to_string();
    let found = text.contains("invalid peer certificate") || text.contains("certificate verify");
    found.then_some(text)
}

/// The message for it: what to do where the server is meant to be trusted.
pub fn distrusted(url: &str, reason: &str) -> String {
    format!(
        "the certificate of `{url}` is not trusted ({reason}); if it should be, name a PEM file with it, or with the one that signed it, in the environment variable `{TRUSTED}`"
    )
}

fn trusting(file: Option<&OsStr>) -> Result<ConfigBuilder<AgentScope>, TrustError> {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .user_agent(concat!("seele/", env!("CARGO_PKG_VERSION")));
    let Some(file) = file.filter(|file| !file.is_empty()) else {
        return Ok(config);
    };
    let roots = RootCerts::from(certificates(Path::new(file))?);
    Ok(config.tls_config(TlsConfig::builder().root_certs(roots).build()))
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>, TrustError> {
    let text = std::fs::read(path).map_err(|source| TrustError::Read {
        path: path.to_path_buf(),
        source,
    })?;
    let none = |reason: String| TrustError::NoCertificate {
        path: path.to_path_buf(),
        reason,
    };
    let mut certificates = Vec::new();
    for item in parse_pem(&text) {
        // A file may bring a key along; it is no business of ours.
        if let PemItem::Certificate(certificate) = item.map_err(|error| none(error.to_string()))? {
            certificates.push(certificate);
        }
    }
    match certificates.is_empty() {
        true => Err(none("it has no `BEGIN CERTIFICATE`".into())),
        false => Ok(certificates),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_trusted_certificates_must_hold_some() {
        assert!(trusting(None).is_ok() && trusting(Some(OsStr::new(""))).is_ok());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("roots.pem");
        let message = |path: &Path| match trusting(Some(path.as_os_str())) {
            Ok(_) => "trusted".to_owned(),
            Err(error) => error.to_string(),
        };
        assert!(message(&path).contains("cannot read"), "{}", message(&path));
        std::fs::write(&path, "no certificate").unwrap();
        assert!(
            message(&path).contains("SSL_CERT_FILE"),
            "{}",
            message(&path)
        );
        assert!(
            message(&path).contains("BEGIN CERTIFICATE"),
            "{}",
            message(&path)
        );
        let broken = "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n";
        std::fs::write(&path, broken).unwrap();
        assert!(message(&path).contains("PEM"), "{}", message(&path));
    }
}
