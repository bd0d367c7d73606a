//! The names: `hf://owner/name[@revision][/inside]`.

use crate::error::HubError;
use std::fmt;
use std::path::Path;

/// How the names begin.
pub const SCHEME: &str = "hf://";

/// What a repository holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A model.
    Model,
    /// Problems.
    DataSet,
}

impl Kind {
    /// In addresses of the hub's own interface.
    pub(crate) fn plural(self) -> &'static str {
        match self {
            Self::Model => "models",
            Self::DataSet => "datasets",
        }
    }

    /// In front of a repository's name in addresses of its files.
    pub(crate) fn prefix(self) -> &'static str {
        match self {
            Self::Model => "",
            Self::DataSet => "datasets/",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Model => "model",
            Self::DataSet => "data set",
        })
    }
}

/// A place on the hub.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HubPath {
    /// What is wanted there.
    pub kind: Kind,
    /// `owner/name`.
    pub repository: String,
    /// Branch, tag or commit; `None`: `main`.
    pub revision: Option<String>,
    /// A file or folder in the repository; `None`: what it is for.
    pub inside: Option<String>,
}

impl HubPath {
    /// Whether a path names a place on the hub.
    pub fn is_one(path: &Path) -> bool {
        path.to_str().is_some_and(|text| text.starts_with(SCHEME))
    }

    /// Reads a name. That of a data set may begin `hf://datasets/`, as Python writes it; a `/` in a
    /// revision is written `%2F`, but for `refs/pr/N` and `refs/convert/parquet`.
    ///
    /// # Errors
    /// [`HubError::Name`].
    pub fn parse(kind: Kind, text: &str) -> Result<Self, HubError> {
        let bad = |reason: &str| HubError::Name {
            name: text.to_owned(),
            reason: reason.to_owned(),
        };
        let rest = text.strip_prefix(SCHEME);
        let rest = rest.ok_or_else(|| bad("it does not begin with `hf://`"))?;
        let rest = rest.trim_end_matches('/');
        let rest = match (kind, rest.strip_prefix("datasets/")) {
            (_, None) => rest,
            (Kind::DataSet, Some(rest)) => rest,
            (Kind::Model, Some(_)) => {
                return Err(bad("it names a data set, and a model is wanted here"));
            }
        };
        let mut parts = rest.split('/');
        let (Some(owner), Some(name)) = (parts.next(), parts.next()) else {
            return Err(bad("the owner or the name is missing"));
        };
        let mut inside: Vec<&str> = parts.collect();
        let (name, revision) = match name.split_once('@') {
            None => (name, None),
            Some((name, "refs")) if matches!(inside.first(), Some(&"pr" | &"convert")) => {
                let reference: Vec<&str> = inside.drain(..inside.len().min(2)).collect();
                (name, Some(format!("refs/{}", reference.join("/"))))
            }
            Some((name, revision)) => (name, Some(revision.replace("%2F", "/"))),
        };
        for part in [owner, name] {
            let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            if part.is_empty() || part.starts_with('.') || !part.chars().all(known) {
                return Err(bad(
                    "owners and names consist of letters, digits, `-`, `_` and `.`",
                ));
            }
        }
        if revision
            .as_deref()
            .is_some_and(|revision| !is_tame(revision))
        {
            return Err(bad("the revision is none"));
        }
        let inside = inside.join("/");
        if !inside.is_empty() && !is_tame(&inside) {
            return Err(bad("what follows the name is no path in a repository"));
        }
        Ok(Self {
            kind,
            repository: format!("{owner}/{name}"),
            revision,
            inside: (!inside.is_empty()).then_some(inside),
        })
    }

    /// Branch, tag or commit.
    pub(crate) fn revision_or_main(&self) -> &str {
        self.revision.as_deref().unwrap_or("main")
    }
}

/// Whether a path with `/` stays below the folder that it is joined to. File names of a repository are
/// what somebody on the network says.
pub(crate) fn is_tame(path: &str) -> bool {
    let tame = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(['\\', '\0', ':']);
    path.split('/').all(tame)
}

/// A path in an address.
pub(crate) fn escaped(path: &str, keep_slashes: bool) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            b'/' if keep_slashes => out.push('/'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

impl fmt::Display for HubPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}", self.repository)?;
        if let Some(revision) = &self.revision {
            write!(f, "@{}", revision.replace('/', "%2F"))?;
        }
        match &self.inside {
            Some(inside) => write!(f, "/{inside}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_an_owner_and_perhaps_a_revision_and_a_file() {
        let parse = |text: &str| HubPath::parse(Kind::DataSet, text).unwrap();
        let parts = |text: &str| {
            let place = parse(text);
            (place.repository, place.revision, place.inside)
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(parts("hf://a/b"), ("a/b".into(), None, None));
        assert_eq!(parts("hf://datasets/a/b/"), ("a/b".into(), None, None));
        assert_eq!(
            parts("hf://a/b.c-d@v1/x/y.jsonl"),
            ("a/b.c-d".into(), some("v1"), some("x/y.jsonl"))
        );
        let parquet = (
            "a/b".into(),
            some("refs/convert/parquet"),
            some("x/0.parquet"),
        );
        assert_eq!(parts("hf://a/b@refs/convert/parquet/x/0.parquet"), parquet);
        assert_eq!(
            parts("hf://a/b@refs%2Fconvert%2Fparquet/x/0.parquet"),
            parquet
        );
        for text in ["hf://a/b", "hf://a/b@v1/x", "hf://a/b@refs%2Fpr%2F1/x"] {
            assert_eq!(parse(text).to_string(), text);
        }
    }

    #[test]
    fn what_is_no_name_is_refused_with_the_reason() {
        for (text, reason) in [
            ("hf://gpt2", "missing"),
            ("hf://", "missing"),
            ("hf:///b", "letters"),
            ("hf://a/b c", "letters"),
            ("hf://../b", "letters"),
            ("hf://a/b@", "revision"),
            ("hf://a/b@../../x", "revision"),
            ("hf://a/b/../../x", "no path"),
            ("hf://a/b//x", "no path"),
            ("hf://datasets/a/b", "a model is wanted"),
        ] {
            let message = HubPath::parse(Kind::Model, text).unwrap_err().to_string();
            assert!(message.contains(reason), "{text}: {message}");
        }
        assert!(HubPath::is_one(Path::new("hf://a/b")) && !HubPath::is_one(Path::new("hf/a/b")));
    }

    #[test]
    fn addresses_hold_no_character_with_a_meaning() {
        assert_eq!(escaped("a b/c#d.é", true), "a%20b/c%23d.%C3%A9");
        assert_eq!(escaped("refs/pr/1", false), "refs%2Fpr%2F1");
    }
}
