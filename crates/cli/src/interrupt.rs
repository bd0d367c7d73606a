//! Ctrl-C and SIGTERM: once finishes the step and writes a checkpoint, twice stops at once.

use crate::exit;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Set by the first Ctrl-C (or SIGTERM); the second ends the process.
///
/// # Errors
/// If the operating system refuses the handler.
pub(crate) fn stop_flag() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::SeqCst) {
            // Model folders appear by renaming, so stopping here leaves no half-written one.
            std::process::exit(i32::from(exit::INTERRUPTED));
        }
        tracing::warn!(
            "stopping after this step; press Ctrl-C again to stop at once, without saving"
        );
    })?;
    Ok(stop)
}
