//! The tree that an answer is parsed to. One arena holds gold and prediction, so equal symbols have
//! equal ids and equal subtrees can be compared by their nodes.
use crate::number::Rational;
use crate::syntax::units::Unit;

/// Index of a node in its [`Tree`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct NodeId(u32);

/// A symbol: an ASCII letter is its own code, other names are interned from 128 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Symbol(pub(crate) u32);

/// A run of children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kids {
    start: u32,
    len: u32,
}

/// Constants with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Constant {
    Pi,
    E,
    I,
    Infinity,
    EmptySet,
    Reals,
    Integers,
    Naturals,
    Rationals,
    Complexes,
}

/// Functions with a name and a meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Function {
    Sin,
    Cos,
    Tan,
    Cot,
    Sec,
    Csc,
    Arcsin,
    Arccos,
    Arctan,
    Arccot,
    Arcsec,
    Arccsc,
    Sinh,
    Cosh,
    Tanh,
    Coth,
    Sech,
    Csch,
    Arsinh,
    Arcosh,
    Artanh,
    Ln,
    Exp,
    Abs,
    Floor,
    Ceil,
    Factorial,
    DoubleFactorial,
    Binomial,
    Min,
    Max,
    Gcd,
    Lcm,
    Mod,
    Sign,
    Re,
    Im,
    /// Complex conjugate, written with a bar.
    Conjugate,
}

/// Operators that bind a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Binder {
    Sum,
    Product,
    Integral,
    Limit,
}

/// Relations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Relation {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    Approximately,
    In,
    NotIn,
    Subset,
    Congruent,
    Divides,
    To,
}

/// Brackets around a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Bracket {
    Round,
    Square,
    Angle,
}

/// Operations on sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum SetOperation {
    Union,
    Intersection,
    Difference,
}

/// A node. Children are ids of the same tree.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Node {
    /// An exact rational; the flag tells a literal with a decimal point or exponent.
    Number {
        index: u32,
        decimal: bool,
    },
    Symbol(Symbol),
    Constant(Constant),
    Add(Kids),
    Mul(Kids),
    Neg(NodeId),
    Div(NodeId, NodeId),
    Pow(NodeId, NodeId),
    /// A root written as one: `radicand`, `order`.
    Root(NodeId, NodeId),
    Call(Function, Kids),
    /// An unknown function applied to arguments, `f(x)`.
    Apply(Symbol, Kids),
    /// A symbol with a subscript that is more than a name, `F_{n-k}`.
    Index(Symbol, NodeId),
    /// `Binder`, bound variable, then lower bound, upper bound, body in this order. An indefinite
    /// integral has its variable as both bounds.
    Bound(Binder, Symbol, Kids),
    /// `a \pm b`; prefix `\pm b` has a zero `a`.
    PlusMinus(NodeId, NodeId),
    /// `a \mp b`.
    MinusPlus(NodeId, NodeId),
    Percent(NodeId),
    Degree(NodeId),
    Quantity(NodeId, u32),
    /// A bracketed sequence of two or more, or of one in brackets other than round ones.
    Sequence {
        open: Bracket,
        close: Bracket,
        kids: Kids,
    },
    /// `\{...\}` with its elements.
    Set(Kids),
    /// `\{x \mid condition\}`: pattern and condition.
    SetOf(NodeId, NodeId),
    /// Answers side by side.
    List(Kids),
    /// `a R b S c`: one kid more than relations; the relations start at this index.
    Chain {
        relations: u32,
        kids: Kids,
    },
    /// `a \equiv b \pmod m`.
    Congruence(NodeId, NodeId, NodeId),
    SetOp(SetOperation, NodeId, NodeId),
    Matrix {
        columns: u32,
        kids: Kids,
        determinant: bool,
    },
    /// Words in a text macro.
    Text(u32),
    /// A plain run of letters that is no known name: a word or a product of its letters.
    Word(u32),
    Ratio(Kids),
    /// A number with a base subscript: value and base.
    Based {
        index: u32,
        base: u32,
    },
    Dots,
}

/// The arena.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    nodes: Vec<Node>,
    kids: Vec<NodeId>,
    relations: Vec<Relation>,
    numbers: Vec<Rational>,
    names: Vec<String>,
    texts: Vec<Box<str>>,
    units: Vec<Unit>,
}

impl Tree {
    pub(crate) fn with_capacity(nodes: usize) -> Self {
        Self {
            nodes: Vec::with_capacity(nodes),
            kids: Vec::with_capacity(nodes),
            numbers: Vec::with_capacity(nodes / 2),
            ..Self::default()
        }
    }

