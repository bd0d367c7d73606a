//! Finding the answer in a response. All rules are linear scans; none allocates on the usual path.
mod boxed;
mod choice;
mod markers;
mod phrase;

use std::borrow::Cow;

use crate::options::Extraction;

pub(crate) use choice::letter_of;

/// The answer text of a response, or `None` when the rule finds none.
///
/// ```
/// use seele_verify::{extract, Extraction};
/// let response = r"First \boxed{41}; on second thought $\boxed{ \boxed{42} }$.";
/// assert_eq!(extract(response, Extraction::Boxed).as_deref(), Some("42"));
/// assert_eq!(extract("The answer is 1,250 apples.", Extraction::Boxed), None);
/// assert_eq!(extract("We get 7 + 5 = 12 in all", Extraction::Fallback).as_deref(), Some("12"));
/// assert_eq!(extract("<answer> 3 + 4 </answer>", Extraction::AnswerTag).as_deref(), Some("3 + 4"));
/// assert_eq!(extract("I think the answer is (B).", Extraction::Choice).as_deref(), Some("B"));
/// ```
pub fn extract(response: &str, extraction: Extraction) -> Option<Cow<'_, str>> {
    extract_choice::<&str>(response, extraction, &[], false)
}

/// [`extract`] with known options and, if `require_think_end`, nothing from a response without `</think>`.
pub(crate) fn extract_choice<'a, S: AsRef<str>>(
    response: &'a str,
    extraction: Extraction,
    choices: &[S],
    require_think_end: bool,
) -> Option<Cow<'a, str>> {
    let text = markers::answer_part(response, require_think_end)?;
    match extraction {
        Extraction::Boxed => boxed::last_box(text).closed().map(Cow::Borrowed),
        Extraction::Fallback => match boxed::last_box(text) {
            boxed::LastBox::Closed(content) => Some(Cow::Borrowed(content)),
            _ => phrase::after_last_phrase(text)
                .map(Cow::Borrowed)
                .or_else(|| phrase::last_number(text)),
        },
        Extraction::AnswerTag => markers::last_answer_tag(text).map(|inner| {
            Cow::Borrowed(
                boxed::last_box(inner)
                    .closed()
                    .unwrap_or_else(|| boxed::strip_wrapping(inner)),
            )
        }),
        Extraction::Choice => choice::choice_letter(text, choices).map(|letter| {
            Cow::Borrowed(
                choice::LETTERS
                    .get(letter as usize..letter as usize + 1)
                    .unwrap_or_default(),
            )
        }),
    }
}

/// The beginning of a long text, for messages.
pub(crate) fn shortened(text: &str) -> &str {
    const SHOWN_CHARS: usize = 200;
    text.char_indices()
        .nth(SHOWN_CHARS)
        .map_or(text, |(cut, _)| &text[..cut])
}
