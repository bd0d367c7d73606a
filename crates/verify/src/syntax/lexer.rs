//! Text to tokens, in one pass.
use memchr::memchr;

use super::Unreadable;
use super::names::{Macro, macro_named, word_named};
use super::token::{Kind, Token};
use crate::tree::{Bracket, Constant, Relation};

/// The most tokens an answer may have. Answers people write have a few dozen.
const MAX_TOKENS: usize = 4096;

/// Names after which a run of letters may go on with one variable: `sinx`, `lnx`.
const GLUED: [&str; 8] = ["sqrt", "sin", "cos", "tan", "log", "ln", "exp", "cot"];

/// Tokens of a text that [`to_latex`](super::unicode::to_latex) has gone over.
pub(crate) fn tokens(source: &str) -> Result<Vec<Token>, Unreadable> {
    let mut lexer = Lexer {
        source,
        bytes: source.as_bytes(),
        position: 0,
        end: source.len(),
        tokens: Vec::with_capacity(16 + source.len() / 3),
        brackets: 0,
        spaced: false,
        lone_dollar: memchr::memchr_iter(b'$', source.as_bytes())
            .filter(|at| *at == 0 || source.as_bytes()[at - 1] != b'\\')
            .count()
            == 1,
    };
    lexer.run()?;
    Ok(lexer.tokens)
}

struct Lexer<'s> {
    source: &'s str,
    bytes: &'s [u8],
    position: usize,
    end: usize,
    tokens: Vec<Token>,
    /// Depth of brackets in which a comma separates: `(`, `[`, `\{`.
    brackets: usize,
    spaced: bool,
    /// A single unescaped dollar sign is money, several delimit formulas.
    lone_dollar: bool,
}

