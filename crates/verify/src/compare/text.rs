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
    let (gold, answer) = (words(gold), words(answer));
    if gold == answer {
        return !gold.is_empty();
    }
    if gold.len() != answer.len() || !gold.contains(',') {
        return false;
    }
    let sorted = |text: &str| -> Option<Vec<String>> {
        let mut parts: Vec<String> = text.split(',').map(str::to_owned).collect();
        parts.sort_unstable();
        parts.iter().all(|part| part.len() == 1).then_some(parts)
    };
    sorted(&gold).is_some_and(|gold| sorted(&answer) == Some(gold))
}

/// The words of a text: lower case, without macros, braces, quotes, spaces, stops and article.
fn words(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
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
                        | "displaystyle"
                );
                if name == 0 {
                    rest = rest.get(1..).unwrap_or_default();
                    folded.push(' ');
                } else if wrapper {
                    rest = &rest[name..];
                    folded.push(' ');
                } else {
                    folded.push('\\');
                }
            }
            // A stop between digits is a decimal point.
            '.' if folded.ends_with(|c: char| c.is_ascii_digit())
                && rest.starts_with(|c: char| c.is_ascii_digit()) =>
            {
                folded.push('.')
            }
            '{' | '}' | '$' | '"' | '`' | '~' | '.' | '!' => {
                if c == '~' {
                    folded.push(' ');
                }
            }
            '\'' => {}
            c if c.is_whitespace() => folded.push(' '),
            c => folded.extend(c.to_lowercase()),
        }
    }
    let mut body = folded.trim();
    for article in ["the ", "a ", "an "] {
        if let Some(after) = body.strip_prefix(article)
            && !after.trim().is_empty()
        {
            body = after;
            break;
        }
    }
    body.chars().filter(|c| !c.is_whitespace()).collect()
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
