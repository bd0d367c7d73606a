//! Forward, backward and optimizer.

use super::{
    Measuring, Need, Part, Report, SpeedError, Times, Work, on_threads, optimizer_bytes, report,
    tokens,
};
use crate::error::TrainError;
use crate::group::{Group, GroupPart, Rollout, micro_batches, trees};
#[cfg(feature = "cuda")]
use crate::on_device::fitting;
use crate::recipe::OptimizerConfig;
use crate::update::Learner;
use seele_hint::HintUse;
use seele_policy::decoder::{DecoderOptions, ScoreGradients, TokenScores};
use seele_policy::model::Model;
use seele_random::Key;
use std::convert::Infallible;
use std::time::Instant;

/// Minus the mean log-likelihood of every token beyond the prompts, its gradient, and an AdamW step.
///
/// Sequences that share a prompt are branches of one trunk; with `work.share` 1 each runs alone, which is
/// the plain layout. Tokens a second count the rows that go through the model. Micro-batches that a device has no
/// room for go through in halves, as in a run.
///
/// # Errors
/// [`SpeedError`] if the work cannot be done.
pub fn train(model: Model, work: &Work, measuring: Measuring) -> Result<Report, SpeedError> {
    work.check(&model.config)?;
    let measured = on_threads(measuring.threads, || measure(model, work, measuring))?;
    Ok(measured?)
}

fn measure(model: Model, work: &Work, measuring: Measuring) -> Result<Report, TrainError> {
    let options = DecoderOptions {
        compute: measuring.compute,
        recompute: measuring.recompute,
    };
    let groups = groups(work, model.config.vocab_size);
    let batches = micro_batches(&groups, measuring.tokens_per_microbatch);
    let (config, parameters) = (&model.config, &model.parameters);
    let decoder = measuring
        .device
        .decoder(config, parameters, options, true)?;
    #[cfg(feature = "cuda")]
    let batches = fitting(&decoder, batches)?;
    let mut learner = Learner::new(decoder, model.parameters, &OptimizerConfig::default());
    let mut runs = Vec::with_capacity(measuring.runs);
    for run in 0..=measuring.runs {
        let times = once(&mut learner, &groups, &batches);
        #[cfg(feature = "cuda")]
        learner.decoder.check()?;
        // The first one filled the buffers.
        if run > 0 {
            runs.push(times);
        }
    }
    let optimizer = Need {
        bytes: optimizer_bytes(&learner.decoder),
        ..Need::default()
    };
    let part = |name, need| Part {
        name,
        needs: vec![need],
        counts: true,
    };
    let parts = vec![
        part(
            "forward and backward",
            work.training(&learner.decoder, batches.len()),
        ),
        part("optimizer", optimizer),
    ];
    Ok(report(&learner.decoder, parts, runs, work.rows() as f64))
}

fn once(learner: &mut Learner, groups: &[Group], batches: &[Vec<GroupPart<'_>>]) -> Times {
    let slots: usize = groups.iter().map(|group| group.tree().slots()).sum();
    let slope = -1.0 / slots as f32;
    let begun = Instant::now();
    for batch in batches {
        let trees = trees(batch);
        let loss = |scores: &TokenScores| {
            Ok::<_, Infallible>(ScoreGradients {
                logprobs: vec![slope; scores.logprobs.len()],
                entropies: Vec::new(),
            })
        };
        let Ok(_) = learner
            .decoder
            .train(&trees, 1.0, &mut learner.gradient, loss);
    }
    let passes = begun.elapsed().as_secs_f64();
    learner.apply(1e-6);
    let whole = begun.elapsed().as_secs_f64();
    Times {
        whole,
        parts: vec![passes, whole - passes],
    }
}

fn groups(work: &Work, vocab_size: usize) -> Vec<Group> {
    let key = Key::new(0);
    let rollout = |key: Key| Rollout {
        round: 0,
        hint_tokens: work.hint_tokens,
        hint_rate: 0.0,
        hint_use: HintUse::Imitation,
        tokens: tokens(key, work.new_tokens, vocab_size),
        logprobs: Vec::new(),
        reward: Some(0.0),
        length_penalty: 0.0,
        correct: false,
        truncated: true,
        trace: false,
    };
    (0..work.trunks() as u64)
        .map(|trunk| Group {
            prompt_tokens: work.prompt_tokens,
            trunk: tokens(key.with(trunk), work.trunk_tokens(), vocab_size),
            rollouts: (0..work.share as u64)
                .map(|sample| rollout(key.with(trunk).with(sample)))
                .collect(),
            old_solution: Vec::new(),
            reference: Vec::new(),
        })
        .collect()
}
