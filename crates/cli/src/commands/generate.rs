//! `seele generate`: what a model writes after a prompt.

use crate::device::DeviceArg;
use crate::exit::{self, Unusable};
use crate::model_place;
use crate::output::{Output, print};
use crate::sampling::{Completion, Request, Sampling, sample};
use anyhow::Context;
use seele_data::{ChatTemplate as _, Message, TextEncoder as _};
use seele_policy::model::Model;
use seele_train::recipe::{ModelChat, ModelText};
use serde_json::json;
use std::fmt::Write as _;
use std::io::Read;
use std::num::NonZeroUsize;
use std::path::PathBuf;

/// Print what a model writes after a prompt.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  seele generate runs/quickstart-1/model --prompt '3+4+5='
  seele generate models/smollm2 --chat --prompt 'What is 12 times 7?' --max-new-tokens 200
  seele generate models/smollm2 --prompt 'Once' --temperature 0.8 --samples 3 --seed 1 --json
  echo -n '3+4=' | seele generate runs/quickstart-1/model --prompt -")]
pub(crate) struct Args {
    #[arg(help = crate::model_place::HELP)]
    model: PathBuf,
    /// The prompt; `-` reads standard input.
    #[arg(long, short)]
    prompt: String,
    /// Put the prompt as a user's message through the model's chat template.
    #[arg(long)]
    chat: bool,
    /// System message in front of the prompt.
    #[arg(long, requires = "chat")]
    system: Option<String>,
    /// Longest completion, tokens.
    #[arg(long, default_value = "128")]
    max_new_tokens: NonZeroUsize,
    /// Completions.
    #[arg(long, short = 'n', default_value = "1")]
    samples: NonZeroUsize,
    #[command(flatten)]
    sampling: Sampling,
    #[command(flatten)]
    device: DeviceArg,
    /// One JSON object a completion: text, ids, logprobs, truncated.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// A model that cannot be loaded, a prompt that does not fit it, or a failure while sampling.
pub(crate) fn run(args: &Args, output: &Output) -> anyhow::Result<u8> {
    args.device.check()?;
    let model = Model::load(&model_place::find(&args.model, output)?)?;
    let prompt_ids = prompt_ids(args, &model)?;
    let room = model.config.max_position_embeddings;
    let (wanted, max_new_tokens) = (prompt_ids.len(), args.max_new_tokens.get());
    if wanted + max_new_tokens > room {
        return Err(Unusable(format!(
            "the prompt has {wanted} tokens and {max_new_tokens} more may follow, but the model has room for {room}; shorten the prompt or lower `--max-new-tokens`"
        ))
        .into());
    }
    let request = Request {
        prompt_ids,
        samples: args.samples.get(),
    };
    let completions = sample(
        &model,
        &[request],
        &args.sampling,
        args.device,
        max_new_tokens,
        &mut |_| {},
    )?;
    let mut out = String::new();
    for completion in &completions {
        let text = model.tokenizer.decode(&completion.ids, true)?;
        write_completion(&mut out, args, completion, &text);
    }
    print(&out)?;
    Ok(exit::DONE)
}

fn prompt_ids(args: &Args, model: &Model) -> anyhow::Result<Vec<u32>> {
    let mut prompt = args.prompt.clone();
    if prompt == "-" {
        prompt.clear();
        std::io::stdin()
            .read_to_string(&mut prompt)
            .context("cannot read the prompt from standard input")?;
    }
    let text = ModelText::new(&model.tokenizer)?;
    let mut ids = Vec::new();
    if args.chat {
        let template = model.chat_template.clone().ok_or_else(|| {
            Unusable(format!(
                "the model in `{}` has no chat template; leave out `--chat`",
                args.model.display()
            ))
        })?;
        let system = args.system.iter().map(|content| ("system", content));
        let messages = system.chain([("user", &prompt)]);
        let messages: Vec<Message> = messages
            .map(|(role, content)| Message {
                role: role.into(),
                content: content.clone(),
            })
            .collect();
        prompt = ModelChat(template)
            .render(&messages)
            .map_err(|error| Unusable(error.to_string()))?;
    } else {
        ids.extend(text.text_start());
    }
    ids.extend(
        text.encode(&prompt)
            .map_err(|error| Unusable(format!("cannot encode the prompt: {error}")))?
            .ids,
    );
    if ids.is_empty() {
        return Err(Unusable(
            "the prompt is empty and the model's tokenizer puts nothing in front of it".into(),
        )
        .into());
    }
    Ok(ids)
}

fn write_completion(out: &mut String, args: &Args, completion: &Completion, text: &str) {
    let Completion {
        ids,
        logprobs,
        truncated,
        sample,
        ..
    } = completion;
    let _ = if args.json {
        writeln!(
            out,
            "{}",
            json!({ "text": text, "ids": ids, "logprobs": logprobs, "truncated": truncated })
        )
    } else if args.samples.get() == 1 {
        writeln!(out, "{text}")
    } else {
        writeln!(out, "# sample {}\n{text}\n", sample + 1)
    };
}
