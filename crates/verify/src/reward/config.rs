//! The `[reward]` table of a recipe.
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::answer::{AnswerReward, AnswerValues, ExactReward};
use super::command::CommandReward;
use super::countdown::CountdownReward;
use super::failures::FailureCounters;
use super::format::FormatReward;
use super::http::HttpReward;
use super::knights::KnightsReward;
use super::shaped::ShapedReward;
use super::sum::SumReward;
use super::{Reward, RewardRequest};
use crate::options::{Extraction, Mode, Options};

/// Which reward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RewardKind {
    /// The extracted answer is mathematically equal to the ground truth (key `mode`).
    #[default]
    Math,
    /// `math` with a relative tolerance for numeric golds.
    Numeric,
    /// The chosen letter is the ground truth; reads the column `choices` if there is one.
    Choice,
    /// The extracted answer is the ground truth character for character.
    Exact,
    /// 1 when the response keeps the form described under `format`, else 0. No verdict.
    Format,
    /// An equation over the column `numbers` that hits the column `target`.
    Countdown,
    /// The role of everyone in the column `names`, compared with the column `roles`.
    KnightsAndKnaves,
    /// A program of the user's, described under `command`.
    Command,
    /// A service of the user's, described under `http`.
    Http,
    /// The weighted sum of `terms`.
    Sum,
}

impl RewardKind {
    /// The name used in files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Math => "math",
            Self::Numeric => "numeric",
            Self::Choice => "choice",
            Self::Exact => "exact",
            Self::Format => "format",
            Self::Countdown => "countdown",
            Self::KnightsAndKnaves => "knights-and-knaves",
            Self::Command => "command",
            Self::Http => "http",
            Self::Sum => "sum",
        }
    }

    const fn checks_an_answer(self) -> bool {
        !matches!(self, Self::Format | Self::Command | Self::Http | Self::Sum)
    }
}

/// Which text the built-in rewards read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScoredText {
    /// Hint and completion: with a long hint the box may begin inside the hint.
    #[default]
    HintAndCompletion,
    /// What the policy wrote.
    Completion,
}

impl ScoredText {
    pub(super) const fn of<'a>(self, request: &RewardRequest<'a>) -> &'a str {
        match self {
            Self::HintAndCompletion => request.response,
            Self::Completion => request.completion,
        }
    }
}

/// What becomes of a rollout that was cut at the token limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TruncatedPolicy {
    /// It is scored like any other.
    #[default]
    Score,
    /// It is wrong, whatever it says.
    Wrong,
    /// It is left out of its group (DAPO's overlong filtering).
    LeaveOut,
}

/// The reward of a run. In a recipe, every key may be left out; an empty table is the paper's reward:
/// 1 for an answer in the last box that equals the ground truth, else 0.
///
/// ```
/// use seele_verify::reward::{RewardConfig, RewardRequest};
/// let config: RewardConfig = toml::from_str(r#"
///     kind = "math"
///     mode = "strict"
///     [overlong]
///     buffer_tokens = 100
/// "#)?;
/// let reward = config.build()?;
/// let request = RewardRequest {
///     id: "p0-r0", problem: "1/2?", response: r"\boxed{1/2}", completion: r"\boxed{1/2}",
///     ground_truth: "1/2", extra: &serde_json::Map::new(),
///     response_tokens: 450, max_response_tokens: 500, truncated: false,
/// };
/// let score = reward.score(&request);
/// assert_eq!((score.value, score.correct()), (Some(0.5), Some(true)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RewardConfig {
    /// Which reward. Default `math`.
    pub kind: RewardKind,
    /// Factor on the value, used in `terms` of a sum. Default 1.
    pub weight: f64,
    /// How `math` compares: `math` (default) or `strict`.
    pub mode: Option<Mode>,
    /// Where the answer is looked for: `boxed`, `fallback`, `answer-tag` or `choice`. Default `boxed`
    /// for `math`, `numeric` and `exact`, `choice` for `choice`, `answer-tag` for the puzzles.
    pub extraction: Option<Extraction>,
    /// Relative tolerance of `numeric`, in (0, 1). Default 1e-4.
    pub relative_tolerance: Option<f64>,
    /// A response without `</think>` has no answer. Default false.
    pub require_think_end: bool,
    /// Which text is read: `hint-and-completion` (default) or `completion`.
    pub text: ScoredText,
    /// Value of a right answer. Default 1.
    pub correct_value: f64,
    /// Value of a wrong or missing answer. Default 0 (DAPO: -1).
    pub wrong_value: f64,
    /// What becomes of truncated rollouts: `score` (default), `wrong` or `leave-out`.
    pub truncated: TruncatedPolicy,
    /// The form of a response: the check of kind `format`, and a bonus of `format.weight` on any other kind.
    pub format: FormatConfig,
    /// Length shaping; absent: none.
    pub overlong: Option<OverlongConfig>,
    /// The program of kind `command`.
    pub command: Option<CommandConfig>,
    /// The service of kind `http`.
    pub http: Option<HttpConfig>,
    /// The terms of kind `sum`, each a table of this form with its `weight`.
    pub terms: Vec<RewardConfig>,
}

