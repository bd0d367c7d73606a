//! What can go wrong in an evaluation.

use std::io;
use std::path::PathBuf;

use seele_data::{BoxError, DataError, EncodeError, TemplateError};
use seele_rollout::RolloutError;

/// Why an evaluation or a comparison could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvalError {
    /// No benchmark has the name.
    #[error("there is no benchmark or suite `{name}`{}; choose from {}, the suites math, general and paper, or give a `.toml` file",
        nearest.map(|known| format!(", did you mean `{known}`?")).unwrap_or_default(),
        crate::Benchmark::names().collect::<Vec<_>>().join(", "))]
    UnknownBenchmark {
        /// What was asked for.
        name: String,
        /// The most similar name.
        nearest: Option<&'static str>,
    },
    /// An empty list of benchmarks.
    #[error("no benchmark is named; give a suite (math, general, paper) or names")]
    NoBenchmark,
    /// Two benchmarks of one evaluation bear the same name.
    #[error("two benchmarks are named `{name}`; their records would be one file, rename one")]
    SameName {
        /// The name.
        name: String,
    },
    /// A benchmark file is not what it should be.
    #[error("benchmark {origin}: {source}")]
    BenchmarkToml {
        /// The file.
        origin: String,
        /// Line and reason.
        source: toml::de::Error,
    },
    /// A setting of a benchmark is outside its range.
    #[error("benchmark `{name}`: `{key}` must be {expected}")]
    InvalidBenchmark {
        /// The benchmark.
        name: String,
        /// The key.
        key: &'static str,
        /// What it may be.
        expected: &'static str,
    },
    /// The prompt template is unknown or broken.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The problems are not there.
    #[error("{title}: none of {} is in `{}`{}", files.iter().map(|file| format!("`{}`", file.display())).collect::<Vec<_>>().join(", "),
        folder.display(), get.as_ref().map(|get| format!("; it holds {get}")).unwrap_or_default())]
    MissingSet {
        /// Title of the benchmark.
        title: String,
        /// The data folder.
        folder: PathBuf,
        /// What was looked for.
        files: Vec<PathBuf>,
        /// How to get it.
        get: Option<String>,
    },
    /// The file has another number of rows than was published.
    #[error("{title}: `{}` has {found} rows, published are {expected}; fetch it again, or describe the variant in a benchmark file of your own", file.display())]
    RowCount {
        /// Title of the benchmark.
        title: String,
        /// The file.
        file: PathBuf,
        /// Its rows.
        found: usize,
        /// The published rows.
        expected: usize,
    },
    /// A file of problems.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A row of a table in CSV.
    #[error("`{}`, line {line}: {reason}", file.display())]
    Csv {
        /// The file.
        file: PathBuf,
        /// One-based line where the row begins.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A column of a row is not what the benchmark needs.
    #[error("problem `{id}`: `{field}` must be {expected}")]
    Field {
        /// The problem.
        id: String,
        /// The column.
        field: String,
        /// What it may be.
        expected: &'static str,
    },
    /// A problem does not fit the template, the tokenizer or the model.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The server cannot be asked.
    #[error(transparent)]
    Client(#[from] seele_client::ClientError),
    /// A setting that OpenAI's interface has no field for.
    #[error(
        "{what} cannot be asked of a server, whose interface has no field for it; take another template or setting, or evaluate the model here"
    )]
    NotForServers {
        /// The setting.
        what: String,
    },
    /// The engine.
    #[error(transparent)]
    Rollout(#[from] RolloutError),
    /// A response that is no text.
    #[error("cannot decode the response to problem `{id}`: {source}")]
    Decode {
        /// The problem.
        id: String,
        /// The tokenizer's reason.
        source: BoxError,
    },
    /// A file cannot be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write `{}`: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// A record holds something else than it should.
    #[error("`{}`, line {line}: {reason}; remove the file to evaluate again from the start", path.display())]
    BrokenRecord {
        /// The file.
        path: PathBuf,
        /// One-based line.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// A record of an evaluation with other settings is in the way.
    #[error("`{}` was made with other settings ({}); choose another folder, or remove it", path.display(), differences.join(", "))]
    OtherSettings {
        /// The file.
        path: PathBuf,
        /// Keys whose values differ.
        differences: Vec<String>,
    },
    /// A record of an evaluation that was stopped.
    #[error("`{}` has {found} of {expected} responses; repeat the command that made it, it goes on where it stopped", path.display())]
    Unfinished {
        /// The file.
        path: PathBuf,
        /// Responses it has.
        found: usize,
        /// Responses it should have.
        expected: usize,
    },
    /// Two records or folders have nothing in common.
    #[error("`{}` and `{}` have no benchmark in common; compare folders or records of the same benchmarks", a.display(), b.display())]
    NothingInCommon {
        /// The first.
        a: PathBuf,
        /// The second.
        b: PathBuf,
    },
    /// Two records of one benchmark answer different problems.
    #[error(
        "{benchmark}: `{a}` and `{b}` were not made on the same problems ({reason}); evaluate both with the same data and `--limit`"
    )]
    OtherProblems {
        /// The benchmark.
        benchmark: String,
        /// The first model.
        a: String,
        /// The second model.
        b: String,
        /// What differs.
        reason: String,
    },
}
