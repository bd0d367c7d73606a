//! The record of an evaluation: a header, then every response, as JSON lines.
//!
//! Lines are appended as responses end, so a stopped evaluation loses nothing but what was being
//! written; when all are there, they are put in the order of problems and samples. The finished
//! file is therefore the same however often the evaluation was stopped.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use seele_verify::Verdict;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::EvalError;
use crate::grading::Grader;

/// The `format` of this version's records.
const FORMAT: &str = "seele-eval-1";

/// The model that was evaluated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelIdentity {
    /// What people call it: a path, a name.
    pub name: String,
    /// Tells apart models of one name; equal for equal weights.
    pub fingerprint: String,
    /// Number type of its products: `f32`, `bf16`.
    pub compute: String,
}

/// The file of problems.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataIdentity {
    /// Its path.
    pub file: String,
    /// SHA-256 of its bytes.
    pub sha256: String,
    /// Its rows.
    pub rows: usize,
}

/// Everything that a result depends on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// Version of the record's form.
    pub format: String,
    /// Name of the benchmark.
    pub benchmark: String,
    /// Its name in tables.
    pub title: String,
    /// The model.
    pub model: ModelIdentity,
    /// The file of problems.
    pub data: DataIdentity,
    /// Problems that are asked, the first of the file.
    pub problems: usize,
    /// Completions of each.
    pub samples: usize,
    /// Divisor of the logits; 0 is greedy.
    pub temperature: f64,
    /// Probability of the set of tokens drawn from.
    pub top_p: f64,
    /// Likeliest tokens drawn from; 0: all.
    pub top_k: usize,
    /// Longest completion, tokens: the protocol's, or what the model has room for.
    pub max_new_tokens: usize,
    /// Tokens that end a completion.
    pub stop_tokens: Vec<u32>,
    /// Source of every draw.
    pub seed: u64,
    /// Order in which the options of multiple choice are shown; absent: as in the file.
    pub shuffle_choices: Option<u64>,
    /// The prompt template as TOML.
    pub template: String,
    /// The verifier and its settings.
    pub grader: Grader,
}

impl Header {
    pub(crate) fn format() -> String {
        FORMAT.into()
    }

    /// Responses that a finished record has.
    pub fn responses(&self) -> usize {
        self.problems * self.samples
    }

    /// The settings that differ, each with both values. Where model and data lie is no setting;
    /// what they are is.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let (Ok(mine), Ok(theirs)) = (serde_json::to_value(self), serde_json::to_value(other))
        else {
            return Vec::new();
        };
        let mut differences = Vec::new();
        collect_differences("", &mine, &theirs, &mut differences);
        differences
    }
}

fn collect_differences(path: &str, a: &Value, b: &Value, differences: &mut Vec<String>) {
    const PLACES: [&str; 2] = ["model.name", "data.file"];
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let keys = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key)));
            for key in keys {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                let value = |map: &serde_json::Map<String, Value>| {
                    map.get(key).cloned().unwrap_or(Value::Null)
                };
                collect_differences(&path, &value(a), &value(b), differences);
            }
        }
        _ if a == b || PLACES.contains(&path) => {}
        _ if path == "template" => differences.push("`template`".into()),
        _ => differences.push(format!("`{path}`: {a} and {b}")),
    }
}

/// A response and its verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// Id of the problem.
    pub id: String,
    /// Index among the samples of the problem.
    pub sample: usize,
    /// Counts as right: its verdict is `correct` and it was not cut off.
    pub correct: bool,
    /// What the verifier says of the text.
    pub verdict: Verdict,
    /// Why.
    pub reason: String,
    /// The gold answer.
    pub gold: String,
    /// The answer that was found.
    pub extracted: Option<String>,
    /// Generated tokens, the end token included.
    pub tokens: usize,
    /// Cut at the token limit without an end or a stop text of the template.
    pub truncated: bool,
    /// The server would not answer; `reason` is what it said.
    #[serde(default, skip_serializing_if = "is_false")]
    pub refused: bool,
    /// Columns of the row by whose values accuracy is reported.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub groups: BTreeMap<String, String>,
    /// What the model wrote, up to the template's stop text.
    pub response: String,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// A record in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// What the result depends on.
    pub header: Header,
    /// The responses in the order of the file.
    pub responses: Vec<Response>,
}

impl Record {
    /// Reads a finished record.
    ///
    /// # Errors
    /// [`EvalError::Read`], [`EvalError::BrokenRecord`], [`EvalError::Unfinished`].
    pub fn read(path: &Path) -> Result<Self, EvalError> {
        let parts = Parts::read(path)?;
        let header = parts.header.ok_or_else(|| EvalError::BrokenRecord {
            path: path.to_path_buf(),
            line: 1,
            reason: "the header is missing".into(),
        })?;
        if parts.responses.len() != header.responses() {
            return Err(EvalError::Unfinished {
                path: path.to_path_buf(),
                found: parts.responses.len(),
                expected: header.responses(),
            });
        }
        Ok(Self {
            header,
            responses: parts.responses,
        })
    }
}

