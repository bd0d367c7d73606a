//! What a benchmark is: a declarative file.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use seele_data::PromptTemplate;
use seele_verify::{Extraction, Mode};
use serde::{Deserialize, Serialize};

use crate::error::EvalError;

/// A benchmark and its protocol, as its TOML file says it. Keys that are left out have the values
/// of the paper's evaluation: R1-Zero template, answer in the last box, greedy, one sample, 2,048
/// tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Benchmark {
    /// Short name, which also names its record: letters, digits, `_` and `-`.
    pub name: String,
    /// Name in tables.
    pub title: String,
    /// Where its problems may lie under the data folder; the first that exists is read. The commands also
    /// take `hf://owner/name/file`, which they fetch if none before it is there.
    pub files: Vec<PathBuf>,
    /// Published number of rows; a file with another number is refused.
    #[serde(default)]
    pub rows: Option<usize>,
    /// How to get the problems, for the message when they are missing.
    #[serde(default)]
    pub get: Option<String>,
    /// Prompt template: a built-in name, or a `.toml` file beside the benchmark's file.
    #[serde(default = "paper_template")]
    pub template: String,
    /// Where the answer is looked for.
    #[serde(default)]
    pub extraction: Extraction,
    /// How it is compared with the gold.
    #[serde(default)]
    pub mode: Mode,
    /// Relative tolerance on numeric golds, in [0, 1).
    #[serde(default)]
    pub relative_tolerance: Option<f64>,
    /// Column with the absolute tolerance of a row; rows without one are compared exactly.
    #[serde(default)]
    pub absolute_tolerance_field: Option<String>,
    /// Put the options of multiple choice in an order drawn for each problem with this seed.
    #[serde(default)]
    pub shuffle_choices: Option<u64>,
    /// Completions of each problem, at least 1.
    #[serde(default = "one")]
    pub samples: usize,
    /// Divisor of the logits; 0 is greedy.
    #[serde(default)]
    pub temperature: f64,
    /// Probability of the set of tokens drawn from, in (0, 1].
    #[serde(default = "whole")]
    pub top_p: f64,
    /// Draw from so many likeliest tokens; 0 from all.
    #[serde(default)]
    pub top_k: usize,
    /// Longest completion, tokens, at least 1.
    #[serde(default = "paper_max_new_tokens")]
    pub max_new_tokens: usize,
    /// Columns by whose values accuracy is also reported.
    #[serde(default)]
    pub groups: Vec<String>,
    /// The folder of the benchmark's own file; `None` for those that come with the crate.
    #[serde(skip)]
    pub folder: Option<PathBuf>,
}

fn paper_template() -> String {
    "r1-zero".into()
}

fn one() -> usize {
    1
}

fn whole() -> f64 {
    1.0
}

fn paper_max_new_tokens() -> usize {
    2048
}

const BUILT_IN: [(&str, &str); 11] = [
    ("gsm8k", include_str!("../benchmarks/gsm8k.toml")),
    ("math500", include_str!("../benchmarks/math500.toml")),
    ("minerva", include_str!("../benchmarks/minerva.toml")),
    (
        "olympiadbench",
        include_str!("../benchmarks/olympiadbench.toml"),
    ),
    ("aime24", include_str!("../benchmarks/aime24.toml")),
    ("aime25", include_str!("../benchmarks/aime25.toml")),
    ("amc23", include_str!("../benchmarks/amc23.toml")),
    ("amc83", include_str!("../benchmarks/amc83.toml")),
    ("arc_c", include_str!("../benchmarks/arc_c.toml")),
    (
        "gpqa_diamond",
        include_str!("../benchmarks/gpqa_diamond.toml"),
    ),
    ("mmlu_pro", include_str!("../benchmarks/mmlu_pro.toml")),
];

const MATH: [&str; 6] = [
    "gsm8k",
    "math500",
    "minerva",
    "olympiadbench",
    "aime24",
    "amc23",
];
const GENERAL: [&str; 3] = ["arc_c", "gpqa_diamond", "mmlu_pro"];

/// The suites whose plain means the paper reports (SEELE Table 1), with the names of their benchmarks.
pub const SUITES: [(&str, &[&str]); 2] = [("math", &MATH), ("general", &GENERAL)];

