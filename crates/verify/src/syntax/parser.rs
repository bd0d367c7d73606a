//! A Pratt parser from tokens to the tree.
//!
//! Binding from loose to tight: `;` and "or", `,` and "and", relations, set operations, ratio, sum
//! and `\pm`, product (written or implied, left to right, so `1/2x` is `x/2`), sign, power (right to
//! left), postfix `!`, degree and subscript. Recursion is bounded by [`MAX_DEPTH`].
use smallvec::SmallVec;

use super::Unreadable;
use super::literal;
use super::names::number_word;
use super::token::{Kind, Token};
use crate::number::Rational;
use crate::tree::{
    Binder, Bracket, Constant, Function, Node, NodeId, Relation, SetOperation, Symbol, Tree,
};

/// The deepest nesting that is read. People stop at about eight.
pub(super) const MAX_DEPTH: u32 = 64;

pub(super) type Parsed = Result<NodeId, Unreadable>;
pub(super) type Nodes = SmallVec<[NodeId; 8]>;

/// Parses a whole answer into `tree`.
pub(crate) fn parse(source: &str, tokens: Vec<Token>, tree: &mut Tree) -> Parsed {
    let mut parser = Parser {
        source,
        tokens,
        at: 0,
        tree,
        depth: 0,
        bars: 0,
        integrals: 0,
        in_set: false,
        bound: SmallVec::new(),
    };
    parser.drop_loose_ends();
    let first = parser.separated()?;
    let node = parser.over(first)?;
    if parser.at == parser.tokens.len() {
        Ok(node)
    } else {
        Err(Unreadable)
    }
}

pub(super) struct Parser<'s, 't> {
    pub(super) source: &'s str,
    pub(super) tokens: Vec<Token>,
    pub(super) at: usize,
    pub(super) tree: &'t mut Tree,
    depth: u32,
    /// Open absolute-value bars at this level of brackets.
    bars: u32,
    /// Integrals whose differential is still to come.
    pub(super) integrals: u32,
    /// Directly inside set braces, where a bar or colon begins the condition.
    in_set: bool,
    /// Variables of the sums around.
    pub(super) bound: SmallVec<[Symbol; 4]>,
}

impl Parser<'_, '_> {
    /// `\approx 5`, `\Rightarrow x = 5` and `5,` say no more than what they hold.
    fn drop_loose_ends(&mut self) {
        while let Some(Kind::Comma | Kind::Semicolon) = self.tokens.last().map(|token| token.kind) {
            self.tokens.pop();
        }
        if matches!(
            self.peek(),
            Some(Kind::Relation(
                Relation::Equal | Relation::Approximately | Relation::To
            ))
        ) {
            self.at += 1;
        }
    }

    #[inline]
    pub(super) fn peek(&self) -> Option<Kind> {
        self.tokens.get(self.at).map(|token| token.kind)
    }

    #[inline]
    pub(super) fn peek_at(&self, ahead: usize) -> Option<Kind> {
        self.tokens.get(self.at + ahead).map(|token| token.kind)
    }

    pub(super) fn eat(&mut self, kind: Kind) -> bool {
        let found = self.peek() == Some(kind);
        self.at += usize::from(found);
        found
    }

    pub(super) fn expect(&mut self, kind: Kind) -> Result<(), Unreadable> {
        if self.eat(kind) {
            Ok(())
        } else {
            Err(Unreadable)
        }
    }

    /// The source text of the token `ahead` tokens further on.
    pub(super) fn slice(&self, ahead: usize) -> &str {
        self.tokens.get(self.at + ahead).map_or("", |token| {
            &self.source[token.start as usize..token.end as usize]
        })
    }

    /// Runs `parse` one level deeper.
    pub(super) fn nested<T>(
        &mut self,
        parse: impl FnOnce(&mut Self) -> Result<T, Unreadable>,
    ) -> Result<T, Unreadable> {
        if self.depth >= MAX_DEPTH {
            return Err(Unreadable);
        }
        self.depth += 1;
        let result = parse(self);
        self.depth -= 1;
        result
    }

    /// Runs `parse` inside brackets, where bars and sets start anew.
    pub(super) fn bracketed<T>(
        &mut self,
        parse: impl FnOnce(&mut Self) -> Result<T, Unreadable>,
    ) -> Result<T, Unreadable> {
        let (bars, in_set) = (self.bars, self.in_set);
        (self.bars, self.in_set) = (0, false);
        let result = self.nested(parse);
        (self.bars, self.in_set) = (bars, in_set);
        result
    }

