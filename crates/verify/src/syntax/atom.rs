//! Atoms: symbols, functions, fractions, roots, units, big operators.
use smallvec::SmallVec;

use super::Unreadable;
use super::parser::{Nodes, Parsed, Parser};
use super::token::{Kind, Token};
use super::units::{Unit, read_unit, unit_named};
use crate::tree::{Binder, Bracket, Constant, Function, Node, NodeId, Relation, Symbol};

/// Words that never are a unit or a noun counted by the number in front.
const NOT_NOUNS: [&str; 24] = [
    "if",
    "when",
    "where",
    "for",
    "is",
    "are",
    "not",
    "with",
    "than",
    "least",
    "most",
    "only",
    "none",
    "no",
    "but",
    "from",
    "to",
    "then",
    "otherwise",
    "such",
    "that",
    "some",
    "all",
    "any",
];

impl Parser<'_, '_> {
    pub(super) fn atom(&mut self) -> Parsed {
        let Some(kind) = self.peek() else {
            return Err(Unreadable);
        };
        match kind {
            Kind::Number => self.number(),
            Kind::BaseDigits => {
                let digits = self.slice(0).to_owned();
                self.at += 1;
                let base = self.base_script()?;
                self.based(&digits, base)
            }
            Kind::Letter | Kind::Name(_) | Kind::Macro | Kind::Accent(_) => self.symbol(),
            Kind::Word => self.word(),
            Kind::Text => self.text_atom(),
            Kind::Constant(constant) => {
                self.at += 1;
                Ok(self.tree.push(Node::Constant(constant)))
            }
            Kind::Function(function) => self.function(function),
            Kind::Log | Kind::LogTen => self.logarithm(kind == Kind::LogTen),
            Kind::Binder(binder) => self.binder(binder),
            Kind::Frac | Kind::Binomial => self.fraction(kind),
            Kind::Root => self.root(),
            Kind::GroupOpen => self.group(),
            Kind::Open(bracket) => self.sequence(bracket),
            Kind::Close(Bracket::Square) => self.reversed_interval(),
            Kind::OpenSet => self.set(),
            Kind::Bar | Kind::OpenBar => self.absolute_value(),
            Kind::OpenFloor => self.rounded(Function::Floor, Kind::CloseFloor),
            Kind::OpenCeil => self.rounded(Function::Ceil, Kind::CloseCeil),
            Kind::Begin => self.matrix(),
            Kind::Dots => {
                self.at += 1;
                Ok(self.tree.push(Node::Dots))
            }
            Kind::Dollar => {
                self.at += 1;
                let value = self.nested(Self::signed_factor)?;
                let unit = self.tree.add_unit(Unit::dollar());
                Ok(self.tree.push(Node::Quantity(value, unit)))
            }
            _ => Err(Unreadable),
        }
    }

    // ---- symbols ---------------------------------------------------------------------------------

    /// A letter, Greek name or accented name with its primes, subscripts and arguments.
    fn symbol(&mut self) -> Parsed {
        let mut name = match self.peek() {
            Some(Kind::Letter) => {
                let letter = self.slice(0).bytes().next().ok_or(Unreadable)?;
                self.at += 1;
                if !matches!(
                    self.peek(),
                    Some(Kind::Underscore | Kind::Prime | Kind::Caret | Kind::Open(Bracket::Round))
                ) && !self.opens_grouped_brackets()
                {
                    return Ok(self.letter(letter));
                }
                char::from(letter).to_string()
            }
            Some(Kind::Name(name)) => {
                self.at += 1;
                name.to_owned()
            }
            Some(Kind::Macro) => {
                let name = self.slice(0).to_owned();
                self.at += 1;
                name
            }
            Some(Kind::Accent(accent)) => {
                self.at += 1;
                match self.accented()? {
                    Ok(letters) => format!("{accent} {letters}"),
                    Err(node) if accent == "overline" || accent == "bar" => {
                        return Ok(self.tree.call(Function::Conjugate, &[node]));
                    }
                    Err(_) => return Err(Unreadable),
                }
            }
            _ => return Err(Unreadable),
        };
        loop {
            match (self.peek(), self.peek_at(1)) {
                (Some(Kind::Prime), _) => {
                    self.at += 1;
                    name.push('\'');
                }
                (Some(Kind::Caret), Some(Kind::Prime)) => self.at += 1,
                (Some(Kind::Caret), Some(Kind::GroupOpen))
                    if self.peek_at(2) == Some(Kind::Prime) =>
                {
                    self.at += 2;
                    while self.eat(Kind::Prime) {
                        name.push('\'');
                    }
                    self.expect(Kind::GroupClose)?;
                }
                (Some(Kind::Underscore), _) => {
                    self.at += 1;
                    if let Some(index) = self.subscript(&mut name)? {
                        let symbol = self.tree.symbol(&name);
                        return Ok(self.tree.push(Node::Index(symbol, index)));
                    }
                }
                _ => break,
            }
        }
        if self.is_inverse_function(&name) {
            name.push_str("^-1");
            self.at += 5;
        }
        if let Some(arguments) = self.application(&name)? {
            // The gamma function is a shifted factorial.
            if let ("Gamma", [argument]) = (name.as_str(), arguments.as_slice()) {
                let minus_one = self.tree.integer(-1);
                let shifted = self.tree.add(&[*argument, minus_one]);
                return Ok(self.tree.call(Function::Factorial, &[shifted]));
            }
            let symbol = self.tree.symbol(&name);
            let kids = self.tree.add_kids(&arguments);
            return Ok(self.tree.push(Node::Apply(symbol, kids)));
        }
        if let [letter] = name.as_bytes() {
            return Ok(self.letter(*letter));
        }
        let symbol = self.tree.symbol(&name);
        Ok(self.tree.push(Node::Symbol(symbol)))
    }

