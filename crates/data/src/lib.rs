//! Problems with stepwise solutions, for training by reinforcement from verifiable rewards.
//!
//! Hints are prefixes of a problem's reference solution, so a data set must hand over more than
//! questions and answers: solutions, cut into steps where possible, as the very token ids that are
//! appended to a prompt and trained on. This crate reads such problems from the files people have,
//! writes prompts, encodes both once, and says which problems come next.
//!
//! ```
//! use seele_data::{EncodedText, Encoder, EpochSampler, LengthLimits, PromptTemplate, read_problems};
//! use seele_random::Key;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("train.jsonl");
//! // GSM8K as published, the layout being told by the fields of the first row.
//! std::fs::write(&path, concat!(
//!     r#"{"question": "Ann has 3 apples, Ben twice as many. Together?", "#,
//!     r#""answer": "Ben has 2*3 = <<2*3=6>>6.\nTogether 3+6 = <<3+6=9>>9.\n#### 9"}"#,
//! ))?;
//! let problems = read_problems(&path, None)?;
//! assert_eq!(problems[0].answer, "9");
//! assert_eq!(problems[0].steps[2], "The answer is \\boxed{9}.");
//!
//! // A tokenizer is any function from text to ids and the bytes each stands for; here, words.
//! let words = |text: &str| {
//!     let mut encoded = EncodedText::default();
//!     for word in text.split_inclusive(char::is_whitespace) {
//!         let start = encoded.spans.last().map_or(0, |span| span.end);
//!         encoded.ids.push(word.bytes().map(u32::from).sum());
//!         encoded.spans.push(start..start + word.len());
//!     }
//!     Ok(encoded)
//! };
//! let template = PromptTemplate::named("plain")?;
//! let limits = LengthLimits { context_tokens: 64, response_tokens: 32 };
//! let encoded = Encoder::new(&template, &words, limits).encode(&problems[0])?;
//! assert_eq!(encoded.prompt_ids.len(), 11);
//! assert_eq!(encoded.step_ends, [5, 9, 13]);
//! assert_eq!(encoded.hint_text(6), "Ben has 2*3 = 6.\nTogether ");
//!
//! let mut sampler = EpochSampler::new(problems.len(), 1, Key::new(1))?;
//! assert_eq!(sampler.next_batch()[0].problem, 0);
//! # Ok(())
//! # }
//! ```
//!
//! | to | see |
//! | --- | --- |
//! | read files of any layout | [`read_problems`], [`ProblemReader`], [`Layout`], [`FieldMapping`] |
//! | look into them, write them | [`inspect`], [`ProblemWriter`] |
//! | put problems to a model | [`PromptTemplate`], [`template`] |
//! | get token ids | [`Encoder`], [`EncodedProblem`], [`join_encoded`] |
//! | choose the problems of a step | [`EpochSampler`] |
//! | make problems without a download | [`arithmetic`] |
//!
//! This crate knows files, text and token ids. Tokenizers and chat templates come in through two
//! small traits ([`TextEncoder`], [`ChatTemplate`]); models and training are unknown here.
#![forbid(unsafe_code)]

pub mod arithmetic;
mod encode;
mod error;
pub mod inspect;
mod layout;
mod path;
mod problem;
mod read;
mod rows;
mod sampler;
pub mod template;
mod write;

pub use encode::{
    EncodeError, EncodedProblem, EncodedText, Encoder, JoinedProblems, LengthLimits, TextEncoder,
    join_encoded,
};
pub use error::{BoxError, DataError};
pub use layout::{AnswerIn, FieldMapping, Layout};
pub use path::{FieldPath, FieldPathError};
pub use problem::{Place, Problem, steps_of_lines};
pub use read::{ProblemReader, data_files, read_problems};
pub use rows::{Row, RowReader};
pub use sampler::{Draw, EpochSampler, SamplerError, SamplerPosition};
pub use template::{ChatTemplate, Message, PromptTemplate, RenderedSolution, TemplateError};
pub use write::ProblemWriter;
