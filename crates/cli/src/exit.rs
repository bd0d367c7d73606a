//! Exit codes. `seele --help` lists them.

use std::fmt;

/// Everything asked for was done.
pub(crate) const DONE: u8 = 0;
/// Something failed while working.
pub(crate) const FAILED: u8 = 1;
/// Wrong arguments, or a recipe, model, data or folder that cannot be used; nothing was started.
/// (The argument parser uses the same code.)
pub(crate) const USAGE: u8 = 2;
/// Stopped by Ctrl-C or SIGTERM: after one, the current step was finished and a checkpoint written; after
/// two, at once.
pub(crate) const INTERRUPTED: u8 = 130;

/// The end of `seele --help`.
pub(crate) const HELP: &str = "\
Exit codes:
  0    done
  1    failed while working
  2    wrong arguments, or an unusable recipe, model or data; nothing was started
  130  stopped by Ctrl-C or SIGTERM (once: the step was finished and a checkpoint written; twice: at once)

Results go to standard output, everything else to standard error. NO_COLOR=1 turns colours off.";

/// Something that was asked for and cannot be used as it is: ends with [`USAGE`].
#[derive(Debug)]
pub(crate) struct Unusable(pub(crate) String);

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unusable {}
