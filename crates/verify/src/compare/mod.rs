//! Comparing an answer with the gold: cheap decisions on the text first, then tree against tree.
mod clock;
mod intervals;
mod labels;
mod lists;
mod matrices;
mod numbers;
mod prepare;
mod quantities;
mod relations;
mod strict;
mod text;
mod values;

use std::borrow::Cow;

use crate::extract::letter_of;
use crate::fuel::{Fuel, Stop};
use crate::options::{Mode, Options};
use crate::syntax::{Unreadable, lexer, parser, unicode};
use crate::tree::{Node, NodeId, Tree};
use crate::verdict::{Reason, Verdict};

/// Longer answers are compared as text only.
const MAX_ANSWER_BYTES: usize = 20_000;

/// A verdict and the rule that gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// The verdict.
    pub verdict: Verdict,
    /// The rule that decided.
    pub reason: Reason,
    /// Work done, in steps: 0 where the text alone decided, at most [`Options::fuel`].
    pub steps: u32,
}

impl Comparison {
    const fn correct(reason: Reason) -> Self {
        Self {
            verdict: Verdict::Correct,
            reason,
            steps: 0,
        }
    }

    const fn undecided(verdict: Verdict, reason: Reason) -> Self {
        Self {
            verdict,
            reason,
            steps: 0,
        }
    }

    const fn wrong(reason: Reason) -> Self {
        Self {
            verdict: Verdict::Wrong,
            reason,
            steps: 0,
        }
    }
}

/// What is known about two nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Equal, by this rule.
    Equal(Reason),
    /// Not proven equal; the reason says how much is known.
    Unequal(Reason),
}

impl Outcome {
    pub(crate) const fn is_equal(self) -> bool {
        matches!(self, Self::Equal(_))
    }

    /// Equality without another reason than that all parts are equal.
    pub(crate) const fn parts(equal: bool) -> Self {
        if equal {
            Self::Equal(Reason::SameParts)
        } else {
            Self::Unequal(Reason::DifferentParts)
        }
    }
}

/// Everything one comparison needs.
pub(crate) struct Judge<'a> {
    pub(crate) tree: Tree,
    pub(crate) fuel: &'a Fuel,
    /// Relative tolerance for numeric golds.
    pub(crate) tolerance: Option<f64>,
    /// Symbols with a subscript are taken for positive quantities; set for each pair of values.
    pub(crate) subscripted_positive: bool,
}

/// Compares an extracted answer with the gold.
pub(crate) fn compare(gold: &str, answer: &str, options: &Options) -> Comparison {
    let (gold, answer) = (strip(gold), strip(answer));
    if answer.is_empty() {
        return Comparison::wrong(Reason::EmptyAnswer);
    }
    if gold == answer {
        return Comparison::correct(Reason::SameText);
    }
    if let Some(comparison) = numbers::compare_literals(gold, answer, options) {
        return comparison;
    }
    if gold.is_empty() {
        return Comparison::undecided(Verdict::GoldUnreadable, Reason::GoldNotReadable);
    }
    if gold.len().max(answer.len()) > MAX_ANSWER_BYTES {
        return Comparison::undecided(Verdict::OverBudget, Reason::OutOfFuel);
    }
    let (gold, answer) = (unicode::to_latex(gold), unicode::to_latex(answer));
    if gold == answer {
        return Comparison::correct(Reason::SameText);
    }
    if let Some(same) = clock::compare_times(&gold, &answer) {
        return if same {
            Comparison::correct(Reason::SameParts)
        } else {
            Comparison::wrong(Reason::DifferentParts)
        };
    }
    let fuel = Fuel::new(options.fuel);
    let comparison = compare_formulas(&gold, &answer, options, &fuel);
    Comparison {
        steps: fuel.spent(),
        ..comparison
    }
}

