//! One module a command: its arguments and what it does with the libraries.

pub(crate) mod train;

use crate::args::Command;
use crate::exit;
use crate::output::Output;
use seele_train::recipe::RecipeError;

/// Runs a command; the value is the exit code.
///
/// # Errors
/// Whatever stopped the command, with context.
pub(crate) fn run(command: Command, output: &Output) -> anyhow::Result<u8> {
    match command {
        Command::Train(args) => train::run(&args, output),
    }
}

/// The exit code of an error: a recipe that cannot be used is a matter of usage.
pub(crate) fn exit_code(error: &anyhow::Error) -> u8 {
    let usage = error
        .chain()
        .any(|cause| cause.is::<RecipeError>() || cause.is::<clap::Error>());
    if usage { exit::USAGE } else { exit::FAILED }
}
