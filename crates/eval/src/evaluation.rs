//! Putting a benchmark to a model.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use seele_data::{
    BoxError, ChatTemplate, Encoder, LengthLimits, Problem, PromptTemplate, TextEncoder,
};
use seele_random::Key;
use seele_rollout::{Completion, Finish, FinishedBranch, RolloutEngine, Sampling, complete};
use seele_verify::Options;
use serde_json::Value;

use crate::benchmark::Benchmark;
use crate::error::EvalError;
use crate::grading::Grader;
use crate::problems::ProblemSet;
use crate::record::{DataIdentity, Header, ModelIdentity, Record, RecordWriter, Response};

/// A model as far as an evaluation needs to know it besides the engine.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// What it is, for the record.
    pub model: &'a ModelIdentity,
    /// Text to token ids.
    pub text: &'a dyn TextEncoder,
    /// Its chat template, if it has one.
    pub chat: Option<&'a dyn ChatTemplate>,
    /// Token ids to text, special tokens left out.
    pub decode: &'a dyn Fn(&[u32]) -> Result<String, BoxError>,
    /// Tokens that end a response.
    pub stop_tokens: &'a [u32],
    /// Tokens of prompt and response together at most.
    pub context_tokens: usize,
}

/// How far an evaluation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Responses that there are, those found in the record included.
    pub done: usize,
    /// Responses in all.
    pub total: usize,
    /// Tokens that the engine has written since it was made.
    pub tokens: u64,
}

/// A benchmark ready to be put to a model: prompts encoded, settings fixed.
pub struct Evaluation<'a> {
    subject: Subject<'a>,
    header: Header,
    template: PromptTemplate,
    groups: Vec<String>,
    questions: Vec<Question>,
}

struct Question {
    problem: Problem,
    prompt_ids: Vec<u32>,
    options: Options,
}

impl<'a> Evaluation<'a> {
    /// Encodes the prompts and fixes the settings.
    ///
    /// Every response has the same limit: the protocol's, or, if that is less, the room that the
    /// longest prompt leaves in the model's context ([`Header::max_new_tokens`]).
    ///
    /// # Errors
    /// A setting outside its range, a template that does not fit the model, a prompt that does not
    /// fit the context, a row whose tolerance is no number.
    pub fn new(
        benchmark: &Benchmark,
        set: ProblemSet,
        subject: Subject<'a>,
        seed: u64,
    ) -> Result<Self, EvalError> {
        benchmark.check()?;
        let template = benchmark.prompt_template()?;
        let grader = Grader::new(benchmark);
        let limits = LengthLimits {
            context_tokens: subject.context_tokens,
            response_tokens: 1,
        };
        let mut encoder = Encoder::new(&template, subject.text, limits);
        if let Some(chat) = subject.chat {
            encoder = encoder.with_chat(chat);
        }
        let mut questions = Vec::with_capacity(set.problems.len());
        for mut problem in set.problems {
            // A solution is not shown and must not need room.
            problem.solution = None;
            problem.steps.clear();
            questions.push(Question {
                prompt_ids: encoder.encode(&problem)?.prompt_ids,
                options: grader.options_for(&problem)?,
                problem,
            });
        }
        let longest = questions
            .iter()
            .map(|question| question.prompt_ids.len())
            .max();
        let room = subject.context_tokens.saturating_sub(longest.unwrap_or(0));
        let header = Header {
            format: Header::format(),
            benchmark: benchmark.name.clone(),
            title: benchmark.title.clone(),
            model: subject.model.clone(),
            data: DataIdentity {
                file: set.file.display().to_string(),
                sha256: set.sha256,
                rows: set.rows,
            },
            problems: questions.len(),
            samples: benchmark.samples,
            temperature: benchmark.temperature,
            top_p: benchmark.top_p,
            top_k: benchmark.top_k,
            max_new_tokens: benchmark.max_new_tokens.min(room),
            stop_tokens: subject.stop_tokens.to_vec(),
            seed,
            shuffle_choices: benchmark.shuffle_choices,
            template: template.to_toml(),
            grader,
        };
        Ok(Self {
            subject,
            header,
            template,
            groups: benchmark.groups.clone(),
            questions,
        })
    }

    /// What the record will say at its beginning.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// What the engine must be made with.
    pub fn sampling(&self) -> Sampling {
        Sampling {
            temperature: self.header.temperature as f32,
            top_p: self.header.top_p as f32,
            top_k: self.header.top_k,
            max_new_tokens: self.header.max_new_tokens,
            stop_tokens: self.header.stop_tokens.clone(),
        }
    }