fn compare_formulas(gold: &str, answer: &str, options: &Options, fuel: &Fuel) -> Comparison {
    let mut tree = Tree::with_capacity(16 + (gold.len() + answer.len()) / 3);
    let gold_root = read(gold, &mut tree, fuel);
    let answer_root = read(answer, &mut tree, fuel);
    let is_text = [gold_root, answer_root]
        .iter()
        .any(|root| root.is_ok_and(|root| text::is_text(&tree, root)));
    let unreadable = gold_root.is_err() || answer_root.is_err();
    if (is_text && text::same_words(gold, answer))
        || (unreadable && (text::same_letters(gold, answer) || text::same_choice(gold, answer)))
    {
        return Comparison::correct(Reason::SameText);
    }
    let (gold_root, answer_root) = match (gold_root, answer_root) {
        (Ok(gold_root), Ok(answer_root)) => (gold_root, answer_root),
        _ if fuel.is_empty() => {
            return Comparison::undecided(Verdict::OverBudget, Reason::OutOfFuel);
        }
        (Err(Unreadable), _) => {
            return Comparison::undecided(Verdict::GoldUnreadable, Reason::GoldNotReadable);
        }
        (_, Err(Unreadable)) => {
            return Comparison::wrong(if is_text {
                Reason::DifferentText
            } else {
                Reason::AnswerUnreadable
            });
        }
    };
    let mut judge = Judge {
        tree,
        fuel,
        tolerance: options.tolerance(),
        subscripted_positive: false,
    };
    match judge.decide(gold_root, answer_root, options.mode) {
        Ok(Outcome::Equal(reason)) => Comparison::correct(reason),
        Ok(Outcome::Unequal(reason)) => Comparison::wrong(if is_text {
            Reason::DifferentText
        } else {
            reason
        }),
        Err(_) => Comparison::undecided(Verdict::OverBudget, Reason::OutOfFuel),
    }
}

/// Parses a text into the tree.
pub(crate) fn read(text: &str, tree: &mut Tree, fuel: &Fuel) -> Result<NodeId, Unreadable> {
    let tokens = lexer::tokens(text)?;
    fuel.spend(tokens.len()).map_err(|_| Unreadable)?;
    parser::parse(text, tokens, tree)
}

/// White space, one pair of math delimiters and a closing stop do not belong to an answer.
fn strip(text: &str) -> &str {
    let mut text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    for (open, close) in [("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]")] {
        if let Some(inner) = text
            .strip_prefix(open)
            .and_then(|inner| inner.strip_suffix(close))
            && !inner.is_empty()
            && !inner.contains(open)
        {
            text = inner.trim();
            break;
        }
    }
    // Bold in Markdown.
    if let Some(inner) = text
        .strip_prefix("**")
        .and_then(|inner| inner.strip_suffix("**"))
        && !inner.is_empty()
        && !inner.contains("**")
    {
        text = inner.trim();
    }
    match text.strip_suffix('.') {
        Some(inner) if !inner.ends_with(['.', '\\']) => inner.trim_end(),
        _ => text,
    }
}

impl Judge<'_> {
    /// The decision at the top: answers are prepared (plus-minus written out, lists flattened) and compared.
    fn decide(&mut self, gold: NodeId, answer: NodeId, mode: Mode) -> Result<Outcome, Stop> {
        let (gold_form, answer_form) = (gold, answer);
        let gold = self.prepare(gold)?;
        let answer = self.prepare(answer)?;
        let outcome = self.nodes(gold, answer)?;
        if mode == Mode::Strict && outcome.is_equal() && !self.same_form(gold_form, answer_form)? {
            return Ok(Outcome::Unequal(Reason::DifferentForm));
        }
        Ok(outcome)
    }

    /// Compares two prepared answers of any kind.
    pub(crate) fn nodes(&mut self, gold: NodeId, answer: NodeId) -> Result<Outcome, Stop> {
        self.fuel.spend(2)?;
        if self.tree.same(gold, answer) {
            return Ok(Outcome::Equal(Reason::SameCanonicalForm));
        }
        let (g, a) = (self.tree.node(gold), self.tree.node(answer));
        if is_plain(g) && is_plain(a) {
            return self.quantities(gold, answer);
        }
        if (self.is_interval_like(gold) || self.is_interval_like(answer))
            && let Some(outcome) = self.solution_sets(gold, answer)?
        {
            return Ok(outcome);
        }
        if is_collection(g) || is_collection(a) {
            return self.collections(gold, answer);
        }
        if matches!(g, Node::Chain { .. } | Node::Congruence(..))
            || matches!(a, Node::Chain { .. } | Node::Congruence(..))
        {
            return self.relations(gold, answer);
        }
        match (g, a) {
            (Node::Sequence { .. }, Node::Sequence { .. }) => self.sequences(gold, answer),
            (Node::SetOf(..), _) | (_, Node::SetOf(..)) => self.sets_of(gold, answer),
            (Node::Sequence { .. } | Node::SetOp(..), _)
            | (_, Node::Sequence { .. } | Node::SetOp(..)) => {
                Ok(Outcome::Unequal(Reason::DifferentKind))
            }
            (Node::Ratio(_), _) | (_, Node::Ratio(_)) => self.ratios(gold, answer),
            (Node::Based { .. }, Node::Based { .. }) => self.values(gold, answer),
            (Node::Based { .. }, _) | (_, Node::Based { .. }) => {
                Ok(Outcome::Unequal(Reason::DifferentKind))
            }
            // Words that were not the same words.
            (Node::Text(_), _) | (_, Node::Text(_)) => Ok(Outcome::Unequal(Reason::DifferentText)),
            _ => match self.matrices(gold, answer)? {
                Some(outcome) => Ok(outcome),
                None => self.quantities(gold, answer),
            },
        }
    }
}

