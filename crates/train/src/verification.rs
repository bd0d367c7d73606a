//! Grading on threads of its own, so that decoding never waits for a verdict.

use crate::error::TrainError;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

type Outcome<Done> = Result<Result<Done, TrainError>, Box<dyn Any + Send>>;

/// The calling thread's end of the graders: jobs go in, verdicts come out in any order.
pub(crate) struct Grading<Job, Done> {
    jobs: Sender<Job>,
    verdicts: Receiver<Outcome<Done>>,
    open: usize,
    waited: Duration,
}

/// Runs `work` with `threads` graders beside it. A reward may wait for a program or a server, so the
/// graders are threads of the operating system, not tasks of the pool that multiplies matrices.
///
/// # Errors
/// Whatever `work` returns; jobs that are still queued then are dropped.
pub(crate) fn beside<Job: Send, Done: Send, Output>(
    threads: usize,
    grade: impl Fn(Job) -> Result<Done, TrainError> + Sync,
    work: impl FnOnce(&mut Grading<Job, Done>) -> Result<Output, TrainError>,
) -> Result<Output, TrainError> {
    let (jobs, queue) = mpsc::channel();
    let (verdict, verdicts) = mpsc::channel();
    let queue = Mutex::new(queue);
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            let verdict = verdict.clone();
            let (queue, grade) = (&queue, &grade);
            scope.spawn(move || {
                // Idle graders wait for the lock, one for the queue; it is free while they grade.
                while let Some(job) = queue.lock().ok().and_then(|queue| queue.recv().ok()) {
                    let outcome = catch_unwind(AssertUnwindSafe(|| grade(job)));
                    if verdict.send(outcome).is_err() {
                        break;
                    }
                }
            });
        }
        work(&mut Grading {
            jobs,
            verdicts,
            open: 0,
            waited: Duration::ZERO,
        })
    })
}

impl<Job, Done> Grading<Job, Done> {
    /// Queues a job.
    pub(crate) fn submit(&mut self, job: Job) {
        // The queue outlives this end of it, so the job is taken.
        self.open += usize::from(self.jobs.send(job).is_ok());
    }

    /// Jobs without a verdict so far.
    pub(crate) fn open(&self) -> usize {
        self.open
    }

    /// Time spent in [`wait`](Self::wait).
    pub(crate) fn waited(&self) -> Duration {
        self.waited
    }

    /// A verdict that is there, if there is one.
    pub(crate) fn ready(&mut self) -> Result<Option<Done>, TrainError> {
        match self.verdicts.try_recv() {
            Ok(outcome) => self.take(outcome).map(Some),
            Err(_) => Ok(None),
        }
    }

    /// The next verdict, waiting for it; `None` if no job is open.
    pub(crate) fn wait(&mut self) -> Result<Option<Done>, TrainError> {
        if self.open == 0 {
            return Ok(None);
        }
        let begun = Instant::now();
        let outcome = self.verdicts.recv();
        self.waited += begun.elapsed();
        match outcome {
            Ok(outcome) => self.take(outcome).map(Some),
            Err(_) => Ok(None),
        }
    }

    fn take(&mut self, outcome: Outcome<Done>) -> Result<Done, TrainError> {
        self.open -= 1;
        // A grader's panic is this thread's: with its job lost, the step cannot end.
        outcome.unwrap_or_else(|panic| resume_unwind(panic))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_job_gets_a_verdict_while_the_caller_works_on() {
        let sum = beside(
            3,
            |job: u64| Ok(job * 2),
            |grading| {
                let mut sum = 0;
                for job in 0..50 {
                    grading.submit(job);
                    sum += grading.ready()?.unwrap_or(0);
                }
                while let Some(verdict) = grading.wait()? {
                    sum += verdict;
                }
                assert_eq!(grading.open(), 0);
                Ok(sum)
            },
        );
        assert_eq!(sum.unwrap(), 49 * 50);
    }

    #[test]
    fn the_first_error_ends_the_work() {
        let grade = |job: u64| match job {
            7 => Err(TrainError::NoEndToken),
            other => Ok(other),
        };
        let result = beside(2, grade, |grading| {
            (0..20).for_each(|job| grading.submit(job));
            while grading.wait()?.is_some() {}
            Ok(())
        });
        assert!(matches!(result, Err(TrainError::NoEndToken)));
    }

    #[test]
    #[should_panic(expected = "a grader's fault")]
    fn a_grader_s_panic_reaches_the_caller() {
        let grade = |_: u64| -> Result<u64, TrainError> { panic!("a grader's fault") };
        let _ = beside(2, grade, |grading| {
            grading.submit(1);
            grading.wait()
        });
    }
}
