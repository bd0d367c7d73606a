//! Standard error: messages, bars, colours. Results go to standard output and not through here.

use anyhow::Context;
use indicatif::{MultiProgress, ProgressDrawTarget};
use std::fmt;
use std::io::{ErrorKind, IsTerminal, Write};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, MakeWriter};
use tracing_subscriber::registry::LookupSpan;

/// How this process talks on standard error.
#[derive(Clone)]
pub(crate) struct Output {
    /// Colours are wanted: standard error is a terminal and `NO_COLOR` is not set.
    pub(crate) color: bool,
    /// Bars may be drawn.
    pub(crate) bars: bool,
    /// Everything that draws bars draws here, so that messages do not break them.
    pub(crate) progress: MultiProgress,
}

impl Output {
    /// Sets up messages for the process. Call once.
    pub(crate) fn start(quiet: bool, verbose: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let color = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let bars = terminal && !quiet;
        let target = if bars {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let output = Self {
            color,
            bars,
            progress: MultiProgress::with_draw_target(target),
        };
        let level = match (quiet, verbose) {
            (true, _) => LevelFilter::WARN,
            (false, true) => LevelFilter::DEBUG,
            (false, false) => LevelFilter::INFO,
        };
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(level)
            .with_writer(BesideBars(output.progress.clone()))
            .with_ansi(color)
            .event_format(Plain { color })
            .finish();
        // Fails only if a subscriber is set already, which then keeps the messages.
        let _ = tracing::subscriber::set_global_default(subscriber);
        output
    }

    /// Prints an error with its causes: `error: what\n  because: why`.
    pub(crate) fn error(&self, error: &anyhow::Error) {
        let mut text = format!("{} {error}\n", self.paint("error:", "1;31"));
        let mut above = error.to_string();
        for cause in error.chain().skip(1) {
            let cause = cause.to_string();
            // Wrapping errors that repeat their source would say everything twice.
            if !above.contains(&cause) {
                text.push_str(&format!("  because: {cause}\n"));
            }
            above = cause;
        }
        self.progress.suspend(|| {
            let _ = std::io::stderr().write_all(text.as_bytes());
        });
    }

    fn paint(&self, text: &str, code: &str) -> String {
        if self.color {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.into()
        }
    }
}

/// Writes a result to standard output. A reader that has seen enough (`| head`) is no error.
///
/// # Errors
/// If standard output cannot be written for another reason.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output")
        }
        _ => Ok(()),
    }
}

/// Writes between redraws of the bars.
struct BesideBars(MultiProgress);

impl<'a> MakeWriter<'a> for BesideBars {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line {
            progress: self.0.clone(),
            text: Vec::new(),
        }
    }
}

/// One message, written whole when dropped.
struct Line {
    progress: MultiProgress,
    text: Vec<u8>,
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.progress.suspend(|| {
            let _ = std::io::stderr().write_all(&self.text);
        });
    }
}

/// Messages without time and module: this is a command, not a service.
struct Plain {
    color: bool,
}

impl<S, N> FormatEvent<S, N> for Plain
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let (label, code) = match *event.metadata().level() {
            Level::ERROR => ("error: ", "1;31"),
            Level::WARN => ("warning: ", "1;33"),
            Level::INFO => ("", ""),
            _ => ("debug: ", "2"),
        };
        if self.color && !label.is_empty() {
            write!(writer, "\x1b[{code}m{label}\x1b[0m")?;
        } else {
            writer.write_str(label)?;
        }
        context
            .field_format()
            .format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}
