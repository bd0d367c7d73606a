//! Recipes.
mod error;
mod layers;
mod node;
mod parse;
mod read;
mod write;

pub use error::{RecipeError, nearest};
pub use node::Origin;