    /// The argument of an accent: letters that become part of a name, or an expression.
    fn accented(&mut self) -> Result<Result<String, NodeId>, Unreadable> {
        let single = match self.peek() {
            Some(Kind::Letter | Kind::Word) => Some((self.slice(0).to_owned(), 1)),
            Some(Kind::Name(name)) => Some((name.to_owned(), 1)),
            Some(Kind::GroupOpen) if self.peek_at(2) == Some(Kind::GroupClose) => match self
                .peek_at(1)
            {
                Some(Kind::Letter | Kind::Word | Kind::Text) => Some((self.slice(1).to_owned(), 3)),
                Some(Kind::Name(name)) => Some((name.to_owned(), 3)),
                _ => None,
            },
            _ => None,
        };
        if let Some((letters, length)) = single {
            self.at += length;
            return Ok(Ok(letters));
        }
        self.argument().map(Err)
    }

    /// Reads the subscript after `_`: appended to the name when it is a name or number itself, else
    /// returned as an expression.
    fn subscript(&mut self, name: &mut String) -> Result<Option<NodeId>, Unreadable> {
        name.push('_');
        if self.peek() != Some(Kind::GroupOpen) {
            if self.is_bound_letter(0) {
                name.pop();
                return self.argument().map(Some);
            }
            if !self.peek().is_some_and(is_name_part) {
                return Err(Unreadable);
            }
            name.push_str(self.slice(0).trim_matches([' ', '~']));
            self.at += 1;
            return Ok(None);
        }
        // A group without operators between its tokens is a name: `c_{1}`, `\lambda_{red}`, `a_{n,k}`.
        let mut length = 1;
        while self
            .peek_at(length)
            .is_some_and(|kind| is_name_part(kind) || kind == Kind::Comma)
        {
            length += 1;
        }
        let names_bound = (1..length).any(|ahead| self.is_bound_letter(ahead));
        if length > 1 && self.peek_at(length) == Some(Kind::GroupClose) && !names_bound {
            for ahead in 1..length {
                let part = self.slice(ahead).trim_matches([' ', '~', '\\']);
                name.push_str(part);
            }
            self.at += length + 1;
            return Ok(None);
        }
        name.pop();
        self.group().map(Some)
    }

    fn is_bound_letter(&self, ahead: usize) -> bool {
        self.peek_at(ahead) == Some(Kind::Letter)
            && self
                .slice(ahead)
                .bytes()
                .next()
                .is_some_and(|letter| self.bound.contains(&Symbol(u32::from(letter))))
    }

    /// `f^{-1}(x)`.
    fn is_inverse_function(&self, name: &str) -> bool {
        matches!(name, "f" | "g" | "h" | "F" | "G")
            && [
                Some(Kind::Caret),
                Some(Kind::GroupOpen),
                Some(Kind::Minus),
                Some(Kind::Number),
                Some(Kind::GroupClose),
            ]
            .iter()
            .enumerate()
            .all(|(ahead, kind)| self.peek_at(ahead) == *kind)
            && self.slice(3) == "1"
            && self.peek_at(5) == Some(Kind::Open(Bracket::Round))
    }

