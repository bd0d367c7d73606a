//! The `seele` command.
fn main() {}
