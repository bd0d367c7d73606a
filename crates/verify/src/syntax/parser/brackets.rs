//! What stands in brackets: groups, tuples, intervals, sets, absolute values, matrices.

use super::{Nodes, Parsed, Parser, Unreadable};
use crate::syntax::token::Kind;
use crate::tree::{Bracket, Constant, Function, Node, NodeId};

impl Parser<'_, '_> {
    /// A TeX group, which may hold `a \over b`.
    pub(in crate::syntax) fn group(&mut self) -> Parsed {
        self.expect(Kind::GroupOpen)?;
        let node = self.bracketed(|parser| {
            let first = parser.separated()?;
            parser.over(first)
        })?;
        self.expect(Kind::GroupClose)?;
        Ok(node)
    }

    /// The rest of `a \over b` or `n \choose k`, of which `first` is read.
    pub(super) fn over(&mut self, first: NodeId) -> Parsed {
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
    pub(in crate::syntax) fn sequence(&mut self, open: Bracket) -> Parsed {
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
    pub(in crate::syntax) fn reversed_interval(&mut self) -> Parsed {
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
    pub(in crate::syntax) fn set(&mut self) -> Parsed {
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
    pub(in crate::syntax) fn absolute_value(&mut self) -> Parsed {
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
    pub(in crate::syntax) fn rounded(&mut self, function: Function, close: Kind) -> Parsed {
        self.at += 1;
        let inner = self.bracketed(Self::sum)?;
        self.expect(close)?;
        Ok(self.tree.call(function, &[inner]))
    }

    pub(in crate::syntax) fn matrix(&mut self) -> Parsed {
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
}