    /// `{(`: brackets in a TeX group, as computer algebra systems print arguments.
    fn opens_grouped_brackets(&self) -> bool {
        self.peek() == Some(Kind::GroupOpen) && self.peek_at(1) == Some(Kind::Open(Bracket::Round))
    }

    /// The arguments behind a name, `(x)` or `{(x)}`, if the name is applied to them.
    fn application(&mut self, name: &str) -> Result<Option<Nodes>, Unreadable> {
        if !self.opens_grouped_brackets() {
            return if self.is_application(name) {
                self.arguments().map(Some)
            } else {
                Ok(None)
            };
        }
        let start = self.at;
        self.at += 1;
        if self.is_application(name)
            && let Ok(arguments) = self.arguments()
            && self.eat(Kind::GroupClose)
        {
            return Ok(Some(arguments));
        }
        self.at = start;
        Ok(None)
    }

    /// Is the bracket behind this name an argument, or a factor?
    ///
    /// f, g and h are always applied; other names when the bracket holds one lone symbol (`x(t)`), names
    /// separated by commas, or a number that is zero or follows a capital (`I(0)`, `P(2)`). Everything
    /// else multiplies: `n(n+1)`, `a(b+c)`, `x(3)`.
    fn is_application(&self, name: &str) -> bool {
        if self.peek() != Some(Kind::Open(Bracket::Round)) {
            return false;
        }
        if matches!(
            name.trim_end_matches('\''),
            "f" | "g" | "h" | "Gamma" | "f^-1" | "g^-1" | "h^-1" | "F^-1" | "G^-1"
        ) {
            return true;
        }
        match (self.peek_at(1), self.peek_at(2)) {
            (
                Some(Kind::Letter | Kind::Name(_)),
                Some(Kind::Close(Bracket::Round) | Kind::Comma),
            ) => true,
            (Some(Kind::Number), Some(Kind::Close(Bracket::Round))) => {
                name.starts_with(|c: char| c.is_ascii_uppercase()) || self.slice(1) == "0"
            }
            (Some(Kind::Number), Some(Kind::Comma)) => {
                name.starts_with(|c: char| c.is_ascii_uppercase())
            }
            _ => false,
        }
    }

    /// The expressions in brackets behind a function.
    fn arguments(&mut self) -> Result<Nodes, Unreadable> {
        self.expect(Kind::Open(Bracket::Round))?;
        let inner = self.bracketed(Self::separated)?;
        self.expect(Kind::Close(Bracket::Round))?;
        Ok(self.members(inner))
    }

    /// The members of a list, or the one node.
    fn members(&self, node: NodeId) -> Nodes {
        match self.tree.node(node) {
            Node::List(kids) => Nodes::from_slice(self.tree.kids(kids)),
            _ => Nodes::from_slice(&[node]),
        }
    }

    // ---- words and units ---------------------------------------------------------------------------

    /// A run of letters that is no known name. Its last letter may carry a script of its own.
    fn word(&mut self) -> Parsed {
        let length = self.slice(0).len();
        let touching = self.tokens.get(self.at + 1).is_some_and(|next| {
            matches!(
                next.kind,
                Kind::Caret | Kind::Underscore | Kind::Bang | Kind::Prime
            ) || (next.kind == Kind::Open(Bracket::Round) && !next.spaced && length <= 3)
        });
        if touching {
            // `ab^2` is `a b^2`: what precedes the last letter goes first.
            return self.first_letter_of_word();
        }
        let index = self.tree.add_text(
            &self.source[self.tokens[self.at].start as usize..self.tokens[self.at].end as usize],
        );
        self.at += 1;
        Ok(self.tree.push(Node::Word(index)))
    }

    /// Text where a value could stand: a lone letter is a symbol, the rest stays text.
    fn text_atom(&mut self) -> Parsed {
        let content = self.slice(0).trim_matches([' ', '~', '\n']).to_owned();
        self.at += 1;
        // `\text{(C)}` names the same choice as `C`.
        if let [letter] = content
            .trim_matches(['(', ')', '.', ',', ':', ' '])
            .as_bytes()
            && letter.is_ascii_alphabetic()
        {
            return Ok(self.letter(*letter));
        }
        if let Some(constant) = named_set(&content) {
            return Ok(self.tree.push(Node::Constant(constant)));
        }
        let index = self.tree.add_text(&content);
        Ok(self.tree.push(Node::Text(index)))
    }