impl Default for RewardConfig {
    fn default() -> Self {
        Self {
            kind: RewardKind::Math,
            weight: 1.0,
            mode: None,
            extraction: None,
            relative_tolerance: None,
            require_think_end: false,
            text: ScoredText::HintAndCompletion,
            correct_value: 1.0,
            wrong_value: 0.0,
            truncated: TruncatedPolicy::Score,
            format: FormatConfig::default(),
            overlong: None,
            command: None,
            http: None,
            terms: Vec::new(),
        }
    }
}

/// The sections a response must have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FormatConfig {
    /// Added to the value when the form is kept. Default 0: rigid format rewards harm some base models.
    pub weight: f64,
    /// Names of the sections, each once, in this order, with no text before or between them.
    /// Default `["think", "answer"]`.
    pub tags: Vec<String>,
    /// The prompt ends with the first opening tag, so the response begins inside it. Default false.
    pub first_tag_opened_by_prompt: bool,
}

impl Default for FormatConfig {
    fn default() -> Self {
        Self {
            weight: 0.0,
            tags: vec!["think".to_owned(), "answer".to_owned()],
            first_tag_opened_by_prompt: false,
        }
    }
}

/// DAPO's soft overlong penalty; see [`overlong_penalty`](super::overlong_penalty).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OverlongConfig {
    /// Length of the stretch before the limit in which the penalty grows, tokens, positive. Required.
    pub buffer_tokens: usize,
    /// The penalty at the limit. Default 1.
    #[serde(default = "one")]
    pub factor: f64,
}

const fn one() -> f64 {
    1.0
}

/// A user's reward program: reads one JSON object a line from standard input
/// ([`WireRequest`](super::WireRequest)) and writes one a line to standard output
/// ([`RewardReply`](super::RewardReply)), flushed. Its standard error is passed on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandConfig {
    /// Program and arguments, for example `["python3", "reward.py"]`. Required.
    pub command: Vec<String>,
    /// How many processes run at once. Default 2.
    #[serde(default = "two")]
    pub processes: usize,
    /// Time limit of one sample, seconds. Default 10. A process over it is killed and replaced.
    #[serde(default = "ten_secs")]
    pub timeout_secs: f64,
    /// Extra time for the first sample of a fresh process, seconds. Default 60.
    #[serde(default = "sixty_secs")]
    pub start_timeout_secs: f64,
}

impl CommandConfig {
    /// The program's name.
    pub(super) fn program(&self) -> &str {
        self.command.first().map_or("", String::as_str)
    }
}

const fn two() -> usize {
    2
}

const fn ten_secs() -> f64 {
    10.0
}

const fn sixty_secs() -> f64 {
    60.0
}

/// A user's reward service: answers a POST of [`WireRequest`](super::WireRequest) with
/// [`RewardReply`](super::RewardReply).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpConfig {
    /// `http://host:port/path`. Required. TLS is not spoken: put a local proxy in front where it is needed.
    pub url: String,
    /// Time limit of one sample, connecting included, seconds. Default 10.
    #[serde(default = "ten_secs")]
    pub timeout_secs: f64,
    /// Connections kept open between samples. Default 8.
    #[serde(default = "eight")]
    pub connections: usize,
}

const fn eight() -> usize {
    8
}

