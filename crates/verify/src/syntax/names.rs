//! Tables of names: LaTeX macros and plain words.
use super::token::Kind;
use crate::tree::{Binder, Bracket, Constant, Function, Relation};

/// What a macro does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Macro {
    /// Layout: dropped like white space.
    Space,
    /// Layout that changes nothing, dropped without leaving a space (`\left`, `\displaystyle`).
    Skip,
    /// Takes a braced argument that is text (or an upright letter).
    Text,
    /// A token.
    Token(Kind),
}

use Kind::{Accent, Close, Name, Open};
use Macro::{Skip, Space, Text, Token};

const fn f(function: Function) -> Macro {
    Token(Kind::Function(function))
}

const fn r(relation: Relation) -> Macro {
    Token(Kind::Relation(relation))
}

const fn c(constant: Constant) -> Macro {
    Token(Kind::Constant(constant))
}

const fn n(name: &'static str) -> Macro {
    Token(Name(name))
}

const fn a(accent: &'static str) -> Macro {
    Token(Accent(accent))
}

/// Macros by name, in byte order.
const MACROS: &[(&str, Macro)] = &[
    ("Alpha", n("Alpha")),
    ("Beta", n("Beta")),
    ("Big", Skip),
    ("Bigg", Skip),
    ("Biggl", Skip),
    ("Biggr", Skip),
    ("Bigl", Skip),
    ("Bigr", Skip),
    ("Delta", n("Delta")),
    ("Gamma", n("Gamma")),
    ("Im", f(Function::Im)),
    ("Lambda", n("Lambda")),
    ("Large", Skip),
    ("Leftrightarrow", r(Relation::To)),
    ("Longrightarrow", r(Relation::To)),
    ("Omega", n("Omega")),
    ("Phi", n("Phi")),
    ("Pi", n("Pi")),
    ("Psi", n("Psi")),
    ("Re", f(Function::Re)),
    ("Rightarrow", r(Relation::To)),
    ("Sigma", n("Sigma")),
    ("Theta", n("Theta")),
    ("Upsilon", n("Upsilon")),
    ("Xi", n("Xi")),
    ("acos", f(Function::Arccos)),
    ("aleph", n("aleph")),
    ("alpha", n("alpha")),
    ("angle", n("angle")),
    ("approx", r(Relation::Approximately)),
    ("arccos", f(Function::Arccos)),
    ("arccot", f(Function::Arccot)),
    ("arccsc", f(Function::Arccsc)),
    ("arcosh", f(Function::Arcosh)),
    ("arcsec", f(Function::Arcsec)),
    ("arcsin", f(Function::Arcsin)),
    ("arctan", f(Function::Arctan)),
    ("arsinh", f(Function::Arsinh)),
    ("artanh", f(Function::Artanh)),
    ("asin", f(Function::Arcsin)),
    ("ast", Token(Kind::Times)),
    ("atan", f(Function::Arctan)),
    ("backslash", Token(Kind::Difference)),
    ("bar", a("bar")),
    ("begin", Token(Kind::Begin)),
    ("beta", n("beta")),
    ("bf", Skip),
    ("big", Skip),
    ("bigcap", Token(Kind::Intersection)),
    ("bigcup", Token(Kind::Union)),
    ("bigg", Skip),
    ("biggl", Skip),
    ("biggr", Skip),
    ("bigl", Skip),
    ("bigr", Skip),
    ("binom", Token(Kind::Binomial)),
    ("bm", Text),
    ("bmod", Token(Kind::Mod)),
    ("boldsymbol", Text),
    ("boxed", Skip),
    ("cap", Token(Kind::Intersection)),
    ("cdot", Token(Kind::Times)),
    ("cdots", Token(Kind::Dots)),
    ("cfrac", Token(Kind::Frac)),
    ("chi", n("chi")),
    ("choose", Token(Kind::Choose)),
    ("circ", Token(Kind::Degree)),
    ("colon", Token(Kind::Colon)),
    ("color", Space),
    ("cong", r(Relation::Congruent)),
    ("cos", f(Function::Cos)),
    ("cosh", f(Function::Cosh)),
    ("cot", f(Function::Cot)),
    ("coth", f(Function::Coth)),
    ("csc", f(Function::Csc)),
    ("csch", f(Function::Csch)),
    ("cup", Token(Kind::Union)),
    ("dbinom", Token(Kind::Binomial)),
    ("ddot", a("ddot")),
    ("degree", Token(Kind::Degree)),
    ("delta", n("delta")),
    ("dfrac", Token(Kind::Frac)),
    ("displaystyle", Skip),
    ("div", Token(Kind::Divide)),
    ("dot", a("dot")),
    ("dots", Token(Kind::Dots)),
    ("dotsb", Token(Kind::Dots)),
    ("dotsc", Token(Kind::Dots)),
    ("ell", n("ell")),
    ("emptyset", c(Constant::EmptySet)),
    ("end", Token(Kind::End)),
    ("ensuremath", Skip),
    ("epsilon", n("epsilon")),
    ("equiv", r(Relation::Congruent)),
    ("eta", n("eta")),
    ("exp", f(Function::Exp)),
    ("fbox", Skip),
    ("frac", Token(Kind::Frac)),
    ("gamma", n("gamma")),
    ("gcd", f(Function::Gcd)),
    ("ge", r(Relation::GreaterEqual)),
    ("geq", r(Relation::GreaterEqual)),
    ("geqq", r(Relation::GreaterEqual)),
    ("geqslant", r(Relation::GreaterEqual)),
    ("gt", r(Relation::Greater)),
    ("hat", a("hat")),
    ("hbar", n("hbar")),
    ("hfill", Space),
    ("hline", Space),
    ("hphantom", Space),
    ("hspace", Space),
    ("huge", Skip),
    ("iff", r(Relation::To)),
    ("iint", Token(Kind::Binder(Binder::Integral))),
    ("implies", r(Relation::To)),
    ("in", r(Relation::In)),
    ("infty", c(Constant::Infinity)),
    ("int", Token(Kind::Binder(Binder::Integral))),
    ("iota", n("iota")),
    ("it", Skip),
    ("kappa", n("kappa")),
    ("lambda", n("lambda")),
    ("land", Token(Kind::And)),
    ("langle", Token(Open(Bracket::Angle))),
    ("large", Skip),
    ("lbrace", Token(Kind::OpenSet)),
    ("lbrack", Token(Open(Bracket::Square))),
    ("lceil", Token(Kind::OpenCeil)),
    ("ldots", Token(Kind::Dots)),
    ("le", r(Relation::LessEqual)),
    ("left", Skip),
    ("leq", r(Relation::LessEqual)),
    ("leqq", r(Relation::LessEqual)),
    ("leqslant", r(Relation::LessEqual)),
    ("lfloor", Token(Kind::OpenFloor)),
    ("lg", Token(Kind::LogTen)),
    ("lim", Token(Kind::Binder(Binder::Limit))),
    ("limits", Skip),
    ("ln", f(Function::Ln)),
    ("log", Token(Kind::Log)),
    ("longrightarrow", r(Relation::To)),
    ("lor", Token(Kind::Or)),
    ("lparen", Token(Open(Bracket::Round))),
    ("lt", r(Relation::Less)),
    ("lvert", Token(Kind::OpenBar)),
    ("mathbb", Text),
    ("mathbf", Text),
    ("mathcal", Text),
    ("mathfrak", Text),
    ("mathit", Text),
    ("mathrm", Text),
    ("mathscr", Text),
    ("mathsf", Text),
    ("mathstrut", Space),
    ("mathtt", Text),
    ("max", f(Function::Max)),
    ("mbox", Text),
    ("measuredangle", n("angle")),
    ("medspace", Space),
    ("mid", Token(Kind::Mid)),
    ("middle", Skip),
    ("min", f(Function::Min)),
    ("mod", Token(Kind::Mod)),
    ("mp", Token(Kind::MinusPlus)),
    ("mu", n("mu")),
    ("nabla", n("nabla")),
    ("ne", r(Relation::NotEqual)),
    ("neq", r(Relation::NotEqual)),
    ("nicefrac", Token(Kind::Frac)),
    ("nolimits", Skip),
    ("nonumber", Space),
    ("normalsize", Skip),
    ("not", Token(Kind::Not)),
    ("notin", r(Relation::NotIn)),
    ("nu", n("nu")),
    ("omega", n("omega")),
    ("omicron", n("omicron")),
    ("operatorname", Text),
    ("over", Token(Kind::Over)),
    ("overleftrightarrow", a("overline")),
    ("overline", a("overline")),
    ("overrightarrow", a("vec")),
    ("partial", n("partial")),
    ("phantom", Space),
    ("phi", n("phi")),
    ("pi", c(Constant::Pi)),
    ("pm", Token(Kind::PlusMinus)),
    ("pmod", Token(Kind::ParenthesisedMod)),
    ("prime", Token(Kind::Prime)),
    ("prod", Token(Kind::Binder(Binder::Product))),
    ("psi", n("psi")),
    ("qquad", Space),
    ("quad", Space),
    ("rangle", Token(Close(Bracket::Angle))),
    ("rbrace", Token(Kind::CloseSet)),
    ("rbrack", Token(Close(Bracket::Square))),
    ("rceil", Token(Kind::CloseCeil)),
    ("rfloor", Token(Kind::CloseFloor)),
    ("rho", n("rho")),
    ("right", Skip),
    ("rightarrow", r(Relation::To)),
    ("rm", Skip),
    ("rparen", Token(Close(Bracket::Round))),
    ("rvert", Token(Kind::CloseBar)),
    ("scriptstyle", Skip),
    ("sec", f(Function::Sec)),
    ("sech", f(Function::Sech)),
    ("setminus", Token(Kind::Difference)),
    ("sf", Skip),
    ("sfrac", Token(Kind::Frac)),
    ("sigma", n("sigma")),
    ("sim", r(Relation::Approximately)),
    ("simeq", r(Relation::Approximately)),
    ("sin", f(Function::Sin)),
    ("sinh", f(Function::Sinh)),
    ("small", Skip),
    ("smallsetminus", Token(Kind::Difference)),
    ("sqrt", Token(Kind::Root)),
    ("star", Token(Kind::Times)),
    ("subset", r(Relation::Subset)),
    ("subseteq", r(Relation::Subset)),
    ("sum", Token(Kind::Binder(Binder::Sum))),
    ("tan", f(Function::Tan)),
    ("tanh", f(Function::Tanh)),
    ("tau", n("tau")),
    ("tbinom", Token(Kind::Binomial)),
    ("text", Text),
    ("textbf", Text),
    ("textcolor", Space),
    ("textit", Text),
    ("textnormal", Text),
    ("textrm", Text),
    ("textsc", Text),
    ("textsf", Text),
    ("textstyle", Skip),
    ("texttt", Text),
    ("tfrac", Token(Kind::Frac)),
    ("therefore", Space),
    ("theta", n("theta")),
    ("thickspace", Space),
    ("thinspace", Space),
    ("tilde", a("tilde")),
    ("times", Token(Kind::Times)),
    ("to", r(Relation::To)),
    ("triangle", n("triangle")),
    ("tt", Skip),
    ("underline", Skip),
    ("upsilon", n("upsilon")),
    ("varepsilon", n("epsilon")),
    ("varnothing", c(Constant::EmptySet)),
    ("varphi", n("varphi")),
    ("varrho", n("rho")),
    ("vartheta", n("theta")),
    ("vec", a("vec")),
    ("vee", Token(Kind::Or)),
    ("vert", Token(Kind::Bar)),
    ("wedge", Token(Kind::And)),
    ("widehat", a("hat")),
    ("widetilde", a("tilde")),
    ("xi", n("xi")),
    ("zeta", n("zeta")),
];