    // ---- answers side by side ------------------------------------------------------------------

    /// Answers separated by `;` or "or", each of which may be a comma list.
    pub(super) fn separated(&mut self) -> Parsed {
        let first = self.comma_list()?;
        if !matches!(self.peek(), Some(Kind::Or | Kind::Semicolon)) {
            return Ok(first);
        }
        let mut groups = Nodes::from_slice(&[first]);
        while matches!(self.peek(), Some(Kind::Or | Kind::Semicolon)) {
            self.at += 1;
            while matches!(self.peek(), Some(Kind::Or | Kind::And)) {
                self.at += 1;
            }
            groups.push(self.comma_list()?);
        }
        Ok(self.tree.list(&groups))
    }

    fn comma_list(&mut self) -> Parsed {
        let first = self.relation()?;
        if !matches!(self.peek(), Some(Kind::Comma | Kind::And)) {
            return Ok(first);
        }
        let mut items = Nodes::from_slice(&[first]);
        loop {
            match (self.peek(), self.peek_at(1)) {
                (Some(Kind::Comma), Some(Kind::Or | Kind::Semicolon)) => {
                    self.at += 1;
                    break;
                }
                (Some(Kind::Comma), Some(Kind::And)) => self.at += 2,
                (Some(Kind::Comma | Kind::And), _) => self.at += 1,
                _ => break,
            }
            items.push(self.relation()?);
        }
        Ok(self.tree.list(&items))
    }

    // ---- relations and sets ----------------------------------------------------------------------

    pub(super) fn relation(&mut self) -> Parsed {
        let first = self.set_operation()?;
        let Some(relation) = self.eat_relation()? else {
            return Ok(first);
        };
        let (mut members, mut relations) = (
            Nodes::from_slice(&[first]),
            SmallVec::<[Relation; 4]>::from_slice(&[relation]),
        );
        members.push(self.set_operation()?);
        while let Some(relation) = self.eat_relation()? {
            relations.push(relation);
            members.push(self.set_operation()?);
        }
        if relations.as_slice() == [Relation::Congruent]
            && let Some(modulus) = self.modulus()?
        {
            return Ok(self
                .tree
                .push(Node::Congruence(members[0], members[1], modulus)));
        }
        let relations = self.tree.add_relations(&relations);
        let kids = self.tree.add_kids(&members);
        Ok(self.tree.push(Node::Chain { relations, kids }))
    }

    fn eat_relation(&mut self) -> Result<Option<Relation>, Unreadable> {
        let relation = match self.peek() {
            Some(Kind::Relation(relation)) => relation,
            Some(Kind::Not) if self.peek_at(1) == Some(Kind::Relation(Relation::Equal)) => {
                self.at += 1;
                Relation::NotEqual
            }
            Some(Kind::Mid) if !self.in_set => Relation::Divides,
            // A plain "in" between a name and a set.
            Some(Kind::Word)
                if self.slice(0) == "in"
                    && matches!(self.peek_at(1), Some(Kind::Open(_) | Kind::OpenSet)) =>
            {
                Relation::In
            }
            _ => return Ok(None),
        };
        self.at += 1;
        Ok(Some(relation))
    }

    /// `\pmod{m}`, `(\bmod m)` or `\mod m` behind a congruence.
    fn modulus(&mut self) -> Result<Option<NodeId>, Unreadable> {
        match (self.peek(), self.peek_at(1)) {
            (Some(Kind::ParenthesisedMod), _) => {
                self.at += 1;
                self.argument().map(Some)
            }
            (Some(Kind::Mod), _) => {
                self.at += 1;
                self.product().map(Some)
            }
            (Some(Kind::Open(Bracket::Round)), Some(Kind::Mod)) => {
                self.at += 2;
                let modulus = self.bracketed(Self::product)?;
                self.expect(Kind::Close(Bracket::Round))?;
                Ok(Some(modulus))
            }
            _ => Ok(None),
        }
    }

    fn set_operation(&mut self) -> Parsed {
        let mut left = self.ratio()?;
        loop {
            let operation = match self.peek() {
                Some(Kind::Union) => SetOperation::Union,
                Some(Kind::Intersection) => SetOperation::Intersection,
                Some(Kind::Difference) => SetOperation::Difference,
                // A plain U between two intervals.
                Some(Kind::Letter) if self.is_plain_union() => SetOperation::Union,
                _ => return Ok(left),
            };
            self.at += 1;
            let right = self.ratio()?;
            left = self.tree.push(Node::SetOp(operation, left, right));
        }
    }

