//! The form of a response: are its sections there, once each and in order?
use super::config::FormatConfig;
use super::{Reward, RewardRequest, Score, ScoredText};

/// 1 when the response keeps the form, else 0. Gives no verdict on the answer.
#[derive(Debug)]
pub(super) struct FormatReward {
    pub(super) config: FormatConfig,
    pub(super) text: ScoredText,
}

impl FormatReward {
    /// `Ok` when the form is kept, else what is wrong with it.
    pub(super) fn check(&self, text: &str) -> Result<(), String> {
        let mut rest = text;
        for (index, tag) in self.config.tags.iter().enumerate() {
            let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
            let opened_by_prompt = index == 0 && self.config.first_tag_opened_by_prompt;
            if text.matches(&open).count() != usize::from(!opened_by_prompt)
                || text.matches(&close).count() != 1
            {
                return Err(format!("`{tag}` section missing or repeated"));
            }
            let inside = if opened_by_prompt {
                rest
            } else {
                let Some((before, inside)) = rest.split_once(&open) else {
                    return Err(format!("`{tag}` section out of order"));
                };
                if !before.trim().is_empty() {
                    return Err(format!("text before the `{tag}` section"));
                }
                inside
            };
            let Some((content, after)) = inside.split_once(&close) else {
                return Err(format!("`{tag}` section closed before it opens"));
            };
            if content.trim().is_empty() {
                return Err(format!("`{tag}` section empty"));
            }
            rest = after;
        }
        Ok(())
    }
}

impl Reward for FormatReward {
    fn score(&self, request: &RewardRequest<'_>) -> Score {
        match self.check(self.text.of(request)) {
            Ok(()) => Score {
                value: Some(1.0),
                verdict: None,
                detail: Some("format kept".to_owned()),
            },
            Err(problem) => Score {
                value: Some(0.0),
                verdict: None,
                detail: Some(problem),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(first_tag_opened_by_prompt: bool) -> FormatReward {
        FormatReward {
            config: FormatConfig {
                first_tag_opened_by_prompt,
                ..FormatConfig::default()
            },
            text: ScoredText::HintAndCompletion,
        }
    }

    #[test]
    fn sections_come_once_and_in_order() {
        let closed = format(false);
        assert!(closed.check("<think>a</think>\n<answer>b</answer>").is_ok());
        assert!(closed.check("<answer>b</answer><think>a</think>").is_err());
        assert!(
            closed
                .check("<think>a</think><answer>b</answer><answer>c</answer>")
                .is_err()
        );
        assert!(
            closed
                .check("so <think>a</think><answer>b</answer>")
                .is_err()
        );
        assert!(closed.check("<think>a</think><answer> </answer>").is_err());
        assert!(closed.check("</think><think>a<answer>b</answer>").is_err());
    }

    #[test]
    fn the_prompt_may_open_the_first_section() {
        let opened = format(true);
        assert!(opened.check("a</think><answer>b</answer>").is_ok());
        assert!(opened.check("<think>a</think><answer>b</answer>").is_err());
    }
}
