//! `seele hint`: the controllers of `seele-hint` without a model: simulate them, fit curves.

mod curves;

use crate::exit::{self, Unusable};
use crate::output::print;
use anyhow::Context;
use seele_hint::simulation::{self, PopulationKind, Report, Settings, Simulated};
use seele_hint::{Bayes, Estimator, LeastSquares, Observation};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::fmt::Write as _;
use std::io::{BufRead, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Try hint control without a model.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    Simulate(SimulateArgs),
    Fit(FitArgs),
}

/// Compare hint schedules on simulated problems whose true accuracy is known.
///
/// 1024 problems are visited in five epochs while their curves move as if a policy learned. "Steady" figures
/// are means over the last three epochs.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  seele hint simulate                                  all schedules, three seeds, and a picture
  seele hint simulate --schedule seele --schedule seele-bayes --seeds 11,12,13,14,15
  seele hint simulate --schedule seele-bayes --population volatile --json")]
pub(crate) struct SimulateArgs {
    /// Schedule to simulate: seele, seele-bayes, none, fixed, uniform, uft, stochastic, oracle. Repeat for
    /// several [default: all].
    #[arg(long, value_name = "NAME")]
    schedule: Vec<String>,
    /// Seeds, separated by commas; one simulation each.
    #[arg(long, value_delimiter = ',', default_value = "11,12,13")]
    seeds: Vec<u64>,
    /// Problems: standard, still, volatile, stairs, easy, guess.
    #[arg(long, value_parser = population, default_value = "standard")]
    population: PopulationKind,
    /// Rounds a visit.
    #[arg(long, default_value_t = 4)]
    rounds: u32,
    /// Rollouts a round.
    #[arg(long, default_value_t = 8)]
    rollouts: u32,
    /// Target accuracy, between 0 and 1.
    #[arg(long, default_value_t = 0.5)]
    target: f64,
    /// Print one JSON object a schedule and seed instead of tables.
    #[arg(long)]
    json: bool,
    /// File to draw the curves to [default: hint-simulation.svg; with --json: none].
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// Fit accuracy-hint curves to observations: JSON lines from standard input to standard output.
///
/// Input, a line each: {"id": ..., "observations": [[rate, accuracy, rollouts], ...], "target": 0.5}, and
/// "estimator": "irt-lsq" (default) or "irt-bayes". Margins are added by rule. Output, a line each: {"id",
/// "k", "mu", "b", "sse", "rate", "predicted"}. A line that cannot be used gives {"line", "error"}, the others
/// are still fitted, and the command ends with code 1.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Example:
  echo '{\"id\": \"x\", \"observations\": [[0.9, 1.0, 8], [0.5, 0.25, 8]], \"target\": 0.5}' | seele hint fit")]
pub(crate) struct FitArgs {
    /// Say at the end how long the fits took, without reading and writing.
    #[arg(long)]
    time: bool,
}

fn population(name: &str) -> Result<PopulationKind, String> {
    let known = PopulationKind::ALL;
    known
        .into_iter()
        .find(|kind| kind.name() == name)
        .ok_or_else(|| {
            format!(
                "known populations: {}",
                known.map(PopulationKind::name).join(", ")
            )
        })
}

/// Runs the command; the value is the exit code.
///
/// # Errors
/// What a sub-command cannot use, and output that cannot be written.
pub(crate) fn run(args: &Args) -> anyhow::Result<u8> {
    match &args.action {
        Action::Simulate(args) => simulate(args),
        Action::Fit(args) => fit(args),
    }
}

/// Simulates and prints.
///
/// # Errors
/// An unknown schedule, a setting out of range, a picture that cannot be written.
pub(crate) fn simulate(args: &SimulateArgs) -> anyhow::Result<u8> {
    let SimulateArgs {
        population,
        rounds,
        rollouts,
        target,
        ..
    } = *args;
    let settings = Settings {
        population,
        rounds,
        rollouts,
        target,
    };
    let names: Vec<&str> = if args.schedule.is_empty() {
        Simulated::NAMES.to_vec()
    } else {
        let mut seen = HashSet::new();
        args.schedule
            .iter()
            .map(String::as_str)
            .filter(|name| seen.insert(*name))
            .collect()
    };
    let mut jobs = Vec::new();
    for name in names {
        let schedule = Simulated::by_name(name).map_err(|error| Unusable(error.to_string()))?;
        jobs.extend(args.seeds.iter().map(|&seed| (schedule.clone(), seed)));
    }
    let reports = simulate_all(&jobs, settings)?;

    if args.json {
        print(
            &reports
                .iter()
                .map(|report| format!("{}\n", figures(report)))
                .collect::<String>(),
        )?;
    } else {
        let by_schedule: Vec<&[Report]> = reports.chunks(args.seeds.len().max(1)).collect();
        print(&table(&by_schedule, settings, &args.seeds))?;
    }
    let default = (!args.json).then(|| Path::new("hint-simulation.svg"));
    if let Some(path) = args.svg.as_deref().or(default) {
        curves::draw(path, &reports, settings)?;
        tracing::info!("curves: {}", path.display());
    }
    Ok(exit::DONE)
}

/// One report a job, in order, on all cores.
fn simulate_all(jobs: &[(Simulated, u64)], settings: Settings) -> anyhow::Result<Vec<Report>> {
    let next = AtomicUsize::new(0);
    let done: Vec<Mutex<Option<Result<Report, seele_hint::HintError>>>> =
        jobs.iter().map(|_| Mutex::new(None)).collect();
    let work = || {
        while let Some((index, (schedule, seed))) = {
            let index = next.fetch_add(1, Ordering::Relaxed);
            jobs.get(index).map(|job| (index, job))
        } {
            let report = simulation::simulate(schedule, settings, *seed);
            if let Ok(mut place) = done[index].lock() {
                *place = Some(report);
            }
        }
    };
    let threads = std::thread::available_parallelism()
        .map_or(1, usize::from)
        .min(jobs.len());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    done.into_iter()
        .map(|place| {
            let report = place
                .into_inner()
                .ok()
                .flatten()
                .context("a simulation ended early")?;
            Ok(report.map_err(|error| Unusable(error.to_string()))?)
        })
        .collect()
}

fn figures(report: &Report) -> Value {
    json!({
        "schedule": report.schedule,
        "seed": report.seed,
        "efficiency": report.steady(|epoch| epoch.efficiency),
        "efficiency_all": report.overall(|epoch| epoch.efficiency),
        "efficiency_first": report.first(|epoch| epoch.efficiency),
        "mad": report.steady(|epoch| epoch.deviation),
        "zero_variance_rounds": report.steady(|epoch| epoch.uniform_rounds),
        "zero_variance_groups": report.steady(|epoch| epoch.uniform_groups),
        "mean_accuracy": report.steady(|epoch| epoch.accuracy()),
    })
}

fn table(by_schedule: &[&[Report]], settings: Settings, seeds: &[u64]) -> String {
    let Settings {
        population,
        rounds,
        rollouts,
        target,
    } = settings;
    let seeds: Vec<String> = seeds.iter().map(u64::to_string).collect();
    let mut out = format!(
        "population {}, {rounds} rounds of {rollouts} rollouts, target accuracy {target}, mean of seeds {}\n\n",
        population.name(),
        seeds.join(", ")
    );
    let _ = writeln!(
        out,
        "{:<12} {:>26}  {:>9} {:>13} {:>13}  {:>8}",
        "", "learning efficiency", "deviation", "rounds of", "groups of", "mean"
    );
    let _ = writeln!(
        out,
        "{:<12} {:>8} {:>8} {:>8}  {:>9} {:>13} {:>13}  {:>8}",
        "schedule",
        "steady",
        "all",
        "epoch 1",
        "(MAD)",
        "equal rewards",
        "equal rewards",
        "accuracy"
    );
    for reports in by_schedule {
        let mean = |figure: &dyn Fn(&Report) -> f64| {
            reports.iter().map(figure).sum::<f64>() / reports.len() as f64
        };
        let _ = writeln!(
            out,
            "{:<12} {:>8.3} {:>8.3} {:>8.3}  {:>9.3} {:>11.1} % {:>11.1} %  {:>8.3}",
            reports.first().map_or("", |report| &report.schedule),
            mean(&|report| report.steady(|epoch| epoch.efficiency)),
            mean(&|report| report.overall(|epoch| epoch.efficiency)),
            mean(&|report| report.first(|epoch| epoch.efficiency)),
            mean(&|report| report.steady(|epoch| epoch.deviation)),
            100.0 * mean(&|report| report.steady(|epoch| epoch.uniform_rounds)),
            100.0 * mean(&|report| report.steady(|epoch| epoch.uniform_groups)),
            mean(&|report| report.steady(|epoch| epoch.accuracy())),
        );
    }
    out.push_str("\naccuracy of each round, first epoch | last epoch\n");
    for reports in by_schedule {
        let round_means = |epoch: usize| -> String {
            let round_mean = |round: usize| {
                let of_report = |report: &Report| report.epochs[epoch].round_accuracy[round];
                reports.iter().map(of_report).sum::<f64>() / reports.len() as f64
            };
            (0..rounds as usize)
                .map(|round| format!(" {:.3}", round_mean(round)))
                .collect()
        };
        let Some(report) = reports.first() else {
            continue;
        };
        let last = report.epochs.len() - 1;
        let _ = writeln!(
            out,
            "{:<12}{} |{}",
            report.schedule,
            round_means(0),
            round_means(last)
        );
    }
    out.push_str(
        "\nefficiency: mean of a (1 - a) / 0.25 over rollouts, 1 if every accuracy a were 0.5; \
         steady: last three epochs, as the columns to its right\n",
    );
    out
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    id: Value,
    observations: Vec<(f64, f64, u32)>,
    target: f64,
    #[serde(default)]
    estimator: EstimatorName,
}

#[derive(Default, Deserialize)]
enum EstimatorName {
    #[default]
    #[serde(rename = "irt-lsq")]
    LeastSquares,
    #[serde(rename = "irt-bayes")]
    Bayes,
}

#[derive(Serialize)]
struct Answer {
    id: Value,
    k: f64,
    mu: f64,
    b: f64,
    sse: f64,
    rate: f64,
    predicted: f64,
}

/// Fits standard input to standard output.
///
/// # Errors
/// Streams that cannot be read or written.
pub(crate) fn fit(args: &FitArgs) -> anyhow::Result<u8> {
    let mut fitter = Fitter::default();
    fitter.fit_lines(
        std::io::stdin().lock(),
        BufWriter::new(std::io::stdout().lock()),
    )?;
    if args.time {
        let (fits, seconds) = (fitter.fits, fitter.fitting.as_secs_f64());
        tracing::info!(
            "{fits} fits in {seconds:.3} s: {:.0} fits/s",
            fits as f64 / seconds
        );
    }
    if fitter.bad_lines > 0 {
        tracing::error!(
            "{} of the lines could not be used; the output names each",
            fitter.bad_lines
        );
        return Ok(exit::FAILED);
    }
    Ok(exit::DONE)
}

/// Both estimators, and what was done with them.
#[derive(Default)]
struct Fitter {
    least_squares: LeastSquares,
    bayes: Bayes,
    fits: usize,
    fitting: Duration,
    bad_lines: usize,
}

impl Fitter {
    /// Answers every line; a bad one is named in the output and counted.
    fn fit_lines(&mut self, mut input: impl BufRead, mut output: impl Write) -> anyhow::Result<()> {
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            if input
                .read_until(b'\n', &mut line)
                .context("cannot read standard input")?
                == 0
            {
                break;
            }
            if line.trim_ascii().is_empty() {
                continue;
            }
            let written = match self.answer(line.trim_ascii()) {
                Ok(answer) => serde_json::to_writer(&mut output, &answer),
                Err(error) => {
                    self.bad_lines += 1;
                    tracing::warn!("line {number}: {error}");
                    serde_json::to_writer(&mut output, &json!({ "line": number, "error": error }))
                }
            };
            let finished = written
                .map_err(std::io::Error::from)
                .and_then(|()| output.write_all(b"\n"));
            match finished {
                // A reader that has seen enough (`| head`) is no error.
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(()),
                other => other.context("cannot write to standard output")?,
            }
        }
        match output.flush() {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                Err(error).context("cannot write to standard output")
            }
            _ => Ok(()),
        }
    }

    fn answer(&mut self, line: &[u8]) -> Result<Answer, String> {
        let request: Request = serde_json::from_slice(line).map_err(|error| {
            // The reader's position counts lines of one line.
            error
                .to_string()
                .replace(" at line 1 column ", " at column ")
        })?;
        if !(0.0..=1.0).contains(&request.target) {
            return Err(format!(
                "`target` is {}, expected a number in [0, 1]",
                request.target
            ));
        }
        let observations: Vec<Observation> = request
            .observations
            .iter()
            .map(|&(rate, accuracy, rollouts)| Observation {
                rate,
                accuracy,
                rollouts,
            })
            .collect();
        let estimator: &dyn Estimator = match request.estimator {
            EstimatorName::LeastSquares => &self.least_squares,
            EstimatorName::Bayes => &self.bayes,
        };
        let start = Instant::now();
        let estimate = estimator
            .estimate(&observations, request.target)
            .map_err(|error| error.to_string())?;
        self.fitting += start.elapsed();
        self.fits += 1;
        Ok(Answer {
            id: request.id,
            k: estimate.curve.k,
            mu: estimate.curve.mu,
            b: estimate.curve.b,
            sse: estimate.sse,
            rate: estimate.rate,
            predicted: estimate.predicted,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fitted(input: &str) -> (Vec<Value>, usize) {
        let mut output = Vec::new();
        let mut fitter = Fitter::default();
        fitter.fit_lines(input.as_bytes(), &mut output).unwrap();
        let text = String::from_utf8(output).unwrap();
        (
            text.lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect(),
            fitter.bad_lines,
        )
    }

    #[test]
    fn a_fit_has_the_documented_keys_and_hits_its_target() {
        let line = r#"{"id": 7, "observations": [[0.9, 1.0, 8], [0.5, 0.25, 8], [0.6, 0.75, 8]], "target": 0.5}"#;
        let (lines, bad) = fitted(line);
        let keys: Vec<&String> = lines[0].as_object().unwrap().keys().collect();
        assert_eq!(keys, ["id", "k", "mu", "b", "sse", "rate", "predicted"]);
        assert_eq!((bad, &lines[0]["id"]), (0, &json!(7)));
        assert!((lines[0]["predicted"].as_f64().unwrap() - 0.5).abs() < 1e-9);
        let bayes = line.replace("\"target\"", "\"estimator\": \"irt-bayes\", \"target\"");
        let rate = |lines: &[Value]| lines[0]["rate"].as_f64().unwrap();
        assert!((rate(&fitted(&bayes).0) - rate(&lines)).abs() < 0.1);
    }

    #[test]
    fn a_bad_line_is_named_and_the_others_are_fitted() {
        let good = r#"{"id": "a", "observations": [[0.5, 0.5, 8]], "target": 0.5}"#;
        let bad = [
            "{",
            "\u{0}",
            r#"{"id": "b", "observations": [[1.5, 0.5, 8]], "target": 0.5}"#,
            r#"{"id": "b", "observations": [[0.5, 0.5, 0]], "target": 0.5}"#,
            r#"{"id": "b", "observations": [[0.5, 0.5]], "target": 0.5}"#,
            r#"{"id": "b", "observations": [], "target": 2}"#,
            r#"{"id": "b", "observations": [], "target": 0.5, "estimator": "guess"}"#,
        ];
        let (lines, count) = fitted(&format!("{good}\n\n{}\n{good}", bad.join("\n")));
        assert_eq!(count, bad.len());
        assert_eq!(lines.len(), bad.len() + 2);
        for (offset, line) in lines[1..=bad.len()].iter().enumerate() {
            assert_eq!(line["line"], json!(offset + 3), "{line}");
        }
        let error = lines[1]["error"].as_str().unwrap();
        assert_eq!(error, "EOF while parsing an object at column 1");
        assert!(
            lines[3]["error"]
                .as_str()
                .unwrap()
                .contains("`rate` is 1.5")
        );
        assert_eq!(lines[0]["rate"], lines[bad.len() + 1]["rate"]);
    }

    #[test]
    fn a_table_and_a_picture_name_every_schedule() {
        let settings = Settings {
            rounds: 1,
            rollouts: 2,
            ..Settings::default()
        };
        let jobs: Vec<_> = ["none", "oracle"]
            .into_iter()
            .flat_map(|name| [1, 2].map(|seed| (Simulated::by_name(name).unwrap(), seed)))
            .collect();
        let reports = simulate_all(&jobs, settings).unwrap();
        assert_eq!(reports[1].seed, 2);
        let by_schedule: Vec<&[Report]> = reports.chunks(2).collect();
        let text = table(&by_schedule, settings, &[1, 2]);
        assert!(
            text.contains("\nnone ") && text.contains("\noracle "),
            "{text}"
        );
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("curves.svg");
        curves::draw(&path, &reports, settings).unwrap();
        let svg = std::fs::read_to_string(&path).unwrap();
        assert!(svg.contains("oracle") && svg.contains("none"));
        assert!(figures(&reports[0])["efficiency"].as_f64().unwrap() > 0.0);
    }
}