    fn is_plain_union(&self) -> bool {
        self.slice(0) == "U"
            && self.at > 0
            && matches!(
                self.tokens[self.at - 1].kind,
                Kind::Close(_) | Kind::CloseSet
            )
            && matches!(self.peek_at(1), Some(Kind::Open(_) | Kind::OpenSet))
    }

    fn ratio(&mut self) -> Parsed {
        let first = self.sum()?;
        if self.in_set || self.peek() != Some(Kind::Colon) {
            return Ok(first);
        }
        let mut parts = Nodes::from_slice(&[first]);
        while self.eat(Kind::Colon) {
            parts.push(self.sum()?);
        }
        let kids = self.tree.add_kids(&parts);
        Ok(self.tree.push(Node::Ratio(kids)))
    }

    // ---- sums and products -------------------------------------------------------------------------

    pub(super) fn sum(&mut self) -> Parsed {
        let mut terms = Nodes::new();
        loop {
            let (negative, plus_minus) = self.signs();
            if !plus_minus && terms.is_empty() {
                let first = self.product()?;
                terms.push(if negative { self.negated(first) } else { first });
            } else {
                let minus = self.last_sign_is_mp();
                let term = self.product()?;
                if plus_minus {
                    let left = match terms.as_slice() {
                        [] => self.tree.integer(0),
                        [one] => *one,
                        many => {
                            let many = Nodes::from_slice(many);
                            self.tree.add(&many)
                        }
                    };
                    let node = if minus {
                        Node::MinusPlus(left, term)
                    } else {
                        Node::PlusMinus(left, term)
                    };
                    terms = Nodes::from_slice(&[self.tree.push(node)]);
                } else {
                    terms.push(if negative { self.negated(term) } else { term });
                }
            }
            if !matches!(
                self.peek(),
                Some(Kind::Plus | Kind::Minus | Kind::PlusMinus | Kind::MinusPlus)
            ) {
                break;
            }
        }
        Ok(match terms.as_slice() {
            [one] => *one,
            _ => self.tree.add(&terms),
        })
    }

    /// Eats a run of signs: whether it is negative altogether, and whether it holds a `\pm` or `\mp`.
    fn signs(&mut self) -> (bool, bool) {
        let (mut negative, mut plus_minus) = (false, false);
        loop {
            match self.peek() {
                Some(Kind::Plus) => {}
                Some(Kind::Minus) => negative = !negative,
                Some(Kind::PlusMinus | Kind::MinusPlus) if !plus_minus => plus_minus = true,
                _ => return (negative, plus_minus),
            }
            self.at += 1;
        }
    }

    /// After [`Self::signs`]: was the sign just eaten a `\mp`?
    fn last_sign_is_mp(&self) -> bool {
        self.tokens[..self.at]
            .iter()
            .rev()
            .take_while(|t| {
                matches!(
                    t.kind,
                    Kind::Plus | Kind::Minus | Kind::PlusMinus | Kind::MinusPlus
                )
            })
            .any(|t| t.kind == Kind::MinusPlus)
    }

    pub(super) fn negated(&mut self, node: NodeId) -> NodeId {
        match self.tree.node(node) {
            Node::Number { index, decimal } => {
                let value = self.tree.rational(index).neg();
                self.tree.number(value, decimal)
            }
            _ => self.tree.push(Node::Neg(node)),
        }
    }

    pub(super) fn product(&mut self) -> Parsed {
        let mut factors = Nodes::from_slice(&[self.signed_factor()?]);
        loop {
            match self.peek() {
                Some(Kind::Times) => {
                    self.at += 1;
                    factors.push(self.signed_factor()?);
                }
                Some(Kind::Divide) => {
                    self.at += 1;
                    let dividend = self.joined(&factors);
                    let divisor = self.signed_factor()?;
                    factors = Nodes::from_slice(&[self.tree.push(Node::Div(dividend, divisor))]);
                }
                Some(Kind::Mod) => {
                    self.at += 1;
                    let value = self.joined(&factors);
                    let modulus = self.signed_factor()?;
                    factors =
                        Nodes::from_slice(&[self.tree.call(Function::Mod, &[value, modulus])]);
                }
                Some(Kind::Percent) => {
                    self.at += 1;
                    let value = self.joined(&factors);
                    factors = Nodes::from_slice(&[self.tree.push(Node::Percent(value))]);
                }
                Some(Kind::Letter) if self.is_unit_quotient() => {
                    let value = self.joined(&factors);
                    if let Some(quantity) = self.unit_behind(value)? {
                        factors = Nodes::from_slice(&[quantity]);
                    } else {
                        factors.push(self.power()?);
                    }
                }
                Some(
                    Kind::Text
                    | Kind::Word
                    | Kind::Dollar
                    | Kind::Frac
                    | Kind::Function(Function::Min),
                ) => {
                    let value = self.joined(&factors);
                    if let Some(quantity) = self.unit_behind(value)? {
                        factors = Nodes::from_slice(&[quantity]);
                    } else if self.starts_factor() {
                        factors.push(self.power()?);
                    } else {
                        break;
                    }
                }
                _ if self.starts_factor() => factors.push(self.power()?),
                _ => break,
            }
        }
        Ok(self.joined(&factors))
    }

