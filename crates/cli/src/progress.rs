//! A run on the terminal: one moving line where there is a terminal, plain lines where not.

use crate::numbers::{duration, thousands};
use crate::output::Output;
use indicatif::{ProgressBar, ProgressStyle};
use seele_train::metrics::{EvalAccuracy, SftStepMetrics, StepMetrics};
use seele_train::progress::{Observer, Phase};
use seele_train::watch::Warning;
use std::time::{Duration, Instant};

/// Without a terminal, a long phase says that it is alive this often.
const PLAIN_LINE_EVERY: Duration = Duration::from_secs(30);

/// Follows a run and tells standard error about it.
pub(crate) struct TerminalObserver {
    steps: usize,
    bar: Option<ProgressBar>,
    step: usize,
    phase: Phase,
    phase_start: Instant,
    last_plain_line: Instant,
    seconds_per_step: Option<f64>,
    /// Accuracy of each round of the last finished step.
    accuracies: String,
}

impl TerminalObserver {
    /// For a run of `steps` training steps.
    pub(crate) fn new(output: &Output, steps: usize) -> Self {
        let bar = output.bars.then(|| {
            let bar = output.progress.add(ProgressBar::new(0));
            // The template is a constant with known placeholders; a default style is the fallback.
            let style = ProgressStyle::with_template("{prefix} {bar:16} {msg}")
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            bar.set_style(style.progress_chars("=> "));
            bar
        });
        let now = Instant::now();
        Self {
            steps,
            bar,
            step: 0,
            phase: Phase::Load,
            phase_start: now,
            last_plain_line: now,
            seconds_per_step: None,
            accuracies: String::new(),
        }
    }

    fn eta(&self) -> Option<Duration> {
        let left = self.steps.saturating_sub(self.step.saturating_sub(1)) as f64;
        self.seconds_per_step
            .map(|seconds| Duration::from_secs_f64((seconds * left).max(0.0)))
    }

    /// `step 12/400`, or what precedes the first step.
    fn place(&self) -> String {
        match (&self.phase, self.step) {
            (Phase::Sft, step) => format!("sft step {step}"),
            (_, 0) => "before step 1".into(),
            (_, step) => format!("step {step}/{}", self.steps),
        }
    }

    fn line(&self, done: usize, total: usize, tokens: u64) -> String {
        let mut parts = Vec::new();
        if total > 0 {
            parts.push(format!(
                "{} of {} {}",
                thousands(done as u64),
                thousands(total as u64),
                unit_of(&self.phase)
            ));
        }
        let seconds = self.phase_start.elapsed().as_secs_f64();
        if tokens > 0 {
            parts.push(format!("{} tokens/s", per_second(tokens, seconds)));
        }
        if !self.accuracies.is_empty() {
            parts.push(format!("accuracy {}", self.accuracies));
        }
        if let Some(eta) = self.eta() {
            parts.push(format!("ETA {}", duration(eta)));
        }
        parts.join(" | ")
    }

    fn say(&self, line: &str) {
        tracing::info!("{line}");
    }
}

fn name_of(phase: &Phase) -> String {
    match phase {
        Phase::Load => "load".into(),
        Phase::Sft => "supervised fine-tuning".into(),
        Phase::Round { round, rounds } => format!("round {round} of {rounds}"),
        Phase::Reward => "reward".into(),
        Phase::LogProbs => "log-probs".into(),
        Phase::Update => "update".into(),
        Phase::Eval { set } => format!("eval {set}"),
        Phase::Save => "save".into(),
    }
}

fn unit_of(phase: &Phase) -> &'static str {
    match phase {
        Phase::Round { .. } | Phase::Reward => "rollouts",
        Phase::Eval { .. } => "problems",
        Phase::LogProbs | Phase::Update | Phase::Sft => "sequences",
        Phase::Load | Phase::Save => "",
    }
}

fn per_second(tokens: u64, seconds: f64) -> String {
    if seconds > 0.0 {
        thousands((tokens as f64 / seconds) as u64)
    } else {
        "-".into()
    }
}

/// A step whose groups all agree, or whose updates were all skipped, has no loss.
fn loss_text(loss: f64) -> String {
    if loss.is_finite() {
        format!("{loss:+.4}")
    } else {
        "-".into()
    }
}

fn joined(values: impl Iterator<Item = f64>) -> String {
    values
        .map(|value| format!("{value:.2}"))
        .collect::<Vec<_>>()
        .join(" ")
}

impl Observer for TerminalObserver {
    fn phase(&mut self, step: usize, phase: Phase) {
        // Rounds of one step are one stretch of sampling: tokens a second run on.
        let same_stretch = matches!(
            (&self.phase, &phase),
            (Phase::Round { .. }, Phase::Round { .. })
        ) && step == self.step;
        self.step = step;
        self.phase = phase;
        if !same_stretch {
            self.phase_start = Instant::now();
        }
        if let Some(bar) = &self.bar {
            bar.set_prefix(format!("{} | {:<12}", self.place(), name_of(&self.phase)));
            if !same_stretch {
                bar.set_length(0);
                bar.set_position(0);
                bar.set_message(self.line(0, 0, 0));
            }
        }
    }

    fn tick(&mut self, done: usize, total: usize, tokens: u64) {
        let line = self.line(done, total, tokens);
        match &self.bar {
            Some(bar) => {
                bar.set_length(total as u64);
                bar.set_position(done as u64);
                bar.set_message(line);
            }
            None if self.last_plain_line.elapsed() >= PLAIN_LINE_EVERY => {
                self.last_plain_line = Instant::now();
                self.say(&format!(
                    "{} | {} | {line}",
                    self.place(),
                    name_of(&self.phase)
                ));
            }
            None => {}
        }
    }

