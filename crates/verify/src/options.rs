//! How to check: the extraction rule, the comparison mode and the tolerance.
use serde::{Deserialize, Serialize};

/// Where in a response the answer is looked for.
///
/// Every rule first cuts the response at the first end-of-turn marker (`<|im_end|>`, `<|eot_id|>`,
/// `<|endoftext|>`, `</s>`) and, when a `</think>` tag exists, reads only what follows the last one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Extraction {
    /// The content of the last `\boxed{...}` or `\fbox{...}`, braces balanced; nothing when that box
    /// is never closed. The rule of zero-RL training.
    #[default]
    Boxed,
    /// The last box; else the text after the last answer phrase (`final answer is`, `answer is`,
    /// `Answer:`, `####`); else the last number of the text.
    Fallback,
    /// A choice letter A to J: box, answer tag, answer phrase, lone letter, in this order.
    Choice,
    /// The last complete `<answer>...</answer>`; a box inside it wins.
    #[serde(alias = "answer_tag")]
    AnswerTag,
}

/// How an extracted answer is compared with the gold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Equal in value and in form: `2/4` is not `1/2`, `4.0` is not `4`, lists keep their order.
    Strict,
    /// Mathematically equal.
    #[default]
    Math,
    /// Like `math`, and numeric golds accept numbers within the relative tolerance
    /// ([`Options::DEFAULT_RELATIVE_TOLERANCE`] when none is set).
    Numeric,
    /// Both sides are choice letters.
    Choice,
}

/// Settings of a check. `Options::default()` reads the last box and compares mathematically.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// How answers are compared.
    pub mode: Mode,
    /// Where the answer is looked for.
    pub extraction: Extraction,
    /// Relative tolerance `t` in `[0, 1)`: a number `a` equals a numeric gold `g` when
    /// `|a - g| <= t |g|` (`|a| <= t` for `g = 0`). `None` compares exactly, except in
    /// [`Mode::Numeric`], which then uses [`Options::DEFAULT_RELATIVE_TOLERANCE`].
    pub relative_tolerance: Option<f64>,
    /// Treat a response without `</think>` as one without an answer.
    pub require_think_end: bool,
    /// Work limit of one comparison, in elementary steps. Verdicts depend on it, never on time.
    pub fuel: u32,
}

impl Options {
    /// The tolerance of the Minerva protocol.
    pub const DEFAULT_RELATIVE_TOLERANCE: f64 = 1e-4;

    /// The default work limit: below 10 ms of arithmetic on one core at the very worst.
    pub const DEFAULT_FUEL: u32 = 40_000;

    /// The default settings with another mode.
    pub fn with_mode(mode: Mode) -> Self {
        Self {
            mode,
            extraction: if mode == Mode::Choice {
                Extraction::Choice
            } else {
                Extraction::Boxed
            },
            ..Self::default()
        }
    }

    /// The tolerance in force: what was set, or the default of [`Mode::Numeric`].
    pub(crate) fn tolerance(&self) -> Option<f64> {
        self.relative_tolerance
            .or((self.mode == Mode::Numeric).then_some(Self::DEFAULT_RELATIVE_TOLERANCE))
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            mode: Mode::Math,
            extraction: Extraction::Boxed,
            relative_tolerance: None,
            require_think_end: false,
            fuel: Self::DEFAULT_FUEL,
        }
    }
}
