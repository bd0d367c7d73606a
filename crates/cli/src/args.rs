//! What the command line accepts.

use crate::commands;
use clap::{ColorChoice, Parser, Subcommand};

/// Train reasoning language models with reinforcement learning from verifiable rewards, keeping every
/// problem at the difficulty where the model learns fastest by revealing just enough of its solution.
#[derive(Debug, Parser)]
#[command(
    name = "seele",
    version,
    max_term_width = 100,
    color = color(),
    arg_required_else_help = true,
    after_help = START,
    after_long_help = format!("{START}\n\n{}", crate::exit::HELP)
)]
pub(crate) struct Cli {
    /// Print only results, warnings and errors.
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
    /// Print what is normally left out, for finding faults.
    #[arg(long, short, global = true, conflicts_with = "quiet")]
    pub(crate) verbose: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Train(commands::train::Args),
    Compare(commands::compare::Args),
    Eval(Box<commands::eval::Args>),
    Generate(Box<commands::generate::Args>),
    Serve(commands::serve::Args),
    Data(Box<commands::data::Args>),
    /// Simulate hint schedules, or fit accuracy-hint curves
    Hint(commands::hint::Args),
    /// Check answers against golds
    Verify(commands::verify::VerifyArgs),
    Merge(commands::merge::Args),
    Explain(commands::explain::Args),
    Bench(Box<commands::bench::Args>),
}

const START: &str = "\
Start here:
  seele train recipes/quickstart.toml            a few minutes on two cores, no download
  seele train recipes/quickstart.toml --dry-run  what it would do
  seele help train                               more about a command";

fn color() -> ColorChoice {
    match std::env::var_os("NO_COLOR") {
        Some(value) if !value.is_empty() => ColorChoice::Never,
        _ => ColorChoice::Auto,
    }
}

#[cfg(test)]
mod tests {
    use super::Cli;
    use clap::CommandFactory;

    #[test]
    fn arguments_do_not_contradict_each_other() {
        Cli::command().debug_assert();
    }
}
