//! When an annotation is kept.

use crate::journal::Verdict;
use crate::steps::steps_of;
use seele_client::Reply;
use seele_data::{BoxError, Problem};
use seele_verify::{Extraction, Mode, Options, verify_choice};
use serde::{Deserialize, Serialize};

/// Counts the tokens of a text.
pub type CountTokens<'a> = &'a (dyn Fn(&str) -> Result<usize, BoxError> + Sync);

/// What an annotation must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// Answers of the server for a problem at most, at least 1.
    pub tries: usize,
    /// Steps at most.
    pub max_steps: usize,
    /// Tokens at least.
    pub min_tokens: usize,
    /// Tokens at most; also how much a server is asked to write at most.
    pub max_tokens: usize,
}

impl Default for Rules {
    /// Three tries, five steps, 16 to 2,048 tokens.
    fn default() -> Self {
        Self {
            tries: 3,
            max_steps: 5,
            min_tokens: 16,
            max_tokens: 2048,
        }
    }
}

/// A text without what a reasoning model thought before it.
pub(crate) fn without_thoughts(text: &str) -> &str {
    text.rsplit_once("</think>").map_or(text, |(_, rest)| rest)
}

impl Rules {
    /// Judges an answer. Tokens are counted by `count`, or else by the server.
    pub(crate) fn judge(
        &self,
        problem: &Problem,
        reply: &Reply,
        count: Option<CountTokens<'_>>,
    ) -> Verdict {
        match self.check(problem, reply, count) {
            Ok(tokens) => Verdict::Accepted { tokens },
            Err(reason) => Verdict::Rejected { reason },
        }
    }

    /// The number of tokens of an answer that is kept, or why it is not.
    fn check(
        &self,
        problem: &Problem,
        reply: &Reply,
        count: Option<CountTokens<'_>>,
    ) -> Result<usize, String> {
        if reply.finish_reason.as_deref() == Some("length") {
            return Err("cut at the token limit".into());
        }
        let text = without_thoughts(&reply.text);
        let steps = steps_of(text).ok_or("no numbered steps")?;
        if steps.len() > self.max_steps {
            return Err(format!(
                "{} steps, {} are allowed",
                steps.len(),
                self.max_steps
            ));
        }
        let solution = steps.concat();
        let mode = match problem.choices.is_empty() {
            true => Mode::Math,
            false => Mode::Choice,
        };
        let options = Options {
            mode,
            extraction: Extraction::Boxed,
            ..Options::default()
        };
        let grade = verify_choice(&solution, &problem.answer, &problem.choices, &options);
        if !grade.is_correct() {
            return Err(format!("answer not confirmed: {}", grade.reason));
        }
        let tokens = match (count, reply.completion_tokens) {
            (Some(count), _) => {
                count(&solution).map_err(|error| format!("cannot count its tokens: {error}"))?
            }
            (None, Some(tokens)) => tokens,
            (None, None) => return Err("the server told no number of tokens".into()),
        };
        match (self.min_tokens..=self.max_tokens).contains(&tokens) {
            true => Ok(tokens),
            false => Err(format!(
                "{tokens} tokens, {} to {} are allowed",
                self.min_tokens, self.max_tokens
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use seele_data::Place;

    fn problem() -> Problem {
        Problem {
            id: "p".into(),
            problem: "3+4=".into(),
            answer: "7".into(),
            solution: None,
            steps: Vec::new(),
            choices: Vec::new(),
            answer_index: None,
            extra: serde_json::Map::new(),
            place: Place::Generated {
                generator: "test",
                index: 0,
            },
        }
    }

    fn judged(text: &str, finish: &str, tokens: Option<usize>) -> Result<usize, String> {
        let reply = Reply {
            text: text.into(),
            finish_reason: Some(finish.into()),
            prompt_tokens: None,
            completion_tokens: tokens,
        };
        Rules::default().check(&problem(), &reply, None)
    }

    #[test]
    fn every_rule_refuses_what_breaks_it_alone() {
        let good = "1. Add: 3 + 4.\n2. So \\boxed{7}.";
        assert_eq!(judged(good, "stop", Some(20)), Ok(20));
        let thinking = format!("1. hm \\boxed{{8}}</think>\n{good}");
        assert_eq!(judged(&thinking, "stop", Some(20)), Ok(20));
        let six: String = (1..=6).map(|i| format!("{i}. so \\boxed{{7}}\n")).collect();
        for (text, finish, tokens, part) in [
            (good, "length", Some(20), "cut"),
            (good, "stop", Some(15), "15 tokens"),
            (good, "stop", Some(2049), "2049 tokens"),
            (good, "stop", None, "no number"),
            ("So \\boxed{7}.", "stop", Some(20), "no numbered"),
            ("1. So \\boxed{8}.", "stop", Some(20), "not confirmed"),
            ("1. So 7.", "stop", Some(20), "not confirmed"),
            (
                "\\boxed{7}\n1. So \\boxed{8}.",
                "stop",
                Some(20),
                "not confirmed",
            ),
            (&six, "stop", Some(20), "6 steps"),
        ] {
            let reason = judged(text, finish, tokens).unwrap_err();
            assert!(reason.contains(part), "{text}: {reason}");
        }
    }

    #[test]
    fn a_count_of_ones_own_goes_before_the_server_s() {
        let reply = Reply {
            text: "Sure!\n1. So \\boxed{7}.".into(),
            finish_reason: None,
            prompt_tokens: None,
            completion_tokens: Some(5),
        };
        let count = |text: &str| Ok(text.len());
        let tokens = Rules::default().check(&problem(), &reply, Some(&count));
        assert_eq!(tokens, Ok("1. So \\boxed{7}.".len()));
    }
}