impl Benchmark {
    /// The names of the benchmarks that come with the crate.
    pub fn names() -> impl Iterator<Item = &'static str> {
        BUILT_IN.iter().map(|(name, _)| *name)
    }

    /// A benchmark that comes with the crate.
    ///
    /// # Errors
    /// [`EvalError::UnknownBenchmark`], naming the nearest one.
    pub fn named(name: &str) -> Result<Self, EvalError> {
        match BUILT_IN.iter().find(|(known, _)| *known == name) {
            Some((_, text)) => Self::parse(text, format!("`{name}`")),
            None => Err(EvalError::UnknownBenchmark {
                name: name.to_owned(),
                nearest: Self::names()
                    .chain(["math", "general", "paper"])
                    .map(|known| (strsim::jaro_winkler(known, name), known))
                    .filter(|(similarity, _)| *similarity > 0.7)
                    .max_by(|a, b| a.0.total_cmp(&b.0))
                    .map(|(_, known)| known),
            }),
        }
    }

    /// Reads a benchmark from TOML text.
    ///
    /// # Errors
    /// [`EvalError::BenchmarkToml`], [`EvalError::InvalidBenchmark`].
    pub fn from_toml(text: &str) -> Result<Self, EvalError> {
        Self::parse(text, "given inline".into())
    }

    /// Reads a benchmark file.
    ///
    /// # Errors
    /// [`EvalError::Read`], [`EvalError::BenchmarkToml`], [`EvalError::InvalidBenchmark`].
    pub fn from_file(path: &Path) -> Result<Self, EvalError> {
        let text = std::fs::read_to_string(path).map_err(|source| EvalError::Read {
            path: path.to_path_buf(),
            source,
        })?;
        let mut benchmark = Self::parse(&text, format!("`{}`", path.display()))?;
        benchmark.folder = path.parent().map(Path::to_path_buf);
        Ok(benchmark)
    }

    fn parse(text: &str, origin: String) -> Result<Self, EvalError> {
        let benchmark: Self =
            toml::from_str(text).map_err(|source| EvalError::BenchmarkToml { origin, source })?;
        benchmark.check()?;
        Ok(benchmark)
    }

    /// The benchmarks of a list: suites (`math`, `general`, `paper` for both), names, and `.toml`
    /// files, separated by commas. What is named twice comes once.
    ///
    /// # Errors
    /// [`EvalError::UnknownBenchmark`], [`EvalError::SameName`] if two files give one name, or that
    /// a file cannot be read.
    pub fn select(list: &str) -> Result<Vec<Self>, EvalError> {
        let mut chosen: Vec<&str> = Vec::new();
        for item in list
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
        {
            match item {
                "math" => chosen.extend(MATH),
                "general" => chosen.extend(GENERAL),
                "paper" => chosen.extend(MATH.into_iter().chain(GENERAL)),
                name => chosen.push(name),
            }
        }
        if chosen.is_empty() {
            return Err(EvalError::NoBenchmark);
        }
        let mut seen = BTreeSet::new();
        chosen.retain(|item| seen.insert(*item));
        let mut names = BTreeSet::new();
        let mut benchmarks = Vec::with_capacity(chosen.len());
        for item in chosen {
            let benchmark = match item.ends_with(".toml") {
                true => Self::from_file(Path::new(item))?,
                false => Self::named(item)?,
            };
            // Records lie side by side under these names.
            if !names.insert(benchmark.name.clone()) {
                return Err(EvalError::SameName {
                    name: benchmark.name,
                });
            }
            benchmarks.push(benchmark);
        }
        Ok(benchmarks)
    }

    /// Checks every range; also after settings were changed.
    ///
    /// # Errors
    /// [`EvalError::InvalidBenchmark`] for the first one outside.
    pub fn check(&self) -> Result<(), EvalError> {
        let invalid = |key, expected| {
            Err(EvalError::InvalidBenchmark {
                name: self.name.clone(),
                key,
                expected,
            })
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if self.name.is_empty() || !self.name.chars().all(plain) {
            return invalid("name", "letters, digits, `_` and `-`");
        }
        if self.files.is_empty() {
            return invalid("files", "at least one file");
        }
        if self.samples == 0 {
            return invalid("samples", "at least 1");
        }
        if self.max_new_tokens == 0 {
            return invalid("max_new_tokens", "at least 1");
        }
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            return invalid("temperature", "a number, 0 or more");
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return invalid("top_p", "above 0 and at most 1");
        }
        if self
            .relative_tolerance
            .is_some_and(|t| !(0.0..1.0).contains(&t))
        {
            return invalid("relative_tolerance", "from 0 and below 1");
        }
        if self.temperature == 0.0 && self.samples > 1 {
            return invalid(
                "samples",
                "1 with temperature 0, where all samples are the same",
            );
        }
        Ok(())
    }

    /// The prompt template.
    ///
    /// # Errors
    /// [`EvalError::Template`].
    pub fn prompt_template(&self) -> Result<PromptTemplate, EvalError> {
        if !self.template.ends_with(".toml") {
            return Ok(PromptTemplate::named(&self.template)?);
        }
        let folder = self.folder.as_deref().unwrap_or(Path::new(""));
        Ok(PromptTemplate::from_file(folder.join(&self.template))?)
    }

    /// How results of this benchmark are called: `pass@1`, or `avg@32`.
    pub fn measure(&self) -> String {
        match self.samples {
            1 => "pass@1".into(),
            samples => format!("avg@{samples}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_files_are_named_as_their_benchmarks_and_suites_are_the_papers() {
        for name in Benchmark::names() {
            let benchmark = Benchmark::named(name).unwrap();
            assert_eq!(benchmark.name, name);
            assert!(
                benchmark.rows.is_some() && benchmark.get.is_some(),
                "{name}"
            );
            benchmark.prompt_template().unwrap();
        }
        let paper = Benchmark::select("paper").unwrap();
        assert_eq!(paper.len(), 9);
        assert_eq!(Benchmark::select("math,aime24, general").unwrap(), paper);
        let sampled: Vec<_> = paper.iter().filter(|b| b.temperature > 0.0).collect();
        assert_eq!(sampled.len(), 2);
        assert!(
            sampled
                .iter()
                .all(|b| b.measure() == "avg@32" && b.temperature == 0.6)
        );
    }

    #[test]
    fn slips_are_named() {
        let message = Benchmark::select("gsm8").unwrap_err().to_string();
        assert!(
            message.contains("`gsm8`") && message.contains("`gsm8k`"),
            "{message}"
        );
        let wrong = [
            ("samples = 0", "samples"),
            ("samples = 4", "temperature 0"),
            ("temperature = -1.0", "temperature"),
            ("top_p = 0.0", "top_p"),
            ("max_new_tokens = 0", "max_new_tokens"),
            ("relative_tolerance = 1.0", "relative_tolerance"),
            ("sample = 1", "sample"),
        ];
        for (line, part) in wrong {
            let text = format!("name = \"x\"\ntitle = \"X\"\nfiles = [\"x\"]\n{line}");
            let message = Benchmark::from_toml(&text).unwrap_err().to_string();
            assert!(message.contains(part), "{line}: {message}");
        }
        let path = "name = \"../x\"\ntitle = \"X\"\nfiles = [\"x\"]";
        assert!(Benchmark::from_toml(path).is_err());
        assert!(matches!(
            Benchmark::select(" ,"),
            Err(EvalError::NoBenchmark)
        ));
    }

    #[test]
    fn a_file_of_the_users_brings_its_template_and_may_not_take_a_name_twice() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("own.toml");
        let text = "name = \"gsm8k\"\ntitle = \"Own\"\nfiles = [\"x\"]\ntemplate = \"t.toml\"";
        std::fs::write(&file, text).unwrap();
        std::fs::write(
            folder.path().join("t.toml"),
            "name = \"t\"\nprompt = \"{{question}}!\"",
        )
        .unwrap();
        let own = Benchmark::from_file(&file).unwrap();
        assert_eq!(own.prompt_template().unwrap().name(), "t");
        let both = format!("gsm8k,{}", file.display());
        assert!(matches!(
            Benchmark::select(&both),
            Err(EvalError::SameName { .. })
        ));
    }
}
