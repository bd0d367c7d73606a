//! `metrics.jsonl`: one line a step, on disk when the step ends.

use super::{EvalAccuracy, SftStepMetrics, StepMetrics, put_eval};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

/// A metrics log that cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MetricsError {
    /// The file cannot be opened, read or written.
    #[error("cannot use metrics log `{}`: {source}; checkpoints are intact, go on with `--resume` once this is solved", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The log is shorter than a checkpoint of the run remembers.
    #[error("metrics log `{}` has {found} bytes, but had {expected} when the checkpoint was taken; put the log back, or use another checkpoint", path.display())]
    Short {
        /// The file.
        path: PathBuf,
        /// Bytes at the checkpoint.
        expected: u64,
        /// Bytes now.
        found: u64,
    },
    /// A line is not a JSON object.
    #[error("{}:{line}: not a JSON object of metrics; was the file cut off or edited?", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What the parser says.
        source: serde_json::Error,
    },
}

/// Appends to the metrics log of a run.
#[derive(Debug)]
pub struct MetricsLog {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl MetricsLog {
    /// Opens the log for appending; makes it if it is not there.
    ///
    /// # Errors
    /// [`MetricsError::Io`].
    pub fn open(path: &Path) -> Result<Self, MetricsError> {
        let io = |source| MetricsError::Io {
            path: path.into(),
            source,
        };
        let file = OpenOptions::new().create(true).append(true).open(path);
        let file = file.map_err(io)?;
        let bytes = file.metadata().map_err(io)?.len();
        Ok(Self {
            path: path.into(),
            file,
            bytes,
        })
    }

    /// Checks that a log still has the `bytes` that a checkpoint remembers; changes nothing.
    ///
    /// # Errors
    /// [`MetricsError::Short`] if it ends before, or is not there.
    pub fn check(path: &Path, bytes: u64) -> Result<(), MetricsError> {
        let found = path.metadata().map_or(0, |metadata| metadata.len());
        if found < bytes {
            return Err(MetricsError::Short {
                path: path.into(),
                expected: bytes,
                found,
            });
        }
        Ok(())
    }

    /// Opens the log of a run that goes on from a checkpoint: what was written after it is cut off, so that
    /// no step is missing and none is there twice.
    ///
    /// # Errors
    /// [`MetricsError::Short`] if the log ends before `bytes`, [`MetricsError::Io`].
    pub fn resume(path: &Path, bytes: u64) -> Result<Self, MetricsError> {
        Self::check(path, bytes)?;
        let mut log = Self::open(path)?;
        log.file
            .set_len(bytes)
            .map_err(|source| log.failed(source))?;
        log.bytes = bytes;
        Ok(log)
    }

    /// Waits until all lines are on disk; returns the length of the log in bytes.
    ///
    /// # Errors
    /// [`MetricsError::Io`].
    pub fn sync(&self) -> Result<u64, MetricsError> {
        let synced = self.file.sync_data();
        synced.map_err(|source| self.failed(source))?;
        Ok(self.bytes)
    }

    fn failed(&self, source: std::io::Error) -> MetricsError {
        MetricsError::Io {
            path: self.path.clone(),
            source,
        }
    }

    /// Appends the line of a step. The line is handed to the operating system before this returns.
    ///
    /// # Errors
    /// [`MetricsError::Io`].
    pub fn append(&mut self, metrics: &StepMetrics) -> Result<(), MetricsError> {
        self.write(metrics.to_map())
    }

    /// Appends an evaluation that belongs to no training step: before the first one, `step` is 0.
    ///
    /// # Errors
    /// [`MetricsError::Io`].
    pub fn append_evaluation(
        &mut self,
        step: usize,
        results: &[EvalAccuracy],
    ) -> Result<(), MetricsError> {
        let mut map = Map::new();
        map.insert("step".into(), step.into());
        put_eval(&mut map, results);
        self.write(map)
    }

    /// Appends a step of supervised fine-tuning; for a log of its own, [`super::SFT_METRICS_FILE`].
    ///
    /// # Errors
    /// [`MetricsError::Io`].
    pub fn append_sft(&mut self, metrics: &SftStepMetrics) -> Result<(), MetricsError> {
        self.write(metrics.to_map())
    }

    fn write(&mut self, map: Map<String, Value>) -> Result<(), MetricsError> {
        // One write a line: a reader of a running log never sees half a line.
        let line = format!("{}\n", Value::Object(map));
        let written = self
            .file
            .write_all(line.as_bytes())
            .and_then(|()| self.file.flush());
        written.map_err(|source| self.failed(source))?;
        self.bytes += line.len() as u64;
        Ok(())
    }
}

/// One line of a metrics log.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MetricsRow {
    /// Step; 0 is before the first.
    pub step: usize,
    /// The numbers of the line by name; `null` and text are left out.
    pub values: BTreeMap<String, f64>,
}

impl MetricsRow {
    /// The number of that name, if the line has it.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.values.get(name).copied()
    }

    /// Accuracy of every round, in order; empty where the line is no training step.
    pub fn round_accuracies(&self) -> Vec<f64> {
        (1..)
            .map_while(|round| self.get(&format!("hint/round_{round}/accuracy")))
            .collect()
    }
}

