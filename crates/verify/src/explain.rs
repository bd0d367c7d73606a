//! Saying step by step how a verdict came about.
use std::fmt;

use crate::extract::{self, extract_choice};
use crate::fuel::Fuel;
use crate::grader::verify_choice;
use crate::numeric::{Double, Evaluator};
use crate::options::{Extraction, Mode, Options};
use crate::syntax::unicode;
use crate::tree::{Bracket, Constant, Node, NodeId, Relation, Tree};
use crate::verdict::{Grade, Verdict};
use crate::{algebra, compare};

/// What kind of thing an answer is read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AnswerKind {
    /// A value without symbols: number, root, constant expression.
    Number,
    /// A value with symbols.
    Expression,
    /// A value with a unit, a percent sign or a degree sign.
    Quantity,
    /// A bracketed sequence: point, tuple, vector.
    Tuple,
    /// An interval, a union or another set of reals.
    Interval,
    /// Several answers side by side.
    List,
    /// Answers in set braces.
    Set,
    /// A matrix or column vector.
    Matrix,
    /// An equation, which may be a label with a value.
    Equation,
    /// An inequality.
    Inequality,
    /// Another relation: membership, congruence.
    Relation,
    /// A ratio.
    Ratio,
    /// A number in a base.
    Based,
    /// Words.
    Text,
}

impl AnswerKind {
    /// The name for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Number => "number",
            Self::Expression => "expression",
            Self::Quantity => "quantity",
            Self::Tuple => "tuple",
            Self::Interval => "interval",
            Self::List => "list of answers",
            Self::Set => "set",
            Self::Matrix => "matrix",
            Self::Equation => "equation",
            Self::Inequality => "inequality",
            Self::Relation => "relation",
            Self::Ratio => "ratio",
            Self::Based => "number in a base",
            Self::Text => "text",
        }
    }
}

impl fmt::Display for AnswerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What an answer text is read as; `None` when it cannot be read.
///
/// ```
/// use seele_verify::{answer_kind, AnswerKind};
/// assert_eq!(answer_kind(r"\frac{1}{2}"), Some(AnswerKind::Number));
/// assert_eq!(answer_kind("x=1, x=2"), Some(AnswerKind::List));
/// assert_eq!(answer_kind("[0, 1)"), Some(AnswerKind::Interval));
/// assert_eq!(answer_kind(r"\frac{1}{"), None);
/// ```
pub fn answer_kind(text: &str) -> Option<AnswerKind> {
    read(text).map(|(tree, root)| kind(&tree, root))
}

fn read(text: &str) -> Option<(Tree, NodeId)> {
    let latex = unicode::to_latex(text.trim());
    let mut tree = Tree::default();
    let fuel = Fuel::new(Options::DEFAULT_FUEL);
    let root = compare::read(&latex, &mut tree, &fuel).ok()?;
    Some((tree, root))
}

fn kind(tree: &Tree, root: NodeId) -> AnswerKind {
    match tree.node(root) {
        Node::List(_) | Node::PlusMinus(..) | Node::MinusPlus(..) => AnswerKind::List,
        Node::Set(_) | Node::SetOf(..) | Node::Constant(Constant::EmptySet) => AnswerKind::Set,
        Node::Sequence {
            open: Bracket::Round | Bracket::Angle,
            close: Bracket::Round | Bracket::Angle,
            kids,
        } => {
            let infinite =
                |id: &NodeId| tree.any(*id, &|node| node == Node::Constant(Constant::Infinity));
            if tree.kids(kids).iter().any(infinite) {
                AnswerKind::Interval
            } else {
                AnswerKind::Tuple
            }
        }
        Node::Sequence { kids, .. } if tree.kids(kids).len() != 2 => AnswerKind::Tuple,
        Node::Sequence { .. } | Node::SetOp(..) | Node::Constant(Constant::Reals) => {
            AnswerKind::Interval
        }
        Node::Matrix {
            determinant: false, ..
        } => AnswerKind::Matrix,
        Node::Chain { relations, kids } => {
            let relations = tree.relations(relations, kids);
            let equal =
                |relation: &Relation| matches!(relation, Relation::Equal | Relation::Approximately);
            let unequal = |relation: &Relation| {
                matches!(
                    relation,
                    Relation::Less
                        | Relation::LessEqual
                        | Relation::Greater
                        | Relation::GreaterEqual
                        | Relation::NotEqual
                )
            };
            if relations.iter().all(equal) {
                AnswerKind::Equation
            } else if relations.iter().all(unequal) {
                AnswerKind::Inequality
            } else {
                AnswerKind::Relation
            }
        }
        Node::Congruence(..) => AnswerKind::Relation,
        Node::Ratio(_) => AnswerKind::Ratio,
        Node::Based { .. } => AnswerKind::Based,
        Node::Text(_) => AnswerKind::Text,
        Node::Quantity(..) | Node::Percent(_) | Node::Degree(_) => AnswerKind::Quantity,
        _ => {
            let symbolic = |node: Node| {
                matches!(
                    node,
                    Node::Symbol(_)
                        | Node::Word(_)
                        | Node::Index(..)
                        | Node::Apply(..)
                        | Node::Text(_)
                )
            };
            if tree.any(root, &symbolic) {
                AnswerKind::Expression
            } else {
                AnswerKind::Number
            }
        }
    }
}