    /// The unit behind a value, if the next tokens are one.
    pub(super) fn unit_behind(&mut self, value: NodeId) -> Result<Option<NodeId>, Unreadable> {
        if self.peek() == Some(Kind::Dollar) {
            self.at += 1;
            let unit = self.tree.add_unit(Unit::dollar());
            return Ok(Some(self.tree.push(Node::Quantity(value, unit))));
        }
        let start = self.at;
        let Some(mut unit) = self.unit()? else {
            self.at = start;
            return Ok(None);
        };
        unit.letters = self.letters_between(start);
        if unit.is_percent() {
            return Ok(Some(self.tree.push(Node::Percent(value))));
        }
        let unit = self.tree.add_unit(unit);
        Ok(Some(self.tree.push(Node::Quantity(value, unit))))
    }

    /// A short word with or without an exponent, which could also be a product of symbols: `in`, `cm^2`.
    fn letters_between(&self, start: usize) -> Option<SmallVec<[(u8, i8); 2]>> {
        let slice = |token: &Token| &self.source[token.start as usize..token.end as usize];
        let exponent = match self.tokens.get(start..self.at)? {
            [word] if word.kind == Kind::Word => 1,
            [word, caret, rest @ ..] if word.kind == Kind::Word && caret.kind == Kind::Caret => {
                let number = rest.iter().find(|token| token.kind == Kind::Number)?;
                if rest.iter().any(|token| token.kind == Kind::Minus) {
                    return None;
                }
                slice(number).parse().ok()?
            }
            _ => return None,
        };
        let word = slice(&self.tokens[start]);
        if word.len() > 3 {
            return None;
        }
        let mut letters: SmallVec<[(u8, i8); 2]> = word.bytes().map(|letter| (letter, 1)).collect();
        if let Some(last) = letters.last_mut() {
            last.1 = exponent;
        }
        Some(letters)
    }

    /// `9.8 m/s`: behind a number and a space, a one-letter unit divided by another unit.
    pub(super) fn is_unit_quotient(&self) -> bool {
        self.at > 0
            && self.tokens[self.at - 1].kind == Kind::Number
            && self.tokens[self.at].spaced
            && self.peek_at(1) == Some(Kind::Divide)
            && self.is_unit_token(2)
            && unit_named(self.slice(0), true).is_some()
    }

    /// Reads unit words, exponents and slashes as far as they go.
    fn unit(&mut self) -> Result<Option<Unit>, Unreadable> {
        let mut words = String::new();
        loop {
            let slice = self.slice(0).trim_matches([' ', '~', '\n', ',']);
            match self.peek() {
                Some(Kind::Text) => {
                    if slice
                        .split(|c: char| !c.is_alphabetic())
                        .any(|word| NOT_NOUNS.contains(&word))
                    {
                        return Err(Unreadable);
                    }
                    let lone_letter = slice.len() == 1 && unit_named(slice, true).is_none();
                    if lone_letter && words.is_empty() {
                        return Ok(None);
                    }
                }
                Some(Kind::Word) => {
                    if words.is_empty() && !self.is_unit_word(slice) {
                        return Ok(None);
                    }
                }
                Some(Kind::Function(Function::Min))
                    if !matches!(self.peek_at(1), Some(Kind::Open(_) | Kind::GroupOpen)) => {}
                // Units joined by `/` or a product sign.
                Some(Kind::Letter) if words.ends_with('/') => {}
                Some(Kind::Letter) if words.is_empty() && self.is_unit_quotient() => {}
                // `60 \frac{\text{km}}{\text{h}}`.
                Some(Kind::Frac) if words.is_empty() && self.is_unit_fraction() => {
                    words = format!("{}/{}", self.slice(2), self.slice(5));
                    self.at += 7;
                    continue;
                }
                Some(Kind::Divide | Kind::Times) if !words.is_empty() && self.is_unit_token(1) => {
                    words.push(if self.peek() == Some(Kind::Divide) {
                        '/'
                    } else {
                        ' '
                    });
                    self.at += 1;
                    continue;
                }
                Some(Kind::Caret) if !words.is_empty() => {
                    let grouped = usize::from(self.peek_at(1) == Some(Kind::GroupOpen));
                    let negative = usize::from(self.peek_at(1 + grouped) == Some(Kind::Minus));
                    if self.peek_at(1 + grouped + negative) != Some(Kind::Number) {
                        return Err(Unreadable);
                    }
                    words.push_str(if negative == 1 { "^-" } else { "^" });
                    words.push_str(self.slice(1 + grouped + negative));
                    self.at += 2 + grouped + negative;
                    if grouped == 1 {
                        self.expect(Kind::GroupClose)?;
                    }
                    words.push(' ');
                    continue;
                }
                _ => break,
            }
            if matches!(self.peek(), Some(Kind::Word))
                && !words.is_empty()
                && NOT_NOUNS.contains(&slice)
            {
                return Err(Unreadable);
            }
            let slice = slice.to_owned();
            if !words.is_empty() && !words.ends_with(['/', ' ']) {
                words.push(' ');
            }
            words.push_str(&slice);
            self.at += 1;
        }
        if words.is_empty() {
            return Ok(None);
        }
        let mut unit = Unit::one();
        read_unit(&words, &mut unit, 1).ok_or(Unreadable)?;
        Ok(Some(unit))
    }

