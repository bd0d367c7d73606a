//! Exact symbolic arithmetic: rational functions over Q in *generators*.
//!
//! A generator is a symbol, a prime under a root, `pi`, a root of unity, an exponential of a monomial,
//! a logarithm, or any other function with its arguments in canonical form. Exponents of generators
//! are rational, so `\sqrt{12}` is `2 * 3^{1/2}` and `1/\sqrt{3}` is `1/3 * 3^{1/2}`; sines and cosines
//! become exponentials, so their addition theorems are plain arithmetic. Two expressions whose
//! difference has an empty numerator are equal; the converse does not hold for every function, so a
//! difference that stays proves nothing by itself.
mod build;
mod cyclotomic;
mod exponent;
mod functions;
mod generators;
mod polynomial;
mod powers;
mod quotient;

pub(crate) use build::{Algebra, rational_value};
pub(crate) use polynomial::Polynomial;