    fn joined(&mut self, factors: &[NodeId]) -> NodeId {
        match factors {
            [one] => *one,
            many => self.tree.mul(many),
        }
    }

    /// True when the next token begins a factor that is multiplied without a sign.
    pub(super) fn starts_factor(&self) -> bool {
        let Some(kind) = self.peek() else {
            return false;
        };
        match kind {
            // Two literals in a row are no product: "2 3" is unreadable.
            Kind::Number | Kind::BaseDigits => {
                self.at > 0
                    && !matches!(
                        self.tokens[self.at - 1].kind,
                        Kind::Number | Kind::BaseDigits
                    )
            }
            Kind::Letter => !self.is_plain_union(),
            Kind::Word => {
                let differential = self.integrals > 0 && self.is_differential(0);
                let membership = self.slice(0) == "in"
                    && matches!(self.peek_at(1), Some(Kind::Open(_) | Kind::OpenSet));
                !differential && !membership
            }
            Kind::Name(_)
            | Kind::Macro
            | Kind::Function(_)
            | Kind::Log
            | Kind::LogTen
            | Kind::Constant(_)
            | Kind::Binder(_)
            | Kind::OpenBar
            | Kind::OpenFloor
            | Kind::OpenCeil
            | Kind::GroupOpen
            | Kind::Begin
            | Kind::Frac
            | Kind::Binomial
            | Kind::Root
            | Kind::Accent(_)
            | Kind::Text
            | Kind::Dots
            | Kind::Open(Bracket::Round | Bracket::Angle) => {
                !(kind == Kind::Open(Bracket::Round) && self.peek_at(1) == Some(Kind::Mod))
            }
            // `[a, b[` closes with an opening bracket at the end of its interval.
            Kind::Open(Bracket::Square) => !matches!(
                self.peek_at(1),
                None | Some(Kind::Union | Kind::Intersection | Kind::Comma)
            ),
            Kind::Bar => self.bars == 0 && !self.in_set,
            _ => false,
        }
    }

    /// `dx`: a two-letter word that begins with d, or a lone d with a letter behind it.
    pub(super) fn is_differential(&self, ahead: usize) -> bool {
        match self.peek_at(ahead) {
            Some(Kind::Word) => self.slice(ahead).len() == 2 && self.slice(ahead).starts_with('d'),
            Some(Kind::Letter | Kind::Text) => {
                self.slice(ahead) == "d"
                    && matches!(self.peek_at(ahead + 1), Some(Kind::Letter | Kind::Name(_)))
            }
            _ => false,
        }
    }

    pub(super) fn signed_factor(&mut self) -> Parsed {
        let (negative, plus_minus) = self.signs();
        let minus = plus_minus && self.last_sign_is_mp();
        let mut factor = self.power()?;
        if plus_minus {
            let zero = self.tree.integer(0);
            factor = self.tree.push(if minus {
                Node::MinusPlus(zero, factor)
            } else {
                Node::PlusMinus(zero, factor)
            });
        }
        Ok(if negative {
            self.negated(factor)
        } else {
            factor
        })
    }

    // ---- powers and postfix signs --------------------------------------------------------------------

    pub(super) fn power(&mut self) -> Parsed {
        let mut base = self.postfix()?;
        while self.peek() == Some(Kind::Caret) {
            if self.eat_ordinal() {
                continue;
            }
            if self.eat_degree_script() {
                base = self.degree(base);
                continue;
            }
            self.at += 1;
            let exponent = self.script()?;
            base = self.tree.push(Node::Pow(base, exponent));
            base = self.postfix_signs(base)?;
        }
        Ok(base)
    }