impl Lexer<'_> {
    fn peek(&self, ahead: usize) -> u8 {
        let at = self.position + ahead;
        if at < self.end { self.bytes[at] } else { 0 }
    }

    fn push(&mut self, kind: Kind, length: usize) -> Result<(), Unreadable> {
        if self.tokens.len() >= MAX_TOKENS {
            return Err(Unreadable);
        }
        let start = self.position;
        self.position += length;
        self.tokens.push(Token {
            kind,
            start: start as u32,
            end: self.position as u32,
            spaced: self.spaced,
        });
        self.spaced = false;
        Ok(())
    }

    fn run(&mut self) -> Result<(), Unreadable> {
        while self.position < self.end {
            let byte = self.bytes[self.position];
            match byte {
                b' ' | b'\t' | b'\n' | b'\r' | b'~' => self.space(1),
                b'0'..=b'9' => self.number()?,
                b'.' if self.peek(1).is_ascii_digit()
                    || self.repeating(self.position + 1) > self.position + 1 =>
                {
                    self.number()?;
                }
                b'.' if self.peek(1) == b'.' => {
                    let dots = self.bytes[self.position..self.end]
                        .iter()
                        .take_while(|b| **b == b'.')
                        .count();
                    self.push(Kind::Dots, dots)?;
                }
                // A stop that ends a sentence, or stands between an abbreviation's letters.
                b'.' if self.position + 1 == self.end
                    || matches!(self.peek(1), b' ' | b'$' | b'}' | b'\n' | b'\\') =>
                {
                    self.space(1)
                }
                b'a'..=b'z' | b'A'..=b'Z' => self.letters()?,
                b'\\' => self.escape()?,
                b'$' => {
                    if self.lone_dollar {
                        self.push(Kind::Dollar, 1)?;
                    } else {
                        self.space(1);
                    }
                }
                b'+' => match self.peek(1) {
                    b'/' if self.peek(2) == b'-' => self.push(Kind::PlusMinus, 3)?,
                    _ => self.push(Kind::Plus, 1)?,
                },
                b'-' => self.push(Kind::Minus, 1)?,
                b'*' if self.peek(1) == b'*' => self.push(Kind::Caret, 2)?,
                b'*' => self.push(Kind::Times, 1)?,
                b'/' => self.push(Kind::Divide, 1)?,
                b'^' => self.push(Kind::Caret, 1)?,
                b'_' => self.push(Kind::Underscore, 1)?,
                b'!' if self.peek(1) == b'=' => self.push(Kind::Relation(Relation::NotEqual), 2)?,
                b'!' => self.push(Kind::Bang, 1)?,
                b'%' => self.push(Kind::Percent, 1)?,
                b'\'' => self.push(Kind::Prime, 1)?,
                b'"' | b'`' => self.space(1),
                b'=' => {
                    let length = if self.peek(1) == b'=' { 2 } else { 1 };
                    self.push(Kind::Relation(Relation::Equal), length)?;
                }
                b'<' if self.peek(1) == b'=' => {
                    self.push(Kind::Relation(Relation::LessEqual), 2)?
                }
                b'<' if self.peek(1) == b'>' => self.push(Kind::Relation(Relation::NotEqual), 2)?,
                b'<' => self.push(Kind::Relation(Relation::Less), 1)?,
                b'>' if self.peek(1) == b'=' => {
                    self.push(Kind::Relation(Relation::GreaterEqual), 2)?
                }
                b'>' => self.push(Kind::Relation(Relation::Greater), 1)?,
                b',' => self.push(Kind::Comma, 1)?,
                b';' => self.push(Kind::Semicolon, 1)?,
                b':' => self.push(Kind::Colon, 1)?,
                b'|' => {
                    let kind = self.bar_kind();
                    self.push(kind, 1)?;
                }
                b'(' => self.open(Kind::Open(Bracket::Round), 1)?,
                b')' => self.close(Kind::Close(Bracket::Round), 1)?,
                b'[' => self.open(Kind::Open(Bracket::Square), 1)?,
                b']' => self.close(Kind::Close(Bracket::Square), 1)?,
                b'{' => {
                    let empty = self.bytes[self.position + 1..self.end]
                        .iter()
                        .position(|b| *b != b' ');
                    if let Some(gap) = empty
                        && self.bytes[self.position + 1 + gap] == b'}'
                    {
                        // `{}` alone is layout; after a macro it is a missing argument.
                        if matches!(
                            self.tokens.last().map(|t| t.kind),
                            Some(
                                Kind::Root
                                    | Kind::Frac
                                    | Kind::Caret
                                    | Kind::Underscore
                                    | Kind::Binomial
                                    | Kind::GroupClose
                            )
                        ) {
                            return Err(Unreadable);
                        }
                        self.space(gap + 2);
                    } else {
                        self.push(Kind::GroupOpen, 1)?;
                    }
                }
                b'}' => self.push(Kind::GroupClose, 1)?,
                b'&' => self.push(Kind::Ampersand, 1)?,
                _ => return Err(Unreadable),
            }
        }
        Ok(())
    }

    fn space(&mut self, length: usize) {
        self.position += length;
        self.spaced = true;
    }

    /// `|` after `\left` opens and after `\right` closes; otherwise the parser finds out.
    fn bar_kind(&self) -> Kind {
        let before = &self.source[..self.position];
        let before = before.trim_end();
        if before.ends_with("\\left") {
            Kind::OpenBar
        } else if before.ends_with("\\right") {
            Kind::CloseBar
        } else {
            Kind::Bar
        }
    }

    fn open(&mut self, kind: Kind, length: usize) -> Result<(), Unreadable> {
        self.brackets += 1;
        self.push(kind, length)
    }

    fn close(&mut self, kind: Kind, length: usize) -> Result<(), Unreadable> {
        self.brackets = self.brackets.saturating_sub(1);
        self.push(kind, length)
    }

    // ---- letters ------------------------------------------------------------------------------

    fn letters(&mut self) -> Result<(), Unreadable> {
        let start = self.position;
        let length = self.bytes[start..self.end]
            .iter()
            .take_while(|b| b.is_ascii_alphabetic())
            .count();
        let run = &self.source[start..start + length];
        if length == 1 {
            if self.is_base_digits(start, 1) {
                return self.base_digits(start);
            }
            if run == "x" && self.is_times_sign(start) {
                return self.push(Kind::Times, 1);
            }
            return self.push(Kind::Letter, 1);
        }
        // Module prefixes of pasted code: `np.arcsin`, `math.sqrt`.
        if matches!(run, "np" | "math" | "sp" | "numpy" | "sympy")
            && self.peek(length) == b'.'
            && self.peek(length + 1).is_ascii_alphabetic()
        {
            self.position += length + 1;
            return Ok(());
        }
        if let Some(kind) = word_named(run) {
            return self.push(kind, length);
        }
        for name in GLUED {
            if length == name.len() + 1 && run.starts_with(name) {
                if let Some(kind) = word_named(name) {
                    self.push(kind, name.len())?;
                }
                return self.push(Kind::Letter, 1);
            }
        }
        if run.bytes().any(|b| b.is_ascii_uppercase()) && self.is_base_digits(start, length) {
            return self.base_digits(start);
        }
        self.push(Kind::Word, length)
    }

    /// `2.5 x 10^5`: an x between numbers, in front of a power of ten.
    fn is_times_sign(&self, at: usize) -> bool {
        let after = &self.source[at + 1..self.end];
        self.follows_number()
            && after
                .trim_start()
                .strip_prefix("10")
                .is_some_and(|rest| rest.starts_with('^'))
    }

    fn follows_number(&self) -> bool {
        matches!(self.tokens.last().map(|t| t.kind), Some(Kind::Number))
    }

    /// True for a run of digits and capitals in front of a subscript of two digits: `3A_{12}`.
    fn is_base_digits(&self, start: usize, letters: usize) -> bool {
        let run = self.bytes[start..self.end]
            .iter()
            .take_while(|b| b.is_ascii_digit() || b.is_ascii_uppercase())
            .count();
        let body = &self.bytes[start..start + run];
        if run < letters
            || !body.iter().any(u8::is_ascii_digit)
            || !body.iter().any(u8::is_ascii_uppercase)
        {
            return false;
        }
        let rest = self.bytes[start + run..self.end].strip_prefix(b"_");
        let digits = rest.map(|rest| rest.strip_prefix(b"{").unwrap_or(rest));
        digits.is_some_and(|digits| {
            digits.len() >= 2
                && matches!(digits[0], b'1' | b'2' | b'3')
                && digits[1].is_ascii_digit()
        })
    }

    fn base_digits(&mut self, start: usize) -> Result<(), Unreadable> {
        let run = self.bytes[start..self.end]
            .iter()
            .take_while(|b| b.is_ascii_digit() || b.is_ascii_uppercase())
            .count();
        self.push(Kind::BaseDigits, run)
    }

    // ---- macros -------------------------------------------------------------------------------

    fn escape(&mut self) -> Result<(), Unreadable> {
        let next = self.peek(1);
        match next {
            b',' | b';' | b':' | b'!' | b' ' | b'\n' | b'(' | b')' | b'-' | b'/' => {
                self.space(2);
                return Ok(());
            }
            b'[' | b']' => {
                self.space(2);
                return Ok(());
            }
            b'\\' => {
                self.push(Kind::RowBreak, 2)?;
                // `\\[2pt]` carries a length.
                if self.peek(0) == b'['
                    && self.source[self.position..self.end]
                        .find("pt]")
                        .is_some_and(|at| at < 8)
                {
                    self.position +=
                        memchr(b']', &self.bytes[self.position..self.end]).map_or(0, |at| at + 1);
                }
                return Ok(());
            }
            b'{' => return self.open(Kind::OpenSet, 2),
            b'}' => return self.close(Kind::CloseSet, 2),
            b'$' => return self.push(Kind::Dollar, 2),
            b'%' => return self.push(Kind::Percent, 2),
            b'|' => return self.push(Kind::Bar, 2),
            b'&' | b'#' | b'_' => return Err(Unreadable),
            _ => {}
        }
        let name_length = self.bytes[self.position + 1..self.end]
            .iter()
            .take_while(|b| b.is_ascii_alphabetic())
            .count();
        let name = &self.source[self.position + 1..self.position + 1 + name_length];
        if name_length == 0 {
            return Err(Unreadable);
        }
        match macro_named(name) {
            Some(Macro::Space) => {
                let takes_argument = matches!(
                    name,
                    "hspace" | "phantom" | "hphantom" | "color" | "textcolor"
                );
                self.space(1 + name_length);
                if takes_argument
                    && self.peek(0) == b'{'
                    && let Some(close) = self.matching_brace(self.position)
                {
                    self.position = close + 1;
                }
                Ok(())
            }
            Some(Macro::Skip) => {
                self.position += 1 + name_length;
                // `\left.` and `\right.` have no bracket to show.
                if matches!(name, "left" | "right") && self.peek(0) == b'.' {
                    self.position += 1;
                }
                Ok(())
            }
            Some(Macro::Text) => self.text_macro(name, 1 + name_length),
            Some(Macro::Token(kind)) => match kind {
                Kind::Open(_) | Kind::OpenSet => self.open(kind, 1 + name_length),
                Kind::Close(_) | Kind::CloseSet => self.close(kind, 1 + name_length),
                Kind::Relation(Relation::In)
                    if matches!(self.tokens.last().map(|t| t.kind), Some(Kind::Not)) =>
                {
                    self.tokens.pop();
                    self.push(Kind::Relation(Relation::NotIn), 1 + name_length)
                }
                Kind::Begin | Kind::End => {
                    let after = self.position + 1 + name_length;
                    let close = (self.bytes.get(after) == Some(&b'{'))
                        .then(|| self.matching_brace(after))
                        .flatten()
                        .ok_or(Unreadable)?;
                    let environment = after + 1..close;
                    self.push(kind, 1 + name_length)?;
                    // The token covers the environment's name.
                    if let Some(token) = self.tokens.last_mut() {
                        token.start = environment.start as u32;
                        token.end = environment.end as u32;
                    }
                    self.position = close + 1;
                    Ok(())
                }
                _ => self.push(kind, 1 + name_length),
            },
            None => {
                // `\alphax` is not LaTeX; but a unit or function word with a backslash is common.
                if let Some(kind) = word_named(name) {
                    return self.push(kind, 1 + name_length);
                }
                // An unknown macro without an argument is as good as a symbol.
                if self.peek(1 + name_length) == b'{' {
                    return Err(Unreadable);
                }
                self.push(Kind::Macro, 1 + name_length)
            }
        }
    }

    fn matching_brace(&self, open: usize) -> Option<usize> {
        let mut depth = 0usize;
        for at in memchr::memchr2_iter(b'{', b'}', &self.bytes[open..self.end]) {
            if self.bytes[open + at] == b'{' {
                depth += 1;
            } else {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(open + at);
                }
            }
        }
        None
    }

    /// `\text{...}` and its relatives: a number, letters to be read on, a connective, or a text token.
    fn text_macro(&mut self, name: &str, length: usize) -> Result<(), Unreadable> {
        let mut open = self.position + length;
        if self.bytes.get(open) == Some(&b'*') {
            open += 1;
        }
        while open < self.end && self.bytes[open] == b' ' {
            open += 1;
        }
        if self.bytes.get(open) != Some(&b'{') || open >= self.end {
            // `\mathbb R`: the next letter is the argument.
            if open < self.end && self.bytes[open].is_ascii_alphabetic() {
                let constant = (name == "mathbb")
                    .then(|| number_set(&self.source[open..=open]))
                    .flatten();
                self.position = open;
                return self.push(constant.map_or(Kind::Letter, Kind::Constant), 1);
            }
            self.position += length;
            return Ok(());
        }
        let close = self.matching_brace(open).ok_or(Unreadable)?;
        let (start, end) = (open + 1, close);
        let content = self.source[start..end].trim_matches([' ', '~', '\n', '\t']);
        let bare = content.trim_matches([' ', ',', '~', '\\']);
        let is_font = name.starts_with("math") || matches!(name, "bm" | "boldsymbol");
        let kind = match bare {
            "" => {
                // Nothing but spaces and perhaps a comma.
                let comma = content.contains(',');
                self.position = close;
                self.spaced = true;
                return if comma {
                    self.push(Kind::Comma, 1)
                } else {
                    self.position += 1;
                    Ok(())
                };
            }
            "and" | "And" | "&" => Some(Kind::And),
            "or" | "Or" => Some(Kind::Or),
            "$" => Some(Kind::Dollar),
            "%" => Some(Kind::Percent),
            "to" if self.follows_number() => Some(Kind::Colon),
            "e" if name != "mathbf" => Some(Kind::Constant(Constant::E)),
            "i" if name != "mathbf" && name != "boldsymbol" => Some(Kind::Constant(Constant::I)),
            _ if name == "mathbb" => Some(Kind::Constant(number_set(bare).ok_or(Unreadable)?)),
            // `\mathrm{min}` is the unit, `\operatorname{min}` the function.
            "min" | "sec" if name != "operatorname" => None,
            _ => word_named(bare).filter(|_| name == "operatorname" || is_font),
        };
        if let Some(kind) = kind {
            self.spaced = true;
            self.push(kind, 1)?;
            self.position = close + 1;
            return Ok(());
        }
        // `\text{Answer: } 5`, `\text{y = } 1`: what stands in front of the whole answer only names it.
        if self.tokens.is_empty()
            && let Some(label) = naming(content)
        {
            if label.len() == 1 && label.as_bytes()[0].is_ascii_alphabetic() {
                self.position = start;
                self.push(Kind::Letter, 1)?;
                self.push(Kind::Relation(Relation::Equal), 1)?;
            }
            self.position = close + 1;
            self.spaced = true;
            return Ok(());
        }
        let has_letter = content.bytes().any(|b| b.is_ascii_alphabetic()) || !content.is_ascii();
        let is_formula = is_font
            && content
                .bytes()
                .any(|b| matches!(b, b'\\' | b'^' | b'_' | b'+' | b'=' | b'0'..=b'9'))
            && !looks_like_unit(content);
        let is_quantity = is_counted_noun(content) && self.bytes.get(close + 1) != Some(&b'^');
        if !has_letter || is_formula || is_quantity {
            // A formula in another font. Its contents cannot hold this very pair of braces again, but may
            // hold further macros; the token limit bounds the work.
            self.position = open;
            self.spaced = true;
            return Ok(());
        }
        self.push(Kind::Text, 1)?;
        if let Some(token) = self.tokens.last_mut() {
            token.start = start as u32;
            token.end = end as u32;
        }
        self.position = close + 1;
        self.spaced = true;
        Ok(())
    }

    // ---- numbers ------------------------------------------------------------------------------

    fn digits_at(&self, at: usize) -> usize {
        self.bytes[at.min(self.end)..self.end]
            .iter()
            .take_while(|b| b.is_ascii_digit())
            .count()
    }

    fn number(&mut self) -> Result<(), Unreadable> {
        let start = self.position;
        let mut at = start + self.digits_at(start);
        if self.bytes[start] != b'.'
            && at < self.end
            && self.bytes[at].is_ascii_uppercase()
            && self.is_base_digits(start, 0)
        {
            return self.base_digits(start);
        }
        if (1..=3).contains(&(at - start)) {
            at = self.thousands(at);
        }
        if at < self.end && self.bytes[at] == b'.' {
            let next = self
                .bytes
                .get(at + 1)
                .copied()
                .filter(|_| at + 1 < self.end)
                .unwrap_or(0);
            if next.is_ascii_digit() {
                at += 1 + self.digits_at(at + 1);
                at = self.repeating(at);
            } else if next == b'\\' && self.repeating(at + 1) > at + 1 {
                at = self.repeating(at + 1);
            } else if next != b'.' && !next.is_ascii_alphabetic() {
                at += 1;
            }
        }
        if at < self.end && matches!(self.bytes[at], b'e' | b'E') {
            let sign = usize::from(matches!(self.bytes.get(at + 1), Some(b'+' | b'-')));
            let digits = self.digits_at(at + 1 + sign);
            let behind = self.bytes.get(at + 1 + sign + digits).copied().unwrap_or(0);
            if digits > 0 && !behind.is_ascii_alphabetic() {
                at += 1 + sign + digits;
            }
        }
        self.push(Kind::Number, at - start)
    }

    /// The end of the groups of three digits that follow the first group, which ends at `at`.
    fn thousands(&self, at: usize) -> usize {
        let plain = self.plain_comma_groups(at);
        if plain > at {
            return plain;
        }
        let mut end = at;
        while let Some(length) = self.explicit_separator(end) {
            let digits = self.digits_at(end + length);
            if digits != 3 || self.bytes.get(end + length + 3) == Some(&b'/') {
                break;
            }
            end += length + 3;
        }
        end
    }

    /// `,ddd` repeated: only outside brackets, and only when every comma that touches digits on both
    /// sides begins a group of exactly three, so that `1,234` is a number and `1,234,5` a list.
    fn plain_comma_groups(&self, at: usize) -> usize {
        // In `27,54,108` the comma in front separates, so those behind do.
        let in_list =
            !self.spaced && matches!(self.tokens.last().map(|t| t.kind), Some(Kind::Comma));
        if self.brackets > 0 || in_list {
            return at;
        }
        let mut end = at;
        while end + 1 < self.end && self.bytes[end] == b',' && self.bytes[end + 1].is_ascii_digit()
        {
            if self.digits_at(end + 1) != 3 {
                return at;
            }
            end += 4;
        }
        end
    }

    /// The length of a separator that can only mean thousands: `{,}`, `,\!`, `\,`, or a single space.
    fn explicit_separator(&self, at: usize) -> Option<usize> {
        let rest = &self.bytes[at.min(self.end)..self.end];
        for separator in [
            &b"{,}"[..],
            b"{,\\!}",
            b",\\! ",
            b",\\!",
            b", \\! ",
            b", \\!",
            b"\\!,\\!",
            b"\\!,",
            b",\\,",
            b"\\,",
            b"{\\,}",
            b"~",
            b" ",
        ] {
            if rest.starts_with(separator) {
                return Some(separator.len());
            }
        }
        None
    }

    /// The end of a repeating part `\overline{3}`, `\bar{3}`, `\dot{3}` that begins at `at`, else `at`.
    fn repeating(&self, at: usize) -> usize {
        let rest = &self.bytes[at.min(self.end)..self.end];
        for name in [&b"\\overline"[..], b"\\bar", b"\\dot"] {
            if let Some(argument) = rest.strip_prefix(name) {
                let open = usize::from(argument.first() == Some(&b'{'));
                let digits = argument[open..]
                    .iter()
                    .take_while(|b| b.is_ascii_digit())
                    .count();
                if digits > 0 && (open == 0 || argument.get(open + digits) == Some(&b'}')) {
                    return at + name.len() + digits + 2 * open;
                }
            }
        }
        at
    }
}

