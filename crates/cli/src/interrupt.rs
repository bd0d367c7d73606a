//! Ctrl-C and SIGTERM: once ends the work in an orderly way, twice ends the process at once.

use crate::exit;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Calls `first` at the first Ctrl-C (or SIGTERM); the second ends the process.
///
/// # Errors
/// If the operating system refuses the handler.
pub(crate) fn listen(mut first: impl FnMut() + Send + 'static) -> anyhow::Result<()> {
    let mut asked = false;
    ctrlc::set_handler(move || {
        if std::mem::replace(&mut asked, true) {
            // Files appear by renaming or line by line, so stopping here leaves nothing half-written.
            std::process::exit(i32::from(exit::INTERRUPTED));
        }
        first();
    })?;
    Ok(())
}

/// Set by the first Ctrl-C (or SIGTERM), with a word on what happens now; the second ends the process.
///
/// # Errors
/// If the operating system refuses the handler.
pub(crate) fn stop_flag(message: &'static str) -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    listen(move || {
        flag.store(true, Ordering::SeqCst);
        tracing::warn!("{message}");
    })?;
    Ok(stop)
}
