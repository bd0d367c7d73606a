//! What a run starts from: a model and problems, or a checkpoint.

use super::{PROBLEMS, Place, Session, WEIGHTS, check_work, key_of};
use crate::checkpoint::{
    CHECKPOINTS, Checkpoint, CheckpointError, CheckpointWriter, Identity, Stage,
    SupervisedPosition, TrainerState, clear_leftovers, fingerprint, read_tensors, set_later_aside,
    write_tensors,
};
use crate::error::TrainError;
use crate::evaluate::Grader;
use crate::metrics::{METRICS_FILE, MetricsLog, SFT_METRICS_FILE};
use crate::recipe::{Materials, ModelSource, SaveType};
use crate::step::Run;
use crate::update::Learner;
use seele_data::EpochSampler;
use seele_hint::HintController;
use seele_policy::device::Shortages;
use seele_policy::huggingface::WeightType;
use seele_policy::parameters::{Layout, Parameters};
use std::collections::BTreeMap;
use std::sync::Arc;

impl<'a> Session<'a> {
    /// A run at its start, or where `resume` was taken. What cannot be gone on from is refused before any
    /// checkpoint or log is touched.
    pub(super) fn begin(
        place: Place<'a>,
        grader: Grader<'a>,
        end_token: u32,
        resume: Option<&Checkpoint>,
    ) -> Result<Self, TrainError> {
        let Place {
            recipe, materials, ..
        } = place;
        let (config, options) = (&materials.config, recipe.decoder_options());
        let layout = Arc::new(Layout::of(config));
        let data = fingerprint(&materials.train);
        let mut hints = HintController::new(&recipe.hint)?;
        let order = (
            materials.train.problems.len(),
            recipe.rollout.problems_per_step,
            key_of(recipe).with(PROBLEMS),
        );
        let checkpoints = place.folder.join(CHECKPOINTS);
        clear_leftovers(&checkpoints)?;
        let (state, learner, sampler);
        match resume {
            None => {
                let parameters = materials
                    .read_model(key_of(recipe).with(WEIGHTS))?
                    .parameters;
                let decoder = recipe.device.decoder(config, &parameters, options, true)?;
                learner = Learner::new(decoder, parameters, &recipe.optimizer);
                sampler = EpochSampler::new(order.0, order.1, order.2)?;
                state = TrainerState {
                    stage: match recipe.sft {
                        Some(_) => Stage::Supervised(SupervisedPosition::default()),
                        None => Stage::BeforeTraining,
                    },
                    step: 0,
                    updates: 0,
                    skipped_in_a_row: 0,
                    optimizer_steps: 0,
                    sampler: sampler.position(),
                    held_out: BTreeMap::new(),
                    held_out_step: None,
                    best: None,
                    metrics_bytes: 0,
                    sft_metrics_bytes: 0,
                    data,
                };
            }
            Some(checkpoint) => {
                let mut saved = checkpoint.state().clone();
                if !saved.held_out.is_empty() {
                    saved.held_out_step.get_or_insert(saved.step);
                }
                state = saved;
                check_same_run(checkpoint, materials, &data)?;
                check_work(recipe, materials, place.folder, checkpoint)?;
                let parameters = checkpoint.parameters(&layout)?;
                let optimizer = checkpoint.optimizer(&layout)?;
                let decoder = recipe.device.decoder(config, &parameters, options, true)?;
                let resumed = Learner::resume(decoder, parameters, optimizer, &recipe.optimizer);
                #[cfg(feature = "cuda")]
                let resumed = resumed.with_moments()?;
                learner = resumed;
                sampler = EpochSampler::resume(order.0, order.1, order.2, state.sampler)?;
                hints.restore(checkpoint.hint_memory()?)?;
                let logs = [
                    (METRICS_FILE, state.metrics_bytes),
                    (SFT_METRICS_FILE, state.sft_metrics_bytes),
                ];
                for (name, bytes) in logs {
                    MetricsLog::check(&place.folder.join(name), bytes)?;
                }
                // Before the logs are cut: a run killed in between must not find a checkpoint that
                // remembers more than they hold.
                set_later_aside(&checkpoints, state.name())?;
            }
        }
        let open = |name: &str, bytes: u64| match resume {
            None => MetricsLog::open(&place.folder.join(name)),
            Some(_) => MetricsLog::resume(&place.folder.join(name), bytes),
        };
        let identity = Arc::new(Identity {
            config: config.clone(),
            tokenizer: materials.tokenizer.clone(),
            chat_template: materials.chat_template.clone(),
            weights: match recipe.save.dtype {
                SaveType::F32 => WeightType::F32,
                SaveType::Bf16 => WeightType::Bf16,
            },
            recipe: recipe.to_toml(),
        });
        Ok(Self {
            place,
            log: open(METRICS_FILE, state.metrics_bytes)?,
            sft_log: match recipe.sft {
                Some(_) => Some(open(SFT_METRICS_FILE, state.sft_metrics_bytes)?),
                None => None,
            },
            writer: CheckpointWriter::new(checkpoints, Arc::clone(&identity), recipe.save.clone()),
            identity,
            saved: resume.map(|_| state.name()),
            reference: None,
            last: None,
            shortages: Shortages::default(),
            run: Run {
                recipe,
                data: &materials.train,
                grader,
                end_token,
                learner,
                reference: None,
                hints,
                sampler,
                updates: state.updates,
                skipped_in_a_row: state.skipped_in_a_row,
            },
            state,
        })
    }

