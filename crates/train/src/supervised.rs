//! Supervised fine-tuning on reference solutions, before the first training step.

use crate::checkpoint::SupervisedPosition;
use crate::error::TrainError;
use crate::evaluate::solution_losses;
use crate::metrics::{MetricsLog, SftStepMetrics};
use crate::progress::{Observer, Phase};
use crate::recipe::{EncodedData, Length, SftPlan};
use crate::update::{Budget, Learner};
use seele_data::{EncodedProblem, JoinedProblems, join_encoded};
#[cfg(feature = "cuda")]
use seele_policy::decoder::Decoder;
use seele_policy::decoder::{ScoreGradients, TreeGroup};
use seele_random::Key;
use std::convert::Infallible;
use std::time::Instant;

const ORDER: u64 = u64::from_be_bytes(*b"sft     ");

/// Steps of the stage over `data`, for a model that reads `context` tokens.
pub(crate) fn steps(plan: &SftPlan, data: &EncodedData, seed: u64, context: usize) -> usize {
    let epochs = match plan.length {
        Length::Steps(steps) => return steps,
        Length::Epochs(epochs) => epochs as u64,
    };
    // Sequences hold fewer problems where more do not fit, so they have to be put together to be counted.
    let mut order = Order::at(data, seed, SupervisedPosition::default());
    let mut sequences: usize = 0;
    while !order.is_through(epochs) {
        order.sequence(data, plan.problems_per_sequence, context);
        sequences += 1;
    }
    sequences.div_ceil(plan.sequences_per_step)
}

/// Draws problems in an order of its own for each pass over them.
struct Order {
    key: Key,
    epoch: u64,
    next: usize,
    order: Vec<usize>,
}

impl Order {
    /// Goes on at `position`.
    fn at(data: &EncodedData, seed: u64, position: SupervisedPosition) -> Self {
        let key = Key::new(seed).with(ORDER);
        Self {
            key,
            epoch: position.epoch,
            next: position.taken,
            order: key.with(position.epoch).permutation(data.problems.len()),
        }
    }

    /// Whether every problem has been taken `epochs` times.
    fn is_through(&self, epochs: u64) -> bool {
        self.epoch + u64::from(self.next == self.order.len()) >= epochs
    }

    fn peek(&mut self) -> usize {
        if self.next == self.order.len() {
            self.epoch += 1;
            self.next = 0;
            self.order = self.key.with(self.epoch).permutation(self.order.len());
        }
        self.order[self.next]
    }

    /// Problems for one sequence: as many as asked for, fewer where they would not fit the context.
    fn sequence<'a>(
        &mut self,
        data: &'a EncodedData,
        problems: usize,
        context: usize,
    ) -> Vec<&'a EncodedProblem> {
        let mut chosen: Vec<&EncodedProblem> = Vec::with_capacity(problems);
        let mut tokens = 0;
        while chosen.len() < problems {
            let (_, problem) = &data.problems[self.peek()];
            tokens += problem.prompt_ids.len() + problem.solution_ids.len() + 1;
            if tokens > context && !chosen.is_empty() {
                break;
            }
            chosen.push(problem);
            self.next += 1;
        }
        chosen
    }
}

/// What the stage is made of.
pub(crate) struct Supervised<'a> {
    pub(crate) plan: &'a SftPlan,
    pub(crate) data: &'a EncodedData,
    pub(crate) end_token: u32,
    /// Held-out problems, those with solutions for the loss on them.
    pub(crate) held_out: &'a [(String, EncodedData)],
    pub(crate) tokens_per_microbatch: usize,
    pub(crate) seed: u64,
    /// Steps of the whole stage.
    pub(crate) steps: usize,
}

