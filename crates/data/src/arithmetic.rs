//! Multi-step arithmetic with worked steps, made from a seed: problems for a first run that needs no
//! download.
//!
//! ```
//! use seele_data::arithmetic::{ArithmeticConfig, Between, Split};
//!
//! let config = ArithmeticConfig { operations: Between { min: 3, max: 3 }, count: 2, ..Default::default() };
//! let problems = config.generate(Split::Train)?;
//! let problem = &problems[0];
//! assert_eq!(problem.problem, "7+8+5+2=");
//! assert_eq!(problem.steps, ["15+5+2;", "20+2=", "22"]);
//! assert_eq!(problem.answer, "22");
//! # Ok::<(), seele_data::arithmetic::ArithmeticError>(())
//! ```
//!
//! Each step carries out one operation and rewrites what remains, so that every step is the same
//! skill and none can be skipped; the number of operations is the difficulty. Multiplication binds
//! first, otherwise from left to right, so every line is a true equation.
//!
//! Training and held-out problems are disjoint whatever the seeds and settings: a hash of the
//! statement alone decides to which side it belongs.

mod expression;

use std::collections::{BTreeSet, HashSet};
use std::iter;

use seele_random::Key;
use serde::{Deserialize, Serialize};
use serde_json::Map;

use crate::problem::{Place, Problem};
use expression::Expression;
pub use expression::Operator;

/// One statement in so many is held out.
const HELD_OUT_ONE_IN: u64 = 8;

/// Statements tried for one problem before the settings count as exhausted.
const ATTEMPTS: u64 = 10_000;

/// Statements tried with one number of operations, before another number is drawn.
const ATTEMPTS_OF_ONE_LENGTH: u64 = 100;

/// Most operations of a problem: what a statement of a few hundred characters holds.
const OPERATIONS_LIMIT: u64 = 100;

/// Largest operand; products of a few still fit the integers used.
const OPERAND_LIMIT: u64 = 1_000_000;

/// An inclusive range of whole numbers; `{ min = 1, max = 3 }` in a recipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Between {
    /// Smallest.
    pub min: u64,
    /// Largest, at least `min`.
    pub max: u64,
}

/// Problems of other lengths among those of a set; `{ share = 0.1, operations = { min = 1, max = 3 } }`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Others {
    /// How many of all problems, `0..=1`.
    pub share: f64,
    /// Operations a problem.
    pub operations: Between,
    /// Their first operand; default: as `first_operand`.
    #[serde(default)]
    pub first_operand: Option<Between>,
}

impl Between {
    fn draw(self, key: Key) -> u64 {
        self.min + key.below(self.max - self.min + 1)
    }
}

/// How the last step states the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AnswerForm {
    /// `16+2=18`: the fewest characters; a verifier reads the last number.
    #[default]
    Plain,
    /// `16+2=\boxed{18}`: what a verifier of boxes reads.
    Boxed,
    /// `16+2=####18`: GSM8K's mark.
    Hashes,
}

impl AnswerForm {
    /// What stands before and after the answer.
    pub fn marks(self) -> (&'static str, &'static str) {
        match self {
            Self::Plain => ("", ""),
            Self::Boxed => ("\\boxed{", "}"),
            Self::Hashes => ("####", ""),
        }
    }
}

/// Which side of the fixed division a set is drawn from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// Seven of eight statements.
    Train,
    /// The others.
    HeldOut,
}

/// Settings of the generator; the same settings give the same problems on every machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ArithmeticConfig {
    /// Operations a problem, 1 to 100: its difficulty. Each number is equally likely as long as
    /// there are statements left that were not drawn yet.
    pub operations: Between,
    /// Operands, 0 to 1,000,000, each equally likely.
    pub operands: Between,
    /// The first operand, where its range differs: short problems whose partial results are as large
    /// as those of long ones.
    pub first_operand: Option<Between>,
    /// A share of problems of another length: a few easy ones keep a policy from forgetting them.
    pub others: Option<Others>,
    /// Operations to choose from, `+`, `-`, `*`, each equally likely (name one twice to prefer it).
    pub operators: Vec<Operator>,
    /// Results are taken modulo this number, at least 2, which keeps them short. A convention of the
    /// set that the statement does not repeat.
    pub modulus: Option<u64>,
    /// Use no statement with a result below 0 on the way.
    pub non_negative: bool,
    /// How the last step states the answer.
    pub answer: AnswerForm,
    /// Number of problems, all different.
    pub count: usize,
    /// Seed of the set.
    pub seed: u64,
}