impl From<&StepMetrics> for MetricsRow {
    fn from(metrics: &StepMetrics) -> Self {
        Self::of(&metrics.to_map())
    }
}

impl MetricsRow {
    fn of(map: &Map<String, Value>) -> Self {
        let values: BTreeMap<String, f64> = map
            .iter()
            .filter_map(|(key, value)| Some((key.clone(), value.as_f64()?)))
            .collect();
        let step = map.get("step").and_then(Value::as_u64).unwrap_or(0);
        Self {
            step: usize::try_from(step).unwrap_or(usize::MAX),
            values,
        }
    }
}

/// Reads a metrics log.
///
/// # Errors
/// [`MetricsError::Io`], or [`MetricsError::Line`] for a line that is not a JSON object.
pub fn read_metrics(path: &Path) -> Result<Vec<MetricsRow>, MetricsError> {
    let io = |source| MetricsError::Io {
        path: path.into(),
        source,
    };
    let mut rows = Vec::new();
    for (index, line) in BufReader::new(File::open(path).map_err(io)?)
        .lines()
        .enumerate()
    {
        let line = line.map_err(io)?;
        let map: Map<String, Value> =
            serde_json::from_str(&line).map_err(|source| MetricsError::Line {
                path: path.into(),
                line: index + 1,
                source,
            })?;
        rows.push(MetricsRow::of(&map));
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::super::{PolicyMetrics, RoundMetrics};
    use super::*;

    fn step(step: usize) -> StepMetrics {
        StepMetrics {
            step,
            rollouts: 2,
            reward_mean: 0.25,
            rounds: vec![
                RoundMetrics {
                    accuracy: 0.5,
                    hint_rate: 0.9,
                    ..Default::default()
                },
                RoundMetrics {
                    accuracy: 0.75,
                    hint_rate: 0.8,
                    ..Default::default()
                },
            ],
            policy: PolicyMetrics {
                kl: Some(0.125),
                grad_norm: f64::INFINITY,
                ..Default::default()
            },
            eval: vec![EvalAccuracy {
                name: "hard".into(),
                accuracy: 0.5,
                problems: 10,
                loss: None,
            }],
            ..Default::default()
        }
    }

    #[test]
    fn a_step_is_one_line_with_the_promised_names() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut log = MetricsLog::open(&path).unwrap();
        log.append_evaluation(0, &step(0).eval).unwrap();
        log.append(&step(1)).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            text.lines().next(),
            Some(r#"{"step":0,"eval/hard/accuracy":0.5}"#)
        );
        let line: Map<String, Value> = serde_json::from_str(text.lines().nth(1).unwrap()).unwrap();
        for name in [
            "step",
            "reward/mean",
            "hint/rate/mean",
            "hint/round_1/accuracy",
            "hint/round_2/accuracy",
            "group/zero_variance",
            "policy/loss",
            "policy/kl",
            "policy/entropy",
            "policy/clip_fraction",
            "policy/grad_norm",
            "policy/logprob_gap/max",
            "rollout/response_length/mean",
            "time/rollout",
            "time/update",
            "tokens/rollout",
            "tokens/train",
            "eval/hard/accuracy",
        ] {
            assert!(line.contains_key(name), "{name}");
        }
        assert_eq!(line["step"], 1);
        assert_eq!(line["policy/grad_norm"], Value::Null);
    }

    #[test]
    fn a_log_is_continued_and_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        MetricsLog::open(&path).unwrap().append(&step(1)).unwrap();
        MetricsLog::open(&path).unwrap().append(&step(2)).unwrap();
        let rows = read_metrics(&path).unwrap();
        assert_eq!(rows.iter().map(|row| row.step).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(rows[1].round_accuracies(), [0.5, 0.75]);
        assert_eq!(
            rows[1],
            MetricsRow {
                values: rows[1].values.clone(),
                ..MetricsRow::from(&step(2))
            }
        );
        assert_eq!(rows[0].get("policy/grad_norm"), None);
    }

    #[test]
    fn a_resumed_log_ends_where_the_checkpoint_was_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut log = MetricsLog::open(&path).unwrap();
        log.append(&step(1)).unwrap();
        let bytes = log.sync().unwrap();
        log.append(&step(2)).unwrap();
        drop(log);
        // A process that is killed may leave half a line.
        let text = std::fs::read(&path).unwrap();
        std::fs::write(&path, &text[..text.len() - 5]).unwrap();
        let mut log = MetricsLog::resume(&path, bytes).unwrap();
        log.append(&step(2)).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), text);
        assert_eq!(log.sync().unwrap(), text.len() as u64);
        let message = MetricsLog::resume(&path, 1 << 20).unwrap_err().to_string();
        assert!(message.contains("but had 1048576"), "{message}");
    }

    #[test]
    fn a_broken_line_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        std::fs::write(&path, "{\"step\":1}\n{\"step\":\n").unwrap();
        let message = read_metrics(&path).unwrap_err().to_string();
        assert!(message.contains("metrics.jsonl:2"), "{message}");
    }
}