impl Supervised<'_> {
    /// Whether the stage is over at a position.
    pub(crate) fn is_over(&self, position: SupervisedPosition) -> bool {
        position.step >= self.steps
    }

    /// Runs the step after `position`, which moves on.
    pub(crate) fn step(
        &self,
        learner: &mut Learner,
        position: &mut SupervisedPosition,
        log: &mut MetricsLog,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        let plan = self.plan;
        let context = learner.decoder.config().max_position_embeddings;
        let mut order = Order::at(self.data, self.seed, *position);
        let step = position.step + 1;
        let begun = Instant::now();
        observer.phase(step, Phase::Sft);
        let sequences: Vec<JoinedProblems> = (0..plan.sequences_per_step)
            .map(|_| {
                let problems = order.sequence(self.data, plan.problems_per_sequence, context);
                join_encoded(problems, self.end_token)
            })
            .collect();
        let learning_rate = plan
            .learning_rate
            .learning_rate(step as u64 - 1, self.steps as u64);
        let (loss, tokens_train) = self.gradient(learner, &sequences, observer);
        #[cfg(feature = "cuda")]
        learner.decoder.check()?;
        let grad_norm = if loss.is_finite() {
            learner.apply(learning_rate)
        } else {
            learner.clear_gradient();
            f64::NAN
        };
        let time_step = begun.elapsed().as_secs_f64();
        let is_due = |every: usize| step.is_multiple_of(every) || step == self.steps;
        let held_out = match plan.eval_every_steps.is_some_and(is_due) {
            true => solution_losses(
                &learner.decoder,
                self.held_out,
                self.end_token,
                Budget {
                    tokens_per_microbatch: self.tokens_per_microbatch,
                    temperature: 1.0,
                },
            ),
            false => Vec::new(),
        };
        let metrics = SftStepMetrics {
            step,
            steps: self.steps,
            loss,
            grad_norm,
            learning_rate,
            tokens_train,
            time_step,
            held_out,
        };
        log.append_sft(&metrics)?;
        observer.sft_step_finished(&metrics);
        *position = SupervisedPosition {
            step,
            epoch: order.epoch,
            taken: order.next,
        };
        Ok(())
    }

    /// Adds up the gradient of minus the mean log-likelihood of all targets; returns the loss and the
    /// tokens that went through the model.
    fn gradient(
        &self,
        learner: &mut Learner,
        sequences: &[JoinedProblems],
        observer: &mut dyn Observer,
    ) -> (f64, u64) {
        let is_target = |sequence: &JoinedProblems| {
            let targets = sequence.is_target.iter().skip(1);
            targets.filter(|&&target| target).count()
        };
        let share = 1.0 / sequences.iter().map(is_target).sum::<usize>().max(1) as f64;
        let (mut loss, mut tokens) = (0.0, 0);
        let mut rest = sequences;
        while !rest.is_empty() {
            let mut rows = 0;
            let fitting = rest.iter().take_while(|sequence| {
                rows += sequence.ids.len();
                rows <= self.tokens_per_microbatch
            });
            let count = fitting.count().max(1);
            #[cfg(feature = "cuda")]
            let count = with_room(&learner.decoder, &rest[..count]);
            let (batch, later) = rest.split_at(count);
            rest = later;
            let trees = trees(batch);
            let targets = || batch.iter().flat_map(|sequence| &sequence.is_target[1..]);
            let outcome = learner
                .decoder
                .train(&trees, 1.0, &mut learner.gradient, |scores| {
                    let mut gradients = ScoreGradients::default();
                    for (&logprob, &target) in scores.logprobs.iter().zip(targets()) {
                        let weight = if target { share } else { 0.0 };
                        if target {
                            loss -= share * f64::from(logprob);
                        }
                        gradients.logprobs.push(-weight as f32);
                    }
                    Ok::<_, Infallible>(gradients)
                });
            let Ok(_) = outcome;
            tokens += trees.iter().map(|tree| tree.rows() as u64).sum::<u64>();
            observer.tick(sequences.len() - rest.len(), sequences.len(), tokens);
        }
        (loss, tokens)
    }
}

/// Every sequence as a trunk of its own.
fn trees(sequences: &[JoinedProblems]) -> Vec<TreeGroup<'_>> {
    let tree = |sequence| {
        let sequence: &JoinedProblems = sequence;
        TreeGroup {
            trunk: &sequence.ids,
            prompt_tokens: 1,
            branches: Vec::new(),
        }
    };
    sequences.iter().map(tree).collect()
}

/// Sequences that the device has room for at a time, at least 1.
#[cfg(feature = "cuda")]
fn with_room(decoder: &Decoder, sequences: &[JoinedProblems]) -> usize {
    let mut count = sequences.len();
    // What is wrong besides is told by the pass itself.
    while count > 1 && matches!(decoder.has_room(&trees(&sequences[..count])), Ok(false)) {
        count /= 2;
    }
    count
}
