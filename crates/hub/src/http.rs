//! Requests to the hub, and to where it sends on.

use crate::cache::is_commit;
use crate::error::HubError;
use crate::place::{HubPath, escaped};
use crate::settings::Settings;
use seele_client::https;
use serde::Deserialize;
use std::time::Duration;
use ureq::http::{HeaderMap, Response, StatusCode};
use ureq::{Agent, Body};

/// Times that a request is sent on at most.
const REDIRECTS: usize = 10;
/// The largest listing that is read, bytes: some data sets have a hundred thousand files.
const MAX_LISTING_BYTES: u64 = 256 << 20;
/// Longest wait that a server may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(120);

/// Speaks with the hub.
pub(crate) struct Web<'a> {
    agent: &'a Agent,
    settings: &'a Settings,
}

/// What a revision is.
pub(crate) struct Listing {
    pub(crate) commit: String,
    pub(crate) files: Vec<String>,
}

/// What the hub says of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Described {
    /// Name of the contents; for large files their SHA-256 in hexadecimal.
    pub(crate) etag: String,
    /// Bytes.
    pub(crate) size: u64,
    /// Where the contents are.
    pub(crate) url: String,
}

/// No answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// May go better next time.
    Passing {
        reason: String,
        retry_after: Option<Duration>,
    },
    /// Will not.
    Final(HubError),
}

impl From<HubError> for Failure {
    fn from(error: HubError) -> Self {
        Self::Final(error)
    }
}

#[derive(Deserialize)]
struct Revision {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

/// Agent for all requests: it follows no redirect, because where to may not learn the token.
pub(crate) fn agent(settings: &Settings) -> Result<Agent, HubError> {
    let config = https::config()?
        .max_redirects(0)
        .max_redirects_will_error(false)
        .timeout_connect(Some(settings.timeout))
        .timeout_per_read(Some(settings.timeout))
        .timeout_per_write(Some(settings.timeout));
    Ok(config.build().into())
}

impl<'a> Web<'a> {
    pub(crate) fn new(agent: &'a Agent, settings: &'a Settings) -> Self {
        Self { agent, settings }
    }

    /// The commit of a revision and its files.
    pub(crate) fn listing(&self, place: &HubPath) -> Result<Listing, Failure> {
        let url = format!(
            "{}/api/{}/{}/revision/{}",
            self.settings.endpoint,
            place.kind.plural(),
            place.repository,
            escaped(place.revision_or_main(), false)
        );
        let mut answer = self.get(&url, 0)?;
        if !answer.status().is_success() {
            return Err(self.refusal(place, &url, &mut answer));
        }
        let text = answer.body_mut().with_config().limit(MAX_LISTING_BYTES);
        let text = text.read_to_string().map_err(passing)?;
        let no_hub = |problem: String| HubError::NoHub {
            url: url.clone(),
            problem,
        };
        let revision: Revision =
            serde_json::from_str(&text).map_err(|error| no_hub(error.to_string()))?;
        if !is_commit(&revision.sha) {
            return Err(no_hub(format!("`{}` is no commit", revision.sha)).into());
        }
        Ok(Listing {
            commit: revision.sha,
            files: revision
                .siblings
                .into_iter()
                .map(|file| file.rfilename)
                .collect(),
        })
    }

    /// What the hub says of a file of a commit.
    pub(crate) fn describe(
        &self,
        place: &HubPath,
        commit: &str,
        file: &str,
    ) -> Result<Described, Failure> {
        let mut url = format!(
            "{}/{}{}/resolve/{commit}/{}",
            self.settings.endpoint,
            place.kind.prefix(),
            place.repository,
            escaped(file, true)
        );
        // The hub's own headers are on its last answer; a renamed repository is sent on within the hub.
        let mut sent_on = 0;
        let mut answer = loop {
            let answer = self.request(Method::Head, &url, 0)?;
            match location(&url, &answer) {
                Some(next) if authority(&next) == authority(&url) && sent_on < REDIRECTS => {
                    url = next;
                    sent_on += 1;
                }
                _ => break answer,
            }
        };
        let next = location(&url, &answer);
        if !answer.status().is_success() && next.is_none() {
            return Err(self.refusal(place, &url, &mut answer));
        }
        let headers = answer.headers();
        let etag = text(headers, "x-linked-etag").or_else(|| text(headers, "etag"));
        let etag = etag.map(|etag| etag.trim_start_matches("W/").trim_matches('"'));
        let usable = |etag: &&str| {
            let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            !etag.is_empty() && !etag.starts_with('.') && etag.chars().all(known)
        };
        let size = text(headers, "x-linked-size").or_else(|| match next {
            None => text(headers, "content-length"),
            Some(_) => None,
        });
        let size = size.and_then(|size| size.parse().ok());
        match (etag.filter(usable), size) {
            (Some(etag), Some(size)) => Ok(Described {
                etag: etag.to_owned(),
                size,
                url: next.unwrap_or(url),
            }),
            (None, _) => Err(HubError::NoHub {
                url,
                problem: "its answer has no `etag`".into(),
            }
            .into()),
            (_, None) => Err(HubError::NoHub {
                url,
                problem: "its answer does not say how large the file is".into(),
            }
            .into()),
        }
    }

