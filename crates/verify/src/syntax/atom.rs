//! Atoms: symbols, functions, fractions, roots, units, big operators.

mod binder;
mod function;
mod unit;

use super::Unreadable;
use super::parser::{Nodes, Parsed, Parser};
use super::token::Kind;
use super::units::Unit;
use crate::tree::{Bracket, Constant, Function, Node, NodeId, Symbol};

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

    /// `{(...)}`: brackets that fill a TeX group, as computer algebra systems print arguments.
    ///
    /// Told by the tokens alone: trying to read them and starting over would double the work at each level.
    fn opens_grouped_brackets(&self) -> bool {
        let starts = [Kind::GroupOpen, Kind::Open(Bracket::Round)];
        if starts != [0, 1].map(|ahead| self.peek_at(ahead).unwrap_or(Kind::Comma)) {
            return false;
        }
        let (mut brackets, mut groups) = (0, 0);
        for (index, token) in self.tokens.iter().enumerate().skip(self.at + 1) {
            match token.kind {
                Kind::Open(_) => brackets += 1,
                Kind::Close(_) => brackets -= 1,
                Kind::GroupOpen => groups += 1,
                Kind::GroupClose => groups -= 1,
                _ => {}
            }
            if groups < 0 {
                return false;
            }
            if brackets == 0 {
                let next = self.tokens.get(index + 1).map(|token| token.kind);
                return groups == 0 && next == Some(Kind::GroupClose);
            }
        }
        false
    }

    /// The arguments behind a name, `(x)` or `{(x)}`, if the name is applied to them.
    fn application(&mut self, name: &str) -> Result<Option<Nodes>, Unreadable> {
        let grouped = self.opens_grouped_brackets();
        self.at += usize::from(grouped);
        if !self.is_application(name) {
            self.at -= usize::from(grouped);
            return Ok(None);
        }
        let arguments = self.arguments()?;
        if grouped {
            self.expect(Kind::GroupClose)?;
        }
        Ok(Some(arguments))
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