    /// `5^{\text{th}}`: the ending of an ordinal number.
    fn eat_ordinal(&mut self) -> bool {
        let grouped = usize::from(self.peek_at(1) == Some(Kind::GroupOpen));
        let is_ending = matches!(self.peek_at(1 + grouped), Some(Kind::Text | Kind::Word))
            && matches!(
                self.slice(1 + grouped).trim_matches([' ', '~']),
                "th" | "st" | "nd" | "rd"
            )
            && (grouped == 0 || self.peek_at(3) == Some(Kind::GroupClose));
        if is_ending {
            self.at += 2 + 2 * grouped;
        }
        is_ending
    }

    /// `^\circ` or `^{\circ}`.
    fn eat_degree_script(&mut self) -> bool {
        let length = match (self.peek_at(1), self.peek_at(2), self.peek_at(3)) {
            (Some(Kind::Degree), _, _) => 2,
            (Some(Kind::GroupOpen), Some(Kind::Degree), Some(Kind::GroupClose)) => 4,
            _ => return false,
        };
        self.at += length;
        true
    }

    /// The exponent after `^`: a group, or one factor with its own exponents, right to left.
    fn script(&mut self) -> Parsed {
        self.nested(|parser| {
            let (negative, plus_minus) = parser.signs();
            if plus_minus {
                return Err(Unreadable);
            }
            let mut exponent = match parser.peek() {
                Some(Kind::Word) => parser.first_letter_of_word()?,
                Some(Kind::Number) => parser.plain_number()?,
                Some(Kind::Frac) => parser.atom()?,
                Some(Kind::Letter | Kind::Name(_)) => parser.bare_symbol()?,
                _ => parser.atom()?,
            };
            exponent = parser.postfix_factorial(exponent);
            if parser.peek() == Some(Kind::Caret)
                && !matches!(parser.peek_at(1), Some(Kind::Degree))
            {
                parser.at += 1;
                let upper = parser.script()?;
                exponent = parser.tree.push(Node::Pow(exponent, upper));
            }
            Ok(if negative {
                parser.negated(exponent)
            } else {
                exponent
            })
        })
    }

    fn postfix(&mut self) -> Parsed {
        let node = self.atom()?;
        self.postfix_signs(node)
    }

    fn postfix_factorial(&mut self, mut node: NodeId) -> NodeId {
        while self.eat(Kind::Bang) {
            let function = if self.eat(Kind::Bang) {
                Function::DoubleFactorial
            } else {
                Function::Factorial
            };
            node = self.tree.call(function, &[node]);
        }
        node
    }

    fn postfix_signs(&mut self, mut node: NodeId) -> Parsed {
        loop {
            match self.peek() {
                Some(Kind::Bang) => node = self.postfix_factorial(node),
                Some(Kind::Degree) => {
                    self.at += 1;
                    node = self.degree(node);
                }
                Some(Kind::Underscore) => node = self.base_subscript(node)?,
                Some(Kind::Text | Kind::Word) if self.names_a_base() => {
                    node = self.base_subscript(node)?;
                }
                _ => return Ok(node),
            }
        }
    }

    /// An angle, or a temperature when C or F follows.
    fn degree(&mut self, node: NodeId) -> NodeId {
        if matches!(self.peek(), Some(Kind::Letter | Kind::Text)) {
            let name = match self.slice(0).trim_matches([' ', '~']) {
                "C" => "celsius",
                "F" => "fahrenheit",
                _ => return self.tree.push(Node::Degree(node)),
            };
            self.at += 1;
            let mut unit = super::units::Unit::one();
            unit.multiply(name, 1);
            let unit = self.tree.add_unit(unit);
            return self.tree.push(Node::Quantity(node, unit));
        }
        self.tree.push(Node::Degree(node))
    }

    /// `204_5`, `204_{\text{five}}`: a number in a base.
    fn base_subscript(&mut self, node: NodeId) -> Parsed {
        let Node::Number {
            index,
            decimal: false,
        } = self.tree.node(node)
        else {
            return Err(Unreadable);
        };
        let digits = self.tree.rational(index).clone();
        if !digits.is_integer() || digits.is_negative() {
            return Err(Unreadable);
        }
        let base = self.base_script()?;
        let text = digits.numerator().to_string();
        self.based(&text, base)
    }

