//! `seele data annotate`: stepwise solutions from a server.

use super::{Input, unusable};
use crate::exit::{self, Unusable};
use crate::interrupt;
use crate::model_place;
use crate::numbers::{duration, thousands};
use crate::output::{Output, print};
use crate::server_args::ServerArgs;
use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use seele_annotate::{
    ANNOTATED, AnnotateError, Annotation, Header, Journal, Progress, REJECTED, Rules, Verdict,
    write_results,
};
use seele_client::Outcome;
use seele_data::{BoxError, Problem};
use seele_policy::model::ModelFiles;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// File of all answers in the output folder.
const JOURNAL: &str = "journal.jsonl";
/// Without a terminal, a line says this often how far it is.
const LINE_EVERY: Duration = Duration::from_secs(30);
/// What the first Ctrl-C says.
const STOPPING: &str = "stopping when the questions under way are answered; press Ctrl-C again to stop at once (no answer so far is lost)";

/// Let a server write a stepwise solution for every problem.
///
/// Asks any server that speaks OpenAI's chat interface (vLLM, llama.cpp, hosted services, `seele serve`) for a
/// solution of at most five numbered steps that ends in a boxed answer, and keeps it if the verifier agrees
/// with the stored answer, it has one to five steps and its length is in range; up to three tries a problem.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  seele data annotate hard.jsonl --endpoint http://127.0.0.1:8000/v1 --model smollm2 --out annotated
  seele data annotate hard.jsonl --endpoint http://gpu:8000/v1 --model DeepSeek-V3 --out annotated \\
      --concurrency 64 --tokenizer models/smollm2 --price-in 0.27 --price-out 1.10

The output folder gets annotated.jsonl, rejected.jsonl (with the reasons) and journal.jsonl, which has every
answer of the server. Repeating the command with its --out goes on where it stopped, however it was
stopped, and asks for nothing that was answered. Failures of the server (no connection, time-outs, 429,
5xx, broken answers) are waited out and are no tries. The key of a hosted service is read from the
environment.")]
pub(crate) struct Args {
    #[command(flatten)]
    input: Input,
    /// Where the server's interface begins, for example http://127.0.0.1:8000/v1.
    #[arg(long, value_name = "URL")]
    endpoint: String,
    /// Name of the model there.
    #[arg(long, value_name = "NAME")]
    model: String,
    /// Folder of the results, new or of a run that was stopped.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Use only the first problems.
    #[arg(long)]
    limit: Option<NonZeroUsize>,
    /// Answers to a problem at most.
    #[arg(long, default_value = "3")]
    tries: NonZeroUsize,
    /// Steps of a solution at most.
    #[arg(long, default_value = "5")]
    max_steps: NonZeroUsize,
    /// Tokens of a solution at least.
    #[arg(long, default_value_t = 16)]
    min_tokens: usize,
    /// Tokens of a solution at most.
    #[arg(long, default_value = "2048")]
    max_tokens: NonZeroUsize,
    /// Count tokens as this model does (named as for `seele eval`) [default: as the server says].
    #[arg(long, value_name = "MODEL")]
    tokenizer: Option<PathBuf>,
    /// Temperature of the answers.
    #[arg(long, default_value_t = 0.6)]
    temperature: f64,
    /// Price of a million tokens in questions, for the cost.
    #[arg(long, requires = "price_out")]
    price_in: Option<f64>,
    /// Price of a million tokens in answers, for the cost.
    #[arg(long, requires = "price_in")]
    price_out: Option<f64>,
    #[command(flatten)]
    asking: ServerArgs,
}

