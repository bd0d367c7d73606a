//! `seele eval MODEL --data FILE`: accuracy on a file of problems under any reward.

use super::Args;
use crate::exit::{self, Unusable};
use crate::hub;
use crate::model_place;
use crate::numbers::percent;
use crate::output::{Output, print};
use crate::sampling::{Request, Sampling, sample};
use anyhow::Context;
use indicatif::ProgressBar;
use seele_data::{LengthLimits, Problem};
use seele_hub::Kind;
use seele_policy::model::Model;
use seele_train::recipe::{DataPlan, ModelChat, ModelText, ProblemSource, Solutions, TooLong};
use seele_verify::Verdict;
use seele_verify::reward::{Reward, RewardConfig, RewardRequest};
use serde_json::{Map, Value, json};
use std::num::NonZeroUsize;
use std::path::Path;

/// Longest completion of the paper's evaluation, tokens.
const MAX_NEW_TOKENS: usize = 2048;

/// Asks every problem of the file.
///
/// # Errors
/// A model or data that cannot be used, or a failure while sampling.
pub(super) fn on_file(
    args: &Args,
    path: &Path,
    data: &Path,
    output: &Output,
) -> anyhow::Result<u8> {
    let reward = RewardConfig {
        kind: args.reward,
        extraction: args.extraction,
        ..RewardConfig::default()
    };
    let reward = reward
        .build()
        .map_err(|error| Unusable(error.to_string()))?;
    let data = hub::local(Kind::DataSet, data, output)?;
    args.device.check()?;
    let model = Model::load(&model_place::find(path, output)?)?;
    let data = args.data_plan(&data)?;
    let context_tokens = model.config.max_position_embeddings;
    let limits = LengthLimits {
        context_tokens,
        response_tokens: args.max_new_tokens.map_or(1, NonZeroUsize::get),
    };
    let text = ModelText::new(&model.tokenizer)?;
    let chat = model.chat_template.clone().map(ModelChat);
    let chat = chat
        .as_ref()
        .map(|chat| chat as &dyn seele_data::ChatTemplate);
    let data = data.encode(&text, chat, limits, Solutions::Ignored)?;

    let longest_prompt = data
        .problems
        .iter()
        .map(|(_, encoded)| encoded.prompt_ids.len())
        .max()
        .unwrap_or(0);
    let room = context_tokens
        .saturating_sub(longest_prompt)
        .min(MAX_NEW_TOKENS);
    let max_new_tokens = args.max_new_tokens.map_or(room, NonZeroUsize::get);

    let samples = args.samples.map_or(1, NonZeroUsize::get);
    let requests: Vec<Request> = data
        .problems
        .iter()
        .map(|(_, encoded)| Request {
            prompt_ids: encoded.prompt_ids.clone(),
            samples,
        })
        .collect();
    let bar = output
        .progress
        .add(ProgressBar::new((requests.len() * samples) as u64));
    let completions = sample(
        &model,
        &requests,
        &args.sampling(),
        args.device,
        max_new_tokens,
        &mut |done| bar.set_position(done as u64),
    )?;
    bar.finish_and_clear();

    let template = args.template()?;
    let mut tally = Tally {
        problems: requests.len(),
        skipped: data.skipped,
        ..Tally::default()
    };
    let mut lines = String::new();
    for completion in &completions {
        let (problem, _) = &data.problems[completion.request];
        let written = model.tokenizer.decode(&completion.ids, true)?;
        let response = template.cut(&written);
        let tokens = completion.ids.len();
        let verdict = judge(
            reward.as_ref(),
            problem,
            response,
            tokens,
            max_new_tokens,
            completion.truncated,
        );
        tally.add(verdict, tokens, completion.truncated);
        let verdict = verdict.map(Verdict::name);
        let line = json!({
            "id": problem.id, "sample": completion.sample, "verdict": verdict, "answer": problem.answer,
            "response": response, "tokens": tokens, "truncated": completion.truncated,
        });
        lines.push_str(&format!("{line}\n"));
    }
    if let Some(path) = &args.responses {
        std::fs::write(path, lines)
            .with_context(|| format!("cannot write `{}`", path.display()))?;
    }
    let result = if args.json {
        format!("{}\n", tally.to_json())
    } else {
        tally.to_text()
    };
    print(&result)?;
    Ok(exit::DONE)
}

impl Args {
    fn data_plan(&self, data: &Path) -> anyhow::Result<DataPlan> {
        Ok(DataPlan {
            source: ProblemSource::File {
                path: data.to_path_buf(),
                layout: self.layout.clone(),
            },
            template: self.template()?,
            limit: self.limit.map(NonZeroUsize::get),
            max_prompt_tokens: None,
            too_long: TooLong::Refuse,
        })
    }

    fn sampling(&self) -> Sampling {
        Sampling {
            temperature: self.temperature.unwrap_or(0.0),
            top_p: self.top_p.unwrap_or(1.0),
            top_k: self.top_k,
            seed: self.seed,
        }
    }
}

