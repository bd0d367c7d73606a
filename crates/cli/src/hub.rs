//! Places on the Hugging Face hub, brought to this machine in sight of the user.
//!
//! Every path of a command or recipe that names a model or problems goes through [`local`].

use crate::numbers::{bytes, thousands};
use crate::output::Output;
use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use seele_eval::Benchmark;
use seele_hub::{Fetched, Hub, HubError, HubPath, Kind, Progress, Settings, Watch};
use seele_policy::config::ModelConfig;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Without a terminal, a line says this often how far it is.
const LINE_EVERY: Duration = Duration::from_secs(30);
/// Less is not worth a word.
const WORTH_SAYING: u64 = 1 << 20;

/// The one hub of this process: what a revision is, is asked once, so that a command which opens a place
/// many times reads the same files each time.
static HUB: OnceLock<Hub> = OnceLock::new();

fn hub() -> Result<&'static Hub, HubError> {
    match HUB.get() {
        Some(hub) => Ok(hub),
        None => {
            let hub = Hub::new(Settings::from_environment()?)?;
            Ok(HUB.get_or_init(|| hub))
        }
    }
}

/// What lies on the hub by the name `given`, brought to the cache; `None` if `given` is a path.
///
/// # Errors
/// [`HubError`], which says what to do.
pub(crate) fn fetch(kind: Kind, given: &Path, output: &Output) -> anyhow::Result<Option<Fetched>> {
    let Some(name) = given.to_str().filter(|_| HubPath::is_one(given)) else {
        return Ok(None);
    };
    let place = HubPath::parse(kind, name)?;
    let mut shown = Shown::new(output);
    let fetched = hub()?.fetch(&place, &mut shown);
    shown.end();
    Ok(Some(
        fetched.with_context(|| format!("cannot have `{place}`"))?,
    ))
}

/// The file or folder that `given` is or stands for.
///
/// # Errors
/// As [`fetch`].
pub(crate) fn local(kind: Kind, given: &Path, output: &Output) -> anyhow::Result<PathBuf> {
    let fetched = fetch(kind, given, output)?;
    Ok(fetched.map_or_else(|| given.to_path_buf(), |fetched| fetched.path))
}

/// Brings a benchmark's files that are named on the hub to this machine, unless one that is named before them
/// lies in the data folder.
///
/// # Errors
/// As [`fetch`].
pub(crate) fn bring_files(
    benchmark: &mut Benchmark,
    folder: &Path,
    output: &Output,
) -> anyhow::Result<()> {
    for file in &mut benchmark.files {
        if folder.join(&*file).is_file() {
            break;
        }
        *file = local(Kind::DataSet, file, output)
            .with_context(|| format!("benchmark `{}`", benchmark.name))?;
    }
    Ok(())
}

/// Shows transfers: a bar on a terminal, a line now and then elsewhere.
struct Shown<'a> {
    output: &'a Output,
    bar: Option<ProgressBar>,
    last_line: Instant,
}

impl<'a> Shown<'a> {
    fn new(output: &'a Output) -> Self {
        Self {
            output,
            bar: None,
            last_line: Instant::now(),
        }
    }

    fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Watch for Shown<'_> {
    fn begins(&mut self, place: &HubPath, files: usize, size: u64) {
        self.end();
        if size >= WORTH_SAYING {
            let files = thousands(files as u64);
            tracing::info!("fetching {} of {place}, {files} files", bytes(size));
        }
        self.last_line = Instant::now();
        self.bar = self.output.bars.then(|| {
            let bar = self.output.progress.add(ProgressBar::new(size));
            // A constant with known placeholders; a default style is the fallback.
            let style = "{bar:16} {bytes} of {total_bytes}, {bytes_per_sec}, ETA {eta}  {msg}";
            let style = ProgressStyle::with_template(style)
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            bar.set_style(style.progress_chars("=> "));
            bar
        });
    }

    fn progress(&mut self, progress: Progress<'_>) {
        if let Some(bar) = &self.bar {
            bar.set_position(progress.done);
            bar.set_message(progress.file.to_owned());
        } else if self.last_line.elapsed() >= LINE_EVERY {
            self.last_line = Instant::now();
            let (done, total) = (bytes(progress.done), bytes(progress.total));
            tracing::info!("{}: {done} of {total}", progress.file);
        }
    }

    fn trouble(&mut self, file: &str, reason: &str) {
        tracing::warn!("{file}: {reason}; trying again");
    }

    fn unreachable(&mut self, pinned: &HubPath, reason: &str) {
        tracing::warn!("cannot reach the hub ({reason}); taking {pinned}, which is in the cache");
    }

    fn settings(&mut self, folder: &Path) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        ModelConfig::from_file(&folder.join("config.json"))?;
        Ok(())
    }
}