    /// Asks for every response that the record at `path` does not have yet, and finishes it.
    ///
    /// `engine` must be made with [`Self::sampling`] and have nothing pending. Sample `s` of problem
    /// `p` is drawn with `Key::new(seed).with(p).with(s)`, so it does not matter what ran before or
    /// beside it, nor where the evaluation was stopped. `progress` is told after every engine step.
    ///
    /// # Errors
    /// [`EvalError::OtherSettings`] if the record was made otherwise; a failure of the engine or the
    /// disk, after which a repeated call goes on.
    pub fn run(
        &self,
        engine: &mut dyn RolloutEngine,
        path: &Path,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Record, EvalError> {
        let (mut writer, found) = RecordWriter::open(path, &self.header)?;
        let mut responses = self.sorted_in(path, found)?;
        let (mut done, total) = (responses.iter().flatten().count(), responses.len());
        progress(Progress {
            done,
            total,
            tokens: 0,
        });

        let samples = self.header.samples;
        let key = Key::new(self.header.seed);
        let missing: Vec<usize> = (0..total)
            .filter(|&slot| responses[slot].is_none())
            .collect();
        let wanted = missing.into_iter().map(|slot| {
            let (index, sample) = (slot / samples, slot % samples);
            Completion {
                prompt: index,
                prompt_ids: &self.questions[index].prompt_ids,
                key: key.with(index as u64).with(sample as u64),
                tag: slot as u64,
            }
        });
        complete(engine, wanted, |finished, statistics| {
            for branch in finished {
                let slot = branch.tag as usize;
                let response = self.judged(slot / samples, slot % samples, &branch)?;
                writer.append(&response)?;
                responses[slot] = Some(response);
                done += 1;
            }
            progress(Progress {
                done,
                total,
                tokens: statistics.decoded_tokens,
            });
            Ok::<(), EvalError>(())
        })?;
        let record = Record {
            header: self.header.clone(),
            responses: responses.into_iter().flatten().collect(),
        };
        writer.finish(&record)?;
        Ok(record)
    }

    /// The responses of a record at their places, problem by problem, sample by sample.
    fn sorted_in(
        &self,
        path: &Path,
        found: Vec<Response>,
    ) -> Result<Vec<Option<Response>>, EvalError> {
        let questions = self.questions.iter().enumerate();
        let places: HashMap<&str, usize> = questions
            .map(|(index, question)| (question.problem.id.as_str(), index))
            .collect();
        let mut sorted: Vec<Option<Response>> = Vec::new();
        sorted.resize_with(self.header.responses(), || None);
        for (line, response) in found.into_iter().enumerate() {
            let place = places.get(response.id.as_str());
            let place = place.map(|index| index * self.header.samples + response.sample);
            match place.and_then(|place| sorted.get_mut(place)) {
                Some(place) => *place = Some(response),
                None => {
                    return Err(EvalError::BrokenRecord {
                        path: path.to_path_buf(),
                        line: line + 2,
                        reason: format!("problem `{}` is not asked here", response.id),
                    });
                }
            }
        }
        Ok(sorted)
    }

    fn judged(
        &self,
        index: usize,
        sample: usize,
        branch: &FinishedBranch,
    ) -> Result<Response, EvalError> {
        let Question {
            problem, options, ..
        } = &self.questions[index];
        let written = (self.subject.decode)(&branch.tokens);
        let written = written.map_err(|source| EvalError::Decode {
            id: problem.id.clone(),
            source,
        })?;
        let response = self.template.cut(&written);
        let stopped = branch.finish == Finish::Stop || response.len() < written.len();
        let grade = Grader::grade(problem, response, options);
        let column = |name: &String| {
            let text = match problem.extra.get(name)? {
                Value::Null => return None,
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            Some((name.clone(), text))
        };
        Ok(Response {
            id: problem.id.clone(),
            sample,
            correct: stopped && grade.is_correct(),
            verdict: grade.verdict,
            reason: grade.reason.to_string(),
            gold: problem.answer.clone(),
            extracted: grade.extracted.map(Into::into),
            tokens: branch.tokens.len(),
            truncated: !stopped,
            groups: self
                .groups
                .iter()
                .filter_map(column)
                .collect::<BTreeMap<_, _>>(),
            response: response.to_owned(),
        })
    }
}
