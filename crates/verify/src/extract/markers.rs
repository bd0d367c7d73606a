//! Turn and reasoning markers around the answer.
use memchr::memchr_iter;
use memchr::memmem;

/// Where a model's turn ends; text after it belongs to nobody.
const END_OF_TURN: [&str; 5] = [
    "<|im_end|>",
    "<|eot_id|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "</s>",
];
const THINK_END: &str = "</think>";

/// The part of a response that may hold the answer: cut at the first end-of-turn marker, and what
/// follows the last `</think>` if there is one. `None` if `require_think_end` and there is none.
pub(super) fn answer_part(response: &str, require_think_end: bool) -> Option<&str> {
    let (mut start, mut end) = (0, response.len());
    let mut thought = false;
    for at in memchr_iter(b'<', response.as_bytes()) {
        let rest = &response[at..];
        if rest.starts_with(THINK_END) {
            start = at + THINK_END.len();
            thought = true;
        } else if (rest.starts_with("<|") || rest.starts_with("</s"))
            && END_OF_TURN.iter().any(|m| rest.starts_with(m))
        {
            end = at;
            break;
        }
    }
    (thought || !require_think_end).then(|| &response[start..end])
}

/// The content of the last complete `<answer>...</answer>`.
pub(super) fn last_answer_tag(text: &str) -> Option<&str> {
    let close = memmem::rfind(text.as_bytes(), b"</answer>")?;
    let open = memmem::rfind(&text.as_bytes()[..close], b"<answer>")?;
    Some(text[open + "<answer>".len()..close].trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_after_the_last_think_tag_counts() {
        assert_eq!(answer_part("<think>a</think>b</think>c", false), Some("c"));
        assert_eq!(answer_part("no tags", false), Some("no tags"));
        assert_eq!(answer_part("no tags", true), None);
    }

    #[test]
    fn a_turn_ends_at_its_first_marker() {
        assert_eq!(answer_part("x<|im_end|>y</think>z", false), Some("x"));
        assert_eq!(answer_part("a < b </s> c", false), Some("a < b "));
    }

    #[test]
    fn the_last_complete_tag_wins() {
        assert_eq!(
            last_answer_tag("<answer>1</answer> <answer> 2 </answer> <answer>3"),
            Some("2")
        );
        assert_eq!(last_answer_tag("<answer>1"), None);
        assert_eq!(last_answer_tag("1</answer>"), None);
    }
}
