//! Countdown: reach a target with given numbers, each used at most once.
use num_integer::Integer;
use serde_json::{Map, Value};

use super::answer::{AnswerValues, count_verdict};
use super::failures::{FailureCounters, count};
use super::{Reward, RewardFailures, RewardRequest, Score, ScoredText, UnusableGold};
use crate::extract::extract_choice;
use crate::options::Extraction;
use crate::verdict::Verdict;

/// Right when the answer is an arithmetic expression (with or without `= target`) over `numbers`, each
/// used at most once, whose exact value is `target`.
#[derive(Debug)]
pub(super) struct CountdownReward {
    pub(super) extraction: Extraction,
    pub(super) require_think_end: bool,
    pub(super) text: ScoredText,
    pub(super) values: AnswerValues,
    pub(super) counters: FailureCounters,
}

/// What to say of a row without its columns.
const COLUMNS: &str = "columns `numbers` (integers) and `target` (integer) are needed";

/// Numbers and target of a row.
fn task(extra: &Map<String, Value>) -> Option<(Vec<i64>, i64)> {
    let numbers = extra
        .get("numbers")
        .or_else(|| extra.get("nums"))?
        .as_array()?;
    let numbers = numbers.iter().map(Value::as_i64).collect::<Option<_>>()?;
    Some((numbers, extra.get("target")?.as_i64()?))
}

impl Reward for CountdownReward {
    fn score(&self, request: &RewardRequest<'_>) -> Score {
        let Some((numbers, target)) = task(request.extra) else {
            count(&self.counters.missing_columns);
            return Score::left_out(COLUMNS);
        };
        let answer = extract_choice::<&str>(
            self.text.of(request),
            self.extraction,
            &[],
            self.require_think_end,
        );
        let (verdict, detail) = match answer {
            None => (
                Verdict::NoAnswer,
                "no answer found in the response".to_owned(),
            ),
            Some(answer) => match check_equation(&answer, &numbers, target) {
                Ok(()) => (Verdict::Correct, "the equation holds".to_owned()),
                Err(problem) => (Verdict::Wrong, problem),
            },
        };
        count_verdict(&self.counters, verdict);
        self.values.score(verdict, detail)
    }

    fn check_gold(&self, _: &str, extra: &Map<String, Value>) -> Result<(), UnusableGold> {
        task(extra).map(drop).ok_or(UnusableGold::Columns(COLUMNS))
    }

    fn failures(&self) -> RewardFailures {
        self.counters.snapshot()
    }
}

/// Checks `expression`, `expression = target` or `target = expression`.
fn check_equation(answer: &str, numbers: &[i64], target: i64) -> Result<(), String> {
    let mut sides = answer.split('=').map(str::trim);
    let first = sides.next().unwrap_or_default();
    let second = sides.next();
    if sides.next().is_some() {
        return Err("more than one `=`".to_owned());
    }
    let expression = match second {
        None => first,
        Some(second) if is_number(second, target) => first,
        Some(second) if is_number(first, target) => second,
        Some(_) => return Err(format!("neither side of `=` is the target {target}")),
    };
    let (value, used) = evaluate(expression)?;
    let mut left = numbers.to_vec();
    for number in used {
        let Some(at) = left.iter().position(|n| *n == number) else {
            return Err(format!("{number} is not given, or used too often"));
        };
        left.swap_remove(at);
    }
    if value == (i128::from(target), 1) {
        Ok(())
    } else {
        Err(format!("the value is not {target}"))
    }
}

fn is_number(text: &str, number: i64) -> bool {
    text.trim_matches(['$', ' ', '.', '\\', ')', ']']).parse() == Ok(number)
}

type Fraction = (i128, i128);

#[derive(Clone, Copy, PartialEq)]
enum Operator {
    Open,
    Add,
    Subtract,
    Multiply,
    Divide,
    Negate,
}

impl Operator {
    fn precedence(self) -> u8 {
        match self {
            Self::Open => 0,
            Self::Add | Self::Subtract => 1,
            Self::Multiply | Self::Divide => 2,
            Self::Negate => 3,
        }
    }
}

