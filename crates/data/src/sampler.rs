//! Which problems come next: every problem once an epoch, in an order drawn from the run's seed.

use std::collections::HashSet;

use seele_random::Key;
use serde::{Deserialize, Serialize};

/// A problem drawn for a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw {
    /// Zero-based index of the problem in the data.
    pub problem: usize,
    /// Zero-based epoch; with it the same problem drawn again is told apart.
    pub epoch: u64,
}

/// Draws batches of problems without replacement within an epoch.
///
/// Epoch `e` is a permutation keyed by (key, e), so nothing depends on what else is drawn.
/// A batch that begins in one epoch and ends in the next must not hold a problem twice: of the next
/// epoch's order, the first problems that the batch does not hold yet are moved to the front, and the
/// others follow in their order. Every epoch still holds every problem exactly once.
///
/// ```
/// use seele_data::EpochSampler;
/// use seele_random::Key;
///
/// let mut sampler = EpochSampler::new(10, 4, Key::new(7))?;
/// let first = sampler.next_batch();
/// let position = sampler.position();
/// let second = sampler.next_batch();
/// let mut resumed = EpochSampler::resume(10, 4, Key::new(7), position)?;
/// assert_eq!(resumed.next_batch(), second);
/// assert_ne!(first, second);
/// # Ok::<(), seele_data::SamplerError>(())
/// ```
#[derive(Clone, Debug)]
pub struct EpochSampler {
    problems: usize,
    batch: usize,
    key: Key,
    epoch: u64,
    /// Position in `order`.
    next: usize,
    order: Vec<usize>,
}

/// Where a sampler stands; a few numbers whatever the size of the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SamplerPosition {
    /// Number of problems in the data.
    pub problems: usize,
    /// Problems a batch.
    pub batch: usize,
    /// Fingerprint of the key, to notice another seed.
    pub key: u64,
    /// Epoch of the next draw.
    pub epoch: u64,
    /// Draws of that epoch already made.
    pub drawn: usize,
}

/// A sampler that cannot be made or resumed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum SamplerError {
    /// A batch without problems.
    #[error("a batch needs at least one problem; set the number of problems a step above 0")]
    EmptyBatch,
    /// A batch cannot be filled without repeating a problem.
    #[error(
        "{batch} problems a step need at least as many in the data, which has {problems}; lower the number of problems a step or add data"
    )]
    TooFewProblems {
        /// Problems a batch.
        batch: usize,
        /// Problems in the data.
        problems: usize,
    },
    /// The position belongs to other data or settings.
    #[error(
        "the saved sampler position was made with {what} {saved}, this run has {now}; resume with the same data and settings, or start a new run"
    )]
    OtherRun {
        /// What differs.
        what: &'static str,
        /// Value in the position.
        saved: u64,
        /// Value of this run.
        now: u64,
    },
    /// The position is not the end of a batch.
    #[error(
        "the saved sampler position ({drawn} draws in an epoch of {problems} problems) is not the end of a batch; the checkpoint is damaged"
    )]
    BadPosition {
        /// Draws already made.
        drawn: usize,
        /// Problems in the data.
        problems: usize,
    },
}

impl EpochSampler {
    /// A sampler at the start of epoch 0.
    ///
    /// * `problems`: how many there are; draws are indices below it.
    /// * `batch`: how many a batch has.
    /// * `key`: the run's seed with the purpose of this sampler.
    ///
    /// # Errors
    /// [`SamplerError::EmptyBatch`], [`SamplerError::TooFewProblems`].
    pub fn new(problems: usize, batch: usize, key: Key) -> Result<Self, SamplerError> {
        if batch == 0 {
            return Err(SamplerError::EmptyBatch);
        }
        if problems < batch {
            return Err(SamplerError::TooFewProblems { batch, problems });
        }
        Ok(Self {
            problems,
            batch,
            key,
            epoch: 0,
            next: 0,
            order: key.with(0).permutation(problems),
        })
    }

    /// A sampler that goes on exactly where another one stood.
    ///
    /// # Errors
    /// As [`new`](Self::new), and [`SamplerError::OtherRun`] or [`SamplerError::BadPosition`].
    pub fn resume(
        problems: usize,
        batch: usize,
        key: Key,
        position: SamplerPosition,
    ) -> Result<Self, SamplerError> {
        let mut sampler = Self::new(problems, batch, key)?;
        let now = sampler.position();
        for (what, saved, now) in [
            ("problems", position.problems as u64, now.problems as u64),
            ("problems a step", position.batch as u64, now.batch as u64),
            ("seed fingerprint", position.key, now.key),
        ] {
            if saved != now {
                return Err(SamplerError::OtherRun { what, saved, now });
            }
        }
        let total = u128::from(position.epoch) * problems as u128 + position.drawn as u128;
        if position.drawn > problems || !total.is_multiple_of(batch as u128) {
            return Err(SamplerError::BadPosition {
                drawn: position.drawn,
                problems,
            });
        }
        // The order of an epoch depends on the end of the one before, which in large data no moved
        // problem can reach (at most `batch` at the front move): one epoch back is far enough.
        // Small data is walked through from the start, which is cheap because it is small.
        if problems >= 2 * batch && position.epoch > 0 {
            sampler.epoch = position.epoch - 1;
            sampler.order = key.with(sampler.epoch).permutation(problems);
        }
        while sampler.epoch < position.epoch {
            sampler.begin_next_epoch();
        }
        sampler.next = position.drawn;
        Ok(sampler)
    }

