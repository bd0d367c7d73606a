//! A Pratt parser from tokens to the tree.
//!
//! Binding from loose to tight: `;` and "or", `,` and "and", relations, set operations, ratio, sum
//! and `\pm`, product (written or implied, left to right, so `1/2x` is `x/2`), sign, power (right to
//! left), postfix `!`, degree and subscript. Recursion is bounded by [`MAX_DEPTH`].

mod argument;
mod arithmetic;
mod brackets;
mod digits;

use smallvec::SmallVec;

use super::Unreadable;
use super::literal;
use super::token::{Kind, Token};
use crate::tree::{Binder, Bracket, Node, NodeId, Relation, SetOperation, Symbol, Tree};

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

    /// Sums, products, integrals and limits with their bounds.
    pub(super) fn binder(&mut self, binder: Binder) -> Parsed {
        self.at += 1;
        self.nested(|parser| parser.binder_parts(binder))
    }
}
