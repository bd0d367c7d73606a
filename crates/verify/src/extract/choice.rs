//! Choice letters of multiple-choice problems.
use std::borrow::Cow;

use memchr::memmem;

use super::boxed::{LastBox, last_box};
use super::markers::last_answer_tag;

/// The letters an option can have, as many as MMLU-Pro uses.
pub(super) const LETTERS: &str = "ABCDEFGHIJ";

/// The index (A is 0) of the letter a response chooses, by the first rule that fires: last box, answer
/// tag, last answer phrase, a response that is one letter, last stand-alone capital.
///
/// A box decides alone: one that holds two letters, or nothing that is an option, is no answer.
pub(super) fn choice_letter<S: AsRef<str>>(text: &str, choices: &[S]) -> Option<u8> {
    let count = option_count(choices);
    match last_box(text) {
        LastBox::Closed(content) => return read_choice(content, choices),
        LastBox::Open => return None,
        LastBox::None => {}
    }
    if let Some(content) = last_answer_tag(text)
        && let Some(letter) = read_choice(content, choices)
    {
        return Some(letter);
    }
    match phrase_letter(text, count) {
        Reading::Letter(letter) => return Some(letter),
        Reading::Several => return None,
        Reading::Nothing => {}
    }
    let stripped = text.trim();
    if stripped.len() <= 24
        && let Some(letter) = single_letter(stripped, count)
    {
        return Some(letter);
    }
    last_capital(text, count)
}

/// The letter that a short text stands for: `(C)`, `\text{c}`, `C.`, `C) some words`, or one option's text.
pub(crate) fn letter_of<S: AsRef<str>>(text: &str, choices: &[S]) -> Option<u8> {
    read_choice(text, choices)
}

fn option_count<S>(choices: &[S]) -> u8 {
    if choices.is_empty() {
        LETTERS.len() as u8
    } else {
        choices.len().min(LETTERS.len()) as u8
    }
}

/// Reads the content of a box or tag.
fn read_choice<S: AsRef<str>>(content: &str, choices: &[S]) -> Option<u8> {
    let count = option_count(choices);
    if let Some(letter) = single_letter(content, count) {
        return Some(letter);
    }
    // Option texts come before "letter, then text": an option may itself begin with a lone letter.
    let plain = plain_text(content);
    if let Some(letter) = option_text(&plain, choices) {
        return Some(letter);
    }
    let mut chars = plain.chars();
    let inner = plain.trim_start_matches(['(', '[', '*', ' ']);
    let letter = letter_index(inner.chars().next()?, count)?;
    let rest = inner.get(1..)?;
    let behind = rest.trim_start_matches([')', ']', '.', ':', '*', ' ']);
    if behind.len() == rest.len() || behind.is_empty() {
        return None;
    }
    let separated = rest.starts_with([')', ']', '.', ':', '*']);
    let words = option_text(behind.trim(), choices);
    let consistent = match words {
        Some(named) => named == letter,
        None => {
            chars
                .next()
                .is_some_and(|c| c.is_uppercase() || c == '(' || c == '[' || c == '*')
                && separated
                && !names_other_letter(behind, letter, count)
        }
    };
    consistent.then_some(letter)
}

/// True when some other option letter stands alone in the text.
fn names_other_letter(text: &str, letter: u8, count: u8) -> bool {
    text.split(|c: char| !c.is_alphanumeric()).any(|word| {
        word.len() == 1
            && letter_index_upper(word.chars().next().unwrap_or(' '), count)
                .is_some_and(|other| other != letter)
    })
}

fn letter_index(c: char, count: u8) -> Option<u8> {
    letter_index_upper(c.to_ascii_uppercase(), count)
}

fn letter_index_upper(c: char, count: u8) -> Option<u8> {
    let index = (c as u32).checked_sub('A' as u32)?;
    (index < u32::from(count)).then_some(index as u8)
}

