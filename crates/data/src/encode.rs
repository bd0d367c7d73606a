//! Problems as token ids. The solution is tokenised once, alone; hints are its leading tokens.

use std::ops::Range;

use crate::error::BoxError;
use crate::problem::{Place, Problem};
use crate::template::{ChatTemplate, PromptTemplate, TemplateError};

/// Token ids of a text and the part of the text each stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EncodedText {
    /// `[tokens]` token ids.
    pub ids: Vec<u32>,
    /// `[tokens]` byte ranges in the text, in order. Tokens that share the bytes of one character
    /// may all bear the range of that character.
    pub spans: Vec<Range<usize>>,
}

/// A tokenizer, as far as this crate knows one. Any closure from text to [`EncodedText`] is one.
pub trait TextEncoder {
    /// The tokens of `text` with nothing added in front or behind. Special tokens written out in the
    /// text (chat markup) become their single ids.
    ///
    /// # Errors
    /// Whatever the tokenizer raises.
    fn encode(&self, text: &str) -> Result<EncodedText, BoxError>;

    /// What the tokenizer puts in front of a plain text, such as a BOS token; nothing by default.
    /// A chat template writes its own.
    fn text_start(&self) -> &[u32] {
        &[]
    }
}

impl<F: Fn(&str) -> Result<EncodedText, BoxError>> TextEncoder for F {
    fn encode(&self, text: &str) -> Result<EncodedText, BoxError> {
        self(text)
    }
}

/// A problem that cannot be encoded as asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The prompt template does not fit the problem or the model.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The tokenizer failed.
    #[error("{place}: the tokenizer failed on the {part} of problem `{id}`: {source}")]
    Tokenizer {
        /// The row.
        place: Place,
        /// The problem.
        id: String,
        /// Prompt or solution.
        part: &'static str,
        /// Its message.
        source: BoxError,
    },
    /// The tokenizer's spans do not describe the solution.
    #[error(
        "{place}: the tokenizer returned {ids} ids and {spans} spans for the solution of problem `{id}` ({bytes} bytes); each token needs a span inside the text, in order"
    )]
    Spans {
        /// The row.
        place: Place,
        /// The problem.
        id: String,
        /// Number of ids.
        ids: usize,
        /// Number of spans.
        spans: usize,
        /// Length of the text.
        bytes: usize,
    },
    /// Nothing to condition the first generated token on.
    #[error("{place}: the prompt of problem `{id}` has no tokens; a prompt needs at least one")]
    EmptyPrompt {
        /// The row.
        place: Place,
        /// The problem.
        id: String,
    },
    /// Prompt, solution and response do not fit the context together.
    #[error(
        "{place}: problem `{id}` does not fit the context: {prompt_tokens} prompt + {solution_tokens} solution + {response_tokens} response tokens > {context_tokens}; drop the row, shorten the response, or raise the context"
    )]
    TooLong {
        /// The row.
        place: Place,
        /// The problem.
        id: String,
        /// Tokens of the prompt.
        prompt_tokens: usize,
        /// Tokens of the whole solution, tags included; 0 without one.
        solution_tokens: usize,
        /// Tokens that may be generated.
        response_tokens: usize,
        /// Tokens that fit the context.
        context_tokens: usize,
    },
    /// A method that gives hints met a problem without a solution.
    #[error(
        "{place}: problem `{id}` has no solution to take hints from; drop the row, add a solution, or train without hints"
    )]
    NoSolution {
        /// The row.
        place: Place,
        /// The problem.
        id: String,
    },
}

/// What the tokens of a problem must leave room for, in tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LengthLimits {
    /// Prompt, whole solution and response together; the longest hint is the solution but one token.
    pub context_tokens: usize,
    /// What may be generated after prompt and hint.
    pub response_tokens: usize,
}