fn judge(
    reward: &dyn Reward,
    problem: &Problem,
    response: &str,
    response_tokens: usize,
    max_response_tokens: usize,
    truncated: bool,
) -> Option<Verdict> {
    let mut extra = problem.extra.clone();
    if !problem.choices.is_empty() {
        extra.insert("choices".into(), problem.choices.clone().into());
    }
    let request = RewardRequest {
        id: &problem.id,
        problem: &problem.problem,
        response,
        completion: response,
        ground_truth: &problem.answer,
        extra: &extra,
        response_tokens,
        max_response_tokens,
        truncated,
    };
    reward.score(&request).verdict
}

/// Counts of an evaluation.
#[derive(Clone, Debug, Default, PartialEq)]
struct Tally {
    problems: usize,
    /// Problems left out because they are too long.
    skipped: usize,
    samples: usize,
    correct: usize,
    no_answer: usize,
    gold_unreadable: usize,
    over_budget: usize,
    /// Samples on which the reward gave no verdict.
    undecided: usize,
    truncated: usize,
    tokens: usize,
}

impl Tally {
    fn add(&mut self, verdict: Option<Verdict>, tokens: usize, truncated: bool) {
        self.samples += 1;
        self.tokens += tokens;
        self.truncated += usize::from(truncated);
        match verdict {
            Some(Verdict::Correct) => self.correct += 1,
            Some(Verdict::Wrong) => {}
            Some(Verdict::NoAnswer) => self.no_answer += 1,
            Some(Verdict::GoldUnreadable) => self.gold_unreadable += 1,
            Some(Verdict::OverBudget) => self.over_budget += 1,
            None => self.undecided += 1,
        }
    }

    /// Correct samples of all samples; 0 of none.
    fn accuracy(&self) -> f64 {
        self.correct as f64 / self.samples.max(1) as f64
    }

    fn share(&self, count: usize) -> f64 {
        count as f64 / self.samples.max(1) as f64
    }

    fn to_json(&self) -> Value {
        let mut map = Map::new();
        map.insert("accuracy".into(), self.accuracy().into());
        map.insert("problems".into(), self.problems.into());
        map.insert("skipped".into(), self.skipped.into());
        map.insert("samples".into(), self.samples.into());
        map.insert("correct".into(), self.correct.into());
        map.insert("no_answer".into(), self.no_answer.into());
        map.insert("gold_unreadable".into(), self.gold_unreadable.into());
        map.insert("over_budget".into(), self.over_budget.into());
        map.insert("undecided".into(), self.undecided.into());
        map.insert("truncated".into(), self.truncated.into());
        map.insert(
            "response_length_mean".into(),
            self.share(self.tokens).into(),
        );
        Value::Object(map)
    }

    fn to_text(&self) -> String {
        let mut out = format!(
            "accuracy           {} ({} of {} samples, {} problems)\n",
            percent(Some(self.accuracy())),
            self.correct,
            self.samples,
            self.problems
        );
        let parts = [
            ("no answer found", self.no_answer),
            ("gold unreadable", self.gold_unreadable),
            ("over work limit", self.over_budget),
            ("undecided", self.undecided),
            ("cut at the limit", self.truncated),
        ];
        for (name, count) in parts {
            if count > 0 {
                out.push_str(&format!(
                    "{name:<18} {} ({count})\n",
                    percent(Some(self.share(count)))
                ));
            }
        }
        if self.skipped > 0 {
            out.push_str(&format!(
                "left out           {} problems, too long\n",
                self.skipped
            ));
        }
        out.push_str(&format!(
            "response length    {:.1} tokens on average\n",
            self.share(self.tokens)
        ));
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verdict_counts_where_it_belongs_and_only_correct_ones_as_right() {
        let mut tally = Tally {
            problems: 3,
            ..Tally::default()
        };
        let verdicts = [
            Some(Verdict::Correct),
            Some(Verdict::Correct),
            Some(Verdict::Wrong),
            Some(Verdict::NoAnswer),
            Some(Verdict::GoldUnreadable),
            None,
        ];
        for (index, verdict) in verdicts.into_iter().enumerate() {
            tally.add(verdict, 10 * (index + 1), index == 3);
        }
        let json = tally.to_json();
        assert_eq!(json["accuracy"], 2.0 / 6.0);
        assert_eq!(
            (
                &json["no_answer"],
                &json["gold_unreadable"],
                &json["undecided"]
            ),
            (&1.into(), &1.into(), &1.into())
        );
        assert_eq!(json["response_length_mean"], 35.0);
        let text = tally.to_text();
        assert!(
            text.starts_with("accuracy           33.3 % (2 of 6 samples, 3 problems)\n"),
            "{text}"
        );
        assert!(
            text.contains("cut at the limit   16.7 % (1)") && !text.contains("over work limit"),
            "{text}"
        );
    }
}
