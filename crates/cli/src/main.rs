//! The `seele` command: arguments, messages and exit codes around the libraries.
#![forbid(unsafe_code)]

mod args;
mod commands;
mod device;
mod exit;
mod hub;
mod interrupt;
mod model_place;
mod numbers;
mod output;
mod plots;
mod progress;
mod report;
mod run_folder;
mod sampling;
mod server_args;

use args::Cli;
use clap::Parser;
use output::Output;
use std::process::ExitCode;

/// Training frees and takes the same large buffers over and over; this allocator keeps them, where the
/// system's gives them back and pays for every page again. Its feature `no_thp` keeps it from asking for huge
/// pages everywhere, which made the memory of small models jump by MiB; large buffers ask for themselves.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let output = Output::start(cli.quiet, cli.verbose);
    ExitCode::from(match commands::run(cli.command, &output) {
        Ok(code) => code,
        Err(error) => {
            output.error(&error);
            commands::exit_code(&error)
        }
    })
}