    pub(super) fn is_unit_fraction(&self) -> bool {
        let pattern = [
            Kind::Frac,
            Kind::GroupOpen,
            Kind::Text,
            Kind::GroupClose,
            Kind::GroupOpen,
            Kind::Text,
            Kind::GroupClose,
        ];
        pattern
            .iter()
            .enumerate()
            .all(|(ahead, kind)| self.peek_at(ahead) == Some(*kind))
    }

    fn is_unit_token(&self, ahead: usize) -> bool {
        match self.peek_at(ahead) {
            Some(Kind::Text) => true,
            Some(Kind::Word) => self.is_unit_word(self.slice(ahead)),
            // Behind a slash, `km/h`.
            Some(Kind::Letter) => unit_named(self.slice(ahead), true).is_some(),
            _ => false,
        }
    }

    /// A known unit, or a plain noun: four letters or more, lower case, pronounceable.
    fn is_unit_word(&self, word: &str) -> bool {
        if unit_named(word, false).is_some()
            || matches!(word, "square" | "cubic" | "sq" | "cu" | "per" | "mph")
        {
            return true;
        }
        word.len() >= 4
            && word.bytes().all(|b| b.is_ascii_lowercase())
            && word
                .bytes()
                .any(|b| matches!(b, b'a' | b'e' | b'i' | b'o' | b'u'))
            && !NOT_NOUNS.contains(&word)
    }

    // ---- functions ---------------------------------------------------------------------------------

    fn function(&mut self, function: Function) -> Parsed {
        self.at += 1;
        self.nested(|parser| {
            let exponent = parser.function_exponent()?;
            let function = match (inverse(function), exponent) {
                (Some(inverse), Some(exponent)) if parser.is_minus_one(exponent) => {
                    let arguments = parser.function_arguments()?;
                    return Ok(parser.tree.call(inverse, &arguments));
                }
                _ => function,
            };
            let arguments = parser.function_arguments()?;
            let many = matches!(
                function,
                Function::Min | Function::Max | Function::Gcd | Function::Lcm | Function::Binomial
            );
            if arguments.len() != 1 && !many {
                return Err(Unreadable);
            }
            let call = parser.tree.call(function, &arguments);
            Ok(match exponent {
                Some(exponent) => parser.tree.push(Node::Pow(call, exponent)),
                None => call,
            })
        })
    }

    fn is_minus_one(&self, node: NodeId) -> bool {
        matches!(self.tree.node(node), Node::Number { index, .. } if *self.tree.rational(index) == crate::number::Rational::MINUS_ONE)
    }

    /// `\sin^2`: an exponent between the name and the argument.
    fn function_exponent(&mut self) -> Result<Option<NodeId>, Unreadable> {
        if !self.eat(Kind::Caret) {
            return Ok(None);
        }
        let negative = self.eat(Kind::Minus);
        let exponent = match self.peek() {
            Some(Kind::Number) => self.plain_number()?,
            _ => self.argument()?,
        };
        Ok(Some(if negative {
            self.negated(exponent)
        } else {
            exponent
        }))
    }

