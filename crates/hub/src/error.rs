//! Why something of the hub cannot be had, and what to do.

use crate::place::{HubPath, Kind};
use crate::settings::Settings;
use seele_client::https::{self, TrustError};
use std::error::Error;
use std::io;
use std::path::PathBuf;

/// Why something of the hub cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// A text that is no name.
    #[error(
        "`{name}`: {reason}; write `hf://owner/name`, behind it `@revision` and `/file` where needed"
    )]
    Name {
        /// The text.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An environment variable says nothing that can be used.
    #[error("the environment variable `{name}` must be {expected}")]
    Variable {
        /// The variable.
        name: &'static str,
        /// What it may be.
        expected: &'static str,
    },
    /// The trusted certificates cannot be used.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The hub may not be asked, and the cache has not everything.
    #[error(
        "`{place}` is not whole in the cache `{}`, and `HF_HUB_OFFLINE` forbids to ask the hub; unset it, or fetch the files where there is a network (`{}`) and give their folder as a path", cache.display(), by_hand(place)
    )]
    Offline {
        /// What was wanted.
        place: Box<HubPath>,
        /// The cache.
        cache: PathBuf,
    },
    /// The hub does not answer, and the cache has not everything.
    #[error(
        "cannot reach the hub at {endpoint} ({reason}), and `{place}` is not whole in the cache; without a network, fetch the files elsewhere (`{}`) and give their folder as a path; where there is a mirror, set `HF_ENDPOINT` to its address",
        by_hand(place)
    )]
    Unreachable {
        /// What was wanted.
        place: Box<HubPath>,
        /// Address of the hub.
        endpoint: String,
        /// What happened.
        reason: String,
    },
    /// The hub's certificate leads to none that is trusted.
    #[error("{}", https::distrusted(url, reason))]
    Distrusted {
        /// Where was asked.
        url: String,
        /// What is wrong with the certificate.
        reason: String,
    },
    /// There is no such repository, or it is not for everybody.
    #[error(
        "{endpoint} has no {} repository `{}`{}", place.kind, place.repository, no_repository(place, *token)
    )]
    NoRepository {
        /// What was wanted.
        place: Box<HubPath>,
        /// Address of the hub.
        endpoint: String,
        /// Whether a token was shown.
        token: bool,
    },
    /// The repository has no such revision.
    #[error("the {} repository `{}` has no branch, tag or commit `{}`", place.kind, place.repository, place.revision_or_main())]
    NoRevision {
        /// What was wanted.
        place: Box<HubPath>,
    },
    /// Its owner wants to know who asks.
    #[error(
        "`{}` is open only to those whom its owner lets in: ask on {endpoint}/{}{}, {}",
        place.repository, place.kind.prefix(), place.repository,
        if *token { "with the account whose token you use" } else { "then log in with `hf auth login`, or set `HF_TOKEN`" }
    )]
    Gated {
        /// What was wanted.
        place: Box<HubPath>,
        /// Address of the hub.
        endpoint: String,
        /// Whether a token was shown.
        token: bool,
    },
    /// The hub does not know the token.
    #[error(
        "{endpoint} does not take the token ({message}); log in again with `hf auth login`, or correct `HF_TOKEN`"
    )]
    BadToken {
        /// Address of the hub.
        endpoint: String,
        /// What it says.
        message: String,
    },
    /// The repository has not what was named, or not what is needed.
    #[error("`{place}`: {problem}")]
    Unsuitable {
        /// What was wanted.
        place: Box<HubPath>,
        /// What is missing, and what there is.
        problem: String,
    },
    /// The caller does not want what the hub has.
    #[error("`{place}` cannot be used: {source}")]
    Unwanted {
        /// What was wanted.
        place: Box<HubPath>,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
    /// Something else than a hub answers.
    #[error(
        "`{url}` does not answer as the hub does: {problem}; if it is a mirror, is `HF_ENDPOINT` right?"
    )]
    NoHub {
        /// Where was asked.
        url: String,
        /// What is wrong with the answer.
        problem: String,
    },
    /// The hub refuses.
    #[error("`{url}` answers with status {status}: {message}")]
    Status {
        /// Where was asked.
        url: String,
        /// HTTP status.
        status: u16,
        /// What it says.
        message: String,
    },
    /// A transfer does not come to its end.
    #[error(
        "the transfer of `{file}` broke off again and again ({reason}); what has arrived is kept, repeat the command to go on"
    )]
    BrokenOff {
        /// Name in the repository.
        file: String,
        /// The last failure.
        reason: String,
    },
    /// What arrives is not what the hub says the file is.
    #[error(
        "`{file}` arrived damaged twice ({problem}); something between here and the hub changes it"
    )]
    Damaged {
        /// Name in the repository.
        file: String,
        /// What differs.
        problem: String,
    },
    /// The cache cannot be read or written.
    #[error("cannot use `{}` in the cache: {source}; `HF_HUB_CACHE` names another folder", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
}

impl HubError {
    /// Whether the network or the disk gave out in the middle of a transfer, rather than that something
    /// cannot be had at all.
    pub fn is_failure(&self) -> bool {
        matches!(
            self,
            Self::BrokenOff { .. } | Self::Damaged { .. } | Self::File { .. }
        )
    }

    pub(crate) fn no_repository(place: &HubPath, settings: &Settings) -> Self {
        Self::NoRepository {
            place: Box::new(place.clone()),
            endpoint: settings.endpoint.clone(),
            token: settings.token.is_some(),
        }
    }
}

/// The command that fetches by hand.
fn by_hand(place: &HubPath) -> String {
    let mut command = format!("hf download {}", place.repository);
    if let Some(inside) = &place.inside {
        command.push_str(&format!(" --include \"{inside}*\""));
    }
    if place.kind == Kind::DataSet {
        command.push_str(" --repo-type dataset");
    }
    if let Some(revision) = &place.revision {
        command.push_str(&format!(" --revision {revision}"));
    }
    command + " --local-dir FOLDER"
}

fn no_repository(place: &HubPath, token: bool) -> String {
    let private = match token {
        true => "for the account whose token you use",
        false => "for those without a token (`hf auth login`, or `HF_TOKEN`, if it is private)",
    };
    let other = match place.kind {
        Kind::Model => "where a model is wanted, `hf://` names repositories of models",
        Kind::DataSet => "where problems are wanted, `hf://` names repositories of data sets",
    };
    format!(" {private}; {other}")
}
