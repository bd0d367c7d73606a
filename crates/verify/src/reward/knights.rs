//! Knights and knaves: who tells the truth?
use serde_json::{Map, Value};

use super::answer::{AnswerValues, count_verdict};
use super::failures::{FailureCounters, count};
use super::{Reward, RewardFailures, RewardRequest, Score, ScoredText, UnusableGold};
use crate::extract::extract_choice;
use crate::options::Extraction;
use crate::verdict::Verdict;

/// Right when the answer gives every one of the `names` its role, `roles[i]` being true for a knight.
#[derive(Debug)]
pub(super) struct KnightsReward {
    pub(super) extraction: Extraction,
    pub(super) require_think_end: bool,
    pub(super) text: ScoredText,
    pub(super) values: AnswerValues,
    pub(super) counters: FailureCounters,
}

/// What to say of a row without its columns.
const COLUMNS: &str = "columns `names` (strings) and `roles` (booleans, as many) are needed";

impl Reward for KnightsReward {
    fn score(&self, request: &RewardRequest<'_>) -> Score {
        let Some(roles) = expected_roles(request.extra) else {
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
            Some(answer) => {
                let said = said_roles(&answer);
                match roles
                    .iter()
                    .find(|(name, role)| said.role_of(name) != Some(*role))
                {
                    None => (Verdict::Correct, "every role is right".to_owned()),
                    Some((name, _)) => (
                        Verdict::Wrong,
                        format!("the role of {name} is wrong, missing or stated both ways"),
                    ),
                }
            }
        };
        count_verdict(&self.counters, verdict);
        self.values.score(verdict, detail)
    }

    fn check_gold(&self, _: &str, extra: &Map<String, Value>) -> Result<(), UnusableGold> {
        expected_roles(extra)
            .map(drop)
            .ok_or(UnusableGold::Columns(COLUMNS))
    }

    fn failures(&self) -> RewardFailures {
        self.counters.snapshot()
    }
}

fn expected_roles(extra: &Map<String, Value>) -> Option<Vec<(&str, bool)>> {
    let names = extra.get("names")?.as_array()?;
    let roles = extra
        .get("roles")
        .or_else(|| extra.get("solution"))?
        .as_array()?;
    if names.len() != roles.len() || names.is_empty() {
        return None;
    }
    names
        .iter()
        .zip(roles)
        .map(|(name, role)| Some((name.as_str()?, Value::as_bool(role)?)))
        .collect()
}

/// The statements "NAME is a knight" and "NAME is a knave" of an answer.
struct SaidRoles<'a>(Vec<(&'a str, bool)>);

impl SaidRoles<'_> {
    /// The role given to a name; `None` when there is none, or both.
    fn role_of(&self, name: &str) -> Option<bool> {
        let mut said = self
            .0
            .iter()
            .filter(|(said, _)| said.eq_ignore_ascii_case(name))
            .map(|(_, role)| *role);
        let first = said.next()?;
        said.all(|role| role == first).then_some(first)
    }
}

fn said_roles(answer: &str) -> SaidRoles<'_> {
    let words: Vec<&str> = answer
        .split(|c: char| !(c.is_alphanumeric() || c == '\'' || c == '-'))
        .filter(|word| !word.is_empty())
        .collect();
    let mut said = Vec::new();
    for window in words.windows(4) {
        let role = if window[3].eq_ignore_ascii_case("knight") {
            true
        } else if window[3].eq_ignore_ascii_case("knave") {
            false
        } else {
            continue;
        };
        if window[1].eq_ignore_ascii_case("is") && window[2].eq_ignore_ascii_case("a") {
            said.push((window[0], role));
        }
    }
    SaidRoles(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_read_line_by_line() {
        let said =
            said_roles("(1) Amelia is a knight\n(2) Evelyn is a **knave**, (3) Al is not a knight");
        assert_eq!(said.role_of("Amelia"), Some(true));
        assert_eq!(said.role_of("evelyn"), Some(false));
        assert_eq!(said.role_of("Al"), None);
    }

    #[test]
    fn a_role_stated_both_ways_is_none() {
        assert_eq!(
            said_roles("Bo is a knight. Bo is a knave.").role_of("Bo"),
            None
        );
    }
}