    /// What a function is applied to: brackets, a group, or the factors that follow up to the next
    /// function, sign or slash (`\sin 2\pi x`).
    fn function_arguments(&mut self) -> Result<Nodes, Unreadable> {
        match self.peek() {
            Some(Kind::Open(Bracket::Round)) => self.arguments(),
            Some(Kind::Open(Bracket::Square)) => self
                .sequence(Bracket::Square)
                .map(|inner| self.members(inner)),
            Some(Kind::GroupOpen) => self.group().map(|inner| self.members(inner)),
            _ => {
                let negative = self.eat(Kind::Minus);
                let mut factors = Nodes::from_slice(&[self.power()?]);
                while self.starts_factor()
                    && !matches!(
                        self.peek(),
                        Some(
                            Kind::Function(_)
                                | Kind::Log
                                | Kind::LogTen
                                | Kind::Binder(_)
                                | Kind::Text
                                | Kind::Dots
                        )
                    )
                {
                    factors.push(self.power()?);
                }
                let argument = if let [one] = factors.as_slice() {
                    *one
                } else {
                    self.tree.mul(&factors)
                };
                Ok(Nodes::from_slice(&[if negative {
                    self.negated(argument)
                } else {
                    argument
                }]))
            }
        }
    }

    /// `\log`, `\log_b`, `\lg`, with an exponent perhaps.
    fn logarithm(&mut self, base_ten: bool) -> Parsed {
        self.at += 1;
        self.nested(|parser| {
            let (mut base, mut exponent) = (None, None);
            for _ in 0..2 {
                if parser.eat(Kind::Underscore) {
                    base = Some(match parser.peek() {
                        Some(Kind::Number) => parser.plain_number()?,
                        _ => parser.argument()?,
                    });
                } else if parser.peek() == Some(Kind::Caret) {
                    exponent = parser.function_exponent()?;
                }
            }
            let arguments = parser.function_arguments()?;
            let argument = match arguments.as_slice() {
                [argument] => argument,
                // `log(x, 2)` of programming languages.
                [argument, second] if base.is_none() => {
                    base = Some(*second);
                    argument
                }
                _ => return Err(Unreadable),
            };
            let mut value = parser.tree.call(Function::Ln, &[*argument]);
            if base_ten && base.is_none() {
                base = Some(parser.tree.integer(10));
            }
            if let Some(base) = base {
                let divisor = parser.tree.call(Function::Ln, &[base]);
                value = parser.tree.push(Node::Div(value, divisor));
            }
            Ok(match exponent {
                Some(exponent) => parser.tree.push(Node::Pow(value, exponent)),
                None => value,
            })
        })
    }

    // ---- fractions and roots -------------------------------------------------------------------------

    fn fraction(&mut self, kind: Kind) -> Parsed {
        self.at += 1;
        if kind == Kind::Binomial && self.peek() == Some(Kind::Open(Bracket::Round)) {
            let arguments = self.arguments()?;
            let [_, _] = arguments.as_slice() else {
                return Err(Unreadable);
            };
            return Ok(self.tree.call(Function::Binomial, &arguments));
        }
        let (upper, lower) = (self.argument()?, self.argument()?);
        Ok(match kind {
            Kind::Frac => self.tree.push(Node::Div(upper, lower)),
            _ => self.tree.call(Function::Binomial, &[upper, lower]),
        })
    }

    fn root(&mut self) -> Parsed {
        let is_cube_root = self.slice(0) == "cbrt";
        self.at += 1;
        let order = if is_cube_root {
            self.tree.integer(3)
        } else if self.peek() == Some(Kind::Open(Bracket::Square)) {
            self.at += 1;
            let order = self.bracketed(Self::sum)?;
            self.expect(Kind::Close(Bracket::Square))?;
            order
        } else {
            self.tree.integer(2)
        };
        let radicand = match self.peek() {
            Some(Kind::Open(Bracket::Round)) => self.sequence(Bracket::Round)?,
            Some(Kind::Number) => self.plain_number()?,
            _ => self.argument()?,
        };
        Ok(self.tree.push(Node::Root(radicand, order)))
    }

    // ---- big operators -------------------------------------------------------------------------------