/// Numbers and the plainest expressions, which need no look at their structure.
fn is_plain(node: Node) -> bool {
    matches!(
        node,
        Node::Number { .. }
            | Node::Symbol(_)
            | Node::Div(..)
            | Node::Degree(_)
            | Node::Percent(_)
            | Node::Root(..)
            | Node::Pow(..)
            | Node::Quantity(..)
    )
}

fn is_collection(node: Node) -> bool {
    matches!(
        node,
        Node::List(_) | Node::Set(_) | Node::Constant(crate::tree::Constant::EmptySet)
    )
}

/// Compares two choice letters.
pub(crate) fn compare_choice<S: AsRef<str>>(gold: &str, answer: &str, choices: &[S]) -> Comparison {
    let Some(gold) = letter_of(gold, choices) else {
        return Comparison::undecided(Verdict::GoldUnreadable, Reason::GoldNotReadable);
    };
    match letter_of(answer, choices) {
        Some(letter) if letter == gold => Comparison::correct(Reason::SameLetter),
        Some(_) => Comparison::wrong(Reason::DifferentLetter),
        None => Comparison::wrong(Reason::AnswerUnreadable),
    }
}

/// Why a gold is of no use for checking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GoldError {
    /// It is empty.
    #[error("the gold is empty")]
    Empty,
    /// It cannot be parsed: only an answer with the same words can match it.
    #[error("the gold cannot be read: only an answer of the same text can match it")]
    Unreadable,
    /// It is read, but not recognised as equal to itself: the parser does not support what it says.
    #[error("the gold is not proven equal to itself: only an answer of the same text can match it")]
    NotReflexive,
}

/// Checks that a gold can be read and is equal to itself when compared as mathematics (the shortcut for
/// equal texts is not taken). Run it over a data set before training.
///
/// ```
/// use seele_verify::{check_gold, GoldError, Options};
/// assert_eq!(check_gold(r"\frac{1}{2}", &Options::default()), Ok(()));
/// assert_eq!(check_gold(r"\frac{1}{", &Options::default()), Err(GoldError::Unreadable));
/// ```
///
/// # Errors
/// [`GoldError`] when answers to this gold cannot be judged properly.
pub fn check_gold(gold: &str, options: &Options) -> Result<(), GoldError> {
    let gold = strip(gold);
    if gold.is_empty() {
        return Err(GoldError::Empty);
    }
    if options.mode == Mode::Choice {
        return if letter_of::<&str>(gold, &[]).is_some() {
            Ok(())
        } else {
            Err(GoldError::Unreadable)
        };
    }
    let latex: Cow<'_, str> = unicode::to_latex(gold);
    if clock::compare_times(&latex, &latex) == Some(true) {
        return Ok(());
    }
    if latex.len() > MAX_ANSWER_BYTES {
        return Err(GoldError::Unreadable);
    }
    let fuel = Fuel::new(options.fuel);
    let mut tree = Tree::with_capacity(latex.len());
    let first = read(&latex, &mut tree, &fuel).map_err(|_| GoldError::Unreadable)?;
    if text::is_text(&tree, first) {
        return Ok(());
    }
    // Read twice, so that nothing is equal merely by being the same node.
    let second = read(&latex, &mut tree, &fuel).map_err(|_| GoldError::Unreadable)?;
    let mut judge = Judge {
        tree,
        fuel: &fuel,
        tolerance: None,
        subscripted_positive: false,
    };
    match judge.decide(first, second, Mode::Math) {
        Ok(outcome) if outcome.is_equal() => Ok(()),
        _ => Err(GoldError::NotReflexive),
    }
}