    /// Is the text here "base", perhaps with its number: `\text{ (base 5)}`, `\text{ base } 5`?
    fn names_a_base(&self) -> bool {
        let follows_number = self.at > 0 && self.tokens[self.at - 1].kind == Kind::Number;
        let text = self.slice(0).trim_matches([' ', '~', '(', ')']);
        follows_number
            && text.strip_prefix("base").is_some_and(|rest| {
                rest.starts_with(' ')
                    || (rest.is_empty()
                        && matches!(
                            self.peek_at(1),
                            Some(Kind::Number | Kind::Text | Kind::Word)
                        ))
            })
    }

    /// The base after `_` or behind the word "base", 2 to 36.
    pub(super) fn base_script(&mut self) -> Result<u32, Unreadable> {
        let mut close = None;
        if !self.eat(Kind::Underscore) {
            // A bracket may be split between a text macro and what follows it.
            let opens = self.slice(0).contains('(') && !self.slice(0).contains(')');
            close = opens.then_some(Kind::Close(Bracket::Round));
            let text = self.slice(0).trim_matches([' ', '~', '(', ')']);
            if text == "base" {
                self.at += 1;
            }
        }
        let grouped = self.eat(Kind::GroupOpen);
        if grouped && self.eat(Kind::GroupOpen) {
            close = Some(Kind::GroupClose);
        } else if grouped && self.eat(Kind::Open(Bracket::Round)) {
            close = Some(Kind::Close(Bracket::Round));
        }
        let base = match self.peek() {
            Some(Kind::Number) => self.slice(0).parse().ok(),
            Some(Kind::Word | Kind::Text) => {
                let word = self.slice(0).trim_matches([' ', '~', '(', ')']);
                let word = word.strip_prefix("base").unwrap_or(word).trim();
                number_word(word).or_else(|| word.parse().ok())
            }
            _ => None,
        };
        self.at += 1;
        if let Some(close) = close {
            self.expect(close)?;
        }
        if grouped {
            self.expect(Kind::GroupClose)?;
        }
        base.filter(|base| (2..=36).contains(base))
            .ok_or(Unreadable)
    }

    /// The node of a digit string in a base.
    pub(super) fn based(&mut self, digits: &str, base: u32) -> Parsed {
        if digits.len() > 200 || !digits.chars().all(|c| c.is_digit(base)) {
            return Err(Unreadable);
        }
        let value = num_bigint::BigInt::parse_bytes(digits.as_bytes(), base).ok_or(Unreadable)?;
        let value = Rational::from_big(value, 1.into()).ok_or(Unreadable)?;
        let index = self.tree.add_number(value);
        Ok(self.tree.push(Node::Based { index, base }))
    }

    // ---- numbers -------------------------------------------------------------------------------------

    /// The literal at this token, without looking further.
    pub(super) fn plain_number(&mut self) -> Parsed {
        let literal = literal::read(self.slice(0)).ok_or(Unreadable)?;
        self.at += 1;
        let mantissa = self.tree.number(literal.mantissa, literal.decimal);
        if literal.exponent == 0 {
            return Ok(mantissa);
        }
        let (ten, exponent) = (self.tree.integer(10), self.tree.integer(literal.exponent));
        let power = self.tree.push(Node::Pow(ten, exponent));
        Ok(self.tree.mul(&[mantissa, power]))
    }

    /// A literal, and the fraction of a mixed number behind it: `1\frac45`, `1 4/5`.
    pub(super) fn number(&mut self) -> Parsed {
        let whole = self.plain_number()?;
        let Node::Number { decimal: false, .. } = self.tree.node(whole) else {
            return Ok(whole);
        };
        let fraction = match (self.peek(), self.peek_at(1), self.peek_at(2)) {
            (Some(Kind::Frac), _, _) if !self.is_unit_fraction() => self.atom()?,
            (Some(Kind::Number), Some(Kind::Divide), Some(Kind::Number)) => {
                let numerator = self.plain_number()?;
                self.at += 1;
                let denominator = self.plain_number()?;
                self.tree.push(Node::Div(numerator, denominator))
            }
            _ => return Ok(whole),
        };
        let is_integer = |id: NodeId| matches!(self.tree.node(id), Node::Number { index, decimal: false } if self.tree.rational(index).is_integer());
        Ok(match self.tree.node(fraction) {
            Node::Div(numerator, denominator)
                if is_integer(numerator) && is_integer(denominator) =>
            {
                self.tree.add(&[whole, fraction])
            }
            _ => self.tree.mul(&[whole, fraction]),
        })
    }

    // ---- brackets ------------------------------------------------------------------------------------

