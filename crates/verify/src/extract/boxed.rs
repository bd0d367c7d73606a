//! The last box of a text.
use memchr::memrchr_iter;

/// What the last `\boxed{` or `\fbox{` of a text holds.
pub(super) enum LastBox<'a> {
    /// No box at all.
    None,
    /// The last box is never closed.
    Open,
    /// Its content, trimmed and without math delimiters around the whole.
    Closed(&'a str),
}

impl<'a> LastBox<'a> {
    /// The content of a closed box.
    pub(super) fn closed(self) -> Option<&'a str> {
        match self {
            Self::Closed(content) => Some(content),
            Self::None | Self::Open => None,
        }
    }
}

/// Finds the last opening of a box, scanning from the end, and its matching brace.
///
/// Escaped braces count like plain ones: both of a pair are escaped in practice.
pub(super) fn last_box(text: &str) -> LastBox<'_> {
    let bytes = text.as_bytes();
    for at in memrchr_iter(b'\\', bytes) {
        let rest = &bytes[at + 1..];
        let name = if rest.starts_with(b"boxed") {
            5
        } else if rest.starts_with(b"fbox") {
            4
        } else {
            continue;
        };
        let mut open = at + 1 + name;
        while bytes.get(open).is_some_and(u8::is_ascii_whitespace) {
            open += 1;
        }
        if bytes.get(open) != Some(&b'{') {
            continue;
        }
        return match matching_brace(bytes, open) {
            Some(close) => LastBox::Closed(strip_wrapping(&text[open + 1..close])),
            None => LastBox::Open,
        };
    }
    LastBox::None
}

/// The index of the brace that closes the one at `open`.
fn matching_brace(bytes: &[u8], open: usize) -> Option<usize> {
    let mut depth = 0usize;
    for at in memchr::memchr2_iter(b'{', b'}', &bytes[open..]) {
        if bytes[open + at] == b'{' {
            depth += 1;
        } else {
            depth -= 1;
            if depth == 0 {
                return Some(open + at);
            }
        }
    }
    None
}

/// Drops white space and one pair of math delimiters around the whole text.
pub(super) fn strip_wrapping(text: &str) -> &str {
    let text = text.trim();
    for (open, close) in [("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]")] {
        if let Some(inner) = text.strip_prefix(open).and_then(|t| t.strip_suffix(close))
            && !inner.is_empty()
            && !inner.contains(open)
        {
            return inner.trim();
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(text: &str) -> Option<&str> {
        last_box(text).closed()
    }

    #[test]
    fn the_last_opening_wins() {
        assert_eq!(content(r"\boxed{1} then \boxed{2} and 3"), Some("2"));
        assert_eq!(content(r"\boxed{\boxed{42}}"), Some("42"));
        assert_eq!(content(r"\fbox{7}"), Some("7"));
        assert_eq!(content(r"\boxed {7}"), Some("7"));
    }

    #[test]
    fn an_open_box_hides_earlier_ones() {
        assert_eq!(content(r"\boxed{41} or \boxed{42"), None);
        assert!(matches!(last_box(r"\boxed{"), LastBox::Open));
        assert!(matches!(last_box(r"\boxed is a macro"), LastBox::None));
    }

    #[test]
    fn braces_balance_also_when_escaped() {
        assert_eq!(content(r"\boxed{\{1,2\}}."), Some(r"\{1,2\}"));
        assert_eq!(content(r"\boxed{\frac{1}{2}} {x}"), Some(r"\frac{1}{2}"));
    }

    #[test]
    fn layout_around_the_content_is_dropped() {
        assert_eq!(content("\\boxed{\n  42\n}"), Some("42"));
        assert_eq!(content(r"\boxed{$\frac34$}"), Some(r"\frac34"));
        assert_eq!(content(r"\boxed{\(x\)}"), Some("x"));
        assert_eq!(content(r"\boxed{$1$, $2$}"), Some("$1$, $2$"));
        assert_eq!(content(r"\boxed{}"), Some(""));
    }
}