/// Runs the command.
///
/// # Errors
/// Data, settings or a server that cannot be used, or a file that cannot be written.
pub(super) fn run(args: &Args, output: &Output) -> anyhow::Result<u8> {
    let limit = args.limit.map_or(usize::MAX, NonZeroUsize::get);
    let problems = args.input.open(output)?.take(limit);
    let problems: Vec<Problem> = problems.collect::<Result<_, _>>().map_err(unusable)?;
    let tokenizer = match &args.tokenizer {
        Some(model) => Some(
            ModelFiles::open(&model_place::find(model, output)?)?
                .tokenizer()
                .clone(),
        ),
        None => None,
    };
    let count = tokenizer.as_ref().map(|tokenizer| {
        move |text: &str| -> Result<usize, BoxError> { Ok(tokenizer.encode(text, false)?.len()) }
    });
    let rules = Rules {
        tries: args.tries.get(),
        max_steps: args.max_steps.get(),
        min_tokens: args.min_tokens,
        max_tokens: args.max_tokens.get(),
    };
    if rules.min_tokens > rules.max_tokens {
        return Err(Unusable("`--min-tokens` is above `--max-tokens`".into()).into());
    }
    let server = args.asking.server(&args.endpoint, &args.model);
    let server = server.map_err(unusable)?;
    std::fs::create_dir_all(&args.out)
        .with_context(|| format!("cannot make the folder `{}`", args.out.display()))?;
    let counted_by = args
        .tokenizer
        .as_ref()
        .map(|path| path.display().to_string());
    let header = Header::new(args.model.clone(), args.temperature, rules, counted_by);
    let mut journal = Journal::open(&args.out.join(JOURNAL), header).map_err(explain)?;
    let stop = interrupt::stop_flag(STOPPING).context("cannot listen for Ctrl-C")?;
    let annotation = Annotation {
        problems: &problems,
        server: &server,
        temperature: args.temperature,
        rules,
        count: count
            .as_ref()
            .map(|count| count as seele_annotate::CountTokens<'_>),
        stop: &stop,
    };
    let mut display = Display::new(args, output);
    let outcome = annotation.run(&mut journal, &mut |progress| display.show(progress));
    let last = display.finish();
    // What was answered is in the files, however the run ended.
    let counts = write_results(&journal, &problems, &args.out).map_err(explain)?;
    let outcome = outcome.map_err(explain)?;
    let mut text = format!(
        "annotated  {:>8}  {}\nrejected   {:>8}  {}\n",
        thousands(counts.annotated as u64),
        args.out.join(ANNOTATED).display(),
        thousands(counts.rejected as u64),
        args.out.join(REJECTED).display(),
    );
    if counts.open > 0 {
        text.push_str(&format!(
            "open       {:>8}\n",
            thousands(counts.open as u64)
        ));
    }
    for (reason, number) in reasons(&journal) {
        text.push_str(&format!("  {:>8}  {reason}\n", thousands(number as u64)));
    }
    text.push_str(&format!("{}\n", cost(args, &last)));
    print(&text)?;
    match outcome {
        Outcome::Finished => Ok(exit::DONE),
        Outcome::Unanswered => {
            tracing::warn!(
                "some problems could not be answered; repeat the command to ask for them again"
            );
            Ok(exit::FAILED)
        }
        Outcome::Stopped => {
            tracing::info!("stopped; repeat the command to go on");
            Ok(exit::INTERRUPTED)
        }
    }
}

fn explain(error: AnnotateError) -> anyhow::Error {
    match error {
        AnnotateError::File { .. } => error.into(),
        AnnotateError::Client(client) if client.is_failure() => client.into(),
        unusable => Unusable(unusable.to_string()).into(),
    }
}

/// Why answers were not kept, the most frequent first; numbers in reasons are left out.
fn reasons(journal: &Journal) -> Vec<(String, usize)> {
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    for found in journal.tries() {
        if let Verdict::Rejected { reason } | Verdict::Refused { reason } = &found.verdict {
            let kind = reason.split([':', ',']).next().unwrap_or(reason);
            let kind = kind.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ');
            *reasons
                .entry(format!("answers not kept: {kind}"))
                .or_insert(0) += 1;
        }
    }
    let mut reasons: Vec<_> = reasons.into_iter().collect();
    reasons.sort_by_key(|(_, number)| std::cmp::Reverse(*number));
    reasons
}

fn cost(args: &Args, progress: &Progress) -> String {
    let Progress {
        prompt_tokens,
        completion_tokens,
        ..
    } = *progress;
    let tokens = format!(
        "{} tokens asked, {} answered",
        thousands(prompt_tokens),
        thousands(completion_tokens)
    );
    match (args.price_in, args.price_out) {
        (Some(price_in), Some(price_out)) => {
            let cost = price_in * prompt_tokens as f64 + price_out * completion_tokens as f64;
            format!("{tokens}, cost {:.2}", cost / 1e6)
        }
        _ => tokens,
    }
}

/// Shows how far the run is.
struct Display<'a> {
    args: &'a Args,
    bar: Option<ProgressBar>,
    begun: Instant,
    last_line: Instant,
    /// Problems settled when the run began.
    at_start: Option<usize>,
    last: Progress,
}

impl<'a> Display<'a> {
    fn new(args: &'a Args, output: &Output) -> Self {
        let bar = output.bars.then(|| {
            let bar = output.progress.add(ProgressBar::new(0));
            // A constant with known placeholders; a default style is the fallback.
            let style = ProgressStyle::with_template("{bar:16} {msg}")
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            bar.set_style(style.progress_chars("=> "));
            bar
        });
        Self {
            args,
            bar,
            begun: Instant::now(),
            last_line: Instant::now(),
            at_start: None,
            last: Progress::default(),
        }
    }

    fn show(&mut self, progress: Progress) {
        self.last = progress;
        let settled = progress.annotated + progress.rejected;
        let at_start = *self.at_start.get_or_insert(settled);
        if let Some(bar) = &self.bar {
            bar.set_length(progress.problems as u64);
            bar.set_position(settled as u64);
            bar.set_message(self.line(settled, at_start));
        } else if self.last_line.elapsed() >= LINE_EVERY {
            self.last_line = Instant::now();
            tracing::info!("{}", self.line(settled, at_start));
        }
    }

    fn line(&self, settled: usize, at_start: usize) -> String {
        let Progress {
            annotated,
            problems,
            failures,
            ..
        } = self.last;
        let mut line = format!(
            "{} of {} problems, {} annotated, {}",
            thousands(settled as u64),
            thousands(problems as u64),
            thousands(annotated as u64),
            cost(self.args, &self.last)
        );
        if failures > 0 {
            line.push_str(&format!(", {} failures", thousands(failures as u64)));
        }
        let done_here = settled - at_start;
        if done_here > 0 {
            let left = (problems - settled) as f64 / done_here as f64;
            line.push_str(&format!(
                ", ETA {}",
                duration(self.begun.elapsed().mul_f64(left))
            ));
        }
        line
    }

    fn finish(self) -> Progress {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
        self.last
    }
}