/// A text that is one letter with nothing but decoration around it.
fn single_letter(text: &str, count: u8) -> Option<u8> {
    let mut rest = text.trim();
    // Macros around the letter: \text{(C)}, \mathbf{C}, nested in any order with brackets and stars.
    for _ in 0..8 {
        let before = rest;
        rest = rest.trim_matches([
            '*', '$', '{', '}', '(', ')', '[', ']', '.', ',', ':', '。', '"', '\'', '`', '~', ' ',
            '\n',
        ]);
        if let Some(after) = rest.strip_prefix('\\') {
            let name = after.find('{')?;
            if !after[..name].bytes().all(|b| b.is_ascii_alphabetic()) {
                return None;
            }
            rest = &after[name + 1..];
        }
        if rest.len() == before.len() {
            break;
        }
    }
    let mut chars = rest.chars();
    let letter = letter_index(chars.next()?, count)?;
    chars.next().is_none().then_some(letter)
}

/// The one option whose text this is.
fn option_text<S: AsRef<str>>(plain: &str, choices: &[S]) -> Option<u8> {
    let folded = fold(plain);
    if folded.is_empty() {
        return None;
    }
    let mut found = None;
    for (index, choice) in choices.iter().enumerate().take(LETTERS.len()) {
        if fold(&plain_text(choice.as_ref())) == folded {
            if found.is_some() {
                return None;
            }
            found = Some(index as u8);
        }
    }
    found
}

/// Text with its LaTeX macros and math delimiters dropped: `\text{4 mm}` and `$4$ mm` are `4 mm`.
fn plain_text(text: &str) -> Cow<'_, str> {
    if !text.contains(['\\', '$', '{', '}', '*']) {
        return Cow::Borrowed(text.trim());
    }
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '\\' => {
                let name: usize = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
                match &rest[..name] {
                    // Wrappers vanish, other macros keep their name so that formulas stay distinct.
                    "text" | "textbf" | "textit" | "textrm" | "mathrm" | "mathbf" | "mathit"
                    | "mbox" | "left" | "right" | "displaystyle" | "quad" => {}
                    "dfrac" | "tfrac" | "cfrac" => plain.push_str("frac"),
                    "times" => plain.push('×'),
                    "cdot" => plain.push('·'),
                    macro_name => plain.push_str(macro_name),
                }
                if name == 0 && rest.starts_with([',', ';', '!', ' ', ':']) {
                    plain.push(' ');
                    rest = &rest[1..];
                } else {
                    rest = &rest[name..];
                }
            }
            '$' | '{' | '}' | '*' => {}
            c => plain.push(c),
        }
    }
    Cow::Owned(plain.trim().to_owned())
}

/// Lower case, without white space and closing stops.
fn fold(text: &str) -> String {
    text.trim_end_matches(['.', ' ', ',', ';'])
        .chars()
        .filter(|c| !c.is_whitespace())
        .flat_map(char::to_lowercase)
        .collect()
}

enum Reading {
    Letter(u8),
    Several,
    Nothing,
}

/// The letter named by the last answer phrase.
fn phrase_letter(text: &str, count: u8) -> Reading {
    let mut best: Option<(usize, Reading)> = None;
    for keyword in ["nswer", "ption", "hoice", "NSWER", "PTION", "HOICE", "答案"] {
        let mut end = text.len();
        while let Some(at) = memmem::rfind(&text.as_bytes()[..end], keyword.as_bytes()) {
            end = at;
            if best.as_ref().is_some_and(|(position, _)| *position > at) {
                break;
            }
            let reading = letter_after(&text[at + keyword.len()..], keyword, count);
            if !matches!(reading, Reading::Nothing) {
                best = Some((at, reading));
                break;
            }
        }
    }
    best.map_or(Reading::Nothing, |(_, reading)| reading)
}