/// Plain words that mean something, in byte order.
const WORDS: &[(&str, Kind)] = &[
    ("Abs", Kind::Function(Function::Abs)),
    ("GCD", Kind::Function(Function::Gcd)),
    ("LCM", Kind::Function(Function::Lcm)),
    ("Sqrt", Kind::Root),
    ("abs", Kind::Function(Function::Abs)),
    ("acos", Kind::Function(Function::Arccos)),
    ("alpha", Name("alpha")),
    ("and", Kind::And),
    ("arccos", Kind::Function(Function::Arccos)),
    ("arccot", Kind::Function(Function::Arccot)),
    ("arccsc", Kind::Function(Function::Arccsc)),
    ("arcsec", Kind::Function(Function::Arcsec)),
    ("arcsin", Kind::Function(Function::Arcsin)),
    ("arctan", Kind::Function(Function::Arctan)),
    ("asin", Kind::Function(Function::Arcsin)),
    ("atan", Kind::Function(Function::Arctan)),
    ("beta", Name("beta")),
    ("binom", Kind::Binomial),
    ("binomial", Kind::Binomial),
    ("cbrt", Kind::Root),
    ("ceil", Kind::Function(Function::Ceil)),
    ("ceiling", Kind::Function(Function::Ceil)),
    ("cos", Kind::Function(Function::Cos)),
    ("cosh", Kind::Function(Function::Cosh)),
    ("cot", Kind::Function(Function::Cot)),
    ("csc", Kind::Function(Function::Csc)),
    ("delta", Name("delta")),
    ("epsilon", Name("epsilon")),
    ("exp", Kind::Function(Function::Exp)),
    ("factorial", Kind::Function(Function::Factorial)),
    ("floor", Kind::Function(Function::Floor)),
    ("gamma", Name("gamma")),
    ("gcd", Kind::Function(Function::Gcd)),
    ("inf", Kind::Constant(Constant::Infinity)),
    ("infinity", Kind::Constant(Constant::Infinity)),
    ("infty", Kind::Constant(Constant::Infinity)),
    ("lambda", Name("lambda")),
    ("lcm", Kind::Function(Function::Lcm)),
    ("lg", Kind::LogTen),
    ("ln", Kind::Function(Function::Ln)),
    ("log", Kind::Log),
    ("max", Kind::Function(Function::Max)),
    ("min", Kind::Function(Function::Min)),
    ("mod", Kind::Mod),
    ("omega", Name("omega")),
    ("oo", Kind::Constant(Constant::Infinity)),
    ("or", Kind::Or),
    ("phi", Name("phi")),
    ("pi", Kind::Constant(Constant::Pi)),
    ("rho", Name("rho")),
    ("sec", Kind::Function(Function::Sec)),
    ("sech", Kind::Function(Function::Sech)),
    ("sgn", Kind::Function(Function::Sign)),
    ("sigma", Name("sigma")),
    ("sin", Kind::Function(Function::Sin)),
    ("sinh", Kind::Function(Function::Sinh)),
    ("sqrt", Kind::Root),
    ("tan", Kind::Function(Function::Tan)),
    ("tanh", Kind::Function(Function::Tanh)),
    ("tau", Name("tau")),
    ("theta", Name("theta")),
];

/// The meaning of a macro, by its name without the backslash.
pub(crate) fn macro_named(name: &str) -> Option<Macro> {
    MACROS
        .binary_search_by_key(&name, |(known, _)| known)
        .ok()
        .map(|at| MACROS[at].1)
}

/// The meaning of a plain word.
pub(crate) fn word_named(word: &str) -> Option<Kind> {
    WORDS
        .binary_search_by_key(&word, |(known, _)| known)
        .ok()
        .map(|at| WORDS[at].1)
}

/// The number that a word such as `eight` names, for bases.
pub(crate) fn number_word(word: &str) -> Option<u32> {
    const NAMES: [&str; 17] = [
        "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
        "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen",
    ];
    NAMES
        .iter()
        .position(|name| name.eq_ignore_ascii_case(word))
        .map(|at| at as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sorted() {
        assert!(
            MACROS.windows(2).all(|pair| pair[0].0 < pair[1].0),
            "{:?}",
            MACROS.windows(2).find(|pair| pair[0].0 >= pair[1].0)
        );
        assert!(WORDS.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }
}