    /// The next batch: `batch` different problems.
    pub fn next_batch(&mut self) -> Vec<Draw> {
        let mut draws = Vec::with_capacity(self.batch);
        while draws.len() < self.batch {
            if self.next == self.problems {
                self.begin_next_epoch();
            }
            let missing = self.batch - draws.len();
            let until = self.problems.min(self.next + missing);
            let epoch = self.epoch;
            draws.extend(
                self.order[self.next..until]
                    .iter()
                    .map(|&problem| Draw { problem, epoch }),
            );
            self.next = until;
        }
        draws
    }

    /// Where the sampler stands, for a checkpoint.
    pub fn position(&self) -> SamplerPosition {
        SamplerPosition {
            problems: self.problems,
            batch: self.batch,
            key: self.key.bits(),
            epoch: self.epoch,
            drawn: self.next,
        }
    }

    /// Epochs done, whole and in part: 1.5 in the middle of the second.
    pub fn epochs(&self) -> f64 {
        self.epoch as f64 + self.next as f64 / self.problems as f64
    }

    /// Replaces the order by that of the next epoch.
    fn begin_next_epoch(&mut self) {
        // Draws of this epoch that stand in the batch across the border: batches have one size, so
        // their number follows from the epoch alone.
        let drawn_through = (u128::from(self.epoch) + 1) * self.problems as u128;
        let held = (drawn_through % self.batch as u128) as usize;
        let tail = self.order[self.problems - held..].to_vec();
        self.epoch += 1;
        self.next = 0;
        self.order = self.key.with(self.epoch).permutation(self.problems);
        if held > 0 {
            let tail: HashSet<usize> = tail.into_iter().collect();
            keep_out_of_front(&mut self.order, &tail, self.batch - held);
        }
    }
}

/// Moves the first `count` elements outside `held` to the front; all others keep their order.
fn keep_out_of_front(order: &mut [usize], held: &HashSet<usize>, count: usize) {
    // No more than `count` + `held` elements need to be looked at to find `count` outside.
    let reach = order.len().min(count + held.len());
    let (mut front, mut rest) = (Vec::with_capacity(count), Vec::new());
    for &problem in &order[..reach] {
        if front.len() < count && !held.contains(&problem) {
            front.push(problem);
        } else {
            rest.push(problem);
        }
    }
    for (slot, problem) in order.iter_mut().zip(front.into_iter().chain(rest)) {
        *slot = problem;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_across_the_border_moves_what_it_holds() {
        let held = HashSet::from([1, 4]);
        let mut order = [4, 0, 1, 2, 3, 5];
        keep_out_of_front(&mut order, &held, 2);
        assert_eq!(order, [0, 2, 4, 1, 3, 5]);
    }

    #[test]
    fn positions_of_other_runs_are_refused() {
        let key = Key::new(1);
        let position = EpochSampler::new(9, 4, key).unwrap().position();
        let resume =
            |problems, batch, key| EpochSampler::resume(problems, batch, key, position).map(|_| ());
        assert!(matches!(
            resume(10, 4, key),
            Err(SamplerError::OtherRun {
                what: "problems",
                ..
            })
        ));
        assert!(matches!(
            resume(9, 3, key),
            Err(SamplerError::OtherRun { .. })
        ));
        assert!(matches!(
            resume(9, 4, Key::new(2)),
            Err(SamplerError::OtherRun { .. })
        ));
        let damaged = SamplerPosition {
            drawn: 3,
            ..position
        };
        assert!(matches!(
            EpochSampler::resume(9, 4, key, damaged),
            Err(SamplerError::BadPosition { .. })
        ));
    }

    #[test]
    fn fewer_problems_than_a_batch_are_an_error() {
        assert_eq!(
            EpochSampler::new(3, 4, Key::new(0)).err(),
            Some(SamplerError::TooFewProblems {
                batch: 4,
                problems: 3
            })
        );
        assert_eq!(
            EpochSampler::new(3, 0, Key::new(0)).err(),
            Some(SamplerError::EmptyBatch)
        );
    }
}