/// A verdict with the steps that led to it.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// One sentence a step, in order.
    pub steps: Vec<String>,
    /// The verdict.
    pub verdict: Verdict,
}

/// Explains what [`verify_choice`] says about a response.
pub fn explain<S: AsRef<str>>(
    response: &str,
    gold: &str,
    choices: &[S],
    options: &Options,
) -> Explanation {
    let mut steps = Vec::new();
    if response.contains("</think>") {
        steps.push("only what follows the last `</think>` is read".to_owned());
    }
    let rule = match options.extraction {
        Extraction::Boxed => "the last box",
        Extraction::Fallback => "the last box, else the last answer phrase, else the last number",
        Extraction::Choice => "a choice letter",
        Extraction::AnswerTag => "the last answer tag",
    };
    match extract_choice(
        response,
        options.extraction,
        choices,
        options.require_think_end,
    ) {
        Some(answer) => steps.push(format!(
            "extraction ({rule}) gives `{}`",
            extract::shortened(&answer)
        )),
        None => steps.push(format!("extraction ({rule}) finds nothing")),
    }
    let grade: Grade<'_> = verify_choice(response, gold, choices, options);
    let is_choice = options.mode == Mode::Choice || options.extraction == Extraction::Choice;
    if let (Some(answer), false) = (&grade.extracted, is_choice) {
        steps.push(format!("the gold is read as {}", described(gold)));
        steps.push(format!("the answer is read as {}", described(answer)));
        if let Some(tolerance) = options.tolerance() {
            steps.push(format!(
                "numeric golds allow a relative difference of {tolerance:e}"
            ));
        }
    }
    steps.push(format!("{}: {}", grade.verdict, grade.reason));
    Explanation {
        steps,
        verdict: grade.verdict,
    }
}

/// Kind and value of an answer, for people.
fn described(text: &str) -> String {
    let Some((tree, root)) = read(text) else {
        return "text only: it is no mathematics we know".to_owned();
    };
    let kind = kind(&tree, root);
    let fuel = Fuel::new(Options::DEFAULT_FUEL);
    if let Some(value) = algebra::rational_value(&tree, root, &fuel)
        && let Some((numerator, denominator)) = value.to_small()
    {
        return if denominator == 1 {
            format!("the {kind} {numerator}")
        } else {
            format!("the {kind} {numerator}/{denominator}")
        };
    }
    if kind == AnswerKind::Number
        && let Ok(value) = Evaluator::<Double>::new(&tree, &fuel, &(), 0, false).value(root)
    {
        let sign = |im: &Double| if im.mid < 0.0 { '-' } else { '+' };
        return match &value.im {
            None => format!("a {kind}, about {:.12}", value.re.mid),
            Some(im) => format!(
                "a {kind}, about {:.9} {} {:.9}i",
                value.re.mid,
                sign(im),
                im.mid.abs()
            ),
        };
    }
    let article = if kind.name().starts_with(['a', 'e', 'i', 'o']) {
        "an"
    } else {
        "a"
    };
    format!("{article} {kind}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_name_what_was_read_and_why() {
        let explanation = explain::<&str>(
            r"<think></think> so \boxed{\sqrt{12}}",
            r"2\sqrt{3}",
            &[],
            &Options::default(),
        );
        assert_eq!(explanation.verdict, Verdict::Correct);
        let text = explanation.steps.join("\n");
        assert!(
            text.contains("`\\sqrt{12}`")
                && text.contains("3.464101615138")
                && text.contains("same canonical form"),
            "{text}"
        );
        let nothing = explain::<&str>("no box", "1", &[], &Options::default());
        assert_eq!(nothing.verdict, Verdict::NoAnswer);
    }
}
