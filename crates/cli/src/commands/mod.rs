//! One module a command: its arguments and what it does with the libraries.

pub(crate) mod bench;
pub(crate) mod compare;
pub(crate) mod data;
pub(crate) mod eval;
pub(crate) mod explain;
pub(crate) mod generate;
pub(crate) mod hint;
pub(crate) mod merge;
pub(crate) mod serve;
pub(crate) mod train;
pub(crate) mod verify;

use crate::args::Command;
use crate::exit::{self, Unusable};
use crate::output::Output;
use seele_hub::HubError;
use seele_policy::error::LoadError;
use seele_train::checkpoint::CheckpointError;
use seele_train::error::TrainError;
use seele_train::recipe::{MaterialsError, ProblemsError, RecipeError};
use seele_train::speed::SpeedError;

/// Runs a command; the value is the exit code.
///
/// # Errors
/// Whatever stopped the command, with context.
pub(crate) fn run(command: Command, output: &Output) -> anyhow::Result<u8> {
    match command {
        Command::Bench(args) => bench::run(&args, output),
        Command::Train(args) => train::run(&args, output),
        Command::Compare(args) => compare::run(&args, output),
        Command::Data(args) => data::run(&args, output),
        Command::Eval(args) => eval::run(&args, output),
        Command::Generate(args) => generate::run(&args, output),
        Command::Serve(args) => serve::run(&args, output),
        Command::Hint(args) => hint::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Merge(args) => merge::run(&args, output),
        Command::Explain(args) => explain::run(&args),
    }
}

/// The exit code of an error: what cannot be used is a matter of usage, and nothing was started.
pub(crate) fn exit_code(error: &anyhow::Error) -> u8 {
    let is_usage = |cause: &(dyn std::error::Error + 'static)| {
        cause.is::<RecipeError>()
            || cause.is::<MaterialsError>()
            || cause.is::<LoadError>()
            || cause.is::<ProblemsError>()
            || cause.is::<Unusable>()
            || cause
                .downcast_ref::<HubError>()
                .is_some_and(|error| !error.is_failure())
            || cause
                .downcast_ref::<CheckpointError>()
                .is_some_and(CheckpointError::is_unusable)
            || cause
                .downcast_ref::<TrainError>()
                .is_some_and(TrainError::is_unusable)
            || cause
                .downcast_ref::<SpeedError>()
                .is_some_and(SpeedError::is_unusable)
    };
    if error.chain().any(is_usage) {
        exit::USAGE
    } else {
        exit::FAILED
    }
}