/// What stands behind a keyword such as "answer" or "option".
fn letter_after(text: &str, keyword: &str, count: u8) -> Reading {
    let (verb, rest) = skip_verb(text);
    if verb {
        return letter_at(rest, count);
    }
    // "option X is correct": the letter follows at once and the verdict behind it.
    if keyword.eq_ignore_ascii_case("ption") || keyword.eq_ignore_ascii_case("hoice") {
        let trimmed = text.trim_start_matches([' ', '*', '(', '$']);
        if trimmed.len() < text.len()
            && let Some(letter) = trimmed
                .chars()
                .next()
                .and_then(|c| letter_index_upper(c, count))
        {
            let behind = trimmed[1..].trim_start_matches([')', '*', '$', ' ']);
            let verdicts = [
                "is correct",
                "is right",
                "is the correct",
                "is the right",
                "is the answer",
                "is the best",
            ];
            if verdicts.iter().any(|v| behind.starts_with(v)) {
                return Reading::Letter(letter);
            }
        }
    }
    Reading::Nothing
}

/// Skips "is", "would be", ":" and the words between; true when there was one.
fn skip_verb(text: &str) -> (bool, &str) {
    let mut rest = text.trim_start_matches([' ', '*', '_']);
    for word in ["choice", "option", "letter", "to this question"] {
        rest = rest
            .strip_prefix(word)
            .map_or(rest, |r| r.trim_start_matches([' ', '*']));
    }
    let mut verb = false;
    for word in [
        "is",
        "would be",
        "should be",
        "must be",
        "IS",
        ":",
        "：",
        "是",
        "为",
        "=",
    ] {
        if let Some(behind) = rest.strip_prefix(word)
            && !(word.is_ascii()
                && word.len() > 1
                && behind.starts_with(|c: char| c.is_ascii_alphabetic()))
        {
            rest = behind.trim_start_matches([' ', '*', '\n', '\r', '\t']);
            verb = true;
        }
    }
    rest = rest
        .strip_prefix([':', '：'])
        .map_or(rest, |r| r.trim_start_matches([' ', '*', '\n', '\r', '\t']));
    (verb, rest)
}

/// A letter with its decoration at the start of the text.
fn letter_at(text: &str, count: u8) -> Reading {
    let mut rest = text;
    for word in ["option", "Option", "choice", "Choice", "letter"] {
        rest = rest
            .strip_prefix(word)
            .map_or(rest, |r| r.trim_start_matches(' '));
    }
    let undecorated = rest;
    for _ in 0..4 {
        rest = rest.trim_start_matches(['*', '(', '[', '$', '{', '"', '\'', '`', ' ']);
        for wrapper in [
            r"\text{",
            r"\textbf{",
            r"\mathrm{",
            r"\mathbf{",
            r"\(",
            r"\[",
        ] {
            rest = rest.strip_prefix(wrapper).unwrap_or(rest);
        }
    }
    let decorated = rest.len() < undecorated.len();
    let Some(letter) = rest
        .chars()
        .next()
        .and_then(|c| letter_index_upper(c, count))
    else {
        return Reading::Nothing;
    };
    let behind = &rest[1..];
    if behind.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '\'' | '’' | '-'))
        || (!decorated && is_word(letter, behind))
    {
        return Reading::Nothing;
    }
    // "(A) and (B)" names two letters for one question.
    let next = behind.trim_start_matches([')', ']', '*', '$', '}', ' ']);
    for joint in ["and ", "or ", ", ", "/", "& "] {
        if let Some(other) = next.strip_prefix(joint) {
            let other = other.trim_start_matches(['(', '*', '[', '$', ' ']);
            let lone = other
                .chars()
                .nth(1)
                .is_none_or(|c| !c.is_alphanumeric() && c != ' ' && c != '\'');
            if other
                .chars()
                .next()
                .and_then(|c| letter_index_upper(c, count))
                .is_some_and(|o| o != letter)
                && lone
            {
                return Reading::Several;
            }
        }
    }
    Reading::Letter(letter)
}

