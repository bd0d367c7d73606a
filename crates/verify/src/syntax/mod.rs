//! From text to [`Tree`](crate::tree::Tree): Unicode, tokens, a Pratt parser.
mod atom;
pub(crate) mod lexer;
mod literal;
mod names;
pub(crate) mod parser;
mod token;
pub(crate) mod unicode;
pub(crate) mod units;

/// The text cannot be read as mathematics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable;