    pub(super) fn binder_parts(&mut self, binder: Binder) -> Parsed {
        let (mut lower, mut upper) = (None, None);
        for _ in 0..2 {
            if self.eat(Kind::Underscore) {
                lower = Some(match (binder, self.peek()) {
                    (Binder::Sum | Binder::Product | Binder::Limit, Some(Kind::GroupOpen)) => {
                        self.at += 1;
                        let bound = self.binding()?;
                        self.expect(Kind::GroupClose)?;
                        bound
                    }
                    (Binder::Integral, Some(Kind::Number)) => (None, self.plain_number()?),
                    (Binder::Integral, _) => {
                        let negative = self.eat(Kind::Minus);
                        let bound = self.argument()?;
                        (None, if negative { self.negated(bound) } else { bound })
                    }
                    _ => return Err(Unreadable),
                });
            } else if self.eat(Kind::Caret) {
                upper = Some(match self.peek() {
                    Some(Kind::Number) => self.plain_number()?,
                    _ => self.argument()?,
                });
            }
        }
        match binder {
            Binder::Integral => self.integral(lower.map(|(_, bound)| bound), upper),
            _ => {
                let (Some(variable), from) = lower.ok_or(Unreadable)? else {
                    return Err(Unreadable);
                };
                let to = match (binder, upper) {
                    (Binder::Limit, None) => from,
                    (Binder::Sum | Binder::Product, Some(to)) => to,
                    _ => return Err(Unreadable),
                };
                self.bound.push(variable);
                let body = self.product();
                self.bound.pop();
                let kids = self.tree.add_kids(&[from, to, body?]);
                Ok(self.tree.push(Node::Bound(binder, variable, kids)))
            }
        }
    }

    /// `k=1` or `x \to 0`: the variable and the bound. The variable may be `i`.
    fn binding(&mut self) -> Result<(Option<Symbol>, NodeId), Unreadable> {
        let variable = match self.peek() {
            Some(Kind::Letter) => {
                Symbol(u32::from(self.slice(0).bytes().next().ok_or(Unreadable)?))
            }
            Some(Kind::Name(name)) => self.tree.symbol(name),
            _ => return Err(Unreadable),
        };
        self.at += 1;
        if !matches!(
            self.peek(),
            Some(Kind::Relation(Relation::Equal | Relation::To))
        ) {
            return Err(Unreadable);
        }
        self.at += 1;
        Ok((Some(variable), self.sum()?))
    }

    fn integral(&mut self, from: Option<NodeId>, to: Option<NodeId>) -> Parsed {
        self.integrals += 1;
        let body = if self.is_differential(0) {
            Ok(self.tree.integer(1))
        } else {
            self.sum()
        };
        self.integrals -= 1;
        let body = body?;
        if !self.is_differential(0) {
            return Err(Unreadable);
        }
        let letter = if self.peek() == Some(Kind::Word) {
            self.slice(0).as_bytes().get(1).copied()
        } else {
            self.at += 1;
            self.slice(0).bytes().next()
        };
        let variable = match self.peek() {
            Some(Kind::Name(name)) => self.tree.symbol(name),
            _ => Symbol(u32::from(letter.ok_or(Unreadable)?)),
        };
        self.at += 1;
        let (from, to) = match (from, to) {
            (Some(from), Some(to)) => (from, to),
            (None, None) => {
                let own = self.tree.push(Node::Symbol(variable));
                (own, own)
            }
            _ => return Err(Unreadable),
        };
        let kids = self.tree.add_kids(&[from, to, body]);
        Ok(self
            .tree
            .push(Node::Bound(Binder::Integral, variable, kids)))
    }
}

/// Sets that have a sign and a name in words.
fn named_set(text: &str) -> Option<Constant> {
    let is = |names: &[&str]| names.iter().any(|name| text.eq_ignore_ascii_case(name));
    if is(&["all real numbers", "all reals", "the real numbers"]) {
        Some(Constant::Reals)
    } else if is(&["no solution", "no solutions", "empty set", "the empty set"]) {
        Some(Constant::EmptySet)
    } else {
        None
    }
}

/// Tokens that a subscript can consist of without being an expression.
fn is_name_part(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Number
            | Kind::Letter
            | Kind::Name(_)
            | Kind::Macro
            | Kind::Word
            | Kind::Text
            | Kind::Constant(_)
            | Kind::Function(_)
    )
}

/// What `f^{-1}` means for a function.
fn inverse(function: Function) -> Option<Function> {
    Some(match function {
        Function::Sin => Function::Arcsin,
        Function::Cos => Function::Arccos,
        Function::Tan => Function::Arctan,
        Function::Cot => Function::Arccot,
        Function::Sec => Function::Arcsec,
        Function::Csc => Function::Arccsc,
        Function::Sinh => Function::Arsinh,
        Function::Cosh => Function::Arcosh,
        Function::Tanh => Function::Artanh,
        _ => return None,
    })
}