/// Encodes problems under one template with one tokenizer.
///
/// ```
/// use seele_data::arithmetic::{ArithmeticConfig, Between, Split};
/// use seele_data::{EncodedText, Encoder, LengthLimits, PromptTemplate};
///
/// // One token a byte; a real tokenizer goes here.
/// let bytes = |text: &str| {
///     let ids = text.bytes().map(u32::from).collect();
///     let spans = (0..text.len()).map(|i| i..i + 1).collect();
///     Ok(EncodedText { ids, spans })
/// };
/// let template = PromptTemplate::named("bare")?;
/// let limits = LengthLimits { context_tokens: 128, response_tokens: 64 };
/// let encoder = Encoder::new(&template, &bytes, limits).require_solution();
///
/// let config = ArithmeticConfig { operations: Between { min: 3, max: 3 }, count: 1, ..Default::default() };
/// let encoded = encoder.encode(&config.generate(Split::Train)?[0])?;
/// assert_eq!(encoded.prompt, "7+8+5+2=");
/// assert_eq!(encoded.solution, "15+5+2;20+2=22");
/// assert_eq!(encoded.step_ends, [7, 12, 14]);
/// assert_eq!(encoded.hint_text(9), "15+5+2;20");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Encoder<'a> {
    template: &'a PromptTemplate,
    text: &'a dyn TextEncoder,
    chat: Option<&'a dyn ChatTemplate>,
    limits: LengthLimits,
    needs_solution: bool,
}

impl<'a> Encoder<'a> {
    /// An encoder that accepts problems without a solution.
    pub fn new(
        template: &'a PromptTemplate,
        text: &'a dyn TextEncoder,
        limits: LengthLimits,
    ) -> Self {
        Self {
            template,
            text,
            chat: None,
            limits,
            needs_solution: false,
        }
    }

    /// With the model's chat template, which templates with messages need.
    #[must_use]
    pub fn with_chat(mut self, chat: &'a dyn ChatTemplate) -> Self {
        self.chat = Some(chat);
        self
    }

    /// Refuse problems that have no solution to take hints from.
    #[must_use]
    pub fn require_solution(mut self) -> Self {
        self.needs_solution = true;
        self
    }

    /// Encodes one problem.
    ///
    /// # Errors
    /// [`EncodeError`], always naming the problem's place.
    pub fn encode(&self, problem: &Problem) -> Result<EncodedProblem, EncodeError> {
        let prompt = self.template.prompt(problem, self.chat)?;
        let mut prompt_ids = if self.template.is_chat() {
            Vec::new()
        } else {
            self.text.text_start().to_vec()
        };
        prompt_ids.extend(self.tokens(problem, "prompt", &prompt)?.ids);
        if prompt_ids.is_empty() {
            return Err(EncodeError::EmptyPrompt {
                place: problem.place.clone(),
                id: problem.id.clone(),
            });
        }
        let rendered = self.template.solution(problem)?;
        if rendered.is_none() && self.needs_solution {
            return Err(EncodeError::NoSolution {
                place: problem.place.clone(),
                id: problem.id.clone(),
            });
        }
        let (solution, start) =
            rendered.map_or_else(Default::default, |r| (r.text, r.solution_start));
        let tokens = self.tokens(problem, "solution", &solution)?;
        if !spans_fit(&tokens, &solution) {
            return Err(EncodeError::Spans {
                place: problem.place.clone(),
                id: problem.id.clone(),
                ids: tokens.ids.len(),
                spans: tokens.spans.len(),
                bytes: solution.len(),
            });
        }
        let LengthLimits {
            context_tokens,
            response_tokens,
        } = self.limits;
        if prompt_ids.len() + tokens.ids.len() + response_tokens > context_tokens {
            return Err(EncodeError::TooLong {
                place: problem.place.clone(),
                id: problem.id.clone(),
                prompt_tokens: prompt_ids.len(),
                solution_tokens: tokens.ids.len(),
                response_tokens,
                context_tokens,
            });
        }
        let mut end = start;
        let step_ends = problem.steps.iter().map(|step| {
            let words_end = end + step.trim_end().len();
            end += step.len();
            tokens_of_step(&tokens.spans, words_end, end)
        });
        Ok(EncodedProblem {
            step_ends: step_ends.collect(),
            token_ends: tokens.spans.iter().map(|span| span.end).collect(),
            prompt,
            prompt_ids,
            solution,
            solution_ids: tokens.ids,
        })
    }