fn number_set(name: &str) -> Option<Constant> {
    Some(match name {
        "R" => Constant::Reals,
        "Z" => Constant::Integers,
        "N" => Constant::Naturals,
        "Q" => Constant::Rationals,
        "C" => Constant::Complexes,
        _ => return None,
    })
}

/// What a text names that ends like `x =`, `Answer:` or `the area is`: the part in front of that ending.
fn naming(content: &str) -> Option<&str> {
    let content = content.trim_end_matches([' ', '~']);
    [":", "=", " is", " are", " equals"]
        .iter()
        .find_map(|ending| content.strip_suffix(ending))
        .map(str::trim)
}

/// `5 years old`, `1,200 cm`: a number, a space, and one to three words.
fn is_counted_noun(content: &str) -> bool {
    let Some((number, words)) = content.split_once(' ') else {
        return false;
    };
    number.starts_with(|c: char| c.is_ascii_digit())
        && number
            .bytes()
            .all(|b| b.is_ascii_digit() || b == b'.' || b == b',')
        && !number.ends_with(',')
        && words.split(' ').count() <= 3
        && words.split(' ').all(|word| {
            !word.is_empty()
                && word.bytes().all(|b| b.is_ascii_alphabetic())
                && !matches!(word, "and" | "or" | "to" | "AM" | "PM" | "am" | "pm")
        })
}

/// `km^2`, `m/s`: letters with exponents and slashes but no sums and no leading digit.
fn looks_like_unit(content: &str) -> bool {
    !content.contains(['+', '=', '\\', '_'])
        && content.starts_with(|c: char| c.is_ascii_alphabetic())
}
