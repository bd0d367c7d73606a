//! Every answer of a server, in a file that survives the program.

use crate::error::AnnotateError;
use crate::rules::Rules;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// The `format` of this version's journals.
const FORMAT: &str = "seele-annotate-1";

/// What the results depend on besides the server's answers. Where the server is may change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    format: String,
    /// Name of the model that is asked.
    pub model: String,
    /// Its temperature.
    pub temperature: f64,
    /// What is asked of it.
    pub instructions: String,
    /// What is kept.
    pub rules: Rules,
    /// What counted the tokens: a model's tokenizer, or nothing for the server itself.
    pub tokenizer: Option<String>,
    /// Name and version of the verifier.
    pub verifier: String,
}

impl Header {
    /// The header of an annotation that begins now.
    pub fn new(model: String, temperature: f64, rules: Rules, tokenizer: Option<String>) -> Self {
        Self {
            format: FORMAT.into(),
            model,
            temperature,
            instructions: crate::INSTRUCTIONS.into(),
            rules,
            tokenizer,
            verifier: concat!("seele-verify ", env!("CARGO_PKG_VERSION")).into(),
        }
    }

    fn differences(&self, other: &Self) -> Vec<String> {
        let values = (serde_json::to_value(self), serde_json::to_value(other));
        let (Ok(Value::Object(mine)), Ok(Value::Object(theirs))) = values else {
            return Vec::new();
        };
        let differs = mine
            .iter()
            .filter(|(key, value)| theirs.get(*key) != Some(value));
        let name = |(key, value): (&String, &Value)| match key.as_str() {
            "instructions" => format!("`{key}`"),
            _ => format!(
                "`{key}`: {value} and {}",
                theirs.get(key).unwrap_or(&Value::Null)
            ),
        };
        differs.map(name).collect()
    }
}

/// What became of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// Kept.
    Accepted {
        /// Tokens of the solution.
        tokens: usize,
    },
    /// Not kept.
    Rejected {
        /// Why.
        reason: String,
    },
    /// The server will not answer this question.
    Refused {
        /// What it says.
        reason: String,
    },
}

/// An answer and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Try {
    /// The problem.
    pub id: String,
    /// Which answer to it, from 1.
    pub number: usize,
    /// What became of it.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// Tokens of the question, by the server.
    pub prompt_tokens: Option<usize>,
    /// Tokens of the answer, by the server.
    pub completion_tokens: Option<usize>,
    /// The answer.
    pub response: String,
}

/// The tries of a run so far. One process at a time has it.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    header: Header,
    tries: HashMap<String, Vec<Try>>,
}