/// What a record file holds, up to a line that was being written when its program ended.
struct Parts {
    header: Option<Header>,
    responses: Vec<Response>,
    /// Bytes of the whole lines.
    whole: u64,
}

impl Parts {
    fn read(path: &Path) -> Result<Self, EvalError> {
        let text = std::fs::read(path).map_err(|source| EvalError::Read {
            path: path.to_path_buf(),
            source,
        })?;
        let whole = text
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |end| end + 1);
        let broken = |line, reason: String| EvalError::BrokenRecord {
            path: path.to_path_buf(),
            line,
            reason,
        };
        let (mut header, mut responses) = (None::<Header>, Vec::new());
        let mut lines = HashMap::new();
        let text = text.get(..whole).unwrap_or_default();
        for (index, line) in text.split_inclusive(|&byte| byte == b'\n').enumerate() {
            let number = index + 1;
            let Some(header) = &header else {
                let read: Header = serde_json::from_slice(line)
                    .map_err(|error| broken(number, format!("this is no header ({error})")))?;
                if read.format != FORMAT {
                    let reason = format!("format `{}` is not known here", read.format);
                    return Err(broken(number, reason));
                }
                header = Some(read);
                continue;
            };
            let response: Response = serde_json::from_slice(line)
                .map_err(|error| broken(number, format!("this is no response ({error})")))?;
            if response.sample >= header.samples {
                let reason = format!("sample {} of {}", response.sample, header.samples);
                return Err(broken(number, reason));
            }
            let key = (response.id.clone(), response.sample);
            if let Some(first) = lines.insert(key, number) {
                let reason = format!("problem `{}` was answered in line {first}", response.id);
                return Err(broken(number, reason));
            }
            responses.push(response);
        }
        Ok(Self {
            header,
            responses,
            whole: whole as u64,
        })
    }
}

/// A record that is being written.
pub(crate) struct RecordWriter {
    path: PathBuf,
    file: File,
}

impl RecordWriter {
    /// Starts a record, or goes on with the one at `path`, whose responses so far are given back.
    ///
    /// # Errors
    /// [`EvalError::OtherSettings`] if it was made with another header; [`EvalError::BrokenRecord`].
    pub(crate) fn open(path: &Path, header: &Header) -> Result<(Self, Vec<Response>), EvalError> {
        let write = |source| EvalError::Write {
            path: path.to_path_buf(),
            source,
        };
        let found = match path.is_file() {
            true => Some(Parts::read(path)?),
            false => None,
        };
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(write)?;
        }
        let mut options = OpenOptions::new();
        let file = options
            .append(true)
            .create(true)
            .open(path)
            .map_err(write)?;
        let mut writer = Self {
            path: path.to_path_buf(),
            file,
        };
        let (whole, responses) = match found {
            Some(Parts {
                header: Some(found),
                responses,
                whole,
            }) => {
                let differences = header.differences(&found);
                if !differences.is_empty() {
                    return Err(EvalError::OtherSettings {
                        path: writer.path,
                        differences,
                    });
                }
                (whole, responses)
            }
            _ => (0, Vec::new()),
        };
        writer.file.set_len(whole).map_err(write)?;
        if whole == 0 {
            writer.append(header)?;
        }
        Ok((writer, responses))
    }

    /// Appends a line; it is with the operating system when this returns.
    ///
    /// # Errors
    /// [`EvalError::Write`].
    pub(crate) fn append(&mut self, line: &impl Serialize) -> Result<(), EvalError> {
        let write = |source| EvalError::Write {
            path: self.path.clone(),
            source,
        };
        let mut bytes = serde_json::to_vec(line).map_err(|error| write(error.into()))?;
        bytes.push(b'\n');
        self.file.write_all(&bytes).map_err(write)
    }

    /// Replaces the file by the whole record, in its order.
    ///
    /// # Errors
    /// [`EvalError::Write`]; the file is then as it was.
    pub(crate) fn finish(self, record: &Record) -> Result<(), EvalError> {
        let Self { path, file } = self;
        drop(file);
        let beside = path.with_extension("jsonl.new");
        let write = || -> std::io::Result<()> {
            let mut file = BufWriter::new(File::create(&beside)?);
            serde_json::to_writer(&mut file, &record.header)?;
            file.write_all(b"\n")?;
            for response in &record.responses {
                serde_json::to_writer(&mut file, response)?;
                file.write_all(b"\n")?;
            }
            file.into_inner()
                .map_err(|error| error.into_error())?
                .sync_all()?;
            std::fs::rename(&beside, &path)
        };
        write().map_err(|source| EvalError::Write { path, source })
    }
}