/// A `[reward]` table that makes no sense.
#[derive(Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum RewardConfigError {
    /// A key that the kind does not use is set.
    #[error("`{key}` has no meaning for reward kind `{kind}`: remove it, or set `kind`")]
    UnusedKey {
        /// The key.
        key: &'static str,
        /// The kind.
        kind: &'static str,
    },
    /// A key that the kind needs is missing.
    #[error("reward kind `{kind}` needs the key `{key}`")]
    MissingKey {
        /// The key.
        key: &'static str,
        /// The kind.
        kind: &'static str,
    },
    /// A value is out of its range.
    #[error("`{key}` is {value}, but must be {range}")]
    OutOfRange {
        /// The key.
        key: &'static str,
        /// What was given.
        value: String,
        /// What is allowed.
        range: &'static str,
    },
    /// An error in one term of a sum.
    #[error("in `terms[{index}]`: {source}")]
    InTerm {
        /// Position of the term, from 0.
        index: usize,
        /// The error.
        source: Box<RewardConfigError>,
    },
}

impl RewardConfig {
    /// Checks every key and builds the reward.
    ///
    /// # Errors
    /// [`RewardConfigError`] naming the key, if one is missing, unused by the kind or out of range.
    pub fn build(&self) -> Result<Box<dyn Reward>, RewardConfigError> {
        self.check()?;
        let values = AnswerValues {
            correct: self.correct_value,
            wrong: self.wrong_value,
        };
        let extraction = self.extraction;
        let inner: Box<dyn Reward> = match self.kind {
            RewardKind::Math | RewardKind::Numeric | RewardKind::Choice => {
                let mode = match self.kind {
                    RewardKind::Numeric => Mode::Numeric,
                    RewardKind::Choice => Mode::Choice,
                    _ => self.mode.unwrap_or_default(),
                };
                let default = Options::with_mode(mode);
                let options = Options {
                    extraction: extraction.unwrap_or(default.extraction),
                    relative_tolerance: self.relative_tolerance,
                    require_think_end: self.require_think_end,
                    ..default
                };
                Box::new(AnswerReward {
                    options,
                    text: self.text,
                    values,
                    counters: FailureCounters::default(),
                })
            }
            RewardKind::Exact => Box::new(ExactReward {
                extraction: extraction.unwrap_or_default(),
                require_think_end: self.require_think_end,
                text: self.text,
                values,
                counters: FailureCounters::default(),
            }),
            RewardKind::Countdown => Box::new(CountdownReward {
                extraction: extraction.unwrap_or(Extraction::AnswerTag),
                require_think_end: self.require_think_end,
                text: self.text,
                values,
                counters: FailureCounters::default(),
            }),
            RewardKind::KnightsAndKnaves => Box::new(KnightsReward {
                extraction: extraction.unwrap_or(Extraction::AnswerTag),
                require_think_end: self.require_think_end,
                text: self.text,
                values,
                counters: FailureCounters::default(),
            }),
            RewardKind::Format => Box::new(self.format_reward()),
            RewardKind::Command => Box::new(CommandReward::new(
                self.needed(self.command.clone(), "command")?,
            )),
            RewardKind::Http => Box::new(HttpReward::new(self.needed(self.http.clone(), "http")?)),
            RewardKind::Sum => {
                let mut terms = Vec::with_capacity(self.terms.len());
                for (index, term) in self.terms.iter().enumerate() {
                    let built = term.build().map_err(|source| RewardConfigError::InTerm {
                        index,
                        source: Box::new(source),
                    })?;
                    terms.push((term.weight, built));
                }
                Box::new(SumReward { terms })
            }
        };
        let bonus = (self.kind != RewardKind::Format && self.format.weight != 0.0)
            .then(|| (self.format.weight, self.format_reward()));
        if bonus.is_none() && self.overlong.is_none() && self.truncated == TruncatedPolicy::Score {
            return Ok(inner);
        }
        Ok(Box::new(ShapedReward {
            inner,
            wrong_value: self.wrong_value,
            truncated: self.truncated,
            format: bonus,
            overlong: self.overlong,
        }))
    }

    fn format_reward(&self) -> FormatReward {
        FormatReward {
            config: self.format.clone(),
            text: self.text,
        }
    }

    fn needed<T>(&self, value: Option<T>, key: &'static str) -> Result<T, RewardConfigError> {
        value.ok_or(RewardConfigError::MissingKey {
            key,
            kind: self.kind.name(),
        })
    }