/// True when `A` or `I`, followed by this text, is a word of a sentence.
fn is_word(letter: u8, behind: &str) -> bool {
    const CONJUNCTIONS: [&str; 9] = [
        "because", "since", "as", "and", "or", "but", "for", "with", "which",
    ];
    let (a, i) = (0, 8);
    if letter != a && letter != i {
        return false;
    }
    let Some(words) = behind.strip_prefix([' ', '\n']) else {
        return false;
    };
    let word: &str = words
        .split(|c: char| !c.is_alphabetic())
        .next()
        .unwrap_or_default();
    // Nobody says "I is" of himself.
    word.starts_with(char::is_lowercase)
        && word != "is"
        && !(letter == a && CONJUNCTIONS.contains(&word))
}

/// The last capital letter in range that stands alone.
fn last_capital(text: &str, count: u8) -> Option<u8> {
    let bytes = text.as_bytes();
    for at in (0..bytes.len()).rev() {
        let Some(letter) = letter_index_upper(char::from(bytes[at]), count) else {
            continue;
        };
        let before = text[..at].chars().next_back();
        let joined = before
            .is_some_and(|c| c.is_alphanumeric() || matches!(c, '\'' | '’' | '\\' | '_' | '-'));
        let behind = &text[at + 1..];
        if !joined
            && !behind
                .starts_with(|c: char| c.is_alphanumeric() || matches!(c, '\'' | '’' | '_' | '-'))
            && !is_word(letter, behind)
        {
            return Some(letter);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const METALS: [&str; 4] = ["iron", "gold", "tin", "lead (soft)"];

    fn letter(text: &str) -> Option<char> {
        choice_letter(text, &METALS).map(|l| char::from(b'A' + l))
    }

    #[test]
    fn a_box_decides_alone() {
        for text in [
            r"\boxed{B}",
            r"\boxed{(b)}",
            r"\boxed{\text{B}}",
            r"\boxed{\textbf{(B)}}",
            r"\boxed{B. gold}",
            r"\boxed{gold}",
            r"\boxed{\text{Gold.}}",
            r"\boxed{(B) gold}",
        ] {
            assert_eq!(letter(text), Some('B'), "{text}");
        }
        assert_eq!(letter(r"\boxed{B, C}"), None);
        assert_eq!(letter(r"The answer is A. \boxed{silver}"), None);
        assert_eq!(letter(r"\boxed{A} or rather \boxed{C}"), Some('C'));
        assert_eq!(letter(r"\boxed{E}"), None, "beyond the last option");
        assert_eq!(letter(r"\boxed{B. tin}"), None, "letter and text disagree");
    }

    #[test]
    fn the_last_phrase_wins() {
        assert_eq!(
            letter("The answer is (A). Wait: the answer is **(C)**."),
            Some('C')
        );
        assert_eq!(letter("Option D is correct, not A."), Some('D'));
        let ten = |text: &str| choice_letter::<&str>(text, &[]).map(|l| char::from(b'A' + l));
        assert_eq!(ten("Hence I is the correct answer."), Some('I'));
        assert_eq!(ten("I think so."), None);
        assert_eq!(letter("So the correct option is B: gold"), Some('B'));
        assert_eq!(letter("ANSWER: $D$"), Some('D'));
        assert_eq!(letter("答案是 D。"), Some('D'));
        assert_eq!(letter("The answer is (A) and (B)."), None);
        assert_eq!(letter("The answer is:\nC. tin"), Some('C'));
        assert_eq!(letter("<answer> B </answer> The answer is C"), Some('B'));
    }

    #[test]
    fn words_are_not_letters() {
        assert_eq!(
            letter("A careful reading helps. I considered D too. Answer: A"),
            Some('A')
        );
        assert_eq!(letter("I pick C."), Some('C'));
        assert_eq!(letter("A metal is a metal"), None);
        assert_eq!(choice_letter::<&str>("I", &[]), Some(8));
        assert_eq!(letter("**C**"), Some('C'));
        assert_eq!(letter("c"), Some('C'));
        assert_eq!(letter("It is Cadmium"), None);
    }
}