impl Journal {
    /// Begins a journal, or goes on with the one at `path`; a line that was being written when its
    /// process ended is cut off.
    ///
    /// # Errors
    /// [`AnnotateError::OtherSettings`], [`AnnotateError::BrokenJournal`], [`AnnotateError::InUse`],
    /// [`AnnotateError::File`].
    pub fn open(path: &Path, header: Header) -> Result<Self, AnnotateError> {
        let failed = |source| AnnotateError::File {
            path: path.to_path_buf(),
            source,
        };
        let mut options = OpenOptions::new();
        let file = options.read(true).append(true).create(true).open(path);
        let mut file = file.map_err(failed)?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => AnnotateError::InUse {
                path: path.to_path_buf(),
            },
            TryLockError::Error(source) => failed(source),
        })?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed)?;
        let whole = bytes
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |end| end + 1);
        bytes.truncate(whole);
        file.set_len(whole as u64).map_err(failed)?;
        let mut journal = Self {
            path: path.to_path_buf(),
            file,
            header,
            tries: HashMap::new(),
        };
        match whole {
            0 => journal.write(&journal.header.clone())?,
            _ => journal.read(&bytes)?,
        }
        Ok(journal)
    }

    fn read(&mut self, bytes: &[u8]) -> Result<(), AnnotateError> {
        let broken = |line: usize, reason: String| AnnotateError::BrokenJournal {
            path: self.path.clone(),
            line,
            reason,
        };
        let mut tries: HashMap<String, Vec<Try>> = HashMap::new();
        for (index, line) in bytes.split_inclusive(|&byte| byte == b'\n').enumerate() {
            let number = index + 1;
            if index == 0 {
                let found: Header = serde_json::from_slice(line)
                    .map_err(|error| broken(number, format!("this is no header ({error})")))?;
                let differences = self.header.differences(&found);
                if !differences.is_empty() {
                    return Err(AnnotateError::OtherSettings {
                        path: self.path.clone(),
                        differences,
                    });
                }
                continue;
            }
            let found: Try = serde_json::from_slice(line)
                .map_err(|error| broken(number, format!("this is no answer ({error})")))?;
            let of_problem = tries.entry(found.id.clone()).or_default();
            if found.number != of_problem.len() + 1 {
                let reason = format!(
                    "answer {} to problem `{}` follows {}",
                    found.number,
                    found.id,
                    of_problem.len()
                );
                return Err(broken(number, reason));
            }
            of_problem.push(found);
        }
        self.tries = tries;
        Ok(())
    }

    /// Adds a try; it is with the operating system when this returns.
    ///
    /// # Errors
    /// [`AnnotateError::File`].
    pub(crate) fn append(&mut self, found: Try) -> Result<(), AnnotateError> {
        self.write(&found)?;
        self.tries.entry(found.id.clone()).or_default().push(found);
        Ok(())
    }

    fn write(&mut self, line: &impl Serialize) -> Result<(), AnnotateError> {
        let failed = |source| AnnotateError::File {
            path: self.path.clone(),
            source,
        };
        let mut bytes = serde_json::to_vec(line).map_err(|error| failed(error.into()))?;
        bytes.push(b'\n');
        self.file.write_all(&bytes).map_err(failed)
    }

    /// The tries of a problem, in order.
    pub fn tries_of(&self, id: &str) -> &[Try] {
        self.tries.get(id).map_or(&[], Vec::as_slice)
    }

    /// All tries, in no particular order.
    pub fn tries(&self) -> impl Iterator<Item = &Try> {
        self.tries.values().flatten()
    }

    /// Whether nothing is left to be asked about a problem.
    pub fn is_settled(&self, id: &str) -> bool {
        let tries = self.tries_of(id);
        let last = tries.last().map(|last| &last.verdict);
        match last {
            Some(Verdict::Accepted { .. } | Verdict::Refused { .. }) => true,
            Some(Verdict::Rejected { .. }) => tries.len() >= self.header.rules.tries,
            None => false,
        }
    }

    /// What the journal was begun with.
    pub fn header(&self) -> &Header {
        &self.header
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(model: &str) -> Header {
        Header::new(model.into(), 0.6, Rules::default(), None)
    }

    fn rejected(id: &str, number: usize) -> Try {
        Try {
            id: id.into(),
            number,
            verdict: Verdict::Rejected {
                reason: "no box".into(),
            },
            prompt_tokens: Some(3),
            completion_tokens: None,
            response: "hm\n".into(),
        }
    }

    #[test]
    fn a_journal_that_was_cut_within_a_line_goes_on_after_the_line_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("j");
        let mut journal = Journal::open(&path, header("m")).unwrap();
        for number in 1..=3 {
            assert!(!journal.is_settled("a"));
            journal.append(rejected("a", number)).unwrap();
        }
        assert!(journal.is_settled("a") && !journal.is_settled("b"));
        journal.append(rejected("b", 1)).unwrap();
        let second = Journal::open(&path, header("m")).unwrap_err();
        assert!(matches!(second, AnnotateError::InUse { .. }));
        drop(journal);

        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 4]).unwrap();
        let mut journal = Journal::open(&path, header("m")).unwrap();
        assert!(journal.is_settled("a") && journal.tries_of("b").is_empty());
        journal.append(rejected("b", 1)).unwrap();
        drop(journal);
        assert_eq!(std::fs::read(&path).unwrap(), whole);
    }

    #[test]
    fn other_settings_and_doubled_answers_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("j");
        let mut journal = Journal::open(&path, header("m")).unwrap();
        journal.append(rejected("a", 1)).unwrap();
        drop(journal);
        let message = Journal::open(&path, header("n")).unwrap_err().to_string();
        assert!(message.contains("`model`: \"n\" and \"m\""), "{message}");
        let text = std::fs::read_to_string(&path).unwrap();
        let doubled = format!("{text}{}\n", text.lines().last().unwrap());
        std::fs::write(&path, doubled).unwrap();
        let message = Journal::open(&path, header("m")).unwrap_err().to_string();
        assert!(
            message.contains("line 3: answer 1 to problem `a` follows 1"),
            "{message}"
        );
    }
}