    fn check(&self) -> Result<(), RewardConfigError> {
        let kind = self.kind;
        let unused = [
            ("mode", self.mode.is_some() && kind != RewardKind::Math),
            (
                "extraction",
                self.extraction.is_some() && !kind.checks_an_answer(),
            ),
            (
                "require_think_end",
                self.require_think_end && !kind.checks_an_answer(),
            ),
            (
                "relative_tolerance",
                self.relative_tolerance.is_some() && kind != RewardKind::Numeric,
            ),
            (
                "correct_value",
                self.correct_value != 1.0 && !kind.checks_an_answer(),
            ),
            (
                "command",
                self.command.is_some() && kind != RewardKind::Command,
            ),
            ("http", self.http.is_some() && kind != RewardKind::Http),
            ("terms", !self.terms.is_empty() && kind != RewardKind::Sum),
        ];
        if let Some((key, _)) = unused.into_iter().find(|(_, set)| *set) {
            return Err(RewardConfigError::UnusedKey {
                key,
                kind: kind.name(),
            });
        }
        if kind == RewardKind::Sum && self.terms.is_empty() {
            return Err(RewardConfigError::MissingKey {
                key: "terms",
                kind: kind.name(),
            });
        }
        if matches!(self.mode, Some(Mode::Numeric | Mode::Choice)) {
            let value = format!("{:?}", self.mode.unwrap_or_default()).to_lowercase();
            return Err(RewardConfigError::OutOfRange {
                key: "mode",
                value,
                range: "`math` or `strict` (others are kinds of their own)",
            });
        }
        let finite = [
            ("weight", self.weight),
            ("correct_value", self.correct_value),
            ("wrong_value", self.wrong_value),
            ("format.weight", self.format.weight),
            (
                "overlong.factor",
                self.overlong.map_or(0.0, |overlong| overlong.factor),
            ),
        ];
        for (key, value) in finite {
            in_range(key, value, value.is_finite(), "a finite number")?;
        }
        if let Some(tolerance) = self.relative_tolerance {
            in_range(
                "relative_tolerance",
                tolerance,
                tolerance > 0.0 && tolerance < 1.0,
                "between 0 and 1, both excluded",
            )?;
        }
        if let Some(overlong) = self.overlong {
            in_range(
                "overlong.buffer_tokens",
                overlong.buffer_tokens,
                overlong.buffer_tokens > 0,
                "positive",
            )?;
        }
        let sections = kind == RewardKind::Format || self.format.weight != 0.0;
        in_range(
            "format.tags",
            "empty",
            !(sections && self.format.tags.is_empty()),
            "a list of at least one section name",
        )?;
        if let Some(command) = &self.command {
            in_range(
                "command.command",
                "empty",
                !command.program().is_empty(),
                "a program and its arguments",
            )?;
            in_range(
                "command.processes",
                command.processes,
                command.processes > 0,
                "positive",
            )?;
            in_range(
                "command.timeout_secs",
                command.timeout_secs,
                positive_secs(command.timeout_secs),
                "between 0.001 and 86400",
            )?;
            let start = command.start_timeout_secs;
            in_range(
                "command.start_timeout_secs",
                start,
                start == 0.0 || positive_secs(start),
                "0, or between 0.001 and 86400",
            )?;
        }
        if let Some(http) = &self.http {
            in_range(
                "http.url",
                &http.url,
                http.url.starts_with("http://"),
                "an address that begins with `http://`",
            )?;
            in_range(
                "http.timeout_secs",
                http.timeout_secs,
                positive_secs(http.timeout_secs),
                "between 0.001 and 86400",
            )?;
            in_range(
                "http.connections",
                http.connections,
                http.connections > 0,
                "positive",
            )?;
        }
        Ok(())
    }
}

fn positive_secs(secs: f64) -> bool {
    (0.001..=86400.0).contains(&secs)
}

fn in_range(
    key: &'static str,
    value: impl ToString,
    ok: bool,
    range: &'static str,
) -> Result<(), RewardConfigError> {
    if ok {
        Ok(())
    } else {
        Err(RewardConfigError::OutOfRange {
            key,
            value: value.to_string(),
            range,
        })
    }
}