    fn tokens(
        &self,
        problem: &Problem,
        part: &'static str,
        text: &str,
    ) -> Result<EncodedText, EncodeError> {
        if text.is_empty() {
            return Ok(EncodedText::default());
        }
        self.text
            .encode(text)
            .map_err(|source| EncodeError::Tokenizer {
                place: problem.place.clone(),
                id: problem.id.clone(),
                part,
                source,
            })
    }
}

/// Whether each token has a span inside the text and the spans are in order.
fn spans_fit(tokens: &EncodedText, text: &str) -> bool {
    let spans = &tokens.spans;
    let ordered = spans
        .windows(2)
        .all(|pair| pair[0].start <= pair[1].start && pair[0].end <= pair[1].end);
    let inside = spans
        .iter()
        .all(|span| span.start <= span.end && span.end <= text.len());
    tokens.ids.len() == spans.len() && ordered && inside
}

/// How many leading tokens make up the text up to the end of a step: those needed for its words
/// (up to byte `words_end`), and those that stand wholly in the white space behind them (up to `end`).
/// A token of that white space and the next step's first word would give the word away.
fn tokens_of_step(spans: &[Range<usize>], words_end: usize, end: usize) -> usize {
    let words = spans.partition_point(|span| span.start < words_end);
    words
        + spans[words..]
            .iter()
            .take_while(|span| span.end <= end)
            .count()
}

/// A problem as token ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedProblem {
    /// The prompt's exact text.
    pub prompt: String,
    /// `[prompt_tokens]`, at least one.
    pub prompt_ids: Vec<u32>,
    /// The solution's exact text as the template writes it, tags included; empty without a solution.
    pub solution: String,
    /// `[solution_tokens]`: the solution tokenised once, alone, without EOS. A hint of `l` tokens is
    /// its first `l`.
    pub solution_ids: Vec<u32>,
    /// `[steps]`: how many leading tokens of `solution_ids` cover the first steps, never decreasing.
    /// A token across the border of two steps counts to the earlier one, unless all it has of that one
    /// is white space at its end. Tokens behind the last end are the template's closing tags and answer.
    pub step_ends: Vec<usize>,
    /// `[solution_tokens]`: byte offset in `solution` where each token ends.
    token_ends: Vec<usize>,
}

impl EncodedProblem {
    /// The text of the first `tokens` tokens of the solution, for scoring a completion together with
    /// its hint. Cut back to a whole character where the tokens end inside one.
    pub fn hint_text(&self, tokens: usize) -> &str {
        let end = match tokens.min(self.token_ends.len()) {
            0 => 0,
            count => self.token_ends[count - 1],
        };
        let whole = (0..=end)
            .rev()
            .find(|&byte| self.solution.is_char_boundary(byte));
        &self.solution[..whole.unwrap_or(0)]
    }
}

/// Several problems in one sequence, each followed by the end token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JoinedProblems {
    /// `[tokens]`: prompt, solution, end; prompt, solution, end; ...
    pub ids: Vec<u32>,
    /// `[tokens]`: whether the token is to be learned, that is part of a solution or an end token.
    pub is_target: Vec<bool>,
}

/// Joins problems to one supervised sequence. In a warm-up, several easy problems in a row teach the
/// positions that long problems will use.
pub fn join_encoded<'a>(
    problems: impl IntoIterator<Item = &'a EncodedProblem>,
    end_token: u32,
) -> JoinedProblems {
    let mut joined = JoinedProblems::default();
    for problem in problems {
        joined.ids.extend(&problem.prompt_ids);
        joined.is_target.resize(joined.ids.len(), false);
        joined.ids.extend(&problem.solution_ids);
        joined.ids.push(end_token);
        joined.is_target.resize(joined.ids.len(), true);
    }
    joined
}