    /// The answer of whoever has the contents, from byte `from` on.
    pub(crate) fn get(&self, url: &str, from: u64) -> Result<Response<Body>, Failure> {
        let mut url = url.to_owned();
        for _ in 0..=REDIRECTS {
            let answer = self.request(Method::Get, &url, from)?;
            match location(&url, &answer) {
                Some(next) => url = next,
                None => return Ok(answer),
            }
        }
        Err(HubError::NoHub {
            url,
            problem: "it sends on again and again".into(),
        }
        .into())
    }

    fn request(&self, method: Method, url: &str, from: u64) -> Result<Response<Body>, Failure> {
        let mut request = match method {
            Method::Get => self.agent.get(url),
            Method::Head => self.agent.head(url),
        };
        request = request.header("Accept-Encoding", "identity");
        if from > 0 {
            request = request.header("Range", format!("bytes={from}-"));
        }
        let own = authority(url) == authority(&self.settings.endpoint);
        if let Some(token) = self.settings.token.as_ref().filter(|_| own) {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        request
            .call()
            .map_err(|error| match https::distrust(&error) {
                Some(reason) => Failure::Final(HubError::Distrusted {
                    url: url.to_owned(),
                    reason,
                }),
                None => passing(error),
            })
    }

    /// What an answer means that is none.
    pub(crate) fn refusal(
        &self,
        place: &HubPath,
        url: &str,
        answer: &mut Response<Body>,
    ) -> Failure {
        let status = answer.status();
        let code = text(answer.headers(), "x-error-code").map(str::to_owned);
        let said = text(answer.headers(), "x-error-message").map(str::to_owned);
        let retry_after = text(answer.headers(), "retry-after")
            .and_then(|seconds| seconds.trim().parse().ok())
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            .map(|wait| wait.min(LONGEST_WAIT));
        if matches!(status.as_u16(), 408 | 425 | 429 | 500..=599) {
            return Failure::Passing {
                reason: format!("status {status}"),
                retry_after,
            };
        }
        let mut body = || answer.body_mut().read_to_string().unwrap_or_default();
        let message = said.unwrap_or_else(|| body().trim().chars().take(300).collect());
        let token = self.settings.token.is_some();
        let endpoint = self.settings.endpoint.clone();
        let unknown = || HubError::no_repository(place, self.settings);
        let place = Box::new(place.clone());
        Failure::Final(match (status, code.as_deref()) {
            (_, Some("GatedRepo")) | (StatusCode::FORBIDDEN, _) => HubError::Gated {
                place,
                endpoint,
                token,
            },
            (_, Some("RevisionNotFound")) => HubError::NoRevision { place },
            (_, Some("EntryNotFound")) => HubError::Unsuitable {
                place,
                problem: format!("`{url}` is not there"),
            },
            (_, Some("RepoNotFound")) | (StatusCode::NOT_FOUND, _) => unknown(),
            (StatusCode::UNAUTHORIZED, _) if token => HubError::BadToken { endpoint, message },
            (StatusCode::UNAUTHORIZED, _) => unknown(),
            (status, _) => HubError::Status {
                url: url.to_owned(),
                status: status.as_u16(),
                message,
            },
        })
    }
}

#[derive(Clone, Copy)]
enum Method {
    Get,
    Head,
}

pub(crate) fn passing(error: ureq::Error) -> Failure {
    Failure::Passing {
        reason: error.to_string(),
        retry_after: None,
    }
}

pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Scheme, host and port of an address.
fn authority(url: &str) -> &str {
    let host = url.find("://").map_or(0, |scheme| scheme + 3);
    let end = url[host..].find('/').map_or(url.len(), |end| host + end);
    &url[..end]
}

/// Where an answer sends on to.
fn location(url: &str, answer: &Response<Body>) -> Option<String> {
    let to = match answer.status().as_u16() {
        301 | 302 | 303 | 307 | 308 => text(answer.headers(), "location")?,
        _ => return None,
    };
    Some(match to.strip_prefix('/') {
        Some(rest) if !rest.starts_with('/') => format!("{}/{rest}", authority(url)),
        _ => to.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_server_are_told_from_those_of_others() {
        assert_eq!(authority("https://a:1/b/c"), "https://a:1");
        assert_eq!(authority("https://a"), "https://a");
        assert_ne!(authority("http://a/x"), authority("https://a/x"));
        assert_ne!(authority("https://a.b/x"), authority("https://a/x"));
    }
}
