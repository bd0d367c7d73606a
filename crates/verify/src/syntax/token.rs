//! Tokens of answer notation.
use crate::tree::{Binder, Bracket, Constant, Function, Relation};

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Digits with optional point, exponent, separators or repeating part.
    Number,
    /// Digits and capitals in front of a base subscript, `152A_{11}`.
    BaseDigits,
    /// One ASCII letter.
    Letter,
    /// A named symbol: a Greek letter or the like; its name is the static text.
    Name(&'static str),
    /// A macro nobody knows, taken for a symbol.
    Macro,
    /// Two or more letters in a row that are no known name.
    Word,
    /// The raw content of a text macro.
    Text,
    Function(Function),
    /// `\log`, whose base may follow.
    Log,
    /// `\lg`, base 10.
    LogTen,
    Constant(Constant),
    Binder(Binder),
    Plus,
    Minus,
    Times,
    Divide,
    Caret,
    Underscore,
    Bang,
    Percent,
    Degree,
    Prime,
    PlusMinus,
    MinusPlus,
    Relation(Relation),
    /// `\pmod`.
    ParenthesisedMod,
    /// `\bmod`, `mod`.
    Mod,
    Comma,
    Semicolon,
    Colon,
    /// "and".
    And,
    /// "or".
    Or,
    /// `|` that may open or close.
    Bar,
    OpenBar,
    CloseBar,
    /// `\mid`.
    Mid,
    Open(Bracket),
    Close(Bracket),
    OpenSet,
    CloseSet,
    OpenFloor,
    CloseFloor,
    OpenCeil,
    CloseCeil,
    GroupOpen,
    GroupClose,
    Ampersand,
    RowBreak,
    Begin,
    End,
    Frac,
    Binomial,
    Root,
    /// `\over`.
    Over,
    /// `\choose`.
    Choose,
    /// An accent, whose name goes into the symbol's.
    Accent(&'static str),
    Union,
    Intersection,
    Difference,
    Dots,
    Dollar,
    /// `\not`, in front of a relation.
    Not,
}

/// A token and where it stands in its source.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) start: u32,
    pub(crate) end: u32,
    /// White space, or layout that means it, stands in front.
    pub(crate) spaced: bool,
}
