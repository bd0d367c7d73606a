//! Decoding by the rollout engine.

use super::{
    Measuring, Need, Part, Report, SpeedError, Times, Work, calls_per_token, on_threads, report,
    tokens,
};
use crate::error::TrainError;
use seele_policy::decoder::{Decoder, DecoderOptions};
use seele_policy::model::Model;
use seele_random::Key;
use seele_rollout::{BranchRequest, LocalEngine, RolloutEngine, Sampling};
use std::time::Instant;

/// Samples `work.batch` sequences side by side at temperature 1, none of which ends before its last token.
///
/// Tokens a second leave the prefill out; `seconds` has it.
///
/// # Errors
/// [`SpeedError`]: work that cannot be done, or what the engine reports.
pub fn decode(model: Model, work: &Work, measuring: Measuring) -> Result<Report, SpeedError> {
    work.check(&model.config)?;
    on_threads(measuring.threads, || measure(model, work, measuring))?
}

fn measure(model: Model, work: &Work, measuring: Measuring) -> Result<Report, SpeedError> {
    let options = DecoderOptions {
        compute: measuring.compute,
        ..DecoderOptions::default()
    };
    let (config, parameters) = (&model.config, &model.parameters);
    let device = measuring.device;
    let decoder = device
        .decoder(config, parameters, options, false)
        .map_err(TrainError::from)?;
    // Its weights are packed; the rest is not needed any more.
    drop(model);
    let mut runs = Vec::with_capacity(measuring.runs);
    for run in 0..=measuring.runs as u64 {
        let times = once(&decoder, work, Key::new(run))?;
        // The first one filled the buffers.
        if run > 0 {
            runs.push(times);
        }
    }
    let [prefill, decode] = work.decoding(&decoder);
    let logits = work.batch * work.new_tokens * decoder.config().vocab_size;
    let draw = Need {
        bytes: (logits * size_of::<f32>()) as f64,
        ..Need::default()
    };
    let part = |name, need, counts| Part {
        name,
        needs: vec![need],
        counts,
    };
    let parts = vec![
        part("prefill", prefill, false),
        part("decode", decode, true),
        part("draw", draw, true),
    ];
    let generated = (work.batch * work.new_tokens) as f64;
    Ok(Report {
        calls_per_token: calls_per_token(&decoder, work.batch),
        ..report(&decoder, parts, runs, generated)
    })
}

fn once(decoder: &Decoder, work: &Work, key: Key) -> Result<Times, SpeedError> {
    let sampling = Sampling {
        max_new_tokens: work.new_tokens,
        ..Sampling::default()
    };
    let mut engine = LocalEngine::new(decoder, sampling, work.batch)?;
    let fork = work.trunk_tokens();
    for trunk in 0..work.trunks() as u64 {
        let prompt = tokens(key.with(trunk), fork, decoder.config().vocab_size);
        let id = engine.add_trunk(prompt)?;
        for sample in 0..work.share as u64 {
            engine.submit(BranchRequest {
                trunk: id,
                fork,
                key: key.with(trunk).with(sample),
                expected_tokens: 0,
                tag: sample,
            })?;
        }
    }
    let begun = Instant::now();
    while engine.pending() > 0 {
        engine.step()?;
    }
    let whole = begun.elapsed().as_secs_f64();
    let time = engine.statistics().time;
    let parts = [time.prefill, time.decode, time.draw];
    Ok(Times {
        whole,
        parts: parts.iter().map(|time| time.as_secs_f64()).collect(),
    })
}