impl Default for ArithmeticConfig {
    fn default() -> Self {
        Self {
            operations: Between { min: 1, max: 4 },
            operands: Between { min: 1, max: 9 },
            first_operand: None,
            others: None,
            operators: vec![Operator::Add],
            modulus: None,
            non_negative: true,
            answer: AnswerForm::Plain,
            count: 1000,
            seed: 0,
        }
    }
}

/// Settings that no problems can be made from.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ArithmeticError {
    /// A setting is out of its range.
    #[error("arithmetic: `{key}` is {found}, it must be {expected}")]
    Setting {
        /// The setting.
        key: &'static str,
        /// Its value.
        found: String,
        /// What it may be.
        expected: &'static str,
    },
    /// There are not that many different statements.
    #[error(
        "arithmetic: found only {found} of {wanted} different {side} problems; lower `count`, or allow more operations or operands"
    )]
    Exhausted {
        /// Problems found.
        found: usize,
        /// Problems asked for.
        wanted: usize,
        /// Training or held-out.
        side: &'static str,
    },
}

impl ArithmeticConfig {
    /// Makes `count` different problems of one side of the division.
    ///
    /// Each has `extra.source = "arithmetic"` and `extra.operations`, its difficulty.
    ///
    /// # Errors
    /// [`ArithmeticError`].
    pub fn generate(&self, split: Split) -> Result<Vec<Problem>, ArithmeticError> {
        self.check()?;
        let (side, stream) = match split {
            Split::Train => ("train", 0),
            Split::HeldOut => ("held-out", 1),
        };
        let key = Key::new(self.seed).with(stream);
        let mut statements = HashSet::with_capacity(self.count);
        let mut problems = Vec::with_capacity(self.count);
        for index in 0..self.count as u64 {
            let fresh = (0..ATTEMPTS).find_map(|attempt| {
                let expression = self.draw(key.with(index), attempt);
                let statement = format!("{expression}=");
                let wanted = split_of(&statement) == split && !statements.contains(&statement);
                // Working it out costs more than looking it up.
                let steps = if wanted {
                    self.work_out(expression)
                } else {
                    None
                };
                steps.map(|(steps, answer, operations)| (statement, steps, answer, operations))
            });
            let Some((statement, steps, answer, operations)) = fresh else {
                return Err(ArithmeticError::Exhausted {
                    found: problems.len(),
                    wanted: self.count,
                    side,
                });
            };
            statements.insert(statement.clone());
            let mut extra = Map::new();
            extra.insert("source".into(), "arithmetic".into());
            extra.insert("operations".into(), operations.into());
            problems.push(Problem {
                id: format!("arithmetic-{side}-{index:06}"),
                problem: statement,
                answer,
                solution: Some(steps.concat()),
                steps,
                choices: Vec::new(),
                answer_index: None,
                extra,
                place: Place::Generated {
                    generator: "arithmetic",
                    index,
                },
            });
        }
        Ok(problems)
    }

    /// Every character that problems and solutions of these settings can hold, in order, for a
    /// tokenizer of characters.
    pub fn alphabet(&self) -> Vec<char> {
        let mut characters: BTreeSet<char> = ('0'..='9').chain(['=', ';']).collect();
        characters.extend(self.operators.iter().map(|operator| operator.symbol()));
        if !self.non_negative
            && self.modulus.is_none()
            && self.operators.contains(&Operator::Subtract)
        {
            characters.insert('-');
        }
        let (before, after) = self.answer.marks();
        characters.extend(before.chars().chain(after.chars()));
        characters.into_iter().collect()
    }