    /// A TeX group, which may hold `a \over b`.
    pub(super) fn group(&mut self) -> Parsed {
        self.expect(Kind::GroupOpen)?;
        let node = self.bracketed(|parser| {
            let first = parser.separated()?;
            parser.over(first)
        })?;
        self.expect(Kind::GroupClose)?;
        Ok(node)
    }

    /// The rest of `a \over b` or `n \choose k`, of which `first` is read.
    fn over(&mut self, first: NodeId) -> Parsed {
        if self.eat(Kind::Over) {
            let second = self.separated()?;
            return Ok(self.tree.push(Node::Div(first, second)));
        }
        if self.eat(Kind::Choose) {
            let second = self.separated()?;
            return Ok(self.tree.call(Function::Binomial, &[first, second]));
        }
        Ok(first)
    }

    /// Brackets: a grouped expression, a tuple, or an interval.
    pub(super) fn sequence(&mut self, open: Bracket) -> Parsed {
        self.at += 1;
        let inner = self.bracketed(Self::separated)?;
        let close = match self.peek() {
            Some(Kind::Close(close)) => close,
            // `[a, b[` excludes b.
            Some(Kind::Open(Bracket::Square)) if open == Bracket::Square => Bracket::Round,
            _ => return Err(Unreadable),
        };
        self.at += 1;
        match self.tree.node(inner) {
            Node::List(kids) => Ok(self.tree.push(Node::Sequence { open, close, kids })),
            _ if open == close && open != Bracket::Angle => Ok(inner),
            _ => Err(Unreadable),
        }
    }

    /// `]a, b]` and `]a, b[`: the left end is excluded.
    pub(super) fn reversed_interval(&mut self) -> Parsed {
        self.at += 1;
        let (left, right) = self.bracketed(|parser| {
            let left = parser.sum()?;
            if !parser.eat(Kind::Comma) {
                parser.expect(Kind::Semicolon)?;
            }
            Ok((left, parser.sum()?))
        })?;
        let close = match self.peek() {
            Some(Kind::Close(Bracket::Square)) => Bracket::Square,
            Some(Kind::Open(Bracket::Square) | Kind::Close(Bracket::Round)) => Bracket::Round,
            _ => return Err(Unreadable),
        };
        self.at += 1;
        let kids = self.tree.add_kids(&[left, right]);
        Ok(self.tree.push(Node::Sequence {
            open: Bracket::Round,
            close,
            kids,
        }))
    }

    /// `\{...\}`: elements, or a pattern and a condition.
    pub(super) fn set(&mut self) -> Parsed {
        self.at += 1;
        if self.eat(Kind::CloseSet) {
            return Ok(self.tree.push(Node::Constant(Constant::EmptySet)));
        }
        let bars = std::mem::replace(&mut self.bars, 0);
        let in_set = std::mem::replace(&mut self.in_set, true);
        let inner = self.nested(Self::separated);
        self.in_set = false;
        let condition = match self.peek() {
            Some(Kind::Mid | Kind::Bar | Kind::Colon) if inner.is_ok() => {
                self.at += 1;
                Some(self.nested(Self::separated))
            }
            _ => None,
        };
        (self.bars, self.in_set) = (bars, in_set);
        let inner = inner?;
        self.expect(Kind::CloseSet)?;
        if let Some(condition) = condition {
            let condition = condition?;
            return Ok(self.tree.push(Node::SetOf(inner, condition)));
        }
        let kids = match self.tree.node(inner) {
            Node::List(kids) => kids,
            _ => self.tree.add_kids(&[inner]),
        };
        Ok(self.tree.push(Node::Set(kids)))
    }

    /// `|x|`.
    pub(super) fn absolute_value(&mut self) -> Parsed {
        self.at += 1;
        self.bars += 1;
        let inner = self.nested(Self::sum);
        self.bars -= 1;
        let inner = inner?;
        if !self.eat(Kind::Bar) {
            self.expect(Kind::CloseBar)?;
        }
        if let Node::Matrix { columns, kids, .. } = self.tree.node(inner) {
            return Ok(self.tree.push(Node::Matrix {
                columns,
                kids,
                determinant: true,
            }));
        }
        Ok(self.tree.call(Function::Abs, &[inner]))
    }

    /// Floor and ceiling brackets.
    pub(super) fn rounded(&mut self, function: Function, close: Kind) -> Parsed {
        self.at += 1;
        let inner = self.bracketed(Self::sum)?;
        self.expect(close)?;
        Ok(self.tree.call(function, &[inner]))
    }

