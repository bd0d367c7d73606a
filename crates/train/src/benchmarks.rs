//! Benchmarks put to a model: the same evaluation for a policy in training and for a finished model.

use crate::error::TrainError;
use crate::metrics::EvalAccuracy;
use crate::progress::{Observer, Phase};
use crate::recipe::{ModelChat, ModelText};
use seele_data::BoxError;
use seele_eval::{
    Benchmark, EvalError, Evaluation, ModelIdentity, ProblemSet, Record, Subject, Summary, Table,
};
use seele_policy::chat::ChatTemplate;
use seele_policy::config::ModelConfig;
use seele_policy::decoder::{Compute, Decoder};
use seele_policy::parameters::Parameters;
use seele_policy::tokenizer::{Tokenizer, TokenizerError};
use seele_rollout::LocalEngine;
use std::path::Path;

/// Folder of the records in a run folder.
pub const EVALUATIONS: &str = "eval";

type Decode = Box<dyn Fn(&[u32]) -> Result<String, BoxError>>;

/// What an evaluation asks of a model besides its decoder.
pub struct Examinee {
    identity: ModelIdentity,
    text: ModelText,
    chat: Option<ModelChat>,
    decode: Decode,
    stop_tokens: Vec<u32>,
    context_tokens: usize,
}

impl Examinee {
    /// A model under the name that its records bear. Its fingerprint is to be set once the weights
    /// are there: [`Self::identify`].
    ///
    /// # Errors
    /// If the tokenizer cannot encode a line break.
    pub fn new(
        name: String,
        config: &ModelConfig,
        tokenizer: &Tokenizer,
        chat_template: Option<&ChatTemplate>,
    ) -> Result<Self, TokenizerError> {
        let decoding = tokenizer.clone();
        Ok(Self {
            identity: ModelIdentity {
                name,
                fingerprint: String::new(),
                compute: compute_name(Compute::F32).into(),
            },
            text: ModelText::new(tokenizer)?,
            chat: chat_template.cloned().map(ModelChat),
            decode: Box::new(move |ids| Ok(decoding.decode(ids, true)?)),
            stop_tokens: config.eos_token_ids.clone(),
            context_tokens: config.max_position_embeddings,
        })
    }

    /// Takes down which weights answer, and in which number type.
    pub fn identify(&mut self, parameters: &Parameters, compute: Compute) {
        self.identity.fingerprint = format!("{:016x}", parameters.fingerprint());
        self.identity.compute = compute_name(compute).into();
    }

    /// As an evaluation takes it.
    pub fn subject(&self) -> Subject<'_> {
        Subject {
            model: &self.identity,
            text: &self.text,
            chat: self
                .chat
                .as_ref()
                .map(|chat| chat as &dyn seele_data::ChatTemplate),
            decode: &self.decode,
            stop_tokens: &self.stop_tokens,
            context_tokens: self.context_tokens,
        }
    }
}

fn compute_name(compute: Compute) -> &'static str {
    match compute {
        Compute::F32 => "f32",
        Compute::Bf16 => "bf16",
    }
}

/// The benchmarks of a run and where their records go.
pub(crate) struct RunBenchmarks<'a> {
    pub(crate) sets: &'a [(Benchmark, ProblemSet)],
    pub(crate) seed: u64,
    pub(crate) max_active_branches: usize,
    /// The folder of this step's records.
    pub(crate) folder: &'a Path,
}

impl RunBenchmarks<'_> {
    /// Puts every benchmark to the policy and writes the table beside the records.
    pub(crate) fn evaluate(
        &self,
        decoder: &Decoder,
        examinee: &Examinee,
        step: usize,
        observer: &mut dyn Observer,
    ) -> Result<Vec<EvalAccuracy>, TrainError> {
        let mut records = Vec::with_capacity(self.sets.len());
        for (benchmark, set) in self.sets {
            observer.phase(
                step,
                Phase::Eval {
                    set: benchmark.name.clone(),
                },
            );
            let set = set.clone();
            let evaluation = Evaluation::new(benchmark, set, examinee.subject(), self.seed)?;
            records.push(self.record(&evaluation, decoder, observer)?);
        }
        Table::new(&records).write(self.folder)?;
        let results = records.iter().map(|record| {
            let Summary {
                header, accuracy, ..
            } = Summary::new(record);
            EvalAccuracy {
                name: header.benchmark,
                accuracy,
                problems: header.problems,
                loss: None,
            }
        });
        Ok(results.collect())
    }

    fn record(
        &self,
        evaluation: &Evaluation<'_>,
        decoder: &Decoder,
        observer: &mut dyn Observer,
    ) -> Result<Record, TrainError> {
        let name = &evaluation.header().benchmark;
        let path = self.folder.join(format!("{name}.jsonl"));
        let mut run = || {
            let sampling = evaluation.sampling();
            let mut engine = LocalEngine::new(decoder, sampling, self.max_active_branches)?;
            evaluation.run(&mut engine, &path, &mut |at| {
                observer.tick(at.done, at.total, at.tokens);
            })
        };
        match run() {
            // From before the run was gone on from with other settings: nobody will ask for it again.
            Err(EvalError::OtherSettings { path, .. }) => {
                std::fs::remove_file(&path).map_err(|source| EvalError::Write { path, source })?;
                Ok(run()?)
            }
            record => Ok(record?),
        }
    }
}
