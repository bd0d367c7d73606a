//! Answers in words.
use crate::tree::{Node, NodeId, Tree};

/// True when the parsed gold is words rather than mathematics: a text macro, or a plain word that is
/// too long for a product of symbols.
pub(super) fn is_text(tree: &Tree, root: NodeId) -> bool {
    match tree.node(root) {
        Node::Text(_) => true,
        Node::Word(index) => tree.text(index).len() >= 4,
        Node::Mul(kids) => tree
            .kids(kids)
            .iter()
            .all(|kid| matches!(tree.node(*kid), Node::Text(_) | Node::Word(_))),
        // "C, F, H" inside one text macro is text already; this is `\text{A}, \text{B}` and stays a list.
        _ => false,
    }
}

/// The same words up to case, quotes, a leading article, spaces, stops and text macros.
///
/// A list of single letters (`A,C,F`) may come in any order.
pub(super) fn same_words(gold: &str, answer: &str) -> bool {
    let (gold, answer) = (words(gold).to_lowercase(), words(answer).to_lowercase());
    let (gold, answer) = (without_article(&gold), without_article(&answer));
    if gold == answer {
        return !gold.is_empty();
    }
    letters_of(gold).is_some_and(|letters| letters_of(answer) == Some(letters))
}

/// The same text up to layout, for what cannot be read as mathematics. Case counts.
pub(super) fn same_letters(gold: &str, answer: &str) -> bool {
    let gold = words(gold);
    !gold.is_empty() && gold == words(answer)
}

/// The same single letter in any decoration: `C)`, `(C)`, `\text{C.}`.
pub(super) fn same_choice(gold: &str, answer: &str) -> bool {
    let letter = |text: &str| -> Option<u8> {
        match words(text)
            .trim_matches(['(', ')', '[', ']', ':', '*', ' '])
            .as_bytes()
        {
            [letter] if letter.is_ascii_uppercase() => Some(*letter),
            _ => None,
        }
    };
    letter(gold).is_some_and(|gold| letter(answer) == Some(gold))
}

fn without_article(text: &str) -> &str {
    for article in ["the ", "a ", "an "] {
        if let Some(after) = text.strip_prefix(article)
            && !after.is_empty()
        {
            return after;
        }
    }
    text
}

/// The letters of `a,c,and f`, sorted.
fn letters_of(text: &str) -> Option<Vec<u8>> {
    if !text.contains(',') {
        return None;
    }
    let text = text
        .strip_prefix("\\{")
        .and_then(|inner| inner.strip_suffix("\\}"))
        .unwrap_or(text);
    let mut letters = Vec::new();
    for part in text.split(',') {
        match part.strip_prefix("and ").unwrap_or(part).as_bytes() {
            [letter] => letters.push(*letter),
            _ => return None,
        }
    }
    letters.sort_unstable();
    Some(letters)
}

/// A text without macros around words, braces, quotes, closing stops, and spaces that separate nothing.
fn words(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    let mut rest = text;
    let mut space = false;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        let digit_before = folded.ends_with(|c: char| c.is_ascii_digit());
        match c {
            '\\' => {
                let name = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
                let wrapper = matches!(
                    &rest[..name],
                    "text"
                        | "textbf"
                        | "textit"
                        | "textrm"
                        | "textsf"
                        | "texttt"
                        | "mbox"
                        | "mathrm"
                        | "mathbf"
                        | "mathit"
                        | "mathsf"
                        | "operatorname"
                        | "emph"
                        | "left"
                        | "right"
                        | "quad"
                        | "qquad"
                        | "displaystyle"
                );
                if wrapper {
                    rest = &rest[name..];
                    space = true;
                } else if name == 0 && !rest.starts_with(['{', '}']) {
                    rest = rest
                        .chars()
                        .next()
                        .map_or("", |next| &rest[next.len_utf8()..]);
                    space = true;
                } else {
                    folded.push('\\');
                    if name == 0 {
                        folded.extend(rest.chars().next());
                        rest = &rest[1..];
                    }
                }
            }
            '.' if digit_before && rest.starts_with(|c: char| c.is_ascii_digit()) => {
                folded.push('.')
            }
            '~' => space = true,
            '{' | '}' | '$' | '"' | '`' | '.' | '!' | '\'' => {}
            c if c.is_whitespace() => space = true,
            c => {
                // A space matters between words only.
                if space && c.is_alphanumeric() && folded.ends_with(char::is_alphanumeric) {
                    folded.push(' ');
                }
                space = false;
                folded.push(c);
            }
        }
    }
    folded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_ignore_form() {
        for same in [
            "east",
            "EAST",
            "\"east\"",
            r"\textbf{east}",
            r"\text{ East. }",
            r"\text{the east}",
            r"\mathrm{east}",
        ] {
            assert!(same_words(r"\text{east}", same), "{same}");
        }
        assert!(same_words(r"\text{A,C,F}", r"\text{F, A, C}"));
    }

    #[test]
    fn other_words_differ() {
        for other in ["west", "northeast", "not east", "east or west", "eas", ""] {
            assert!(!same_words(r"\text{east}", other), "{other}");
        }
    }
}