    /// A macro's argument: a group, or the next token, whose first digit alone counts for a number.
    pub(super) fn argument(&mut self) -> Parsed {
        match self.peek() {
            Some(Kind::GroupOpen) => self.group(),
            Some(Kind::Number) => self.first_digit(),
            Some(Kind::Word) => self.first_letter_of_word(),
            Some(Kind::Letter | Kind::Name(_)) => self.bare_symbol(),
            Some(_) => self.nested(Self::atom),
            None => Err(Unreadable),
        }
    }

    /// Takes one digit off a number token: `\frac12` is a half.
    fn first_digit(&mut self) -> Parsed {
        let text = self.slice(0);
        let Some(digit @ b'0'..=b'9') = text.bytes().next() else {
            return Err(Unreadable);
        };
        if text.len() == 1 {
            self.at += 1;
        } else {
            self.tokens[self.at].start += 1;
            self.tokens[self.at].spaced = false;
        }
        Ok(self.tree.integer(i64::from(digit - b'0')))
    }

    /// Takes one letter off a word token.
    pub(super) fn first_letter_of_word(&mut self) -> Parsed {
        let Some(letter) = self.slice(0).bytes().next() else {
            return Err(Unreadable);
        };
        let token = &mut self.tokens[self.at];
        token.start += 1;
        token.spaced = false;
        if token.end - token.start == 1 {
            token.kind = Kind::Letter;
        }
        Ok(self.letter(letter))
    }

    /// The node of a letter: a symbol, or one of the constants i and e.
    pub(super) fn letter(&mut self, letter: u8) -> NodeId {
        let symbol = Symbol(u32::from(letter));
        let node = match letter {
            b'i' if !self.bound.contains(&symbol) => Node::Constant(Constant::I),
            b'e' if !self.bound.contains(&symbol) => Node::Constant(Constant::E),
            _ => Node::Symbol(symbol),
        };
        self.tree.push(node)
    }

    /// One letter or named symbol, without subscript.
    fn bare_symbol(&mut self) -> Parsed {
        let node = match self.peek() {
            Some(Kind::Letter) => {
                let letter = self.slice(0).bytes().next().ok_or(Unreadable)?;
                self.letter(letter)
            }
            Some(Kind::Name(name)) => {
                let symbol = self.tree.symbol(name);
                self.tree.push(Node::Symbol(symbol))
            }
            _ => return Err(Unreadable),
        };
        self.at += 1;
        Ok(node)
    }

    // ---- matrices --------------------------------------------------------------------------------------

    pub(super) fn matrix(&mut self) -> Parsed {
        let name = self.slice(0).to_owned();
        self.at += 1;
        let determinant = match name.as_str() {
            "pmatrix" | "bmatrix" | "Bmatrix" | "matrix" | "smallmatrix" => false,
            "vmatrix" | "Vmatrix" => true,
            "array" => {
                // The column specification.
                self.expect(Kind::GroupOpen)?;
                while !self.eat(Kind::GroupClose) {
                    if self.peek().is_none() {
                        return Err(Unreadable);
                    }
                    self.at += 1;
                }
                false
            }
            _ => return Err(Unreadable),
        };
        let mut entries = Nodes::new();
        let mut columns = 0;
        let mut row = 0;
        self.bracketed(|parser| {
            loop {
                if parser.peek() == Some(Kind::End) && row == 0 && !entries.is_empty() {
                    return Ok(());
                }
                entries.push(parser.relation()?);
                row += 1;
                match parser.peek() {
                    Some(Kind::Ampersand) => parser.at += 1,
                    Some(Kind::RowBreak | Kind::End) => {
                        if columns != 0 && row != columns {
                            return Err(Unreadable);
                        }
                        columns = row;
                        row = 0;
                        if parser.peek() == Some(Kind::End) {
                            return Ok(());
                        }
                        parser.at += 1;
                    }
                    _ => return Err(Unreadable),
                }
            }
        })?;
        if self.slice(0) != name {
            return Err(Unreadable);
        }
        self.at += 1;
        let kids = self.tree.add_kids(&entries);
        Ok(self.tree.push(Node::Matrix {
            columns,
            kids,
            determinant,
        }))
    }

    /// Sums, products, integrals and limits with their bounds.
    pub(super) fn binder(&mut self, binder: Binder) -> Parsed {
        self.at += 1;
        self.nested(|parser| parser.binder_parts(binder))
    }
}