    /// The reference policy is the policy as reinforcement finds it, after the supervised stage: `resume`
    /// is the checkpoint of a run that was past that point.
    pub(super) fn take_reference(&mut self, resume: Option<&Checkpoint>) -> Result<(), TrainError> {
        let Place {
            recipe, materials, ..
        } = self.place;
        if !recipe.objective.needs_reference() {
            return Ok(());
        }
        #[cfg(feature = "cuda")]
        self.run.learner.read_back()?;
        let layout = Arc::clone(self.run.learner.parameters.layout());
        // Weights that come from a file as they are need no copy in every checkpoint.
        let is_own = recipe.sft.is_some() || matches!(recipe.model.source, ModelSource::New(_));
        let resumed = match resume {
            None => None,
            Some(checkpoint) => Some(match checkpoint.reference() {
                Some(file) => {
                    let mut parameters = Parameters::zeros(Arc::clone(&layout));
                    parameters.values = read_tensors(&file, &layout)?;
                    parameters
                }
                None => {
                    materials
                        .read_model(key_of(recipe).with(WEIGHTS))?
                        .parameters
                }
            }),
        };
        let parameters = resumed.as_ref().unwrap_or(&self.run.learner.parameters);
        if is_own {
            // Checkpoints hold further names of this file, so it is never written over.
            let folder = self.writer.folder();
            let file = folder.join("reference.safetensors");
            let failed = |source| CheckpointError::Write {
                path: file.clone(),
                source,
            };
            std::fs::create_dir_all(folder).map_err(failed)?;
            if file.exists() {
                std::fs::remove_file(&file).map_err(failed)?;
            }
            write_tensors(&file, &layout, &parameters.values)?;
            self.reference = Some(file);
        }
        let options = recipe.decoder_options();
        let config = &materials.config;
        let reference = recipe.device.decoder(config, parameters, options, false)?;
        self.run.reference = Some(reference);
        Ok(())
    }
}

/// Refuses a checkpoint of another model's tokenizer or of other problems; its weights are held to the
/// shape where they are read.
fn check_same_run(
    checkpoint: &Checkpoint,
    materials: &Materials,
    data: &str,
) -> Result<(), CheckpointError> {
    if checkpoint.state().data != data {
        return Err(checkpoint.other_run("other training problems".into()));
    }
    let same_tokenizer = materials
        .tokenizer
        .to_json()
        .is_ok_and(|json| checkpoint.tokenizer().is_ok_and(|saved| saved == json));
    if !same_tokenizer {
        return Err(checkpoint.other_run("another tokenizer".into()));
    }
    Ok(())
}