    pub(crate) fn push(&mut self, node: Node) -> NodeId {
        self.nodes.push(node);
        NodeId((self.nodes.len() - 1) as u32)
    }

    #[inline]
    pub(crate) fn node(&self, id: NodeId) -> Node {
        // Ids are made by `push` alone and nodes are never removed.
        self.nodes[id.0 as usize]
    }

    pub(crate) fn add_kids(&mut self, kids: &[NodeId]) -> Kids {
        let start = self.kids.len() as u32;
        self.kids.extend_from_slice(kids);
        Kids {
            start,
            len: kids.len() as u32,
        }
    }

    #[inline]
    pub(crate) fn kids(&self, kids: Kids) -> &[NodeId] {
        &self.kids[kids.start as usize..(kids.start + kids.len) as usize]
    }

    pub(crate) fn add_relations(&mut self, relations: &[Relation]) -> u32 {
        let start = self.relations.len() as u32;
        self.relations.extend_from_slice(relations);
        start
    }

    /// The relations of a chain of `kids` members.
    pub(crate) fn relations(&self, start: u32, kids: Kids) -> &[Relation] {
        &self.relations[start as usize..(start + kids.len - 1) as usize]
    }

    pub(crate) fn number(&mut self, value: Rational, decimal: bool) -> NodeId {
        let index = self.add_number(value);
        self.push(Node::Number { index, decimal })
    }

    pub(crate) fn add_number(&mut self, value: Rational) -> u32 {
        self.numbers.push(value);
        (self.numbers.len() - 1) as u32
    }

    #[inline]
    pub(crate) fn rational(&self, index: u32) -> &Rational {
        &self.numbers[index as usize]
    }

    pub(crate) fn integer(&mut self, value: i64) -> NodeId {
        self.number(Rational::integer(value), false)
    }

    /// The symbol with this name.
    pub(crate) fn symbol(&mut self, name: &str) -> Symbol {
        if let [letter] = name.as_bytes()
            && letter.is_ascii()
        {
            return Symbol(u32::from(*letter));
        }
        let index = self
            .names
            .iter()
            .position(|known| known == name)
            .unwrap_or_else(|| {
                self.names.push(name.to_owned());
                self.names.len() - 1
            });
        Symbol(128 + index as u32)
    }

    /// The name of a symbol.
    pub(crate) fn name(&self, symbol: Symbol) -> String {
        match symbol.0.checked_sub(128) {
            None => char::from(symbol.0 as u8).to_string(),
            Some(index) => self.names.get(index as usize).cloned().unwrap_or_default(),
        }
    }

    /// A number that depends on the name of a symbol alone, not on when it was first met.
    pub(crate) fn name_hash(&self, symbol: Symbol) -> u64 {
        match symbol.0.checked_sub(128) {
            None => u64::from(symbol.0),
            Some(index) => {
                let name = self.names.get(index as usize).map_or("", String::as_str);
                name.bytes().fold(0, |hash: u64, byte| {
                    (hash ^ u64::from(byte))
                        .wrapping_mul(0x0100_0000_01b3)
                        .rotate_left(7)
                })
            }
        }
    }

    /// True for names with a subscript: quantities such as `r_0`.
    pub(crate) fn is_subscripted(&self, symbol: Symbol) -> bool {
        symbol
            .0
            .checked_sub(128)
            .and_then(|index| self.names.get(index as usize))
            .is_some_and(|name| name.contains('_'))
    }

    pub(crate) fn add_text(&mut self, text: &str) -> u32 {
        self.texts.push(text.into());
        (self.texts.len() - 1) as u32
    }

    pub(crate) fn text(&self, index: u32) -> &str {
        &self.texts[index as usize]
    }

    pub(crate) fn add_unit(&mut self, unit: Unit) -> u32 {
        self.units.push(unit);
        (self.units.len() - 1) as u32
    }

    pub(crate) fn unit(&self, index: u32) -> &Unit {
        &self.units[index as usize]
    }

    pub(crate) fn add(&mut self, terms: &[NodeId]) -> NodeId {
        let kids = self.add_kids(terms);
        self.push(Node::Add(kids))
    }

    pub(crate) fn mul(&mut self, factors: &[NodeId]) -> NodeId {
        let kids = self.add_kids(factors);
        self.push(Node::Mul(kids))
    }

    pub(crate) fn call(&mut self, function: Function, arguments: &[NodeId]) -> NodeId {
        let kids = self.add_kids(arguments);
        self.push(Node::Call(function, kids))
    }

