//! Is this answer right? Extraction of answers from model output, mathematical equivalence, and the
//! rewards made of both.
//!
//! A reward that is wrong teaches wrong things. Checkers that compare strings miss equivalent answers;
//! those that ask an algebra system accept wrong ones, hang on hostile input, or fail silently outside
//! the main thread. This one parses both answers to exact expressions and says *correct* only for what
//! is equal; it needs no regular expressions, no global state and no time limit, because its work is
//! counted in steps.
//!
//! ```
//! use seele_verify::{verify, Options, Verdict};
//! let options = Options::default();
//! let grade = verify(r"The roots are \boxed{x = 3 \text{ or } x = -1}.", r"\{-1, 3\}", &options);
//! assert_eq!(grade.verdict, Verdict::Correct);
//! let grade = verify(r"About \boxed{0.333}.", r"\frac{1}{3}", &options);
//! assert_eq!(grade.verdict, Verdict::Wrong);
//! ```
//!
//! # Two operations
//!
//! [`extract`] finds the answer in a response ([`Extraction`] says where), [`equal`] compares it with the
//! gold ([`Mode`] says how); [`verify`] does both and [`explain`] says why. Before a training run,
//! [`check_gold`] tells which golds can be judged at all. All are pure functions of their arguments.
//!
//! # Rules
//!
//! Each line holds as it stands, both ways round; `=` is "equal", `!` is "not equal".
//!
//! ```
//! # use seele_verify::{equal, Options};
//! # let rules = r"
//! numbers             1/2                   =  \frac{2}{4}
//! exact decimals      0.5                   =  \frac12
//! no rounding         1/3                   !  0.3333
//! repeating           1/3                   =  0.\overline{3}
//! mixed numbers       2\frac{1}{2}          =  5/2
//! not glued           2 1/2                 !  21/2
//! thousands           1,\!250               =  1250
//! a list is no number 58,500                !  58, 500
//! powers of ten       4.5e33                =  4.5 \times 10^{33}
//! unevaluated         105                   =  2^7 - 23
//! roots               2\sqrt{3}             =  \frac{6}{\sqrt{3}}
//! nested roots        1+\sqrt{2}            =  \sqrt{3+2\sqrt{2}}
//! constants           \frac{\pi}{4}         =  \arctan 1
//! complex numbers     1+i\sqrt{3}           =  2e^{i\pi/3}
//! expressions         (x+1)^2               =  x^2+2x+1
//! case counts         2n                    !  2N
//! trigonometry        \sin 2x               =  2\sin x\cos x
//! exponentials        2^{n+1}               =  2 \cdot 2^n
//! logarithms          \log_2 9              =  \frac{2\ln 3}{\ln 2}
//! absolute value      |x|                   =  \sqrt{x^2}
//! or not              x                     !  \sqrt{x^2}
//! implied products    x/2                   =  1/2x
//! minus binds last    -4                    =  -2^2
//! towers stay         2^{10^9}              !  2^{10^9}+1
//! labels              5                     =  x = 5
//! function labels     f(x)=2x               =  2x
//! tuples are ordered  (1,2)                 !  (2,1)
//! lists are not       1,-2                  =  x=-2 \text{ or } x=1
//! braces              \{1,2\}               =  2, 1
//! plus-minus          1\pm\sqrt{2}          =  \{1-\sqrt{2}, 1+\sqrt{2}\}
//! assignments         x=1, y=2              =  (1,2)
//! intervals           [0,1)                 =  0 \le x < 1
//! unions              (2,\infty)\cup(-1,0]  =  (-1,0] \cup (2,\infty)
//! punctured line      x \ne 0               =  (-\infty,0)\cup(0,\infty)
//! inequalities        2 < x                 =  -2x < -4
//! equations           y=2x+3                =  4x-2y+6=0
//! matrices            \begin{pmatrix}2\\4\end{pmatrix}  =  2\begin{bmatrix}1\\2\end{bmatrix}
//! determinants        -2                    =  \begin{vmatrix}1&2\\3&4\end{vmatrix}
//! missing units       5\text{ km}           =  5
//! same units          15\text{ cm}^2        =  15 \text{ square centimeters}
//! other units         5\text{ km}           !  5\text{ miles}
//! money               \$36                  =  36.00 \text{ dollars}
//! percent             50\%                  =  0.5
//! percent sign        50\%                  =  50
//! a bare number       0.5                   !  50
//! degrees             90^\circ              =  90
//! radians             \frac{\pi}{2}         =  90^\circ
//! bases               52_8                  =  101010_2
//! other bases         52_8                  !  52_9
//! ratios              3:4                   =  6:8
//! times of day        4:30 \text{ p.m.}     =  \text{4:30 PM}
//! words               \text{east}           =  East.
//! no hedging          \text{east}           !  \text{east or west}
//! approximate signs   5                     =  x \approx 5.0
//! naming texts        5                     =  \text{The area is } 5
//! boxes and bold      5                     =  **\boxed{5}**
//! loose ends          5                     =  5,
//! ordinals            5                     =  5^{\text{th}}
//! unit quotients      10\text{ m/s}         =  10 m/s
//! angles in radians   30^\circ              =  \frac{\pi}{6} \text{ rad}
//! bases in words      204_5                 =  204 \text{ (base 5)}
//! ratios of segments  2                     =  \frac{AB}{CD} = 2
//! named points        (1,2)                 =  P(1,2)
//! named probabilities \frac{1}{3}           =  P(X=2) = \frac{1}{3}
//! gamma function      (n+1)!                =  \Gamma(n+2)
//! sets in words       \mathbb{R}            =  \text{all real numbers}
//! decorated letters   \text{(C)}            =  C)
//! residues            n \equiv 1 \pmod 3    =  n \equiv 4 \pmod{3}
//! # ";
//! # for rule in rules.lines().filter(|line| !line.trim().is_empty()) {
//! #     let (gold, sign, answer) = rule
//! #         .split_once("  =  ").map(|(left, right)| (left, true, right))
//! #         .or_else(|| rule.split_once("  !  ").map(|(left, right)| (left, false, right)))
//! #         .unwrap();
//! #     let (gold, answer) = (gold.get(20..).unwrap().trim(), answer.trim());
//! #     assert_eq!(equal(gold, answer, &Options::default()), sign, "{rule}");
//! #     assert_eq!(equal(answer, gold, &Options::default()), sign, "{rule}, turned round");
//! # }
//! ```
//!
//! # How equality is decided
//!
//! 1. **Text**: the same text is the same answer; two plain numbers are compared as they stand.
//! 2. **Reading**: a lexer and a Pratt parser turn LaTeX and plain notation into one tree for both sides;
//!    recursion and tokens are bounded.
//! 3. **Kinds**: tuples, lists, sets of reals, matrices and relations are compared part by part.
//! 4. **Values**, cheapest first: exact rational arithmetic; refutation in double intervals at fixed
//!    points; exact canonical forms (rational functions in symbols, roots, `pi`, exponentials, logarithms,
//!    roots of unity); at last, intervals of several hundred bits, which refute, or agree to more digits at
//!    more points than two different expressions of that size can. What survives all that without being
//!    proven is *wrong*.
//!
//! Work is counted in steps ([`Options::fuel`]), never in seconds, so a verdict is the same on every
//! machine. Hostile answers (deep nesting, power towers, huge factorials) cost microseconds to a few
//! milliseconds and memory proportional to the text.
//!
//! # Rewards
//!
//! [`reward`] turns verdicts into what a trainer needs: a value for each rollout, or none to leave it
//! out; shaping by length and form; and rewards computed by a program or service of the user's.
#![forbid(unsafe_code)]

mod algebra;
mod compare;
mod explain;
mod extract;
mod fuel;
mod gcd;
mod grader;
mod number;
mod numeric;
mod options;
pub mod reward;
mod syntax;
mod tree;
mod verdict;

pub use compare::{Comparison, GoldError, check_gold};
pub use explain::{AnswerKind, Explanation, answer_kind, explain};
pub use extract::extract;
pub use grader::{compare_answers, equal, verify, verify_choice};
pub use options::{Extraction, Mode, Options};
pub use verdict::{Grade, Reason, Verdict};
