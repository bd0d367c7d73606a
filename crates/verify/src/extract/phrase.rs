//! Answers that are announced in words, or are simply the last number.
use std::borrow::Cow;

use memchr::memmem;

use super::boxed::strip_wrapping;

/// The text after the last answer phrase, up to the end of its formula, sentence or line.
pub(super) fn after_last_phrase(text: &str) -> Option<&str> {
    let start = last_phrase_end(text)?;
    let rest = text[start..].trim_start_matches([' ', '\t', ':', '*', '\n', '\r']);
    let answer = strip_wrapping(first_statement(rest))
        .trim_end_matches('*')
        .trim_end_matches(['.', '。'])
        .trim();
    (!answer.is_empty()).then_some(answer)
}

/// The byte position just behind the last answer phrase of any kind.
fn last_phrase_end(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut end = memmem::rfind(bytes, b"####").map(|at| at + 4);
    for phrase in ["答案是", "答案为", "答案："] {
        end = end.max(memmem::rfind(bytes, phrase.as_bytes()).map(|at| at + phrase.len()));
    }
    // "answer" in any case, followed by "is", ":" or "is:"; also covers "final answer is".
    let finder = memmem::Finder::new(b"nswer");
    for at in finder
        .find_iter(bytes)
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
    {
        if at == 0 || !bytes[at - 1].eq_ignore_ascii_case(&b'a') {
            continue;
        }
        let after = at + 5;
        let gap = bytes[after..]
            .iter()
            .take_while(|b| matches!(b, b' ' | b'*' | b'\n'))
            .count();
        let rest = &bytes[after + gap..];
        if rest.starts_with(b":") {
            end = end.max(Some(after + gap + 1));
            break;
        }
        if rest.len() > 2
            && rest[..2].eq_ignore_ascii_case(b"is")
            && !rest[2].is_ascii_alphanumeric()
        {
            end = end.max(Some(after + gap + 2));
            break;
        }
    }
    end
}

/// A formula in delimiters at the start of the text, else what precedes the end of the sentence.
fn first_statement(text: &str) -> &str {
    for (open, close) in [("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]")] {
        if let Some(inner) = text.strip_prefix(open)
            && let Some(end) = inner
                .match_indices(close)
                .map(|(at, _)| at)
                .find(|at| close != "$" || !inner[..*at].ends_with('\\'))
        {
            return &inner[..end];
        }
    }
    let line = text.lines().next().unwrap_or_default();
    let mut end = line.len();
    let bytes = line.as_bytes();
    for at in memchr::memchr_iter(b'.', bytes) {
        // A stop ends the sentence when another one begins: "3.5" goes on, "4:30 p.m. on Monday" too.
        let next = line[at + 1..].trim_start();
        if next.len() < line.len() - at - 1 && next.starts_with(char::is_uppercase) {
            end = at;
            break;
        }
    }
    line[..end].trim()
}

/// The last number of a text with its thousands commas removed: `1,250` gives `1250`, `-3.5` itself.
pub(super) fn last_number(text: &str) -> Option<Cow<'_, str>> {
    let bytes = text.as_bytes();
    let last_digit = bytes.iter().rposition(u8::is_ascii_digit)?;
    let mut start = last_digit;
    while start > 0
        && (bytes[start - 1].is_ascii_digit()
            || (matches!(bytes[start - 1], b'.' | b',')
                && bytes[start].is_ascii_digit()
                && start > 1
                && (bytes[start - 2].is_ascii_digit() || bytes[start - 1] == b'.')))
    {
        start -= 1;
    }
    let digits = &text[start..=last_digit];
    // A minus sign belongs to the number when it touches it and nothing stands to subtract from: not "5-3".
    let before = text[..start].trim_end_matches('$');
    let negative = before.strip_suffix(['-', '−']).is_some_and(|left| {
        !left.ends_with(|c: char| c.is_alphanumeric() || matches!(c, ')' | '}' | ']'))
    });
    if negative || digits.contains(',') {
        let mut number = String::with_capacity(digits.len() + 1);
        if negative {
            number.push('-');
        }
        number.extend(digits.chars().filter(|c| *c != ','));
        Some(Cow::Owned(number))
    } else {
        Some(Cow::Borrowed(digits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phrases_end_with_their_formula_sentence_or_line() {
        assert_eq!(
            after_last_phrase(r"So the final answer is $\frac{3}{4}$. I hope it is correct."),
            Some(r"\frac{3}{4}")
        );
        assert_eq!(
            after_last_phrase("The answer is 3.5 km. Then 7."),
            Some("3.5 km")
        );
        assert_eq!(after_last_phrase("**Answer:** 12\nDone"), Some("12"));
        assert_eq!(after_last_phrase("steps\n#### 1,250"), Some("1,250"));
        assert_eq!(after_last_phrase("答案是 7。"), Some("7"));
        assert_eq!(
            after_last_phrase("The answer is 1. No, the answer is 2."),
            Some("2")
        );
        assert_eq!(after_last_phrase(r"The answer is $\$5$."), Some(r"\$5"));
        assert_eq!(after_last_phrase("nothing here"), None);
    }

    #[test]
    fn the_last_number_loses_its_commas() {
        assert_eq!(
            last_number("in all $1,008.50/week").as_deref(),
            Some("1008.50")
        );
        assert_eq!(last_number("A: 12").as_deref(), Some("12"));
        assert_eq!(last_number("10 - 2 = 8 cm.").as_deref(), Some("8"));
        assert_eq!(last_number("it is -3").as_deref(), Some("-3"));
        assert_eq!(last_number("we have 5-3").as_deref(), Some("3"));
        assert_eq!(last_number("costs $.40 each").as_deref(), Some(".40"));
        assert_eq!(last_number("none"), None);
    }
}