    pub(crate) fn list(&mut self, items: &[NodeId]) -> NodeId {
        let kids = self.add_kids(items);
        self.push(Node::List(kids))
    }

    /// Calls `visit` with every child of a node, in order.
    pub(crate) fn each_kid(&self, id: NodeId, mut visit: impl FnMut(NodeId)) {
        match self.node(id) {
            Node::Number { .. }
            | Node::Symbol(_)
            | Node::Constant(_)
            | Node::Text(_)
            | Node::Word(_)
            | Node::Based { .. }
            | Node::Dots => {}
            Node::Add(kids)
            | Node::Mul(kids)
            | Node::Call(_, kids)
            | Node::Apply(_, kids)
            | Node::Bound(_, _, kids)
            | Node::Sequence { kids, .. }
            | Node::Set(kids)
            | Node::List(kids)
            | Node::Chain { kids, .. }
            | Node::Matrix { kids, .. }
            | Node::Ratio(kids) => self.kids(kids).iter().copied().for_each(visit),
            Node::Neg(a)
            | Node::Index(_, a)
            | Node::Percent(a)
            | Node::Degree(a)
            | Node::Quantity(a, _) => visit(a),
            Node::Div(a, b)
            | Node::Pow(a, b)
            | Node::Root(a, b)
            | Node::PlusMinus(a, b)
            | Node::MinusPlus(a, b)
            | Node::SetOf(a, b)
            | Node::SetOp(_, a, b) => {
                visit(a);
                visit(b);
            }
            Node::Congruence(a, b, c) => {
                visit(a);
                visit(b);
                visit(c);
            }
        }
    }

    /// True when some node below `id`, or itself, satisfies the predicate.
    pub(crate) fn any(&self, id: NodeId, predicate: &impl Fn(Node) -> bool) -> bool {
        if predicate(self.node(id)) {
            return true;
        }
        let mut found = false;
        self.each_kid(id, |kid| found = found || self.any(kid, predicate));
        found
    }

    /// True when both subtrees are the same, node by node.
    pub(crate) fn same(&self, a: NodeId, b: NodeId) -> bool {
        if a == b {
            return true;
        }
        let same_kids = |x: Kids, y: Kids| {
            let (x, y) = (self.kids(x), self.kids(y));
            x.len() == y.len() && x.iter().zip(y).all(|(x, y)| self.same(*x, *y))
        };
        match (self.node(a), self.node(b)) {
            (Node::Number { index: x, .. }, Node::Number { index: y, .. }) => {
                self.rational(x) == self.rational(y)
            }
            (Node::Symbol(x), Node::Symbol(y)) => x == y,
            (Node::Constant(x), Node::Constant(y)) => x == y,
            (Node::Add(x), Node::Add(y))
            | (Node::Mul(x), Node::Mul(y))
            | (Node::List(x), Node::List(y))
            | (Node::Set(x), Node::Set(y))
            | (Node::Ratio(x), Node::Ratio(y)) => same_kids(x, y),
            (Node::Neg(x), Node::Neg(y))
            | (Node::Percent(x), Node::Percent(y))
            | (Node::Degree(x), Node::Degree(y)) => self.same(x, y),
            (Node::Div(x, u), Node::Div(y, v))
            | (Node::Pow(x, u), Node::Pow(y, v))
            | (Node::Root(x, u), Node::Root(y, v))
            | (Node::PlusMinus(x, u), Node::PlusMinus(y, v))
            | (Node::MinusPlus(x, u), Node::MinusPlus(y, v)) => self.same(x, y) && self.same(u, v),
            (Node::Call(f, x), Node::Call(g, y)) => f == g && same_kids(x, y),
            (Node::Apply(f, x), Node::Apply(g, y)) => f == g && same_kids(x, y),
            (Node::Index(f, x), Node::Index(g, y)) => f == g && self.same(x, y),
            (Node::Bound(f, v, x), Node::Bound(g, w, y)) => f == g && v == w && same_kids(x, y),
            (
                Node::Sequence {
                    open: o,
                    close: c,
                    kids: x,
                },
                Node::Sequence {
                    open: p,
                    close: d,
                    kids: y,
                },
            ) => o == p && c == d && same_kids(x, y),
            (Node::SetOf(x, u), Node::SetOf(y, v)) => self.same(x, y) && self.same(u, v),
            (Node::Word(x), Node::Word(y)) => self.text(x) == self.text(y),
            (Node::Based { index: x, base: b }, Node::Based { index: y, base: c }) => {
                b == c && self.rational(x) == self.rational(y)
            }
            (Node::Dots, Node::Dots) => true,
            _ => false,
        }
    }
}