/// Exact value and numbers used. Operator precedence with two explicit stacks, so nesting costs memory only.
fn evaluate(expression: &str) -> Result<(Fraction, Vec<i64>), String> {
    let (mut values, mut operators, mut used) = (Vec::<Fraction>::new(), Vec::new(), Vec::new());
    let mut operand_expected = true;
    let mut rest = expression;
    while let Some(c) = rest.chars().next() {
        if c.is_ascii_digit() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let number: i64 = rest[..digits]
                .parse()
                .map_err(|_| "a number is too long".to_owned())?;
            rest = &rest[digits..];
            if !operand_expected || rest.starts_with('.') {
                return Err("numbers must be whole and joined by an operator".to_owned());
            }
            used.push(number);
            values.push((i128::from(number), 1));
            operand_expected = false;
            continue;
        }
        let mut length = c.len_utf8();
        let operator = match c {
            ' ' | '\n' | '\t' | '\r' | '$' => None,
            '(' | '[' | '{' => Some(Operator::Open),
            ')' | ']' | '}' => {
                close(&mut values, &mut operators, operand_expected)?;
                None
            }
            '+' => Some(Operator::Add),
            '-' | '−' | '–' => Some(Operator::Subtract),
            '*' | '×' | '·' => Some(Operator::Multiply),
            '/' | '÷' => Some(Operator::Divide),
            '\\' => {
                let name = rest[1..]
                    .bytes()
                    .take_while(u8::is_ascii_alphabetic)
                    .count();
                length = 1 + name;
                match &rest[1..length] {
                    "times" | "cdot" => Some(Operator::Multiply),
                    "div" => Some(Operator::Divide),
                    "left" | "right" => None,
                    "" => {
                        length = 2.min(rest.len());
                        None
                    }
                    other => return Err(format!("`\\{other}` is not arithmetic")),
                }
            }
            other => return Err(format!("`{other}` is not arithmetic")),
        };
        rest = rest.get(length..).unwrap_or_default();
        match operator {
            None => {}
            Some(Operator::Open) if operand_expected => operators.push(Operator::Open),
            Some(Operator::Open) => {
                return Err("an operator is missing before a bracket".to_owned());
            }
            Some(Operator::Subtract) if operand_expected => operators.push(Operator::Negate),
            Some(Operator::Add) if operand_expected => {}
            Some(_) if operand_expected => return Err("an operand is missing".to_owned()),
            Some(operator) => {
                while operators
                    .last()
                    .is_some_and(|top| top.precedence() >= operator.precedence())
                {
                    apply(&mut values, operators.pop())?;
                }
                operators.push(operator);
                operand_expected = true;
            }
        }
    }
    if operand_expected {
        return Err("the expression is not complete".to_owned());
    }
    while let Some(operator) = operators.pop() {
        if operator == Operator::Open {
            return Err("a bracket is not closed".to_owned());
        }
        apply(&mut values, Some(operator))?;
    }
    match values.as_slice() {
        [value] => Ok((*value, used)),
        _ => Err("the expression is not complete".to_owned()),
    }
}

fn close(
    values: &mut Vec<Fraction>,
    operators: &mut Vec<Operator>,
    operand_expected: bool,
) -> Result<(), String> {
    if operand_expected {
        return Err("an operand is missing before a bracket".to_owned());
    }
    loop {
        match operators.pop() {
            Some(Operator::Open) => return Ok(()),
            None => return Err("a bracket is not opened".to_owned()),
            operator => apply(values, operator)?,
        }
    }
}

fn apply(values: &mut Vec<Fraction>, operator: Option<Operator>) -> Result<(), String> {
    let too_large = || "a value is too large".to_owned();
    let incomplete = || "the expression is not complete".to_owned();
    let (n, d) = values.pop().ok_or_else(incomplete)?;
    if operator == Some(Operator::Negate) {
        values.push((-n, d));
        return Ok(());
    }
    let (m, e) = values.pop().ok_or_else(incomplete)?;
    let (numerator, denominator) = match operator {
        Some(Operator::Add | Operator::Subtract) => {
            let (left, right) = (m.checked_mul(d), n.checked_mul(e));
            let (left, right) = left.zip(right).ok_or_else(too_large)?;
            let sum = if operator == Some(Operator::Add) {
                left.checked_add(right)
            } else {
                left.checked_sub(right)
            };
            (sum, e.checked_mul(d))
        }
        Some(Operator::Multiply) => (m.checked_mul(n), e.checked_mul(d)),
        _ if n == 0 => return Err("division by zero".to_owned()),
        _ => (m.checked_mul(d), e.checked_mul(n)),
    };
    let (numerator, denominator) = numerator.zip(denominator).ok_or_else(too_large)?;
    let divisor = numerator.gcd(&denominator) * denominator.signum();
    values.push((numerator / divisor, denominator / divisor));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equations_hold_or_do_not() {
        let numbers = [47, 76, 55, 60];
        for right in [
            "((76 - 47) + 55) - 60",
            "((76-47)+55)-60 = 24",
            "24 = 76 - 47 + 55 - 60",
            r"\left(76 - 47\right) + 55 - 60",
        ] {
            assert_eq!(check_equation(right, &numbers, 24), Ok(()), "{right}");
        }
        for wrong in [
            "24",
            "76 - 47 - 60 + 55 + 0",
            "76 - 47 + 55 - 60 + 60 - 60",
            "76 - 47 + 55 - 60 = 25",
            "",
            "76 -",
            "(76",
            "7655",
            "76.0",
            "a + b",
        ] {
            assert!(check_equation(wrong, &numbers, 24).is_err(), "{wrong}");
        }
    }

    #[test]
    fn fractions_are_exact_and_numbers_optional() {
        assert_eq!(
            check_equation(r"3 \times (7 ÷ 3)", &[3, 7, 3, 5], 7),
            Ok(())
        );
        assert_eq!(check_equation("7 - -2", &[7, 2], 9), Ok(()));
        assert!(check_equation("7 / (3 - 3)", &[7, 3, 3], 7).is_err());
    }

    #[test]
    fn deep_nesting_and_long_numbers_are_refused_or_evaluated_without_recursion() {
        let deep = format!("{}5{}", "(".repeat(100_000), ")".repeat(100_000));
        assert_eq!(check_equation(&deep, &[5], 5), Ok(()));
        assert!(check_equation(&"9".repeat(1000), &[9], 9).is_err());
        assert!(
            check_equation(
                "9223372036854775807*9223372036854775807*9223372036854775807",
                &[9],
                9
            )
            .is_err()
        );
    }
}
