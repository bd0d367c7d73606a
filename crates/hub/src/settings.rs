//! Where the hub and the cache are, by the environment variables of Python's `huggingface_hub`.

use crate::error::HubError;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

const HUB: &str = "https://huggingface.co";

/// Where the hub and the cache are, and how patiently both are used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Address of the hub or of a mirror, without `/` at the end.
    pub endpoint: String,
    /// Folder of the cache.
    pub cache: PathBuf,
    /// Who is asking.
    pub token: Option<String>,
    /// Ask nobody; what is not in the cache is not there.
    pub offline: bool,
    /// Longest silence of a server.
    pub timeout: Duration,
    /// Wait after the first failure of a transfer; it doubles with each further one.
    pub first_wait: Duration,
    /// Failures in a row, without a byte between them, until a transfer is given up, at least 1.
    pub patience: u32,
}

impl Settings {
    /// As the environment says:
    ///
    /// | variable | sets |
    /// | --- | --- |
    /// | `HF_ENDPOINT` | the hub's address, for mirrors (`https://huggingface.co`) |
    /// | `HF_HUB_CACHE` | the cache (`$HF_HOME/hub`) |
    /// | `HF_HOME` | the folder of cache and token (`~/.cache/huggingface`) |
    /// | `HF_TOKEN` | the token (else the file `$HF_TOKEN_PATH`, else `$HF_HOME/token`, which `hf auth login` writes) |
    /// | `HF_HUB_OFFLINE` | `1`: only the cache |
    /// | `HF_HUB_DOWNLOAD_TIMEOUT` | longest silence of a server, seconds (30) |
    ///
    /// # Errors
    /// [`HubError::Variable`].
    pub fn from_environment() -> Result<Self, HubError> {
        Self::from_variables(|name| std::env::var_os(name))
    }

    fn from_variables(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, HubError> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let text = |name: &str| Some(variable(name)?.to_string_lossy().trim().to_owned());
        let bad =
            |name: &'static str, expected: &'static str| HubError::Variable { name, expected };

        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| HUB.into());
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        if !["http://", "https://"]
            .iter()
            .any(|scheme| endpoint.starts_with(scheme))
        {
            return Err(bad(
                "HF_ENDPOINT",
                "an address such as https://huggingface.co",
            ));
        }
        let user = variable("HOME")
            .map(PathBuf::from)
            .or_else(std::env::home_dir);
        let path = |name: &str| {
            let path = PathBuf::from(variable(name)?);
            Some(match (path.strip_prefix("~"), &user) {
                (Ok(rest), Some(user)) => user.join(rest),
                _ => path,
            })
        };
        let home = || {
            let caches = path("XDG_CACHE_HOME").or_else(|| Some(user.clone()?.join(".cache")))?;
            Some(caches.join("huggingface"))
        };
        let home = path("HF_HOME").or_else(home);
        let home = home.ok_or_else(|| bad("HF_HOME", "a folder, since there is no home folder"))?;
        let cache = path("HF_HUB_CACHE").or_else(|| path("HUGGINGFACE_HUB_CACHE"));
        let token_file = path("HF_TOKEN_PATH").unwrap_or_else(|| home.join("token"));
        let token = text("HF_TOKEN").or_else(|| text("HUGGING_FACE_HUB_TOKEN"));
        let token = token.or_else(|| std::fs::read_to_string(token_file).ok());
        let token = token.map(|token| token.trim().to_owned());
        let is_set = |name: &str| {
            let value = text(name).unwrap_or_default().to_ascii_uppercase();
            ["1", "ON", "YES", "TRUE"].contains(&value.as_str())
        };
        let timeout = match text("HF_HUB_DOWNLOAD_TIMEOUT") {
            None => Duration::from_secs(30),
            Some(seconds) => seconds
                .parse()
                .ok()
                .filter(|seconds| (0.01..1e6).contains(seconds))
                .map(Duration::from_secs_f64)
                .ok_or_else(|| bad("HF_HUB_DOWNLOAD_TIMEOUT", "a number of seconds"))?,
        };
        Ok(Self {
            endpoint,
            cache: cache.unwrap_or_else(|| home.join("hub")),
            token: token.filter(|token| !token.is_empty()),
            offline: is_set("HF_HUB_OFFLINE") || is_set("TRANSFORMERS_OFFLINE"),
            timeout,
            first_wait: Duration::from_secs(1),
            patience: 5,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn settings(variables: &[(&str, &str)]) -> Result<Settings, HubError> {
        Settings::from_variables(|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| value.into())
        })
    }

    #[test]
    fn the_cache_is_where_python_has_it() {
        let cache = |variables: &[(&str, &str)]| {
            let variables = [&[("HOME", "/home/me")], variables].concat();
            settings(&variables).unwrap().cache
        };
        assert_eq!(cache(&[]), Path::new("/home/me/.cache/huggingface/hub"));
        assert_eq!(
            cache(&[("XDG_CACHE_HOME", "/x")]),
            Path::new("/x/huggingface/hub")
        );
        assert_eq!(cache(&[("HF_HOME", "~/hf")]), Path::new("/home/me/hf/hub"));
        let both = [("HF_HOME", "/hf"), ("HF_HUB_CACHE", "/c")];
        assert_eq!(cache(&both), Path::new("/c"));
    }

    #[test]
    fn the_token_is_given_or_that_of_the_login() {
        let home = tempfile::tempdir().unwrap();
        let place = home.path().to_str().unwrap();
        let token = |more: &[(&str, &str)]| {
            let variables = [&[("HOME", "/"), ("HF_HOME", place)], more].concat();
            settings(&variables).unwrap().token
        };
        assert_eq!(token(&[]), None);
        std::fs::write(home.path().join("token"), "hf_file\n").unwrap();
        assert_eq!(token(&[]).as_deref(), Some("hf_file"));
        assert_eq!(
            token(&[("HF_TOKEN", "hf_given")]).as_deref(),
            Some("hf_given")
        );
        assert_eq!(token(&[("HF_TOKEN_PATH", "/nowhere")]), None);
    }

    #[test]
    fn mirrors_and_offline_mode_are_read_and_slips_are_named() {
        let home = ("HOME", "/");
        let plain = settings(&[home]).unwrap();
        assert!(plain.endpoint == HUB && !plain.offline);
        let set = settings(&[
            home,
            ("HF_ENDPOINT", "http://mirror:80/"),
            ("HF_HUB_OFFLINE", "true"),
        ]);
        let set = set.unwrap();
        assert!(set.endpoint == "http://mirror:80" && set.offline);
        assert!(!settings(&[home, ("HF_HUB_OFFLINE", "0")]).unwrap().offline);
        for (name, value) in [
            ("HF_ENDPOINT", "mirror"),
            ("HF_HUB_DOWNLOAD_TIMEOUT", "soon"),
        ] {
            let message = settings(&[home, (name, value)]).unwrap_err().to_string();
            assert!(message.contains(name), "{message}");
        }
    }
}
