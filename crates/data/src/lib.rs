//! Problems with stepwise solutions, for training by reinforcement from verifiable rewards.
//!
//! This crate knows files, text and token ids. Tokenizers and chat templates come in through two
//! small traits ([`TextEncoder`], [`ChatTemplate`]); models and training are unknown here.
#![forbid(unsafe_code)]

pub mod arithmetic;
mod dataset;
mod encode;
mod error;
mod layout;
mod path;
mod problem;
mod rows;
mod sampler;
pub mod template;

pub use dataset::{ProblemReader, read_problems};
pub use encode::{
    EncodeError, EncodedProblem, EncodedText, Encoder, JoinedProblems, LengthLimits, TextEncoder,
    join_encoded,
};
pub use error::{BoxError, DataError};
pub use layout::{AnswerIn, FieldMapping, Layout};
pub use path::{FieldPath, FieldPathError};
pub use problem::{Place, Problem, steps_of_lines};
pub use rows::{Row, RowReader};
pub use sampler::{Draw, EpochSampler, SamplerError, SamplerPosition};
pub use template::{ChatTemplate, Message, PromptTemplate, RenderedSolution, TemplateError};