    fn sft_step_finished(&mut self, metrics: &SftStepMetrics) {
        let SftStepMetrics {
            step,
            steps,
            loss,
            time_step,
            tokens_train,
            held_out,
            ..
        } = metrics;
        for set in held_out {
            let (name, loss) = (&set.name, set.loss);
            self.say(&format!(
                "sft step {step}/{steps} | loss {loss:.4} on held-out solutions of {name}"
            ));
        }
        let every = (steps / 10).max(1);
        if step % every == 0 || step == steps {
            let speed = per_second(*tokens_train, *time_step);
            self.last_plain_line = Instant::now();
            self.say(&format!(
                "sft step {step}/{steps} | loss {loss:.4} | {speed} tokens/s"
            ));
        }
    }

    fn step_finished(&mut self, metrics: &StepMetrics) {
        // An exponential mean follows rollouts that grow longer; the first steps weigh fully.
        let seconds = metrics.time.step;
        let mean = self
            .seconds_per_step
            .map_or(seconds, |mean| 0.9 * mean + 0.1 * seconds);
        self.seconds_per_step = Some(mean);
        self.accuracies = joined(metrics.rounds.iter().map(|round| round.accuracy));
        self.step = metrics.step + 1;
        let eta = self.eta().filter(|_| metrics.step < self.steps);
        self.last_plain_line = Instant::now();
        let time = format!(
            "{}{}",
            duration(Duration::from_secs_f64(seconds.max(0.0))),
            eta.map(|eta| format!(" | ETA {}", duration(eta)))
                .unwrap_or_default()
        );
        if metrics.rollouts == 0 {
            self.say(&format!(
                "step {}/{} | loss {} | {} trained tokens/s | {time}",
                metrics.step,
                self.steps,
                loss_text(metrics.policy.loss),
                per_second(metrics.tokens_train, metrics.time.update),
            ));
            return;
        }
        self.say(&format!(
            "step {}/{} | reward {:.3} | accuracy {} | hint rate {:.2} | loss {} | {} sampled, {} trained tokens/s | {time}",
            metrics.step,
            self.steps,
            metrics.reward_mean,
            self.accuracies,
            metrics.hint_rate_mean,
            loss_text(metrics.policy.loss),
            per_second(metrics.tokens_rollout, metrics.time.rollout),
            per_second(metrics.tokens_train, metrics.time.update),
        ));
    }

    fn warning(&mut self, step: usize, warning: &Warning) {
        tracing::warn!("step {step}: {warning}");
    }

    fn goals_reached(&mut self, step: usize) {
        self.say(&format!(
            "every set of eval.stop_at has reached its accuracy: the run ends after step {step}"
        ));
    }

    fn evaluated(&mut self, step: usize, results: &[EvalAccuracy]) {
        for result in results {
            let when = if step == 0 {
                "before training".into()
            } else {
                format!("after step {step}")
            };
            let (name, accuracy) = (&result.name, 100.0 * result.accuracy);
            let loss = result
                .loss
                .map(|loss| format!(", loss {loss:.4} on their solutions"));
            self.say(&format!(
                "eval {name} {when}: {accuracy:.1} % of {} problems without hints{}",
                result.problems,
                loss.unwrap_or_default()
            ));
        }
    }
}

impl Drop for TerminalObserver {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use indicatif::MultiProgress;
    use seele_train::metrics::{RoundMetrics, StepTimes};

    fn observer() -> TerminalObserver {
        let output = Output {
            color: false,
            bars: false,
            progress: MultiProgress::new(),
        };
        TerminalObserver::new(&output, 10)
    }

    #[test]
    fn the_line_names_the_phase_and_how_far_it_is() {
        let mut observer = observer();
        observer.phase(
            3,
            Phase::Round {
                round: 2,
                rounds: 4,
            },
        );
        assert_eq!(observer.place(), "step 3/10");
        assert_eq!(name_of(&observer.phase), "round 2 of 4");
        let line = observer.line(96, 1512, 0);
        assert_eq!(line, "96 of 1,512 rollouts");
        assert!(observer.line(1, 2, 1000).contains(" tokens/s"));
    }

    #[test]
    fn the_first_finished_step_brings_accuracies_and_eta() {
        let mut observer = observer();
        let rounds = [0.875, 0.5].map(|accuracy| RoundMetrics {
            accuracy,
            hint_rate: 0.5,
            ..Default::default()
        });
        let time = StepTimes {
            step: 20.0,
            ..Default::default()
        };
        observer.step_finished(&StepMetrics {
            step: 1,
            rollouts: 16,
            rounds: rounds.to_vec(),
            time,
            ..Default::default()
        });
        observer.phase(2, Phase::Update);
        assert_eq!(
            observer.line(1, 4, 0),
            "1 of 4 sequences | accuracy 0.88 0.50 | ETA 3 min 00 s"
        );
    }

    #[test]
    fn rounds_of_a_step_share_one_clock_and_other_phases_have_their_own() {
        let mut observer = observer();
        observer.phase(
            1,
            Phase::Round {
                round: 1,
                rounds: 2,
            },
        );
        let start = observer.phase_start;
        observer.phase(
            1,
            Phase::Round {
                round: 2,
                rounds: 2,
            },
        );
        assert_eq!(observer.phase_start, start);
        observer.phase(1, Phase::Reward);
        assert!(observer.phase_start > start);
    }
}