    fn check(&self) -> Result<(), ArithmeticError> {
        let setting = |key, found: String, expected| {
            Err(ArithmeticError::Setting {
                key,
                found,
                expected,
            })
        };
        let range = |r: Between| format!("{} to {}", r.min, r.max);
        let others = self.others.as_ref();
        if let Some(share) = others.map(|others| others.share)
            && !(0.0..=1.0).contains(&share)
        {
            return setting("others.share", share.to_string(), "inside 0 to 1");
        }
        let of_others = others.map(|others| ("others.operations", others.operations));
        for (key, operations) in iter::once(("operations", self.operations)).chain(of_others) {
            let Between { min, max } = operations;
            if min == 0 || min > max || max > OPERATIONS_LIMIT {
                return setting(key, range(operations), "a range inside 1 to 100");
            }
        }
        let first = self.first_operand.map(|first| ("first_operand", first));
        let of_others =
            others.and_then(|others| Some(("others.first_operand", others.first_operand?)));
        let operands = iter::once(("operands", self.operands));
        for (key, operands) in operands.chain(first).chain(of_others) {
            if operands.min > operands.max || operands.max > OPERAND_LIMIT {
                return setting(key, range(operands), "a range inside 0 to 1000000");
            }
        }
        if self.operators.is_empty() {
            return setting("operators", "empty".into(), "a list of `+`, `-` and `*`");
        }
        if let Some(modulus @ (0 | 1)) = self.modulus {
            return setting("modulus", modulus.to_string(), "at least 2, or left out");
        }
        if self.count == 0 {
            return setting("count", "0".into(), "at least 1");
        }
        Ok(())
    }

    fn draw(&self, key: Key, attempt: u64) -> Expression {
        // Rejected statements must not favour numbers of operations that are rejected less often.
        let length = key.with(0).with(attempt / ATTEMPTS_OF_ONE_LENGTH);
        // Whether a problem is one of the others stays the same over its attempts.
        let others = self.others.as_ref();
        let others = others.filter(|others| key.with(2).uniform() < others.share);
        let operations = others.map_or(self.operations, |others| others.operations);
        let operations = operations.draw(length);
        let key = key.with(1).with(attempt);
        let first_operand = others.and_then(|others| others.first_operand);
        let range = |i| match first_operand.or(self.first_operand) {
            Some(first) if i == 0 => first,
            _ => self.operands,
        };
        let terms = (0..=operations).map(|i| range(i).draw(key.with(1).with(i)));
        let operators = (0..operations).map(|i| {
            let choice = key.with(2).with(i).below(self.operators.len() as u64);
            self.operators[choice as usize]
        });
        Expression::new(terms.collect(), operators.collect())
    }

    /// Steps, answer and number of operations; `None` if a result on the way is not allowed.
    fn work_out(&self, mut rest: Expression) -> Option<(Vec<String>, String, usize)> {
        let operations = rest.operations();
        let mut steps = Vec::with_capacity(operations);
        while rest.operations() > 0 {
            let result = rest.reduce(self.modulus)?;
            if self.non_negative && result < 0 {
                return None;
            }
            steps.push(match rest.operations() {
                0 => {
                    let (before, after) = self.answer.marks();
                    format!("{before}{rest}{after}")
                }
                // The statement ends with `=` too: the answer always follows `a+b=`.
                1 => format!("{rest}="),
                _ => format!("{rest};"),
            });
        }
        Some((steps, rest.to_string(), operations))
    }
}

/// The side of a statement: a hash of its bytes.
fn split_of(statement: &str) -> Split {
    let root = Key::new(u64::from_le_bytes(*b"held-out"));
    let hash = statement
        .bytes()
        .fold(root, |key, byte| key.with(u64::from(byte)));
    match hash.below(HELD_OUT_ONE_IN) {
        0 => Split::HeldOut,
        _ => Split::Train,
    }
}
