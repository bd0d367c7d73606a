//! `seele merge`: a sharded checkpoint to one model folder.

use crate::exit::{self, Unusable};
use crate::model_place::{self, HELP};
use crate::numbers::{bytes, thousands};
use crate::output::{Output, print};
use crate::run_folder::check_free;
use anyhow::Context;
use clap::ValueEnum;
use seele_policy::huggingface::{SaveOptions, WeightType};
use seele_policy::model::ModelFiles;
use seele_policy::parameters::Layout;
use seele_train::recipe::{free_disk, free_memory};
use std::path::{Path, PathBuf};

/// Turn a sharded checkpoint into one Hugging Face folder.
#[derive(Debug, clap::Args)]
#[command(
    long_about = LONG_ABOUT,
    after_long_help = EXAMPLES
)]
pub(crate) struct Args {
    #[arg(value_name = "DIR", help = HELP)]
    model: PathBuf,
    /// Folder to be written, new or empty.
    #[arg(long, short, value_name = "HF_DIR")]
    out: PathBuf,
    /// Number type of the weights [default: as they are stored].
    #[arg(long, value_name = "TYPE")]
    dtype: Option<NumberType>,
}

const LONG_ABOUT: &str = "\
Turn a sharded checkpoint into one Hugging Face folder, which every program that knows the format loads.

DIR is a checkpoint or run folder of `seele train`, whose weights are taken without what only training \
needs; or a checkpoint that verl wrote with FSDP 1 or 2: the folder with model_world_size_<n>_rank_<r>.pt, the \
global_step_<n> around it, or the experiment, whose latest_checkpointed_iteration.txt names the newest. \
Shards are read as data: nothing that a pickle names is run, and one that names what weights do not need \
is refused. Every value comes out as it went in.

The other commands read all of these too, so merging is for other programs.";

const EXAMPLES: &str = "\
Examples:
  seele merge runs/quickstart-1/checkpoints/step_40 --out models/step-40
  seele merge checkpoints/verl_grpo_gsm8k --out models/newest
  seele merge checkpoints/verl_grpo_gsm8k/global_step_435/actor --out models/step-435 --dtype bf16";

#[derive(Clone, Copy, Debug, ValueEnum)]
enum NumberType {
    F32,
    Bf16,
}

impl From<NumberType> for WeightType {
    fn from(number_type: NumberType) -> Self {
        match number_type {
            NumberType::F32 => Self::F32,
            NumberType::Bf16 => Self::Bf16,
        }
    }
}

/// Runs the command.
///
/// # Errors
/// A checkpoint or folder that cannot be used, or a failure while writing.
pub(crate) fn run(args: &Args, output: &Output) -> anyhow::Result<u8> {
    check_free(&args.out)?;
    let folder = model_place::find(&args.model, output)?;
    let files = ModelFiles::open(&folder)?;
    let options = SaveOptions {
        weights: args.dtype.map_or(files.weight_type(), WeightType::from),
        ..SaveOptions::default()
    };
    let parameters = Layout::of(files.config()).len();
    check_machine(parameters, &options, &args.out)?;
    let shards = files.weight_files().len();
    let merged = files.read()?;
    merged
        .save(&args.out, &options)
        .with_context(|| format!("cannot write the model to `{}`", args.out.display()))?;
    copy_card(&folder, &args.out)?;
    print(&format!(
        "{}: {} parameters from {shards} {}, {}\n",
        args.out.display(),
        thousands(parameters as u64),
        if shards == 1 { "file" } else { "files" },
        match options.weights {
            WeightType::F32 => "float32",
            WeightType::Bf16 => "bfloat16",
        }
    ))?;
    Ok(exit::DONE)
}

/// Refuses what does not fit the disk, and warns of what may not fit the memory.
fn check_machine(parameters: usize, options: &SaveOptions, out: &Path) -> anyhow::Result<()> {
    let disk = (parameters * options.weights.bytes()) as u64;
    if let Some(free) = free_disk(out).filter(|free| *free < disk) {
        return Err(Unusable(format!(
            "the model needs {} on the disk of `{}`, which has {} left; choose another `--out`",
            bytes(disk),
            out.display(),
            bytes(free)
        ))
        .into());
    }
    let memory = (parameters * size_of::<f32>()) as u64;
    if let Some(free) = free_memory().filter(|free| *free < memory) {
        tracing::warn!(
            "merging takes {} of memory, {} are free",
            bytes(memory),
            bytes(free)
        );
    }
    Ok(())
}

/// Takes the model card along, if there is one.
fn copy_card(from: &Path, to: &Path) -> anyhow::Result<()> {
    let card = from.join("README.md");
    if card.is_file() {
        std::fs::copy(&card, to.join("README.md"))
            .with_context(|| format!("cannot copy the model card `{}`", card.display()))?;
    }
    Ok(())
}
